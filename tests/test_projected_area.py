"""The projected area of each pixel's triangle: by hand, against its plain twin, the same bits always."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr.projected_area import log_projected_area, log_projected_area_ref


def scene(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    points = 40 * torch.rand(2, 30, 2, generator=generator, dtype=dtype)
    triangles = torch.randint(30, (50, 3), generator=generator).int()  # some without area
    ids = torch.randint(-1, 50, (2, 9, 11), generator=generator)
    weights = torch.randn(2, 9, 11, generator=generator, dtype=dtype)
    return points.requires_grad_(), triangles, ids, weights


class TestLogProjectedArea:
    def test_by_hand(self):
        points = torch.tensor([[[0.0, 0], [4, 0], [0, 3]]])
        triangles = torch.tensor([[0, 1, 2], [0, 2, 1]], dtype=torch.int32)
        ids = torch.tensor([[[0, 1, -1]]])
        area = log_projected_area(points, triangles, ids, 0.5)
        assert area.flatten().tolist() == pytest.approx([math.log(6.5), math.log(6.5), 0.0])

    def test_is_its_twin(self, device):
        results = []
        for function in (log_projected_area, log_projected_area_ref):
            points, triangles, ids, weights = (t.to(device) for t in scene())
            points = points.detach().requires_grad_()
            area = function(points, triangles, ids, 0.05)
            (area * weights).sum().backward()
            results.append((area, points.grad))
        for one, two in zip(*results):
            torch.testing.assert_close(one, two, rtol=2e-4, atol=2e-4)

    def test_twin_gradcheck(self):
        points, triangles, ids, _ = scene(torch.float64)
        distinct = (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])
        triangles = triangles[distinct & (triangles[:, 0] != triangles[:, 2])]
        ids = ids.clamp(max=len(triangles) - 1)
        assert gradcheck(lambda p: log_projected_area_ref(p, triangles, ids, 0.05), points)

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 4):
                torch.set_num_threads(num_threads)
                points, triangles, ids, weights = scene()
                area = log_projected_area(points, triangles, ids, 0.05)
                (area * weights).sum().backward()
                results.append((area.detach(), points.grad))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))
