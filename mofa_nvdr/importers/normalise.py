"""From a foreign model to a FaceModel: placed, scaled, cut to the wanted modes, completed."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from mofa_nvdr.face.landmarks import BROWS, EYES, INNER_FACE, JAW
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.importers import transfer
from mofa_nvdr.importers.foreign import ForeignModel, ImportOptions, ModelFileError
from mofa_nvdr.importers.modes import coefficients
from mofa_nvdr.importers.polygons import as_polygons, subdivide, triangulate, vertex_normals

# Outer eye corners of adults are 75 to 110 mm apart; beyond these limits the unit is another.
_EYE_CORNERS = (60.0, 130.0)
# The frontal region, in mm of the built-in face's size: below the jaw line, before the ear's landmarks, and
# above the eyes (falling off to the temples).
_BELOW_JAW, _BEFORE_EAR = 4.0, 8.0
_FOREHEAD, _TEMPLE_FALL = 58.0, 0.006


def face_model(
    foreign: ForeignModel, options: ImportOptions, path: Path
) -> tuple[FaceModel, list[str]]:
    """Make the FaceModel; returns it with lines for the user.

    Triangles are wound outwards, unused vertices dropped; the head's centre is put where the built-in face
    has it (by the landmarks), from which missing landmarks and albedo come too.

    Raises:
        ModelFileError: the parts do not fit together, or are no face in millimetres.
    """
    foreign.check(path)
    _, own = arrays_of("procedural")
    notes = list(foreign.notes)
    triangles = triangulate(as_polygons(foreign.polygons), foreign.mean)
    part = _Part(foreign, triangles, options)
    while options.vertices and _nearer(4 * len(part.mean), len(part.mean), options.vertices):
        part.subdivide()
    if part.steps:
        notes.append(f"subdivided {part.steps} times: {len(part.mean)} vertices")
    elif options.vertices and len(part.mean) > options.vertices:
        notes.append(
            f"{len(part.mean)} vertices, more than --vertices {options.vertices}: kept as they are"
        )
    triangles = _outward(part.mean, part.triangles)
    given = part.landmarks
    if options.landmarks and len(given) >= 6 > len(set(given.values())):
        raise ModelFileError(
            f"{path}: the {len(given)} landmarks of {options.landmarks} lie on {len(set(given.values()))} "
            "vertices, expected one for each"
        )
    landmarks, how = _landmarks(part, triangles, own)
    notes.append(how)
    if len(np.unique(landmarks)) < 34:
        raise ModelFileError(
            f"{path}: the 68 landmarks{f' of {options.landmarks}' if options.landmarks else ''} lie on "
            f"{len(np.unique(landmarks))} vertices; give --landmarks FILE"
        )
    _check_face(path, options.landmarks, part.mean[landmarks])
    part.mean = part.mean + _place(part.mean[landmarks], own)
    arrays = {
        "mean_shape": part.mean,
        "shape_basis": part.shape,
        "expression_basis": part.expression,
        "triangles": triangles,
        "landmarks": landmarks,
        "mirror_index": _mirror(part.mean),
        "frontal_mask": frontal_region(part.mean, landmarks, own),
    }
    albedo = "its own"
    if part.mean_albedo is None or part.albedo is None or len(part.albedo) == 0:
        giver, colored = arrays_of(options.albedo_of)
        mean, modes = transfer.transfer_albedo(
            colored, {k: np.asarray(v) for k, v in arrays.items()}, options.albedo_modes
        )
        arrays["mean_albedo"], arrays["albedo_basis"] = mean, modes
        licence = giver.metadata.get("licence", "no licence given")
        albedo = f"transferred from the face {giver.name} ({giver.hash}; {licence})"
    else:
        arrays["mean_albedo"], arrays["albedo_basis"] = part.mean_albedo, part.albedo
    notes.append(f"albedo: {albedo}")
    if len(part.expression) == 0:
        notes.append("no expression in this model: its faces keep the mean's")
    metadata = {
        "name": options.name or foreign.name,
        "licence": foreign.licence,
        "source": foreign.source,
        "albedo": albedo,
    }
    named = {
        name: coefficients(part.expression, motion) for name, motion in part.named.items()
    } if len(part.expression) else {}  # fmt: skip
    try:
        return FaceModel(arrays, metadata, named), notes
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from None


@functools.cache
def arrays_of(face_model: str) -> tuple[FaceModel, dict[str, np.ndarray]]:
    """A face model, as FaceModel.load takes it, and its arrays, unpacked once."""
    model = FaceModel.load(face_model)
    return model, {name: value.numpy() for name, value in model.named_buffers()}


class _Part:
    """The arrays of a foreign model without unused vertices and with the wanted number of modes."""

    def __init__(
        self, foreign: ForeignModel, triangles: np.ndarray, options: ImportOptions
    ) -> None:
        used = np.unique(triangles)
        new = np.full(len(foreign.mean), -1)
        new[used] = np.arange(len(used))
        self.triangles = new[triangles]
        self.mean = foreign.mean[used].astype(np.float64)
        self.shape = foreign.shape[: options.shape_modes, used]
        none = np.zeros((0, len(used), 3), np.float32)
        expression = none if foreign.expression is None else foreign.expression[:, used]
        self.expression = expression[: options.expression_modes]
        self.named = {name: motion[used] for name, motion in foreign.named_expressions.items()}
        self.mean_albedo = None if foreign.mean_albedo is None else foreign.mean_albedo[used]
        albedo = none if foreign.albedo is None else foreign.albedo[:, used]
        self.albedo = albedo[: options.albedo_modes]
        self.landmarks = {k: int(new[v]) for k, v in foreign.landmarks.items() if new[v] >= 0}
        # FaceModel has no place for texture coordinates yet; they follow the vertices all the same.
        self.uv = None if foreign.uv is None else foreign.uv[used]
        self.steps = 0

    def subdivide(self) -> None:
        matrix, self.triangles = subdivide(self.triangles, len(self.mean))
        self.mean = matrix @ self.mean
        self.shape, self.expression, self.albedo = (
            np.array([matrix @ mode for mode in basis], np.float32).reshape(
                len(basis), len(self.mean), 3
            )
            for basis in (self.shape, self.expression, self.albedo)
        )
        self.named = {name: matrix @ motion for name, motion in self.named.items()}
        self.mean_albedo = None if self.mean_albedo is None else matrix @ self.mean_albedo
        self.uv = None if self.uv is None else matrix @ self.uv
        self.steps += 1


def _nearer(finer: int, now: int, wanted: int) -> bool:
    """Whether the finer mesh's number of vertices is nearer to the wanted one, as a ratio."""
    return abs(np.log(finer / wanted)) < abs(np.log(now / wanted))


