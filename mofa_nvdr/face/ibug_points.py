"""iBUG's 68 landmarks from the 468 points of MediaPipe's face mesh.

The mesh has no point at most of iBUG's places: its chin lies 9 px above iBUG's in a crop of 240 px, its jaw
3 to 8 px inside of it, the bridge of the nose up to 5 px off. Each landmark is therefore a point of the mesh,
moved along the line to another one. The first is the one nearest by meaning; the other and the share were
chosen on 54 faces with landmarks of the iBUG scheme (dlib's examples, FFHQ, one by hand), the two sides of
the face alike, and measured on those that were left out in turn: docs/networks.md.
"""

from __future__ import annotations

import numpy as np

# Landmark by landmark: point, another point, share of the other: point + share * (other - point).
_POINTS = (
    # jaw
    (127, 284, -0.017), (234, 177, 0.232), (177, 32, -0.059), (215, 112, -0.048), (172, 323, -0.026),
    (136, 132, -0.145), (149, 251, -0.028), (176, 93, -0.117), (152, 10, -0.039), (400, 323, -0.117),
    (378, 21, -0.028), (365, 361, -0.145), (397, 93, -0.026), (435, 341, -0.048), (401, 262, -0.059),
    (454, 401, 0.232), (356, 54, -0.017),
    # brows
    (70, 68, -0.238), (63, 56, 0.051), (105, 442, 0.058), (66, 441, 0.091), (107, 197, 0.141),
    (336, 197, 0.141), (296, 221, 0.091), (334, 222, 0.058), (293, 286, 0.051), (300, 298, -0.238),
    # nose
    (168, 4, 0.073), (197, 168, 0.067), (5, 168, 0.097), (4, 14, 0.031), (75, 374, -0.024),
    (97, 241, 0.091), (2, 175, 0.031), (326, 461, 0.091), (305, 145, -0.024),
    # eyes
    (33, 162, -0.102), (160, 6, 0.079), (158, 3, 0.048), (133, 229, 0.066), (153, 389, -0.009),
    (144, 196, 0.028), (362, 449, 0.066), (385, 248, 0.048), (387, 6, 0.079), (263, 389, -0.102),
    (373, 419, 0.028), (380, 162, -0.009),
    # outer lips
    (61, 218, -0.042), (39, 183, 0.333), (37, 82, 0.248), (0, 13, 0.34), (267, 312, 0.248),
    (269, 407, 0.333), (291, 438, -0.042), (405, 335, 0.414), (314, 338, -0.011), (17, 199, 0.071),
    (84, 109, -0.011), (181, 106, 0.414),
    # inner lips
    (78, 121, -0.034), (82, 361, -0.019), (13, 168, -0.011), (312, 132, -0.019), (308, 350, -0.034),
    (317, 21, -0.017), (14, 175, 0.065), (87, 251, -0.017),
)  # fmt: skip
_FIRST, _SECOND = (np.array([row[k] for row in _POINTS]) for k in (0, 1))
_SHARE = np.array([row[2] for row in _POINTS])[:, None]


def ibug_landmarks(points: np.ndarray) -> np.ndarray:
    """The 68 landmarks [..., 68, 2] of faces with points [..., 468 or more, 2 or more], in the same unit.

    A turned, moved or scaled face gives its landmarks turned, moved and scaled.
    """
    flat = np.asarray(points)[..., :2]
    first = flat[..., _FIRST, :]
    return first + _SHARE.astype(flat.dtype) * (flat[..., _SECOND, :] - first)
