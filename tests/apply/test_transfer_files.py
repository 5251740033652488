"""Expressions of one face for another, from files: pictures, parameters, turntables, and mistakes."""

import dataclasses
import importlib.util

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from mofa_nvdr.apply.clip_parameters import Clip, ClipTrack
from mofa_nvdr.apply.expression_warp import ExpressionWarper, mouth_photo
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.transfer_files import TransferOptions, transfer
from mofa_nvdr.data.decoding import ImageError
from mofa_nvdr.data.video_files import VideoExtraError
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.marks import read_mark
from mofa_nvdr.system.origins import content_hash
from tests.helpers.fake_landmarks import face_and_wall
from tests.helpers.portraits import mirrored_cap, portrait
from tests.helpers.small_crops import use_small_crops
from tests.helpers.small_face import small_face

NAMES = {"grin": [1.0, 0.5, 0.0], "jawOpen": [0.0, 1.0, 1.0]}


def _named_cap() -> FaceModel:
    cap = mirrored_cap()
    arrays = {name: value.numpy() for name, value in cap.named_buffers()}
    return FaceModel(arrays, {"name": "cap"}, {n: np.array(v) for n, v in NAMES.items()})


@pytest.fixture(scope="module")
def model():
    return _named_cap()


@pytest.fixture
def files(model, tmp_path):
    """b.png and b.npz, its face; a.npz, a face with an expression, and a.png, its photograph."""
    model.save(tmp_path / "m.safetensors")
    where = str(tmp_path / "m.safetensors")
    for name, crop in (("b", (16.0, 16.0, 64.0)), ("a", (10.0, 20.0, 64.0))):
        photo, face = portrait(model, crop=crop)
        photo[0, 0] = len(name)
        iio.imwrite(tmp_path / f"{name}.png", photo)
        if name == "a":
            code = face.code.replace(expression=torch.tensor([[1.5, -1.0, 0.5]]))
            face = dataclasses.replace(face, code=code)
        known = {"source": f"{name}.png", "source_hash": content_hash(tmp_path / f"{name}.png")}
        dataclasses.replace(face, face_model_file=where, **known).save(tmp_path / f"{name}.npz")
    return tmp_path


@pytest.fixture
def run(files):
    """Transfer to b.npz; the files."""

    def call(expression="a.npz", to="b.npz", out="x.png", **options):
        if expression.endswith(".npz"):
            expression = str(files / expression)
        return transfer(expression, str(files / to), files / out, TransferOptions(**options))

    return call


class TestPhotographs:
    def test_is_what_the_warper_makes(self, run, files, model):
        picture, npz = run()
        photo, face = iio.imread(files / "b.png"), load_parameters(files / "b.npz")
        other = load_parameters(files / "a.npz")
        mouth = mouth_photo(iio.imread(files / "a.png"), other, model)
        code = face.code.replace(expression=other.code.expression)
        truth = ExpressionWarper(photo, face, model)(code, mouth)
        changed = iio.imread(picture)
        assert np.array_equal(changed, truth) and (changed != photo).any()
        assert read_mark(picture) == "transferred face" and npz == files / "x.npz"

    def test_the_new_face(self, run, files):
        """Everything but the expression is its own, and it names the new picture."""
        _, npz = run()
        new, face = load_parameters(npz), load_parameters(files / "b.npz")
        assert torch.equal(new.code.expression, torch.tensor([[1.5, -1.0, 0.5]]))
        for part in ("shape", "albedo", "rotation", "translation", "light"):
            assert torch.equal(getattr(new.code, part), getattr(face.code, part))
        assert new.source == "x.png" and new.source_hash == content_hash(files / "x.png")
        assert new.landmarks68.shape == (68, 2) and np.isnan(new.certainty)
        assert np.array_equal(new.crop, face.crop)

    def test_the_new_picture_can_be_changed_again(self, run):
        run()
        assert run("", "x.npz", "y.png", neutral=True)[0].is_file()

    def test_neutral(self, run, files):
        assert not load_parameters(run("", neutral=True)[1]).code.expression.any()
        # Without an expression before, nothing changes.
        gap = iio.imread(files / "x.png").astype(int) - iio.imread(files / "b.png")
        assert np.abs(gap).max() <= 1

    def test_strength(self, run):
        half = load_parameters(run(strength=0.5)[1]).code.expression
        assert torch.allclose(half, torch.tensor([[0.75, -0.5, 0.25]]))

    def test_named_expressions(self, run):
        one = load_parameters(run("grin")[1]).code.expression
        assert torch.equal(one, torch.tensor([NAMES["grin"]]))
        both = load_parameters(run("grin=0.5,jawOpen", out="y.png")[1]).code.expression
        assert torch.allclose(both, torch.tensor([[0.5, 1.25, 1.0]]))

    def test_without_the_other_photograph(self, run, files):
        """The inside of its mouth is the face model's then; nothing is said of it."""
        (files / "a.png").unlink()
        assert run()[0].is_file()

    def test_its_own_photograph_is_needed(self, run, files):
        (files / "b.png").rename(files / "c.png")
        with pytest.raises(ValueError, match="b.png is not here; give it as --photo"):
            run()
        assert run(photo=str(files / "c.png"))[0].is_file()

    def test_that_does_not_hold_the_face(self, run, files):
        face = load_parameters(files / "b.npz")
        away = dataclasses.replace(face, crop=np.array([500.0, 0, 64]))
        away.save(files / "away.npz")
        with pytest.raises(ValueError, match=r"b.png: the face's crop lies outside .* \(the face"):
            run(to="away.npz")


