"""Video files for tests, and a stand-in for the encoder that knows the truth of rendered clips."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.clip_overlay import draw_over
from mofa_nvdr.apply.clip_tracks import Sighting
from mofa_nvdr.apply.same_person import fit_pose, placed, pose_points
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.data.video_files import has_ffmpeg
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from tests.helpers.moving_faces import with_noise

needs_ffmpeg = pytest.mark.skipif(not has_ffmpeg(), reason="needs imageio-ffmpeg")
_BLOCK, _BITS = 16, 10  # the number of a frame, as black and white squares in its corner


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg with these arguments."""
    from imageio_ffmpeg import get_ffmpeg_exe

    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *arguments], check=True)


def write_clip(
    path: Path, frames: Iterable[np.ndarray], fps: str = "30", more: Sequence[str] = ()
) -> Path:
    """An H.264 clip of frames, bytes [H, W, 3] of even sides; `more`: options of the output."""
    from imageio_ffmpeg import get_ffmpeg_exe

    frames = list(frames)
    height, width = frames[0].shape[:2]
    command = [
        get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s",
        f"{width}x{height}",
        "-r", fps, "-i", "-", *(more or ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p")), str(path),
    ]  # fmt: skip
    subprocess.run(command, input=b"".join(f.tobytes() for f in frames), check=True)
    return path


def write_sound(path: Path) -> Path:
    """A tone of 0.4 s, AAC."""
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.4", "-c:a", "aac", str(path))
    return path


def with_sound(clip: Path, sound: Path, out: Path) -> Path:
    """Both in one file, copied."""
    both = ("-i", str(clip), "-i", str(sound), "-map", "0:v", "-map", "1:a")
    ffmpeg(*both, "-c", "copy", str(out))
    return out


def pattern(count: int = 12, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames that differ: a bright bar goes from left to right."""
    frames = np.full((count, height, width, 3), 40, np.uint8)
    for k, frame in enumerate(frames):
        frame[:, k * width // count : (k + 1) * width // count] = 220
    return list(frames)


COUNT, FPS = 24, 20  # of the film in tests/apply/conftest.py
GAP = range(10, 14)  # its frames in which the second person is hidden


def placed_at(code: FaceCode, x: float, y: float, side: float, camera: Camera) -> FaceCode:
    """Codes whose faces are about x, y px, with a crop of about `side` px."""
    depth = 857.9 * camera.focal_px / 1087.5 * 240 / side
    shift = torch.tensor(
        [
            (x - camera.size[1] / 2) * depth / camera.focal_px,
            -(y - camera.size[0] / 2) * depth / camera.focal_px,
            857.9 - depth,
        ]
    )
    return code.replace(translation=code.translation + shift)


class FilmedPeople:
    """People before a camera whose codes are known: their frames, a detector and an encoder of them.

    Args:
        model: the face model.
        people: their codes, all of one number of frames.
        camera: of the frames.
        hidden: (person, frame) in which no face is drawn.
    """

    def __init__(
        self,
        model: FaceModel,
        people: Sequence[FaceCode],
        camera: Camera,
        hidden: Iterable[tuple[int, int]] = (),
    ) -> None:
        self.model, self.people, self.camera, self.hidden = model, people, camera, set(hidden)
        self.own = Camera(image_size=160)
        self.count = people[0].batch_size
        self.noise = 0.0
        self.looks = 0
        index = model.landmarks.long()
        self.marks = [
            camera.project(placed(model, camera, code, index)).double().numpy() for code in people
        ]
        self._noisy: dict[float, list[FaceCode]] = {}

    def frame(self, number: int, faces: bool = True) -> np.ndarray:
        """The picture of a frame: a wall, the faces, and the frame's number in the corner."""
        height, width = self.camera.size
        y, x = np.mgrid[:height, :width]
        wall = 90 + 30 * np.sin(x / 17) + 20 * np.sin(y / 11)
        pixels = np.repeat(wall[..., None], 3, 2).astype(np.uint8)
        for who in range(len(self.people)) if faces else ():
            if (who, number) not in self.hidden:
                one = self.people[who].map(lambda part: part[number : number + 1])
                marks = self.marks[who][number]
                pixels = draw_over(pixels, self.model, self.camera, one, marks)
        for bit in range(_BITS):
            square = slice(bit * _BLOCK, (bit + 1) * _BLOCK)
            pixels[:_BLOCK, square] = 255 * (number >> bit & 1)
        return pixels

    def number(self, pixels: np.ndarray) -> int:
        """The number of a frame that was encoded and decoded."""
        means = [pixels[:_BLOCK, b * _BLOCK : (b + 1) * _BLOCK].mean() > 127 for b in range(_BITS)]
        return sum(1 << bit for bit, white in enumerate(means) if white)

    def find(self, pixels: np.ndarray) -> list[Crop]:
        """The detector: roughly where the faces are."""
        self.looks += 1
        number = self.number(pixels)
        found = []
        for who, marks in enumerate(self.marks):
            if (who, number) not in self.hidden:
                crop = crop_from_landmarks(marks[number])
                found.append(Crop(crop.left + 0.06 * crop.side, crop.top, 1.05 * crop.side))
        return found

    def read(self, pixels: np.ndarray, crops: Sequence[Crop]) -> list[Sighting]:
        """The encoder: the codes of the truth, with noise, as they look in the crops."""
        return [self._sighting(self.number(pixels), crop) for crop in crops]

    def _sighting(self, number: int, crop: Crop) -> Sighting:
        index = self.model.landmarks.long()
        best, who = -1.0, 0
        for k, marks in enumerate(self.marks):
            true = crop_from_landmarks(marks[number])
            apart = np.hypot(crop.left - true.left, crop.top - true.top) / true.side
            certainty = float(np.exp(-((apart + abs(crop.side / true.side - 1)) ** 2) * 8))
            certainty *= 0.05 if (k, number) in self.hidden else 0.95
            if certainty > best:
                best, who = certainty, k
        code = self.people[who].map(lambda part: part[number : number + 1])
        code = self.in_crop(code, crop)
        if self.noise:
            code = with_noise(code, 1000 * number + who, self.noise)
        marks = self.own.project(placed(self.model, self.own, code, index))[0].double().numpy()
        return Sighting(crop, code.pack()[0], best, crop.to_source(marks, 160))

    def in_crop(self, code: FaceCode, crop: Crop) -> FaceCode:
        """A face of the frames as the camera of a crop sees it."""
        index = pose_points(self.model)
        places = self.camera.project(placed(self.model, self.camera, code, index))
        corner = places.new_tensor([crop.left, crop.top])
        places = (places - corner) * (self.own.size[1] / crop.side)
        start = code.replace(translation=torch.zeros_like(code.translation))
        rotation, translation = fit_pose(self.model, self.own, start, places, index)
        return code.replace(rotation=rotation, translation=translation)
