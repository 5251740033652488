"""Draw docs/portraits.jpg and docs/gallery.jpg: python docs/make_gallery.py PORTRAITS.

PORTRAITS is the folder of public-domain portraits (assets/portraits_face.md says which). Everybody here was
kept apart: neither the face model nor the encoder has seen a picture of them (docs/portraits). The pictures
are those of `mofa-nvdr reconstruct` with the encoder that comes with the package.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.apply.reconstruction import reconstruct_files
from mofa_nvdr.data.images import read_image
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import FINER, panels, sheet, write_jpeg
from mofa_nvdr.scene.illumination import preset_illumination

# At most twelve portraits may be shown (their source: docs/gallery.md); of others the renderings alone.
FRONT = ("portrait_0077", "portrait_0066", "portrait_0174", "portrait_0058")
SHOWN = (
    "portrait_0005",
    "portrait_0028",
    "portrait_0076",
    "portrait_0134",
    "portrait_0166",
    "portrait_0257",
)
UNSHOWN = (
    "portrait_0008", "portrait_0025", "portrait_0043", "portrait_0054", "portrait_0064", "portrait_0112",
    "portrait_0120", "portrait_0128", "portrait_0150", "portrait_0181", "portrait_0201", "portrait_0225",
    "portrait_0255", "portrait_0275", "portrait_0284", "portrait_0294", "portrait_0306", "portrait_0308",
)  # fmt: skip
CELL = 150
PAPER = 33


def cells(path: Path, one: FaceParameters, model: FaceModel, overlay: Path) -> list[np.ndarray]:
    """The photograph, the face in it, geometry, albedo, and the photograph lit from the side."""
    photo, drawn = read_image(path), read_image(overlay)
    relit = PhotoRelighter(photo, one, model)(preset_illumination("side_left"))
    fine = FaceDecoder(model, camera=one.camera).finer(FINER)
    with torch.no_grad():
        face = fine.rasterize(fine.geometry(one.code))
    size = one.camera.size[0]
    row = panels(torch.zeros(1, 3, size, size), face)[0]
    geometry, albedo = row[:, 2 * size : 3 * size], row[:, 3 * size : 4 * size]
    return (
        [cut(p, one.crop) for p in (photo, drawn)]
        + [
            np.asarray(Image.fromarray(p).resize((CELL, CELL), Image.Resampling.LANCZOS))
            for p in (geometry, albedo)
        ]
        + [cut(relit, one.crop)]
    )


def cut(photo: np.ndarray, crop: np.ndarray, width: int = CELL) -> np.ndarray:
    """A face's crop in a photograph, `width` px wide."""
    left, top, side = (float(n) for n in crop)
    box = (left, top, left + side, top + side)
    picture = Image.fromarray(photo).transform(
        (4 * width, 4 * width), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR
    )
    return np.asarray(picture.resize((width, width), Image.Resampling.BOX))


def main() -> None:
    """Reconstruct everybody and lay the pictures out."""
    folder, docs = Path(sys.argv[1]), Path(__file__).parent
    names = [*FRONT, *SHOWN, *UNSHOWN]
    with tempfile.TemporaryDirectory() as out:
        reconstruct_files([folder / f"{name}.jpg" for name in names], out=out)
        faces = {name: load_parameters(Path(out) / f"{name}.npz") for name in names}
        model = FaceModel.load("portraits")
        rows = {
            name: cells(folder / f"{name}.jpg", one, model, Path(out) / f"{name}_overlay.jpg")
            for name, one in faces.items()
        }
    front = [cell for name in FRONT for k, cell in enumerate(rows[name]) if k != 3]
    write_jpeg(docs / "portraits.jpg", sheet(np.stack(front), 8), kind="picture")
    shown = [cell for name in SHOWN for cell in rows[name]]
    write_jpeg(docs / "gallery.jpg", sheet(np.stack(shown), 10), kind="picture")
    others = [rows[name][k] for name in UNSHOWN for k in (2, 3)]
    write_jpeg(docs / "gallery_others.jpg", sheet(np.stack(others), 12), kind="picture")


if __name__ == "__main__":
    main()
