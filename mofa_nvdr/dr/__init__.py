"""nvdiffrast's verbs on any device: `from mofa_nvdr import dr`, then `dr.rasterize` and so on.

CPU tensors go to our own kernels (Numba), CUDA tensors to nvdiffrast, with the same results up to
rounding and nvdiffrast's conventions throughout: y is up, row 0 of an image is its bottom row,
images are [N, H, W, C]. `mofa_nvdr.dr.reference` holds the same verbs in plain torch, float64 too;
the two modules can be exchanged for each other.
"""

from mofa_nvdr.dr import reference
from mofa_nvdr.dr.antialias import antialias, antialias_construct_topology_hash
from mofa_nvdr.dr.context import (
    RasterizeContext,
    RasterizeGLContext,
    get_log_level,
    set_log_level,
)
from mofa_nvdr.dr.depth_peeler import DepthPeeler
from mofa_nvdr.dr.install import install
from mofa_nvdr.dr.interpolate import interpolate
from mofa_nvdr.dr.rasterize import rasterize
from mofa_nvdr.dr.texture import texture, texture_construct_mip

RasterizeCudaContext = RasterizeContext
"""nvdiffrast's name for it, so that its users change an import and nothing else."""

__all__ = [
    "DepthPeeler",
    "RasterizeContext",
    "RasterizeCudaContext",
    "RasterizeGLContext",
    "antialias",
    "antialias_construct_topology_hash",
    "get_log_level",
    "install",
    "interpolate",
    "rasterize",
    "reference",
    "set_log_level",
    "texture",
    "texture_construct_mip",
]
