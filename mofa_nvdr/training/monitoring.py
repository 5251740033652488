"""Seeing a run learn: the live line, log.jsonl, TensorBoard, sheets of pictures, and report.html."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import FINER, panels, png_bytes, sheet
from mofa_nvdr.runs.folder import JsonLog
from mofa_nvdr.runs.options import TrainConfig, known_face_steps
from mofa_nvdr.system import distributed
from mofa_nvdr.system.device import peak_memory
from mofa_nvdr.system.files import write_bytes
from mofa_nvdr.system.notes import say
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.report import write_report

logger = logging.getLogger(__name__)
_SHEET_FACES = 12


class Monitor:
    """Reports of one run; on processes other than the main one it is silent and writes nothing.

    Args:
        config: of the run.
        run: its folder.
        done: steps done before.
        facts: of state.TrainingState; "seconds" and "cpu_seconds" are kept up to date here.
    """

    def __init__(self, config: TrainConfig, run: Path, done: int, facts: dict[str, Any]) -> None:
        self.config = config
        self.run = run
        self.facts = facts
        self._active = distributed.is_main()
        self._terminal = self._active and sys.stderr.isatty()
        self._before = facts["seconds"], facts["cpu_seconds"]
        self._started, self._cpu_started = time.monotonic(), time.process_time()
        self._last_validation: dict[str, Any] = {}
        self.restart_rate()
        self._things = contextlib.ExitStack()
        if not self._active:
            return
        self._log = JsonLog(run / "log.jsonl", done)
        self._things.callback(self._log.close)
        self._board = _tensorboard(run, done)
        if self._board:
            self._things.enter_context(_one_report())
            self._things.callback(self._board.close)
        else:
            logger.info("no TensorBoard scalars; pip install 'mofa-nvdr[train]'")
        self._bar = tqdm(
            total=config.run.steps,
            initial=done,
            unit="step",
            disable=not self._terminal,
            smoothing=0.05,
        )
        self._things.callback(self._bar.close)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # A disk that failed a write fails these too, and the first error says what happened.
        with contextlib.suppress(*([OSError] if kind else [])):
            self._things.close()

    def say(self, text: str) -> None:
        """A line for people, above the bar if there is one."""
        if self._active:
            say(text)

    def restart_rate(self) -> None:
        """What came before, for example a validation, does not count in the images per second."""
        self._images, self._since = 0, time.monotonic()

    def _times(self) -> dict[str, float]:
        """Training so far, resumed parts together: wall time, and this process's time on CPUs."""
        return {name: round(self.facts[name], 2) for name in ("seconds", "cpu_seconds")}

    def advance(self) -> None:
        """One more step is done."""
        self._images += self.config.data.batch_size
        self.facts["seconds"] = self._before[0] + time.monotonic() - self._started
        self.facts["cpu_seconds"] = self._before[1] + time.process_time() - self._cpu_started
        if self._active:
            self._bar.update()

    def skipped(self, step: int, trouble: str, where: str) -> None:
        """A step whose loss or gradient was not finite."""
        if self._active:
            self._log.write({"step": step, "skipped": trouble})
        self.say(f"WARNING: step {step}: {trouble}; skipped, {where}")

    def step(self, step: int, terms: dict[str, float], more: dict[str, Any]) -> None:
        """Report a training step.

        Args:
            step: its number.
            terms: the loss and its terms over the whole batch.
            more: "gradient_norm" and others for log.jsonl; dictionaries of numbers become groups of
                TensorBoard's.
        """
        rate = self._images / max(time.monotonic() - self._since, 1e-9)
        self.restart_rate()
        if not self._active:
            return
        times = {"images_per_second": round(rate, 2), **self._times()}
        self._log.write({"step": step, **terms, **more, **times})
        groups = {name: part for name, part in more.items() if isinstance(part, dict)}
        single = {name: part for name, part in more.items() if name not in groups}
        train = {**terms, **single, "images_per_second": rate}
        self._scalars(step, {"train": train, **groups})
        warm = step <= known_face_steps(self.config)
        part = "rendered faces" if warm else f"photometric {terms['photometric']:.4f}"
        words = f"loss {terms['loss']:.4f}, {part}, {rate:.1f} images/s"
        last = self._last_validation
        if last and math.isfinite(last["landmark_px"]):
            words += f", val {last['landmark_px']:.2f} px"
        self._bar.set_postfix_str(words)
        if not self._terminal and step % (5 * self.config.report.log_every) == 0:
            left = (self.config.run.steps - step) * self.config.data.batch_size / rate / 60
            self.say(f"step {step}/{self.config.run.steps}: {words}, {left:.0f} min left")

    def validation(self, step: int, line: dict[str, Any], improved: bool) -> None:
        """Report what evaluation.validate found after a step."""
        self._last_validation = line
        if not self._active:
            return
        times = {"peak_mb": peak_memory() >> 20, **self._times()}
        self._log.write({"step": step, "split": "val", **line, **times})
        self._scalars(step, {"val": line})
        if "warning" in line:
            self.say(
                f"WARNING: step {step}: the rendered face covers {line['mask_fraction']:.3f} of the "
                f"image, {self.facts['first_mask_fraction']:.3f} at the start: the run is collapsing, and "
                "its photometric figure means nothing"
            )
        # A corpus without landmarks has no such error, not one that is not a number.
        known = math.isfinite(line["landmark_px"])
        self.say(
            f"step {step}: val photometric {line['photometric']:.4f} (vertex "
            f"{line['photometric_vertex']:.4f}), "
            + (f"landmarks {line['landmark_px']:.2f} px, " if known else "")
            + f"mask {line['mask_fraction']:.3f}, scale {line['scale']:.3f}"
            + ", the best so far" * improved
        )

    @torch.no_grad()
    def sheet(self, step: int, encoder: Encoder, decoder: FaceDecoder, data: TrainingData) -> None:
        """sheet-STEP.png: input, overlay, geometry, albedo and shading of some validation images."""
        if not self._active:
            return
        training = encoder.training
        encoder.eval()
        device = next(encoder.parameters()).device
        rows, fine = [], decoder.finer(FINER)
        for batch in data.val(_SHEET_FACES):
            images = batch.images.to(device)
            face = fine.rasterize(fine.geometry(encoder(images)))
            rows.append(panels(images, face))
        encoder.train(training)
        picture = sheet(np.concatenate(rows), columns=2)
        write_bytes(self.run / f"sheet-{step:08d}.png", png_bytes(picture, kind="sheet"))
        if self._board:
            self._board.add_image("val/faces", picture[::2, ::2], step, dataformats="HWC")

    def report(self, status: str) -> None:
        """Write report.html as things are now; `status` in a few words."""
        if self._active:
            write_report(self.run, self.config, self.facts, status)

    def sync(self) -> None:
        """Before a checkpoint: what was logged until now is on the disk."""
        if self._active:
            self._log.sync()
            if self._board:
                self._board.flush()

    def _scalars(self, step: int, groups: dict[str, dict[str, Any]]) -> None:
        if self._board is None:
            return
        for group, values in groups.items():
            for name, value in values.items():
                if isinstance(value, float) and math.isfinite(value):
                    self._board.add_scalar(f"{group}/{name}", value, step)


def command_line() -> str:
    """The command that started this process, as one would type it."""
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    if name not in ("mofa-nvdr", "__main__.py"):  # a program that calls `train`
        return shlex.join(["python", *sys.argv])
    if distributed.world_size() == 1:
        return shlex.join(["mofa-nvdr", *arguments])
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    start = ["torchrun", "--nproc-per-node", here, "-m", "mofa_nvdr"]
    return shlex.join([*start, *arguments])


def _tensorboard(run: Path, step: int) -> Any:
    """A TensorBoard writer, or None if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run), purge_step=step + 1 if step else None)


@contextlib.contextmanager
def _one_report() -> Iterator[None]:
    """TensorBoard's thread dies silently when the disk is full: its next call here raises the error."""
    before = threading.excepthook

    def hook(error: threading.ExceptHookArgs) -> None:
        of_tensorboard = type(error.thread).__module__.startswith("tensorboard.")
        if not (of_tensorboard and isinstance(error.exc_value, OSError)):
            before(error)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
