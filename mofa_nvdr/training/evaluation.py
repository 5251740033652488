"""Measures of a trained encoder on validation images; the same in both render modes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.losses.mofa import landmark_error, photometric_raster, photometric_vertex
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.system import distributed


@torch.no_grad()
def validate(encoder: Encoder, decoder: FaceDecoder, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean measures over batches of images; the encoder is in evaluation mode meanwhile.

    Processes that train together (mofa_nvdr.system.distributed) each bring their share of the batches,
    and all get the measures of the whole.

    Returns:
        photometric: mean RGB distance over the rasterized mask, channels in [0, 1]; rendered faces
            are compared without what covers them.
        photometric_vertex: the same over the front-facing vertices (Eq. 8), the paper's own measure.
        landmark_px: mean distance over the paper's 46 points in pixels at 240; NaN without
            landmarks.
        mask_fraction: share of the image that the face covers.
        scale: mean projected size of the head's centre against code zero.
        yaw_mean_deg, yaw_std_deg, pitch_mean_deg, pitch_std_deg: head rotation, degrees; yaw is
            positive towards the subject's left (+x), pitch is positive downwards.

    Raises:
        ValueError: no batches.
    """
    training = encoder.training
    encoder.eval()
    try:
        own = [_measure(encoder, decoder, batch) for batch in batches]
    finally:
        encoder.train(training)
    rows = [row for rows in distributed.gather(own) for row in rows]
    if not rows:
        raise ValueError("validate: no images to validate on")
    table = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
    result = {
        key: table[key].nanmean().item()
        for key in ("photometric", "photometric_vertex", "landmark_px", "mask_fraction", "scale")
    }
    for angle in ("yaw", "pitch"):
        degrees = table[angle] * (180 / math.pi)
        result[f"{angle}_mean_deg"] = degrees.mean().item()
        result[f"{angle}_std_deg"] = degrees.std(correction=0).item()
    return result


def _measure(encoder: Encoder, decoder: FaceDecoder, batch: Batch) -> dict[str, Tensor]:
    """The measures of each image of a batch, [B] each, on the CPU; angles in radians."""
    device = next(encoder.parameters()).device
    images, target = batch.images.to(device), batch.target.to(device)
    code = decoder.model.layout.unpack(encoder(images))
    geometry = decoder.geometry(code)
    face = decoder.rasterize(geometry)
    vertices = decoder.shade_vertices(geometry)
    assert face.landmarks is not None
    matrix = axis_angle_to_matrix(code.rotation)
    home = -decoder.camera.position[2]
    # Distance against that of code zero. A head behind the camera has no size: the near plane keeps
    # the figure finite.
    distance = (1 - code.translation[:, 2] / home).clamp(min=decoder.camera.near / home)
    measures = {
        "photometric": photometric_raster(face, target),
        "photometric_vertex": photometric_vertex(
            vertices.positions, vertices.colors, vertices.front_facing, target
        ),
        "landmark_px": landmark_error(face.landmarks, batch.landmarks.to(device))
        * (240 / images.shape[-1]),
        "mask_fraction": face.mask.mean((1, 2, 3)),
        "scale": 1 / distance,
        "yaw": torch.atan2(matrix[:, 0, 2], matrix[:, 2, 2]),
        "pitch": torch.asin((-matrix[:, 1, 2]).clamp(-1, 1)),
    }
    return {name: values.cpu() for name, values in measures.items()}
