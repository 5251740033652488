"""The people of a batch are distributed as those of the face model."""

from __future__ import annotations

from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.system import distributed


def batch_distribution(code: FaceCode) -> Tensor:
    """Squared differences of a batch's moments to the face model's, a scalar; each face stays free.

    Four terms: the means of the shape's and of the albedo's coefficients, which are 0 over the people of a
    face model, and their variances, which are 1. Each is the mean over a part's coefficients, so that it
    does not depend on how many there are. Of several processes that train together
    (mofa_nvdr.system.distributed) the batch is that of all of them. A batch of B people of the model itself
    has 1 / B in each term of a mean, and (2 B - 1) / B^2 in each of a variance.

    Source: L_batchdistr of Genova et al. 2018, section 3.3.3, with a weight of 10. The text that we have
    does not say whether they sum over coefficients.

    Args:
        code: of a process's share; shares are of one size.
    """
    return _moments(code.shape) + _moments(code.albedo)


def _moments(x: Tensor) -> Tensor:
    """[B, N] of standard normal numbers, a batch's share."""
    mean = distributed.batch_mean(x.mean(0))
    variance = distributed.batch_mean((x - mean).square().mean(0))
    return mean.square().mean() + (variance - 1).square().mean()
