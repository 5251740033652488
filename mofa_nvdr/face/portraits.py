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
from mofa_nvdr.face.recipe.layout import REGION_NAMES
from mofa_nvdr.system.budget import printable

PORTRAITS_FILE = "portraits_face.npz"
# Quantisation steps: a tenth of a pixel's width at 240 px is 0.08 mm, a byte of a channel 0.004.
_STEPS = {
    "mean_shape": 0.004,
    "mean_albedo": 0.001,
    "shape_basis": 0.01,
    "albedo_basis": 0.001,
}
# Upper teeth of the mean face, top to bottom: their height in mm. The procedural face's are short and follow
# the lips' line, and a smile showed a dark gap below them.
_UPPER_TEETH = (-31.0, -36.5, -42.6)
_SMILE_ARC = 1.0 / 16**2  # the row rises to the sides: mm a mm^2
_FLAT, _AT_LIPS = (
    13.0,
    17.5,
)  # mm from the middle: within, the heights above; from there on, as they were
# Of the procedural colours: light falls on teeth between two lips, and the throat is not black.
_TEETH_SHADE, _GAP_SHADE, _GUM_SHADE = 0.80, 0.92, 0.75
_GAPS = (0.0, 8.6, 15.2)  # mm from the middle, between two teeth
_THROAT = np.array([0.20, 0.08, 0.07], np.float32)
_DARK = 0.35  # the mouth's inside: the throat below this sum of channels, the gums above

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


def with_teeth(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A face of the built-in mesh, whose teeth are the procedural face's, with longer and darker ones.

    Photographs say nothing of them: lips were fitted over teeth. Set by eye, on smiles of the portraits.

    Args:
        arrays: of a face model; `mean_shape` and `mean_albedo` of the result are others.
    """
    shape, albedo = arrays["mean_shape"].copy(), arrays["mean_albedo"].copy()
    regions = arrays["regions"]
    teeth = np.flatnonzero(regions == REGION_NAMES.index("teeth"))
    rows = teeth.reshape(5, -1)  # three of the upper jaw, two of the lower
    for row, height in zip(rows, _UPPER_TEETH):
        x = shape[row, 0]
        share = np.clip((_AT_LIPS - np.abs(x)) / (_AT_LIPS - _FLAT), 0, 1)
        share = share * share * (3 - 2 * share)
        shape[row, 1] += share * (height + _SMILE_ARC * x**2 - shape[row, 1])
    albedo[teeth] *= _TEETH_SHADE
    spacing = np.abs(np.diff(np.sort(shape[rows[0], 0]))).max()
    for gap in _GAPS:
        near = np.abs(np.abs(shape[teeth, 0]) - gap) < spacing / 2
        albedo[teeth[near]] *= _GAP_SHADE
    inside = np.flatnonzero(regions == REGION_NAMES.index("mouth"))
    dark = albedo[inside].sum(1) < _DARK
    albedo[inside[dark]] = _THROAT
    albedo[inside[~dark]] *= _GUM_SHADE
    return arrays | {"mean_shape": shape, "mean_albedo": albedo}


def load_portraits(path: str | Path | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a file of `write_portraits`; None: the shipped one."""
    committed = importlib.resources.files("mofa_nvdr.assets") / PORTRAITS_FILE
    stored = read_packed(committed.read_bytes() if path is None else Path(path).read_bytes())
    arrays = load_product(without=tuple(_STEPS))
    arrays |= unpack(stored, arrays["mirror_index"], _STEPS)
    facts = json.loads(str(stored["metadata"]))
    return arrays, {key: printable(str(value)) for key, value in facts.items()}
