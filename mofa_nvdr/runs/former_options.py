"""Former options: what each is called now, and what replaces those that are gone.

Runs keep their options in config.yaml and in checkpoints; before the groups they were flat. They are
translated here, so that such a run resumes, unless it was trained with an option that no longer exists. An
option that is renamed or retired later is listed here too, by its whole name ("loss.mirror").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Flat name -> name now.
RENAMED = {
    **{key: f"run.{key}" for key in
       ("steps", "out", "face_model", "seed", "device", "threads", "stop_after_skips")},
    "render_mode": "render.mode", "raster_gradient": "render.gradient",
    "outline_gradient": "render.outline",
    "data": "data.path",
    **{key: f"data.{key}" for key in ("image_size", "batch_size", "flip")},
    **{f"augment_{key}": f"augment.{key}" for key in ("color", "blur", "noise", "jpeg", "occlude")},
    **{f"synthetic_{key}": f"synthetic.{key}" for key in ("surroundings", "pose", "size", "lights")},
    "encoder": "encoder.network",
    **{f"encoder_{key}": f"encoder.{key}" for key in ("weights", "size", "precision")},
    **{f"scale_{key}": f"encoder.scale.{key}" for key in
       ("shape", "expression", "albedo", "rotation", "light")},
    "scale_xy": "encoder.scale.translation_xy", "scale_z": "encoder.scale.translation_z",
    "optimizer": "optimizer.name",
    **{key: f"optimizer.{key}" for key in
       ("learning_rate", "translation_z_rate", "weight_decay", "clip_gradient")},
    **{key: f"schedule.{key}" for key in
       ("warm_start_steps", "rate_after_warm_start", "freeze_norm", "warmup_steps")},
    "schedule": "schedule.decay",
    **{f"weight_{key}": f"loss.{key}" for key in
       ("photometric", "landmark", "regularizer", "albedo", "expression", "pose_prior", "anchor", "mirror",
        "decoded", "synthetic")},
    **{key: f"loss.{key}" for key in ("anchor_photographs", "gain_shape", "gain_expression")},
    **{key: f"report.{key}" for key in
       ("log_every", "val_every", "val_images", "sheet_every", "checkpoint_every", "keep_checkpoints",
        "best_measure")},
}  # fmt: skip

# Flat name -> the values that mean what is done now, and what replaces the others.
RETIRED: dict[str, tuple[tuple[float, ...], str]] = {
    "pose_from_step": ((0,), "schedule.warm_start_steps teaches the pose before the photographs"),
    "shape_from_step": ((0,), "schedule.warm_start_steps teaches the shape before the photographs"),
    "landmark_steps": ((0,), "two runs: one with loss.landmark, and one that continues without"),
    "landmark_unit": ((60.0,), "loss.landmark: its weight times (60 / unit) squared is the same"),
    "weight_raster": ((0.5,), "render.mode: raster, vertex, or both, the mean of the two"),
    "weight_vertex": ((0.5,), "render.mode: raster, vertex, or both, the mean of the two"),
    "synthetic_share": ((0.0, 0.5), "loss.synthetic alone: there are half as many as photographs"),
}


def is_flat(values: Mapping[str, Any]) -> bool:
    """Whether a run's options are flat."""
    return any(not isinstance(value, dict) for value in values.values())


def modern_name(key: str) -> str:
    """For a former, flat option: what it is now, as words; empty: it was never an option."""
    if key in RENAMED:
        return f"{key!r} is {RENAMED[key]!r} now"
    if key in RETIRED:
        return f"{key!r} is retired; what replaces it: {RETIRED[key][1]}"
    return ""


def translate(values: Mapping[str, Any]) -> dict[str, Any]:
    """Flat options by their names now.

    Raises:
        ValueError: retired options had values that are no longer supported; all are named.
    """
    gone = [
        f"--{key.replace('_', '-')} {values[key]} is retired; what replaces it: {words}"
        for key, (kept, words) in RETIRED.items()
        if key in values and values[key] not in kept
    ]
    if gone:
        raise ValueError("; ".join(gone))
    return {RENAMED.get(key, key): value for key, value in values.items() if key not in RETIRED}
