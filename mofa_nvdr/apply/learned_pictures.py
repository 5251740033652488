"""Training what the MoFA paper compares its analytic decoder with (Figs. 12 and 13), in minutes.

Everything is a function of the options, the pictures and the face model: nothing is kept on disk, and what
was stopped begins anew.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mofa_nvdr.data.kept import KeptCorpus
from mofa_nvdr.data.photographs import Corpus
from mofa_nvdr.data.random_numbers import random_generator
from mofa_nvdr.data.sampling import batches, val_batches
from mofa_nvdr.data.synthetic.codes import random_codes
from mofa_nvdr.data.synthetic.habits import ExpressionHabits
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.losses.color_distance import color_distance
from mofa_nvdr.networks.convolutional import (
    SHRINKING,
    ConvolutionalAutoencoder,
    ConvolutionalDecoder,
)
from mofa_nvdr.networks.linear_autoencoder import LinearAutoencoder
from mofa_nvdr.render.decoder import FaceDecoder, face_image

logger = logging.getLogger(__name__)

BATCH = 8
_RATE = 1e-3  # of Adam at first; a cosine takes it to 0
_MEMORY = 500.0  # 10^6 bytes: of decoded pictures, and of those that components are found in
_LARGEST = 512  # px
_TRAIN, TEST = 0, 1  # streams of codes
_LEAST_EFFECT = 0.05
_SOME = 512  # codes whose mean and deviations stand for the prior's

_Network = TypeVar("_Network", bound=nn.Module)
_Pairs = Generator[tuple[Tensor, Tensor], None, None]


@dataclass(frozen=True)
class LearnedOptions:
    """How the networks are trained.

    Attributes:
        steps: of each, with BATCH pictures in each.
        size: side of their pictures in pixels, a multiple of networks.convolutional.SHRINKING.
        seed: of their first weights, the order of the pictures and the codes.

    Raises:
        ValueError: one that cannot be.
    """

    steps: int = 2500
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("steps", self.steps, 1), ("seed", self.seed, 0)):
            if value < least:
                raise ValueError(
                    f"evaluate: --learned-{name} is {value}, expected at least {least}"
                )
        if not 2 * SHRINKING <= self.size <= _LARGEST or self.size % SHRINKING:
            raise ValueError(
                f"evaluate: --learned-size is {self.size} px, expected a multiple of {SHRINKING} from "
                f"{2 * SHRINKING} to {_LARGEST}"
            )


def learn_autoencoder(
    corpus: Corpus, code_size: int, options: LearnedOptions, device: torch.device
) -> ConvolutionalAutoencoder:
    """The convolutional autoencoder of a folder's training pictures (Fig. 12), in evaluation mode.

    Args:
        corpus: pictures at the options' size; half of them are seen mirrored each time.
        code_size: numbers between encoder and decoder.
        options: steps and seed.
        device: where it is trained, and stays.

    Raises:
        DataError: no picture can be read.
    """
    network = _seeded(lambda: ConvolutionalAutoencoder(options.size, code_size), options.seed)
    logger.info(
        "convolutional autoencoder: %d steps on %d pictures of %d px",
        *(options.steps, len(corpus), options.size),
    )

    def pictures() -> _Pairs:
        with closing(batches(KeptCorpus(corpus, _MEMORY), BATCH, options.seed)) as read:
            for batch in read:
                images = batch.images.to(device)
                yield images, images

    return _learn(network.to(device), pictures(), options.steps, "autoencoder")


def learn_components(
    corpus: Corpus, code_size: int, options: LearnedOptions, device: torch.device
) -> LinearAutoencoder:
    """The principal components of a folder's training pictures and their mirror images.

    Of as many pictures, evenly spaced, as there is memory for.
    """
    most = max(1, int(_MEMORY * 1e6 / (2 * 4 * 3 * options.size**2)))
    read = torch.cat([batch.images for batch in val_batches(corpus, BATCH, most)])
    both = torch.cat([read, read.flip(3)]).to(device)
    return LinearAutoencoder(both, code_size, options.seed)


def learn_decoder(decoder: FaceDecoder, options: LearnedOptions) -> ConvolutionalDecoder:
    """The learned decoder of a face model: codes to the analytic decoder's pictures of them (Fig. 13).

    Args:
        decoder: the analytic one, at the options' size.
        options: steps and seed.

    Returns:
        In evaluation mode, on the decoder's device; it takes codes [B, 257] as the analytic decoder does.
    """
    model, device = decoder.model, decoder.triangles.device
    mean, deviation = moments(model)
    size, length = options.size, model.layout.size
    unit = deviation / _effects(decoder, mean, deviation)
    network = _seeded(lambda: ConvolutionalDecoder(size, length, mean, unit), options.seed)
    logger.info(
        "learned decoder: %d steps on %d renders of %s",
        *(options.steps, BATCH * options.steps, model.name),
    )

    def renders() -> _Pairs:
        for step in range(options.steps):
            codes = drawn_codes(model, BATCH, options.seed, _TRAIN, step).to(device)
            with torch.no_grad():
                pictures = face_image(decoder.rasterize(decoder.geometry(codes)))
            yield codes, pictures

    return _learn(network.to(device), renders(), options.steps, "learned decoder")


def drawn_codes(model: FaceModel, count: int, seed: int, stream: int, number: int = 0) -> Tensor:
    """Codes [count, size] of people as `synthesize` draws them, a function of the numbers; on the CPU.

    Args:
        model: the face model.
        count: how many.
        seed: of a training, or of a test.
        stream: TEST for codes that no training draws.
        number: of the batch.
    """
    generator = random_generator(stream, seed, number)
    habits = ExpressionHabits.of(model.named_expressions)
    return random_codes(model.layout, count, generator, habits=habits).pack()


def moments(model: FaceModel) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [size] of the codes' numbers."""
    some = drawn_codes(model, _SOME, 0, TEST, 1)
    return some.mean(0), some.std(0)


