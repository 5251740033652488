"""What the embeddings of all faces have in common: about it they tell people apart by their direction.

dlib's network was trained on distances, and all that it gives lies around one place.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The mean over 420 portraits in the public domain, one of each, rounded; length 1.31. Of 200 pairs of other
# photographs, in the wild, cosines about it are 0.72 for one person and 0.07 for two (0.95 and 0.8 about 0).
_MEAN = (
    -0.091, 0.097, 0.032, -0.036, -0.094, -0.007, -0.003, -0.104, 0.126, -0.054, 0.202, -0.043,
    -0.264, -0.046, -0.020, 0.124, -0.152, -0.102, -0.150, -0.092, 0.003, 0.031, 0.026, 0.006,
    -0.126, -0.295, -0.073, -0.101, 0.058, -0.085, 0.013, 0.044, -0.174, -0.064, 0.031, 0.047,
    -0.064, -0.058, 0.203, 0.007, -0.154, 0.011, 0.048, 0.248, 0.214, 0.020, 0.013, -0.078,
    0.111, -0.268, 0.040, 0.140, 0.109, 0.079, 0.086, -0.134, 0.020, 0.131, -0.183, 0.056,
    0.060, -0.112, -0.049, -0.048, 0.165, 0.093, -0.087, -0.130, 0.184, -0.152, -0.042, 0.066,
    -0.082, -0.153, -0.276, 0.034, 0.380, 0.131, -0.173, -0.002, -0.076, -0.028, 0.043, 0.031,
    -0.082, -0.076, -0.087, 0.023, 0.198, -0.056, -0.008, 0.208, 0.011, -0.014, 0.040, 0.042,
    -0.116, -0.024, -0.102, -0.012, 0.056, -0.123, 0.015, 0.094, -0.172, 0.155, -0.020, -0.036,
    -0.000, -0.039, -0.063, -0.003, 0.184, -0.240, 0.216, 0.184, -0.018, 0.121, 0.048, 0.069,
    -0.020, 0.000, -0.147, -0.117, 0.026, -0.018, 0.003, 0.027,
)  # fmt: skip


def identity_mean() -> Tensor:
    """The mean embedding of `face_recognition.FaceRecognition`, [128]."""
    return torch.tensor(_MEAN)
