"""FOCUS's renderer: every mode by its formulas, and every refusal.

Against the peer's own files on the CPU (Occlusion-Robust-MoFA 33a5add), with exact=True: docs/parity.md.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mofa_nvdr.compat import focus
from mofa_nvdr.compat.conventions import convert_light
from mofa_nvdr.scene.lighting import sh_basis
from mofa_nvdr.scene.normals import vertex_normals
from tests.helpers.peer_scenes import ball, random_values

SIZE = 48


@pytest.fixture
def scene():
    vertices, triangles = ball()
    focal, middle = 1015 * SIZE / 224, (SIZE - 1) / 2
    away = torch.diag(torch.tensor([1.0, -1, -1]))
    return {
        "face": triangles.t(),
        "vertex": 80 * vertices.mT.contiguous(),
        "color": random_values(2, 3, vertices.shape[1]),
        "sh_coef": random_values(2, 27),
        "A": torch.tensor([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]).repeat(2, 1, 1),
        "R": away.repeat(2, 1, 1),
        "T": torch.tensor([[3.0], [5], [1000]]).repeat(2, 1, 1),
        "image": random_values(2, 3, SIZE, SIZE),
    }


class TestEveryMode:
    def test_projection_and_shading(self, scene):
        projected, _, shaded, *_ = focus.Renderer()(**scene)
        seen = scene["R"] @ scene["vertex"] + scene["T"]
        pixels = scene["A"] @ seen
        wanted = torch.cat([pixels[:, :2] / pixels[:, 2:], pixels[:, 2:]], 1)
        assert torch.allclose(projected, wanted)
        normals = vertex_normals(seen.mT.contiguous(), scene["face"].t().int())
        ours = normals * torch.tensor([1, -1, -1.0])
        light = convert_light(scene["sh_coef"], "focus")
        assert torch.allclose(shaded, scene["color"] * (sh_basis(ours) @ light).mT, atol=1e-5)

    def test_exact_normals_keep_their_z(self, scene):
        """The mean of the faces' normals by area, z as it is, x and y stretched."""
        points, faces = scene["vertex"].mT.double(), scene["face"].t()
        a, b, c = (points[:, faces[:, k]] for k in range(3))
        normal = torch.linalg.cross(b - a, c - a)
        area = normal.norm(dim=-1)
        means = torch.zeros_like(points)
        for v in range(points.shape[1]):
            of = (faces == v).any(1)
            means[:, v] = normal[:, of].sum(1) / area[:, of].sum(1, keepdim=True)
        x, y, z = (means @ scene["R"][0].double().T).unbind(-1)
        scale = (1 - z**2).sqrt() / (x**2 + y**2).sqrt()
        ours = torch.stack([x * scale, -y * scale, -z], -1)
        light = convert_light(scene["sh_coef"].double(), "focus")
        wanted = scene["color"] * (sh_basis(ours) @ light).mT
        exact = focus.Renderer(exact=True)(**scene)[2]
        assert torch.allclose(exact, wanted.float(), atol=1e-5)
        assert (exact - focus.Renderer()(**scene)[2]).abs().max() > 1e-3

    def test_light_in_model_space(self, scene):
        scene["R"] = torch.eye(3).repeat(2, 1, 1)
        scene["T"] = scene["T"] + 0
        for exact in (False, True):
            drawer = focus.Renderer(exact=exact)
            assert torch.equal(drawer(**scene)[2], drawer(**scene, rotate_normal=False)[2])


