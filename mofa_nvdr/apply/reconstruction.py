"""From face crops to parameters and pictures, with a trained encoder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.apply.certainty import face_certainty
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.result_files import (
    Written,
    check_source,
    image_paths,
    with_measures,
    write_result,
)
from mofa_nvdr.apply.sources import Source, name_sources
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS
from mofa_nvdr.data.images import ImageError, central_square, read_square
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.render.pictures import panels
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.system.files import check_out
from mofa_nvdr.system.notes import say

# Below this certainty a warning names the picture. How it was chosen: docs/howto_photographs.md
DOUBTFUL = 0.5


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
        NothingWrittenError: every image was left out.
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
    written.report("reconstruct", "reconstructed", folder, inventory)
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
    path = source.path
    file_hash = check_source(source, folder, overwrite)
    picture = read_square(path, reconstructor.decoder.camera.size[0], max_megapixels)
    parameters, panel = _reconstruct(reconstructor, picture)
    certainty = parameters.certainty
    if certainty < least_certainty:
        raise ImageError(
            f"{path}: no face found, certainty {certainty:.2f} is below --least-certainty"
        )
    written = write_result(source, file_hash, parameters, {"panel": panel}, folder, overwrite)
    if certainty < DOUBTFUL:
        say(
            f"WARNING: {path}: this hardly looks like a face crop (certainty {certainty:.2f}); "
            "look at its panel",
            sys.stderr,
        )
    return written


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
        camera=decoder.pinhole,
        crop=np.array(central_square(height, width), np.float64),
        face_model=(decoder.model.name, decoder.model.hash),
        source="",
        face_model_file=reconstructor.face_model.file,
        certainty=face_certainty(image, rendering).item(),
    )
    (parameters,) = with_measures([parameters], image, rendering)
    return parameters, panels(image, rendering)[0]
