"""Photographs that show rendered faces in front of a wall, for detectors and what comes after them."""

from __future__ import annotations

import functools

import numpy as np
import torch
from PIL import Image, ImageDraw

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import to_uint8
from mofa_nvdr.scene.camera import Camera

WALL = (96, 120, 150)
# A face of the mesh is this wide in the tile, and its crop in the training framing about that wide.
_SIDE = 200
CROP = 0.76  # of the tile


@functools.cache
def face_tile() -> np.ndarray:
    """A head of the procedural face before the wall, bytes [200, 200, 3]."""
    camera = Camera(_SIDE, position=(0.0, -8.0, -1080.0))
    decoder = FaceDecoder(FaceModel.load("procedural"), camera=camera, frontal_only=False)
    wall = torch.tensor(WALL).view(1, 3, 1, 1) / 255
    with torch.no_grad():
        face = decoder(decoder.code_zero())
    return to_uint8(face_image(face, wall.expand(1, 3, _SIDE, _SIDE)))[0]


def photograph(height: int, width: int, faces: list[tuple[int, int, int]]) -> np.ndarray:
    """A wall with faces: (left, top, side) of their tiles, px."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = WALL
    for left, top, side in faces:
        tile = Image.fromarray(face_tile()).resize((side, side), Image.Resampling.BICUBIC)
        picture[top : top + side, left : left + side] = np.asarray(tile)
    return picture


def dog() -> Image.Image:
    """A drawn dog from the side."""
    picture = Image.new("RGB", (420, 320), (190, 215, 160))
    draw = ImageDraw.Draw(picture)
    brown = (120, 80, 45)
    draw.ellipse((90, 120, 310, 230), fill=brown)
    for x in (120, 150, 250, 280):
        draw.rectangle((x, 200, x + 18, 290), fill=brown)
    draw.ellipse((270, 60, 370, 150), fill=brown)
    draw.polygon([(350, 90), (410, 110), (350, 135)], fill=brown)
    draw.ellipse((322, 88, 334, 100), fill=(20, 20, 20))
    draw.line((95, 150, 50, 90), fill=brown, width=12)
    return picture


def drawing() -> Image.Image:
    """A drawing of lines: a house and a sun."""
    picture = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((120, 140, 280, 260), outline="black", width=3)
    draw.line((110, 140, 200, 70, 290, 140), fill="black", width=3)
    draw.rectangle((180, 200, 220, 260), outline="black", width=3)
    draw.ellipse((320, 30, 370, 80), outline="black", width=3)
    return picture
