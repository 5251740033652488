"""From clips to the parameters of the people in them and a video with their faces drawn over it.

Two passes over the frames, one at a time: the first finds, follows and reconstructs faces; then every person
gets one identity, and pose, expression and light are smoothed (clip_smoothing.py); the second pass draws.
Between them about 2 kB a frame and face are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.apply.certainty import face_certainty
from mofa_nvdr.apply.clip_parameters import Clip
from mofa_nvdr.apply.clip_people import finish_track
from mofa_nvdr.apply.clip_tracks import Find, Sighting, Track, Tracker
from mofa_nvdr.apply.color_solver import color_solver
from mofa_nvdr.apply.same_person import model_on_cpu
from mofa_nvdr.data.crops.finder import FaceFinder
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, Excerpt, ImageError
from mofa_nvdr.data.video_files import (
    FrameFolder,
    VideoFile,
)
from mofa_nvdr.data.video_writing import rate_of
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.camera import Camera

_SHORTEST = 0.15  # s; what is seen for less was no face, unless the clip is as short
_LEAST_FRAMES = 3
_LONGEST = 640  # px of the copy in which faces are looked for
_SMALLEST = 48  # px of a face's crop
_SCORE = 3.0  # of the cascade, see data/crops/detection.py
_DEEPEST = 4.0  # times nearer and farther than the faces of the clip is still drawn


@dataclass(frozen=True)
class ClipOptions:
    """How clips are reconstructed.

    Attributes:
        face: whose: "all", "largest": who fills most of the clip; or a number: who fills the so-many-th most.
        fps: frames a second of a folder of frames.
        focal_px: focal length in px of the frames; 0: that which makes the faces of the clip look as the
            encoder knows faces.
        colors: of color_solver.COLORS.
        smoothed: pose, expression and light are smoothed.
        overlay: write the video.
        max_megapixels: larger frames are not read.
        overwrite: replace what is in the place of a result, whatever it came of.
        least_certainty: of a face that comes in; 0: the default.
    """

    face: str = "all"
    fps: float = 25.0
    focal_px: float = 0.0
    colors: str = "encoder"
    smoothed: bool = True
    overlay: bool = True
    max_megapixels: float = MAX_MEGAPIXELS
    overwrite: bool = False
    least_certainty: float = 0.0


def check_face(face: str) -> None:
    """Refuse what `--face` cannot mean.

    Raises:
        ValueError: it is neither "all" nor "largest" nor a number from 1 on.
    """
    if face not in ("all", "largest") and not (face.isdecimal() and int(face)):
        raise ValueError(f"--face is {face!r}, expected all, largest or a number from 1")


def reconstruct_clip(
    clip: VideoFile | FrameFolder, reconstructor: Reconstructor, options: ClipOptions | None = None
) -> tuple[Clip, list[float]]:
    """The faces of a clip, without their source, and the times of its frames.

    Raises:
        ImageError: it cannot be read, or shows no face.
        RuntimeError: neither the landmark networks nor OpenCV are here to find faces.
    """
    o = options or ClipOptions()
    reader = FaceReader(reconstructor, o.colors)
    parts = reconstructor.decoder.model.layout.slices
    tracker = Tracker(face_finder(), reader, [parts["shape"], parts["albedo"]])
    if o.least_certainty:
        tracker.options = replace(tracker.options, begin=o.least_certainty)
    numbers, times, size = [], [], (0, 0)
    for frame in tqdm(clip.frames(), unit="frame", disable=not sys.stderr.isatty()):
        size = frame.pixels.shape[:2]
        numbers.append(frame.number)
        times.append(frame.time)
        tracker.add(frame)
    tracks = _worth_it(tracker.tracks, times)
    if not tracks:
        raise ImageError(f"{clip.path}: no face found in {len(times)} frames")
    # One camera for the clip, whoever is asked for.
    camera = clip_camera(reconstructor.decoder.pinhole, size, tracks, o.focal_px)
    if o.face != "all":
        number = 1 if o.face == "largest" else int(o.face)
        if number > len(tracks):
            shown = "1 person" if len(tracks) == 1 else f"{len(tracks)} people"
            raise ImageError(f"{clip.path}: --face {number}, but it shows {shown}")
        tracks = tracks[number - 1 : number]
    at = dict(zip(numbers, times))
    model = reader.model
    people = [
        finish_track(track, at, tracker.cuts, model, reader.camera, camera, o.smoothed)
        for track in tracks
    ]
    rate = float(rate_of(times)[0])
    return (
        Clip(
            tuple(people), camera, max(numbers) + 1, rate, (model.name, model.hash),
            reconstructor.face_model.file, cuts=np.array(tracker.cuts, np.int64),
        ),
        times,
    )  # fmt: skip


class FaceReader:
    """What an encoder sees in crops of a frame: the `Read` of a Tracker.

    Attributes:
        model: the face model, on the CPU.
        camera: of the codes.
    """

    def __init__(self, reconstructor: Reconstructor, colors: str = "encoder") -> None:
        self._reconstructor = reconstructor
        self._solve = color_solver(reconstructor.decoder, colors)
        self.model = model_on_cpu(reconstructor.decoder.model)
        self.camera = reconstructor.decoder.pinhole

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray, crops: Sequence[Crop]) -> list[Sighting]:
        """Sightings in crops of a frame, bytes [H, W, 3]."""
        decoder, size = self._reconstructor.decoder, self.camera.size[0]
        cut = np.stack([cut_near(pixels, crop, size) for crop in crops])
        images = torch.from_numpy(cut).permute(0, 3, 1, 2).float().div(255)
        images = images.to(self._reconstructor.device)
        code = self._reconstructor(images)
        geometry = decoder.geometry(code)
        face = decoder.rasterize(geometry)
        certainty = face_certainty(images, face).cpu().tolist()
        if self._solve is not None:  # after the certainty, which the encoder's own colours tell
            code = self._solve(images, code, geometry)
        assert face.landmarks is not None
        marks, packed = face.landmarks.cpu().double().numpy(), code.pack().cpu()
        return [
            Sighting(crop, packed[k], certainty[k], crop.to_source(marks[k], size))
            for k, crop in enumerate(crops)
        ]


def cut_near(pixels: np.ndarray, crop: Crop, size: int) -> np.ndarray:
    """The same as `crop.cut`, without a copy of the whole frame."""
    height, width = pixels.shape[:2]
    margin = 3 * crop.side / size + 1
    x0, y0 = (int(max(0, np.floor(v - margin))) for v in (crop.left, crop.top))
    x1 = int(min(width, np.ceil(crop.left + crop.side + margin)))
    y1 = int(min(height, np.ceil(crop.top + crop.side + margin)))
    if x1 - x0 < 1 or y1 - y0 < 1:  # a face that has left the frame
        return np.full((size, size, 3), 128, np.uint8)
    part = Crop(crop.left - x0, crop.top - y0, crop.side)
    return part.cut(np.ascontiguousarray(pixels[y0:y1, x0:x1]), size)


class _Still:
    """A frame as the face finder takes photographs."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def copy(self, longest: int) -> Excerpt:
        return Excerpt(self._pixels, 0.0, 0.0, 1.0).resized(longest)


