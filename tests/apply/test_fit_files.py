"""From photographs to fitted parameter files: what is written, what is left out, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.apply import fit_files as module
from mofa_nvdr.apply import prediction
from mofa_nvdr.apply.fit_files import FitFileOptions, beyond_the_edge, fit_files
from mofa_nvdr.apply.fitting import FitOptions, Stage
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.result_files import NothingWrittenError
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.runs import trained
from mofa_nvdr.runs.checkpoint import list_checkpoints
from tests.helpers.fake_landmarks import (
    MISSING,
    FakeDetector,
    KnownLandmarks,
    install_fake_detector,
    take_networks_away,
)
from tests.helpers.fitted_faces import SIZE, KnownFaces, known_faces, landmarked_face
from tests.helpers.photographs_of_faces import dog, photograph
from tests.helpers.small_crops import use_small_crops
from tests.helpers.small_face import small_face

_SIZE = 64  # of the crops
_FORM = ("rotation", "translation", "shape", "expression")
_STAGES = (
    Stage(_FORM, 6, landmarks=0.5),
    Stage((*_FORM, "albedo", "light"), 4, landmarks=0.3, photometric=100.0, occlusion=True),
)
_PLACE = (23, 11)  # left and top of the face's picture in the photograph


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small crops and few steps."""
    use_small_crops(monkeypatch, _SIZE)

    def options(render_mode: str) -> FitOptions:
        return FitOptions(_SIZE, render_mode, points=200, stages=_STAGES)

    monkeypatch.setattr(module, "FitOptions", options)


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> FakeDetector:
    return install_fake_detector(monkeypatch)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "landmarked.safetensors"
    landmarked_face().save(path)
    return str(path)


@pytest.fixture(scope="module")
def known() -> KnownFaces:
    return known_faces(landmarked_face(), count=3)


@pytest.fixture
def faces(tmp_path: Path, known: KnownFaces, detector: FakeDetector) -> Path:
    """a.png, b.png and more/c.png, each with one face, and where it is."""
    folder = tmp_path / "people"
    (folder / "more").mkdir(parents=True)
    for k, name in enumerate(("a.png", "b.png", "more/c.png")):
        picture = _picture(known, k)
        iio.imwrite(folder / name, picture)
        detector.know(picture, [_face(known, k)])
    return folder


def _picture(known: KnownFaces, k: int, corner: int = 0) -> np.ndarray:
    """A face in a larger picture, whose top left pixel is its own."""
    picture = np.full((90, 110, 3), 90, np.uint8)
    pixels = (known.photo[k] * 255).round().byte().permute(1, 2, 0).numpy()
    picture[_PLACE[1] : _PLACE[1] + SIZE, _PLACE[0] : _PLACE[0] + SIZE] = pixels
    picture[0, 0] = (k, corner, 0)
    return picture


def _face(known: KnownFaces, k: int) -> KnownLandmarks:
    dense = np.concatenate([known.dense[k].numpy() + _PLACE, np.zeros((478, 1))], 1)
    return KnownLandmarks(dense, known.landmarks68[k].double().numpy() + _PLACE)


def _options(model_file: str, **more: object) -> FitFileOptions:
    return FitFileOptions(face_model=model_file, **more)  # type: ignore[arg-type]


def test_the_last_column_goes_on_past_the_mask():
    """Without a dark step where a picture's smooth edge lies outside the fit's."""
    places = torch.arange(48.0) - 24
    away = (places[:, None].square() + places.square()).sqrt()[None, None]
    mask = (away < 12).float()
    half = (places < 0).float() * 0.5 + 0.25  # hidden more on one side
    shown = beyond_the_edge(mask * half, mask)
    assert torch.equal(shown[mask > 0], (mask * half)[mask > 0])
    near = (mask == 0) & (away < 15) & (places.abs() > 6)  # of columns far from where it changes
    torch.testing.assert_close(shown[near], half.expand_as(mask)[near], atol=0.02, rtol=0)


