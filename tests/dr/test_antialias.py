"""antialias: cases worked by hand, then the kernels against the reference on random scenes.

The hand cases hold an edge at pixel coordinate e of a row of 4 pixels, colour 1 where covered.
"""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from tests.helpers.triangles import random_scene, triangles_of

SIZE = (37, 41)
# The slope W/2 of a row's sum in NDC x, as it comes out with 1e-3 px added to an edge of 6 px.
SLOPE = 1.999667


@pytest.fixture(params=["dr", "reference"])
def verbs(request):
    return dr if request.param == "dr" else reference


class Scene:
    """A white triangle on black, antialiased, and the gradients of the sum of all pixels."""

    def __init__(self, verbs, device, vertices, tri, size):
        self.pos = torch.tensor([vertices], dtype=torch.float32, device=device, requires_grad=True)
        self.tri = tri.to(device)
        context = verbs.RasterizeContext()
        self.rast, _ = verbs.rasterize(context, self.pos.detach(), self.tri, size)
        self.color = (self.rast[..., 3:] > 0).float().requires_grad_()
        self.out = verbs.antialias(self.color, self.rast, self.pos, self.tri)
        self.out.sum().backward()

    def row(self, j=0):
        return self.out[0, j, :, 0].tolist()

    def pos_grad(self):
        return self.pos.grad[0].cpu()


def right_edge(e: float) -> list[tuple[float, float, float, float]]:
    return [(e / 2 - 1, -3, 0, 1), (e / 2 - 1, 3, 0, 1), (-9, 0, 0, 1)]


def left_edge(e: float) -> list[tuple[float, float, float, float]]:
    return [(e / 2 - 1, -3, 0, 1), (9, 0, 0, 1), (e / 2 - 1, 3, 0, 1)]


class TestAntialiasByHand:
    @pytest.mark.parametrize(
        "e, row",
        [
            (2.7, [1, 1, 0.7, 0]),
            (3.2, [1, 1, 1, 0.2]),
            (2.5625, [1, 1, 0.5625, 0]),
            (2.49, [1, 1, 0.49, 0]),
            (3.45, [1, 1, 1, 0.45]),
        ],
    )
    def test_right_edge(self, verbs, device, e, row):
        scene = Scene(verbs, device, right_edge(e), triangles_of((0, 1, 2)), (2, 4))
        for j in (0, 1):
            assert scene.row(j) == pytest.approx(row, abs=1e-5)
        # The sum of a row is e: the slope is W/2 for each of the two rows.
        assert float(scene.pos_grad()[:2, 0].sum()) == pytest.approx(4, rel=1e-3)
        assert (scene.pos_grad()[2] == 0).all() and (scene.pos_grad()[:, 2] == 0).all()

    def test_gradients_of_right_edge(self, verbs, device):
        scene = Scene(verbs, device, right_edge(2.7), triangles_of((0, 1, 2)), (2, 4))
        expected = torch.tensor([[SLOPE, 0, 0, -0.699917], [SLOPE, 0, 0, -0.699917], [0] * 4])
        torch.testing.assert_close(scene.pos_grad(), expected, rtol=1e-3, atol=2e-5)
        assert scene.color.grad[0, 0, :, 0].tolist() == pytest.approx([1, 1, 0.7, 1.3], abs=1e-5)
        scene = Scene(verbs, device, right_edge(3.2), triangles_of((0, 1, 2)), (2, 4))
        expected = torch.tensor([[SLOPE, 0, 0, -1.199917], [SLOPE, 0, 0, -1.199917], [0] * 4])
        torch.testing.assert_close(scene.pos_grad(), expected, rtol=1e-3, atol=5e-5)
        assert scene.color.grad[0, 0, :, 0].tolist() == pytest.approx([1, 1, 1.2, 0.8], abs=1e-5)

    def test_edge_on_a_pixel_border(self, verbs, device):
        # nvdiffrast's own asymmetry: the left pixel's triangle gets no gradient, the right one's does.
        scene = Scene(verbs, device, right_edge(3.0), triangles_of((0, 1, 2)), (2, 4))
        assert scene.row() == [1, 1, 1, 0] and (scene.pos_grad() == 0).all()
        scene = Scene(verbs, device, left_edge(1.0), triangles_of((0, 1, 2)), (2, 4))
        assert scene.row() == [0, 1, 1, 1]
        assert scene.pos_grad()[:, 0].tolist() == pytest.approx([-SLOPE, 0, -SLOPE], rel=1e-3)

    def test_saturated_pair_does_not_move(self, verbs, device):
        # Snapping leaves pixel 2 uncovered although the edge lies just past its centre.
        scene = Scene(verbs, device, right_edge(2.501), triangles_of((0, 1, 2)), (2, 4))
        assert scene.row() == pytest.approx([1, 1, 0.5, 0], abs=1e-5)
        assert (scene.pos_grad() == 0).all()

    @pytest.mark.parametrize(
        "e, row, slope",
        [
            (1.3, [0, 0.7, 1, 1], -SLOPE),
            (0.8, [0.2, 1, 1, 1], -SLOPE),
            (1.52, [0, 0.5, 1, 1], 0),
        ],
    )
    def test_left_edge(self, verbs, device, e, row, slope):
        scene = Scene(verbs, device, left_edge(e), triangles_of((0, 1, 2)), (2, 4))
        assert scene.row() == pytest.approx(row, abs=1e-5)
        assert scene.pos_grad()[:, 0].tolist() == pytest.approx([slope, 0, slope], rel=1e-3)

    def test_between_rows(self, verbs, device):
        y = 2.7 / 2 - 1
        vertices = [(-3, y, 0, 1), (0, -9, 0, 1), (3, y, 0, 1)]
        scene = Scene(verbs, device, vertices, triangles_of((0, 1, 2)), (4, 2))
        for i in (0, 1):
            column = scene.out[0, :, i, 0].tolist()
            assert column == pytest.approx([1, 1, 0.7, 0], abs=1e-5)
        assert scene.pos_grad()[:, 1].tolist() == pytest.approx([SLOPE, 0, SLOPE], rel=1e-3)

    def test_inner_edges_are_left_alone(self, verbs, device):
        corners = [(-1, -1, 0, 1), (1, -1, 0, 1), (-1, 1, 0, 1), (1, 1, 0, 1)]
        shared = triangles_of((0, 1, 2), (1, 3, 2))
        apart = triangles_of((0, 1, 2), (3, 4, 5))
        for vertices, tri, changes in (
            (corners, shared, False),
            ([corners[k] for k in (0, 1, 2, 1, 3, 2)], apart, True),
        ):
            pos = torch.tensor([vertices], dtype=torch.float32, device=device, requires_grad=True)
            tri = tri.to(device)
            rast, _ = verbs.rasterize(verbs.RasterizeContext(), pos.detach(), tri, (4, 4))
            two_colors = rast[..., 3:].contiguous()
            out = verbs.antialias(two_colors, rast, pos, tri)
            assert torch.equal(out, two_colors) != changes
            # One colour on both sides: nothing to blend, and nothing that would move.
            one_color = torch.full_like(two_colors, 0.5)
            out = verbs.antialias(one_color, rast, pos, tri)
            assert torch.equal(out, one_color)
            out.sum().backward()
            assert (pos.grad == 0).all()

    def test_folded_edge_is_a_silhouette(self, verbs, device):
        # Both opposite vertices lie left of the edge (0, 1).
        vertices = [*right_edge(2.7), (-8, 0.5, 0.5, 1)]
        scene = Scene(verbs, device, vertices, triangles_of((0, 1, 2), (1, 0, 3)), (2, 4))
        assert scene.row() == pytest.approx([1, 1, 0.7, 0], abs=1e-5)
        assert float(scene.pos_grad()[:2, 0].sum()) == pytest.approx(4, rel=1e-3)

    def test_boost_scales_the_position_gradient_only(self, verbs, device):
        scene = Scene(verbs, device, right_edge(2.7), triangles_of((0, 1, 2)), (2, 4))
        pos = scene.pos.detach().clone().requires_grad_()
        color = scene.color.detach().clone().requires_grad_()
        out = verbs.antialias(color, scene.rast, pos, scene.tri, pos_gradient_boost=3.0)
        out.sum().backward()
        torch.testing.assert_close(pos.grad, 3 * scene.pos.grad)
        torch.testing.assert_close(color.grad, scene.color.grad)

    def test_rows_and_columns_are_alike(self, verbs, device):
        # The edge is flatter than 45 degrees, so it blends between rows; mirrored, between columns.
        vertices = [(-3, -2.7, 0, 1), (3, 2.9, 0, 1), (-3, 9, 0, 1)]
        scene = Scene(verbs, device, vertices, triangles_of((0, 1, 2)), (8, 8))
        assert (scene.out != scene.color).any()
        steep = [(y, x, z, w) for x, y, z, w in vertices]
        mirrored = Scene(verbs, device, steep, triangles_of((0, 1, 2)), (8, 8))
        torch.testing.assert_close(mirrored.out, scene.out.transpose(1, 2))


