"""What a command says, for the tests of the command line."""

from __future__ import annotations

from typing import Any

import pytest

from mofa_nvdr.cli import main


def error_line(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Run a command that must fail; its message on stderr, which must be one line."""
    assert main(list(args)) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("mofa-nvdr: ") and len(text.splitlines()) == 1, text
    return text


def help_words(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The help of a command as one line, without its frames."""
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: mofa-nvdr {' '.join(command)}" in text
    return " ".join(text.replace("│", " ").split())


def calls_of(
    monkeypatch: pytest.MonkeyPatch, name: str, result: Any = None
) -> list[tuple[Any, ...]]:
    """Replace a function by one that returns `result`; the positional arguments that it is called with."""
    calls: list[tuple[Any, ...]] = []

    def instead(*args: Any) -> Any:
        calls.append(args)
        return result

    monkeypatch.setattr(name, instead)
    return calls
