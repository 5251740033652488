"""Files made to take the machine: bombs of every container, a few hundred bytes to a megabyte each."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import scipy.io


def write_handmade(seeds: Path, folder: Path) -> list[tuple[str, str, Path]]:
    """Write them; returns (kind, the seed whose place it takes, the file)."""
    folder.mkdir(exist_ok=True)
    found: list[tuple[str, str, Path]] = []

    def add(kind: str, seed: str, name: str, data: bytes) -> None:
        path = folder / name
        path.write_bytes(data)
        found.append((kind, seed, path))

    aliases = "\n".join(f"  - &b{k} [{','.join([f'*b{k - 1}'] * 9)}]" for k in range(1, 12))
    add("configuration", "options.yaml", "bomb.yaml", f"run:\n  - &b0 [x]\n{aliases}\n".encode())
    add("configuration", "options.yaml", "deep.yaml", b"run: " + b"[" * 20_000)
    add("configuration", "options.yaml", "date.yaml", b"run: {steps: 2024-99-99}")
    add("configuration", "options.yaml", "size.yaml", b"data: {image_size: 200000}")
    add(
        "import landmarks",
        "landmarks.json",
        "inf.json",
        json.dumps([*range(67), float("inf")]).encode(),
    )
    add("import landmarks", "landmarks.json", "deep.json", b"[" * 100_000)
    _pickles(add)
    _archives(add, seeds)
    _matlab(add)
    _hdf5(add, seeds)
    _pictures(add)
    _safetensors(add, seeds)
    _shards(add, seeds)
    _onnx(add, seeds)
    _tars(add)
    _networks(add, seeds)
    people = b"file,person\n" + b"a.png,ann\n" * 5_000_000
    add("people", "people.csv", "many.csv", people)
    add("people", "people.csv", "wide.csv", b"file,person\n" + b"," * 10_000_000)
    return found


def _networks(add, seeds: Path) -> None:  # noqa: ANN001
    """Counts of 2^32 in a flatbuffer and in dlib's integers, and settings that take gigabytes."""
    tflite = (seeds / "small.tflite").read_bytes()
    for at in range(8, 88, 4):
        data = tflite[:at] + b"\xff\xff\xff\x7f" + tflite[at + 4 :]
        if at % 16 == 8:
            add("network .tflite", "small.tflite", f"count {at}.tflite", data)
    dat = (seeds / "small.dat").read_bytes()
    for at in range(0, len(dat), len(dat) // 4):
        data = dat[:at] + b"\x08" + b"\xff" * 8 + dat[at + 9 :]
        add("network .dat", "small.dat", f"count {at}.dat", data)
    kept = (seeds / "kept_tflite.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", kept[:8])
    for name, value in (("pads", [0, 2**30, 0, 2**30]), ("factor", 10**6), ("columns", 2**62)):
        header = json.loads(kept[8 : 8 + length])
        graph = json.loads(header["__metadata__"]["graph"])
        for operation in graph["operations"]:
            if name in operation["settings"]:
                operation["settings"][name] = value
        header["__metadata__"]["graph"] = json.dumps(graph)
        text = json.dumps(header).encode()
        data = struct.pack("<Q", len(text)) + text + kept[8 + length :]
        add("kept network", "kept_tflite.safetensors", f"{name}.safetensors", data)


def _pickles(add) -> None:  # noqa: ANN001
    shared: dict = {"x": 1}
    for _ in range(60):
        shared = {"a": shared, "b": shared}
    add("import flame", "generic_model.pkl", "shared.pkl", pickle.dumps({"v_template": shared}, 2))
    body = b"\x80\x05}\x8c\x01a\x96" + struct.pack("<Q", 5 << 30)
    add("import flame", "generic_model.pkl", "bytearray.pkl", body)
    add("import flame", "generic_model.pkl", "dicts.pkl", b"\x80\x02" + b"}" * 1_000_000 + b".")
    text = b"\x80\x02X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20) + b"q\x00"
    again = b"c_codecs\nencode\nh\x00\x85R" * 40_000
    add("import flame", "generic_model.pkl", "encode.pkl", text + again + b".")


def _archives(add, seeds: Path) -> None:  # noqa: ANN001
    for seed, member, kind in (
        ("face.npz", "shape.npy", "parameters"),
        ("gnm_head.npz", "vertex_identity_basis.npy", "import gnm"),
        ("flame.npz", "shapedirs.npy", "import flame npz"),
        ("photos/a.npz", "lm68.npy", "landmark file"),
        ("corpus/codes.npz", "codes.npy", "corpus table"),
        ("learned.learning/light-0.npz", "code.npy", "learning"),
        ("of_p.npz", "light.npy", "relit photograph"),
    ):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (75_000_000,)}
        )
        out = io.BytesIO()
        with (
            zipfile.ZipFile(seeds / seed) as old,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                if name != member:
                    new.writestr(name, old.read(name))
            with new.open(member, "w", force_zip64=True) as stream:
                stream.write(header.getvalue())
                for _ in range(100):
                    stream.write(bytes(3_000_000))
        add(kind, seed, f"zeros {Path(seed).name}", out.getvalue())
    modes = {
        "template_vertex_positions": np.zeros((4, 3), "f4"),
        "vertex_identity_basis": np.zeros((40_000, 4, 3), "f4"),
        "expression_basis": np.zeros((40_000, 4, 3), "f4"),
        "triangles": np.array([[0, 1, 2]]),
    }
    out = io.BytesIO()
    np.savez_compressed(out, **modes)
    add("import gnm", "gnm_head.npz", "modes.npz", out.getvalue())
    heap = {**modes, "template_vertex_positions": np.zeros((300_000, 3), "f4")}
    heap["vertex_identity_basis"] = heap["expression_basis"] = np.zeros((1, 300_000, 3), "f4")
    out = io.BytesIO()
    np.savez_compressed(out, **heap)
    add("import gnm", "gnm_head.npz", "heap.npz", out.getvalue())
    with np.load(seeds / "face.npz") as face:
        arrays = dict(face)
    for side in (20_000, 2**31):
        out = io.BytesIO()
        np.savez(out, **(arrays | {"image_size": np.array([side, side])}))
        add("parameters", "face.npz", f"side {side}.npz", out.getvalue())


def _matlab(add) -> None:  # noqa: ANN001
    def saved(value: object, **more: object) -> bytes:
        stream = io.BytesIO()
        scipy.io.savemat(
            stream, {"shapeMU": value, "shapePC": np.ones(3), **more}, do_compression=True
        )
        return stream.getvalue()

    cell = np.empty((1, 1), object)
    cell[0, 0] = np.ones(1)
    for _ in range(300):
        outer = np.empty((1, 1), object)
        outer[0, 0] = cell
        cell = outer
    rest = {key: np.ones((3, 1)) for key in ("shapeEV", "texMU", "texPC", "texEV", "tl")}
    add("import bfm2009", "01_MorphableModel.mat", "cells.mat", saved(cell, **rest))
    add(
        "import bfm2009",
        "01_MorphableModel.mat",
        "zeros.mat",
        saved(np.zeros((12_000_000, 1)), **rest),
    )
    add("import bfm2009", "01_MorphableModel.mat", "deeper.mat", _nested(12_000))


def _nested(depth: int) -> bytes:
    """Cells within cells, each an element of 48 bytes and what is in it."""

    def element(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    int32, uint32, int8, double, matrix = 5, 6, 1, 9, 14

    def head(number: int, name: bytes) -> bytes:
        return (
            element(uint32, struct.pack("<II", number, 0))
            + element(int32, struct.pack("<ii", 1, 1))
            + element(int8, name)
        )

    inner = head(6, b"") + element(double, struct.pack("<d", 1.0))
    parts, length = [], len(inner)
    for level in range(depth):
        parts.append(struct.pack("<II", matrix, length))
        length += 8
        start = head(1, b"shapeMU" if level == depth - 1 else b"")
        parts.append(start)
        length += len(start)
    body = b"".join(reversed(parts)) + inner
    more = head(6, b"shapePC") + element(double, struct.pack("<d", 1.0))
    text = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    return text + struct.pack("<II", matrix, len(body)) + body + element(matrix, more)


def _hdf5(add, seeds: Path) -> None:  # noqa: ANN001
    name = "model2017-1_bfm_nomouth.h5"

    def changed(label: str, change) -> None:  # noqa: ANN001
        stream = io.BytesIO((seeds / name).read_bytes())
        with h5py.File(stream, "a") as file:
            del file["shape/model/mean"]
            change(file)
        add("import bfm2017", name, label, stream.getvalue())

    def zeros(file: h5py.File) -> None:
        file.create_dataset(
            "shape/model/mean",
            data=np.zeros(30_000_000, "f4"),
            compression="gzip",
            chunks=(10_000_000,),
        )

    changed("zeros.h5", zeros)
    changed(
        "claims.h5",
        lambda file: file.create_dataset("shape/model/mean", (3 * 10**11,), "f4", chunks=(999,)),
    )
    changed(
        "link.h5",
        lambda file: file.__setitem__("shape/model/mean", h5py.ExternalLink("/etc/passwd", "/")),
    )


def _pictures(add) -> None:  # noqa: ANN001
    for width, height in ((16_384, 8_192), (30_000, 4_000)):
        head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
        row = b"\x80\x80\x80\x80" + struct.pack("4B", 1, 1, 1, (width - 1) & 255)
        row += struct.pack("4B", 1, 1, 1, (width - 1) >> 8)
        add(".hdr", "flat.hdr", f"wide {width}.hdr", head + row * height)


def _safetensors(add, seeds: Path) -> None:  # noqa: ANN001
    data = (seeds / "cap.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])

    def changed(label: str, change) -> None:  # noqa: ANN001
        header = json.loads(data[8 : 8 + length])
        body = change(header) or data[8 + length :]
        text = json.dumps(header).encode()
        add("face model", "cap.safetensors", label, struct.pack("<Q", len(text)) + text + body)

    def halves(header: dict) -> None:
        header["mean_shape"]["dtype"] = "BF16"
        header["mean_shape"]["shape"] = [header["mean_shape"]["shape"][0], 6]

    changed("bf16.safetensors", halves)
    changed(
        "name.safetensors",
        lambda header: header["__metadata__"].update(name="evil\nv 0 0 0\x1b[31m"),
    )
    changed(
        "long.safetensors",
        lambda header: header["__metadata__"].update(expression_names="[" * 50_000),
    )


def _shards(add, seeds: Path) -> None:  # noqa: ANN001
    index = next((seeds / "shards").glob("*.index"))
    head, *rows = index.read_text().splitlines()
    for label, place in (("huge", [512, 2**62, 1]), ("below", [-(2**62), 4, 1]), ("texts", ["a", "b", "c"]),
                         ("floats", [512.5, 1e300, 0])):  # fmt: skip
        row = json.loads(rows[0])
        row["members"] = {kind: place for kind in row["members"]}
        text = "\n".join([head, json.dumps(row), *rows[1:]]) + "\n"
        add("shard", f"shards/{index.name}", f"{label}.index", text.encode())


def _tars(add) -> None:  # noqa: ANN001
    """A member of 8 GB before the one that is wanted, and more members than any package has."""
    large = tarfile.TarInfo("zeros")
    large.size = 1 << 33
    data = gzip.compress(large.tobuf() + bytes(1 << 20))
    add("network archive", "networks.tar.gz", "zeros.tar.gz", data)
    many = gzip.compress(tarfile.TarInfo("empty").tobuf() * 100_000)
    add("network archive", "networks.tar.gz", "many.tar.gz", many)


def _onnx(add, seeds: Path) -> None:  # noqa: ANN001
    import onnx
    from onnx import helper

    def changed(label: str, change) -> None:  # noqa: ANN001
        model = onnx.load(seeds / "encoder.onnx")
        change(model)
        add("exported encoder", "encoder.onnx", label, model.SerializeToString())

    def elsewhere(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../seeds/landmarks.npy")

    def unfolds(model: onnx.ModelProto) -> None:
        shape = onnx.numpy_helper.from_array(np.array([50_000, 10_000]), "huge_shape")
        model.graph.initializer.append(shape)
        model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]))
        model.graph.node.insert(1, helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0))
        model.graph.node.insert(2, helper.make_node("Add", ["image", "sum"], ["image2"]))
        model.graph.node[3].input[0] = "image2"

    changed("elsewhere.onnx", elsewhere)
    changed("unfolds.onnx", unfolds)
