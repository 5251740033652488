"""Rendered faces made to look like rough photographs: backgrounds, heads, occluders, cameras.

Every sample is drawn from a generator of its own (`draws.Draws`), so that a picture does not depend on
the others of its batch. What is drawn over a face is no part of its truth: `Composite.clean` shows the
face without it, `Composite.visible` says where the face can be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.data.augmentation import Augmentation, degrade
from mofa_nvdr.data.random_numbers import Draws
from mofa_nvdr.data.synthetic.head import HAIR, Head
from mofa_nvdr.face.landmarks import BROWS, JAW

# Shares of the pictures; docs/data.md lists them.
KEPT_PHOTOGRAPH = 0.15  # the photograph stays as it is behind the face: its hair, its neck
_BEARD, _GLASSES, _DARK_GLASSES, _OCCLUDER, _SHADOW = 0.14, 0.16, 0.3, 0.22, 0.15
CAMERA = Augmentation(blur=0.6, noise=0.035, jpeg=0.25)
_RIGHT_EYE, _LEFT_EYE = slice(36, 42), slice(42, 48)


@dataclass(frozen=True)
class Composite:
    """Rendered faces as photographs.

    Attributes:
        image: [B, 3, H, W] in [0, 1].
        clean: the same before anything covers the face, and before the camera.
        visible: [B, 1, H, W] share of each pixel in which the face's mesh can be seen.
    """

    image: Tensor
    clean: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Layer:
    """A mesh as it is drawn.

    Attributes:
        image: [B, 3, H, W], zeros where nothing is.
        mask: [B, 1, H, W], 1 where the mesh is.
        depth: [B, 1, H, W] z / w: smaller is nearer.
        triangle_ids: [B, 1, H, W] int64; 0 where nothing is.
    """

    image: Tensor
    mask: Tensor
    depth: Tensor
    triangle_ids: Tensor


def compose(
    face: Layer,
    landmarks: Tensor,
    head: Head,
    drawn: Layer,
    part: Tensor,
    background: Tensor,
    kept: Tensor,
    d: Draws,
) -> Composite:
    """Put faces into heads and heads in front of backgrounds, then things in front of faces.

    Args:
        face: the whole mesh.
        landmarks: [B, 68, 2] px.
        head: what is around it.
        drawn: the same, drawn with the same camera and light.
        part: label of each of its triangles.
        background: [B, 3, H, W].
        kept: [B] 1 where the background has a head of its own, and none is drawn.
        d: randomness for B samples.
    """
    solid = drawn.mask * (1 - _column(kept))
    image = torch.lerp(background, drawn.image, solid)
    clean = torch.lerp(image, face.image, face.mask).clamp(0, 1)
    # A little texture: skin is no plastic.
    size = face.mask.shape[-2:]
    skin = 1 + _wide(0.05 * d.noise(1, 9, 9), size) + _wide(0.025 * d.noise(1, 70, 70), size)
    skin = _shadow(skin, d)
    skin_image = _beard(face.image * skin, landmarks, head.hair_color, d)
    image = torch.lerp(image, skin_image, face.mask)

    is_hair = (part[drawn.triangle_ids] == HAIR) & (solid > 0)
    fringe = (is_hair & (drawn.depth < face.depth) & (face.mask > 0)).float()
    image = torch.lerp(image, drawn.image, fringe)
    visible = face.mask * (1 - fringe)
    edges = torch.cat([visible, solid], dim=1)

    image, visible = _glasses(image, visible, landmarks, d)
    image, visible = _occluder(image, visible, background, face, d)
    image = _soften_edges(image, edges)
    image = image * _column(d.uniform(0.92, 1.08)) + _column(d.uniform(-0.03, 0.03))
    return Composite(degrade(image.clamp(0, 1), CAMERA, d), clean, visible)


def plain_background(size: tuple[int, int], d: Draws) -> Tensor:
    """Rooms and walls without a photograph: slopes, blotches, blurred boxes; [B, 3, H, W]."""
    # Made at half the size: what is behind a face is out of focus.
    height, width = -(-size[0] // 2), -(-size[1] // 2)
    y = torch.linspace(-1, 1, height, device=d.device)[None, :, None]
    x = torch.linspace(-1, 1, width, device=d.device)[None, None, :]
    turn = d.uniform(0, 2 * math.pi)[:, None, None]
    slope = 0.5 + 0.5 * (turn.cos() * x + turn.sin() * y) / 1.42
    low, high = (_column3(d.color(0.02, 0.9, 0.35)) for _ in range(2))
    picture = low + (high - low) * slope[:, None] * _column(d.chance(0.7))
    tint = 0.7 * d.noise(1, 3, 3) + 0.3 * d.noise(3, 3, 3)
    picture = picture + 0.15 * _wide(tint, (height, width))
    grain = 0.8 * d.noise(1, 14, 14) + 0.2 * d.noise(3, 14, 14)
    picture = picture + 0.07 * _wide(grain, (height, width))
    for _ in range(3):  # furniture, windows, people far away
        left, top = d.uniform(-1.2, 0.8)[:, None, None], d.uniform(-1.2, 0.8)[:, None, None]
        right = left + d.uniform(0.1, 1.4)[:, None, None]
        bottom = top + d.uniform(0.1, 1.6)[:, None, None]
        blur = d.uniform(0.01, 0.12)[:, None, None]
        inside = torch.sigmoid(torch.minimum(x - left, right - x) / blur) * torch.sigmoid(
            torch.minimum(y - top, bottom - y) / blur
        )
        box = inside[:, None] * _column(d.chance(0.6))
        picture = torch.lerp(picture, _column3(d.color(0.02, 0.95, 0.4)), box)
    return _wide(picture.clamp(0, 1), size)


def photograph_background(photographs: Tensor, kept: Tensor, d: Draws) -> Tensor:
    """Photographs [B, 3, H, W] of which the middle, where their own face is, does not stay in place.

    Rolled by half, so that the face is in the corners; a corner, enlarged; or shuffled patches. Where
    `kept` [B] is 1 the photograph stays as it is.
    """
    height, width = photographs.shape[-2:]
    kind = d.uniform()
    mirrored = _column(d.chance(0.5))
    photographs = photographs + mirrored * (photographs.flip(3) - photographs)
    down, across, part = d.uniform(0.35, 0.65), d.uniform(0.35, 0.65), d.uniform(0.2, 0.34)
    corner_x, corner_y = d.uniform(), d.uniform()
    order = d.uniform(0, 64)
    result = []
    for b, picture in enumerate(photographs):
        if kept[b]:
            result.append(picture)
        elif kind[b] < 0.45:
            shift = (int(down[b] * height), int(across[b] * width))
            result.append(picture.roll(shift, (1, 2)))
        elif kind[b] < 0.85:
            side = max(8, int(part[b] * height))
            top = 0 if corner_y[b] < 0.6 else height - side
            left = 0 if corner_x[b] < 0.5 else width - side
            corner = picture[None, :, top : top + side, left : left + side]
            result.append(_wide(corner, (height, width))[0])
        else:
            cells = 8
            h, w = height // cells * cells, width // cells * cells
            patches = picture[:, :h, :w].reshape(3, cells, h // cells, cells, w // cells)
            patches = patches.permute(1, 3, 0, 2, 4).flatten(0, 1)  # [64, 3, h, w]
            step = (11, 19, 27, 37, 45, 53, 21, 43)[
                int(order[b]) % 8
            ]  # a permutation of the patches
            places = (torch.arange(cells**2) * step + int(order[b])) % cells**2
            patches = patches[places.to(picture.device)].reshape(
                cells, cells, 3, h // cells, w // cells
            )
            shuffled = picture.clone()
            shuffled[:, :h, :w] = patches.permute(2, 0, 3, 1, 4).reshape(3, h, w)
            result.append(shuffled)
    return torch.stack(result)


def _shadow(skin: Tensor, d: Draws) -> Tensor:
    """Soft shadows of things outside of some pictures, on a factor [B, 1, H, W]."""
    which = d.chance(_SHADOW).nonzero()[:, 0]
    noise, level, strength = d.noise(1, 4, 4), d.uniform(-0.3, 0.5), d.uniform(0.15, 0.5)
    if not len(which):
        return skin
    edge = torch.sigmoid((_wide(noise[which], skin.shape[-2:]) - _column(level[which])) * 9)
    return skin.index_copy(0, which, skin[which] * (1 - _column(strength[which]) * edge))


def _head_coordinates(landmarks: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Up and right on the face, [B, 1, H, W] each: 0 in the middle, 1 from the chin to the brows."""
    brows, chin = landmarks[:, list(BROWS)].mean(1), landmarks[:, JAW[8]]
    length = (brows - chin).norm(dim=1, keepdim=True).clamp(min=4)
    up = (brows - chin) / length
    right = torch.stack([-up[:, 1], up[:, 0]], dim=1)
    y = torch.arange(size[0], device=landmarks.device) + 0.5
    x = torch.arange(size[1], device=landmarks.device) + 0.5
    middle = (brows + chin) / 2

    def along(axis: Tensor) -> Tensor:
        dx = (x[None, None] - middle[:, 0, None, None]) * axis[:, 0, None, None]
        dy = (y[None, :, None] - middle[:, 1, None, None]) * axis[:, 1, None, None]
        return ((dx + dy) / length[..., None])[:, None]

    return along(up), along(right)


