"""One mesh as a binary glTF 2.0 (.glb): texture, morph targets, a camera, and motion.

Colours are gamma-encoded sRGB on the way in; vertex colours in the file are linear by its specification, its
textures sRGB.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import torch

from mofa_nvdr.apply.mesh_files import MATERIAL, Mesh, MeshCamera, Motion, split_at_seams
from mofa_nvdr.render.pictures import png_bytes
from mofa_nvdr.scene.lighting import srgb_to_linear

_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_ARRAY, _ELEMENTS = 34962, 34963


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
        return self._accessor(
            array, component, kind, _ELEMENTS if kind == "SCALAR" else _ARRAY, **more
        )

    def samples(self, array: np.ndarray, kind: str, **more: Any) -> int:
        """Numbers of an animation."""
        return self._accessor(array, _FLOAT, kind, None, **more)

    def _accessor(
        self, array: np.ndarray, component: int, kind: str, target: int | None, **more: Any
    ) -> int:
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
    """A binary glTF 2.0: coordinates are metres; unlit (KHR_materials_unlit) or matte, both sides drawn.

    Texture coordinates are turned upside down (v downwards), vertex colours become linear, displacements are
    morph targets with weight 0, named in the mesh's `extras.targetNames` as Blender and three.js read them.
    Targets move positions only: a viewer that lights the mesh keeps the normals at rest. A motion is an
    animation of the mesh's node, linear between its frames; the file shows the first one at rest.
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
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": generator},
        "scene": 0,
        "scenes": [{"nodes": [0], "extras": {"comments": list(mesh.comments)}}],
        "nodes": [{"name": MATERIAL, "mesh": 0}],
        "materials": [material],
    }
    if mesh.unlit:
        material["extensions"] = {"KHR_materials_unlit": {}}
        document["extensionsUsed"] = ["KHR_materials_unlit"]
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
        _add_camera(document, mesh.camera)
    if mesh.motion is not None:
        _add_motion(document, buffer, mesh.motion)
    document["accessors"], document["bufferViews"] = buffer.accessors, buffer.views
    document["buffers"] = [{"byteLength": len(buffer.data)}]
    return _container(document, bytes(buffer.data))


def _add_camera(document: dict[str, Any], camera: MeshCamera) -> None:
    document["cameras"] = [{"type": "perspective", "perspective": {
        "yfov": camera.field_of_view, "aspectRatio": camera.aspect,
        "znear": camera.near, "zfar": camera.far,
    }}]  # fmt: skip
    node: dict[str, Any] = {"name": "camera", "camera": 0}
    if (camera.rotation != np.eye(3)).any() or camera.position.any():
        node["rotation"] = quaternions(camera.rotation[None])[0].tolist()
        node["translation"] = camera.position.tolist()
    document["scenes"][0]["nodes"].append(len(document["nodes"]))
    document["nodes"].append(node)


def _add_motion(document: dict[str, Any], buffer: _Buffer, motion: Motion) -> None:
    turns = quaternions(motion.rotations)
    times = motion.times.astype(np.float32)
    at = buffer.samples(times, "SCALAR", min=[float(times[0])], max=[float(times[-1])])
    outputs = {
        "rotation": buffer.samples(turns, "VEC4"),
        "translation": buffer.samples(motion.translations, "VEC3"),
    }
    node = document["nodes"][0]
    node["rotation"], node["translation"] = turns[0].tolist(), motion.translations[0].tolist()
    if motion.weights.shape[1]:
        outputs["weights"] = buffer.samples(motion.weights.reshape(-1), "SCALAR")
        document["meshes"][0]["weights"] = motion.weights[0].tolist()
    document["animations"] = [{
        "name": "clip",
        "samplers": [{"input": at, "output": k, "interpolation": "LINEAR"} for k in outputs.values()],
        "channels": [
            {"sampler": k, "target": {"node": 0, "path": path}} for k, path in enumerate(outputs)
        ],
    }]  # fmt: skip


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] as unit quaternions x, y, z, w [N, 4], each next to the one before.

    The eigenvector of the largest eigenvalue (Bar-Itzhack 2000): no case is singular.
    """
    m = np.asarray(matrices, np.float64)
    k = np.zeros((len(m), 4, 4))
    for i in range(3):
        for j in range(3):
            k[:, i, j] = m[:, i, j] + m[:, j, i]
        k[:, i, i] -= m.trace(axis1=1, axis2=2)
    k[:, 3, 3] = m.trace(axis1=1, axis2=2)
    axes = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], 1)
    k[:, :3, 3] = k[:, 3, :3] = axes
    turns = np.linalg.eigh(k)[1][:, :, -1]
    turns[0] *= 1 if turns[0, 3] >= 0 else -1
    steps = np.sign((turns[1:] * turns[:-1]).sum(1))
    turns[1:] *= np.cumprod(np.where(steps == 0, 1, steps))[:, None]
    return turns


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
