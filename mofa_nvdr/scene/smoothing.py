"""Values at the vertices of a mesh, smoothed along its edges."""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.scene.topology import edge_counts


class MeshSmoother:
    """Steps of umbrella smoothing: a value goes half way to the mean of its neighbours'.

    Args:
        triangles: [T, 3] int32 or int64.
        vertices: [V, 3], for the lengths of its edges.

    Raises:
        ValueError: as topology.edge_counts.
    """

    def __init__(self, triangles: Tensor, vertices: Tensor) -> None:
        edges, _ = edge_counts(triangles)
        num_vertices = len(vertices)
        ends = vertices[edges]  # [E, 2, 3]
        self._edge = float((ends[:, 0] - ends[:, 1]).norm(dim=1).mean()) if len(edges) else 1.0
        both = torch.cat([edges, edges.flip(1)]).T  # [2, 2 E]
        ones = torch.ones(both.shape[1], device=both.device)
        count = torch.zeros(num_vertices, device=both.device).index_add_(0, both[0], ones)
        share = 1 / count[both[0]]
        size = (num_vertices, num_vertices)
        self._means = torch.sparse_coo_tensor(both, share, size, check_invariants=False).coalesce()
        self._alone = (count == 0)[:, None]

    def __call__(self, values: Tensor, steps: int) -> Tensor:
        """Smooth values [V, C] float32; vertices without an edge keep theirs."""
        for _ in range(steps):
            means = torch.where(self._alone, values, torch.sparse.mm(self._means, values))
            values = (values + means) / 2
        return values

    def steps(self, length: float) -> int:
        """How many steps spread a value over a length (root mean square), in the vertices' unit; 1 or more.

        A mean of neighbours moves it by an edge's length e, n half steps by e (n / 2)^0.5.
        """
        return max(1, round(2 * (length / self._edge) ** 2))
