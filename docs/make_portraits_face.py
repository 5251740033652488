"""Make mofa_nvdr/assets/portraits_face.npz of a face model that `mofa-nvdr model learn` wrote.

assets/portraits_face.md has the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mofa_nvdr import FaceModel
from mofa_nvdr.face.portraits import load_portraits, with_teeth, write_portraits


def main() -> None:
    """Write the file and say how large it is; its place may be given after the model."""
    model = FaceModel.load(sys.argv[1])
    default = Path(__file__).parents[1] / "assets" / "portraits_face.npz"
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    arrays = {name: value.numpy() for name, value in model.named_buffers()}
    write_portraits(out, with_teeth(arrays), model.metadata)
    kept, _ = load_portraits(out)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {len(kept['albedo_basis'])} modes of albedo")


if __name__ == "__main__":
    main()
