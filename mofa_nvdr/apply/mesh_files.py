"""One mesh as the bytes of .obj (with .mtl) and .ply files, readable by other programs; glb_files has .glb.

Nothing here knows faces. Axes are right-handed with +y up; coordinates are written as they are given.
Colours are gamma-encoded sRGB in [0, 1] on the way in and in every file but .glb, whose vertex colours are
linear by its specification (its textures are sRGB too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

MATERIAL = "face"


@dataclass(frozen=True)
class MeshCamera:
    """A camera that sees a mesh (.glb only).

    Attributes:
        field_of_view: vertical, radians. aspect: width / height. near, far: in the mesh's unit.
        rotation: [3, 3], its axes as columns: x right, y up, -z ahead. position: [3].
    """

    field_of_view: float
    aspect: float
    near: float
    far: float
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    position: np.ndarray = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True)
class Motion:
    """A mesh that moves (.glb only).

    Attributes:
        times: [N] s, increasing. weights: [N, K] of the mesh's targets, in their order.
        rotations: [N, 3, 3]. translations: [N, 3]: points v of the mesh go to R v + t.
    """

    times: np.ndarray
    weights: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray


@dataclass(frozen=True)
class Mesh:
    """What a file can hold.

    Attributes:
        vertices: [V, 3]. triangles: [T, 3] counter-clockwise from outside. normals: [V, 3] unit.
        colors: [V, 3] sRGB in [0, 1], or None.
        uv: [U, 2] in [0, 1], v upwards, or None. uv_triangles: [T, 3] rows of uv; None: `triangles`.
        texture: uint8 sRGB [H, W, 3], row 0 at v = 1, or None. Needs uv.
        comments: lines of plain text for the file's head.
        targets: name -> displacement [V, 3] at full weight (.glb only).
        camera: that sees it, or None (.glb only). motion: None: it rests (.glb only).
        unlit: colours are shown as they are, whatever light there is; else as a matte surface's (.glb only).

    Raises:
        ValueError: a shape is not as above, an index outside its array, or a texture without uv.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    colors: np.ndarray | None = None
    uv: np.ndarray | None = None
    uv_triangles: np.ndarray | None = None
    texture: np.ndarray | None = None
    comments: tuple[str, ...] = ()
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    camera: MeshCamera | None = None
    motion: Motion | None = None
    unlit: bool = True

    def __post_init__(self) -> None:
        num = len(self.vertices)
        wanted = {"vertices": (num, 3), "normals": (num, 3), "colors": (num, 3)}
        arrays = {name: getattr(self, name) for name in wanted}
        arrays |= {f"targets[{name!r}]": value for name, value in self.targets.items()}
        for name, array in arrays.items():
            if array is not None and array.shape != (num, 3):
                raise ValueError(f"Mesh: {name} is {list(array.shape)}, expected [{num}, 3]")
        _check_indices("triangles", self.triangles, num, None)
        if self.uv is not None:
            _check_indices("uv_triangles", self.corners, len(self.uv), len(self.triangles))
        if self.texture is not None and self.uv is None:
            raise ValueError("Mesh: a texture without uv; give uv, or colors instead")
        if self.motion is not None:
            frames, count = len(self.motion.times), len(self.targets)
            if self.motion.weights.shape != (frames, count):
                raise ValueError(
                    f"Mesh: motion.weights is {list(self.motion.weights.shape)}, expected "
                    f"[{frames}, {count}] (from times and targets)"
                )

    @property
    def corners(self) -> np.ndarray:
        """[T, 3] rows of uv at the triangles' corners."""
        return self.triangles if self.uv_triangles is None else self.uv_triangles


def _check_indices(name: str, indices: np.ndarray, count: int, rows: int | None) -> None:
    if indices.ndim != 2 or indices.shape[1] != 3 or rows not in (None, len(indices)):
        want = "T" if rows is None else rows
        raise ValueError(f"Mesh: {name} is {list(indices.shape)}, expected [{want}, 3]")
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise ValueError(
            f"Mesh: {name} holds indices {int(indices.min())} to {int(indices.max())}, expected 0 to "
            f"{count - 1}"
        )


