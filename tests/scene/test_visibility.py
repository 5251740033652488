"""Cast shadows against shapes whose shadows are known."""

import math

import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.scene.lighting import sh_basis
from mofa_nvdr.scene.visibility import (
    cone_directions,
    shadowed_transfer,
    sphere_directions,
    visible_directions,
)


def sphere(rows: int = 24, columns: int = 48, radius: float = 50.0):
    """Vertices, triangles of a ball."""
    polar = torch.linspace(0.02, math.pi - 0.02, rows)[:, None]
    around = (torch.arange(columns) * 2 * math.pi / columns)[None]
    points = torch.stack(
        [polar.sin() * around.cos(), polar.cos().expand(rows, columns), polar.sin() * around.sin()],
        -1,
    )
    index = torch.arange(rows * columns).view(rows, columns)
    a, b = index[:-1], index.roll(-1, 1)[:-1]
    c, d = index[1:], index.roll(-1, 1)[1:]
    triangles = torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)]).view(-1, 3)
    return radius * points.reshape(-1, 3), triangles.int()


def plate(height: float, half: float):
    """A square across the y axis."""
    corners = [
        (-half, height, -half),
        (half, height, -half),
        (half, height, half),
        (-half, height, half),
    ]
    return torch.tensor(corners), torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


class TestDirections:
    def test_are_even(self):
        directions = sphere_directions(96)
        assert torch.allclose(directions.norm(dim=1), torch.ones(96), atol=1e-6)
        assert directions.mean(0).norm() < 0.01
        # Their second moments are the sphere's: a third of the unit matrix.
        assert torch.allclose(directions.T @ directions / 96, torch.eye(3) / 3, atol=0.01)
        nearest = (directions @ directions.T - 2 * torch.eye(96)).amax(1).acos()
        assert nearest.min() > 0.5 * nearest.max()

    def test_cone(self):
        towards = torch.tensor([2.0, -1.0, 0.5])
        cone = cone_directions(towards, 0.2, 20)
        angle = (cone @ F.normalize(towards, dim=0)).acos()
        assert angle.max() <= 0.2 and angle.max() > 0.15
        assert F.cosine_similarity(cone.mean(0), towards, dim=0) > 0.999


class TestVisibleDirections:
    def test_the_lit_side_of_a_ball(self):
        points, triangles = sphere()
        normals = F.normalize(points, dim=1)
        directions = sphere_directions(12)
        seen = visible_directions(points, normals, directions, points, triangles)
        cosine = directions @ normals.T
        assert (seen[cosine > 0.25] == 1).all()
        assert seen[cosine < -0.25].mean() < 0.01  # 0.0007: the ball is open at its poles

    def test_a_plate_casts_its_shadow_where_it_should(self):
        ground = torch.stack(
            torch.meshgrid(torch.linspace(-60, 60, 41), torch.linspace(-60, 60, 41), indexing="xy"),
            -1,
        ).view(-1, 2)
        points = torch.stack([ground[:, 0], torch.zeros(len(ground)), ground[:, 1]], 1)
        up = torch.tensor([0.0, 1, 0]).expand(len(points), 3)
        vertices, triangles = plate(30.0, 15.0)
        slanted = F.normalize(torch.tensor([[0.0, 1, 0], [1, 1, 0]]), dim=1)
        seen = visible_directions(points, up, slanted, vertices, triangles)
        for row, shift in zip(seen, (0.0, -30.0)):
            away = torch.stack([(points[:, 0] - shift).abs(), points[:, 2].abs()]).amax(0)
            assert (row[away < 13.5] == 0).all() and (row[away > 16.5] == 1).all()

    def test_what_is_above_the_plate_is_lit(self):
        vertices, triangles = plate(30.0, 15.0)
        point, up = torch.tensor([[0.0, 40, 0]]), torch.tensor([[0.0, 1, 0]])
        assert visible_directions(point, up, up, vertices, triangles).item() == 1

    def test_soft_edge(self):
        """Between dark and light are values in between."""
        vertices, triangles = plate(30.0, 15.0)
        x = torch.linspace(14, 16, 41)
        points = torch.stack([x, torch.zeros(41), torch.zeros(41)], 1)
        up = torch.tensor([[0.0, 1, 0]])
        seen = visible_directions(points, up.expand(41, 3), up, vertices, triangles, resolution=64)[
            0
        ]
        assert ((seen > 0) & (seen < 1)).any() and seen[0] <= seen[-1]

    def test_errors(self):
        points, triangles = sphere(4, 5)
        up = torch.tensor([[0.0, 1, 0]])
        with pytest.raises(ValueError, match=r"normals is \[1, 3\], expected \[20, 3\]"):
            visible_directions(points, up, up, points, triangles)
        with pytest.raises(ValueError, match=r"directions is \[3\], expected \[N, 3\]"):
            visible_directions(points, points, up[0], points, triangles)


class TestShadowedTransfer:
    def test_where_nothing_is_hidden_it_is_the_irradiance(self):
        normals = sphere_directions(40)
        directions = sphere_directions(96)
        transfer = shadowed_transfer(normals, directions, torch.ones(96, 40))
        assert torch.allclose(transfer, sh_basis(normals))

    def test_where_all_is_hidden_nothing_arrives(self):
        normals = sphere_directions(40)
        transfer = shadowed_transfer(normals, sphere_directions(2000), torch.zeros(2000, 40))
        assert transfer.abs().max() < 0.02  # of 0.886: the quadrature's error; 0.003 measured

    def test_half_the_sky(self):
        """White light from above alone, on a floor half of whose sky is hidden: half of it."""
        up = torch.tensor([[0.0, 1, 0]])
        directions = sphere_directions(2000)
        seen = (directions[:, :1] > 0).float()
        ambient = torch.zeros(9, 1)
        ambient[0] = 1
        both = shadowed_transfer(up, directions, torch.ones(2000, 1)) @ ambient
        assert float(shadowed_transfer(up, directions, seen) @ ambient / both) == pytest.approx(
            0.5, abs=0.01
        )
