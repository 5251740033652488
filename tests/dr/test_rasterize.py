"""rasterize: cases worked by hand, then the kernels against the reference on random scenes.

Images are listed from row 0, the bottom row, upwards.
"""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.dr.rasterize_kernels import decode_id
from tests.helpers.triangles import RIGHT_TRIANGLE, random_scene, triangles_of


def ids_of(rast: torch.Tensor) -> list[list[int]]:
    return rast[0, :, :, 3].long().tolist()


@pytest.fixture(params=["dr", "reference"])
def verbs(request):
    return dr if request.param == "dr" else reference


class TestRasterizeByHand:
    def draw(self, verbs, device, vertices, tri, size=(4, 4), **options):
        self.pos = torch.tensor([vertices], dtype=torch.float32, device=device, requires_grad=True)
        context = verbs.RasterizeContext()
        return verbs.rasterize(context, self.pos, tri.to(device), size, **options)

    def test_right_triangle(self, verbs, device):
        rast, rast_db = self.draw(verbs, device, RIGHT_TRIANGLE, triangles_of((0, 1, 2)))
        # Centres on the hypotenuse are excluded: it is a right and top edge.
        assert ids_of(rast) == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
        expected = {(0, 0): [0.75, 0.125, -0.3125, 1], (0, 2): [0.25, 0.625, 0.1875, 1]}
        expected[1, 1] = [0.25, 0.375, 0.0625, 1]
        for (row, column), values in expected.items():
            assert rast[0, row, column].tolist() == pytest.approx(values, abs=1e-5)
        assert rast_db[0, 0, 0].tolist() == pytest.approx([-0.25, -0.25, 0.25, 0.0], abs=1e-5)
        assert (rast[0, 3] == 0).all() and (rast_db[0, 3] == 0).all()

    def test_back_faces_are_drawn(self, verbs, device):
        front, _ = self.draw(verbs, device, RIGHT_TRIANGLE, triangles_of((0, 1, 2)))
        back, back_db = self.draw(verbs, device, RIGHT_TRIANGLE, triangles_of((0, 2, 1)))
        assert torch.equal(front[..., 3], back[..., 3])
        torch.testing.assert_close(front[..., 2], back[..., 2])
        assert back[0, 0, 0, :2].tolist() == pytest.approx([0.75, 0.125], abs=1e-5)
        assert back_db[0, 0, 0].tolist() == pytest.approx([-0.25, -0.25, 0, 0.25], abs=1e-5)

    def test_shared_edge_is_hit_once(self, verbs, device):
        vertices = [*RIGHT_TRIANGLE, (1, 1, 0, 1)]
        rast, _ = self.draw(verbs, device, vertices, triangles_of((0, 1, 2), (1, 3, 2)))
        assert ids_of(rast) == [[1, 1, 1, 2], [1, 1, 2, 2], [1, 2, 2, 2], [2, 2, 2, 2]]

    def test_range_mode_reports_global_triangles(self, verbs, device):
        pos = torch.tensor([*RIGHT_TRIANGLE, (1, 1, 0, 1)], dtype=torch.float32, device=device)
        tri = triangles_of((0, 1, 2), (1, 3, 2)).to(device)
        ranges = torch.tensor([[0, 1], [1, 1], [1, 0]], dtype=torch.int32)
        rast, _ = verbs.rasterize(verbs.RasterizeContext(), pos, tri, (4, 4), ranges=ranges)
        counts = [[int((image[..., 3] == k).sum()) for k in (0, 1, 2)] for image in rast]
        assert counts == [[10, 6, 0], [6, 0, 10], [16, 0, 0]]

    def test_perspective(self, verbs, device):
        vertices = [RIGHT_TRIANGLE[0], (2, -2, 1, 2), RIGHT_TRIANGLE[2]]
        rast, rast_db = self.draw(verbs, device, vertices, triangles_of((0, 1, 2)))
        assert rast[0, 0, 0].tolist() == pytest.approx([0.8, 1 / 15, -0.3125, 1], abs=1e-5)
        expected = [-0.16, -0.2666667, 0.1422222, 0.0]
        assert rast_db[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)

    def test_of_equal_depths_the_later_wins(self, verbs, device):
        rast, _ = self.draw(verbs, device, RIGHT_TRIANGLE, triangles_of((0, 1, 2), (0, 1, 2)))
        assert set(rast[..., 3].flatten().tolist()) == {0.0, 2.0}

    def test_nearer_wins_in_either_order(self, verbs, device):
        near = [(x, y, z - 0.2, w) for x, y, z, w in RIGHT_TRIANGLE]
        for tri, winner in (((0, 1, 2), (3, 4, 5)), 2), (((3, 4, 5), (0, 1, 2)), 1):
            rast, _ = self.draw(verbs, device, RIGHT_TRIANGLE + near, triangles_of(*tri))
            assert set(rast[..., 3].flatten().tolist()) == {0.0, float(winner)}

    @pytest.mark.parametrize("indices", [(0, 1, 99), (0, -1, 2), (0, 1, 1)])
    def test_unusable_triangles_are_skipped(self, verbs, device, indices):
        rast, rast_db = self.draw(verbs, device, RIGHT_TRIANGLE, triangles_of(indices))
        assert (rast == 0).all() and (rast_db == 0).all()

    @pytest.mark.parametrize("z_third, z_over_w", [(-3, -0.375), (3, 0.375)])
    def test_clips_in_z(self, verbs, device, z_third, z_over_w):
        vertices = [(-1, -1, 0, 1), (1, -1, 0, 1), (-1, 1, z_third, 1)]
        rast, _ = self.draw(verbs, device, vertices, triangles_of((0, 1, 2)))
        assert ids_of(rast) == [[1, 1, 1, 0], [0] * 4, [0] * 4, [0] * 4]
        expected = [0.75, 0.125, z_over_w, 1]
        assert rast[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)

    def test_far_plane_is_inside(self, verbs, device):
        for depth, pixels in ((1.0, 6), (-1.0, 6), (1.5, 0)):
            vertices = [(x, y, depth, 1) for x, y, _, _ in RIGHT_TRIANGLE]
            rast, _ = self.draw(verbs, device, vertices, triangles_of((0, 1, 2)))
            assert int((rast[..., 3] == 1).sum()) == pixels
            assert set(rast[..., 2].flatten().tolist()) <= {0.0, depth}

    def test_vertex_behind_the_eye(self, verbs, device):
        # The ground plane y = -1 from behind the eye to z_camera = -8: w = -z_camera; it fills the lower
        # half of the image between the depths where w >= 1/2 (row 0) and the far plane.
        vertices = [(-40, -1, 0, -4), (40, -1, 0, -4), (0, -1, 0, 8)]
        rast, _ = self.draw(verbs, device, vertices, triangles_of((0, 1, 2)), size=(8, 8))
        covered = rast[0, :, :, 3] == 1
        # Row j has Y = (2 j + 1)/8 - 1 = -1/w: w = 8/7, 8/5, 8/3, 8 for j = 0..3.
        assert covered[:3].all() and not covered[4:].any()
        # Third weight: w = -4 (1 - t) + 8 t gives t = (w + 4)/12.
        third = 1 - rast[0, :3, 4, 0] - rast[0, :3, 4, 1]
        expected = [(w + 4) / 12 for w in (8 / 7, 8 / 5, 8 / 3)]
        assert third.tolist() == pytest.approx(expected, abs=1e-5)

    def test_snaps_to_sixteenths(self, verbs, device):
        # A right edge 1/40 pixel past the centres of column 1 rounds back onto them: not covered.
        for past, last_column in ((1 / 40, 0), (1 / 20, 1)):
            x = (1.5 + past) / 2 - 1
            vertices = [(x, -3, 0, 1), (x, 3, 0, 1), (-9, 0, 0, 1)]
            rast, _ = self.draw(verbs, device, vertices, triangles_of((0, 1, 2)))
            assert rast[0, 1, :, 3].tolist() == [float(i <= last_column) for i in range(4)]

    def test_not_finite_vertices_are_not_drawn(self, verbs):
        for value in (float("nan"), float("inf")):
            vertices = [*RIGHT_TRIANGLE[:2], (value, 1, 0, 1)]
            rast, rast_db = self.draw(verbs, "cpu", vertices, triangles_of((0, 1, 2)))
            assert (rast == 0).all() and (rast_db == 0).all()

    @pytest.mark.parametrize(
        "second, channel, expected",
        [
            ((1, -1, 0.5, 1), 0, [(0.375, 0.375, 0, 0.5625), *[(0.0625, 0.0625, 0, 0.09375)] * 2]),
            ((1, -1, 0.5, 1), 1, [(-0.375, 0, 0, -0.28125), *[(-0.0625, 0, 0, -0.046875)] * 2]),
            (
                (2, -2, 1, 2),
                0,
                [(0.24, 0.4, 0, 0.48), (0.02, 0.033333, 0, 0.04), (0.04, 0.066667, 0, 0.08)],
            ),
            (
                (2, -2, 1, 2),
                1,
                [
                    (-0.213333, 0, 0, -0.16),
                    (-0.017778, 0, 0, -0.013333),
                    (-0.035556, 0, 0, -0.026667),
                ],
            ),
            ((1, -1, 0.5, 1), 2, [(0, 0, 0, 0)] * 3),
            ((1, -1, 0.5, 1), 3, [(0, 0, 0, 0)] * 3),
        ],
    )
    def test_gradient_at_one_pixel(self, verbs, device, second, channel, expected):
        vertices = [RIGHT_TRIANGLE[0], second, RIGHT_TRIANGLE[2]]
        rast, _ = self.draw(verbs, device, vertices, triangles_of((0, 1, 2)))
        cotangent = torch.zeros_like(rast)
        cotangent[0, 0, 0, channel] = 1.0
        rast.backward(cotangent)
        expected = torch.tensor([expected], dtype=torch.float32)
        torch.testing.assert_close(self.pos.grad.cpu(), expected, atol=1e-6, rtol=1e-3)

    def test_gradient_sums_over_pixels(self, verbs, device):
        # u = -(X + Y)/2 wherever it is seen; shifting the triangle by dx adds dx/2 at each of 6 pixels.
        rast, _ = self.draw(verbs, device, RIGHT_TRIANGLE, triangles_of((0, 1, 2)))
        rast[..., 0].sum().backward()
        assert float(self.pos.grad[..., 0].sum()) == pytest.approx(6 * 0.5, rel=1e-3)

    def test_grad_db_off_drops_only_that_term(self, verbs, device):
        rast, rast_db = self.draw(
            verbs, device, RIGHT_TRIANGLE, triangles_of((0, 1, 2)), grad_db=False
        )
        (rast[..., 0].sum() + rast_db.square().sum()).backward()
        with_term_dropped = self.pos.grad.clone()
        rast, _ = self.draw(verbs, device, RIGHT_TRIANGLE, triangles_of((0, 1, 2)))
        rast[..., 0].sum().backward()
        torch.testing.assert_close(self.pos.grad, with_term_dropped)


