"""An exported encoder in ONNX Runtime: a graph made by hand, its facts, and every file that is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.onnx_encoder import (
    FORMAT,
    INPUT,
    OnnxEncoder,
    dump_facts,
    find_onnx_encoder,
    require,
)
from mofa_nvdr.scene.camera import Camera

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx]")
pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")

SIZES = {"shape": 2, "expression": 1, "albedo": 0, "rotation": 3, "translation": 3, "light": 27}
FACTS = {
    "face_model": {"name": "cap", "hash": "9bea08a20c42f71b"},
    "camera": {"image_size": 64},
    "step": 7,
    "author": "nobody",
}


def write(path: Path, facts: dict[str, str] | None = None, sizes: dict[str, int] = SIZES) -> Path:
    """A graph whose part k, from 1, is k times the sum of the image's mean colour, all numbers alike."""
    make, nodes, weights, outputs = onnx.helper, [], [], []
    nodes.append(make.make_node("GlobalAveragePool", [INPUT], ["pooled"]))
    nodes.append(make.make_node("Flatten", ["pooled"], ["colour"]))
    for number, (part, size) in enumerate(sizes.items(), 1):
        light = part == "light"
        weights.append(make.make_tensor(f"{part}_w", 1, [3, size], [float(number)] * (3 * size)))
        out = f"{part}_flat" if light else part
        nodes.append(make.make_node("MatMul", ["colour", f"{part}_w"], [out]))
        if light:
            weights.append(make.make_tensor("nine_by_three", 7, [3], [-1, 9, 3]))
            nodes.append(make.make_node("Reshape", [out, "nine_by_three"], [part]))
        shape = ["batch", 9, 3] if light else ["batch", size]
        outputs.append(make.make_tensor_value_info(part, 1, shape))
    image = make.make_tensor_value_info(INPUT, 1, ["batch", 3, "height", "width"])
    graph = make.make_graph(nodes, "encoder", [image], outputs, weights)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)])
    model.ir_version = 9
    make.set_model_props(model, {**dump_facts(FACTS), **(facts or {})})
    onnx.save(model, path)
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    return write(tmp_path / "encoder.onnx")


