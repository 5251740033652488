"""478 points of faces in squares of a picture, by MediaPipe's face mesh and iris networks in plain torch.

Points 0 to 467 are the face mesh's (Kartynnik et al. 2019); 468 to 472 the iris of the subject's right eye,
its middle first and then four points of its edge, 473 to 477 that of the left (Ablavatski et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mofa_nvdr.face.dense_landmarks import DENSE_MIRROR, NUM_MESH
from mofa_nvdr.networks.face_boxes import LEFT_EYE, RIGHT_EYE
from mofa_nvdr.networks.face_crops import cut_squares, to_picture, turn
from mofa_nvdr.networks.graph import GraphNetwork

MESH_SIZE, IRIS_SIZE = 192, 64
# Sides of the squares in sides of what they are about: as MediaPipe's graphs frame them.
_FACE_MARGIN, _EYE_MARGIN = 1.5, 2.3
_OUTER_CORNERS = (33, 263)  # of the subject's right and left eye
_CORNERS = ((33, 133), (362, 263))  # of each eye, from left to right in the picture
_LIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
)
_IRIS_POINTS = 5
# The mesh network counts from the middle of its image's first pixel, as MediaPipe's warp by OpenCV does: read
# from the edge, points of 120 photographs and of their mirror images lie 2 * 0.60 px apart, so 2 * 0.10.
_FIRST_PIXEL = 0.5
_MIRROR = torch.tensor(DENSE_MIRROR[:NUM_MESH])
_BATCH = 16  # crops at once; more are no faster on a CPU


class FaceMesh:
    """Points of the faces of several pictures, from the squares in which they are.

    Args:
        mesh: image [B, 3, 192, 192] in [0, 1] to 468 points and the logit of there being a face.
        iris: image [B, 3, 64, 64] of a right eye in [0, 1] to the points of its lids and of its iris.
        dtype: what the networks compute with.
    """

    def __init__(self, mesh: GraphNetwork, iris: GraphNetwork, dtype: torch.dtype) -> None:
        self._mesh, self._iris, self._dtype = mesh, iris, dtype

    def points(
        self, pictures: Sequence[Tensor], squares: Sequence[Tensor], both_ways: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Points [N, 468, 3] of each picture in its px, z in the same unit, and certainty [N] of a face.

        Args:
            pictures: bytes [3, H, W].
            squares: [N, 4] of each, see `face_crops`.
            both_ways: the mean of what the network says of a crop and of its mirror image.
        """
        counts = [len(s) for s in squares]
        crops = torch.cat([cut_squares(p, s, MESH_SIZE) for p, s in zip(pictures, squares)])
        places, flags = self._in_crops(crops)
        if both_ways:
            mirrored, others = self._in_crops(crops.flip(3))
            mirrored = mirrored[:, _MIRROR.to(crops.device)]
            back = torch.cat([MESH_SIZE - mirrored[..., :1], mirrored[..., 1:]], -1)
            places, flags = (places + back) / 2, (flags + others) / 2
        found = [to_picture(p, s, MESH_SIZE) for p, s in zip(places.split(counts), squares)]
        return found, list(flags.split(counts))

    def _in_crops(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Points [N, 468, 3] in px of crops, and certainty [N]."""
        points, flags = self._run(self._mesh, crops)
        places = points.reshape(len(crops), NUM_MESH, 3)
        places = torch.cat([places[..., :2] + _FIRST_PIXEL, places[..., 2:]], -1)
        return places, flags.reshape(len(crops)).sigmoid()

    def irises(self, pictures: Sequence[Tensor], points: Sequence[Tensor]) -> list[Tensor]:
        """The iris points [N, 10, 3] of each picture's faces [N, 468, 3]; z is that of the lids."""
        squares = [_squares_of_eyes(p) for p in points]  # [2 N, 4]: right, left, right, ...
        crops = torch.cat([cut_squares(p, s, IRIS_SIZE) for p, s in zip(pictures, squares)])
        # The network knows right eyes: left ones are mirrored for it, and its points back.
        left = torch.arange(len(crops), device=crops.device) % 2 == 1
        mirrored = torch.where(left[:, None, None, None], crops.flip(3), crops)
        _, found = self._run(self._iris, mirrored)
        flat = found.reshape(len(crops), _IRIS_POINTS, 3)[..., :2]
        x = torch.where(left[:, None], IRIS_SIZE - flat[..., 0], flat[..., 0])
        flat = torch.stack([x, flat[..., 1]], -1)
        irises = []
        for places, where, p in zip(flat.split([len(s) for s in squares]), squares, points):
            depth = torch.stack([p[:, list(lids), 2].mean(1) for lids in _LIDS], 1).flatten()
            depth = depth[:, None, None].expand(-1, _IRIS_POINTS, 1)
            both = torch.cat([to_picture(places, where, IRIS_SIZE), depth], -1)
            irises.append(both.reshape(len(p), 2 * _IRIS_POINTS, 3))
        return irises

    def _run(self, network: GraphNetwork, crops: Tensor) -> tuple[Tensor, Tensor]:
        """A network's two outputs for crops of 0 to 255, float32."""
        if not len(crops):
            return crops.new_zeros(0), crops.new_zeros(0)
        images = (crops / 255).to(self._dtype, memory_format=torch.channels_last)
        first, second = zip(*(network(part) for part in images.split(_BATCH)))
        return torch.cat(first).float(), torch.cat(second).float()


def squares_of_boxes(rows: Tensor) -> Tensor:
    """The squares [N, 4] that the mesh network sees, from a detector's rows [N, face_boxes.COLUMNS]."""
    boxes, eyes = rows[:, :4], rows[:, 4:-1].unflatten(1, (-1, 2))
    roll = _direction(eyes[:, LEFT_EYE] - eyes[:, RIGHT_EYE])
    size = boxes[:, 2:] - boxes[:, :2]
    return _squares((boxes[:, :2] + boxes[:, 2:]) / 2, size.amax(1) * _FACE_MARGIN, roll)


def squares_of_points(points: Tensor) -> Tensor:
    """The squares [N, 4] for a second pass: about the points [N, 468, 3] of the first, in their upright."""
    roll = roll_of_points(points)
    upright = turn(points[..., :2], -roll[:, None])
    low, high = upright.amin(1), upright.amax(1)
    centre = turn((low + high) / 2, roll)
    return _squares(centre, (high - low).amax(1) * _FACE_MARGIN, roll)


def roll_of_points(points: Tensor) -> Tensor:
    """How far heads with points [N, 468 or more, 2 or more] are tilted [N], radians, clockwise as seen."""
    right, left = _OUTER_CORNERS
    return _direction(points[:, left, :2] - points[:, right, :2])


def _squares_of_eyes(points: Tensor) -> Tensor:
    """[2 N, 4], the right and the left eye of each face in turn."""
    first, last = (points[:, [c[end] for c in _CORNERS], :2].flatten(0, 1) for end in (0, 1))
    along = last - first
    return _squares((first + last) / 2, along.norm(dim=1) * _EYE_MARGIN, _direction(along))


def _squares(centre: Tensor, side: Tensor, roll: Tensor) -> Tensor:
    return torch.cat([centre, side.clamp(min=1e-3)[:, None], roll[:, None]], 1)


def _direction(along: Tensor) -> Tensor:
    return torch.atan2(along[:, 1], along[:, 0])
