"""Run a program written for nvdiffrast on the CPU: `python -m mofa_nvdr.dr program.py [its options]`.

The program stays as it is: `import nvdiffrast.torch` gives this package, and "cuda" means the CPU. Where
nvdiffrast is installed the program runs as it would without this, and a line says so. A program that is
started as `python -m package.module` is `python -m mofa_nvdr.dr -m package.module [its options]`.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from pathlib import Path

from mofa_nvdr import dr

USAGE = "usage: python -m mofa_nvdr.dr (program.py | -m module) [its options]"


def main(args: list[str]) -> None:
    """Run the program args[0], or the module args[1] after "-m", with the options after it."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if args else 2)
    if args[0] == "-m":
        _run_module(args[1:])
        return
    program = Path(args[0])
    if not program.is_file():
        sys.exit(f"mofa_nvdr.dr: {program} is not a file; name the program to run")
    dr.install(cuda_to_cpu=True, children=True)
    sys.argv = args
    sys.path.insert(0, str(program.resolve().parent))  # where the program's own modules are
    runpy.run_path(str(program), run_name="__main__")


def _run_module(args: list[str]) -> None:
    """Run the module args[0] as `python -m` does, with the options after it."""
    if not args:
        sys.exit(f"mofa_nvdr.dr: -m needs the name of a module; {USAGE}")
    dr.install(cuda_to_cpu=True, children=True)
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(args[0])
    except ModuleNotFoundError as error:
        if error.name is None or not args[0].startswith(f"{error.name}."):
            raise  # the module's package is there, and misses something itself
        found = None
    if found is None:
        sys.exit(
            f"mofa_nvdr.dr: there is no module {args[0]}; install what has it, or go to its folder"
        )
    sys.argv = list(args)
    runpy.run_module(args[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