def _beard(skin: Tensor, landmarks: Tensor, color: Tensor, d: Draws) -> Tensor:
    """Hair on some lower faces; of the colour [B, 3], lit as the skin [B, 3, H, W] is."""
    which, amount = d.chance(_BEARD).nonzero()[:, 0], d.uniform(0.25, 0.9)
    height, slope, goatee = d.uniform(0.05, 0.25), d.uniform(0, 0.65), d.chance(0.35)
    rough, strands = d.noise(1, 40, 40), d.noise(1, 90, 90)
    if not len(which):
        return skin
    size, some = skin.shape[-2:], skin[which]
    u, v = _head_coordinates(landmarks[which], size)
    rough = 0.02 * _wide(rough[which], size)
    line = _column(slope[which]) * v.abs() - _column(height[which])
    cover = torch.sigmoid((line - u + rough) * 22)
    lips = torch.sigmoid((1 - (v / 0.24).square() - ((u + 0.2) / 0.085).square()) * 5)
    chin = torch.sigmoid((0.3 - v.abs() + rough) * 25)
    cover = cover * (1 - _column(goatee[which]) * (1 - chin)) * (1 - 0.92 * lips)
    # The skin's own light: its brightness against its mean where the beard grows.
    grey = some.mean(1, keepdim=True)
    light = grey / ((grey * cover).mean((2, 3), keepdim=True) / cover.mean((2, 3), keepdim=True))
    strands = 0.8 * (1 + 0.25 * _wide(strands[which], size)).clamp(min=0)
    hair = _column3(color[which]) * strands * light.clamp(0, 3)
    return skin.index_copy(0, which, torch.lerp(some, hair, cover * _column(amount[which])))


