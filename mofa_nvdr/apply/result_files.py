"""What commands that make parameter files of photographs have in common: where results go, and what is said.

`reconstruct` and `fit` write NAME.npz and NAME_panel.png into one folder, each in the place that its
photograph has in its own (sources.py).
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.provenance import origin_of, photo_origin
from mofa_nvdr.apply.source_photo import way_to
from mofa_nvdr.apply.sources import Source
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.listing import Inventory, not_a_photograph
from mofa_nvdr.losses.mofa import photometric_raster
from mofa_nvdr.render.decoder import RasterFace
from mofa_nvdr.render.pictures import write_jpeg, write_png
from mofa_nvdr.system.marks import read_mark
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import content_hash, is_free

_SHEET = "sheet of faces"
_WAY_OUT = "give another --out, or --overwrite"


class Written(list[Path]):
    """The .npz files that a command wrote.

    Attributes:
        left_out: a line for each input without a result, which begins with the file's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[str] = []

    def report(self, command: str, verb: str, folder: Path, inventory: Inventory) -> None:
        """Say what was written, and what not and why.

        Raises:
            NothingWrittenError: nothing was.
        """
        if not self:
            more = f"; and {len(self.left_out) - 1} more" if len(self.left_out) > 1 else ""
            raise NothingWrittenError(f"{command}: nothing {verb}: {self.left_out[0]}{more}")
        for reason in self.left_out:
            say(f"skipped: {reason}", sys.stderr)
        if str(inventory):
            say(f"note: {inventory}", sys.stderr)
        say(f"{len(self)} {verb}, {len(self.left_out)} skipped: {folder}")


class NothingWrittenError(ValueError):
    """No input has a result; the message names the first of them and why."""

    exit_code = 3  # cli.NOTHING_DONE


def image_paths(
    inputs: Sequence[str | Path], inventory: Inventory | None = None, command: str = "reconstruct"
) -> list[Path]:
    """Image files and the pictures in folders, below too.

    Args:
        inputs: files, which are inputs whatever they are, and folders.
        inventory: counts what is not an input; None: it is not asked for.
        command: what messages call it.

    Raises:
        ValueError: nothing given, something missing, or a folder without pictures.
    """
    inventory = inventory or Inventory()
    if not inputs:
        raise ValueError(f"{command}: no input; give image files or folders of images")
    paths: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found = inventory.photographs(path)
            if not found:
                more = f"; {inventory}" if str(inventory) else ""
                raise ValueError(f"{name}: no pictures in this folder{more}")
            paths.extend(found)
        elif path.is_file():
            paths.append(path)
        else:
            raise ValueError(f"{name}: no such image or folder")
    return paths


def check_source(source: Source, folder: Path, overwrite: bool) -> str:
    """The content hash of a photograph whose result may be written.

    Raises:
        ImageError: it is a file that the package wrote itself, cannot be read, or the place of its result
            holds another one's.
    """
    if other := not_a_photograph(source.path):
        raise ImageError(other)
    try:
        file_hash = content_hash(source.path)
    except OSError as error:
        raise ImageError(f"{source.path}: cannot read it ({error.strerror})") from None
    if not overwrite:
        check_place(source, folder, file_hash)
    return file_hash


def check_place(source: Source, folder: Path, file_hash: str) -> None:
    """Refuse to replace what is no earlier result of this photograph.

    Raises:
        ImageError: the place of its result holds something else.
    """
    _check_place(source.path, result_path(source, folder), (source.name, file_hash))


def check_pictures(source: Source, file_hash: str, paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace pictures that were not made of this photograph.

    Raises:
        ImageError: one of the places holds something else.
    """
    for path in paths:
        if not overwrite and not is_free(path, photo_origin(file_hash)):
            raise ImageError(f"{source.path}: {path} is there, and no result of it; {_WAY_OUT}")


def write_sheet(path: Path, picture: np.ndarray, overwrite: bool) -> None:
    """Write a sheet of many faces where nothing is but an earlier one; else a note says so."""
    if path.exists() and not overwrite and read_mark(path) != _SHEET:
        say(f"note: {path} is there, and no sheet of faces; {_WAY_OUT}", sys.stderr)
        return
    write_jpeg(path, picture, kind=_SHEET)


def result_path(source: Source, folder: Path) -> Path:
    """Where a photograph's parameters go."""
    return folder / f"{source.result}.npz"


def write_result(
    source: Source,
    file_hash: str,
    parameters: FaceParameters,
    pictures: Mapping[str, np.ndarray],
    folder: Path,
    overwrite: bool,
    more: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write the parameters and pictures of one photograph; returns the .npz.

    Args:
        source: the photograph.
        file_hash: of `check_source`.
        parameters: without their source.
        pictures: kind -> uint8 [H, W, 3] or [H, W]; written as NAME_KIND.png.
        folder: of all results.
        overwrite: replace what is there, whatever it came of.
        more: further arrays of the .npz, as `FaceParameters.save` takes them.

    Raises:
        ImageError: the place of a picture is taken by something else.
        OSError: the folder cannot be written.
    """
    target = result_path(source, folder)
    parameters = dataclasses.replace(
        parameters,
        source=source.name,
        source_hash=file_hash,
        source_file=way_to(source.path, target.parent),
    )
    origin = origin_of(parameters)
    files = {kind: folder / f"{source.result}_{kind}.png" for kind in pictures}
    for path in files.values():
        if not overwrite and not is_free(path, origin):
            raise ImageError(f"{source.path}: {path} is there, and no result of it; {_WAY_OUT}")
    target.parent.mkdir(parents=True, exist_ok=True)
    parameters.save(target, more)
    for kind, picture in pictures.items():
        write_png(files[kind], picture, kind=kind, comment=origin)
    return target


def with_measures(
    parameters: Sequence[FaceParameters], photo: Tensor, face: RasterFace
) -> list[FaceParameters]:
    """Parameters with what their rendering says of them: photometric, mask_fraction and landmarks68.

    Args:
        parameters: of B faces.
        photo: their crops [B, 3, S, S] in [0, 1]; NaN: no photograph there.
        face: their rendering at the same size.
    """
    side = photo.shape[-1]
    assert face.landmarks is not None
    landmarks = face.landmarks.detach().cpu().double().numpy()
    photometric, fraction = photometric_raster(face, photo), face.mask.flatten(1).mean(1)
    return [
        dataclasses.replace(
            one,
            photometric=float(photometric[k]),
            mask_fraction=float(fraction[k]),
            landmarks68=one.crop[:2] + landmarks[k] * (one.crop[2] / side),
        )
        for k, one in enumerate(parameters)
    ]


def _check_place(path: Path, target: Path, source: tuple[str, str]) -> None:
    """Raise ImageError where the place of a result holds what is none of this (source, source_hash)."""
    if not os.path.lexists(target) or target.is_dir():  # writing complains of a folder
        return
    try:
        there = load_parameters(target)
    except ValueError:
        raise ImageError(f"{path}: {target} is there, and no result of it; {_WAY_OUT}") from None
    if (there.source, there.source_hash) == source:
        return
    whose = (
        f"another photograph ({there.source}), or of another state of it"
        if there.source_hash
        else f"{there.source} by an earlier version, which kept no hash of it"
    )
    raise ImageError(f"{path}: {target} is the result of {whose}; {_WAY_OUT}")
