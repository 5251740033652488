"""Terms of corrective levels: by hand, what they leave free, their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr.losses.corrections import (
    correction_size,
    displacement_smoothness,
    neighbour_similarity,
    reflectance_sparsity,
    skin_constancy,
    soft_orthogonality,
)
from mofa_nvdr.scene.vertex_graph import VertexGraph
from tests.helpers.small_face import small_face

GRAPH = VertexGraph.of(torch.tensor([[0, 1, 2], [0, 2, 3]]), 4)  # five edges


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


class TestDisplacementSmoothness:
    def test_by_hand(self):
        """One vertex of two neighbours moves by 3 mm, each of which has three."""
        moved = torch.zeros(1, 4, 3)
        moved[0, 1, 2] = 3.0
        assert displacement_smoothness(moved, GRAPH).item() == pytest.approx((9 + 1 + 1) / 4)

    def test_a_shift_of_the_whole_costs_nothing(self):
        assert displacement_smoothness(torch.ones(2, 4, 3), GRAPH).abs().max() < 1e-12

    def test_gradcheck(self):
        moved = random(2, 4, 3).requires_grad_()
        assert gradcheck(lambda x: displacement_smoothness(x, GRAPH), moved)


class TestNeighbourSimilarity:
    def picture(self, left: tuple[float, ...], right: tuple[float, ...]) -> torch.Tensor:
        """Two colours, a column of pixels each."""
        return torch.tensor([left, right]).T[None, :, None].expand(1, 3, 2, 2).contiguous()

    def similarity(self, picture, seen=(True, True, True, True)):
        """Of vertices 0 and 1 on the left, 2 and 3 on the right."""
        places = torch.tensor([[[0.5, 0.5], [0.5, 1.5], [1.5, 0.5], [1.5, 1.5]]])
        found = neighbour_similarity(picture, places, torch.tensor([seen]), GRAPH)
        return dict(zip(map(tuple, GRAPH.edges.tolist()), found[0].tolist()))

    def test_by_hand(self):
        """Grey that is .05 darker: e^-1; another chromaticity adds to it; within a colour 1."""
        grey = self.similarity(self.picture((0.4, 0.4, 0.4), (0.35, 0.35, 0.35)))
        assert grey[0, 1] == grey[2, 3] == 1
        assert grey[0, 2] == pytest.approx(math.exp(-1), rel=1e-4)
        red = self.similarity(self.picture((0.4, 0.4, 0.4), (0.42, 0.39, 0.39)))
        apart = math.sqrt(0.35**2 * 0 + (0.35 - 1 / 3) ** 2 + 2 * (0.325 - 1 / 3) ** 2)
        assert red[0, 2] == pytest.approx(math.exp(-apart / 0.02), rel=1e-4)

    @pytest.mark.parametrize("seen", [(True, True, False, False), (False, False, False, False)])
    def test_of_what_is_not_seen(self, seen):
        found = self.similarity(self.picture((0.9, 0.1, 0.1), (0.1, 0.9, 0.1)), seen)
        assert set(found.values()) == {1.0}

    def test_outside_of_the_photograph(self):
        """Where pixels are NaN, and beyond the picture's edge."""
        picture = self.picture((0.4, 0.4, 0.4), (math.nan, math.nan, math.nan))
        assert set(self.similarity(picture).values()) == {1.0}
        far = torch.full((1, 4, 2), 9.0)
        picture = self.picture((0.4, 0.4, 0.4), (0.1, 0.1, 0.1))
        seen = torch.ones(1, 4, dtype=torch.bool)
        assert neighbour_similarity(picture, far, seen, GRAPH).tolist() == [[1.0] * 5]


