"""One mesh as the bytes of .obj (with .mtl), .ply and .glb files, readable by other programs.

Nothing here knows faces. Axes are right-handed with +y up; coordinates are written as they are given.
Colours are gamma-encoded sRGB in [0, 1] on the way in and in every file but .glb, whose vertex colours are
linear by its specification (its textures are sRGB too).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mofa_nvdr.render.pictures import png_bytes
from mofa_nvdr.scene.lighting import srgb_to_linear

MATERIAL = "face"
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_ARRAY, _ELEMENTS = 34962, 34963


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
        camera: (vertical field of view in radians, width / height, near, far) at the origin, looking down
            -z, or None (.glb only).

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
    camera: tuple[float, float, float, float] | None = None

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
    """The .mtl next to an .obj: the texture as it is, without light (illumination model 0)."""
    lines = [f"newmtl {MATERIAL}", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", "d 1", "illum 0"]
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


class _Buffer:
    """The binary chunk of a .glb under way: views and accessors, each aligned to 4 bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view | ({"target": target} if target else {}))
        self.data += data
        return len(self.views) - 1

    def accessor(self, array: np.ndarray, component: int, kind: str, **more: Any) -> int:
        target = _ELEMENTS if kind == "SCALAR" else _ARRAY
        dtype = {_FLOAT: "<f4", _USHORT: "<u2", _UINT: "<u4"}[component]
        self.accessors.append({
            "bufferView": self.view(np.ascontiguousarray(array, dtype).tobytes(), target),
            "componentType": component, "count": len(array), "type": kind, **more,
        })  # fmt: skip
        return len(self.accessors) - 1

    def positions(self, array: np.ndarray) -> int:
        return self.accessor(array, _FLOAT, "VEC3", **_bounds(array))

    def displacements(self, array: np.ndarray) -> int:
        """A morph target: a sparse accessor where most vertices stay."""
        array = array.astype(np.float32)
        moved = np.flatnonzero(np.any(array != 0, axis=1))
        if 16 * len(moved) >= 12 * len(array):
            return self.positions(array)
        moved = moved if len(moved) else np.array([0])
        self.accessors.append({
            "componentType": _FLOAT, "count": len(array), "type": "VEC3", **_bounds(array),
            "sparse": {
                "count": len(moved),
                "indices": {
                    "bufferView": self.view(moved.astype("<u4").tobytes()), "componentType": _UINT,
                },
                "values": {"bufferView": self.view(array[moved].astype("<f4").tobytes())},
            },
        })  # fmt: skip
        return len(self.accessors) - 1


def _bounds(array: np.ndarray) -> dict[str, list[float]]:
    values = array.astype(np.float32)
    return {"min": values.min(0).tolist(), "max": values.max(0).tolist()}


def glb_bytes(mesh: Mesh, copyright_line: str = "", generator: str = "mofa-nvdr") -> bytes:
    """A binary glTF 2.0: coordinates are metres there; unlit (KHR_materials_unlit), both sides drawn.

    Texture coordinates are turned upside down (v downwards), vertex colours become linear, displacements are
    morph targets with weight 0, named in the mesh's `extras.targetNames` as Blender and three.js read them.
    Targets move positions only: a viewer that lights the mesh keeps the normals at rest.
    """
    vertex, corner, triangles = split_at_seams(mesh)
    buffer = _Buffer()
    attributes = {
        "POSITION": buffer.positions(mesh.vertices[vertex]),
        "NORMAL": buffer.accessor(mesh.normals[vertex], _FLOAT, "VEC3"),
    }
    material: dict[str, Any] = {
        "name": MATERIAL,
        "doubleSided": True,
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9},
        "extensions": {"KHR_materials_unlit": {}},
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": generator},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0], "extras": {"comments": list(mesh.comments)}}],
        "nodes": [{"name": MATERIAL, "mesh": 0}],
        "materials": [material],
    }
    if copyright_line:
        document["asset"]["copyright"] = copyright_line
    if mesh.uv is not None:
        attributes["TEXCOORD_0"] = buffer.accessor(
            mesh.uv[corner] * [1, -1] + [0, 1], _FLOAT, "VEC2"
        )
    if mesh.texture is not None:
        material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        document["textures"] = [{"sampler": 0, "source": 0}]
        # Linear with mipmaps; clamped at the border.
        document["samplers"] = [
            {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}
        ]
        document["images"] = [
            {
                "mimeType": "image/png",
                "bufferView": buffer.view(png_bytes(mesh.texture, kind="texture")),
            }
        ]
    elif mesh.colors is not None:
        attributes["COLOR_0"] = buffer.accessor(
            _linear_ushort(mesh.colors[vertex]), _USHORT, "VEC4", normalized=True
        )
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": buffer.accessor(triangles.reshape(-1), _UINT, "SCALAR"),
        "material": 0,
    }
    document["meshes"] = [{"name": MATERIAL, "primitives": [primitive]}]
    if mesh.targets:
        primitive["targets"] = [
            {"POSITION": buffer.displacements(value[vertex])} for value in mesh.targets.values()
        ]
        document["meshes"][0]["weights"] = [0.0] * len(mesh.targets)
        document["meshes"][0]["extras"] = {"targetNames": list(mesh.targets)}
    if mesh.camera is not None:
        keys = ("yfov", "aspectRatio", "znear", "zfar")
        document["cameras"] = [{"type": "perspective", "perspective": dict(zip(keys, mesh.camera))}]
        document["nodes"].append({"name": "camera", "camera": 0})
        document["scenes"][0]["nodes"].append(1)
    document["accessors"], document["bufferViews"] = buffer.accessors, buffer.views
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    return _container(document, bytes(buffer.data))


def _linear_ushort(colors: np.ndarray) -> np.ndarray:
    """Linear RGBA of sRGB [N, 3] as 16 bit: four numbers, so that every vertex starts at 4 bytes."""
    linear = srgb_to_linear(torch.from_numpy(colors.clip(0, 1).astype(np.float64))).numpy()
    return np.rint(np.concatenate([linear, np.ones((len(linear), 1))], axis=1) * 65535)


def _container(document: dict[str, Any], data: bytes) -> bytes:
    """The file: a header of 12 bytes, the JSON chunk padded with spaces, the binary chunk with zeros."""
    text = json.dumps(document, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(data), 0x004E4942) + data
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks
