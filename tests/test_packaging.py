"""The package installs completely: wheel, editable install and an uninstalled checkout."""

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("shaders", "configs", "assets")
# What a working package must be able to do, wherever it was imported from.
PROBE = """
import importlib.resources as r, mofa_nvdr, mofa_nvdr.shaders.sh_lambert
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.face.model import FaceModel
assert load_config("smoke").run.steps > 0
assert FaceModel.load("default").num_vertices > 23_000
assert (r.files("mofa_nvdr.assets") / "default_face.md").is_file()
print(mofa_nvdr.__file__)
"""


def _setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def _run(code: str, cwd: Path, path: str | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = path
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_setup_lists_every_package():
    """`find:` cannot see mapped folders, so the list is by hand and compared here."""
    listed = set(_setup()["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "mofa_nvdr").rglob("__init__.py")
    }
    found |= {f"mofa_nvdr.{room}" for room in ROOMS if (ROOT / room / "__init__.py").is_file()}
    assert listed == found


def test_uninstalled_checkout(tmp_path):
    place = _run(PROBE, tmp_path, path=str(ROOT))
    assert Path(place) == ROOT / "mofa_nvdr" / "__init__.py"


def test_editable_install(tmp_path):
    """The environment of the test run is an editable install in continuous integration."""
    try:
        place = _run("import mofa_nvdr; print(mofa_nvdr.__file__)", tmp_path)
    except AssertionError:
        pytest.skip("mofa_nvdr is not installed in this environment")
    if Path(place) != ROOT / "mofa_nvdr" / "__init__.py":
        pytest.skip(f"installed from {place}, not as an editable install of this checkout")
    assert _run(PROBE, tmp_path) == place


@pytest.mark.slow
def test_wheel(tmp_path):
    """Built, unpacked elsewhere and used from there: nothing of the checkout is needed."""
    pytest.importorskip("build")
    copy = tmp_path / "source"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    result = subprocess.run(
        [sys.executable, "-m", "build", "-q", "--wheel", "--outdir", str(tmp_path), str(copy)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 15e6
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {n.split("/")[0] for n in names} <= {
        "mofa_nvdr",
        wheel.name.rsplit("-py3", 1)[0] + ".dist-info",
    }
    for room in ROOMS:
        expected = {p.name for p in (ROOT / room).iterdir() if p.is_file() and p.suffix != ".pyc"}
        assert expected <= {Path(n).name for n in names if n.startswith(f"mofa_nvdr/{room}/")}
    place = _run(PROBE, tmp_path, path=str(tmp_path / "site"))
    assert Path(place) == tmp_path / "site" / "mofa_nvdr" / "__init__.py"


def test_program_runs_as_module(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mofa_nvdr", "--version"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0 and result.stdout.startswith("mofa-nvdr ")
