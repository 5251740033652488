"""The names and signatures of nvdiffrast.torch."""

from __future__ import annotations

import inspect

import pytest

from mofa_nvdr import dr

SIGNATURES = {
    "rasterize": "glctx pos tri resolution ranges=None grad_db=True",
    "interpolate": "attr rast tri rast_db=None diff_attrs=None",
    "texture": "tex uv uv_da=None mip_level_bias=None mip=None filter_mode=auto boundary_mode=wrap "
    "max_mip_level=None",
    "texture_construct_mip": "tex max_mip_level=None cube_mode=False",
    "antialias": "color rast pos tri topology_hash=None pos_gradient_boost=1.0",
    "antialias_construct_topology_hash": "tri",
    "DepthPeeler": "glctx pos tri resolution ranges=None grad_db=True",
    "RasterizeCudaContext": "device=None",
    "RasterizeGLContext": "output_db=True mode=automatic device=None",
    "get_log_level": "",
    "set_log_level": "level",
}


class TestNames:
    @pytest.mark.parametrize("name", SIGNATURES)
    def test_signature(self, name):
        parameters = inspect.signature(getattr(dr, name)).parameters.values()
        words = [
            p.name if p.default is inspect.Parameter.empty else f"{p.name}={p.default}"
            for p in parameters
        ]
        assert " ".join(words) == SIGNATURES[name]
        assert name == "RasterizeCudaContext" or name in dr.__all__
