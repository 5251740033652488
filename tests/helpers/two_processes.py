"""What test_distributed starts with torchrun: trainings on two processes, with mishaps.

torchrun --nproc-per-node 2 -m tests.helpers.two_processes together|elastic FACE_MODEL FOLDER
"""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.dr import reference
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.losses.mofa import batch_pose_prior
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.build import make_decoder
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import TrainConfig, replace_options
from mofa_nvdr.system import distributed
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.signals import Signals, Stopped
from tests.helpers.objective import loss_terms, use_loss_terms
from tests.helpers.small_encoder import small_encoder

BAD_STEP = 3


def config_of(face_model: str, out: Path) -> TrainConfig:
    """Eight steps of four images, a warm start and the pose prior among them."""
    return replace_options(
        load_config("smoke"),
        {
            "run.face_model": face_model,
            "run.out": str(out),
            "run.steps": 8,
            "data.batch_size": 4,
            "report.val_images": 6,
            "schedule.warm_start_steps": 2,
            "loss.pose_prior": 0.5,
            "render.mode": "both",
            "run.threads": 1,
            "loss.decoded": 0.5,
            "loss.anchor": 0.1,
            "loss.anchor_photographs": 6,
            "loss.mirror": 0.1,
            "loss.synthetic": 0.1,
            "loss.gain_shape": 2.0,
            "loss.gain_expression": 3.0,
            "loss.batch_distribution": 0.3,
            "loss.loopback": 0.1,
            "loss.views": 1,
            "loss.parameter_shape": 0.4,
        },
    )


def cycled_config_of(face_model: str, folder: Path, out: str) -> TrainConfig:
    """Two cycles of bootstrapping after two steps, on the pictures of folder/faces."""
    return replace_options(
        load_config("smoke"),
        {
            "run.face_model": face_model, "run.out": str(folder / out), "data.path": str(folder / "faces"),
            "run.steps": 6, "run.threads": 1, "schedule.warm_start_steps": 2, "bootstrap.cycles": 2,
            "bootstrap.steps": 2, "bootstrap.photographs": 5, "bootstrap.faces": 20,
            "synthetic.surroundings": False, "report.val_images": 2,
        },
    )  # fmt: skip


def corrected_config_of(folder: Path, out: str) -> TrainConfig:
    """Warm start, base level, and both levels with correctives, on the face of folder/regions.safetensors."""
    return replace_options(
        load_config("multi_level_smoke"),
        {
            "run.face_model": str(folder / "regions.safetensors"), "run.out": str(folder / out),
            "run.threads": 1, "data.batch_size": 4, "report.val_images": 4,
        },
    )  # fmt: skip


def break_one_share(*arguments: Any) -> dict[str, Tensor]:
    """helpers.objective.loss_terms, except that at BAD_STEP the last process's images are not numbers."""
    config, encoder, decoder, batch, step, clock = arguments
    if step == BAD_STEP and distributed.rank() == distributed.world_size() - 1:
        batch = dataclasses.replace(batch, images=batch.images * torch.nan)
    return loss_terms(config, encoder, decoder, batch, step, clock)


class DoubleData(TrainingData):
    """The same pictures in float64; rendered faces are drawn by the usual kernels."""

    def __init__(self, config: TrainConfig, decoder: FaceDecoder) -> None:
        super().__init__(config, make_decoder(config, copy.deepcopy(decoder.model).float()))

    def train(self, *arguments: Any) -> Generator[Batch, None, None]:
        return (double(batch) for batch in TrainingData.train(self, *arguments))

    def val(self, *arguments: Any, **named: Any) -> Generator[Batch, None, None]:
        return (double(batch) for batch in TrainingData.val(self, *arguments, **named))

    def some(self, *arguments: Any, **named: Any) -> Generator[Batch, None, None]:
        return (double(batch) for batch in TrainingData.some(self, *arguments, **named))


def double(batch: Batch) -> Batch:
    """The same numbers in float64."""

    def convert(value: Any) -> Any:
        if isinstance(value, Batch):
            return double(value)
        return value.double() if isinstance(value, Tensor) else value

    parts = {f.name: convert(getattr(batch, f.name)) for f in dataclasses.fields(batch)}
    return Batch(**parts)


