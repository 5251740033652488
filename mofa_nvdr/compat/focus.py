"""FOCUS's renderer: `from mofa_nvdr.compat.focus import Renderer`.

Source: https://github.com/unibas-gravis/Occlusion-Robust-MoFA, `renderer/rendering.py` (Li et al. 2023,
"Robust Model-Based Face Reconstruction Through Weakly-Supervised Outlier Segmentation"), a MoFA in public
code: colours at vertices, and samples of the photograph there.

Mended; `exact=True` of `Renderer` keeps what the first two were:

* mode 0 reads the photograph at the pixel that the vertex projects to (there grid_sample's present default
  moves every sample towards the middle, by up to half a pixel at the border);
* normals are unit vectors (there the mean of the faces' normals, whose x and y alone are stretched to
  length 1);
* `occlusion_th` is used (there 5 always);
* meshes may change from call to call (there the first call's triangles stay), and the first call takes no
  minute.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mofa_nvdr import dr
from mofa_nvdr.compat.conventions import convert_light
from mofa_nvdr.compat.drawing import Drawn, draw, into_clip_range
from mofa_nvdr.compat.inputs import Inputs, number
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.shaders.sh_lambert import sh_irradiance
from mofa_nvdr.system.device import in_full_precision

SAMPLE_IMAGE = 0
RASTERIZE_IMAGE = 1
RASTERIZE_DIFFERENTIABLE_IMAGE = 2
_SMALLEST = 1e-35  # of a depth or a length that is divided by


class Renderer(nn.Module):
    """Colour a mesh under spherical-harmonics light, and draw it or read a photograph at its vertices.

    Convention: camera space is x right, y down, z forward, mm; pixels are counted by their index, so that the
    first one's centre is 0. Triangles are seen from one side only.

    Args:
        block_size: kept, not used.
        exact: see the module.
    """

    def __init__(self, block_size: int = 32, exact: bool = False) -> None:
        super().__init__()
        self.block_size = block_size
        self.exact = exact
        self._context = dr.RasterizeContext()

    @in_full_precision
    def forward(
        self,
        face: Tensor,
        vertex: Tensor,
        color: Tensor,
        sh_coef: Tensor,
        A: Tensor,  # noqa: N803 (the peer's names)
        R: Tensor,  # noqa: N803
        T: Tensor,  # noqa: N803
        image: Tensor,
        render_mode: int = SAMPLE_IMAGE,
        self_occlusion: bool = False,
        occlusion_th: float = 5,
        rotate_normal: bool = True,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Colour, project, and then sample (mode 0) or draw (modes 1 and 2).

        Args:
            face: triangles [3, F] of any integer type.
            vertex: model space [B, 3, V].
            color: albedo [B, 3, V].
            sh_coef: [B, 27], complete; `convert_light(..., "focus")` says what they mean.
            A: intrinsic matrices [B, 3, 3].
            R: rotations to camera space [B, 3, 3].
            T: shifts [B, 3, 1].
            image: the photograph [B, 3, H, W]; modes 1 and 2 need its size only.
            render_mode: 0 samples; 1 draws without gradients; 2 with them.
            self_occlusion: mode 0: visible is what the mesh itself does not hide, instead of what faces the
                camera.
            occlusion_th: how far in mm a visible vertex may be behind the drawn surface.
            rotate_normal: light is in camera space, else in model space.

        Returns:
            projected [B, 3, V], pixels and depth; sampled [B, 3, V] or None; shaded [B, 3, V]; visibility
            [B, V] or None; image [B, 3, H, W] or None; mask [B, H, W] or None. Mode 0 fills sampled and
            visibility, the others image and mask.

        Raises:
            ValueError: shapes or devices that do not go together, an unknown mode.
            TypeError: not float32, or not integers; a threshold that is no number.
        """
        inputs = Inputs("Renderer")
        inputs.floats("vertex", vertex, ("B", 3, "V"))
        if not isinstance(face, Tensor) or face.ndim != 2 or face.shape[0] != 3:
            shape = list(face.shape) if isinstance(face, Tensor) else type(face).__name__
            raise ValueError(f"Renderer: face is {shape}, expected [3, F]; call .t() on [F, 3]")
        tri = inputs.indices("face", face.t(), vertex.shape[2])
        inputs.floats("color", color, ("B", 3, "V"))
        inputs.floats("sh_coef", sh_coef, ("B", 27))
        inputs.floats("A", A, ("B", 3, 3))
        inputs.floats("R", R, ("B", 3, 3))
        inputs.floats("T", T, ("B", 3, 1))
        inputs.floats("image", image, ("B", "C", "H", "W"))
        if isinstance(render_mode, Tensor) or render_mode not in (
            SAMPLE_IMAGE, RASTERIZE_IMAGE, RASTERIZE_DIFFERENTIABLE_IMAGE
        ):  # fmt: skip
            raise ValueError(f"Renderer: render_mode is {render_mode!r}, expected 0, 1 or 2")
        size = (image.shape[2], image.shape[3])
        seen = R @ vertex + T  # camera space [B, 3, V]
        projected = _project(A, seen)
        normal = self._normals(vertex, tri)  # [B, 3, V]
        turned = R @ normal
        light = convert_light(sh_coef, "focus")
        shaded = color * self._irradiance(turned if rotate_normal else normal, light)
        if render_mode == SAMPLE_IMAGE:
            sampled = self._sample(image, projected)
            if self_occlusion:
                given = number("Renderer", "occlusion_th", occlusion_th)
                threshold = 5 if self.exact else given
                with torch.no_grad():
                    visible = self._unhidden(seen, projected, tri, size, threshold)
            else:
                visible = (turned[:, 2] < 0).float()
            return projected, sampled, shaded, visible, None, None
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and render_mode == RASTERIZE_DIFFERENTIABLE_IMAGE
        ):
            drawn = self._draw(seen, projected, tri, size)
            picture = drawn.of_vertices(shaded.mT).permute(0, 3, 1, 2)
        return projected, None, shaded, None, picture, drawn.mask

    def _normals(self, vertex: Tensor, tri: Tensor) -> Tensor:
        """[B, 3, V] outward."""
        points = vertex.mT.contiguous()
        if not self.exact:
            return vertex_normals(points, tri).mT
        a, b, c = (points[:, tri[:, k].long()] for k in range(3))
        doubled = torch.linalg.cross(b - a, c - a)  # [B, F, 3]
        area = doubled.norm(dim=-1, keepdim=True)
        both = torch.cat([doubled, area], dim=-1)
        sums = both.new_zeros(*points.shape[:2], 4)
        for k in range(3):
            sums = sums.index_add(1, tri[:, k].long(), both)
        return (sums[..., :3] / sums[..., 3:].clamp(min=_SMALLEST)).mT

    def _irradiance(self, normal: Tensor, light: Tensor) -> Tensor:
        """[B, 3, V] for normals in axes x right, y down, z away."""
        x, y, z = normal.unbind(1)
        if self.exact:
            # The peer keeps z, as a cosine, and stretches x and y to what is left of length 1.
            length = (x * x + y * y).clamp(min=1e-20).sqrt()
            scale = (1 - z * z).clamp(min=1e-20).sqrt() / length
            x, y = x * scale, y * scale
        ours = torch.stack([x, -y, -z], dim=-1).contiguous()
        return sh_irradiance(ours, light.contiguous()).mT

    def _sample(self, image: Tensor, projected: Tensor) -> Tensor:
        """The photograph at each vertex, [B, C, V]."""
        last = projected.new_tensor([image.shape[3] - 1, image.shape[2] - 1])
        grid = 2 * projected[:, :2].mT / last - 1
        found = functional.grid_sample(image, grid[:, None], align_corners=not self.exact)
        return found[:, :, 0]

    def _draw(self, seen: Tensor, projected: Tensor, tri: Tensor, size: tuple[int, int]) -> Drawn:
        """The faces that turn to the camera and lie before it, linear on the screen."""
        height, width = size
        corners = seen.detach().mT[:, tri.long()]  # [B, F, 3, 3]
        across = torch.linalg.cross(
            corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
        )
        turned = (across * corners[:, :, 0]).sum(-1) < 0
        ahead = projected.detach()[:, 2][:, tri.long()].amin(-1) > 0
        parts = [tri[row] for row in turned & ahead]
        x, y, z = projected.unbind(1)
        # Row 0 is the top here and the bottom there, as y = -1 is: nothing is turned over.
        pos = torch.stack(
            [
                (2 * x + 1) / width - 1,
                (2 * y + 1) / height - 1,
                into_clip_range(z.clamp(min=0)),
                torch.ones_like(z),
            ],
            dim=-1,
        )
        return draw(self._context, pos, parts, size)

    def _unhidden(
        self, seen: Tensor, projected: Tensor, tri: Tensor, size: tuple[int, int], threshold: float
    ) -> Tensor:
        """[B, V]: all four pixels around a vertex show a surface within the threshold of its depth."""
        height, width = size
        drawn = self._draw(seen, projected, tri, size)
        depth = drawn.of_vertices(projected[:, 2:].mT)[..., 0]
        depth = torch.where(drawn.mask > 0, depth, torch.full_like(depth, float("inf")))
        x, y, z = projected.unbind(1)
        sides = [x.floor().long(), x.ceil().long()], [y.floor().long(), y.ceil().long()]
        visible = (sides[0][0] >= 0) & (sides[0][1] < width)
        visible &= (sides[1][0] >= 0) & (sides[1][1] < height)
        image = torch.arange(len(z), device=z.device)[:, None]
        for column in sides[0]:
            for row in sides[1]:
                there = depth[image, row.clamp(0, height - 1), column.clamp(0, width - 1)]
                visible &= (z - there).abs() < threshold
        return visible.float()


def _project(intrinsics: Tensor, seen: Tensor) -> Tensor:
    """Pixel indices and depth [B, 3, V]."""
    x, y, z = (intrinsics @ seen).unbind(1)
    safe = torch.where(z < 0, -1.0, 1.0) * z.abs().clamp(min=_SMALLEST)
    return torch.stack([x / safe, y / safe, z], dim=1)
