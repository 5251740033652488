"""Terms that need no label of a photograph and hold a photometric training in place; none is in the paper.

A photometric loss over a moving mask places each face better while it slides and shrinks all of them. What
stops that without a landmark: the batch's mean placement stays where an earlier encoder put it
(`mean_placement_anchor`), and a mirrored photograph has the mirrored face (`mirror_consistency`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.render.decoder import FaceDecoder
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

    @staticmethod
    def of(decoder: FaceDecoder, code: FaceCode) -> Placement:
        """Of face codes, by the decoder's landmarks."""
        points = decoder.points(code, decoder.model.landmarks.long())
        return Placement(decoder.camera.project(points), points, code.rotation)


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
        offset: [6] how far from the teacher the mean should be, as in `placement_units`; None: not at all.

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
    pixels = huber_distance(face.landmarks, back, 240 / image_size / _MIRROR_PX)
    flipped = mirrored.points[:, order] * face.points.new_tensor([-1, 1, 1])
    return pixels + huber_distance(face.points, flipped, 1 / _MIRROR_MM)


def huber_distance(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Mean over points [B, N, D] of Huber's function of their distance, [B]; `scale`: units in one."""
    squared = ((a - b) * scale).square().sum(-1)
    # The root is taken only where it is smooth.
    root = squared.clamp(min=1).sqrt()
    return torch.where(squared < 1, 0.5 * squared, root - 0.5).mean(1)
