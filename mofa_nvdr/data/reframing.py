"""Other framings of training pictures: turned, larger or smaller and aside, with all that is known of them.

A detector frames faces otherwise than landmarks do. What turns the picture about its middle turns the head
about the optical axis, exactly; a size is a distance and a place a shift across it, which for the narrow view
of a face crop is within a pixel or two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mofa_nvdr.data.augmentation import Augmentation
from mofa_nvdr.data.random_numbers import Draws, random_generator
from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import rotate_sh
from mofa_nvdr.scene.pose import axis_angle_to_matrix, matrix_to_axis_angle

STREAM = 6  # of the seed; the others are listed in augmentation.py
_SHIFT = 0.5  # of the largest change of size: the largest shift, in sides of the picture
_TURN = 1.5  # of it: the largest turn, rad


@dataclass(frozen=True)
class Framing:
    """Similarities about the middle of B square pictures.

    Attributes:
        size: [B] how many times as large the face becomes.
        turn: [B] counter-clockwise, rad.
        shift: [B, 2] to the right and down, in sides of the picture.
    """

    size: Tensor
    turn: Tensor
    shift: Tensor

    @staticmethod
    def draw(most: float, d: Draws) -> Framing:
        """Random ones: sizes within exp(+-most), the rest in proportion."""
        size, turn = d.uniform(-most, most).exp(), _TURN * d.uniform(-most, most)
        shift = torch.stack([d.uniform(-most, most), d.uniform(-most, most)], 1)
        return Framing(size, turn, _SHIFT * shift)

    @property
    def matrix(self) -> Tensor:
        """[B, 2, 2] of offsets from the middle, x right and y down."""
        c, s = self.size * self.turn.cos(), self.size * self.turn.sin()
        return torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)

    def of_images(self, images: Tensor) -> Tensor:
        """[B, 3, S, S]; what lies beyond the edges is as the edges are."""
        from kornia.geometry.transform import warp_affine

        side = images.shape[-1]
        middle = images.new_full((len(images), 2, 1), (side - 1) / 2)  # of pixels by their centres
        offset = middle - self.matrix @ middle + self.shift[..., None] * side
        warp = torch.cat([self.matrix, offset], 2)
        return warp_affine(images, warp, (side, side), padding_mode="border")

    def of_points(self, points: Tensor, side: int) -> Tensor:
        """[B, N, 2] px from the top left corner."""
        return (points - side / 2) @ self.matrix.mT + side / 2 + self.shift[:, None] * side

    def of_codes(self, codes: Tensor, layout: CodeLayout, camera: Camera) -> Tensor:
        """[B, size]: the same faces as the pictures show them."""
        code = layout.unpack(codes)
        zero = torch.zeros_like(self.turn)
        turned = axis_angle_to_matrix(torch.stack([zero, zero, self.turn], 1))
        position = codes.new_tensor(camera.position)
        place = (turned @ (code.translation + position)[..., None])[..., 0]
        depth = place[:, 2:] / self.size[:, None]
        across = self.shift * camera.size[0] / camera.focal_px * -depth  # mm
        aside = across * across.new_tensor([1, -1])
        place = torch.cat([place[:, :2] + aside, depth], 1)
        return layout.pack(
            replace(
                code,
                rotation=matrix_to_axis_angle(turned @ axis_angle_to_matrix(code.rotation)),
                translation=place - position,
                light=rotate_sh(code.light, turned),
            )
        )


def reframe(
    batch: Batch, options: Augmentation, seed: int, layout: CodeLayout, camera: Camera
) -> Batch:
    """Frame the pictures of a training batch otherwise, with their landmarks and codes.

    Args:
        batch: as `sampling.batches` or `SyntheticFaces.batches` make it, on any device.
        options: `frame` of it; 0: the same batch.
        seed: non-negative.
        layout: of the codes.
        camera: of the codes.

    Raises:
        ValueError: the batch does not know its places (validation batches are not augmented).
    """
    if options.frame == 0:
        return batch
    if len(batch.places) != len(batch.images):
        raise ValueError(
            f"reframe: {len(batch.places)} places for {len(batch.images)} pictures; only batches of "
            "training know theirs"
        )
    draws = [random_generator(seed, STREAM, place) for place in batch.places]
    framing = Framing.draw(options.frame, Draws(draws, batch.images.device))
    side = batch.images.shape[-1]
    return replace(
        batch,
        images=framing.of_images(batch.images),
        clean=None if batch.clean is None else framing.of_images(batch.clean),
        landmarks=framing.of_points(batch.landmarks, side),
        dense=None if batch.dense is None else framing.of_points(batch.dense, side),
        codes=_known(batch.codes, framing, layout, camera),
    )


def _known(
    codes: Tensor | None, framing: Framing, layout: CodeLayout, camera: Camera
) -> Tensor | None:
    if codes is None:
        return None
    known = codes.isfinite().all(1, keepdim=True)
    framed = framing.of_codes(torch.where(known, codes, 0.0), layout, camera)
    return torch.where(known, framed, torch.nan)
