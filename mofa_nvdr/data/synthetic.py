"""Faces rendered from random codes: training data that needs no photograph, with known codes."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import Corpus
from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.decoder import FaceDecoder, RasterFace
from mofa_nvdr.face_code import CodeLayout, FaceCode
from mofa_nvdr.lighting import AMBIENT_OFFSET, directional_light

_VAL_SEED = 1  # odd; training seeds are doubled, hence even


@dataclass(frozen=True)
class CodePrior:
    """Distributions from which random faces are drawn; zero-mean normal unless said otherwise.

    The spreads of the pose are those of ordinary portraits: most heads within 15 degrees of the
    frontal pose.
    """

    shape: float = 0.8  # standard deviations of the face model
    expression: float = 0.7
    albedo: float = 1.0
    pitch: float = math.radians(8)
    yaw: float = math.radians(14)
    roll: float = math.radians(5)
    sideways: float = 8.0  # mm, x and y
    depth: float = 50.0  # mm
    exposure: float = 1.3  # median of the light against code zero's: photographs are brighter
    ambient: float = 0.25  # of the logarithm of the ambient light
    key: tuple[float, float] = (0.0, 0.8)  # strength of one directional light, uniform
    key_azimuth: float = math.radians(50)
    key_elevation: float = math.radians(25)


def random_codes(
    layout: CodeLayout, count: int, generator: torch.Generator, prior: CodePrior | None = None
) -> FaceCode:
    """Draw face codes on the CPU.

    Args:
        layout: sizes of the code.
        count: number of faces B.
        generator: source of randomness.
        prior: distributions.

    Returns:
        Codes of B faces, float32.
    """
    p = prior or CodePrior()

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    rotation = normal(count, 3) * torch.tensor([p.pitch, p.yaw, p.roll])
    translation = normal(count, 3) * torch.tensor([p.sideways, p.sideways, p.depth])
    low, high = p.key
    strength = low + (high - low) * torch.rand(count, 1, 1, generator=generator)
    azimuth = p.key_azimuth * normal(count)
    elevation = math.radians(20) + p.key_elevation * normal(count)
    towards_key = torch.stack(
        [
            elevation.cos() * azimuth.sin(),
            elevation.sin(),
            elevation.cos() * azimuth.cos(),
        ],
        dim=1,
    )
    light = strength * directional_light(towards_key)
    ambient = AMBIENT_OFFSET * (
        p.exposure * (p.ambient * normal(count, 1)).exp() * (1 + 0.05 * normal(count, 3)) - 1
    )
    # What the key light adds on average is taken from the ambient light: faces stay well exposed.
    light[:, 0] += ambient - 0.5 * light[:, 0]
    return FaceCode(
        shape=p.shape * normal(count, layout.num_shape),
        expression=p.expression * normal(count, layout.num_expression),
        albedo=p.albedo * normal(count, layout.num_albedo),
        rotation=rotation,
        translation=translation,
        light=light,
    )


class SyntheticFaces:
    """Batches of rendered random faces over random backgrounds, a pure function of seed and step.

    Args:
        decoder: renders the faces (in raster mode, whatever its own mode) on its device.
        prior: distributions of the codes.
        photographs: surroundings for the faces: half of them as they are, so that a rendered face has real
            hair and a neck about it, half rolled by half, so that the own face is in the corners. Outlines
            and pictures are then as soft and noisy as photographs. None: random colours.
    """

    def __init__(
        self,
        decoder: FaceDecoder,
        prior: CodePrior | None = None,
        photographs: Corpus | None = None,
    ) -> None:
        self.decoder = decoder
        self.prior = prior or CodePrior()
        self.photographs = photographs
        # Half of the faces show the whole mesh, half end where hair may begin.
        self._whole = FaceDecoder(
            decoder.model, camera=decoder.camera, frontal_only=False, dr=decoder.renderer.dr
        ).to(decoder.triangles.device)

    def batches(self, batch_size: int, seed: int, start_step: int) -> Generator[Batch, None, None]:
        """Endless training batches from step `start_step` on."""
        step = start_step
        while True:
            yield self._render(batch_size, _generator(2 * seed, step), step)
            step += 1

    def val_batches(self, count: int, batch_size: int) -> Generator[Batch, None, None]:
        """`count` faces that are the same for every seed and in no training batch."""
        for number, start in enumerate(range(0, count, batch_size)):
            yield self._render(
                min(batch_size, count - start), _generator(_VAL_SEED, number), number
            )

    @torch.no_grad()
    def _render(self, count: int, generator: torch.Generator, step: int) -> Batch:
        code = random_codes(self.decoder.model.layout, count, generator, self.prior)
        height, width = self.decoder.camera.size
        device = self.decoder.triangles.device
        decoder = self.decoder
        if self.photographs is None:
            background = _background(count, height, width, generator)
        else:
            background = self._surroundings(count, generator)
            decoder = (self.decoder, self._whole)[step % 2]
        face = decoder(code.map(lambda part: part.to(device)), render_mode="raster")
        assert isinstance(face, RasterFace) and face.landmarks is not None
        cover = face.mask
        if self.photographs is not None:
            cover = F.avg_pool2d(face.mask, 5, stride=1, padding=2) * face.mask  # a soft outline
        images = (cover * face.image + (1 - cover) * background.to(device)).clamp(0, 1)
        if self.photographs is not None:
            images = _soften(images, generator)
        return Batch(
            images=images,
            landmarks=face.landmarks,
            confidence=torch.ones(face.landmarks.shape[:2]),
            step=step,
            codes=code.pack(),
        )

    def _surroundings(self, count: int, generator: torch.Generator) -> Tensor:
        """Photographs [B, 3, H, W], every second one rolled by half; an unreadable one is passed over."""
        assert self.photographs is not None
        pictures: list[Tensor] = []
        while len(pictures) < count:
            index = int(torch.randint(len(self.photographs), (), generator=generator))
            try:
                picture = torch.from_numpy(self.photographs[index].image)
            except ImageError as error:
                self.photographs.report_skipped(self.photographs.files[index], str(error))
                if len(self.photographs.skipped) >= len(self.photographs):
                    raise
                continue
            if len(pictures) % 2:
                picture = picture.roll((picture.shape[0] // 2, picture.shape[1] // 2), (0, 1))
            pictures.append(picture)
        return torch.stack(pictures).permute(0, 3, 1, 2).float() / 255


def _soften(images: Tensor, generator: torch.Generator) -> Tensor:
    """The camera: each batch is seen at 0.4 to 1 of its resolution, with some noise."""
    size = images.shape[-2:]
    scale = 0.4 + 0.6 * torch.rand((), generator=generator).item()
    small = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
    noise = 0.02 * torch.randn(images.shape, generator=generator).to(images)
    return (F.interpolate(small, size, mode="bilinear", align_corners=False) + noise).clamp(0, 1)


def _generator(seed: int, step: int) -> torch.Generator:
    # torch's CPU generator takes the lower 32 bits of its seed alone, so both numbers are mixed
    # into them; the last bit tells training from validation, which thus never share a stream.
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
    return torch.Generator().manual_seed((mixed & ~1) | (seed & 1))


def _background(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth random colours with blotches and grain, [B, 3, H, W] in [0, 1]."""
    picture = torch.rand(count, 3, 1, 1, generator=generator)
    for cells, amount in ((3, 0.25), (12, 0.12), (60, 0.05)):
        noise = torch.randn(count, 3, cells, cells, generator=generator) * amount
        picture = picture + F.interpolate(
            noise, (height, width), mode="bilinear", align_corners=False
        )
    return picture.clamp(0, 1)
