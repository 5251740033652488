"""Predicted people as others may see them: without expression, in random poses, under two random lamps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mofa_nvdr.data.random_numbers import random_generator
from mofa_nvdr.data.synthetic.codes import CodePrior, random_codes
from mofa_nvdr.data.synthetic.lamps import random_lamps, skin_highlights
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.shaders.phong import Phong, PhongLight

STREAM = 7  # of the seed; the others are listed in data/augmentation.py
_INWARD = 0.4


@dataclass(frozen=True)
class Views:
    """Pictures of N people, K of each, those of one person next to each other.

    Attributes:
        images: [N K, 3, S, S] on one random colour each, clamped to [0, 1].
        landmarks: [N K, 68, 2] px.
    """

    images: Tensor
    landmarks: Tensor


class RandomViews:
    """Draws the people of a step, differentiably in their shape and albedo.

    Poses, lamps and backgrounds depend on the seed and on the place of a person's photograph in the run
    alone: on no other photograph, process or resumption.

    Args:
        decoder: of the training; it is drawn at its size and with its gradient, by the Phong shader.
        count: views K of each person.
        seed: of the run.
        prior: of poses.

    Source: section 3.2 and 3.3.2 of Genova et al. 2018, who use three.
    """

    def __init__(self, decoder: FaceDecoder, count: int, seed: int, prior: CodePrior) -> None:
        own = decoder.renderer
        self.count, self.seed = count, seed
        # Nearer to the middle than known faces: none is cut off by the picture's edge.
        self.prior = dataclasses.replace(
            prior, sideways=_INWARD * prior.sideways, depth=_INWARD * prior.depth
        )
        self.decoder = FaceDecoder(
            decoder.model, gradient=own.gradient, camera=decoder.camera,
            frontal_only=decoder.frontal_only, dr=own.dr, shader=Phong(),
        ).to(decoder.triangles.device)  # fmt: skip

    def __call__(self, shape: Tensor, albedo: Tensor, places: Sequence[int]) -> Views:
        """Views of people.

        Args:
            shape: [N, S] coefficients; of the base level of two: correctives are zero.
            albedo: [N, A] coefficients, or those of the base level.
            places: of their photographs in the run, [N].

        Raises:
            ValueError: another number of places: the pictures are of no training.
        """
        if len(places) != len(shape):
            raise ValueError(
                f"RandomViews: {len(places)} places for {len(shape)} people; only batches of training know "
                "theirs"
            )
        layout, k = self.decoder.model.layout, self.count
        shape = F.pad(shape, (0, layout.num_shape - shape.shape[1]))
        albedo = F.pad(albedo, (0, layout.num_albedo - albedo.shape[1]))
        generators = [random_generator(self.seed, STREAM, place) for place in places]
        drawn = random_codes(layout, k, generators, self.prior).pack()
        lamps = _joined([random_lamps(k, g) for g in generators], shape)
        behind = torch.cat([_plain_colors(k, g) for g in generators]).to(shape)
        code = layout.unpack(drawn.to(shape)).replace(
            shape=shape.repeat_interleave(k, 0), albedo=albedo.repeat_interleave(k, 0)
        )
        code = code.replace(expression=torch.zeros_like(code.expression))
        geometry = self.decoder.geometry(code)
        highlights = skin_highlights(geometry.albedo)
        light = dataclasses.replace(lamps, specular=highlights)
        face = self.decoder.rasterize(dataclasses.replace(geometry, light=light))
        assert face.landmarks is not None
        return Views(face_image(face, behind), face.landmarks)


def _plain_colors(count: int, generator: np.random.Generator) -> Tensor:
    """Muted colours [B, 3, 1, 1], as walls have."""
    grey, tint = generator.uniform(0.1, 0.9, (count, 1)), generator.uniform(0.8, 1.2, (count, 3))
    return torch.from_numpy(grey * tint)[..., None, None]


def _joined(lights: Sequence[PhongLight], like: Tensor) -> PhongLight:
    """One batch of several, on the device and in the numbers of `like`."""
    parts = ("positions", "colors", "ambient", "shininess")
    return PhongLight(**{n: torch.cat([getattr(x, n) for x in lights]).to(like) for n in parts})
