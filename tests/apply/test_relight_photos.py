"""Relighting photographs from files: where the photograph is found, which lights there are, and mistakes."""

import dataclasses
import importlib.util

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from mofa_nvdr.apply import fit_files
from mofa_nvdr.apply.fitting import FitOptions, Stage
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.apply.relight_photos import PhotoLightOptions, relight_photo
from mofa_nvdr.data.decoding import ImageError
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.runs import shipped
from mofa_nvdr.scene.hdr import write_hdr
from mofa_nvdr.scene.illumination import code_illumination, preset_illumination
from mofa_nvdr.scene.lighting import total_light
from mofa_nvdr.system.marks import read_mark
from mofa_nvdr.system.origins import content_hash
from tests.helpers.fake_landmarks import (
    MISSING,
    face_and_wall,
    take_networks_away,
)
from tests.helpers.portraits import mirrored_cap, portrait
from tests.helpers.small_crops import use_small_crops


@pytest.fixture(scope="module")
def model():
    return mirrored_cap()


@pytest.fixture
def files(model, tmp_path):
    """face.png, its parameters face.npz, their model m.safetensors, and the parameters of another light."""
    model.save(tmp_path / "m.safetensors")
    photo, face = portrait(model)
    iio.imwrite(tmp_path / "face.png", photo)
    face_hash = content_hash(tmp_path / "face.png")
    dataclasses.replace(face, source_hash=face_hash).save(tmp_path / "face.npz")
    light = torch.zeros(9, 3)
    light[3] = 0.2
    portrait(model, light=light)[1].save(tmp_path / "lit.npz")
    return tmp_path


@pytest.fixture
def relight(files):
    """Relight face.npz; the picture."""

    def call(light, out="x.png", source="face.npz", **options):
        o = PhotoLightOptions(face_model=str(files / "m.safetensors"), **options)
        if (files / str(light)).suffix:
            light = str(files / light)
        return relight_photo(files / source, light, files / out, o)

    return call


def _probe(path, level=1.0, column=None):
    image = np.full((16, 32, 3), level, np.float32)
    if column is not None:
        image[:, column] += 40
    write_hdr(path, image)


class TestRelightPhoto:
    def test_is_what_the_relighter_makes(self, relight, files, model):
        relit = iio.imread(relight("key_left"))
        photo, face = iio.imread(files / "face.png"), load_parameters(files / "face.npz")
        assert relit.shape == photo.shape
        assert np.array_equal(
            relit, PhotoRelighter(photo, face, model)(preset_illumination("key_left"))
        )
        assert read_mark(files / "x.png") == "relit photograph"

    def test_own_light_changes_nothing(self, relight, files):
        assert np.array_equal(iio.imread(relight("face.npz")), iio.imread(files / "face.png"))

    def test_light_of_another_face(self, relight, files, model):
        light = code_illumination(total_light(load_parameters(files / "lit.npz").code.light)[0])
        photo, face = iio.imread(files / "face.png"), load_parameters(files / "face.npz")
        assert np.array_equal(
            iio.imread(relight("lit.npz")), PhotoRelighter(photo, face, model)(light)
        )

    def test_mirror(self, relight):
        there = iio.imread(relight("key_left", mirror=True))
        assert np.array_equal(there, iio.imread(relight("key_right", "y.png")))

    def test_exposure_and_shadows(self, relight):
        plain = iio.imread(relight("key_left")).astype(int)
        assert iio.imread(relight("key_left", "y.png", exposure="1")).mean() > plain.mean()
        assert (iio.imread(relight("key_left", "z.png", shadows=False)) != plain).any()

    def test_a_probe_from_behind_is_turned_and_a_note_says_so(self, relight, files, capsys):
        _probe(files / "behind.hdr", column=20)  # behind the face, to the right
        kept = iio.imread(relight("behind.hdr", turn="0"))
        assert "turned" not in capsys.readouterr().err
        turned = iio.imread(relight("behind.hdr", "y.png"))
        note = capsys.readouterr().err
        assert note.startswith("note: ") and len(note.splitlines()) == 1
        assert (
            "behind.hdr: most of its light comes from behind" in note
            and "--turn 0 keeps it" in note
        )
        assert (kept != turned).any()

    def test_a_probe_from_the_front_is_left_alone(self, relight, files, capsys):
        _probe(files / "front.hdr", column=2)
        relight("front.hdr")
        assert "turned" not in capsys.readouterr().err

    def test_turn_in_degrees(self, relight, files):
        _probe(files / "front.hdr", column=2)
        plain = iio.imread(relight("front.hdr", turn="0"))
        assert np.array_equal(plain, iio.imread(relight("front.hdr", "y.png", turn="360")))
        assert (plain != iio.imread(relight("front.hdr", "z.png", turn="-90"))).any()


