"""478 points of faces in squares of a picture, by MediaPipe's face mesh and iris networks in plain torch.

Points 0 to 467 are the face mesh's (Kartynnik et al. 2019); 468 to 472 the iris of the subject's right eye, its
middle first and then four points of its edge, 473 to 477 that of the left (Ablavatski et al. 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.networks.face_boxes import LEFT_EYE, RIGHT_EYE
from mofa_nvdr.networks.face_crops import cut_squares, to_picture, turn
from mofa_nvdr.networks.graph import GraphNetwork

NUM_MESH, NUM_POINTS = 468, 478
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


class FaceMesh:
    """Points of the faces in squares.

    Args:
        mesh: image [B, 3, 192, 192] in [0, 1] to 468 points and the logit of there being a face.
        iris: image [B, 3, 64, 64] of a right eye in [0, 1] to the points of its lids and of its iris.
        dtype: what the networks compute with.
    """

    def __init__(self, mesh: GraphNetwork, iris: GraphNetwork, dtype: torch.dtype) -> None:
        self._mesh, self._iris, self._dtype = mesh, iris, dtype

    def find(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Points [N, 468, 3] in px of crops, z in the same unit, and certainty [N] that there is a face.

        Args:
            crops: [N, 3, MESH_SIZE, MESH_SIZE], 0 to 255.
        """
        points, flag = self._mesh(self._ready(crops))
        return points.float().reshape(-1, NUM_MESH, 3), flag.float().reshape(-1).sigmoid()

    def find_irises(self, crops: Tensor, left: Tensor) -> Tensor:
        """The iris points [N, 5, 2] in px of crops of one eye each.

        Args:
            crops: [N, 3, IRIS_SIZE, IRIS_SIZE], 0 to 255.
            left: which are of a left eye [N]; the network knows right ones, so these are mirrored.
        """
        mirrored = torch.where(left[:, None, None, None], crops.flip(3), crops)
        _, points = self._iris(self._ready(mirrored))
        points = points.float().reshape(-1, _IRIS_POINTS, 3)[..., :2]
        x = torch.where(left[:, None], IRIS_SIZE - points[..., 0], points[..., 0])
        return torch.stack([x, points[..., 1]], -1)

    def _ready(self, crops: Tensor) -> Tensor:
        return (crops / 255).to(self._dtype, memory_format=torch.channels_last)


def irises_of(mesh: FaceMesh, picture: Tensor, points: Tensor) -> Tensor:
    """The iris points [N, 10, 3] of the faces of a picture with points [N, 468, 3]; z is that of the lids."""
    squares = torch.stack([_square_of_eye(points, corners) for corners in _CORNERS], 1)  # [N, 2, 4]
    left = torch.tensor([False, True], device=points.device).repeat(len(points))
    crops = cut_squares(picture, squares.flatten(0, 1), IRIS_SIZE)
    found = mesh.find_irises(crops, left)
    flat = to_picture(found, squares.flatten(0, 1), IRIS_SIZE).unflatten(0, (len(points), 2))
    depth = torch.stack([points[:, list(lids), 2].mean(1) for lids in _LIDS], 1)
    depth = depth[:, :, None, None].expand(-1, -1, _IRIS_POINTS, 1)
    return torch.cat([flat, depth], -1).flatten(1, 2)


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


def _square_of_eye(points: Tensor, corners: tuple[int, int]) -> Tensor:
    first, last = points[:, corners[0], :2], points[:, corners[1], :2]
    along = last - first
    return _squares((first + last) / 2, along.norm(dim=1) * _EYE_MARGIN, _direction(along))


def _squares(centre: Tensor, side: Tensor, roll: Tensor) -> Tensor:
    return torch.cat([centre, side.clamp(min=1e-3)[:, None], roll[:, None]], 1)


def _direction(along: Tensor) -> Tensor:
    return torch.atan2(along[:, 1], along[:, 0])
