"""FaceRenderer: any mesh with albedo under the light of a shader -> G-buffer -> image.

camera-space vertices -> clip space -> shaders.gbuffer:
    dr.rasterize -> dr.interpolate (normal, albedo, depth) -> a shader's colours per pixel -> image
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mofa_nvdr import dr as default_dr
from mofa_nvdr.dr.parallel import compiles
from mofa_nvdr.render.outline import Outline, find_outline
from mofa_nvdr.render.surface_motion import SurfaceMotion
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.shaders.gbuffer import GBuffer, draw_mesh, make_gbuffer, shade_mesh
from mofa_nvdr.shaders.sh_lambert import ShLambert
from mofa_nvdr.shaders.shader import Shader
from mofa_nvdr.system.device import in_full_precision

RASTER_GRADIENTS = ("rendering", "surface")
OUTLINE_GRADIENTS = ("none", "edges")
# Added to a triangle's projected area before its logarithm: keeps edge-on, sub-pixel triangles from
# dominating the area term.
_AREA_FLOOR = 0.05  # px^2


@dataclass(frozen=True)
class Rendering:
    """A rendered image and its G-buffer; row 0 at the top, zeros where no triangle covers the pixel.

    Attributes:
        image: [B, 3, H, W] shaded colour, not clamped.
        mask: [B, 1, H, W] 1 where a triangle covers the pixel's centre, else 0; no gradient but that of
            the outline.
        albedo: [B, 3, H, W]. normal: [B, 3, H, W] unit, camera space. shading: [B, 3, H, W] what
            multiplies the albedo: irradiance.
        depth: [B, 1, H, W] distance along the viewing axis in mm.
        triangle_ids: [B, H, W] int64 index into the triangles, -1 where empty.
        surface_position: [B, 2, H, W] pixels; where the surface point seen by each pixel projects. Its
            value is the pixel's centre (within the rasterizer's grid of 1/16 px at the outline), its
            gradient is the motion of that point. Only with gradient="surface", else None.
        log_area: [B, 1, H, W] logarithm of the projected area (px^2) of the pixel's triangle; its
            gradient is the divergence of the surface's screen motion. Only with gradient="surface".
        motion: what makes surface_position and log_area. Only with gradient="surface".
        outline: where outlines pass between pixels. Only with outline="edges"; image and mask then carry
            its gradient, the other buffers don't.
        interior: [B, 3, H, W] the image without the outline's gradient. Only with outline="edges".

    albedo, normal, shading, depth and triangle_ids are made when one of them is first asked for, and so are
    surface_position and log_area, differentiable as if they had been made with the image.
    """

    image: Tensor
    mask: Tensor
    make_gbuffer: Callable[[], GBuffer] = field(repr=False)
    motion: SurfaceMotion | None = field(default=None, repr=False)
    outline: Outline | None = None
    interior: Tensor | None = field(default=None, repr=False)

    @cached_property
    def _planes(self) -> tuple[Tensor | None, Tensor | None]:
        return (None, None) if self.motion is None else self.motion.planes()

    @property
    def surface_position(self) -> Tensor | None:  # noqa: D102 (documented with the class)
        return self._planes[0]

    @property
    def log_area(self) -> Tensor | None:  # noqa: D102 (documented with the class)
        return self._planes[1]

    @cached_property
    def gbuffer(self) -> GBuffer:
        """What `make_gbuffer` gives."""
        return self.make_gbuffer()

    def __getstate__(self) -> dict[str, Any]:
        # What makes the buffers holds a module, which can't be pickled: the buffers travel.
        made = {
            "make_gbuffer": partial(_given, self.gbuffer),
            "motion": None,
            "_planes": self._planes,
        }
        return {**vars(self), **made}

    @property
    def albedo(self) -> Tensor:  # noqa: D102 (documented with the class, as the four below)
        return self.gbuffer.albedo

    @property
    def normal(self) -> Tensor:  # noqa: D102
        return self.gbuffer.normal

    @property
    def shading(self) -> Tensor:  # noqa: D102
        return self.gbuffer.shading

    @property
    def depth(self) -> Tensor:  # noqa: D102
        return self.gbuffer.depth

    @property
    def triangle_ids(self) -> Tensor:  # noqa: D102
        return self.gbuffer.triangle_ids

    def over(self, background: Tensor | float) -> Tensor:
        """The image over a background [B, 3, H, W] or a grey value, not clamped.

        With outline="edges" its gradient is that of the whole picture, moving outlines included.
        """
        return self.image + (1 - self.mask) * background


class FaceRenderer(nn.Module):
    """Render meshes under a shader's light, differentiably, on the device of the tensors.

    Args:
        camera: pinhole camera; its image size is the size of the rendering.
        gradient: how images move under geometry. "rendering": through the interpolated attributes, as
            nvdiffrast gives it: the picture moves under fixed pixels (no term for the outline).
            "surface": attributes are held at fixed surface points, and `surface_position` and `log_area`
            carry the motion for a loss that follows the points (losses.mofa.photometric_raster).
        dr: the module with nvdiffrast's verbs; `mofa_nvdr.dr.reference` for float64.
        outline: "none", or "edges": image and mask also carry the gradient of moving outlines (module
            outline), on meshes of any density. Only with gradient="rendering".
        shader: what makes colours from normals, albedo and light (shaders.shader); None: spherical harmonics,
            `ShLambert()`.

    Raises:
        ValueError: unknown gradient or outline, or "edges" with gradient="surface".
        TypeError: the shader is not one.
    """

    def __init__(
        self,
        camera: Camera | None = None,
        gradient: str = "rendering",
        dr: ModuleType = default_dr,
        outline: str = "none",
        shader: Shader | None = None,
    ) -> None:
        super().__init__()
        if gradient not in RASTER_GRADIENTS:
            raise ValueError(
                f"FaceRenderer: gradient is {gradient!r}, expected one of {', '.join(RASTER_GRADIENTS)}"
            )
        if outline not in OUTLINE_GRADIENTS:
            raise ValueError(
                f"FaceRenderer: outline is {outline!r}, expected one of "
                f"{', '.join(OUTLINE_GRADIENTS)}"
            )
        if outline == "edges" and gradient == "surface":
            # Points are followed there, and the area term is the outline's, as a sum over the face.
            raise ValueError(
                "FaceRenderer: outline is 'edges' with gradient 'surface', expected gradient "
                "'rendering'; 'surface' has its own term for the outline"
            )
        if shader is not None and not isinstance(shader, Shader):
            raise TypeError(
                f"FaceRenderer: shader is {shader!r}, expected an object of a class that derives from Shader"
            )
        self.camera = camera or Camera()
        self.gradient = gradient
        self.outline = outline
        self.dr = dr
        self.shader = shader or ShLambert()
        self._context = default_dr.RasterizeContext()

    @in_full_precision
    def forward(
        self,
        vertices: Tensor,
        triangles: Tensor,
        albedo: Tensor,
        light: Any = None,
        normals: Tensor | None = None,
    ) -> Rendering:
        """Render a batch of meshes of one topology.

        Args:
            vertices: [B, V, 3] camera space, mm: x right, y up, looking down -z.
            triangles: [T, 3] of any integer type; int32 needs no conversion.
            albedo: [B, V, 3] or [V, 3] reflectance.
            light: what the shader takes. Of ShLambert: [B, 9, 3] SH coefficients of the incoming radiance in
                camera space, complete (the ambient offset of face codes is added by the caller:
                lighting.total_light). Of Phong: a PhongLight. Of Unlit: None.
            normals: [B, V, 3] unit normals in camera space; None: area-weighted vertex normals.

        Returns:
            The rendering and its G-buffer, differentiable in vertices, albedo, light and normals.

        Raises:
            ValueError: shapes disagree.
            TypeError: the light is not the shader's, or has another dtype than the vertices.
        """
        _check_shapes(vertices, triangles, albedo, normals)
        triangles = triangles.int().contiguous()
        values = self.shader.check("FaceRenderer", light, vertices)
        batch, size = vertices.shape[0], self.camera.size
        if normals is None:
            normals = vertex_normals(vertices, triangles)
        albedo = albedo.expand(batch, -1, -1)
        surface = self.gradient == "surface"
        drawn = vertices.detach() if surface else vertices
        outline = interior = None
        # Eq. 4, or the equation of another shader, at every pixel.
        # nvdiffrast's row 0 is at the bottom, the image's at the top.
        if (
            self.dr is default_dr
            and self.outline == "none"
            and self.shader.kernels is not None
            and compiles(vertices, normals, albedo, *values.values())
        ):
            image, mask, rast = draw_mesh(
                drawn, triangles, normals, albedo, values, size, self.camera.clip_coefficients,
                self.shader, vertices,
            )  # fmt: skip
        else:
            pos = self.camera.clip_space(drawn).contiguous()
            rast, _ = self.dr.rasterize(self._context, pos, triangles, size, grad_db=False)
            if self.outline == "edges":
                outline = find_outline(pos, triangles, rast, 1 / self.camera.focal_px)
                if rast.requires_grad:
                    keep = ~outline.grazing[..., None]
                    rast.register_hook(lambda gradient: gradient * keep)
            image, mask = shade_mesh(
                normals, albedo, rast, triangles, values, self.dr, self.shader, vertices
            )
        motion = None
        if surface:
            motion = SurfaceMotion(
                vertices, self.camera.clip_space, self.camera.clip_coefficients, triangles,
                rast.detach().contiguous(), self.camera.near, _AREA_FLOOR, self.dr,
                torch.is_grad_enabled(),
            )  # fmt: skip
        if outline is not None:
            interior = image
            image, mask = outline.attach(torch.cat([image, mask], dim=1)).split([3, 1], dim=1)
        buffers = (normals, albedo, vertices, rast, triangles, values, self.dr, self.shader)
        return Rendering(
            image=image,
            mask=mask,
            make_gbuffer=partial(_make_gbuffer, torch.is_grad_enabled(), *buffers),
            motion=motion,
            outline=outline,
            interior=interior,
        )

    def __getstate__(self) -> dict[str, Any]:
        # Modules can't be pickled or copied: the verbs travel by name.
        return {**vars(self), "dr": self.dr.__name__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "dr": import_module(state["dr"])})


def _given(buffer: GBuffer) -> GBuffer:
    return buffer


def _make_gbuffer(with_gradient: bool, *buffers: Any) -> GBuffer:
    """The G-buffer in the gradient mode of the rendering, not of the place that asks for it."""
    with torch.set_grad_enabled(with_gradient):
        return make_gbuffer(*buffers)


def _check_shapes(
    vertices: Tensor, triangles: Tensor, albedo: Tensor, normals: Tensor | None
) -> None:
    if vertices.ndim != 3 or vertices.shape[2] != 3:
        raise ValueError(f"FaceRenderer: vertices is {list(vertices.shape)}, expected [B, V, 3]")
    batch, num_vertices, _ = vertices.shape
    whole = not (triangles.is_floating_point() or triangles.is_complex())
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not whole or triangles.dtype == torch.bool:
        raise ValueError(
            f"FaceRenderer: triangles is {list(triangles.shape)} {triangles.dtype}, "
            "expected [T, 3] of integers"
        )
    if albedo.shape[-2:] != (num_vertices, 3) or albedo.shape[:-2] not in ((), (1,), (batch,)):
        raise ValueError(
            f"FaceRenderer: albedo is {list(albedo.shape)}, expected [B, V, 3] or [V, 3] with "
            f"B = {batch}, V = {num_vertices} (from vertices)"
        )
    if normals is not None and normals.shape != vertices.shape:
        raise ValueError(
            f"FaceRenderer: normals is {list(normals.shape)}, expected {list(vertices.shape)} "
            "(as vertices)"
        )
