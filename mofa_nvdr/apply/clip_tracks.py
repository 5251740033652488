"""Which faces of a clip's frames are one person's: tracks, through gaps, cuts and other people.

A track goes on where its face was, as the reconstruction itself shows: the crop of a frame comes from the
landmarks of the one before. A detector looks only now and then, when a face is lost, and after cuts. Who
comes back is known by shape and albedo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.data.video_files import ClipFrame


@dataclass(frozen=True)
class Sighting:
    """A face as one frame shows it.

    Attributes:
        crop: what of the frame was looked at.
        code: [257] of that crop.
        certainty: that a face is there, 0 to 1.
        landmarks: [68, 2] px of the frame.
    """

    crop: Crop
    code: Tensor
    certainty: float
    landmarks: np.ndarray


Find = Callable[[np.ndarray], Sequence[Crop]]
"""The crops of the faces that a detector sees in a frame, bytes [H, W, 3]."""
Read = Callable[[np.ndarray, Sequence[Crop]], Sequence[Sighting]]
"""What an encoder sees in some crops of a frame, in their order."""


@dataclass(frozen=True)
class TrackOptions:
    """How faces are followed.

    Attributes:
        keep, begin: least certainty with which a track goes on, and with which one begins.
        patience: s for which a lost face is still looked for where it was.
        every: s between two looks of the detector, for faces that come in.
        same: least likeness, -1 to 1, by which a face that comes is one that was there before.
    """

    keep: float = 0.3
    begin: float = 0.5
    patience: float = 0.5
    every: float = 0.4
    same: float = 0.6


@dataclass
class Track:
    """The sightings of one person.

    Attributes:
        numbers, times: of the frames, in order.
        sightings: as many.
        identity: [I] mean of what tells people apart in the codes.
        run: how many sightings there were since it was found anew.
    """

    numbers: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    identity: Tensor = field(default_factory=lambda: torch.zeros(0))
    run: int = 0

    @property
    def presence(self) -> float:
        """How much of the clip it fills: the sum of its crops' sides, px."""
        return float(sum(s.crop.side for s in self.sightings))


_SEEN_AGAIN = 0.3  # overlap from which a detection is a face that is followed already
_SAME_PLACE = 0.35  # sides of the crop between two faces that are one
_OFF = 0.04  # sides by which a crop may miss its face before it is cut again
_MOST_GROWTH = 1.6  # of a crop between two frames
_DAMPED = 0.7  # of a face's velocity that is expected to go on
_NEAR = 0.3  # likeness that is not asked of a face that comes back to where it was
_THUMB = 24  # px
_CUT, _CUT_FACTOR = (
    0.10,
    4.0,
)  # mean change of colours at a cut, and times that of the frames before
_RECENT = 30


