"""The file of a clip: read back as it was written, by frames too; what is damaged is named."""

import dataclasses

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.clip_parameters import (
    Clip,
    ClipTrack,
    load_clip,
    load_named_face,
    names_face,
)
from mofa_nvdr.apply.export import export_file
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.data.listing import is_parameter_file
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.scene.camera import Camera

LAYOUT = CodeLayout(5, 4, 3)


def some_track(frames, seed):
    g = torch.Generator().manual_seed(seed)
    count = len(frames)
    code = LAYOUT.unpack(torch.randn(count, LAYOUT.size, generator=g))
    code = code.replace(
        shape=code.shape[:1].expand(count, -1), albedo=code.albedo[:1].expand(count, -1)
    )
    seen = np.ones(count, bool)
    seen[1] = False
    numbers = np.random.default_rng(seed)
    crop = numbers.uniform(10, 90, (count, 3))
    crop[1] = np.nan
    certainty = np.where(seen, 0.75, np.nan)
    marks = numbers.uniform(0, 200, (count, 68, 2)).astype(np.float32).astype(float)
    frames = np.array(frames)
    return ClipTrack(frames, frames / 25, seen, certainty, code, marks, crop)


@pytest.fixture
def clip():
    tracks = (some_track([0, 1, 2, 3, 7, 8], 0), some_track([2, 3, 4], 1))
    camera = Camera((120, 200), 321.5, 50.0, 4000.0, (0.0, 3.0, -800.0))
    return Clip(
        tracks, camera, 9, 25.0, ("cap", "abc"), "cap.safetensors", "a/b.mp4", "f" * 64, np.array([7])
    )  # fmt: skip


def changed(path, **arrays):
    with np.load(path) as file:
        every = {name: file[name] for name in file.files}
    for name, value in arrays.items():
        if value is None:
            del every[name]
        else:
            every[name] = value
    np.savez(path, **every)


