"""The parameters of a clip's faces in one file: arrays over the rows of all tracks, without pickles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mofa_nvdr.apply.parameters import CLIP_KEY, FaceParameters, load_face
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.array_files import NotArrays, read_npz
from mofa_nvdr.system.budget import MOST_SIDE, printable
from mofa_nvdr.system.files import replacing

_TEXTS = ("face_model", "face_model_hash", "face_model_file", "source", "source_hash")
_ROWS: dict[str, tuple[int, ...]] = {
    CLIP_KEY: (), "frame": (), "time": (), "seen": (), "certainty": (), "rotation": (3,), "translation": (3,),
    "light": (9, 3), "landmarks68": (68, 2), "crop": (3,),
}  # fmt: skip
_CAMERA: dict[str, tuple[int, ...]] = {
    "image_size": (2,), "focal": (), "near": (), "far": (), "position": (3,),
}  # fmt: skip

_FACE_NAME = re.compile(
    r"(?P<file>.*\.npz)(?:#(?P<frame>\d{1,9})(?::(?P<person>\d{1,9}))?)?", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class ClipTrack:
    """One person in a clip.

    Attributes:
        frame: int [N] numbers of the frames from 0 on, in order; where they jump, the face was not there.
        time: [N] s.
        seen: bool [N]; False: the frame does not show the face well, and the values are its neighbours'.
        certainty: [N], 0 to 1; NaN where it was not seen.
        code: of the N frames, in the clip's camera; shape and albedo are the same in all.
        landmarks68: [N, 68, 2] px of the frames.
        crop: [N, 3] left, top and side of what the encoder saw, px of the frames; NaN where it saw nothing.
    """

    frame: np.ndarray
    time: np.ndarray
    seen: np.ndarray
    certainty: np.ndarray
    code: FaceCode
    landmarks68: np.ndarray
    crop: np.ndarray


@dataclass(frozen=True)
class Clip:
    """The faces of a clip.

    Attributes:
        tracks: the people, the one who fills most of the clip first.
        camera: of the whole frames, one for the clip: its size is theirs.
        num_frames: of the clip, with and without faces.
        rate: frames a second.
        cuts: int, numbers of the frames that begin another scene.
        face_model: name and content hash. face_model_file: where it was; empty: unknown.
        source: the clip's name. source_hash: of its bytes.
    """

    tracks: tuple[ClipTrack, ...]
    camera: Camera
    num_frames: int
    rate: float
    face_model: tuple[str, str]
    face_model_file: str = ""
    source: str = ""
    source_hash: str = ""
    cuts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def save(self, path: str | Path, more: Mapping[str, np.ndarray] | None = None) -> None:
        """Write the .npz, atomically.

        Args:
            path: the file.
            more: arrays that follow from the codes and are not read back, as `arkit.arrays`.

        Raises:
            OSError: the folder cannot be written.
        """
        arrays: dict[str, np.ndarray] = {}
        for name in _ROWS:
            if name != CLIP_KEY:
                arrays[name] = np.concatenate([_of(track, name) for track in self.tracks])
        arrays[CLIP_KEY] = np.repeat(
            np.arange(len(self.tracks)), [len(t.frame) for t in self.tracks]
        )
        arrays["expression"] = np.concatenate([_of(t, "expression") for t in self.tracks])
        for name in ("shape", "albedo"):
            arrays[name] = np.stack([_of(track, name)[0] for track in self.tracks])
        camera = self.camera
        arrays |= {
            "image_size": np.array(camera.size), "focal": np.array(camera.focal_px, np.float64),
            "near": np.array(camera.near, np.float64), "far": np.array(camera.far, np.float64),
            "position": np.array(camera.position, np.float64), "num_frames": np.array(self.num_frames),
            "rate": np.array(self.rate, np.float64), "cuts": np.asarray(self.cuts, np.int64),
        }  # fmt: skip
        texts = (*self.face_model, self.face_model_file, self.source, self.source_hash)
        arrays |= {name: np.array(text) for name, text in zip(_TEXTS, texts)}
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays, **(more or {}))  # type: ignore[arg-type]

    def face(self, frame: int, track: int = 0) -> FaceParameters:
        """One frame's face as the parameters of a photograph, in the camera of the whole frame.

        Args:
            frame: number of the frame.
            track: number of the person.

        Raises:
            ValueError: no such person, or not in this frame; the message says in which.
        """
        if not 0 <= track < len(self.tracks):
            raise ValueError(
                f"there is no person {track} in {self.source or 'the clip'}, expected 0 to "
                f"{len(self.tracks) - 1}"
            )
        one = self.tracks[track]
        rows = np.flatnonzero(one.frame == frame)
        if not len(rows):
            raise ValueError(
                f"person {track} is not in frame {frame}, but in frames {int(one.frame[0])} to "
                f"{int(one.frame[-1])} of {self.source or 'the clip'}"
                + ("" if len(one.frame) > one.frame[-1] - one.frame[0] else ", not in all of them")
            )
        row = int(rows[0])
        return FaceParameters(
            code=one.code.map(lambda part: part[row : row + 1]),
            camera=self.camera,
            crop=np.array([0.0, 0.0, self.camera.size[1]]),
            face_model=self.face_model,
            source=f"{self.source}#{frame}",
            face_model_file=self.face_model_file,
            source_hash=self.source_hash,
            certainty=float(one.certainty[row]),
            landmarks68=one.landmarks68[row].astype(np.float64),
        )


def load_clip(path: str | Path) -> Clip:
    """Read the parameters of a clip.

    Args:
        path: .npz of Clip.save, as `mofa-nvdr reconstruct CLIP.mp4` writes it.

    Returns:
        The clip, its codes float32 on the CPU.

    Raises:
        ValueError: no such file, not a clip's parameters, pickled objects in it, a missing key, a wrong
            shape or kind, or numbers that are not finite. The message is one line that names the file.
    """
    arrays = _read(Path(path))
    rows = len(arrays[CLIP_KEY])
    tracks = arrays[CLIP_KEY].astype(np.int64)
    count = len(arrays["shape"])
    shapes = {n: (rows, *own) for n, own in _ROWS.items()} | _CAMERA
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{path}: {name} is {list(arrays[name].shape)}, expected {list(shape)}"
            )
    for name, ndim, length in (("shape", 2, count), ("albedo", 2, count), ("expression", 2, rows)):
        if arrays[name].ndim != ndim or len(arrays[name]) != length:
            raise ValueError(
                f"{path}: {name} is {list(arrays[name].shape)}, expected [{length}, N]"
            )
    if not rows or not np.array_equal(np.unique(tracks), np.arange(count)):
        raise ValueError(f"{path}: its rows are not of the tracks 0 to {count - 1}")
    height, width = (int(n) for n in arrays["image_size"])
    if not 0 < max(height, width) <= MOST_SIDE:
        raise ValueError(
            f"{path}: frames of {height} x {width} px, expected at most {MOST_SIDE} px"
        )
    try:
        camera = Camera(
            (height, width), float(arrays["focal"]), float(arrays["near"]), float(arrays["far"]),
            tuple(float(n) for n in arrays["position"]),  # type: ignore[arg-type]
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    texts = {name: printable(arrays[name]) for name in _TEXTS}
    return Clip(
        tuple(_track(arrays, np.flatnonzero(tracks == k), k) for k in range(count)),
        camera,
        int(arrays["num_frames"]),
        float(arrays["rate"]),
        (texts["face_model"], texts["face_model_hash"]),
        texts["face_model_file"],
        texts["source"],
        texts["source_hash"],
        arrays["cuts"].astype(np.int64).reshape(-1),
    )


def names_face(name: str | Path) -> bool:
    """Whether a name is a face's, FACE.npz, or of a clip's frame, CLIP.npz#120 or CLIP.npz#120:1."""
    return bool(_FACE_NAME.fullmatch(str(name)))


