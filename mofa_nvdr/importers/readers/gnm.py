"""Google's GNM head (gnm_head.npz, version 3): metres, y up, z out of the face, modes of one deviation.

Teeth and tongue are left out, and so is the opaque outer shell of the eyeballs, which hides the irises.
What remains of the modes is made orthogonal again and ordered by variance: in the file the eyes' come first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mofa_nvdr.importers.files.containers import (
    npz_names,
    numbers,
    read_npz,
    triangle_table,
)
from mofa_nvdr.importers.foreign import ForeignModel, ImportOptions, check_mode_count
from mofa_nvdr.importers.landmark_points import known_landmarks
from mofa_nvdr.importers.modes import principal_modes
from mofa_nvdr.system.budget import printable

_MM = 1000.0
_WANTED = ["template_vertex_positions", "vertex_identity_basis", "expression_basis", "triangles"]
_OPTIONAL = ("vertex_groups", "vertex_group_names", "version")
_LEFT_BEHIND = ("teeth", "gum", "tongue", "eye_exterior", "eyeball_exterior")


def looks_like(path: Path) -> bool:
    """Whether this is an .npz with GNM's arrays."""
    return {"template_vertex_positions", "vertex_identity_basis"} <= npz_names(path)


def read(path: Path, options: ImportOptions) -> ForeignModel:
    """Read gnm_head.npz.

    Raises:
        ModelFileError: not such a file.
    """
    data = read_npz(path, _WANTED, _OPTIONAL)
    mean = numbers(path, _WANTED[0], data[_WANTED[0]], (None, 3)) * _MM
    identity = numbers(path, _WANTED[1], data[_WANTED[1]], (None, len(mean), 3))
    expression = numbers(path, _WANTED[2], data[_WANTED[2]], (None, len(mean), 3))
    for name, modes in (("identity", identity), ("expression", expression)):
        check_mode_count(path, name, len(modes))
    triangles = triangle_table(path, "triangles", data["triangles"])
    gone = _left_behind(path, data, len(mean))
    if triangles.size and 0 <= triangles.min() and triangles.max() < len(mean):
        triangles = triangles[~gone[triangles].any(1)]
    kept = ~gone[None, :, None]
    shape, share = principal_modes(identity * kept * _MM, options.shape_modes)
    motion, motion_share = principal_modes(expression * kept * _MM, options.expression_modes)
    version = printable(data["version"] if "version" in data else 3, 20)
    return ForeignModel(
        name="gnm",
        licence="Apache-2.0 (Google)",
        source=f"GNM head {version} (github.com/google/GNM)",
        mean=mean,
        shape=shape,
        polygons=triangles,
        expression=motion,
        landmarks=known_landmarks("gnm", len(mean), options.landmarks),
        notes=[
            f"{int(gone.sum())} vertices of teeth, tongue and outer eyeballs left out",
            f"{len(identity)} identity modes: {len(shape)} orthogonal ones keep {share:.2%} of the "
            f"variance; {len(expression)} expression modes: {len(motion)} keep {motion_share:.2%}",
        ],
    )


def _left_behind(path: Path, data: dict[str, np.ndarray], count: int) -> np.ndarray:
    """[V] bool: vertices of the groups that are not taken."""
    gone = np.zeros(count, bool)
    if "vertex_groups" not in data or "vertex_group_names" not in data:
        return gone
    groups = numbers(path, "vertex_groups", data["vertex_groups"], (None, count))
    names = [str(name) for name in np.asarray(data["vertex_group_names"]).ravel()]
    for name, group in zip(names, groups):
        if any(part in name for part in _LEFT_BEHIND):
            gone |= group > 0.5
    return gone
