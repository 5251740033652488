"""Fixtures shared by every test: devices, the photographs beside the checkout, thread counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mofa_nvdr.runs.options import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
DATA_DIR = Path(os.environ.get("MOFA_NVDR_DATA", ROOT.parent / "shared" / "data"))


def _has_nvdiffrast() -> bool:
    try:
        import nvdiffrast.torch  # noqa: F401
    except ImportError:
        return False
    return True


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest -n take the files in our order: its own is by their number of tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: one that began last would keep a single core busy in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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

    return FaceModel.load("procedural")


@pytest.fixture(scope="session")
def smoke_run(cap: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of four steps on the small cap, and its face model's file; to be read only."""
    from mofa_nvdr.training.loop import train
    from tests.helpers.training import small_config

    return train(small_config(cap, tmp_path_factory.mktemp("smoke") / "run")), cap


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures to reconstruct."""
    from tests.helpers.photos_to_reconstruct import write_photos

    return write_photos(tmp_path / "photos")


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of smooth colours: no word on whether they show faces; no landmark networks."""
    from mofa_nvdr.apply import prediction
    from mofa_nvdr.networks.landmark_detector import LandmarkDetector

    monkeypatch.setattr(prediction, "face_certainty", lambda photo, _: torch.ones(len(photo)))
    monkeypatch.setattr(LandmarkDetector, "is_here", staticmethod(lambda: False))


@pytest.fixture(scope="session")
def cap(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a small face model."""
    from tests.helpers.small_face import small_face

    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    small_face(24).save(path)
    return str(path)


@pytest.fixture
def small(cap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A configuration of a second, for `train` in this process."""
    from mofa_nvdr.training import loop
    from tests.helpers.small_encoder import small_encoder
    from tests.helpers.training import small_config

    monkeypatch.setattr(loop, "make_encoder", small_encoder)
    return small_config(cap, tmp_path / "run", **{"run.steps": 8, "report.val_images": 2})
