"""Named sets of the 68 iBUG landmarks: the parts of the face, the paper's subset, mirror pairs.

Order (indices from 0): jaw 0-16 from the subject's right ear over the chin (8) to the left ear;
brows 17-26; nose bridge 27-30; nostrils 31-35; eyes 36-47; outer lips 48-59; inner lips 60-67.
"""

from __future__ import annotations

NUM_LANDMARKS = 68

JAW = tuple(range(0, 17))
BROWS = tuple(range(17, 27))
NOSE = tuple(range(27, 36))
EYES = tuple(range(36, 48))
OUTER_LIPS = tuple(range(48, 60))
INNER_LIPS = tuple(range(60, 68))

OPENINGS = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))
"""(upper, lower) points of the lids, two pairs an eye, and of the lips' inner edges."""

INNER_FACE = BROWS + NOSE + EYES + OUTER_LIPS + INNER_LIPS
"""The 51 points without the jaw line."""

PAPER_66 = tuple(index for index in range(NUM_LANDMARKS) if index not in (60, 64))
"""The points of the paper's detector (Saragih et al. 2011): no inner mouth corners."""

PAPER_46 = (7, 8, 9) + BROWS + NOSE + EYES + OUTER_LIPS
"""The 46 of 66 landmarks of the paper's Sec. 5.

The paper gives their number, not their names. These are the points that stay on one place of the
skin: brows 10, nose 9, eyes 12, outer lips 12. The jaw line is a silhouette, which slides over the
skin as the head turns, and stays out, except the three points at the chin: the outline is level
there, so that their height is well defined, and nothing else tells the length of the lower face.
The inner lips stay out: where the mouth is closed they coincide, and detectors place them worst.
"""


def _mirror_permutation() -> tuple[int, ...]:
    """Swap the ends of each chain of points that runs from one side of the face to the other."""
    permutation = list(range(NUM_LANDMARKS))
    chains = (
        JAW,
        BROWS,
        (31, 32, 33, 34, 35),
        (36, 37, 38, 39, 42, 43, 44, 45),  # upper lids, corner to corner
        (41, 40, 47, 46),  # lower lids
        (48, 49, 50, 51, 52, 53, 54),  # outer upper lip
        (59, 58, 57, 56, 55),
        (60, 61, 62, 63, 64),  # inner upper lip
        (67, 66, 65),
    )
    for chain in chains:
        for index, other in zip(chain, reversed(chain)):
            permutation[index] = other
    return tuple(permutation)


MIRROR = _mirror_permutation()
"""Landmark k of a mirrored picture is landmark MIRROR[k] of the picture; its own inverse."""
