"""From a run's options to its encoder and decoder."""

from __future__ import annotations

import dataclasses
from typing import cast

import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.face.skin import skin_vertices
from mofa_nvdr.networks.encoder import Encoder, build_encoder
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.networks.spec import EncoderSpec
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.options import ConfigError, TrainConfig
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.device import multiplies_bfloat16, resolve_device


def make_encoder(config: TrainConfig, layout: CodeLayout) -> Encoder:
    """The configured encoder with its output scales and its precision.

    Raises:
        ValueError: of build_encoder.
        ConfigError: the network that it needs is not here.
    """
    size: int | str = config.encoder.size or "default"
    weights = config.encoder.weights or None
    scale = dataclasses.asdict(config.encoder.scale)
    try:
        encoder = build_encoder(config.encoder.network, layout, weights, scale, size)
    except NetworkMissingError as error:
        raise ConfigError(f"--encoder.network is {config.encoder.network}: {error}") from None
    encoder.precision = _precision(config)
    return encoder


def _precision(config: TrainConfig) -> torch.dtype:
    if config.encoder.precision != "auto":
        return cast(torch.dtype, getattr(torch, config.encoder.precision))
    on_cpu = resolve_device(config.run.device).type == "cpu"
    return torch.bfloat16 if on_cpu and multiplies_bfloat16() else torch.float32


def encoder_spec(
    config: TrainConfig, encoder: Encoder, face_model: ModelReference, camera: Camera
) -> EncoderSpec:
    """What a checkpoint says of the encoder of `make_encoder`."""
    return EncoderSpec(
        config.encoder.network,
        encoder.input_size,
        encoder.head.output_scale,  # with --init not the options': those of the other run
        encoder.layout,
        face_model,
        camera,
    )


def make_face_model(config: TrainConfig, base: FaceModel) -> FaceModel:
    """The face model that is trained: the base itself, or with the configured corrective modes.

    Raises:
        ConfigError: more modes than a face model may have, or no regions where a term needs bare skin.
    """
    own = config.correctives
    if own.shape == own.albedo == 0:
        return base
    if own.constancy > 0 and skin_vertices(base) is None:
        raise ConfigError(
            f"--correctives.constancy is {own.constancy:g}, but face model {base.name} has no region called "
            "skin; give --correctives.constancy 0"
        )
    try:
        return CorrectedFaceModel(base, own.shape, own.albedo, config.run.seed)
    except ValueError as error:
        raise ConfigError(f"--correctives: {error}") from None


def make_decoder(config: TrainConfig, model: FaceModel) -> FaceDecoder:
    """The configured decoder; with render.mode "both" its own mode is "raster"."""
    return FaceDecoder(
        model,
        config.data.image_size,
        "raster" if config.render.mode == "both" else config.render.mode,
        config.render.gradient,
        outline="edges" if config.render.outline else "none",
    )