class TestAntialiasAgainstReference:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("crosses_planes", [False, True])
    def test_forward_and_gradient(self, seed, crosses_planes):
        pos, tri = random_scene(seed, crosses_planes)
        generator = torch.Generator().manual_seed(seed)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
        color = torch.rand(2, *SIZE, 3, generator=generator)
        cotangent = torch.randn(color.shape, generator=generator)
        ours = [tensor.clone().requires_grad_() for tensor in (color, pos)]
        exact = [tensor.double().requires_grad_() for tensor in (color, pos)]
        out = dr.antialias(ours[0], rast, ours[1], tri)
        twin = reference.antialias(exact[0], rast.double(), exact[1], tri)
        out.backward(cotangent)
        twin.backward(cotangent.double())
        assert float((out - color).detach().abs().max()) > 0.2
        torch.testing.assert_close(out.double(), twin, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours[0].grad.double(), exact[0].grad, rtol=0, atol=1e-5)
        # What is left is the 1e-3 px that the kernel adds to the extent; measured up to 3e-3.
        torch.testing.assert_close(ours[1].grad.double(), exact[1].grad, rtol=1e-2, atol=1e-2)

    def test_range_mode(self):
        pos, tri = random_scene(2)
        ranges = torch.tensor([[0, 20], [5, 9]], dtype=torch.int32)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos[0], tri, SIZE, ranges=ranges)
        color = torch.rand(2, *SIZE, 1, generator=torch.Generator().manual_seed(2))
        ours, exact = pos[0].clone().requires_grad_(), pos[0].double().requires_grad_()
        out = dr.antialias(color, rast, ours, tri)
        twin = reference.antialias(color.double(), rast.double(), exact, tri)
        out.square().sum().backward()
        twin.square().sum().backward()
        torch.testing.assert_close(out.double(), twin, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-2, atol=1e-2)

    def test_gradcheck(self):
        pos, tri = random_scene(4)
        pos = pos[:1].contiguous()
        rast, _ = reference.rasterize(None, pos.double(), tri, (7, 8))
        color = torch.rand(1, 7, 8, 1, generator=torch.Generator().manual_seed(4)).double()
        inputs = (color.requires_grad_(), pos.double().requires_grad_())

        def blended(color, pos):
            return reference.antialias(color, rast, pos, tri)

        assert torch.autograd.gradcheck(blended, inputs, eps=1e-7, atol=1e-5)

    def test_same_bits_for_any_thread_count(self):
        pos, tri = random_scene(1)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
        generator = torch.Generator().manual_seed(1)
        color = torch.rand(2, *SIZE, 3, generator=generator)
        cotangent = torch.randn(color.shape, generator=generator)
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 5, 1):
                torch.set_num_threads(num_threads)
                leaves = [tensor.clone().requires_grad_() for tensor in (color, pos)]
                out = dr.antialias(leaves[0], rast, leaves[1], tri)
                out.backward(cotangent)
                results.append((out, *(leaf.grad for leaf in leaves)))
        finally:
            torch.set_num_threads(before)
        for result in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(result, results[0]))

    def test_moves_an_outline_to_where_it_belongs(self):
        # Slide a triangle under the gradient of an image until it matches another one.
        tri, context = triangles_of((0, 1, 2)), dr.RasterizeContext()
        base = torch.tensor([[(-0.5, -0.6, 0, 1), (0.5, -0.4, 0, 1), (0.0, 0.6, 0, 1.0)]])

        def silhouette(shift):
            pos = base + torch.cat([shift, shift.new_zeros(2)])
            rast, _ = dr.rasterize(context, pos, tri, (32, 32))
            return dr.antialias((rast[..., 3:] > 0).float(), rast, pos, tri)

        wanted = silhouette(torch.tensor([0.13, -0.08]))
        shift = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            (silhouette(shift) - wanted).square().sum().backward()
            optimizer.step()
        # A hundredth of NDC is a sixth of a pixel; measured 1e-3.
        torch.testing.assert_close(shift.detach(), torch.tensor([0.13, -0.08]), rtol=0, atol=1e-2)


