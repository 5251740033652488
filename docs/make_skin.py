"""Draw docs/skin.jpg: python docs/make_skin.py PORTRAITS.

PORTRAITS is the folder of public-domain portraits; the people are among those that docs/gallery.md shows. It
needs the landmark networks (docs/networks.md).
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mofa_nvdr.apply.fit_files import FitFileOptions, fit_files
from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.photo_skin import photo_skin
from mofa_nvdr.data.images import read_image
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.mesh_texture import Texture
from mofa_nvdr.render.pictures import sheet, to_uint8, write_jpeg
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import ambient_light, directional_light
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.shaders.sh_lambert import ShLambert

PEOPLE = ("portrait_0077", "portrait_0174", "portrait_0066")
CELL, FINER = 224, 2
GREY = 0.25
WHITE = ambient_light(1.0)
SIDE = ambient_light(0.35) + 0.75 * directional_light(torch.tensor([-1.0, 0.5, 0.7]))


def drawn(
    model: FaceModel, code: FaceCode, skin: np.ndarray, yaw: float, light: torch.Tensor
) -> np.ndarray:
    """The mesh of a code with a texture, turned about the vertical, uint8 [CELL, CELL, 3]."""
    camera = Camera(CELL * FINER, position=(0.0, -8.0, -1000.0))
    turn = axis_angle_to_matrix(torch.tensor([[0.0, yaw, 0.0]]))
    vertices = camera.to_camera(
        model.vertices(code.shape, code.expression), turn, torch.zeros(1, 3)
    )
    assert model.uv is not None
    texture = Texture(torch.from_numpy(skin).float()[None] / 255, model.uv, mipmaps=True)
    face = FaceRenderer(camera, shader=ShLambert())(
        vertices, model.triangles, texture, light[None], vertex_normals(vertices, model.triangles)
    )
    picture = torch.where(face.mask > 0, face.image, GREY)
    return to_uint8(torch.nn.functional.avg_pool2d(picture.clamp(0, 1), FINER))[0]


def cells(path: Path, one: FaceParameters, model: FaceModel) -> list[np.ndarray]:
    """Photograph, texture, the face from three sides, under another light, and moved."""
    skin = photo_skin([(path.with_suffix(".npz"), one)], model, 1024, [path])
    named = model.named_expressions
    moved = 0.7 * named["jawOpen"] + named["eyeBlinkLeft"] + 0.6 * named["browInnerUp"]
    rest = one.code.replace(expression=torch.zeros_like(one.code.expression))
    left, top, side = (float(n) for n in one.crop)
    photo = Image.fromarray(read_image(path))
    return [
        np.asarray(photo.resize((CELL, CELL), box=(left, top, left + side, top + side))),
        np.asarray(Image.fromarray(skin).resize((CELL, CELL), Image.Resampling.LANCZOS)),
        *(drawn(model, one.code, skin, math.radians(angle), WHITE) for angle in (0.0, 45.0, 80.0)),
        drawn(model, rest, skin, math.radians(-25), SIDE),
        drawn(model, rest.replace(expression=moved[None]), skin, 0.0, WHITE),
    ]


def main() -> None:
    """Fit the people and lay their pictures out."""
    folder = Path(sys.argv[1])
    paths = [folder / f"{name}.jpg" for name in PEOPLE]
    with tempfile.TemporaryDirectory() as out:
        fit_files(paths, out, FitFileOptions())
        faces = [load_parameters(Path(out) / f"{name}.npz") for name in PEOPLE]
    model = FaceModel.load("portraits")
    rows = [
        cell
        for path, one in zip(paths, faces)
        for cell in cells(path, dataclasses.replace(one, source=str(path)), model)
    ]
    write_jpeg(Path(__file__).with_name("skin.jpg"), sheet(np.stack(rows), 7), kind="picture")


if __name__ == "__main__":
    with torch.no_grad():
        main()
