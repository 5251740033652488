"""FaceRenderer: any mesh with albedo or a texture under the light of a shader -> G-buffer -> image.

camera-space vertices -> clip space -> shaders.gbuffer:
    dr.rasterize -> dr.interpolate (normal, albedo, depth) -> a shader's colours per pixel -> image
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mofa_nvdr import dr as default_dr
from mofa_nvdr.dr.parallel import compiles
from mofa_nvdr.render.mesh_texture import Texture, check_triangles
from mofa_nvdr.render.outline import Outline, find_outline
from mofa_nvdr.render.pixels import MeshPixels
from mofa_nvdr.render.surface_motion import SurfaceMotion
from mofa_nvdr.scene.camera import BaseCamera, Camera
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.shaders.gbuffer import (
    GBuffer,
    draw_mesh,
    make_gbuffer,
    shade_mesh,
    shade_mesh_ref,
)
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
        image: [B, 3, H, W] shaded colour, not clamped; [B, C, H, W] of a shader that takes any number of
            channels (Unlit), as albedo below.
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
        pixels: which point of which triangle each pixel sees; for `interpolate`.
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
    pixels: MeshPixels | None = field(default=None, repr=False)
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

    def over(self, background: Tensor | Sequence[float] | float) -> Tensor:
        """The image over a background, not clamped.

        With outline="edges" its gradient is that of the whole picture, moving outlines included.

        Args:
            background: a number for all channels; a colour of C numbers, or one for each image [B, C]; a
                picture [C, H, W] or [B, C, H, W], row 0 at the top.

        Returns:
            [B, C, H, W], differentiable in image and background.

        Raises:
            ValueError: another shape.
        """
        return self.image + (1 - self.mask) * self._behind(background)

    def _behind(self, background: Tensor | Sequence[float] | float) -> Tensor | float:
        if isinstance(background, (int, float)):
            return background
        batch, channels, height, width = self.image.shape
        if not isinstance(background, Tensor):
            background = self.image.new_tensor(background)
        shape = tuple(background.shape)
        if shape in ((channels,), (1, channels), (batch, channels)):
            return background[..., None, None]
        pictures = ((height, width), (channels, height, width))
        wide = [(b, c, height, width) for b in (1, batch) for c in (1, channels)]
        if shape not in ((), *pictures, (1, height, width), *wide):
            raise ValueError(
                f"Rendering.over: background is {list(shape)}, expected a number, a colour [{channels}], or "
                f"a picture [{batch}, {channels}, {height}, {width}]"
            )
        return background

    def interpolate(self, attributes: Tensor, triangles: Tensor | None = None) -> Tensor:
        """Any numbers at the vertices, at the pixels that were drawn.

        Args:
            attributes: [B, V, C] or, for all images, [V, C]; C is any number.
            triangles: rows of the attributes at the corners of the mesh's triangles, [T, 3] of any integer
                type, where they are others than the mesh's (texture coordinates with seams); None: those.

        Returns:
            [B, C, H, W], zeros where no triangle is. Differentiable in attributes and, with
            gradient="rendering", in the vertices; not through the outline.

        Raises:
            ValueError: shapes disagree, or the rendering keeps no mesh.
            TypeError: another dtype or device than the mesh's.
        """
        if self.pixels is None:
            raise ValueError(
                "Rendering.interpolate: this rendering keeps no mesh, expected one that a renderer drew"
            )
        return self.pixels.interpolate(attributes, triangles)


class FaceRenderer(nn.Module):
    """Render meshes under a shader's light, differentiably, on the device of the tensors.

    Args:
        camera: `Camera`, `IntrinsicsCamera` or `OrthographicCamera`; its image size is the size of the
            rendering.
        gradient: how images move under geometry. "rendering": through the interpolated attributes, as
            nvdiffrast gives it: the picture moves under fixed pixels (no term for the outline).
            "surface": attributes are held at fixed surface points, and `surface_position` and `log_area`
            carry the motion for a loss that follows the points (losses.mofa.photometric_raster).
        dr: the module with nvdiffrast's verbs; `mofa_nvdr.dr.reference` for float64.
        outline: "none", or "edges": image and mask also carry the gradient of moving outlines (module
            outline), on meshes of any density. Only with gradient="rendering" and a pinhole.
        shader: what makes colours from normals, albedo and light (shaders.shader); None: spherical harmonics,
            `ShLambert()`.

    Raises:
        ValueError: unknown gradient or outline, or "edges" with gradient="surface" or without a pinhole.
        TypeError: the shader or the camera is not one.
    """

    def __init__(
        self,
        camera: BaseCamera | None = None,
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
        if camera is not None and not isinstance(camera, BaseCamera):
            raise TypeError(
                f"FaceRenderer: camera is {camera!r}, expected a Camera, IntrinsicsCamera or "
                "OrthographicCamera"
            )
        self.camera = camera or Camera()
        if outline == "edges" and self.camera.distant_eye:
            # What is nearer is told by w there, the distance; here it is 1 everywhere.
            raise ValueError(
                f"FaceRenderer: outline is 'edges' with a camera of parallel lines of sight "
                f"({type(self.camera).__name__}), expected a pinhole; put one far away, or use outline 'none'"
            )
        self.gradient = gradient
        self.outline = outline
        self.dr = dr
        shader = shader or ShLambert()
        self.shader = shader.for_distant_eye() if self.camera.distant_eye else shader
        self._context = default_dr.RasterizeContext()

    @in_full_precision
    def forward(
        self,
        vertices: Tensor,
        triangles: Tensor,
        albedo: Tensor | Texture,
        light: Any = None,
        normals: Tensor | None = None,
    ) -> Rendering:
        """Render a batch of meshes of one topology; the next call may bring another one.

        Args:
            vertices: [B, V, 3] camera space, mm: x right, y up, looking down -z.
            triangles: [T, 3] of any integer type; int32 needs no conversion.
            albedo: [B, V, 3] or [V, 3] reflectance, or a Texture. With Unlit any number of channels.
            light: what the shader takes. Of ShLambert: [B, 9, 3] SH coefficients of the incoming radiance in
                camera space, complete (the ambient offset of face codes is added by the caller:
                lighting.total_light). Of Phong: a PhongLight. Of Unlit: None.
            normals: [B, V, 3] unit normals in camera space; None: area-weighted vertex normals.

        Returns:
            The rendering and its G-buffer, differentiable in vertices, albedo or texture, light and normals.
            The same bits for any number of threads on the CPU.

        Raises:
            ValueError: shapes disagree.
            TypeError: the light is not the shader's, or has another dtype than the vertices.
        """
        _check_shapes(vertices, triangles, albedo, normals, self.shader.channels)
        triangles = triangles.int().contiguous()
        values = self.shader.check("FaceRenderer", light, vertices)
        batch, size = vertices.shape[0], self.camera.size
        if normals is None and self.shader.uses_normal:
            normals = vertex_normals(vertices, triangles)
        texture = albedo if isinstance(albedo, Texture) else None
        colors = albedo.expand(batch, -1, -1) if isinstance(albedo, Tensor) else None
        surface = self.gradient == "surface"
        drawn = vertices.detach() if surface else vertices
        outline = interior = None
        # Eq. 4, or the equation of another shader, at every pixel.
        # nvdiffrast's row 0 is at the bottom, the image's at the top.
        if (
            self.dr is default_dr
            and self.outline == "none"
            and self.shader.kernels is not None
            and normals is not None
            and colors is not None
            and compiles(vertices, normals, colors, *values.values())
        ):
            image, mask, rast = draw_mesh(
                drawn, triangles, normals, colors, values, size, self.camera.clip_matrix,
                self.shader, vertices,
            )  # fmt: skip
        else:
            pos = self.camera.clip_space(drawn).contiguous()
            with_db = texture is not None and texture.mipmaps
            rast, rast_db = self.dr.rasterize(self._context, pos, triangles, size, grad_db=with_db)
            if self.outline == "edges":
                outline = find_outline(pos, triangles, rast, self.camera.pixel_angle)
                if rast.requires_grad:
                    keep = ~outline.grazing[..., None]
                    rast.register_hook(lambda gradient: gradient * keep)
            if texture is not None:
                colors = texture.sample(rast, rast_db, triangles, self.dr)
            assert colors is not None
            rest = (colors, rast, triangles, values, self.dr, self.shader, vertices)
            if texture is not None or normals is None:
                image, mask = shade_mesh_ref(normals, *rest)
            else:
                image, mask = shade_mesh(normals, *rest)
        motion = None
        if surface:
            motion = SurfaceMotion(
                vertices, self.camera.clip_space, self.camera.clip_matrix, triangles,
                rast.detach().contiguous(), self.camera.nearest_w, _AREA_FLOOR, self.dr,
                torch.is_grad_enabled(),
            )  # fmt: skip
        if outline is not None:
            interior = image
            sizes = [image.shape[1], 1]
            image, mask = outline.attach(torch.cat([image, mask], dim=1)).split(sizes, dim=1)
        assert colors is not None
        buffers = (normals, colors, vertices, rast, triangles, values, self.dr, self.shader)
        return Rendering(
            image=image,
            mask=mask,
            make_gbuffer=partial(_make_gbuffer, torch.is_grad_enabled(), *buffers),
            pixels=MeshPixels(rast, triangles, vertices.shape[1], self.dr, torch.is_grad_enabled()),
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


def _make_gbuffer(
    with_gradient: bool,
    normals: Tensor | None,
    albedo: Tensor,
    vertices: Tensor,
    rast: Tensor,
    triangles: Tensor,
    *rest: Any,
) -> GBuffer:
    """The G-buffer in the gradient mode of the rendering, not of the place that asks for it."""
    with torch.set_grad_enabled(with_gradient):
        if normals is None:  # the shader did not need them
            normals = vertex_normals(vertices, triangles)
        return make_gbuffer(normals, albedo, vertices, rast, triangles, *rest)


def _check_shapes(
    vertices: Tensor,
    triangles: Tensor,
    albedo: Tensor | Texture,
    normals: Tensor | None,
    channels: int | None,
) -> None:
    if vertices.ndim != 3 or vertices.shape[2] != 3:
        raise ValueError(f"FaceRenderer: vertices is {list(vertices.shape)}, expected [B, V, 3]")
    batch, num_vertices, _ = vertices.shape
    check_triangles("FaceRenderer", triangles)
    if isinstance(albedo, Texture):
        albedo.check("FaceRenderer", vertices, triangles, channels)
    else:
        shape, wanted = albedo.shape, channels or "C"
        if (
            shape[-2:-1] != (num_vertices,)
            or (channels is not None and shape[-1] != channels)
            or shape[:-2] not in ((), (1,), (batch,))
            or shape[-1] == 0
        ):
            raise ValueError(
                f"FaceRenderer: albedo is {list(shape)}, expected [B, V, {wanted}] or [V, {wanted}] with "
                f"B = {batch}, V = {num_vertices} (from vertices), or a Texture"
            )
    if normals is not None and normals.shape != vertices.shape:
        raise ValueError(
            f"FaceRenderer: normals is {list(normals.shape)}, expected {list(vertices.shape)} "
            "(as vertices)"
        )