class TestClip:
    def test_reads_back(self, clip, tmp_path):
        clip.save(tmp_path / "b.npz")
        again = load_clip(tmp_path / "b.npz")
        for name in (
            "camera",
            "num_frames",
            "rate",
            "face_model",
            "face_model_file",
            "source",
            "source_hash",
        ):
            assert getattr(again, name) == getattr(clip, name), name
        assert again.cuts.tolist() == [7]
        for ours, theirs in zip(clip.tracks, again.tracks, strict=True):
            assert torch.equal(ours.code.pack(), theirs.code.pack())
            for field in ("frame", "time", "seen", "certainty", "landmarks68"):
                np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
            np.testing.assert_allclose(ours.crop, theirs.crop, rtol=1e-6)
        assert is_parameter_file(tmp_path / "b.npz")  # and no photograph

    def test_a_frame_as_a_photograph(self, clip, tmp_path):
        face = clip.face(7)
        assert torch.equal(face.code.expression, clip.tracks[0].code.expression[4:5])
        assert face.camera == clip.camera and face.source == "a/b.mp4#7"
        np.testing.assert_array_equal(face.landmarks68, clip.tracks[0].landmarks68[4])
        face.save(tmp_path / "face.npz")
        again = load_parameters(tmp_path / "face.npz")
        assert torch.equal(again.code.pack(), face.code.pack())

    def test_named_faces(self, face_model, clip, tmp_path):
        """A frame by its name, with its face model, for export and relight."""
        layout = face_model.layout
        code = layout.unpack(torch.zeros(6, layout.size))
        track = dataclasses.replace(clip.tracks[0], code=code)
        mine = (face_model.name, face_model.hash)
        clip = dataclasses.replace(
            clip, tracks=(track,), face_model=mine, face_model_file="procedural"
        )
        clip.save(tmp_path / "b.npz")
        models = {}
        face = load_named_face(f"{tmp_path / 'b.npz'}#7", "", models)
        assert list(models) == [face_model.hash] and face.source == "a/b.mp4#7"
        assert names_face("x.npz#3:1") and names_face("x.npz") and not names_face("x.mp4#3")
        with pytest.raises(ValueError, match="b.npz#5: person 0 is not in frame 5"):
            load_named_face(f"{tmp_path / 'b.npz'}#5", "", models)
        with pytest.raises(ValueError, match="b.npz#0:4: there is no person 4"):
            load_named_face(f"{tmp_path / 'b.npz'}#0:4", "", models)
        export_file(f"{tmp_path / 'b.npz'}#3", tmp_path / "b.ply")
        assert (tmp_path / "b.ply").stat().st_size > 1e5

    def test_who_is_not_there(self, clip):
        with pytest.raises(
            ValueError,
            match="person 0 is not in frame 5, but in frames 0 to 8 of a/b.mp4, not in all",
        ):
            clip.face(5)
        with pytest.raises(
            ValueError, match="person 1 is not in frame 0, but in frames 2 to 4 of a/b.mp4$"
        ):
            clip.face(0, 1)
        with pytest.raises(ValueError, match="there is no person 2 in a/b.mp4, expected 0 to 1"):
            clip.face(0, 2)

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"row_track": None}, "not the parameters of a clip"),
            ({"light": None, "rate": None}, "missing light, rate"),
            ({"rotation": np.zeros((9, 4))}, r"rotation is \[9, 4\], expected \[9, 3\]"),
            ({"expression": np.zeros((8, 4))}, r"expression is \[8, 4\], expected \[9, N\]"),
            ({"row_track": np.array([0] * 6 + [2] * 3)}, "not of the tracks 0 to 1"),
            ({"shape": np.full((2, 5), np.inf)}, "shape holds values that are not finite"),
            ({"time": np.array(["x"] * 9)}, "time holds <U1 values, expected numbers"),
            ({"source": np.zeros(2)}, "source is not a text"),
            ({"focal": np.array(-1.0)}, "focal is -1.0"),
            ({"image_size": np.array([10**7, 5])}, "frames of 10000000 x 5 px"),
        ],
    )
    def test_damage(self, clip, tmp_path, arrays, words):
        path = tmp_path / "b.npz"
        clip.save(path)
        changed(path, **arrays)
        with pytest.raises(ValueError, match=words) as caught:
            load_clip(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)

    def test_no_clip(self, tmp_path):
        with pytest.raises(ValueError, match="x.npz: no such file"):
            load_clip(tmp_path / "x.npz")
        (tmp_path / "x.npz").write_bytes(b"PK\x03\x04")
        with pytest.raises(ValueError, match="not a readable .npz of a clip"):
            load_clip(tmp_path / "x.npz")
        np.savez(tmp_path / "x.npz", shape=np.array([None]))
        with pytest.raises(ValueError, match="pickled|not a readable"):
            load_clip(tmp_path / "x.npz")

    def test_size(self, clip, tmp_path):
        """About 1 kB a frame and face for the face models that are built in."""
        layout = CodeLayout()
        code = layout.unpack(torch.randn(1000, layout.size))
        code = code.replace(
            shape=code.shape[:1].expand(1000, -1), albedo=code.albedo[:1].expand(1000, -1)
        )
        marks = np.random.default_rng(0).uniform(0, 1000, (1000, 68, 2))
        track = ClipTrack(
            np.arange(1000), np.arange(1000) / 25, np.ones(1000, bool), np.ones(1000), code, marks,
            np.ones((1000, 3)),
        )  # fmt: skip
        dataclasses.replace(clip, tracks=(track,)).save(tmp_path / "c.npz")
        assert (tmp_path / "c.npz").stat().st_size < 1.1e6


def test_a_clip_is_no_face(clip, tmp_path):
    clip.save(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="b.npz: the parameters of a clip; export, transfer, view"):
        load_parameters(tmp_path / "b.npz")