class TestFitFiles:
    def test_what_is_written(self, faces, known, model_file, tmp_path, capsys):
        out = tmp_path / "new" / "out"
        written = fit_files([faces], out, _options(model_file))
        assert written == [out / "a.npz", out / "b.npz", out / "more" / "c.npz"]
        assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == sorted(
            f"{name}{end}"
            for name in ("a", "b", "more/c")
            for end in (".npz", "_occluders.png", "_panel.png")
        )
        assert f"3 fitted, 0 skipped: {out}" in capsys.readouterr().out
        for k, path in enumerate(written):
            face = load_parameters(path)
            assert (
                face.source == ("a.png", "b.png", "more/c.png")[k] and len(face.source_hash) == 64
            )
            assert face.face_model[0] == "cap" and face.face_model_file == model_file
            # In pixels of the photograph. Measured below 1 px and 0.043.
            off = np.linalg.norm(face.landmarks68 - _PLACE - known.landmarks68[k].numpy(), axis=1)
            assert off.mean() < 1.0
            assert 0 < face.photometric < 0.07 and 0.2 < face.mask_fraction < 0.9
            assert face.certainty > 0.9
            with np.load(path) as arrays:
                assert 0 < arrays["landmark_error"] < 1.5  # px of a crop of 64; measured below 1
            assert face.camera.size == (_SIZE, _SIZE)
        panel = iio.imread(out / "a_panel.png")
        assert panel.shape == (_SIZE, 6 * _SIZE, 3)
        hidden = iio.imread(out / "a_occluders.png")
        assert hidden.shape == (_SIZE, _SIZE) and hidden.mean() < 10

    def test_an_occluder(self, known, detector, model_file, tmp_path):
        """White where it is; what is beyond the picture's edges is not in front of anything."""
        picture = _picture(known, 0)[_PLACE[1] + 12 :]
        picture[20:40, 45:70] = (20, 60, 230)
        picture[0, 0] = (9, 9, 9)
        face = _face(known, 0)
        shift = np.array([0, _PLACE[1] + 12, 0])
        detector.know(picture, [KnownLandmarks(face.points - shift, face.landmarks68 - shift[:2])])
        iio.imwrite(tmp_path / "cut.png", picture)
        (path,) = fit_files([tmp_path / "cut.png"], tmp_path / "out", _options(model_file))
        left, top, side = load_parameters(path).crop
        assert top < 0
        hidden = iio.imread(tmp_path / "out" / "cut_occluders.png")
        row, column = (int((v + 0.5) / side * _SIZE) for v in (30 - top, 57 - left))
        assert hidden[row - 2 : row + 3, column - 2 : column + 3].min() > 200
        beyond = int(-top / side * _SIZE) - 1
        assert beyond > 2 and (hidden[:beyond] == 0).all()

    def test_batches(self, faces, model_file, tmp_path):
        """Of two and one: the same faces but for rounding."""
        whole = fit_files([faces], tmp_path / "whole", _options(model_file))
        parts = fit_files([faces], tmp_path / "parts", _options(model_file, batch=2))
        for one, other in zip(whole, parts):
            a, b = load_parameters(one), load_parameters(other)
            assert np.abs(a.landmarks68 - b.landmarks68).max() < 0.05

    @pytest.mark.parametrize("light", [False, True])
    def test_same_person(self, faces, model_file, tmp_path, light):
        """Whatever the batch."""
        options = _options(model_file, same_person=True, same_light=light, batch=1)
        codes = [load_parameters(path).code for path in fit_files([faces], tmp_path / "o", options)]
        for part in ("shape", "albedo"):
            assert all(torch.equal(getattr(codes[0], part), getattr(c, part)) for c in codes)
        assert torch.equal(codes[0].light, codes[1].light) == light
        assert not torch.equal(codes[0].rotation, codes[1].rotation)

    def test_vertex_mode(self, faces, known, model_file, tmp_path):
        (path, *_) = fit_files([faces], tmp_path / "o", _options(model_file, render_mode="vertex"))
        assert load_parameters(path).photometric < 0.06

    def test_several_faces(self, known, detector, model_file, tmp_path, capsys):
        picture = _picture(known, 0, corner=7)
        iio.imwrite(tmp_path / "two.png", picture)
        small = KnownLandmarks(_face(known, 1).points * 0.2, _face(known, 1).landmarks68 * 0.2)
        detector.know(picture, [_face(known, 0), small])
        (path,) = fit_files([tmp_path / "two.png"], tmp_path / "o", _options(model_file))
        assert f"note: {tmp_path / 'two.png'}: 2 faces, the largest is fitted" in (
            capsys.readouterr().err
        )
        face = load_parameters(path)
        assert np.abs(face.landmarks68.mean(0) - _face(known, 0).landmarks68.mean(0)).max() < 1

    def test_a_model_without_dense_landmarks(self, faces, known, tmp_path, capsys):
        """68 are fitted, and a note says how to have all."""
        plain = small_face(16)
        plain.landmarks.copy_(landmarked_face().landmarks)
        plain.save(tmp_path / "plain.safetensors")
        out = tmp_path / "o"
        written = fit_files([faces], out, _options(str(tmp_path / "plain.safetensors")))
        assert "note: face model cap has no places for 478 landmarks: 68 are fitted; " in (
            capsys.readouterr().err
        )
        off = load_parameters(written[1]).landmarks68 - _PLACE - known.landmarks68[1].numpy()
        assert np.linalg.norm(off, axis=1).mean() < 1.5


