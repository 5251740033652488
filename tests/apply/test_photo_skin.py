"""Textures from files: the right part of each photograph is read, and one line says what does not fit."""

import dataclasses
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.apply import photo_skin as module
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.photo_skin import photo_skin
from mofa_nvdr.data.decoding import ImageError
from mofa_nvdr.system.origins import content_hash
from tests.helpers.skins import laid_out_cap, skin_photo, spots


@pytest.fixture(scope="module")
def model():
    return laid_out_cap()


@pytest.fixture
def person(model, tmp_path):
    """Two photographs of a person, a.png and b.png; [(file, face)] of both."""
    faces = []
    for name, turn in (("a", 0.3), ("b", -0.3)):
        photo, face = skin_photo(model, spots(model), turn=turn)
        iio.imwrite(tmp_path / f"{name}.png", photo)
        file_hash = content_hash(tmp_path / f"{name}.png")
        dataclasses.replace(face, source=f"{name}.png", source_hash=file_hash).save(
            tmp_path / f"{name}.npz"
        )
        faces.append((tmp_path / f"{name}.npz", load_parameters(tmp_path / f"{name}.npz")))
    return faces


@pytest.fixture
def shots(monkeypatch):
    """What a texture is made of, without making it."""
    seen = []

    class Maker:
        def __init__(self, model, albedo, size):
            pass

        def layer(self, shot, balanced):
            seen.append(shot)
            return shot

        def __call__(self, layers):
            return SimpleNamespace(image=np.full((2, 2, 3), len(layers), np.uint8))

    monkeypatch.setattr(module, "TextureMaker", Maker)
    return seen


class TestPhotoSkin:
    def test_a_texture(self, model, person):
        """Of one photograph, whole way: the birthmark is dark, the skin around it is not."""
        texture = photo_skin(person[:1], model, 128).astype(int)
        assert texture.shape == (128, 128, 3)
        mark = texture[:, 64:].sum(2).min()
        assert mark < 0.75 * np.median(texture.sum(2))

    def test_every_photograph_counts(self, model, person, shots):
        assert (photo_skin(person, model, 128) == 2).all()
        assert [shot.face.source for shot in shots] == ["a.png", "b.png"]

    def test_the_part_around_the_face(self, model, person, shots, tmp_path):
        """Of a large photograph a part is read, as fine as the texture needs; the face is where it was."""
        photo = iio.imread(tmp_path / "a.png")
        large = np.zeros((900, 1400, 3), np.uint8)
        large[100:740, 600:1240] = photo.repeat(4, 0).repeat(4, 1)
        iio.imwrite(tmp_path / "large.png", large)
        path, face = person[0]
        crop = np.array([600 + 80.0, 100 + 80, 480])
        moved = dataclasses.replace(face, crop=crop, source="large.png", source_hash="")
        photo_skin([(path, moved)], model, 128)
        (shot,) = shots
        # 128 texels want 205 px of a side of 480.
        assert shot.face.crop[2] == pytest.approx(205, abs=2)
        assert max(shot.photo.shape) < 2.7 * 205
        scale = shot.face.crop[2] / 480
        middle = (shot.face.crop[:2] + shot.face.crop[2] / 2).round().astype(int)
        np.testing.assert_allclose(
            shot.photo[middle[1], middle[0]].astype(int), photo[80, 80], atol=3
        )
        # The part reaches 1.3 sides from the crop's middle: its left edge is at 296 px.
        assert shot.face.crop[0] / scale == pytest.approx(680 - 296, abs=4)

    def test_given_photographs(self, model, person, shots, tmp_path):
        (tmp_path / "a.png").rename(tmp_path / "c.png")
        photo_skin(person, model, 128, [tmp_path / "c.png", tmp_path / "b.png"])
        assert len(shots) == 2


class TestMistakes:
    def test_changed_photograph(self, model, person, tmp_path):
        iio.imwrite(tmp_path / "b.png", np.zeros((32, 32, 3), np.uint8))
        with pytest.raises(
            ValueError, match=r"b.npz: .*b.png is not the photograph.*--photo, or leave"
        ):
            photo_skin(person[1:], model, 128)

    def test_missing_photograph(self, model, person, tmp_path):
        (tmp_path / "a.png").unlink()
        with pytest.raises(ValueError, match="a.npz: its photograph a.png is not here"):
            photo_skin(person, model, 128)

    def test_damaged_photograph(self, model, person, tmp_path):
        (tmp_path / "d.png").write_bytes(b"no picture")
        with pytest.raises(ImageError, match="d.png"):
            photo_skin(person[:1], model, 128, [tmp_path / "d.png"])

    def test_too_few_photographs(self, model, person):
        with pytest.raises(ValueError, match="--photo: 1 photographs, expected one for each of 2"):
            photo_skin(person, model, 128, ["a.png"])

    def test_two_people(self, model, person):
        path, face = person[1]
        other = dataclasses.replace(face, code=face.code.replace(shape=face.code.shape + 1))
        with pytest.raises(
            ValueError, match="b.npz: not the shape and albedo of .*a.npz.*--same-person"
        ):
            photo_skin([person[0], (path, other)], model, 128)

    def test_two_models(self, model, person):
        path, face = person[1]
        other = dataclasses.replace(face, face_model=("bust", "0" * 16))
        with pytest.raises(
            ValueError, match="b.npz: its face model is bust, that of .*a.npz another"
        ):
            photo_skin([person[0], (path, other)], model, 128)

    def test_size(self, model, person):
        with pytest.raises(ValueError, match="--texture-size: .* expected a multiple of 128"):
            photo_skin(person[:1], model, 300)

    def test_face_outside(self, model, person):
        path, face = person[0]
        away = dataclasses.replace(face, crop=np.array([900.0, 900, 100]))
        with pytest.raises(
            ValueError, match=r"a.png: .*outside of the photograph \(the face is that of"
        ):
            photo_skin([(path, away)], model, 128)

    def test_frame_of_a_clip(self, model, person, tmp_path):
        with pytest.raises(ValueError, match=r"clip.npz#3: --texture photo needs a photograph"):
            photo_skin([(tmp_path / "clip.npz#3", person[0][1])], model, 128)