def compute_in_doubles(setattr: Callable[..., None]) -> None:
    """Let trainings be in float64, in which rounding is too small to be taken for anything else.

    Args:
        setattr: builtins.setattr, or that of pytest's monkeypatch.
    """

    def make_double_decoder(config: TrainConfig, model: FaceModel) -> FaceDecoder:
        return FaceDecoder(model, config.data.image_size, dr=reference).double()

    make_encoder = training.make_encoder
    setattr(training, "make_encoder", lambda *arguments: make_encoder(*arguments).double())
    setattr(training, "make_decoder", make_double_decoder)
    setattr(training, "TrainingData", DoubleData)


def compare_layers() -> None:
    """A step's outputs, averages and gradients against those of one process on the whole batch."""
    layout = CodeLayout(4, 3, 5)
    torch.manual_seed(0)
    alone = small_encoder(TrainConfig(), layout)
    encoder = copy.deepcopy(alone)
    images = torch.rand(6, 3, 32, 32)
    together = distributed.parallel(encoder)
    state = torch.get_rng_state()

    def loss_of(codes: Tensor) -> Tensor:
        return codes.square().sum(1).mean() + batch_pose_prior(layout.unpack(codes))

    share = slice(3 * distributed.rank(), 3 * distributed.rank() + 3)
    torch.set_rng_state(state)
    codes = together(images[share])
    loss_of(codes).backward()
    torch.set_rng_state(state)
    with as_if_alone():
        expected = alone(images)
        loss_of(expected).backward()
    close = {"rtol": 1e-5, "atol": 1e-6}  # 4e-7 measured
    torch.testing.assert_close(codes, expected[share], **close)
    pairs = zip(encoder.named_parameters(), alone.parameters())
    for (name, ours), theirs in pairs:
        torch.testing.assert_close(
            ours.grad, theirs.grad, msg=lambda m, n=name: f"{n}: {m}", **close
        )
    for ours, theirs in zip(encoder.buffers(), alone.buffers()):
        torch.testing.assert_close(ours, theirs, **close)
    encoder.eval(), alone.eval()
    torch.testing.assert_close(encoder(images), alone(images), **close)
    assert encoder.state_dict().keys() == alone.state_dict().keys()


class as_if_alone:
    """The losses of this block see one process."""

    def __enter__(self) -> None:
        self.joined, distributed._joined = distributed._joined, lambda: False

    def __exit__(self, *error: object) -> None:
        distributed._joined = self.joined


def together(face_model: str, folder: Path) -> None:
    """Layers; trainings: in one a share is bad, one a signal to one process ends, one is in float64."""
    with distributed.processes("cpu", threads=1):
        compare_layers()
        use_loss_terms(setattr, break_one_share)
        training.train(config_of(face_model, folder / "two"))
        use_loss_terms(setattr, loss_terms)

        step_of = training.train_step

        def stop_at_5(*arguments: Any) -> training.StepResult:
            if arguments[2] == 5 and distributed.rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return step_of(*arguments)

        training.train_step = stop_at_5
        try:
            training.train(config_of(face_model, folder / "stopped"))
        except Stopped as stop:
            assert stop.exit_code == 143, stop.exit_code
            (folder / f"stopped-{distributed.rank()}").write_text(str(stop))
        training.train_step = step_of

        training.train(cycled_config_of(face_model, folder, "two_cycled"))

        training.train(corrected_config_of(folder, "two_corrected"))

        compute_in_doubles(setattr)
        training.train(config_of(face_model, folder / "two_doubles"))


def elastic(face_model: str, folder: Path) -> None:
    """One process is killed at step 4; torchrun starts both anew; at step 6 torchrun is told to end."""
    step_of, note_of = training.train_step, Signals._note
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    told: list[int] = []  # an Event's lock may be held by the very code that a signal interrupts

    def note(*arguments: Any) -> None:
        note_of(*arguments)
        told.append(arguments[1])

    def mishaps(*arguments: Any) -> training.StepResult:
        step, rank = arguments[2], distributed.rank()
        if first and step == 4 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if not first and step == 6 and rank == 0:
            os.kill(os.getppid(), signal.SIGTERM)  # torchrun's, which passes it on
            end = time.monotonic() + 60
            while not told and time.monotonic() < end:
                time.sleep(0.01)
            assert told
        return step_of(*arguments)

    Signals._note = note
    training.train_step = mishaps
    training.train(config_of(face_model, folder / "elastic"))


if __name__ == "__main__":
    warnings.simplefilter("error")
    training.make_encoder = small_encoder
    {"together": together, "elastic": elastic}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