class TestSamples:
    def test_reads_the_pixel(self, scene):
        # A photograph that holds its own pixel indices.
        index = torch.arange(float(SIZE))
        scene["image"] = torch.stack(
            [index.expand(SIZE, SIZE), index[:, None].expand(SIZE, SIZE)]
        ).repeat(2, 1, 1, 1)
        projected, sampled, _, visible, image, mask = focus.Renderer()(**scene)
        assert image is None and mask is None
        inside = (projected[:, :2] <= SIZE - 1).all(1, keepdim=True)
        assert inside.float().mean() > 0.9
        assert ((sampled - projected[:, :2]).abs() * inside).max() < 1e-3
        moved = focus.Renderer(exact=True)(**scene)[1]
        wanted = functional.grid_sample(
            scene["image"], (projected[:, :2].mT / (SIZE - 1) * 2 - 1)[:, None], align_corners=False
        )[:, :, 0]
        assert torch.allclose(moved, wanted, atol=1e-3)
        normals = vertex_normals(scene["vertex"].mT.contiguous(), scene["face"].t().int())
        assert torch.equal(visible, (-normals[..., 2] < 0).float())

    def test_hidden_by_itself(self, scene):
        facing = focus.Renderer()(**scene)[3]
        seen = focus.Renderer()(**scene, self_occlusion=True)[3]
        assert set(seen.unique().tolist()) == {0, 1} and 0.1 < seen.mean() < facing.mean()
        # At the silhouette one of the four pixels is background; in the middle nothing hides.
        front = scene["vertex"][0, 2].argmax()
        back = scene["vertex"][0, 2].argmin()
        assert seen[0, front] == 1 and seen[0, back] == 0

    def test_the_threshold(self, scene):
        seen = [
            focus.Renderer(exact=exact)(**scene, self_occlusion=True, occlusion_th=th)[3].sum()
            for exact, th in ((False, 0.5), (False, 5), (False, 1000), (True, 1000), (True, 5))
        ]
        assert seen[0] < seen[1] < seen[2] and seen[3] == seen[4]
        # 1000 mm: whatever has the mesh all around its pixel, the back too.
        assert focus.Renderer()(**scene, self_occlusion=True, occlusion_th=1000)[3][
            0, scene["vertex"][0, 2].argmin()
        ]


