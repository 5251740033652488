"""Drawing batches of meshes with triangles of their own, some of them empty."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from mofa_nvdr import dr
from mofa_nvdr.compat.drawing import draw, into_clip_range, thread_context, without_those_behind
from tests.helpers.peer_scenes import random_values

# One triangle of the left half and one of the right, in two images.
POS = torch.tensor(
    [[[-1, -1, 0, 1], [0, -1, 0, 1], [-1, 1, 0, 1], [0, -1, 0, 1], [1, -1, 0, 1], [1, 1, 0, 1]]],
    dtype=torch.float32,
).repeat(2, 1, 1)
LEFT, RIGHT = (
    torch.tensor([[0, 1, 2]], dtype=torch.int32),
    torch.tensor([[3, 4, 5]], dtype=torch.int32),
)


class TestDraw:
    def test_own_triangles(self):
        drawn = draw(dr.RasterizeContext(), POS, [LEFT, RIGHT], (8, 8))
        assert drawn.own and drawn.tri.tolist() == [[0, 1, 2], [9, 10, 11]]
        left, right = drawn.mask[0].any(0), drawn.mask[1].any(0)
        assert left[:4].any() and not left[4:].any() and right[4:].any() and not right[:4].any()

    def test_attributes(self):
        attr = random_values(2, 6, 3)
        own = draw(dr.RasterizeContext(), POS, [LEFT, RIGHT], (8, 8))
        for k, part in enumerate((LEFT, RIGHT)):
            alone = draw(dr.RasterizeContext(), POS[k : k + 1], part, (8, 8))
            assert torch.equal(own.of_vertices(attr)[k], alone.of_vertices(attr[k : k + 1])[0])
            corners = attr[k][part.long()]  # [1, 3, 3]
            assert torch.equal(alone.of_corners(corners[None]), alone.of_vertices(attr[k : k + 1]))
        both = torch.stack([attr[k][part[0].long()] for k, part in enumerate((LEFT, RIGHT))])
        assert torch.equal(own.of_corners(both), own.of_vertices(attr))

    def test_images_without_triangles(self):
        drawn = draw(dr.RasterizeContext(), POS, [LEFT[:0], RIGHT], (8, 8))
        assert not drawn.mask[0].any() and drawn.mask[1].any()
        nothing = draw(dr.RasterizeContext(), POS, [LEFT[:0], LEFT[:0]], (8, 8))
        assert not nothing.mask.any() and not nothing.of_vertices(random_values(2, 6, 1)).any()


class TestClipRange:
    def test_keeps_the_order_inside(self):
        z = torch.tensor([[5.0, 7, 6], [-3, 1e6, 0]], requires_grad=True)
        found = into_clip_range(z)
        assert not found.requires_grad and found.abs().max() < 1
        assert torch.equal(found.argsort(1), z.argsort(1))
        assert torch.isfinite(into_clip_range(torch.ones(1, 3))).all()


def test_triangles_behind_lose_their_area():
    tri = torch.tensor([[0, 1, 2], [1, 2, 3]], dtype=torch.int32)
    found = without_those_behind(tri, torch.tensor([-0.1, 0.5, 0.5, 0.5]))
    assert found.tolist() == [[0, 0, 0], [1, 2, 3]]


def test_a_context_for_each_thread():
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(thread_context).result()
    assert thread_context() is thread_context() is not there
