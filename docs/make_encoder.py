"""Make assets/encoder.safetensors of a run: python docs/make_encoder.py RUN_FOLDER [OUT].

assets/encoder.md has the commands of the run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mofa_nvdr.runs.shipped import SHIPPED_FILE, write_encoder


def main() -> None:
    """Write the file and say how large it is; its place may be given after the run."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python docs/make_encoder.py RUN_FOLDER [OUT]")
    default = Path(__file__).parents[1] / "assets" / SHIPPED_FILE
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    try:
        size = write_encoder(sys.argv[1], out)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    print(f"{out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
