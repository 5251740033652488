"""The other systems in the one trainer: the smoke configuration of each, from training to reconstruction."""

from __future__ import annotations

import math
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files
from mofa_nvdr.apply.same_person import identity_weights, join_codes
from mofa_nvdr.cli import main
from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.data.synthetic.synthesis import SynthesisOptions, synthesize_files
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.onnx_encoder import FILE, OnnxEncoder
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.training.bootstrap import DISTRIBUTION, corpus_folder
from tests.helpers.photos_to_reconstruct import smooth_picture
from tests.helpers.small_dlib import use_small_recognition
from tests.helpers.symmetric_face import symmetric_face
from tests.helpers.training import same_state


def lines_of(run) -> list[dict]:
    return [line for line in read_log(run / "log.jsonl") if "loss" in line]


class TestGenova:
    @pytest.mark.parametrize("network", ["identity_mlp", "compact"])
    def test_smoke(self, cap, tmp_path, monkeypatch, network):
        """Two stages; every term is finite, and the trained run reconstructs one person."""
        use_small_recognition(monkeypatch)
        run = tmp_path / "run"
        arguments = ["train", "--config", "genova_smoke", "--face-model", cap, "--out", str(run),
                     "--encoder.network", network, "--device", "cpu"]  # fmt: skip
        assert main(arguments) == 0
        lines = lines_of(run)
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        terms = (
            "synthetic",
            "identity",
            "batch_distribution",
            "loopback",
            "photometric",
            "landmark",
        )
        for line in lines[2:]:
            assert all(math.isfinite(line[name]) for name in terms)
            w = load_config("genova").loss
            total = sum(getattr(w, name) * line[name] for name in (*terms, "regularizer"))
            assert line["loss"] == pytest.approx(total, rel=1e-4)
        assert lines[0]["identity"] is None  # of the warm start

        for k in range(2):
            iio.imwrite(tmp_path / f"{k}.png", smooth_picture(64, 64, seed=k))
        options = ReconstructOptions(crops=True, same_person=True, pictures=False)
        photos = [tmp_path / "0.png", tmp_path / "1.png"]
        written = reconstruct_files(photos, run, tmp_path / "faces", cap, "cpu", options=options)
        faces = [load_parameters(path) for path in written]
        first, second = (face.code for face in faces)
        assert torch.equal(first.shape, second.shape) and torch.equal(first.albedo, second.albedo)
        assert not torch.equal(first.light, second.light)
        if network == "identity_mlp":  # what both show is averaged before the layers
            images = torch.stack([torch.from_numpy(iio.imread(p)) for p in photos])
            images = images.permute(0, 3, 1, 2).float() / 255
            encoder = Reconstructor.load(run, cap, "cpu").encoder
            certainty, sides = np.array([face.certainty for face in faces]), np.full(2, 64.0)
            weights = identity_weights(join_codes([first, second]), certainty, sides)
            with torch.no_grad():
                shape, albedo = encoder.person(images, torch.from_numpy(weights))
            torch.testing.assert_close(first.shape, shape, atol=1e-4, rtol=1e-2)
            torch.testing.assert_close(first.albedo, albedo, atol=1e-4, rtol=1e-2)

    def test_exported(self, cap, tmp_path, monkeypatch):
        """The recognition network goes into the file, which asks for no other."""
        use_small_recognition(monkeypatch)
        run = tmp_path / "run"
        assert main(["train", "--config", "genova_smoke", "--face-model", cap, "--out", str(run),
                     "--steps", "2", "--device", "cpu"]) == 0  # fmt: skip
        assert main(["export-encoder", str(run), "--face-model", cap]) == 0
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        encoder = Reconstructor.load(run, cap, "cpu").encoder
        with torch.no_grad():
            expected = encoder(images)
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path / "none"))
        found = OnnxEncoder(run / FILE)(images)
        torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-3, atol=1e-4)
        assert expected.abs().max() > 0

    def test_without_the_network(self, cap, tmp_path, monkeypatch, capsys):
        """One line, in training and later."""
        with monkeypatch.context() as patch:
            use_small_recognition(patch)
            run = tmp_path / "run"
            assert main(["train", "--config", "genova_smoke", "--face-model", cap, "--out", str(run),
                         "--steps", "0", "--device", "cpu"]) == 0  # fmt: skip
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        capsys.readouterr()
        iio.imwrite(tmp_path / "a.png", smooth_picture(64, 64))
        train = [
            "train",
            "--config",
            "genova_smoke",
            "--face-model",
            cap,
            "--out",
            str(tmp_path / "b"),
        ]
        for arguments, words in (
            (train, "--encoder.network is identity_mlp"),
            ([*train, "--encoder.network", "compact"], "--loss.identity is 1"),
            (
                ["reconstruct", str(tmp_path / "a.png"), "--checkpoint", str(run)],
                "its encoder is id",
            ),
        ):
            assert main(arguments) == 2
            said = capsys.readouterr().err
            assert (
                words in said
                and "mofa-nvdr networks get identity" in said
                and said.count("\n") == 1
            )