class TestLeftOut:
    def test_no_face_and_no_picture(self, faces, model_file, tmp_path, capsys):
        iio.imwrite(faces / "wall.png", np.full((50, 50, 3), 200, np.uint8))
        (faces / "broken.png").write_bytes(b"no picture")
        written = fit_files([faces], tmp_path / "o", _options(model_file, batch=2))
        assert len(written) == 3
        assert sorted(line.split(": ")[0] for line in written.left_out) == [
            str(faces / "broken.png"), str(faces / "wall.png"),
        ]  # fmt: skip
        printed = capsys.readouterr()
        assert f"skipped: {faces / 'wall.png'}: no face found" in printed.err
        assert "3 fitted, 2 skipped" in printed.out

    def test_nothing_at_all(self, detector, model_file, tmp_path):
        iio.imwrite(tmp_path / "wall.png", np.full((50, 50, 3), 200, np.uint8))
        with pytest.raises(
            NothingWrittenError, match=r"^fit: nothing fitted: .*wall\.png: no face found$"
        ):
            fit_files([tmp_path / "wall.png"], tmp_path / "o", _options(model_file))

    def test_large_ones(self, faces, model_file, tmp_path):
        with pytest.raises(NothingWrittenError, match="more than --max-megapixels 0.001"):
            fit_files([faces], tmp_path / "o", _options(model_file, max_megapixels=0.001))

    def test_own_results_are_no_inputs(self, faces, model_file, capsys):
        """Into the folder of the photographs, twice."""
        for _ in range(2):
            written = fit_files([faces], faces, _options(model_file))
            assert [path.name for path in written] == ["a.npz", "b.npz", "c.npz"]
        assert "3 panels" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["a.npz", "a_occluders.png"])
    def test_what_is_there_is_not_replaced(self, faces, model_file, tmp_path, name):
        out = tmp_path / "o"
        out.mkdir()
        (out / name).write_bytes(b"somebody's")
        written = fit_files([faces], out, _options(model_file))
        assert [path.name for path in written] == ["b.npz", "c.npz"]
        (reason,) = written.left_out
        assert reason == (
            f"{faces / 'a.png'}: {out / name} is there, and no result of it; give another --out, or "
            "--overwrite"
        )
        assert (out / name).read_bytes() == b"somebody's"
        assert len(fit_files([faces], out, _options(model_file, overwrite=True))) == 3