class TestRenderings:
    def test_parameters_only(self, run, files, model):
        (files / "b.png").unlink()
        picture, npz = run(parameters_only=True)
        assert iio.imread(picture).shape == (64, 64, 3)
        new = load_parameters(npz)
        assert new.crop.tolist() == [0, 0, 64] and new.source == "x.png"
        with torch.no_grad():
            face = FaceDecoder(model, camera=new.camera, frontal_only=False)(new.code)
        inside = face.mask[0, 0].numpy() > 0
        drawn = (face.image[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
        assert np.abs(iio.imread(picture)[inside] - drawn[inside]).mean() < 3  # 1.1 measured

    def test_size(self, run):
        picture, npz = run(parameters_only=True, image_size=100)
        assert iio.imread(picture).shape == (100, 100, 3)
        assert load_parameters(npz).camera.size == (100, 100)

    def test_turntable(self, run, files):
        picture, npz = run(out="x.gif", turntable=True, frames=8)
        with Image.open(picture) as gif:
            frames = [np.array(f.convert("RGB")).astype(int) for f in ImageSequence.Iterator(gif)]
        assert len(frames) == 8 and read_mark(picture) == "transferred face"

        # It starts from the front, turns to the picture's right, comes back and turns to the left.
        def lean(frame):
            columns = np.nonzero((np.abs(frame - frame[0, 0]) > 20).any(2))[1]
            return columns.mean() - 31.5

        assert abs(lean(frames[0])) < 1 and abs(lean(frames[4])) < 1
        assert lean(frames[2]) * lean(frames[6]) < 0
        assert load_parameters(npz).source == ""

    @pytest.mark.skipif(
        importlib.util.find_spec("imageio_ffmpeg") is None, reason="needs imageio-ffmpeg"
    )
    def test_turntable_as_a_video(self, run):
        content = run(out="x.mp4", turntable=True, frames=4)[0].read_bytes()
        assert content[4:8] == b"ftyp" and b"mofa-nvdr source" in content

    def test_a_frame_of_a_clip(self, run, files, model):
        """Gives its expression, and may be the face that changes where no photograph is needed."""
        code = load_parameters(files / "a.npz").code
        nothing = np.zeros(1)
        track = ClipTrack(
            np.array([7]), nothing, np.array([True]), np.ones(1), code,
            np.zeros((1, 68, 2)), np.array([[0.0, 0, 64]]),
        )  # fmt: skip
        where = str(files / "m.safetensors")
        clip = Clip((track,), Camera(64), 8, 25.0, (model.name, model.hash), where)
        clip.save(files / "clip.npz")
        _, npz = run(f"{files}/clip.npz#7")
        assert torch.equal(load_parameters(npz).code.expression, code.expression)
        assert run("", "clip.npz#7", "y.png", neutral=True, parameters_only=True)[0].is_file()
        with pytest.raises(ValueError, match="clip.npz#7: a clip's frame has no photograph"):
            run("", "clip.npz#7", "z.png", neutral=True)
        with pytest.raises(ValueError, match="the parameters of a clip; .* as clip.npz#120"):
            run("clip.npz")
        with pytest.raises(ValueError, match="clip.npz#3"):
            run(f"{files}/clip.npz#3")


class TestFittedPhotographs:
    @pytest.fixture
    def fitted(self, monkeypatch, tmp_path):
        """A photograph of a small face that the networks find, and a wall."""
        from mofa_nvdr.apply import fit_files
        from mofa_nvdr.apply.fitting import FitOptions, Stage

        use_small_crops(monkeypatch, 64)
        stages = (Stage(("rotation", "translation", "expression"), 3, landmarks=0.5),)
        monkeypatch.setattr(fit_files, "QUICK_STAGES", stages)
        monkeypatch.setattr(
            fit_files, "FitOptions", lambda render_mode: FitOptions(64, render_mode, 100)
        )
        return face_and_wall(monkeypatch, tmp_path)

    def test_both(self, fitted):
        photo = str(fitted / "face.png")
        o = TransferOptions(face_model=str(fitted / "m.safetensors"))
        picture, npz = transfer(photo, photo, fitted / "x.png", o)
        assert iio.imread(picture).shape == iio.imread(photo).shape
        again = np.abs(iio.imread(picture).astype(int) - iio.imread(photo))
        assert again.max() <= 1  # its own expression

    @pytest.mark.parametrize("photo_is", ["expression", "to"])
    def test_one_is_fitted_to_the_others_face_model(self, fitted, photo_is):
        photo, npz = str(fitted / "face.png"), str(fitted / "face.npz")
        model = str(fitted / "m.safetensors")
        o = TransferOptions(face_model=model)
        transfer(photo, photo, fitted / "x.png", o)
        (fitted / "x.npz").rename(npz)
        names = {"expression": (photo, npz), "to": (npz, photo)}[photo_is]
        assert transfer(*names, fitted / "y.png")[0].is_file()

    def test_no_face(self, fitted):
        photo, wall = str(fitted / "face.png"), str(fitted / "wall.png")
        o = TransferOptions(face_model=str(fitted / "m.safetensors"))
        for names in ((photo, wall), (wall, photo)):
            with pytest.raises(ImageError, match="wall.png: no face found"):
                transfer(*names, fitted / "x.png", o)


class TestMistakes:
    @pytest.mark.parametrize(
        ("expression", "options", "text"),
        [
            ("", {}, "transfer: no expression; give --expression A"),
            ("a.npz", {"neutral": True}, "give --expression A, whose .* or --neutral .* not both"),
            ("a.npz", {"out": "x.jpg"}, "x.jpg: expected a .png file"),
            ("a.npz", {"turntable": True}, "x.png: expected a .gif or .mp4 file with --turntable"),
            ("a.npz", {"out": "no/x.png"}, "no such folder"),
            (
                "a.npz",
                {"out": "x.gif", "turntable": True, "frames": 1},
                "--frames is 1, expected 2 to 10000",
            ),
            ("a.npz", {"strength": 2.0}, "--strength is 2, expected 0 to 1.5"),
            ("a.npz", {"strength": float("nan")}, "--strength is nan, expected"),
            ("a.npz", {"image_size": 64}, "--image-size: photographs keep their size"),
            (
                "a.npz",
                {"image_size": 9999, "parameters_only": True},
                "--image-size is 9999, expected 0 to 8192",
            ),
            ("no.npz", {}, "no.npz: no such file"),
            ("smirk", {}, "--expression smirk: no such file, nor an expression .* grin, jawOpen"),
            ("grin=very", {}, "--expression grin=very: 'very' is no number; expected NAME=WEIGHT"),
            ("no.jpg", {}, "no.jpg: no such file"),
            ("clip.mp4", {}, "--expression clip.mp4: a video; .* makes CLIP.npz of it"),
        ],
    )
    def test_options(self, run, expression, options, text):
        with pytest.raises(ValueError, match=text):
            run(expression, **options)

    def test_whom(self, run):
        with pytest.raises(ValueError, match=r"no.npz: no such file"):
            run(to="no.npz")
        with pytest.raises(ValueError, match=r"--to .*clip.mov: a video"):
            run(to="clip.mov")

    def test_another_face_model(self, run, files):
        other = small_face(10)
        other.save(files / "other.safetensors")
        face = portrait(other)[1]
        where = str(files / "other.safetensors")
        dataclasses.replace(face, face_model_file=where).save(files / "other.npz")
        with pytest.raises(ValueError, match=r"other.npz: of the face model cap .* fit both with"):
            run("other.npz")

    def test_a_model_without_named_expressions(self, run, files):
        plain = mirrored_cap()
        plain.save(files / "plain.safetensors")
        with pytest.raises(ValueError, match="cap; it has no named expressions"):
            run("grin", face_model=str(files / "plain.safetensors"))

    def test_mp4_without_ffmpeg(self, run, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
        with pytest.raises(VideoExtraError, match="needs ffmpeg: pip install"):
            run(out="x.mp4", turntable=True)

    def test_what_is_there_is_not_replaced(self, run, files):
        (files / "x.png").write_bytes(b"mine")
        with pytest.raises(ValueError, match="x.png is there, and is no result of the same source"):
            run()
        assert run(overwrite=True)[0].stat().st_size > 100
        run(strength=0.5)  # its own earlier result is replaced

    def test_parameters_of_others_are_not_replaced(self, run, files):
        (files / "x.npz").write_bytes((files / "a.npz").read_bytes())
        with pytest.raises(ValueError, match="x.npz is there, and is no result of the same source"):
            run()
        assert run(overwrite=True)

    def test_the_face_that_is_read_is_not_replaced(self, run, files):
        (files / "b.png").rename(files / "photo.png")
        with pytest.raises(ValueError, match="b.npz would replace the face that is read"):
            run(out="b.png", photo=str(files / "photo.png"), overwrite=True)
