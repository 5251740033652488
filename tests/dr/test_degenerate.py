"""Scenes that no one draws on purpose: slivers, holes in numbers, broken indices, extreme sizes.

Whatever comes, the kernels must give what the reference gives, or one clear error; never a crash, a
hang or a read outside of an array.
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mofa_nvdr import dr
from mofa_nvdr.dr import reference

ROOT = Path(__file__).resolve().parents[2]
# The same examples on every machine, and no clock in them.
stable = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=80,
    suppress_health_check=list(HealthCheck),
)
# Values at which something happens: pixel centres and borders, planes, the eye, and beyond.
SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 0.125, -0.875, 3.0, -2.0, 1e-30, 1e30]
BROKEN = [math.nan, math.inf, -math.inf]


@st.composite
def scenes(draw, coordinates=SPECIAL, indices=None):
    """(pos [N, V, 4], tri [T, 3], (H, W)): small, with every kind of coincidence."""
    count = draw(st.integers(3, 8))
    number = st.one_of(
        st.sampled_from(coordinates), st.floats(-2, 2, width=32, allow_subnormal=False)
    )
    w = st.one_of(st.sampled_from([1.0, 1.0, 1.0, 0.5, 2.0, 0.0, -1.0]), number)
    vertex = st.tuples(number, number, number, w)
    images = draw(st.integers(1, 2))
    pos = [draw(st.lists(vertex, min_size=count, max_size=count)) for _ in range(images)]
    index = st.integers(0, count - 1) if indices is None else st.sampled_from(indices)
    rows = draw(st.lists(st.tuples(index, index, index), min_size=1, max_size=6))
    size = draw(st.tuples(st.integers(1, 17), st.integers(1, 17)))
    return torch.tensor(pos), torch.tensor(rows, dtype=torch.int32), size


@st.composite
def slivers(draw):
    """(pos [1, 4, 4], tri [2, 3], (H, W)): two thin triangles on either side of one long edge.

    In whole sixteenths of a pixel, so that snapping leaves them where they are: else it could fold one over.
    """
    size = draw(st.tuples(*[st.sampled_from([1, 2, 8, 64])] * 2))
    near = st.integers(-2, 2)
    start = [draw(st.integers(0, 16 * n)) for n in size[::-1]]
    half = [draw(st.integers(-8 * n, 8 * n)) for n in size[::-1]]
    apex = [draw(near), draw(near)]
    x, y = ([a, a + 2 * h, a + h + n, a + h - n] for a, h, n in zip(start, half, apex))
    places = [(i / (8 * size[1]) - 1, j / (8 * size[0]) - 1, 0.0, 1.0) for i, j in zip(x, y)]
    return torch.tensor([places]), torch.tensor([[0, 1, 2], [1, 0, 3]], dtype=torch.int32), size


def assert_same(one: torch.Tensor, two: torch.Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


def rasterize_as_the_reference(pos, tri, size) -> tuple[torch.Tensor, torch.Tensor]:
    """What the kernel draws; the reference draws the same bits."""
    kernel = dr.rasterize(dr.RasterizeContext(), pos, tri, size)
    twin = reference.rasterize(None, pos, tri, size)
    assert_same(kernel[0], twin[0])
    assert_same(kernel[1], twin[1])
    return kernel


class TestAgainstTheReference:
    @stable
    @given(scenes())
    def test_rasterize_gives_the_same_bits(self, scene):
        kernel = rasterize_as_the_reference(*scene)
        covered = kernel[0][..., 3] > 0
        assert (kernel[0][~covered] == 0).all() and (kernel[1][~covered] == 0).all()
        u, v, depth, _ = kernel[0].unbind(-1)
        assert ((u >= 0) & (v >= 0) & (u + v <= 1 + 1e-6) & (depth.abs() <= 1)).all()

    @stable
    @given(slivers())
    def test_slivers(self, scene):
        """Far longer than wide, or of no width at all; neighbours share the long edge."""
        pos, tri, size = scene
        rasterize_as_the_reference(pos, tri, size)
        first = dr.rasterize(dr.RasterizeContext(), pos, tri[:1], size)[0][..., 3] > 0
        second = dr.rasterize(dr.RasterizeContext(), pos, tri[1:], size)[0][..., 3] > 0
        # Two triangles on either side of an edge never cover the same pixel.
        assert not (first & second).any()

    @stable
    @given(scenes(coordinates=SPECIAL + BROKEN))
    def test_broken_numbers(self, scene):
        """Triangles with such a vertex are not drawn; the others are as if these were not there."""
        pos, tri, size = scene
        pos.requires_grad_()
        rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, size)
        twin, twin_db = reference.rasterize(None, pos.detach(), tri, size)
        assert_same(rast.detach(), twin)
        assert_same(rast_db.detach(), twin_db)
        seen = rast[..., 3].detach().long()
        for image in range(len(pos)):
            for t in seen[image].unique().tolist():
                assert t == 0 or pos[image, tri[t - 1].long()].isfinite().all()
        rast[..., :2].sum().backward()
        unseen = torch.ones(pos.shape[:2], dtype=torch.bool)
        for image in range(len(pos)):
            for t in seen[image].unique().tolist():
                if t > 0:
                    unseen[image, tri[t - 1].long()] = False
        assert (pos.grad[unseen] == 0).all()

    @stable
    @given(scenes(indices=[-(2**31), -1, 0, 1, 2, 3, 99, 2**31 - 1]))
    def test_indices_out_of_range(self, scene):
        pos, tri, size = scene
        pos.requires_grad_()
        rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, size)
        assert_same(rast.detach(), reference.rasterize(None, pos.detach(), tri, size)[0])
        attr = torch.arange(3.0 * pos.shape[1]).reshape(1, -1, 3).requires_grad_()
        out, out_da = dr.interpolate(attr, rast, tri, rast_db, "all")
        color = dr.antialias(out.contiguous(), rast, pos, tri)
        (color.nan_to_num().sum() + out_da.nan_to_num().sum()).backward()
        assert pos.grad.shape == pos.shape

    @stable
    @given(scenes(), st.integers(0, 2**31))
    def test_interpolate(self, scene, seed):
        pos, tri, size = scene
        generator = torch.Generator().manual_seed(seed)
        attr = torch.rand(*pos.shape[:2], 2, generator=generator)
        rast = dr.rasterize(dr.RasterizeContext(), pos, tri, size)[0]
        cotangent = torch.rand(*rast.shape[:3], 2, generator=generator)
        gradients = []
        for verbs in (dr, reference):
            leaf, leaf_rast = attr.clone().requires_grad_(), rast.clone().requires_grad_()
            out = verbs.interpolate(leaf, leaf_rast, tri)[0]
            out.backward(cotangent)
            gradients.append((out.detach(), leaf.grad, leaf_rast.grad))
        for one, two in zip(*gradients):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)

    @stable
    @given(scenes(coordinates=[0.0, 0.5, -0.5, 1.0, -1.0]), st.integers(0, 2**31))
    def test_antialias(self, scene, seed):
        pos, tri, size = scene
        pos[..., 3] = pos[..., 3].abs() + 0.5  # vertices at the eye project anywhere
        rast = dr.rasterize(dr.RasterizeContext(), pos, tri, size)[0]
        color = torch.rand(*rast.shape[:3], 2, generator=torch.Generator().manual_seed(seed))
        ours = dr.antialias(color, rast, pos, tri)
        twin = reference.antialias(color, rast, pos, tri)
        torch.testing.assert_close(ours, twin, rtol=1e-4, atol=1e-4)

    @settings(stable, max_examples=30)
    @given(st.data())
    def test_rast_is_anything(self, data):
        """A rast that no rasterizer made: ids beyond the triangles, NaN, negative numbers."""
        value = st.sampled_from(
            [0.0, 1.0, 2.0, 3.0, -5.0, 0.5, 1e9, math.nan, math.inf, 16777217.0]
        )
        flat = data.draw(st.lists(value, min_size=36, max_size=36))
        rast = torch.tensor(flat).reshape(1, 3, 3, 4).requires_grad_()
        pos = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        tri = torch.tensor([[0, 1, 2], [1, 9, -3]], dtype=torch.int32)
        attr = torch.ones(4, 2).requires_grad_()
        out, _ = dr.interpolate(attr, rast, tri)
        dr.antialias(out, rast, pos, tri).nan_to_num().sum().backward()
        known = (rast[..., 3] >= 1) & (rast[..., 3] < 2)
        assert (out[~known] == 0).all()


class TestSizes:
    def quad(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Two triangles that cover everything, and more."""
        pos = torch.tensor([[[-3.0, -3, 0, 1], [3, -3, 0.1, 1], [3, 3, 0.2, 1], [-3, 3, 0.3, 1]]])
        return pos, torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)

    @pytest.mark.parametrize("size", [(1, 1), (1, 4096), (4096, 1), (2049, 3), (3, 2049), (7, 9)])
    def test_every_pixel_once(self, size):
        pos, tri = self.quad()
        pos.requires_grad_()
        context = dr.RasterizeContext()
        alone = [dr.rasterize(context, pos, tri[k : k + 1], size)[0][..., 3] for k in (0, 1)]
        assert ((alone[0] > 0).int() + (alone[1] > 0).int() == 1).all()
        rast, _ = dr.rasterize(context, pos, tri, size)
        out, _ = dr.interpolate(pos[..., :2].contiguous(), rast, tri)
        rows, columns = (torch.arange(side) for side in size)
        ndc_x = ((2 * columns + 1) / size[1] - 1).expand(size)
        ndc_y = ((2 * rows + 1) / size[0] - 1)[:, None].expand(size)
        torch.testing.assert_close(out[0], torch.stack([ndc_x, ndc_y], -1), atol=2e-6, rtol=0)
        dr.antialias(out, rast, pos, tri).sum().backward()
        assert pos.grad.isfinite().all()

    def test_a_million_triangles(self):
        """A fine grid with nothing but sub-pixel triangles: the right answer, in bounded space."""
        side = 708
        line = torch.linspace(-0.95, 0.95, side)
        y, x = torch.meshgrid(line, line, indexing="ij")
        pos = (
            torch.stack([x, y, 0.1 * x, torch.ones_like(x)], dim=-1).reshape(1, -1, 4).contiguous()
        )
        corner = torch.arange(side * side).reshape(side, side)[:-1, :-1].reshape(-1, 1)
        first, second = torch.tensor([0, 1, side]), torch.tensor([1, side + 1, side])
        tri = torch.cat([corner + first, corner + second]).int()
        assert len(tri) > 999_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos.requires_grad_(), tri, (240, 240))
        out, _ = dr.interpolate(pos[..., :1].contiguous(), rast, tri)
        out.sum().backward()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        covered = rast[0, :, :, 3] > 0
        assert covered.sum() == 228 * 228  # 0.95 of 240, all centres inside
        columns = ((2 * torch.arange(240) + 1) / 240 - 1).expand(240, 240)
        # Vertices snap to 1/16 px, and barycentrics of centres left outside are clamped: 5e-4 here.
        torch.testing.assert_close(out[0, ..., 0][covered], columns[covered], atol=6e-4, rtol=0)
        assert grown < 500_000  # KiB; measured 54,000

    def test_no_geometry_and_no_pixels_are_refused(self):
        pos, tri = self.quad()
        for bad_pos, bad_tri, size in (
            (pos[:0], tri, (4, 4)), (pos[:, :0], tri, (4, 4)), (pos, tri[:0], (4, 4)), (pos, tri, (4, 0)),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match="above 0"):
                dr.rasterize(dr.RasterizeContext(), bad_pos.contiguous(), bad_tri, size)


