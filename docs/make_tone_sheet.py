"""Draw docs/reports/portraits_tones.png: python docs/make_tone_sheet.py FOLDER.

FOLDER holds codes.npz of `mofa-nvdr fit FOLDER --codes --face-model portraits`: people from the darkest to
the lightest albedo, evenly spaced, without expressions, under one neutral light.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mofa_nvdr import FaceModel, light_presets
from mofa_nvdr.apply.model_sheets import Painter
from mofa_nvdr.render.pictures import sheet

COUNT, COLUMNS, SIZE = 24, 8, 150
LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
BEST = 0.75  # quantile of the fits' deviations: the others say little of their people


def main() -> None:
    """Draw the sheet and say how far its tones reach."""
    model = FaceModel.load("portraits")
    with np.load(Path(sys.argv[1]) / "codes.npz") as file:
        good = file["deviation"] <= np.quantile(file["deviation"], BEST)
        codes = torch.from_numpy(file["codes"][good])
    skin = (model.regions == model.region_names.index("skin")) & model.frontal_mask
    albedo = model.layout.unpack(codes).albedo
    index = skin.nonzero()[:, 0]
    tone = torch.cat(
        [(model.albedo(a, index) @ LUMINANCE).median(1).values for a in albedo.split(64)]
    )
    order = tone.argsort()[torch.linspace(0, len(tone) - 1, COUNT).round().long()]
    code = model.layout.unpack(codes[order])
    plain = model.layout.zeros(COUNT).replace(shape=code.shape, albedo=code.albedo)
    pictures = Painter(model, SIZE)(plain, light_presets()["front"])
    out = Path(__file__).parent / "reports" / "portraits_tones.png"
    Image.fromarray(sheet(pictures, COLUMNS)).quantize(200, dither=Image.Dither.NONE).save(
        out, optimize=True
    )
    print(f"{out}: luminance {tone[order[0]]:.2f} to {tone[order[-1]]:.2f}, of {len(tone)} faces")


if __name__ == "__main__":
    main()
