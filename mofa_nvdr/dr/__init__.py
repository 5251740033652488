"""nvdiffrast's verbs on any device: `from mofa_nvdr import dr`, then `dr.rasterize` and so on.

CPU tensors go to our own kernels (Numba), CUDA tensors to nvdiffrast, with the same results up to
rounding and nvdiffrast's conventions throughout: y is up, row 0 of an image is its bottom row,
images are [N, H, W, C]. `mofa_nvdr.dr.reference` holds the same verbs in plain torch, float64 too;
the two modules can replace each other, except for the topology hash.

What differs from nvdiffrast 0.4.0 on CPU tensors, all else being the same up to rounding:

* Results and gradients are the same bits every time and for any number of threads; sums are float64 (float32
  for textures of more than 2^20 numbers).
* A wrong Python type is a TypeError and an unknown mode a ValueError (there an AssertionError and a
  KeyError); shapes, dtypes, devices and layouts are RuntimeErrors here and there.
* `rasterize` raises while a `DepthPeeler` is active (there it returns the error as its result).
* A triangle with a vertex that is not finite is not drawn; the part of one that is cut by the view
  volume is computed in float64 (there float32).
* Images above 2048 pixels are drawn on one grid of 1/16 pixel (there tile by tile, each snapped on its
  own); sides end at 2^20.
* `interpolate` gives zero on every empty pixel, whatever vertex 0 holds (there NaN may leak), and where
  a vertex index lies outside the attributes (there such pixels are not written).
* A topology hash that was made for other triangles is refused (there it is used); of more than two
  triangles at an edge the first two count (there whichever come first).
* `texture` takes float64 too, in plain torch, and is zero where coordinates are not finite.
* `RasterizeGLContext` does not warn that it is deprecated.
"""

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
