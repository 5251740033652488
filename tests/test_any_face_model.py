"""A face model of any size trains, reconstructs and relights; its files find it again, and refuse another."""

import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.cli import main
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.training.loop import train
from tests.helpers.small_face import small_face

# rows of the mesh, modes: 7, 6 and 8 of them; and one without any expression
SIZES = {"odd": (13, 7), "still": (9, 1)}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name, (rows, modes) in SIZES.items():
        model = small_face(rows, modes)
        model.metadata["name"] = name
        paths[name] = folder / f"{name}.safetensors"
        model.save(paths[name])
    return paths


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for k in range(6):
        iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def run(models, photos, tmp_path_factory) -> Path:
    """A run on photographs, with a warm start on rendered faces, with the odd model."""
    return _train(
        models["odd"], tmp_path_factory.mktemp("runs") / "run", **{"data.path": str(photos)}
    )


def _train(model: Path, out: Path, **changes: object) -> Path:
    config = load_config("smoke")
    changes = {"schedule.warm_start_steps": 2, **changes}
    return train(
        replace_options(config, {"run.face_model": str(model), "run.out": str(out), **changes})
    )


@pytest.fixture
def command(capsys):
    """Run a command that must succeed or, with `fails`, end in one line; the line."""

    def call(*args: object, fails: bool = False) -> str:
        capsys.readouterr()
        status = main([*map(str, args), "--device", "cpu"])
        errors = capsys.readouterr().err.strip()
        assert status == (2 if fails else 0), errors
        assert not fails or len(errors.splitlines()) == 1, errors
        return errors

    return call


class TestOtherSizes:
    @pytest.mark.parametrize("name", SIZES)
    @pytest.mark.parametrize(
        ("mode", "gradient", "outline"),
        [("raster", "rendering", False), ("raster", "rendering", True), ("raster", "surface", False),
         ("vertex", "rendering", False)],
    )  # fmt: skip
    def test_trains(self, name, mode, gradient, outline, models, photos, tmp_path):
        rows, modes = SIZES[name]
        run = _train(
            models[name],
            tmp_path / "run",
            **{
                "render.mode": mode,
                "render.gradient": gradient,
                "render.outline": outline,
                "data.path": str(photos),
                "loss.photometric": 2.0,
            },
        )
        steps = [line["step"] for line in read_log(run / "log.jsonl") if "loss" in line]
        assert steps == [1, 2, 3, 4]  # none was skipped
        tensors, metadata = read_checkpoint(list_checkpoints(run)[-1])
        assert metadata["encoder"]["face_model"]["name"] == name
        layout = FaceModel.load(models[name]).layout
        assert (layout.num_shape, layout.num_expression, layout.num_albedo) == (
            modes, modes - 1, modes + 1,
        )  # fmt: skip
        assert len(tensors["encoder/head.scale"]) == layout.size

    @pytest.mark.parametrize("name", SIZES)
    def test_trains_on_synthetic_faces_and_resumes(self, name, models, tmp_path):
        run = _train(models[name], tmp_path / "run", **{"data.path": "synthetic"})
        _train(models[name], tmp_path / "run", **{"data.path": "synthetic", "run.steps": 6})
        steps = [line["step"] for line in read_log(run / "log.jsonl") if "loss" in line]
        assert steps == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize("name", SIZES)
    def test_reconstruct_and_relight(self, name, models, photos, tmp_path, command):
        """Neither command is told the model: the run and the parameters name it."""
        run = _train(models[name], tmp_path / "run", **{"data.path": "synthetic"})
        out = tmp_path / "faces"
        command("reconstruct", photos, "--crops", "--checkpoint", run, "--out", out)
        face = load_parameters(out / "0.npz")
        model = FaceModel.load(models[name])
        assert face.face_model == (name, model.hash)
        assert face.face_model_file == str(models[name])
        model.layout.check(face.code)
        command(
            "relight",
            "--parameters-only",
            out / "0.npz",
            out / "1.npz",
            "--light",
            "front",
            "--out",
            tmp_path / "a.png",
        )
        assert iio.imread(tmp_path / "a.png").shape == (64, 128, 3)
        command(
            "relight", "--parameters-only",
            out / "0.npz", "--light", out / "1.npz", "--rotate", "--frames", "2", "--out",
            tmp_path / "a.gif",
        )  # fmt: skip


