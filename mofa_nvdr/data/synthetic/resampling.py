"""Faces around known codes: what a bootstrapped training renders in the place of faces at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Resampling:
    """A distribution of codes: one of those that were predicted, each as often, and normal numbers about it.

    Source: the self-supervised bootstrapping of Kim et al. 2018, InverseFaceNet, whose deviations we do not
    know; here they are a share of the prior's own.

    Attributes:
        codes: [N, size] predicted codes, float32.
        deviations: [size] of each number about them.
    """

    codes: Tensor
    deviations: Tensor

    def draw(self, generators: Sequence[np.random.Generator]) -> Tensor:
        """A code for each generator, [B, size], on the CPU."""
        rows = [int(g.integers(len(self.codes))) for g in generators]
        size = self.codes.shape[1]
        noise = np.stack([g.standard_normal(size, np.float32) for g in generators])
        return self.codes[rows] + self.deviations * torch.from_numpy(noise).clamp(-2.5, 2.5)
