"""A folder of photographs as a data set, with splits and landmarks if there are any next to it."""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mofa_nvdr.data.crop_tables import (
    CODE_FILE,
    DENSE_FILE,
    INDEX_FILE,
    LANDMARK_FILE,
    DataError,
    read_codes,
    read_dense_landmarks,
    read_index,
    read_landmarks,
)
from mofa_nvdr.data.crops.landmark_checks import wrong_frame_of
from mofa_nvdr.data.crops.landmark_shape import wrong_points
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, Picture
from mofa_nvdr.data.images import ImageError, central_square, picture_square
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.data.picture_formats import IMAGE_SUFFIXES
from mofa_nvdr.face.landmarks import NUM_LANDMARKS

_CHECKED_SIZE = 640  # px, longer side of the copy in which landmarks are checked against the pixels
SPLITS = ("train", "val")
VAL_FRACTION = 0.05


@dataclass(frozen=True)
class Sample:
    """One photograph.

    Attributes:
        image: bytes [S, S, 3], row 0 at the top.
        landmarks: float32 [68, 2] px at S, x right and y down from the top left corner; NaN where
            unknown.
        confidence: float32 [68] in [0, 1], the c_j of Eq. 9; 0 where unknown.
        path: the file; in a shard the shard's path with the sample's name behind.
        code: float32 [size], the true code of a rendered face; None for photographs.
        dense: float32 [478, 2] px at S, the points of `face.dense_landmarks`, NaN where unknown; None where
            all are.
    """

    image: np.ndarray
    landmarks: np.ndarray
    confidence: np.ndarray
    path: Path
    code: np.ndarray | None = None
    dense: np.ndarray | None = None


class Corpus:
    """A data set of face crops: `corpus[i]` reads the i-th as a `Sample`. `open_corpus` makes them.

    Args:
        path: the folder.
        split: "train" or "val".
        image_size: side S of the samples, px; see `resize_square`.
        max_megapixels: larger pictures are not read.

    Attributes:
        files: where each sample is.
        has_landmarks: whether there are any landmarks.
        has_dense: whether there are any of the 478 points.
        skipped: names of what was found unreadable so far, each once.
        left_out: what else is in the folder and not read, in words; empty: nothing.

    Raises:
        ValueError: another split, or image_size below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str,
        image_size: int,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        who = type(self).__name__
        if split not in SPLITS:
            raise ValueError(f"{who}: split is {split!r}, expected 'train' or 'val'")
        if image_size < 1:
            raise ValueError(f"{who}: image_size is {image_size} px, expected at least 1")
        check_folder_name(path)
        self.path = Path(path)
        self.split = split
        self.image_size = image_size
        self.max_megapixels = max_megapixels
        self.files: list[Path] = []
        self.has_landmarks = self.has_dense = False
        self.skipped: list[str] = []
        self.left_out = ""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            ImageError: it cannot be read.
            IndexError: no such index.
        """
        raise NotImplementedError

    def at_size(self, image_size: int) -> Corpus:
        """The same pictures with sides of `image_size` px; unreadable ones are counted with this corpus's."""
        other = copy.copy(self)
        other.image_size = image_size
        return other

    def report_skipped(self, path: Path, reason: str) -> None:
        """Count what cannot be read and warn about it, once per file."""
        if str(path) not in self.skipped:
            self.skipped.append(str(path))
            warnings.warn(f"skipped picture {len(self.skipped)}: {reason}", stacklevel=2)

    def _sample(
        self,
        square: tuple[np.ndarray, tuple[int, int]],
        known: np.ndarray | None,
        code: np.ndarray | None,
        path: Path,
        dense: np.ndarray | None = None,
    ) -> Sample:
        """A sample of what `read_square` gives and what is known of the whole picture.

        Args:
            square: pixels, and the picture's height and width.
            known: landmarks [68, 3] (x, y, confidence) in px of the picture; None: unknown.
            code: its true code.
            path: where it is.
            dense: [478, 2] in px of the picture; None: unknown.

        Raises:
            ImageError: the landmarks cannot be those of the picture.
        """
        image, (height, width) = square
        for marks in (known, dense):
            if marks is None or code is not None:
                continue  # with a code, the landmarks are its own face model's
            reason = wrong_points(marks[:, :2], height, width)
            if reason:
                raise ImageError(f"{path}: its landmarks {reason}")
        left, top, side = central_square(height, width)
        corner, scale = np.array([left, top], np.float32), np.float32(self.image_size / side)
        if known is None:
            landmarks = np.full((NUM_LANDMARKS, 2), np.nan, np.float32)
            confidence = np.zeros(NUM_LANDMARKS, np.float32)
        else:
            landmarks = (known[:, :2] - corner) * scale
            confidence = known[:, 2].copy()
        placed = None if dense is None else (dense - corner) * scale
        return Sample(image, landmarks, confidence, path, code, placed)


