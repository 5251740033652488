"""Memory for what the CPU operators write."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

# Bytes from which glibc gives freed memory back to the system, whatever was freed before.
_LARGE = 32 * 2**20


def unwritten(*shape: int) -> Tensor:
    """A float32 tensor on the CPU that holds anything.

    Buffers of large pictures come from the system anew at every call, and the faults of their small pages
    cost as much as the work on them. NumPy asks Linux for pages of 2 MB there.
    """
    if 4 * math.prod(shape) < _LARGE:
        return torch.empty(shape, dtype=torch.float32, device="cpu")
    return torch.from_numpy(np.empty(shape, np.float32))
