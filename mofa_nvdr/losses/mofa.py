"""The terms of MoFA's loss (Eqs. 7 to 10), each a plain function that names its equation.

training/objective.py lists them with their weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.landmarks import PAPER_46
from mofa_nvdr.losses.color_distance import (
    color_distance,
    known_photo,
    mean_over_mask,
    mean_over_surface,
    mean_over_vertices,
    sum_pixels,
)
from mofa_nvdr.losses.landmark_terms import aligned
from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.system import distributed

# Pixels at 240 that count as 1 in the landmark term; the paper does not state its unit.
LANDMARK_UNIT = 60.0


def photometric_raster(
    rendering: Rendering,
    photo: Tensor,
    valid: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Dense photometric term over the rasterized mask, the mean over the mask of each image (Eq. 8).

    The value is the same for both gradients of the renderer; the backward formula is the rendering's.
    "rendering": the picture moves under fixed pixels (the exact derivative without the outline's part).
    "surface": every pixel follows its surface point; the photograph's gradient enters through
    I(p) + grad I(p) . (u - p) with central differences, and the change of projected area weighs f - mean f
    (Reynolds' transport theorem: d/dt of a mean over a moving region).
    A rendering with an outline: the derivative of the same moving mean with "rendering"'s part inside and
    f - mean f along the outline: exact, as "surface" is, where the picture is smooth.

    Args:
        rendering: of FaceRenderer or FaceDecoder, row 0 at the top.
        photo: [B, 3, H, W] in [0, 1]; pixels with NaN hold no photograph and do not count.
        valid: [B, 1, H, W] bool, where the photograph exists; None: everywhere.
        weight: [B, 1, H, W] in [0, 1], how much each pixel counts (losses.occlusion.visible_weight),
            no gradient; None: 1.

    Returns:
        [B], one value per image; 0 where no pixel counts.

    Raises:
        ValueError: photograph and rendering differ in size.
    """
    _check_photo(photo, valid, rendering.image.shape)
    mask = rendering.mask if weight is None else rendering.mask * weight.detach()
    if rendering.outline is not None:
        # The image itself carries the outline's gradient; here it enters through the maps of the
        # distance and of its weight, whose sums are linear in them: exact for any distance.
        photo, known = known_photo(photo, valid)
        counted = mask.detach()[:, 0] * known[:, 0]  # [B, H, W]
        inside = rendering.image if rendering.interior is None else rendering.interior
        distance = color_distance(inside, photo, dim=1) * counted
        total = sum_pixels(rendering.outline.attach(torch.stack([distance, counted], dim=1)))
        return total[:, 0] / total[:, 1].clamp(min=1.0)
    if rendering.motion is not None:
        return mean_over_surface(rendering.image, photo, mask, valid, rendering.motion)
    return mean_over_mask(
        rendering.image,
        photo,
        mask,
        valid,
        rendering.surface_position,
        rendering.log_area,
    )


def photometric_vertex(
    positions: Tensor,
    colors: Tensor,
    front_facing: Tensor,
    photo: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """The paper's photometric term over front-facing vertices, bilinear samples I(u_i) (Eq. 8).

    The sum is divided by the number of vertices that count, not by all N: with a constant N a face that
    turns away would cost less. Vertices that project outside the photograph do not count.

    Args:
        positions: [B, V, 2] pixels.
        colors: [B, V, 3] shaded vertices.
        front_facing: [B, V] bool.
        photo: [B, 3, H, W]; pixels with NaN hold no photograph.
        valid: [B, 1, H, W] bool or None.

    Returns:
        [B], one value per image; 0 where no vertex counts.

    Raises:
        ValueError: shapes disagree.
    """
    if photo.ndim != 4 or photo.shape[:2] != (positions.shape[0], 3):
        raise ValueError(
            f"photometric_vertex: photo is {list(photo.shape)}, expected [B, 3, H, W] with "
            f"B = {positions.shape[0]} (from positions)"
        )
    _check_photo(photo, valid, photo.shape)
    return mean_over_vertices(positions, colors, front_facing, photo, valid)


def landmark_alignment(
    projected: Tensor, target: Tensor, confidence: Tensor, unit: float
) -> Tensor:
    """Sparse landmark alignment: sum of c_j |u_kj - s_j|^2 over the paper's 46 points (Eq. 9).

    Args:
        projected: [B, 68, 2] pixels, of the model.
        target: [B, 68, 2] pixels, detected; NaN where there is none.
        confidence: [B, 68] in [0, 1].
        unit: pixels that count as 1; the paper does not state its unit.

    Returns:
        [B].
    """
    index = torch.tensor(PAPER_46, device=projected.device)
    return aligned(projected[:, index], target[:, index], confidence[:, index], unit)


def landmark_error(projected: Tensor, target: Tensor) -> Tensor:
    """Mean distance in pixels over the paper's 46 points, [B]; NaN where an image has no landmarks."""
    index = torch.tensor(PAPER_46, device=projected.device)
    return (projected[:, index] - target[:, index]).norm(dim=-1).nanmean(1)


def statistical_regularizer(
    code: FaceCode, albedo_weight: float, expression_weight: float
) -> Tensor:
    """Statistical plausibility of shape, albedo and expression (Eq. 10), [B]; pose and light are free.

    Args:
        code: of the faces.
        albedo_weight: w_beta, 1.7e-3 in the paper.
        expression_weight: w_delta, 0.8 in the paper.
    """
    return (
        code.shape.square().sum(1)
        + albedo_weight * code.albedo.square().sum(1)
        + expression_weight * code.expression.square().sum(1)
    )


def batch_pose_prior(code: FaceCode) -> Tensor:
    """Squared *mean over the batch* of the pose, a scalar; each image stays free. Not in the paper.

    Of several processes that train together (mofa_nvdr.system.distributed) the batch is that of all of them.

    Stops the common drift by which a photometric loss over a moving mask turns and shrinks every face.
    Units: 0.2 rad, 10 mm sideways, 60 mm in depth.
    """
    unit = code.translation.new_tensor([10.0, 10.0, 60.0])
    rotation, translation = code.rotation / 0.2, code.translation / unit
    mean = distributed.batch_mean(torch.cat([rotation, translation], dim=1).mean(0))
    return mean.square().sum()


def _check_photo(photo: Tensor, valid: Tensor | None, shape: torch.Size) -> None:
    if photo.shape != shape:
        raise ValueError(
            f"photometric loss: photo is {list(photo.shape)}, expected {list(shape)} (the rendering's)"
        )
    known = [shape[0], 1, *shape[2:]]
    if valid is not None and list(valid.shape) != known:
        raise ValueError(f"photometric loss: valid is {list(valid.shape)}, expected {known}")
