"""Trained runs as rows of a table of measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mofa_nvdr.runs.checkpoint import find_checkpoint
from mofa_nvdr.runs.trained import Reconstructor

_ONE, _SHIPPED = "this encoder", "shipped"


def load_rows(
    checkpoints: Sequence[str], face_model: str = "", device: str = "auto"
) -> dict[str, Reconstructor]:
    """Runs by the names of their rows: a single one is "this encoder", of several each is called as given.

    Args:
        checkpoints: run folders or checkpoint files; empty, or an empty name: the encoder in the package.
        face_model: as `Reconstructor.load` takes it.
        device: likewise.

    Raises:
        ValueError: a run is given twice, or one that cannot be loaded.
        RuntimeError: CUDA asked for where there is none.
    """
    names = [given or _SHIPPED for given in checkpoints or [""]]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"evaluate: {twice[0]} is given twice")
    for run in filter(None, checkpoints):
        find_checkpoint(run, "evaluate")  # runs have no flag here
    loaded = [Reconstructor.load(run, face_model, device) for run in checkpoints or [""]]
    return dict(zip(names if len(names) > 1 else [_ONE], loaded))


def one_face_model(runs: Mapping[str, Reconstructor]) -> str:
    """The name of the face model that all runs have.

    Raises:
        ValueError: they have several.
    """
    found = {run.decoder.model.hash: run.decoder.model.name for run in runs.values()}
    if len(found) > 1:
        raise ValueError(
            f"evaluate: runs of the face models {', '.join(found.values())}; rendered people are of one, so "
            "give runs of one, or photographs (--on FOLDER)"
        )
    return next(iter(found.values()))


def facts_of(runs: Mapping[str, Reconstructor]) -> dict[str, Any]:
    """What identifies runs, for `Measured.facts`."""
    return {
        "encoders": {
            name: {
                "file": run.path.name,
                "step": int(run.metadata["step"]),
                "face_model": run.decoder.model.name,
                "face_model_hash": run.decoder.model.hash,
            }
            for name, run in runs.items()
        }
    }
