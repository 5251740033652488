"""Independent readers of mesh files: trimesh and, for what it leaves out, a .glb read by hand.

It leaves out morph targets, sparse accessors and extras.
"""

import io
import json
import os
import struct

import numpy as np
import trimesh
from PIL import Image


class Glb:
    """A .glb read by hand, from the specification."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<III", data)
        assert magic == 0x46546C67 and version == 2 and length == len(data)
        size, kind = struct.unpack_from("<II", data, 12)
        assert kind == 0x4E4F534A and size % 4 == 0
        self.json = json.loads(data[20 : 20 + size])
        count, kind = struct.unpack_from("<II", data, 20 + size)
        assert kind == 0x004E4942 and count % 4 == 0
        self.data = data[28 + size :]
        assert len(self.data) == count >= self.json["buffers"][0]["byteLength"]

    def view(self, index: int) -> bytes:
        view = self.json["bufferViews"][index]
        assert view["byteOffset"] % 4 == 0
        return self.data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def array(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        dtype = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        values = np.zeros((accessor["count"], width), dtype)
        if "bufferView" in accessor:
            values = np.frombuffer(self.view(accessor["bufferView"]), dtype).reshape(-1, width)
            assert len(values) == accessor["count"]
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            rows = np.frombuffer(self.view(sparse["indices"]["bufferView"]), "<u4")
            assert len(rows) == sparse["count"] and (np.diff(rows.astype(int)) > 0).all()
            values = values.copy()
            values[rows] = np.frombuffer(self.view(sparse["values"]["bufferView"]), dtype).reshape(
                -1, width
            )
        if "min" in accessor:
            assert values.min(0).tolist() == accessor["min"]
            assert values.max(0).tolist() == accessor["max"]
        return values

    @property
    def primitive(self) -> dict:
        return self.json["meshes"][0]["primitives"][0]

    def attribute(self, name: str) -> np.ndarray:
        return self.array(self.primitive["attributes"][name])

    @property
    def targets(self) -> dict[str, np.ndarray]:
        names = self.json["meshes"][0]["extras"]["targetNames"]
        return {
            name: self.array(target["POSITION"])
            for name, target in zip(names, self.primitive["targets"], strict=True)
        }

    @property
    def texture(self) -> np.ndarray:
        image = self.json["images"][0]
        with Image.open(io.BytesIO(self.view(image["bufferView"]))) as picture:
            return np.asarray(picture.convert("RGB"))


def geometry_of(path) -> trimesh.Trimesh:
    with open(path, "rb") as stream:
        resolver = trimesh.resolvers.FilePathResolver(os.path.dirname(path))
        loaded = trimesh.load(
            stream, file_type=str(path).rsplit(".", 1)[1], process=False, resolver=resolver
        )
    return next(iter(loaded.geometry.values())) if isinstance(loaded, trimesh.Scene) else loaded
