"""A photograph times a ratio of shadings: the image operations of relighting, on maps of any size.

Source: ratio images (Riklin-Raviv and Shashua 2001, "The Quotient Image"; Liu, Shan, Zhang 2001, "Expressive
Expression Mapping with Ratio Images"). Everything is in linear light; maps are of the logarithm of the ratio,
so that a weight of 0 is the photograph and halves are symmetric.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.render.blur import blurred
from mofa_nvdr.scene.light_sources import LUMINANCE

FLOOR = 0.15  # least shading, as a share of its mean: below it models of faces know nothing
_DARKEST, _BRIGHTEST = math.log(10), math.log(2.2)  # ratios that are approached, not passed
_KEPT_PERCENTILE, _MOST_MEAN = 0.92, 1.05  # of the face's luminance
_SHOULDER = 0.7  # of the brightest channel, linear, from which brightening is held back
_DARK = 1e-4
# Of a pixel's luminance, what may be gloss, and what of it is taken for pale skin; by look, on 12 portraits.
_MOST_GLOSS, _PALE = 0.8, 0.05
_OVEREXPOSED = (
    0.6  # of what looks like gloss is skin that the photograph shows too bright, on average
)
_GLOSS_FROM, _GLOSS_FULL = 1.0, 1.3  # medians of the skin's luminance
# Of the logarithm by which a place is darker, up to a ratio of 0.22; no luminance. By look, on six portraits.
_WARM, _WARM_UNTIL = (0.15, -0.0375, -0.075), 1.5


def floored(shading: Tensor) -> Tensor:
    """Shading [V, 3] of at least FLOOR of the mean luminance, in each channel."""
    mean = (shading.clamp(min=0) @ shading.new_tensor(LUMINANCE)).mean().clamp(min=1e-9)
    return torch.maximum(shading, FLOOR * mean)


def paler(shading: Tensor, kept: float) -> Tensor:
    """Shading [V, 3] with less colour, as eyes and cameras adapt to a light; the luminance stays.

    Args:
        shading: above 0.
        kept: share of the colour by which places differ: 1: all; 0: none. Of the mean colour its square is
            kept: shirt and background stay as they are, and would show a face in strong colour for pasted.
    """
    weights = shading.new_tensor(LUMINANCE)
    luminance = (shading @ weights)[:, None]
    mean = shading.mean(0)
    mean = mean / (mean @ weights)
    return luminance * (shading / luminance / mean) ** kept * mean ** (kept * kept)


def warmed(log_ratio: Tensor, share: float) -> Tensor:
    """Logarithms of ratios whose dark places are redder, at the same luminance.

    Light that a lamp no longer sends to skin still comes through it from next to there, red before all; a
    ratio of two surfaces' shadings makes such places grey.

    Args:
        log_ratio: [P, 3], linear RGB.
        share: 0: none of it; 1: red falls by 15 % less, where a place is darker than the median.
    """
    luminance = (log_ratio @ log_ratio.new_tensor(LUMINANCE))[:, None]
    darker = (luminance.median() - luminance).clamp(0, _WARM_UNTIL) if len(luminance) else 0.0
    return log_ratio + share * darker * log_ratio.new_tensor(_WARM)


def gloss(linear: Tensor, skin: Tensor, radius: float) -> Tensor:
    """What makes bright places of a face paler than its skin: light mirrored at its surface, and exposure.

    The dichromatic model (Shafer 1985) with the skin's median colour and white. Skin that is exposed too
    brightly looks the same, so only a part of the luminance is taken for gloss, but all of the paleness.

    Args:
        linear: [3, H, W].
        skin: [H, W] in [0, 1], where bare skin is seen.
        radius: px, the deviation of a blur: colours of photographs are coarser than their brightness.

    Returns:
        [3, H, W] to take from the linear light.
    """
    weights = linear.new_tensor(LUMINANCE)
    soft = blurred(linear[None], max(radius, 0.7))[0]
    luminance, coarse = ((x * weights.view(3, 1, 1)).sum(0) for x in (linear, soft))
    seen = skin > 0.8
    if not bool(seen.any()):
        return torch.zeros_like(linear)
    low, middle, high = luminance[seen].quantile(luminance.new_tensor([0.25, 0.5, 0.75]))
    usual = linear[:, seen & (luminance >= low) & (luminance <= high)]
    color = (usual / usual.sum(0).clamp(min=_DARK)).median(1).values
    # Luminance is a matte part of that colour and a white one: both by least squares.
    color = color / (color @ weights).clamp(min=_DARK)
    parts = torch.linalg.pinv(torch.stack([color, torch.ones_like(color)], 1))  # [2, 3]
    white = torch.einsum("c,chw->hw", parts[1], soft) / coarse.clamp(min=_DARK)
    bright = (coarse / middle.clamp(min=_DARK) - _GLOSS_FROM) / (_GLOSS_FULL - _GLOSS_FROM)
    share = (white - _PALE).clamp(0, _MOST_GLOSS) * bright.clamp(0, 1) * skin
    return share * luminance * (1 - _OVEREXPOSED * color).view(3, 1, 1)


def dulled(linear: Tensor, shine: Tensor, log_ratio: Tensor) -> Tensor:
    """Linear light [3, H, W] whose gloss [3, H, W] fades as a ratio [3, H, W] goes away from one.

    Gloss is the old light's. Where it is dark now, grey patches would stay of it; where it is brighter, the
    gloss would grow into a glare.
    """
    away = (log_ratio * log_ratio.new_tensor(LUMINANCE).view(3, 1, 1)).sum(0).abs()
    return (linear - shine * (1 - (-away).exp())).clamp(min=0)


def exposure(luminance: Tensor, ratio: Tensor) -> float:
    """The factor of a ratio that leaves a face about as bright as it was.

    Its bright parts (the 92nd percentile) stay, and its mean grows by 5 % at most.

    Args:
        luminance: [N] of a face's pixels, linear.
        ratio: [N, 3] for them.
    """
    weights = ratio.new_tensor(LUMINANCE)
    relit = luminance * (ratio @ weights)
    if not len(relit) or float(relit.mean()) < _DARK**2:
        return 1.0
    bright = luminance.quantile(_KEPT_PERCENTILE) / relit.quantile(_KEPT_PERCENTILE)
    return float(torch.minimum(bright, _MOST_MEAN * luminance.mean() / relit.mean()))


def bounded(log_ratio: Tensor) -> Tensor:
    """Logarithms of ratios, smoothly between those of 1/10 and 2.2."""
    up, down = _BRIGHTEST, _DARKEST
    return torch.where(
        log_ratio > 0, up * (log_ratio / up).tanh(), down * (log_ratio / down).tanh()
    )


def filled(values: Tensor, known: Tensor, steps: int = 12) -> Tensor:
    """Continue values smoothly into where they are not known: pull-push, then a membrane.

    Args:
        values: [C, H, W]; only what is known counts.
        known: [H, W], 0 to 1: how far.
        steps: of the membrane.

    Returns:
        [C, H, W], the values where they are known.
    """
    weight = known[None, None].to(values)
    whole = values[None] * weight + (1 - weight) * _pulled(values[None] * weight, weight)
    for _ in range(steps):
        whole = values[None] * weight + (1 - weight) * blurred_box(whole)
    return whole[0]


def blurred_box(picture: Tensor) -> Tensor:
    """Means over 3 x 3 pixels of [B, C, H, W], the edges continued."""
    return F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def smooth_outside(values: Tensor, distance: Tensor, sigma: float, reach: float) -> Tensor:
    """Values [C, H, W] that blur by sigma px towards `reach` of a distance [H, W] from a region."""
    share = (distance / reach).clamp(0, 1)
    return torch.lerp(values, blurred(values[None], sigma)[0], share.to(values))


def relit(linear: Tensor, log_ratio: Tensor) -> Tensor:
    """Linear light times a ratio; what grows brighter goes through a shoulder instead of clipping.

    The shoulder is that of the brightest channel: one that is clipped alone would make skin pale.

    Args:
        linear: [3, H, W] in [0, 1].
        log_ratio: [3, H, W], weighted.

    Returns:
        [3, H, W], finite, up to 1.
    """
    out = linear * log_ratio.exp()
    before, after = linear.amax(0), out.amax(0)
    # The shoulder begins at the pixel's own brightness where that lies higher: a ratio of 1 changes nothing.
    knee = before.clamp(_SHOULDER, 1 - _DARK)
    over = (after - knee).clamp(min=0) / (1 - knee)
    held = torch.minimum(after, knee) + (1 - knee) * (1 - (-over).exp())
    return out * torch.where(after > before, held / after.clamp(min=_DARK), 1.0)


def _pulled(values: Tensor, weight: Tensor) -> Tensor:
    """Values [1, C, H, W], times their weights [1, 1, H, W], from coarser and coarser means."""
    height, width = values.shape[-2:]
    if min(height, width) <= 2:
        total = weight.sum().clamp(min=1e-6)
        return (values.sum((2, 3), keepdim=True) / total).expand_as(values)
    pad = (0, width % 2, 0, height % 2)
    mass = 4 * F.avg_pool2d(F.pad(weight, pad), 2)
    known = mass.clamp(max=1)
    means = 4 * F.avg_pool2d(F.pad(values, pad), 2) / mass.clamp(min=1e-6) * known
    coarse = means + (1 - known) * _pulled(means, known)
    large = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return large[..., :height, :width]
