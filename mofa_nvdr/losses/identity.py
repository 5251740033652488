"""Rendered faces look like the people in their photographs, as a recognition network sees them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def identity_distance(rendered: Tensor, people: Tensor) -> Tensor:
    """Squared distance of embeddings of rendered faces to those of their photographs, [B].

    Two photographs of one person are closer than about 0.36. After the identity loss of Genova et al. 2018,
    section 3.2, who compare cosines of another network's features: all of dlib's embeddings lie around a
    common mean, and its distances are Euclidean. It is blind to how bright skin is.

    Args:
        rendered: [B, D] of faces on one colour, so that nothing but the face counts.
        people: [B, D] of the photographs.

    Raises:
        ValueError: shapes disagree.
    """
    _check("identity_distance", rendered, people)
    return (rendered - people).square().sum(1)


def identity_cosine(rendered: Tensor, people: Tensor, mean: Tensor) -> Tensor:
    """One less the cosine of embeddings about their common mean, [B]: 0 for the same face, 1 for any two.

    Source: L_id of Genova et al. 2018, section 3.3.2. Their network's embeddings have no common mean; with
    dlib's left in, the cosine of any two people is 0.8.

    Args:
        rendered: [B, D].
        people: [B, D].
        mean: [D] of everybody (networks.identity_mean).

    Raises:
        ValueError: shapes disagree.
    """
    _check("identity_cosine", rendered, people)
    if mean.shape != rendered.shape[1:]:
        raise ValueError(
            f"identity_cosine: mean is {list(mean.shape)}, expected {list(rendered.shape[1:])} (from "
            "rendered)"
        )
    return 1 - F.cosine_similarity(rendered - mean, people - mean, dim=1)


def _check(who: str, rendered: Tensor, people: Tensor) -> None:
    if rendered.shape != people.shape or rendered.ndim != 2:
        raise ValueError(
            f"{who}: embeddings are {list(rendered.shape)} of rendered faces and "
            f"{list(people.shape)} of photographs, expected [B, D] of both"
        )
