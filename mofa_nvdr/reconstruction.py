"""From face crops to parameters and pictures, with a trained encoder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mofa_nvdr.camera import Camera
from mofa_nvdr.checkpoint import (
    CheckpointError,
    check_face_model,
    find_checkpoint,
    read_checkpoint,
    restore_encoder,
)
from mofa_nvdr.config import TrainConfig
from mofa_nvdr.data.images import ImageError, central_square, read_image, resize_square
from mofa_nvdr.data.photographs import IMAGE_SUFFIXES
from mofa_nvdr.decoder import FaceDecoder
from mofa_nvdr.device import resolve_device
from mofa_nvdr.encoder import Encoder
from mofa_nvdr.face_code import FaceCode
from mofa_nvdr.face_model import FaceModel
from mofa_nvdr.objective import make_encoder
from mofa_nvdr.parameters import FaceParameters
from mofa_nvdr.pictures import panels, write_png

_PANEL = "_panel.png"


@dataclass(frozen=True)
class Reconstructor:
    """A trained encoder with the decoder it was trained with.

    Attributes:
        encoder: in evaluation mode.
        decoder: raster mode, at the training's image size and camera.
        device: where both live.
    """

    encoder: Encoder
    decoder: FaceDecoder
    device: torch.device

    @staticmethod
    def load(run: str | Path, face_model: str = "default", device: str = "auto") -> Reconstructor:
        """Load a run folder's newest checkpoint, or a checkpoint file.

        Raises:
            ValueError: no checkpoint there, not readable, or trained with another face model.
            RuntimeError: CUDA asked for where there is none.
        """
        path = find_checkpoint(run)
        where = resolve_device(device)
        tensors, metadata = read_checkpoint(path)
        model = FaceModel.load(face_model)
        try:
            check_face_model(metadata, model.name, model.hash, path)
            # The weights come from the checkpoint; the file that training began with may be gone.
            config = TrainConfig(**{**metadata["config"], "encoder_weights": ""})
            camera = Camera(**metadata["camera"])
            encoder = make_encoder(config, model.layout)
            restore_encoder(encoder, tensors)
        except (KeyError, TypeError, RuntimeError) as error:  # of another version, or edited
            raise CheckpointError(
                f"{path}: not a checkpoint that this version can read ({error})"
            ) from error
        decoder = FaceDecoder(model, camera=camera)
        return Reconstructor(encoder.eval().to(where), decoder.to(where), where)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> FaceCode:
        """Codes of face crops [B, 3, S, S] in [0, 1] at the training's image size."""
        return self.decoder.model.layout.unpack(self.encoder(images.to(self.device)))


def reconstruct_files(
    inputs: Sequence[str | Path],
    checkpoint: str | Path,
    out: str | Path,
    face_model: str = "default",
    device: str = "auto",
) -> list[Path]:
    """Write NAME.npz and NAME_panel.png into `out` for each image; returns the .npz paths.

    An input that is no image is skipped and named on stderr; so is a second one of the same name.

    Args:
        inputs: image files or folders of images (face crops, square or nearly so: of others the
            central square is taken).
        checkpoint: run folder or checkpoint file.
        out: folder, made when missing.
        face_model: the model that the run was trained with.
        device: auto, cpu or cuda.

    Raises:
        ValueError: no readable image at all, or a mistake in the checkpoint or the folder.
        RuntimeError: CUDA asked for where there is none.
    """
    folder = Path(out)
    paths = _image_paths(inputs)
    reconstructor = Reconstructor.load(checkpoint, face_model, device)
    written: list[Path] = []
    skipped: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in tqdm(paths, unit="face", disable=not sys.stderr.isatty()):
            target = folder / f"{path.stem}.npz"
            try:
                if target in written:
                    raise ImageError(f"{path}: another input has the same name")
                picture = read_image(path)
            except ImageError as error:
                skipped.append(str(error))
                continue
            parameters, panel = _reconstruct(reconstructor, picture, path.name)
            parameters.save(target)
            write_png(folder / f"{path.stem}{_PANEL}", panel)
            written.append(target)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    if not written:
        more = f"; and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        raise ValueError(f"reconstruct: no readable picture: {skipped[0]}{more}")
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    print(f"{len(written)} reconstructed, {len(skipped)} skipped: {folder}")
    return written


def _reconstruct(
    reconstructor: Reconstructor, picture: np.ndarray, source: str
) -> tuple[FaceParameters, np.ndarray]:
    decoder = reconstructor.decoder
    square = torch.from_numpy(resize_square(picture, decoder.camera.size[0]))
    image = square.permute(2, 0, 1)[None].float().div(255).to(reconstructor.device)
    code = reconstructor(image)
    with torch.no_grad():
        rendering = decoder.rasterize(decoder.geometry(code))
    parameters = FaceParameters(
        code=code.map(lambda part: part.cpu()),
        camera=decoder.camera,
        crop=np.array(central_square(*picture.shape[:2]), np.float64),
        face_model=(decoder.model.name, decoder.model.hash),
        source=source,
    )
    return parameters, panels(image, rendering)[0]


def _image_paths(inputs: Sequence[str | Path]) -> list[Path]:
    if not inputs:
        raise ValueError("reconstruct: no input; give image files or folders of images")
    paths: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if _is_picture(p)]
            if not found:
                raise ValueError(f"{name}: no pictures in this folder")
            paths.extend(found)
        elif path.is_file():
            paths.append(path)
        else:
            raise ValueError(f"{name}: no such image or folder")
    return paths


def _is_picture(path: Path) -> bool:
    """Whether a file in a folder is an input: not hidden, and no panel of an earlier call."""
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    return not (
        path.name.endswith(_PANEL)
        and path.with_name(path.name.removesuffix(_PANEL) + ".npz").is_file()
    )
