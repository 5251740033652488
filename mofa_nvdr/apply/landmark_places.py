"""Finds where a detector's 478 points lie on a face model: by detecting them in renderings.

Of a rendering it is known which point of which triangle every pixel shows. The place of a detected point is
the middle of what it hit in many renderings of random people, expressions, poses and lights, the same on both
sides of the face. A point of a lip's inner edge hits the other lip where a mouth is shut, and the teeth where
it is open: its place is the vertex that is nearest to it in the pictures of open mouths.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.dense_landmarks import (
    DENSE_INNER_LIPS,
    DENSE_MIRROR,
    NUM_DENSE,
    NUM_MESH,
    DenseLandmarks,
    closest_points,
)
from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.face.landmarks import MIRROR, NUM_LANDMARKS
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import to_uint8
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.notes import say

DetectLandmarks = Callable[[Sequence[np.ndarray]], Sequence[Sequence[np.ndarray]]]
"""Pictures, bytes [H, W, 3], to the points [478, 2 or 3] of each face of each."""

_SIZE = 320  # px of the renderings
_BATCH = 16
_LEAST_HITS = 0.25  # share of the renderings in which a point must hit the face to have a place
_LEAST_SPREAD, _MOST_SPREAD = 0.01, 8.0  # mm; beyond the latter a point says nothing of a place
_LEAST_OPENING = 0.03  # of a mouth that is open, in sides of the square about the landmarks
_LIPS = ((61, 62, 63), (67, 66, 65))  # iBUG's points of the inner edges, above and below
_LEAST_MOUTHS = 8  # open ones
_EDGES = np.array(DENSE_INNER_LIPS).flatten()
# Regions that move behind the skin; a point of the lips that hits the teeth says nothing of the lips.
_BEHIND = ("mouth", "teeth", "eyes")
_ACROSS = (-1, 1, 1)  # factors of the place on the other side of the face
_MEDIAN_RADIUS = 1.1774  # of a normal distribution in a plane, in deviations along an axis


@dataclass(frozen=True)
class _Mouth:
    """An open mouth: points [20, 2] of the lips' edges and the vertices [V, 2], px; and mm a px."""

    points: np.ndarray
    pixels: np.ndarray
    millimetres: float


class PlacesNotFoundError(ValueError):
    """A detector does not find a model's faces."""


def place_dense_landmarks(
    model: FaceModel,
    detect: DetectLandmarks,
    count: int = 160,
    seed: int = 0,
    progress: bool = False,
) -> DenseLandmarks:
    """Measure the places of the points on a model.

    Args:
        model: the face model.
        detect: the detector.
        count: how many people to render.
        seed: of the people.
        progress: show a bar.

    Returns:
        The places, mirror-symmetric where the model is; points that hit the face too seldom, or scatter by
        more than 8 mm, have none.

    Raises:
        PlacesNotFoundError: the detector finds the face in fewer than a quarter of the renderings.
    """
    hits, _, mouths = _hits(model, detect, count, seed, progress)
    found = np.isfinite(hits).all(2).any(1).sum()
    if found < max(4, _LEAST_HITS * count):
        raise PlacesNotFoundError(
            f"dense landmarks: the detector finds a face in {found} of {count} renderings of {model.name}; "
            "it cannot be measured on this model"
        )
    places, spread = _middles(hits, _LEAST_HITS * found, DENSE_MIRROR)
    known = (spread > 0) & (spread <= _MOST_SPREAD)
    triangles = model.triangles.cpu().numpy()
    mean = model.mean_shape.cpu().numpy()
    numbers, shares, _ = closest_points(places[known], mean, triangles)
    vertices = np.zeros((NUM_DENSE, 3), np.int64)
    weights = np.zeros((NUM_DENSE, 3), np.float32)
    vertices[known], weights[known] = triangles[numbers], shares
    for k, (vertex, away) in _edges(mouths, model).items():
        triangle = triangles[(triangles == vertex).any(1)][0]
        known[k], spread[k] = True, away
        vertices[k], weights[k] = triangle, triangle == vertex
    return DenseLandmarks(
        torch.from_numpy(vertices),
        torch.from_numpy(weights),
        torch.from_numpy(np.where(known, spread, 0).astype(np.float32)),
    )


