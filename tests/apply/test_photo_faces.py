"""Faces of photographs and of parameter files: how the photograph of an .npz is found."""

import dataclasses

import imageio.v3 as iio
import pytest

from mofa_nvdr.apply.photo_faces import (
    PhotoFaces,
    is_parameters,
    photograph_of,
)
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.runs import shipped
from mofa_nvdr.system.origins import content_hash
from tests.helpers.fake_landmarks import take_networks_away
from tests.helpers.portraits import mirrored_cap, portrait


@pytest.fixture(scope="module")
def model():
    return mirrored_cap()


@pytest.fixture
def face(model, tmp_path):
    """The parameters of face.png, which is there."""
    photo, face = portrait(model)
    iio.imwrite(tmp_path / "face.png", photo)
    return dataclasses.replace(face, source_hash=content_hash(tmp_path / "face.png"))


class TestPhotographOf:
    def test_above_the_folder_of_the_parameters(self, face, tmp_path):
        npz = tmp_path / "out" / "face.npz"
        assert photograph_of(npz, face) == tmp_path / "face.png"

    def test_missing(self, face, tmp_path):
        (tmp_path / "face.png").unlink()
        with pytest.raises(ValueError, match="face.png is not here; give it as --photo"):
            photograph_of(tmp_path / "face.npz", face)


class TestPhotoFaces:
    def test_of_parameters(self, face, model, tmp_path):
        model.save(tmp_path / "m.safetensors")
        face.save(tmp_path / "face.npz")
        found = PhotoFaces(str(tmp_path / "m.safetensors"), "view")(tmp_path / "face.npz")
        assert found.path == tmp_path / "face.png" and found.model.hash == model.hash
        assert found.parameters.source == "face.png"

    def test_networks_are_asked_for_when_they_are_needed(self, face, tmp_path, monkeypatch):
        take_networks_away(monkeypatch)
        monkeypatch.setattr(shipped, "SHIPPED_FILE", "nothing.safetensors")
        faces = PhotoFaces("", "view")
        with pytest.raises(NetworkMissingError, match="or give the .npz of a face"):
            faces(tmp_path / "face.png")

    def test_photo_of_a_photograph(self):
        with pytest.raises(ValueError, match="--photo b.png: a.png is a photograph already"):
            PhotoFaces("", "view")("a.png", "b.png")


def test_is_parameters():
    assert is_parameters("a/B.NPZ") and not is_parameters("a.npz.jpg")
