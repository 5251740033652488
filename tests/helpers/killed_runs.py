"""Train once without disturbance, then again and again with SIGKILL, and say where the kills fell.

A program of its own for test_nothing_lost: it imports everything once and forks a process for each start of
the training, which is killed at a random time, or at a random one of each kind of moments that could lose
something.

    python -m tests.helpers.killed_runs FACE_MODEL FOLDER NUM_KILLS
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mofa_nvdr.runs import checkpoint, folder
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import TrainConfig, replace_options
from mofa_nvdr.system import files
from mofa_nvdr.training import loop as training
from tests.helpers.small_encoder import small_encoder

TIMES = 6  # kills by the clock; the others come at counted moments
KINDS = ("save_file", "write", "write_bytes", "train_step", "replace", "fsync", "link")


def config_of(face_model: str, out: Path) -> TrainConfig:
    """Twelve steps with everything that writes: logs, validations, sheets, reports, checkpoints."""
    return replace_options(
        load_config("smoke"),
        {
            "run.face_model": face_model,
            "run.out": str(out),
            "run.steps": 12,
            "report.checkpoint_every": 2,
            "report.val_every": 3,
            "report.val_images": 2,
            "report.sheet_every": 6,
            "schedule.warm_start_steps": 3,
        },
    )


def die() -> None:
    """As from outside: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(kind: str, count: int) -> None:
    """Arrange for SIGKILL at the `count`-th moment of a kind, before or half way; kind "": never."""

    def watch(owner: Any, name: str, half: Callable[..., None]) -> None:
        function = getattr(owner, name)
        left = [count if name == kind else 0]

        def watched(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                half(*args)
                die()
            return function(*args, **more)

        setattr(owner, name, watched)

    save = checkpoint.save_file

    def half_a_checkpoint(tensors: Any, path: Path, header: Any) -> None:
        save(tensors, path, header)
        os.truncate(path, path.stat().st_size // 2)

    def half_a_line(log: folder.JsonLog, line: Any) -> None:
        log._file.write('{"step": 5, "lo')
        log._file.flush()

    def half_a_file(path: Path, data: bytes) -> None:
        files._temporary(path).write_bytes(data[: len(data) // 2])

    def nothing(*args: Any) -> None:
        pass

    watch(checkpoint, "save_file", half_a_checkpoint)
    watch(folder.JsonLog, "write", half_a_line)
    watch(files, "write_bytes", half_a_file)
    watch(training, "train_step", nothing)
    for name in ("replace", "fsync", "link"):
        watch(os, name, nothing)


def start(config: TrainConfig, kind: str = "", count: int = 0) -> int:
    """Fork a process that trains, and dies at the `count`-th moment of a kind; its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    kill_at(kind, count)
    training.train(config)
    os._exit(0)


def main(face_model: str, folder: Path, num_kills: int) -> None:
    torch.set_num_threads(1)
    training.make_encoder = small_encoder
    warm = replace_options(config_of(face_model, folder / "warm"), {"run.steps": 4})
    training.train(warm)  # compiles
    began = time.monotonic()
    os.waitpid(start(config_of(face_model, folder / "whole")), 0)
    duration = time.monotonic() - began
    rng = random.Random(0)
    kills: list[str] = []
    runs = 0
    while len(kills) < num_kills:
        config, finished = config_of(face_model, folder / f"run{runs}"), False
        while not finished:
            enough, by_time = len(kills) >= num_kills, len(kills) < TIMES
            kind = "time" if by_time else "" if enough else KINDS[len(kills) % len(KINDS)]
            child = start(config, kind, rng.randrange(1, 4))
            if by_time:
                time.sleep(duration * rng.uniform(0.1, 0.6))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                kills.append(kind)
            elif status == 0:
                finished = True
            else:
                raise SystemExit(f"a run failed with status {status}")
        runs += 1
    (folder / "kills.json").write_text(json.dumps({"kills": kills, "runs": runs}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
