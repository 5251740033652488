"""Photographs and the faces in them, for commands that take a photograph or the .npz of its face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mofa_nvdr.apply.fit_files import PhotographFitter
from mofa_nvdr.apply.parameters import FaceParameters, load_face
from mofa_nvdr.apply.source_photo import source_photo
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.on_request import NetworkMissingError


@dataclass(frozen=True)
class PhotoFace:
    """A face in a photograph.

    Attributes:
        path: of the photograph.
        parameters: the face; its crop is in the photograph's pixels.
        model: that the parameters are of.
    """

    path: Path
    parameters: FaceParameters
    model: FaceModel


class PhotoFaces:
    """Finds the faces of photographs; the networks are loaded when the first one has to be fitted.

    Args:
        face_model: as FaceModel.load takes it; empty: that of a parameter file, or "portraits".
        command: what messages call it.
    """

    def __init__(self, face_model: str, command: str) -> None:
        self._face_model, self._command = face_model, command

    def __call__(self, source: str | Path, photo: str = "") -> PhotoFace:
        """The face of a photograph, whose largest is fitted; or of a parameter file with its photograph.

        Args:
            source: a photograph or an .npz.
            photo: the photograph of an .npz; empty: the one that it names.

        Raises:
            NetworkMissingError: a photograph is to be fitted, and the landmark networks are not here.
            ValueError: one cannot be read, is not there, or shows no face.
        """
        if not is_parameters(source):
            if photo:
                raise ValueError(
                    f"--photo {photo}: {source} is a photograph already; --photo is for the .npz of a face"
                )
            if not Path(source).exists():  # before anything about networks
                raise ValueError(f"{source}: no such file")
            return PhotoFace(Path(source), self.fitted(source), self._fitter.model)
        models: dict[str, FaceModel] = {}
        face = load_face(source, self._face_model, models)
        path = photograph_of(Path(source), face, photo)
        return PhotoFace(path, face, models[face.face_model[1]])

    def fitted(self, path: str | Path) -> FaceParameters:
        """The largest face of a photograph.

        Raises:
            NetworkMissingError, ImageError: as above.
        """
        return self._fitter(path)

    @cached_property
    def _fitter(self) -> PhotographFitter:
        try:
            return PhotographFitter(self._face_model, self._command)
        except NetworkMissingError as error:
            raise NetworkMissingError(
                f"{error}; or give the .npz of a face that is fitted already"
            ) from None


def is_parameters(path: str | Path) -> bool:
    """Whether a file's name says that it holds parameters."""
    return Path(path).suffix.lower() == ".npz"


def photograph_of(npz: Path, face: FaceParameters, given: str = "") -> Path:
    """The photograph of a parameter file: the given one, or the one that it names.

    Raises:
        ValueError: it is not there, or what is given is no photograph.
    """
    return source_photo(npz, face, given, "draw the face alone with --parameters-only")