def place_detected_landmarks(
    model: FaceModel,
    detect: DetectLandmarks,
    count: int = 160,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Where the 68 landmarks of detected faces lie on a model's skin, [68, 3] mm on its mean face; or NaN.

    As in `place_dense_landmarks`; the same on both sides of the face. The recipe's landmarks are from here.
    """
    _, hits, _ = _hits(model, detect, count, seed, progress)
    found = np.isfinite(hits).all(2).any(1).sum()
    return _middles(hits, _LEAST_HITS * found, MIRROR)[0]


def place_in_file(path: str | Path, count: int = 160) -> bool:
    """Measure the places on the model of a .safetensors file with the landmark networks; written there.

    Where they cannot be measured, as the networks are not on this machine or do not know this face, a note on
    stderr says so, and the file stays as it is.

    Args:
        path: of `FaceModel.save`.
        count: how many people to render.

    Returns:
        Whether they were written.

    Raises:
        ValueError: no such file, or it is no face model.
        OSError: the file cannot be written.
    """
    model = FaceModel.load(path)
    try:
        detector = LandmarkDetector.load()
        places = place_dense_landmarks(
            model,
            lambda pictures: [[f.points for f in faces] for faces in detector.detect(pictures)],
            count,
            progress=sys.stderr.isatty(),
        )
    except NetworkMissingError as error:
        say(f"note: no dense landmarks: {error}, and import again", sys.stderr)
        return False
    except PlacesNotFoundError as error:
        say(f"note: no {error}", sys.stderr)
        return False
    model.place_dense_landmarks(places)
    model.save(path)
    spread = places.spread[places.known].median()
    say(f"dense landmarks: {int(places.known.sum())} points, spread {spread:.1f} mm (median)")
    return True


@torch.no_grad()
def _hits(
    model: FaceModel, detect: DetectLandmarks, count: int, seed: int, progress: bool
) -> tuple[np.ndarray, np.ndarray, list[_Mouth]]:
    """What the points hit in each rendering, as places [count, 478, 3] on the mean face, mm; or NaN.

    And what iBUG's landmarks of them hit, [count, 68, 3], and the mouths that are open.
    """
    decoder = FaceDecoder(model, camera=Camera(image_size=_SIZE), frontal_only=False)
    faces, behind = SyntheticFaces(decoder), _behind(model)
    hits, ibug = (np.full((count, n, 3), np.nan) for n in (NUM_DENSE, NUM_LANDMARKS))
    mouths = []
    for first in tqdm(range(0, count, _BATCH), disable=not progress, unit="batch"):
        places = range(first, min(first + _BATCH, count))
        rendered = faces.render(seed, places)
        geometry = decoder.geometry(rendered.code)
        triangle_ids = decoder.rasterize(geometry).triangle_ids.cpu().numpy()
        pixels = decoder.camera.project(geometry.vertices).cpu().numpy()
        depth = -geometry.vertices[..., 2].cpu().numpy()
        found = detect(list(to_uint8(rendered.picture.image)))
        truth = rendered.landmarks.cpu().numpy()
        for k, every in enumerate(found):
            points = _of_this_face(every, truth[k])
            if points is not None:
                seen = triangle_ids[k]
                skin = np.where(behind[seen], -1, seen)
                for some, ids in ((slice(NUM_MESH), skin), (slice(NUM_MESH, None), seen)):
                    hits[first + k, some] = _on_mean(points[some], ids, pixels[k], depth[k], model)
                marks = ibug_landmarks(points)
                ibug[first + k] = _on_mean(marks, skin, pixels[k], depth[k], model)
                if _opening(truth[k]) > _LEAST_OPENING:
                    millimetres = depth[k].mean() / decoder.pinhole.focal_px
                    mouths.append(_Mouth(points[_EDGES], pixels[k].astype(np.float32), millimetres))
    return hits, ibug, mouths


def _opening(landmarks: np.ndarray) -> float:
    """Distance of the lips' inner edges in 68 landmarks, in sides of the square about them."""
    upper, lower = landmarks[list(_LIPS[0])], landmarks[list(_LIPS[1])]
    side = float((landmarks.max(0) - landmarks.min(0)).max())
    return float(np.linalg.norm(upper - lower, axis=1).mean()) / side


def _edges(mouths: Sequence[_Mouth], model: FaceModel) -> dict[int, tuple[int, float]]:
    """The vertex of each point of the lips' inner edges, and how far points scatter about it, mm."""
    if len(mouths) < _LEAST_MOUTHS:
        return {}
    hidden = np.zeros(model.num_vertices, bool)
    hidden[model.triangles.cpu().numpy()[_behind(model)].flatten()] = True
    mirror, out = model.mirror_index.cpu().numpy(), {}
    column = {int(k): n for n, k in enumerate(_EDGES)}
    for k in column:
        other = DENSE_MIRROR[k]
        own, across = (
            np.stack(
                [
                    np.linalg.norm(m.pixels - m.points[column[point]], axis=1) * m.millimetres
                    for m in mouths
                ]
            )
            for point in (k, other)
        )
        away = np.concatenate([own, across[:, mirror]])  # [2 M, V]
        left_out = hidden | ((mirror != np.arange(len(mirror))) & (k == other))
        total = np.where(left_out, np.inf, np.minimum(away, _MOST_SPREAD).sum(0))
        best = int(total.argmin())
        spread = max(float(np.median(away[:, best])) / _MEDIAN_RADIUS, _LEAST_SPREAD)
        out[k] = (best, spread)
    return out


def _behind(model: FaceModel) -> np.ndarray:
    """[T] bool: triangles behind the skin."""
    return model.in_regions(*_BEHIND).cpu().numpy()[model.triangles.cpu().numpy()].any(1)


def _of_this_face(every: Sequence[np.ndarray], truth: np.ndarray) -> np.ndarray | None:
    """The points of the detected face that is the rendered one; None: it was not found."""
    side = float((truth.max(0) - truth.min(0)).max())
    for points in every:
        middle = (points[:, :2].max(0) + points[:, :2].min(0)) / 2
        if np.linalg.norm(middle - (truth.max(0) + truth.min(0)) / 2) < 0.25 * side:
            return points[:, :2]
    return None


def _on_mean(
    points: np.ndarray,
    triangle_ids: np.ndarray,
    pixels: np.ndarray,
    depth: np.ndarray,
    model: FaceModel,
) -> np.ndarray:
    """Places [N, 3] on the mean face of points [N, 2] in px of a rendering; NaN next to the face."""
    out = np.full((len(points), 3), np.nan)
    row, column = np.floor(points[:, 1]).astype(int), np.floor(points[:, 0]).astype(int)
    inside = (row >= 0) & (column >= 0) & (row < _SIZE) & (column < _SIZE)
    number = np.full(len(points), -1)
    number[inside] = triangle_ids[row[inside], column[inside]]
    hit = np.flatnonzero(number >= 0)
    corners = model.triangles.cpu().numpy()[number[hit]]
    a, b, c = pixels[corners].transpose(1, 0, 2)
    ab, ac, ap = b - a, c - a, points[hit] - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    area = np.where(np.abs(area) < 1e-6, np.nan, area)
    v = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / area
    w = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / area
    # What is linear in the picture is linear on the triangle over the depth.
    shares = np.clip(np.stack([1 - v - w, v, w], 1), 0, 1) / depth[corners]
    shares /= shares.sum(1, keepdims=True)
    out[hit] = np.einsum("nc,ncd->nd", shares, model.mean_shape.cpu().numpy()[corners])
    return out


def _middles(
    hits: np.ndarray, least: float, mirror: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Places [N, 3] and spreads [N] of hits [count, N, 3]; NaN and 0 with fewer than `least` a side.

    A point and the one on the other side of the face, `mirror`, count as one, each mirrored onto the other.
    """
    places, spread = np.full((len(mirror), 3), np.nan), np.zeros(len(mirror))
    for k, other in enumerate(mirror):
        if other < k:
            continue
        both = np.concatenate([hits[:, k], hits[:, other] * _ACROSS])
        both = both[np.isfinite(both).all(1)]
        if len(both) < 2 * least:
            continue
        middle = _middle(both) if other != k else _middle(both) * (0, 1, 1)
        places[other], places[k] = middle * _ACROSS, middle
        away = np.linalg.norm(both - middle, axis=1)
        spread[[k, other]] = max(np.median(away) / _MEDIAN_RADIUS, _LEAST_SPREAD)
    return places, spread


def _middle(points: np.ndarray) -> np.ndarray:
    """The point with the least sum of distances to all (Weiszfeld's iteration)."""
    middle = np.median(points, axis=0)
    for _ in range(50):
        weights = 1 / np.maximum(np.linalg.norm(points - middle, axis=1), 1e-3)
        middle = (weights[:, None] * points).sum(0) / weights.sum()
    return middle
