"""Rendered faces look like the people in their photographs, as a recognition network sees them."""

from __future__ import annotations

from torch import Tensor


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
    if rendered.shape != people.shape or rendered.ndim != 2:
        raise ValueError(
            f"identity_distance: embeddings are {list(rendered.shape)} of rendered faces and "
            f"{list(people.shape)} of photographs, expected [B, D] of both"
        )
    return (rendered - people).square().sum(1)
