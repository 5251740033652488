"""ICT-FaceKit: the folder of OBJ files as its repository publishes it (FaceXModel).

One neutral mesh, identity000.obj and so on (each the neutral face plus one standard deviation of a mode), and
one OBJ for each expression, all in one topology of quads and in centimetres. Taken are the face's skin in
front of the ears, its quads subdivided once, and the eyeballs as caps in the lids' openings. Teeth and
sockets are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from scipy import sparse

from mofa_nvdr.face.landmarks import EYES
from mofa_nvdr.importers.eye_caps import eye_cap, eyeballs, loop_around
from mofa_nvdr.importers.files.obj_files import ObjMesh, read_obj, read_vertices
from mofa_nvdr.importers.foreign import (
    ForeignModel,
    ImportOptions,
    ModelFileError,
    check_mode_count,
)
from mofa_nvdr.importers.landmark_points import known_landmarks
from mofa_nvdr.importers.modes import blendshape_modes, principal_modes
from mofa_nvdr.importers.polygons import boundary_loops, catmull_clark, keep_vertices
from mofa_nvdr.system.budget import Budget

NEUTRAL = "generic_neutral_mesh.obj"
LICENCE = "MIT (USC Institute for Creative Technologies)"
_MM = 10.0  # the files are in centimetres
_SKIN = "M_Face"
_EYES = ("M_Sclera", "M_Iris")
_PUBLISHED = 26719
# In the published numbering the face without ears and neck comes first (its README calls it narrow face).
_NARROW_FACE = 6706
# Toward 24,000 vertices after subdivision: rings of polygons are taken off the rim (neck and hair) down to
# this many vertices before it, as long as no landmark goes too. The published face ends with 26,944.
_MOST_BEFORE = 6000
_IDENTITY = re.compile(r"identity(\d+)\.obj")
# mouthClose closes an opened jaw, and alone pushes the lips into each other.
_ONLY_WITH = {"mouthClose": "jawOpen"}
_SIDE_BLEND = 12.0  # mm over which the left half of a motion goes over into the right


def looks_like(path: Path) -> bool:
    """Whether the folder holds the published files."""
    return path.is_dir() and (path / NEUTRAL).is_file()


def read(path: Path, options: ImportOptions) -> ForeignModel:
    """Read the folder of OBJ files.

    Raises:
        ModelFileError: the folder or a file is not as published.
    """
    if not path.is_dir():
        raise ModelFileError(f"{path}: expected the folder with {NEUTRAL} of ICT-FaceKit")
    if not looks_like(path):
        raise ModelFileError(f"{path}: no {NEUTRAL} in this folder; give ICT-FaceKit's FaceXModel")
    mesh = read_obj(path / NEUTRAL)
    landmarks = known_landmarks("ict", len(mesh.vertices), options.landmarks)
    if len(landmarks) < 68:
        raise ModelFileError(
            f"{path}: {len(mesh.vertices)} vertices, not the published {_PUBLISHED}: its 68 landmarks "
            "are not known; give them as --landmarks FILE"
        )
    identities, expressions = _morphs(path, mesh)
    region = _Region(mesh, landmarks)
    shape, kept = principal_modes(region.motions(identities), options.shape_modes)
    mean = region.mean()
    named = dict(zip(expressions, region.motions(list(expressions.values()))))
    used = {
        name: motion + named.get(_ONLY_WITH.get(name, ""), 0.0)
        for name, motion in named.items()
    }  # fmt: skip
    sides = 1 / (1 + np.exp(-mean[:, 0] / (_SIDE_BLEND / 4)))
    modes, kept_expressions = blendshape_modes(used, options.expression_modes, sides)
    return ForeignModel(
        name="ict",
        licence=LICENCE,
        source="ICT-FaceKit (github.com/ICT-VGL/ICT-FaceKit)",
        mean=mean,
        shape=shape,
        polygons=region.quads,
        expression=modes,
        named_expressions=named,
        landmarks={k: int(region.new_index[v]) for k, v in landmarks.items()},
        uv=region.uv,
        notes=[
            f"{region.num_caps} eye openings closed with caps",
            f"{len(identities)} identity modes over the face region: {len(shape)} orthogonal ones keep "
            f"{kept:.2%} of the variance",
            f"{len(expressions)} expressions and their one-sided halves: {len(modes)} modes keep "
            f"{kept_expressions:.2%} of the variance",
        ],
    )


def _morphs(path: Path, mesh: ObjMesh) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Motions [V, 3] in file units: identities in their order, expressions by name."""
    identities, expressions = {}, {}
    files = sorted(path.glob("*.obj"))
    check_mode_count(path, "identity and expression", len(files))
    budget = Budget(path, sum(file.stat().st_size for file in files), ModelFileError)
    budget.take_array("all its .obj files together", (len(files), *mesh.vertices.shape), 4)
    for file in files:
        if file.name == NEUTRAL:
            continue
        vertices = read_vertices(file)
        if vertices.shape != mesh.vertices.shape:
            raise ModelFileError(
                f"{file}: {len(vertices)} vertices, but {NEUTRAL} has {len(mesh.vertices)}"
            )
        motion = (vertices - mesh.vertices).astype(np.float32)
        number = _IDENTITY.fullmatch(file.name)
        if number:
            identities[int(number[1])] = motion
        else:
            expressions[file.stem] = motion
    if not identities:
        raise ModelFileError(f"{path}: no identity000.obj and on in this folder")
    return [identities[k] for k in sorted(identities)], expressions


