"""What every importer hands over: a foreign model in its own topology, in millimetres and our axes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mofa_nvdr.system.budget import MOST_MODES

# Far above every published model (BFM 2009: 53,490 vertices, 199 modes), far below what fills a memory.
MAX_VERTICES = 1_000_000
_MOST_IN_ONE_PLACE = 1000  # vertices; on a seam there are a handful


class ModelFileError(ValueError):
    """A file that cannot be imported; the message is one line that names the file and the way out."""


@dataclass(frozen=True)
class ImportOptions:
    """What the user chose.

    Attributes:
        shape_modes, expression_modes, albedo_modes: at most this many modes are kept.
        vertices: subdivide until the mesh has about this many; 0: as the format has it.
        albedo: file with the model's albedo where it is a file of its own; None: none given.
        expressions: file with the model's blendshapes where it is a file of its own.
        landmarks: file with the 68 landmarks (landmark_points.read_landmark_vertices).
        name: name of the model; empty: the format's.
        albedo_of: face model whose albedo a model without its own gets, as FaceModel.load takes it.
    """

    shape_modes: int = 80
    expression_modes: int = 64
    albedo_modes: int = 80
    vertices: int = 0
    albedo: Path | None = None
    expressions: Path | None = None
    landmarks: Path | None = None
    name: str = ""
    albedo_of: str = "procedural"


@dataclass
class ForeignModel:
    """A linear model as a reader found it; `normalise.face_model` makes a FaceModel of it.

    Convention: millimetres, +x the subject's left, +y up, +z out of the face, any origin. Bases are scaled
    by their standard deviations.

    Attributes:
        name, licence, source: for the metadata.
        mean: [V, 3].
        shape: [S, V, 3].
        polygons: [P, 3] or [P, 4] vertex indices; a quad's row may end in -1: a triangle. Any winding.
        expression: [E, V, 3]; E = 0: the model has none.
        named_expressions: name -> motion [V, 3] in mm at full weight.
        mean_albedo: [V, 3] gamma-encoded RGB in [0, 1]; None: the model has none.
        albedo: [A, V, 3].
        landmarks: iBUG number from 0 -> vertex index, as far as they are known.
        uv: [V, 2] texture coordinates, v up.
        notes: what the user should know, one line each.
    """

    name: str
    licence: str
    source: str
    mean: np.ndarray
    shape: np.ndarray
    polygons: np.ndarray
    expression: np.ndarray | None = None
    named_expressions: dict[str, np.ndarray] = field(default_factory=dict)
    mean_albedo: np.ndarray | None = None
    albedo: np.ndarray | None = None
    landmarks: dict[int, int] = field(default_factory=dict)
    uv: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def check(self, path: Path) -> None:
        """Raise ModelFileError unless sizes agree, numbers are finite and indices lie within the mesh."""
        count = len(self.mean)
        if self.mean.ndim != 2 or self.mean.shape[1] != 3 or not 3 < count <= MAX_VERTICES:
            raise ModelFileError(
                f"{path}: the mean shape is {list(self.mean.shape)}, expected [V, 3] with 4 to "
                f"{MAX_VERTICES} vertices"
            )
        bases = {"identity": self.shape, "expression": self.expression, "albedo": self.albedo}
        for name, basis in bases.items():
            if basis is not None and basis.shape[1:] != (count, 3):
                raise ModelFileError(
                    f"{path}: the {name} modes are {list(basis.shape)}, expected [K, {count}, 3] "
                    f"(the mean shape has {count} vertices)"
                )
        for name, basis in bases.items():
            if basis is not None:
                check_mode_count(path, name, len(basis))
        if len(self.shape) == 0:
            raise ModelFileError(f"{path}: no identity mode in this file")
        if self.mean_albedo is not None and self.mean_albedo.shape != (count, 3):
            raise ModelFileError(
                f"{path}: the mean albedo is {list(self.mean_albedo.shape)}, expected [{count}, 3]"
            )
        arrays = {
            "mean shape": self.mean, **{f"{k} modes": v for k, v in bases.items()},
            "mean albedo": self.mean_albedo, **self.named_expressions,
        }  # fmt: skip
        for name, array in arrays.items():
            if array is not None and not np.isfinite(array).all():
                raise ModelFileError(f"{path}: the {name} holds numbers that are not finite")
        check_indices(path, "a polygon", self.polygons[:, :3], count)
        if self.polygons.shape[1] == 4:
            fourth = self.polygons[:, 3]
            check_indices(path, "a polygon", fourth[fourth != -1], count)
        check_apart(path, self.mean)
        check_indices(path, "a landmark", np.array(list(self.landmarks.values()), int), count)


def check_mode_count(path: Path, name: str, count: int) -> None:
    """Raise ModelFileError for more modes than a face model may have; work grows with their square."""
    if count > MOST_MODES:
        raise ModelFileError(f"{path}: {count} {name} modes, expected at most {MOST_MODES}")


def check_apart(path: Path, vertices: np.ndarray) -> None:
    """Raise ModelFileError where very many vertices [V, 3] lie in one place: no search among them ends."""
    _, counts = np.unique(vertices.round(3), axis=0, return_counts=True)
    if counts.max(initial=0) > _MOST_IN_ONE_PLACE:
        raise ModelFileError(
            f"{path}: {int(counts.max())} of its {len(vertices)} vertices lie in one place: no face"
        )


def check_indices(path: Path, what: str, indices: np.ndarray, count: int) -> None:
    """Raise ModelFileError unless all vertex indices (from 0) are within `count` vertices."""
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise ModelFileError(
            f"{path}: {what} points outside the mesh (vertices {int(indices.min())} to "
            f"{int(indices.max())} counted from 0; the mesh has {count})"
        )
