"""The faces that a viewer may open: one file, or those in a folder and nothing outside of it."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from mofa_nvdr.apply.clip_parameters import load_named_face, names_face
from mofa_nvdr.apply.parameters import CLIP_KEY, FaceParameters, load_parameters
from mofa_nvdr.apply.photo_faces import PhotoFaces, is_parameters
from mofa_nvdr.apply.source_photo import named_photograph, photograph_in
from mofa_nvdr.apply.viewing import SIZE, ViewedFace
from mofa_nvdr.data.decoding import ImageError
from mofa_nvdr.data.images import read_image
from mofa_nvdr.data.listing import Inventory, is_parameter_file, not_a_photograph
from mofa_nvdr.data.video_files import is_video
from mofa_nvdr.face.model import BUILT_IN, FaceModel
from mofa_nvdr.system.array_files import npz_members
from mofa_nvdr.system.notes import say

_KEPT = 4  # faces that stay in memory
_MOST = 1000  # that are listed


class FaceLibrary:
    """Faces by name.

    Args:
        source: an .npz of a face, CLIP.npz#120, a photograph, or a folder of both.
        photo: the photograph of one .npz; empty: the one that it names.
        face_model: as FaceModel.load takes it; empty: that of a parameter file, or "portraits".
        size: px of a picture's side.

    Attributes:
        names: of the faces, in a folder their paths below it, with forward slashes.

    Raises:
        ValueError: no such file, or a folder without a face.
    """

    def __init__(
        self, source: str | Path, photo: str = "", face_model: str = "", size: int = SIZE
    ) -> None:
        self._photo, self._face_model, self._size = photo, face_model, size
        self._finder = PhotoFaces(face_model, "view")
        self._kept: OrderedDict[str, ViewedFace] = OrderedDict()
        self._folder: Path | None = None
        self._source = str(source)
        path = Path(source)
        if not path.is_dir():
            self.names = [path.name]
            return
        if photo:
            raise ValueError(f"--photo {photo}: {source} is a folder; give one .npz with it")
        self._folder = path.resolve()
        self.names = self._listed(self._folder)
        if not self.names:
            raise ValueError(
                f"{source}: no face in this folder; expected .npz files of mofa-nvdr reconstruct or fit, or "
                "photographs"
            )

    def open(self, name: str) -> ViewedFace:
        """The face of a name; the last few are kept.

        Raises:
            NetworkMissingError: a photograph is to be fitted, and the landmark networks are not here.
            ValueError: none of `names`, or the file cannot be read, shows no face or leads out of the folder.
        """
        if name not in self.names:
            raise ValueError(f"view: no face {name!r} here")
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        face = self._given() if self._folder is None else self._in(self._folder, name)
        self._kept[name] = face
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return face

    def _given(self) -> ViewedFace:
        """The one face that was named; its photograph may be missing, which a note says."""
        source = self._source
        if is_video(source):
            raise ImageError(
                f"{source}: a video; mofa-nvdr reconstruct makes CLIP.npz of it, whose frame 120 is "
                "CLIP.npz#120"
            )
        if not names_face(source):
            if other := not_a_photograph(Path(source)):
                raise ImageError(other)
            return self._photograph(Path(source), self.names[0])
        models: dict[str, FaceModel] = {}
        face = load_named_face(source, self._face_model, models)
        model = models[face.face_model[1]]
        path: Path | None = None
        if self._photo:
            path = self._finder(source, self._photo).path
        elif is_parameters(source):
            path = named_photograph(Path(source), face)
        if path is None:
            say(
                f"note: {source}: its photograph is not here, the face is shown alone (--photo gives it)"
            )
        photo = None if path is None else read_image(path)
        return ViewedFace(self.names[0], face, model, photo, self._size)

    def _in(self, folder: Path, name: str) -> ViewedFace:
        path = self._inside(folder, folder / name)
        if not is_parameters(path):
            return self._photograph(path, name)
        face = load_parameters(path)
        self._check_model(folder, path, face)
        models: dict[str, FaceModel] = {}
        face = load_named_face(path, self._face_model, models)
        near = [p for p in (path.parent, path.parent.parent, folder) if _is_below(folder, p)]
        named = photograph_in(face, near) if _is_plain(face.source) else None
        photo = None
        if named is not None and _is_below(folder, named.resolve()):
            photo = read_image(named)
        return ViewedFace(name, face, models[face.face_model[1]], photo, self._size)

    def _photograph(self, path: Path, name: str) -> ViewedFace:
        found = self._finder(path)
        return ViewedFace(name, found.parameters, found.model, read_image(path), self._size)

    def _check_model(self, folder: Path, path: Path, face: FaceParameters) -> None:
        """A file of the folder names no face model outside of it; the user may."""
        file = face.face_model_file
        if self._face_model or not file or file in BUILT_IN:
            return
        if not _is_below(folder, Path(file).resolve()) and Path(file).is_file():
            raise ValueError(
                f"{path.name}: its face model lies outside of the folder; give it as --face-model"
            )

    @staticmethod
    def _inside(folder: Path, path: Path) -> Path:
        real = path.resolve()
        if not _is_below(folder, real):
            raise ValueError(f"{path.name}: leads out of the folder")
        return real

    @staticmethod
    def _listed(folder: Path) -> list[str]:
        """Parameter files and photographs below a folder that do not lead out of it, as paths below it."""
        found = []
        for root, folders, files in os.walk(folder):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in sorted(files):
                path = Path(root) / name
                if is_parameters(name) and not name.startswith(".") and is_parameter_file(path):
                    if CLIP_KEY not in npz_members(path):
                        found.append(path)
        found += Inventory().photographs(folder)
        inside = [path for path in found if _is_below(folder, path.resolve())]
        if len(inside) > _MOST:
            say(f"note: {folder}: {len(inside)} faces, the first {_MOST} are listed")
        return [path.relative_to(folder).as_posix() for path in inside[:_MOST]]


def _is_below(folder: Path, path: Path) -> bool:
    return path == folder or folder in path.parents


def _is_plain(source: str) -> bool:
    """Whether a file's path is relative and never goes up."""
    return not Path(source).is_absolute() and ".." not in Path(source).parts