class Tracker:
    """Follows faces from frame to frame.

    Args:
        find: the detector.
        read: the encoder.
        identity: slices of the code that tell people apart.
        options: None: the defaults.

    Attributes:
        tracks: all so far.
        cuts: numbers of frames that begin another scene.
    """

    def __init__(
        self, find: Find, read: Read, identity: Sequence[slice], options: TrackOptions | None = None
    ) -> None:
        self._find, self._read, self._identity = find, read, list(identity)
        self.options = options or TrackOptions()
        self.tracks: list[Track] = []
        self.cuts: list[int] = []
        self._active: list[Track] = []
        self._looked = -np.inf
        self._thumb: np.ndarray | None = None
        self._changes: list[float] = []

    def add(self, frame: ClipFrame) -> None:
        """Look at the next frame."""
        o = self.options
        if self._is_cut(frame.pixels):
            self.cuts.append(frame.number)
            self._active = []
        followed = [t for t in self._active if frame.time - t.times[-1] <= o.patience]
        lost = [t for t in followed if t.numbers[-1] < frame.number - 1]
        found: list[Crop] = []
        if lost or not followed or frame.time - self._looked >= o.every:
            found, self._looked = list(self._find(frame.pixels)), frame.time
        expected = [_expected(track, frame.time) for track in followed]
        for k, track in enumerate(followed):
            near = [crop for crop in found if _overlap(crop, expected[k]) >= _SEEN_AGAIN]
            if near and track in lost:  # where the detector sees it is better than a guess
                expected[k] = max(near, key=lambda crop: _overlap(crop, expected[k]))
        fresh = [c for c in found if all(_overlap(c, e) < _SEEN_AGAIN for e in expected)]
        seen = self._look(frame.pixels, [*expected, *fresh])
        taken: list[Sighting] = []
        for track, crop, sighting in self._by_certainty(followed, expected, seen):
            growth = sighting.crop.side / crop.side
            ok = sighting.certainty >= o.keep and 1 / _MOST_GROWTH < growth < _MOST_GROWTH
            if ok and not any(_same_place(sighting, other) for other in taken):
                self._append(track, frame, sighting)
                taken.append(sighting)
        self._active = followed
        for sighting in seen[len(followed) :]:
            if sighting.certainty < o.begin or any(_same_place(sighting, t) for t in taken):
                continue
            track = self._known(frame, sighting) or self._new()
            track.run = 0
            self._append(track, frame, sighting)
            taken.append(sighting)
            if track not in self._active:
                self._active.append(track)

    def _look(self, pixels: np.ndarray, crops: list[Crop]) -> list[Sighting]:
        """Sightings in crops; those that miss their face are cut once more, around it."""
        if not crops:
            return []
        seen = list(self._read(pixels, crops))
        again = []
        for k, sighting in enumerate(seen):
            framed = crop_from_landmarks(sighting.landmarks)
            if sighting.certainty >= self.options.keep / 2 and _off(framed, crops[k]) > _OFF:
                again.append((k, framed))
        better = self._read(pixels, [crop for _, crop in again]) if again else []
        for (k, _), sighting in zip(again, better):
            if sighting.certainty >= seen[k].certainty - 0.1:
                seen[k] = sighting
        return seen

    @staticmethod
    def _by_certainty(
        tracks: list[Track], crops: list[Crop], seen: list[Sighting]
    ) -> list[tuple[Track, Crop, Sighting]]:
        """The older and surer first: where two tracks have come to one face, it is the first one's."""
        every = list(zip(tracks, crops, seen))
        return sorted(every, key=lambda item: -item[2].certainty * min(len(item[0].numbers), 30))

    def _known(self, frame: ClipFrame, sighting: Sighting) -> Track | None:
        """The track that a face which comes in belongs to; None: it is a new one."""
        best, track = self.options.same, None
        for other in self.tracks:
            if other.numbers[-1] == frame.number:
                continue
            likeness = self._likeness(other, sighting)
            here = not self.cuts or other.numbers[-1] >= self.cuts[-1]
            if here and _overlap(other.sightings[-1].crop, sighting.crop) > _SEEN_AGAIN:
                likeness += _NEAR
            if likeness > best:
                best, track = likeness, other
        return track

    def _likeness(self, track: Track, sighting: Sighting) -> float:
        """The cosine of the angle between two faces' identities."""
        a, b = track.identity, self._identity_of(sighting)
        return float((a @ b) / (a.norm() * b.norm()).clamp(min=1e-9))

    def _identity_of(self, sighting: Sighting) -> Tensor:
        return torch.cat([sighting.code[part] for part in self._identity]).float()

    def _new(self) -> Track:
        self.tracks.append(Track())
        return self.tracks[-1]

    def _append(self, track: Track, frame: ClipFrame, sighting: Sighting) -> None:
        track.numbers.append(frame.number)
        track.times.append(frame.time)
        track.sightings.append(sighting)
        track.run += 1
        own = self._identity_of(sighting)
        if len(track.numbers) == 1:
            track.identity = own
        else:  # a mean that old frames leave slowly
            track.identity = track.identity.lerp(own, 1 / min(len(track.numbers), 100))

    def _is_cut(self, pixels: np.ndarray) -> bool:
        height, width = pixels.shape[:2]
        rows = np.linspace(0, height - 1, _THUMB).astype(int)
        columns = np.linspace(0, width - 1, _THUMB).astype(int)
        thumb = pixels[rows[:, None], columns].astype(np.float32) / 255
        before, self._thumb = self._thumb, thumb
        if before is None:
            return False
        change = float(np.abs(thumb - before).mean())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        self._changes = [*self._changes[1 - _RECENT :], change]
        return change > _CUT and change > _CUT_FACTOR * usual


def _expected(track: Track, time: float) -> Crop:
    """Where a track's face is looked for at a time."""
    marks = track.sightings[-1].landmarks
    if track.run > 1 and track.times[-1] > track.times[-2]:
        moved = (marks - track.sightings[-2].landmarks).mean(0)
        share = min((time - track.times[-1]) / (track.times[-1] - track.times[-2]), 3.0)
        marks = marks + _DAMPED * share * moved
    return crop_from_landmarks(marks)


def _overlap(a: Crop, b: Crop) -> float:
    """Intersection over union."""
    width = min(a.left + a.side, b.left + b.side) - max(a.left, b.left)
    height = min(a.top + a.side, b.top + b.side) - max(a.top, b.top)
    common = max(width, 0.0) * max(height, 0.0)
    return common / (a.side**2 + b.side**2 - common)


def _off(a: Crop, b: Crop) -> float:
    """How far a crop's edges are from those of another, in the other's sides."""
    edges = [(c.left, c.top, c.left + c.side, c.top + c.side) for c in (a, b)]
    return max(abs(p - q) for p, q in zip(*edges)) / b.side


def _same_place(a: Sighting, b: Sighting) -> bool:
    apart = np.linalg.norm(a.landmarks.mean(0) - b.landmarks.mean(0))
    return bool(apart < _SAME_PLACE * min(a.crop.side, b.crop.side))
