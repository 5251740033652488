"""How certain a reconstructed picture is to show a face where the rendering has one.

Not a detector: it asks how much better the rendered face explains the picture than no face does. A wrong face
can explain a picture well, and a badly trained encoder explains faces badly; what it finds and misses is
measured in docs/howto_photographs.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.render.blur import blur_matrix
from mofa_nvdr.render.renderer import Rendering

# Structure finer than this share of the side counts: eyes, brows, nose and mouth do, light does not.
_FINE = 0.1
# px: the deviation of the Gaussian that takes the rest away, in pixels of a smaller picture.
_COARSE = 6.0
# Chosen on validation photographs of one data set, on parts of panoramas, noise, and clothes below faces.
_MIDDLE, _SPREAD = 0.15, 0.06
DOUBTFUL = 0.5
"""Below it a crop is named in a warning, and a picture in which nothing was found is taken for no face."""
LEAST_FOUND = 0.02
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
    masks = rendering.mask[:, 0] > 0
    # What lies outside of all masks counts nowhere.
    part = (..., _extent(masks.any(0).any(1)), _extent(masks.any(0).any(0)))
    photo, image, inside = photo[part], rendering.image[part], masks[part]
    fine = _fine(torch.stack([image.mean(1), photo.mean(1)], 1), inside[:, None], masks.shape[1])
    values = [_score(*one) for one in zip(photo, image, fine, inside)]
    return torch.sigmoid((torch.stack(values) - _MIDDLE) / _SPREAD)


@torch.no_grad()
def _score(photo: Tensor, image: Tensor, fine: Tensor, mask: Tensor) -> Tensor:
    """The sum r + g / 2 of one picture [3, H, W]; minus infinity where the mask [H, W] is empty.

    `fine`: the rendering's and the picture's fine structure [2, H, W].
    """
    where = mask.flatten().nonzero()[:, 0]
    if not len(where):
        return photo.new_tensor(-torch.inf)
    ours, theirs, (a, b) = (
        planes.flatten(1).index_select(1, where) for planes in (image, photo, fine)
    )  # [3, N], [3, N], [2, N]
    flat = theirs.median(dim=1, keepdim=True).values
    # Not norm(dim=0), which takes ten times as long.
    distance, least = ((theirs - other).square().sum(0).sqrt().mean() for other in (ours, flat))
    gain = (1 - distance / least.clamp(min=_LEAST_DISTANCE)).clamp(-1, 1)
    return _correlation(a, b) + gain / 2


@torch.no_grad()
def _fine(luminance: Tensor, mask: Tensor, side: int) -> Tensor:
    """What is left of pictures [B, N, H, W] without their Gaussian average within the mask [B, 1, H, W].

    They are parts of pictures of this height, which hold all of the mask.
    """
    inside = mask.to(luminance)
    sigma, height, width = _FINE * side, *luminance.shape[2:]
    # A wide Gaussian needs few pixels: of 48 photographs it differed by 0.04 levels of 255 on the mean.
    step = max(1, int(sigma / _COARSE))
    both = F.pad(torch.cat([luminance * inside, inside], 1), [0, -width % step, 0, -height % step])
    both = F.avg_pool2d(both, step)
    down, across = (blur_matrix(size, sigma / step).to(both) for size in both.shape[2:])
    both = down @ both @ across.mT
    average = both[:, :-1] / both[:, -1:].clamp(min=1e-6)
    if step > 1:
        average = F.interpolate(average, scale_factor=step, mode="bilinear")
    return luminance - average[:, :, :height, :width]


def _extent(line: Tensor) -> slice:
    """From the first to the last that is true of [N]; the first one where none is."""
    found = line.nonzero()
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's; 0 where one of them hardly varies."""
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / (a.norm() * b.norm()).clamp(min=1e-4)
