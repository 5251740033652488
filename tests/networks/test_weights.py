"""Weight files of others: read without running them, compared key by key."""

from __future__ import annotations

import logging
import os
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mofa_nvdr.cli import main
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks import trunks as networks
from mofa_nvdr.networks.encoder import build_encoder
from mofa_nvdr.networks.trunks import AlexNet, MobileNetV3Large, VGGFace
from mofa_nvdr.networks.weights import first_names, load_trunk_weights
from mofa_nvdr.runs.checkpoint import save_checkpoint

SMALL = CodeLayout(num_shape=3, num_expression=2, num_albedo=4)  # 42 numbers


def torchvision_state(trunk: torch.nn.Module, last_layer: str, features: int) -> dict:
    """A state dict as torchvision would save it: the trunk's and 1000 classes, values at random."""
    generator = torch.Generator().manual_seed(1)
    state = {
        key: value if key.endswith("tracked") else torch.rand(value.shape, generator=generator)
        for key, value in trunk.state_dict().items()
    }
    state[f"{last_layer}.weight"] = torch.zeros(1000, features)
    state[f"{last_layer}.bias"] = torch.zeros(1000)
    return state


@pytest.fixture(scope="module")
def weights() -> dict:
    return torchvision_state(MobileNetV3Large(), "classifier.3", 1280)


def _narrow_linear(make):
    """nn.Linear's constructor with three outputs at most: the whole VGG has 134 million weights."""

    def narrow(self, inputs: int, outputs: int, *args, **kwargs) -> None:
        make(self, min(inputs, 9), min(outputs, 3), *args, **kwargs)

    return narrow


def test_first_names():
    assert first_names(list("abcde")) == "a, b, c, d, e"
    assert first_names(list("abcdefg")) == "a, b, c, d, e and 2 more"


