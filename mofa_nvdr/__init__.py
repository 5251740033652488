"""Model-based face autoencoder (MoFA) with a differentiable, rasterizing decoder.

The package is light: nothing heavy (torch, numba, nvdiffrast) is imported until a name that needs it is
used, so that `mofa-nvdr --help` answers at once. Public names live in their rooms and are re-exported here.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# A checkout that nobody installed: the rooms shaders/, configs/ and assets/ are next to the package.
if not (Path(__file__).parent / "shaders").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

_PUBLIC = {
    "BaseCamera": "scene.camera",
    "Camera": "scene.camera",
    "CodeLayout": "face.code",
    "FaceCode": "face.code",
    "FaceDecoder": "render.decoder",
    "FaceModel": "face.model",
    "FaceRenderer": "render.renderer",
    "IntrinsicsCamera": "scene.intrinsics_camera",
    "OrthographicCamera": "scene.orthographic_camera",
    "Phong": "shaders.phong",
    "PhongLight": "shaders.phong",
    "Reconstructor": "runs.trained",
    "ShLambert": "shaders.sh_lambert",
    "Shader": "shaders.shader",
    "Texture": "render.mesh_texture",
    "TrainConfig": "runs.options",
    "Unlit": "shaders.unlit",
    "build_encoder": "networks.encoder",
    "light_presets": "scene.light_sources",
    "load_config": "runs.config",
    "load_light": "scene.light_sources",
    "replace_options": "runs.options",
    "sh_lambert": "shaders.sh_lambert",
    "train": "training.loop",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mofa_nvdr' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mofa_nvdr.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
