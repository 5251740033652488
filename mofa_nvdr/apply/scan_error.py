"""Distances between reconstructed faces and scans, by three protocols that publications use.

Each says what is aligned, over which region, in which direction, and with which scale; numbers of different
protocols are not comparable. They are after NoW (Sanyal et al. 2019), after the evaluations on MICC (Bagdanov
et al. 2011) that Genova et al. 2018 began, and after those on FaceWarehouse (Tewari et al. 2017, 2018); none
is the official program of its data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mofa_nvdr.apply.parameters import load_face
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.measured import Measured
from mofa_nvdr.scene.similarity import similarity

# NoW's seven landmarks among iBUG's 68: right eye outer and inner corner, left eye inner and outer corner,
# below the nose, right and left corner of the mouth.
SEVEN = (36, 39, 42, 45, 33, 48, 54)
SCAN_SUFFIXES = (".ply", ".obj", ".stl", ".off")
PROTOCOLS = ("now", "micc", "facewarehouse")
_NOSE = 30  # of the 68: the tip
_CROP = 95.0  # mm about the nose's tip
_ROUNDS, _STILL = 50, 1e-4  # of closest points; mm by which the mean distance still falls
_TRIMMED = 0.9  # share of the points, the nearest, that an alignment is made of
_CANDIDATES = 8  # triangles whose middles are nearest, among which the closest point is searched
_SAMPLE = 20_000  # points of a scan in an alignment


@dataclass(frozen=True)
class ScanError:
    """Distances of one scan.

    Attributes:
        median, mean, deviation: mm of the scan.
        scale: by how much the reconstruction was enlarged.
        count: how many points were measured.
    """

    median: float
    mean: float
    deviation: float
    scale: float
    count: int

    @staticmethod
    def of(distances: np.ndarray, scale: float) -> ScanError:
        """Of distances [N], mm."""
        return ScanError(
            float(np.median(distances)), float(distances.mean()), float(distances.std()), scale,
            len(distances),
        )  # fmt: skip


def now_error(
    scan: np.ndarray,
    seven: np.ndarray,
    vertices: np.ndarray,
    triangles: np.ndarray,
    own: np.ndarray,
) -> ScanError:
    """NoW's way: seven landmarks, then closest points, with a scale; from points of the scan to the mesh.

    Args:
        scan: [N, 3] mm, the points of the scan that count.
        seven: [7, 3] landmarks of the scan, in the order of `SEVEN`.
        vertices: [V, 3] mm of the reconstruction with a neutral expression.
        triangles: [T, 3].
        own: [7, 3] landmarks of the reconstruction.

    Raises:
        ImportError: scipy is not installed.
    """
    surface = _Surface(*_aligned(scan, seven, vertices, triangles, own))
    return ScanError.of(surface.distances(scan), surface.scale)


def micc_error(
    scan: np.ndarray,
    seven: np.ndarray,
    tip: np.ndarray,
    vertices: np.ndarray,
    triangles: np.ndarray,
    own: np.ndarray,
) -> ScanError:
    """The way on MICC: the scan within 95 mm of the nose's tip, an isotropic scale, distances to the plane.

    Args:
        scan: [N, 3] mm.
        seven: [7, 3] landmarks of the scan.
        tip: [3] of the scan's nose.
        vertices: [V, 3] mm of the reconstruction, with the photograph's expression.
        triangles: [T, 3].
        own: [7, 3] landmarks of the reconstruction.

    Raises:
        ImportError: scipy is not installed.
        ValueError: no point of the scan is that near.
    """
    near = scan[np.linalg.norm(scan - tip, axis=1) <= _CROP]
    if len(near) < 3:
        raise ValueError(
            f"no point of the scan within {_CROP:g} mm of the nose's tip; are its units mm?"
        )
    surface = _Surface(*_aligned(near, seven, vertices, triangles, own))
    return ScanError.of(surface.plane_distances(near), surface.scale)


def vertex_error(scan: np.ndarray, vertices: np.ndarray) -> ScanError:
    """FaceWarehouse's way: meshes of one topology, similarity by all points, vertex to vertex.

    Args:
        scan: [N, 3] mm, the region that counts.
        vertices: [N, 3] mm of the reconstruction, the same ones.
    """
    scale, turn, shift = similarity(vertices, scan)
    return ScanError.of(np.linalg.norm(scale * vertices @ turn.T + shift - scan, axis=1), scale)


class _Surface:
    """A mesh to which distances are measured.

    Args:
        vertices: [V, 3]. triangles: [T, 3]. scale: of what brought it there.
    """

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray, scale: float = 1.0) -> None:
        from scipy.spatial import cKDTree

        self.scale = scale
        self._corners = vertices[triangles].astype(np.float64)
        self._tree = cKDTree(self._corners.mean(1))

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The closest points [N, 3] of the mesh, and the triangles [N] that they are on."""
        from mofa_nvdr.importers.transfer import closest_on_triangles

        _, near = self._tree.query(points, k=min(_CANDIDATES, len(self._corners)))
        near = near.reshape(len(points), -1)
        best = np.full(len(points), np.inf)
        found, where = np.zeros_like(points, np.float64), np.zeros(len(points), np.int64)
        for k in range(near.shape[1]):
            corners = self._corners[near[:, k]]
            weights = closest_on_triangles(points, corners)
            foot = (weights[:, :, None] * corners).sum(1)
            away = ((foot - points) ** 2).sum(1)
            better = away < best
            best[better], found[better], where[better] = away[better], foot[better], near[better, k]
        return found, where

    def distances(self, points: np.ndarray) -> np.ndarray:
        """To the nearest point of the mesh, [N]."""
        return np.linalg.norm(self.closest(points)[0] - points, axis=1)

    def plane_distances(self, points: np.ndarray) -> np.ndarray:
        """To the plane of the nearest triangle, [N]."""
        foot, where = self.closest(points)
        a, b, c = self._corners[where].transpose(1, 0, 2)
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        return np.abs(((points - foot) * normal).sum(1))