class TestInverseFaceNet:
    def test_smoke(self, cap, tmp_path):
        """A warm start and two cycles, each with its corpus, its distribution and its checkpoint."""
        photographs, run = tmp_path / "photographs", tmp_path / "run"
        options = SynthesisOptions(size=64, face_model=cap, plain=True)
        synthesize_files(12, str(photographs), options)
        for name in ("codes.npz", "landmarks68.npz"):
            (photographs / name).unlink()
        assert main(["train", "--config", "inverse_face_net_smoke", "--data", str(photographs),
                     "--face-model", cap, "--out", str(run), "--device", "cpu"]) == 0  # fmt: skip
        lines = lines_of(run)
        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
        assert all(math.isfinite(line["loss"]) and line["photometric"] is None for line in lines)
        for cycle in (1, 2):
            folder = corpus_folder(run, cycle)
            assert len(Photographs(folder, "train", 64)) + len(Photographs(folder, "val", 64)) == 8
            with np.load(folder / DISTRIBUTION) as table:
                assert len(table["codes"]) == 8 and int(table["step"]) == 2 * cycle
            _, facts = read_checkpoint(run / f"cycle-{cycle:02d}.safetensors")
            assert facts["step"] == 2 + 2 * cycle

    def test_without_photographs(self, cap, tmp_path, capsys):
        arguments = ["train", "--config", "inverse_face_net_smoke", "--face-model", cap]
        assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert "--bootstrap.cycles is 2, but --data is synthetic" in said and said.count("\n") == 1


class TestMultiLevel:
    @pytest.fixture
    def face(self, tmp_path):
        """A small face model with regions."""
        path = tmp_path / "face.safetensors"
        symmetric_face(regions=True).save(path)
        return str(path)

    def test_smoke(self, face, tmp_path, capsys):
        """Warm start, base level, both; killed and resumed to the same bits; then a model of its own."""
        run, whole = tmp_path / "run", tmp_path / "whole"
        arguments = [
            "train",
            "--config",
            "multi_level_smoke",
            "--face-model",
            face,
            "--device",
            "cpu",
        ]
        assert main([*arguments, "--out", str(whole)]) == 0
        lines = lines_of(whole)
        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
        levels = (
            "smoothness",
            "sparsity",
            "constancy",
            "size",
            "orthogonality",
            "base_photometric",
        )
        for line in lines:
            both = line["step"] > 4
            assert all((line[name] is not None) == both for name in levels)
            assert (line["photometric"] is not None) == (line["step"] > 2)
            assert (line["gradient"]["correctives"] > 0) == both
        assert lines[-1]["size"] > 0 and lines[4]["size"] < 1e-9  # corrections begin at zero

        shutil.copytree(whole, run)
        for path in list_checkpoints(run)[1:]:  # as if it had been killed after step 3
            path.unlink()
        assert main([*arguments, "--out", str(run)]) == 0
        assert "resuming after step 3" in capsys.readouterr().out
        assert same_state(list_checkpoints(run)[-1], list_checkpoints(whole)[-1])

        model = tmp_path / "learned.safetensors"
        assert main(["model", "from-run", str(run), "--out", str(model)]) == 0
        learned = FaceModel.load(model)
        assert learned.layout.num_shape == 4 + 4 and learned.layout.num_albedo == 5 + 5
        iio.imwrite(tmp_path / "a.png", smooth_picture(64, 64))
        options = ReconstructOptions(crops=True, pictures=False)
        encoder = tmp_path / "learned_encoder.safetensors"
        (written,) = reconstruct_files(
            [tmp_path / "a.png"], encoder, tmp_path / "faces", "", "cpu", options=options
        )
        assert load_parameters(written).code.layout == learned.layout
        relit = tmp_path / "relit.png"
        assert main(["relight", str(written), "--parameters-only", "--light", "side_left",
                     "--out", str(relit)]) == 0  # fmt: skip
        assert relit.is_file()

    def test_without_regions(self, cap, tmp_path, capsys):
        arguments = ["train", "--config", "multi_level_smoke", "--face-model", cap]
        assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert "--correctives.constancy is 0.01, but face model cap has no region" in said
        assert said.count("\n") == 1 and not (tmp_path / "run").exists()
