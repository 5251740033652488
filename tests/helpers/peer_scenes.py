"""A bumpy ball as the renderers of other projects see it, for the tests of the drop-ins."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.helpers.meshes import sphere


def ball(batch: int = 2, rows: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vertices [B, V, 3] of about unit size, no two images alike, and triangles int64 [T, 3]."""
    vertices, triangles = sphere(rows)
    generator = torch.Generator().manual_seed(seed)
    bumps = 0.05 * torch.randn(batch, vertices.shape[1], 1, generator=generator)
    shift = 0.2 * torch.randn(batch, 1, 3, generator=generator)
    # Turned a little: no vertex in a column of pixels, no two at one depth.
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    return (vertices * (1 + bumps)) @ turn + shift, triangles


def random_values(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor, wanted: Tensor) -> float:
    """The length of the difference by the length of what was wanted."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())
