"""Every face of a picture, with 478 landmarks: MediaPipe's networks in plain torch.

The detector looks at the picture whole, once more at half the size, so that a face that fills it is found
too, and finer in larger pictures. What the mesh network's own flag says is no face is dropped, which leaves
none in scenes without people. Heads that lie or hang are looked for on the other three turns of the picture
where upright nothing sure is found. docs/networks.md has the figures of these choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.networks.face_boxes import (
    COLUMNS,
    SPECS,
    BoxDetector,
    letterbox,
    merge,
    overlaps,
    resize,
)
from mofa_nvdr.networks.face_mesh import (
    FaceMesh,
    roll_of_points,
    squares_of_boxes,
    squares_of_points,
)
from mofa_nvdr.networks.graph import GraphNetwork
from mofa_nvdr.networks.on_request import load_set, missing_members
from mofa_nvdr.system.device import multiplies_bfloat16

SET = "landmarks"  # of network_sets.NETWORK_SETS
# (side of the detector's square, share of it that the picture takes, longer side of pictures that need it).
_VIEWS = ((192, 0.5, 0), (192, 1.0, 0), (384, 1.0, 384), (768, 1.0, 768))
_TURNED_VIEWS = _VIEWS[:2]
_LONGEST = 1280  # px at which the detector sees larger pictures; landmarks are found at full size
_REPEAT = 0.3  # intersection over union from which two boxes are of one face
_FIRST_FLAG = 0.1  # of the first pass, whose squares are rough
_BATCH = 16  # pictures at once
_PIXELS = _BATCH * 192**2  # of the detector's squares at once
_LARGEST_ROLL = math.radians(50)  # beyond it the networks err


@dataclass(frozen=True)
class Face:
    """A face of a picture.

    Attributes:
        box: left, top, right, bottom of its points, px of the picture as shown.
        score: certainty in (0, 1): the detector's times the mesh network's.
        points: [478, 3], see `face_mesh`: x right and y down from the picture's top left corner, a pixel's
            centre at + 0.5; z away from the camera in the same unit, about 0 in the middle of the head.
        roll: how far the head is tilted, radians, clockwise as seen; 0 is upright.
    """

    box: tuple[float, float, float, float]
    score: float
    points: np.ndarray
    roll: float

    @property
    def landmarks68(self) -> np.ndarray:
        """The 68 landmarks of iBUG [68, 2], as `ibug_points.ibug_landmarks` derives them."""
        return ibug_landmarks(self.points)


class LandmarkDetector:
    """Pictures to the faces that they show.

    Args:
        networks: "full_range", "landmarks" and "iris" of `network_sets.NETWORK_SETS`; moved and changed.
        device: where it computes.
        dtype: what it computes with; the layers that give coordinates stay float32.
        boxes: the same of the detector, which takes most of the time in large pictures; None: dtype.

    Attributes:
        score: least certainty of the detector.
        flag: least certainty of the mesh network that what it sees is a face.
        sure: a picture whose surest face has less, or in which a face lies, is searched on its other
            three turns too.
    """

    def __init__(
        self,
        networks: Mapping[str, GraphNetwork],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        boxes: torch.dtype | None = None,
    ) -> None:
        self.device, self.dtype, self._boxes = torch.device(device), dtype, boxes or dtype
        ready = {name: n.to(self.device).lower(dtype) for name, n in networks.items()}
        ready["full_range"].lower(self._boxes)
        self._detector = BoxDetector(ready["full_range"], SPECS["full_range"])
        self._mesh = FaceMesh(ready["landmarks"], ready["iris"], dtype)
        self.score, self.flag, self.sure = 0.5, 0.5, 0.8

    @staticmethod
    def load(
        device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> LandmarkDetector:
        """With the networks that `mofa-nvdr networks get landmarks` keeps.

        On a CPU that multiplies bfloat16 itself the detector computes with it: half of its time, and the
        points, which the other networks place in float32, move by a thousandth of a face's width.

        Raises:
            on_request.NetworkMissingError: they are not here; the message has the command.
            ValueError: a damaged file.
        """
        on_cpu = torch.device(device).type == "cpu"
        lower = on_cpu and dtype == torch.float32 and multiplies_bfloat16()
        return LandmarkDetector(load_set(SET), device, dtype, torch.bfloat16 if lower else None)

    @staticmethod
    def is_here() -> bool:
        """Whether the networks of `load` are on this machine."""
        return not missing_members(SET)

    def __call__(self, picture: np.ndarray | Tensor) -> list[Face]:
        """The faces of a picture, the largest first.

        Args:
            picture: bytes [H, W, 3], RGB, row 0 at the top.

        Raises:
            ValueError: not bytes [H, W, 3].
        """
        return self.detect([picture])[0]

    def detect(self, pictures: Sequence[np.ndarray | Tensor]) -> list[list[Face]]:
        """The faces of each of several pictures, of any sizes; faster than one by one.

        Raises:
            ValueError: one is not bytes [H, W, 3].
        """
        tensors = [self._tensor(picture) for picture in pictures]
        batches = [tensors[k : k + _BATCH] for k in range(0, len(tensors), _BATCH)]
        return [faces for batch in batches for faces in self._detect(batch)]

    def points(self, picture: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """(points [478, 2], score) of each face of a picture, as `data.crops.finder` takes them."""
        return [(face.points[:, :2], face.score) for face in self(picture)]

    def _tensor(self, picture: np.ndarray | Tensor) -> Tensor:
        tensor = torch.as_tensor(picture)
        if (
            tensor.ndim != 3
            or tensor.shape[2] != 3
            or not tensor.numel()
            or tensor.dtype != torch.uint8
        ):
            raise ValueError(
                f"LandmarkDetector: a picture is {list(tensor.shape)} {tensor.dtype}, "
                "expected bytes [H, W, 3]"
            )
        return tensor.to(self.device).permute(2, 0, 1)

    @torch.inference_mode()
    def _detect(self, pictures: Sequence[Tensor]) -> list[list[Face]]:
        copies = [_copy(picture) for picture in pictures]
        faces = self._faces(pictures, [merge(r, _REPEAT) for r in self._rows(copies, _VIEWS)])
        unsure = [n for n, f in enumerate(faces) if not self._all_sure(f)]
        if unsure:
            turned = self._turned([pictures[n] for n in unsure], [copies[n] for n in unsure])
            for n, more in zip(unsure, turned):
                faces[n] = _distinct(faces[n] + more)
        return [sorted(f, key=lambda face: -_area(face.box)) for f in faces]

    def _all_sure(self, faces: Sequence[Face]) -> bool:
        """Whether a picture's other turns need not be looked at."""
        best = max((face.score for face in faces), default=0.0)
        return best >= self.sure and all(abs(face.roll) < _LARGEST_ROLL for face in faces)

    def _turned(self, pictures: Sequence[Tensor], copies: Sequence[_Copy]) -> list[list[Face]]:
        """The faces that the detector finds on the other three turns of each picture."""
        rows: list[list[Tensor]] = [[] for _ in pictures]
        for quarters in (1, 2, 3):
            turned = [_Copy(torch.rot90(c.picture, quarters, (1, 2)), 1.0) for c in copies]
            for k, found in enumerate(self._rows(turned, _TURNED_VIEWS)):
                back = _turn_back(found, quarters, copies[k].picture.shape[1:])
                # Turn by turn: a mean over two would have the eyes of neither.
                rows[k].append(merge(_scaled(back, 1 / copies[k].scale), _REPEAT))
        return self._faces(pictures, [torch.cat(r) for r in rows])

    def _rows(
        self, copies: Sequence[_Copy], views: Sequence[tuple[int, float, int]]
    ) -> list[Tensor]:
        """What the detector finds in each copy in all views, in px of the picture that it is a copy of."""
        found: list[list[Tensor]] = [[] for _ in copies]
        for size in dict.fromkeys(view[0] for view in views):
            # Pictures no larger than a view have nothing finer to show.
            looks = [
                (n, share)
                for side, share, longest in views
                for n, copy in enumerate(copies)
                if side == size and max(copy.picture.shape) > longest
            ]
            boxes = [letterbox(copies[n].picture, size, share) for n, share in looks]
            if not boxes:
                continue
            squares = torch.stack([square for square, _ in boxes]).to(self._boxes)
            # Larger batches of large squares are slower: they do not fit into the caches.
            parts = squares.split(max(1, _PIXELS // size**2))
            rows = [r for part in parts for r in self._detector(part, self.score)]
            for (n, _), (_, place), r in zip(looks, boxes, rows):
                found[n].append(_scaled(place.to_picture(r), 1 / copies[n].scale))
        return [torch.cat(rows) for rows in found]

    def _faces(self, pictures: Sequence[Tensor], rows: Sequence[Tensor]) -> list[list[Face]]:
        """The faces at a detector's rows of each picture."""
        points, flags = self._mesh.points(pictures, [squares_of_boxes(r) for r in rows])
        rough = [flag >= _FIRST_FLAG for flag in flags]
        squares = [squares_of_points(p[k]) for p, k in zip(points, rough)]
        points, flags = self._mesh.points(pictures, squares, both_ways=True)
        good = [(f >= self.flag) & p.isfinite().flatten(1).all(1) for p, f in zip(points, flags)]
        points = [p[k] for p, k in zip(points, good)]
        scores = [(r[k, -1] * f)[g] for r, k, f, g in zip(rows, rough, flags, good)]
        whole = [torch.cat(both, 1) for both in zip(points, self._mesh.irises(pictures, points))]
        return [
            _distinct([_face(*values) for values in zip(p, score, roll_of_points(p))])
            for p, score in zip(whole, scores)
        ]


@dataclass(frozen=True)
class _Copy:
    """A picture, reduced by `scale` where it is large."""

    picture: Tensor
    scale: float


def _copy(picture: Tensor) -> _Copy:
    height, width = picture.shape[1:]
    scale = min(1.0, _LONGEST / max(height, width))
    if scale == 1:
        return _Copy(picture, 1.0)
    small = resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))
    return _Copy(small.round().clamp(0, 255).to(torch.uint8), scale)


