"""From face crops to parameters and pictures, with a trained encoder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.camera import Camera
from mofa_nvdr.checkpoint import check_face_model, find_checkpoint, read_checkpoint, restore_encoder
from mofa_nvdr.config import TrainConfig
from mofa_nvdr.data.images import ImageError, central_square, read_image, resize_square
from mofa_nvdr.data.photographs import IMAGE_SUFFIXES
from mofa_nvdr.decoder import FaceDecoder
from mofa_nvdr.device import resolve_device
from mofa_nvdr.encoder import Encoder
from mofa_nvdr.face_code import FaceCode
from mofa_nvdr.face_model import FaceModel
from mofa_nvdr.parameters import FaceParameters
from mofa_nvdr.pictures import panels, write_png
from mofa_nvdr.training import make_encoder


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
        """
        path = find_checkpoint(run)
        tensors, metadata = read_checkpoint(path)
        model = FaceModel.load(face_model)
        check_face_model(metadata, model.name, model.hash, path)
        config = TrainConfig(**{**metadata["config"], "encoder_weights": ""})
        where = resolve_device(device)
        encoder = make_encoder(config, model.layout)
        restore_encoder(encoder, tensors)
        decoder = FaceDecoder(model, camera=Camera(**metadata["camera"]))
        return Reconstructor(encoder.eval().to(where), decoder.to(where), where)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> FaceCode:
        """Codes of face crops [B, 3, S, S] in [0, 1] at the training's image size."""
        return self.decoder.model.layout.unpack(self.encoder(images.to(self.device)))


def reconstruct_files(
    inputs: list[str],
    checkpoint: str | Path,
    out: str | Path,
    face_model: str = "default",
    device: str = "auto",
) -> list[Path]:
    """Write NAME.npz and NAME_panel.png into `out` for each image; returns the .npz paths.

    An input that is not an image is named on stderr and skipped; so is a second one of the same name.

    Args:
        inputs: image files or folders of images (face crops, square or nearly so).
        checkpoint: run folder or checkpoint file.
        out: folder, made when missing.
        face_model: the model that the run was trained with.
        device: auto, cpu or cuda.

    Raises:
        ValueError: no readable image at all, or a mistake in the checkpoint or the folder.
    """
    reconstructor = Reconstructor.load(checkpoint, face_model, device)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror})") from None
    written: list[Path] = []
    for path in _image_paths(inputs):
        target = folder / f"{path.stem}.npz"
        try:
            if target in written:
                raise ImageError(f"{path}: another input has the same name; not written")
            picture = read_image(path)
        except ImageError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        code, panel = _reconstruct(reconstructor, picture)
        crop = central_square(*picture.shape[:2])
        model = reconstructor.decoder.model
        FaceParameters(
            code, reconstructor.decoder.camera, np.array(crop), (model.name, model.hash), path.name
        ).save(target)
        write_png(folder / f"{path.stem}_panel.png", panel)
        written.append(target)
    if not written:
        raise ValueError(f"reconstruct: none of the {len(inputs)} inputs could be read")
    print(f"{len(written)} faces in {folder}")
    return written


def _reconstruct(reconstructor: Reconstructor, picture: np.ndarray) -> tuple[FaceCode, np.ndarray]:
    size = reconstructor.decoder.camera.size[0]
    image = torch.from_numpy(resize_square(picture, size)).permute(2, 0, 1)[None].float() / 255
    code = reconstructor(image)
    with torch.no_grad():
        rendering = reconstructor.decoder.rasterize(reconstructor.decoder.geometry(code))
    panel = panels(image.to(reconstructor.device), rendering)[0]
    return code.map(lambda part: part.cpu()), panel


def _image_paths(inputs: list[str]) -> list[Path]:
    paths: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            paths.extend(p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.is_file():
            paths.append(path)
        else:
            raise ValueError(f"{name}: no such image or folder")
    return paths
