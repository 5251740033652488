"""Two people on film: their truth is known, and a stand-in for the encoder knows it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mofa_nvdr.apply import clips
from mofa_nvdr.apply.clip_tracks import Sighting
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.scene.camera import Camera
from tests.helpers.clips import COUNT, FPS, GAP, FilmedPeople, ffmpeg, placed_at, write_clip
from tests.helpers.moving_faces import turning_head
from tests.helpers.small_face import small_face


@pytest.fixture(scope="session")
def film() -> FilmedPeople:
    """Two caps in 24 frames of 166 x 216 px; the second one is hidden for a moment."""
    model = small_face(24)
    camera = Camera(image_size=(216, 166), focal=500.0, far=1e5)
    code = turning_head(model, COUNT / FPS, FPS)
    other = code.map(lambda part: part.flip(0)).replace(shape=-code.shape, albedo=-code.albedo)
    people = [placed_at(code, 60, 75, 80, camera), placed_at(other, 115, 160, 70, camera)]
    return FilmedPeople(model, people, camera, hidden=[(1, n) for n in GAP])


@pytest.fixture(scope="session")
def frames(film: FilmedPeople) -> list[np.ndarray]:
    return [film.frame(k) for k in range(COUNT)]


@pytest.fixture
def filming(film: FilmedPeople, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for one; its detector and encoder know the film."""
    film.noise, film.looks = 1.0, 0
    monkeypatch.setattr(clips, "face_finder", lambda: film.find)

    class Reader(SimpleNamespace):
        def __call__(self, pixels: np.ndarray, crops: list[Crop]) -> list[Sighting]:
            return film.read(pixels, crops)

    monkeypatch.setattr(
        clips, "FaceReader", lambda run, colors: Reader(model=film.model, camera=film.own)
    )
    decoder = SimpleNamespace(model=film.model, pinhole=film.own)
    return SimpleNamespace(decoder=decoder, face_model=SimpleNamespace(file="procedural"))


@pytest.fixture(scope="session")
def video(frames: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film with sound, as telephones write it: stored lying, with a note to turn it."""
    folder = tmp_path_factory.mktemp("film")
    lying = [np.ascontiguousarray(np.rot90(frame)) for frame in frames]
    silent = write_clip(folder / "silent.mp4", lying, str(FPS))
    ffmpeg(
        "-display_rotation", "-90", "-i", str(silent), "-f", "lavfi",
        "-i", "sine=duration=1.2", "-map", "0:v",
        "-map", "1:a", "-c:v", "copy", "-c:a", "aac", str(folder / "clip.mp4"),
    )  # fmt: skip
    return folder / "clip.mp4"