def _glasses(image: Tensor, visible: Tensor, landmarks: Tensor, d: Draws) -> tuple[Tensor, Tensor]:
    """Frames round some eyes, some with dark lenses; the pictures, and what is visible still."""
    which = d.chance(_GLASSES).nonzero()[:, 0]
    dark = d.chance(_DARK_GLASSES) * d.uniform(0.55, 1)
    radius, thick = d.uniform(0.30, 0.44), d.uniform(0.008, 0.035)
    flat, square = d.uniform(1.0, 1.5), d.uniform(2, 5)
    color, tint = d.color(0, 0.35, 0.6), d.color(0, 0.3, 0.4)
    if not len(which):
        return image, visible
    dark, radius, thick, flat, square = (
        x[which, None, None] for x in (dark, radius, thick, flat, square)
    )
    right, left = landmarks[which, _RIGHT_EYE].mean(1), landmarks[which, _LEFT_EYE].mean(1)
    span = left - right
    length = span.norm(dim=1)[:, None, None].clamp(min=4)
    across, down = span[:, 0, None, None] / length, span[:, 1, None, None] / length
    y = torch.arange(image.shape[2], device=image.device)[None, :, None] + 0.5
    x = torch.arange(image.shape[3], device=image.device)[None, None] + 0.5
    frame = lens = torch.zeros_like(image[which, 0])
    for eye in (right, left):
        dx, dy = x - eye[:, 0, None, None], y - eye[:, 1, None, None] - 0.04 * length
        a, b = (dx * across + dy * down) / length, (dy * across - dx * down) / length
        distance = (a.abs() + 1e-4).pow(square) + (b.abs() * flat + 1e-4).pow(square)
        outside = distance.pow(1 / square) - radius
        frame = torch.maximum(frame, torch.sigmoid((thick - outside.abs()) * 2 * length))
        lens = torch.maximum(lens, torch.sigmoid(-outside * 2 * length))
        if eye is right:
            bridge = ((a - 0.5).abs() < 0.52 - radius) & (b.abs() < 0.8 * thick + 0.008)
            frame = torch.maximum(frame, bridge.float())
    lens, frame = (lens * dark)[:, None], frame[:, None]
    some = torch.lerp(
        torch.lerp(image[which], _column3(tint[which]), lens), _column3(color[which]), frame
    )
    seen = visible[which] * (1 - lens) * (1 - frame)
    return image.index_copy(0, which, some), visible.index_copy(0, which, seen)


