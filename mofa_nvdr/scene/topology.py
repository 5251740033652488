"""How a mesh hangs together: its edges, its outline's candidates, its pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.scene.normals import check_triangles


@dataclass(frozen=True)
class Topology:
    """How triangles hang together.

    Attributes:
        num_vertices: vertices that a triangle uses.
        num_edges: undirected edges.
        num_triangles: triangles.
        num_components: pieces connected through shared vertices.
        num_boundary_edges: edges of one triangle only.
        max_triangles_per_edge: 2 or less on a manifold.
        is_oriented: no triangle uses a vertex twice, and no edge is run through twice in one
            direction.
        is_manifold: oriented, at most two triangles at an edge, and the triangles around every
            vertex form one fan.
    """

    num_vertices: int
    num_edges: int
    num_triangles: int
    num_components: int
    num_boundary_edges: int
    max_triangles_per_edge: int
    is_oriented: bool
    is_manifold: bool

    @property
    def euler_number(self) -> int:
        """V - E + T: 2 for a sphere, 1 for a disc, 0 for an annulus; summed over the components."""
        return self.num_vertices - self.num_edges + self.num_triangles


def edge_counts(triangles: Tensor) -> tuple[Tensor, Tensor]:
    """The undirected edges of a mesh and how many triangles each has.

    Args:
        triangles: vertex indices [T, 3], int32 or int64.

    Returns:
        edges [E, 2] int64, the smaller index first, in ascending order; counts [E] int64.

    Raises:
        ValueError: triangles is not [T, 3] of int32 or int64.
    """
    check_triangles("edge_counts", triangles)
    directed = triangles.long()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)  # [3 T, 2]
    edges, counts = torch.unique(directed.sort(dim=1).values, dim=0, return_counts=True)
    return edges, counts


def topology(triangles: Tensor) -> Topology:
    """Count and check how triangles hang together: edges, pieces, orientation, manifoldness.

    Args:
        triangles: vertex indices [T, 3], int32 or int64, T > 0.

    Raises:
        ValueError: triangles is not [T, 3] of int32 or int64, or is empty.
    """
    edges, counts = edge_counts(triangles)
    if len(triangles) == 0:
        raise ValueError("topology: triangles is [0, 3], expected at least one triangle")
    used, inverse = torch.unique(triangles.long(), return_inverse=True)
    indices = inverse.cpu().numpy()
    directed = indices[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    is_oriented = bool((directed[:, 0] != directed[:, 1]).all()) and (
        len(np.unique(directed, axis=0)) == len(directed)
    )
    # Corners at one vertex are joined across the edges that their triangles share: one fan, one
    # piece.
    num_fans = _count_pieces(_corner_pairs(indices), indices.size)
    return Topology(
        num_vertices=len(used),
        num_edges=len(edges),
        num_triangles=len(triangles),
        num_components=_count_pieces(directed, len(used)),
        num_boundary_edges=int((counts == 1).sum()),
        max_triangles_per_edge=int(counts.max()),
        is_oriented=is_oriented,
        is_manifold=is_oriented and int(counts.max()) <= 2 and num_fans == len(used),
    )


def _corner_pairs(indices: np.ndarray) -> np.ndarray:
    """Pairs of corners (3 * triangle + place) at one vertex, of triangles that share an edge."""
    corner = np.arange(indices.size).reshape(-1, 3)
    ends = np.concatenate([indices[:, [0, 1]], indices[:, [1, 2]], indices[:, [2, 0]]])  # [3 T, 2]
    corners = np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [2, 0]]])
    turned = ends[:, 0] > ends[:, 1]
    ends[turned], corners[turned] = ends[turned, ::-1], corners[turned, ::-1]
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, corners = ends[order], corners[order]
    same = (ends[1:] == ends[:-1]).all(axis=1)
    pairs = np.stack([corners[:-1][same], corners[1:][same]], axis=2)  # [P, 2 ends, 2 triangles]
    return pairs.reshape(-1, 2)


def _count_pieces(pairs: np.ndarray, num_nodes: int) -> int:
    """Connected pieces of a graph, by union-find."""
    parent = list(range(num_nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    pieces = num_nodes
    for first, second in pairs.tolist():
        low, high = sorted((root(first), root(second)))
        if low != high:
            parent[high] = low
            pieces -= 1
    return pieces
