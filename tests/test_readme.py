"""The README tells the truth: its example runs, its map points at what it says, its commands parse."""

import re
import shlex
from pathlib import Path

import pytest

from mofa_nvdr.cli import COMMANDS
from mofa_nvdr.runs.config import load_config
from tests.test_docs import options_of

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


MAP = re.findall(r"`((?:mofa_nvdr|shaders)/[a-z_/]+\.py)`: `([A-Za-z_.]+)`", TEXT)


@pytest.mark.parametrize(("file", "name"), MAP)
def test_map_points_at_what_is_there(file, name):
    source = (ROOT / file).read_text(encoding="utf-8")
    for part in name.split("."):
        there = rf"^\s*((def|class) {part}\b|{part}(: [^=]+)? = )"
        assert re.search(there, source, re.MULTILINE), f"{file} has no {part}"


def test_map_has_every_place():
    assert "# Eq. 4" in (ROOT / "shaders" / "gbuffer.py").read_text(encoding="utf-8")
    assert "# Eq. 4" in (ROOT / "mofa_nvdr" / "render" / "renderer.py").read_text(encoding="utf-8")
    assert "Eq. 5" in (ROOT / "mofa_nvdr" / "render" / "decoder.py").read_text(encoding="utf-8")
    for what in (
        "the line that shades a pixel",
        "the line that samples a vertex",
        "where a loss term is added",
        "where a face model format is added",
        "where a shader is added",
        "where a command is added",
    ):
        (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| {what} |")]
        assert any(f"`{file}`: `{name}`" in row for file, name in MAP), row


def test_takes_two_minutes():
    """At most 80 lines, and no paragraph over four."""
    assert len(TEXT.splitlines()) <= 80
    text = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    for paragraph in text.split("\n\n"):
        lines = [
            line for line in paragraph.splitlines() if line and not line.startswith(("|", "#"))
        ]
        assert len(lines) <= 4 and all(len(line) <= 120 for line in lines), paragraph


def test_first_two_blocks_install_and_run():
    first, second = _blocks("bash")[:2]
    assert first.strip() == "pip install -e . && mofa-nvdr reconstruct assets/portrait.jpg"
    install, tests = second.strip().split(" && ")
    assert install == 'pip install -e ".[dev]" -c constraints/ci.txt'
    assert tests == "pytest -n auto --dist loadfile"
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install -q -e ".[dev]" -c constraints/ci.txt' in ci
    assert ci.rstrip().endswith(tests)


def test_commands_and_options_exist():
    for block in _blocks("bash"):
        for line in block.splitlines():
            words = shlex.split(line.split("&&")[-1], comments=True)
            if not words or words[0] != "mofa-nvdr":
                continue
            assert words[1] in COMMANDS
            assert {word for word in words if word.startswith("--")} <= options_of(words[1])
            if "--config" in words:
                load_config(words[words.index("--config") + 1])


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if "://" not in target:
            assert (ROOT / target).is_file(), target