class TestRasterizeAgainstReference:
    SIZE = (37, 41)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("crosses_planes", [False, True])
    def test_same_bits_forward(self, seed, crosses_planes):
        pos, tri = random_scene(seed, crosses_planes)
        kernel = dr.rasterize(dr.RasterizeContext(), pos, tri, self.SIZE)
        twin = reference.rasterize(None, pos, tri, self.SIZE)
        assert 0.2 < (kernel[0][..., 3] > 0).float().mean()
        assert torch.equal(kernel[0], twin[0]) and torch.equal(kernel[1], twin[1])

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("crosses_planes", [False, True])
    def test_gradient(self, seed, crosses_planes):
        pos, tri = random_scene(seed, crosses_planes)
        generator = torch.Generator().manual_seed(seed)
        cotangents = [torch.randn(2, *self.SIZE, 4, generator=generator) for _ in range(2)]
        ours, exact = pos.clone().requires_grad_(), pos.double().requires_grad_()
        outputs = dr.rasterize(dr.RasterizeContext(), ours, tri, self.SIZE)
        torch.autograd.backward(outputs, cotangents)
        outputs = reference.rasterize(None, exact, tri, self.SIZE)
        torch.autograd.backward(outputs, [cotangent.double() for cotangent in cotangents])
        assert (ours.grad[..., 2] == 0).all()
        # What is left is the 1e-6 that the kernel adds to the area; measured up to 5e-3 on thin triangles.
        torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=2e-2, atol=2e-2)
        error = (ours.grad - exact.grad).norm() / exact.grad.norm()
        assert error < 3e-3

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("which", ["rast", "rast_db"])
    @pytest.mark.parametrize("mode", ["instanced", "range"])
    def test_gradient_is_the_formulas(self, seed, which, mode):
        """To float32's last digits: unclamped u and v, and 1e-6 added to the area's size, in float64."""
        pos, tri = random_scene(seed, crosses_planes=seed % 2 == 1)
        ranges = None
        if mode == "range":
            pos, ranges = pos[0].clone(), torch.tensor([[0, 20], [3, 12], [8, 0]]).int()
        ours, exact = pos.clone().requires_grad_(), pos.double().requires_grad_()
        outputs = dr.rasterize(dr.RasterizeContext(), ours, tri, self.SIZE, ranges)
        chosen = outputs[0][..., :2] if which == "rast" else outputs[1]
        cotangent = torch.randn(chosen.shape, generator=torch.Generator().manual_seed(seed))
        chosen.backward(cotangent)

        seen = torch.nonzero(outputs[0][..., 3], as_tuple=True)
        image, row, column = seen
        corners = tri.long()[outputs[0][..., 3][seen].long() - 1]  # [P, 3]
        of_image = exact.expand(len(outputs[0]), -1, -1)
        x, y, _, w = of_image[image[:, None], corners].unbind(-1)
        height, width = self.SIZE
        column, row = column.double(), row.double()
        ndc_x, ndc_y = (2 * column + 1) / width - 1, (2 * row + 1) / height - 1

        def others(a, b):  # a[k+1] b[k+2] - b[k+1] a[k+2]
            return a.roll(-1, 1) * b.roll(-2, 1) - b.roll(-1, 1) * a.roll(-2, 1)

        weights = others(x - ndc_x[:, None] * w, y - ndc_y[:, None] * w)
        area = weights.sum(1, keepdim=True)
        area = area + torch.where(area >= 0, 1e-6, -1e-6)
        uv = weights[:, :2] / area
        by_x, by_y = others(y, w), others(w, x)
        db = [(2 / size) * (by[:, :2] - uv * by.sum(1, keepdim=True)) / area
              for by, size in ((by_x, width), (by_y, height))]  # fmt: skip
        values = uv if which == "rast" else torch.stack(db, dim=-1).flatten(1)
        (values * cotangent[seen].double()).sum().backward()
        error = (ours.grad - exact.grad).norm() / exact.grad.norm()
        assert error < 1e-6  # measured up to 1e-7

    def test_range_mode_gradient_sums_over_images(self):
        pos, tri = random_scene(0)
        flat = pos[0].clone().requires_grad_()
        ranges = torch.tensor([[0, 20], [0, 20]], dtype=torch.int32)
        rast, _ = dr.rasterize(dr.RasterizeContext(), flat, tri, self.SIZE, ranges=ranges)
        rast[..., :2].sum().backward()
        single = pos[:1].clone().requires_grad_()
        rast, _ = dr.rasterize(dr.RasterizeContext(), single, tri, self.SIZE)
        rast[..., :2].sum().backward()
        torch.testing.assert_close(flat.grad, 2 * single.grad[0], rtol=1e-5, atol=1e-5)

    def test_watertight_mesh(self):
        # A jittered grid over the whole image: every centre is hit by exactly one of the triangles.
        generator = torch.Generator().manual_seed(0)
        steps = torch.linspace(-1, 1, 12)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        pos = torch.stack([x, y, torch.zeros_like(x), torch.ones_like(x)], dim=-1)
        pos[1:-1, 1:-1, :2] += 0.1 * torch.rand(10, 10, 2, generator=generator) - 0.05
        index = torch.arange(144).reshape(12, 12)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        tri = torch.stack([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)]).reshape(-1, 3)
        pos = pos.reshape(1, -1, 4).contiguous()
        hits = torch.zeros(50, 50)
        for triangle in tri:
            one = triangle[None].int().contiguous()
            rast, _ = dr.rasterize(dr.RasterizeContext(), pos, one, (50, 50))
            hits += rast[0, :, :, 3]
        assert (hits == 1).all()

    def test_gradcheck(self):
        # No centre lies on an edge: there the clamp of u and v would spoil the differences.
        first = [(-0.93, -0.95, 0.1, 1), (1.9, -1.8, 0.5, 2), (-0.9, 0.97, 0, 1.1)]
        second = [(-0.95, 0.9, 0, 1), (1.5, 0.53, 1, 2), (0.04, -0.97, 0, 1)]
        pos = torch.tensor([first, second])
        pos = pos.double().requires_grad_()

        def values(pos):
            rast, rast_db = reference.rasterize(None, pos, triangles_of((0, 1, 2)), (5, 6))
            return rast[..., :2], rast_db

        # The steps are too small to change the coverage, which float32 positions decide.
        assert torch.autograd.gradcheck(values, pos, eps=1e-7, atol=1e-5)


