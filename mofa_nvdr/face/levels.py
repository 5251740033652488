"""Levels of a face model that are learned from photographs: a mean and modes from what was seen of people.

Of each person only some vertices were seen. The modes are principal components with missing entries, by
expectation maximisation: what was not seen is filled in from the modes, the modes are taken from what is
filled. A person's mirror image is a person too, so every mode is its own mirror image, or the negative of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.system.threads import on_one_thread, on_threads

_SHRINK = 3.0  # people with zero everywhere who count with the others for the mean
_BLOCK = 4096  # columns that one thread takes at once: the same bits for any number of threads
_TINY = 1e-12
_RIDGE = 0.02  # keeps coefficients of given directions small of which little was seen


@dataclass(frozen=True)
class Level:
    """A mean and modes of values at vertices.

    Attributes:
        mean: [V, 3].
        modes: [K, V, 3] scaled by their deviations; largest first.
        noise: deviation of one number about the mean and the modes.
    """

    mean: Tensor
    modes: Tensor
    noise: float


def learn_level(
    values: Tensor,
    seen: Tensor,
    mirror: Tensor,
    count: int,
    fixed: Tensor | None = None,
    across: tuple[float, float, float] = (1.0, 1.0, 1.0),
    rounds: int = 8,
) -> Level:
    """A mean and modes of what was seen of N people and of their mirror images.

    Args:
        values: [N, V, 3]; anything where nothing was seen.
        seen: [N, V] in [0, 1], how far a value counts: 0 for not at all.
        mirror: int64 [V], the vertex on the other side.
        count: of modes to learn; fewer come back where people differ in fewer ways.
        fixed: [F, V, 3] directions that exist already: what people differ in along them is left to them, and
            the learned modes are orthogonal to them.
        across: factors of a value's components on the other side: (-1, 1, 1) for displacements.
        rounds: of filling in and of taking modes.

    Returns:
        The level, on the CPU.

    Raises:
        ValueError: shapes disagree, fewer than two people, or fewer than one mode.
    """
    people, vertices = seen.shape[0], len(mirror)
    if values.shape != (people, vertices, 3) or seen.shape != (people, vertices):
        raise ValueError(
            f"learn_level: values are {list(values.shape)} and seen {list(seen.shape)}, expected "
            f"[N, {vertices}, 3] and [N, {vertices}]"
        )
    if people < 2:
        raise ValueError(f"learn_level: {people} people, expected two or more")
    if count < 1:
        raise ValueError(f"learn_level: count is {count}, expected 1 or more")
    flip = values.new_tensor(across)
    mean = _mean(values, seen, mirror, flip)
    weight = seen[..., None].expand(-1, -1, 3).flatten(1)
    data = ((values - mean).flatten(1)).where(weight > 0, 0.0)
    given = _orthonormal(fixed.flatten(1) if fixed is not None else data[:0])
    filled = _first_fill(data, weight, given)
    parts = _Parts(given, mirror, flip, min(count, 2 * people - 1))
    for _ in range(rounds):
        expected = parts.expected(filled)
        filled = weight * data + (1 - weight) * expected
    left = (data - parts.expected(filled)).square() * weight
    noise = float((left.sum(1).sum() / weight.sum(1).sum().clamp(min=1)).sqrt())
    return Level(mean, parts.modes(filled), noise)


class _Parts:
    """Principal directions of even and odd parts, apart from what given directions [F, P] hold."""

    def __init__(self, given: Tensor, mirror: Tensor, flip: Tensor, count: int) -> None:
        self.given, self.mirror, self.flip, self.count = given, mirror, flip, count

    def expected(self, filled: Tensor) -> Tensor:
        """What given and principal directions say of rows [N, P], less what is noise in them."""
        held, parts = self._principal(filled)
        for part in parts:
            inner = combinations(part.vectors.T, part.rows)
            held = held + combinations(part.vectors * part.share.square(), inner)
        return held

    def modes(self, filled: Tensor) -> Tensor:
        """Modes [K, V, 3] by size."""
        _, parts = self._principal(filled)
        rows = [combinations((p.vectors * p.share).T, p.rows) / len(p.rows) ** 0.5 for p in parts]
        order = torch.cat([part.values for part in parts]).argsort(descending=True)
        return torch.cat(rows)[order].unflatten(1, (-1, 3))

    def _principal(self, filled: Tensor) -> tuple[Tensor, list[_Part]]:
        """What the given directions hold of rows [N, P], and the largest principal directions of the rest."""
        held = combinations(products(filled, self.given), self.given)
        halves = self._split(filled - held)
        found = [principal_axes(products(half, half).double() / len(half)) for half in halves]
        every = torch.cat([values for values, _ in found])
        least = every.sort(descending=True).values[self.count - 1].clamp(min=_TINY)
        taken = [int((values >= least).sum()) for values, _ in found]
        rest = sum(float(values[k:].sum()) for (values, _), k in zip(found, taken))
        noise = rest / max(len(every) - sum(taken), 1)
        parts = []
        for half, (values, vectors), k in zip(halves, found, taken):
            top = values[:k]
            share = ((top - noise).clamp(min=0) / top.clamp(min=_TINY)).sqrt()
            parts.append(_Part(half, vectors[:, :k], top, share))
        return held, parts

    def _split(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd parts of rows [N, P]."""
        shaped = rest.unflatten(1, (-1, 3))
        image = (shaped[:, self.mirror] * self.flip).flatten(1)
        return (rest + image) / 2, (rest - image) / 2


