"""What the drop-ins are given, checked: an error names the argument by the name that the caller used."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor


class Inputs:
    """The arguments of one call: sizes that must agree, one device, one type.

    Args:
        who: the called class or function, which begins every message.
        dtype: of the floats; None: that of the first of them.
    """

    def __init__(self, who: str, dtype: torch.dtype | None = torch.float32) -> None:
        self.who = who
        self.dtype = dtype
        self.sizes: dict[str, int] = {}
        self._sources: dict[str, str] = {}
        self._first: tuple[str, torch.device] | None = None

    def floats(self, name: str, value: Any, *shapes: tuple[str | int, ...]) -> Tensor:
        """A tensor of one of the shapes; letters must keep the size that they first had.

        Raises:
            TypeError: not a tensor, or of another type than the call's.
            ValueError: another shape, an empty dimension, or another device than the first tensor's.
        """
        self.tensor(name, value)
        expected = " or ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)
        fitting = [shape for shape in shapes if self._fits(shape, value.shape)]
        if not fitting:
            letters = dict.fromkeys(x for shape in shapes for x in shape if x in self.sizes)
            known = ", ".join(f"{x} = {self.sizes[x]} (from {self._sources[x]})" for x in letters)
            raise ValueError(
                f"{self.who}: {name} is {list(value.shape)}, expected {expected}"
                + (f" with {known}" if known else "")
                + ", every size above 0"
            )
        if self.dtype is None and value.is_floating_point():
            self.dtype = value.dtype
        if value.dtype != self.dtype:
            wanted = self.dtype or torch.float32
            call = ".float()" if wanted == torch.float32 else f".to({wanted})"
            raise TypeError(
                f"{self.who}: {name} is {value.dtype}, expected {wanted}; call {call} on it"
            )
        for letter, size in zip(fitting[0], value.shape):
            if isinstance(letter, str) and letter not in self.sizes:
                self.size(letter, size, name)
        return value

    def size(self, letter: str, size: int, source: str) -> None:
        """State what a letter means from now on, and where that comes from."""
        self.sizes[letter], self._sources[letter] = size, source

    def indices(self, name: str, value: Any, num_vertices: int) -> Tensor:
        """Triangles [T, 3] of any integer dtype as contiguous int32.

        Raises:
            TypeError: not a tensor of whole numbers.
            ValueError: another shape, no triangle, another device, or (CPU) an index of no vertex.
        """
        self.tensor(name, value)
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"{self.who}: {name} is {value.dtype}, expected integers; call .int()")
        if value.ndim != 2 or value.shape[1] != 3 or not value.shape[0]:
            raise ValueError(
                f"{self.who}: {name} is {list(value.shape)}, expected [T, 3] with T above 0: a mesh "
                "without triangles can't be drawn"
            )
        # No look at the indices on a GPU: it would wait for the device. There such triangles are skipped.
        if value.device.type == "cpu" and (
            int(value.min()) < 0 or int(value.max()) >= num_vertices
        ):
            raise ValueError(
                f"{self.who}: {name} holds indices {int(value.min())} to {int(value.max())}, expected "
                f"0 to {num_vertices - 1} (from the vertices)"
            )
        return value.int().contiguous()

    def tensor(self, name: str, value: Any) -> None:
        """Refuse what is no tensor, or on another device than the first one.

        Raises:
            TypeError: not a tensor.
            ValueError: another device.
        """
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{self.who}: {name} is a {type(value).__name__}, expected a torch.Tensor"
            )
        if self._first is None:
            self._first = (name, value.device)
        elif value.device != self._first[1]:
            raise ValueError(
                f"{self.who}: {name} is on {value.device}, but {self._first[0]} is on "
                f"{self._first[1]}; move both to one device"
            )

    def _fits(self, shape: tuple[str | int, ...], given: torch.Size) -> bool:
        return len(shape) == len(given) and all(
            size > 0 and size == (self.sizes.get(x, size) if isinstance(x, str) else x)
            for x, size in zip(shape, given)
        )


def floating(who: str, name: str, value: Any) -> None:
    """Refuse what is not a tensor of floats, of any size and precision.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{who}: {name} is a {type(value).__name__}, expected a torch.Tensor")
    if not value.is_floating_point():
        raise TypeError(f"{who}: {name} is {value.dtype}, expected floats; call .float() on it")


def number(who: str, name: str, value: Any) -> float:
    """A finite number, also as numpy's or as a tensor of one, as a float.

    Raises:
        TypeError: not a number.
        ValueError: not finite.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{who}: {name} is {value!r}, expected a number")
    if not math.isfinite(value):
        raise ValueError(f"{who}: {name} is {value!r}, expected a finite number")
    return float(value)


def whole_size(who: str, name: str, value: Any) -> int:
    """A picture size that callers may have computed: 224.0 is 224.

    Raises:
        ValueError: not a whole number of 1 or more.
    """
    whole = isinstance(value, Real) and not isinstance(value, bool) and value % 1 == 0
    size = int(value) if whole else value
    positive_size(who, **{name: size})
    return int(size)


def positive_size(who: str, **sizes: Any) -> None:
    """Refuse picture sizes that are not whole numbers of 1 or more.

    Raises:
        ValueError: one is not.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"{who}: {name} is {size!r}, expected a whole number of pixels, 1 or more"
            )