def load_named_face(name: str | Path, given: str, models: dict[str, FaceModel]) -> FaceParameters:
    """Read one face together with its face model.

    Args:
        name: FACE.npz, or CLIP.npz#FRAME of a clip, CLIP.npz#FRAME:PERSON of others in it than the first.
        given: the user's --face-model; empty: the one that the file names.
        models: models by their hash; the file's is added where it is missing.

    Raises:
        ValueError: as `load_face` and `load_clip`; or the person is not in that frame.
    """
    parts = _FACE_NAME.fullmatch(str(name))
    if parts is None or parts["frame"] is None:
        return load_face(name, given, models)
    clip = load_clip(parts["file"])
    try:
        face = clip.face(int(parts["frame"]), int(parts["person"] or 0))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    reference = ModelReference(*face.face_model, face.face_model_file)
    if reference.hash not in models:
        who = f"{parts['file']}: parameters of"
        models[reference.hash], _ = reference.load(given, Path(parts["file"]).parent, who)
    try:
        models[reference.hash].layout.check(face.code)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return face


def _of(track: ClipTrack, name: str) -> np.ndarray:
    """The array of a track in the file, in the number format in which it is kept."""
    if hasattr(track, name):
        value = np.asarray(getattr(track, name))
        return value.astype(np.float32) if name in ("landmarks68", "crop", "certainty") else value
    return getattr(track.code, name).detach().cpu().numpy().astype(np.float32)


def _track(arrays: dict[str, np.ndarray], rows: np.ndarray, number: int) -> ClipTrack:
    def part(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[name][rows].astype(np.float32))

    def whole(name: str) -> torch.Tensor:
        one = torch.from_numpy(arrays[name][number].astype(np.float32))
        return one.expand(len(rows), -1)

    code = FaceCode(
        whole("shape"), part("expression"), whole("albedo"), part("rotation"), part("translation"),
        part("light"),
    )  # fmt: skip
    return ClipTrack(
        arrays["frame"][rows].astype(np.int64),
        arrays["time"][rows].astype(np.float64),
        arrays["seen"][rows].astype(bool),
        arrays["certainty"][rows].astype(np.float64),
        code,
        arrays["landmarks68"][rows].astype(np.float64),
        arrays["crop"][rows].astype(np.float64),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        arrays = read_npz(path)
    except (NotArrays, OSError) as error:
        raise ValueError(f"{path}: not a readable .npz of a clip ({error})") from None
    numbers = (*_ROWS, *_CAMERA, "shape", "albedo", "expression", "num_frames", "rate", "cuts")
    missing = [name for name in (*numbers, *_TEXTS) if name not in arrays]
    if CLIP_KEY in missing:
        raise ValueError(f"{path}: not the parameters of a clip, which have {CLIP_KEY}")
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; expected a clip of reconstruct")
    for name in numbers:
        array = arrays[name]
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{path}: {name} holds {array.dtype} values, expected numbers")
        unknown = np.isnan(array.astype(float)) if name in ("certainty", "crop") else False
        if not (unknown | (np.abs(array.astype(float)) < np.finfo(np.float32).max)).all():
            raise ValueError(f"{path}: {name} holds values that are not finite numbers")
    for name in _TEXTS:
        if arrays[name].dtype.kind != "U" or arrays[name].ndim:
            raise ValueError(f"{path}: {name} is not a text")
    return arrays
