"""Known people, by their coefficients alone: the parameter loss of Genova et al. 2018."""

from __future__ import annotations

from torch import Tensor

from mofa_nvdr.face.code import FaceCode, check_pair


def parameter_distance(
    code: FaceCode, true: FaceCode, shape_weight: float, albedo_weight: float
) -> Tensor:
    """Weighted mean squared differences of shape and of albedo, [B]; everything else is free.

    With the true codes of rendered faces it is L_param of Genova et al. 2018, section 3.3.1, whose weights
    are 0.4 and 0.002; with the codes that a network gives pictures of its own faces, L_loopback, section
    3.3.4. Each part's mean over its coefficients, as in `batch_distribution`.

    Args:
        code: predicted.
        true: what it is compared with; its gradient counts too.
        shape_weight: lambda_s.
        albedo_weight: lambda_t.

    Raises:
        ValueError: shapes disagree.
    """
    check_pair("parameter_distance", code, true)
    shape = (code.shape - true.shape).square().mean(1)
    albedo = (code.albedo - true.albedo).square().mean(1)
    return shape_weight * shape + albedo_weight * albedo
