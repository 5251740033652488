"""Where the time of a training step goes on this machine: what `mofa-nvdr bench train` prints."""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch

from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.images import resize_square
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.build import make_decoder, make_encoder
from mofa_nvdr.runs.config import check_config
from mofa_nvdr.runs.options import ConfigError, TrainConfig, known_face_steps, replace_options
from mofa_nvdr.system import distributed
from mofa_nvdr.system.device import make_current, peak_memory, resolve_device
from mofa_nvdr.system.files import write_text
from mofa_nvdr.system.origins import KEY, check_free, origin
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.objective import Objective
from mofa_nvdr.training.optimizer import make_optimizer
from mofa_nvdr.training.step import Trainer, train_step
from mofa_nvdr.training.teacher import Teacher, with_teacher
from mofa_nvdr.training.timing import STAGES, StageClock

_WARM_UP = 3
_PICTURES = 40


def bench_train(
    config: TrainConfig, repeats: int = 20, out: str = "", overwrite: bool = False
) -> dict[str, Any]:
    """Time the stages of training steps, print the table, write it as JSON.

    The steps are those of training past the warm start.

    Args:
        config: of the run; with an empty `data` throw-away JPEGs are used instead of photographs.
        repeats: timed steps.
        out: JSON file; empty: none.
        overwrite: replace a file that is there, whatever it holds; else only earlier figures.

    Returns:
        facts of the machine; "wall_ms" and "cpu_ms", of each stage, "step" and "without_optimizer" the
        median; "decoder_share" of the wall time without the optimizer; "peak_mb".

    Raises:
        ValueError: repeats below 1, a mistake in the configuration, or a JSON file of something else.
        RuntimeError: CUDA asked for where there is none.
        OSError: the JSON file can't be written.
    """
    if repeats < 1:
        raise ConfigError(f"--repeats is {repeats}, expected at least 1")
    check_config(config)
    device = resolve_device(config.run.device)
    make_current(device)
    made_from = origin("bench train")
    if out:
        check_free(out, [Path(out)], made_from, overwrite, "--json")
        Path(out).touch()  # better now than after minutes of work
    with (
        tempfile.TemporaryDirectory() as folder,
        distributed.processes(device.type, config.run.threads),
    ):
        if not config.data.path:
            _write_pictures(Path(folder))
            config = replace_options(config, {"data.path": folder, "loss.landmark": 0.0})
        rows, threads = _run(config, device, repeats), torch.get_num_threads()
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_memory()
    medians = {
        kind: {name: statistics.median(row[name] for row in rows[kind]) for name in rows[kind][0]}
        for kind in ("wall_ms", "cpu_ms")
    }
    wall = medians["wall_ms"]
    decoder = wall["decoder_forward"] + wall["decoder_backward"]
    result = {
        **machine_facts(device),
        "config": dataclasses.asdict(config),
        "threads": threads,
        **medians,
        "best_ms": {name: min(row[name] for row in rows["wall_ms"]) for name in wall},
        "decoder_share": decoder / wall["without_optimizer"],
        "peak_mb": peak / 2**20,
    }
    _print(config, result)
    if out:
        write_text(Path(out), json.dumps({KEY: made_from, **result}, indent=1) + "\n")
    return result


def _run(
    config: TrainConfig, device: torch.device, repeats: int
) -> dict[str, list[dict[str, float]]]:
    """Times of each step, ms: "wall_ms" and "cpu_ms"."""
    torch.manual_seed(config.run.seed)
    model = FaceModel.load(config.run.face_model)
    decoder = make_decoder(config, model).to(device)
    encoder = make_encoder(config, model.layout).to(device).train()
    optimizer = make_optimizer(config, encoder)
    clock = StageClock(device)
    trainer = Trainer(config, encoder, Objective(config, decoder), optimizer, clock)
    teacher = Teacher(encoder) if config.loss.anchor > 0 else None
    first = known_face_steps(config)
    stream = TrainingData(config, decoder).train(first)
    rows: dict[str, list[dict[str, float]]] = {"wall_ms": [], "cpu_ms": []}
    try:
        for step in range(first + 1, first + 1 + _WARM_UP + repeats):
            clock.start()
            batch = next(stream)
            clock.lap("data")
            batch = with_teacher(batch, teacher)
            train_step(trainer, batch, step)
            for kind, stages in zip(rows, clock.take()):
                total = sum(stages.values())
                rest = total - stages["optimizer"]
                rows[kind].append({**stages, "step": total, "without_optimizer": rest})
    finally:
        stream.close()
    return {kind: times[_WARM_UP:] for kind, times in rows.items()}


def _write_pictures(folder: Path) -> None:
    """Smooth noise as JPEGs of 256 px, about as heavy to read as crops of faces."""
    rng = np.random.default_rng(0)
    for k in range(_PICTURES):
        coarse = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
        iio.imwrite(folder / f"{k:02d}.jpg", resize_square(coarse, 256), quality=90)


def _print(config: TrainConfig, result: dict[str, Any]) -> None:
    for name in ("mofa-nvdr", "processor", "torch", "numba", "gpu", "nvdiffrast"):
        if name in result:
            print(f"{name}: {result[name]}")
    print(
        f"{config.encoder.network}, {config.render.mode} mode, batch {config.data.batch_size}, "
        f"{config.data.image_size} px, "
        f"{config.optimizer.name}, {result['threads']} threads\n"
        f"{'stage':20} {'wall: median':>14} {'best':>8} {'CPU: median':>12}  ms"
    )
    for name in (*STAGES, "without_optimizer", "step"):
        print(
            f"{name.replace('_', ' '):20} {result['wall_ms'][name]:>14.1f} {result['best_ms'][name]:>8.1f} "
            f"{result['cpu_ms'][name]:>12.1f}"
        )
    step = result["wall_ms"]["step"]
    print(
        f"decoder's share without the optimizer: {100 * result['decoder_share']:.1f} %\n"
        f"{1000 * config.data.batch_size / step:.1f} images/s; peak memory {result['peak_mb']:.0f} MB"
    )
