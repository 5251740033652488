"""mofa-nvdr networks list."""

import pytest

from mofa_nvdr.cli import main
from tests.helpers.commands import error_line
from tests.helpers.small_networks import install_small_set, write_wheel


@pytest.fixture
def cache(tmp_path, monkeypatch):
    install_small_set(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


def test_before_and_after(cache, capsys, tmp_path):
    assert main(["networks", "list"]) == 0
    assert "not here; mofa-nvdr networks get small" in capsys.readouterr().out
    assert main(["networks", "get", "small", "--from", str(write_wheel(tmp_path))]) == 0
    assert main(["networks", "list"]) == 0
    printed = capsys.readouterr().out
    assert (
        "small: for tests; MIT; here, " in printed
        and "one: one.tflite of small-networks" in printed
    )
    assert "--what" in error_line(capsys, "networks", "list", "--what", "x")
