"""iBUG's 68 landmarks from the 468 points of MediaPipe's face mesh."""
from __future__ import annotations
import numpy as np
NEAREST = (127, 234, 177, 215, 172, 136, 149, 176, 152, 400, 378, 365, 397, 435, 401, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87)  # fmt: skip
def ibug_landmarks(points: np.ndarray) -> np.ndarray:
    return np.asarray(points)[..., list(NEAREST), :2]
