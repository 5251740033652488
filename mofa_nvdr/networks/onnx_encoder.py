"""An exported encoder (.onnx) and its facts, run by ONNX Runtime: image to code without torch's network.

The file takes `image` [B, 3, H, W], RGB in [0, 1], row 0 at the top, of any size: resizing and
normalisation are in the graph. It gives the code's parts by name (`OUTPUTS`), in the code's units.
What a program needs around it (camera, framing of the crop, face model) is in the file's metadata.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks.onnx_wire import NotOnnx, names_other_files
from mofa_nvdr.networks.spec import EncoderSpec, NewerVersionError
from mofa_nvdr.system.budget import MOST_MODES, Budget, printable, words_of

FORMAT = "mofa-nvdr encoder 1"
FILE = "encoder.onnx"  # in a run folder
INPUT = "image"
OUTPUTS = tuple(CodeLayout().sizes)
_SMALL = 64 * 2**20  # bytes of a file; those of larger networks may take what they need
_MOST_MEMORY = 768 * 2**20  # bytes of the others' arrays, together
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
        spec: the facts needed to use it.
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
        options.log_severity_level = 4  # what goes wrong is said below
        try:
            model = source if isinstance(source, bytes) else _read(Path(source))
            if names_other_files(model):
                raise NotOnnx("its weights are in other files, which are not read; export it again")
            if len(model) <= _SMALL:
                _limit_memory(onnxruntime)
                options.add_session_config_entry("session.use_env_allocators", "1")
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
            self._run_options = onnxruntime.RunOptions()
            self._run_options.log_severity_level = 4
            # Their texts are decoded here, and may be none.
            texts = self._session.get_modelmeta().custom_metadata_map
            shapes = {value.name: value.shape for value in self._session.get_outputs()}
            inputs = [value.name for value in self._session.get_inputs()]
        except Exception as error:  # ONNX Runtime has a dozen exceptions of its own
            raise ValueError(f"{self._name}: not a readable ONNX model ({_line(error)})") from None
        self.metadata, spec = self._read_facts(texts)
        self.step: int = self.metadata["step"]
        if inputs != [INPUT] or tuple(shapes) != OUTPUTS:
            raise ValueError(
                f"{self._name}: takes {printable(', '.join(inputs), 200)} and gives "
                f"{printable(', '.join(shapes), 200)}, expected "
                f"{INPUT} and {', '.join(OUTPUTS)}; export it again"
            )
        given = [shape[1] if len(shape) > 1 else None for shape in shapes.values()]
        sizes = [n for n in given if isinstance(n, int) and 0 <= n <= MOST_MODES]
        if len(sizes) < len(given):
            raise ValueError(
                f"{self._name}: gives arrays of {printable(list(shapes.values()), 200)}, expected "
                "[batch, size, ...] of each part of a code; export it again"
            )
        self.layout = CodeLayout(*sizes[:3])
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
            if isinstance(facts["step"], bool) or not isinstance(facts["step"], int):
                raise ValueError("step")
            return facts, EncoderSpec.of_onnx(facts)
        except NewerVersionError as error:
            raise ValueError(f"{self._name}: {error}") from None
        except (
            ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise ValueError(
                f"{self._name}: damaged metadata ({words_of(error)}); export it again"
            ) from None

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
            parts = self._session.run(list(OUTPUTS), {INPUT: array}, self._run_options)
        except Exception as error:  # see above
            raise RuntimeError(f"{self._name}: ONNX Runtime fails: {_line(error)}") from None
        expected = [len(array) * size for size in self.layout.sizes.values()]
        if [part.size for part in parts] != expected:
            found = printable([list(part.shape) for part in parts], 200)
            raise RuntimeError(f"{self._name}: gives arrays of {found}; export it again")
        code = np.concatenate([part.reshape(len(array), -1) for part in parts], axis=1)
        return torch.from_numpy(code).to(images.device)


def _read(path: Path) -> bytes:
    Budget(path)
    return path.read_bytes()


@functools.cache
def _limit_memory(onnxruntime: Any) -> None:
    """Give the sessions of small files one arena with an end: a graph may ask for arrays of any size."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    where = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    settings = {"max_mem": _MOST_MEMORY, "arena_extend_strategy": 1, "initial_chunk_size_bytes": -1,
                "max_dead_bytes_per_chunk": -1}  # fmt: skip
    onnxruntime.create_and_register_allocator(where, onnxruntime.OrtArenaCfg(settings))


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
    return words_of(error, 300)
