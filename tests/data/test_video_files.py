"""Clips read frame by frame and written; the files are made by ffmpeg in the tests."""

from fractions import Fraction

import numpy as np
import pytest

from mofa_nvdr.data import video_files
from mofa_nvdr.data.video_files import (
    FrameFolder,
    VideoError,
    VideoExtraError,
    VideoFile,
    clips_among,
    is_video,
)
from mofa_nvdr.data.video_writing import VideoWriter, rate_of
from mofa_nvdr.render.pictures import write_png
from tests.helpers.clips import ffmpeg, needs_ffmpeg, pattern, with_sound, write_clip, write_sound


def bar(pixels: np.ndarray) -> float:
    """Where the bright bar of `pattern` is, 0 to 1 from the left."""
    bright = pixels.mean((0, 2)) > 130
    return float(np.flatnonzero(bright).mean() / pixels.shape[1])


@pytest.fixture
def sound(tmp_path):
    return write_sound(tmp_path / "sound.m4a")


@pytest.fixture
def clip(tmp_path):
    """Twelve frames of 64 x 48 px at 30 a second."""
    return write_clip(tmp_path / "clip.mp4", pattern())


@needs_ffmpeg
class TestVideoFile:
    def test_frames_and_times(self, clip):
        video = VideoFile(clip)
        frames = list(video.frames())
        assert [f.number for f in frames] == list(range(12))
        np.testing.assert_allclose([f.time for f in frames], np.arange(12) / 30, atol=1e-4)
        assert all(f.pixels.shape == (48, 64, 3) and f.pixels.flags.writeable for f in frames)
        # Within a third of a bar's width.
        np.testing.assert_allclose(
            [bar(f.pixels) for f in frames], (np.arange(12) + 0.5) / 12, atol=0.03
        )
        assert (video.damage, video.sound) == ("", "")
        assert len(list(video.frames())) == 12  # again

    def test_sound_is_known(self, clip, sound, tmp_path):
        video = VideoFile(with_sound(clip, sound, tmp_path / "both.mp4"))
        assert len(list(video.frames())) == 12
        assert video.sound == "aac"

    def test_telephones_rotation_is_applied(self, clip, tmp_path):
        path = tmp_path / "turned.mp4"
        ffmpeg("-display_rotation", "90", "-i", str(clip), "-c", "copy", str(path))
        frames = [f.pixels for f in VideoFile(path).frames()]
        assert frames[0].shape == (64, 48, 3)
        upright = [bar(f.transpose(1, 0, 2)) for f in frames]
        assert upright == sorted(upright, reverse=True)  # the bar goes up

    def test_pixels_that_are_no_squares(self, clip, tmp_path):
        path = tmp_path / "wide.mp4"
        ffmpeg("-i", str(clip), "-vf", "setsar=3/2", "-c:v", "libx264", str(path))
        assert next(VideoFile(path).frames()).pixels.shape == (48, 96, 3)

    def test_uneven_times(self, clip, tmp_path):
        path = tmp_path / "uneven.mkv"
        ffmpeg("-i", str(clip), "-vf", "setpts='(N+if(gt(N,5),6,0))/30/TB'", "-fps_mode", "vfr",
               "-c:v", "libx264", str(path))  # fmt: skip
        times = [f.time for f in VideoFile(path).frames()]
        expected = (np.arange(12) + 6 * (np.arange(12) > 5)) / 30
        np.testing.assert_allclose(times, expected, atol=0.002)
        assert rate_of(times) == (30, False)

    def test_few_frames_are_decoded_ahead(self, tmp_path):
        """A long clip is not in memory: the reader takes frames as they come, and may stop."""
        clip = write_clip(tmp_path / "long.mp4", pattern(3) * 400)
        frames = VideoFile(clip).frames()
        assert next(frames).number == 0
        frames.close()  # ffmpeg ends with it

    @pytest.mark.parametrize("ending", ["mkv", "mp4"])
    def test_truncated(self, tmp_path, ending):
        clip = write_clip(tmp_path / "whole.mp4", pattern(60))
        whole, cut = tmp_path / f"whole2.{ending}", tmp_path / f"cut.{ending}"
        ffmpeg("-i", str(clip), "-c", "copy", "-movflags", "+faststart", str(whole))
        data = whole.read_bytes()
        cut.write_bytes(data[: len(data) * 2 // 3])
        video = VideoFile(cut)
        count = len(list(video.frames()))
        assert 5 < count < 60
        assert f"damaged: {count} frames could be decoded, up to " in video.damage
        assert "of 2.0 s" in video.damage and "\n" not in video.damage

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda clip: clip[: len(clip) // 2], "its index is missing: it was cut off"),
            (lambda clip: b"", "its index is missing: it was cut off"),
            (lambda clip: b"#EXTM3U\n#EXTINF:1,\nclip.mp4\n", "or it is no video"),
            (lambda clip: b"ffconcat version 1.0\nfile clip.mp4\n", "cannot read this video"),
        ],
        ids=["cut", "empty", "playlist", "list"],
    )
    def test_unreadable(self, clip, tmp_path, make, words):
        path = tmp_path / "bad.mp4"
        path.write_bytes(make(clip.read_bytes()))
        with pytest.raises(VideoError) as caught:
            list(VideoFile(path).frames())
        assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_only_sound(self, sound, tmp_path):
        path = sound.rename(tmp_path / "sound.mp4")
        with pytest.raises(VideoError, match="no picture in this file, only sound"):
            list(VideoFile(path).frames())

    def test_no_frames(self, tmp_path):
        path = tmp_path / "none.mp4"
        ffmpeg(
            "-f", "lavfi", "-i", "testsrc=size=64x48", "-frames:v", "0", "-c:v", "mpeg4", str(path)
        )
        with pytest.raises(VideoError, match=r"none.mp4: "):
            list(VideoFile(path).frames())

    def test_too_large(self, clip):
        with pytest.raises(VideoError, match="more than --max-megapixels 0.001"):
            list(VideoFile(clip, max_megapixels=0.001).frames())

    def test_missing(self, tmp_path):
        with pytest.raises(VideoError, match="x.mp4: no such file"):
            VideoFile(tmp_path / "x.mp4")


class TestWithoutFfmpeg:
    @pytest.fixture(autouse=True)
    def without(self, monkeypatch):
        import importlib

        real = importlib.import_module

        def missing(name, *more):
            if name == "imageio_ffmpeg":
                raise ImportError(name)
            return real(name, *more)

        monkeypatch.setattr(video_files.importlib, "import_module", missing)

    def test_one_line_with_the_command(self, tmp_path):
        (tmp_path / "x.mp4").write_bytes(b"")
        words = r"x.mp4: reading a video needs ffmpeg: pip install 'mofa-nvdr\[video\]'"
        with pytest.raises(VideoExtraError, match=words):
            VideoFile(tmp_path / "x.mp4")
        with pytest.raises(VideoExtraError, match="writing a video needs ffmpeg"):
            VideoWriter(tmp_path / "y.mp4", Fraction(25))
        assert not video_files.has_ffmpeg()


class TestFrameFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "frames").mkdir()
        for k, frame in enumerate(pattern()):
            write_png(tmp_path / "frames" / f"{k}.png", frame)
            (tmp_path / "frames" / f"{k}.png").write_bytes(_unmarked(frame))
        return tmp_path / "frames"

    def test_in_the_order_of_the_numbers(self, folder):
        frames = list(FrameFolder(folder, 10).frames())
        assert [f.number for f in frames] == list(range(12))  # 10.png after 9.png
        np.testing.assert_allclose([f.time for f in frames], np.arange(12) / 10)
        places = [bar(f.pixels) for f in frames]
        assert places == sorted(places)

    def test_what_cannot_be_read_leaves_its_place_empty(self, folder):
        (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
        (folder / "5.png").write_bytes(_unmarked(np.zeros((20, 30, 3), np.uint8)))
        clip = FrameFolder(folder)
        assert [f.number for f in clip.frames()] == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
        assert clip.damage.startswith("2 frames left out: ") and "3.png" in clip.damage

    def test_mistakes(self, folder, tmp_path):
        with pytest.raises(VideoError, match="--fps is 0, expected more than 0"):
            FrameFolder(folder, 0)
        (tmp_path / "empty").mkdir()
        with pytest.raises(VideoError, match="empty: no pictures in this folder"):
            FrameFolder(tmp_path / "empty")
        for path in folder.iterdir():
            path.write_bytes(b"\x89PNG\r\n\x1a\n")
        with pytest.raises(VideoError, match=r"0.png"):
            list(FrameFolder(folder).frames())


def _unmarked(frame: np.ndarray) -> bytes:
    import imageio.v3 as iio

    return iio.imwrite("<bytes>", frame, extension=".png")


class TestClipsAmong:
    def test_kinds(self, tmp_path):
        assert is_video("A.MOV") and not is_video("a.jpg")
        assert clips_among(["a.mp4", "b.webm"], False) and not clips_among(["a.jpg"], False)
        assert clips_among([tmp_path], True)

    def test_mixtures(self, tmp_path):
        (tmp_path / "x.jpg").touch()
        with pytest.raises(VideoError, match="x.jpg: --clip is for videos and folders of frames"):
            clips_among([tmp_path / "x.jpg"], True)
        with pytest.raises(VideoError, match="a.mp4 is a video and b.jpg is not"):
            clips_among(["a.mp4", "b.jpg"], False)
