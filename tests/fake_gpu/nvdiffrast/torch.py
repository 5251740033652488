"""nvdiffrast's names with its checks of kinds, devices and layouts, over this package's own verbs.

Values come from `mofa_nvdr.dr.reference` in float32, as far from the kernels as a GPU's arithmetic; where
there is no reference, from the kernels themselves. FAKE_GPU_BREAK=1 in the environment shifts u by 1e-3.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from fake_cuda import CudaTensor, on_cuda, plain
from torch import Tensor

_level = 1


def get_log_level() -> int:
    return _level


def set_log_level(level: int) -> None:
    global _level
    _level = level


def _check(*tensors: Tensor | None, dtype: torch.dtype = torch.float32) -> None:
    for tensor in tensors:
        if tensor is None:
            continue
        assert isinstance(tensor, Tensor)
        if not isinstance(tensor, CudaTensor):
            raise RuntimeError("nvdiffrast: a tensor is not on the GPU")
        if not plain(tensor).is_contiguous() or tensor.dtype != dtype:
            raise RuntimeError("nvdiffrast: a tensor is not contiguous or has another dtype")


def _ours() -> ModuleType:
    from mofa_nvdr import dr

    return dr


@contextlib.contextmanager
def _float32_reference() -> Iterator[ModuleType]:
    """The reference with values in float32; which triangle is seen stays as it is."""
    from mofa_nvdr.dr import reference  # here: mofa_nvdr.dr is what imports this module

    double = Tensor.double
    see = reference._visible_triangles

    def visible(*args: Any) -> Tensor:
        with mock.patch.object(Tensor, "double", double):
            return see(*args)

    with (
        mock.patch.object(reference, "_visible_triangles", visible),
        mock.patch.object(Tensor, "double", lambda tensor: tensor.float()),
    ):
        yield reference


class RasterizeCudaContext:
    def __init__(self, device: Any = None) -> None:
        self.active_depth_peeler: Any = None


class RasterizeGLContext(RasterizeCudaContext):
    pass


def rasterize(
    glctx: Any, pos: Tensor, tri: Tensor, resolution: Any, ranges: Any = None, grad_db: bool = True
) -> Any:
    assert isinstance(glctx, RasterizeCudaContext) and isinstance(grad_db, bool)
    if glctx.active_depth_peeler is not None:
        return RuntimeError("nvdiffrast: a DepthPeeler is active")
    _check(pos)
    _check(tri, dtype=torch.int32)
    assert ranges is None or not isinstance(ranges, CudaTensor)
    with _float32_reference() as reference:
        rast, rast_db = reference.rasterize(
            None, plain(pos), plain(tri), tuple(resolution), ranges, grad_db
        )
    if os.environ.get("FAKE_GPU_BREAK"):
        rast = rast + torch.tensor([1e-3, 0, 0, 0]) * (rast[..., 3:] > 0)
    return on_cuda((rast, rast_db))


class DepthPeeler:
    def __init__(
        self,
        glctx: Any,
        pos: Tensor,
        tri: Tensor,
        resolution: Any,
        ranges: Any = None,
        grad_db: bool = True,
    ) -> None:
        assert isinstance(glctx, RasterizeCudaContext)
        _check(pos)
        _check(tri, dtype=torch.int32)
        self._glctx = glctx
        dr = _ours()
        self._peeler = dr.DepthPeeler(
            dr.RasterizeContext(), plain(pos), plain(tri), tuple(resolution), ranges, grad_db
        )

    def __enter__(self) -> DepthPeeler:
        assert self._glctx.active_depth_peeler is None
        self._glctx.active_depth_peeler = self
        self._peeler.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._glctx.active_depth_peeler is self
        self._glctx.active_depth_peeler = None
        self._peeler.__exit__(*error)

    def rasterize_next_layer(self) -> Any:
        return on_cuda(self._peeler.rasterize_next_layer())


def interpolate(
    attr: Tensor, rast: Tensor, tri: Tensor, rast_db: Any = None, diff_attrs: Any = None
) -> Any:
    _check(attr, rast)
    _check(tri, dtype=torch.int32)
    if diff_attrs:
        _check(rast_db)
    with _float32_reference() as reference:
        return on_cuda(
            reference.interpolate(plain(attr), plain(rast), plain(tri), plain(rast_db), diff_attrs)
        )


class _TopologyHash:
    def __init__(self, tri: Tensor) -> None:
        self.table = _ours().reference.antialias_construct_topology_hash(plain(tri))


def antialias_construct_topology_hash(tri: Tensor) -> _TopologyHash:
    _check(tri, dtype=torch.int32)
    return _TopologyHash(tri)


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology_hash: Any = None,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    _check(color, rast, pos)
    topology = topology_hash or antialias_construct_topology_hash(tri)
    assert isinstance(topology, _TopologyHash)
    with _float32_reference() as reference:
        return on_cuda(
            reference.antialias(
                *(plain(t) for t in (color, rast, pos, tri)), topology.table, pos_gradient_boost
            )
        )


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Any = None,
    mip_level_bias: Any = None,
    mip: Any = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Tensor:
    _check(tex, uv, uv_da, mip_level_bias)
    tensors = [plain(t) for t in (tex, uv, uv_da, mip_level_bias, mip)]
    return on_cuda(_ours().texture(*tensors, filter_mode, boundary_mode, max_mip_level))


def texture_construct_mip(
    tex: Tensor, max_mip_level: int | None = None, cube_mode: bool = False
) -> Any:
    _check(tex)
    return _ours().texture_construct_mip(plain(tex), max_mip_level, cube_mode)
