"""`mofa-nvdr fit` with landmarks next to photographs: each number of points, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mofa_nvdr.apply import fit_files as module
from mofa_nvdr.apply.fitting import FitOptions, Stage
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.cli import NOTHING_DONE, main
from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.face.landmarks import INNER_FACE
from mofa_nvdr.face.model import FaceModel
from tests.helpers.commands import error_line
from tests.helpers.fake_landmarks import install_fake_detector
from tests.helpers.landmarked_photographs import face, photograph
from tests.helpers.small_crops import use_small_crops

_FORM = ("rotation", "translation", "shape", "expression")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Landmarks alone, and a detector that finds no face anywhere."""
    use_small_crops(monkeypatch, 64)
    stages = (Stage(_FORM[:2], 6, landmarks=0.5), Stage(_FORM, 4, landmarks=0.5))
    monkeypatch.setattr(module, "FitOptions", lambda render_mode: FitOptions(64, stages=stages))
    install_fake_detector(monkeypatch)


def points_of(count: int) -> np.ndarray:
    """A face that looks ahead, in the order of a set, px of a picture of 240."""
    if count == 5:
        marks = face(68)
        eyes = [marks[36:42].mean(0), marks[42:48].mean(0)]
        return np.array([*eyes, marks[30], marks[48], marks[54]])
    if count < 468:
        return face(count)
    # Where the mesh's points are on the mean face, moved as little as gives exactly those 68.
    model = FaceModel.load("procedural")
    places = model.dense_landmarks
    flat = places.of(model.mean_shape[None])[0, :, :2].numpy()
    flat[~places.known] = flat[places.known].mean(0)
    points = flat[:count] * (0.75, -0.75) + (120, 120)
    each = np.zeros((count, count, 2))
    each[range(count), range(count)] = 1
    shares = ibug_landmarks(each)[..., 0].T
    return points + np.linalg.pinv(shares) @ (face(68) - ibug_landmarks(points))


def written(folder: Path, count: int, name: str = "face.png") -> Path:
    """A photograph with `count` points next to it, as text or, of the mesh, as arrays."""
    path = photograph(folder, name)
    if count < 468:
        rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points_of(count))
        path.with_suffix(".txt").write_text(rows)
    else:
        np.savez(path.with_suffix(".npz"), **{f"lm{count}": points_of(count)})
    return path


class TestEachNumber:
    @pytest.mark.parametrize("count", [5, 68, 98, 106, 468, 478])
    def test_is_fitted(self, tmp_path, count, capsys):
        path = written(tmp_path / "in", count)
        assert main(["fit", str(path), "--out", str(tmp_path / "out")]) == 0
        assert "1 fitted, 0 skipped" in capsys.readouterr().out
        found = load_parameters(tmp_path / "out" / "face.npz").landmarks68
        off = np.linalg.norm(found - face(68), axis=1)[list(INNER_FACE)].mean()
        # px, of a face 150 px wide. Measured 2.1, 1.1, and 4.5 of the mesh, whose form is another's.
        assert off < {5: 4, 468: 7, 478: 7}.get(count, 2)

    def test_a_table_of_the_mesh_before_one_of_68(self, tmp_path):
        """Of a folder that `preprocess` wrote the more points are taken."""
        path = photograph(tmp_path)
        np.savez(tmp_path / "landmarks68.npz", files=["face.png"], lm68=face(68)[None] + 3)
        np.savez(tmp_path / "landmarks478.npz", files=["face.png"], lm478=points_of(478)[None])
        fitter = module._FileFitter(module.FitFileOptions())
        source = module.Source(path, str(path), "")
        fitter.read_landmarks([source])
        with module.Picture(path) as picture:
            assert fitter._face(picture, source).points.shape == (478, 2)


class TestMistakes:
    def test_another_number(self, tmp_path, capsys):
        """Named, and not used: the detector is asked, which finds nothing here."""
        path = photograph(tmp_path)
        path.with_suffix(".txt").write_text("10 20\n" * 29)
        assert main(["fit", str(path), "--out", str(tmp_path / "out")]) == NOTHING_DONE
        (note,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("note"))
        assert note == (
            f"note: {path.with_suffix('.txt')}: holds 29 points (COFW's 29), expected 5, 68, 98, 106, 468 "
            "or 478 rows of x and y; not used"
        )

    def test_of_another_order(self, tmp_path, capsys):
        path = written(tmp_path, 68)
        rows = "\n".join(f"{y:.3f} {x:.3f}" for x, y in points_of(68))
        path.with_suffix(".txt").write_text(rows)
        assert main(["fit", str(path), "--out", str(tmp_path / "out")]) == NOTHING_DONE
        assert "the points of face.png look like rows of y and x" in capsys.readouterr().err

    def test_one_person_by_several_numbers(self, tmp_path, capsys):
        for count in (68, 5):
            written(tmp_path / "in", count, f"by{count}.png")
        words = ["fit", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
        assert "--same-person: the photographs have 5 and 68 landmarks; give all" in error_line(
            capsys, *words, "--same-person"
        )
        assert main(words) == 0  # of several people each is fitted by its own
        assert len(list((tmp_path / "out").glob("*.npz"))) == 2

    def test_several_faces(self, tmp_path, capsys):
        """The largest is fitted, and a note says so."""
        photograph(tmp_path)
        every = np.stack([face(68) * 0.4, face(68)])
        np.savez(tmp_path / "landmarks68.npz", files=["face.png"] * 2, lm68=every)
        assert main(["fit", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
        assert "face.png: 2 faces, the largest is fitted" in capsys.readouterr().err
        found = load_parameters(tmp_path / "out" / "face.npz").landmarks68
        assert np.abs(found.mean(0) - face(68).mean(0)).max() < 8


def test_five_points_of_the_model():
    """Eyes half way between their corners; the others are landmarks."""
    from mofa_nvdr.apply.fit_landmarks import _points_of

    model = FaceModel.load("procedural")
    points, spread = _points_of(model, 5)
    places = (model.mean_shape[points.corners] * points.shares[..., None]).sum(1)
    marks = model.mean_shape[model.landmarks.long()]
    expected = torch.stack([marks[[36, 39]].mean(0), marks[[42, 45]].mean(0), *marks[[30, 48, 54]]])
    assert torch.allclose(places, expected, atol=1e-5) and (spread == 2).all()
