"""What a face model is, in numbers: for `mofa-nvdr model info` and for programs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.topology import topology

MODE_COUNTS = (10, 20, 40, 80)
_GROUPS = {"shape": "mm", "expression": "mm", "albedo": ""}
_SHOWN = ("name", "version", "licence", "source", "units")


def describe(model: FaceModel) -> dict[str, Any]:
    """The facts of a model as plain numbers, texts, lists and dicts, ready for JSON.

    The variance of a group of modes is that of all its coordinates together, as coefficients are independent
    and standard normal: the sum of the squared basis. `explained` says which share of it the first 10, 20,
    40 and 80 modes have, in the model's order; `deviation` is the root mean square displacement of a vertex
    (mm) or of a colour channel.

    Args:
        model: any face model.
    """
    mean = model.mean_shape.double()
    extent = (mean.amax(0) - mean.amin(0)).tolist()
    facts: dict[str, Any] = {key: model.metadata.get(key, "") for key in _SHOWN}
    facts.update(
        hash=model.hash,
        metadata={k: v for k, v in model.metadata.items() if k not in _SHOWN},
        vertices=model.num_vertices,
        triangles=len(model.triangles),
        frontal_vertices=int(model.frontal_mask.sum()),
        code_size=model.layout.size,
        extent_mm=dict(zip(("width", "height", "depth"), (round(e, 2) for e in extent))),
        mesh=_mesh(model),
        mean_edge_mm=round(_mean_edge(mean, model.triangles.long()), 3),
        albedo_range=[
            round(float(v), 4) for v in (model.mean_albedo.min(), model.mean_albedo.max())
        ],
        modes={
            name: _group(getattr(model, f"{name}_basis"), unit) for name, unit in _GROUPS.items()
        },
        landmarks=_landmarks(model),
        named_expressions=list(model.named_expressions),
        regions=_regions(model),
        uv=_uv(model),
    )
    return facts


def _mesh(model: FaceModel) -> dict[str, Any]:
    facts = topology(model.triangles)
    return {
        "manifold": facts.is_manifold,
        "oriented": facts.is_oriented,
        "pieces": facts.num_components,
        "boundary_edges": facts.num_boundary_edges,
        "unused_vertices": model.num_vertices - facts.num_vertices,
    }


def _mean_edge(vertices: Tensor, triangles: Tensor) -> float:
    corners = vertices[triangles]
    return float((corners - corners.roll(1, dims=1)).norm(dim=-1).mean())


def _group(basis: Tensor, unit: str) -> dict[str, Any]:
    variance = basis.double().square().sum((1, 2)).cpu().numpy()
    total, count = float(variance.sum()), len(variance)
    share = np.cumsum(variance) / total if total > 0 else np.zeros(count)
    # Over 3 coordinates a vertex is displaced by the root of their sum; a channel is taken alone.
    values = basis.shape[1] if unit else basis[0].numel() if count else 1
    return {
        "count": count,
        "unit": unit,
        "deviation": round(float(np.sqrt(total / max(values, 1))), 5),
        "explained": {str(n): round(float(share[n - 1]), 5) for n in MODE_COUNTS if n <= count}
        | ({str(count): 1.0} if count and total > 0 and count not in MODE_COUNTS else {}),
    }


def _landmarks(model: FaceModel) -> dict[str, Any]:
    places = model.mean_shape[model.landmarks]
    outer = float((places[36] - places[45]).norm())
    return {
        "count": len(model.landmarks),
        "distinct": len(torch.unique(model.landmarks)),
        "between_outer_eye_corners_mm": round(outer, 2),
    }


def _regions(model: FaceModel) -> dict[str, int]:
    """Region -> number of its vertices."""
    if model.regions is None:
        return {}
    counts = torch.bincount(model.regions.long(), minlength=len(model.region_names)).tolist()
    return dict(zip(model.region_names, counts))


def _uv(model: FaceModel) -> dict[str, Any] | None:
    if model.uv is None:
        return None
    corners = model.uv.double()[
        (model.triangles if model.uv_triangles is None else model.uv_triangles).long()
    ]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).abs().sum() / 2)
    return {
        "count": len(model.uv),
        "seams": model.uv_triangles is not None,
        "triangle_area": round(area, 4),  # of the unit square; more than 1: triangles overlap
    }


def table(facts: dict[str, Any]) -> str:
    """The facts of `describe` as lines for people, two columns."""
    mesh, extent, marks = facts["mesh"], facts["extent_mm"], facts["landmarks"]
    rows = [(key, facts[key] or "not given") for key in _SHOWN[:-1]]
    rows += [
        ("hash", f"{facts['hash']} (parameters and checkpoints name it)"),
        *facts["metadata"].items(),
        (
            "mesh",
            f"{facts['vertices']:,} vertices ({facts['frontal_vertices']:,} frontal), "
            f"{facts['triangles']:,} triangles, mean edge {facts['mean_edge_mm']:.2f} mm",
        ),
        (
            "",
            f"{'manifold' if mesh['manifold'] else 'not manifold'}, {_count(mesh['pieces'], 'piece')}, "
            f"{mesh['boundary_edges']:,} boundary edges"
            + (f", {mesh['unused_vertices']:,} unused vertices" if mesh["unused_vertices"] else ""),
        ),
        (
            "extent",
            f"{extent['width']:.1f} x {extent['height']:.1f} x {extent['depth']:.1f} mm "
            f"(width, height, depth); units: {facts['units']}",
        ),
        ("mean albedo", "{:.3f} to {:.3f} (gamma-encoded sRGB)".format(*facts["albedo_range"])),
        ("code", f"{facts['code_size']} numbers"),
    ]
    for name, group in facts["modes"].items():
        unit = f" {group['unit']} a vertex" if group["unit"] else " a channel"
        shares = ", ".join(f"{n}: {100 * v:.1f} %" for n, v in group["explained"].items())
        text = f"{_count(group['count'], 'mode')}, deviation {group['deviation']:.3g}{unit}"
        rows.append((name, f"{text}; variance of the first {shares}" if shares else text))
    rows.append((
        "landmarks",
        f"{marks['count']}, {marks['between_outer_eye_corners_mm']:.1f} mm between the outer eye corners",
    ))  # fmt: skip
    names = facts["named_expressions"]
    rows.append(
        ("expressions", f"{len(names)} named: {', '.join(names)}" if names else "none named")
    )
    regions = ", ".join(f"{name} {count:,}" for name, count in facts["regions"].items())
    rows.append(("regions", regions or "none"))
    uv = facts["uv"]
    rows.append((
        "texture",
        "no coordinates" if uv is None else
        f"{uv['count']:,} coordinates, {'with' if uv['seams'] else 'without'} seams, "
        f"{100 * uv['triangle_area']:.0f} % of the square used",
    ))  # fmt: skip
    width = max(len(key) for key, _ in rows)
    return "\n".join(_wrapped(key.ljust(width), text) for key, text in rows)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _wrapped(head: str, text: str) -> str:
    import textwrap

    lines = textwrap.wrap(text, 100 - len(head) - 2) or [""]
    return "\n".join(
        f"{head if k == 0 else ' ' * len(head)}  {line}" for k, line in enumerate(lines)
    )


def as_json(facts: dict[str, Any]) -> str:
    """The facts as indented JSON."""
    return json.dumps(facts, indent=2)
