"""Faces followed through clips: by a detector and an encoder that know where two squares are."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.clip_tracks import Sighting, Tracker, TrackOptions
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.data.video_files import ClipFrame

FPS = 25.0
_SHAPE = np.random.default_rng(0).random((68, 2))
_SHAPE -= (_SHAPE.min(0) + _SHAPE.max(0)) / 2


class Scene:
    """People as places over time: a function of the frame's number to (x, y, side), or None.

    The frame itself is a colour; `scenes` are the numbers at which it changes.
    """

    def __init__(self, people, scenes=()):
        self.people, self.scenes = people, scenes
        self.number, self.looks, self.reads = 0, 0, 0
        generator = np.random.default_rng(1)
        self.identities = [torch.from_numpy(generator.standard_normal(20)).float() for _ in people]

    def marks(self, who, number=None):
        place = self.people[who](self.number if number is None else number)
        return None if place is None else np.array(place[:2]) + place[2] * _SHAPE

    def find(self, pixels):
        self.looks += 1
        every = [self.marks(who) for who in range(len(self.people))]
        return [crop_from_landmarks(marks) for marks in every if marks is not None]

    def read(self, pixels, crops):
        self.reads += len(crops)
        return [self._sighting(crop) for crop in crops]

    def _sighting(self, crop):
        best = Sighting(crop, torch.zeros(20), 0.05, crop.to_source(_SHAPE + 0.5, 1))
        for who in range(len(self.people)):
            marks = self.marks(who)
            if marks is None:
                continue
            true = crop_from_landmarks(marks)
            apart = np.hypot(crop.left - true.left, crop.top - true.top) / true.side
            certainty = float(np.exp(-8 * (apart + abs(crop.side / true.side - 1)) ** 2))
            if certainty > best.certainty:
                noise = 0.3 * torch.randn(20, generator=torch.Generator().manual_seed(self.number))
                best = Sighting(crop, self.identities[who] + noise, certainty, marks)
        return best

    def follow(self, count=100, options=None):
        tracker = Tracker(self.find, self.read, [slice(0, 20)], options)
        for self.number in range(count):
            scene = sum(self.number >= s for s in self.scenes)
            pixels = np.full((60, 80, 3), (40, 120, 200)[scene % 3], np.uint8)
            tracker.add(ClipFrame(self.number, self.number / FPS, pixels))
        return tracker

    def truth(self, track):
        """Whom each sighting of a track shows."""
        return [
            min(
                (w for w in range(len(self.people)) if self.marks(w, n) is not None),
                key=lambda w, n=n, s=s: np.abs(self.marks(w, n) - s.landmarks).max(),
            )
            for n, s in zip(track.numbers, track.sightings)
        ]


def standing(x=300.0, y=200.0, side=100.0):
    return lambda n: (x, y, side)


class TestTracker:
    def test_one_who_moves(self):
        """A face that crosses half of its own width a tenth of a second, and grows."""
        scene = Scene([lambda n: (100 + 12 * n, 200 + 30 * np.sin(n / 9), 100 * 1.01**n)])
        tracker = scene.follow()
        (track,) = tracker.tracks
        assert track.numbers == list(range(100)) and tracker.cuts == []
        # The detector looks 4 s / 0.4 s times, not 100.
        assert scene.looks <= 11
        assert min(s.certainty for s in track.sightings) > 0.8  # the crop keeps up

    def test_two_who_pass_each_other(self):
        """Their crops overlap half-way; each keeps its own face."""
        scene = Scene([lambda n: (100 + 5 * n, 200, 90), lambda n: (600 - 5 * n, 260, 110)])
        tracker = scene.follow()
        assert len(tracker.tracks) == 2
        assert sorted({tuple(set(scene.truth(t))) for t in tracker.tracks}) == [(0,), (1,)]
        assert all(len(t.numbers) > 90 for t in tracker.tracks)

    def test_one_who_is_hidden_for_a_while(self):
        """Behind something for 0.3 s, and for 2 s: it is the same person."""
        hidden = set(range(20, 28)) | set(range(45, 95))
        scene = Scene([lambda n: None if n in hidden else (300 + n, 200, 100)])
        (track,) = scene.follow(140).tracks
        assert set(track.numbers) == set(range(140)) - hidden

    def test_cuts(self):
        """Two cameras: everybody stands elsewhere, and is known again by the identity."""
        first = (standing(200), standing(700))
        second = (standing(650, 300, 140), standing(150, 260, 120))
        people = [lambda n, w=w: (first, second)[(n // 40) % 2][w](n) for w in range(2)]
        scene = Scene(people, scenes=(40, 80))
        tracker = scene.follow(120)
        assert tracker.cuts == [40, 80]
        assert len(tracker.tracks) == 2
        for track in tracker.tracks:
            assert len(set(scene.truth(track))) == 1 and track.numbers == list(range(120))

    def test_another_person_in_the_same_place_after_a_cut(self):
        place = (300, 200, 100)
        people = [lambda n: place if n < 50 else None, lambda n: place if n >= 50 else None]
        tracker = Scene(people, scenes=(50,)).follow()
        assert [t.numbers for t in tracker.tracks] == [list(range(50)), list(range(50, 100))]

    def test_one_who_comes_in_is_seen_soon(self):
        scene = Scene([standing(200), lambda n: (600, 200, 80) if n >= 33 else None])
        tracker = scene.follow()
        assert 33 <= tracker.tracks[1].numbers[0] <= 33 + 0.4 * FPS + 1

    def test_what_is_no_face(self):
        """A detector's mistake, which the encoder does not believe."""
        scene = Scene([standing()])
        find = scene.find
        scene.find = lambda pixels: [*find(pixels), Crop(600, 50, 100)]
        assert len(scene.follow(30).tracks) == 1

    def test_nobody(self):
        scene = Scene([lambda n: None])
        tracker = scene.follow(20)
        assert tracker.tracks == [] and scene.reads == 0
        assert scene.looks == 20  # until somebody is there it looks at every frame

    def test_one_face_found_twice(self):
        scene = Scene([standing()])
        find = scene.find
        scene.find = lambda pixels: [
            c for one in find(pixels) for c in (one, Crop(one.left + 8, one.top, one.side))
        ]
        assert len(scene.follow(20).tracks) == 1

    @pytest.mark.parametrize("begin", [0.2, 0.99])
    def test_options(self, begin):
        scene = Scene([standing()])
        find = scene.find
        # Off by so much that the first look is no more than half certain, the second one is.
        scene.find = lambda pixels: [Crop(c.left + 20, c.top, c.side) for c in find(pixels)]
        assert len(scene.follow(5, TrackOptions(begin=begin)).tracks) == 1

    def test_presence(self):
        tracker = Scene([standing(side=50.0), standing(700.0, side=100.0)]).follow(10)
        small, large = sorted(t.presence for t in tracker.tracks)
        assert large == pytest.approx(2 * small, rel=0.01)
