"""The motion of surface points on the screen: by hand, against the plain twin, the same bits always."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.render.surface_motion import surface_motion, surface_motion_ref

NEAR, FLOOR = 0.5, 0.05


def scene(batch=3, height=11, width=90, side=9):
    """A bumpy grid in perspective, wider than a block of pixels, with a vertex nearer than near."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-0.8, 0.8, side)] * 2, indexing="ij"), -1)
    xy = grid.reshape(1, -1, 2) + 0.02 * torch.randn(batch, side * side, 2, generator=generator)
    w = 1 + 0.2 * torch.rand(batch, side * side, 1, generator=generator)
    w[0, side * side // 2] = 0.4
    pos = torch.cat([xy * w, 0.3 * w, w], dim=-1)
    corner = torch.arange(side * side).reshape(side, side)[:-1, :-1].flatten()
    triangles = torch.cat(
        [torch.stack([corner, corner + side, corner + 1], 1),
         torch.stack([corner + side, corner + side + 1, corner + 1], 1)]
    ).int()  # fmt: skip
    rast, _ = dr.rasterize(dr.RasterizeContext(), pos, triangles, (height, width))
    return pos, triangles, rast


def step(function, pos, triangles, rast, **options):
    leaf = pos.clone().requires_grad_()
    position, log_area = function(leaf, triangles, rast, NEAR, FLOOR, **options)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(log_area.shape[0], 3, *rast.shape[1:3], generator=generator).to(position)
    ((position * weights[:, :2]).sum() + (log_area * weights[:, 2:]).sum()).backward()
    return position.detach(), log_area.detach(), leaf.grad


class TestSurfaceMotion:
    def test_by_hand(self):
        """A triangle of 4x2 pixels at w = 2; its corner moves the point in the pixel by its weight."""
        pos = torch.tensor([[[-2.0, -2, 0, 2], [2, -2, 0, 2], [-2, 2, 0, 2]]], requires_grad=True)
        triangles = torch.tensor([[0, 1, 2]], dtype=torch.int32)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos.detach(), triangles, (2, 4))
        position, log_area = surface_motion(pos, triangles, rast, NEAR, FLOOR)
        assert position[0, :, 1, 0].tolist() == pytest.approx([0.5, 1.5])
        assert position[0, :, 0, 3].tolist() == [0, 0]  # empty
        assert log_area[0, 0, 1].tolist()[:2] == pytest.approx([math.log(4 + FLOOR)] * 2)
        (gradient,) = torch.autograd.grad(position[0, 0, 1, 0], pos)
        u, v = rast[0, 0, 0, :2].tolist()
        assert gradient[0, :, 0].tolist() == pytest.approx([u, v, 1 - u - v])  # 4 px / 2 / w

    def test_points_lie_in_their_pixels(self, device):
        pos, triangles, rast = (t.to(device) for t in scene())
        position, _ = surface_motion(pos, triangles, rast, NEAR, FLOOR)
        covered = rast.flip(1)[..., 3] > 0
        y, x = torch.meshgrid(torch.arange(11) + 0.5, torch.arange(90) + 0.5, indexing="ij")
        for plane, want in zip(position.unbind(1), (x, y)):
            difference = (plane - want.to(device))[covered]
            # Beyond the grid's sixteenth only where u and v of a sliver are clamped.
            assert (difference.abs() < 1 / 16).float().mean() > 0.99
            assert difference.abs().max() < 0.5

    def test_is_its_twin(self, device):
        inputs = [t.to(device) for t in scene()]
        one, two = step(surface_motion, *inputs), step(surface_motion_ref, *inputs)
        for a, b in zip(one, two):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-4)

    def test_twin_gradcheck(self):
        pos, triangles, rast = scene(1, 3, 5, 3)
        pos = pos.double().requires_grad_()
        assert gradcheck(
            lambda p: surface_motion_ref(p, triangles, rast.double(), NEAR, FLOOR, reference), pos
        )

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 4):
                torch.set_num_threads(num_threads)
                results.append(step(surface_motion, *scene()))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))
