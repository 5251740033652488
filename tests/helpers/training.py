"""Small trainings: their configuration, their curve, their batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.runs.checkpoint import read_checkpoint
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.options import TrainConfig, replace_options

# What holds faces in place after a warm start of two steps.
HELD = {
    "schedule.warm_start_steps": 2, "loss.anchor": 0.2, "loss.mirror": 0.3, "loss.decoded": 0.5,
    "loss.synthetic": 0.1,
}  # fmt: skip


def small_config(cap: str, out: Path, **changes: Any) -> TrainConfig:
    """The smoke configuration with a small face model and other options."""
    return replace_options(
        load_config("smoke"), {"run.face_model": cap, "run.out": str(out), **changes}
    )


def curve(run: Path) -> list[dict]:
    """The log without its times and its memory."""
    times = ("images_per_second", "seconds", "cpu_seconds", "ms", "peak_mb")
    lines = read_log(run / "log.jsonl")
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


def random_batch(size: int = 64) -> Batch:
    """Two pictures of noise without landmarks."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, size, size, generator=generator)
    return Batch(images, torch.full((2, 68, 2), math.nan), torch.zeros(2, 68), 0)


def same_state(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same bits: weights, optimizer, random states."""
    (x, more_x), (y, more_y) = read_checkpoint(a), read_checkpoint(b)
    assert (
        more_x["sampler"] == more_y["sampler"]
        and more_x["facts"]["best"] == more_y["facts"]["best"]
    )
    return x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)