def _occluder(
    image: Tensor, visible: Tensor, background: Tensor, face: Layer, d: Draws
) -> tuple[Tensor, Tensor]:
    """Hands, microphones, other people in front of some faces: a rounded bar over a part."""
    height, width = image.shape[2:]
    which, turn = d.chance(_OCCLUDER).nonzero()[:, 0], d.uniform(0, math.pi)
    left, top = d.uniform(0, 1), d.uniform(0.15, 1.1)
    long, wide, power = d.uniform(0.06, 0.3), d.uniform(0.04, 0.14), d.uniform(2, 6)
    kind, color, noise = d.uniform(), d.color(0.02, 0.9, 0.6), d.noise(1, 12, 12)
    if not len(which):
        return image, visible
    turn, left, top, long, wide, power = (
        x[which, None, None] for x in (turn, left, top, long, wide, power)
    )
    y = torch.linspace(0, 1, height, device=image.device)[None, :, None] - top
    x = torch.linspace(0, 1, width, device=image.device)[None, None] - left
    across, along = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    shape = ((along / long).abs() + 1e-4).pow(power) + ((across / wide).abs() + 1e-4).pow(power)
    cover = (shape < 1).float()[:, None]
    skin, mask = face.image[which], face.mask[which]
    mean = (skin * mask).sum((2, 3)) / mask.sum((2, 3)).clamp(min=1)  # a hand of its own
    rounded = (1.15 - 0.5 * shape.clamp(0, 1))[:, None]
    hand = _column3(mean) * rounded * (1 + 0.05 * _wide(noise[which], (height, width)))
    thing = _column3(color[which]) * rounded
    piece = background[which].roll((height // 3, width // 3), (2, 3))
    kind = _column(kind[which])
    filling = torch.where(kind < 0.4, hand, torch.where(kind < 0.75, thing, piece))
    some = torch.lerp(image[which], filling, cover)
    seen = visible[which] * (1 - cover)
    return image.index_copy(0, which, some), visible.index_copy(0, which, seen)


def _soften_edges(image: Tensor, masks: Tensor) -> Tensor:
    """Average 3 x 3 pixels where one thing ends and another begins; renders are jagged there."""
    near = _average(masks)
    return torch.lerp(image, _average(image), (4 * near * (1 - near)).amax(1, keepdim=True))


def _average(x: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels; sums of shifted pictures, which are faster than a pooling here."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    return (x[..., :-2] + x[..., 1:-1] + x[..., 2:]) / 9


def _wide(noise: Tensor, size: tuple[int, ...]) -> Tensor:
    """Pictures [B, C, h, w] at a larger size, bilinear."""
    # As planes of one channel: with more of them torch's last bits follow the number of threads.
    planes = noise.flatten(0, 1)[:, None]
    wide = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    return wide.view(*noise.shape[:2], *size)


def _column(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)


def _column3(color: Tensor) -> Tensor:
    return color[:, :, None, None]
