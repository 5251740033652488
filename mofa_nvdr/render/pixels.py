"""From vertices to the pixels of a mesh that has been drawn: any numbers, after the fact."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.render.mesh_texture import check_triangles
from mofa_nvdr.shaders.gbuffer import upright


@dataclass(frozen=True, eq=False)
class MeshPixels:
    """Which point of which triangle each pixel sees.

    Attributes:
        rast: [B, H, W, 4] of `dr.rasterize`, row 0 at the bottom.
        triangles: int32 [T, 3].
        num_vertices: of the mesh.
        dr: the module with nvdiffrast's verbs.
        with_gradient: whether gradients were wanted where it was drawn.
    """

    rast: Tensor
    triangles: Tensor
    num_vertices: int
    dr: ModuleType
    with_gradient: bool

    def interpolate(self, attributes: Tensor, triangles: Tensor | None = None) -> Tensor:
        """See `Rendering.interpolate`."""
        batch = len(self.rast)
        if triangles is None:
            rows: str | int = self.num_vertices
            corners = self.triangles
        else:
            check_triangles("Rendering.interpolate", triangles)
            if len(triangles) != len(self.triangles):
                raise ValueError(
                    f"Rendering.interpolate: triangles is {list(triangles.shape)}, expected "
                    f"{list(self.triangles.shape)}, one row for each triangle of the mesh"
                )
            rows, corners = "U", triangles.int().contiguous()
        shape = attributes.shape
        if (
            len(shape) not in (2, 3)
            or shape[:-2] not in ((), (1,), (batch,))
            or (triangles is None and shape[-2] != rows)
        ):
            raise ValueError(
                f"Rendering.interpolate: attributes is {list(shape)}, expected [{batch}, {rows}, C] or "
                f"[{rows}, C] (from the mesh)"
            )
        if attributes.dtype != self.rast.dtype or attributes.device != self.rast.device:
            raise TypeError(
                f"Rendering.interpolate: attributes is {attributes.dtype} on {attributes.device}, expected "
                f"{self.rast.dtype} on {self.rast.device} (as the mesh)"
            )
        with torch.set_grad_enabled(self.with_gradient):
            out, _ = self.dr.interpolate(attributes.contiguous(), self.rast, corners)
            return upright(out)

    def __getstate__(self) -> dict[str, Any]:
        # Modules can't be pickled: the verbs travel by name.
        return {**vars(self), "dr": self.dr.__name__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, dr=import_module(state["dr"]))
