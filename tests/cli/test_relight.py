"""mofa-nvdr relight: pictures and turns of the light, and one line for every mistake."""

import os

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from mofa_nvdr.apply.relight_photos import PhotoLightOptions
from mofa_nvdr.apply.relighting import relight
from mofa_nvdr.cli import main
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.light_sources import light_presets, load_light
from mofa_nvdr.system.marks import read_mark
from tests.helpers.commands import calls_of, error_line, help_words
from tests.helpers.lit_faces import BACKGROUND, SIZE, lit_face
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return small_face(24)


@pytest.fixture(scope="module")
def cap(model, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    model.save(path)
    return str(path)


@pytest.fixture
def files(model, tmp_path) -> list[str]:
    paths = [str(tmp_path / f"{k}.npz") for k in range(3)]
    for seed, path in enumerate(paths):
        lit_face(model, seed).save(path)
    return paths


@pytest.fixture
def run_relight(cap, capsys):
    """Call the command; its exit status and stderr's lines."""

    def call(*args, face_model=cap):
        capsys.readouterr()
        words = [str(a) for a in args]
        more = ["--parameters-only", "--face-model", face_model, "--device", "cpu"]
        status = main(["relight", *words, *more])
        return status, capsys.readouterr().err.splitlines()

    return call


def _frames(path) -> list[np.ndarray]:
    with Image.open(path) as gif:
        return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]


def _probe(path, rows: int = 16) -> bytes:
    """An .hdr panorama, flat, white with a bright left half."""
    pixels = np.full((rows, 2 * rows, 4), (100, 100, 100, 128), np.uint8)
    pixels[:, :rows, :3] = 250
    header = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {rows} +X {2 * rows}\n".encode()
    content = header + pixels.tobytes()
    path.write_bytes(content)
    return content


