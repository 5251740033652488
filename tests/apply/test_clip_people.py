"""One person of a track: nothing is smoothed over cuts."""

import numpy as np
import torch

from mofa_nvdr.apply.clip_people import finish_track
from mofa_nvdr.apply.clip_tracks import Tracker
from mofa_nvdr.data.video_files import ClipFrame
from tests.helpers.clips import FPS


class TestFinishTrack:
    def test_cuts_are_not_smoothed_over(self, film):
        """A person who stands elsewhere after a cut: neither side knows of the other."""
        film.noise = 0.3
        layout = film.model.layout.slices
        tracker = Tracker(film.find, film.read, [layout["shape"], layout["albedo"]])
        for k in range(16):
            tracker.add(ClipFrame(k, k / FPS, film.frame(k, faces=False)))
        track = max(tracker.tracks, key=lambda t: t.presence)
        at = {k: k / FPS for k in range(16)}
        whole = finish_track(track, at, [8], film.model, film.own, film.camera)
        track.sightings[8:] = [track.sightings[8]] * 8  # another scene
        other = finish_track(track, at, [8], film.model, film.own, film.camera)
        np.testing.assert_array_equal(whole.frame, other.frame)
        torch.testing.assert_close(
            whole.code.expression[:8], other.code.expression[:8], atol=1e-5, rtol=0
        )
