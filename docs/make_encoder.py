"""Make assets/encoder.safetensors.

    python docs/make_encoder.py PORTRAITS WORK [OUT]    # everything: five hours of one core; resumable
    python docs/make_encoder.py RUN_FOLDER [OUT]        # of a run that is finished

PORTRAITS is the folder of public-domain portraits, of which those in docs/portraits/left_out.txt are left
out; WORK is made if missing. It needs `mofa-nvdr networks get landmarks` and `identity`. assets/encoder.md
has the figures that are to come out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mofa_nvdr.runs.shipped import SHIPPED_FACE, SHIPPED_FILE, write_encoder

DOCS = Path(__file__).parent
RENDERS, SEED, SIZE = 16_000, 11, 160


def train(portraits: Path, work: Path) -> Path:
    """From photographs to a run folder, by the commands that anybody has."""
    photographs = work / "photographs"
    photographs.mkdir(parents=True, exist_ok=True)
    left_out = set((DOCS / "portraits" / "left_out.txt").read_text(encoding="utf-8").split())
    for path in sorted(portraits.iterdir()):
        if path.name not in left_out and not (photographs / path.name).exists():
            (photographs / path.name).symlink_to(path.resolve())
    crops, renders, start, form, run = (
        str(work / name) for name in ("crops", "renders", "start", "form", "run")
    )
    given = ["--data", crops, "--synthetic.path", renders, "--threads", "1"]
    for command in (
        ["preprocess", str(photographs), "--out", crops],
        ["fit", crops, "--codes", "--face-model", SHIPPED_FACE],
        [
            "synthesize", "--count", str(RENDERS), "--seed", str(SEED), "--size", str(SIZE),
            "--face-model", SHIPPED_FACE, "--out", renders,
        ],
        ["train", "--config", "shipped_start", "--out", start, *given],
        ["train", "--config", "shipped", "--init", start, "--out", form, *given],
        ["train", "--config", "shipped_colors", "--init", form, "--out", run, *given],
    ):  # fmt: skip
        print("mofa-nvdr", *command, flush=True)
        status = subprocess.run([sys.executable, "-m", "mofa_nvdr", *command]).returncode
        if status not in (0, 4):  # 4: some photographs were left out
            raise SystemExit(status)
    return Path(run)


def main() -> None:
    """Write the file and say how large it is."""
    arguments = [Path(argument) for argument in sys.argv[1:]]
    if not 1 <= len(arguments) <= 3:
        raise SystemExit(__doc__)
    is_run = any(arguments[0].glob("*.safetensors"))
    out = arguments[1 if is_run else 2 :]
    try:
        run = arguments[0] if is_run else train(*arguments[:2])
        path = out[0] if out else DOCS.parent / "assets" / SHIPPED_FILE
        size = write_encoder(run, path)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    print(f"{path}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
