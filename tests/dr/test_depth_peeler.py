"""DepthPeeler: layers in order, against sorting the fragments of each triangle drawn alone."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import dr
from tests.helpers.triangles import RIGHT_TRIANGLE, random_scene, triangles_of

SIZE = (24, 20)


def quads(*depths: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Squares over the whole image, one at each z/w."""
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    pos = torch.tensor([[(x, y, z, 1) for z in depths for x, y in corners]], dtype=torch.float32)
    rows = [(4 * k, 4 * k + i, 4 * k + i + 1) for k in range(len(depths)) for i in (1, 2)]
    return pos, torch.tensor(rows, dtype=torch.int32)


def peel(pos, tri, count, size=SIZE, **options):
    with dr.DepthPeeler(dr.RasterizeContext(), pos, tri, size, **options) as peeler:
        return [peeler.rasterize_next_layer() for _ in range(count)]


class TestLayers:
    def test_front_to_back(self):
        pos, tri = quads(0.5, -0.5, 0.0)
        depths = [rast[..., 2] for rast, _ in peel(pos, tri, 4)]
        for got, want in zip(depths, (-0.5, 0.0, 0.5)):
            torch.testing.assert_close(got, torch.full_like(got, want))
        assert (depths[3] == 0).all()

    def test_after_the_last_everything_is_empty(self):
        pos, tri = quads(0.0)
        for rast, rast_db in peel(pos, tri, 3)[1:]:
            assert (rast == 0).all() and (rast_db == 0).all()

    def test_first_layer_is_rasterize(self):
        pos, tri = random_scene(3)
        rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
        layer, layer_db = peel(pos, tri, 1)[0]
        assert torch.equal(rast, layer) and torch.equal(rast_db, layer_db)

    @pytest.mark.parametrize("crosses_planes", [False, True])
    @pytest.mark.parametrize("num_threads", [1, 3])
    def test_are_the_sorted_fragments(self, crosses_planes, num_threads):
        pos, tri = random_scene(5, crosses_planes)
        context = dr.RasterizeContext()
        alone = [dr.rasterize(context, pos, tri[k : k + 1], SIZE)[0] for k in range(len(tri))]
        fragments = torch.stack(alone)  # [T, N, H, W, 4]
        depth = torch.where(fragments[..., 3] > 0, fragments[..., 2], 2.0)
        order = depth.argsort(dim=0)
        sorted_depth = depth.gather(0, order)
        # Where two depths are closer than the buffer resolves, either may come first or be lost.
        close = ((sorted_depth[1:] - sorted_depth[:-1]).abs() < 4e-6) & (sorted_depth[1:] < 2)
        clear = ~close.any(dim=0)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(num_threads)
            layers = peel(pos, tri, len(tri))
        finally:
            torch.set_num_threads(before)
        assert clear.float().mean() > 0.95
        covered = 0
        for place, (rast, _) in enumerate(layers):
            want = torch.where(sorted_depth[place] < 2, order[place] + 1, 0).float()
            assert torch.equal(rast[..., 3][clear], want[clear])
            covered += int((rast[..., 3] > 0).sum())
        assert covered > 1.1 * int((layers[0][0][..., 3] > 0).sum())  # there was something to peel

    def test_equal_depths_are_one_layer(self):
        pos, tri = quads(0.25, 0.25)
        layers = peel(pos, tri, 2)
        assert set(layers[0][0][..., 3].unique().tolist()) == {3, 4}  # the later square
        assert (layers[1][0] == 0).all()

    def test_range_mode(self):
        pos, tri = quads(0.5, -0.5, 0.0)
        ranges = torch.tensor([[0, 4], [2, 4]], dtype=torch.int32)
        first, second = (
            rast[:, 0, 0, 2].tolist() for rast, _ in peel(pos[0], tri, 2, ranges=ranges)
        )
        assert first == pytest.approx([-0.5, -0.5])
        assert second == pytest.approx([0.5, 0.0])


