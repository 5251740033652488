"""A small set of networks and the package that holds it, for tests of how networks are got and kept."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from mofa_nvdr.networks import on_request
from mofa_nvdr.networks.network_sets import Member, NetworkSet, from_tflite
from tests.helpers.small_tflite import small_model

REQUIREMENT = "small-networks==1.0"
WHEEL = "small_networks-1.0-py3-none-any.whl"
_DATA = {"one.tflite": small_model(1), "two.tflite": small_model(2)}


def install_small_set(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Make "small" the only known set, and `cache` the cache."""
    members = tuple(
        Member(
            Path(file).stem,
            file,
            hashlib.sha256(data).hexdigest(),
            len(data),
            "[0, 1]",
            ("rows", "maps"),
        )
        for file, data in _DATA.items()
    )
    small = NetworkSet(
        "for tests",
        REQUIREMENT,
        members,
        "MIT",
        "Of nobody.",
        "apache-2.0.txt",
        from_tflite,
    )
    monkeypatch.setattr(on_request, "NETWORK_SETS", {"small": small})
    monkeypatch.setenv("MOFA_NVDR_CACHE", str(cache))


def write_wheel(folder: Path, changed: str = "", left_out: str = "") -> Path:
    """The package as pip would get it, one file damaged or left out if wanted."""
    path = folder / WHEEL
    about = "small_networks-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, data in _DATA.items():
            if file != left_out:
                wheel.writestr(f"data/{file}", data[::-1] if file == changed else data)
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: small-networks\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    return path


def write_member(folder: Path, file: str) -> Path:
    """One network's own file, under another name."""
    path = folder / f"renamed_{file}"
    path.write_bytes(_DATA[file])
    return path
