"""Run folders: runs/00003-NAME/ with the resolved configuration, log.jsonl, pictures and checkpoints."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mofa_nvdr.runs.checkpoint import CheckpointError, list_checkpoints, read_metadata
from mofa_nvdr.runs.config import (
    OUT_MAY_CHANGE,
    RESUME_MAY_CHANGE,
    config_of,
    dump_config,
    load_run_config,
)
from mofa_nvdr.runs.options import ConfigError, TrainConfig, flag, options
from mofa_nvdr.system.files import (
    cannot_write,
    read_json_lines,
    remove_abandoned,
    write_text,
)

_FOLDER = re.compile(r"(\d{5})-.+")
# Of versions before the names of system.files: ours, and those that safetensors gave its own.
_FORMER_TEMPORARY = re.compile(
    r".+\.(safetensors|png|npz|html|jsonl|yaml)(\.\d+)?\.tmp|\.tmp[A-Za-z0-9]{6}"
)


def open_run(
    config: TrainConfig,
    name: str,
    root: Path = Path("runs"),
    warn: Callable[[str], None] = print,
) -> Path:
    """The folder of this run: the one to resume, or a new one. Nothing in it is changed: see keep_config.

    With `config.run.out` the folder is that one. Without, it is the newest folder below `root` whose
    configuration equals this one (apart from config.RESUME_MAY_CHANGE), else a new runs/NNNNN-NAME.

    Args:
        config: of the run.
        name: used in the folder's name without `config.run.out`.
        root: where folders are made without `config.run.out`.
        warn: called with a line on options that were different before (config.OUT_MAY_CHANGE).

    Raises:
        ConfigError: `config.run.out` holds a run with another configuration, or cannot be made.
    """
    if config.run.out:
        folder = Path(config.run.out)
        if before := _config_of(folder):
            _check_resumed(folder, config, before, warn)
    else:
        found = [f for f in _run_folders(root) if _is_same(config, f)]
        number = 1 + max((int(f.name[:5]) for f in _run_folders(root)), default=-1)
        folder = found[-1] if found else root / f"{number:05d}-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(cannot_write(folder, error)) from None
    return folder


def _check_resumed(
    folder: Path, config: TrainConfig, before: TrainConfig, warn: Callable[[str], None]
) -> None:
    different = _differences(config, before)
    refused = [key for key in different if key not in OUT_MAY_CHANGE]
    if refused:
        raise ConfigError(
            f"--out {folder}: holds a run with another --{', --'.join(map(flag, refused))}; "
            "give another folder, or the same options to resume"
        )
    for key in different:
        was, value = options(before)[key], options(config)[key]
        warn(f"WARNING: {folder}: goes on with --{flag(key)} {value:g}, it was {was:g}")


def keep_config(folder: Path, config: TrainConfig) -> None:
    """Write config.yaml, once it is certain that the run starts or resumes with it.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_text(folder / "config.yaml", dump_config(config))
    except OSError as error:
        raise ConfigError(cannot_write(folder, error)) from None


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in their run folder, safetensors' own too."""
    remove_abandoned(folder)
    for path in folder.iterdir():
        if _FORMER_TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


class JsonLog:
    """log.jsonl: one JSON object per line, flushed line by line.

    Opening it for a run that resumes after `step` steps drops later lines, and a last line that a killed
    process left half written, so that the curve goes on as if nothing had happened.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_log(path) if line["step"] <= step] if step > 0 else []
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        """Append one object; numbers that are not finite, which JSON cannot hold, become null."""
        self._file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Make sure that what was written is on the disk, as the checkpoint that follows will be."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log.jsonl; a half-written or foreign line is left out, a missing file is empty."""
    return [line for line in read_json_lines(path) if isinstance(line.get("step"), int)]


def _plain(value: Any) -> Any:
    """`value` with None for the numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _run_folders(root: Path) -> list[Path]:
    folders = root.iterdir() if root.is_dir() else []
    return sorted(f for f in folders if f.is_dir() and _FOLDER.fullmatch(f.name))


def _is_same(config: TrainConfig, folder: Path) -> bool:
    if not (folder / "config.yaml").is_file():
        return False
    try:
        return not _differences(config, load_run_config(folder / "config.yaml"))
    except ConfigError:
        return False  # a run of another version


def _config_of(folder: Path) -> TrainConfig | None:
    """The configuration of the run in a folder, from its newest checkpoint if config.yaml is gone."""
    if (folder / "config.yaml").is_file():
        return load_run_config(folder / "config.yaml")
    for path in reversed(list_checkpoints(folder)):
        try:
            metadata = read_metadata(path)
        except CheckpointError:
            continue
        kept = metadata.get(
            "options", metadata.get("config")
        )  # "config": flat, from before the groups
        if isinstance(kept, dict):
            return config_of(kept, str(path))
    return None


def _differences(config: TrainConfig, other: TrainConfig) -> list[str]:
    before = options(other)
    return [
        name
        for name, value in options(config).items()
        if name not in RESUME_MAY_CHANGE and value != before[name]
    ]