class TestModes:
    """What a program may have switched on in torch before it draws."""

    def everything(self) -> list[torch.Tensor]:
        """Every verb and a gradient from each."""
        generator = torch.Generator("cpu").manual_seed(0)
        like = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
        pos = torch.rand(2, 12, 4, **like) + torch.tensor(
            [-0.5, -0.5, 0, 1], dtype=torch.float32, device="cpu"
        )
        tri = torch.arange(12, dtype=torch.int32, device="cpu").reshape(-1, 3)
        attr, tex = torch.rand(12, 3, **like), torch.rand(1, 6, 4, 4, 3, **like)
        pos, attr, tex = (t.clone().requires_grad_(not t.is_inference()) for t in (pos, attr, tex))
        rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, (16, 16))
        out, out_da = dr.interpolate(attr, rast, tri, rast_db, "all")
        color = dr.texture(tex, out, out_da, boundary_mode="cube")
        color = dr.antialias(color, rast, pos, tri)
        with dr.DepthPeeler(dr.RasterizeContext(), pos, tri, (16, 16)) as peeler:
            layers = [peeler.rasterize_next_layer()[0] for _ in range(2)]
        results = [rast, rast_db, out, out_da, color, *layers]
        if color.requires_grad:
            (color.square().sum() + out_da.sum() + layers[1][..., :2].sum()).backward()
            results += [pos.grad, attr.grad, tex.grad]
        return [t.detach() for t in results]

    def check(self, results: list[torch.Tensor]) -> None:
        for one, two in zip(results, self.everything()):
            assert one.dtype == two.dtype == torch.float32 and one.device.type == "cpu"
            assert torch.equal(one, two)

    def test_any_number_of_threads(self):
        """Every verb, forward and backward, has the same bits."""
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            results = self.everything()
            for num_threads in (2, 3, 5, 16):
                torch.set_num_threads(num_threads)
                self.check(results)
        finally:
            torch.set_num_threads(before)

    def test_default_dtype(self):
        torch.set_default_dtype(torch.float64)
        try:
            results = self.everything()
        finally:
            torch.set_default_dtype(torch.float32)
        self.check(results)

    def test_default_device(self):
        torch.set_default_device("meta")
        try:
            results = self.everything()
        finally:
            torch.set_default_device(None)
        self.check(results)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients(self, mode):
        with mode():
            results = self.everything()
        assert not any(t.requires_grad for t in results)
        self.check(results)

    def test_autocast_is_not_followed(self):
        with torch.autocast("cpu"):
            results = self.everything()
            half = torch.rand(12, 3) @ torch.rand(3, 2)
            with pytest.raises(
                RuntimeError, match="attr is bfloat16, expected float32; convert it"
            ):
                dr.interpolate(half, results[0], torch.zeros(1, 3, dtype=torch.int32))
        self.check(results)

    def test_functional_transforms_are_refused(self):
        pos, tri = torch.rand(1, 3, 4), torch.tensor([[0, 1, 2]], dtype=torch.int32)

        def draw(pos):
            return dr.rasterize(dr.RasterizeContext(), pos, tri, (4, 4))[0].sum()

        for transform, argument in ((torch.func.grad, pos), (torch.vmap, pos[None])):
            with pytest.raises(RuntimeError, match="autograd.Function with functorch transforms"):
                transform(draw)(argument)

    def test_checkpointing_and_two_backward_passes(self):
        pos, tri = torch.rand(1, 3, 4) + torch.tensor([-0.5, -0.5, 0, 1]), torch.tensor([[0, 1, 2]])
        pos, tri = pos.requires_grad_(), tri.int()

        def draw(pos):
            return dr.rasterize(dr.RasterizeContext(), pos, tri, (9, 9))[0][..., :2].sum()

        (plain,) = torch.autograd.grad(draw(pos), pos)
        again = torch.utils.checkpoint.checkpoint(draw, pos, use_reentrant=False)
        again.backward(retain_graph=True)
        assert torch.equal(pos.grad, plain)
        again.backward()
        assert torch.equal(pos.grad, 2 * plain)

    def test_changed_in_place(self):
        """What the backward pass needs must not change before it."""
        pos = (torch.rand(1, 3, 4) + torch.tensor([-0.5, -0.5, 0, 1])).requires_grad_()
        tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, tri, (4, 4))
        rast[..., 2] = 0
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            rast.sum().backward()


