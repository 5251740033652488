"""Trained encoders are opened for good, whatever becomes of the options of their training."""

import dataclasses
import json
import lzma
import math
import shutil
from pathlib import Path

import pytest
import torch

from mofa_nvdr.apply.onnx_export import export_encoder
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.spec import SCHEMA, EncoderSpec, NewerVersionError
from mofa_nvdr.runs.checkpoint import read_checkpoint, save_checkpoint
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.camera import Camera

# A run of version 0.1.0 at 54a676b, which knew 71 flat options and no schema. The weights of its encoder
# are a short pattern, so that the files are small when they are packed.
FIXTURE = Path(__file__).parents[1] / "runs" / "before_schema"
SPEC = EncoderSpec(
    trunk="compact",
    input_size=48,
    output_scale={
        "shape": 0.3, "expression": 1.0, "albedo": 1.0, "rotation": 1.0, "translation_xy": 12.0,
        "translation_z": 60.0, "light": 1.0,
    },
    layout=CodeLayout(4, 3, 5),
    face_model=ModelReference("cap", "9bea08a20c42f71b", "/tmp/fixture/run/cap.safetensors"),
    camera=Camera(image_size=48, position=(0.0, 3.9, -857.9)),
)  # fmt: skip


@pytest.fixture
def old_run(tmp_path):
    """The run folder, unpacked."""
    folder = tmp_path / "old"
    folder.mkdir()
    for path in FIXTURE.iterdir():
        if path.suffix == ".xz":
            (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, folder / path.name)
    return folder


def image():
    return torch.linspace(0, 1, 3 * 48 * 48).view(1, 3, 48, 48).flip(3)


def codes():
    return torch.tensor(json.loads((FIXTURE / "codes.json").read_text()))


class TestRunFromBeforeTheSchema:
    def test_checkpoint_gives_the_codes_that_it_gave(self, old_run):
        trained = Reconstructor.load(old_run, device="cpu")
        assert dataclasses.replace(trained.spec, camera=SPEC.camera) == SPEC
        assert list(trained.spec.camera.position) == list(SPEC.camera.position)
        code = trained(image()).pack()[0]
        torch.testing.assert_close(code, codes(), atol=2e-5, rtol=0)  # measured 1e-6

    def test_options_may_be_anything(self, old_run, tmp_path):
        """None of them is read but those that became facts."""
        path = next(old_run.glob("checkpoint-*"))
        encoder = Reconstructor.load(old_run, device="cpu").encoder
        _, metadata = read_checkpoint(path)
        kept = ("encoder", "encoder_size")
        options = {
            k: v for k, v in metadata["config"].items() if k in kept or k.startswith("scale_")
        }
        metadata["config"] = {**options, "no_such_option": [1]}
        save_checkpoint(old_run / "checkpoint-00000002.safetensors", encoder, None, metadata)
        code = Reconstructor.load(old_run, device="cpu")(image()).pack()[0]
        torch.testing.assert_close(code, codes(), atol=2e-5, rtol=0)

    def test_exported_encoder(self, old_run):
        pytest.importorskip("onnxruntime")
        trained = Reconstructor.load(old_run, device="cpu", runtime="onnx")
        assert trained.spec.layout == SPEC.layout and trained.spec.trunk == "compact"
        torch.testing.assert_close(trained(image()).pack()[0], codes(), atol=1e-4, rtol=0)

    @pytest.mark.slow
    def test_is_exported_again(self, old_run):
        pytest.importorskip("onnxscript")
        path = export_encoder(old_run, old_run / "again.onnx")
        trained = Reconstructor.load(path, device="cpu", runtime="onnx")
        assert trained.spec.output_scale == SPEC.output_scale
        torch.testing.assert_close(trained(image()).pack()[0], codes(), atol=1e-4, rtol=0)


class TestEncoderSpec:
    def test_json_and_back(self):
        facts = json.loads(json.dumps(SPEC.to_json()))
        assert facts["schema"] == SCHEMA
        again = EncoderSpec.from_json(facts)
        assert again.to_json() == SPEC.to_json()

    def test_what_schema_1_wrote_is_read_for_good(self):
        """The text itself: checkpoints hold it, whatever `to_json` writes later."""
        text = """{"schema": 1, "trunk": "compact", "input_size": 48,
            "output_scale": {"shape": 0.3, "expression": 1.0, "albedo": 1.0, "rotation": 1.0,
                "translation_xy": 12.0, "translation_z": 60.0, "light": 1.0},
            "code": {"num_shape": 4, "num_expression": 3, "num_albedo": 5},
            "face_model":
                {"name": "cap", "hash": "9bea08a20c42f71b", "file": "/tmp/fixture/run/cap.safetensors"},
            "camera": {"image_size": 48, "focal": null, "near": 100.0, "far": 10000.0,
                "position": [0.0, 3.9, -857.9]}}"""
        spec = EncoderSpec.from_json(json.loads(text))
        assert dataclasses.replace(spec, camera=SPEC.camera) == SPEC
        assert tuple(spec.camera.position) == SPEC.camera.position

    def test_keys_of_a_later_version_are_passed_over(self):
        assert EncoderSpec.from_json({**SPEC.to_json(), "tint": 3}).to_json() == SPEC.to_json()

    def test_builds_the_encoder(self):
        encoder = SPEC.build()
        assert encoder.input_size == 48 and encoder.layout == CodeLayout(4, 3, 5)
        assert encoder(image()).shape == (1, CodeLayout(4, 3, 5).size)
        assert encoder.head.scale[-28].item() == 60.0  # the depth, before 27 numbers of light

    def test_newer_schema(self):
        with pytest.raises(
            NewerVersionError, match=r"newer mofa-nvdr \(schema 2.*up to 1\); update"
        ):
            EncoderSpec.from_json({**SPEC.to_json(), "schema": SCHEMA + 1})

    @pytest.mark.parametrize("schema", [None, "1", 0, True])
    def test_no_schema(self, schema):
        with pytest.raises(TypeError, match="the schema is .*, expected a number from 1"):
            EncoderSpec.from_json({**SPEC.to_json(), "schema": schema})

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"code": {**SPEC.to_json()["code"], "num_shape": -1}}, ValueError, "num_shape is -1, expec"),
            ({"code": {**SPEC.to_json()["code"], "num_shape": 2**40}}, ValueError, "expected 0 to 4096"),
            ({"input_size": True}, ValueError, "input_size is True, expected 0 to 2048"),
            ({"output_scale": {"shape": math.inf}}, ValueError, "inf, expected a finite number"),
            ({"face_model": {**SPEC.to_json()["face_model"], "name": 3}}, TypeError, "are texts"),
            ({"camera": {**SPEC.to_json()["camera"], "image_size": 20000}}, ValueError, "image_size"),
        ],
    )  # fmt: skip
    def test_facts_of_other_kinds(self, change, error, message):
        with pytest.raises(error, match=message):
            EncoderSpec.from_json({**SPEC.to_json(), **change})

    @pytest.mark.parametrize("key", ["trunk", "input_size", "output_scale", "code", "camera"])
    def test_missing_fact(self, key):
        facts = SPEC.to_json()
        del facts[key]
        with pytest.raises(KeyError, match=key):
            EncoderSpec.from_json(facts)
