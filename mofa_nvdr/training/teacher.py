"""The encoder of the warm start, frozen: what the anchor term compares photographs with."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.losses.consistency import Placement, placement_units
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.system import distributed


class Teacher(nn.Module):
    """The encoder as it is, frozen and in evaluation mode, for the term `loss.anchor`.

    Attributes:
        encoder: a copy, which learns nothing.
        offset: [6] what `centre` found, in consistency.placement_units; zeros at first.
    """

    offset: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False).eval()
        device = next(encoder.parameters()).device
        self.register_buffer("offset", torch.zeros(6, device=device))

    def forward(self, images: Tensor) -> Tensor:
        """Codes of images."""
        with torch.no_grad():
            return self.encoder(images.to(self.offset.device))

    def follow(self, encoder: Encoder) -> None:
        """Take over the encoder's weights and averages; the offset is zero again."""
        self.encoder.load_state_dict(encoder.state_dict())
        self.offset.zero_()

    @torch.no_grad()
    def centre(self, decoder: FaceDecoder, batches: Iterable[Batch]) -> None:
        """Set the offset from the mean place and size that it gives to photographs to code zero's.

        Crops in the training framing have their faces where code zero has its own, on average; an encoder
        that has seen only renders is off by some pixels, the same for all. The rotation stays.

        Args:
            decoder: of the training.
            batches: photographs; of several processes each brings its share.
        """

        def place(codes: Tensor) -> Placement:
            return Placement.of(decoder, decoder.model.layout.unpack(codes))

        size = decoder.camera.size[0]
        own = [placement_units(place(self(batch.images)), size) for batch in batches]
        rows = torch.cat([row.to(self.offset.device) for row in distributed.gather(torch.cat(own))])
        there = placement_units(place(decoder.code_zero().pack()), size)[0]
        offset = there.double() - rows.double().mean(0)
        offset[3:] = 0
        self.offset.copy_(offset)


def with_teacher(batch: Batch, teacher: Teacher | None) -> Batch:
    """The batch with the frozen encoder's codes of its images; without a teacher the same batch."""
    if teacher is None:
        return batch
    codes = teacher(batch.images)
    return dataclasses.replace(batch, teacher_codes=codes, teacher_offset=teacher.offset)
