"""The inside of a drawn mouth, for pictures: lips shade it, which the model's light knows nothing of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.scene.light_sources import LUMINANCE

# How bright the inside is at the lips, over which length they shade it, and width of their edge, faces.
_AT_LIPS, _LIPS_SHADE, _SOFT = 0.45, 0.012, 0.006
_LEAST = 0.6  # px of either
_COLOR = 0.4  # share of the light's colour that teeth have


def inner_mouth(model: FaceModel) -> Tensor:
    """1 at the vertices inside of the mouth, [V, 1]; 0 everywhere of a model without regions."""
    return model.in_regions("mouth", "teeth").float()[:, None]


def lips_shade(
    opened: Tensor, face: float, at_lips: float = _AT_LIPS, length: float = _LIPS_SHADE
) -> tuple[Tensor, Tensor]:
    """How far a mouth's inside is seen, soft at the lips, and how bright it is there.

    Args:
        opened: [B, 1, H, W] 1 where the inside is seen.
        face: px that the face is wide.
        at_lips: how bright the inside is at the lips.
        length: over which they shade it, faces.

    Returns:
        Two pictures [B, 1, H, W] in [0, 1].
    """
    soft = blurred(opened, max(_LEAST, _SOFT * face))
    deep = 2 * blurred(opened, max(_LEAST, length * face)) - 1
    return soft, at_lips + (1 - at_lips) * deep.clamp(0, 1)


@torch.no_grad()
def shaded_mouth(rendering: Rendering, inner: Tensor, face: float) -> Tensor:
    """A rendering's image [B, 3, H, W] with the mouth's inside shaded by the lips.

    Args:
        rendering: a renderer's.
        inner: of `inner_mouth`.
        face: px that the face is wide.
    """
    opened = (rendering.interpolate(inner) > 0.5).float()
    if not opened.any():
        return rendering.image
    image = rendering.image.clone()
    box = _box(opened, math.ceil(3 * max(_LEAST, _LIPS_SHADE * face)) + 2)
    image[box] = _shaded(
        image[box],
        rendering.mask[box],
        rendering.albedo[box],
        rendering.shading[box],
        opened[box],
        face,
    )
    return image


def _shaded(
    image: Tensor, mask: Tensor, albedo: Tensor, shading: Tensor, opened: Tensor, face: float
) -> Tensor:
    soft, shade = lips_shade(opened, face)
    # Light and skin share a photograph's colour as the albedo's prior says, and teeth would come out blue.
    weights = shading.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    brightness = (shading * weights).sum(1, keepdim=True)
    teeth = albedo * torch.lerp(brightness, shading, _COLOR)
    # Lips have no colour from the teeth, nor these from the lips.
    inside, beside = (
        blurred(colors * own, _LEAST) / blurred(own, _LEAST).clamp(min=1e-3)
        for colors, own in ((teeth, opened), (image, mask - opened))
    )
    lips = torch.where(opened > 0, beside, image)
    return lips + soft * (shade * inside - lips)


def _box(opened: Tensor, margin: int) -> tuple[slice, ...]:
    """The part of pictures [B, C, H, W] about what is not zero in one of them."""
    seen = opened.amax((0, 1))
    spans = []
    for axis in (1, 0):
        places = seen.amax(axis).nonzero()[:, 0]
        spans.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1))
    return (slice(None), slice(None), *spans)
