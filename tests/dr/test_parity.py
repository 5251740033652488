"""The CPU kernels against another backend on random scenes: nvdiffrast on a GPU, the reference without one.

One comparison serves both, so that what will be asked of nvdiffrast is asked every day. With
MOFA_NVDR_PARITY=FILE every figure is appended there as a line of JSON, before it is judged.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
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


def largest(one: torch.Tensor, two: torch.Tensor) -> float:
    return (one.cpu() - two.cpu()).abs().max().item()


@pytest.fixture
def at_most(request):
    """at_most(what, figure, limit): write the figure down, then judge it."""
    parameters = request.node.callspec.params

    def judge(what: str, figure: float, limit: float) -> None:
        if "MOFA_NVDR_PARITY" in os.environ:
            line = {"other": parameters["other"], "what": what, "figure": figure, "limit": limit}
            with Path(os.environ["MOFA_NVDR_PARITY"]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        assert figure <= limit, f"{what}: {figure:.3g}, expected at most {limit:g}"

    return judge


def both(other, seed, run):
    """run(verbs, pos, tri, generator) for our kernels and for the other backend; on the CPU after."""
    pos, tri = scene(seed)
    results = []
    for verbs, device in ((dr, torch.device("cpu")), other):
        generator = torch.Generator().manual_seed(seed)
        # Each backend has tensors of its own: one that asks for a gradient is no leaf once it is moved.
        results.append(run(verbs, pos.clone().to(device), tri.to(device), generator))
    return [tuple(t.detach().cpu() for t in result) for result in results]


def shared_rast(pos, tri):
    """The same rast for both backends: what is compared is the verb that takes it."""
    both = dr.rasterize(dr.RasterizeContext(), pos.detach().cpu(), tri.cpu(), SIZE)
    return [t.to(pos.device) for t in both]


@pytest.mark.parametrize("seed", range(4))
class TestSameAsTheOther:
    def test_rasterize(self, other, seed, at_most):
        def values(verbs, pos, tri, generator):
            return verbs.rasterize(dr.RasterizeContext(), pos, tri, SIZE)

        (rast, rast_db), (twin, twin_db) = both(other, seed, values)
        same = rast[..., 3] == twin[..., 3]
        at_most("rasterize: pixels with another id", 1 - same.float().mean().item(), 1e-4)
        at_most("rasterize: u, v, z/w", largest(rast[..., :3][same], twin[..., :3][same]), 1e-5)
        at_most("rasterize: rast_db, relative", relative(rast_db[same], twin_db[same]), 1e-4)

        # Where both see the same triangle: one pixel that sees another is worth a percent.
        def gradients(verbs, pos, tri, generator):
            seen = same[..., None].to(pos.device)
            found = []
            for k in (0, 1):
                pos = pos.detach().requires_grad_()
                out = verbs.rasterize(dr.RasterizeContext(), pos, tri, SIZE)[k]
                weights = torch.randn(out.shape, generator=generator).to(pos.device)
                (out * seen * weights).sum().backward()
                found.append(pos.grad)
            return found

        (grad, grad_db), (twin, twin_db) = both(other, seed, gradients)
        at_most("rasterize: gradient, relative", relative(grad, twin), 1e-3)
        at_most("rasterize: gradient of rast_db, relative", relative(grad_db, twin_db), 2e-3)

    def test_range_mode(self, other, seed, at_most):
        ranges = torch.tensor([[0, 20], [10, 45], [59, 1], [30, 0]], dtype=torch.int32)

        def values(verbs, pos, tri, generator):
            flat = pos[0].contiguous()
            return verbs.rasterize(dr.RasterizeContext(), flat, tri, SIZE, ranges=ranges)

        (rast, _), (twin, _) = both(other, seed, values)
        same = rast[..., 3] == twin[..., 3]
        at_most("range mode: pixels with another id", 1 - same.float().mean().item(), 1e-4)

        def gradients(verbs, pos, tri, generator):
            flat = pos[0].clone().requires_grad_()
            out = verbs.rasterize(dr.RasterizeContext(), flat, tri, SIZE, ranges, grad_db=False)[0]
            weights = torch.randn(out.shape, generator=generator).to(pos.device)
            (out * same[..., None].to(pos.device) * weights).sum().backward()
            return (flat.grad,)

        (grad,), (twin,) = both(other, seed, gradients)
        at_most("range mode: gradient, relative", relative(grad, twin), 1e-3)

    @pytest.mark.parametrize("shared", [False, True])
    def test_interpolate(self, other, seed, shared, at_most):
        def run(verbs, pos, tri, generator):
            attr = torch.rand(1 if shared else 3, pos.shape[1], 5, generator=generator)
            leaves = [attr.to(pos.device), *shared_rast(pos, tri)]
            leaves = [t.requires_grad_() for t in leaves]
            out, out_da = verbs.interpolate(
                leaves[0], leaves[1], tri, leaves[2], diff_attrs=[0, -1]
            )
            for t in (out, out_da):
                t.backward(
                    torch.randn(t.shape, generator=generator).to(t.device), retain_graph=True
                )
            return (out, out_da, *(t.grad for t in leaves))

        ours, twin = both(other, seed, run)
        at_most("interpolate: values", largest(ours[0], twin[0]), 1e-5)
        at_most("interpolate: derivatives, relative", relative(ours[1], twin[1]), 1e-5)
        for name, one, two in zip(("attr", "rast", "rast_db"), ours[2:], twin[2:]):
            at_most(f"interpolate: gradient of {name}, relative", relative(one, two), 1e-3)

    def test_antialias(self, other, seed, at_most):
        def run(verbs, pos, tri, generator):
            rast = shared_rast(pos, tri)[0]
            color = torch.rand(*rast.shape[:3], 3, generator=generator).to(pos.device)
            leaves = [t.requires_grad_() for t in (color, pos)]
            out = verbs.antialias(*leaves[:1], rast, leaves[1], tri)
            out.backward(torch.randn(out.shape, generator=generator).to(out.device))
            return (out, *(t.grad for t in leaves))

        ours, twin = both(other, seed, run)
        # An edge that passes a threshold by less than float32 resolves may count for one and not the other.
        apart = (ours[0] - twin[0]).abs() > 1e-5
        at_most(
            "antialias: values that differ by more than 1e-5", apart.float().mean().item(), 1e-4
        )
        for name, one, two in zip(("color", "pos"), ours[1:], twin[1:]):
            at_most(f"antialias: gradient of {name}, relative", relative(one, two), 1e-3)


class TestPeeling:
    def test_layers(self, other, at_most):
        if other[0] is reference:
            pytest.skip("the reference has no DepthPeeler")

        def values(verbs, pos, tri, generator):
            with verbs.DepthPeeler(verbs.RasterizeContext(), pos, tri, SIZE) as peeler:
                return [peeler.rasterize_next_layer()[0] for _ in range(3)]

        for number, (one, two) in enumerate(zip(*both(other, 0, values))):
            same = one[..., 3] == two[..., 3]
            at_most(f"layer {number}: pixels with another id", 1 - same.float().mean().item(), 1e-4)


class TestTexture:
    @pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero", "cube"])
    @pytest.mark.parametrize(
        "mode", ["nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear"]
    )
    def test_same_as_nvdiffrast(self, other, boundary, mode, at_most):
        if other[0] is reference:
            pytest.skip("texture is plain torch itself")
        cube = boundary == "cube"
        generator = torch.Generator().manual_seed(0)
        tex = torch.rand(*((1, 6, 16, 16, 2) if cube else (1, 16, 32, 2)), generator=generator)
        uv = torch.rand(1, 40, 40, 3 if cube else 2, generator=generator) * 2 - 0.7
        da = 0.2 * torch.randn(1, 40, 40, 6 if cube else 4, generator=generator)
        results = []
        for device in (torch.device("cpu"), other[1]):
            leaves = [t.clone().to(device).requires_grad_() for t in (tex, uv, da)]
            mips = leaves[2] if "mipmap" in mode else None
            out = dr.texture(leaves[0], leaves[1], mips, filter_mode=mode, boundary_mode=boundary)
            weights = torch.rand(out.shape, generator=torch.Generator().manual_seed(1))
            out.backward(weights.to(device))
            zeros = [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]
            results.append([out.detach().cpu(), *(t.cpu() for t in zeros)])
        one, two = results
        at_most(f"texture, {mode}: values", largest(one[0], two[0]), 1e-4)
        for name, a, b in zip(("tex", "uv", "uv_da"), one[1:], two[1:]):
            if "nearest" in mode and name == "uv_da" or mode == "nearest" and name == "uv":
                continue  # nvdiffrast gives none
            at_most(f"texture, {mode}: gradient of {name}, relative", relative(a, b), 2e-3)
