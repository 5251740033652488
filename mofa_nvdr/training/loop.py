"""The training loop: photographs or synthetic faces in, a run folder out.

batch -> encoder -> code -> decoder -> loss (objective.Objective) -> one optimizer step (step.train_step)

Under torchrun several processes do it together (distributed.py); only the main one writes.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.build import make_decoder, make_encoder, make_face_model
from mofa_nvdr.runs.checkpoint import list_checkpoints
from mofa_nvdr.runs.config import check_config
from mofa_nvdr.runs.folder import keep_config, open_run, remove_leftovers
from mofa_nvdr.runs.options import (
    ConfigError,
    TrainConfig,
    count_synthetic,
    cycle_start,
    flag,
    known_face_steps,
)
from mofa_nvdr.system import distributed
from mofa_nvdr.system.device import make_current, resolve_device
from mofa_nvdr.system.files import named_errors, write_bytes
from mofa_nvdr.system.locks import locked
from mofa_nvdr.system.notes import say
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.bootstrap import Bootstrap
from mofa_nvdr.training.evaluation import validate
from mofa_nvdr.training.monitoring import Monitor, command_line
from mofa_nvdr.training.objective import Objective
from mofa_nvdr.training.optimizer import make_optimizer
from mofa_nvdr.training.signals import Signals
from mofa_nvdr.training.state import TrainingState
from mofa_nvdr.training.step import StepResult, Trainer, train_step
from mofa_nvdr.training.teacher import with_teacher
from mofa_nvdr.training.timing import StageClock


def train(config: TrainConfig, name: str = "mofa", root: Path = Path("runs")) -> Path:
    """Train an encoder, or resume a run that was stopped; returns the run folder.

    SIGTERM and Ctrl-C end it after the step in progress, with a checkpoint; a second one at once.

    Args:
        config: everything the run depends on.
        name: used in the folder's name when config.run.out is empty.
        root: where run folders are made when config.run.out is empty.

    Raises:
        ValueError: a mistake in the configuration, the data or the files it names.
        RuntimeError: CUDA asked for where there is none; a loss that is not finite again and again.
        FolderInUse: another training writes the run folder.
        OSError: the run folder cannot be written any more; the newest checkpoint is untouched.
        Stopped: a signal.
    """
    check_config(config)
    device = resolve_device(config.run.device)
    make_current(device)
    if device.index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"--device {device}: torchrun's processes each take a GPU of their own; give --device cuda"
        )
    with (
        distributed.processes(device.type, config.run.threads),
        Signals() as signals,
        ExitStack() as held,
    ):
        distributed.on_main(lambda: _check_share(config))
        return _train(config, name, root, device, signals, held)


def _warn(text: str) -> None:
    say(text, sys.stderr)


def _check_share(config: TrainConfig) -> None:
    if config.data.batch_size % distributed.world_size():
        raise ConfigError(
            f"--data.batch-size is {config.data.batch_size}, expected a multiple of the "
            f"{distributed.world_size()} processes that share it"
        )
    if count_synthetic(config) % distributed.world_size():
        raise ConfigError(
            f"--loss.synthetic adds {count_synthetic(config)} rendered faces to a step, expected a multiple "
            f"of the {distributed.world_size()} processes that share them; give another "
            "--data.batch-size"
        )


def _train(
    config: TrainConfig,
    name: str,
    root: Path,
    device: torch.device,
    signals: Signals,
    held: ExitStack,
) -> Path:
    # What is trained, and on what.
    _seed(config.run.seed)
    model = FaceModel.load(config.run.face_model)
    # Data know the base level alone: rendered faces, fitted codes, mirror images.
    data = TrainingData(config, make_decoder(config, model).to(device))
    trained = make_face_model(config, model)
    decoder = make_decoder(config, trained).to(device)
    encoder = make_encoder(config, trained.layout).to(device)
    optimizer = make_optimizer(config, encoder, dict(trained.named_parameters()))

    # Where it goes: a new folder, or the one of the run that is resumed.
    run = distributed.on_main(lambda: _open_alone(config, name, root, held))
    state = TrainingState(config, run, encoder, optimizer, decoder, data)
    done = state.resume(_warn)
    begun = state.begin() if done == 0 else ""
    _note_threads(state, device, done)
    distributed.on_main(lambda: keep_config(run, config))
    if distributed.is_main():
        remove_leftovers(run)
        state.facts["commands"].append([done, command_line()])

    clock = StageClock(device)
    together = distributed.parallel(encoder)  # shares the encoder's parameters
    objective = Objective(config, decoder)
    trainer = Trainer(config, together, objective, optimizer, clock, signals.came)
    report = config.report

    with (
        named_errors(run, lambda: _safe(run)),
        Monitor(config, run, done, state.facts) as monitor,
        closing(
            Bootstrap(config, run, encoder, data, signals, monitor.say).batches(done)
        ) as batches,
    ):
        monitor.say(_first_line(run, data, model, config, device, done) + begun)
        if done == 0:
            _validate(trainer, data, state, monitor, step=0)
            monitor.sheet(0, encoder, decoder, data)
            _save(state, monitor, 0, "begun")
        encoder.train()
        monitor.restart_rate()
        due = False  # a checkpoint
        # A cycle begins with the encoder of one, and the last one ends with one.
        cycles = {cycle_start(config, 1 + k) for k in range(1 + config.bootstrap.cycles)}
        cycles = cycles if config.bootstrap.cycles else set()
        for step in range(done + 1, config.run.steps + 1):
            last = step == config.run.steps
            reported = last or step % report.log_every == 0
            clock.start(measure=device.type == "cpu" or reported)
            batch = next(batches)
            clock.lap("data")
            if step > known_face_steps(config):
                batch = with_teacher(batch, state.teacher)
            result = train_step(trainer, batch, step, reported)
            monitor.advance()
            state.keep_teacher(step)

            if result.trouble:
                _skip(config, state, monitor, step, batch, result.trouble)
            else:
                state.facts["skipped_in_a_row"] = 0
                if reported:
                    _report(monitor, data, step, result, clock)

            improved = False
            if last or step % report.val_every == 0:
                improved = _validate(trainer, data, state, monitor, step)
            if last or step % report.sheet_every == 0:
                monitor.sheet(step, encoder, decoder, data)
            due = due or step % report.checkpoint_every == 0 or step in cycles
            broken = state.facts["skipped_in_a_row"] > 0  # the weights may be
            if (due and not broken) or last or improved or result.stop:
                due = False
                status = "finished" if last else "stopped" if result.stop else "running"
                _save(state, monitor, step, status)
                monitor.restart_rate()
            if result.stop and not last:
                raise signals.stopped(
                    f"{run}: stopped and saved after step {step}; the same command again resumes"
                )
        if unreadable := _skipped(data):
            names = ", ".join(unreadable[:5])
            monitor.say(f"{len(unreadable)} unreadable images were skipped: {names}")
        monitor.say(f"{run}: finished at step {max(done, config.run.steps)}")
    return run


def _open_alone(config: TrainConfig, name: str, root: Path, held: ExitStack) -> Path:
    """The run's folder, which no other training writes until `held` is closed.

    Raises:
        FolderInUse: one does.
    """
    run = open_run(config, name, root, _warn)
    if not any(run.iterdir()):  # a mistake that shows later leaves no folder
        held.callback(_remove_if_empty, run)
    held.enter_context(locked(run, "mofa-nvdr train"))
    return run


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something, or is no longer there
        folder.rmdir()


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _first_line(
    run: Path,
    data: TrainingData,
    model: FaceModel,
    config: TrainConfig,
    device: torch.device,
    done: int,
) -> str:
    count = distributed.world_size()
    return (
        f"{run}: {data}; {model.name} face model, {config.encoder.network} on {device.type}"
        + f", {count} processes" * (count > 1)
        + f", threads: {torch.get_num_threads()} (the same number gives the same bits)"
        * (device.type == "cpu")
        + f"; resuming after step {done}" * (done > 0)
    )


def _note_threads(state: TrainingState, device: torch.device, done: int) -> None:
    """Remember the number of threads; a run that is resumed with another one says what that changes."""
    threads, before = torch.get_num_threads(), state.facts.get("threads")
    if done and before not in (None, threads) and device.type == "cpu" and distributed.is_main():
        _warn(
            f"WARNING: {state.run}: goes on with --threads {threads}, it had {before}: the sums of "
            "convolutions are rounded otherwise, so the curve is not the same bit for bit"
        )
    state.facts["threads"] = threads


def _validate(
    trainer: Trainer, data: TrainingData, state: TrainingState, monitor: Monitor, step: int
) -> bool:
    """Measure, and say whether it is the best so far."""
    share = data.val(rank=distributed.rank(), world_size=distributed.world_size())
    line = validate(trainer.own_encoder, trainer.objective.decoder, share)
    improved = state.note_validation(step, line)
    monitor.validation(step, line, improved)
    return improved


def _save(state: TrainingState, monitor: Monitor, step: int, status: str) -> None:
    monitor.sync()
    state.save(step)
    monitor.report(status)


def _report(
    monitor: Monitor, data: TrainingData, step: int, result: StepResult, clock: StageClock
) -> None:
    more = result.report | {"ms": clock.take()[0]}
    if unreadable := _skipped(data):
        more["skipped_images"] = len(unreadable)
    monitor.step(step, result.terms, more)


def _skip(
    config: TrainConfig,
    state: TrainingState,
    monitor: Monitor,
    step: int,
    batch: Batch,
    trouble: str,
) -> None:
    """Say what was not finite and keep the batch; too many in a row end the run.

    Raises:
        RuntimeError: they do.
    """
    run = state.run
    state.facts["skipped_in_a_row"] += 1
    monitor.skipped(step, trouble, _save_batch(run, step, batch))
    if state.facts["skipped_in_a_row"] >= config.run.stop_after_skips:
        # A process of another machine may not see the folder.
        before = [path.name for path in list_checkpoints(run)[-1:]]
        raise RuntimeError(
            f"step {step}: {trouble}, {state.facts['skipped_in_a_row']} steps in a row; a lower "
            f"--{flag('optimizer.learning_rate')}, or --{flag('optimizer.clip_gradient')}, with --out "
            f"{run} goes on from {', '.join(before) or 'the newest checkpoint'}, the last one before them; "
            "without that file, from the one before it"
        )


def _save_batch(run: Path, step: int, batch: Batch) -> str:
    """Keep the whole batch for inspection; returns words that say where, and which files it holds."""
    shares = distributed.gather(batch.to("cpu"))
    paths = [path for share in shares for path in share.paths]
    file = run / f"skipped-{step:08d}.npz"
    if distributed.is_main():

        def whole(name: str) -> np.ndarray:
            return torch.cat([getattr(share, name) for share in shares]).numpy()

        more = [share.rendered.images for share in shares if share.rendered is not None]
        rendered: dict[str, Any] = {"rendered": torch.cat(more).numpy()} if more else {}
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            images=whole("images"),
            landmarks=whole("landmarks"),
            confidence=whole("confidence"),
            paths=np.array([str(path) for path in paths]),
            **rendered,
        )
        write_bytes(file, buffer.getvalue())
    files = ", ".join(path.name for path in paths) or "rendered faces"
    return f"its batch is in {file} ({files})"


def _skipped(data: TrainingData) -> list[str]:
    """What any of the processes found unreadable so far."""
    return list(dict.fromkeys(itertools.chain(*distributed.gather(data.skipped))))


def _safe(run: Path) -> str:
    """What a run that cannot write any more has kept."""
    found = list_checkpoints(run)
    return f"{found[-1].name} is whole" if found else "there is no checkpoint yet"
