"""PyTorch3D's mesh rasterizer for one face per pixel, without blur.

    from mofa_nvdr.compat.pytorch3d import Fragments, MeshRasterizer, RasterizationSettings, rasterize_meshes

Source: https://github.com/facebookresearch/pytorch3d, `pytorch3d/renderer/mesh/rasterizer.py` and
`rasterize_meshes.py` (Ravi et al. 2020, "Accelerating 3D Deep Learning with PyTorch3D"). Meshes and cameras
may be PyTorch3D's own objects, or the small ones here: `Meshes`, `PerspectiveCameras`,
`FoVPerspectiveCameras`.

Convention: NDC is x left, y up, from -1 to 1 over the shorter side of the picture; z is the distance along
the view; row 0 is the top; what a pixel does not see is -1. Faces with a vertex at z < 1e-8 are not drawn,
as there, unless z_clip_value cuts them.

Mended: the backward pass has the same bits for any number of threads. `faces_per_pixel` above 1 and
`blur_radius` above 0, which soft shaders need, are refused: outlines have gradients of another kind here
(docs/outline_gradients.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mofa_nvdr import dr
from mofa_nvdr.compat.drawing import into_clip_range, thread_context, without_those_behind
from mofa_nvdr.compat.inputs import Inputs, number, positive_size
from mofa_nvdr.compat.pytorch3d_scene import FoVPerspectiveCameras, Meshes, PerspectiveCameras
from mofa_nvdr.system.device import in_full_precision

__all__ = [
    "FoVPerspectiveCameras",
    "Fragments",
    "MeshRasterizer",
    "Meshes",
    "PerspectiveCameras",
    "RasterizationSettings",
    "rasterize_meshes",
]


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees; -1 where it sees nothing.

    Attributes:
        pix_to_face: [N, H, W, 1] int64, number of the face among those of all meshes.
        zbuf: [N, H, W, 1] z in camera space.
        bary_coords: [N, H, W, 1, 3].
        dists: [N, H, W, 1] squared distance to the face's nearest edge in NDC, negative: the pixel is inside.
    """

    pix_to_face: Tensor
    zbuf: Tensor
    bary_coords: Tensor
    dists: Tensor | None

    def detach(self) -> Fragments:
        """The same without gradients."""
        dists = None if self.dists is None else self.dists.detach()
        return Fragments(self.pix_to_face, self.zbuf.detach(), self.bary_coords.detach(), dists)


@dataclass
class RasterizationSettings:
    """How to rasterize.

    Attributes:
        image_size: side of the picture in pixels, or (height, width).
        blur_radius: 0.
        faces_per_pixel: 1.
        bin_size, max_faces_opengl, max_faces_per_bin: kept, not used.
        perspective_correct: None: as the camera is.
        clip_barycentric_coords: kept, not used: without blur they are inside.
        cull_backfaces: draw faces only whose vertices run counter-clockwise as seen.
        z_clip_value: cut faces at this z; None: at half the camera's znear, where it has one.
        cull_to_frustum: kept; faces outside of the picture cost nothing.
    """

    image_size: int | tuple[int, int] = 256
    blur_radius: float = 0.0
    faces_per_pixel: int = 1
    bin_size: int | None = None
    max_faces_opengl: int = 10_000_000
    max_faces_per_bin: int | None = None
    perspective_correct: bool | None = None
    clip_barycentric_coords: bool | None = None
    cull_backfaces: bool = False
    z_clip_value: float | None = None
    cull_to_frustum: bool = False


