"""The landmark term of fitting (Eq. 9): its energy, and rows of its Jacobian.

Each landmark has a deviation: how far detected points scatter about its place on the face model. One that is
far off counts the less.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian, Pose, SurfacePoints
from mofa_nvdr.apply.fit_colors import Rows, robust, robust_weight
from mofa_nvdr.apply.shut_lips import lips_down, shut_share
from mofa_nvdr.face.dense_landmarks import DENSE_INNER_LIPS, EYELIDS, NUM_DENSE
from mofa_nvdr.face.landmarks import JAW, NUM_LANDMARKS, OPENINGS
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import Geometry

_PX_PER_MM = 1087.5 / 857.9 / 240  # of a face in the training framing, in sides of the picture
_LANDMARK_FLOOR = 1.0 / 240  # deviation of a detected point in addition to its spread, in sides
_OPENING_SPREAD = 0.4  # mm, of how far two points of lids or lips are apart
# mm: lips that seem to be shut overlap by so much, with Laplace's distribution of this scale about it,
# rounded. Its pull is the same at any distance: shut lips stay together, and those that the photograph shows
# to be far apart do not. Without an overlap a hundredth of a millimetre shows teeth.
_OVERLAP, _MEETING_SCALE, _MEETING_ROUND = 0.5, 0.1, 0.1
_IBUG_SPREAD, _JAW_SPREAD = 2.0, 6.0  # mm, of 68 landmarks; the jaw line slides over the skin
# Of five points, the landmarks that each is in the middle of: eyes, tip of the nose, corners of the mouth.
_FIVE = ((36, 39), (42, 45), (30, 30), (48, 48), (54, 54))
# (upper, lower) points of lids and of the lips' inner edges, whose distance counts of its own: where they are
# is known to some 2 mm, whether they meet far better.
_PAIRS = {len(_FIVE): (), NUM_LANDMARKS: OPENINGS, NUM_DENSE: (*EYELIDS, *DENSE_INNER_LIPS)}
# Points of the subject's right and left eye: among five, and their outer corners among 68 and among 478.
_EYES = {len(_FIVE): (0, 1), NUM_LANDMARKS: (36, 45), NUM_DENSE: (33, 263)}


class LandmarkTerm:
    """Landmarks of photographs, and the points of the face model that they are of.

    Args:
        model: the face model.
        jacobian: of it, with the camera at the size at which photographs are compared.
        marks: [B, N, 2] px at that size, NaN: unknown; N is 5, 68 or 478.
        edges: int64 [K, 2], vertices of the upper and the lower lip's edge that meet when a mouth is shut;
            None: unknown.

    Raises:
        ValueError: another number of landmarks, or the face model has no places for 478.
    """

    def __init__(
        self,
        model: FaceModel,
        jacobian: FaceJacobian,
        marks: Tensor,
        edges: Tensor | None = None,
    ) -> None:
        self.marks = marks
        self._jacobian = jacobian
        self._points, spread = _points_of(model, marks.shape[1])
        size = jacobian.camera.size[0]
        floor = torch.tensor(_LANDMARK_FLOOR * size)
        self.deviation = torch.hypot(spread * (_PX_PER_MM * size), floor)  # [N] px
        self._known = marks.isfinite().all(2) & self.deviation.isfinite()
        self._pairs = torch.tensor(_PAIRS[marks.shape[1]], dtype=torch.long).view(-1, 2)
        self._gap = torch.hypot(torch.tensor(_OPENING_SPREAD * _PX_PER_MM * size), floor)  # px
        # Lips of a mouth that is shut meet, whatever the gap that the detector sees there.
        self._edges = torch.zeros(0, 2, dtype=torch.long) if edges is None else edges
        self._px = _PX_PER_MM * size
        self._shut = shut_share(marks) * bool(len(self._edges))  # [B]
        overlap = -_OVERLAP * self._px
        self._meeting = (
            overlap * lips_down(marks)[:, None] if self._shut.any() else None
        )  # [B, 1, 2]
        lips = torch.tensor([pair in DENSE_INNER_LIPS for pair in _PAIRS[marks.shape[1]]])
        self._pair_share = 1 - self._shut[:, None] * lips  # [B, pairs]

    def energy(self, geometry: Geometry) -> Tensor:
        """[B], half of squared distances in deviations, robust."""
        away = self._away(geometry)
        squared = (away / self.deviation[:, None]).square().sum(-1)
        total = (robust(squared) * self._known).nan_to_num(0.0).sum(1)
        upper, lower = self._pairs.T
        gap = ((away[:, upper] - away[:, lower]) / self._gap).square().sum(-1)
        both = (self._known[:, upper] & self._known[:, lower]) * self._pair_share
        total = total + (robust(gap) * both).nan_to_num(0.0).sum(1)
        if self._meeting is None:
            return total
        above, below = self._jacobian.camera.project(geometry.vertices[:, self._edges]).unbind(2)
        off = self._rounded(below - above - self._meeting) / self._px - _MEETING_ROUND  # [B, K] mm
        return total + (off.mean(1) / _MEETING_SCALE * self._shut).nan_to_num(0.0)

    def distance(self, geometry: Geometry) -> Tensor:
        """Mean distance [B] of landmarks and the points that they are of, px; NaN where none is known."""
        away = self._away(geometry).norm(dim=-1)
        return torch.where(self._known, away, torch.nan).nanmean(1)

    def _away(self, geometry: Geometry) -> Tensor:
        """From the landmarks to the points of faces, [B, N, 2] px."""
        corners = geometry.vertices[:, self._points.corners]
        places = (corners * self._points.shares[..., None]).sum(2)
        return self._jacobian.camera.project(places) - self.marks

    def rows(self, b: int, pose: Pose, weight: float) -> Rows:
        """Rows [N, 2, 257] of one photograph's known landmarks and openings, times the term's weight."""
        known = self._known[b]
        points = SurfacePoints(self._points.corners[known], self._points.shares[known])
        projected, rows = self._jacobian.projections(points, pose)
        away = projected - self.marks[b, known]
        deviation = self.deviation[known]
        squared = (away / deviation[:, None]).square().sum(1)
        weights = robust_weight(squared) / deviation.square()
        place = known.cumsum(0) - 1  # of each landmark among the known ones
        both = known[self._pairs].all(1)
        upper, lower = place[self._pairs[both]].T
        gaps = away[upper] - away[lower]
        of_gaps = robust_weight((gaps / self._gap).square().sum(1)) / self._gap.square()
        of_gaps = of_gaps * self._pair_share[b, both]
        out = Rows(
            torch.cat([rows, rows[upper] - rows[lower]]),
            torch.cat([away, gaps]),
            weight * torch.cat([weights, of_gaps]),
        )
        if self._meeting is None or not self._shut[b]:
            return out
        return self._with_meeting(out, self._meeting[b], pose, weight * float(self._shut[b]))

    def _with_meeting(self, rows: Rows, meeting: Tensor, pose: Pose, weight: float) -> Rows:
        """And those of the edges of lips that are shut, which are to be `meeting` [1, 2] px apart."""
        corners = self._edges.T.reshape(-1, 1).expand(-1, 3)
        shares = pose.vertices.new_tensor([1.0, 0, 0]).expand(len(corners), 3)
        places, ways = self._jacobian.projections(SurfacePoints(corners, shares), pose)
        above, below = places.chunk(2)
        off = below - above - meeting
        weights = 1 / self._rounded(off) / self._px / _MEETING_SCALE / len(self._edges)
        upper, lower = ways.chunk(2)
        return Rows(
            torch.cat([rows.rows, lower - upper]),
            torch.cat([rows.away, off]),
            torch.cat([rows.weight, weight * weights]),
        )

    def _rounded(self, apart: Tensor) -> Tensor:
        """Lengths [...] of differences [..., 2], px, that do not fall below the rounding."""
        return (apart.square().sum(-1) + (_MEETING_ROUND * self._px) ** 2).sqrt()

    def roll(self) -> Tensor:
        """How far faces are tilted, clockwise as seen, by their eyes, [B] radians."""
        right, left = _EYES[self.marks.shape[1]]
        along = (self.marks[:, left] - self.marks[:, right]).nan_to_num(0.0)
        return torch.atan2(along[:, 1], along[:, 0])


def _points_of(model: FaceModel, count: int) -> tuple[SurfacePoints, Tensor]:
    """The points of the surface that landmarks are of, and their spread [N] mm; infinite without a place."""
    places = model.dense_landmarks
    if count == NUM_LANDMARKS:
        shares = torch.zeros(count, 3)
        shares[:, 0] = 1
        spread = torch.full((count,), _IBUG_SPREAD)
        spread[: len(JAW)] = _JAW_SPREAD
        return SurfacePoints(model.landmarks[:, None].expand(-1, 3), shares), spread
    if count == len(_FIVE):
        corners = model.landmarks[torch.tensor(_FIVE)]  # [5, 2]
        shares = torch.tensor([0.5, 0.5, 0.0]).expand(count, 3)
        return SurfacePoints(torch.cat([corners, corners[:, 1:]], 1), shares), torch.full(
            (count,), _IBUG_SPREAD
        )
    if count != NUM_DENSE:
        numbers = f"{len(_FIVE)}, {NUM_LANDMARKS} or {NUM_DENSE}"
        raise ValueError(f"fit: {count} landmarks, expected {numbers}")
    if places is None:
        raise ValueError(
            f"fit: face model {model.name} has no places for {NUM_DENSE} landmarks; give {NUM_LANDMARKS}, "
            "or import the model again with the landmark networks here"
        )
    spread = torch.where(places.known, places.spread, torch.inf)
    return SurfacePoints(places.vertices, places.weights), spread