def _scaled(rows: Tensor, scale: float) -> Tensor:
    return torch.cat([rows[:, :-1] * scale, rows[:, -1:]], 1)


def _turn_back(rows: Tensor, quarters: int, size: Sequence[int]) -> Tensor:
    """Rows of a picture that torch.rot90 has turned counterclockwise, in px of the picture."""
    height, width = size
    places = rows[:, :-1].unflatten(1, (-1, 2))
    x, y = places[..., 0], places[..., 1]
    if quarters == 1:
        x, y = width - y, x
    elif quarters == 2:
        x, y = width - x, height - y
    else:
        x, y = y, height - x
    places = torch.stack([x, y], -1)
    corners = places[:, :2]
    places = torch.cat(
        [corners.amin(1, keepdim=True), corners.amax(1, keepdim=True), places[:, 2:]], 1
    )
    assert places.shape[1] * 2 + 1 == COLUMNS
    return torch.cat([places.flatten(1), rows[:, -1:]], 1)


def _face(points: Tensor, score: Tensor, roll: Tensor) -> Face:
    low, high = points[:, :2].amin(0).tolist(), points[:, :2].amax(0).tolist()
    return Face((*low, *high), score.item(), points.cpu().numpy(), roll.item())


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Without those that a surer one covers."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        boxes = torch.tensor([f.box for f in kept]).reshape(-1, 4)
        if not (overlaps(torch.tensor([face.box]), boxes) > _REPEAT).any():
            kept.append(face)
    return kept


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
