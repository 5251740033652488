"""Render docs/face_people.png and docs/face_modes.png: python docs/make_face_sheets.py [MODEL]."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from mofa_nvdr.camera import Camera
from mofa_nvdr.decoder import FaceDecoder, face_image
from mofa_nvdr.face_code import FaceCode
from mofa_nvdr.face_model import FaceModel
from mofa_nvdr.lighting import light_presets
from mofa_nvdr.pictures import geometry_picture, sheet, to_uint8, write_png

PEOPLE, PEOPLE_SIZE, PEOPLE_COLUMNS = 36, 132, 9
MODE_SIZE, MODES_ACROSS, MODE_DEVIATIONS = 66, 8, 2.0
GREY = 0.3
_BATCH = 12


def _render(model: FaceModel, code: FaceCode, size: int, light: str | None) -> np.ndarray:
    """Pictures [B, size, size, 3]: lit by a preset, or as clay."""
    camera = Camera(size, position=(0.0, -8.0, -1080.0))
    decoder = FaceDecoder(model, camera=camera, frontal_only=False)
    result = []
    for start in range(0, code.batch_size, _BATCH):
        part = code.map(lambda values: values[start : start + _BATCH])  # noqa: B023
        geometry = decoder.geometry(part)
        if light:
            lamp = light_presets()[light].expand(part.batch_size, 9, 3)
            geometry = dataclasses.replace(geometry, light=lamp)
        face = decoder.rasterize(geometry)
        picture = face_image(face, GREY)
        if not light:
            clay = geometry_picture(face)
            picture = torch.where(face.mask > 0, clay, torch.full_like(clay, GREY))
        result.append(to_uint8(picture))
    return np.concatenate(result)


def people(model: FaceModel) -> np.ndarray:
    """Random people at one standard deviation of shape and albedo, turned a little."""
    draw = torch.Generator().manual_seed(3)
    code = model.layout.zeros(PEOPLE).replace(
        shape=torch.randn(PEOPLE, model.layout.num_shape, generator=draw),
        albedo=torch.randn(PEOPLE, model.layout.num_albedo, generator=draw),
        rotation=torch.randn(PEOPLE, 3, generator=draw) * torch.tensor([0.06, 0.22, 0.0]),
    )
    return sheet(_render(model, code, PEOPLE_SIZE, "key_left"), PEOPLE_COLUMNS)


def modes(model: FaceModel) -> np.ndarray:
    """Every shape mode at -2, 0 and +2 standard deviations, turned a little, as clay."""
    count = model.layout.num_shape
    steps = torch.tensor([-MODE_DEVIATIONS, 0.0, MODE_DEVIATIONS])
    shape = (torch.eye(count)[:, None] * steps[:, None]).reshape(-1, count)
    rotation = torch.zeros(len(shape), 3)
    rotation[:, 1] = 0.3
    code = model.layout.zeros(len(shape)).replace(shape=shape, rotation=rotation)
    return sheet(_render(model, code, MODE_SIZE, None), 3 * MODES_ACROSS)


def main() -> None:
    """Write both sheets beside this file."""
    parser = argparse.ArgumentParser(description="Sheets of a face model's people and shape modes.")
    parser.add_argument("model", nargs="?", default="default")
    model = FaceModel.load(parser.parse_args().model)
    for name, picture in (("people", people(model)), ("modes", modes(model))):
        write_png(Path(__file__).with_name(f"face_{name}.png"), picture)


if __name__ == "__main__":
    with torch.no_grad():
        main()
