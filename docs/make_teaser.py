"""Render docs/teaser.png: python docs/make_teaser.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from mofa_nvdr.data.synthetic.codes import CodePrior, random_codes
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import geometry_picture, sheet, to_uint8, write_png
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.light_sources import light_presets

SIZE, GREY = 200, 0.3


def main() -> None:
    """Two rows of six: people; the average face as clay, with expressions, and under three lights."""
    model = FaceModel.load("portraits")
    camera = Camera(SIZE, position=(0.0, -8.0, -1080.0))
    decoder = FaceDecoder(model, camera=camera, frontal_only=False)
    lights = light_presets()

    def render(code: FaceCode, light: str) -> tuple[np.ndarray, np.ndarray]:
        geometry = decoder.geometry(code)
        light_ = lights[light].expand(code.batch_size, 9, 3)
        face = decoder.rasterize(dataclasses.replace(geometry, light=light_))
        clay = torch.where(face.mask > 0, geometry_picture(face), torch.full_like(face.image, GREY))
        return to_uint8(face_image(face, GREY)), to_uint8(clay)

    prior = CodePrior(expression=0.0, yaw=0.25, sideways=0.0, depth=0.0)
    people, _ = render(random_codes(model.layout, 6, np.random.default_rng(11), prior), "key_left")
    turned = model.layout.zeros().replace(rotation=torch.tensor([[0.0, 0.45, 0.0]]))
    named = model.named_expressions
    smile = named["mouthSmileLeft"] + named["mouthSmileRight"] + 0.4 * named["jawOpen"]
    second = [
        render(turned, "front")[1],
        render(turned.replace(expression=smile[None]), "front")[0],
        render(
            turned.replace(expression=named["browInnerUp"][None] + 0.5 * named["jawOpen"]), "front"
        )[0],
        *(render(turned, light)[0] for light in ("key_right", "rim", "warm_cool")),
    ]
    pictures = np.concatenate([people, *second])
    write_png(Path(__file__).with_name("teaser.png"), sheet(pictures, columns=6))


if __name__ == "__main__":
    with torch.no_grad():
        main()
