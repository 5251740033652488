"""Several processes train as one: the same figures, one writer, stops and restarts together."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mofa_nvdr.data.crop_tables import read_codes
from mofa_nvdr.data.sampling import share_of
from mofa_nvdr.data.synthetic.synthesis import SynthesisOptions, synthesize_files
from mofa_nvdr.runs.checkpoint import CORRECTIVES, list_checkpoints
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.options import ConfigError, replace_options
from mofa_nvdr.system import distributed
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.bootstrap import corpus_folder
from mofa_nvdr.training.loop import train
from tests.helpers.objective import loss_terms, use_loss_terms
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import symmetric_face
from tests.helpers.two_processes import (
    BAD_STEP,
    break_one_share,
    compute_in_doubles,
    config_of,
    corrected_config_of,
    cycled_config_of,
)

ROOT = Path(__file__).resolve().parents[2]
# The order of the sums differs; after eight steps 2e-5 were measured (AMD Zen 4). Larger encoders multiply
# rounding faster (docs/running.md).
TOLERANCE = 5e-4
# Too small for anything but rounding; 2e-14 measured, on the same machine.
DOUBLE_TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("distributed")
    small_face(24).save(path / "cap.safetensors")
    return path


@pytest.fixture
def alone(folder, monkeypatch):
    """Train in this process, with the small encoder."""
    monkeypatch.setattr(training, "make_encoder", small_encoder)
    return lambda name: train(config_of(str(folder / "cap.safetensors"), folder / name))


def torchrun(folder: Path, what: str, *options: str) -> subprocess.CompletedProcess:
    # A busy machine may need longer than torchrun's 30 seconds until a step ends and is saved.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "120"}
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options,
         "-m", "tests.helpers.two_processes", what, str(folder / "cap.safetensors"), str(folder)],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def assert_same_curve(a: Path, b: Path, tolerance: float = TOLERANCE) -> None:
    times = ("images_per_second", "seconds", "cpu_seconds", "ms", "peak_mb")

    def flat(line: dict) -> dict:
        numbers = {}
        for key, value in line.items():
            if isinstance(value, dict) and key not in times:
                numbers |= {f"{key}/{k}": v for k, v in value.items()}
            elif key not in times and isinstance(value, (int, float)):
                numbers[key] = value
        return numbers

    x, y = ([flat(line) for line in read_log(run / "log.jsonl")] for run in (a, b))
    assert len(x) == len(y)
    for ours, theirs in zip(x, y):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance / 50)


def assert_same_cycles(a: Path, b: Path) -> None:
    """Of bootstrapping: who is predicted, what is rendered around it, and what is learned from it."""
    for cycle in (1, 2):
        one, two = (corpus_folder(run, cycle) for run in (a, b))
        assert [p.name for p in sorted(one.rglob("*"))] == [p.name for p in sorted(two.rglob("*"))]
        for name in ("distribution.npz", "codes.npz"):
            (x, of), (y, also_of) = read_codes(one / name), read_codes(two / name)
            assert list(x) == list(y) and len(x) in (5, 20) and of == also_of
            for key in x:
                np.testing.assert_allclose(x[key], y[key], atol=5e-3)
    assert_same_curve(a, b)


@pytest.mark.slow
class TestTwoProcesses:
    def test_are_one(self, folder, alone, monkeypatch):
        """Losses, validations, skipped steps; a signal to one of them stops both, and resumes on one."""
        faces = SynthesisOptions(size=64, face_model=str(folder / "cap.safetensors"), plain=True)
        synthesize_files(12, str(folder / "faces"), faces)
        for name in ("codes.npz", "landmarks68.npz"):  # so they are photographs
            (folder / "faces" / name).unlink()
        symmetric_face(regions=True).save(folder / "regions.safetensors")
        done = torchrun(folder, "together")
        assert done.returncode == 0, done.stderr
        one = alone("one")
        assert_same_curve(alone("stopped"), one)  # the rest of it on one process

        use_loss_terms(monkeypatch.setattr, break_one_share)
        bad = alone("one_bad")
        assert_same_curve(folder / "two", bad)
        lines = read_log(folder / "two" / "log.jsonl")
        skipped = [line for line in lines if "skipped" in line]
        assert skipped == [{"step": BAD_STEP, "skipped": "the landmark is nan"}]
        # A batch that left BatchNorm's averages without a number did not spoil what followed.
        assert all(np.isfinite(line["photometric"]) for line in lines if line.get("split") == "val")
        # The whole batch is kept, though one share of it was bad, by the main process alone.
        kept, expected = (
            np.load(run / f"skipped-{BAD_STEP:08d}.npz") for run in (folder / "two", bad)
        )
        assert kept["images"].shape == expected["images"].shape == (4, 3, 64, 64)
        np.testing.assert_array_equal(kept["images"][:2], expected["images"][:2])
        assert done.stdout.count("WARNING: step 3: the landmark is nan; skipped") == 1
        assert done.stdout.count(f"{folder / 'two'}: finished at step 8") == 1
        assert len(list((folder / "two").glob("events.*"))) == 1

        use_loss_terms(monkeypatch.setattr, loss_terms)
        cap = str(folder / "cap.safetensors")
        assert_same_cycles(
            folder / "two_cycled", train(cycled_config_of(cap, folder, "one_cycled"))
        )

        one_corrected = train(corrected_config_of(folder, "one_corrected"))
        assert_same_curve(folder / "two_corrected", one_corrected)
        two, one = (
            load_file(list_checkpoints(run)[-1])
            for run in (folder / "two_corrected", one_corrected)
        )
        modes = [name for name in one if name.startswith(CORRECTIVES)]
        assert modes
        for name in modes:
            torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)

        compute_in_doubles(monkeypatch.setattr)
        one_double = alone("one_doubles")
        assert_same_curve(folder / "two_doubles", one_double, DOUBLE_TOLERANCE)

        for rank in (0, 1):
            text = (folder / f"stopped-{rank}").read_text()
            assert "stopped and saved after step 5; the same command again resumes" in text

    def test_elastic_restart_then_the_end_of_torchrun(self, folder, alone):
        done = torchrun(folder, "elastic", "--max-restarts", "1")
        assert done.returncode != 0  # it was told to end
        assert "resuming after step 2" in done.stdout, done.stderr  # the checkpoint before the kill
        run = folder / "elastic"
        assert list_checkpoints(run)[-1].name == "checkpoint-00000006.safetensors", done.stderr
        assert "stopped at step 6 of 8" in (run / "report.html").read_text()
        assert_same_curve(alone("elastic"), alone("one_again"))


class TestMistakes:
    def test_batch_that_cannot_be_shared(self, folder, monkeypatch):
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr(distributed.dist, "broadcast_object_list", lambda *_, **__: None)
        config = replace_options(config_of("default", folder / "x"), {"data.batch_size": 5})
        with pytest.raises(
            ConfigError, match="--data.batch-size is 5, expected a multiple of the 2 proc"
        ):
            train(config)
        with pytest.raises(ValueError, match="batches: 5 images for rank 1 of 2 processes"):
            share_of(5, 1, 2)
        with pytest.raises(ValueError, match="rank 2 of 2 processes"):
            share_of(4, 2, 2)

    def test_rendered_share_that_cannot_be_shared(self, folder, monkeypatch):
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr(distributed.dist, "broadcast_object_list", lambda *_, **__: None)
        config = replace_options(config_of("default", folder / "x"), {"data.batch_size": 6})
        with pytest.raises(
            ConfigError,
            match="--loss.synthetic adds 3 rendered faces to a step, expected a multiple of the 2",
        ):
            train(config)

    def test_more_processes_than_gpus(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_RANK", "1")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(
            RuntimeError, match="process 1 of this machine has no GPU, torch sees 1; give"
        ):
            with distributed.processes("cuda"):
                pass

    def test_error_of_the_main_process_ends_the_others_quietly(self, monkeypatch):
        """What broadcast_object_list does on a process that is not the main one, by hand."""

        def refused(answer, src):
            answer[:] = [None, False]

        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr(distributed, "rank", lambda: 1)
        monkeypatch.setattr(distributed.dist, "broadcast_object_list", refused)
        with pytest.raises(SystemExit, match="2"):
            distributed.on_main(lambda: 1 / 0)

    def test_command_line_names_the_process(self, monkeypatch, capsys):
        from mofa_nvdr.cli import main

        monkeypatch.setenv("RANK", "3")
        assert main(["trian"]) == 2
        assert capsys.readouterr().err.startswith("mofa-nvdr: process 3: unknown command")


class TestAlone:
    def test_everything_is_what_it_was(self):
        encoder = torch.nn.Linear(2, 2)
        values = torch.rand(3, requires_grad=True)
        assert distributed.parallel(encoder) is encoder and distributed.batch_mean(values) is values
        assert distributed.gather(5) == [5] and distributed.is_main()
        assert distributed.on_main(lambda: 7) == 7
        assert torch.equal(distributed.total(values), values)

    @pytest.mark.parametrize(
        ("threads", "world", "local", "omp", "expected"),
        [(3, "1", "1", "1", 3), (0, "2", "2", "1", 4), (0, "4", "2", "1", 4), (0, "16", "16", "1", 1),
         (0, "2", "2", "6", 6), (2, "2", "2", "1", 2)],
    )  # fmt: skip
    def test_threads_of_a_process(self, monkeypatch, threads, world, local, omp, expected):
        """Eight cores shared among the processes of the machine, unless a number is given."""
        for name, value in (
            ("WORLD_SIZE", world),
            ("LOCAL_WORLD_SIZE", local),
            ("OMP_NUM_THREADS", omp),
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        monkeypatch.setattr(distributed, "_join", lambda _: None)
        before = torch.get_num_threads()
        with distributed.processes("cpu", threads):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == before
