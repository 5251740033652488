"""From face crops to parameters and pictures, with a trained encoder."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mofa_nvdr.checkpoint import (
    CheckpointError,
    checkpoint_path,
    find_checkpoint,
    list_checkpoints,
    read_checkpoint,
    restore_encoder,
    spec_of,
)
from mofa_nvdr.data.images import ImageError, central_square, read_image, resize_square
from mofa_nvdr.data.photographs import IMAGE_SUFFIXES
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.face.reference import ModelReference
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.networks.onnx_encoder import OnnxEncoder, find_onnx_encoder
from mofa_nvdr.networks.spec import EncoderSpec
from mofa_nvdr.parameters import FaceParameters
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import panels, write_png
from mofa_nvdr.system.device import resolve_device

logger = logging.getLogger(__name__)

RUNTIMES = ("torch", "onnx")
_PANEL = "_panel.png"


@dataclass(frozen=True)
class Reconstructor:
    """A trained encoder with the decoder it was trained with.

    Attributes:
        encoder: in evaluation mode, or an exported one.
        decoder: raster mode, at the training's image size and camera.
        device: where the decoder lives, and the encoder if it is torch's.
        face_model: which model that is, and where it was found.
        spec: what one must know to use the encoder.
        path: the checkpoint or .onnx file.
        metadata: what that file says of its training.
    """

    encoder: Encoder | OnnxEncoder
    decoder: FaceDecoder
    device: torch.device
    face_model: ModelReference
    spec: EncoderSpec
    path: Path
    metadata: dict[str, Any]

    @staticmethod
    def load(
        run: str | Path, face_model: str = "", device: str = "auto", runtime: str = "torch"
    ) -> Reconstructor:
        """Load a run folder's newest checkpoint, or a checkpoint file; or an exported encoder.

        Args:
            run: run folder, checkpoint, or, with runtime "onnx", an .onnx file.
            face_model: the model that the run was trained with; empty: see below.
            device: auto, cpu or cuda.
            runtime: "torch", or "onnx": the encoder runs in ONNX Runtime, on the CPU.

        Without `face_model` the model is looked for where it was when the run began, and beside the run.

        Raises:
            ValueError: no checkpoint there, not readable, or trained with another face model, or
                one that is not there any more.
            RuntimeError: CUDA asked for where there is none, or ONNX Runtime is not installed.
        """
        if runtime not in RUNTIMES:
            raise ValueError(f"--runtime is {runtime!r}, expected one of {', '.join(RUNTIMES)}")
        where = resolve_device(device)
        load = _load_exported if runtime == "onnx" else _load_trained
        path, metadata, spec, make = load(run)
        trained = spec.face_model
        model, reference = trained.load(face_model, path.parent, f"{path}: trained with")
        try:
            encoder = make(model.layout)
        except (TypeError, RuntimeError) as error:  # edited
            raise CheckpointError(
                f"{path}: not a checkpoint that this version can read ({error})"
            ) from error
        if isinstance(encoder, Encoder):
            encoder.eval().to(where)
        decoder = FaceDecoder(model, camera=spec.camera).to(where)
        return Reconstructor(encoder, decoder, where, reference, spec, path, metadata)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> FaceCode:
        """Codes of face crops [B, 3, S, S] in [0, 1] at the training's image size."""
        return self.decoder.model.layout.unpack(self.encoder(images.to(self.device)))


_Make = Callable[[CodeLayout], Encoder | OnnxEncoder]


def _load_trained(run: str | Path) -> tuple[Path, dict[str, Any], EncoderSpec, _Make]:
    path = find_checkpoint(run)
    if path.suffix == ".onnx":
        raise ValueError(f"--checkpoint {run}: an exported encoder; give --runtime onnx with it")
    tensors, metadata = read_checkpoint(path)
    spec = spec_of(path, metadata, tensors)

    def make(layout: CodeLayout) -> Encoder:
        encoder = dataclasses.replace(spec, layout=layout).build()
        restore_encoder(encoder, tensors)
        return encoder

    return path, metadata, spec, make


def _load_exported(run: str | Path) -> tuple[Path, dict[str, Any], EncoderSpec, _Make]:
    path = find_onnx_encoder(run)
    encoder = OnnxEncoder(path)
    folder, name = Path(run), encoder.metadata.get("checkpoint")
    # Of another name it was chosen, like the best one; then a newer one is no reason to speak.
    own = checkpoint_path(folder, encoder.step)
    newer = [p for p in list_checkpoints(folder) if p > own] if name == own.name else []
    if newer:
        logger.warning(
            "%s is of %s, the newest is %s; export it again for that one",
            path,
            name,
            newer[-1].name,
        )

    def make(layout: CodeLayout) -> OnnxEncoder:
        if encoder.layout != layout:
            raise TypeError(f"the code is {encoder.layout}, the face model's is {layout}")
        return encoder

    return path, encoder.metadata, encoder.spec, make


def reconstruct_files(
    inputs: Sequence[str | Path],
    checkpoint: str | Path,
    out: str | Path,
    face_model: str = "",
    device: str = "auto",
    runtime: str = "torch",
) -> list[Path]:
    """Write NAME.npz and NAME_panel.png into `out` for each image; returns the .npz paths.

    An input that is no image is skipped and named on stderr; so is a second one of the same name.

    Args:
        inputs: image files or folders of images (face crops, square or nearly so: of others the
            central square is taken).
        checkpoint: run folder or checkpoint file; with runtime "onnx" a run folder with an exported
            encoder, or an .onnx file.
        out: folder, made when missing.
        face_model: the model that the run was trained with; empty: found by the run.
        device: auto, cpu or cuda.
        runtime: what the encoder runs in: torch or onnx.

    Raises:
        ValueError: no readable image at all, or a mistake in the checkpoint or the folder.
        RuntimeError: CUDA asked for where there is none, or ONNX Runtime is not installed.
    """
    folder = Path(out)
    paths = image_paths(inputs)
    reconstructor = Reconstructor.load(checkpoint, face_model, device, runtime)
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
        face_model_file=reconstructor.face_model.file,
    )
    return parameters, panels(image, rendering)[0]


def image_paths(inputs: Sequence[str | Path]) -> list[Path]:
    """Image files and the pictures in folders, below too.

    Raises:
        ValueError: nothing given, something missing, or a folder without pictures.
    """
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
