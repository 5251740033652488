"""Random changes of training pictures, each drawn from the seed and the picture's place in the run.

What the encoder sees and what the photometric loss compares with are separated here. Colour changes are
changes of the scene, as another light or skin would be: both have them. Blur, noise, JPEG's marks and
occluders are between the scene and the camera: the encoder sees them, the loss does not, so the
face behind is what is wanted. Mirrors are drawn where pictures are read (`sampling.batches`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.data.jpeg_marks import with_jpeg_marks
from mofa_nvdr.data.occluders import grainy
from mofa_nvdr.data.random_numbers import Draws, random_generator
from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.code import NUM_LIGHT
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.scene.lighting import total_light

_BLUR = (0.4, 1.8)  # px at 240, standard deviation
_QUALITY = (20.0, 85.0)  # of JPEG
_COARSE = (0.3, 0.8)  # of the picture's side
_PATCH = (0.08, 0.28)  # half a patch's sides, in sides of the picture
STREAM = 2  # of the seed: 0 draws the order, 1 the mirrors, 3 to 5 rendered faces


@dataclass(frozen=True)
class Augmentation:
    """How much of each change; zero switches one off. The options `augment.*`.

    Attributes:
        color: largest relative change of gain, contrast, saturation, gamma and (a third of it) the
            balance of the channels; in input and target. Pictures with known codes get the gain and the
            balance alone, which their light can follow.
        blur: share of the inputs that are blurred, by 0.4 to 1.8 px at 240.
        noise: largest standard deviation of noise in the input; each has its own, from 0 up.
        jpeg: share of the inputs that are compressed, at qualities from 20 to 85.
        occlude: share of the inputs in which a patch covers a part, of a plain colour with some
            texture or of the picture's own pixels from elsewhere.
        camera: largest relative change of gain, gamma, contrast and (twice it) saturation in the input alone:
            another camera's picture of the same face. Known codes stay: what they say of form holds for any.
        gray: share of the inputs without colours.
        coarse: share of the inputs with the details of a picture of 0.3 to 0.8 of their size.
        frame: largest relative change of size, and in proportion of place and turn (reframing.py).
    """

    color: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    occlude: float = 0.0
    camera: float = 0.0
    gray: float = 0.0
    coarse: float = 0.0
    frame: float = 0.0


def augment(batch: Batch, options: Augmentation, seed: int) -> Batch:
    """Change a training batch on its own device, a function of its pictures, the seed and its places.

    Args:
        batch: as `sampling.batches` or `SyntheticFaces.batches` make it.
        options: what to do.
        seed: non-negative.

    Returns:
        The batch with `images` for the encoder and `target` for the photometric loss; the same batch
        where everything is off.

    Raises:
        ValueError: the batch does not know its places (validation batches are not augmented).
    """
    if options == Augmentation():
        return batch
    if len(batch.places) != len(batch.images):
        raise ValueError(
            f"augment: {len(batch.places)} places for {len(batch.images)} pictures; only batches of "
            "training know theirs"
        )
    # Everything is drawn whether it is on or off, so that one option does not change another's draws.
    d = Draws([random_generator(seed, STREAM, p) for p in batch.places], batch.images.device)
    images, target, codes = batch.images, batch.target, batch.codes
    color = torch.stack([d.uniform(-options.color, options.color) for _ in range(7)], dim=1)
    if options.color:
        if codes is not None:
            color[codes.isfinite().all(1), :3] = 0
            codes = _relit(codes, _factors(color))
        images = _recolor(images, color)
        target = images if batch.clean is None else _recolor(target, color)
    images = degrade(_occlude(images, options.occlude, d), options, d)
    # Drawn last: older options draw as they did.
    images = _by_another_camera(images, options, d)
    return replace(batch, images=images, clean=target, codes=codes)


def degrade(images: Tensor, options: Augmentation, d: Draws) -> Tensor:
    """What is between the scene and the file: blur, noise and JPEG's marks.

    Args:
        images: [B, 3, H, W] in [0, 1].
        options: `blur`, `noise` and `jpeg` of it.
        d: randomness for B samples.

    Returns:
        [B, 3, H, W] in [0, 1].
    """
    images = _blur(images, options.blur, d)
    strength = d.uniform(0, options.noise).view(-1, 1, 1, 1)
    if options.noise:
        images = (images + strength * d.noise(*images.shape[1:])).clamp(0, 1)
    return _compress(images, options.jpeg, d)


def _recolor(images: Tensor, change: Tensor) -> Tensor:
    """Relative changes [B, 7]: gamma, contrast, saturation, balance of three channels, gain."""
    from kornia import enhance

    images = enhance.adjust_gamma(images, (1 + change[:, 0]).clamp(min=0.1))
    images = enhance.adjust_contrast_with_mean_subtraction(images, 1 + change[:, 1])
    images = enhance.adjust_saturation_with_gray_subtraction(images, 1 + change[:, 2])
    return (images * _factors(change)[:, :, None, None]).clamp(0, 1)


def _by_another_camera(images: Tensor, options: Augmentation, d: Draws) -> Tensor:
    from kornia.color import rgb_to_grayscale

    change = torch.stack([d.uniform(-options.camera, options.camera) for _ in range(7)], dim=1)
    is_gray, is_coarse = d.chance(options.gray), d.chance(options.coarse)
    share = d.uniform(*_COARSE)
    if options.camera:
        change[:, 2] *= 2  # saturation
        images = _recolor(images, change)
    if options.gray:
        gray = rgb_to_grayscale(images).expand_as(images)
        images = torch.where(is_gray.view(-1, 1, 1, 1) > 0, gray, images)
    which = is_coarse.nonzero()[:, 0]
    if len(which):
        side = images.shape[-1]
        coarse = [_coarse(images[k, None], max(1, round(side * share[k].item()))) for k in which]
        images = images.index_copy(0, which, torch.cat(coarse).clamp(0, 1))
    return images


def _coarse(images: Tensor, side: int) -> Tensor:
    size = images.shape[-2:]
    small = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    return F.interpolate(small, size=size, mode="bicubic")


def _factors(change: Tensor) -> Tensor:
    """[B, 3] of the channels: their balance and the gain."""
    return (1 + change[:, 6:]) * (1 + change[:, 3:6] / 3)


def _relit(codes: Tensor, factors: Tensor) -> Tensor:
    """Codes [B, size] under the lights that make the pictures that many times as bright."""
    light = total_light(codes[:, -NUM_LIGHT:].view(-1, 9, 3)) * factors[:, None]
    light = light - total_light(torch.zeros_like(light))
    return torch.cat([codes[:, :-NUM_LIGHT], light.flatten(1)], 1)


def _blur(images: Tensor, share: float, d: Draws) -> Tensor:
    which, sigma = d.chance(share).nonzero()[:, 0], d.uniform(*_BLUR)
    if not len(which):
        return images
    sigmas = (sigma[which] * (images.shape[-1] / 240)).tolist()
    soft = [blurred(images[k, None], own, "reflect") for k, own in zip(which, sigmas)]
    return images.index_copy(0, which, torch.cat(soft))


def _compress(images: Tensor, share: float, d: Draws) -> Tensor:
    which, quality = d.chance(share).nonzero()[:, 0], d.uniform(*_QUALITY)
    if not len(which):
        return images
    # One by one: products of matrices of another size have other last bits.
    marked = [with_jpeg_marks(images[k], own) for k, own in zip(which, quality[which].tolist())]
    return images.index_copy(0, which, torch.stack(marked))


def _occlude(images: Tensor, share: float, d: Draws) -> Tensor:
    """A turned rectangle or ellipse over a part of some pictures."""
    height, width = images.shape[-2:]
    which = d.chance(share).nonzero()[:, 0]
    turn, long, wide = d.uniform(0, math.pi), d.uniform(*_PATCH), d.uniform(*_PATCH)
    down, across, is_round, is_plain = d.uniform(), d.uniform(), d.chance(0.5), d.chance(0.5)
    color, texture = d.color(0.05, 0.9), d.random(3, 8, 8)
    if not len(which):
        return images
    turn, long, wide, down, across, is_round, is_plain = (
        x[which].view(-1, 1, 1) for x in (turn, long, wide, down, across, is_round, is_plain)
    )
    y = torch.linspace(0, 1, height, device=images.device)[:, None] - down
    x = torch.linspace(0, 1, width, device=images.device) - across  # [N, 1, W]
    u = (turn.cos() * x + turn.sin() * y) / long
    v = (turn.cos() * y - turn.sin() * x) / wide
    inside = torch.where(is_round > 0, u * u + v * v < 1, torch.maximum(u.abs(), v.abs()) < 1)
    plain = grainy(color[which], texture[which], (height, width))
    own = images[which].roll((height // 2, width // 2), (2, 3))
    filling = torch.where(is_plain[:, None] > 0, plain, own)
    return images.index_copy(0, which, torch.where(inside[:, None], filling, images[which]))