class TestPictures:
    def test_is_linear_on_the_screen(self, scene):
        """Against barycentrics of the pixel's own triangle, solved in float64."""
        projected, _, shaded, _, image, mask = focus.Renderer()(**scene, render_mode=2)
        assert image.shape == (2, 3, SIZE, SIZE) and mask.shape == (2, SIZE, SIZE)
        assert (
            set(mask.unique().tolist()) == {0, 1}
            and not image[(mask == 0)[:, None].expand_as(image)].any()
        )
        points = projected[0].double().T[scene["face"].t()]  # [F, 3, (x, y, z)]
        values = shaded[0].double().T[scene["face"].t()]
        checked = 0
        for row, column in ((20, 20), (24, 30), (30, 24), (15, 24)):
            assert mask[0, row, column]
            system = torch.cat(
                [points[..., :2].mT, torch.ones(len(points), 1, 3, dtype=torch.double)], 1
            )
            here = torch.tensor([column, row, 1.0], dtype=torch.double).expand(len(points), 3)
            weights = torch.linalg.solve(system, here)
            depth = (weights * points[..., 2]).sum(1)
            inside = (weights > 1e-3).all(1)
            if not inside.any():
                continue  # on an edge
            depth[~inside] = torch.inf
            nearest = depth.argmin()
            wanted = weights[nearest] @ values[nearest]
            assert torch.allclose(image[0, :, row, column], wanted.float(), atol=1e-4)
            checked += 1
        assert checked >= 3

    def test_modes_1_and_2(self, scene):
        for name in ("vertex", "color", "sh_coef"):
            scene[name] = scene[name].clone().requires_grad_()
        still = focus.Renderer()(**scene, render_mode=1)
        moving = focus.Renderer()(**scene, render_mode=2)
        assert torch.equal(still[4], moving[4]) and torch.equal(still[5], moving[5])
        assert not still[4].requires_grad and still[2].requires_grad
        assert moving[1] is None and moving[3] is None
        moving[4].sum().backward()
        assert all(scene[name].grad.any() for name in ("vertex", "color", "sh_coef"))

    def test_moves_as_finite_differences_do(self, scene):
        """The gradient of a smooth picture's middle, where no outline is, under a shift."""
        scene["color"] = torch.ones_like(scene["color"])
        length = scene["vertex"].norm(dim=1, keepdim=True)
        scene["vertex"] = 80 * scene["vertex"] / length  # no bump hides another
        middle = (slice(None), slice(None), slice(16, 32), slice(16, 32))

        def brightness(shift):
            moved = {**scene, "T": scene["T"] + shift}
            return focus.Renderer()(**moved, render_mode=2)[4][middle].mean()

        shift = torch.zeros(2, 3, 1, requires_grad=True)
        brightness(shift).backward()
        found = shift.grad[:, 0].sum().item()
        step = torch.zeros(2, 3, 1)
        step[:, 0] = 2.0
        with torch.no_grad():
            wanted = (brightness(step) - brightness(-step)).item() / 4
        assert found == pytest.approx(wanted, rel=0.1)

    def test_back_faces_are_not_drawn(self, scene):
        scene["face"] = scene["face"].flip(0)
        outside_in = focus.Renderer()(**scene, render_mode=1)
        assert outside_in[5].any()  # the far side, seen from within
        scene["T"] = scene["T"] - torch.tensor([[0], [0], [2000.0]])
        behind = focus.Renderer()(**scene, render_mode=1)
        assert not behind[5].any() and not behind[4].any()

    def test_another_mesh_in_the_next_call(self, scene):
        drawer = focus.Renderer()
        drawer(**scene, render_mode=1)
        scene["face"] = scene["face"][:, ::2]
        assert torch.equal(
            drawer(**scene, render_mode=1)[4], focus.Renderer()(**scene, render_mode=1)[4]
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"face": lambda f: f.t()}, ValueError, r"face is \[\d+, 3\], expected \[3, F\]; call .t\(\)"),
            ({"face": lambda f: f[:, :0]}, ValueError, r"face is \[0, 3\].*without triangles"),
            ({"face": lambda f: f.float()}, TypeError, "face is torch.float32, expected integers"),
            ({"vertex": lambda v: v.mT}, ValueError, r"vertex is .* expected \[B, 3, V\]"),
            ({"color": lambda c: c[:, :, 1:]}, ValueError, r"color is .* V = \d+ \(from vertex\)"),
            ({"sh_coef": lambda s: s.view(2, 9, 3)}, ValueError, r"sh_coef is .* expected \[B, 27\]"),
            ({"T": lambda t: t[..., 0]}, ValueError, r"T is \[2, 3\], expected \[B, 3, 1\]"),
            ({"A": lambda a: a[:1]}, ValueError, "A is .* B = 2"),
            ({"R": lambda r: r.double()}, TypeError, "R is torch.float64"),
            ({"image": lambda i: i[0]}, ValueError, r"image is \[3, 48, 48\], expected \[B, C, H, W\]"),
        ],
    )  # fmt: skip
    def test_arguments(self, scene, change, error, message):
        given = {name: change.get(name, lambda x: x)(value) for name, value in scene.items()}
        with pytest.raises(error, match=f"Renderer: {message}"):
            focus.Renderer()(**given)

    def test_mode(self, scene):
        with pytest.raises(ValueError, match="Renderer: render_mode is 3, expected 0, 1 or 2"):
            focus.Renderer()(**scene, render_mode=3)
        with pytest.raises(ValueError, match="Renderer: render_mode is tensor"):
            focus.Renderer()(**scene, render_mode=torch.tensor(1.0))

    @pytest.mark.parametrize("exact", [False, True])
    def test_threshold(self, scene, exact):
        with pytest.raises(TypeError, match="Renderer: occlusion_th is None, expected a number"):
            focus.Renderer(exact=exact)(**scene, self_occlusion=True, occlusion_th=None)
