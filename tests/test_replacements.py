"""docs/replace_your_renderer.md: each peer's call before, this package's after, and one picture."""

import math
import re
from pathlib import Path

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.compat.deca import SRenderY
from mofa_nvdr.compat.deep3d import MeshRenderer
from mofa_nvdr.compat.focus import Renderer
from mofa_nvdr.compat.pytorch3d import (
    Meshes,
    MeshRasterizer,
    PerspectiveCameras,
    RasterizationSettings,
)
from mofa_nvdr.compat.tf_mesh import mesh_renderer
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.normals import vertex_normals
from tests.helpers.peer_scenes import ball, random_values

PAGE = Path(__file__).resolve().parents[1] / "docs" / "replace_your_renderer.md"


def blocks(title: str) -> tuple[str, str]:
    """The code before and after of a section."""
    (section,) = re.findall(
        rf"^## {title}[^\n]*\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.M | re.S
    )
    code = re.findall(r"```python\n(# (before|after)\n.*?)```", section, re.S)
    (before,) = [text for text, kind in code if kind == "before"]
    (after,) = [text for text, kind in code if kind == "after"]
    return before, after


def compare(title: str, names: tuple[str, ...], **scene: object) -> list[tuple[torch.Tensor, ...]]:
    """The named results of both blocks, each run on the scene."""
    results = []
    for code in blocks(title):
        scope: dict = {"torch": torch, **scene}
        exec(compile(code, f"{PAGE.name}, {title}", "exec"), scope)
        results.append([scope[name].detach() for name in names])
    return list(zip(*results))


def differing(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-3) -> float:
    """The share of numbers that differ: pixels at edges may see another triangle."""
    assert found.shape == wanted.shape and wanted.abs().max() > 0.3
    return ((found - wanted).abs() > tolerance).float().mean().item()


def test_deep3d():
    vertices, triangles = ball()
    vertex = vertices * 0.8 + torch.tensor([0.0, 0, 10])
    results = compare(
        "Deep3DFaceRecon_pytorch", ("mask", "depth", "image"), MeshRenderer=MeshRenderer,
        vertex=vertex, tri=triangles, feat=random_values(*vertices.shape[:2], 5),
    )  # fmt: skip
    for before, after in results:
        assert differing(after, before) < 1e-3


def test_tf_mesh_renderer():
    vertices, triangles = ball()
    lights = torch.tensor([[[2.0, 3.0, 4.0], [-3.0, 0, 2]]]).expand(2, -1, -1)
    ((before, after),) = compare(
        "tf_mesh_renderer", ("image",), mesh_renderer=mesh_renderer, vertices=vertices,
        triangles=triangles, normals=vertex_normals(vertices, triangles.int()),
        diffuse_colors=random_values(*vertices.shape), eye=torch.tensor([[1.0, 2, 4]] * 2),
        center=torch.zeros(2, 3), world_up=torch.tensor([[0.0, 1, 0]] * 2), light_positions=lights,
        light_intensities=torch.full((2, 2, 3), 0.5), ambient_color=torch.full((2, 3), 0.2),
    )  # fmt: skip
    assert differing(after, before) < 2e-3


@pytest.mark.parametrize("ambient", [True, False])
def test_deca(tmp_path, ambient):
    """Alike but for its normals, whose interpolation it leaves shorter than 1."""
    vertices, triangles = ball(rows=24)
    uvcoords, path = random_values(vertices.shape[1], 2), tmp_path / "square.obj"
    lines = [f"v {x} {y} {z}" for x, y, z in vertices[0].tolist()]
    lines += [f"vt {u} {v}" for u, v in uvcoords.tolist()]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in triangles.tolist()]
    path.write_text("\n".join(lines))
    lights = 0.2 * random_values(2, 9, 3) * (0 if ambient else 1)
    lights[:, 0] += 2
    ((before, after),) = compare(
        "DECA", ("images",), renderer=SRenderY(224, path), verts=vertices,
        trans_verts=0.6 * vertices * torch.tensor([1.0, -1, -1]),
        albedos=random_values(2, 3, 32, 32), lights=lights, faces=triangles, uvcoords=uvcoords,
        uvfaces=triangles,
    )  # fmt: skip
    if ambient:
        assert differing(after, before) < 2e-3
    else:
        assert (after - before).abs().mean() < 0.02 * before.abs().mean()  # measured 0.0097


def test_focus():
    """It shades vertices, this package pixels: 0.01 of a picture of about 1 apart in the mean."""
    vertices, triangles = ball(rows=24)
    sh_coef = 0.2 * random_values(2, 27)
    sh_coef[:, ::9] += 2
    results = compare(
        "FOCUS", ("image", "mask", "projected"), renderer=Renderer(), face=triangles.t(),
        vertex=80 * vertices.mT, color=random_values(2, 3, 1).expand(2, 3, vertices.shape[1]),
        sh_coef=sh_coef, R=torch.eye(3).expand(2, 3, 3),
        A=torch.tensor([[[500.0, 0, 50], [0, 480, 40], [0, 0, 1]]]).expand(2, 3, 3),
        T=torch.tensor([[[0.0], [0], [600]]]).expand(2, 3, 1), photo=torch.zeros(2, 3, 90, 110),
    )  # fmt: skip
    (image, own_image), (mask, own_mask), (projected, own) = results
    assert differing(own_mask, mask) < 5e-3
    assert (own_image - image)[(mask * own_mask)[:, None].expand_as(image) > 0].abs().mean() < 0.01
    torch.testing.assert_close(own, projected[:, :2].mT + 0.5, atol=1e-3, rtol=0)


def test_pytorch3d():
    vertices, triangles = ball(1)
    turn, shift = torch.eye(3)[None], torch.tensor([[0.1, -0.1, 4.0]])
    cameras = PerspectiveCameras(
        ((60.0, 55.0),), ((30.0, 26.0),), R=turn, T=shift, in_ndc=False, image_size=((48, 64),)
    )
    (image, own_image), (zbuf, own_zbuf) = compare(
        "PyTorch3D", ("image", "zbuf"), MeshRasterizer=MeshRasterizer, cameras=cameras,
        RasterizationSettings=RasterizationSettings, meshes=Meshes(vertices, triangles[None]),
        R=turn, T=shift[:, None], features=random_values(vertices.shape[1], 4),
    )  # fmt: skip
    assert differing(own_image, image) < 5e-3
    assert differing(own_zbuf, zbuf.clamp(min=0)) < 5e-3


def test_nvdiffrast():
    vertices, triangles = ball()
    camera = Camera((120, 160), focal=200.0, near=0.1, far=100.0)
    for before, after in compare(
        "nvdiffrast", ("image", "extra"), dr=dr, glctx=dr.RasterizeContext(),
        vertices=vertices - torch.tensor([0.0, 0, 4]), tri=triangles.int(),
        projection=torch.tensor(camera.clip_matrix), uv=random_values(vertices.shape[1], 2),
        uv_tri=triangles.int(), tex=random_values(1, 64, 64, 3),
        attributes=random_values(2, vertices.shape[1], 6),
        background=0.25,
    ):  # fmt: skip
        assert differing(after, before) < 2e-3


def test_what_has_both():
    sections = PAGE.read_text("utf-8").split("\n## ")
    shown = [section.split()[0].rstrip(",") for section in sections if "# after" in section]
    assert shown == [
        "Deep3DFaceRecon_pytorch", "tf_mesh_renderer", "DECA", "FOCUS", "PyTorch3D", "nvdiffrast",
    ]  # fmt: skip
    assert math.isclose(2 * math.degrees(math.atan(112 / 1015)), 12.5936, abs_tol=1e-4)
