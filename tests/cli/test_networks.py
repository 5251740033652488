"""mofa-nvdr networks: its sub-commands and their help."""

import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.cli.networks import SUBCOMMANDS
from tests.helpers.commands import error_line, help_words


class TestNetworks:
    def test_overview(self, capsys):
        assert main(["networks"]) == 0
        lines = capsys.readouterr().out.splitlines()
        for name, what in SUBCOMMANDS.items():
            assert sum(line.split() == [name, *what.split()] for line in lines) == 1

    def test_unknown_subcommand(self, capsys):
        assert "unknown sub-command 'steal', expected one of list" in error_line(
            capsys, "networks", "steal"
        )

    @pytest.mark.parametrize("name", SUBCOMMANDS)
    def test_help(self, name, capsys):
        assert help_words(capsys, "networks", name)
