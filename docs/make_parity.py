"""Writes docs/parity.md: the drop-ins of mofa_nvdr.compat against the peers' own code.

OMP_NUM_THREADS=1 python docs/make_parity.py --peers FOLDER

FOLDER holds checkouts of the peers under their repositories' names; of who is not there the rows of an
earlier page stay, and the page names them. DECA and the part on PyTorch3D need an installed pytorch3d. Peers
that want nvdiffrast get this package's operators.
Times are CPU seconds of one call after a first one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import platform
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mofa_nvdr import FaceModel, dr
from mofa_nvdr.compat import deca, deep3d, deep3d_codes, focus, hrn, pytorch3d, tddfa_v3, tf_mesh

DOCS = Path(__file__).parent
FOV = 2 * math.degrees(math.atan(112 / 1015))
COLUMNS = ("peer", "what", "mask", "picture", "depth", "gradients", "their s", "our s")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def bumpy_sphere(rows: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Vertices [B, V, 3] of radius about 1 and triangles [T, 3], outward."""
    row, column = torch.meshgrid(torch.arange(rows + 1), torch.arange(2 * rows), indexing="ij")
    theta, phi = math.pi * (row + 0.01) / (rows + 0.02), math.pi * column / rows
    points = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4))).Q
    points = points.reshape(1, -1, 3) * (1 + 0.1 * draw(batch, points[..., 0].numel(), 1))
    index = torch.arange((rows + 1) * 2 * rows).view(rows + 1, -1)
    a, b, c, d = index[:-1], index[:-1].roll(-1, 1), index[1:], index[1:].roll(-1, 1)
    triangles = torch.cat([torch.stack(t, -1).view(-1, 3) for t in ((a, c, b), (b, c, d))])
    return points @ (turn * torch.linalg.det(turn)), triangles


def relative(found: Tensor, wanted: Tensor) -> str:
    """The length of the difference by the wanted length."""
    length = wanted.norm()
    return f"{float((found - wanted).norm() / length):.1e}" if length > 0 else "0"


def mean(found: Tensor, wanted: Tensor, where: Tensor) -> str:
    """The mean difference where the mask is 1."""
    return f"{float(((found - wanted).abs() * where).sum() / where.expand_as(found).sum()):.1e}"


def overlap(found: Tensor, wanted: Tensor) -> str:
    """Intersection over union of two masks, and the pixels that differ."""
    both, either = ((found > 0) & (wanted > 0)).sum(), ((found > 0) | (wanted > 0)).sum()
    return f"IoU {float(both / either):.5f} ({int((found != wanted).sum())} of {int((wanted > 0).sum())} px)"


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What the second call returns, and its CPU seconds."""
    call()
    start = time.process_time()
    return call(), time.process_time() - start


def row(name: str, what: str, *cells: Any) -> str:
    """A line of the table."""
    shown = (f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells)
    return f"| {name} | {what} | {' | '.join(shown)} |"


def load(root: Path, name: str, empty: tuple[str, ...] = ()) -> Any:
    """A peer's module; those that it imports without needing them here are empty ones."""
    for missing in empty:
        module = sys.modules.setdefault(missing, types.ModuleType(missing))
        if not hasattr(module, "__path__"):
            module.__path__ = []
            vars(module)["__getattr__"] = lambda _: type("Nothing", (torch.nn.Module,), {})
    for known in [key for key in sys.modules if key.partition(".")[0] == name.partition(".")[0]]:
        if known not in empty:
            del sys.modules[known]
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(root))


def built_in_face() -> tuple[Tensor, Tensor]:
    """Three built-in faces as Deep3DFaceRecon sees them, decimetres, z forward."""
    model = FaceModel.load("procedural")
    vertices = (model.mean_shape / 100).expand(3, -1, -1).clone()
    vertices[..., 2] = 10 - vertices[..., 2]
    vertices[1] += torch.tensor([0.2, 0.1, 0.6])
    vertices[2, :, 2] *= 0.95
    return vertices, model.triangles.long()


