"""The mesh: a grid with three slits (mouth, two eyes), each sewn to a pocket; a manifold disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mofa_nvdr.face.recipe import tables as t

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS_PER_HALF = 74
ROWS = (55, 50, 45)  # forehead to eyes, eyes to mouth, mouth to chin; shared rows counted in both


def gauss(x: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """exp(-x^2 / 2 width^2)."""
    return np.exp(-0.5 * (x / width) ** 2)


def smooth_step(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Cubic step from 0 at `start` to 1 at `end`; `end` may be the smaller."""
    s = np.clip((x - start) / (end - start), 0, 1)
    return s * s * (3 - 2 * s)


def smooth_max(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Maximum of two heights, rounded over `blend` mm."""
    h = np.clip(0.5 + 0.5 * (a - b) / blend, 0, 1)
    return b + (a - b) * h + blend * h * (1 - h)


class Loft:
    """The authored rows as a smooth surface over (u, v): a tensor-product cubic spline."""

    def __init__(self) -> None:
        from scipy.interpolate import CubicSpline

        rows = t.LOFT_ROWS[::-1]
        v = np.array([row[0] for row in rows])
        x, z, offset = (np.array([row[k] for row in rows]) for k in (1, 2, 3))

        def mirrored(values: np.ndarray, sign: int) -> np.ndarray:
            return np.concatenate([sign * values[:, :0:-1], values], axis=1)

        points = [mirrored(x, -1), mirrored(v[:, None] + offset, 1), mirrored(z, 1)]
        u = np.concatenate([-t.LOFT_COLUMNS[:0:-1], t.LOFT_COLUMNS])
        self._along_v = CubicSpline(v, np.stack(points, -1), axis=0)
        self._along_u = CubicSpline(u, np.eye(len(u)))

    def __call__(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Points [n, 3] at parameters u, v [n]."""
        return np.einsum("nc,nck->nk", self._along_u(u), self._along_v(v))


@dataclass(frozen=True)
class Grid:
    """Topology and parameters of the built-in face.

    Attributes:
        u, v: [S] parameters of the skin's vertices, slit edges doubled.
        upper_lid: [S] bool, above the eye slits. upper_lip: [S] bool, above the mouth slit.
        triangles: [T, 3] counter-clockwise from outside.
        mirror: [V] the vertex on the other side.
        seams: name -> (upper edge, lower edge) of a slit, corner to corner along +x.
        pockets: name -> [K + 2, n] vertex rows, the first and last being the slit's edges.
        mouth_half_width: x of the mouth's corner.
        eye: x of the inner and outer corner of the eye.
        num_vertices: V.
    """

    u: np.ndarray
    v: np.ndarray
    upper_lid: np.ndarray
    upper_lip: np.ndarray
    triangles: np.ndarray
    mirror: np.ndarray
    seams: dict[str, tuple[np.ndarray, np.ndarray]]
    pockets: dict[str, np.ndarray]
    mouth_half_width: float
    eye: tuple[float, float]
    num_vertices: int

    @property
    def num_skin(self) -> int:
        """Vertices of the skin; those of the pockets follow."""
        return len(self.u)

    def pocket_vertices(self, name: str) -> np.ndarray:
        """Vertices that only the pocket has."""
        return self.pockets[name][1:-1].ravel()

    @property
    def eyes(self) -> np.ndarray:
        """[V] bool, the eyeballs."""
        mask = np.zeros(self.num_vertices, bool)
        for name in ("left_eye", "right_eye"):
            mask[self.pocket_vertices(name)] = True
        return mask

    @property
    def bag(self) -> np.ndarray:
        """[V] bool, the inside of the mouth."""
        mask = np.zeros(self.num_vertices, bool)
        mask[self.pocket_vertices("mouth")] = True
        return mask


def _nodes(
    low: float, high: float, count: int, density: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`count` nodes between two numbers, closer where the density is higher (inverse of its integral)."""
    x = np.linspace(low, high, 4001)
    d = density(x)
    integral = np.concatenate([[0], np.cumsum((d[1:] + d[:-1]) * 0.5)])
    return np.interp(np.linspace(0, integral[-1], count), integral, x)


def _density_u(x: np.ndarray) -> np.ndarray:
    side = 0.34 + 0.66 * (1 - smooth_step(np.abs(x), 40, 64))
    return side + 0.15 * gauss(x - 16, 5) + 0.12 * gauss(x - 45, 5) + 0.15 * gauss(x, 8)


def _density_v(y: np.ndarray) -> np.ndarray:
    features = 0.9 * gauss(y, 9) + 0.3 * gauss(y - 19, 7) + 0.75 * gauss(y + 39, 7)
    features += 0.75 * gauss(y + 66.5, 11) + 0.15 * gauss(y + 95, 15)
    return 0.38 + features - 0.1 * smooth_step(y, 30, 60)


def build_grid(loft: Loft) -> Grid:
    """Lay out the grid, open the slits and sew in the pockets."""
    half = _nodes(0, t.LOFT_COLUMNS[-1], COLUMNS_PER_HALF + 1, _density_u)
    u_nodes = np.concatenate([-half[:0:-1], half])
    v_nodes = np.concatenate([
        _nodes(t.EYE_ROW, t.TOP, ROWS[0], _density_v)[::-1],
        _nodes(t.MOUTH_ROW, t.EYE_ROW, ROWS[1], _density_v)[::-1][1:],
        _nodes(t.BOTTOM, t.MOUTH_ROW, ROWS[2], _density_v)[::-1][1:],
    ])  # fmt: skip
    rows, columns = len(v_nodes), len(u_nodes)
    eye_row, mouth_row = ROWS[0] - 1, ROWS[0] + ROWS[1] - 2
    inner, outer = (int(np.argmin(abs(u_nodes - x))) for x in (t.EYE_INNER, t.EYE_OUTER))
    x_mouth = loft(u_nodes, np.full(columns, t.MOUTH_ROW))[:, 0]
    corner = int(np.argmin(abs(x_mouth - t.MOUTH_HALF_WIDTH)))
    slits = {
        "left_eye": (eye_row, inner, outer, t.EYE_POCKET_ROWS),
        "right_eye": (eye_row, columns - 1 - outer, columns - 1 - inner, t.EYE_POCKET_ROWS),
        "mouth": (mouth_row, columns - 1 - corner, corner, t.MOUTH_POCKET_ROWS),
    }

    index = np.arange(rows * columns).reshape(rows, columns)
    upper, lower = (
        index.copy(),
        index.copy(),
    )  # the vertex of a node for the cell above and below it
    u, v = (a.ravel() for a in np.meshgrid(u_nodes, v_nodes))
    row_of = np.repeat(np.arange(rows), columns)
    upper_lid, upper_lip = row_of <= eye_row, row_of <= mouth_row
    mirror = index[:, ::-1].ravel()
    seams, pockets = {}, {}
    twins = {"left_eye": "right_eye", "right_eye": "left_eye", "mouth": "mouth"}
    for name, (row, a, b, _) in slits.items():
        count, start = b - a - 1, len(u)
        doubled = np.arange(start, start + count)
        lower[row, a + 1 : b] = doubled
        u, v = (np.concatenate([w, w[index[row, a + 1 : b]]]) for w in (u, v))
        upper_lid = np.concatenate([upper_lid, np.zeros(count, bool)])
        upper_lip = np.concatenate([upper_lip, np.full(count, name != "mouth")])
        ends = index[row, a], index[row, b]
        seams[name] = (
            np.concatenate([[ends[0]], index[row, a + 1 : b], [ends[1]]]),
            np.concatenate([[ends[0]], doubled, [ends[1]]]),
        )
    num = len(u)
    for name, (_, _, _, depth) in slits.items():
        edge_up, edge_low = seams[name]
        count = len(edge_up) - 2
        inside = np.arange(num, num + depth * count).reshape(depth, count)
        num += depth * count
        pockets[name] = np.concatenate([edge_up[None, 1:-1], inside, edge_low[None, 1:-1]])
    full_mirror = np.empty(num, np.int64)
    full_mirror[: rows * columns] = mirror
    for name, twin in twins.items():
        full_mirror[seams[name][1][1:-1]] = seams[twin][1][1:-1][::-1]
        full_mirror[pockets[name][1:-1]] = pockets[twin][1:-1, ::-1]

    faces = []
    middle = COLUMNS_PER_HALF
    for r in range(rows - 1):
        for c in range(columns - 1):
            p, q = lower[r, c], lower[r, c + 1]
            s, w = upper[r + 1, c], upper[r + 1, c + 1]
            # Diagonals are mirrored at the midline, or the topology would not be symmetric.
            faces += [(p, s, w), (p, w, q)] if c < middle else [(p, s, q), (q, s, w)]
    for name, rows_ in pockets.items():
        (left, *_, right), count = seams[name][0], rows_.shape[1]
        for j in range(len(rows_) - 1):
            faces.append((rows_[j, 0], left, rows_[j + 1, 0]))
            faces.append((rows_[j, -1], rows_[j + 1, -1], right))
            for i in range(count - 1):
                p, q, s, w = rows_[j, i], rows_[j, i + 1], rows_[j + 1, i], rows_[j + 1, i + 1]
                falling = i < count / 2 - 0.5 if name == "mouth" else name == "right_eye"
                faces += [(p, s, w), (p, w, q)] if falling else [(p, s, q), (q, s, w)]
    return Grid(
        u, v, upper_lid, upper_lip, np.array(faces, np.int32), full_mirror, seams, pockets,
        float(x_mouth[corner]), (float(u_nodes[inner]), float(u_nodes[outer])), num,
    )  # fmt: skip
