"""The training loop: photographs or synthetic faces in, a run folder out.

batch -> encoder -> code -> decoder -> loss (objective.loss_terms) -> one optimizer step

Under torchrun several processes do it together (distributed.py); the main one alone writes.
"""

from __future__ import annotations

import io
import itertools
import random
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.build import make_decoder, make_encoder
from mofa_nvdr.runs.checkpoint import list_checkpoints
from mofa_nvdr.runs.config import ConfigError, TrainConfig, check_config, count_synthetic
from mofa_nvdr.runs.folder import keep_config, open_run, remove_leftovers
from mofa_nvdr.system import distributed
from mofa_nvdr.system.device import resolve_device
from mofa_nvdr.system.files import named_errors, write_bytes
from mofa_nvdr.training.batches import Corpus
from mofa_nvdr.training.evaluation import validate
from mofa_nvdr.training.monitoring import Monitor, command_line
from mofa_nvdr.training.optimizer import make_optimizer
from mofa_nvdr.training.stages import StageClock
from mofa_nvdr.training.state import TrainingState
from mofa_nvdr.training.step import train_step
from mofa_nvdr.training.teacher import with_teacher


class Stopped(KeyboardInterrupt):
    """A signal ended a run after its step was finished and saved; the same call again resumes."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def train(config: TrainConfig, name: str = "mofa", root: Path = Path("runs")) -> Path:
    """Train an encoder, or go on with a run that was stopped; returns the run folder.

    SIGTERM and Ctrl-C end it after the step in progress, with a checkpoint; a second one at once.

    Args:
        config: everything the run depends on.
        name: used in the folder's name when config.out is empty.
        root: where run folders are made when config.out is empty.

    Raises:
        ValueError: a mistake in the configuration, the data or the files it names.
        RuntimeError: CUDA asked for where there is none; a loss that stays not finite.
        OSError: the run folder cannot be written any more; the newest checkpoint is untouched.
        Stopped: a signal.
    """
    check_config(config)
    device = resolve_device(config.device)
    with distributed.processes(device.type, config.threads), _Signals() as signals:
        distributed.on_main(lambda: _check_share(config))
        return _train(config, name, root, device, signals)


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def _check_share(config: TrainConfig) -> None:
    if config.batch_size % distributed.world_size():
        raise ConfigError(
            f"--batch-size is {config.batch_size}, expected a multiple of the "
            f"{distributed.world_size()} processes that share it"
        )
    if count_synthetic(config) % distributed.world_size():
        raise ConfigError(
            f"--synthetic-share is {config.synthetic_share:g}, {count_synthetic(config)} faces a step, "
            f"expected a multiple of the {distributed.world_size()} processes that share them"
        )


def _train(
    config: TrainConfig, name: str, root: Path, device: torch.device, signals: _Signals
) -> Path:
    torch.manual_seed(config.seed)
    np.random.seed(config.seed % 2**32)
    random.seed(config.seed)
    model = FaceModel.load(config.face_model)
    decoder = make_decoder(config, model).to(device)
    encoder = make_encoder(config, model.layout).to(device)
    corpus = Corpus(config, decoder)
    run = distributed.on_main(lambda: open_run(config, name, root, _warn))
    optimizer = make_optimizer(config, encoder)
    state = TrainingState(config, run, encoder, optimizer, decoder, corpus)
    done = state.resume(_warn)
    distributed.on_main(lambda: keep_config(run, config))
    together = distributed.parallel(encoder)  # shares the encoder's parameters
    if distributed.is_main():
        remove_leftovers(run)
        state.facts["commands"].append([done, command_line()])
    clock = StageClock(device)

    with (
        named_errors(run, lambda: _safe(run)),
        Monitor(config, run, done, state.facts) as monitor,
    ):

        def validation(step: int) -> bool:
            share = corpus.val(rank=distributed.rank(), world_size=distributed.world_size())
            line = validate(encoder, decoder, share)
            improved = state.note_validation(step, line)
            monitor.validation(step, line, improved)
            return improved

        def save(step: int, status: str) -> None:
            monitor.sync()
            state.save(step)
            monitor.report(status)

        several = f", {distributed.world_size()} processes" * (distributed.world_size() > 1)
        monitor.say(
            f"{run}: {corpus}; {model.name} face model, {config.encoder} on {device.type}{several}"
            + (f"; resuming after step {done}" if done else "")
        )
        if done == 0:
            validation(0)
            monitor.sheet(0, encoder, decoder, corpus)
            save(0, "begun")
        encoder.train()
        monitor.restart_rate()
        stream = corpus.train(done)
        due = False  # a checkpoint
        try:
            for step in range(done + 1, config.steps + 1):
                reported = step % config.log_every == 0 or step == config.steps
                clock.start(measure=device.type == "cpu" or reported)
                batch = next(stream)
                clock.lap("data")
                if step > config.warm_start_steps:
                    batch = with_teacher(batch, state.teacher)
                result = train_step(
                    config,
                    together,
                    decoder,
                    optimizer,
                    batch,
                    step,
                    clock,
                    reported,
                    signals.came,
                )
                monitor.advance()
                state.keep_teacher(step)
                if result.trouble:
                    state.facts["skipped_in_a_row"] += 1
                    monitor.skipped(step, result.trouble, _save_batch(run, step, batch))
                    if state.facts["skipped_in_a_row"] >= config.stop_after_skips:
                        # A process of another machine may not see the folder.
                        before = [path.name for path in list_checkpoints(run)[-1:]]
                        raise RuntimeError(
                            f"step {step}: {result.trouble}, {state.facts['skipped_in_a_row']} steps in a "
                            f"row; a lower --learning-rate, or --clip-gradient, with --out {run} goes on "
                            f"from {', '.join(before) or 'the newest checkpoint'}, the last from before; "
                            "without that file, from the one before it"
                        )
                else:
                    state.facts["skipped_in_a_row"] = 0
                    if reported:
                        report = result.report | {"ms": clock.take()[0]}
                        if unreadable := _skipped(corpus):
                            report["skipped_images"] = len(unreadable)
                        monitor.step(step, result.terms, report)

                last = step == config.steps
                improved = (step % config.val_every == 0 or last) and validation(step)
                if step % config.sheet_every == 0 or last:
                    monitor.sheet(step, encoder, decoder, corpus)
                due = due or step % config.checkpoint_every == 0
                held = state.facts["skipped_in_a_row"] > 0  # the weights may be broken already
                if (due and not held) or last or improved or result.stop:
                    due = False
                    save(step, "finished" if last else "stopped" if result.stop else "running")
                    monitor.restart_rate()
                if result.stop and not last:
                    raise Stopped(
                        f"{run}: stopped and saved after step {step}; the same command again resumes",
                        signals.number or signal.SIGTERM,
                    )
        finally:
            stream.close()
        if unreadable := _skipped(corpus):
            names = ", ".join(unreadable[:5])
            monitor.say(f"{len(unreadable)} unreadable images were skipped: {names}")
        monitor.say(f"{run}: finished at step {max(done, config.steps)}")
    return run


def _save_batch(run: Path, step: int, batch: Batch) -> str:
    """Keep the whole batch for inspection; the words that say where, and which files it is of."""
    shares = distributed.gather(batch.to("cpu"))
    paths = [path for share in shares for path in share.paths]
    file = run / f"skipped-{step:08d}.npz"
    if distributed.is_main():

        def whole(name: str) -> np.ndarray:
            return torch.cat([getattr(share, name) for share in shares]).numpy()

        beside = [share.rendered.images for share in shares if share.rendered is not None]
        rendered: dict[str, Any] = {"rendered": torch.cat(beside).numpy()} if beside else {}
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


class _Signals:
    """SIGTERM and SIGINT ask for a stop at the end of a step; a second one stops at once.

    Attributes:
        number: of the signal that came; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def came(self) -> bool:
        """Whether one came."""
        return self.number != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number


def _skipped(corpus: Corpus) -> list[str]:
    """What any of the processes found unreadable so far."""
    return list(dict.fromkeys(itertools.chain(*distributed.gather(corpus.skipped))))


def _safe(run: Path) -> str:
    """What a run that cannot write any more has kept."""
    found = list_checkpoints(run)
    return f"{found[-1].name} is whole" if found else "there is no checkpoint yet"
