"""The command line: `mofa-nvdr COMMAND [options]`. One module for each command: options in, a call out."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

from mofa_nvdr import __version__
from mofa_nvdr.system.notes import one_line, plain_warnings, show_notes

COMMANDS = {
    "preprocess": "find and crop the faces in photographs",
    "synthesize": "render a corpus of faces with codes, landmarks and masks",
    "train": "train the face autoencoder on photographs or on synthetic faces",
    "reconstruct": "reconstruct the faces in photographs, with pictures of each",
    "fit": "fit the face model to photographs, with a panel of pictures each",
    "relight": "show the person in a photograph under another light",
    "transfer": "give the person in a photograph another expression",
    "view": "move light, pose and expression of a face in a browser",
    "evaluate": "measure an encoder as the papers do, next to their numbers",
    "export": "write a face as .obj, .ply or .glb for other programs",
    "export-encoder": "write a trained encoder as an ONNX file",
    "model": "face models: describe, draw, build, import from other projects",
    "networks": "networks of others: list, get on request, export",
    "bench": "time the operators and decoder steps on this machine",
}


# Exit statuses (docs/running.md). 1 is Python's own, for a fault of the program; 128 and more: a signal.
MISTAKE, NOTHING_DONE, SOME_LEFT_OUT = 2, 3, 4


def main(args: list[str] | None = None) -> int:
    """Run a command; returns the exit status. Users' mistakes end in one line, not in a traceback.

    A command's `run` returns its own status, or None for 0.
    """
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if args[0] == "--version":
        print(f"mofa-nvdr {__version__}")
        return 0
    if args[0] not in COMMANDS:
        return _fail(f"unknown command {args[0]!r}, expected one of {', '.join(COMMANDS)}")
    if "OMP_WAIT_POLICY" not in os.environ:
        # For torch on Linux, which is not loaded yet. Its threads spin for some milliseconds after every
        # large operation; on few cores they take them from the kernels' threads. docs/benchmarks.md
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if hasattr(sys.stdout, "reconfigure"):  # names of files may hold bytes that are no characters
        sys.stdout.reconfigure(errors="backslashreplace")
    show_notes()
    module = importlib.import_module(f"mofa_nvdr.cli.{args[0].replace('-', '_')}")
    try:
        with plain_warnings():
            status: int | None = module.run(args[1:])
    except KeyboardInterrupt as stop:  # training.loop.Stopped saved before and says so
        if os.environ.get("RANK", "0") == "0":
            print(str(stop) or "stopped; the same command again resumes", file=sys.stderr)
        return getattr(stop, "exit_code", 130)
    except (
        MemoryError,
        RecursionError,
    ) as error:  # what no budget foresaw; the latter is a RuntimeError
        if os.environ.get("MOFA_NVDR_TRACEBACK"):
            raise
        memory = "need more memory than the machine has"
        what = memory if isinstance(error, MemoryError) else "are nested too deeply to be read"
        return _fail(f"{args[0]}: these files {what}")
    except (ValueError, OSError, RuntimeError) as error:
        # A programming error shows as one of these too: the variable brings the traceback back.
        if os.environ.get("MOFA_NVDR_TRACEBACK"):
            raise
        return _fail(str(error) or type(error).__name__, getattr(error, "exit_code", MISTAKE))
    return status or 0


def parse(command: str, function: Callable[..., Any], args: list[str]) -> Any:
    """Call `function` with options parsed by tyro from its signature.

    tyro frames its messages; here they become one line.
    """
    import tyro

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            call = tyro.cli(
                function, prog=f"mofa-nvdr {command}", args=args, description=function.__doc__
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(
            f"{_unframed(errors.getvalue())}; mofa-nvdr {command} --help lists the options"
        ) from None
    return call


def run_subcommand(command: str, subcommands: dict[str, str], args: list[str]) -> None:
    """Hand the rest of the line to a sub-command: `run` of mofa_nvdr.cli.COMMAND_NAME, hyphens as _.

    Args:
        command: for example "model".
        subcommands: name -> what it does.
        args: the name and what follows; empty or --help: an overview.
    """
    if not args or args[0] in ("-h", "--help"):
        lines = [f"  {name:12} {what}" for name, what in subcommands.items()]
        print(f"usage: mofa-nvdr {command} SUBCOMMAND [options]\n", *lines, sep="\n")
        print(f"\nmofa-nvdr {command} SUBCOMMAND --help lists its options.")
        if args:
            raise SystemExit(0)
        return
    if args[0] not in subcommands:
        raise ValueError(
            f"{command}: unknown sub-command {args[0]!r}, expected one of {', '.join(subcommands)}"
        )
    module = f"{command}_{args[0]}".replace("-", "_")
    importlib.import_module(f"mofa_nvdr.cli.{module}").run(args[1:])


def _unframed(message: str) -> str:
    """Make one line of a framed message, without its title, which says the same, and its hints on help."""
    # Where stdout cannot show boxes the frame is of spaces, and its rules of hyphens.
    lines = [line.strip("╰╯│─ ") for line in message.splitlines()[1:]]
    sections = " ".join(line if line.strip("-") else "\n" for line in lines).split("\n")
    words = [" ".join(section.split()).rstrip(".") for section in sections]
    return "; ".join(w for w in words if w and not w.startswith(("For full help", "Argument help")))


def _overview() -> str:
    lines = [
        "usage: mofa-nvdr COMMAND [options]",
        "",
        "Model-based face autoencoder with a differentiable rasterizing decoder.",
        "",
        *(f"  {name:14} {what}" for name, what in COMMANDS.items()),
        "",
        "mofa-nvdr COMMAND --help lists a command's options with units and defaults.",
    ]
    return "\n".join(lines)


def _fail(message: str, status: int = MISTAKE) -> int:
    rank = int(os.environ.get("RANK", "0"))  # of torchrun
    process = f"process {rank}: " if rank else ""
    print(f"mofa-nvdr: {process}{one_line(message)}", file=sys.stderr)
    return status
