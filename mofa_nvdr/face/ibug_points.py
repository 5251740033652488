"""iBUG's 68 landmarks from the 468 points of MediaPipe's face mesh.

The mesh has no point at most of iBUG's places: its chin lies 9 px above iBUG's in a crop of 240 px, its jaw
3 to 8 px inside of it, the bridge of the nose up to 5 px off. Each landmark is therefore a point of the mesh,
moved along the line to another one. The first is the one nearest by meaning; the other and the share were
chosen on the 43 faces of dlib's examples/faces (landmarks of the iBUG scheme), the two sides of the face
alike, and measured on other photographs: docs/networks.md.
"""

from __future__ import annotations

import numpy as np

# Landmark by landmark: point, another point, share of the other: point + share * (other - point).
_POINTS = (
    # jaw
    (127, 127, 0.0), (234, 137, 0.433), (177, 150, -0.073), (215, 215, 0.0), (172, 288, -0.023),
    (136, 58, -0.218), (149, 356, -0.027), (176, 132, -0.133), (152, 10, -0.033),
    (400, 361, -0.133), (378, 127, -0.027), (365, 288, -0.218), (397, 58, -0.023), (435, 435, 0.0),
    (401, 379, -0.073), (454, 366, 0.433), (356, 356, 0.0),
    # brows
    (70, 137, 0.041), (63, 63, 0.0), (105, 284, 0.034), (66, 301, 0.038), (107, 197, 0.098),
    (336, 197, 0.098), (296, 71, 0.038), (334, 54, 0.034), (293, 293, 0.0), (300, 366, 0.041),
    # nose
    (168, 5, 0.066), (197, 197, 0.0), (5, 195, 0.442), (4, 4, 0.0), (75, 75, 0.0), (97, 97, 0.0),
    (2, 2, 0.0), (326, 326, 0.0), (305, 305, 0.0),
    # eyes
    (33, 196, 0.075), (160, 6, 0.087), (158, 3, 0.049), (133, 163, 0.077), (153, 153, 0.0),
    (144, 8, 0.034), (362, 390, 0.077), (385, 248, 0.049), (387, 6, 0.087), (263, 419, 0.075),
    (373, 8, 0.034), (380, 380, 0.0),
    # outer lips
    (61, 61, 0.0), (39, 57, 0.13), (37, 37, 0.0), (0, 0, 0.0), (267, 267, 0.0), (269, 287, 0.13),
    (291, 291, 0.0), (405, 422, 0.212), (314, 314, 0.0), (17, 17, 0.0), (84, 84, 0.0),
    (181, 202, 0.212),
    # inner lips
    (78, 78, 0.0), (82, 72, 0.358), (13, 13, 0.0), (312, 302, 0.358), (308, 308, 0.0),
    (317, 317, 0.0), (14, 14, 0.0), (87, 87, 0.0),
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