class TestFromThePackagesEncoder:
    """Without the landmark networks and without a run."""

    @pytest.fixture(autouse=True)
    def own(self, monkeypatch, smoke_run):
        """A run stands in for the package's encoder, and its face model for the package's."""
        take_networks_away(monkeypatch)
        path = list_checkpoints(smoke_run[0])[-1]
        monkeypatch.setattr(trained, "shipped_encoder", lambda: path)
        monkeypatch.setattr(module, "shipped_encoder", lambda: path)

    def test_the_largest_face_is_found(self, monkeypatch, tmp_path):
        monkeypatch.setattr(prediction, "face_certainty", lambda photo, _: torch.ones(len(photo)))
        iio.imwrite(tmp_path / "a.png", photograph(300, 420, [(20, 30, 120), (220, 60, 180)]))
        (path,) = fit_files([tmp_path / "a.png"], tmp_path / "o", FitFileOptions())
        face = load_parameters(path)
        assert face.crop[0] + face.crop[2] / 2 == pytest.approx(310, abs=40)

    def test_no_face(self, monkeypatch, tmp_path):
        monkeypatch.setattr(prediction, "face_certainty", lambda photo, _: torch.zeros(len(photo)))
        dog().save(tmp_path / "dog.png")
        with pytest.raises(NothingWrittenError, match="dog.png: no face found"):
            fit_files([tmp_path / "dog.png"], tmp_path / "o", FitFileOptions())


class TestWithoutNetworks:
    @pytest.fixture(autouse=True)
    def away(self, monkeypatch):
        take_networks_away(monkeypatch)

    def test_one_line_with_the_command(self, photos, model_file, tmp_path):
        with pytest.raises(NetworkMissingError) as caught:
            fit_files([photos], tmp_path / "o", _options(model_file))
        assert str(caught.value) == (
            f"fit: {MISSING}; or give --checkpoint RUN, whose predictions are fitted further"
        )
        assert not (tmp_path / "o").exists()

    def test_from_a_checkpoint(self, smoke_run, photos, tmp_path, monkeypatch):
        """Crops are taken whole, and start from what the run predicts."""
        run, cap = smoke_run
        written = fit_files([photos], tmp_path / "o", FitFileOptions(str(run), cap))
        assert [path.name for path in written] == ["a.npz", "b.npz", "c.npz"]
        face = load_parameters(written[0])
        assert face.crop.tolist() == [0, 0, 80] and face.face_model_file == cap
        assert 0 < face.photometric < 1


class TestCheckpointAndNetworks:
    def test_starts_from_the_prediction(self, faces, smoke_run, tmp_path, monkeypatch):
        """Both are used: where fitting starts, and what it fits."""
        run, cap = smoke_run
        starts = []
        call = module.FaceFitter.__call__

        def spy(self, observed, start=None, after=None):
            starts.append((observed.landmarks.shape, start))
            return call(self, observed, start, after)

        monkeypatch.setattr(module.FaceFitter, "__call__", spy)
        fit_files([faces], tmp_path / "o", FitFileOptions(str(run), cap))
        ((shape, start),) = starts
        assert shape == (3, 68, 2)  # that run's model has no places for more
        assert start is not None and start.batch_size == 3


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"batch": 0}, r"^--batch is 0, expected 1 or more$"),
            ({"same_light": True}, r"^--same-light: give --same-person with it$"),
            (
                {"render_mode": "points"},
                r"^--render-mode is 'points', expected one of raster, vertex",
            ),
            ({"checkpoint": "none"}, r"none"),
        ],
    )
    def test_options(self, faces, model_file, tmp_path, options, words):
        with pytest.raises(ValueError, match=words):
            fit_files([faces], tmp_path / "o", replace(_options(model_file), **options))

    def test_inputs(self, detector, model_file, tmp_path):
        with pytest.raises(ValueError, match=r"^fit: no input; give image files or folders"):
            fit_files([], tmp_path / "o", _options(model_file))
        with pytest.raises(ValueError, match=r"none\.png: no such image or folder"):
            fit_files([tmp_path / "none.png"], tmp_path / "o", _options(model_file))

    def test_face_model(self, faces, tmp_path):
        with pytest.raises(ValueError, match=r"^face model 'none\.safetensors': no such file"):
            fit_files([faces], tmp_path / "o", _options("none.safetensors"))

    def test_out(self, faces, model_file, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"--out .*file"):
            fit_files([faces], tmp_path / "file", _options(model_file))
