"""What the drop-ins are given, checked: an error names the argument by the name that the caller used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Inputs:
    """The arguments of one call: sizes that must agree, one device, float32.

    Args:
        who: the called class or function, which begins every message.
    """

    def __init__(self, who: str) -> None:
        self.who = who
        self.sizes: dict[str, int] = {}
        self._sources: dict[str, str] = {}
        self._first: tuple[str, torch.device] | None = None

    def floats(self, name: str, value: Any, *shapes: tuple[str | int, ...]) -> Tensor:
        """A float32 tensor of one of the shapes; letters must keep the size that they first had.

        Raises:
            TypeError: not a tensor, or not float32.
            ValueError: another shape, an empty dimension, or another device than the first tensor's.
        """
        self._tensor(name, value)
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
        if value.dtype != torch.float32:
            raise TypeError(
                f"{self.who}: {name} is {value.dtype}, expected torch.float32; call .float() on it"
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
        self._tensor(name, value)
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

    def _tensor(self, name: str, value: Any) -> None:
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