@dataclass(frozen=True)
class _Part:
    """Even or odd parts of people and their largest directions.

    Attributes:
        rows: [N, P] the parts.
        vectors: [N, K] the directions, in people.
        values: [K] variances.
        share: [K] of each deviation that is no noise.
    """

    rows: Tensor
    vectors: Tensor
    values: Tensor
    share: Tensor


def products(a: Tensor, b: Tensor) -> Tensor:
    """Products a @ b.T of long rows [N, P] and [M, P], with the same bits for any number of threads."""
    starts = range(0, a.shape[1], _BLOCK)
    sums = a.new_zeros(len(starts), len(a), len(b))

    def block(k: int) -> None:
        some = slice(starts[k], starts[k] + _BLOCK)
        torch.mm(a[:, some], b[:, some].T, out=sums[k])

    on_threads(block, len(starts))
    return sums.sum(0)


def combinations(weights: Tensor, rows: Tensor) -> Tensor:
    """Sums weights @ rows, [N, K] of long rows [K, P], with the same bits for any number of threads."""
    out = rows.new_empty(len(weights), rows.shape[1])

    def block(k: int) -> None:
        some = slice(k * _BLOCK, (k + 1) * _BLOCK)
        out[:, some] = weights @ rows[:, some]

    on_threads(block, -(-rows.shape[1] // _BLOCK))
    return out


def principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [N], the largest first and none negative, and eigenvectors [N, N] in columns."""
    values, vectors = on_one_thread(lambda: torch.linalg.eigh(covariance.double()))
    return values.flip(0).clamp(min=0).float(), vectors.flip(1).float()


def _mean(values: Tensor, seen: Tensor, mirror: Tensor, flip: Tensor) -> Tensor:
    """[V, 3], the same on both sides; where few were seen, near zero."""
    total = (values * seen[..., None]).where(seen[..., None] > 0, 0.0).sum(0)
    total = total + total[mirror] * flip
    times = seen.sum(0)
    times = (times + times[mirror])[:, None]
    return total / (times + _SHRINK)


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis [F', P] of rows [F, P]; those that are zero give none."""
    rows = rows[rows.norm(dim=1) > 1e-6]
    if not len(rows):
        return rows
    return on_one_thread(lambda: torch.linalg.qr(rows.double().T).Q.T.float())


def _first_fill(data: Tensor, weight: Tensor, given: Tensor) -> Tensor:
    """What was not seen of a person, by the given directions alone."""
    filled = data * weight
    if not len(given):
        return filled

    def fill(n: int) -> None:
        seen = given * weight[n]
        normal = seen @ given.T + _RIDGE * torch.eye(len(given))
        held = torch.linalg.solve(normal, seen @ data[n]) @ given
        filled[n] += (1 - weight[n]) * held

    on_threads(fill, len(data))
    return filled
