"""From face crops to parameters and pictures, with a trained encoder."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.apply.certainty import face_certainty
from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.apply.sources import Source, name_sources
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS
from mofa_nvdr.data.images import ImageError, central_square, read_square
from mofa_nvdr.data.listing import Inventory, not_a_photograph
from mofa_nvdr.render.pictures import panels, write_png
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.system.files import check_out
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import content_hash, is_free

_PANEL = "_panel.png"
_WAY_OUT = "give another --out, or --overwrite"


# Below this certainty a warning names the picture. How it was chosen: docs/howto_photographs.md
DOUBTFUL = 0.5


class Written(list[Path]):
    """The .npz files of `reconstruct_files`.

    Attributes:
        left_out: a line for each input without a result, which begins with the file's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[str] = []


class NothingReconstructedError(ValueError):
    """No input has a result; the message names the first of them and why."""

    exit_code = 3  # cli.NOTHING_DONE


def reconstruct_files(
    inputs: Sequence[str | Path],
    checkpoint: str | Path,
    out: str | Path,
    face_model: str = "",
    device: str = "auto",
    runtime: str = "torch",
    max_megapixels: float = MAX_MEGAPIXELS,
    overwrite: bool = False,
    least_certainty: float = 0.0,
) -> Written:
    """Write NAME.npz and NAME_panel.png into `out` for each image; returns the .npz paths.

    Results lie in `out` as the images do in their folders (sources.py), and replace only earlier ones of the
    same file: the same `source` and `source_hash`. An input that is no image, that the package wrote
    itself, or whose place another file's result has, is left out and named on stderr. So is, with a
    warning, one that hardly looks like a face. What else is in a folder is counted.

    Args:
        inputs: image files or folders of images (face crops, square or nearly so: of others the
            central square is taken).
        checkpoint: run folder or checkpoint file; with runtime "onnx" a run folder with an exported
            encoder, or an .onnx file.
        out: folder, made if missing.
        face_model: the model that the run was trained with; empty: found by the run.
        device: of system.device.resolve_device.
        runtime: what the encoder runs in: torch or onnx.
        max_megapixels: larger images are not read.
        overwrite: replace what is in the place of a result, whatever it was made from.
        least_certainty: leave images out that are less certain to show a face (certainty.py).

    Raises:
        NothingReconstructedError: every image was left out.
        ValueError: a mistake in the inputs, the checkpoint or the folder.
        RuntimeError: CUDA asked for where there is none, or ONNX Runtime is not installed.
    """
    check_out(str(out))
    if not 0 <= least_certainty <= 1:
        raise ValueError(f"--least-certainty is {least_certainty}, expected 0 to 1")
    folder = Path(out)
    if not inputs:
        image_paths([])  # raises
    inventory = Inventory()
    sources = name_sources([(given, image_paths([given], inventory)) for given in inputs])
    reconstructor = Reconstructor.load(checkpoint, face_model, device, runtime)
    written = Written()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in tqdm(sources, unit="face", disable=not sys.stderr.isatty()):
            try:
                written.append(
                    _reconstruct_file(
                        reconstructor, source, folder, max_megapixels, overwrite, least_certainty
                    )
                )
            except ImageError as error:
                written.left_out.append(str(error))
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    left_out = written.left_out
    if not written:
        more = f"; and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        raise NothingReconstructedError(f"reconstruct: nothing reconstructed: {left_out[0]}{more}")
    for reason in left_out:
        say(f"skipped: {reason}", sys.stderr)
    if str(inventory):
        say(f"note: {inventory}", sys.stderr)
    say(f"{len(written)} reconstructed, {len(left_out)} skipped: {folder}")
    return written


def _reconstruct_file(
    reconstructor: Reconstructor,
    source: Source,
    folder: Path,
    max_megapixels: float,
    overwrite: bool,
    least_certainty: float,
) -> Path:
    """Write the results of one photograph; returns the .npz.

    Raises:
        ImageError: it has none; the message says why.
        OSError: the folder cannot be written.
    """
    path, target = source.path, folder / f"{source.result}.npz"
    panel_file = folder / f"{source.result}{_PANEL}"
    if other := not_a_photograph(path):
        raise ImageError(other)
    picture = read_square(path, reconstructor.decoder.camera.size[0], max_megapixels)
    try:
        file_hash = content_hash(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot read it ({error.strerror})") from None
    if not overwrite:
        _check_place(path, target, (source.name, file_hash))
    parameters, panel = _reconstruct(reconstructor, picture)
    parameters = dataclasses.replace(parameters, source=source.name, source_hash=file_hash)
    certainty = parameters.certainty
    if certainty < least_certainty:
        raise ImageError(
            f"{path}: no face found, certainty {certainty:.2f} is below --least-certainty"
        )
    origin = origin_of(parameters)
    if not overwrite and not is_free(panel_file, origin):
        raise ImageError(f"{path}: {panel_file} is there, and no result of it; {_WAY_OUT}")
    if certainty < DOUBTFUL:
        say(
            f"WARNING: {path}: this hardly looks like a face crop (certainty {certainty:.2f}); "
            "look at its panel",
            sys.stderr,
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    parameters.save(target)
    write_png(panel_file, panel, kind="panel", comment=origin)
    return target


def _check_place(path: Path, target: Path, source: tuple[str, str]) -> None:
    """Raise ImageError where the place of a result holds what is none of this (source, source_hash)."""
    if not os.path.lexists(target) or target.is_dir():  # writing complains of a folder
        return
    try:
        there = load_parameters(target)
    except ValueError:
        raise ImageError(
            f"{path}: {target} is there, and no result of reconstruct; {_WAY_OUT}"
        ) from None
    if (there.source, there.source_hash) == source:
        return
    whose = (
        f"another photograph ({there.source}), or of another state of it"
        if there.source_hash
        else f"{there.source} by an earlier version, which kept no hash of it"
    )
    raise ImageError(f"{path}: {target} is the result of {whose}; {_WAY_OUT}")


def _reconstruct(
    reconstructor: Reconstructor, picture: tuple[np.ndarray, tuple[int, int]]
) -> tuple[FaceParameters, np.ndarray]:
    """Parameters, without their source, and the panel of what `read_square` gives."""
    decoder = reconstructor.decoder
    pixels, (height, width) = picture
    square = torch.from_numpy(pixels)
    image = square.permute(2, 0, 1)[None].float().div(255).to(reconstructor.device)
    code = reconstructor(image)
    with torch.no_grad():
        rendering = decoder.rasterize(decoder.geometry(code))
    parameters = FaceParameters(
        code=code.map(lambda part: part.cpu()),
        camera=decoder.camera,
        crop=np.array(central_square(height, width), np.float64),
        face_model=(decoder.model.name, decoder.model.hash),
        source="",
        face_model_file=reconstructor.face_model.file,
        certainty=face_certainty(image, rendering).item(),
    )
    return parameters, panels(image, rendering)[0]


def image_paths(inputs: Sequence[str | Path], inventory: Inventory | None = None) -> list[Path]:
    """Image files and the pictures in folders, below too.

    Args:
        inputs: files, which are inputs whatever they are, and folders.
        inventory: counts what is not an input; None: it is not asked for.

    Raises:
        ValueError: nothing given, something missing, or a folder without pictures.
    """
    inventory = inventory or Inventory()
    if not inputs:
        raise ValueError("reconstruct: no input; give image files or folders of images")
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
