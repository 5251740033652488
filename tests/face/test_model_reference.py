"""A face model by name and content: found again, and refused where it is another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from tests.helpers.small_face import small_face


@pytest.fixture
def saved(tmp_path) -> Path:
    """A face model where a run found it."""
    path = tmp_path / "models" / "cap.safetensors"
    path.parent.mkdir()
    small_face().save(path)
    return path


class TestModelReference:
    def test_of_a_file(self, saved, monkeypatch):
        monkeypatch.chdir(saved.parent)
        reference = ModelReference.of(small_face(), saved.name)
        assert reference == ModelReference("cap", small_face().hash, str(saved))
        assert str(reference) == f"cap ({small_face().hash})"

    def test_check(self):
        reference = ModelReference("head", "0" * 16, "/models/head.safetensors")
        with pytest.raises(ValueError) as error:
            reference.check(small_face(), "face.npz: parameters of")
        assert str(error.value) == (
            "face.npz: parameters of face model head (0000000000000000), which was "
            f"/models/head.safetensors, not of cap ({small_face().hash}); give theirs as --face-model"
        )
        ModelReference("another name", small_face().hash).check(small_face(), "x: of")

    @pytest.mark.parametrize("file", ["default", ""])
    @pytest.mark.parametrize("hash", ["ff3fa8bc75d138e4", "c2a7b12092d54309"])
    def test_built_in_face_of_an_earlier_version(self, hash, file, tmp_path):
        """Its landmarks have moved since and its hash with them; codes mean the same faces."""
        earlier = ModelReference("default", hash, file)
        model, now = earlier.load("", tmp_path, "face.npz: parameters of")
        assert now.file == "procedural" and now.hash == model.hash != earlier.hash
        assert model.has_codes_of(earlier.hash) and not model.has_codes_of("0" * 16)
        assert not small_face().has_codes_of(earlier.hash)

    def test_the_face_from_portraits_of_an_earlier_version(self):
        model = FaceModel.load("portraits")
        for hash in ("0ff2a0e1312583f4", "27edbd3e6ac63fd5"):
            assert model.has_codes_of(hash) and model.hash != hash

    def test_default_is_kept_by_its_own_name(self, tmp_path):
        """What "default" names may be another face in the next version."""
        reference = ModelReference.of(FaceModel.load(), "default")
        assert reference.file == reference.name == "procedural"
        assert reference.load("", tmp_path, "x: of")[1] == reference

    def test_a_built_in_face_is_loaded_once(self, tmp_path, monkeypatch):
        asked, load = [], FaceModel.load
        monkeypatch.setattr(FaceModel, "load", lambda name: asked.append(name) or load(name))
        reference = ModelReference.of(FaceModel.load("portraits"), "portraits")
        asked.clear()
        assert reference.load("", tmp_path, "x: of")[1] == reference and asked == ["portraits"]

    @pytest.mark.parametrize("place", ["models", "run/checkpoints", "run"])
    def test_looks_where_it_was_beside_and_above(self, saved, tmp_path, place):
        near = tmp_path / "run" / "checkpoints"
        near.mkdir(parents=True)
        reference = ModelReference.of(small_face(), str(saved))
        moved = saved.rename(tmp_path / place / saved.name)
        model, found = reference.load("", near, "x: of")
        assert model.hash == reference.hash
        assert found == dataclasses.replace(reference, file=str(moved))

    def test_what_is_given_counts(self, saved, tmp_path):
        other = tmp_path / "other.safetensors"
        small_face(seed=5).save(other)
        reference = ModelReference.of(small_face(), str(saved))
        with pytest.raises(
            ValueError, match="^x: of face model cap .*; give theirs as --face-model$"
        ):
            reference.load(str(other), tmp_path, "x: of")
        again = saved.rename(tmp_path / "again.safetensors")
        assert reference.load(str(again), tmp_path, "x: of")[1].file == str(again)

    def test_not_there(self, tmp_path):
        reference = ModelReference("cap", "0" * 16, "/nowhere/cap.safetensors")
        with pytest.raises(
            ValueError,
            match=r"^x: of face model cap \(0+\), which was /nowhere/cap.safetensors and is not there; "
            "give it as --face-model$",
        ):
            reference.load("", tmp_path, "x: of")

    def test_of_an_earlier_version_and_unknown(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"^x: of face model cap \(0+\); give it as --face-model$"
        ):
            ModelReference("cap", "0" * 16).load("", tmp_path, "x: of")

    def test_built_in(self, face_model, tmp_path):
        reference = ModelReference.of(face_model, "procedural")
        assert reference.file == "procedural"
        model, again = reference.load("", tmp_path, "x: trained with")
        assert model.hash == face_model.hash and again == reference
        # A file of an earlier version names no place; the built-in face is recognised.
        assert dataclasses.replace(reference, file="").load("", tmp_path, "x: of")[1] == reference
        older = dataclasses.replace(reference, hash="0" * 16)
        with pytest.raises(
            ValueError, match=r"x: of face model procedural \(0+\), not of procedural \("
        ):
            older.load("", tmp_path, "x: of")
