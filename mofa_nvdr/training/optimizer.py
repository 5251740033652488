"""The update rule and the learning rates over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.runs.options import TrainConfig, known_face_steps


def make_optimizer(
    config: TrainConfig, encoder: Encoder, correctives: Mapping[str, nn.Parameter] | None = None
) -> torch.optim.Optimizer:
    """The configured update rule, with a group for each part of Encoder.parameter_groups.

    Args:
        config: of the run.
        encoder: in training.
        correctives: name -> modes of a face model that learn with it, a group each, behind the others.
    """
    groups = []
    for part, parameters in encoder.parameter_groups().items():
        depth = part == "translation_z" and config.optimizer.translation_z_rate > 0
        rate = config.optimizer.translation_z_rate if depth else config.optimizer.learning_rate
        group = {"lr": rate, "base_rate": rate, "name": part}
        if config.optimizer.name == "adamw" and part == "trunk":
            # Only what maps features to features decays: not biases, not BatchNorm's gains.
            filters = [p for p in parameters if p.ndim > 1]
            decay = {"weight_decay": config.optimizer.weight_decay, "name": "trunk_filters"}
            groups.append({**group, **decay, "params": filters})
            parameters = [p for p in parameters if p.ndim <= 1]
        groups.append({**group, "params": parameters})
    rate = config.correctives.learning_rate
    for part, modes in (correctives or {}).items():
        if modes.numel():
            groups.append({"lr": rate, "base_rate": rate, "name": part, "params": [modes]})
    if config.optimizer.name == "adam":
        return torch.optim.Adam(groups, betas=(0.9, 0.99))
    if config.optimizer.name == "adamw":
        return torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    # Caffe's AdaDelta, which the paper used, has 0.95 and 1e-6 as its customary constants.
    return torch.optim.Adadelta(groups, rho=0.95, eps=1e-6)


def set_rates(config: TrainConfig, optimizer: torch.optim.Optimizer, step: int) -> None:
    """The schedule: the learning rates of a step follow from its number alone.

    The warm start, the cycles of bootstrapping together, and what follows have each a schedule of their own:
    each ends with small steps, whatever comes after it.
    """
    ends = (config.schedule.warm_start_steps, known_face_steps(config), config.run.steps)
    part = next((k for k, end in enumerate(ends) if step <= end), len(ends) - 1)
    before = ends[part - 1] if part else 0
    length, done, warm = ends[part] - before, step - 1 - before, part == 0
    factor = (
        min(1.0, (done + 1) / config.schedule.warmup_steps) if config.schedule.warmup_steps else 1.0
    )
    if config.schedule.decay == "cosine":
        factor *= 0.1 + 0.45 * (1 + math.cos(math.pi * done / max(length, 1)))
    if config.schedule.warm_start_steps and not warm:
        factor *= config.schedule.rate_after_warm_start
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor
