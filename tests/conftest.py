"""Fixtures shared by every test: devices, the photographs beside the checkout, thread counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
DATA_DIR = Path(os.environ.get("MOFA_NVDR_DATA", ROOT.parent / "shared" / "data"))


def _has_nvdiffrast() -> bool:
    try:
        import nvdiffrast.torch  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The same test body on the CPU and on a CUDA GPU."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU")
        if not _has_nvdiffrast():
            pytest.skip("needs nvdiffrast")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Photographs, light probes and scans for tests; never part of the project."""
    if not DATA_DIR.is_dir():
        pytest.skip(f"no photographs at {DATA_DIR} (set MOFA_NVDR_DATA)")
    return DATA_DIR


@pytest.fixture(scope="session")
def face_model():  # noqa: ANN201
    """The built-in face model, loaded once."""
    from mofa_nvdr.face.model import FaceModel

    return FaceModel.load("default")


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of four steps on the small cap, and its face model's file; to be read only."""
    import dataclasses

    from mofa_nvdr.runs.config import load_config
    from mofa_nvdr.training.loop import train
    from tests.helpers.small_face import small_face

    folder = tmp_path_factory.mktemp("smoke")
    small_face(24).save(folder / "cap.safetensors")
    face_model, out = str(folder / "cap.safetensors"), str(folder / "run")
    config = dataclasses.replace(load_config("smoke"), face_model=face_model, out=out)
    return train(config), face_model
