"""Vertices and their neighbours: differences along the edges of a mesh, and the Laplacian of values.

Both are linear and each has a transpose, which is its gradient; one image is one item for a thread, so that
the bits do not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.parallel import compiles, jit, run_on_threads
from mofa_nvdr.scene.topology import edge_counts


@dataclass(frozen=True)
class VertexGraph:
    """The edges of a mesh.

    Attributes:
        edges: [E, 2] int64, each once.
        share: [V] float32, one over the number of neighbours; 0 where there are none.
    """

    edges: Tensor
    share: Tensor

    @staticmethod
    def of(triangles: Tensor, num_vertices: int) -> VertexGraph:
        """Of a mesh.

        Args:
            triangles: [T, 3] int32 or int64.
            num_vertices: V; those that no triangle uses have no neighbours.

        Raises:
            ValueError: triangles is not [T, 3] of int32 or int64.
        """
        edges, _ = edge_counts(triangles)
        count = torch.bincount(edges.flatten(), minlength=num_vertices)
        return VertexGraph(edges, torch.where(count > 0, 1 / count.clamp(min=1), 0.0))

    def differences(self, values: Tensor) -> Tensor:
        """Values [B, V, C] at the first end of each edge less those at the second, [B, E, C].

        Raises:
            ValueError: another number of vertices.
        """
        self._check(values)
        if compiles(values):
            return _Differences.apply(values, self.edges, len(self.share))
        return self.differences_ref(values)

    def differences_ref(self, values: Tensor) -> Tensor:
        """The twin of `differences` in plain torch."""
        first, second = self.edges.T
        return values[:, first] - values[:, second]

    def laplacian(self, values: Tensor) -> Tensor:
        """Values [B, V, C] less the mean over their neighbours; 0 for a vertex without any.

        Raises:
            ValueError: another number of vertices.
        """
        self._check(values)
        if compiles(values):
            return _Laplacian.apply(values, self.edges, self.share)
        return self.laplacian_ref(values)

    def laplacian_ref(self, values: Tensor) -> Tensor:
        """The twin of `laplacian` in plain torch."""
        first, second = self.edges.T
        total = torch.zeros_like(values)
        total = total.index_add(1, first, values[:, second])
        total = total.index_add(1, second, values[:, first])
        share = self.share.to(values)[:, None]
        return values * (share > 0) - share * total

    def _check(self, values: Tensor) -> None:
        if values.ndim != 3 or values.shape[1] != len(self.share):
            raise ValueError(
                f"VertexGraph: values are {list(values.shape)}, expected [B, {len(self.share)}, C]"
            )


class _Differences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, edges: Tensor, count: int) -> Tensor:
        ctx.edges, ctx.count = edges, count
        out = values.new_empty(len(values), len(edges), values.shape[2])
        return _each_image(_differences, values, out, edges)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        out = grad.new_zeros(len(grad), ctx.count, grad.shape[2])
        return _each_image(_gather_differences, grad, out, ctx.edges), None, None


class _Laplacian(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, edges: Tensor, share: Tensor) -> Tensor:
        ctx.graph = edges, share
        out = torch.zeros_like(values, memory_format=torch.contiguous_format)
        return _each_image(_laplacian, values, out, *ctx.graph)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        out = torch.zeros_like(grad, memory_format=torch.contiguous_format)
        return _each_image(_laplacian_transposed, grad, out, *ctx.graph), None, None


def _each_image(kernel: Callable[..., None], values: Tensor, out: Tensor, *graph: Tensor) -> Tensor:
    given, arrays = values.detach().contiguous().numpy(), [part.numpy() for part in graph]
    target = out.numpy()
    run_on_threads(kernel, [(given[b], *arrays, target[b]) for b in range(len(given))])
    return out


@jit
def _differences(values: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
    for e in range(edges.shape[0]):
        i, j = edges[e, 0], edges[e, 1]
        for c in range(values.shape[1]):
            out[e, c] = values[i, c] - values[j, c]


@jit
def _gather_differences(grad: np.ndarray, edges: np.ndarray, out: np.ndarray) -> None:
    """The transpose of `_differences`; out: zeros."""
    for e in range(edges.shape[0]):
        i, j = edges[e, 0], edges[e, 1]
        for c in range(grad.shape[1]):
            out[i, c] += grad[e, c]
            out[j, c] -= grad[e, c]


@jit
def _laplacian(values: np.ndarray, edges: np.ndarray, share: np.ndarray, out: np.ndarray) -> None:
    """Out: zeros."""
    for e in range(edges.shape[0]):
        i, j = edges[e, 0], edges[e, 1]
        for c in range(values.shape[1]):
            out[i, c] += values[j, c]
            out[j, c] += values[i, c]
    for v in range(values.shape[0]):
        if share[v] > 0:
            for c in range(values.shape[1]):
                out[v, c] = values[v, c] - share[v] * out[v, c]


@jit
def _laplacian_transposed(
    grad: np.ndarray, edges: np.ndarray, share: np.ndarray, out: np.ndarray
) -> None:
    """Out: zeros."""
    for e in range(edges.shape[0]):
        i, j = edges[e, 0], edges[e, 1]
        for c in range(grad.shape[1]):
            out[i, c] -= share[j] * grad[j, c]
            out[j, c] -= share[i] * grad[i, c]
    for v in range(grad.shape[0]):
        if share[v] > 0:
            for c in range(grad.shape[1]):
                out[v, c] += grad[v, c]
