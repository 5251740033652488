"""Faces rendered from random codes: training data that needs no photograph, with known codes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import Corpus
from mofa_nvdr.data.random_numbers import Draws, random_generator
from mofa_nvdr.data.sampling import Batch, share_of, step_places
from mofa_nvdr.data.synthetic.codes import CodePrior, random_codes
from mofa_nvdr.data.synthetic.habits import ExpressionHabits
from mofa_nvdr.data.synthetic.head import HeadShape
from mofa_nvdr.data.synthetic.resampling import Resampling
from mofa_nvdr.data.synthetic.surroundings import (
    KEPT_PHOTOGRAPH,
    Composite,
    Layer,
    compose,
    photograph_background,
    plain_background,
)
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.scene.normals import vertex_normals

# Streams of a seed: 0 to 2 order, mirror and augment photographs.
TRAIN, _VAL, ACCOMPANYING = 3, 4, 5
CYCLES = 1000  # and the number of a cycle of bootstrapping
_CODES, _PICTURES, _PHOTOGRAPHS = 0, 1, 2  # of a face
_SAME_PHOTOGRAPH = (
    4  # faces next to each other, each in front of other parts of it: reading takes time
)


@dataclass(frozen=True)
class Rendered:
    """Rendered faces with their truth, on the renderer's device.

    Attributes:
        code: of the faces.
        picture: what cameras would see, and the faces without occluders.
        landmarks: [B, 68, 2] px.
        dense: [B, 478, 2] px, NaN for points without a place; None: the face model has none.
        frontal: [B, 1, H, W] 1 where the frontal region, which training compares, is nearest of the mesh.
    """

    code: FaceCode
    picture: Composite
    landmarks: Tensor
    dense: Tensor | None
    frontal: Tensor


class SyntheticFaces:
    """Rendered random faces, each a pure function of the seed and its place in a run.

    A face does not depend on the others of its batch, nor on how many processes share the work.

    Args:
        decoder: renders the faces (always in raster mode) on its device.
        prior: distributions of the codes.
        photographs: surroundings for the faces: a quarter of the faces replaces the photograph's own, the
            others have a head of their own in front of parts of photographs. None: random rooms.
        lights: complete lights [9, 3] of probes; see `random_codes`.
        plain: faces alone in front of their backgrounds, without heads, occluders and a camera's faults.
    """

    def __init__(
        self,
        decoder: FaceDecoder,
        prior: CodePrior | None = None,
        photographs: Corpus | None = None,
        lights: Sequence[Tensor] = (),
        plain: bool = False,
    ) -> None:
        self.decoder = decoder
        self.prior = prior or CodePrior()
        size = max(decoder.camera.size)
        self.photographs = None if photographs is None else photographs.at_size(size)
        self.lights = list(lights)
        self.plain = plain
        model, device = decoder.model, decoder.triangles.device
        self._frontal = model.frontal_mask[model.triangles.long()].all(1).to(device)
        self._habits = ExpressionHabits.of(model.named_expressions)
        self._heads = None if plain else HeadShape(model, decoder.camera)

    def batches(
        self,
        batch_size: int,
        seed: int,
        start_step: int,
        rank: int = 0,
        world_size: int = 1,
        stream: int = TRAIN,
    ) -> Generator[Batch, None, None]:
        """Endless training batches from step `start_step` on, or a process's share of each.

        `stream` ACCOMPANYING: other faces than the default's, to accompany other images.

        Raises:
            ValueError: the processes can't share a batch evenly.
        """
        share = share_of(batch_size, rank, world_size)
        step = start_step
        while True:
            yield self._batch((stream, seed), step_places(step, batch_size, share), step)
            step += 1

    def val_batches(
        self, count: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch, None, None]:
        """`count` faces that are the same for every seed and in no training batch.

        Of several processes each gets every world_size-th batch.
        """
        for number, start in list(enumerate(range(0, count, batch_size)))[rank::world_size]:
            places = range(start, min(start + batch_size, count))
            yield self._batch((_VAL, 0), places, number)

    def deviations(self) -> Tensor:
        """Standard deviation of each number of the prior's codes, [size]: of 256 faces."""
        generator = random_generator(0, _VAL, _CODES)
        layout = self.decoder.model.layout
        some = random_codes(layout, 256, generator, self.prior, self.lights, self._habits)
        return some.pack().std(0)

    @torch.no_grad()
    def render(
        self,
        seed: int,
        places: Sequence[int],
        stream: int = TRAIN,
        around: Resampling | None = None,
    ) -> Rendered:
        """Faces by their places in the sequence of a seed: of the prior, or drawn around known codes."""
        device = self.decoder.triangles.device

        def draws(what: int) -> list[np.random.Generator]:
            return [random_generator(seed, stream, what, place) for place in places]

        layout = self.decoder.model.layout
        if around is None:
            each = draws(_CODES)
            codes = random_codes(layout, 1, each, self.prior, self.lights, self._habits).pack()
        else:
            codes = around.draw(draws(_CODES))
        code = layout.unpack(codes.to(device))
        geometry = self.decoder.geometry(code)
        landmarks = self.decoder.landmarks(geometry)
        face = self._draw(geometry.vertices, self.decoder.model.triangles, geometry.albedo,
                          geometry.light, geometry.normals)  # fmt: skip
        frontal = self._frontal[face.triangle_ids] * face.mask
        d = Draws(draws(_PICTURES), device)
        kept = d.chance(KEPT_PHOTOGRAPH if self.photographs is not None else 0.0)
        if self.photographs is None:
            background = plain_background(self.decoder.camera.size, d)
        else:
            photographs = self._photographs(seed, stream, places).to(device)
            background = photograph_background(photographs, kept, d)
        if self._heads is None:
            image = torch.lerp(background, face.image, face.mask).clamp(0, 1)
            picture = Composite(image, image, face.mask)
        else:
            head = self._heads(code, geometry, self.decoder.model, d)
            triangles = self._heads.triangles
            normals = vertex_normals(head.vertices, triangles)
            drawn = self._draw(head.vertices, triangles, head.albedo, geometry.light, normals)
            part = self._heads.part
            picture = compose(face, landmarks, head, drawn, part, background, kept, d)
        return Rendered(code, picture, landmarks, self._dense(geometry), frontal)

    def _dense(self, geometry: Geometry) -> Tensor | None:
        places = self.decoder.model.dense_landmarks
        if places is None:
            return None
        points = self.decoder.dense_landmarks(geometry)
        return torch.where(places.known[:, None], points, torch.nan)

    def _draw(
        self, vertices: Tensor, triangles: Tensor, albedo: Tensor, light: Tensor, normals: Tensor
    ) -> Layer:
        """A mesh as the decoder's renderer draws it, and what else the rasterizer knows."""
        drawn = self.decoder.renderer(vertices, triangles, albedo, light, normals)
        assert drawn.pixels is not None
        depth, number = drawn.pixels.rast[..., 2:].flip(1).permute(3, 0, 1, 2)[:, :, None].unbind(0)
        return Layer(drawn.image, drawn.mask, depth, (number.long() - 1).clamp(min=0))

    def _batch(self, stream: tuple[int, int], places: Sequence[int], step: int) -> Batch:
        rendered = self.render(stream[1], places, stream[0])
        landmarks = rendered.landmarks
        return Batch(
            images=rendered.picture.image,
            landmarks=landmarks,
            confidence=torch.ones_like(landmarks[..., 0]),
            step=step,
            codes=rendered.code.pack(),
            places=tuple(places),
            clean=rendered.picture.clean,
            dense=rendered.dense,
        )

    def _photographs(self, seed: int, stream: int, places: Sequence[int]) -> Tensor:
        """A photograph [B, 3, H, W] for each place; unreadable ones are skipped."""
        groups = [place // _SAME_PHOTOGRAPH for place in places]
        read = {group: self._photograph(seed, stream, group) for group in dict.fromkeys(groups)}
        batch = torch.stack([read[group] for group in groups]).permute(0, 3, 1, 2).float() / 255
        size = self.decoder.camera.size
        if batch.shape[2:] == size:
            return batch
        return F.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=True)

    def _photograph(self, seed: int, stream: int, group: int) -> Tensor:
        """Bytes [S, S, 3]."""
        assert self.photographs is not None
        generator = random_generator(seed, stream, _PHOTOGRAPHS, group)
        while True:
            index = int(generator.integers(len(self.photographs)))
            try:
                return torch.from_numpy(self.photographs[index].image)
            except ImageError as error:
                self.photographs.report_skipped(self.photographs.files[index], str(error))
                if len(self.photographs.skipped) >= len(self.photographs):
                    raise
