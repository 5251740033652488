"""Where a face model has bare skin, and where beards grow, by its regions and landmarks."""

from __future__ import annotations

from torch import Tensor

from mofa_nvdr.face.model import FaceModel

_SKIN = ("skin", "nose")
_NOSTRILS = slice(31, 36)  # of the landmarks
_MOUSTACHE = 5.0  # mm above the nostrils to which the skin beside the nose has hair


def bearded_area(model: FaceModel) -> Tensor:
    """Skin on which beards grow, bool [V]: from the nostrils on; nothing of a model without regions."""
    height = model.mean_shape[:, 1]
    return model.in_regions(_SKIN[0]) & (
        height < height[model.landmarks[_NOSTRILS]].max() + _MOUSTACHE
    )


def skin_vertices(model: FaceModel) -> Tensor | None:
    """Vertices of bare skin, int64 [N]: not lips, brows and eyes, nor where beards grow; None: unknown.

    From the model's regions, within what is compared with photographs.
    """
    height = model.mean_shape[:, 1]
    above = height > height[model.landmarks[_NOSTRILS]].min()
    bare = model.in_regions(*_SKIN) & model.frontal_mask & above
    return bare.nonzero()[:, 0] if bare.any() else None
