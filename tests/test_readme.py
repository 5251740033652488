"""The README tells the truth: its example runs, its map points at what it says, its commands parse."""

import re
import shlex
from pathlib import Path

import pytest

from mofa_nvdr.cli import COMMANDS
from mofa_nvdr.runs.config import TrainConfig, load_config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_example_runs(capsys):
    """Ten lines, as a reader would paste them."""
    (example,) = _blocks("python")
    lines = [
        line for line in example.splitlines() if line and not line.startswith(("import", "from"))
    ]
    assert len(lines) <= 10
    scope: dict = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert scope["code"].grad.shape == (1, 257)
    assert scope["code"].grad.abs().sum() > 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) >= 5 and all(0 < float(line.split()[-1]) < 1 for line in printed)


@pytest.mark.parametrize(
    ("file", "name"), re.findall(r"`((?:mofa_nvdr|shaders)/[a-z_/]+\.py)`: `([A-Za-z_.]+)`", TEXT)
)
def test_map_points_at_what_is_there(file, name):
    source = (ROOT / file).read_text(encoding="utf-8")
    for part in name.split("."):
        assert re.search(rf"^\s*(def|class) {part}\b", source, re.MULTILINE), (
            f"{file} has no {part}"
        )


def test_map_has_the_three_places():
    assert "# Eq. 4" in (ROOT / "shaders" / "gbuffer.py").read_text(encoding="utf-8")
    assert "# Eq. 4" in (ROOT / "mofa_nvdr" / "render" / "renderer.py").read_text(encoding="utf-8")
    assert "Eq. 5" in (ROOT / "mofa_nvdr" / "render" / "decoder.py").read_text(encoding="utf-8")
    for what in ("shades a pixel", "samples a vertex", "a loss term is added"):
        assert what in TEXT


def test_first_two_blocks_install_and_run():
    first, second = _blocks("bash")[:2]
    assert first.strip() == 'pip install -e ".[train]" && mofa-nvdr train --config quickstart'
    assert second.strip() == 'pip install -e ".[dev]" -c constraints/ci.txt && pytest'
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install -q -e ".[dev]" -c constraints/ci.txt' in ci
    assert ci.rstrip().endswith("pytest")


def test_commands_and_options_exist():
    options = {"--config", "--checkpoint", "--out", "--light", "--rotate", "--help", "--runtime"}
    options |= {"--count", "--workers", "--lit", "--posed", "--units"}
    options |= {f"--{name.replace('_', '-')}" for name in TrainConfig.__dataclass_fields__}
    for block in _blocks("bash"):
        for line in block.splitlines():
            words = shlex.split(line.split("&&")[-1], comments=True)
            if not words or words[0] != "mofa-nvdr":
                continue
            assert words[1] in COMMANDS
            assert {w for w in words if w.startswith("--")} <= options
            if "--config" in words:
                load_config(words[words.index("--config") + 1])


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if "://" not in target:
            assert (ROOT / target).is_file(), target