def split_at_seams(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices doubled where they have several uv, for formats with one index for everything.

    Returns:
        vertex [N] and uv row [N] of each new vertex, and triangles [T, 3] of new vertices. Without seams
        nothing changes.
    """
    if mesh.uv is None or mesh.uv_triangles is None:
        every = np.arange(len(mesh.vertices))
        return every, every, mesh.triangles
    pairs = np.stack([mesh.triangles.ravel(), mesh.corners.ravel()], 1).astype(np.int64)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], inverse.reshape(-1, 3)


def kept_triangles(mesh: Mesh, keep: np.ndarray) -> Mesh:
    """Some triangles of a mesh, keep [T] bool, and the vertices and uv that these use."""
    triangles, corners = mesh.triangles[keep], mesh.corners[keep]
    used, rows = (np.unique(part, return_inverse=True) for part in (triangles, corners))
    vertices, uv = mesh.vertices, mesh.uv
    own = mesh.uv_triangles is None
    return replace(
        mesh,
        vertices=vertices[used[0]],
        triangles=used[1].reshape(-1, 3),
        normals=mesh.normals[used[0]],
        colors=None if mesh.colors is None else mesh.colors[used[0]],
        uv=None if uv is None else uv[used[0] if own else rows[0]],
        uv_triangles=None if uv is None or own else rows[1].reshape(-1, 3),
        targets={name: value[used[0]] for name, value in mesh.targets.items()},
    )


def obj_bytes(mesh: Mesh, material_file: str = "") -> bytes:
    """A Wavefront .obj; with a texture it names `material_file`, else colours follow the coordinates.

    Colours there are not part of the format, but MeshLab and Blender write and read them this way.
    """
    rows = mesh.vertices.astype(np.float64)
    if mesh.texture is None and mesh.colors is not None:
        rows = np.concatenate([rows, mesh.colors.clip(0, 1)], axis=1)
    lines = [f"# {line}" for line in mesh.comments]
    textured = mesh.texture is not None and mesh.uv is not None
    if textured:
        lines.append(f"mtllib {material_file}")
    lines += ["v " + " ".join(f"{value:.7g}" for value in row) for row in rows.tolist()]
    lines += [f"vn {x:.5f} {y:.5f} {z:.5f}" for x, y, z in mesh.normals.tolist()]
    triangles = (mesh.triangles + 1).tolist()
    if textured:
        assert mesh.uv is not None
        lines += [f"vt {u:.6f} {v:.6f}" for u, v in mesh.uv.tolist()]
        lines.append(f"usemtl {MATERIAL}")
        for (a, b, c), (i, j, k) in zip(triangles, (mesh.corners + 1).tolist()):
            lines.append(f"f {a}/{i}/{a} {b}/{j}/{b} {c}/{k}/{c}")
    else:
        lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in triangles]
    return ("\n".join(lines) + "\n").encode("utf-8")


def mtl_bytes(texture_file: str, comments: Sequence[str] = ()) -> bytes:
    """The .mtl next to an .obj: the texture, matte.

    Illumination model 1, colour and ambient light: Blender warns of model 0, colour alone.
    """
    lines = [f"newmtl {MATERIAL}", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", "d 1", "illum 1"]
    lines = [*(f"# {line}" for line in comments), *lines, f"map_Kd {texture_file}", ""]
    return "\n".join(lines).encode("utf-8")


def ply_bytes(mesh: Mesh) -> bytes:
    """A binary .ply with normals, and 8 bit colours if the mesh has them."""
    fields: list[tuple[str, str]] = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    if mesh.colors is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
    table = np.empty(len(mesh.vertices), dtype=fields)
    for k, name in enumerate("xyz"):
        table[name], table[f"n{name}"] = mesh.vertices[:, k], mesh.normals[:, k]
    if mesh.colors is not None:
        quantised = np.rint(mesh.colors.clip(0, 1) * 255)
        for k, name in enumerate(("red", "green", "blue")):
            table[name] = quantised[:, k]
    faces = np.empty(len(mesh.triangles), dtype=[("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.triangles
    kinds = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {c}" for c in mesh.comments)]
    header += [f"element vertex {len(table)}"]
    header += [f"property {kinds[kind]} {name}" for name, kind in fields]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    # Readers take the header as ASCII.
    head = "\n".join(header).encode("ascii", "replace") + b"\n"
    return head + table.tobytes() + faces.tobytes()
