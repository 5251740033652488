"""The verbs in plain torch: the same names, float64 to the last digit, and what is this module's own.

What it shares with the kernels is tested with them: `verbs` in the tests of each verb is both.
"""

from __future__ import annotations

import inspect

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from tests.helpers.triangles import RIGHT_TRIANGLE, random_scene, triangles_of


class TestNames:
    @pytest.mark.parametrize("name", reference.__all__)
    def test_either_module_can_be_passed(self, name):
        ours, theirs = getattr(reference, name), getattr(dr, name)
        assert list(inspect.signature(ours).parameters) == list(
            inspect.signature(theirs).parameters
        )


class TestRasterize:
    def test_float64_by_hand(self):
        """Of the pixel whose centre is (-3/4, -3/4): weights 3/4, 1/8, 1/8 and their steps of half a unit."""
        pos = torch.tensor([RIGHT_TRIANGLE], dtype=torch.float64)
        rast, rast_db = reference.rasterize(None, pos, triangles_of((0, 1, 2)), (4, 4))
        assert rast.dtype == rast_db.dtype == torch.float64
        assert rast[0, 0, 0].tolist() == [0.75, 0.125, -0.3125, 1]
        assert rast_db[0, 0, 0].tolist() == [-0.25, -0.25, 0.25, 0]
        assert (rast[0, 3, 3] == 0).all() and (rast_db[0, 3, 3] == 0).all()

    def test_both_dtypes_see_the_same_triangles(self):
        """Positions apart by less than float32 resolves are on one side of an edge."""
        pos, tri = random_scene(1)
        exact = pos.double() * (1 + 1e-9)
        ids = [reference.rasterize(None, p, tri, (40, 50))[0][..., 3] for p in (pos, exact)]
        assert torch.equal(ids[0].double(), ids[1]) and (ids[0] > 0).float().mean() > 0.3

    def test_too_many_triangles(self):
        """Range mode takes more of them to the kernels, which count on in the bits of the number."""
        tri = torch.empty(2**24 + 1, 3, dtype=torch.int32)  # never read
        pos, ranges = torch.zeros(3, 4), torch.tensor([[0, 1]], dtype=torch.int32)
        with pytest.raises(
            RuntimeError, match="has 16777217 triangles, expected at most 16777216 h"
        ):
            reference.rasterize(None, pos, tri, (4, 4), ranges)


class TestDepthPeeler:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_the_layers_of_the_kernels(self, seed):
        pos, tri = random_scene(seed)
        with (
            dr.DepthPeeler(dr.RasterizeContext(), pos, tri, (24, 32)) as kernels,
            reference.DepthPeeler(None, pos, tri, (24, 32)) as plain,
        ):
            covered = []
            for _ in range(12):
                (rast, rast_db), (wanted, wanted_db) = (
                    peeler.rasterize_next_layer() for peeler in (kernels, plain)
                )
                assert torch.equal(rast[..., 3], wanted[..., 3])
                assert torch.allclose(rast, wanted, atol=1e-5)
                assert torch.allclose(rast_db, wanted_db, rtol=1e-3, atol=1e-4)
                covered.append(int((rast[..., 3] > 0).sum()))
        assert covered[0] > covered[2] > 0 and covered[-1] == 0

    def test_float64_has_gradients_in_every_layer(self):
        pos = torch.tensor(
            [[*RIGHT_TRIANGLE, *[(x, y, z + 0.3, w) for x, y, z, w in RIGHT_TRIANGLE]]]
        )
        pos = pos.double().requires_grad_()
        with reference.DepthPeeler(None, pos, triangles_of((0, 1, 2), (3, 4, 5)), (4, 4)) as peeler:
            for first in (0, 3):
                rast, _ = peeler.rasterize_next_layer()
                assert (rast[..., 3].max(), rast.dtype) == (first // 3 + 1, torch.float64)
                (gradient,) = torch.autograd.grad(rast[..., 0].sum(), pos)
                assert (
                    gradient[0, first : first + 3].any()
                    and not gradient[0, 3 - first : 6 - first].any()
                )

    def test_refusals(self):
        pos, tri = random_scene(0)
        peeler = reference.DepthPeeler(None, pos, tri, (4, 4))
        with pytest.raises(RuntimeError, match="works in its with block only"):
            peeler.rasterize_next_layer()
        with peeler:
            pass
        with pytest.raises(RuntimeError, match="DepthPeeler: used before"):
            peeler.__enter__()
        with pytest.raises(RuntimeError, match="DepthPeeler: pos is"):
            reference.DepthPeeler(None, pos[..., :3], tri, (4, 4))