def of_deep3d(name: str, peer: Any, ours: Any, four: bool, options: dict[str, Any]) -> list[str]:
    """Rows of one of the copies of Deep3DFaceRecon's MeshRenderer."""
    vertices, tri = built_in_face()
    feat = draw(3, vertices.shape[1], 3)

    def run(module: Any) -> tuple[Any, list[Tensor]]:
        renderer = module.MeshRenderer(FOV, znear=5, zfar=15, rasterize_size=224, **options)
        renderer.ctx = renderer.glctx = dr.RasterizeContext()
        leaves = [t.clone().requires_grad_() for t in (vertices, feat)]
        out = renderer(leaves[0], tri, leaves[1])
        (out[2] * torch.linspace(0, 1, 224)).square().sum().backward()
        return out, [leaf.grad for leaf in leaves]

    (theirs, grads), peer_time = timed(lambda: run(peer))
    (found, our_grads), our_time = timed(lambda: run(ours))
    same = "same bits" if torch.equal(theirs[2], found[2]) else mean(found[2], theirs[2], found[0])
    depth = (
        "same bits"
        if torch.equal(theirs[1][0], found[1][0])
        else relative(found[1][0], theirs[1][0])
    )
    gradient = ", ".join(
        "same bits" if torch.equal(a, b) else relative(b, a) for a, b in zip(grads, our_grads)
    )
    lines = [
        row(name, "MeshRenderer, 3 faces of 24k vertices, 224 px", overlap(found[0], theirs[0]), same,
            f"{depth} (image 0; others mended)", gradient, peer_time, our_time)
    ]  # fmt: skip
    if four and name == "HRN":
        lines.append(
            row(
                name,
                "occlusion of image 0",
                "",
                relative(found[3][0], theirs[3][0]),
                "",
                "",
                "",
                "",
            )
        )
    return lines


def deep3d_family(peers: Path) -> list[str]:
    """Rows of Deep3DFaceRecon, 3DDFA-V3 and HRN."""
    dr.install()
    lines = []
    root = peers / "Deep3DFaceRecon_pytorch"
    if root.is_dir():
        peer = load(root, "util.nvdiffrast")
        lines += of_deep3d("Deep3DFaceRecon_pytorch", peer, deep3d, False, {"use_opengl": False})
        stubs = ("models.arcface_torch", "models.arcface_torch.backbones")
        package = types.ModuleType("models")
        package.__path__ = [str(root / "models")]
        sys.modules["models"] = package
        networks = load(root, "models.networks", (*stubs, "models"))
        torch.manual_seed(0)
        network = networks.ReconNetWrapper("resnet50")
        for layer in network.final_layers:
            torch.nn.init.normal_(layer.weight, std=0.01)
        network.train()(draw(4, 3, 224, 224))
        path = Path("/tmp/parity_epoch.pth")
        torch.save({"net_recon": network.eval().state_dict()}, path)
        encoder = deep3d_codes.load_deep3d_checkpoint(path)
        path.unlink()
        images = draw(2, 3, 224, 224, seed=1)
        with torch.no_grad():
            error = relative(encoder(images), network(images))
        lines.append(
            row("Deep3DFaceRecon_pytorch", "ResNet-50 and heads, codes", "", error, "", "", "", "")
        )
    root = peers / "3DDFA-V3"
    if root.is_dir():
        peer = load(root, "util.nv_diffrast")
        lines += of_deep3d("3DDFA-V3", peer, tddfa_v3, True, {"use_opengl": False})
    root = peers / "HRN"
    if root.is_dir():
        peer = load(root, "util.nv_diffrast", ("models", "models.losses"))
        lines += of_deep3d("HRN", peer, hrn, True, {})
    return lines