class TestRotate:
    def test_gif(self, relight, files):
        out = relight("key_left", "x.gif", rotate=True, frames=4)
        with Image.open(out) as gif:
            frames = [np.array(f.convert("RGB")).astype(int) for f in ImageSequence.Iterator(gif)]
        assert len(frames) == 4 and read_mark(out) == "relit photograph"
        left, right = slice(25, 45), slice(52, 72)
        # The lamp of key_left turned by a quarter is before the face's right, by three behind its left.
        assert frames[1][40, right].mean() > frames[1][40, left].mean()
        assert frames[2].mean() < frames[0].mean()

    @pytest.mark.skipif(
        importlib.util.find_spec("imageio_ffmpeg") is None, reason="needs imageio-ffmpeg"
    )
    def test_mp4(self, relight, files):
        out = relight("key_left", "x.mp4", rotate=True, frames=4)
        content = out.read_bytes()
        assert content[4:8] == b"ftyp" and b"mofa-nvdr source" in content
        relight("top", "x.mp4", rotate=True, frames=4)  # its own earlier result is replaced

    def test_mp4_without_ffmpeg(self, relight, monkeypatch):
        monkeypatch.setattr("mofa_nvdr.apply.relight_photos.find_spec", lambda name: None)
        with pytest.raises(
            ValueError, match="needs ffmpeg: pip install imageio-ffmpeg; or give a .gif"
        ):
            relight("key_left", "x.mp4", rotate=True)


class TestWhereThePhotographIs:
    def test_next_to_the_folder_of_the_parameters(self, relight, files):
        (files / "out").mkdir()
        (files / "face.npz").rename(files / "out" / "face.npz")
        assert relight("top", source="out/face.npz").is_file()

    def test_given(self, relight, files, capsys):
        (files / "face.png").rename(files / "elsewhere.png")
        with pytest.raises(
            ValueError, match=r"its photograph face.png is not here; give it as --photo"
        ):
            relight("top")
        assert relight("top", photo=str(files / "elsewhere.png")).is_file()
        assert capsys.readouterr().err == ""

    def test_another_state_of_it(self, relight, files, capsys):
        """Is not taken by itself; given, it is, with a note."""
        photo = iio.imread(files / "face.png")
        photo[0, 0] = 0
        iio.imwrite(files / "face.png", photo)
        with pytest.raises(ValueError, match="has changed since; give it as --photo"):
            relight("top")
        relight("top", photo=str(files / "face.png"))
        assert "is not the file that" in capsys.readouterr().err

    def test_a_result_is_no_photograph(self, relight, files):
        relit = relight("key_left")
        with pytest.raises(
            ValueError, match=f"^--photo {relit}: a relit photograph that mofa-nvdr"
        ):
            relight("top", "y.png", photo=str(relit))
        with pytest.raises(ValueError, match=f"^{files}: a folder, expected a picture$"):
            relight("top", "y.png", photo=str(files))

    def test_that_does_not_hold_the_face(self, relight, files):
        iio.imwrite(files / "small.png", np.full((40, 40, 3), 9, np.uint8))
        face = load_parameters(files / "face.npz")
        away = dataclasses.replace(face, crop=np.array([500.0, 0, 64]), source_hash="")
        away.save(files / "away.npz")
        with pytest.raises(
            ValueError, match="small.png: the face's crop lies outside of the photograph"
        ):
            relight("top", source="away.npz", photo=str(files / "small.png"))


