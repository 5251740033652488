"""Checks of the drop-ins' arguments, beyond those that their own tests raise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mofa_nvdr.compat.inputs import Inputs, floating, number, positive_size, whole_size


class TestInputs:
    def test_letters_keep_their_sizes(self):
        inputs = Inputs("f")
        assert inputs.floats("a", torch.zeros(2, 5, 3), ("B", "V", 3)).shape == (2, 5, 3)
        assert inputs.sizes == {"B": 2, "V": 5}
        inputs.floats("b", torch.zeros(1, 5), ("B", "V"), (1, "V"))
        with pytest.raises(ValueError, match=r"f: c is \[2, 4\], expected \[B, V\] with B = 2 \(from a\), "
                           r"V = 5 \(from a\), every size above 0"):  # fmt: skip
            inputs.floats("c", torch.zeros(2, 4), ("B", "V"))

    def test_one_type_of_any_floats(self):
        inputs = Inputs("f", dtype=None)
        inputs.floats("a", torch.zeros(2).double(), ("B",))
        with pytest.raises(
            TypeError, match=r"f: b is torch.float32, expected torch.float64; call .to\("
        ):
            inputs.floats("b", torch.zeros(2), ("B",))
        with pytest.raises(
            TypeError, match=r"f: a is torch.int64, expected torch.float32; call .float"
        ):
            Inputs("f", dtype=None).floats("a", torch.zeros(2).long(), ("B",))

    def test_one_device(self):
        inputs = Inputs("f")
        inputs.tensor("a", torch.zeros(1))
        with pytest.raises(
            ValueError, match="f: b is on meta, but a is on cpu; move both to one device"
        ):
            inputs.tensor("b", torch.zeros(1, device="meta"))
        with pytest.raises(TypeError, match="f: c is a list, expected a torch.Tensor"):
            inputs.tensor("c", [0.0])

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


def test_floating():
    floating("f", "x", torch.zeros(2).half())
    with pytest.raises(TypeError, match="f: x is torch.int64, expected floats; call .float"):
        floating("f", "x", torch.zeros(2).long())
    with pytest.raises(TypeError, match="f: x is a ndarray, expected a torch.Tensor"):
        floating("f", "x", np.zeros(2))


class TestNumber:
    @pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2), torch.tensor([2])])
    def test_of_any_kind(self, value):
        found = number("f", "x", value)
        assert type(found) is float and found == 2

    @pytest.mark.parametrize("value", [None, "2", [2], True, torch.zeros(2), torch.tensor(True)])
    def test_that_is_none(self, value):
        with pytest.raises(TypeError, match="f: x is .*, expected a number"):
            number("f", "x", value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(-float("inf"))])
    def test_without_end(self, value):
        with pytest.raises(ValueError, match="f: x is .*, expected a finite number"):
            number("f", "x", value)


def test_whole_size():
    assert whole_size("f", "side", 224.0) == 224 and type(whole_size("f", "side", 224.0)) is int
    for bad in (1.5, 0, -2.0, float("nan"), float("inf"), None, "8", True):
        with pytest.raises(ValueError, match="f: side is .* expected a whole number of pixels"):
            whole_size("f", "side", bad)
