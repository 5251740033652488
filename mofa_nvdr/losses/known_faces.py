"""Terms for rendered faces, whose codes are known: distances of codes and of what they decode to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.losses.consistency import huber_distance
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.lighting import icosahedron, sh_basis, total_light

# Next to the landmarks this many vertices, evenly spaced over the mesh, say where a known face is.
_MORE_POINTS = 252

# What counts as one unit of error in each part of a code, and how much the part weighs: the pose of
# portraits spreads over a few such units; shape, expression and albedo are hard to see and weigh less.
_CODE_UNITS: dict[str, tuple[tuple[float, ...], float]] = {
    "shape": ((1.0,), 0.2),
    "expression": ((1.0,), 0.2),
    "albedo": ((1.0,), 0.1),
    "rotation": ((0.1,), 1.0),  # rad
    "translation": ((8.0, 8.0, 40.0), 1.0),  # mm
    "light": ((0.15,), 0.5),
}


def code_distance(code: FaceCode, true: FaceCode) -> Tensor:
    """Robust distance of predicted to known codes, [B]: the loss of a warm start on rendered faces.

    Huber's function of the error in units of its part, averaged over the part, weighted and summed. After
    the supervised stage of Genova et al. 2018; not in the MoFA paper.
    """
    total = code.rotation.new_zeros(code.batch_size)
    for name, (unit, weight) in _CODE_UNITS.items():
        error = (getattr(code, name) - getattr(true, name)) / code.rotation.new_tensor(unit)
        huber = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
        # A model without expressions has an empty part, whose mean would be NaN.
        if huber.numel():
            total = total + weight * huber.flatten(1).mean(1)
    return total


@dataclass(frozen=True)
class FacePoints:
    """Some points of decoded faces, and the light on them: what `decoded_distance` compares.

    Attributes:
        landmarks: [B, 68, 2] pixels.
        points: [B, N, 3] camera space, mm; the first 68 are the landmarks.
        form: [B, N, 3] the same points in the face's own frame: shape and expression alone, mm.
        albedo: [B, N, 3].
        irradiance: [B, M, 3] on any M normals, the same for all faces.
    """

    landmarks: Tensor
    points: Tensor
    form: Tensor
    albedo: Tensor
    irradiance: Tensor

    @staticmethod
    def of(decoder: FaceDecoder, code: FaceCode) -> FacePoints:
        """Of face codes: the landmarks, and vertices evenly spaced over the mesh."""
        model = decoder.model
        landmarks = model.landmarks.long()
        stride = max(1, model.num_vertices // _MORE_POINTS)
        spaced = torch.arange(0, model.num_vertices, stride, device=landmarks.device)
        index = torch.cat([landmarks, spaced])
        form = model.vertices(code.shape, code.expression, index)
        points = decoder.place(code, form)
        light = total_light(code.light)
        normals = icosahedron().to(light)
        return FacePoints(
            landmarks=decoder.camera.project(points[:, : len(landmarks)]),
            points=points,
            form=form,
            albedo=model.albedo(code.albedo, index),
            # A camera in front of the face does not see what turns away.
            irradiance=sh_basis(normals[normals[:, 2] >= 0]) @ light,
        )


def decoded_distance(predicted: FacePoints, true: FacePoints, image_size: int) -> Tensor:
    """Distance of decoded faces to the true ones: place, depth, form, expression, skin and light, [B].

    The loss of a warm start on rendered faces, next to code_distance: errors of the code that show
    in the face weigh more than those that hardly show. A sum of Huber's functions with the units of
    `_DECODED_UNITS`. After the model-space loss of Genova et al. 2018, section 4; not in the MoFA paper.

    Args:
        predicted: of the encoder.
        true: of the known codes.
        image_size: height of the pictures in pixels.
    """
    u = _DECODED_UNITS
    a, b = predicted, true
    count = a.landmarks.shape[1]
    depth = (a.points[..., 2].mean(1) - b.points[..., 2].mean(1)) / u.depth
    skin = a.albedo.mean(1) * a.irradiance.mean(1) - b.albedo.mean(1) * b.irradiance.mean(1)
    return (
        0.35 * huber_distance(a.landmarks, b.landmarks, 240 / image_size / u.picture)
        + huber_distance(_centred(a.points), _centred(b.points), 1 / u.turned)
        + 0.5 * F.smooth_l1_loss(depth, torch.zeros_like(depth), reduction="none")
        + huber_distance(a.form[:, :count], b.form[:, :count], 1 / u.form)
        + huber_distance(a.form[:, count:], b.form[:, count:], 1 / u.form)
        + huber_distance(a.albedo, b.albedo, 1 / u.albedo)
        + huber_distance(a.irradiance, b.irradiance, 1 / u.irradiance)
        + 2 * huber_distance(skin[:, None], skin.new_zeros(len(skin), 1, 3), 1 / u.skin)
    )


@dataclass(frozen=True)
class _DecodedUnits:
    picture: float = 2.0  # px at 240
    turned: float = 4.0  # mm, about the faces' centres in camera space
    depth: float = 20.0  # mm
    form: float = 2.0  # mm, in the faces' own frames: a smile moves its corners by 8
    albedo: float = 0.1
    irradiance: float = 0.2
    skin: float = 0.1  # mean albedo times mean irradiance: the tone that the picture shows


_DECODED_UNITS = _DecodedUnits()


def _centred(points: Tensor) -> Tensor:
    return points - points.mean(1, keepdim=True)


def decoded_face_distance(decoder: FaceDecoder, code: FaceCode, true: FaceCode) -> Tensor:
    """`decoded_distance` of the landmarks, and of vertices evenly spaced over the mesh, [B]."""
    predicted, there = FacePoints.of(decoder, code), FacePoints.of(decoder, true)
    return decoded_distance(predicted, there, decoder.camera.size[0])
