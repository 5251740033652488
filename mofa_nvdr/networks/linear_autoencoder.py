"""The best linear autoencoder of pictures: their principal components."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ROUNDS = 2  # of the subspace iteration: the last components are not exact, their sum nearly is


class LinearAutoencoder(nn.Module):
    """Pictures [B, 3, H, W] to pictures, by way of their coordinates along principal components.

    Args:
        pictures: [N, 3, H, W] in [0, 1] to learn from; changed by it, as copies of them may be large.
        code_size: number of components; fewer where there are not as many pictures.
        seed: of the random start of the search for them.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, pictures: Tensor, code_size: int, seed: int = 0) -> None:
        super().__init__()
        rows = pictures.flatten(1)
        mean = rows.mean(0)
        rows -= mean
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            basis = torch.svd_lowrank(rows, min(code_size, *rows.shape), niter=_ROUNDS)[2]
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)  # [3 H W, K]

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to the same, not clamped."""
        rows = images.flatten(1) - self.mean
        return (rows @ self.basis @ self.basis.T + self.mean).view_as(images)
