"""mofa-nvdr model: its sub-commands and their help; a described model, and the built-in one built again."""

import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.cli.model import SUBCOMMANDS
from tests.helpers.commands import error_line


class TestModel:
    def test_overview(self, capsys):
        assert main(["model"]) == 0
        with pytest.raises(SystemExit) as stop:
            main(["model", "--help"])
        assert stop.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        for name, what in SUBCOMMANDS.items():
            assert sum(line.split() == [name, *what.split()] for line in lines) == 2

    def test_unknown_subcommand(self, capsys):
        assert "unknown sub-command 'paint', expected one of info" in error_line(
            capsys, "model", "paint"
        )

    @pytest.mark.parametrize("name", ["info", "show", "build"])
    def test_help(self, name, capsys):
        with pytest.raises(SystemExit) as stop:
            main(["model", name, "--help"])
        assert stop.value.code == 0
        assert f"usage: mofa-nvdr model {name}" in capsys.readouterr().out
