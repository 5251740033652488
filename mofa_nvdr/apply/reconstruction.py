"""From face crops to parameters and pictures, with a trained encoder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS
from mofa_nvdr.data.images import ImageError, central_square, read_square
from mofa_nvdr.data.listing import Inventory, not_a_photograph
from mofa_nvdr.render.pictures import panels, write_png
from mofa_nvdr.runs.trained import Reconstructor

_PANEL = "_panel.png"


def reconstruct_files(
    inputs: Sequence[str | Path],
    checkpoint: str | Path,
    out: str | Path,
    face_model: str = "",
    device: str = "auto",
    runtime: str = "torch",
    max_megapixels: float = MAX_MEGAPIXELS,
) -> list[Path]:
    """Write NAME.npz and NAME_panel.png into `out` for each image; returns the .npz paths.

    An input that is no image is skipped and named on stderr; so is a second one of the same name, and what
    the package wrote itself. What else is in a folder is counted.

    Args:
        inputs: image files or folders of images (face crops, square or nearly so: of others the
            central square is taken).
        checkpoint: run folder or checkpoint file; with runtime "onnx" a run folder with an exported
            encoder, or an .onnx file.
        out: folder, made if missing.
        face_model: the model that the run was trained with; empty: found by the run.
        device: auto, cpu or cuda.
        runtime: what the encoder runs in: torch or onnx.
        max_megapixels: larger images are not read.

    Raises:
        ValueError: no readable image at all, or a mistake in the checkpoint or the folder.
        RuntimeError: CUDA asked for where there is none, or ONNX Runtime is not installed.
    """
    folder = Path(out)
    inventory = Inventory()
    paths = image_paths(inputs, inventory)
    reconstructor = Reconstructor.load(checkpoint, face_model, device, runtime)
    written: list[Path] = []
    skipped: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in tqdm(paths, unit="face", disable=not sys.stderr.isatty()):
            target = folder / f"{path.stem}.npz"
            try:
                if other := not_a_photograph(path):
                    raise ImageError(other)
                if target in written:
                    raise ImageError(f"{path}: another input has the same name")
                size = reconstructor.decoder.camera.size[0]
                picture = read_square(path, size, max_megapixels)
            except ImageError as error:
                skipped.append(str(error))
                continue
            parameters, panel = _reconstruct(reconstructor, picture, path.name)
            parameters.save(target)
            write_png(folder / f"{path.stem}{_PANEL}", panel, kind="panel")
            written.append(target)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    if not written:
        more = f"; and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        raise ValueError(f"reconstruct: no readable picture: {skipped[0]}{more}")
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if str(inventory):
        print(f"note: {inventory}", file=sys.stderr)
    print(f"{len(written)} reconstructed, {len(skipped)} skipped: {folder}")
    return written


def _reconstruct(
    reconstructor: Reconstructor, picture: tuple[np.ndarray, tuple[int, int]], source: str
) -> tuple[FaceParameters, np.ndarray]:
    """Parameters and panel of what `read_square` gives."""
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
        source=source,
        face_model_file=reconstructor.face_model.file,
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
