"""Draw docs/relighting.jpg, transfer.jpg and viewing.jpg: python docs/make_photo_figures.py PORTRAITS PROBES.

PORTRAITS is the folder of public-domain portraits (assets/portraits_face.md says which), PROBES one of light
probes. The people are among those that docs/make_gallery.py shows. Pictures are those of `mofa-nvdr relight`,
`transfer` and `view`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mofa_nvdr.apply.expression_warp import ExpressionWarper, mouth_photo
from mofa_nvdr.apply.landmark_alignment import detected_points
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_faces import PhotoFaces
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.apply.viewing import FaceView, ViewedFace
from mofa_nvdr.data.images import read_image
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.pictures import sheet, write_jpeg
from mofa_nvdr.scene.illumination import (
    Illumination,
    code_illumination,
    preset_illumination,
    probe_illumination,
)
from mofa_nvdr.scene.lighting import total_light
from mofa_nvdr.scene.probe_files import read_probe

RELIT = ("portrait_0174", "portrait_0066")
LIT_LIKE = "portrait_0058"  # whose light is the last one
PROBES = ("st_fagans_interior", "noon_grass")
MOVED = ("portrait_0077", "portrait_0066", "portrait_0174")
SMILE = {
    "mouthSmileLeft": 0.9,
    "mouthSmileRight": 0.9,
    "cheekSquintLeft": 0.5,
    "cheekSquintRight": 0.5,
}
WINK = {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.6, "browInnerUp": 0.5}
TALK = {"jawOpen": 0.35, "mouthFunnel": 0.3}
VIEWED = "portrait_0077"
CELL = 220


@dataclass(frozen=True)
class Person:
    """A portrait, fitted."""

    photo: np.ndarray
    face: FaceParameters
    model: FaceModel

    def cell(self, picture: np.ndarray) -> np.ndarray:
        """The head of a picture as large as the photograph, CELL px wide."""
        left, top, side = (float(n) for n in self.face.crop)
        box = (left - 0.1 * side, top - 0.15 * side, left + 1.1 * side, top + 1.15 * side)
        height = round(CELL * 1.3 / 1.2)
        size = (4 * CELL, 4 * height)
        large = Image.fromarray(picture).transform(size, Image.Transform.EXTENT, box)
        return np.asarray(large.resize((CELL, height), Image.Resampling.BOX))

    def light(self) -> Illumination:
        """The light of the portrait."""
        return code_illumination(total_light(self.face.code.light)[0])


def expression(person: Person, weights: dict[str, float]) -> Tensor:
    """Coefficients [1, E] of named expressions."""
    named = person.model.named_expressions
    start = torch.zeros_like(person.face.code.expression)
    return sum((weight * named[name] for name, weight in weights.items()), start=start)


def moved(person: Person, other: Person) -> list[np.ndarray]:
    """The photograph; neutral; three named expressions; the expression of another portrait."""
    points = detected_points(person.photo, person.face)
    warp = ExpressionWarper(person.photo, person.face, person.model, points)
    code = person.face.code
    pictures = [person.photo]
    for weights in ({}, SMILE, WINK, TALK):
        pictures.append(warp(code.replace(expression=expression(person, weights)), None))
    mouth = mouth_photo(
        other.photo, other.face, other.model, detected_points(other.photo, other.face)
    )
    pictures.append(warp(code.replace(expression=other.face.code.expression), mouth))
    return [person.cell(picture) for picture in pictures]


def main() -> None:
    """Fit the people and draw the three figures."""
    folder, probes, docs = Path(sys.argv[1]), Path(sys.argv[2]), Path(__file__).parent
    fitted, people = PhotoFaces("", "relight"), {}
    for name in dict.fromkeys((*RELIT, LIT_LIKE, *MOVED, VIEWED)):
        found = fitted(folder / f"{name}.jpg", "")
        people[name] = Person(read_image(found.path), found.parameters, found.model)
    lights = [preset_illumination("side_left")]
    for name in PROBES:
        probe = probe_illumination(torch.from_numpy(read_probe(probes / f"{name}_512.hdr")))
        lights.append(probe.turned(probe.turn_to_front()))
    lights.append(people[LIT_LIKE].light())
    rows = []
    for name in RELIT:
        person = people[name]
        relighter = PhotoRelighter(person.photo, person.face, person.model)
        rows += [person.cell(p) for p in (person.photo, *(relighter(light) for light in lights))]
    write_jpeg(docs / "relighting.jpg", sheet(np.stack(rows), 5), kind="picture")
    rows = []
    for k, name in enumerate(MOVED):
        rows += moved(people[name], people[MOVED[(k + 1) % len(MOVED)]])
    write_jpeg(docs / "transfer.jpg", sheet(np.stack(rows), 6), kind="picture")
    person = people[VIEWED]
    view = FaceView(ViewedFace(VIEWED, person.face, person.model, person.photo))
    for control, value in (("strength", 1.0), ("azimuth", -50.0), ("jawOpen", 0.25), ("yaw", 15.0)):
        view.controls.set(control, value)
    write_jpeg(docs / "viewing.jpg", view.sheet(fine=True), kind="picture")


if __name__ == "__main__":
    main()
