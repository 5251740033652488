"""Rows of the decoder's Jacobian against automatic differentiation in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian, Pose, SurfacePoints
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import sh_basis, total_light
from mofa_nvdr.scene.pose import axis_angle_to_matrix

_CAMERA = Camera(image_size=120)


@pytest.fixture(scope="module")
def scene() -> tuple[FaceModel, Tensor, SurfacePoints]:
    """The built-in model in float64, a code, and points of frontal triangles."""
    model = FaceModel.load("procedural").double()
    generator = torch.Generator().manual_seed(3)
    code = 0.5 * torch.randn(model.layout.size, generator=generator, dtype=torch.float64)
    code[model.layout.slices["rotation"]] = torch.tensor([0.2, -0.3, 0.1], dtype=torch.float64)
    numbers = torch.randint(len(model.frontal_triangles), (7,), generator=generator)
    corners = model.frontal_triangles[numbers].long()
    shares = torch.rand(7, 3, generator=generator, dtype=torch.float64)
    return model, code, SurfacePoints(corners, shares / shares.sum(1, keepdim=True))


def _vertices(model: FaceModel, code: Tensor, turn: Tensor) -> Tensor:
    parts = model.layout.unpack(code[None])
    rotation = axis_angle_to_matrix(turn[None]) @ axis_angle_to_matrix(parts.rotation)
    points = model.vertices(parts.shape, parts.expression)
    return _CAMERA.to_camera(points, rotation, parts.translation)[0]


def _pose(model: FaceModel, code: Tensor) -> Pose:
    parts = model.layout.unpack(code[None])
    position = parts.translation[0] + torch.tensor(_CAMERA.position, dtype=torch.float64)
    rotation = axis_angle_to_matrix(parts.rotation)[0]
    return Pose(rotation, _vertices(model, code, torch.zeros(3, dtype=torch.float64)), position)


def _as_rows(model: FaceModel, by_code: Tensor, by_turn: Tensor) -> Tensor:
    rows = by_code.clone()
    rows[..., model.layout.slices["rotation"]] = by_turn
    return rows


def test_projections(scene: tuple[FaceModel, Tensor, SurfacePoints]) -> None:
    model, code, points = scene

    def project(code: Tensor, turn: Tensor) -> Tensor:
        corners = _vertices(model, code, turn)[points.corners]
        return _CAMERA.project((corners * points.shares[..., None]).sum(1))

    still = torch.zeros(3, dtype=torch.float64)
    wanted = _as_rows(model, *torch.autograd.functional.jacobian(project, (code, still)))
    places, rows = FaceJacobian(model, _CAMERA).projections(points, _pose(model, code))
    torch.testing.assert_close(places, project(code, still), rtol=0, atol=1e-9)
    torch.testing.assert_close(rows, wanted, rtol=0, atol=1e-9)


def test_color_differences(scene: tuple[FaceModel, Tensor, SurfacePoints]) -> None:
    """With the normals of flat triangles and a photograph that is a linear function of the place."""
    model, code, points = scene
    generator = torch.Generator().manual_seed(4)
    slope = torch.randn(7, 3, 2, generator=generator, dtype=torch.float64)

    def parts(code: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        corners = _vertices(model, code, turn)[points.corners]
        place = _CAMERA.project((corners * points.shares[..., None]).sum(1))
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = torch.nn.functional.normalize(normals, dim=1)
        unpacked = model.layout.unpack(code[None])
        albedo = model.albedo(unpacked.albedo)[0][points.corners]
        albedo = (albedo * points.shares[..., None]).sum(1)
        return place, normals, albedo, total_light(unpacked.light)[0]

    def difference(code: Tensor, turn: Tensor) -> Tensor:
        place, normals, albedo, light = parts(code, turn)
        return (slope @ place[..., None])[..., 0] - albedo * (sh_basis(normals) @ light)

    still = torch.zeros(3, dtype=torch.float64)
    wanted = _as_rows(model, *torch.autograd.functional.jacobian(difference, (code, still)))
    _, normals, albedo, light = parts(code, still)
    rows = FaceJacobian(model, _CAMERA).color_differences(
        points, _pose(model, code), normals, albedo, light, slope
    )
    torch.testing.assert_close(rows, wanted, rtol=0, atol=1e-9)
