"""Meshes whose normals and edges are known."""

from __future__ import annotations

import torch

TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def sphere(rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A unit sphere of rings and two poles, [1, V, 3] and [T, 3]."""
    theta = torch.linspace(0, torch.pi, rows + 1)[1:-1]
    phi = 2 * torch.pi * torch.arange(2 * rows) / (2 * rows)
    ring = torch.stack(
        [
            theta.sin()[:, None] * phi.cos(),
            theta.sin()[:, None] * phi.sin(),
            theta.cos()[:, None].expand(-1, 2 * rows),
        ],
        dim=-1,
    ).reshape(-1, 3)
    vertices = torch.cat([ring, torch.tensor([[0, 0, 1.0], [0, 0, -1.0]])])
    index = torch.arange(len(ring)).reshape(rows - 1, 2 * rows)
    right = index.roll(-1, dims=1)
    a, b, c, d = index[:-1], right[:-1], index[1:], right[1:]
    top, bottom = torch.full_like(index[0], len(ring)), torch.full_like(index[0], len(ring) + 1)
    triangles = torch.cat(
        [
            torch.stack([a, c, b], -1).reshape(-1, 3),
            torch.stack([b, c, d], -1).reshape(-1, 3),
            torch.stack([top, index[0], right[0]], -1),
            torch.stack([bottom, right[-1], index[-1]], -1),
        ]
    )
    return vertices[None], triangles
