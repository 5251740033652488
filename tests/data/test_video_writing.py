"""Clips written and read again: rates, odd sides, sound."""

from fractions import Fraction

import numpy as np
import pytest

from mofa_nvdr.data.video_files import VideoError, VideoFile
from mofa_nvdr.data.video_writing import FolderWriter, VideoWriter, rate_of
from mofa_nvdr.render.pictures import write_png
from tests.helpers.clips import ffmpeg, needs_ffmpeg, pattern, with_sound, write_clip, write_sound


@pytest.fixture
def sound(tmp_path):
    return write_sound(tmp_path / "sound.m4a")


@pytest.fixture
def clip(tmp_path):
    """Twelve frames of 64 x 48 px at 30 a second."""
    return write_clip(tmp_path / "clip.mp4", pattern())


class TestRateOf:
    @pytest.mark.parametrize(
        ("rate", "clock"),
        [(Fraction(30000, 1001), 1e-3), (Fraction(25), 1e-3), (Fraction(60), 1e-3),
         (Fraction(24), 1 / 90000)],
    )  # fmt: skip
    def test_of_cameras(self, rate, clock):
        times = np.round(np.arange(100) / float(rate) / clock) * clock
        assert rate_of(times) == (rate, True)

    def test_of_others(self):
        rate, even = rate_of(np.arange(50) / 17.0)
        assert even and float(rate) == pytest.approx(17, rel=1e-3)
        assert rate_of([0.0]) == (25, True)
        gap = np.delete(np.arange(40) / 30, [11, 12])
        assert rate_of(gap) == (30, False)


@needs_ffmpeg
class TestVideoWriter:
    def test_odd_sides_and_sound(self, clip, sound, tmp_path):
        source = VideoFile(with_sound(clip, sound, tmp_path / "both.mp4"))
        list(source.frames())
        frames = [f[:47, :63] for f in pattern()]
        with VideoWriter(tmp_path / "out.mp4", Fraction(30), source, comment="a comment") as writer:
            for frame in frames:
                writer.add(frame)
        assert writer.note == "with its sound (aac, copied)"
        result = VideoFile(tmp_path / "out.mp4")
        read = list(result.frames())
        assert result.sound == "aac" and result.damage == ""
        assert [f.pixels.shape for f in read] == [(48, 64, 3)] * 12
        np.testing.assert_allclose([f.time for f in read], np.arange(12) / 30, atol=1e-3)
        # Colours come back: 4:2:0 and H.264 cost 2 levels here.
        for f, frame in zip(read, frames):
            assert np.abs(f.pixels[:47, :63].astype(float) - frame).mean() < 6
        assert b"a comment" in (tmp_path / "out.mp4").read_bytes()
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []

    def test_sound_that_players_do_not_take_is_encoded(self, clip, tmp_path):
        path = tmp_path / "pcm.mkv"
        ffmpeg("-i", str(clip), "-f", "lavfi", "-i", "sine=duration=0.4", "-c:v", "copy", "-c:a", "pcm_s16le",
               str(path))  # fmt: skip
        source = VideoFile(path)
        frames = [f.pixels for f in source.frames()]
        with VideoWriter(tmp_path / "out.mp4", Fraction(30), source) as writer:
            for frame in frames:
                writer.add(frame)
        assert writer.note == "with its sound (pcm_s16le as aac)"

    def test_pictures_that_begin_after_the_sound(self, clip, sound, tmp_path):
        """The picture stays where it was in time."""
        path = tmp_path / "late.mkv"
        ffmpeg("-i", str(sound), "-itsoffset", "0.2", "-i", str(clip), "-map", "1:v", "-map", "0:a",
               "-c", "copy", str(path))  # fmt: skip
        source = VideoFile(path)
        frames = list(source.frames())
        assert frames[0].time == pytest.approx(0.2, abs=0.03)
        with VideoWriter(tmp_path / "out.mp4", Fraction(30), source, frames[0].time) as writer:
            for frame in frames:
                writer.add(frame.pixels)
        result = VideoFile(tmp_path / "out.mp4")
        assert next(result.frames()).time == pytest.approx(frames[0].time, abs=0.03)

    def test_an_error_leaves_nothing(self, tmp_path):
        with pytest.raises(KeyError):
            with VideoWriter(tmp_path / "out.mp4", Fraction(30)) as writer:
                writer.add(pattern()[0])
                raise KeyError
        with pytest.raises(OSError, match="no frame was written"):
            with VideoWriter(tmp_path / "out.mp4", Fraction(30)):
                pass
        assert list(tmp_path.iterdir()) == []

    def test_its_own_clips_are_not_read(self, tmp_path):
        comment = "mofa-nvdr (clip) mofa-nvdr source " + 32 * "0"
        with VideoWriter(tmp_path / "out.mp4", Fraction(30), comment=comment) as writer:
            for frame in pattern():
                writer.add(frame)
        with pytest.raises(VideoError, match="a clip that mofa-nvdr wrote, not a recording"):
            list(VideoFile(tmp_path / "out.mp4").frames())


def test_folder_writer(tmp_path):
    with FolderWriter(tmp_path / "out", write_png) as writer:
        for frame in pattern(3):
            writer.add(frame)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "000001.png", "000002.png", "000003.png"
    ]  # fmt: skip
