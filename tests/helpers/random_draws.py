"""Random draws of a batch, for the tests of what is drawn."""

from __future__ import annotations

import torch

from mofa_nvdr.data.random_numbers import Draws, random_generator

CPU = torch.device("cpu")


def draws(count: int, first: int = 0) -> Draws:
    return Draws([random_generator(7, k) for k in range(first, first + count)], CPU)
