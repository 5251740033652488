"""Sheets of a face model: framing, random people, and every sheet of a model that can be told apart."""

import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.apply import model_sheets
from mofa_nvdr.cli import main
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.light_sources import light_presets
from mofa_nvdr.scene.lighting import sh_basis
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.commands import error_line
from tests.helpers.small_face import small_face, textured_face


def _size(path) -> tuple[int, int]:
    height, width, _ = iio.imread(path).shape
    return width, height


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "cap.safetensors"
    textured_face().save(path)
    return path


class TestFraming:
    @pytest.mark.parametrize(
        "stretch", [[0.5, 0.5, 0.5], [1, 1, 1], [3, 3, 3], [3, 1, 1], [1, 1, 4]]
    )
    def test_any_size_and_origin(self, stretch):
        """The average face fills the picture, in its middle, from the front and from the side."""
        arrays = {name: value.numpy() for name, value in textured_face().named_buffers()}
        arrays["mean_shape"] = arrays["mean_shape"] * stretch
        model = FaceModel(arrays, region_names=["right", "left"])
        camera = model_sheets.framing(model, 100)
        height, width = camera.size
        assert height == 100 and width % 2 == 0 and 50 <= width <= 100
        middle = (model.mean_shape.amin(0) + model.mean_shape.amax(0)) / 2
        for angle in (0, math.pi / 2):
            turn = axis_angle_to_matrix(torch.tensor([[0, angle, 0.0]]))
            # About its own middle, as Painter turns it.
            turned = (model.mean_shape - middle) @ turn[0].T + middle
            placed = camera.to_camera(turned[None], torch.eye(3)[None], torch.zeros(1, 3))
            pixels = camera.project(placed)[0]
            low, high = pixels.amin(0), pixels.amax(0)
            assert low.min() > 0 and high[0] < width and high[1] < height, angle
            if angle == 0:
                filled = (high - low) / torch.tensor([width, height])
                assert 0.7 < filled.max() < 0.95
                assert ((low + high) / 2 - torch.tensor([width, height]) / 2).abs().max() < 4

    def test_turned_faces_stay_in_the_middle(self):
        """The cap's origin is 200 mm beside it; turned by 40 degrees it would leave the picture."""
        model = textured_face()
        painter = model_sheets.Painter(model, 64)
        code = model.layout.zeros().replace(rotation=torch.tensor([[0, 0.7, 0.0]]))
        picture = painter(code, light_presets()["front"])[0].astype(int)
        face = np.abs(picture - picture[0, 0]).max(2) > 8
        rows, columns = np.nonzero(face)
        assert face.mean() > 0.3
        assert abs(columns.mean() - picture.shape[1] / 2) < 6 and abs(rows.mean() - 32) < 6


class TestPeople:
    def test_as_stated(self):
        code, light = model_sheets.random_people(small_face(), 2000, seed=3)
        angles = torch.rad2deg(code.rotation.norm(dim=1))
        assert angles.max() <= 15 and angles.max() > 14
        assert code.shape.std().item() == pytest.approx(1, abs=0.05)
        assert code.albedo.std().item() == pytest.approx(1, abs=0.05)
        assert (code.expression == 0).all() and (code.translation == 0).all()
        # Along the camera's axis: ambient plus at most 17/16 of the key light.
        facing = (sh_basis(torch.tensor([0.0, 0.0, 1.0])) @ light)[:, 0]
        assert 0.35 < facing.min() and facing.max() < 0.75 + 0.8 * 17 / 16

    def test_seeded(self):
        one, two, other = (model_sheets.random_people(small_face(), 4, seed) for seed in (1, 1, 2))
        assert torch.equal(one[0].pack(), two[0].pack()) and torch.equal(one[1], two[1])
        assert not torch.equal(one[0].shape, other[0].shape)


