"""Squares for the mesh network, from boxes and from points."""

import math

import pytest
import torch

from mofa_nvdr.networks.face_mesh import (
    MESH_SIZE,
    FaceMesh,
    roll_of_points,
    squares_of_boxes,
    squares_of_points,
)


def test_square_of_a_box():
    """1.5 times the box's larger side about its middle, upright along the eyes."""
    row = torch.tensor([[10.0, 20, 50, 50, 20, 30, 40, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0.9]])
    assert torch.allclose(squares_of_boxes(row), torch.tensor([[30, 35, 60, math.pi / 4]]))


@pytest.mark.parametrize("roll", [0.0, 1.0, -3.0])
def test_square_of_points(roll):
    """A face 40 wide and 60 high, turned: the same square, turned."""
    upright = torch.zeros(468, 3)
    upright[0, :2], upright[1, :2] = torch.tensor([-20.0, -30]), torch.tensor([20.0, 30])
    upright[33, 0], upright[263, 0] = -10, 10
    c, s = math.cos(roll), math.sin(roll)
    turned = upright.clone()
    turned[:, 0] = upright[:, 0] * c - upright[:, 1] * s + 100
    turned[:, 1] = upright[:, 0] * s + upright[:, 1] * c + 70
    assert roll_of_points(turned[None]).item() == pytest.approx(roll, abs=1e-5)
    expected = torch.tensor([[100, 70, 90, roll]])
    assert torch.allclose(squares_of_points(turned[None]), expected, atol=1e-3)


class TestFaceMesh:
    def test_several_pictures_at_once(self):
        """Each picture gets the points of its own squares: here a point at the crop's red value."""

        def mesh(images):
            value = images[:, :1].mean((2, 3))  # 0 to 1
            points = torch.zeros(len(images), 468, 3)
            points[:, :, 0] = value * MESH_SIZE - 0.5
            return points.reshape(-1, 1, 1404), value * 10

        pictures = [torch.full((3, 30, 40), level, dtype=torch.uint8) for level in (0, 255, 51)]
        squares = [torch.tensor([[20.0, 15.0, 10.0, 0.0]]).repeat(n, 1) for n in (1, 0, 20)]
        points, flags = FaceMesh(mesh, mesh, torch.float32).points(pictures, squares)
        assert [p.shape for p in points] == [(1, 468, 3), (0, 468, 3), (20, 468, 3)]
        assert points[0][0, 0, 0].item() == pytest.approx(15)
        assert torch.allclose(points[2][:, :, 0], torch.tensor(17.0), atol=1e-4)
        assert flags[0].item() == 0.5 and torch.allclose(flags[2], torch.tensor(2.0).sigmoid())

    @pytest.mark.parametrize("roll", [0.0, math.pi / 2])
    def test_pixels_are_counted_from_the_middle_of_the_first(self, roll):
        """A network that gives column and row of the brightest pixel: the point is that pixel's middle."""

        def mesh(images):
            first = images[:, 0].flatten(1).argmax(1)
            places = torch.stack([first % MESH_SIZE, first // MESH_SIZE, 0 * first], 1).float()
            return places[:, None].expand(-1, 468, -1).reshape(-1, 1, 1404), images[:, :1, 0, 0]

        picture = torch.zeros(3, 192, 192, dtype=torch.uint8)
        picture[:, 50, 70] = 255
        square = torch.tensor([[96.0, 96.0, 192.0, roll]])
        ((points,),) = FaceMesh(mesh, mesh, torch.float32).points([picture], [square])[:1]
        expected = torch.tensor([70.5, 50.5, 0.0]).expand(468, 3)
        assert torch.allclose(points[0], expected, atol=1e-3)

    def test_both_ways(self):
        """The mean with the mirror image's points, each from its twin; and of both certainties."""

        def mesh(images):
            bright = images[:, 0].flatten(1).argmax(1) % MESH_SIZE
            points = torch.full((len(images), 468, 3), 50.0)
            points[:, :, 0] = bright[:, None].float() + 3  # always 3 px to the right
            points[:, 33, 1], points[:, 263, 1] = 20.0, 30.0  # twins: right and left corner
            return points.reshape(-1, 1, 1404), (bright - 96).float()[:, None]

        picture = torch.zeros(3, 192, 192, dtype=torch.uint8)
        picture[:, 50, 70] = 255
        square = torch.tensor([[96.0, 96.0, 192.0, 0.0]])
        face = FaceMesh(mesh, mesh, torch.float32)
        (points,), (flag,) = face.points([picture], [square], both_ways=True)
        assert torch.allclose(points[0, :, 0], torch.tensor(70.5), atol=1e-3)
        assert points[0, [33, 263], 1].tolist() == pytest.approx([25.5, 25.5], abs=1e-3)
        assert (points[0, :, 2] - 50).abs().max() < 1e-3
        sides = torch.tensor([70.0 - 96, 121.0 - 96]).sigmoid()
        assert flag.item() == pytest.approx(sides.mean().item(), abs=1e-4)

    def test_no_faces(self):
        mesh = FaceMesh(None, None, torch.float32)
        picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
        points, flags = mesh.points([picture], [torch.zeros(0, 4)])
        assert points[0].shape == (0, 468, 3) and flags[0].shape == (0,)
        assert mesh.irises([picture], points)[0].shape == (0, 10, 3)
