"""No light: a mesh's colours, or any other numbers, as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mofa_nvdr.shaders.shader import Shader


class Unlit(Shader):
    """The shader without light: a renderer's `light` is None, and albedo is what is drawn.

    The albedo may have any number of channels: features, labels, coordinates.
    """

    name = "unlit"
    parameters = ()
    uses_position = False
    uses_normal = False
    channels = None

    def colors(
        self, normal: Tensor, albedo: Tensor, position: Tensor, *args: Any, **parameters: Any
    ) -> Tensor:
        """The albedo."""
        return albedo
