"""The facts needed to use a trained encoder, apart from the options of its training.

Checkpoints and exported encoders keep these facts under a schema number of their own, so that a run can
always be opened, whatever happens to the options that it was trained with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.encoder import HEAD_PARTS, Encoder, build_encoder
from mofa_nvdr.networks.trunks import TRUNKS
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.budget import MOST_MODES, MOST_SIDE, printable

SCHEMA = 1
# Of checkpoints without a schema: output scale of a part of the code -> the option that held it.
_SCALE_OPTIONS = {
    "shape": "scale_shape",
    "expression": "scale_expression",
    "albedo": "scale_albedo",
    "rotation": "scale_rotation",
    "translation_xy": "scale_xy",
    "translation_z": "scale_z",
    "light": "scale_light",
}


class NewerVersionError(ValueError):
    """A file of a newer version of this package; the message says to update it."""


@dataclass(frozen=True)
class EncoderSpec:
    """A trained encoder without its weights.

    Attributes:
        trunk: name of the network (encoder.NETWORKS).
        input_size: side in pixels at which the trunk sees the image; None: the image's own.
        output_scale: part of encoder.HEAD_PARTS -> what one unit of the last layer's output means.
        layout: the code's parts.
        face_model: which model the codes are of.
        camera: the camera of the training; its image size is the side of the crops.
    """

    trunk: str
    input_size: int | None
    output_scale: Mapping[str, float]
    layout: CodeLayout
    face_model: ModelReference
    camera: Camera

    def build(self) -> Encoder:
        """The encoder with random weights, which those of a checkpoint then replace.

        Raises:
            ValueError: a trunk or a part that this version does not know, or a size that is too small.
        """
        return build_encoder(
            self.trunk, self.layout, output_scale=self.output_scale, input_size=self.input_size
        )

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON, with their schema number."""
        return {
            "schema": SCHEMA,
            "trunk": self.trunk,
            "input_size": self.input_size,
            "output_scale": dict(self.output_scale),
            "code": dataclasses.asdict(self.layout),
            "face_model": dataclasses.asdict(self.face_model),
            "camera": dataclasses.asdict(self.camera),
        }

    @staticmethod
    def from_json(facts: Mapping[str, Any]) -> EncoderSpec:
        """The opposite of `to_json`. Keys that this version does not know are passed over.

        Raises:
            NewerVersionError: a schema of a newer version.
            KeyError: a fact is missing.
            TypeError, ValueError: a fact is not what it should be.
        """
        check_schema(facts.get("schema"))
        size = facts["input_size"]
        return EncoderSpec(
            trunk=str(facts["trunk"]),
            input_size=None if size is None else _size("input_size", size, MOST_SIDE),
            output_scale={part: _finite(part, facts["output_scale"][part]) for part in HEAD_PARTS},
            layout=_layout(facts["code"]),
            face_model=_reference(facts["face_model"]),
            camera=_camera(facts["camera"]),
        )

    @staticmethod
    def of_checkpoint(metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> EncoderSpec:
        """The facts of a checkpoint's metadata; of one from before the schema, from its options.

        Args:
            metadata: of checkpoint.read_checkpoint.
            tensors: the checkpoint's, of which the last layer tells the code's sizes.

        Raises:
            NewerVersionError: a schema of a newer version.
            KeyError: a fact is missing.
            TypeError: a fact is not what it should be.
        """
        if "encoder" in metadata:
            return EncoderSpec.from_json(metadata["encoder"])
        options = metadata["config"]
        trunk, size = str(options["encoder"]), _size("encoder_size", options["encoder_size"])
        rows = {p: len(tensors[f"encoder/head.parts.{p}.bias"]) for p in HEAD_PARTS[:3]}
        return EncoderSpec(
            trunk=trunk,
            input_size=size or TRUNKS[trunk].INPUT_SIZE,
            output_scale={p: _finite(key, options[key]) for p, key in _SCALE_OPTIONS.items()},
            layout=CodeLayout(*rows.values()),
            face_model=_reference(metadata["face_model"]),
            camera=_camera(metadata["camera"]),
        )

    @staticmethod
    def of_onnx(facts: Mapping[str, Any]) -> EncoderSpec:
        """The facts of an exported encoder's metadata; one from before the schema lacks sizes and scales.

        Raises:
            NewerVersionError: a schema of a newer version.
            KeyError: a fact is missing.
            TypeError: a fact is not what it should be.
        """
        if "schema" in facts:
            return EncoderSpec.from_json(facts)
        face_model, camera = _reference(facts["face_model"]), _camera(facts["camera"])
        return EncoderSpec(
            str(facts.get("encoder", "")), None, {}, CodeLayout(), face_model, camera
        )


def _size(name: str, value: Any, most: int = MOST_SIDE) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} is {printable(value, 40)}, expected 0 to {most}")
    return value


def _finite(name: str, value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}, expected a finite number")
    return number


def _layout(facts: Mapping[str, Any]) -> CodeLayout:
    return CodeLayout(**{name: _size(name, count, MOST_MODES) for name, count in facts.items()})


def _reference(facts: Mapping[str, Any]) -> ModelReference:
    if not all(isinstance(value, str) for value in facts.values()):
        raise TypeError("the face model's name, hash and file are texts")
    return ModelReference(**{name: printable(value) for name, value in facts.items()})


def _camera(facts: Mapping[str, Any]) -> Camera:
    """A camera whose pictures this machine can hold, whatever is in the file."""
    camera = Camera(**facts)
    for side in camera.size:
        _size("the camera's image_size", side)
    return camera


def check_schema(number: Any) -> None:
    """Raise for facts of a newer version than this one, or for what is no schema number.

    Raises:
        NewerVersionError: of a newer version.
        TypeError: no whole number from 1.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise TypeError(f"the schema is {number!r}, expected a number from 1")
    if number > SCHEMA:
        raise NewerVersionError(
            f"written by a newer mofa-nvdr (schema {number}, this one reads up to {SCHEMA}); update it"
        )
