"""Deep3DFaceRecon_pytorch's renderer: `from mofa_nvdr.compat.deep3d import MeshRenderer`.

Source: https://github.com/sicxu/Deep3DFaceRecon_pytorch, `util/nvdiffrast.py` (Deng et al. 2019,
"Accurate 3D Face Reconstruction with Weakly-Supervised Learning"). Many talking-head programs hold a copy
of it; the variants of 3DDFA-V3 and HRN are in the modules `tddfa_v3` and `hrn`.

Mended, each by a test:

* the depth of every image is its own (there all images got the first one's);
* triangles may differ from image to image, as a list or [B, M, 3] (there a TypeError);
* CPU tensors (there the message about the new context ended the program);
* nothing of kornia is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mofa_nvdr import dr
from mofa_nvdr.compat.drawing import Drawn, draw
from mofa_nvdr.compat.inputs import Inputs, number, whole_size
from mofa_nvdr.system.device import in_full_precision


class MeshRenderer(nn.Module):
    """Draw meshes in camera space, with the attributes of their vertices.

    Convention: camera space is x right, y up, z forward, of any unit (Deep3D: decimetres); row 0 of the
    pictures is the top one; they are square.

    Args:
        rasterize_fov: field of view in degrees.
        znear: distance from which things are drawn.
        zfar: distance up to which.
        rasterize_size: side of the pictures in pixels.
        use_opengl: kept, not used: there is one context.

    Raises:
        ValueError: a field of view, range or size that is not possible.
        TypeError: one of them is no number.
    """

    def __init__(
        self,
        rasterize_fov: float,
        znear: float = 0.1,
        zfar: float = 10,
        rasterize_size: int = 224,
        use_opengl: bool = True,
    ) -> None:
        super().__init__()
        who = type(self).__name__
        rasterize_fov = number(who, "rasterize_fov", rasterize_fov)
        znear, zfar = number(who, "znear", znear), number(who, "zfar", zfar)
        if not 0 < rasterize_fov < 180:
            raise ValueError(
                f"{who}: rasterize_fov is {rasterize_fov:g}, expected degrees between 0 and 180"
            )
        if not 0 < znear < zfar:
            raise ValueError(
                f"{who}: znear is {znear:g} and zfar is {zfar:g}, expected 0 < znear < zfar"
            )
        whole_size(who, "rasterize_size", rasterize_size)
        scale = 1 / math.tan(math.radians(rasterize_fov) / 2)
        span = zfar - znear
        projection = torch.zeros(4, 4)
        projection[0, 0] = projection[1, 1] = scale
        projection[2, 2], projection[2, 3] = (zfar + znear) / span, -2 * zfar * znear / span
        projection[3, 2] = 1
        self.ndc_proj = projection
        self.rasterize_size = rasterize_size
        self.use_opengl = use_opengl
        self.ctx: Any = None

    @in_full_precision
    def forward(
        self, vertex: Tensor, tri: Tensor | Sequence[Tensor], feat: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Draw a batch.

        Args:
            vertex: [B, N, 3]; or [B, N, 4] homogeneous, whose y is then already downward.
            tri: [M, 3] of any integer type; or for each image its own, as a list or [B, M, 3].
            feat: attributes of the vertices, [B, N, C] or [1, N, C], or None.

        Returns:
            mask [B, 1, S, S], 1 where a triangle covers the pixel's centre; depth [B, 1, S, S], z in camera
            space; image [B, C, S, S] the attributes, or None. Zero where nothing is. Depth and image are
            differentiable in vertex and feat; nothing flows through the outline.

        Raises:
            ValueError: shapes or devices that do not go together, or no triangle.
            TypeError: not float32, or not integers.
        """
        return self._draw(vertex, tri, feat)[1:]

    def _draw(
        self, vertex: Tensor, tri: Tensor | Sequence[Tensor], feat: Tensor | None
    ) -> tuple[Any, ...]:
        """What is drawn, then mask, depth and image."""
        inputs = Inputs(type(self).__name__)
        homogeneous = self._homogeneous(inputs, vertex)
        drawn = self._rasterize(inputs, homogeneous, tri)
        depth = homogeneous[..., 2:3]
        mask = drawn.mask[:, None]
        if feat is None:
            return drawn, mask, drawn.of_vertices(depth).permute(0, 3, 1, 2), None
        inputs.floats("feat", feat, ("B", "N", "C"), (1, "N", "C"))
        both = torch.cat([depth, feat.expand(len(depth), -1, -1)], dim=-1)
        planes = drawn.of_vertices(both).permute(0, 3, 1, 2)
        return drawn, mask, planes[:, :1], planes[:, 1:]

    @staticmethod
    def _homogeneous(inputs: Inputs, vertex: Tensor) -> Tensor:
        """[B, N, 4] with y downward, a new tensor if it was not so."""
        inputs.floats("vertex", vertex, ("B", "N", 3), ("B", "N", 4))
        if vertex.shape[-1] == 4:
            return vertex
        x, y, z = vertex.unbind(-1)
        return torch.stack([x, -y, z, torch.ones_like(z)], dim=-1)

    def _rasterize(
        self, inputs: Inputs, homogeneous: Tensor, tri: Tensor | Sequence[Tensor]
    ) -> Drawn:
        if self.ctx is None:
            self.ctx = dr.RasterizeContext()
        size = int(self.rasterize_size)
        pos = homogeneous @ self.ndc_proj.to(homogeneous.device).t()
        return draw(self.ctx, pos, triangles_of(inputs, tri, *homogeneous.shape[:2]), (size, size))


def triangles_of(
    inputs: Inputs, tri: Tensor | Sequence[Tensor], batch: int, num_vertices: int
) -> Tensor | list[Tensor]:
    """The caller's triangles as `draw` takes them: one tensor, or one for each image."""
    if isinstance(tri, Tensor) and tri.ndim != 3:
        return inputs.indices("tri", tri, num_vertices)
    if not isinstance(tri, (Tensor, list, tuple)):
        raise TypeError(
            f"{inputs.who}: tri is a {type(tri).__name__}, expected a torch.Tensor or a list of them"
        )
    if len(tri) != batch:
        raise ValueError(
            f"{inputs.who}: tri has triangles for {len(tri)} images, expected {batch} (from vertex)"
        )
    return [inputs.indices(f"tri[{k}]", part, num_vertices) for k, part in enumerate(tri)]
