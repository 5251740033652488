"""CPU builds of other renderers, from checkouts of their repositories, for `bm_peers`.

DRTK's setup.py compiles for CUDA alone, though its operators have CPU kernels; PyTorch3D's compiles all of
its sources, tens of minutes of CPU. Here only what a mesh renderer calls is compiled, in a folder of its own,
with the optimisation of their setups; the checkouts stay as they are. Nothing is installed.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import types
from pathlib import Path

from torch.utils import cpp_extension

DRTK_PARTS = ("rasterize", "render", "interpolate", "edge_grad")

# What DRTK's helper header takes from CUDA's runtime when no CUDA compiler reads it.
_CUDA_RUNTIME = """\
#pragma once
#include <cmath>
#define __host__
#define __device__
"""
_VECTORS = """\
struct {name}1 {{ {type} x; }};
struct {name}2 {{ {type} x, y; }};
struct {name}3 {{ {type} x, y, z; }};
struct {name}4 {{ {type} x, y, z, w; }};
"""
_WHOLE_NUMBERS = ("char", "short", "int", "long", "long long")

_PYTORCH3D_BINDING = """\
#include "rasterize_meshes/rasterize_meshes.h"
#include "blending/sigmoid_alpha_blend.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("rasterize_meshes", &RasterizeMeshes);
  module.def("rasterize_meshes_backward", &RasterizeMeshesBackward);
  module.def("sigmoid_alpha_blend", &SigmoidAlphaBlend);
  module.def("sigmoid_alpha_blend_backward", &SigmoidAlphaBlendBackward);
}
"""


def load_drtk(checkout: Path, build: Path) -> types.ModuleType:
    """DRTK's rasterize, render, interpolate and edge_grad_estimator, as attributes of one module."""
    package = _package("drtk", checkout / "drtk")
    headers = build / "drtk" / "include"
    headers.mkdir(parents=True, exist_ok=True)
    kinds = ["float", "double", *_WHOLE_NUMBERS, *(f"unsigned {kind}" for kind in _WHOLE_NUMBERS)]
    vectors = (
        _VECTORS.format(name=kind.replace("unsigned ", "u").replace(" ", ""), type=kind)
        for kind in kinds
    )
    _write(headers / "cuda_runtime.h", _CUDA_RUNTIME + "".join(vectors))
    for part in DRTK_PARTS:
        source = checkout / "src" / part
        parts = [source / f"{part}_module.cpp", source / f"{part}_kernel_cpu.cpp"]
        stubs = _throwing_stubs(source / f"{part}_kernel.h", parts[0].read_text())
        sys.modules[f"drtk.{part}_ext"] = _compile(
            f"{part}_ext",
            _included(parts) + stubs,
            [headers, checkout / "src" / "include", source],
            ["-O3", "--fast-math"],
            build / "drtk" / part,
        )
    for name in ("rasterize", "render", "interpolate", "edge_grad_estimator"):
        setattr(package, name, getattr(importlib.import_module(f"drtk.{name}"), name))
    return package


def load_pytorch3d(checkout: Path, build: Path) -> types.ModuleType:
    """PyTorch3D's package, whose compiled module has the mesh rasterizer and soft blending alone."""
    package = _package("pytorch3d", checkout / "pytorch3d")
    sources = checkout / "pytorch3d" / "csrc"
    parts = [
        sources / "rasterize_meshes" / "rasterize_meshes_cpu.cpp",
        sources / "blending" / "sigmoid_alpha_blend_cpu.cpp",
    ]
    compiled = _compile(
        "pytorch3d_meshes",
        _included(parts) + _PYTORCH3D_BINDING,
        [sources],
        ["-O3"],
        build / "pytorch3d",
    )
    compiled.EPS, compiled.MAX_UINT = 1e-8, 2**32 - 1  # defaults of its sphere renderer, not called
    package._C = sys.modules["pytorch3d._C"] = compiled
    importlib.import_module("pytorch3d.renderer")
    return package


def commit_of(checkout: Path) -> str:
    """The checkout's commit, or "unknown commit" where it has no history of its own."""
    if not (checkout / ".git").exists():
        return "unknown commit"
    call = ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


def _package(name: str, folder: Path) -> types.ModuleType:
    """An empty package over a folder: its own __init__ would ask for everything to be compiled."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package
    return package


def _throwing_stubs(header: Path, module: str) -> str:
    """Definitions of the CUDA functions that a header declares and the module's file does not define."""
    declared = re.findall(
        r"^((?:torch|std)::[^;{}()]*?\b(\w+_cuda(?:_\w+)?)\([^;{}()]*\));", header.read_text(), re.M
    )
    missing = [
        signature + ' {\n  TORCH_CHECK(false, "compiled without CUDA");\n}\n'
        for signature, name in declared
        if not re.search(rf"\b{name}\([^;{{}}()]*\)\s*\{{", module)
    ]
    return "\n".join(missing)


def _included(files: list[Path]) -> str:
    """Lines that take in files: in one source torch's headers, most of the work, are read once."""
    return "#include <torch/extension.h>\n" + "".join(f'#include "{file}"\n' for file in files)


def _compile(
    name: str, source: str, include: list[Path], flags: list[str], folder: Path
) -> types.ModuleType:
    """Compile a source in a folder of its own, unless that was done before, and import the module."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.cpp"
    _write(file, source)
    print(f"compiling {name}, unless that was done before", file=sys.stderr, flush=True)
    return cpp_extension.load(
        name,
        [str(file)],
        extra_include_paths=[str(path) for path in include],
        extra_cflags=flags,
        build_directory=str(folder),
        with_cuda=False,
    )


def _write(path: Path, text: str) -> None:
    """Write a file unless it says that already: a newer date would compile it again."""
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