def of_focus(peers: Path) -> list[str]:
    """Rows of FOCUS's Renderer."""
    root = peers / "Occlusion-Robust-MoFA"
    if not root.is_dir():
        return []
    peer = load(root, "renderer.rendering")
    vertices, triangles = bumpy_sphere(16)
    vertex, face = 80 * vertices.mT.contiguous(), triangles.t().contiguous()
    size = 112
    focal, middle = 1014.72 * size / 224, (size - 1) / 2
    camera = torch.tensor([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]).repeat(2, 1, 1)
    away = torch.diag(torch.tensor([1.0, -1, -1])).repeat(2, 1, 1)
    shift = torch.tensor([[3.0], [5], [1000]]).repeat(2, 1, 1)
    given = (vertex, draw(2, 3, vertex.shape[2]), draw(2, 27, seed=1) - 0.5)
    image = draw(2, 3, size, size, seed=2)

    def run(renderer: Any, mode: int, hidden: bool) -> tuple[Any, list[Tensor]]:
        leaves = [t.clone().requires_grad_() for t in given]
        out = renderer(face, *leaves, camera, away, shift, image, mode, hidden)
        loss = out[2].square().sum() if mode != 2 else (out[4] * torch.linspace(0, 1, size)).sum()
        loss.backward()
        return out, [leaf.grad for leaf in leaves]

    lines = []
    theirs, ours = peer.Renderer(), focus.Renderer(exact=True)
    for mode, hidden in ((0, False), (0, True), (2, False)):
        (a, grads), peer_time = timed(partial(run, theirs, mode, hidden))
        (b, our_grads), our_time = timed(partial(run, ours, mode, hidden))
        gradient = ", ".join(relative(y, x) for x, y in zip(grads, our_grads))
        what = f"mode {mode}{', self-occlusion' * hidden}, exact, {vertex.shape[2]} vertices, {size} px"
        if mode == 0:
            mask = f"{int((a[3] != b[3]).sum())} of {a[3].numel()} visibilities differ"
            picture = f"shaded {relative(b[2], a[2])}, sampled {relative(b[1], a[1])}"
        else:
            mask, picture = overlap(b[5], a[5]), mean(b[4], a[4], (a[5] * b[5])[:, None])
        lines.append(row("FOCUS", what, mask, picture, "", gradient, peer_time, our_time))
    return lines