def _outward(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Triangles counter-clockwise seen from outside: about the nose the normals look forward (+z)."""
    normals = vertex_normals(vertices, triangles)
    used = np.unique(triangles)
    away = np.linalg.norm(vertices - transfer.nose_tip(vertices[used]), axis=1)
    near = used[np.argsort(away[used])[: max(20, len(used) // 50)]]
    return triangles[:, [0, 2, 1]] if normals[near, 2].sum() < 0 else triangles


def _landmarks(
    part: _Part, triangles: np.ndarray, own: dict[str, np.ndarray]
) -> tuple[np.ndarray, str]:
    known = part.landmarks if len(set(part.landmarks.values())) >= 6 else {}
    if len(known) == 68:
        return np.array([known[k] for k in range(68)]), "landmarks: 68 known for this mesh"
    if len(known) >= 6:
        found = transfer.complete_landmarks(known, part.mean, triangles, own)
        return found, f"landmarks: {len(known)} known for this mesh, the others by geometry"
    found = transfer.locate_landmarks(part.mean, triangles, own)
    return found, "landmarks: located by geometry alone; --landmarks FILE gives better ones"


def _check_face(path: Path, given: Path | None, points: np.ndarray) -> None:
    """The landmarks must form an upright face that looks along +z, in millimetres."""
    which = f"those of --landmarks {given}" if given else "give --landmarks FILE"
    right, left = points[36], points[45]
    width = float(np.linalg.norm(left - right))
    if not _EYE_CORNERS[0] < width < _EYE_CORNERS[1]:
        raise ModelFileError(
            f"{path}: the outer eye corners are {width:.3g} mm apart, expected {_EYE_CORNERS[0]:g} to "
            f"{_EYE_CORNERS[1]:g}: another unit, or wrong landmarks ({which})"
        )
    upright = points[[37, 44], 1].mean() > points[8, 1] and left[0] > right[0]
    if not upright or points[30, 2] < points[[36, 45], 2].mean():
        raise ModelFileError(
            f"{path}: the landmarks form no upright face that looks along +z; {which}"
        )


def _place(points: np.ndarray, own: dict[str, np.ndarray]) -> np.ndarray:
    """The shift [3] that puts the foreign landmarks [68, 3] closest to the built-in face's.

    The plane of symmetry comes to x = 0 by the landmarks' mirror pairs alone.
    """
    target = own["mean_shape"][own["landmarks"]]
    chosen = list(INNER_FACE + JAW[6:11])  # the jaw's upper part is a matter of taste in every list
    shift = (target[chosen] - points[chosen]).mean(0)
    shift[0] = -0.5 * (points[[36, 39, 31, 48], 0] + points[[45, 42, 35, 54], 0]).mean()
    return shift


def _mirror(vertices: np.ndarray) -> np.ndarray:
    """The vertex nearest to each one's mirror image."""
    return cKDTree(vertices).query(vertices * [-1, 1, 1])[1].astype(np.int64)


def frontal_region(
    vertices: np.ndarray, landmarks: np.ndarray, own: dict[str, np.ndarray]
) -> np.ndarray:
    """[V] bool: before the ears, above the jaw line and below the hair, by the landmarks.

    Args:
        vertices: [V, 3] mm.
        landmarks: [68].
        own: mean_shape and landmarks of the built-in face, whose size gives the scale.
    """
    points, built_in = vertices[landmarks], own["mean_shape"][own["landmarks"]]
    scale = _height(points) / _height(built_in)
    eyes = points[list(EYES)].mean(0)
    x, y, z = vertices.T
    order = np.argsort(points[list(JAW), 0])
    jaw = points[list(JAW)][order]
    above_jaw = y > np.interp(x, jaw[:, 0], jaw[:, 1]) - _BELOW_JAW * scale
    # Next to the jaw's ends the ear's height would cut the temples off.
    above_jaw |= (x < jaw[0, 0]) | (x > jaw[-1, 0])
    top = max(eyes[1] + _FOREHEAD * scale, points[list(BROWS), 1].max() + 0.5 * _FOREHEAD * scale)
    below_hair = y < top - _TEMPLE_FALL / scale * x**2
    before_ears = z > points[[0, 16], 2].mean() + _BEFORE_EAR * scale
    return above_jaw & below_hair & before_ears


def _height(points: np.ndarray) -> float:
    return float(points[list(EYES)].mean(0)[1] - points[8, 1])
