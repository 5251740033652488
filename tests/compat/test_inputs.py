"""Checks of the drop-ins' arguments, beyond those that their own tests raise."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.compat.inputs import Inputs, positive_size


class TestInputs:
    def test_letters_keep_their_sizes(self):
        inputs = Inputs("f")
        assert inputs.floats("a", torch.zeros(2, 5, 3), ("B", "V", 3)).shape == (2, 5, 3)
        assert inputs.sizes == {"B": 2, "V": 5}
        inputs.floats("b", torch.zeros(1, 5), ("B", "V"), (1, "V"))
        with pytest.raises(ValueError, match=r"f: c is \[2, 4\], expected \[B, V\] with B = 2 \(from a\), "
                           r"V = 5 \(from a\), every size above 0"):  # fmt: skip
            inputs.floats("c", torch.zeros(2, 4), ("B", "V"))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
    def test_indices_of_any_integer_type(self, dtype):
        found = Inputs("f").indices("faces", torch.tensor([[0, 1, 2]], dtype=dtype), 3)
        assert found.dtype == torch.int32 and found.tolist() == [[0, 1, 2]]

    @pytest.mark.parametrize("bad", [torch.zeros(3, 3, dtype=torch.bool), torch.zeros(3, 3)])
    def test_indices_that_are_none(self, bad):
        with pytest.raises(TypeError, match="f: faces is torch.* expected integers"):
            Inputs("f").indices("faces", bad, 3)

    def test_negative_indices(self):
        with pytest.raises(ValueError, match="faces holds indices -1 to 1, expected 0 to 2"):
            Inputs("f").indices("faces", torch.tensor([[-1, 0, 1]]), 3)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "8"])
def test_sizes(size):
    with pytest.raises(ValueError, match="f: image_width is .* expected a whole number of pixels"):
        positive_size("f", image_width=size)
    positive_size("f", image_width=1)
