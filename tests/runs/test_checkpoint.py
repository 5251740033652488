"""Checkpoint files."""

import pytest
import torch
from safetensors.torch import save_file

from mofa_nvdr.runs.checkpoint import (
    CheckpointError,
    checkpoint_path,
    find_checkpoint,
    list_checkpoints,
    read_checkpoint,
    restore_encoder,
    restore_training,
    save_checkpoint,
)


def _network_and_optimizer(kind):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout()
    )
    return network, kind(network.parameters())


def _step(network, optimizer):
    optimizer.zero_grad()
    network(torch.randn(8, 3)).square().mean().backward()
    optimizer.step()


class TestRoundTrip:
    @pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.Adadelta])
    def test_the_next_steps_are_the_same_bits(self, tmp_path, kind):
        network, optimizer = _network_and_optimizer(kind)
        _step(network, optimizer)
        path = checkpoint_path(tmp_path, 1)
        save_checkpoint(path, network, optimizer, {"step": 1})
        for _ in range(2):
            _step(network, optimizer)

        other, other_optimizer = _network_and_optimizer(kind)
        torch.manual_seed(99)
        tensors, metadata = read_checkpoint(path)
        restore_encoder(other, tensors)
        restore_training(other_optimizer, tensors)
        assert metadata == {"step": 1}
        for _ in range(2):
            _step(other, other_optimizer)
        for a, b in zip(network.state_dict().values(), other.state_dict().values()):
            assert torch.equal(a, b)
        assert list(tmp_path.iterdir()) == [path]  # no temporary file stays


class TestFind:
    def test_newest_of_a_folder_or_the_file(self, tmp_path):
        network, _ = _network_and_optimizer(torch.optim.Adam)
        for step in (9, 100, 20):
            save_checkpoint(checkpoint_path(tmp_path, step), network, None, {"step": step})
        (tmp_path / "checkpoint-x.safetensors").write_text("")
        assert [p.name[11:19] for p in list_checkpoints(tmp_path)] == [
            "00000009", "00000020", "00000100",
        ]  # fmt: skip
        assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path, 100)
        assert find_checkpoint(checkpoint_path(tmp_path, 9)) == checkpoint_path(tmp_path, 9)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint-.* in this folder"):
            find_checkpoint(tmp_path)
        with pytest.raises(CheckpointError, match="no such run folder or checkpoint file"):
            find_checkpoint(tmp_path / "no")


class TestMistakes:
    def test_not_a_checkpoint(self, tmp_path):
        path = tmp_path / "a.safetensors"
        path.write_bytes(b"half")
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            read_checkpoint(path)
        save_file({"x": torch.zeros(1)}, path)
        with pytest.raises(CheckpointError, match="does not say 'mofa-nvdr checkpoint 1'"):
            read_checkpoint(path)

    def test_metadata_that_is_none(self, tmp_path):
        path = tmp_path / "a.safetensors"
        for text in ("[]", "3", "{", "[" * 100_000):
            header = {"format": "mofa-nvdr checkpoint 1", "metadata": text}
            save_file({"x": torch.zeros(1)}, path, header)
            with pytest.raises(
                CheckpointError, match=r"a\.safetensors: not a readable checkpoint \("
            ):
                read_checkpoint(path)

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("optimizer/99/exp_avg", torch.zeros(1), "optimizer/99, but there are 4 parameters"),
            (
                "optimizer/0/exp_avg",
                torch.zeros(5),
                r"optimizer/0/exp_avg is .* \[5\], expected floa",
            ),
            (
                "optimizer/0/exp_avg",
                torch.zeros(4, 3, dtype=int),
                "is torch.int64 .*expected floats",
            ),
            ("optimizer/0/exp_avg", None, "parts of the optimizer's state are missing"),
        ],
    )
    def test_an_optimizer_that_was_edited(self, tmp_path, key, value, message):
        network, optimizer = _network_and_optimizer(torch.optim.Adam)
        _step(network, optimizer)
        save_checkpoint(tmp_path / "c.safetensors", network, optimizer, {})
        tensors, _ = read_checkpoint(tmp_path / "c.safetensors")
        tensors[key] = value
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        with pytest.raises(ValueError, match=message):
            restore_training(optimizer, tensors)

    def test_folder_gone(self, tmp_path):
        network, _ = _network_and_optimizer(torch.optim.Adam)
        with pytest.raises(OSError, match="cannot write the checkpoint|No such file"):
            save_checkpoint(tmp_path / "no" / "c.safetensors", network, None, {})
