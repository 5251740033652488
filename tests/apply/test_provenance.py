"""Marks: a result replaces its own, and nothing else, in every format that is written."""

import dataclasses

import numpy as np
import pytest

from mofa_nvdr.apply.export import ExportOptions, export_file
from mofa_nvdr.apply.model_sheets import show_model
from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.apply.relighting import relight_files
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from tests.helpers.small_face import small_face, textured_face


@pytest.fixture
def faces(tmp_path):
    """Parameter files of two people on a small face model."""
    model, file = textured_face(), tmp_path / "face.safetensors"
    model.save(file)
    files = []
    for name in ("alice", "bob"):
        face = FaceParameters(
            code=model.layout.zeros(),
            camera=Camera(48),
            crop=np.array([0.0, 0.0, 48.0]),
            face_model=(model.name, model.hash),
            source=f"{name}/0001.jpg",
            face_model_file=str(file),
            source_hash=name * 4,
        )
        files.append(tmp_path / f"{name}.npz")
        face.save(files[-1])
    return files


class TestMarkOf:
    def test_who_is_the_same(self, faces):
        alice, bob = map(load_parameters, faces)
        assert origin_of(alice).isascii() and len(origin_of(alice)) == len("mofa-nvdr source ") + 32
        assert (
            len({origin_of(alice), origin_of(bob), origin_of(alice, bob), origin_of(bob, alice)})
            == 4
        )
        again = dataclasses.replace(alice, code=alice.code.map(lambda part: part + 1))
        assert origin_of(again) == origin_of(alice)
        moved = dataclasses.replace(alice, source="other.jpg")
        assert origin_of(moved) == origin_of(alice)  # a copy has the same result

    def test_faces_of_earlier_versions_are_told_apart_by_their_codes(self, faces):
        old = dataclasses.replace(load_parameters(faces[0]), source_hash="")
        other = dataclasses.replace(old, code=old.code.map(lambda part: part + 1))
        assert origin_of(old) == origin_of(old) != origin_of(other)

    def test_models(self, cap):
        model = FaceModel.load(cap)
        assert (
            origin_of(model) == origin_of(FaceModel.load(cap)) != origin_of(small_face(24, seed=5))
        )


def export(face, out, **options):
    export_file(face, out, options=ExportOptions(texture_size=16, targets="none"), **options)


def relight(face, out, **options):
    rotate = out.suffix == ".gif"
    relight_files([face], "front", out, rotate, 2, device="cpu", **options)


@pytest.mark.parametrize(
    ("write", "name", "files"),
    [
        (export, "face.obj", ["face.obj", "face.mtl", "face_texture.png"]),
        (export, "face.ply", ["face.ply"]),
        (export, "face.glb", ["face.glb"]),
        (relight, "face.png", ["face.png"]),
        (relight, "face.gif", ["face.gif"]),
    ],
)
class TestEveryFormat:
    def test_only_its_own_results_are_replaced(self, faces, tmp_path, write, name, files):
        alice, bob = faces
        out = tmp_path / name
        write(alice, out)
        before = {file: (tmp_path / file).read_bytes() for file in files}
        write(alice, out)
        for file in files:
            with pytest.raises(ValueError, match="is there, and is no result of the same source"):
                write(bob, out)
            assert all((tmp_path / f).read_bytes() == data for f, data in before.items())
            (tmp_path / file).write_bytes(b"a file of the user's")
            with pytest.raises(ValueError, match=f"{file} is there, and is no result of the same"):
                write(alice, out)
            assert (tmp_path / file).read_bytes() == b"a file of the user's"
            (tmp_path / file).write_bytes(before[file])
        write(bob, out, overwrite=True)
        write(bob, out)


class TestSheets:
    def test_of_another_model(self, cap, tmp_path):
        other = tmp_path / "other.safetensors"
        small_face(24, seed=5).save(other)
        out = tmp_path / "sheets"
        (path,) = show_model(cap, out, 32, sheets=["mean"])
        before = path.read_bytes()
        show_model(cap, out, 32, sheets=["mean"])
        with pytest.raises(ValueError, match=r"mean.png is there, and is no result of the same"):
            show_model(str(other), out, 32, sheets=["mean"])
        assert path.read_bytes() == before
        show_model(str(other), out, 32, sheets=["mean"], overwrite=True)
        assert path.read_bytes() != before
