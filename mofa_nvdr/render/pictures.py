"""Pictures for people: panels of one face and sheets of many."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.system.marks import KEY, mark

PANEL_COLUMNS = ("input", "overlay", "geometry", "albedo", "shading")
FINER = 3
"""How many times as large as their photographs panels' renderings are made."""
PAPER = 0.13  # grey of empty pixels
_QUALITY = 92  # of JPEG
_PNG_HEAD = 8 + 25  # bytes of a PNG's signature and first chunk
_LINE = 14  # pixels of a line of text


def geometry_picture(rendering: Rendering) -> Tensor:
    """The bare surface as grey clay under a light next to the camera, [B, 3, H, W] in [0, 1]."""
    return clay(rendering.normal)


def clay(normal: Tensor) -> Tensor:
    """The same of unit normals [B, 3, H, W], camera space."""
    towards_light = F.normalize(normal.new_tensor([0.35, 0.45, 1.0]), dim=0)
    cosine = (normal * towards_light.view(1, 3, 1, 1)).sum(1, keepdim=True).clamp(min=0)
    return (0.12 + 0.75 * cosine).expand(-1, 3, -1, -1)


def panels(photo: Tensor, rendering: Rendering, visible: Tensor | None = None) -> np.ndarray:
    """Input, overlay, geometry, albedo and shading side by side.

    Args:
        photo: [B, 3, H, W] in [0, 1].
        rendering: of the predicted codes at the same size; or some times as large, as of `FINER` times
            `FaceDecoder.finer`: then pixels are means, and neither outlines nor lids are stepped.
        visible: [B, 1, H, W] how far the photograph shows the face there, white in a sixth column; None:
            without that.

    Returns:
        uint8 [B, H, 5 W or 6 W, 3].
    """
    times = rendering.mask.shape[-1] // photo.shape[-1]
    if visible is not None:
        visible = _repeated(visible, times)
    photo = _repeated(photo.nan_to_num(PAPER), times)
    covered = rendering.mask > 0
    empty = torch.full_like(photo, PAPER)
    columns = [
        photo,
        torch.where(covered, rendering.image, photo),
        torch.where(covered, geometry_picture(rendering), empty),
        torch.where(covered, rendering.albedo, empty),
        torch.where(covered, rendering.shading / 2, empty),  # halved: a bright side stays visible
    ]
    if visible is not None:
        columns.append(torch.where(covered, visible.expand_as(photo), empty))
    columns = [F.avg_pool2d(column.clamp(0, 1), times) for column in columns]
    return to_uint8(torch.cat(columns, dim=3))


def _repeated(picture: Tensor, times: int) -> Tensor:
    """Each pixel as a square of times x times."""
    return picture.repeat_interleave(times, 2).repeat_interleave(times, 3)


def to_uint8(image: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3], rounded."""
    image = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return image.permute(0, 2, 3, 1).cpu().numpy()


def sheet(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Lay pictures [B, H, W, 3] out in rows of `columns`, the last row filled with grey."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, height, width, 3), round(PAPER * 255), np.uint8)
    cells[:count] = pictures
    cells = cells.reshape(rows, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(cells.reshape(rows * height, columns * width, 3))


def png_bytes(picture: np.ndarray, *, kind: str = "picture", comment: str = "") -> bytes:
    """The PNG file of uint8 [H, W, 3], marked as the package's own (system/marks.py).

    Args:
        picture: its pixels.
        kind: what it is called when it is found among photographs: "panel", "sheet".
        comment: a text in it that is not shown.
    """
    return iio.imwrite("<bytes>", picture, extension=".png", pnginfo=_texts(kind, comment))


def png16_bytes(picture: np.ndarray, *, kind: str, comment: str = "") -> bytes:
    """The PNG file of uint16 [H, W] or [H, W, 3], marked and commented as `png_bytes` does."""
    import cv2  # Pillow writes no colours of 16 bit

    channels = picture if picture.ndim == 2 else picture[..., ::-1]
    data = cv2.imencode(".png", channels)[1].tobytes()
    texts = b"".join(
        struct.pack(">I", len(body))
        + b"tEXt"
        + body
        + struct.pack(">I", zlib.crc32(b"tEXt" + body))
        for body in (
            f"{key}\0{text}".encode("latin-1")
            for key, text in ((KEY, mark(kind)), ("Comment", comment))
            if text
        )
    )
    return data[:_PNG_HEAD] + texts + data[_PNG_HEAD:]


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture, uint8 [H, W, 3], with a text below it, in as many lines as it takes; Pillow's own font."""
    font, width = ImageFont.load_default(), picture.shape[1]
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(longer) <= width - 6 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    strip = Image.new("RGB", (width, _LINE * len(lines)), (round(PAPER * 255),) * 3)
    draw = ImageDraw.Draw(strip)
    for k, line in enumerate(lines):
        draw.text((3, 1 + _LINE * k), line, fill=(225, 225, 225), font=font)
    return np.concatenate([picture, np.asarray(strip)])


def write_png(
    path: str | Path, picture: np.ndarray, *, kind: str = "picture", comment: str = ""
) -> None:
    """Write uint8 [H, W, 3] or [H, W] as PNG, marked and commented as `png_bytes` does.

    Raises:
        OSError: the folder cannot be written.
    """
    iio.imwrite(path, picture, extension=".png", pnginfo=_texts(kind, comment))


def write_jpeg(
    path: str | Path, picture: np.ndarray, *, kind: str = "picture", comment: str = ""
) -> None:
    """Write uint8 [H, W, 3] as JPEG, marked and commented as `png_bytes` does.

    Raises:
        OSError: the folder cannot be written.
    """
    texts = f"{mark(kind)} {comment}".rstrip()
    Image.fromarray(picture).save(path, "JPEG", quality=_QUALITY, comment=texts.encode("ascii"))


def _texts(kind: str, comment: str) -> PngInfo:
    info = PngInfo()
    info.add_text(KEY, mark(kind))
    if comment:
        info.add_text("Comment", comment)
    return info
