"""What several pictures say of one person: a shape and an albedo that all of them share.

The shared coefficients are the mean of the pictures', each weighted by how certain it is, how far the face
looks at the camera, and how large it is. Coefficients are standard normal (design of the face models), so
this is the mean in the metric of the prior: it minimises the weighted sum of squared distances in the face
model's own deviations. An encoder that recognises people (Encoder.person) averages what it recognises in
place of that. What was predicted together with another shape and albedo is then set right: the pose, so that
the face stays where it was in each picture, and the light, so that it stays as bright.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET, rotate_sh
from mofa_nvdr.scene.pose import axis_angle_to_matrix, matrix_to_axis_angle

_STEPS = 4  # of Gauss-Newton; the start is close
_POINTS = 200  # of the face that tell its pose
_AHEAD = 64  # codes at once
_LEAST_FACING = 0.05
_LEAST_SIDE = 96.0  # px of the picture; smaller faces tell less


def identity_weights(code: FaceCode, certainty: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """How much each picture says of who the person is.

    Args:
        code: of B pictures.
        certainty: [B] that they show the face, 0 to 1; NaN: unknown, as if sure.
        sides: [B] of their crops, px of the pictures.

    Returns:
        [B], certainty x cosine of the angle to the camera (0.05 at least) x min(side / 96 px, 1); their sum
        is 1.
    """
    facing = axis_angle_to_matrix(code.rotation.double())[:, 2, 2].numpy()
    weights = np.nan_to_num(np.asarray(certainty, np.float64), nan=1.0)
    weights = np.maximum(weights, 1e-3) * np.maximum(facing, _LEAST_FACING)
    weights = weights * np.minimum(np.asarray(sides) / _LEAST_SIDE, 1.0)
    return weights / weights.sum()


@torch.no_grad()
def share_identity(
    model: FaceModel,
    camera: Camera,
    code: FaceCode,
    weights: np.ndarray,
    person: tuple[Tensor, Tensor] | None = None,
) -> FaceCode:
    """Codes of one person with one shape and one albedo, each face where and as bright as it was.

    Args:
        model: the face model, on the CPU.
        camera: of all codes.
        code: of B pictures of the person.
        weights: [B] of `identity_weights`.
        person: shape [1, S] and albedo [1, A], where they are known; None: the weighted means.
    """
    share = torch.from_numpy(np.asarray(weights)).to(code.shape)[:, None]
    if person is None:
        person = (
            (share * code.shape).sum(0, keepdim=True),
            (share * code.albedo).sum(0, keepdim=True),
        )
    shape, albedo = person[0].expand_as(code.shape), person[1].expand_as(code.albedo)
    index = pose_points(model)
    parts = []
    for k in range(0, len(shape), _AHEAD):
        own = code.map(lambda part, k=k: part[k : k + _AHEAD])  # type: ignore[misc]
        theirs = own.replace(shape=shape[k : k + _AHEAD], albedo=albedo[k : k + _AHEAD])
        places = camera.project(placed(model, camera, own, index))
        rotation, translation = fit_pose(model, camera, theirs, places, index)
        light = _same_brightness(model, own, theirs.albedo)
        parts.append(theirs.replace(rotation=rotation, translation=translation, light=light))
    return join_codes(parts)


Person = Callable[[np.ndarray], tuple[Tensor, Tensor] | None]
"""Weights of pictures of one person, to shape [1, S] and albedo [1, A]; None: nothing better than means."""


def share_faces(
    model: FaceModel, faces: Sequence[FaceParameters], person: Person | None = None
) -> list[FaceParameters]:
    """The same for the predicted faces of several photographs, each in its own crop.

    Args:
        model: the face model, on the CPU.
        faces: of one person, all seen by cameras alike.
        person: what is known of the person by the weights of the faces.

    Returns:
        Their codes shared; what was measured of their renderings is to be measured again.

    Raises:
        ValueError: no face, or cameras that differ.
    """
    if not faces:
        raise ValueError("share_faces: no faces")
    camera = faces[0].camera
    if any(face.camera != camera for face in faces):
        raise ValueError("share_faces: the faces are of different cameras, expected one run's")
    code = join_codes([face.code for face in faces])
    certainty = np.array([face.certainty for face in faces])
    weights = identity_weights(code, certainty, np.array([face.crop[2] for face in faces]))
    known = None if person is None else person(weights)
    code = share_identity(model, camera, code, weights, known)
    return [
        replace(face, code=code.map(lambda part, k=k: part[k : k + 1]))  # type: ignore[misc]
        for k, face in enumerate(faces)
    ]


@torch.no_grad()
def to_frame_camera(
    model: FaceModel, camera: Camera, code: FaceCode, crops: list[Crop], frame: Camera
) -> FaceCode:
    """Codes of crops as codes of the whole picture's camera.

    The face turns as the line of sight does and moves away as the focal length grows; what is left by the
    other perspective is divided among its points by least squares.

    Args:
        model: the face model, on the CPU.
        camera: of the crops' codes.
        code: of B crops.
        crops: where they are in their pictures, which have one size.
        frame: of the whole pictures.
    """
    index, parts = pose_points(model), []
    box = torch.tensor([[c.left, c.top, c.side] for c in crops], dtype=code.rotation.dtype)
    for k in range(0, len(crops), _AHEAD):
        own, where = code.map(lambda part, k=k: part[k : k + _AHEAD]), box[k : k + _AHEAD]  # type: ignore[misc]
        scale = where[:, 2:] / camera.size[1]
        places = camera.project(placed(model, camera, own, index))
        places = where[:, None, :2] + places * scale[:, None]
        rotation, translation, turn = _moved(camera, own, where, frame)
        start = own.replace(rotation=rotation, translation=translation)
        rotation, translation = fit_pose(model, frame, start, places, index)
        # Light is of camera space: it turns with the line of sight, as the normals do.
        light = rotate_sh(own.light, turn)
        parts.append(own.replace(rotation=rotation, translation=translation, light=light))
    return join_codes(parts)


def placed(model: FaceModel, camera: Camera, code: FaceCode, index: Tensor) -> Tensor:
    """Some vertices [N] of faces in camera space, [B, N, 3] mm."""
    points = model.vertices(code.shape, code.expression, index)
    return camera.to_camera(points, axis_angle_to_matrix(code.rotation), code.translation)


def pose_points(model: FaceModel) -> Tensor:
    """Vertices that tell a face's pose: its landmarks, and others of the frontal region, int64 [N]."""
    frontal = model.frontal_mask.nonzero()[:, 0]
    few = frontal[:: max(1, len(frontal) // _POINTS)]
    return torch.cat([model.landmarks.long(), few])


@torch.no_grad()
def fit_pose(
    model: FaceModel, camera: Camera, code: FaceCode, places: Tensor, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Rotations and translations [B, 3] that bring vertices to their places, by Gauss-Newton.

    Args:
        model: the face model.
        camera: that sees the places.
        code: where it starts, with the shapes and expressions that hold.
        places: [B, N, 2] px.
        index: int64 [N] of the vertices.
    """
    points = model.vertices(code.shape, code.expression, index).double()
    matrix = axis_angle_to_matrix(code.rotation.double())
    home = torch.tensor(camera.position, dtype=torch.float64)
    shift = code.translation.double() + home
    focal = camera.focal_px
    centre = torch.tensor([camera.size[1] / 2, camera.size[0] / 2], dtype=torch.float64)
    for _ in range(_STEPS):
        turned = points @ matrix.mT
        x, y, z = (turned + shift[:, None]).unbind(-1)
        depth = (-z).clamp(min=camera.near)
        seen = centre + focal * torch.stack([x, -y], -1) / depth[..., None]
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        # Of the pixel by the point: [B, N, 2, 3].
        along = torch.stack([x / depth, -y / depth], -1)
        plane = torch.stack([torch.stack([one, zero], -1), torch.stack([zero, -one], -1)], -2)
        by_point = torch.cat([plane, along[..., None]], -1) * (focal / depth)[..., None, None]
        a, b, c = turned.unbind(-1)
        cross = torch.stack(
            [
                torch.stack([zero, c, -b], -1),
                torch.stack([-c, zero, a], -1),
                torch.stack([b, -a, zero], -1),
            ],
            -2,
        )  # of the point by a turn: d = turn x point
        rows = torch.cat([by_point @ cross, by_point], -1).flatten(1, 2)  # [B, 2 N, 6]
        away = (places.double() - seen).flatten(1, 2)
        normal = rows.mT @ rows
        normal = normal + 1e-9 * torch.diag_embed(normal.diagonal(dim1=1, dim2=2))
        move = torch.linalg.solve(normal, (rows.mT @ away[..., None])[..., 0])
        matrix = axis_angle_to_matrix(move[:, :3]) @ matrix
        shift = shift + move[:, 3:]
    dtype = code.rotation.dtype
    return matrix_to_axis_angle(matrix).to(dtype), (shift - home).to(dtype)


def _moved(
    camera: Camera, code: FaceCode, crops: Tensor, frame: Camera
) -> tuple[Tensor, Tensor, Tensor]:
    """Poses [B, 3] in the frame's camera that look the same, but for perspective within the face.

    The third is the turn of the lines of sight, [B, 3, 3].
    """
    focal = camera.focal_px * crops[:, 2:] / camera.size[1]  # px of the picture
    here = code.translation + code.translation.new_tensor(camera.position)
    size = here.new_tensor([frame.size[1], frame.size[0]])
    depth = -here[:, 2:]
    flip = here.new_tensor([1.0, -1.0])
    pixel = crops[:, :2] + crops[:, 2:] / 2 + focal * flip * here[:, :2] / depth
    there_depth = depth * frame.focal_px / focal
    there = torch.cat(
        [(pixel - size / 2) * flip * there_depth / frame.focal_px, -there_depth], dim=1
    )
    a, b = (torch.nn.functional.normalize(v.double(), dim=1) for v in (here, there))
    axis = torch.linalg.cross(a, b)
    sine = axis.norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, (a * b).sum(1, keepdim=True))
    turn = axis_angle_to_matrix(axis / sine.clamp(min=1e-12) * angle)
    matrix = turn @ axis_angle_to_matrix(code.rotation.double())
    position = here.new_tensor(frame.position)
    return matrix_to_axis_angle(matrix).to(here.dtype), there - position, turn.to(here.dtype)


def _same_brightness(model: FaceModel, code: FaceCode, albedo: Tensor) -> Tensor:
    """Lights [B, 9, 3] under which another albedo is as bright and of the same colour as the code's own."""
    index = pose_points(model)
    before, after = (model.albedo(a, index) for a in (code.albedo, albedo))
    gain = (before * after).sum(1) / (after * after).sum(1).clamp(min=1e-9)  # [B, 3]
    offset = torch.zeros_like(code.light)
    offset[:, 0] = AMBIENT_OFFSET
    return (code.light + offset) * gain[:, None] - offset


def model_on_cpu(model: FaceModel) -> FaceModel:
    """The model itself, or a copy where it is on another device: moving it would move its decoder's."""
    return model if model.mean_shape.device.type == "cpu" else copy.deepcopy(model).cpu()


def join_codes(parts: Sequence[FaceCode]) -> FaceCode:
    """One batch of several."""
    names = ("shape", "expression", "albedo", "rotation", "translation", "light")
    return FaceCode(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})