class TestReflectanceSparsity:
    def test_by_hand(self):
        """A step of .05 in one channel, between 0, 1 and 2, 3: three edges of five."""
        offset = torch.zeros(1, 4, 3)
        offset[0, 2:, 0] = 0.05
        length = (1 + 0.02**2) ** 0.45 - 0.02**0.9
        found = reflectance_sparsity(offset, torch.ones(1, 5), GRAPH)
        assert found.item() == pytest.approx(3 / 5 * length, rel=1e-4)

    def test_weights(self):
        """An edge that the photograph has too is free."""
        offset = torch.zeros(1, 4, 3)
        offset[0, 2:] = 0.05
        weight = torch.tensor([[1.0, 0, 0, 0, 1.0]])  # not 0-2, 0-3, 1-2
        assert reflectance_sparsity(offset, weight, GRAPH).item() == 0

    def test_few_large_steps_cost_less(self):
        offset = torch.zeros(2, 4, 3)
        offset[0, :, 0] = torch.tensor([0.0, 0.1, 0.1, 0.1])
        offset[1, :, 0] = torch.tensor([0.0, 0.0, 0.05, 0.1])
        once, twice = reflectance_sparsity(offset[:, :, :], torch.ones(2, 5), GRAPH)
        assert once < 3 * twice and once.item() > 0

    def test_gradcheck(self):
        offset, weight = (0.1 * random(2, 4, 3)).requires_grad_(), random(2, 5).abs()
        assert gradcheck(lambda x: reflectance_sparsity(x, weight, GRAPH), offset)
        flat = torch.zeros(1, 4, 3, dtype=torch.float64, requires_grad=True)
        reflectance_sparsity(flat, weight[:1], GRAPH).sum().backward()
        assert flat.grad.abs().max() == 0  # and no NaN


class TestSkinConstancy:
    SKIN = torch.tensor([0, 3])

    def test_by_hand(self):
        """Two vertices of skin .1 apart; what lies elsewhere does not count."""
        offset = torch.zeros(1, 4, 3)
        offset[0, 3, 1], offset[0, 1] = 0.1, 7.0
        assert skin_constancy(offset, self.SKIN).item() == pytest.approx(1.0, rel=1e-5)

    def test_another_tone_is_free(self):
        offset = torch.full((2, 4, 3), 0.2)
        assert skin_constancy(offset, self.SKIN).abs().max() < 1e-9

    def test_gradcheck(self):
        offset = random(2, 4, 3).requires_grad_()
        assert gradcheck(lambda x: skin_constancy(x, self.SKIN), offset)


class TestCorrectionSize:
    def test_by_hand(self):
        """All vertices by 2 mm and by .05 in each channel."""
        moved, painted = torch.zeros(1, 4, 3), torch.full((1, 4, 3), 0.05)
        moved[..., 1] = 2.0
        assert correction_size(moved, painted).item() == pytest.approx(4 + 3)

    def test_gradcheck(self):
        pair = [random(2, 4, 3).requires_grad_() for _ in range(2)]
        assert gradcheck(correction_size, pair)


class TestSoftOrthogonality:
    def test_by_hand(self):
        """Of length 1 and 2 at right angles: (4 - 1)^2 over two modes; a fixed one along the first: 1."""
        modes = torch.zeros(2, 2, 3)
        modes[0, :, 0], modes[1, :, 1] = 1.0, 2.0
        nothing = torch.zeros(0, 2, 3)
        assert soft_orthogonality(modes, nothing).item() == pytest.approx(9 / 2)
        fixed = torch.zeros(1, 2, 3)
        fixed[0, :, 0] = 30.0  # of any length
        assert soft_orthogonality(modes, fixed).item() == pytest.approx((9 + 1) / 2)

    def test_of_an_orthonormal_basis(self):
        rows = torch.linalg.qr(random(12, 4)).Q.T * 2
        modes = rows.unflatten(1, (4, 3))
        assert soft_orthogonality(modes[:3], modes[3:]).item() < 1e-20
        assert soft_orthogonality(modes[:0], modes).item() == 0

    def test_gradcheck(self):
        modes, fixed = random(3, 4, 3).requires_grad_(), random(2, 4, 3)
        assert gradcheck(lambda x: soft_orthogonality(x, fixed), modes)

    def test_same_bits_for_any_thread_count(self):
        modes = small_face(60, modes=7).shape_basis
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                own = modes[:4].clone().requires_grad_()
                value = soft_orthogonality(own, modes[4:])
                value.backward()
                results.append((value.detach(), own.grad))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
