"""The code vector x = (alpha, delta, beta, T, t, gamma) of the paper's Eq. 1 and its named parts."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Callable

import torch
from torch import Tensor

NUM_LIGHT = 27  # nine SH coefficients for each of red, green and blue


@dataclass(frozen=True)
class CodeLayout:
    """Sizes and places of the parts of a code vector, in the order of Eq. 1.

    The sizes come from the face model (80, 64 and 80 for the built-in one); rotation (3), translation (3)
    and light (27) are fixed.
    """

    num_shape: int = 80
    num_expression: int = 64
    num_albedo: int = 80

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers in each part, in the code's order."""
        return {
            "shape": self.num_shape,
            "expression": self.num_expression,
            "albedo": self.num_albedo,
            "rotation": 3,
            "translation": 3,
            "light": NUM_LIGHT,
        }

    @property
    def size(self) -> int:
        """Length of the code vector: 257 for the built-in model."""
        return sum(self.sizes.values())

    @property
    def slices(self) -> dict[str, slice]:
        """The slice of each part in the code vector."""
        result, start = {}, 0
        for name, size in self.sizes.items():
            result[name] = slice(start, start + size)
            start += size
        return result

    def unpack(self, code: Tensor) -> FaceCode:
        """Cut codes [B, size] into their parts; views, so gradients flow.

        Raises:
            ValueError: the code is not [B, size].
        """
        if code.ndim != 2 or code.shape[1] != self.size:
            parts = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
            raise ValueError(
                f"CodeLayout.unpack: code is {list(code.shape)}, expected [B, {self.size}] ({parts})"
            )
        parts_ = {name: code[:, where] for name, where in self.slices.items()}
        parts_["light"] = parts_["light"].reshape(-1, 9, 3)
        return FaceCode(**parts_)

    def pack(self, code: FaceCode) -> Tensor:
        """Join the parts into codes [B, size]; the inverse of `unpack`.

        Raises:
            ValueError: a part's size differs from this layout's.
        """
        self.check(code)
        return torch.cat([getattr(code, name).flatten(1) for name in self.sizes], dim=1)

    def zeros(
        self,
        batch_size: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> FaceCode:
        """Code zero: the average face, frontal, in the training framing, under the ambient offset."""
        return self.unpack(torch.zeros(batch_size, self.size, device=device, dtype=dtype))

    def check(self, code: FaceCode) -> None:
        """Raise ValueError unless every part of `code` has this layout's size and one batch size."""
        batch = code.rotation.shape[0]
        for name, size in self.sizes.items():
            want = [batch, 9, 3] if name == "light" else [batch, size]
            got = list(getattr(code, name).shape)
            if got != want:
                raise ValueError(
                    f"FaceCode: {name} is {got}, expected {want} (batch size from rotation; "
                    "the other sizes from the face model)"
                )


@dataclass(frozen=True)
class FaceCode:
    """A batch of faces by named parts.

    Convention: coefficients are standard normal (the bases carry the standard deviations); rotation is
    axis-angle in radians about the head's centre; translation is a camera-space shift in millimetres from
    the place of code zero; light holds SH coefficients of incoming radiance in camera space, to which the
    ambient offset is added outside the code.
    """

    shape: Tensor  # [B, 80]
    expression: Tensor  # [B, 64]
    albedo: Tensor  # [B, 80]
    rotation: Tensor  # [B, 3]
    translation: Tensor  # [B, 3]
    light: Tensor  # [B, 9, 3]

    @property
    def batch_size(self) -> int:
        """Number of faces."""
        return self.rotation.shape[0]

    @property
    def layout(self) -> CodeLayout:
        """The layout that this code's sizes imply."""
        return CodeLayout(self.shape.shape[1], self.expression.shape[1], self.albedo.shape[1])

    def pack(self) -> Tensor:
        """The code vector [B, size] in the order of Eq. 1."""
        return self.layout.pack(self)

    def replace(self, **parts: Tensor) -> FaceCode:
        """A copy with some parts exchanged, e.g. `code.replace(light=other.light)`."""
        return replace(self, **parts)

    def map(self, function: Callable[[Tensor], Tensor]) -> FaceCode:
        """Apply `function` to every part, e.g. `code.map(lambda part: part.detach().cpu())`."""
        return FaceCode(**{f.name: function(getattr(self, f.name)) for f in fields(self)})


def check_pair(who: str, code: FaceCode, true: FaceCode) -> None:
    """Raise ValueError unless two batches of codes have one layout and one size; `who` begins the message."""
    if code.layout != true.layout or code.batch_size != true.batch_size:
        raise ValueError(
            f"{who}: {code.batch_size} codes of {code.layout}, {true.batch_size} true ones of {true.layout}"
        )
