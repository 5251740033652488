"""Clips from files to files: people whose truth is known, filmed, followed, smoothed, drawn and saved."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.apply import clip_files, clips
from mofa_nvdr.apply.clip_files import reconstruct_clips
from mofa_nvdr.apply.clip_parameters import load_clip
from mofa_nvdr.apply.clips import ClipOptions
from mofa_nvdr.apply.result_files import NothingWrittenError
from mofa_nvdr.data.video_files import VideoFile
from tests.helpers.clips import COUNT, FPS, GAP, ffmpeg, needs_ffmpeg, write_clip


def pictures(path: Path):
    return [f.pixels for f in VideoFile(path, own=True).frames()]


@needs_ffmpeg
class TestReconstructClips:
    def test_portrait_video_with_sound(self, film, frames, video, filming, tmp_path, capsys):
        (path,) = reconstruct_clips([video], filming, tmp_path)
        assert path == tmp_path / "clip.npz"
        said = capsys.readouterr().out
        assert f"{video}: 2 people in {COUNT} of {COUNT} frames: {path}, " in said
        assert "clip_overlay.mp4 with its sound (aac, copied)" in said
        clip = load_clip(path)
        assert (clip.source, clip.num_frames, clip.rate) == ("clip.mp4", COUNT, FPS)
        assert clip.camera.size == (216, 166) and clip.cuts.tolist() == []
        first, second = clip.tracks
        assert first.frame.tolist() == second.frame.tolist() == list(range(COUNT))
        assert first.seen.all()
        assert np.flatnonzero(~second.seen).tolist() == list(GAP)  # filled in
        assert np.isnan(second.certainty[GAP.start]) and second.certainty[0] > 0.5
        for who, track in enumerate(clip.tracks):
            # Noise of 1.5 px at this size was in every frame.
            away = np.linalg.norm(track.landmarks68 - film.marks[who], axis=-1)
            assert away.mean() < 1.0
            assert (track.code.shape == track.code.shape[:1]).all()
        overlay = VideoFile(tmp_path / "clip_overlay.mp4", own=True)
        drawn = list(overlay.frames())
        assert overlay.sound == "aac"
        np.testing.assert_allclose([f.time for f in drawn], np.arange(COUNT) / FPS, atol=1e-3)
        assert all(f.pixels.shape == (216, 166, 3) for f in drawn)
        # The drawn faces are those of the film, and the wall is as it was.
        change = np.abs(drawn[10].pixels.astype(float) - frames[10])
        # Measured 6.4 levels, of faces whose light and albedo had noise.
        assert change.mean() < 9 and change[100:115, :20].mean() < 3

    def test_again_and_elsewhere(self, video, filming, tmp_path, frames):
        options = ClipOptions(overlay=False)
        reconstruct_clips([video], filming, tmp_path, options)
        before = (tmp_path / "clip.npz").read_bytes()
        reconstruct_clips([video], filming, tmp_path, options)  # its own result
        assert not (tmp_path / "clip_overlay.mp4").exists()
        other = write_clip(tmp_path / "clip.mkv", frames[:5], str(FPS))
        with pytest.raises(NothingWrittenError, match="clip.npz is there, and no result of it"):
            reconstruct_clips([other], filming, tmp_path, options)
        assert load_clip(tmp_path / "clip.npz").num_frames == COUNT and before
        reconstruct_clips([other], filming, tmp_path, ClipOptions(overlay=False, overwrite=True))
        assert load_clip(tmp_path / "clip.npz").num_frames == 5
        (tmp_path / "o").mkdir()
        (tmp_path / "o" / "clip_overlay.mp4").write_bytes(b"mine")
        with pytest.raises(NothingWrittenError, match="clip_overlay.mp4 is there"):
            reconstruct_clips([video], filming, tmp_path / "o", options)

    def test_uneven_times(self, film, frames, filming, tmp_path):
        """The parameters keep the frames' own times; the video is even, and as long."""
        even = write_clip(tmp_path / "even.mp4", frames, str(FPS))
        uneven = tmp_path / "uneven.mkv"
        ffmpeg("-i", str(even), "-vf", f"setpts='(N+if(gt(N,9),8,0))/{FPS}/TB'", "-fps_mode", "vfr",
               "-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", str(uneven))  # fmt: skip
        reconstruct_clips([uneven], filming, tmp_path / "o")
        clip = load_clip(tmp_path / "o" / "uneven.npz")
        expected = (np.arange(COUNT) + 8 * (np.arange(COUNT) > 9)) / FPS
        np.testing.assert_allclose(clip.tracks[0].time, expected, atol=0.002)
        drawn = [film.number(p) for p in pictures(tmp_path / "o" / "uneven_overlay.mp4")]
        assert len(drawn) == COUNT + 8
        assert drawn[:10] == list(range(10)) and drawn[-14:] == list(range(10, 24))
        assert set(drawn[10:18]) == {9, 10}  # repeated while nothing came

    def test_damaged(self, frames, filming, tmp_path, capsys):
        whole = write_clip(tmp_path / "whole.mkv", frames, str(FPS))
        data = whole.read_bytes()
        (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
        (path,) = reconstruct_clips([tmp_path / "cut.mkv"], filming, tmp_path / "o")
        said = capsys.readouterr().err
        count = load_clip(path).num_frames
        assert 3 < count < COUNT
        assert f"WARNING: {tmp_path / 'cut.mkv'}: damaged: {count} frames could be decoded" in said

    def test_nobody_in_it(self, film, filming, tmp_path, monkeypatch):
        wall = [film.frame(k, faces=False) for k in range(6)]
        path = write_clip(tmp_path / "wall.mp4", wall)
        monkeypatch.setattr(clips, "face_finder", lambda: lambda pixels: [])
        with pytest.raises(NothingWrittenError, match="wall.mp4: no face found in 6 frames"):
            reconstruct_clips([path], filming, tmp_path / "o")
        assert list((tmp_path / "o").iterdir()) == []

    def test_whose_face(self, video, filming, tmp_path):
        def tracks(face):
            options = ClipOptions(face=face, overlay=False)
            (path,) = reconstruct_clips([video], filming, tmp_path, options)
            return load_clip(path).tracks

        both = tracks("all")
        assert [len(tracks(face)) for face in ("largest", "1", "2")] == [1, 1, 1]
        np.testing.assert_array_equal(tracks("2")[0].landmarks68, both[1].landmarks68)
        with pytest.raises(NothingWrittenError, match="--face 3, but it shows 2 people"):
            tracks("3")
        with pytest.raises(ValueError, match="--face is 'both', expected all, largest or a number"):
            tracks("both")

    def test_mistakes(self, filming, tmp_path):
        with pytest.raises(ValueError, match="x.mp4: no such video or folder of frames"):
            reconstruct_clips([tmp_path / "x.mp4"], filming, tmp_path)
        (tmp_path / "x.mp4").write_bytes(b"no video")
        with pytest.raises(NothingWrittenError, match="x.mp4: its index is missing"):
            reconstruct_clips([tmp_path / "x.mp4"], filming, tmp_path / "o")


def test_folder_of_frames_without_ffmpeg(film, frames, filming, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clip_files, "has_ffmpeg", lambda: False)
    (tmp_path / "scene").mkdir()
    for k, frame in enumerate(frames[:12]):
        iio.imwrite(tmp_path / "scene" / f"{k}.png", frame)
    (path,) = reconstruct_clips([tmp_path / "scene"], filming, tmp_path / "o", ClipOptions(fps=10))
    clip = load_clip(path)
    assert clip.source == "scene" and clip.rate == 10 and len(clip.tracks) == 2
    drawn = sorted((tmp_path / "o" / "scene_overlay").iterdir())
    assert [p.name for p in drawn] == [f"{k:06d}.png" for k in range(1, 13)]
    assert "an .mp4 needs ffmpeg: pip install 'mofa-nvdr[video]'" in capsys.readouterr().out
