"""Terms of corrective levels: what keeps corrections of geometry and reflectance small, smooth and apart.

Source: Tewari et al. 2018, "Self-supervised Multi-level Face Model Learning", of whose text we have the
abstract: the forms below are ours, and so are the units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mofa_nvdr.face.levels import combinations, products
from mofa_nvdr.scene.vertex_graph import VertexGraph

# What counts as one.
_DISPLACEMENT = 1.0  # mm
_OFFSET = 0.05  # reflectance
_POWER = 0.9  # of the length of a difference: few large ones cost less than many small ones
_SMOOTH = 0.02  # in _OFFSET: below it a difference counts as its square, and has a gradient at 0
# Neighbours that differ by this much in the photograph are as good as free.
_CHROMATICITY, _INTENSITY = 0.02, 0.05
_DARK = 0.05  # sum of the channels below which chromaticity is noise


def displacement_smoothness(displacement: Tensor, graph: VertexGraph) -> Tensor:
    """Squared graph Laplacian of displacements, the mean over the vertices, in mm^2, [B].

    Args:
        displacement: [B, V, 3] mm, in any frame.
        graph: of the mesh.
    """
    return (graph.laplacian(displacement) / _DISPLACEMENT).square().sum(2).mean(1)


def neighbour_similarity(
    photo: Tensor, positions: Tensor, seen: Tensor, graph: VertexGraph
) -> Tensor:
    """How alike two neighbours look in the photograph, [B, E] in [0, 1]; without gradient.

    exp(-a - b) of their distances in chromaticity, (r, g, b) over its sum, and in intensity, its mean. 1
    where one of the two is not seen: nothing says that they differ.

    Args:
        photo: [B, 3, H, W] in [0, 1]; NaN where there is no photograph.
        positions: [B, V, 2] projected vertices, pixels.
        seen: [B, V] bool.
        graph: of the mesh.
    """
    with torch.no_grad():
        size = positions.new_tensor([photo.shape[3], photo.shape[2]])
        grid = (2 * positions / size - 1)[:, None]  # [B, 1, V, 2]
        at = F.grid_sample(photo, grid, align_corners=False, padding_mode="zeros")
        color = at[:, :, 0].transpose(1, 2)  # [B, V, 3]
        inside = (grid[:, 0].abs() < 1).all(2) & color.isfinite().all(2)
        color = color.nan_to_num(0.0)
        total = color.sum(2, keepdim=True)
        chromaticity = color / total.clamp(min=_DARK)
        known = (seen & inside).to(color)[..., None]
        apart = graph.differences(torch.cat([chromaticity, total / 3, known], 2))
        distance = apart[..., :3].norm(dim=2) / _CHROMATICITY + apart[..., 3].abs() / _INTENSITY
        # Of two neighbours of which one alone is seen the difference is 1 or -1; of none the distance is 0.
        both = (apart[..., 4] == 0) & (known[:, graph.edges[:, 0], 0] > 0)
        return torch.where(both, (-distance).exp(), 1.0)


def reflectance_sparsity(offset: Tensor, similarity: Tensor, graph: VertexGraph) -> Tensor:
    """Weighted length of differences between neighbours to the power of 0.9, the mean over the edges, [B].

    Corrections of reflectance change at few places, and there where the photograph does.

    Args:
        offset: [B, V, 3] reflectance.
        similarity: [B, E] weights of `neighbour_similarity`.
        graph: of the mesh.
    """
    squared = (graph.differences(offset) / _OFFSET).square().sum(2)
    length = (squared + _SMOOTH**2) ** (_POWER / 2) - _SMOOTH**_POWER
    return (similarity * length).mean(1)


def skin_constancy(offset: Tensor, skin: Tensor) -> Tensor:
    """Variance of corrections of reflectance over bare skin, in 0.05^2, [B]; what the base level says stays.

    Args:
        offset: [B, V, 3] reflectance.
        skin: int64 [N], numbers of vertices, of face.skin.skin_vertices.
    """
    bare = offset.index_select(1, skin) / _OFFSET
    return (bare - bare.mean(1, keepdim=True)).square().sum(2).mean(1)


def correction_size(displacement: Tensor, offset: Tensor) -> Tensor:
    """Mean square of displacements in mm, and of offsets of reflectance in 0.05, [B].

    Args:
        displacement: [B, V, 3] mm, in any frame.
        offset: [B, V, 3] reflectance.
    """
    moved = (displacement / _DISPLACEMENT).square().sum(2).mean(1)
    return moved + (offset / _OFFSET).square().sum(2).mean(1)


def soft_orthogonality(modes: Tensor, fixed: Tensor) -> Tensor:
    """How far modes are from being orthogonal, to each other and to others, and of length one, a scalar.

    Squared differences of their products to those of an orthonormal basis, over the number of modes. Without
    it a mode may grow as its coefficient shrinks, and repeat what the base level has.

    Args:
        modes: [K, V, 3] whose length is their root mean square over the vertices.
        fixed: [F, V, 3] of any lengths; no gradient.
    """
    if not len(modes):
        return modes.new_zeros(())
    vertices = modes.shape[1]
    long = fixed.detach().flatten(1)
    long = long / long.norm(dim=1, keepdim=True).clamp(min=1e-12)
    flat = modes.flatten(1) / vertices**0.5
    own, across = _Products.apply(flat, long)
    apart = own - torch.eye(len(modes)).to(own)
    return (apart.square().sum() + across.square().sum()) / len(modes)


class _Products(torch.autograd.Function):
    """Products of rows with each other and with others, with the same bits for any number of threads."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows, others)
        return products(rows, rows), products(rows, others)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, own: Tensor, across: Tensor) -> tuple[Tensor, None]:
        rows, others = ctx.saved_tensors
        return combinations(own + own.T, rows) + combinations(across, others), None