class TestRelightCommand:
    @pytest.mark.parametrize("preset", sorted(light_presets()))
    def test_presets(self, run_relight, files, tmp_path, preset):
        assert run_relight(files[0], "--light", preset, "--out", tmp_path / "x.png") == (0, [])
        assert iio.imread(tmp_path / "x.png").shape == (SIZE, SIZE, 3)

    def test_several_faces_side_by_side(self, run_relight, files, tmp_path):
        assert run_relight(*files, "--light", "front", "--out", tmp_path / "all.png")[0] == 0
        together = iio.imread(tmp_path / "all.png")
        assert together.shape == (SIZE, 3 * SIZE, 3)
        for k, file in enumerate(files):
            run_relight(file, "--light", "front", "--out", tmp_path / f"one{k}.png")
            one = iio.imread(tmp_path / f"one{k}.png")
            assert np.array_equal(together[:, k * SIZE : (k + 1) * SIZE], one)

    def test_probe(self, run_relight, files, tmp_path, model):
        _probe(tmp_path / "half.hdr")
        out = tmp_path / "x.png"
        assert run_relight(files[0], "--light", tmp_path / "half.hdr", "--out", out) == (0, [])
        picture = iio.imread(out).astype(float)
        assert picture[:, : SIZE // 2].mean() > picture[:, SIZE // 2 :].mean() + 5
        decoder = FaceDecoder(model, SIZE, frontal_only=False)
        light = load_light(str(tmp_path / "half.hdr"))
        assert np.array_equal(picture, relight(decoder, lit_face(model, 0), light)[0])

    def test_light_of_another_face(self, run_relight, files, tmp_path, model):
        out = tmp_path / "x.png"
        assert run_relight(files[0], "--light", files[1], "--out", out) == (0, [])
        lit = model.layout.unpack(lit_face(model, 0).code.pack())
        lit = lit.replace(light=lit_face(model, 1).code.light)
        decoder = FaceDecoder(model, SIZE, frontal_only=False)
        with torch.no_grad():
            face = decoder(lit)
        inside = face.mask[0, 0].numpy() > 0
        expected = (face.image[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(iio.imread(out)[inside], expected[inside])

    def test_light_of_a_face_of_another_model(self, run_relight, files, tmp_path):
        other = small_face(16, modes=6)
        lit_face(other, 1).save(tmp_path / "other.npz")
        out = tmp_path / "x.png"
        assert run_relight(files[0], "--light", tmp_path / "other.npz", "--out", out) == (0, [])

    @pytest.mark.parametrize("size", [96, 128])
    def test_image_size_scales_the_same_view(self, run_relight, files, tmp_path, size):
        small, large = tmp_path / "small.png", tmp_path / "large.png"
        run_relight(files[0], "--light", "key_left", "--out", small)
        run_relight(files[0], "--light", "key_left", "--out", large, "--image-size", size)
        a, b = iio.imread(small), iio.imread(large)
        assert b.shape == (size, size, 3)
        shrunk = np.array(Image.fromarray(b).resize((SIZE, SIZE), Image.Resampling.BOX))
        assert (
            np.abs(a.astype(int) - shrunk).mean() < 2
        )  # 0.75 of 255 measured: the outline's steps

    def test_faces_of_different_sizes(self, run_relight, files, tmp_path, model):
        """All are drawn at the largest one's height."""
        lit_face(model, 5, Camera(96)).save(tmp_path / "large.npz")
        out = tmp_path / "x.png"
        status = run_relight(files[0], tmp_path / "large.npz", "--light", "front", "--out", out)
        assert status == (0, [])
        assert iio.imread(out).shape == (96, 192, 3)

    def test_oblong_camera(self, run_relight, tmp_path, model):
        lit_face(model, 5, Camera((48, 64))).save(tmp_path / "wide.npz")
        out = tmp_path / "x.png"
        arguments = (tmp_path / "wide.npz", "--light", "front", "--out", out)
        assert run_relight(*arguments, "--image-size", "96") == (0, [])
        assert iio.imread(out).shape == (96, 128, 3)

    def test_no_temporary_file_is_left(self, run_relight, files, tmp_path):
        run_relight(files[0], "--light", "front", "--out", tmp_path / "x.png")
        assert sorted(os.listdir(tmp_path)) == ["0.npz", "1.npz", "2.npz", "x.png"]


class TestRotate:
    def test_one_turn(self, run_relight, files, tmp_path):
        gif, png = tmp_path / "x.gif", tmp_path / "x.png"
        arguments = (*files[:2], "--light", "key_left", "--out")
        assert run_relight(*arguments, gif, "--rotate", "--frames", "12") == (0, [])
        run_relight(*arguments, png)
        assert read_mark(gif) == read_mark(png) == "relit picture"
        frames, still = _frames(gif), iio.imread(png)
        assert len(frames) == 12
        assert all(frame.shape == (SIZE, 2 * SIZE, 3) for frame in frames)
        # A GIF frame has 256 colours: 1.6 of 255 was measured on average.
        assert np.abs(frames[0].astype(int) - still).mean() < 3
        # The light has gone round once: the first frame follows on the last as the second on the first.
        steps = [np.abs(frames[k].astype(int) - frames[k - 1]).mean() for k in range(len(frames))]
        assert max(steps) < 4 * np.median(steps) and min(steps) > 0.5

    def test_face_keeps_still(self, run_relight, files, tmp_path):
        gif = tmp_path / "x.gif"
        run_relight(files[0], "--light", "key_left", "--out", gif, "--rotate", "--frames", "8")
        png = tmp_path / "x.png"
        run_relight(files[0], "--light", "ambient", "--out", png)
        outside = (iio.imread(png) == BACKGROUND).all(-1)
        assert 0.2 < outside.mean() < 0.8
        for frame in _frames(gif):
            assert np.abs(frame[outside].astype(int) - BACKGROUND).max() <= 2

    def test_plays_for_ever(self, run_relight, files, tmp_path):
        gif = tmp_path / "x.gif"
        run_relight(files[0], "--light", "key_left", "--out", gif, "--rotate", "--frames", "4")
        with Image.open(gif) as image:
            assert image.info["loop"] == 0 and image.info["duration"] == 60


class TestMistakes:
    @pytest.fixture
    def refused(self, run_relight):
        def call(*args, **options) -> str:
            status, errors = run_relight(*args, **options)
            assert status == 2 and len(errors) == 1, errors
            assert errors[0].startswith("mofa-nvdr: ")
            return errors[0]

        return call

    def test_endings(self, refused, files, tmp_path):
        text = refused(files[0], "--light", "front", "--out", tmp_path / "x.jpg")
        assert f"--out {tmp_path / 'x.jpg'}: expected a .png file" in text
        text = refused(files[0], "--light", "front", "--out", tmp_path / "x.png", "--rotate")
        assert "expected a .gif file with --rotate" in text

    def test_unknown_preset(self, refused, files, tmp_path):
        text = refused(files[0], "--light", "moonlight", "--out", tmp_path / "x.png")
        assert (
            "moonlight: neither a light probe (.hdr, .exr) nor a preset" in text
            and "key_left" in text
        )

    def test_half_a_probe(self, refused, files, tmp_path):
        content = _probe(tmp_path / "half.hdr")
        (tmp_path / "half.hdr").write_bytes(content[: len(content) // 2])
        text = refused(files[0], "--light", tmp_path / "half.hdr", "--out", tmp_path / "x.png")
        assert f"{tmp_path / 'half.hdr'}: ends after row" in text
        assert not (tmp_path / "x.png").exists()

    @pytest.mark.parametrize("name", ["no.hdr", "no.npz"])
    def test_missing_light(self, refused, files, tmp_path, name):
        text = refused(files[0], "--light", tmp_path / name, "--out", tmp_path / "x.png")
        assert str(tmp_path / name) in text

    def test_missing_or_damaged_parameters(self, refused, files, tmp_path):
        arguments = ("--light", "front", "--out", tmp_path / "x.png")
        assert f"{tmp_path / 'no.npz'}: no such file" in refused(tmp_path / "no.npz", *arguments)
        (tmp_path / "bad.npz").write_bytes(b"nothing")
        assert "not a readable .npz" in refused(files[0], tmp_path / "bad.npz", *arguments)
        with np.load(files[0]) as file:
            arrays = {key: file[key] for key in file.files}
        arrays["light"][0, 0] = np.nan
        np.savez(tmp_path / "bad.npz", **arrays)
        assert "light holds values that are not finite" in refused(tmp_path / "bad.npz", *arguments)

    def test_parameters_of_another_model(self, refused, tmp_path):
        lit_face(small_face(24, seed=5), 0).save(tmp_path / "other.npz")
        text = refused(tmp_path / "other.npz", "--light", "front", "--out", tmp_path / "x.png")
        assert "parameters of face model cap" in text and "give theirs as --face-model" in text

    def test_parameters_that_do_not_fit_their_model(self, refused, files, tmp_path):
        with np.load(files[0]) as file:
            arrays = {key: file[key] for key in file.files}
        np.savez(tmp_path / "bad.npz", **{**arrays, "shape": np.zeros(9, np.float32)})
        text = refused(tmp_path / "bad.npz", "--light", "front", "--out", tmp_path / "x.png")
        assert f"{tmp_path / 'bad.npz'}: FaceCode: shape is [1, 9], expected [1, 4]" in text

    def test_unwritable_out(self, refused, files, tmp_path):
        for out in (tmp_path / "no" / "x.png", tmp_path / "0.npz" / "x.png"):
            text = refused(files[0], "--light", "front", "--out", out)
            assert f"--out {out}: cannot write there" in text
        (tmp_path / "x.png").mkdir()
        text = refused(files[0], "--light", "front", "--out", tmp_path / "x.png")
        assert "cannot write there" in text
        assert not (tmp_path / "x.png.tmp").exists()

    def test_numbers(self, refused, files, tmp_path):
        arguments = (files[0], "--light", "key_left", "--out", tmp_path / "x.gif", "--rotate")
        assert "--frames is 1, expected 2 or more" in refused(*arguments, "--frames", "1")
        text = refused(*arguments, "--image-size", "-1")
        assert "--image-size is -1, expected 0 to 8192 pixels" in text

    def test_no_files(self, refused, tmp_path):
        assert "file" in refused("--light", "front", "--out", tmp_path / "x.png").lower()

    def test_missing_face_model(self, refused, files, tmp_path):
        text = refused(
            files[0], "--light", "front", "--out", tmp_path / "x.png", face_model="no.safetensors"
        )
        assert "face model 'no.safetensors': no such file" in text


class TestOptions:
    def test_into_one_call(self, monkeypatch):
        calls = calls_of(monkeypatch, "mofa_nvdr.apply.relighting.relight_files")
        needed = ["--light", "front", "--out", "x.png"]
        needed = [*needed, "--parameters-only"]
        assert main(["relight", "a.npz", "b.npz", *needed]) == 0
        more = ["--rotate", "--frames", "9", "--image-size", "96", "--face-model", "m.safetensors"]
        assert main(["relight", "a.npz", *needed, *more, "--device", "cpu", "--overwrite"]) == 0
        assert calls == [
            (["a.npz", "b.npz"], "front", "x.png", False, 48, 0, "", "auto", False),
            (["a.npz"], "front", "x.png", True, 9, 96, "m.safetensors", "cpu", True),
        ]

    def test_help_has_units(self, capsys):
        words = help_words(capsys, "relight")
        assert "height of the picture in pixels" in words and "pictures in one turn" in words

    def test_of_photographs(self, monkeypatch):
        calls = calls_of(monkeypatch, "mofa_nvdr.apply.relight_photos.relight_photo")
        assert main(["relight", "a.jpg", "--light", "front", "--out", "x.png"]) == 0
        more = ["--photo", "p.jpg", "--rotate", "--frames", "9", "--turn", "-30", "--mirror"]
        more += [
            "--exposure",
            "-0.5",
            "--no-shadows",
            "--color",
            "0.8",
            "--fill",
            "0.1",
            "--no-balanced",
            "--face-model",
            "m",
            "--overwrite",
        ]
        assert main(["relight", "a.npz", "--light", "b.jpg", "--out", "x.gif", *more]) == 0
        options = PhotoLightOptions(
            "p.jpg", True, 9, "-30", True, "-0.5", False, 0.8, "0.1", False, "m", True
        )
        assert calls == [
            ("a.jpg", "front", "x.png", PhotoLightOptions()),
            ("a.npz", "b.jpg", "x.gif", options),
        ]

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["a.jpg", "b.jpg"], "relight: 2 files; one photograph is relit at a time"),
            (["a.jpg", "--image-size", "96"], "--image-size: photographs keep their size"),
            (
                ["a.jpg", "--device", "cuda"],
                "--device cuda: photographs keep their size and are relit on",
            ),
            (["a.npz", "--parameters-only", "--mirror"], "--mirror is for photographs"),
            (["a.npz", "--parameters-only", "--no-shadows"], "--no-shadows is for photographs"),
            (["a.npz", "--parameters-only", "--no-balanced"], "--no-balanced is for photographs"),
            (["a.npz", "--parameters-only", "--color", "1"], "--color is for photographs"),
            (["a.npz", "--parameters-only", "--fill", "0"], "--fill is for photographs"),
            (["a.npz", "--parameters-only", "--turn", "9"], "--turn is for photographs"),
            (["a.npz", "--parameters-only", "--exposure", "1"], "--exposure is for photographs"),
            (["a.npz", "--parameters-only", "--photo", "a.jpg"], "--photo is for photographs"),
        ],
    )
    def test_that_do_not_go_together(self, capsys, words, text):
        assert text in error_line(capsys, "relight", *words, "--light", "top", "--out", "x.png")
