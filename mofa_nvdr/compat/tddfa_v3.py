"""3DDFA-V3's renderers: `from mofa_nvdr.compat.tddfa_v3 import MeshRenderer, MeshRenderer_UV`.

Source: https://github.com/wang-zidu/3DDFA-V3, `util/nv_diffrast.py` and `util/cpu_renderer.py` (Wang et al.
2024, "3D Face Reconstruction with the Geometric Guidance of Facial Part Segmentation").

Mended: what the module `deep3d` says; `MeshRenderer_cpu` and `MeshRenderer_UV_cpu` are the same classes, with
gradients, for any batch, and their pictures are no longer half a pixel away from those of the GPU; pixels of
triangle 0 are in the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mofa_nvdr import dr
from mofa_nvdr.compat import deep3d
from mofa_nvdr.compat.drawing import Drawn, draw
from mofa_nvdr.compat.inputs import Inputs, whole_size
from mofa_nvdr.system.device import in_full_precision


class MeshRenderer(deep3d.MeshRenderer):
    """`deep3d.MeshRenderer` that also tells which vertices are visible.

    Args:
        rasterize_fov: as there, like the others.
        znear: as there.
        zfar: as there.
        rasterize_size: as there.
        use_opengl: as there.
    """

    def __init__(
        self,
        rasterize_fov: float,
        znear: float = 0.1,
        zfar: float = 10,
        rasterize_size: int = 224,
        use_opengl: bool = False,
    ) -> None:
        super().__init__(rasterize_fov, znear, zfar, rasterize_size, use_opengl)

    @in_full_precision
    def forward(
        self,
        vertex: Tensor,
        tri: Tensor | Sequence[Tensor],
        feat: Tensor | None = None,
        visible_vertice: bool = False,
    ) -> tuple[Any, ...]:
        """As `deep3d.MeshRenderer.forward`, and a fourth result.

        Args:
            vertex: as there, like the next two.
            tri: as there.
            feat: as there.
            visible_vertice: whether to look for the visible vertices.

        Returns:
            mask, depth, image, and the indices of the vertices of all triangles that some pixel sees,
            ascending int64 [K], over all images of the batch; None unless asked for.
        """
        drawn, *planes = self._draw(vertex, tri, feat)
        return (*planes, _visible(drawn, vertex.shape[1]) if visible_vertice else None)


class MeshRenderer_UV(nn.Module):  # noqa: N801 (the peer's name)
    """Draw vertex attributes over the plane of texture coordinates.

    Args:
        rasterize_size: side of the square pictures in pixels.
        use_opengl: kept, not used.

    Raises:
        ValueError: a size that is no size.
    """

    def __init__(self, rasterize_size: int = 224, use_opengl: bool = False) -> None:
        super().__init__()
        whole_size("MeshRenderer_UV", "rasterize_size", rasterize_size)
        self.rasterize_size = rasterize_size
        self.use_opengl = use_opengl
        self.ctx: Any = None

    @in_full_precision
    def forward(
        self,
        vertex: Tensor,
        tri: Tensor | Sequence[Tensor],
        feat: Tensor | None = None,
        visible_vertice: bool = False,
    ) -> tuple[Any, ...]:
        """As `MeshRenderer.forward`, of vertices that are clip-space positions.

        Args:
            vertex: [B, N, 3] in [-1, 1]: x right, y up, smaller z nearer; or [B, N, 4] with y downward.
            tri: as there.
            feat: as there.
            visible_vertice: as there.

        Returns:
            mask, depth (z), image, visible vertices, as there.
        """
        inputs = Inputs("MeshRenderer_UV")
        pos = deep3d.MeshRenderer._homogeneous(inputs, vertex)
        if self.ctx is None:
            self.ctx = dr.RasterizeContext()
        size = int(self.rasterize_size)
        triangles = deep3d.triangles_of(inputs, tri, *vertex.shape[:2])
        drawn = draw(self.ctx, pos, triangles, (size, size))
        image = None
        if feat is not None:
            inputs.floats("feat", feat, ("B", "N", "C"), (1, "N", "C"))
            image = drawn.of_vertices(feat).permute(0, 3, 1, 2)
        depth = drawn.of_vertices(pos[..., 2:3]).permute(0, 3, 1, 2)
        visible = _visible(drawn, vertex.shape[1]) if visible_vertice else None
        return drawn.mask[:, None], depth, image, visible


MeshRenderer_cpu = MeshRenderer
"""The name of the peer's renderer for CPUs."""
MeshRenderer_UV_cpu = MeshRenderer_UV
"""The name of the peer's renderer for CPUs."""


def _visible(drawn: Drawn, num_vertices: int) -> Tensor:
    triangles = torch.unique(drawn.rast.detach()[..., 3]).long() - 1
    return torch.unique(drawn.tri[triangles[triangles >= 0]].long() % num_vertices)
