"""HRN's renderer: `from mofa_nvdr.compat.hrn import MeshRenderer`.

Source: https://github.com/youngLBW/HRN, `util/nv_diffrast.py` (Lei et al. 2023, "A Hierarchical
Representation Network for Accurate and Detailed Face Reconstruction from In-The-Wild Images").

Mended: what the module `deep3d` says; `forward`'s occlusion is that of each image (there the first one's) and
follows the renderer's field of view and size (there 1015 px at 224 always); `render_uv_texture` and
`pred_texture` leave the caller's `uv` as it is (there v is flipped in place, and back by the next call), and
`pred_texture` needs no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mofa_nvdr import dr
from mofa_nvdr.compat import deep3d
from mofa_nvdr.compat.drawing import Drawn
from mofa_nvdr.compat.inputs import Inputs, positive_size
from mofa_nvdr.system.device import in_full_precision

_FIRST_SIZE = 64  # of the texture that `pred_texture` begins with
_STEPS = 100  # of Adam at each size
_SMOOTHNESS = 0.01


class MeshRenderer(deep3d.MeshRenderer):
    """`deep3d.MeshRenderer` with textures, and with how much of each point's surroundings is covered.

    Args:
        rasterize_fov: as there, like the others.
        znear: as there.
        zfar: as there.
        rasterize_size: as there.
    """

    def __init__(
        self, rasterize_fov: float, znear: float = 0.1, zfar: float = 10, rasterize_size: int = 224
    ) -> None:
        super().__init__(rasterize_fov, znear, zfar, rasterize_size)
        self.glctx = None

    @in_full_precision
    def forward(
        self, vertex: Tensor, tri: Tensor | Sequence[Tensor], feat: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """As `deep3d.MeshRenderer.forward`, and a fourth result.

        Args:
            vertex: as there, but [B, N, 3] only.
            tri: as there.
            feat: as there.

        Returns:
            mask, depth, image, and occ [B, 1, S, S]: for each vertex the share of the four pixels around
            its projection that a triangle covers, by the peer's weights, interpolated; differentiable in
            vertex.
        """
        Inputs("MeshRenderer").floats("vertex", vertex, ("B", "N", 3))
        drawn, *planes = self._draw(vertex, tri, feat)
        occlusion = drawn.of_vertices(self._covered_around(vertex, drawn))
        return (*planes, occlusion.permute(0, 3, 1, 2))

    def _covered_around(self, vertex: Tensor, drawn: Drawn) -> Tensor:
        """[B, N, 1]."""
        size = int(self.rasterize_size)
        # Pixels from the left, and from the top: at 224 and 12.6 degrees the focal length is 1015 px.
        half = 0.5 * size
        focal = half * float(self.ndc_proj[0, 0])
        x = focal * vertex[..., 0] / vertex[..., 2] + half
        y = half - focal * vertex[..., 1] / vertex[..., 2]
        # A vertex without a place covers nothing: its triangles are not drawn.
        right = x.detach().nan_to_num().ceil().clamp(1, size - 1).long()
        above = y.detach().nan_to_num().floor().clamp(0, size - 2).long()
        # The peer's weights: a pixel counts by how far the point is from it.
        to_right, to_top = right - x, y - above
        covered = drawn.mask
        image = torch.arange(len(vertex), device=vertex.device)[:, None]
        total = torch.zeros_like(x)
        for column, across in ((right - 1, 1 - to_right), (right, to_right)):
            for row, down in ((above, to_top), (above + 1, 1 - to_top)):
                total = total + covered[image, row, column] * (across + down)
        return total[..., None] / 4

    @in_full_precision
    def render_uv_texture(
        self, vertex: Tensor, tri: Tensor | Sequence[Tensor], uv: Tensor, uv_texture: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw meshes with a texture.

        Args:
            vertex: as in `forward`.
            tri: as there.
            uv: texture coordinates [B, N, 2] or [1, N, 2], v upward; row 0 of the texture is at v = 1.
            uv_texture: [B, C, Ht, Wt] or [1, C, Ht, Wt].

        Returns:
            mask [B, 1, S, S], depth [B, 1, S, S], image [B, C, S, S]; differentiable in vertex, uv and
            texture.

        Raises:
            ValueError: as `forward`.
            TypeError: as there.
        """
        drawn, mask, depth, _ = self._draw(vertex, tri, None)
        inputs = self._of_vertices(vertex)
        inputs.floats("uv_texture", uv_texture, ("B", "C", "Ht", "Wt"), (1, "C", "Ht", "Wt"))
        at = drawn.of_vertices(self._downward(inputs, uv))
        texture = uv_texture.permute(0, 2, 3, 1).contiguous()
        image = dr.texture(texture, at, filter_mode="linear") * mask.permute(0, 2, 3, 1)
        return mask, depth, image.permute(0, 3, 1, 2)

    @in_full_precision
    def pred_texture(
        self, vertex: Tensor, tri: Tensor, uv: Tensor, target_img: Tensor, tex_size: int = 1024
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, np.ndarray]:
        """Find the texture of one picture: Adam from coarse to fine, smoothed below the last size.

        Args:
            vertex: [1, N, 3].
            tri: [M, 3].
            uv: [1, N, 2], as in `render_uv_texture`.
            target_img: the picture [1, S, S, 3].
            tex_size: side of the texture found, 64 or more.

        Returns:
            mask and depth as in `forward`; image [1, 3, S, S] drawn with the texture; the texture
            [1, tex_size, tex_size, 3]; 1 where a pixel saw the texel, else 0, float64 [tex_size, tex_size].

        Raises:
            ValueError: as `forward`, more than one image, or a texture below 64.
            TypeError: as there.
        """
        positive_size("MeshRenderer", tex_size=tex_size)
        if tex_size < _FIRST_SIZE:
            raise ValueError(
                f"MeshRenderer: tex_size is {tex_size}, expected {_FIRST_SIZE} or more"
            )
        size = int(self.rasterize_size)
        inputs = Inputs("MeshRenderer")
        inputs.floats("vertex", vertex, (1, "N", 3))
        inputs.floats("target_img", target_img, (1, size, size, 3))
        with torch.no_grad():
            drawn, mask, depth, _ = self._draw(vertex, tri, None)
            at = drawn.of_vertices(self._downward(inputs, uv))
        covered, target = mask.permute(0, 2, 3, 1), target_img.detach()
        mean = (covered * target).sum((1, 2)) / covered.sum().clamp(min=1)
        texture = mean.view(1, 1, 1, 3).expand(1, _FIRST_SIZE, _FIRST_SIZE, 3)
        side = _FIRST_SIZE
        with torch.enable_grad():
            while True:
                texture = _fit(
                    texture, at, covered, target, 0.0 if side == tex_size else _SMOOTHNESS
                )
                if side == tex_size:
                    break
                side = min(2 * side, tex_size)
                planes = functional.interpolate(texture.permute(0, 3, 1, 2), (side, side))
                texture = planes.permute(0, 2, 3, 1)
        with torch.no_grad():
            image = dr.texture(texture, at, filter_mode="linear") * covered
        seen = _seen_texels(tex_size, at, covered)
        return mask, depth, image.permute(0, 3, 1, 2), texture, seen.double().cpu().numpy()

    @staticmethod
    def _of_vertices(vertex: Tensor) -> Inputs:
        inputs = Inputs("MeshRenderer")
        inputs.floats("vertex", vertex, ("B", "N", 3), ("B", "N", 4))
        return inputs

    @staticmethod
    def _downward(inputs: Inputs, uv: Tensor) -> Tensor:
        inputs.floats("uv", uv, ("B", "N", 2), (1, "N", 2))
        return torch.stack([uv[..., 0], 1 - uv[..., 1]], dim=-1)


def _fit(start: Tensor, at: Tensor, covered: Tensor, target: Tensor, smoothness: float) -> Tensor:
    """The texture after `_STEPS` of Adam, whose picture is closest to the target."""
    texture = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    adam = torch.optim.Adam([texture], lr=1e-2)
    for _ in range(_STEPS):
        adam.zero_grad()
        picture = dr.texture(texture, at, filter_mode="linear") * covered
        loss = (target - picture).square().mean()
        if smoothness:
            down, across = texture.diff(dim=1).square().mean(), texture.diff(dim=2).square().mean()
            loss = loss + smoothness * 2 * (down + across)
        loss.backward()
        adam.step()
    return texture.detach()


def _seen_texels(side: int, at: Tensor, covered: Tensor) -> Tensor:
    """Whether a pixel's sample takes part of a texel, bool [side, side]."""
    texture = covered.new_zeros(1, side, side, 1, requires_grad=True)
    with torch.enable_grad():
        (dr.texture(texture, at, filter_mode="linear") * covered).sum().backward()
    assert texture.grad is not None
    return texture.grad[0, ..., 0] > 0
