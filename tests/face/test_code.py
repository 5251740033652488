"""Code vectors and their parts."""

import pytest
import torch

from mofa_nvdr.face.code import CodeLayout, FaceCode, check_pair


class TestCodeLayout:
    def test_order_and_size_are_the_papers(self):
        layout = CodeLayout()
        assert layout.size == 257
        assert list(layout.sizes) == [
            "shape", "expression", "albedo", "rotation", "translation", "light",
        ]  # fmt: skip
        assert layout.slices["expression"] == slice(80, 144)
        assert layout.slices["rotation"] == slice(224, 227)
        assert layout.slices["light"] == slice(230, 257)

    def test_pack_inverts_unpack(self):
        layout = CodeLayout(5, 4, 3)
        code = torch.arange(2.0 * layout.size).view(2, -1)
        parts = layout.unpack(code)
        assert parts.light.shape == (2, 9, 3)
        # light is row-major [9, 3]: the first three numbers are the ambient red, green and blue
        assert torch.equal(parts.light[0, 0], code[0, 18:21])
        assert torch.equal(layout.pack(parts), code)
        assert torch.equal(parts.pack(), code)

    def test_gradients_reach_every_number(self):
        code = torch.randn(2, 257, requires_grad=True)
        CodeLayout().unpack(code).pack().sum().backward()
        assert torch.equal(code.grad, torch.ones_like(code))

    def test_zeros(self):
        code = CodeLayout().zeros(3, dtype=torch.float64)
        assert code.batch_size == 3
        assert code.pack().dtype == torch.float64
        assert not code.pack().any()

    @pytest.mark.parametrize("shape", [(257,), (2, 256), (1, 2, 257)])
    def test_wrong_length(self, shape):
        with pytest.raises(ValueError, match=r"expected \[B, 257\] \(shape 80, expression 64"):
            CodeLayout().unpack(torch.zeros(shape))

    def test_wrong_part(self):
        code = CodeLayout().zeros(2)
        with pytest.raises(ValueError, match=r"albedo is \[2, 79\], expected \[2, 80\]"):
            CodeLayout().pack(code.replace(albedo=torch.zeros(2, 79)))
        with pytest.raises(ValueError, match=r"light is \[2, 27\], expected \[2, 9, 3\]"):
            CodeLayout().pack(code.replace(light=torch.zeros(2, 27)))


class TestFaceCode:
    def test_replace_and_map(self):
        code = CodeLayout(2, 2, 2).zeros()
        moved = code.replace(translation=torch.ones(1, 3)).map(lambda part: part + 1)
        assert isinstance(moved, FaceCode)
        assert torch.equal(moved.translation, torch.full((1, 3), 2.0))
        assert moved.layout == CodeLayout(2, 2, 2)


def test_check_pair():
    layout = CodeLayout(2, 3, 4)
    check_pair("here", layout.zeros(2), layout.zeros(2))
    for other in (layout.zeros(3), CodeLayout(2, 4, 4).zeros(2)):
        with pytest.raises(ValueError, match=r"here: 2 codes of .*, . true ones of CodeLayout"):
            check_pair("here", layout.zeros(2), other)
