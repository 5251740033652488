"""Imports go down only: the layers of the package, and the one place that imports nvdiffrast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Every room and its layer; a room may import its own layer and those below.
LAYERS = {
    "cli": 6, "__main__": 6,
    "training": 5, "benchmark": 5, "preprocess": 5, "evaluation": 5, "reconstruction": 5, "relighting": 5,
    "synthesis": 5, "run_folder": 5, "model_sheets": 5, "model_build": 5, "export": 5,
    "objective": 5, "corpus": 5, "training_state": 5, "monitoring": 5, "report": 5,
    "training_benchmark": 5, "onnx_export": 5,
    "decoder": 4, "encoder": 4, "onnx_encoder": 4, "networks": 4, "data": 4, "face_crops": 4,
    "renderer": 3, "losses": 3, "consistency": 3, "pictures": 3, "parameters": 3, "model_reference": 3,
    "model_info": 3, "mesh_files": 3,
    "encoder_spec": 4, "checkpoint": 4,
    "face_model": 2, "outline": 2, "outline_kernels": 2, "procedural_face": 2, "importers": 2, "shaders": 2,
    "camera": 2, "color_distance": 2, "color_distance_kernels": 2,
    "face_code": 1, "affine": 1, "rigid": 1, "mesh": 1, "lighting": 1, "hdr": 1,
    "texture_baking": 1,
    "surface_motion": 1, "surface_motion_kernels": 1,
    "dr": 1, "files": 1, "landmarks": 1, "config": 1, "device": 1, "distributed": 1,
    "stages": 1, "charts": 1, "notes": 1, "assets": 1, "configs": 1,
}  # fmt: skip
STRANGERS = [
    ("encoder", "decoder"),
    ("decoder", "encoder"),
    ("onnx_encoder", "encoder"),
    ("shaders", "mesh"),
    ("shaders", "camera"),
]


def _modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted((ROOT / "mofa_nvdr").rglob("*.py")):
        parts = path.relative_to(ROOT / "mofa_nvdr").with_suffix("").parts
        if parts != ("__init__",):
            found.append((parts[0], path))
    for room in ("shaders", "configs", "assets"):
        found += [(room, path) for path in sorted((ROOT / room).rglob("*.py"))]
    return found


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.parent.relative_to(ROOT).parts
            base = ".".join(package[: len(package) - node.level + 1])
            names += [f"{base}.{node.module or alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize(
    ("room", "path"), _modules(), ids=lambda x: x.stem if isinstance(x, Path) else x
)
def test_imports_go_down_only(room, path):
    assert room in LAYERS, f"{path}: give the room {room} a layer"
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "mofa_nvdr" or parts[1] == "__version__":
            continue
        other = parts[1]
        assert other in LAYERS, f"{path}: imports unknown room {other}"
        assert LAYERS[other] <= LAYERS[room], (
            f"{path}: {room} may not import {other}, a layer above"
        )
        assert (room, other) not in STRANGERS, f"{path}: {room} must not know {other}"


def test_nvdiffrast_is_imported_in_one_function():
    places = []
    for _, path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                inside = [n for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom))]
                if any("nvdiffrast" in ast.unparse(n) for n in inside):
                    places.append(f"{path.name}:{node.name}")
    assert len(places) == 1, places


def test_the_package_is_light():
    """`import mofa_nvdr` brings no torch, numba or nvdiffrast; --help must be quick."""
    code = (
        "import sys, mofa_nvdr, mofa_nvdr.cli; "
        "print([m for m in ('torch', 'numba', 'nvdiffrast', 'kornia') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_public_names_resolve():
    import mofa_nvdr

    for name in mofa_nvdr.__all__:
        assert getattr(mofa_nvdr, name) is not None
    assert set(mofa_nvdr.__all__) <= set(dir(mofa_nvdr))
    with pytest.raises(AttributeError, match="no attribute 'FaceRendere'"):
        mofa_nvdr.FaceRendere  # noqa: B018
