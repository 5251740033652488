"""How certain a reconstructed picture is to show a face where the rendering has one.

Not a detector: it asks how much better the rendered face explains the picture than no face does. A wrong face
can explain a picture well, and a badly trained encoder explains faces badly; what it finds and misses is
measured in docs/howto_photographs.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.renderer import Rendering

# Structure finer than this share of the side counts: eyes, brows, nose and mouth do, light does not.
_FINE = 0.1
# Chosen on validation photographs of one data set, on parts of panoramas, noise, and clothes below faces.
_MIDDLE, _SPREAD = 0.15, 0.06
DOUBTFUL = 0.5
"""Below it a crop is named in a warning, and a picture in which nothing was found is taken for no face."""
LEAST_FOUND = 0.05
"""Below it what OpenCV's cascades found is no face: cloth, hair, walls (docs/howto_photographs.md)."""
_LEAST_DISTANCE = 1e-3  # of a picture from its own flat colour


def face_certainty(photo: Tensor, rendering: Rendering) -> Tensor:
    """1 / (1 + exp(-(r + g / 2 - 0.15) / 0.06)) over the mask of each rendering.

    r is the correlation of the picture's and the rendering's luminance, each less its Gaussian average within
    the mask (standard deviation: a tenth of the side). g is 1 - d / d0, within -1 to 1: d the mean distance
    of their colours, d0 that of the picture from its best flat colour (the median of each channel).

    Args:
        photo: [B, 3, H, W] in [0, 1].
        rendering: of the predicted codes at the same size.

    Returns:
        [B] in 0 to 1; 0 where the mask is empty.
    """
    values = [
        _score(photo[k], rendering.image[k], rendering.mask[k, 0] > 0) for k in range(len(photo))
    ]
    return torch.sigmoid((torch.stack(values) - _MIDDLE) / _SPREAD)


@torch.no_grad()
def _score(photo: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """The sum r + g / 2 of one picture [3, H, W]; minus infinity where the mask [H, W] is empty."""
    if not mask.any():
        return photo.new_tensor(-torch.inf)
    ours, theirs = image[:, mask], photo[:, mask]  # [3, N]
    flat = theirs.median(dim=1, keepdim=True).values
    distance, least = ((theirs - other).norm(dim=0).mean() for other in (ours, flat))
    gain = (1 - distance / least.clamp(min=_LEAST_DISTANCE)).clamp(-1, 1)
    a, b = (_fine(picture.mean(0), mask) for picture in (image, photo))
    return _correlation(a, b) + gain / 2


def _fine(luminance: Tensor, mask: Tensor) -> Tensor:
    """[N] what is left of a picture [H, W] within the mask without its Gaussian average there."""
    inside = mask.to(luminance)
    sigma = _FINE * luminance.shape[0]
    both = torch.stack([luminance * inside, inside])[None]
    total, area = blurred(both, sigma, "constant")[0]
    return (luminance - total / area.clamp(min=1e-6))[mask]


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's; 0 where one of them hardly varies."""
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / (a.norm() * b.norm()).clamp(min=1e-4)
