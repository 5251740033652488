"""Polygon meshes before they are triangles: loops, Catmull-Clark subdivision, triangulation.

A mesh is polygons [P, 4] of vertex indices; a row that ends in -1 is a triangle. Subdivision is linear in
the vertices, so it is returned as a sparse matrix that takes the mean and every mode alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mofa_nvdr.scene import normals as mesh

if TYPE_CHECKING:  # an extra, which who only reads a mesh may not have
    from scipy import sparse


def as_polygons(faces: np.ndarray) -> np.ndarray:
    """[P, 3] or [P, 4] -> [P, 4] int64, triangles with a last -1."""
    faces = np.asarray(faces, np.int64)
    if faces.shape[1] == 3:
        return np.column_stack([faces, np.full(len(faces), -1)])
    faces = faces.copy()
    faces[faces[:, 3] == faces[:, 2], 3] = -1  # a quad that names one corner twice
    return faces


def triangulate(polygons: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Triangles [T, 3]: each quad is cut along its shorter diagonal.

    Ties, as on mirror-symmetric meshes, go to the diagonal from the first corner.
    """
    quad = polygons[:, 3] >= 0
    a, b, c, d = polygons[quad].T
    first = np.linalg.norm(vertices[a] - vertices[c], axis=1)
    second = np.linalg.norm(vertices[b] - vertices[d], axis=1)
    along = (first <= second * (1 + 1e-6))[:, None]
    one = np.where(along, np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    two = np.where(along, np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    pairs = np.stack([one, two], 1).reshape(-1, 3)
    return np.concatenate([polygons[~quad, :3], pairs])


def directed_edges(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directed edges [N, 2] of all polygons and the polygon [N] of each."""
    corners = np.where(polygons[:, 3] >= 0, 4, 3)
    edges, owners = [], []
    for k in range(4):
        has = corners > k
        rows = np.flatnonzero(has)
        after = np.where(corners[rows] == k + 1, 0, k + 1)
        edges.append(np.stack([polygons[rows, k], polygons[rows, after]], 1))
        owners.append(rows)
    return np.concatenate(edges), np.concatenate(owners)


def boundary_loops(polygons: np.ndarray) -> list[np.ndarray]:
    """Closed rims of the mesh, each as vertex indices in the direction of their polygons' edges."""
    edges, _ = directed_edges(polygons)
    size = int(polygons.max()) + 1
    keys = edges[:, 0] * size + edges[:, 1]
    single = ~np.isin(edges[:, 1] * size + edges[:, 0], keys)
    following = dict(edges[single].tolist())
    loops = []
    while following:
        start, vertex = next(iter(following.items()))
        del following[start]
        loop = [start]
        while vertex != start and vertex in following:
            loop.append(vertex)
            vertex = following.pop(vertex)
        if vertex == start and len(loop) > 2:
            loops.append(np.array(loop))
    return loops


def catmull_clark(
    polygons: np.ndarray, num_vertices: int, creases: np.ndarray | None = None
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """One step of Catmull-Clark subdivision (Catmull and Clark 1978).

    Vertices on a rim or a crease move along it only (the cubic B-spline's 1/8, 6/8, 1/8).

    Args:
        polygons: [P, 4], triangles with a last -1.
        num_vertices: V; vertices of no polygon stay where they are.
        creases: [C, 2] edges that stay sharp, in either direction.

    Returns:
        matrix [V + E + P, V]: new vertices, the old ones first, then one for each edge, then one for each
        polygon; quads [sum of corners, 4] in the polygons' winding.
    """
    from scipy import sparse

    directed, owner = directed_edges(polygons)
    corners = np.where(polygons[:, 3] >= 0, 4, 3)
    num_polygons = len(polygons)
    ends, edge_of = np.unique(np.sort(directed, 1), axis=0, return_inverse=True)
    edge_of = edge_of.reshape(-1)
    num_edges = len(ends)
    uses = np.bincount(edge_of, minlength=num_edges)
    sharp = uses != 2
    if creases is not None and len(creases):
        size = num_vertices
        keys = np.sort(creases, 1) @ [size, 1]
        sharp |= np.isin(ends @ [size, 1], keys)

    def matrix(
        rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
    ) -> sparse.csr_matrix:
        return sparse.csr_matrix((values, (rows, columns)), shape=shape)

    centre = matrix(
        owner, directed[:, 0], 1.0 / corners[owner], (num_polygons, num_vertices)
    )  # [P, V]
    half = np.full(2 * num_edges, 0.5)
    middle = matrix(
        np.repeat(np.arange(num_edges), 2), ends.ravel(), half, (num_edges, num_vertices)
    )
    mean_of_two = matrix(edge_of, owner, np.full(len(owner), 0.5), (num_edges, num_polygons))
    smooth = sparse.diags(np.where(sharp, 0.0, 0.5))
    edge_points = sparse.diags(np.where(sharp, 1.0, 0.5)) @ middle + smooth @ (mean_of_two @ centre)

    valence = np.bincount(directed[:, 0], minlength=num_vertices)  # polygons at each vertex
    sharp_at = np.bincount(ends[sharp].ravel(), minlength=num_vertices)
    inner = (valence > 0) & (sharp_at < 2)
    n = np.maximum(valence, 1).astype(float)
    around = matrix(
        directed[:, 0], owner, 1 / n[directed[:, 0]], (num_vertices, num_polygons)
    )  # mean of the polygons' centres
    degree = np.maximum(np.bincount(ends.ravel(), minlength=num_vertices), 1).astype(float)
    edges_at = matrix(
        ends.ravel(), np.repeat(np.arange(num_edges), 2), 1 / degree[ends.ravel()],
        (num_vertices, num_edges),
    )  # fmt: skip
    interior = (
        sparse.diags(1 / n) @ (around @ centre)
        + sparse.diags(2 / n) @ (edges_at @ middle)
        + sparse.diags((n - 3) / n)
    )
    rim_edges = ends[sharp]
    neighbours = matrix(
        rim_edges.ravel(), rim_edges[:, ::-1].ravel(), np.full(rim_edges.size, 0.125),
        (num_vertices, num_vertices),
    )  # fmt: skip
    on_rim = (sharp_at == 2).astype(
        float
    )  # where more than two meet the vertex is a corner: it stays
    stays = ((sharp_at > 2) | (valence == 0)).astype(float)
    vertex_points = (
        sparse.diags(inner.astype(float)) @ interior
        + sparse.diags(on_rim) @ (neighbours + 0.75 * sparse.identity(num_vertices))
        + sparse.diags(stays)
    )
    edge_index = {}
    for k, (a, b) in enumerate(directed.tolist()):
        edge_index[a, b] = num_vertices + int(edge_of[k])
    quads = []
    for p, (row, count) in enumerate(zip(polygons.tolist(), corners.tolist())):
        middle_point = num_vertices + num_edges + p
        for k in range(count):
            here, after, before = row[k], row[(k + 1) % count], row[k - 1 if k else count - 1]
            quads.append([here, edge_index[here, after], middle_point, edge_index[before, here]])
    rows = sparse.vstack([vertex_points, edge_points, centre]).tocsr()
    return rows, np.array(quads, np.int64)


def keep_vertices(
    polygons: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a mesh down to the polygons whose vertices are all kept.

    Args:
        polygons: [P, 4].
        keep: [V] bool.

    Returns:
        polygons over the new numbering; old index [V'] of each new vertex; new index [V] of each old
        vertex, -1 where it is gone.
    """
    padded = np.append(keep, True)  # what -1 reads
    inside = polygons[padded[polygons].all(1)]
    used = np.unique(inside[inside >= 0])
    new = np.full(len(keep) + 1, -1)
    new[used] = np.arange(len(used))
    return new[inside], used, new[:-1]


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] by mofa_nvdr.scene.normals.vertex_normals, for arrays."""
    pose = torch.from_numpy(np.ascontiguousarray(vertices, np.float32))[None]
    return mesh.vertex_normals(pose, torch.from_numpy(triangles.astype(np.int32)))[0].numpy()


def subdivide(triangles: np.ndarray, num_vertices: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Every triangle into four, with new vertices in the middle of the edges.

    The surface stays what it was; only its modes and colours get more places.

    Returns:
        matrix [V + E, V]; triangles [4 T, 3].
    """
    from scipy import sparse

    directed = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    ends, edge = np.unique(np.sort(directed, 1), axis=0, return_inverse=True)
    middle = num_vertices + edge.reshape(-1, 3)  # [T, 3]: of edges 01, 12, 20
    rows = np.repeat(np.arange(len(ends)), 2)
    halves = sparse.csr_matrix(
        (np.full(rows.size, 0.5), (rows, ends.ravel())), (len(ends), num_vertices)
    )
    matrix = sparse.vstack([sparse.identity(num_vertices), halves]).tocsr()
    a, b, c = triangles.T
    ab, bc, ca = middle.T
    parts = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
    return matrix, np.concatenate([np.stack(part, 1) for part in parts])
