"""What sets `interpolate` in plain torch apart; its values are compared in test_interpolate."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.dr import reference
from tests.helpers.triangles import triangles_of


class TestInterpolate:
    def test_reference_takes_one_dtype_at_a_time(self):
        with pytest.raises(RuntimeError, match="rast is torch.float32, but attr is torch.float64"):
            reference.interpolate(
                torch.zeros(7, 2).double(), torch.zeros(2, 4, 5, 4), triangles_of((0, 1, 2))
            )
