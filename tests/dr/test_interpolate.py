"""interpolate: cases worked by hand, then the kernels against the reference on random scenes."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from tests.helpers.triangles import RIGHT_TRIANGLE, random_scene, triangles_of

SIZE = (37, 41)


@pytest.fixture(params=["dr", "reference"])
def verbs(request):
    return dr if request.param == "dr" else reference


@pytest.fixture
def triangle(device):
    """A right triangle over half of a 4 x 4 image, rasterized: rast, rast_db, tri."""
    pos = torch.tensor([RIGHT_TRIANGLE], dtype=torch.float32, device=device)
    tri = triangles_of((0, 1, 2)).to(device)
    rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, (4, 4))
    return rast.requires_grad_(), rast_db.requires_grad_(), tri


def column(*values: float, device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.tensor(values, device=device)[:, None].requires_grad_()


class TestInterpolateByHand:
    def test_value_and_derivatives(self, verbs, triangle):
        rast, rast_db, tri = triangle
        attr = column(1.0, 10.0, 100.0, device=rast.device)
        out, out_da = verbs.interpolate(attr, rast, tri, rast_db, "all")
        # 0.75 * 1 + 0.125 * 10 + 0.125 * 100
        assert out[0, 0, 0].tolist() == pytest.approx([14.5], abs=1e-5)
        assert out_da[0, 0, 0].tolist() == pytest.approx([2.25, 24.75], abs=1e-5)
        assert (out[0, 3] == 0).all() and (out_da[0, 3] == 0).all()

    def test_gradient_of_value(self, verbs, triangle):
        rast, _, tri = triangle
        attr = column(1.0, 10.0, 100.0, device=rast.device)
        out, _ = verbs.interpolate(attr, rast, tri)
        out[0, 0, 0].sum().backward()
        assert attr.grad.flatten().tolist() == pytest.approx([0.75, 0.125, 0.125])
        assert rast.grad[0, 0, 0].tolist() == [-99.0, -90.0, 0.0, 0.0]
        assert int((rast.grad != 0).sum()) == 2

    def test_gradient_of_derivatives(self, verbs, triangle):
        rast, rast_db, tri = triangle
        attr = column(1.0, 10.0, 100.0, device=rast.device)
        _, out_da = verbs.interpolate(attr, rast, tri, rast_db, [0])
        out_da[0, 0, 0, 0].backward()
        assert rast_db.grad[0, 0, 0].tolist() == pytest.approx([-99.0, 0.0, -90.0, 0.0])
        assert attr.grad.flatten().tolist() == pytest.approx([-0.25, 0.25, 0.0])

    def test_shared_attributes_sum_over_images(self, verbs, triangle):
        rast, _, tri = triangle
        both = rast.detach().expand(2, -1, -1, -1).contiguous()
        for shape in ((3, 1), (1, 3, 1)):
            attr = torch.ones(shape, device=rast.device).requires_grad_()
            verbs.interpolate(attr, both, tri)[0].sum().backward()
            single = torch.ones(3, 1, device=rast.device).requires_grad_()
            verbs.interpolate(single, rast.detach(), tri)[0].sum().backward()
            torch.testing.assert_close(attr.grad.reshape(3, 1), 2 * single.grad)

    def test_which_attributes_are_differentiated(self, verbs, triangle):
        rast, rast_db, tri = triangle
        attr = torch.tensor([[1.0, 2.0], [10.0, 30.0], [100.0, -7.0]], device=rast.device)
        _, everything = verbs.interpolate(attr, rast, tri, rast_db, "all")
        _, last = verbs.interpolate(attr, rast, tri, rast_db, [-1])
        assert torch.equal(last, everything[..., 2:])
        _, outside = verbs.interpolate(attr, rast, tri, rast_db, [7])
        assert outside.shape == (1, 4, 4, 2) and (outside == 0).all()
        _, swapped = verbs.interpolate(attr, rast, tri, rast_db, [1, 0])
        assert torch.equal(swapped, everything[..., [2, 3, 0, 1]])
        for nothing in (None, []):
            _, none = verbs.interpolate(attr, rast, tri, rast_db, nothing)
            assert none.shape == (1, 4, 4, 0)

    def test_constant_stays_constant(self, verbs, triangle):
        rast, _, tri = triangle
        out, _ = verbs.interpolate(torch.full((3, 2), 0.3, device=rast.device), rast, tri)
        covered = rast[..., 3] > 0
        torch.testing.assert_close(out[covered], torch.full_like(out[covered], 0.3))

    def test_ids_and_indices_outside_give_zero(self, verbs):
        rast = torch.tensor([[[[0.2, 0.3, 0, 1], [0.2, 0.3, 0, 9], [0.2, 0.3, 0, 2]]]])
        rast.requires_grad_()
        attr = torch.ones(3, 1, requires_grad=True)
        out, _ = verbs.interpolate(attr, rast, triangles_of((0, 1, 2), (0, 1, 99)))
        assert out.flatten().tolist() == [1.0, 0.0, 0.0]
        out.sum().backward()
        assert attr.grad.flatten().tolist() == pytest.approx([0.2, 0.3, 0.5])

    def test_nan_in_an_unseen_vertex_stays_there(self, verbs, triangle):
        rast, _, tri = triangle
        attr = torch.tensor([[1.0], [1.0], [1.0], [float("nan")]], device=rast.device)
        attr.requires_grad_()
        out, _ = verbs.interpolate(attr, rast, tri)
        out.sum().backward()
        assert out.isfinite().all() and attr.grad.isfinite().all()


class TestInterpolateAgainstReference:
    @pytest.mark.parametrize("batched", [True, False])
    def test_forward_and_gradient(self, batched):
        pos, tri = random_scene(3)
        generator = torch.Generator().manual_seed(3)
        rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
        shape = (2, pos.shape[1], 5) if batched else (pos.shape[1], 5)
        attr = torch.randn(shape, generator=generator)
        chosen = [4, -5, 2, 40]
        cotangents = [
            torch.randn(2, *SIZE, 5, generator=generator),
            torch.randn(2, *SIZE, 8, generator=generator),
        ]
        ours = [tensor.clone().requires_grad_() for tensor in (attr, rast, rast_db)]
        exact = [tensor.double().requires_grad_() for tensor in (attr, rast, rast_db)]
        outputs = dr.interpolate(ours[0], ours[1], tri, ours[2], chosen)
        twins = reference.interpolate(exact[0], exact[1], tri, exact[2], chosen)
        torch.autograd.backward(outputs, cotangents)
        torch.autograd.backward(twins, [cotangent.double() for cotangent in cotangents])
        # float32 rounding: the outputs reach 10, the derivatives and their gradients some 100.
        for a, b in zip(outputs, twins):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)
        for a, b in zip(ours, exact):
            torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-5, atol=1e-4)

    def test_derivatives_are_differences_of_pixels(self):
        # Without perspective an attribute is linear over a triangle: neighbours differ by out_da.
        pos = torch.tensor([[(-3, -3, 0, 1), (3, -3, 0, 1), (0, 5, 0, 1.0)]])
        tri = triangles_of((0, 1, 2))
        rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, (6, 8))
        out, out_da = dr.interpolate(column(1.0, -2.0, 5.0), rast, tri, rast_db, "all")
        assert (rast[..., 3] == 1).all()
        right, up = out[0, :, 1:, 0] - out[0, :, :-1, 0], out[0, 1:, :, 0] - out[0, :-1, :, 0]
        torch.testing.assert_close(right, out_da[0, :, :-1, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(up, out_da[0, :-1, :, 1], rtol=0, atol=1e-5)

    def test_gradcheck(self):
        pos, tri = random_scene(0)
        rast, rast_db = reference.rasterize(None, pos.double(), tri, (5, 6))
        attr = torch.randn(2, 60, 2, generator=torch.Generator().manual_seed(0)).double()
        inputs = [tensor.requires_grad_() for tensor in (attr, rast[..., :2].clone(), rast_db)]

        def values(attr, uv, rast_db):
            whole = torch.cat([uv, rast[..., 2:].detach()], dim=-1).contiguous()
            return reference.interpolate(attr, whole, tri, rast_db, "all")

        assert torch.autograd.gradcheck(values, inputs)

    def test_same_bits_for_any_thread_count(self):
        pos, tri = random_scene(1)
        rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
        generator = torch.Generator().manual_seed(1)
        attr = torch.randn(pos.shape[1], 3, generator=generator)
        cotangents = [torch.randn(2, *SIZE, c, generator=generator) for c in (3, 6)]
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 5, 1):
                torch.set_num_threads(num_threads)
                leaves = [tensor.clone().requires_grad_() for tensor in (attr, rast, rast_db)]
                outputs = dr.interpolate(leaves[0], leaves[1], tri, leaves[2], "all")
                torch.autograd.backward(outputs, cotangents)
                results.append((*outputs, *(leaf.grad for leaf in leaves)))
        finally:
            torch.set_num_threads(before)
        for result in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(result, results[0]))


class TestInterpolateErrors:
    RAST, TRI = torch.zeros(2, 4, 5, 4), triangles_of((0, 1, 2))

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"attr": torch.zeros(3, 7, 2)}, r"attr is \[3, 7, 2\], expected .* N = 1 or 2"),
            ({"attr": torch.zeros(7, 0)}, r"attr is \[7, 0\], expected \[V, C\]"),
            ({"attr": torch.zeros(7)}, r"attr is \[7\]"),
            ({"attr": torch.zeros(7, 2).half()}, "attr is float16, expected float32"),
            ({"attr": torch.zeros(2, 7).T}, "attr is not contiguous"),
            ({"rast": torch.zeros(2, 4, 5, 3)}, r"rast is \[2, 4, 5, 3\]"),
            ({"tri": torch.zeros(1, 3)}, "tri is float32, expected int32"),
            (
                {"rast_db": torch.zeros(2, 4, 4, 4), "diff_attrs": "all"},
                r"rast_db is \[2, 4, 4, 4\], expected \[2, 4, 5, 4\]",
            ),
            (
                {"rast_db": RAST, "diff_attrs": list(range(33))},
                "diff_attrs lists 33 attributes, expected at most 32",
            ),
        ],
    )
    def test_runtime_errors(self, verbs, change, message):
        arguments = {"attr": torch.zeros(7, 2), "rast": self.RAST, "tri": self.TRI, **change}
        with pytest.raises(RuntimeError, match="interpolate: " + message):
            verbs.interpolate(**arguments)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"attr": None, "rast": 1}, "rast is a int"),
            ({"diff_attrs": "all"}, "rast_db is None"),
            ({"rast_db": RAST, "diff_attrs": "some"}, "diff_attrs is 'some', expected 'all'"),
            ({"rast_db": RAST, "diff_attrs": [None]}, r"diff_attrs is \[None\], expected 'all'"),
            ({"rast_db": RAST, "diff_attrs": [0.7]}, r"diff_attrs is \[0.7\], expected 'all'"),
            (
                {"rast_db": RAST, "diff_attrs": 0},
                "diff_attrs is 0, expected 'all', a list of integers",
            ),
            (
                {"rast_db": RAST, "diff_attrs": [[0], [1]]},
                r"diff_attrs is \[\[0\], \[1\]\], expected",
            ),
        ],
    )
    def test_type_errors(self, verbs, change, message):
        arguments = {"attr": torch.zeros(7, 2), "rast": self.RAST, "tri": self.TRI, **change}
        with pytest.raises(TypeError, match="interpolate: " + message):
            verbs.interpolate(**arguments)

    def test_float64_names_the_reference(self):
        with pytest.raises(RuntimeError, match="attr is float64, .*dr.reference takes float64"):
            dr.interpolate(torch.zeros(7, 2).double(), self.RAST, self.TRI)
