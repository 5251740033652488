"""A run opened for use: its encoder, and the decoder that it was trained with."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.face.mirror import mirror_signs
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.networks.onnx_encoder import OnnxEncoder, find_onnx_encoder
from mofa_nvdr.networks.spec import EncoderSpec
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.checkpoint import (
    CORRECTIVES,
    CheckpointError,
    checkpoint_path,
    find_checkpoint,
    list_checkpoints,
    read_checkpoint,
    restore_encoder,
    spec_of,
)
from mofa_nvdr.runs.shipped import shipped_encoder, shipped_onnx
from mofa_nvdr.system.budget import words_of
from mofa_nvdr.system.device import resolve_device

logger = logging.getLogger(__name__)


RUNTIMES = ("torch", "onnx")


@dataclass(frozen=True)
class Reconstructor:
    """A trained encoder with the decoder it was trained with.

    Attributes:
        encoder: in evaluation mode, or an exported one.
        decoder: raster mode, at the training's image size and camera.
        device: where the decoder is, and the encoder if it is torch's.
        face_model: which model that is, and where it was found.
        spec: the facts needed to use the encoder.
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
        run: str | Path = "", face_model: str = "", device: str = "auto", runtime: str = "torch"
    ) -> Reconstructor:
        """Load a run folder's newest checkpoint, or a checkpoint file; or an exported encoder.

        Args:
            run: run folder, checkpoint, or, with runtime "onnx", an .onnx file. Empty: the encoder that
                comes with the package (shipped.py); for "onnx" it must have been exported, as `mofa-nvdr
                reconstruct --runtime onnx` does.
            face_model: the model that the run was trained with; empty: see below.
            device: auto, cpu, cuda or cuda:N.
            runtime: "torch", or "onnx": the encoder runs in ONNX Runtime, on the CPU.

        Without `face_model` the model is looked for where it was when the run began, and next to the run.

        Raises:
            ValueError: no checkpoint there, not readable, or trained with another face model, or
                one that is not there any more.
            RuntimeError: CUDA asked for where there is none, or ONNX Runtime is not installed.
        """
        if runtime not in RUNTIMES:
            raise ValueError(f"--runtime is {runtime!r}, expected one of {', '.join(RUNTIMES)}")
        where = resolve_device(device)
        if not str(run):
            run = shipped_onnx() if runtime == "onnx" else shipped_encoder()
            if not run.is_file():
                raise ValueError(
                    "--runtime onnx: export the shipped encoder first (mofa-nvdr export-encoder --out "
                    "encoder.onnx) and give it as --checkpoint encoder.onnx"
                )
        load = _load_exported if runtime == "onnx" else _load_trained
        path, metadata, spec, make = load(run)
        trained = spec.face_model
        model, reference = trained.load(face_model, path.parent, f"{path}: trained with")
        try:
            encoder = make(model.layout)
        except NetworkMissingError as error:
            raise CheckpointError(f"{path}: its encoder is {spec.trunk}: {error}") from None
        except (
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:  # edited
            raise CheckpointError(
                f"{path}: not a checkpoint that this version can read ({words_of(error, 300)})"
            ) from error
        if isinstance(encoder, Encoder):
            encoder.eval().to(where)
        decoder = FaceDecoder(model, camera=spec.camera).to(where)
        return Reconstructor(encoder, decoder, where, reference, spec, path, metadata)

    @torch.no_grad()
    def __call__(self, images: Tensor, both_ways: bool = False) -> FaceCode:
        """Codes of face crops.

        Args:
            images: [B, 3, S, S] in [0, 1] at the training's image size.
            both_ways: the mean of what the encoder says of each picture and of its mirror image, mirrored
                back; of a face model that knows its mirror image.
        """
        images = images.to(self.device)
        code = self.encoder(images)
        if both_ways and self._signs is not None:
            code = (code + self._signs * self.encoder(images.flip(3))) / 2
        return self.decoder.model.layout.unpack(code)

    @cached_property
    def _signs(self) -> Tensor | None:
        signs = mirror_signs(self.decoder.model)
        return None if signs is None else signs.to(self.device)


_Make = Callable[[CodeLayout], Encoder | OnnxEncoder]


def _load_trained(run: str | Path) -> tuple[Path, dict[str, Any], EncoderSpec, _Make]:
    path = find_checkpoint(run)
    if path.suffix == ".onnx":
        raise ValueError(f"--checkpoint {run}: an exported encoder; give --runtime onnx with it")
    tensors, metadata = read_checkpoint(path)
    spec = spec_of(path, metadata, tensors)
    if any(name.startswith(CORRECTIVES) for name in tensors):
        raise CheckpointError(
            f"{path}: its run has learned correctives of its face model; mofa-nvdr model from-run {run} "
            "--out MODEL.safetensors writes that model and MODEL_encoder.safetensors, which goes in its place"
        )

    def make(layout: CodeLayout) -> Encoder:
        encoder = dataclasses.replace(spec, layout=layout).build()
        restore_encoder(encoder, tensors)
        return encoder

    return path, metadata, spec, make


def _load_exported(run: str | Path) -> tuple[Path, dict[str, Any], EncoderSpec, _Make]:
    path = find_onnx_encoder(run)
    encoder = OnnxEncoder(path)
    folder, name = Path(run), encoder.metadata.get("checkpoint")
    # A file of another name was chosen, like the best one; then a newer one needs no note.
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