class _Hostile:
    """Pickled, it makes a folder when it is loaded by a reader that runs what it finds."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trap),)


class TestWeights:
    def test_file_with_vgg_faces_own_names(self, tmp_path: Path, monkeypatch):
        """A network as narrow as can be, saved under the published names, comes back the same."""
        monkeypatch.setattr(networks, "_VGG_16", tuple(min(c, 2) for c in networks._VGG_16))
        monkeypatch.setattr(torch.nn.Linear, "__init__", _narrow_linear(torch.nn.Linear.__init__))
        torch.manual_seed(0)
        trunk, other = VGGFace(), VGGFace()
        own = {ours: theirs for theirs, ours in VGGFace.OTHER_NAMES.items()}
        state = {
            f"{own[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
            for key, value in trunk.state_dict().items()
        }
        save_file({**state, "fc8.weight": torch.zeros(9, 3)}, tmp_path / "vgg.safetensors")
        load_trunk_weights(other, tmp_path / "vgg.safetensors")
        for key, value in trunk.state_dict().items():
            assert value.equal(other.state_dict()[key])

    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_round_trip(self, weights: dict, tmp_path: Path, caplog, suffix: str):
        path = tmp_path / f"weights{suffix}"
        if suffix == ".pth":
            torch.save(weights, path)
        else:
            save_file(weights, path)
        with caplog.at_level(logging.INFO, logger="mofa_nvdr.networks.weights"):
            network = build_encoder("mobilenet_v3_large", SMALL, weights=path)
        state = network.trunk.state_dict()
        assert all(value.equal(weights[key]) for key, value in state.items())
        assert (
            f"{path}: left out the classification layer (classifier.3.bias [1000], cl"
            in caplog.text
        )
        assert network.head(torch.rand(1, 1280)).equal(torch.zeros(1, SMALL.size))

    def test_without_classification_layer_and_counters(self, weights: dict, tmp_path: Path):
        kept = {
            key: value
            for key, value in weights.items()
            if not key.startswith("classifier.3") and not key.endswith("num_batches_tracked")
        }
        save_file(kept, tmp_path / "w.safetensors")
        trunk = MobileNetV3Large()
        load_trunk_weights(trunk, tmp_path / "w.safetensors")
        assert trunk.state_dict()["features.0.0.weight"].equal(weights["features.0.0.weight"])

    def test_all_differences_in_one_line(self, weights: dict, tmp_path: Path):
        wrong = dict(weights)
        del wrong["features.0.0.weight"]
        for i in range(9):
            wrong[f"extra.{i}"] = torch.zeros(1)
        wrong["classifier.0.weight"] = torch.zeros(2, 2)
        wrong["classifier.0.bias"] = torch.full((1280,), float("nan"))
        path = tmp_path / "wrong.safetensors"
        save_file(wrong, path)
        with pytest.raises(ValueError) as error:
            build_encoder("mobilenet_v3_large", SMALL, weights=path)
        assert str(error.value) == (
            f"{path}: not the weights of MobileNetV3Large; 1 missing: features.0.0.weight; "
            "9 unexpected: extra.0, extra.1, extra.2, extra.3, extra.4 and 4 more; "
            "1 of another shape: classifier.0.weight [2, 2] instead of [1280, 960]; "
            "1 not finite: classifier.0.bias"
        )

    def test_another_network(self, weights: dict, tmp_path: Path):
        path = tmp_path / "mobilenet.safetensors"
        save_file(weights, path)
        with torch.device("meta"):
            trunk = AlexNet()
        with pytest.raises(ValueError, match="not the weights of AlexNet; 14 missing: .*unexpecte"):
            load_trunk_weights(trunk, path)

    def test_unreadable_files(self, tmp_path: Path):
        def load(name: str) -> None:
            load_trunk_weights(MobileNetV3Large(), tmp_path / name)

        with pytest.raises(ValueError, match=r"none\.pth: no such weights file$"):
            load("none.pth")
        for name in ("bad.pth", "bad.safetensors", "bad.onnx"):
            (tmp_path / name).write_bytes(b"no tensors in here" * 9)
        with pytest.raises(ValueError, match=r"bad\.pth: not a file of plain tensors, or damaged"):
            load("bad.pth")
        with pytest.raises(ValueError, match=r"bad\.safetensors: cannot read the weights: "):
            load("bad.safetensors")
        with pytest.raises(ValueError, match=r"bad\.onnx: unknown kind.*\.safetensors or \.pth"):
            load("bad.onnx")

    def test_pickled_code_is_not_run(self, tmp_path: Path, capsys):
        """Through the function and through the command; a plain torch.load would make the folder."""
        trap, path = tmp_path / "trap", tmp_path / "code.pth"
        torch.save({"features.0.0.weight": _Hostile(trap)}, path)
        with pytest.raises(ValueError, match="not a file of plain tensors") as error:
            load_trunk_weights(MobileNetV3Large(), path)
        assert "\n" not in str(error.value)
        options = ["--encoder.weights", str(path), "--out", str(tmp_path / "run")]
        assert main(["train", "--config", "smoke", *options]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith(f"mofa-nvdr: {path}: not a file of plain tensors")
        assert len(said.splitlines()) == 1
        assert not trap.exists() and not (tmp_path / "run").exists()
        torch.load(path, weights_only=False)
        assert trap.exists()

    def test_another_pickle_protocol_is_no_warning(self, tmp_path: Path):
        """torch warns of it, and may then read it or not; what counts is said in one line."""
        torch.save({"other": torch.zeros(1)}, tmp_path / "four.pth", pickle_protocol=4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ValueError, match="not (the weights of|a file of plain tensors)"):
                load_trunk_weights(MobileNetV3Large(), tmp_path / "four.pth")
        assert not caught

    def test_another_network_is_one_line(self, weights: dict, tmp_path: Path):
        """The first five keys of each kind, and how many there are."""
        path = tmp_path / "mobilenet.safetensors"
        save_file(weights, path)
        with torch.device("meta"):
            trunk = AlexNet()
        with pytest.raises(ValueError) as error:
            load_trunk_weights(trunk, path)
        own, theirs = trunk.state_dict().keys(), weights.keys()
        missing, unexpected = sorted(own - theirs), sorted(theirs - own)
        unexpected = [key for key in unexpected if not key.startswith("classifier.6.")]
        assert len(missing) > 5 and len(unexpected) > 5
        assert str(error.value) == (
            f"{path}: not the weights of AlexNet; "
            f"{len(missing)} missing: {', '.join(missing[:5])} and {len(missing) - 5} more; "
            f"{len(unexpected)} unexpected: {', '.join(unexpected[:5])} and {len(unexpected) - 5} more"
        )

    def test_a_checkpoint(self, tmp_path: Path):
        """As if it were a weights file: its last layer would be lost."""
        encoder = build_encoder("compact", SMALL)
        path = tmp_path / "checkpoint.safetensors"
        save_checkpoint(path, encoder, None, {})
        with pytest.raises(
            ValueError, match="a checkpoint of a run, not the weights of a trunk; --i"
        ):
            build_encoder("compact", SMALL, weights=path)

    def test_tensors_that_are_no_weights(self, tmp_path: Path):
        """Each kind that a .pth may hold is named with the others; none ends in torch's own words."""
        weights = {
            "features.0.weight": torch.zeros(64, 3, 11, 11, dtype=torch.int64),
            "features.0.bias": torch.zeros(64, dtype=torch.complex64),
            "features.3.bias": torch.zeros(192).to_sparse(),
            "features.6.bias": torch.full((384,), torch.inf),
            "classifier.1.weight": torch.zeros(1).expand(10**6, 10**9),  # a petabyte, on paper
        }
        torch.save(weights, tmp_path / "odd.pth")
        with torch.device("meta"):
            trunk = AlexNet()
        with pytest.raises(ValueError) as error:
            load_trunk_weights(trunk, tmp_path / "odd.pth")
        said = str(error.value)
        assert "9 missing: " in said
        assert (
            "3 not plain numbers: features.0.weight (int64), features.0.bias (complex64), "
            "features.3.bias (sparse_coo float32)"
        ) in said
        assert "1 of another shape: classifier.1.weight [1000000, 1000000000] instead of" in said
        assert said.endswith("1 not finite: features.6.bias")

    def test_keys_that_are_no_names(self, tmp_path: Path):
        torch.save({7: torch.zeros(1)}, tmp_path / "numbers.pth")
        with pytest.raises(ValueError, match="expected a state dict"):
            load_trunk_weights(MobileNetV3Large(), tmp_path / "numbers.pth")

    @pytest.mark.parametrize("classes", [1000, 2622])
    def test_classes_of_imagenet_in_vgg_face(self, tmp_path: Path, monkeypatch, caplog, classes):
        """torchvision's VGG-16 has the same names and shapes, but expects another input."""
        monkeypatch.setattr(networks, "_VGG_16", tuple(min(c, 2) for c in networks._VGG_16))
        monkeypatch.setattr(torch.nn.Linear, "__init__", _narrow_linear(torch.nn.Linear.__init__))
        trunk = VGGFace()
        last = {
            "classifier.6.weight": torch.zeros(classes, 3),
            "classifier.6.bias": torch.zeros(classes),
        }
        save_file({**trunk.state_dict(), **last}, tmp_path / "vgg.safetensors")
        with caplog.at_level(logging.INFO, logger="mofa_nvdr.networks.weights"):
            load_trunk_weights(trunk, tmp_path / "vgg.safetensors")
        assert f"(classifier.6.bias [{classes}], classifier.6.weight [{classes}, 3])" in caplog.text
        warned = "1000 classes: these look like ImageNet's weights of VGG-16" in caplog.text
        assert warned == (classes == 1000)

    def test_note_on_the_command_line(self, weights: dict, tmp_path: Path, capsys):
        save_file(weights, tmp_path / "w.safetensors")
        options = ["--encoder.weights", str(tmp_path / "w.safetensors"), "--steps", "1"]
        assert main(["train", "--config", "smoke", *options, "--out", str(tmp_path / "run")]) == 0
        notes = [line for line in capsys.readouterr().err.splitlines() if "note: " in line]
        assert len(notes) == 1 and "left out the classification layer" in notes[0]

    def test_not_a_state_dict(self, tmp_path: Path):
        torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "run.pth")
        with pytest.raises(ValueError, match="expected a state dict.*save `network.state_dict"):
            load_trunk_weights(MobileNetV3Large(), tmp_path / "run.pth")


class TestHostile:
    """Files that torch.load would unpack to more than they hold, or to another place."""

    def test_compressed_archive(self, tmp_path):
        path = tmp_path / "w.pth"
        torch.save({"x": torch.zeros(10)}, tmp_path / "plain.pth")
        with (
            zipfile.ZipFile(tmp_path / "plain.pth") as old,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                new.writestr(name, old.read(name))
        with pytest.raises(
            ValueError, match=r"w\.pth: its members are compressed, which torch does"
        ):
            _load(path)

    def test_tar(self, tmp_path):
        path = tmp_path / "w.pth"
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo("storages"))
        with pytest.raises(ValueError, match=r"w\.pth: not a file of plain tensors, or damaged"):
            _load(path)

    def test_keys_that_are_no_text_lines(self, tmp_path):
        save_file({"a\nb\x1b[31m": torch.zeros(1)}, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=r"1 unexpected: a\\nb\\x1b\[31m"):
            _load(tmp_path / "w.safetensors")


def _load(path: Path) -> None:
    with torch.device("meta"):
        trunk = MobileNetV3Large()
    load_trunk_weights(trunk, path)
