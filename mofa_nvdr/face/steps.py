"""Bases that are whole numbers of one step, kept as 16-bit integers: half the memory to read for a product.

A processor reads short pieces of many vectors one after the other, and does not guess what comes next: while
the numbers of eight vectors are used, those of the next eight are asked for. Without that, integers are no
faster than the floats. Each number is made again as it was, so that no bit of a product differs (a zero
loses its sign).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.dr.cache import fetch_to_read, table
from mofa_nvdr.dr.parallel import jit

BLOCK = 512  # columns that stay in the first cache with the rows of all images
_LARGEST = 32767
_IN_A_LINE = 32  # integers in a line of the cache
_FEW = 2**16  # numbers that stay in the cache anyway


@dataclass(frozen=True)
class Steps:
    """A basis as int16 values [K, P] times a step's size, both as kernels take them."""

    values: np.ndarray
    size: np.float32


# By the tensor's number: the tensor, the state in which it was seen, and its steps once they are made.
_seen: dict[int, tuple[weakref.ref[Tensor], tuple[object, ...], bool, Steps | None]] = {}


def in_steps(basis: Tensor) -> Steps | None:
    """A basis as whole numbers of a step, if that is what it is, bit by bit; None otherwise.

    It is looked at when it comes for the second time, and again after a change that torch counts: one by way
    of `.data` or NumPy is none.

    Args:
        basis: float32 [K, P] on the CPU, or a view of such a tensor. None for one that is learned, or small.
    """
    whole = basis if basis._base is None else basis._base
    if (
        whole.requires_grad
        or basis.is_inference()
        or basis.numel() < _FEW
        or not basis.is_contiguous()
    ):
        return None
    key, state = id(whole), (basis._version, basis.data_ptr(), tuple(basis.shape))
    found = _seen.get(key)
    if found is None or found[0]() is not whole or found[1] != state:
        # The entry leaves with the tensor: its number may be another's then.
        _seen[key] = (weakref.ref(whole, lambda _: _seen.pop(key, None)), state, False, None)
        return None
    if not found[2]:
        found = (*found[:2], True, _steps_of(basis.detach().numpy()))
        _seen[key] = found
    return found[3]


def _steps_of(basis: np.ndarray) -> Steps | None:
    bits = _least_bits(basis.view(np.int32))
    size = np.int32(bits).view(np.float32)
    if not 0 < size < np.inf:
        return None
    values = torch.empty(basis.shape, dtype=torch.int16).numpy()  # begins with a line of the cache
    return Steps(values, size) if _divide(basis, size, values) else None


@jit
def _least_bits(basis: np.ndarray) -> np.int32:
    """The bits of the smallest number that is not zero, without its sign: the step, if there is one."""
    least = np.int32(0x7F800000)
    for k in range(basis.shape[0]):
        row = basis[k]
        for p in range(len(row)):
            bits = row[p] & np.int32(0x7FFFFFFF)
            least = min(least, bits if bits else np.int32(0x7F800000))
    return least


@jit
def _divide(basis: np.ndarray, size: np.float32, values: np.ndarray) -> bool:
    """Fill the values; whether they give the basis again, but for the sign of a zero."""
    for k in range(basis.shape[0]):
        numbers, row, wrong = basis[k], values[k], 0
        for p in range(len(row)):
            steps = np.rint(numbers[p] / size)
            fits = abs(steps) <= np.float32(_LARGEST) and steps * size == numbers[p]
            row[p] = np.int16(steps if fits else np.float32(0.0))
            wrong += 0 if fits else 1
        if wrong:
            return False
    return True