class _Region:
    """The face's skin with capped eyes, subdivided once: how each new vertex follows from the file's."""

    def __init__(self, mesh: ObjMesh, landmarks: dict[int, int]) -> None:
        count = len(mesh.vertices)
        polygons, used, new = keep_vertices(mesh.polygons, _skin(mesh, landmarks))
        lost = [k for k, v in landmarks.items() if new[v] < 0]
        if lost:
            raise ModelFileError(
                f"{NEUTRAL}: landmarks {lost} lie outside the face's skin (material {_SKIN})"
            )
        self.new_index = new
        vertices = mesh.vertices * _MM
        positions = [vertices[used]]
        # How each vertex of the cut mesh follows the file's.
        rows = np.arange(len(used))
        follows = [sparse.csr_matrix((np.ones(len(used)), (rows, used)), (len(used), count))]
        uv = None if mesh.uv is None else [mesh.uv[used]]
        creases = []
        balls = eyeballs(mesh, _EYES)
        loops = boundary_loops(polygons)
        for side in (EYES[:6], EYES[6:]):
            loop = loop_around(loops, positions[0], [int(new[landmarks[k]]) for k in side])
            if loop is None:
                continue  # the lids' opening is closed already
            cap = eye_cap(loop, positions[0], used, vertices, balls, sum(map(len, positions)))
            positions.append(cap.positions)
            follows.append(cap.follows)
            polygons = np.concatenate([polygons, cap.polygons])
            creases.append(np.stack([loop, np.roll(loop, -1)], 1))
            if uv is not None:
                uv.append(cap.between(uv[0][loop]))
        self.num_caps = len(creases)
        self._positions = np.concatenate(positions)
        crease = np.concatenate(creases) if creases else None
        self._subdivide, self.quads = catmull_clark(polygons, len(self._positions), crease)
        self._motion = (self._subdivide @ sparse.vstack(follows)).tocsr()
        self.uv = None if uv is None else (self._subdivide @ np.concatenate(uv)).clip(0, 1)

    def mean(self) -> np.ndarray:
        """Vertices [V', 3] in mm."""
        return self._subdivide @ self._positions

    def motions(self, motions: list[np.ndarray]) -> np.ndarray:
        """Motions of the file's vertices -> [K, V', 3] float32 in mm."""
        if not motions:
            return np.zeros((0, self._motion.shape[0], 3), np.float32)
        return np.stack([(self._motion @ (m * _MM)).astype(np.float32) for m in motions])


def _skin(mesh: ObjMesh, landmarks: dict[int, int]) -> np.ndarray:
    """[V] bool: the face's skin in front of the ears, as far as the landmarks need it."""
    count = len(mesh.vertices)
    keep = np.zeros(count, bool)
    skin = mesh.polygons
    if _SKIN in mesh.material_names:
        skin = skin[mesh.material == mesh.material_names.index(_SKIN)]
    keep[skin[skin >= 0]] = True
    if count == _PUBLISHED:
        keep[_NARROW_FACE:] = False
    points = np.array(list(landmarks.values()))
    while keep.sum() > _MOST_BEFORE:
        polygons, used, _ = keep_vertices(mesh.polygons, keep)
        loops = boundary_loops(polygons)
        fewer = keep.copy()
        fewer[used[max(loops, key=len)] if loops else points] = False
        if not fewer[points].all():
            break
        keep = fewer
    return keep