class TestFindingTheModel:
    def test_run_and_model_moved_together(self, run, models, tmp_path):
        """Another machine: the model lies in the run folder, or beside it."""
        for place in ("moved", "."):
            folder = tmp_path / f"at{len(place)}"
            moved = folder / "moved"
            shutil.copytree(run, moved)
            for path in list_checkpoints(moved):
                _refer_to(path, "/nowhere/odd.safetensors")
            shutil.copy(models["odd"], folder / place / "odd.safetensors")
            found = Reconstructor.load(moved, device="cpu")
            assert found.face_model.name == "odd"
            assert Path(found.face_model.file).resolve() == (
                folder / place / "odd.safetensors"
            ).resolve()  # fmt: skip

    def test_model_is_gone(self, run, photos, tmp_path, command):
        moved = tmp_path / "moved"
        shutil.copytree(run, moved)
        for path in list_checkpoints(moved):
            _refer_to(path, "/nowhere/odd.safetensors")
        text = command(
            "reconstruct",
            photos,
            "--crops",
            "--checkpoint",
            moved,
            "--out",
            tmp_path / "o",
            fails=True,
        )
        assert "trained with face model odd (" in text
        assert (
            "which was /nowhere/odd.safetensors and is not there; give it as --face-model" in text
        )
        assert not (tmp_path / "o").exists()

    def test_another_model_given(self, run, models, photos, tmp_path, command):
        for other, name in ((models["still"], "still"), ("default", "procedural")):
            text = command(
                "reconstruct", photos, "--crops", "--checkpoint", run, "--out", tmp_path / "o",
                "--face-model", other, fails=True,
            )  # fmt: skip
            assert "trained with face model odd (" in text and f"not with {name} (" in text
            assert str(models["odd"]) in text and text.endswith("give theirs as --face-model")

    def test_model_was_overwritten(self, run, models, photos, tmp_path, command):
        moved = tmp_path / "moved"
        shutil.copytree(run, moved)
        shutil.copy(models["still"], tmp_path / "odd.safetensors")
        for path in list_checkpoints(moved):
            _refer_to(path, str(tmp_path / "odd.safetensors"))
        text = command(
            "reconstruct",
            photos,
            "--crops",
            "--checkpoint",
            moved,
            "--out",
            tmp_path / "o",
            fails=True,
        )
        assert "trained with face model odd (" in text and "not with still (" in text

    def test_parameters_refuse_another_model(self, run, models, photos, tmp_path, command):
        command("reconstruct", photos / "0.png", "--crops", "--checkpoint", run, "--out", tmp_path)
        arguments = (
            "relight",
            "--parameters-only",
            tmp_path / "0.npz",
            "--light",
            "front",
            "--out",
            tmp_path / "a.png",
        )
        text = command(*arguments, "--face-model", models["still"], fails=True)
        assert f"{tmp_path / '0.npz'}: parameters of face model odd (" in text
        assert "not of still (" in text
        with np.load(tmp_path / "0.npz") as file:
            arrays = {key: file[key] for key in file.files}
        np.savez(
            tmp_path / "0.npz", **{**arrays, "face_model_file": np.array("/nowhere/x.safetensors")}
        )
        text = command(*arguments, fails=True)
        assert "which was /nowhere/x.safetensors and is not there" in text
        command(*arguments, "--face-model", models["odd"])
        # Written before files named their model's place.
        del arrays["face_model_file"]
        np.savez(tmp_path / "0.npz", **arrays)
        text = command(*arguments, fails=True)
        assert "parameters of face model odd (" in text and "give it as --face-model" in text
        np.savez(tmp_path / "0.npz", **arrays, face_model_file=np.zeros(3))
        assert "face_model_file is not a text" in command(*arguments, fails=True)

    def test_faces_of_two_models_side_by_side(self, run, models, photos, tmp_path, command):
        other = _train(models["still"], tmp_path / "run", **{"data.path": "synthetic"})
        command(
            "reconstruct", photos / "0.png", "--crops", "--checkpoint", run, "--out", tmp_path / "a"
        )
        command(
            "reconstruct",
            photos / "0.png",
            "--crops",
            "--checkpoint",
            other,
            "--out",
            tmp_path / "b",
        )
        command(
            "relight", "--parameters-only",
            tmp_path / "a" / "0.npz", tmp_path / "b" / "0.npz", "--light", "front", "--out",
            tmp_path / "both.png",
        )  # fmt: skip
        both = iio.imread(tmp_path / "both.png")
        for place, folder in ((slice(0, 64), "a"), (slice(64, 128), "b")):
            command(
                "relight",
                "--parameters-only",
                tmp_path / folder / "0.npz",
                "--light",
                "front",
                "--out",
                tmp_path / "x.png",
            )
            assert np.array_equal(iio.imread(tmp_path / "x.png"), both[:, place])


def _refer_to(checkpoint: Path, file: str) -> None:
    """Change where a checkpoint says that its face model was."""
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(checkpoint, framework="pt") as opened:
        header = dict(opened.metadata())
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}
    metadata = json.loads(header["metadata"])
    metadata["encoder"]["face_model"]["file"] = file
    del header["crc32"]  # of the file as it was
    save_file(tensors, checkpoint, {**header, "metadata": json.dumps(metadata)})


def test_expressionless_codes_still_count():
    """The vector has no part for expressions; packing and unpacking agree."""
    layout = small_face(9, 1).layout
    code = torch.randn(2, layout.size)
    assert layout.num_expression == 0
    assert torch.equal(layout.pack(layout.unpack(code)), code)
