"""Random rotations."""

import math

import torch


def random_rotations(count: int, seed: int = 0, largest: float = math.pi) -> torch.Tensor:
    """Axis-angle vectors [count, 3] with angles in (0, largest), float64."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    angle = torch.rand(count, 1, generator=generator, dtype=torch.float64) * largest
    return axis / axis.norm(dim=1, keepdim=True) * angle
