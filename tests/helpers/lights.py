"""Lights and directions at random, and irradiance by brute force."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from mofa_nvdr.scene.light_sources import panorama_directions


def random_directions(count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors [count, 3], float64."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)


def random_light(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, 3, generator=generator, dtype=torch.float64)


def brute_force_irradiance(radiance: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    """Sum radiance times clamped cosine times solid angle over a panorama: [N, 3]."""
    height, width = radiance.shape[:2]
    directions = panorama_directions(height, width).flatten(0, 1)
    row = torch.arange(height, dtype=torch.float64)
    solid_angle = (row * math.pi / height).cos() - ((row + 1) * math.pi / height).cos()
    weight = (solid_angle * 2 * math.pi / width).repeat_interleave(width)
    cosine = (normals @ directions.mT).clamp(min=0)
    return (cosine * weight) @ radiance.flatten(0, 1).double()