class Photographs(Corpus):
    """The photographs under a folder, sorted by name; `dataset[i]` reads the i-th as a `Sample`.

    Pictures (`picture_formats.IMAGE_SUFFIXES`) are searched for in subfolders too; hidden ones, and those
    that the package wrote as results, are left out (listing.py). Four files in the folder are used when
    present, or in its parent when the folder is called `images`; they name pictures relative to their own
    folder:

    * `index.csv`, columns `file` and `split` (and any others): which pictures belong to "train" and
      "val". Pictures not in it, or with another split, are left out. Without it about one picture
      in twenty, chosen by a hash of its name, is val, the same ones however many others come
      and go; see `split_by_name`.
    * `codes.npz`: `files` [N] text, `codes` [N, size] and `face_model_hash`, of rendered faces (`synthesize`)
      or fitted ones (`fit --codes`); NaN where unknown.
    * `landmarks68.npz`: `files` [N] text, `lm68` [N, 68, 2] iBUG landmarks in px of the picture as a
      viewer shows it, NaN where unknown, and optionally `confidence` [N, 68] in [0, 1], else 1. Where
      half of the rows or more cannot be faces in that frame the table is refused; of fewer, their
      pictures are.
    * `landmarks478.npz`: `files` and `lm478` [N, 478, 2], the points of `face.dense_landmarks`, in the same
      way.

    Args:
        path: the folder.
        split: "train" or "val". The val split may be empty, the train split not.
        image_size: side S of the samples, px; see `resize_square`.
        max_megapixels: larger pictures are not read.

    Attributes:
        base: the folder to which names are relative.
        files: the split's pictures.
        names: theirs below `base`.
        has_landmarks: whether a landmark file was found.
        codes_of: hash of the face model that codes.npz is of; empty: there is none.
        skipped: names of the pictures found unreadable so far, each once.

    Raises:
        DataError: no such folder, no pictures in it, or a file next to them that does not fit. Of
            subfolders that cannot be read a warning tells where there are pictures elsewhere.
        ValueError: another split, or image_size below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str = "train",
        image_size: int = 240,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        super().__init__(path, split, image_size, max_megapixels)
        self.base = base = _find_base(self.path)
        index = base / INDEX_FILE
        names, self.left_out = _find_pictures(self.path, base, index.is_file())
        splits = read_index(index, names, self.path) if index.is_file() else split_by_name(names)
        self.names = [name for name in names if splits.get(name) == split]
        if split == "train" and not self.names:
            raise DataError(f"{index}: no picture under {self.path} has split 'train'")
        self.files = [base / name for name in self.names]

        code_file = base / CODE_FILE
        self._codes, self.codes_of = read_codes(code_file) if code_file.is_file() else ({}, "")
        landmark_file = base / LANDMARK_FILE
        self.has_landmarks = landmark_file.is_file()
        self._landmarks = {}
        if self.has_landmarks:
            self._landmarks = read_landmarks(landmark_file, names, self.path, self._codes)
        dense_file = base / DENSE_FILE
        self.has_dense = dense_file.is_file()
        self._dense = {}
        if self.has_dense:
            self._dense = read_dense_landmarks(dense_file, names, self.path, self._codes)

    def __getitem__(self, index: int) -> Sample:
        """Read one photograph.

        Raises:
            ImageError: it cannot be read.
            IndexError: no such index.
        """
        path, name = self.files[index], self.names[index]
        known, dense = self.landmarks_of(name), self.dense_of(name)
        with Picture(path, "", self.max_megapixels) as picture:
            for marks in (known, dense):
                if marks is None or picture.orientation == 1:
                    continue
                reason = wrong_frame_of([marks[:, :2]], picture, _CHECKED_SIZE)
                if reason:
                    raise ImageError(f"{path}: its landmarks {reason}")
            square = picture_square(picture, self.image_size), (picture.height, picture.width)
        return self._sample(square, known, self.code_of(name), path, dense)

    def landmarks_of(self, name: str) -> np.ndarray | None:
        """Landmarks [68, 3] (x, y, confidence) of a picture in its own px, by its name below `base`."""
        return self._landmarks.get(name)

    def dense_of(self, name: str) -> np.ndarray | None:
        """The 478 points [478, 2] of a picture in its own px, by its name below `base`."""
        return self._dense.get(name)

    def code_of(self, name: str) -> np.ndarray | None:
        """The true code of a rendered picture, by its name below `base`."""
        return self._codes.get(name)


def split_by_name(names: list[str]) -> dict[str, str]:
    """Assign about one picture in twenty to "val" and the others to "train", by a hash of its name.

    Of two or more pictures at least one is val and one train; a single one is train.
    """
    position = {name: _hash_fraction(name.rpartition("/")[2]) for name in names}
    splits = {name: "val" if position[name] < VAL_FRACTION else "train" for name in names}
    if len(names) == 1:
        splits[names[0]] = "train"
    elif names and "val" not in splits.values():
        splits[min(names, key=lambda name: (position[name], name))] = "val"
    elif names and "train" not in splits.values():
        splits[max(names, key=lambda name: (position[name], name))] = "train"
    return splits


def _hash_fraction(name: str) -> float:
    digest = hashlib.sha1(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def check_folder_name(folder: str | os.PathLike[str]) -> None:
    """Raise DataError for an empty name: a Path of it would be the working directory."""
    if not os.fspath(folder):
        raise DataError(
            "the name of the folder of photographs is empty; '.' is the working directory"
        )


def _find_base(folder: Path) -> Path:
    """The folder to which the names of pictures are relative: where index and landmarks are."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder of photographs")
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; give the folder that holds the photographs")
    parent = folder.absolute().parent
    if folder.absolute().name == "images" and not _has_metadata(folder) and _has_metadata(parent):
        return parent
    return folder.absolute()


def _has_metadata(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (INDEX_FILE, LANDMARK_FILE, DENSE_FILE))


def _find_pictures(folder: Path, base: Path, listed: bool) -> tuple[list[str], str]:
    """Sorted names of the pictures under a folder, relative to `base`, and what is not read, in words.

    Args:
        folder: where to look.
        base: the folder to which names are relative, with forward slashes.
        listed: there is an index, which says what counts.
    """
    inventory = Inventory()
    found = inventory.photographs(folder.absolute(), listed=listed)
    closed, account = inventory.closed, str(inventory)
    which = ", ".join(sorted(f"{e.filename} ({e.strerror or e})" for e in closed))
    if not found and closed:
        raise DataError(f"{folder}: no pictures that can be read; cannot look into {which}")
    if not found:
        kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise DataError(
            f"{folder}: no pictures here or in its subfolders"
            + (f"; {account}" if account else f" ({kinds})")
        )
    if closed:
        warnings.warn(f"{folder}: left out what cannot be looked into: {which}", stacklevel=3)
    return sorted(path.relative_to(base).as_posix() for path in found), account