@jit
def add_products_of_steps(
    values: np.ndarray,
    size: np.float32,
    weights: np.ndarray,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Out += weights @ (values * size) in columns start to stop, eight basis vectors at a time."""
    modes, images = values.shape[0], out.shape[0]
    t = table(8, BLOCK, np.float32)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        n = last - first
        b0, b1, b2, b3 = t[0, :n], t[1, :n], t[2, :n], t[3, :n]
        b4, b5, b6, b7 = t[4, :n], t[5, :n], t[6, :n], t[7, :n]
        k = 0
        while k + 8 <= modes:
            for i in range(8):
                _expand(values[k + i, first:last], size, t[i])
            for image in range(images):
                _fetch_next(values, k, first, last, stop, image, images)
                add_eight(b0, b1, b2, b3, b4, b5, b6, b7, weights[image], k, out[image, first:last])
            k += 8
        while k < modes:
            _expand(values[k, first:last], size, t[0])
            for image in range(images):
                add_one(b0, weights[image, k], out[image, first:last])
            k += 1


@jit
def products_of_steps(
    values: np.ndarray, size: np.float32, grad: np.ndarray, start: int, stop: int, sums: np.ndarray
) -> None:
    """Sums [B, K] += grad @ (values * size).T over columns start to stop, eight basis vectors at a time."""
    modes, images = values.shape[0], grad.shape[0]
    t = table(8, BLOCK, np.float32)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        n = last - first
        b0, b1, b2, b3 = t[0, :n], t[1, :n], t[2, :n], t[3, :n]
        b4, b5, b6, b7 = t[4, :n], t[5, :n], t[6, :n], t[7, :n]
        k = 0
        while k + 8 <= modes:
            for i in range(8):
                _expand(values[k + i, first:last], size, t[i])
            for image in range(images):
                _fetch_next(values, k, first, last, stop, image, images)
                sum_eight(b0, b1, b2, b3, b4, b5, b6, b7, grad[image, first:last], k, sums[image])
            k += 8
        while k < modes:
            _expand(values[k, first:last], size, t[0])
            for image in range(images):
                sum_one(b0, grad[image, first:last], k, sums[image])
            k += 1


@jit(inline=True)
def _expand(values, size, out):  # type: ignore[no-untyped-def]
    """Values of one vector as the floats that they were."""
    for p in range(len(values)):
        out[p] = np.float32(values[p]) * size


@jit(inline=True)
def _fetch_next(values, k, first, last, stop, share, shares):  # type: ignore[no-untyped-def]
    """Ask for a share of the eight vectors that come next, at the end those of the next block."""
    k += 8
    if k + 8 > values.shape[0]:
        k, first, last = 0, last, min(last + BLOCK, stop)
    lines = (last - first + _IN_A_LINE - 1) // _IN_A_LINE
    for line in range(lines * share // shares, lines * (share + 1) // shares):
        for i in range(8):
            fetch_to_read(values, k + i, first + _IN_A_LINE * line)


@jit(inline=True)
def add_eight(b0, b1, b2, b3, b4, b5, b6, b7, weights, k, row):  # type: ignore[no-untyped-def]
    """Add eight vectors, times the weights from k on, to a row."""
    w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
    w4, w5, w6, w7 = weights[k + 4], weights[k + 5], weights[k + 6], weights[k + 7]
    for p in range(len(row)):
        row[p] += ((w0 * b0[p] + w1 * b1[p]) + (w2 * b2[p] + w3 * b3[p])) + (
            (w4 * b4[p] + w5 * b5[p]) + (w6 * b6[p] + w7 * b7[p])
        )


@jit(inline=True)
def add_one(vector, weight, row):  # type: ignore[no-untyped-def]
    """Add a vector times its weight to a row."""
    for p in range(len(row)):
        row[p] += weight * vector[p]


@jit(inline=True, reassociate=True)
def sum_eight(b0, b1, b2, b3, b4, b5, b6, b7, row, k, sums):  # type: ignore[no-untyped-def]
    """Add the products of a row with eight vectors to the sums from k on."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
    for p in range(len(row)):
        g = row[p]
        s0 += g * b0[p]
        s1 += g * b1[p]
        s2 += g * b2[p]
        s3 += g * b3[p]
        s4 += g * b4[p]
        s5 += g * b5[p]
        s6 += g * b6[p]
        s7 += g * b7[p]
    for n, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7)):
        sums[k + n] += s


@jit(inline=True, reassociate=True)
def sum_one(vector, row, k, sums):  # type: ignore[no-untyped-def]
    """Add the product of a row with a vector to sum k."""
    s = np.float32(0.0)
    for p in range(len(row)):
        s += row[p] * vector[p]
    sums[k] += s
