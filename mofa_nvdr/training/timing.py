"""Where the time of a training step goes."""

from __future__ import annotations

import time

import torch
from torch import Tensor

STAGES = (
    "data",
    "encoder_forward",
    "decoder_forward",  # the losses included
    "decoder_backward",
    "encoder_backward",  # with several processes the exchange of gradients included
    "optimizer",  # clipping and the guard against numbers that are not finite included
)


class StageClock:
    """Adds up what each of STAGES takes, in wall time and in the process's CPU time.

    `start` begins a step, each `lap` ends a stage. Of the backward pass the decoder's part ends when the
    gradient arrives at the codes that `watch` was shown.

    Args:
        device: on CUDA every lap waits for the GPU, so that the work is counted where it was asked for.

    Attributes:
        codes: the codes last shown, [B, size], without gradient; None before.
    """

    def __init__(self, device: torch.device) -> None:
        self.codes: Tensor | None = None
        self._cuda = device if device.type == "cuda" else None
        self._running = False
        self._last = (0.0, 0.0)
        self._steps = 0
        self._sums: dict[str, tuple[float, float]] = {}

    def start(self, measure: bool = True) -> None:
        """Begin a step; with `measure` False its laps cost nothing and count nothing."""
        self._running = measure
        if measure:
            self._steps += 1
            self._last = self._now()

    def lap(self, stage: str) -> None:
        """The time since the last lap, or the start, was spent on `stage`."""
        if self._running:
            now = self._now()
            sums = self._sums.get(stage, (0.0, 0.0))
            wall, cpu = (total + there - then for total, there, then in zip(sums, now, self._last))
            self._sums[stage] = (wall, cpu)
            self._last = now

    def watch(self, codes: Tensor) -> None:
        """Keep the predicted codes for reports, and end decoder_backward when their gradient is there."""
        self.codes = codes.detach()
        if self._running and codes.requires_grad:
            codes.register_hook(lambda grad: self.lap("decoder_backward"))

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """Milliseconds per step of each stage seen since the last call: wall time, CPU time."""
        known = [stage for stage in STAGES if stage in self._sums]
        steps = max(self._steps, 1)
        wall, cpu = ({s: 1e3 * self._sums[s][k] / steps for s in known} for k in (0, 1))
        self._steps, self._sums = 0, {}
        return wall, cpu

    def _now(self) -> tuple[float, float]:
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        return time.perf_counter(), time.process_time()