class TestPhotographs:
    @pytest.fixture
    def fitted(self, monkeypatch, tmp_path):
        """A photograph of a small face that the networks find, and a wall."""
        use_small_crops(monkeypatch, 64)
        stages = (Stage(("rotation", "translation"), 3, landmarks=0.5),)
        monkeypatch.setattr(fit_files, "QUICK_STAGES", stages)
        monkeypatch.setattr(
            fit_files, "FitOptions", lambda render_mode: FitOptions(64, render_mode, 100)
        )
        return face_and_wall(monkeypatch, tmp_path)

    def _relight(self, folder, source, light, **options):
        o = PhotoLightOptions(face_model=str(folder / "m.safetensors"), **options)
        return relight_photo(folder / source, light, folder / "x.png", o)

    def test_is_fitted_on_the_way(self, fitted):
        relit = iio.imread(self._relight(fitted, "face.png", "side_left"))
        photo = iio.imread(fitted / "face.png")
        assert relit.shape == photo.shape and (relit != photo).any()

    def test_its_own_light_mirrored(self, fitted):
        own = str(fitted / "face.png")
        plain = iio.imread(self._relight(fitted, "face.png", own))
        assert np.array_equal(plain, iio.imread(fitted / "face.png"))

    def test_light_of_a_photograph_without_a_face(self, fitted):
        with pytest.raises(ImageError, match=r"--light .*wall.png: no face found, from which") as e:
            self._relight(fitted, "face.png", str(fitted / "wall.png"))
        assert "light probes must be .hdr or .exr" in str(e.value)

    def test_a_photograph_without_a_face(self, fitted):
        with pytest.raises(ImageError, match=r"wall.png: no face found"):
            self._relight(fitted, "wall.png", "top")

    def test_without_the_networks(self, fitted, monkeypatch):
        take_networks_away(monkeypatch)
        monkeypatch.setattr(shipped, "SHIPPED_FILE", "nothing.safetensors")
        with pytest.raises(NetworkMissingError) as e:
            self._relight(fitted, "face.png", "top")
        assert MISSING in str(e.value) and "or give the .npz of a face" in str(e.value)

    def test_photo_of_a_photograph(self, fitted):
        with pytest.raises(ValueError, match="--photo b.png: .* is a photograph already"):
            self._relight(fitted, "face.png", "top", photo="b.png")


class TestMistakes:
    def test_black_probe(self, relight, files):
        _probe(files / "black.hdr", 0.0)
        with pytest.raises(
            ValueError, match=r"black.hdr: the panorama is black: expected light in it"
        ):
            relight("black.hdr")

    def test_openexr_that_is_none(self, relight, files):
        (files / "a.exr").write_bytes(b"v/1\x01")
        with pytest.raises(ValueError, match=r"a.exr: ends early: the file is cut short"):
            relight("a.exr")
        with pytest.raises(ValueError, match=r"no.exr: cannot read \(No such file"):
            relight("no.exr")

    def test_unknown_light(self, relight):
        with pytest.raises(
            ValueError, match="--light moonlight: no such file, nor a preset; .* key_left"
        ):
            relight("moonlight")

    def test_damaged_probe(self, relight, files):
        (files / "a.hdr").write_bytes(b"#?RADIANCE\n")
        with pytest.raises(ValueError, match="a.hdr: ends inside its header"):
            relight("a.hdr")

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"turn": "left"}, "--turn is 'left', expected auto or a number from -360 to 360"),
            ({"exposure": "9"}, "--exposure is '9', expected auto or a number from -5 to 5"),
            ({"exposure": "nan"}, "--exposure is 'nan', expected auto"),
            ({"color": 1.5}, "--color is 1.5, expected 0 to 1"),
            ({"fill": "-0.1"}, "--fill is '-0.1', expected auto or a number from 0 to 1"),
            ({"fill": "some"}, "--fill is 'some', expected auto or a number from 0 to 1"),
            ({"rotate": True, "frames": 1, "out": "x.gif"}, "--frames is 1, expected 2 to 10000"),
            ({"rotate": True}, "x.png: expected a .gif or .mp4 file with --rotate"),
            ({"out": "x.jpg"}, "x.jpg: expected a .png file"),
            ({"out": "no/x.png"}, "cannot write there"),
        ],
    )
    def test_options(self, relight, options, text):
        with pytest.raises(ValueError) as e:
            relight("top", **options)
        assert text in str(e.value)

    def test_what_is_there_is_not_replaced(self, relight, files):
        (files / "x.png").write_bytes(b"mine")
        with pytest.raises(ValueError, match="is no result of the same source"):
            relight("top")
        assert relight("top", overwrite=True).stat().st_size > 100
        relight("front")
