"""One training step: batch -> encoder -> code -> decoder -> loss -> optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.correctives import CorrectedFaceModel, corrected
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.runs.options import TrainConfig, base_level_steps, known_face_steps
from mofa_nvdr.system import distributed
from mofa_nvdr.training.objective import Objective, not_finite
from mofa_nvdr.training.optimizer import set_rates
from mofa_nvdr.training.timing import StageClock


@dataclass(frozen=True)
class StepResult:
    """What a training step has to say; the same on every process.

    Attributes:
        terms: the loss and its terms over the whole batch.
        trouble: which number was not finite, so that the step was skipped; empty: none.
        stop: a process was asked to stop.
        report: of reported steps: "gradient_norm", and groups: "rate" (all parts but the depth have the
            trunk's), "gradient" by part, and those of `code_statistics`.
    """

    terms: dict[str, float]
    trouble: str
    stop: bool
    report: dict[str, Any]


@dataclass(frozen=True)
class Trainer:
    """What makes a step.

    Attributes:
        config: of the run.
        encoder: of system.distributed.parallel.
        objective: the loss and its terms.
        optimizer: of training.optimizer.make_optimizer.
        clock: measures the stages after "data".
        asked_to_stop: whether this process was asked to; the others learn it within the step.
    """

    config: TrainConfig
    encoder: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    clock: StageClock
    asked_to_stop: Callable[[], bool] = lambda: False

    @property
    def own_encoder(self) -> Encoder:
        """The encoder without DistributedDataParallel."""
        return cast(Encoder, getattr(self.encoder, "module", self.encoder))

    @property
    def corrected(self) -> CorrectedFaceModel | None:
        """The face model whose modes learn with the encoder; None: it has none."""
        return corrected(self.objective.decoder.model)


def train_step(trainer: Trainer, batch: Batch, step: int, reported: bool = False) -> StepResult:
    """One step of the optimizer, or none if the loss or its gradient is not finite.

    Args:
        trainer: encoder, objective and optimizer.
        batch: this process's share.
        step: its number, from 1.
        reported: fill in StepResult.report.
    """
    config, optimizer, clock, own = (
        trainer.config, trainer.optimizer, trainer.clock, trainer.own_encoder,
    )  # fmt: skip
    set_rates(config, optimizer, step)
    if config.schedule.freeze_norm and step > known_face_steps(config):
        for layer in own.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()  # each time: a validation puts all layers back into training
    buffers = [buffer.clone() for buffer in own.buffers()]  # BatchNorm's averages
    terms = trainer.objective(trainer.encoder, batch, step, clock, reported)
    clock.lap("decoder_forward")
    optimizer.zero_grad(set_to_none=True)
    terms["loss"].backward()
    clock.lap("encoder_backward")

    modes = [] if trainer.corrected is None else list(trainer.corrected.parameters())
    for mode in modes:  # the encoder's are averaged by now
        if mode.grad is not None:
            mode.grad = distributed.total(mode.grad) / distributed.world_size()
    # Gradients are those of the whole batch by now: all processes see the same trouble.
    flag = terms["loss"].new_tensor(float(trainer.asked_to_stop())).detach()
    values = distributed.total(torch.stack([*(term.detach() for term in terms.values()), flag]))
    terms = dict(zip(terms, values / distributed.world_size()))
    report: dict[str, Any] = {}
    if reported:
        assert clock.codes is not None
        codes = torch.cat(distributed.gather(clock.codes.cpu()))
        report["gradient"] = gradient_norms(own)
        if modes:
            learned = [mode.grad.norm() for mode in modes if mode.grad is not None]
            report["gradient"]["correctives"] = sum(float(norm) ** 2 for norm in learned) ** 0.5
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        report["rate"] = {name: rates[name] for name in ("trunk", "translation_z")}
        report |= code_statistics(codes, own.layout)
    largest = config.optimizer.clip_gradient if config.optimizer.clip_gradient > 0 else math.inf
    norm = nn.utils.clip_grad_norm_(own.parameters(), largest)
    # Apart: the modes' gradients are of another size than the encoder's.
    of_modes = nn.utils.clip_grad_norm_(modes, largest)
    trouble = not_finite(terms, norm + of_modes)
    if trouble:
        for buffer, before in zip(own.buffers(), buffers):
            buffer.copy_(before)
    else:
        optimizer.step()
        if trainer.corrected is not None and step > base_level_steps(config):
            assert clock.codes is not None
            trainer.corrected.observe(own.layout.unpack(clock.codes))
    if reported:
        report["gradient_norm"] = norm.item()
    clock.lap("optimizer")
    plain = {name: term.item() for name, term in terms.items()} if reported else {}
    return StepResult(plain, trouble, values[-1].item() > 0, report)


def code_statistics(codes: Tensor, layout: CodeLayout) -> dict[str, dict[str, float]]:
    """Of each part of predicted codes [B, size], in the part's own units.

    Returns:
        code_norm: the mean over the batch of the part's length.
        code_sd: the standard deviation over the batch, root mean square over the part's numbers: 0 for an
            encoder that predicts the same for every image.
    """
    norm, sd = {}, {}
    for name, place in layout.slices.items():
        part = codes[:, place].float()
        if not part.shape[1]:  # a model without expressions
            continue
        norm[name] = part.norm(dim=1).mean().item()
        sd[name] = part.var(dim=0, correction=0).mean().sqrt().item()
    return {"code_norm": norm, "code_sd": sd}


def gradient_norms(encoder: Encoder) -> dict[str, float]:
    """Length of the gradient of each group of Encoder.parameter_groups."""
    norms = {}
    for name, parameters in encoder.parameter_groups().items():
        lengths = [p.grad.norm() for p in parameters if p.grad is not None]
        norms[name] = torch.stack(lengths).norm().item() if lengths else 0.0
    return norms
