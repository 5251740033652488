"""A fitted mesh moved the last pixels onto the landmarks of its photograph.

A fit leaves a pixel or two between the model's lips and lids and the photograph's. Colours do not mind, but
where a photograph is warped, a stripe of lip would stay behind.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.dense_landmarks import OVAL
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.scene.topology import edge_counts

_LONGEST = 640  # px of the picture in which landmarks are looked for
_MARGIN = 0.25  # sides of the crop around it in that picture
_AWAY = 0.3  # sides of the crop, from which a found face is another person's
_NEAR = 8.0  # mm, deviation of the kernel that says where a landmark counts
_KEPT = 0.005  # share of the kernel's values in each step: what holds parts without landmarks
_STEPS, _LAST_STEPS = 150, 4
_MOST = 0.06  # sides of the crop, a longest shift: what is further off was detected wrongly


def detected_points(photo: np.ndarray, parameters: FaceParameters) -> Tensor | None:
    """The 478 landmarks of a face that was fitted, as the networks see them in its photograph.

    Args:
        photo: uint8 [H, W, 3].
        parameters: the face in it.

    Returns:
        [478, 2] px of the photograph; None: the networks are not here, or see no face there.
    """
    if not LandmarkDetector.is_here():
        return None
    x, y, side = (float(n) for n in parameters.crop)
    height, width = photo.shape[:2]
    left, top = max(0, int(x - _MARGIN * side)), max(0, int(y - _MARGIN * side))
    right = min(width, int(x + (1 + _MARGIN) * side))
    bottom = min(height, int(y + (1 + _MARGIN) * side))
    if min(right - left, bottom - top) < 16:
        return None
    part = photo[top:bottom, left:right]
    shrink = max(1.0, max(part.shape[:2]) / _LONGEST)
    size = round(part.shape[1] / shrink), round(part.shape[0] / shrink)
    if shrink > 1:
        part = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BICUBIC))
    scale = np.array([(right - left) / size[0], (bottom - top) / size[1]])
    middle = np.array([x, y]) + side / 2
    found = [face.points[:, :2] * scale + [left, top] for face in LandmarkDetector.load()(part)]
    found = [p for p in found if np.linalg.norm(_middle(p) - middle) < _AWAY * side]
    if not found:
        return None
    best = min(found, key=lambda points: float(np.linalg.norm(_middle(points) - middle)))
    return torch.from_numpy(best).float()


def _middle(points: np.ndarray) -> np.ndarray:
    return (points.min(0) + points.max(0)) / 2


@torch.no_grad()
def alignment(model: FaceModel, fitted: Tensor, detected: Tensor, side: float) -> Tensor:
    """By how much to move projected vertices so that the model's landmarks lie on detected ones.

    The shift is exact at the landmarks and as smooth as it can be over the mesh between them, so that lips
    that touch are moved apart where they should be. The outline of the face is left alone: as landmarks it
    slides over the skin.

    Args:
        model: with places of dense landmarks.
        fitted: [478, 2] px, where the model's lie.
        detected: [478, 2] px.
        side: px of the crop.

    Returns:
        [V, 2] px; zeros for a model that has no places.
    """
    places = model.dense_landmarks
    if places is None:
        return fitted.new_zeros(model.num_vertices, 2)
    use = places.known.clone()
    use[list(OVAL)] = False
    shift = (detected - fitted)[use]
    length = shift.norm(dim=1, keepdim=True)
    shift = shift * (_MOST * side / length.clamp(min=1e-6)).clamp(max=1)
    mean = model.mean_shape
    points = places.of(mean[None])[0, use]
    nearest = places.vertices[use].gather(1, places.weights[use].argmax(1, keepdim=True))[:, 0]
    weight = (-0.5 * (torch.cdist(mean, points) / _NEAR).square()).exp()  # [V, L]
    total = weight.sum(1, keepdim=True)
    first = weight @ shift / (total + 0.05)
    neighbours = _Neighbours(model.triangles, len(mean))
    moved = first
    for _ in range(_STEPS):
        moved = torch.lerp(neighbours.mean(moved), first, _KEPT)
        moved[nearest] = shift
    for _ in range(_LAST_STEPS):
        moved = neighbours.mean(moved)
    return moved


class _Neighbours:
    """Means over the vertices next to each."""

    def __init__(self, triangles: Tensor, count: int) -> None:
        edges, _ = edge_counts(triangles)
        both = torch.cat([edges, edges.flip(1)])
        self._to, self._from = both[:, 0], both[:, 1]
        self._number = torch.bincount(self._to, minlength=count)[:, None]

    def mean(self, values: Tensor) -> Tensor:
        """Of values [V, C]; a vertex without neighbours keeps its own."""
        sums = torch.zeros_like(values).index_add_(0, self._to, values[self._from])
        return torch.where(self._number > 0, sums / self._number.clamp(min=1), values)