class TestTopologyHash:
    @pytest.mark.parametrize(
        "tri, opposite",
        [
            ([(0, 1, 2)], [(-1, -1, -1)]),
            ([(0, 1, 2), (1, 3, 2)], [(3, -1, -1), (-1, 0, -1)]),
            ([(0, 1, 2), (0, 1, 2)], [(-1, -1, -1)] * 2),
            # Three triangles at the edge (0, 1): the first two see each other, the third nobody.
            (
                [(0, 1, 2), (1, 0, 3), (0, 1, 4)],
                [(-1, -1, 3), (-1, -1, 2), (-1, -1, -1)],
            ),
            # Degenerate and negative rows don't count.
            ([(0, 1, 2), (0, 1, 1), (1, 0, -3)], [(-1, -1, -1)] * 3),
        ],
    )
    def test_opposite_vertices(self, tri, opposite):
        tri = triangles_of(*tri)
        table = dr.antialias_construct_topology_hash(tri)
        assert table.opposite.tolist() == [list(row) for row in opposite]
        twin = reference.antialias_construct_topology_hash(tri)
        assert twin.tolist() == table.opposite.tolist()

    def test_random_triangles_agree_with_the_reference(self):
        generator = torch.Generator().manual_seed(0)
        tri = torch.randint(-1, 9, (200, 3), generator=generator).int()
        table = dr.antialias_construct_topology_hash(tri).opposite.tolist()
        assert table == reference.antialias_construct_topology_hash(tri).tolist()

    def test_given_hash_is_used(self):
        pos, tri = random_scene(0)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
        color = torch.rand(2, *SIZE, 3, generator=torch.Generator().manual_seed(0))
        table = dr.antialias_construct_topology_hash(tri)
        with_table = dr.antialias(color, rast, pos, tri, table)
        assert torch.equal(with_table, dr.antialias(color, rast, pos, tri))


class TestAntialiasErrors:
    POS, TRI = torch.ones(2, 3, 4), triangles_of((0, 1, 2))

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"color": torch.zeros(2, 4, 5, 0)}, r"color is \[2, 4, 5, 0\]"),
            ({"color": torch.zeros(4, 5, 3)}, r"color is \[4, 5, 3\], expected \[N, H, W, C\]"),
            ({"rast": torch.zeros(2, 4, 4, 4)}, r"rast is \[2, 4, 4, 4\], expected \[2, 4, 5, 4\]"),
            ({"pos": torch.ones(3, 3, 4)}, r"pos is \[3, 3, 4\], expected \[2, V, 4\]"),
            ({"pos": torch.ones(3, 3)}, r"pos is \[3, 3\], expected \[V, 4\]"),
            ({"tri": torch.zeros(1, 3).long()}, "tri is int64, expected int32"),
            ({"color": torch.zeros(2, 5, 4, 3).transpose(1, 2)}, "color is not contiguous"),
        ],
    )
    def test_runtime_errors(self, verbs, change, message):
        arguments = {"color": torch.zeros(2, 4, 5, 3), "rast": torch.zeros(2, 4, 5, 4), **change}
        with pytest.raises(RuntimeError, match="antialias: " + message):
            verbs.antialias(**{"pos": self.POS, "tri": self.TRI, **arguments})

    def test_wrong_hash(self):
        tensors = torch.zeros(2, 4, 5, 3), torch.zeros(2, 4, 5, 4), self.POS, self.TRI
        with pytest.raises(TypeError, match="topology_hash is a dict"):
            dr.antialias(*tensors, topology_hash={})
        other = dr.antialias_construct_topology_hash(triangles_of((0, 1, 2), (0, 2, 1)))
        with pytest.raises(RuntimeError, match="topology_hash is for 2 triangles, expected 1"):
            dr.antialias(*tensors, topology_hash=other)
        other = dr.antialias_construct_topology_hash(triangles_of((0, 2, 1)))
        with pytest.raises(
            RuntimeError, match="topology_hash was made for other triangles than tri"
        ):
            dr.antialias(*tensors, topology_hash=other)
        with pytest.raises(TypeError, match="make it with the module that uses it"):
            reference.antialias(*tensors, topology_hash=other)

    @pytest.mark.parametrize("boost", ["much", None, [1, 2]])
    def test_wrong_boost(self, verbs, boost):
        tensors = torch.zeros(2, 4, 5, 3), torch.zeros(2, 4, 5, 4), self.POS, self.TRI
        with pytest.raises(
            TypeError, match="antialias: pos_gradient_boost is .*, expected a number"
        ):
            verbs.antialias(*tensors, pos_gradient_boost=boost)

    def test_float64_names_the_reference(self):
        with pytest.raises(RuntimeError, match="color is float64, .*dr.reference takes float64"):
            dr.antialias(
                torch.zeros(2, 4, 5, 3).double(), torch.zeros(2, 4, 5, 4), self.POS, self.TRI
            )