class TestRasterizeDeterminism:
    def test_same_bits_for_any_thread_count(self):
        pos, tri = random_scene(1)
        generator = torch.Generator().manual_seed(1)
        cotangents = [torch.randn(2, 33, 35, 4, generator=generator) for _ in range(2)]
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 5, 1):
                torch.set_num_threads(num_threads)
                leaf = pos.clone().requires_grad_()
                outputs = dr.rasterize(dr.RasterizeContext(), leaf, tri, (33, 35))
                torch.autograd.backward(outputs, cotangents)
                results.append((*outputs, leaf.grad))
        finally:
            torch.set_num_threads(before)
        for result in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(result, results[0]))


class TestRasterizeErrors:
    POS, TRI = torch.tensor([RIGHT_TRIANGLE], dtype=torch.float32), triangles_of((0, 1, 2))

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"pos": torch.zeros(1, 3, 3)}, r"pos is \[1, 3, 3\], expected \[N, V, 4\]"),
            ({"pos": torch.zeros(0, 3, 4)}, r"pos is \[0, 3, 4\]"),
            ({"pos": torch.zeros(1, 0, 4)}, r"pos is \[1, 0, 4\]"),
            ({"pos": torch.zeros(4)}, r"pos is \[4\]"),
            ({"pos": torch.zeros(1, 4, 3).transpose(1, 2)}, "pos is not contiguous"),
            ({"pos": torch.zeros(1, 3, 4).half()}, "pos is float16, expected float32"),
            ({"tri": torch.zeros(0, 3).int()}, r"tri is \[0, 3\]"),
            ({"tri": torch.zeros(2, 4).int()}, r"tri is \[2, 4\], expected \[T, 3\]"),
            ({"tri": torch.zeros(2, 3).long()}, "tri is int64, expected int32"),
            ({"resolution": (0, 4)}, r"resolution is \(0, 4\), expected both above 0"),
            (
                {"resolution": (1, 2**20 + 1)},
                r"resolution is \(1, 1048577\), expected both at most",
            ),
            ({"resolution": (10**30, 1)}, "expected both at most 1048576; draw it in parts"),
            ({"pos": torch.zeros(3, 4)}, r"ranges is None; pass ranges \[N, 2\]"),
            (
                {"pos": torch.zeros(3, 4), "ranges": torch.zeros(1, 2).long()},
                "ranges is int64, expected int32",
            ),
            (
                {"pos": torch.zeros(3, 4), "ranges": torch.zeros(0, 2).int()},
                r"ranges is \[0, 2\]",
            ),
            (
                {"pos": torch.zeros(3, 4), "ranges": torch.tensor([[0, 2**24 + 1]]).int()},
                "16777217 triangles in one image, expected at most 16777216",
            ),
        ],
    )
    def test_runtime_errors(self, verbs, change, message):
        arguments = {"pos": self.POS, "tri": self.TRI, "resolution": (4, 4), **change}
        with pytest.raises(RuntimeError, match="rasterize: .*" + message):
            verbs.rasterize(dr.RasterizeContext(), **arguments)

    def test_float64_names_the_reference(self):
        with pytest.raises(RuntimeError, match="expected float32; .*dr.reference takes float64"):
            dr.rasterize(dr.RasterizeContext(), self.POS.double(), self.TRI, (4, 4))

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"pos": [1.0]}, "pos is a list, expected a torch.Tensor"),
            ({"resolution": 4}, r"resolution is 4, expected two integers \(height, width\)"),
            ({"resolution": (4, 4, 4)}, r"resolution is \(4, 4, 4\), expected two integers"),
            ({"resolution": (4.7, 4)}, r"resolution is \(4.7, 4\), expected two integers"),
            ({"resolution": "44"}, "resolution is '44', expected two integers"),
            ({"grad_db": 1}, "grad_db is 1, expected True or False"),
            ({"glctx": None}, "glctx is a NoneType, expected mofa_nvdr.dr.RasterizeContext"),
        ],
    )
    def test_type_errors(self, change, message):
        arguments = {"glctx": dr.RasterizeContext(), "pos": self.POS, "tri": self.TRI}
        with pytest.raises(TypeError, match="rasterize: " + message):
            dr.rasterize(**{**arguments, "resolution": (4, 4), **change})

    def test_no_second_gradient(self):
        pos = self.POS.clone().requires_grad_()
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, self.TRI, (4, 4))
        (first,) = torch.autograd.grad(rast[..., 0].square().sum(), pos, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()


class TestIds:
    @pytest.mark.parametrize("number", [1, 2**24 - 1, 2**24, 2**24 + 1, 2**25 + 3])
    def test_numbers_above_2_to_24_survive_float32(self, number):
        # nvdiffrast counts on in the bit pattern of 2^24 as float32.
        bits = 0x4B800000 + number - 2**24
        stored = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
        if number <= 2**24:
            stored = torch.tensor([float(number)])
        assert decode_id(stored.numpy()[0]) == number

    def test_range_mode_beyond_2_to_24(self):
        # 201 MB of indices to nothing, and one triangle after them.
        tri = torch.full((2**24 + 2, 3), -1, dtype=torch.int32)
        tri[-1] = torch.tensor([0, 1, 2])
        ranges = torch.tensor([[2**24, 2]], dtype=torch.int32)
        pos = torch.tensor(RIGHT_TRIANGLE, dtype=torch.float32)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, tri, (4, 4), ranges=ranges)
        assert int(rast[0, 0, 0, 3].view(torch.int32)) == 0x4B800000 + 2
        out, _ = dr.interpolate(torch.ones(3, 1), rast, tri)
        assert int((out == 1).sum()) == 6