def of_pytorch3d() -> list[str]:
    """Rows of MeshRasterizer, where PyTorch3D is installed."""
    if importlib.util.find_spec("pytorch3d") is None:
        return []
    peer = types.SimpleNamespace()
    for module, names in (
        ("pytorch3d.structures", ("Meshes",)),
        ("pytorch3d.renderer.mesh.rasterizer", ("MeshRasterizer", "RasterizationSettings")),
        ("pytorch3d.renderer.cameras", ("FoVPerspectiveCameras",)),
    ):
        vars(peer).update({name: getattr(importlib.import_module(module), name) for name in names})
    vertices, triangles = bumpy_sphere(24)
    turned = torch.diag(torch.tensor([-1.0, 1, -1])).repeat(2, 1, 1)
    shift = torch.tensor([[0.0, 0, 3], [0.1, 0.2, 2.5]])

    def run(module: Any, same: Tensor | None) -> tuple[Any, list[Tensor]]:
        leaves = [0.7 * v.clone() for v in vertices]
        for leaf in leaves:
            leaf.requires_grad_()
        cameras = module.FoVPerspectiveCameras(fov=50, znear=0.1, R=turned, T=shift)
        rasterizer = module.MeshRasterizer(cameras, module.RasterizationSettings(image_size=128))
        found = rasterizer(module.Meshes(leaves, [triangles, triangles[: len(triangles) // 2]]))
        weight = torch.linspace(0, 1, 128)[:, None] * (1 if same is None else same)
        ((found.bary_coords[..., 0] + found.zbuf + found.dists) * weight).sum().backward()
        return found, [leaf.grad for leaf in leaves]

    same = run(peer, None)[0].pix_to_face == run(pytorch3d, None)[0].pix_to_face
    (a, grads), peer_time = timed(lambda: run(peer, same))
    (b, our_grads), our_time = timed(lambda: run(pytorch3d, same))
    gradient = ", ".join(relative(y, x) for x, y in zip(grads, our_grads))
    mask = overlap((b.pix_to_face >= 0).float(), (a.pix_to_face >= 0).float())
    errors = (
        mean(b.bary_coords, a.bary_coords, same[..., None]),
        mean(b.dists, a.dists, same),
        mean(b.zbuf, a.zbuf, same),
    )
    what = "MeshRasterizer, 2 spheres, 128 px; where both see one face"
    return [
        row(
            "PyTorch3D",
            what,
            mask,
            f"barycentrics {errors[0]}, distances {errors[1]}",
            errors[2],
            gradient,
            peer_time,
            our_time,
        )
    ]


def of_deca(peers: Path) -> list[str]:
    """Rows of SRenderY, where PyTorch3D is installed."""
    root = peers / "DECA"
    if not root.is_dir() or importlib.util.find_spec("pytorch3d") is None:
        return []
    for name in ("decalib", "decalib.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[name] = package
    for name in (
        "skimage",
        "skimage.io",
        "skimage.transform",
        "cv2",
        "torchvision",
        "pytorch3d.io",
    ):
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__path__ = []
            module.__getattr__ = lambda _: None  # type: ignore[method-assign]
            sys.modules[name] = module
    peer = importlib.import_module("decalib.utils.renderer")
    util = importlib.import_module("decalib.utils.util")
    peer.Meshes = importlib.import_module("pytorch3d.structures").Meshes
    peer.rasterize_meshes = importlib.import_module(
        "pytorch3d.renderer.mesh.rasterize_meshes"
    ).rasterize_meshes
    template = root / "data" / "head_template.obj"

    def load_obj(path: Any) -> Any:  # in the form of PyTorch3D's reader
        points, uv, faces, uv_faces = util.load_obj(path)
        kinds = types.SimpleNamespace(verts_idx=faces, textures_idx=uv_faces)
        return points, kinds, types.SimpleNamespace(verts_uvs=uv)

    peer.load_obj = load_obj
    world = util.load_obj(template)[0]
    world = (world - world.mean(0)).repeat(2, 1, 1)
    picture = util.batch_orth_proj(world, torch.tensor([[5.5, 0.01, 0.02], [6, -0.01, 0.01]]))
    picture[..., 1:] = -picture[..., 1:]
    texture = functional.interpolate(draw(2, 3, 16, 16), (256, 256), mode="bilinear")
    lines = []
    for kind, lights in (
        ("SH", draw(2, 9, 3) - 0.5),
        ("point", draw(2, 3, 6) - 0.5),
        ("directional", draw(2, 3, 6)),
    ):

        def run(module: Any, kind: str = kind, lights: Tensor = lights) -> tuple[Any, list[Tensor]]:
            leaves = [t.clone().requires_grad_() for t in (world, texture)]
            renderer = module.SRenderY(224, str(template))
            start = time.process_time()
            mode = "point" if kind == "SH" else kind
            out = renderer(leaves[0], picture.clone(), leaves[1], lights, light_type=mode)
            out["images"].sum().backward()
            return (out, time.process_time() - start), [leaf.grad for leaf in leaves]

        (a, peer_time), grads = run(peer)
        run(deca)
        (b, our_time), our_grads = run(deca)
        both = a["alpha_images"] * b["alpha_images"]
        gradient = ", ".join(relative(y, x) for x, y in zip(grads, our_grads))
        lines.append(
            row("DECA on PyTorch3D", f"SRenderY, {kind} light, 2 heads, 224 px",
                overlap(b["alpha_images"], a["alpha_images"]),
                mean(b["images"], a["images"], both), "", gradient, peer_time, our_time)
        )  # fmt: skip
    return lines


def goldens(peers: Path) -> list[str]:
    """tf_mesh_renderer's own pictures: the share of pixels of which a channel is off by more than 0.01."""
    folder = peers / "tf_mesh_renderer" / "mesh_renderer" / "test_data"
    if not folder.is_dir():
        return []
    width, height = 640, 480
    lines = ["| picture | pixels off by more than 0.01 (its tests allow 0.1 %) |", "|---|---|"]

    def compare(name: str, picture: Tensor) -> None:
        wanted = imageio.imread(folder / f"{name}.png").astype(float) / 255
        found = picture.clamp(0, 1).numpy()[..., : wanted.shape[2]]
        off = (np.abs(wanted - found) > 0.01).any(2).mean()
        lines.append(f"| {name} | {100 * off:.4f} % |")

    def barycentrics(name: str, clip: list[float], triangles: Any) -> None:
        tri = torch.tensor(triangles).view(-1, 3)
        corners = torch.tensor(clip).view(-1, 4)[tri].reshape(1, -1, 4)
        attributes = torch.eye(3).repeat(len(tri), 1)[None]
        flat = torch.arange(3 * len(tri)).view(-1, 3)
        found = tf_mesh.rasterize_clip_space(corners, attributes, flat, width, height, 0.0)
        compare(name, torch.cat([found[0], torch.ones(height, width, 1)], 2))

    cube = torch.tensor(
        [[-1.0, -1, 1], [-1, -1, -1], [-1, 1, -1], [-1, 1, 1]]
        + [[1, -1, 1], [1, -1, -1], [1, 1, -1], [1, 1, 1]]
    )
    sides = "012230 326673 765547 451104 562215 740037"
    tri = torch.tensor([int(digit) for digit in sides.replace(" ", "")])
    one = torch.tensor([[-0.5, -0.5, 0.8, 1], [0, 0.5, 0.3, 1], [0.5, -0.5, 0.3, 1]])
    barycentrics("Simple_Triangle", one.flatten().tolist(), [0, 1, 2])
    bent = one * torch.tensor([[0.2], [0.5], [2.0]])
    barycentrics("Perspective_Corrected_Triangle", bent.flatten().tolist(), [0, 1, 2])
    outside = [-0.5, -0.5, 0, 1, 0, -0.5, 0, -1, 0.5, -0.5, 0, 1]
    barycentrics("External_Triangle", outside, [0, 1, 2])
    square = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    box = torch.cat(
        [torch.cat([square, torch.tensor([[0.0, w]]).expand(4, 2)], 1) for w in (2.0, -2.0)]
    )
    walls = "012023 456467 237276 104145 037074 126165"
    barycentrics(
        "Inside_Box", box.flatten().tolist(), [int(digit) for digit in walls.replace(" ", "")]
    )
    barycentrics(
        "Simple_Tetrahedron",
        [*one.flatten().tolist(), 0, 0, 0, 1],
        [0, 2, 1, 0, 1, 3, 1, 2, 3, 2, 0, 3],
    )
    tri = tri.view(-1, 3)
    center, up = torch.zeros(1, 3), torch.tensor([[0.0, 1, 0]])
    lens = tf_mesh.perspective(
        width / height, torch.tensor([40.0]), torch.tensor([0.01]), torch.tensor([10.0])
    )
    eyes = torch.tensor([[2.0, 3, 6], [-3, 1, 6]])
    views = torch.cat([lens @ tf_mesh.look_at(eye[None], center, up) for eye in eyes])
    colors = torch.cat([cube * 0.5 + 0.5, torch.ones(8, 1)], 1).repeat(2, 1, 1)
    found = tf_mesh.rasterize(cube.repeat(2, 1, 1), colors, tri, views, width, height, 0.0)
    for k in range(2):
        compare(f"Unlit_Cube_{k}", found[k])
    turn = tf_mesh.euler_matrices(torch.tensor([[-20.0, 0, 60], [45, 60, 0]]))[:, :3, :3]
    vertices = cube @ turn.mT
    # Clip-space corners of a turned cube, as in the peer's test of its rasterizer.
    clip = [
        -2.60648608, -3.22707772, 6.85085106, 6.85714293, -1.30324292, -0.992946863, 8.56856918,
        8.5714283, -1.30324292, 3.97178817, 7.70971, 7.71428585, -2.60648608, 1.73765731, 5.991992, 6,
        1.30324292, -3.97178817, 6.27827835, 6.28571415, 2.60648608, -1.73765731, 7.99599648, 8,
        2.60648608, 3.22707772, 7.13713741, 7.14285707, 1.30324292, 0.992946863, 5.41941929, 5.4285717,
    ]  # fmt: skip
    barycentrics("Barycentrics_Cube", clip, tri.tolist())
    scene = (vertices, tri, functional.normalize(cube, dim=1) @ turn.mT)
    light = torch.tensor([[[0.0, 0, 6]]]).repeat(2, 1, 1)
    white = torch.ones_like(vertices)
    found = tf_mesh.mesh_renderer(
        *scene, white, light[0, 0], center[0], up[0], light, torch.ones(2, 1, 3), width, height
    )
    for k in range(2):
        compare(f"Gray_Cube_{k}", found[k])
    diffuse = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [0.5] * 3]
    )
    specular = torch.tensor(
        [[0.0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [0.5] * 3, [1, 0, 0]]
    )
    found = tf_mesh.mesh_renderer(
        *scene, diffuse.repeat(2, 1, 1), torch.tensor([[0.0, 0, 6], [0, 0.2, 18]]),
        torch.tensor([[0.0, 0, 0], [0.1, -0.1, 0.1]]), torch.tensor([[0.0, 1, 0], [0.1, 1, 0.15]]),
        torch.tensor([[[0.0, 0, 6], [1, 2, 6]], [[0, -2, 4], [1, 3, 4]]]),
        torch.tensor([[[1.0, 1, 1], [1, 1, 1]], [[2, 0, 1], [0, 2, 1]]]), width, height,
        specular.repeat(2, 1, 1), 6.0, torch.tensor([[0.0, 0, 0], [0.1, 0.1, 0.2]]),
        torch.tensor([40.0, 13.3]), 0.1, 25.0, exact=True,
    )  # fmt: skip
    toned = torch.cat([tf_mesh.tone_mapper(found[..., :3], 0.7), found[..., 3:]], 3)
    for k in range(2):
        compare(f"Colored_Cube_{k}", toned[k])
    return lines


def earlier(page: Path, parts: list[str]) -> list[str]:
    """Rows of the page as it is, of peers of whom there is none among the new ones."""
    if not page.is_file():
        return []
    table = page.read_text(encoding="utf-8").partition(HEAD)[2].partition("\n\n")[0]
    new = {line.split("|")[1] for line in parts}
    return [line for line in table.splitlines() if line and line.split("|")[1] not in new]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", type=Path, required=True, help="folder of checkouts")
    peers = parser.parse_args().peers
    torch.set_num_threads(1)
    parts = [*deep3d_family(peers), *of_focus(peers), *of_pytorch3d(), *of_deca(peers)]
    old = earlier(DOCS / "parity.md", parts)
    names = ", ".join(dict.fromkeys(line.split("|")[1].strip() for line in old))
    note = f" Not run again, from an earlier version: {names}." if old else ""
    text = f"""# The drop-ins against the peers' own code

Written by `docs/make_parity.py`, whose first lines say what it needs. The peers' files are as they are in
their repositories; where they call nvdiffrast they get this package's operators, so that these rows compare
all but the operators. DECA's and PyTorch3D's rows are on PyTorch3D's own C++ kernel. Gradients: length of the
difference by the peer's length, for each input, pixels that show different faces included unless the row says
otherwise; picture and depth: mean difference where both draw. CPU
seconds of a call, forward and backward, in one thread; torch {torch.__version__}, {platform.machine()},
{platform.system()}, a core shared with other work.{note}

{HEAD}
{chr(10).join([*parts, *old])}

## tf_mesh_renderer's golden pictures

{chr(10).join(goldens(peers)) or "Not run."}
"""
    (DOCS / "parity.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
