"""Textures that are known in part, laid over each other so that no seam shows.

A layer keeps its own differences between neighbouring texels; what two layers differ by at the border of
one is spread smoothly over the other (a membrane in the logarithm of linear light).

Source: Perez, Gangnet, Blake 2003, "Poisson Image Editing" (a guidance field with a membrane for what is
left), in logarithms, the membrane by pull-push; Burt and Adelson 1983, "A Multiresolution Spline with
Application to Image Mosaics" (low frequencies blended widely, high ones narrowly).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.ratio_image import filled
from mofa_nvdr.render.blur import blurred

_DARK = 0.004  # linear: what is darker counts as this in ratios
_COARSE = 128  # side of the maps of low frequencies
_MOST_SHIFT = 0.9  # logarithm by which a layer's colours may be moved to meet another's
_REACH = 10.0  # coarse texels over which colours beyond a layer turn to its mean
_MOST_DETAIL = 0.2  # logarithm
_SHARP = 8  # power of weights of which the best photograph of a place is taken


@dataclass(frozen=True)
class TextureLayer:
    """A texture that is known in part.

    Attributes:
        color: [3, S, S] linear.
        weight: [S, S] in [0, 1], how far it is known.
        quality: [S, S] above 0, how finely it is seen, next to other layers of the same surface; None: alike.
    """

    color: Tensor
    weight: Tensor
    quality: Tensor | None = None


@dataclass(frozen=True)
class Part:
    """A part of a texture whose colours say nothing of other parts', as skin's of teeth.

    Attributes:
        mask: [S, S] bool.
        box: rows and columns that hold it, at multiples of the coarse maps' texels.
    """

    mask: Tensor
    box: tuple[slice, slice]

    @staticmethod
    def of(mask: Tensor) -> Part | None:
        """The part where a mask is; None: nowhere."""
        step = _factor(mask.shape[-1])
        spans = []
        for axis in (1, 0):
            where = mask.any(axis).nonzero()[:, 0]
            if not len(where):
                return None
            spans.append(slice(int(where[0]) // step * step, (int(where[-1]) // step + 1) * step))
        return Part(mask, (spans[0], spans[1]))


def check_size(size: int) -> None:
    """Refuse a texture that coarse maps do not divide.

    Raises:
        ValueError: a side of more than 128 texels that is no multiple of 128.
    """
    if size > _COARSE and size % _COARSE:
        raise ValueError(
            f"a texture from photographs has {size} texels a side, expected a multiple of {_COARSE}"
        )


def _factor(size: int) -> int:
    """Texels in a coarse one."""
    return max(1, size // _COARSE)


def feathered(weight: Tensor, sigma: float, part: Part) -> Tensor:
    """A weight [S, S] within a part that falls off inside of its border, over about two sigma texels.

    Args:
        weight: in [0, 1].
        sigma: texels.
        part: its own border is none of the weight's.
    """
    mask, own = part.mask[part.box].to(weight), weight[part.box]
    soft, area = blurred(torch.stack([own * mask, mask])[None], sigma, "constant")[0]
    inside = (2 * soft / area.clamp(min=1e-3) - 1).clamp(0, 1)
    out = torch.zeros_like(weight)
    out[part.box] = torch.minimum(own, inside * inside * (3 - 2 * inside)) * mask
    return out


def lows(
    values: Tensor, weight: Tensor, sigma: float, reach: float = 0.0, factor: int = 0
) -> Tensor:
    """Low frequencies of what is known of [C, S, S].

    Args:
        values: any.
        weight: [S, S] how far they are known.
        sigma: deviation of the Gaussian, coarse texels.
        reach: where nothing is known they go on smoothly, and turn to the mean over about as many coarse
            texels; 0: they go on.
        factor: texels in a coarse one; 0: those of a whole texture.

    Returns:
        [C, S / factor, S / factor].
    """
    factor = factor or _factor(weight.shape[-1])
    both = torch.cat([values * weight, weight[None]])[None]
    both = blurred(F.avg_pool2d(both, factor), sigma, "constant")[0]
    total = both[-1]
    whole = filled(both[:-1] / total.clamp(min=1e-4), (total * 8).clamp(0, 1), steps=4)
    if reach:
        mean = both[:-1].sum((1, 2)) / total.sum().clamp(min=1e-4)
        near = (3 * blurred(total.clamp(0, 1)[None, None], reach, "constant")[0]).clamp(0, 1)
        whole = torch.lerp(mean[:, None, None].expand_as(whole), whole, near)
    return whole


def enlarged(coarse: Tensor, size: int, width: int = 0) -> Tensor:
    """[C, h, w] to [C, size, size], or [C, size, width]."""
    large = size, width or size
    return F.interpolate(coarse[None], large, mode="bicubic", align_corners=False)[0]


def logarithm(color: Tensor) -> Tensor:
    """Of linear colours, finite for black."""
    return color.clamp(min=_DARK).log()


def laid_over(under: Tensor, over: TextureLayer, parts: Sequence[Part], sigma: float) -> Tensor:
    """A layer over a whole texture, whose colours are moved to meet it.

    Args:
        under: [3, S, S] linear.
        over: what is known.
        parts: colours move within each alone.
        sigma: coarse texels over which borders are averaged.

    Returns:
        [3, S, S].
    """
    moved, factor = under.clone(), _factor(under.shape[-1])
    for part in parts:
        mask, own = part.mask[part.box], under[(slice(None), *part.box)]
        known = over.weight[part.box] * mask
        if float(known.sum()) < 1:
            continue
        shift = logarithm(over.color[(slice(None), *part.box)]) - logarithm(own)
        membrane = lows(shift, known, sigma, _REACH, factor)
        membrane = _MOST_SHIFT * (membrane / _MOST_SHIFT).tanh()
        met = own * enlarged(membrane, *mask.shape).exp()
        moved[(slice(None), *part.box)] = torch.where(mask, met, moved[(slice(None), *part.box)])
    return torch.lerp(moved, over.color, over.weight)


def continued(layer: TextureLayer, mask: Tensor, sigma: float, reach: float) -> Tensor:
    """A layer's fine detail beyond its border, mirrored at it: pores and beards do not end where sight does.

    Args:
        layer: its detail counts where its weight is above a half.
        mask: [S, S] bool, where to go on.
        sigma: coarse texels below which differences are detail.
        reach: texels over which it fades.

    Returns:
        Factors of linear light, [1, S, S]; 1 where there is nothing to go on with.
    """
    import cv2

    known = (layer.weight > 0.5) & mask
    if not bool(known.any()):
        return torch.ones_like(layer.weight)[None]
    size = known.shape[-1]
    grey = logarithm(layer.color).mean(0, keepdim=True)
    high = (grey - enlarged(lows(grey, known.to(grey), sigma), size))[0].clamp(
        -_MOST_DETAIL, _MOST_DETAIL
    )
    distance, labels = cv2.distanceTransformWithLabels(
        (~known).byte().numpy(), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # The nearest known texel of each: labels count these in the order of rows.
    order = torch.empty(int(labels.max()) + 1, dtype=torch.long)
    where = known.flatten().nonzero()[:, 0]
    order[torch.from_numpy(labels).flatten()[where].long()] = where
    nearest = order[torch.from_numpy(labels).long()]
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    row, column = 2 * (nearest // size) - row, 2 * (nearest % size) - column
    inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
    place = row.clamp(0, size - 1) * size + column.clamp(0, size - 1)
    fade = (-(torch.from_numpy(distance) / reach).square()).exp()
    use = inside & known.flatten()[place] & mask & ~known
    return torch.where(use, (high.flatten()[place] * fade).exp(), 1.0)[None]


def merged(layers: Sequence[TextureLayer], sigma: float) -> TextureLayer:
    """Layers of one surface as one: of every place the best one's detail, and the mean of their colours.

    Args:
        layers: at least one.
        sigma: coarse texels below which differences are detail.
    """
    if len(layers) == 1:
        return layers[0]
    size = layers[0].weight.shape[-1]
    logs = [logarithm(layer.color) for layer in layers]
    low = torch.stack([lows(log, layer.weight, sigma) for log, layer in zip(logs, layers)])
    weight = torch.stack([layer.weight for layer in layers])  # [N, S, S]
    factor = _factor(size)
    wide = blurred(F.avg_pool2d(weight[:, None], factor), sigma, "constant") + 1e-6
    mean = (low * wide).sum(0) / wide.sum(0)
    fine = [torch.ones_like(one.weight) if one.quality is None else one.quality for one in layers]
    shown = weight * torch.stack(fine)
    best = (shown / shown.amax(0).clamp(min=1e-9)) ** _SHARP + 1e-9
    best = blurred(best[:, None], size / 512)
    best = best * (weight[:, None] > 0) + 1e-9
    high = torch.stack([log - enlarged(one, size) for log, one in zip(logs, low)])
    detail = (high * best).sum(0) / best.sum(0)
    return TextureLayer((detail + enlarged(mean, size)).exp(), weight.amax(0))