class MeshRasterizer(nn.Module):
    """Rasterize meshes as cameras see them.

    Args:
        cameras: the small ones here or PyTorch3D's; one, or one for each mesh. May come with the call.
        raster_settings: None: the defaults.
    """

    def __init__(
        self, cameras: Any = None, raster_settings: RasterizationSettings | None = None
    ) -> None:
        super().__init__()
        self.cameras = cameras
        self.raster_settings = raster_settings or RasterizationSettings()

    def to(self, device: Any) -> MeshRasterizer:  # type: ignore[override]
        """Move the cameras, which are no module."""
        if self.cameras is not None:
            self.cameras = self.cameras.to(device)
        return self

    def transform(self, meshes_world: Any, **kwargs: Any) -> Any:
        """The meshes with vertices in NDC, and z in camera space.

        Raises:
            ValueError: no camera, another number of them than of meshes, or another device.
            TypeError: what is no meshes, or whose vertices are not float32.
        """
        if not hasattr(meshes_world, "verts_padded"):
            raise TypeError(
                f"MeshRasterizer: meshes_world is a {type(meshes_world).__name__}, expected Meshes"
            )
        cameras = kwargs.get("cameras", self.cameras)
        if cameras is None:
            raise ValueError(
                "MeshRasterizer: no cameras; give them to MeshRasterizer(cameras=...) or to the call"
            )
        if len(cameras) not in (1, len(meshes_world)):
            raise ValueError(
                f"MeshRasterizer: {len(cameras)} cameras for {len(meshes_world)} meshes; expected 1 or as "
                "many"
            )
        world = meshes_world.verts_padded()
        if world.dtype != torch.float32:
            raise TypeError(
                f"MeshRasterizer: the vertices are {world.dtype}, expected torch.float32; call .float()"
            )
        if cameras.device.type != world.device.type:
            raise ValueError(
                f"MeshRasterizer: the cameras are on {cameras.device}, but the meshes are on "
                f"{world.device}; move both to one device"
            )
        eps = kwargs.get("eps")
        view = cameras.get_world_to_view_transform(**kwargs).transform_points(world, eps=eps)
        to_ndc = cameras.get_ndc_camera_transform(**kwargs)
        projected = cameras.transform_points(world, eps=eps)
        ndc = to_ndc.transform_points(projected, eps=eps)
        return meshes_world.update_padded(torch.cat([ndc[..., :2], view[..., 2:]], dim=-1))

    @in_full_precision
    def forward(self, meshes_world: Any, **kwargs: Any) -> Fragments:
        """Rasterize.

        Args:
            meshes_world: meshes in world space, PyTorch3D's or `Meshes`.
            kwargs: cameras and raster_settings for this call.

        Returns:
            The fragments, differentiable in the vertices.

        Raises:
            ValueError: as `transform` and `rasterize_meshes`.
            TypeError: as there.
        """
        settings = kwargs.get("raster_settings", self.raster_settings)
        meshes = self.transform(meshes_world, **kwargs)
        cameras = kwargs.get("cameras", self.cameras)
        perspective = settings.perspective_correct
        if perspective is None:
            perspective = cameras.is_perspective()
        nearest = settings.z_clip_value
        near = cameras.get_znear()
        if nearest is None and perspective and near is not None:
            nearest = float(near.min() if isinstance(near, Tensor) else near) / 2
        return Fragments(
            *rasterize_meshes(
                meshes,
                image_size=settings.image_size,
                blur_radius=settings.blur_radius,
                faces_per_pixel=settings.faces_per_pixel,
                perspective_correct=perspective,
                cull_backfaces=settings.cull_backfaces,
                z_clip_value=nearest,
            )
        )


