"""Random numbers for batches in which each sample has a generator of its own."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_NUMBERS = 192  # drawn at once for `uniform`: numbers cost little, calls of the generators a lot


def random_words(num: int, *key: int) -> np.ndarray:
    """Random uint64 [num] that depend on the key alone; NumPy does not change raw bit streams."""
    return np.random.PCG64(np.random.SeedSequence(key)).random_raw(num)


def random_generator(*key: int) -> np.random.Generator:
    """A random generator that depends on the key alone: the seed, a stream's number, a place."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


class Draws:
    """Random numbers of a batch, each sample's from its own generator, in the order of the calls."""

    def __init__(self, rngs: Sequence[np.random.Generator], device: torch.device) -> None:
        self._rngs = rngs
        self.device = device
        self._table = torch.from_numpy(np.stack([rng.random(_NUMBERS, np.float32) for rng in rngs]))
        self._table = self._table.to(device)
        self._next = 0

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self._rngs)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers [B] in [low, high)."""
        self._next += 1
        return low + (high - low) * self._table[:, self._next - 1]

    def chance(self, share: float) -> Tensor:
        """1 in a share of the samples, else 0, [B]."""
        return (self.uniform() < share).float()

    def color(self, low: float = 0.0, high: float = 1.0, chroma: float = 1.0) -> Tensor:
        """Colours [B, 3]: a grey in [low, high), each channel up to `chroma` of it lighter or darker."""
        grey = self.uniform(low, high)[:, None]
        channels = torch.stack([self.uniform(-chroma, chroma) for _ in range(3)], dim=1)
        return grey * (1 + channels)

    def random(self, *shape: int) -> Tensor:
        """Numbers [B, *shape] in [0, 1), drawn on their own."""
        fields = np.stack([rng.random(shape, np.float32) for rng in self._rngs])
        return torch.from_numpy(fields).to(self.device)

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers [B, *shape], each one of 65,536 quantiles: of 4.3 deviations at most."""
        count = int(np.prod(shape))
        # Two random bytes a number, looked up: a third of the time of `standard_normal`.
        words = np.frombuffer(b"".join(rng.bytes(2 * count) for rng in self._rngs), "<u2")
        fields = _quantiles().take(words).reshape(-1, *shape)
        return torch.from_numpy(fields).to(self.device)


@functools.cache
def _quantiles() -> np.ndarray:
    """The normal distribution in the middle of each of 2^16 equal shares, float32 [65536]."""
    shares = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    return torch.special.ndtri(shares).float().numpy()