@torch.no_grad()
def _effects(decoder: FaceDecoder, mean: Tensor, deviation: Tensor) -> Tensor:
    """How much a deviation of each of a code's numbers changes the picture of the mean code, [size].

    In units of their root mean square, and no less than a part of it. Light and pose change most: a network
    whose inputs are all of one size takes long to find that in the noise of two hundred modes.
    """
    device = decoder.triangles.device

    def pictures(codes: Tensor) -> Tensor:
        return face_image(decoder.rasterize(decoder.geometry(codes.to(device))))

    still = pictures(mean[None])
    moved = (mean + torch.diag(deviation)).split(BATCH)
    change = torch.cat(
        [(pictures(codes) - still).square().mean((1, 2, 3)).sqrt().cpu() for codes in moved]
    )
    change = change / change.square().mean().sqrt().clamp(min=1e-12)
    return change.clamp(min=_LEAST_EFFECT)


def _seeded(make: Callable[[], _Network], seed: int) -> _Network:
    """A network whose first weights follow the seed; the program's own random numbers stay."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


@torch.enable_grad()
def _learn(network: _Network, pairs: _Pairs, steps: int, name: str) -> _Network:
    """Minimise the mean RGB distance of what the network makes of the first of each pair to the second."""
    for weights in network.parameters():
        if weights.ndim == 4:  # in memory: a tenth less time on a CPU
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    hidden = not sys.stderr.isatty()
    with tqdm(total=steps, desc=name, unit="step", disable=hidden) as bar:
        for step, (given, wanted) in zip(range(steps), pairs):
            optimizer.param_groups[0]["lr"] = _RATE * (1 + math.cos(math.pi * step / steps)) / 2
            away = color_distance(network(given), wanted, dim=1).mean()
            optimizer.zero_grad()
            away.backward()
            optimizer.step()
            bar.update()
    pairs.close()  # its reading threads end here
    return network.eval()
