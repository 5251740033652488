"""Terms that need no label of a photograph and hold a photometric training in place; none is in the paper.

A photometric loss over a moving mask places each face better while it slides and shrinks all of them. What
stops that without a landmark: the batch's mean placement stays where an earlier encoder put it
(`mean_placement_anchor`), and a mirrored photograph has the mirrored face (`mirror_consistency`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.system import distributed

# One unit of drift of the batch's mean: pixels at 240, logarithm of the size, radians.
_ANCHOR_PX, _ANCHOR_LOG_SIZE, _ANCHOR_RAD = 2.0, 0.03, 0.04
# One unit of disagreement between a photograph and its mirror image: pixels at 240, mm.
_MIRROR_PX, _MIRROR_MM = 2.0, 20.0


@dataclass(frozen=True)
class Placement:
    """Where faces are: what the terms compare.

    Attributes:
        landmarks: [B, 68, 2] pixels, x right, y down from the image's top left corner.
        points: [B, 68, 3] the same landmarks in camera space, mm.
        rotation: [B, 3] axis-angle, radians.
    """

    landmarks: Tensor
    points: Tensor
    rotation: Tensor


def placement_units(face: Placement, image_size: int) -> Tensor:
    """Place, size and rotation of each face in the anchor's units, [B, 6].

    Two numbers for the landmarks' centre in the picture (2 px at 240), one for the logarithm of their root
    mean square distance from it (3 %), three for the rotation (0.04 rad).
    """
    centre = face.landmarks.mean(1, keepdim=True)
    spread = (face.landmarks - centre).square().sum(-1).mean(1, keepdim=True).clamp(min=1e-6)
    place = centre[:, 0] * (240 / image_size / _ANCHOR_PX)
    size = 0.5 * (spread * (240 / image_size) ** 2).log() / _ANCHOR_LOG_SIZE
    return torch.cat([place, size, face.rotation / _ANCHOR_RAD], dim=1)


def mean_placement_anchor(
    student: Placement, teacher: Placement, image_size: int, offset: Tensor | None = None
) -> Tensor:
    """Squared difference of the *batch means* of place, size and rotation, a scalar.

    Each image stays free; only what all share is held. Of several processes that train together
    (mofa_nvdr.system.distributed) the batch is that of all of them.

    Args:
        student: of the encoder in training.
        teacher: of the encoder as it was after its warm start, for the same photographs; detached here.
        image_size: height of the pictures in pixels.
        offset: [6] how far from the teacher the mean shall be, as in `placement_units`; None: not at all.

    Returns:
        A scalar: 1 for a mean drift of 2 px at 240, of 3 % in size, or of 0.04 rad.

    Raises:
        ValueError: the two hold different numbers of faces.
    """
    if student.landmarks.shape != teacher.landmarks.shape:
        raise ValueError(
            f"mean_placement_anchor: the student has {len(student.landmarks)} faces, the teacher "
            f"{len(teacher.landmarks)}"
        )
    drift = placement_units(student, image_size) - placement_units(teacher, image_size).detach()
    mean = distributed.batch_mean(drift.mean(0))
    if offset is not None:
        mean = mean - offset
    return mean.square().sum()


def mirror_consistency(face: Placement, mirrored: Placement, image_size: int) -> Tensor:
    """How far the landmarks of mirrored photographs are from the mirrored landmarks, [B].

    Args:
        face: of the photographs.
        mirrored: of the same photographs, each mirrored left to right.
        image_size: width of the pictures in pixels.

    Returns:
        [B]: 1 for a mean distance of 2 px at 240 in the picture, or of 20 mm in camera space (robust: Huber's
        function, linear beyond one unit).

    Raises:
        ValueError: the two hold different numbers of faces.
    """
    if face.landmarks.shape != mirrored.landmarks.shape:
        raise ValueError(
            f"mirror_consistency: {len(face.landmarks)} photographs, {len(mirrored.landmarks)} "
            "mirrored ones"
        )
    order = torch.tensor(MIRROR, device=face.landmarks.device)
    back = mirrored.landmarks[:, order] * face.landmarks.new_tensor([-1, 1])
    back = back + face.landmarks.new_tensor([image_size, 0])
    pixels = _distance(face.landmarks, back, 240 / image_size / _MIRROR_PX)
    flipped = mirrored.points[:, order] * face.points.new_tensor([-1, 1, 1])
    return pixels + _distance(face.points, flipped, 1 / _MIRROR_MM)


def _distance(a: Tensor, b: Tensor, scale: float) -> Tensor:
    squared = ((a - b) * scale).square().sum(-1)
    # Huber's function of the length; the root is taken only where it is smooth.
    root = squared.clamp(min=1).sqrt()
    return torch.where(squared < 1, 0.5 * squared, root - 0.5).mean(1)


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


def decoded_distance(predicted: FacePoints, true: FacePoints, image_size: int) -> Tensor:
    """Distance of decoded faces to the true ones: place, depth, form, mimic, skin and light, [B].

    The loss of a warm start on rendered faces, beside losses.code_distance: errors of the code that show
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
        0.35 * _distance(a.landmarks, b.landmarks, 240 / image_size / u.picture)
        + _distance(_centred(a.points), _centred(b.points), 1 / u.turned)
        + 0.5 * F.smooth_l1_loss(depth, torch.zeros_like(depth), reduction="none")
        + _distance(a.form[:, :count], b.form[:, :count], 1 / u.form)
        + _distance(a.form[:, count:], b.form[:, count:], 1 / u.form)
        + _distance(a.albedo, b.albedo, 1 / u.albedo)
        + _distance(a.irradiance, b.irradiance, 1 / u.irradiance)
        + 2 * _distance(skin[:, None], skin.new_zeros(len(skin), 1, 3), 1 / u.skin)
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
