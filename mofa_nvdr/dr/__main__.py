"""Run a program written for nvdiffrast on the CPU: `python -m mofa_nvdr.dr program.py [its options]`.

The program stays as it is: `import nvdiffrast.torch` gives this package, and "cuda" means the CPU. Where
nvdiffrast is installed the program runs as it would without this, and a line says so.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from mofa_nvdr import dr


def main(args: list[str]) -> None:
    """Run the program args[0] with the options after it."""
    if not args or args[0] in ("-h", "--help"):
        print("usage: python -m mofa_nvdr.dr program.py [its options]")
        sys.exit(0 if args else 2)
    program = Path(args[0])
    if not program.is_file():
        sys.exit(f"mofa_nvdr.dr: {program} is not a file; name the program to run")
    dr.install(cuda_to_cpu=True, children=True)
    sys.argv = args
    sys.path.insert(0, str(program.resolve().parent))  # where the program's own modules are
    runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
