"""An exported encoder (.onnx) and its facts, run by ONNX Runtime: image to code without torch's network.

The file takes `image` [B, 3, H, W], RGB in [0, 1], row 0 at the top, of any size: resizing and
normalisation are in the graph. It gives the code's parts by name (`OUTPUTS`), in the code's units.
What a program needs around it (camera, framing of the crop, face model) is in the file's metadata.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks.spec import EncoderSpec, NewerVersionError

FORMAT = "mofa-nvdr encoder 1"
FILE = "encoder.onnx"  # in a run folder
INPUT = "image"
OUTPUTS = tuple(CodeLayout().sizes)
# What of the metadata is JSON for this program; the rest is text for people.
JSON_FACTS = ("schema", "input_size", "output_scale", "code", "face_model", "camera", "step")


def require(*modules: str) -> list[Any]:
    """Import modules of the extra `[onnx]`.

    Raises:
        RuntimeError: one is not installed; the message holds the install line.
    """
    found, missing = [], []
    for name in modules:
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            missing.append(name)
    if missing:
        raise RuntimeError(f"{', '.join(missing)}: not installed; pip install 'mofa-nvdr[onnx]'")
    return found


def dump_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """An encoder's facts as ONNX metadata: texts as they are, everything else as JSON."""
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in facts.items()}
    return {"format": FORMAT, **texts}


class OnnxEncoder:
    """Images [B, 3, H, W], RGB in [0, 1], to codes [B, layout.size], as `Encoder` gives them.

    ONNX Runtime works on the CPU, on as many threads as torch had when the file was opened.

    Args:
        source: .onnx file of `mofa-nvdr export-encoder`, or its bytes.

    Attributes:
        layout: the code's parts.
        spec: what one must know to use it.
        metadata: the file's facts, "step" and others.
        step: training steps of the checkpoint that was exported.

    Raises:
        ValueError: no such file, damaged, or not an encoder of this package; one line.
        RuntimeError: ONNX Runtime is not installed.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        (onnxruntime,) = require("onnxruntime")
        self._name = "exported encoder" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise ValueError(f"{source}: no such file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # what goes wrong is said below
        model = source if isinstance(source, bytes) else str(source)
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has a dozen exceptions of its own
            raise ValueError(f"{self._name}: not a readable ONNX model ({_line(error)})") from None
        texts = self._session.get_modelmeta().custom_metadata_map
        self.metadata, spec = self._read_facts(texts)
        self.step: int = self.metadata["step"]
        shapes = {value.name: value.shape for value in self._session.get_outputs()}
        inputs = [value.name for value in self._session.get_inputs()]
        if inputs != [INPUT] or tuple(shapes) != OUTPUTS:
            raise ValueError(
                f"{self._name}: takes {', '.join(inputs)} and gives {', '.join(shapes)}, expected "
                f"{INPUT} and {', '.join(OUTPUTS)}; export it again"
            )
        self.layout = CodeLayout(*(shapes[part][1] for part in OUTPUTS[:3]))
        self.spec = dataclasses.replace(spec, layout=self.layout)

    def _read_facts(self, texts: Mapping[str, str]) -> tuple[dict[str, Any], EncoderSpec]:
        if texts.get("format") != FORMAT:
            raise ValueError(
                f"{self._name}: the file's metadata does not say {FORMAT!r}; expected a file of "
                "mofa-nvdr export-encoder"
            )
        facts: dict[str, Any] = dict(texts)
        try:
            for key in JSON_FACTS:
                if key in texts:
                    facts[key] = json.loads(texts[key])
            if not isinstance(facts["step"], int):
                raise ValueError("step")
            return facts, EncoderSpec.of_onnx(facts)
        except NewerVersionError as error:
            raise ValueError(f"{self._name}: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self._name}: damaged metadata ({error}); export it again") from None

    def __call__(self, images: Tensor) -> Tensor:
        """Codes [B, layout.size], float32, on the images' device.

        Raises:
            ValueError: not float images [B, 3, H, W].
            RuntimeError: ONNX Runtime fails.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"OnnxEncoder: images are {list(images.shape)} {images.dtype}, expected floats "
                "[B, 3, H, W] in [0, 1]"
            )
        array = images.detach().to("cpu", torch.float32).contiguous().numpy()
        try:
            parts = self._session.run(list(OUTPUTS), {INPUT: array})
        except Exception as error:  # see above
            raise RuntimeError(f"{self._name}: ONNX Runtime fails: {_line(error)}") from None
        code = np.concatenate([part.reshape(len(array), -1) for part in parts], axis=1)
        return torch.from_numpy(code).to(images.device)


def find_onnx_encoder(run: str | Path) -> Path:
    """The .onnx file itself, or that of a run folder.

    Raises:
        ValueError: no such file or folder, or a folder without an exported encoder.
    """
    path = Path(run)
    if path.is_dir():
        if not (path / FILE).is_file():
            raise ValueError(
                f"--checkpoint {run}: no {FILE} in this folder; make it with "
                f"mofa-nvdr export-encoder {run}"
            )
        return path / FILE
    if not path.is_file():
        raise ValueError(f"--checkpoint {run}: no such run folder or .onnx file")
    if path.suffix != ".onnx":
        raise ValueError(
            f"--checkpoint {run}: --runtime onnx takes an .onnx file or a run folder with {FILE} in "
            f"it; make one with mofa-nvdr export-encoder {run}"
        )
    return path


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