@pytest.mark.slow
class TestBounds:
    def test_no_read_outside_of_an_array(self, tmp_path):
        """The same scenes with Numba's bounds checking: an index out of range would raise IndexError."""
        program = """
import torch
from mofa_nvdr import dr
from mofa_nvdr.dr import parallel
from mofa_nvdr.losses.color_distance import mean_over_mask, mean_over_vertices
from mofa_nvdr.render.surface_motion import surface_motion
from mofa_nvdr.shaders.gbuffer import draw_mesh, shade_mesh
generator = torch.Generator().manual_seed(0)
special = torch.tensor([0.0, 0.5, -1.0, 1.0, 3.0, -2.0, 1e30, float("nan"), float("inf")])
indices = torch.tensor([-1, 0, 1, 2, 3, 4, 5, 99, 2**31 - 1])
for trial in range(60):
    count = 6
    pick = torch.randint(len(special), (2, count, 4), generator=generator)
    pos = torch.where(torch.rand(2, count, 4, generator=generator) < 0.4, special[pick],
                      torch.randn(2, count, 4, generator=generator)).requires_grad_()
    tri = indices[torch.randint(len(indices), (8, 3), generator=generator)].int()
    size = tuple(torch.randint(1, 20, (2,), generator=generator).tolist())
    with dr.DepthPeeler(dr.RasterizeContext(), pos, tri, size) as peeler:
        for _ in range(2):
            rast, rast_db = peeler.rasterize_next_layer()
            attr = torch.rand(2, count, 3, generator=generator).requires_grad_()
            out, out_da = dr.interpolate(attr, rast, tri, rast_db, "all")
            out = dr.antialias(out, rast, pos, tri)
            (out.nan_to_num().sum() + out_da.nan_to_num().sum()).backward()
    # What the renderer and the losses run on the same meshes.
    vertices = pos[..., :3].detach().requires_grad_()
    normals, albedo = torch.randn(2, 2, count, 3, generator=generator)
    light = torch.rand(2, 9, 3, generator=generator)
    clip = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, -1.1, -0.3), (0, 0, -1.0, 0))
    other = ((1.0, 0.1, 0.2, 0), (0, 1.0, -0.2, 0), (0, 0, -1.1, -0.3), (0, 0, -1.0, 0))
    draw_mesh(vertices, tri, normals, albedo, light, size, other)[0].nan_to_num().sum().backward()
    image, mask, rast = draw_mesh(vertices, tri, normals, albedo, light, size, clip)
    position, log_area = surface_motion(pos, tri, rast, 0.1, 0.05)
    photo = torch.rand(2, 3, *size, generator=generator)
    photo[0, 0, 0, 0] = float("nan")
    loss = mean_over_mask(image, photo, mask, None, position, log_area).sum()
    seen = torch.ones(2, count, dtype=torch.bool)
    loss = loss + mean_over_vertices(vertices[..., :2], albedo, seen, photo).sum()
    loss = loss + shade_mesh(normals, albedo, rast, tri.flip(0), light)[0].sum()
    loss.nan_to_num().backward()
# The switch was on: an index outside raises.
import numpy as np
try:
    parallel.jit(lambda a, i: a[i])(np.zeros(3), 5)
except IndexError:
    print("checked")
"""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NUMBA_BOUNDSCHECK": "1",
            "NUMBA_OPT": "0",  # compiles in two thirds of the time
            "NUMBA_CACHE_DIR": str(tmp_path),  # compiled anew, and not mixed up with the others
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, timeout=300, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == "checked"
