"""Affine models: a mean plus a few coefficients times long basis vectors, for small batches.

The bases of a face are 65 MB, read once for every batch: what counts is to read them only once, block by
block, for all images. A matrix product of five rows reads them no faster than a third of memory's speed.
Bases that are whole numbers of steps, as the built-in faces' are, are read as such (`steps`): half the bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.parallel import compiles, jit, run_on_threads
from mofa_nvdr.face.steps import (
    BLOCK,
    add_eight,
    add_one,
    add_products_of_steps,
    in_steps,
    products_of_steps,
    sum_eight,
    sum_one,
)

_MOST_IMAGES = 16  # beyond, a matrix product is faster
_CHUNK = 9216  # columns an item


def linear_model(mean: Tensor, bases: list[Tensor], coefficients: list[Tensor]) -> Tensor:
    """Mean + sum over the bases of coefficients @ basis (Eqs. 2 and 3 of the paper).

    Args:
        mean: [P].
        bases: [K_i, P] each.
        coefficients: [B, K_i] each.

    Returns:
        [B, P]; differentiable in the coefficients and the bases, and on every path but the compiled one in
        the mean. The same bits for every thread count on the CPU. float32 on the CPU in batches of up to 16,
        with a fixed mean, takes one compiled pass (differentiable once), everything else
        `linear_model_ref`.

    Raises:
        ValueError: shapes disagree.
    """
    for basis, weights in zip(bases, coefficients):
        if basis.shape[1:] != mean.shape or weights.shape[1:] != basis.shape[:1]:
            raise ValueError(
                f"linear_model: mean is {list(mean.shape)}, a basis {list(basis.shape)} and its "
                f"coefficients {list(weights.shape)}, expected [P], [K, P] and [B, K]"
            )
    tensors = [mean, *bases, *coefficients]
    compiled = (
        len({len(weights) for weights in coefficients}) == 1
        and len(coefficients[0]) <= _MOST_IMAGES
        and compiles(*tensors)
        and not mean.requires_grad
    )
    if not compiled:
        return linear_model_ref(mean, bases, coefficients)
    return _LinearModel.apply(mean, *bases, *coefficients)


def linear_vertices(
    mean: Tensor, bases: list[Tensor], coefficients: list[Tensor], index: Tensor | None
) -> Tensor:
    """`linear_model` of numbers at vertices, of all or of some of them.

    Args:
        mean: [V, C].
        bases: [K_i, V, C] each.
        coefficients: [B, K_i] each.
        index: int64 [N]; None: all vertices.

    Returns:
        [B, N, C].
    """
    if index is not None:
        mean, bases = mean[index], [basis[:, index] for basis in bases]
    flat = linear_model(mean.flatten(), [basis.flatten(1) for basis in bases], coefficients)
    return flat.view(len(flat), *mean.shape)


def linear_model_ref(mean: Tensor, bases: list[Tensor], coefficients: list[Tensor]) -> Tensor:
    """The twin of `linear_model` in plain torch."""
    out = mean.reshape(1, -1)
    for basis, weights in zip(bases, coefficients):
        out = torch.addmm(out, weights, basis)
    return out


class _LinearModel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mean: Tensor, *both: Tensor) -> Tensor:
        """Of bases and then of their coefficients, as many."""
        bases, coefficients = both[: len(both) // 2], both[len(both) // 2 :]
        # For their versions: a basis that is learned is changed in place between two steps.
        ctx.save_for_backward(*both)
        length = mean.numel()
        out = mean.new_empty(len(coefficients[0]), length)
        weights = [c.detach().contiguous().numpy() for c in coefficients]
        ctx.stepped = stepped = [in_steps(b) for b in bases]
        vectors = [b.detach().contiguous().numpy() for b in bases]
        start_from, target = mean.numpy(), out.numpy()

        def chunk(start: int, stop: int) -> None:
            target[:, start:stop] = start_from[start:stop]
            for basis, steps, w in zip(vectors, stepped, weights):
                if steps is None:
                    _add_products(basis, w, target, start, stop)
                else:
                    add_products_of_steps(steps.values, steps.size, w, target, start, stop)

        run_on_threads(chunk, _chunks(length))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        both = ctx.saved_tensors
        count = len(both) // 2
        given, chunks = grad.contiguous().numpy(), _chunks(grad.shape[1])
        stepped = ctx.stepped
        vectors = [b.detach().contiguous().numpy() for b in both[:count]]
        weights = [np.ascontiguousarray(c.detach().numpy().T) for c in both[count:]]
        # Sums of their own for each chunk, added up in order.
        sums = [np.zeros((len(chunks), len(grad), len(basis))) for basis in vectors]
        learned = [
            torch.zeros_like(basis, memory_format=torch.contiguous_format) if wanted else None
            for basis, wanted in zip(both[:count], ctx.needs_input_grad[1:])
        ]

        def chunk(k: int, start: int, stop: int) -> None:
            for basis, steps, w, own, of_basis in zip(vectors, stepped, weights, sums, learned):
                if steps is None:
                    _products(basis, given, start, stop, own[k])
                else:
                    products_of_steps(steps.values, steps.size, given, start, stop, own[k])
                if of_basis is not None:  # the gradient's rows in the place of the basis's
                    _add_products(given, w, of_basis.numpy(), start, stop)

        run_on_threads(chunk, [(k, *ends) for k, ends in enumerate(chunks)])
        of_coefficients = (torch.from_numpy(own.sum(0)).float() for own in sums)
        return (None, *learned, *of_coefficients)


def _chunks(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + _CHUNK, length)) for start in range(0, length, _CHUNK)]


@jit
def _add_products(
    basis: np.ndarray, weights: np.ndarray, out: np.ndarray, start: int, stop: int
) -> None:
    """Out += weights @ basis in columns start to stop, eight basis vectors at a time."""
    modes = basis.shape[0]
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        k = 0
        while k + 8 <= modes:
            b0, b1 = basis[k, first:last], basis[k + 1, first:last]
            b2, b3 = basis[k + 2, first:last], basis[k + 3, first:last]
            b4, b5 = basis[k + 4, first:last], basis[k + 5, first:last]
            b6, b7 = basis[k + 6, first:last], basis[k + 7, first:last]
            for image in range(out.shape[0]):
                add_eight(b0, b1, b2, b3, b4, b5, b6, b7, weights[image], k, out[image, first:last])
            k += 8
        while k < modes:
            for image in range(out.shape[0]):
                add_one(basis[k, first:last], weights[image, k], out[image, first:last])
            k += 1


@jit
def _products(basis: np.ndarray, grad: np.ndarray, start: int, stop: int, sums: np.ndarray) -> None:
    """Sums [B, K] += grad @ basis.T over columns start to stop, eight basis vectors at a time."""
    modes = basis.shape[0]
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        k = 0
        while k + 8 <= modes:
            b0, b1 = basis[k, first:last], basis[k + 1, first:last]
            b2, b3 = basis[k + 2, first:last], basis[k + 3, first:last]
            b4, b5 = basis[k + 4, first:last], basis[k + 5, first:last]
            b6, b7 = basis[k + 6, first:last], basis[k + 7, first:last]
            for image in range(grad.shape[0]):
                sum_eight(b0, b1, b2, b3, b4, b5, b6, b7, grad[image, first:last], k, sums[image])
            k += 8
        while k < modes:
            for image in range(grad.shape[0]):
                sum_one(basis[k, first:last], grad[image, first:last], k, sums[image])
            k += 1