def rasterize_meshes(
    meshes: Any,
    image_size: int | Sequence[int] = 256,
    blur_radius: float = 0.0,
    faces_per_pixel: int = 8,
    bin_size: int | None = None,
    max_faces_per_bin: int | None = None,
    perspective_correct: bool = False,
    clip_barycentric_coords: bool = False,
    cull_backfaces: bool = False,
    z_clip_value: float | None = None,
    cull_to_frustum: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rasterize meshes in NDC.

    Args:
        meshes: an object with verts_packed(), faces_packed(), num_verts_per_mesh() and num_faces_per_mesh().
        image_size: side of the picture in pixels, or (height, width).
        blur_radius: 0.
        faces_per_pixel: 1; the default is the peer's, so that who relies on it hears of it.
        bin_size: not used.
        max_faces_per_bin: not used.
        perspective_correct: whether z is the w of a perspective projection.
        clip_barycentric_coords: not used.
        cull_backfaces: draw only faces whose vertices run counter-clockwise as seen.
        z_clip_value: with perspective_correct: cut faces there, instead of dropping those with a vertex at
            z < 1e-8.
        cull_to_frustum: not used.

    Returns:
        pix_to_face, zbuf, bary_coords, dists of `Fragments`.

    Raises:
        ValueError: blur, or more than one face per pixel; an image size that is none; meshes without faces.
        TypeError: vertices that are not float32, or a z_clip_value that is no number.
    """
    who = "rasterize_meshes"
    if faces_per_pixel != 1 or blur_radius:
        raise ValueError(
            f"{who}: faces_per_pixel is {faces_per_pixel} and blur_radius is {blur_radius}, "
            "expected 1 and 0.0; soft outlines need PyTorch3D itself"
        )
    pair = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"{who}: image_size is {image_size!r}, expected pixels or (height, width)")
    height, width = pair
    if z_clip_value is not None:
        z_clip_value = number(who, "z_clip_value", z_clip_value)
    positive_size(who, image_height=height, image_width=width)
    inputs = Inputs(who)
    vertices = inputs.floats("verts_packed", meshes.verts_packed(), ("V", 3))
    tri = inputs.indices("faces_packed", meshes.faces_packed(), len(vertices))
    counts = meshes.num_faces_per_mesh().int().cpu()
    ranges = torch.stack([counts.cumsum(0, dtype=torch.int32) - counts, counts], dim=1)
    x, y, z = vertices.unbind(-1)
    drawn = _visible(vertices, tri, cull_backfaces, perspective_correct, z_clip_value)
    # NDC ends at 1 on the shorter side. Row 0 and column 0 are y = 1 and x = 1 there, -1 in clip space.
    short = min(height, width)
    across, down = -x * (short / width), -y * (short / height)
    if perspective_correct:
        near, far = _depth_range(z.detach(), z_clip_value)
        depth = (far + near) / (far - near) * z.detach() - 2 * far * near / (far - near)
        pos = torch.stack([across * z, down * z, depth, z], dim=-1)
    else:
        depth = into_clip_range(z[None])[0]
        pos = torch.stack([across, down, depth, torch.ones_like(z)], dim=-1)
    rast, _ = dr.rasterize(
        thread_context(), pos.contiguous(), drawn, (height, width), ranges=ranges, grad_db=False
    )
    face = rast.detach()[..., 3].long() - 1
    covered = face >= 0
    u, v = rast[..., 0], rast[..., 1]
    bary = torch.stack([u, v, 1 - u - v], dim=-1)
    zbuf, _ = dr.interpolate(z[:, None].contiguous(), rast, tri)
    dists = _distances(vertices[:, :2], tri, face, height, width)
    nothing = -torch.ones_like(zbuf)
    return (
        face[..., None],
        torch.where(covered[..., None], zbuf, nothing),
        torch.where(covered[..., None], bary, nothing)[..., None, :],
        torch.where(covered, dists, nothing[..., 0])[..., None],
    )


def _visible(
    vertices: Tensor, tri: Tensor, cull: bool, perspective: bool, nearest: float | None
) -> Tensor:
    """The triangles, those that are not to be drawn without an area, so that numbers stay."""
    if not (perspective and nearest is not None):
        tri = without_those_behind(tri, vertices[:, 2])
    if cull:
        a, b, c = vertices.detach()[tri.long()].unbind(1)
        along, to_last = b - a, c - a
        # x is to the left: seen counter-clockwise is a negative area in these axes.
        keep = along[:, 0] * to_last[:, 1] - along[:, 1] * to_last[:, 0] <= 0
        tri = torch.where(keep[:, None], tri, tri[:, :1])
    return tri


def _depth_range(z: Tensor, nearest: float | None) -> tuple[float, float]:
    """Clip planes around all that is before the camera."""
    ahead = z[z > 0]
    if not len(ahead):
        return 1.0, 2.0
    near = 0.999 * float(ahead.min()) if nearest is None else nearest
    return near, max(1.001 * float(ahead.max()), 1.001 * near)


def _distances(points: Tensor, tri: Tensor, face: Tensor, height: int, width: int) -> Tensor:
    """Minus the squared distance to the nearest edge [N, H, W], zero where no face is; differentiable."""
    image, row, column = torch.nonzero(face >= 0, as_tuple=True)
    corners = points[tri[face[image, row, column]].long()]  # [P, 3, 2]
    short = min(height, width)
    here = torch.stack(
        [(width - 1 - 2 * column) / short, (height - 1 - 2 * row) / short], dim=-1
    ).to(points)[:, None]  # [P, 1, 2]
    along = corners.roll(-1, 1) - corners
    squared = along.square().sum(-1, keepdim=True)
    part = ((here - corners) * along).sum(-1, keepdim=True) / squared.clamp(min=1e-30)
    offset = here - corners - part.clamp(0, 1) * along
    nearest = offset.square().sum(-1).amin(1)
    return points.new_zeros(face.shape).index_put((image, row, column), -nearest)