class TestExpressionsSheet:
    def test_mouth_close_stands_on_an_open_jaw(self, monkeypatch):
        """ARKit's mouthClose is the lips closing over jawOpen."""
        arrays = {name: value.numpy() for name, value in small_face().named_buffers()}
        jaw, close = np.array([1.0, 0, 0]), np.array([0, 2.0, 0])
        model = FaceModel(arrays, named_expressions={"jawOpen": jaw, "mouthClose": close})
        drawn, labels = [], []

        class Recorder(model_sheets.Painter):
            def __call__(self, code, light, clay=False):
                drawn.append(code.expression)
                return np.zeros((code.batch_size, 8, 8, 3), np.uint8)

        monkeypatch.setattr(model_sheets, "_labelled", lambda p, names, c: labels.extend(names))
        model_sheets.expressions_sheet(Recorder(model, 8))
        assert labels == ["neutral", "jawOpen", "jawOpen + mouthClose"]
        assert drawn[0].tolist() == [[0, 0, 0], [1, 0, 0], [1, 2, 0]]


class TestShow:
    def test_sheets(self, model_file, tmp_path, capsys):
        """Every sheet has the stated number of pictures, and what differs looks different."""
        folder = tmp_path / "new" / "sheets"
        args = ["--out", str(folder), "--size", "80", "--modes", "3"]
        assert main(["model", "show", str(model_file), *args]) == 0
        assert sorted(p.stem for p in folder.iterdir()) == sorted(model_sheets.SHEETS)
        sizes = {p.stem: _size(p) for p in folder.iterdir()}
        wide = model_sheets.framing(textured_face(), 160).size[1] // 2
        assert sizes["people"][0] == 6 * wide and 0 <= sizes["people"][1] - 6 * 80 - 14 < 5 * 14
        assert sizes["named_expressions"] == (3 * wide, 80 + 14)  # neutral, grin, frown
        assert sizes["tones"] == (11 * wide, 80 + 14)
        assert sizes["mean"][1] == 2 * (160 + 14)
        small = model_sheets.framing(textured_face(), 112).size[1] // 2  # 0.7 of the size
        for name in ("shape", "expression", "albedo"):
            assert sizes[name][0] == 3 * (3 * small + 6)
        assert "7 sheets of cap" in capsys.readouterr().out
        for name in ("shape", "albedo"):
            strip = iio.imread(folder / f"{name}.png").astype(int)[:56, : 3 * small]
            minus, mean, plus = np.split(strip, 3, axis=1)
            assert np.abs(minus - mean).max() > 5 and np.abs(plus - mean).max() > 5
            assert np.abs(minus - plus).max() > 5

    def test_modes_and_choice(self, model_file, tmp_path):
        out = str(tmp_path / "sheets")
        args = ["model", "show", str(model_file), "--out", out, "--size", "32", "--modes", "2"]
        assert main([*args, "--sheets", "albedo", "mean"]) == 0
        assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == ["albedo.png", "mean.png"]
        wide = model_sheets.framing(textured_face(), 44).size[1] // 2
        assert _size(tmp_path / "sheets" / "albedo.png")[0] == 2 * (3 * wide + 6)

    def test_nothing_to_show(self, tmp_path, capsys):
        small_face().save(tmp_path / "cap.safetensors")
        out = tmp_path / "sheets"
        args = [str(tmp_path / "cap.safetensors"), "--out", str(out), "--size", "32"]
        assert main(["model", "show", *args, "--sheets", "named_expressions", "mean"]) == 0
        assert (
            "named_expressions: left out, cap has nothing to show there" in capsys.readouterr().out
        )
        assert [p.name for p in out.iterdir()] == ["mean.png"]

    def test_mistakes(self, model_file, tmp_path, capsys):
        show = ["model", "show", str(model_file), "--out", str(tmp_path / "o")]
        assert "--size is 5, expected 32 to 2048 pixels" in error_line(capsys, *show, "--size", "5")
        assert "--modes is 0, expected 1 or more" in error_line(capsys, *show, "--modes", "0")
        message = error_line(capsys, *show, "--sheets", "noses")
        assert "--sheets: 'noses', expected some of people, shape" in message
        assert not (tmp_path / "o").exists()
        blocked = ["model", "show", str(model_file), "--out", str(model_file / "x")]
        assert "cannot write there" in error_line(
            capsys, *blocked, "--size", "32", "--sheets", "mean"
        )
