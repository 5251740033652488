"""The face that was learned from portraits: the built-in mesh and expressions, people's shapes and colours.

`mofa-nvdr model learn` made it (assets/portraits_face.md says from what); `write_portraits` keeps of it what
differs from the built-in face.
"""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path

import numpy as np

from mofa_nvdr.face.compact import pack, read_packed, unpack, write_packed
from mofa_nvdr.face.recipe import load_product
from mofa_nvdr.system.budget import printable

PORTRAITS_FILE = "portraits_face.npz"
# Quantisation steps: a tenth of a pixel's width at 240 px is 0.08 mm, a byte of a channel 0.004.
_STEPS = {
    "mean_shape": 0.004,
    "mean_albedo": 0.001,
    "shape_basis": 0.01,
    "albedo_basis": 0.001,
}
_KEPT = ("name", "version", "licence", "source", "origin", "same_codes")


def write_portraits(
    path: str | Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Keep a learned face in little space.

    Args:
        path: .npz file, written atomically.
        arrays: of a face model that was learned from the built-in one.
        metadata: of the model.

    Raises:
        ValueError: the model has another mesh or other expressions than the built-in face.
    """
    built_in = load_product()
    for name in ("triangles", "landmarks", "mirror_index", "frontal_mask", "expression_basis"):
        if arrays[name].shape != built_in[name].shape or (arrays[name] != built_in[name]).any():
            raise ValueError(f"write_portraits: {name} is not the built-in face's")
    stored = pack(arrays, built_in["mirror_index"], _STEPS)
    facts = {key: metadata[key] for key in _KEPT if key in metadata}
    stored["metadata"] = np.array(json.dumps(facts))
    write_packed(path, stored)


def load_portraits(path: str | Path | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a file of `write_portraits`; None: the shipped one."""
    committed = importlib.resources.files("mofa_nvdr.assets") / PORTRAITS_FILE
    stored = read_packed(committed.read_bytes() if path is None else Path(path).read_bytes())
    arrays = load_product(without=tuple(_STEPS))
    arrays |= unpack(stored, arrays["mirror_index"], _STEPS)
    facts = json.loads(str(stored["metadata"]))
    return arrays, {key: printable(str(value)) for key, value in facts.items()}