def _aligned(
    scan: np.ndarray,
    seven: np.ndarray,
    vertices: np.ndarray,
    triangles: np.ndarray,
    own: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The reconstruction moved onto the scan: its vertices, triangles, and the scale."""
    points = scan[:: max(1, len(scan) // _SAMPLE)]
    total, turn, shift = similarity(own, seven)
    moved = total * vertices @ turn.T + shift
    before = np.inf
    for _ in range(_ROUNDS):
        foot, _ = _Surface(moved, triangles).closest(points)
        away = np.linalg.norm(foot - points, axis=1)
        kept = away <= np.quantile(away, _TRIMMED)
        if before - away[kept].mean() < _STILL:
            break
        before = away[kept].mean()
        scale, turn, shift = similarity(foot[kept], points[kept])
        total, moved = total * scale, scale * moved @ turn.T + shift
    return moved, triangles, total


@dataclass(frozen=True)
class ScannedFace:
    """A scan and the reconstruction that belongs to it.

    Attributes:
        name: of both files, without their endings.
        scan: [N, 3] mm.
        seven: [7, 3]; None: there is no NAME.txt.
        result: the .npz.
    """

    name: str
    scan: np.ndarray
    seven: np.ndarray | None
    result: Path


def measure_scans(folder: str | Path, face_model: str = "") -> Measured:
    """Scans and reconstructions in a folder: NAME.ply (.obj, .stl, .off; mm) next to NAME.npz.

    NAME.txt has the seven landmarks of the scan, a line each, x y z in mm, in the order of `SEVEN`; where it
    is missing, only scans of the face model's own topology are measured, vertex to vertex.

    Args:
        folder: the files.
        face_model: of the reconstructions; empty: the one that they name.

    Raises:
        ValueError: nothing to measure, a file that cannot be read or does not fit; the message has its name.
        RuntimeError: trimesh or scipy is not installed.
    """
    models: dict[str, FaceModel] = {}
    errors: dict[str, list[ScanError]] = {name: [] for name in PROTOCOLS}
    number = 0
    for face in _scanned_faces(Path(folder)):
        number += 1
        for protocol, error in _errors(face, face_model, models):
            errors[protocol].append(error)
    rows = {
        protocol: {
            "median": float(np.mean([e.median for e in found])),
            "mean": float(np.mean([e.mean for e in found])),
            "deviation": float(np.mean([e.deviation for e in found])),
            "scale": float(np.mean([e.scale for e in found])),
            "scans": float(len(found)),
        }
        for protocol, found in errors.items()
        if found
    }
    if not rows:
        raise ValueError(
            f"{folder}: no scan has a NAME.txt of seven landmarks or the face model's vertices: nothing was "
            "measured (docs/howto_evaluating.md)"
        )
    return Measured(
        "Scans",
        [
            f"{number} scans; each number is the mean over the scans of that number of each scan.",
            "now: neutral expression; similarity by seven landmarks, then by closest points (the nearest "
            "90 %); from every point of the scan to the nearest point of the whole mesh.",
            "micc: the photograph's expression; the scan within 95 mm of the nose's tip, similarity as "
            "above; from every point of it to the plane of the nearest triangle.",
            "facewarehouse: the photograph's expression; scans of the face model's topology, similarity by "
            "the frontal region, vertex to vertex over that region.",
        ],
        {"median": "mm", "mean": "mm", "deviation": "mm", "scale": "", "scans": ""},
        rows,
    )


def has_scans(folder: str | Path) -> bool:
    """Whether there are scans in a folder."""
    return Path(folder).is_dir() and any(
        path.suffix.lower() in SCAN_SUFFIXES for path in Path(folder).iterdir()
    )


def _scanned_faces(folder: Path) -> Iterator[ScannedFace]:
    if not has_scans(folder):
        raise ValueError(f"{folder}: no scan ({', '.join(SCAN_SUFFIXES)}) in it")
    scans = sorted(path for path in folder.iterdir() if path.suffix.lower() in SCAN_SUFFIXES)
    for path in scans:
        result, marks = path.with_suffix(".npz"), path.with_suffix(".txt")
        if not result.is_file():
            raise ValueError(
                f"{path}: no {result.name} next to it, which `reconstruct` or `fit` writes"
            )
        seven = _read_seven(marks) if marks.is_file() else None
        yield ScannedFace(path.stem, _read_scan(path), seven, result)


def _read_scan(path: Path) -> np.ndarray:
    try:
        import scipy  # noqa: F401  (needed next)
        import trimesh
    except ImportError:
        raise RuntimeError(
            "evaluate --on SCANS needs trimesh and scipy: pip install 'mofa-nvdr[evaluate]'"
        ) from None
    try:
        scan: Any = trimesh.load(path, process=False, force="mesh")
        points = np.asarray(scan.vertices, np.float64)
    except Exception as error:  # trimesh's readers raise whatever their formats bring
        raise ValueError(
            f"{path}: not a scan that can be read ({type(error).__name__}: {error})"
        ) from None
    if points.ndim != 2 or len(points) < 4 or not np.isfinite(points).all():
        raise ValueError(f"{path}: expected at least 4 finite points [N, 3]")
    return points


def _read_seven(path: Path) -> np.ndarray:
    try:
        seven = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not seven lines of x y z ({error})") from None
    if seven.shape != (7, 3) or not np.isfinite(seven).all():
        raise ValueError(
            f"{path}: expected seven lines of x y z, got {'x'.join(map(str, seven.shape))}"
        )
    return seven


def _errors(
    face: ScannedFace, face_model: str, models: dict[str, FaceModel]
) -> Iterator[tuple[str, ScanError]]:
    parameters = load_face(face.result, face_model, models)
    model = models[parameters.face_model[1]]
    code = parameters.code
    with torch.no_grad():
        posed = model.vertices(code.shape, code.expression)[0].double().numpy()
        neutral = model.vertices(code.shape, torch.zeros_like(code.expression))[0].double().numpy()
    triangles, marks = model.triangles.numpy(), model.landmarks.numpy()
    frontal = model.frontal_mask.numpy()
    if len(face.scan) == model.num_vertices:
        yield "facewarehouse", vertex_error(face.scan[frontal], posed[frontal])
    if face.seven is not None:
        yield (
            "now",
            now_error(face.scan, face.seven, neutral, triangles, neutral[marks[list(SEVEN)]]),
        )
        own = posed[marks[list(SEVEN)]]
        scale, turn, shift = similarity(own, face.seven)
        tip = scale * posed[marks[_NOSE]] @ turn.T + shift
        try:
            yield "micc", micc_error(face.scan, face.seven, tip, posed, triangles, own)
        except ValueError as error:
            raise ValueError(f"{face.name}: {error}") from None
