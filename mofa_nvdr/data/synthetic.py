"""Faces rendered from random codes: training data that needs no photograph, with known codes."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr import dr
from mofa_nvdr.data.draws import Draws, random_generator
from mofa_nvdr.data.expressions import ExpressionHabits
from mofa_nvdr.data.head import HeadShape
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import Corpus, DataError
from mofa_nvdr.data.sampling import Batch, share_of, step_places
from mofa_nvdr.data.surroundings import (
    KEPT_PHOTOGRAPH,
    Layer,
    Picture,
    compose,
    photograph_background,
    plain_background,
)
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.light_sources import load_light
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET, directional_light, rotate_sh, total_light
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.shaders.gbuffer import shade_mesh

# Streams of a seed: 0 to 2 order, mirror and augment photographs.
_TRAIN, _VAL, BESIDE = 3, 4, 5
_CODES, _PICTURES, _PHOTOGRAPHS = 0, 1, 2  # of a face


@dataclass(frozen=True)
class CodePrior:
    """Distributions from which random faces are drawn; zero-mean normal unless said otherwise.

    The spreads of the pose are those of 10,000 portraits in the training framing, from a fit of the mean
    face to their landmarks; normal numbers of the pose are cut at 2.5 standard deviations.
    """

    shape: float = 0.8  # standard deviations of the face model
    expression: float = 0.7  # of a model without named blendshapes
    neutral: float = 0.3  # share of the faces with a quarter of the expression
    unnamed: float = 0.3  # deviations beside named blendshapes (data/expressions.py)
    albedo: float = 1.0
    pitch: float = math.radians(13)
    yaw: float = math.radians(14)
    aside: float = 0.15  # share of the faces that turn 1.7 times as far
    roll: float = math.radians(6)
    sideways: float = 12.0  # mm, x and y
    depth: float = 69.0  # mm
    exposure: float = 1.45  # median of the light against code zero's: photographs are brighter
    ambient: float = 0.15  # of the logarithm of the ambient light
    tint: float = 0.05  # of each channel of the ambient light, and twice as much of the key light
    key: tuple[float, float] = (0.0, 0.8)  # strength of one directional light, uniform
    key_azimuth: float = math.radians(50)
    key_elevation: float = math.radians(25)  # about 20 degrees above
    second: float = 0.08  # of each second-order coefficient, in units of the ambient light
    probes: float = 0.5  # share of the lights that come from probes where there are any

    def with_pose(self, spread: float) -> CodePrior:
        """The same with all deviations of rotation and translation times `spread`."""
        names = ("pitch", "yaw", "roll", "sideways", "depth")
        return replace(self, **{name: spread * getattr(self, name) for name in names})


def random_codes(
    layout: CodeLayout,
    count: int,
    generator: np.random.Generator,
    prior: CodePrior | None = None,
    lights: Sequence[Tensor] = (),
    habits: ExpressionHabits | None = None,
) -> FaceCode:
    """Draw face codes on the CPU.

    Args:
        layout: sizes of the code.
        count: number of faces B.
        generator: source of randomness.
        prior: distributions.
        lights: complete lights [9, 3] (`lighting.load_light`) for a share `prior.probes` of the faces,
            each turned about the vertical axis at random and as bright as the prior says.
        habits: of the face model's named blendshapes; None: normal coefficients.

    Returns:
        Codes of B faces, float32.
    """
    p = prior or CodePrior()

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal(shape, np.float32))

    def uniform(*shape: int) -> Tensor:
        return torch.from_numpy(generator.random(shape, np.float32))

    rotation = normal(count, 3).clamp(-2.5, 2.5) * torch.tensor([p.pitch, p.yaw, p.roll])
    rotation[:, 1] *= 1 + 0.7 * (uniform(count) < p.aside)
    translation = normal(count, 3).clamp(-2.5, 2.5) * torch.tensor([p.sideways] * 2 + [p.depth])
    strength = p.key[0] + (p.key[1] - p.key[0]) * uniform(count, 1, 1)
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
    light = light * (1 + 2 * p.tint * normal(count, 1, 3)).clamp(min=0)
    level = p.exposure * (p.ambient * normal(count, 1)).exp()  # [B, 1]
    ambient = AMBIENT_OFFSET * (level * (1 + p.tint * normal(count, 3)) - 1)
    # What the key light adds on average is taken from the ambient light: faces stay well exposed.
    light[:, 0] += ambient - 0.5 * light[:, 0]
    light[:, 4:] += p.second * AMBIENT_OFFSET * level[..., None] * normal(count, 5, 1)

    # Drawn without probes too: the other parts of a code do not depend on them.
    which, turn, tilt = uniform(count, 2), 2 * math.pi * uniform(count), 0.15 * normal(count)
    if lights:
        turned = torch.stack([tilt, turn, 0 * turn], dim=1)
        chosen = torch.stack([lights[int(k)] for k in (which[:, 1] * len(lights)).tolist()])
        chosen = rotate_sh(chosen, axis_angle_to_matrix(turned)) * level[..., None]
        chosen = chosen - total_light(torch.zeros(9, 3))
        light = torch.where((which[:, 0] < p.probes)[:, None, None], chosen, light)
    amount = torch.where(uniform(count, 1) < p.neutral, 0.25, 1.0)
    shape, expression = normal(count, layout.num_shape), normal(count, layout.num_expression)
    if habits is None:
        expression = p.expression * expression
    else:
        expression = p.unnamed * expression + torch.stack(
            [habits.draw(generator) for _ in range(count)]
        )
    return FaceCode(
        shape=p.shape * shape,
        expression=amount * expression,
        albedo=p.albedo * normal(count, layout.num_albedo),
        rotation=rotation,
        translation=translation,
        light=light,
    )


def load_lights(folder: str) -> list[Tensor]:
    """Complete lights [9, 3] of all .hdr probes in a folder, in the order of their names.

    Raises:
        DataError: no such folder, or no .hdr file in it.
        ValueError: a file that is no light probe.
    """
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder of .hdr light probes")
    files = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() == ".hdr")
    if not files:
        raise DataError(f"{folder}: no .hdr light probes in this folder")
    return [load_light(str(path)) for path in files]


@dataclass(frozen=True)
class Rendered:
    """Rendered faces with their truth, on the renderer's device.

    Attributes:
        code: of the faces.
        picture: what cameras would see, and the faces without occluders.
        landmarks: [B, 68, 2] px.
        frontal: [B, 1, H, W] 1 where the frontal region, which training compares, is nearest of the mesh.
    """

    code: FaceCode
    picture: Picture
    landmarks: Tensor
    frontal: Tensor


class SyntheticFaces:
    """Rendered random faces, each a pure function of the seed and its place in a run.

    A face does not depend on the others of its batch, nor on how many processes share the work.

    Args:
        decoder: renders the faces (in raster mode, whatever its own mode) on its device.
        prior: distributions of the codes.
        photographs: surroundings for the faces: a quarter of the faces replaces the photograph's own, the
            others have a head of their own before parts of photographs. None: random rooms.
        lights: complete lights [9, 3] of probes; see `random_codes`.
        plain: faces alone before their backgrounds, without heads, occluders and a camera's faults.
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
        self.photographs = photographs
        self.lights = list(lights)
        self.plain = plain
        model, device = decoder.model, decoder.triangles.device
        self._frontal = model.frontal_mask[model.triangles.long()].all(1).to(device)
        self._context = dr.RasterizeContext()
        self._habits = ExpressionHabits.of(model.named_expressions)
        self._heads = None if plain else HeadShape(model, decoder.camera)

    def batches(
        self,
        batch_size: int,
        seed: int,
        start_step: int,
        rank: int = 0,
        world_size: int = 1,
        stream: int = _TRAIN,
    ) -> Generator[Batch, None, None]:
        """Endless training batches from step `start_step` on, or a process's share of each.

        `stream` BESIDE: other faces than the default's, to accompany other images.

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

    @torch.no_grad()
    def render(self, seed: int, places: Sequence[int], stream: int = _TRAIN) -> Rendered:
        """Faces by their places in the sequence of a seed."""
        device = self.decoder.triangles.device

        def draws(what: int) -> list[np.random.Generator]:
            return [random_generator(seed, stream, what, place) for place in places]

        layout = self.decoder.model.layout
        codes = [
            random_codes(layout, 1, g, self.prior, self.lights, self._habits) for g in draws(_CODES)
        ]
        code = layout.unpack(torch.cat([c.pack() for c in codes])).map(lambda part: part.to(device))
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
            photographs = self._photographs(draws(_PHOTOGRAPHS)).to(device)
            background = photograph_background(photographs, kept, d)
        if self._heads is None:
            image = torch.lerp(background, face.image, face.mask).clamp(0, 1)
            picture = Picture(image, image, face.mask)
        else:
            head = self._heads(code, geometry, self.decoder.model, d)
            triangles = self._heads.triangles
            normals = vertex_normals(head.vertices, triangles)
            drawn = self._draw(head.vertices, triangles, head.albedo, geometry.light, normals)
            part = self._heads.part
            picture = compose(face, landmarks, head, drawn, part, background, kept, d)
        return Rendered(code, picture, landmarks, frontal)

    def _draw(
        self, vertices: Tensor, triangles: Tensor, albedo: Tensor, light: Tensor, normals: Tensor
    ) -> Layer:
        """As FaceRenderer draws, and what the rasterizer knows beside it."""
        verbs, camera = self.decoder.renderer.dr, self.decoder.camera
        pos = camera.clip_space(vertices).contiguous()
        rast, _ = verbs.rasterize(self._context, pos, triangles, camera.size, grad_db=False)
        image, mask = shade_mesh(normals, albedo, rast, triangles, light, verbs)
        depth, number = rast[..., 2:].flip(1).permute(3, 0, 1, 2)[:, :, None].unbind(0)
        return Layer(image, mask, depth, (number.long() - 1).clamp(min=0))

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
        )

    def _photographs(self, generators: list[np.random.Generator]) -> Tensor:
        """A photograph [B, 3, H, W] for each generator; unreadable ones are passed over."""
        assert self.photographs is not None
        pictures: list[Tensor] = []
        for generator in generators:
            while True:
                index = int(generator.integers(len(self.photographs)))
                try:
                    pictures.append(torch.from_numpy(self.photographs[index].image))
                    break
                except ImageError as error:
                    self.photographs.report_skipped(self.photographs.files[index], str(error))
                    if len(self.photographs.skipped) >= len(self.photographs):
                        raise
        batch = torch.stack(pictures).permute(0, 3, 1, 2).float() / 255
        size = self.decoder.camera.size
        if batch.shape[2:] == size:
            return batch
        return F.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=True)