class TestHostile:
    def test_weights_in_other_files_are_not_read(self, file, tmp_path):
        model = onnx.load(file)
        weight = model.graph.initializer[0]
        (tmp_path / "weights").write_bytes(bytes(1000))
        weight.ClearField("float_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="weights")
        file.write_bytes(model.SerializeToString())
        with pytest.raises(
            ValueError, match=r"encoder\.onnx: .*its weights are in other files, which"
        ):
            OnnxEncoder(file)

    def test_arrays_of_any_size(self, file):
        """A graph of a few bytes that asks for 2 GB: its memory has an end."""
        model = onnx.load(file)
        make = onnx.helper
        model.graph.initializer.append(make.make_tensor("size", 7, [2], [50_000, 10_000]))
        nodes = [
            make.make_node("ConstantOfShape", ["size"], ["huge"]),
            make.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
            make.make_node("Add", [INPUT, "sum"], ["more"]),
        ]
        model.graph.node[0].input[0] = "more"
        nodes += list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        file.write_bytes(model.SerializeToString())
        with pytest.raises(
            (ValueError, RuntimeError), match=r"encoder\.onnx: .*2000000000 bytes|memory"
        ):
            OnnxEncoder(file)(torch.zeros(1, 3, 8, 8))


class TestRequire:
    def test_modules_in_order(self):
        assert require("json", "math") == [json, math]

    def test_all_that_are_missing(self):
        with pytest.raises(RuntimeError) as error:
            require("json", "no_such_module", "nor_this_one")
        said = "no_such_module, nor_this_one: not installed; pip install 'mofa-nvdr[onnx]'"
        assert str(error.value) == said


class TestDumpFacts:
    def test_texts_stay_and_the_rest_is_json(self):
        assert dump_facts({"units": "mm", "step": 7, "code": {"shape": 2}}) == {
            "format": FORMAT, "units": "mm", "step": "7", "code": '{"shape": 2}',
        }  # fmt: skip


class TestOnnxEncoder:
    def test_by_hand(self, file):
        """The mean colour (0.5, 0.25, 1) times each part's numbers."""
        images = torch.tensor([0.5, 0.25, 1.0]).view(1, 3, 1, 1).expand(2, 3, 5, 7)
        encoder = OnnxEncoder(file)
        code = encoder(images)
        assert encoder.layout.sizes == {**SIZES, "light": 27} and code.shape == (2, 36)
        parts = encoder.layout.unpack(code)
        assert parts.shape.tolist() == [[1.75, 1.75]] * 2
        assert parts.expression.tolist() == [[3.5]] * 2
        assert parts.translation.tolist() == [[8.75] * 3] * 2
        assert parts.light.shape == (2, 9, 3) and (parts.light == 10.5).all()

    def test_facts(self, file):
        encoder = OnnxEncoder(file)
        assert encoder.step == 7 and encoder.metadata["author"] == "nobody"
        assert encoder.spec.layout == encoder.layout == CodeLayout(2, 1, 0)
        assert encoder.spec.camera == Camera(image_size=64)
        assert encoder.spec.face_model == ModelReference("cap", "9bea08a20c42f71b")

    def test_bytes_are_the_same(self, file):
        images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        assert OnnxEncoder(file.read_bytes())(images).equal(OnnxEncoder(file)(images))
        with pytest.raises(ValueError, match="^exported encoder: not a readable ONNX model"):
            OnnxEncoder(b"no model")

    def test_no_such_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"none\.onnx: no such file$"):
            OnnxEncoder(tmp_path / "none.onnx")

    @pytest.mark.parametrize(
        ("facts", "message"),
        [
            ({"format": "x"}, "metadata does not say 'mofa-nvdr encoder 1'; expected a file of"),
            ({"step": "7.5"}, r"damaged metadata \(step\); export it again"),
            ({"camera": "{"}, r"damaged metadata \(.*\); export it again"),
            ({"face_model": "[]"}, r"damaged metadata \(.*\); export it again"),
            ({"schema": "99"}, r"written by a newer mofa-nvdr \(schema 99, "),
        ],
    )
    def test_other_metadata(self, tmp_path, facts, message):
        path = write(tmp_path / "e.onnx", facts=facts)
        with pytest.raises(ValueError, match=f"^{path}: (the file's )?{message}"):
            OnnxEncoder(path)

    def test_other_outputs(self, tmp_path):
        path = write(tmp_path / "e.onnx", sizes={"shape": 2, "age": 1})
        with pytest.raises(
            ValueError, match="takes image and gives shape, age, expected image and sh"
        ):
            OnnxEncoder(path)

    def test_outputs_of_other_sizes(self, tmp_path):
        """What the file declares is no code; or what it gives is not what it declares."""
        path = write(tmp_path / "e.onnx", sizes={**SIZES, "shape": 5000})
        with pytest.raises(ValueError, match=r"e\.onnx: gives arrays of .*5000.*; export it again"):
            OnnxEncoder(path)
        model = onnx.load(write(path))
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        onnx.save(model, path)
        with pytest.raises(
            ValueError, match=r"e\.onnx: gives arrays of .*expected \[batch, size, "
        ):
            OnnxEncoder(path)

    def test_bad_images(self, file):
        encoder = OnnxEncoder(file)
        for images in (
            torch.rand(3, 64, 64),
            torch.rand(1, 64, 64, 3),
            torch.zeros(1, 3, 8, 8).byte(),
        ):
            with pytest.raises(ValueError, match=r"expected floats \[B, 3, H, W\] in \[0, 1\]"):
                encoder(images)

    def test_failure_in_the_runtime(self, file, monkeypatch):
        encoder = OnnxEncoder(file)
        with pytest.raises(RuntimeError, match=f"{file}: ONNX Runtime fails: ") as error:
            encoder(torch.rand(0, 3, 64, 64).new_empty(1, 3, 0, 0))
        assert "\n" not in str(error.value)

    def test_double_precision_and_gradients_come_in(self, file):
        images = torch.rand(1, 3, 80, 80, dtype=torch.float64, requires_grad=True)
        encoder = OnnxEncoder(file)
        assert encoder(images).equal(encoder(images.detach().float()))
        assert INPUT == "image"


class TestFindOnnxEncoder:
    def test_file_or_run_folder(self, file):
        assert find_onnx_encoder(file) == find_onnx_encoder(file.parent) == file

    def test_mistakes(self, tmp_path):
        (tmp_path / "run").mkdir()
        with pytest.raises(
            ValueError, match=r"run: no encoder\.onnx in this folder; make it with mofa"
        ):
            find_onnx_encoder(tmp_path / "run")
        with pytest.raises(ValueError, match=r"no\.onnx: no such run folder or \.onnx file$"):
            find_onnx_encoder(tmp_path / "no.onnx")
        (tmp_path / "checkpoint.safetensors").write_text("")
        with pytest.raises(
            ValueError, match=r"--runtime onnx takes an \.onnx file or a run folder"
        ):
            find_onnx_encoder(tmp_path / "checkpoint.safetensors")