class TestGradients:
    def test_reach_each_layers_triangle(self):
        vertices = [*RIGHT_TRIANGLE, *[(x, y, 0.9, 1) for x, y, _, _ in RIGHT_TRIANGLE]]
        pos = torch.tensor([vertices], dtype=torch.float32, requires_grad=True)
        layers = peel(pos, triangles_of((0, 1, 2), (3, 4, 5)), 2, size=(4, 4))
        grads = []
        for rast, _ in layers:
            pos.grad = None
            rast[0, 0, 0, 0].backward()
            grads.append(pos.grad[0])
        # The case of the right triangle, worked by hand, once for the front and once behind it.
        want = torch.tensor([[0.375, 0.375, 0, 0.5625], [0.0625, 0.0625, 0, 0.09375]])
        torch.testing.assert_close(grads[0][:2], want, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(grads[1][3:5], want, rtol=1e-4, atol=1e-6)
        assert (grads[0][3:] == 0).all() and (grads[1][:3] == 0).all()

    def test_grad_db(self):
        pos, tri = quads(0.0)
        pos.requires_grad_()
        _, rast_db = peel(pos, tri, 1, grad_db=False)[0]
        rast_db.sum().backward()
        assert pos.grad is None or (pos.grad == 0).all()


class TestUse:
    def test_outside_of_the_with_block(self):
        pos, tri = quads(0.0)
        peeler = dr.DepthPeeler(dr.RasterizeContext(), pos, tri, SIZE)
        with pytest.raises(RuntimeError, match="works in its with block only"):
            peeler.rasterize_next_layer()
        with peeler:
            peeler.rasterize_next_layer()
        with pytest.raises(RuntimeError, match="works in its with block only"):
            peeler.rasterize_next_layer()
        with pytest.raises(RuntimeError, match="used before; make a new one"), peeler:
            pass

    def test_one_at_a_time(self):
        pos, tri = quads(0.0)
        context = dr.RasterizeContext()
        with dr.DepthPeeler(context, pos, tri, SIZE):
            with pytest.raises(RuntimeError, match="another one is active on glctx"):
                dr.DepthPeeler(context, pos, tri, SIZE).__enter__()
            with pytest.raises(RuntimeError, match="rasterize: a DepthPeeler is active on glctx"):
                dr.rasterize(context, pos, tri, SIZE)
        dr.rasterize(context, pos, tri, SIZE)

    def test_leaving_unentered_frees_nobody_elses_context(self):
        pos, tri = quads(0.0)
        context = dr.RasterizeContext()
        with dr.DepthPeeler(context, pos, tri, SIZE):
            dr.DepthPeeler(context, pos, tri, SIZE).__exit__(None, None, None)
            with pytest.raises(RuntimeError, match="a DepthPeeler is active on glctx"):
                dr.rasterize(context, pos, tri, SIZE)

    def test_an_error_inside_frees_the_context(self):
        pos, tri = quads(0.0)
        context = dr.RasterizeContext()
        with pytest.raises(KeyError), dr.DepthPeeler(context, pos, tri, SIZE):
            raise KeyError
        dr.rasterize(context, pos, tri, SIZE)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"glctx": None}, TypeError, "DepthPeeler: glctx is a NoneType, expected"),
            ({"resolution": (0, 4)}, RuntimeError, "DepthPeeler: resolution is"),
            ({"resolution": 4}, TypeError, "DepthPeeler: resolution is 4, expected two integers"),
            ({"grad_db": None}, TypeError, "DepthPeeler: grad_db is None"),
            ({"tri": torch.zeros(1, 3)}, RuntimeError, "DepthPeeler: tri is float32"),
            ({"pos": torch.zeros(4, 4)}, RuntimeError, "DepthPeeler: .* ranges is None"),
        ],
    )
    def test_wrong_arguments(self, change, error, message):
        pos, tri = quads(0.0)
        arguments = {"glctx": dr.RasterizeContext(), "pos": pos, "tri": tri, "resolution": SIZE}
        with pytest.raises(error, match=message):
            dr.DepthPeeler(**{**arguments, **change})
