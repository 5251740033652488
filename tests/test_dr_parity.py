"""The CPU kernels against another backend on random scenes: nvdiffrast on a GPU, the reference without one.

One comparison serves both, so that what will be asked of nvdiffrast is asked every day.
"""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from tests.conftest import _has_nvdiffrast

SIZE = (96, 128)


@pytest.fixture(params=["reference", "nvdiffrast"])
def other(request) -> tuple[ModuleType, torch.device]:
    """The backend to compare with: its verbs and the device of its tensors."""
    if request.param == "reference":
        return reference, torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    if not _has_nvdiffrast():
        pytest.skip("needs nvdiffrast")
    return dr, torch.device("cuda")  # CUDA tensors go to nvdiffrast


def scene(seed: int, images: int = 3, triangles: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles of all sizes in perspective, some through the planes; none edge-on, which no two agree on."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(images, triangles, 1, 2, generator=generator) * 2.2 - 1.1
    angle = torch.rand(images, triangles, 1, generator=generator) * 6.28
    angle = angle + torch.tensor([0.0, 2.1, 4.2])
    size = 0.03 + 0.4 * torch.rand(images, triangles, 1, 1, generator=generator)
    xy = centre + size * torch.stack([angle.cos(), angle.sin()], dim=-1)
    # Layers apart in depth: surfaces closer than the depth buffer's step may swap.
    z = torch.linspace(-0.9, 0.9, triangles)[:, None].expand(images, triangles, 3)
    z = z + 0.01 * torch.rand(images, triangles, 3, generator=generator)
    w = 0.5 + 2 * torch.rand(images, triangles, 3, generator=generator)
    pos = torch.cat([xy * w[..., None], (z * w)[..., None], w[..., None]], dim=-1)
    order = torch.randperm(triangles, generator=generator)
    tri = torch.arange(3 * triangles).reshape(-1, 3)[order].int()
    return pos.flatten(1, 2).contiguous(), tri.contiguous()


def relative(one: torch.Tensor, two: torch.Tensor) -> float:
    return ((one.cpu() - two.cpu()).norm() / two.cpu().norm().clamp(min=1e-12)).item()


@pytest.mark.parametrize("seed", range(4))
class TestSameAsTheOther:
    def both(self, other, seed, run):
        """run(verbs, pos, tri, generator) for our kernels and for the other backend; on the CPU after."""
        pos, tri = scene(seed)
        results = []
        for verbs, device in ((dr, torch.device("cpu")), other):
            generator = torch.Generator().manual_seed(seed)
            results.append(run(verbs, pos.to(device), tri.to(device), generator))
        return [tuple(t.detach().cpu() for t in result) for result in results]

    def test_rasterize(self, other, seed):
        def run(verbs, pos, tri, generator):
            pos.requires_grad_()
            rast, rast_db = verbs.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
            weights = torch.randn(rast.shape, generator=generator).to(pos.device)
            (rast * weights).sum().backward()
            return rast, rast_db, pos.grad

        (rast, rast_db, grad), (twin, twin_db, twin_grad) = self.both(other, seed, run)
        same = rast[..., 3] == twin[..., 3]
        assert same.float().mean() >= 0.9999
        assert (rast[..., :3] - twin[..., :3])[same].abs().max() <= 1e-5
        assert relative(rast_db[same], twin_db[same]) <= 1e-4
        assert relative(grad, twin_grad) <= 1e-3

    def test_rast_db_gradient(self, other, seed):
        def run(verbs, pos, tri, generator):
            pos.requires_grad_()
            _, rast_db = verbs.rasterize(dr.RasterizeContext(), pos, tri, SIZE)
            weights = torch.randn(rast_db.shape, generator=generator).to(pos.device)
            (rast_db * weights).sum().backward()
            return (pos.grad,)

        (grad,), (twin,) = self.both(other, seed, run)
        assert relative(grad, twin) <= 2e-3

    def test_interpolate(self, other, seed):
        def run(verbs, pos, tri, generator):
            attr = torch.rand(pos.shape[0], pos.shape[1], 5, generator=generator).to(pos.device)
            # The same rast for both: what is compared is this verb.
            rast, rast_db = (
                t.to(pos.device)
                for t in dr.rasterize(dr.RasterizeContext(), pos.cpu(), tri.cpu(), SIZE)
            )
            leaves = [t.requires_grad_() for t in (attr, rast, rast_db)]
            out, out_da = verbs.interpolate(attr, rast, tri, rast_db, diff_attrs=[0, -1])
            for t in (out, out_da):
                t.backward(
                    torch.randn(t.shape, generator=generator).to(t.device), retain_graph=True
                )
            return (out, out_da, *(t.grad for t in leaves))

        ours, twin = self.both(other, seed, run)
        for one, two in zip(ours[:2], twin[:2]):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        for one, two in zip(ours[2:], twin[2:]):
            assert relative(one, two) <= 1e-3

    def test_antialias(self, other, seed):
        def run(verbs, pos, tri, generator):
            rast = dr.rasterize(dr.RasterizeContext(), pos.cpu(), tri.cpu(), SIZE)[0].to(pos.device)
            color = torch.rand(*rast.shape[:3], 3, generator=generator).to(pos.device)
            leaves = [t.requires_grad_() for t in (color, pos)]
            out = verbs.antialias(color, rast, pos, tri)
            out.backward(torch.randn(out.shape, generator=generator).to(out.device))
            return (out, *(t.grad for t in leaves))

        ours, twin = self.both(other, seed, run)
        torch.testing.assert_close(ours[0], twin[0], atol=1e-5, rtol=1e-5)
        for one, two in zip(ours[1:], twin[1:]):
            assert relative(one, two) <= 1e-3


class TestTexture:
    @pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero", "cube"])
    @pytest.mark.parametrize("mode", ["nearest", "linear", "linear-mipmap-linear"])
    def test_same_as_nvdiffrast(self, other, boundary, mode):
        if other[0] is reference:
            pytest.skip("texture is plain torch itself")
        cube = boundary == "cube"
        generator = torch.Generator().manual_seed(0)
        tex = torch.rand(*((1, 6, 16, 16, 2) if cube else (1, 16, 32, 2)), generator=generator)
        uv = torch.rand(1, 40, 40, 3 if cube else 2, generator=generator) * 2 - 0.7
        da = 0.2 * torch.randn(1, 40, 40, 6 if cube else 4, generator=generator)
        results = []
        for device in ("cpu", "cuda"):
            leaves = [t.detach().to(device).requires_grad_() for t in (tex, uv, da)]
            mips = leaves[2] if "mipmap" in mode else None
            out = dr.texture(leaves[0], leaves[1], mips, filter_mode=mode, boundary_mode=boundary)
            weights = torch.rand(out.shape, generator=torch.Generator().manual_seed(1))
            out.backward(weights.to(device))
            results.append([out.detach().cpu(), *(t.grad for t in leaves if t.grad is not None)])
        one, two = results
        torch.testing.assert_close(one[0], two[0], atol=1e-4, rtol=1e-4)
        for a, b in zip(one[1:], two[1:]):
            assert relative(a, b) <= 2e-3