def face_finder() -> Find:
    """Crops of the faces in a frame, by the landmark networks where they are here, else by OpenCV.

    Raises:
        RuntimeError: neither is here.
    """
    networks = LandmarkDetector.load().points if LandmarkDetector.is_here() else None
    finder = FaceFinder(_SMALLEST, _SCORE, _LONGEST, networks=networks)

    def find(pixels: np.ndarray) -> list[Crop]:
        return [face.crop for face in finder.find(_Still(pixels))[0]]  # type: ignore[arg-type]

    return find


def clip_camera(
    own: Camera, size: tuple[int, int], tracks: Sequence[Track], focal_px: float
) -> Camera:
    """The camera of whole frames: one for the clip, its principal point in their middle.

    Args:
        own: of the codes of crops.
        size: height and width of the frames, px.
        tracks: the people.
        focal_px: the focal length; 0: the median of those that the crops imply.
    """
    sides = np.concatenate([[s.crop.side for s in track.sightings] for track in tracks])
    focal = focal_px or own.focal_px / own.size[0] * float(np.median(sides))
    distance = -own.position[2] * focal / own.focal_px * own.size[0] / sides
    near, far = float(distance.min()) / _DEEPEST, float(distance.max()) * _DEEPEST
    return replace(own, image_size=size, focal=focal, near=near, far=far)


def _worth_it(tracks: Sequence[Track], times: Sequence[float]) -> list[Track]:
    """The people of a clip, who fills most of it first; what was seen for a moment is left out."""
    length = times[-1] - times[0] if times else 0.0
    least = min(_LEAST_FRAMES, len(times))
    some = [
        t
        for t in tracks
        if len(t.numbers) >= least and t.times[-1] - t.times[0] >= min(_SHORTEST, 0.5 * length)
    ]
    return sorted(some, key=lambda t: -t.presence)
