"""The landmarks that lie next to a command's photographs: found, read, and checked against the pixels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mofa_nvdr.data.crops.finder import FaceFinder
from mofa_nvdr.data.crops.landmark_checks import wrong_frame_of
from mofa_nvdr.data.crops.landmark_files import (
    TABLE_ORDER,
    Folders,
    KnownFaces,
    LandmarkError,
    landmarks_next_to,
    read_tables,
)
from mofa_nvdr.data.decoding import Picture


class KnownPoints:
    """What tables and files say of photographs; threads may share one.

    Args:
        photographs: all of the command.
        finder: checks the points of pictures in which it sees faces.
        longest: longer side of the copies that it looks at, px.
        order: numbers of points of tables; of a folder's the first is taken.

    Attributes:
        notes: of rows that belong to no photograph, or to which one cannot be told.

    Raises:
        DataError: a table that cannot be read, or of other arrays.
    """

    def __init__(
        self,
        photographs: Iterable[Path],
        finder: FaceFinder,
        longest: int,
        order: tuple[int, ...] = TABLE_ORDER,
    ) -> None:
        tables = read_tables(photographs, order)
        self.notes = tables.notes
        self._known, self._folders = tables.known, Folders()
        self._finder, self._longest = finder, longest

    def of(self, path: Path) -> KnownFaces:
        """What is known of a photograph: by its folder's table, else by a file of its name.

        Raises:
            LandmarkError: a file of landmarks that is damaged or cannot be read, or two that may be meant.
        """
        return self._known.get(path) or landmarks_next_to(path, self._folders)

    def check(self, known: KnownFaces, path: Path, picture: Picture) -> None:
        """Compare known points with the photograph.

        Raises:
            LandmarkError: they are of another frame or order; the message says what they look like.
            ImageError: the photograph cannot be decoded.
        """
        if known.points is None:
            return
        seen = self._finder.sure(picture)
        reason = wrong_frame_of(known.points, picture, self._longest, self._finder.check, seen)
        if reason:
            raise LandmarkError(f"{known.file}: the points of {path.name} {reason}")
