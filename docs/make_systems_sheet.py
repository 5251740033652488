"""Draw docs/four_systems.jpg: python docs/make_systems_sheet.py PORTRAITS RUN...

Thirty people of whom no training has seen a picture, as several encoders see them by their own codes, light
and albedo included: ten with their photographs, a row for the photographs and one for each RUN (a run folder,
a checkpoint, or `box` for the encoder that comes with the package); twenty more by their renderings alone.
PORTRAITS is the folder of public-domain portraits (assets/portraits_face.md says which).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from make_gallery import FRONT, SHOWN, UNSHOWN, cut

from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files
from mofa_nvdr.data.images import read_image
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import FINER, panels, sheet, write_jpeg

MORE = ("portrait_0019", "portrait_0067")
CELL = 120


def alone(one: FaceParameters, model: FaceModel) -> np.ndarray:
    """A face without its photograph, [CELL, CELL, 3]."""
    fine = FaceDecoder(model, camera=one.camera).finer(FINER)
    with torch.no_grad():
        face = fine.rasterize(fine.geometry(one.code))
    size = one.camera.size[0]
    drawn = panels(torch.ones(1, 3, size, size), face)[0][:, size : 2 * size]
    return cut(drawn, np.array([0.0, 0.0, size]), CELL)


Seen = dict[str, tuple[FaceParameters, np.ndarray]]
"""By name: the face, and the photograph with it drawn into it."""


def model_of(everybody: Seen) -> FaceModel:
    """The face model of an encoder's codes, by any of its faces."""
    one, _ = next(iter(everybody.values()))
    reference = ModelReference(*one.face_model, one.face_model_file)
    return reference.load("", Path(), "make_systems_sheet: codes of")[0]


def seen(run: str, paths: list[Path]) -> Seen:
    """Everybody by one encoder's own codes."""
    own = ReconstructOptions(colors="encoder", face="largest")
    with tempfile.TemporaryDirectory() as out:
        reconstruct_files(paths, "" if run == "box" else run, out, options=own)
        return {
            path.stem: (
                load_parameters(Path(out) / f"{path.stem}.npz"),
                read_image(Path(out) / f"{path.stem}_overlay.jpg"),
            )
            for path in paths
        }


def main() -> None:
    """Let each encoder see everybody, and lay the pictures out."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    folder, runs = Path(sys.argv[1]), sys.argv[2:]
    shown, unshown = [*FRONT, *SHOWN], [*UNSHOWN, *MORE]
    paths = {name: folder / f"{name}.jpg" for name in (*shown, *unshown)}
    systems = {run: seen(run, list(paths.values())) for run in dict.fromkeys(["box", *runs])}
    models = {run: model_of(systems[run]) for run in runs}
    crops = {name: one.crop for name, (one, _) in systems["box"].items()}  # for all systems
    cells = [cut(read_image(paths[name]), crops[name], CELL) for name in shown]
    for run in runs:
        cells += [cut(systems[run][name][1], crops[name], CELL) for name in shown]
    for first in range(0, len(unshown), len(shown)):
        some = unshown[first : first + len(shown)]
        for run in runs:
            cells += [alone(systems[run][name][0], models[run]) for name in some]
    out = Path(__file__).parent / "four_systems.jpg"
    write_jpeg(out, sheet(np.stack(cells), len(shown)), kind="picture")


if __name__ == "__main__":
    main()
