"""FaceDecoder: the paper's model-based decoder, code -> image (raster) or coloured vertices (vertex).

code -> face model -> vertices, albedo -> rigid pose, camera
  raster: -> renderer -> image and G-buffer
  vertex: -> projected positions u_i and colours c_i (Eq. 5), front-facing set
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mofa_nvdr import dr as default_dr
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.renderer import FaceRenderer, Rendering
from mofa_nvdr.render.smooth_edge import edge_field, within
from mofa_nvdr.render.vertex_shading import shade_vertices
from mofa_nvdr.scene.camera import BaseCamera, Camera
from mofa_nvdr.scene.lighting import total_light
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.shaders.gbuffer import make_gbuffer, shade_mesh
from mofa_nvdr.shaders.sh_lambert import ShLambert
from mofa_nvdr.shaders.shader import Shader
from mofa_nvdr.system.device import in_full_precision

_PLACED = {"shape", "expression", "rotation", "translation"}  # parts of a code that move vertices

RENDER_MODES = ("raster", "vertex")


@dataclass(frozen=True)
class Geometry:
    """A decoded face in camera space, before image formation.

    Attributes:
        vertices: [B, V, 3] mm. normals: [B, V, 3] unit. albedo: [B, V, 3].
        light: [B, 9, 3] with the ambient offset; for a decoder with another shader: what that one takes.
    """

    vertices: Tensor
    normals: Tensor
    albedo: Tensor
    light: Any


@dataclass(frozen=True)
class RasterFace(Rendering):
    """Output of raster mode: the rendering and where the landmarks project.

    Attributes:
        landmarks: [B, 68, 2] pixels, x right, y down from the image's top left corner.
    """

    landmarks: Tensor | None = None


@dataclass(frozen=True)
class VertexFace:
    """Output of vertex mode, the paper's own image formation (Eq. 5).

    Attributes:
        positions: [B, V, 2] projected vertices u_i in pixels.
        colors: [B, V, 3] shaded colours c_i.
        front_facing: [B, V] bool, vertices of the frontal region whose normal points to the camera.
        landmarks: [B, 68, 2] pixels.
    """

    positions: Tensor
    colors: Tensor
    front_facing: Tensor
    landmarks: Tensor


class FaceDecoder(nn.Module):
    """Analytic, differentiable decoder of face codes.

    It computes in its face model's numbers (float32), in a torch.autocast around it too. Codes may be half or
    bfloat16, as encoders give them there.

    Args:
        model: the face model; moves with the decoder.
        image_size: side of the square image in pixels. Ignored when a camera is given.
        render_mode: "raster" or "vertex".
        gradient: raster mode's backward formula, "rendering" or "surface" (renderer.FaceRenderer).
        camera: `Camera`, `IntrinsicsCamera` or `OrthographicCamera`; None: the default one at `image_size`.
        frontal_only: render and sample the model's frontal region only, as the paper trains; False: the
            whole mesh.
        smooth_edge: for pictures: the frontal region ends in a smooth line, not at triangles, in raster mode,
            without gradients (render.smooth_edge).
        dr: module with nvdiffrast's verbs; `mofa_nvdr.dr.reference` for float64.
        outline: raster mode's gradient at outlines, "none" or "edges" (renderer.FaceRenderer).
        shader: what colours pixels and vertices (renderer.FaceRenderer); None: `ShLambert()`, which takes
            the light of codes. For another: `rasterize` or `shade_vertices` of a `geometry` with its
            light, dataclasses.replace(decoder.geometry(code), light=...).

    Raises:
        ValueError: unknown render mode, gradient or outline.
    """

    def __init__(
        self,
        model: FaceModel,
        image_size: int = 240,
        render_mode: str = "raster",
        gradient: str = "rendering",
        camera: BaseCamera | None = None,
        frontal_only: bool = True,
        dr: ModuleType = default_dr,
        outline: str = "none",
        shader: Shader | None = None,
        smooth_edge: bool = False,
    ) -> None:
        super().__init__()
        _check_mode(render_mode)
        self.model = model
        self.render_mode = render_mode
        self.camera: BaseCamera = camera or Camera(image_size=image_size)
        self.renderer = FaceRenderer(self.camera, gradient, dr, outline, shader)
        self.frontal_only = frontal_only
        smooth_edge = smooth_edge and frontal_only
        whole = smooth_edge or not frontal_only
        self.triangles: Tensor
        self._edge: Tensor | None
        triangles = model.triangles if whole else model.frontal_triangles
        self.register_buffer("triangles", triangles, persistent=False)
        self.register_buffer("_edge", edge_field(model) if smooth_edge else None, persistent=False)

    @property
    def pinhole(self) -> Camera:
        """The camera where only a `Camera` will do: training, fitting, files.

        Raises:
            TypeError: it is another.
        """
        if not isinstance(self.camera, Camera):
            raise TypeError(
                f"FaceDecoder: the camera is of the class {type(self.camera).__name__}, expected Camera: "
                "training, fitting and files of faces know no other; any camera decodes and renders"
            )
        return self.camera

    def finer(self, times: int) -> FaceDecoder:
        """A decoder of the same face model that draws pictures for people, that many times as large.

        The frontal region ends in a smooth line in them (`smooth_edge`).

        Raises:
            TypeError: the camera is no `Camera`.
        """
        camera, own = self.pinhole, self.renderer
        size = camera.image_size
        large = times * size if isinstance(size, int) else (times * size[0], times * size[1])
        camera = replace(camera, image_size=large, focal=times * camera.focal_px)
        return FaceDecoder(
            self.model, render_mode=self.render_mode, gradient=own.gradient, camera=camera,
            frontal_only=self.frontal_only, dr=own.dr, outline=own.outline, shader=own.shader,
            smooth_edge=True,
        ).to(self.triangles.device)  # fmt: skip

    @in_full_precision
    def forward(
        self, code: Tensor | FaceCode, render_mode: str | None = None
    ) -> RasterFace | VertexFace:
        """Decode codes [B, 257] or a FaceCode; `render_mode` overrides the decoder's own.

        Returns:
            RasterFace or VertexFace, differentiable in every number of the code.

        Raises:
            ValueError: the code does not fit the face model, or an unknown render mode.
        """
        mode = self.render_mode if render_mode is None else render_mode
        _check_mode(mode)
        geometry = self.geometry(code)
        if mode == "vertex":
            return self.shade_vertices(geometry)
        return self.rasterize(geometry)

    @in_full_precision
    def geometry(
        self,
        code: Tensor | FaceCode,
        like: Geometry | None = None,
        changed: Collection[str] = (),
    ) -> Geometry:
        """The face in camera space (Eqs. 2 and 3, then v_cam = R v + home + s).

        Args:
            code: [B, 257] or a FaceCode.
            like: what this returned for a code that differs in some parts alone; the rest is taken over.
            changed: the names of those parts.
        """
        layout = self.model.layout
        if isinstance(code, Tensor):
            code = layout.unpack(code)
        else:
            layout.check(code)
        code = self._widened(code)
        if like is not None and not _PLACED & set(changed):
            vertices, normals = like.vertices, like.normals
        else:
            # Rotating the points first and taking normals there equals rotating the normals, and is one step
            # cheaper: the paper's "T n" in Eq. 5 is the camera's rotation of the normals.
            vertices, normals = self.camera.to_camera_with_normals(
                self.model.vertices(code.shape, code.expression),
                axis_angle_to_matrix(code.rotation),
                code.translation,
                self.model.triangles,
            )
        if like is not None and "albedo" not in changed:
            albedo = like.albedo
        else:
            albedo = self.model.albedo(code.albedo)
        return Geometry(vertices, normals, albedo, total_light(code.light))

    @in_full_precision
    def rasterize(self, geometry: Geometry) -> RasterFace:
        """Raster mode: per-pixel shading of the rasterized G-buffer."""
        rendering = self.renderer(
            geometry.vertices,
            self.triangles,
            geometry.albedo,
            geometry.light,
            geometry.normals,
        )
        return self._face(rendering, self.landmarks(geometry))

    @torch.no_grad()
    @in_full_precision
    def recolored(self, face: RasterFace, geometry: Geometry) -> RasterFace:
        """A face that is drawn already, in other albedo and light: nothing is rasterized again.

        Args:
            face: of `rasterize`.
            geometry: of the same vertices and normals.

        Returns:
            What `rasterize` makes of `geometry`, without gradients.
        """
        assert face.pixels is not None
        own, pixels = self.renderer, face.pixels
        values = own.shader.check("FaceDecoder", geometry.light, geometry.vertices)
        rest = (pixels.triangles, values, own.dr, own.shader)
        image, mask = shade_mesh(
            geometry.normals, geometry.albedo, pixels.rast, *rest, geometry.vertices
        )
        buffers = (geometry.normals, geometry.albedo, geometry.vertices, pixels.rast, *rest)
        rendering = Rendering(image, mask, partial(torch.no_grad()(make_gbuffer), *buffers), pixels)
        return self._face(rendering, face.landmarks)

    def _face(self, rendering: Rendering, landmarks: Tensor | None) -> RasterFace:
        if self._edge is not None:
            rendering = within(rendering, self._edge)
        parts = {field.name: getattr(rendering, field.name) for field in fields(rendering)}
        return RasterFace(**parts, landmarks=landmarks)

    @in_full_precision
    def shade_vertices(self, geometry: Geometry) -> VertexFace:
        """Vertex mode: F_i = [u_i, c_i] per vertex (Eq. 5)."""
        shader, vertices = self.renderer.shader, geometry.vertices
        light = shader.check("FaceDecoder", geometry.light, vertices)
        lens = self.camera.lens
        if type(shader) is ShLambert and lens is not None:
            mask = self.model.frontal_mask
            counted = mask if self.frontal_only else torch.ones_like(mask)
            positions, colors, facing = shade_vertices(
                vertices, geometry.normals, geometry.albedo, light["light"], counted, lens
            )
            return VertexFace(positions, colors, facing, self.landmarks(geometry))
        facing = (geometry.normals * self.camera.view_directions(vertices)).sum(-1) > 0
        if self.frontal_only:
            facing = facing & self.model.frontal_mask
        return VertexFace(
            positions=self.camera.project(geometry.vertices),
            colors=shader.colors(geometry.normals, geometry.albedo, vertices, **light),
            front_facing=facing.detach(),
            landmarks=self.landmarks(geometry),
        )

    @in_full_precision
    def landmarks(self, geometry: Geometry) -> Tensor:
        """Projected landmarks [B, 68, 2] in pixels."""
        return self.camera.project(geometry.vertices[:, self.model.landmarks])

    @in_full_precision
    def dense_landmarks(self, geometry: Geometry) -> Tensor:
        """Projected dense landmarks [B, 478, 2] in pixels; one without a place is at any vertex.

        Raises:
            ValueError: nobody has measured where they lie on the face model.
        """
        places = self.model.dense_landmarks
        if places is None:
            raise ValueError(
                f"FaceDecoder: face model {self.model.name} has no places for dense landmarks; import it "
                "again with the landmark networks at hand, or use its 68 landmarks"
            )
        return self.camera.project(places.of(geometry.vertices))

    @in_full_precision
    def points(self, code: FaceCode, index: Tensor) -> Tensor:
        """Some vertices of `geometry`, [B, N, 3] camera space, mm, without the work for the others.

        Args:
            code: face codes.
            index: int64 [N], numbers of vertices.
        """
        code = self._widened(code)
        return self.place(code, self.model.vertices(code.shape, code.expression, index))

    @in_full_precision
    def place(self, code: FaceCode, points: Tensor) -> Tensor:
        """Points [B, N, 3] from model space to camera space, mm: where the code's pose puts them."""
        rotation = axis_angle_to_matrix(code.rotation)
        return self.camera.to_camera(points, rotation, code.translation)

    def _widened(self, code: FaceCode) -> FaceCode:
        """Codes of half and bfloat16 in the model's numbers; gradients go back in the codes' own."""
        wide = self.model.mean_shape.dtype
        return code.map(lambda part: part.to(wide) if part.dtype.itemsize < 4 else part)

    def code_zero(self, batch_size: int = 1) -> FaceCode:
        """The average face, frontal, in the training framing, under the ambient offset."""
        mean = self.model.mean_shape
        return self.model.layout.zeros(batch_size, device=mean.device, dtype=mean.dtype)


def face_image(face: RasterFace, background: Tensor | float = 0.0) -> Tensor:
    """The rendered face over a background [B, 3, H, W] (or a grey value), clamped to [0, 1]."""
    return torch.where(face.mask > 0, face.image, torch.as_tensor(background).to(face.image)).clamp(
        0, 1
    )


def _check_mode(render_mode: str) -> None:
    if render_mode not in RENDER_MODES:
        raise ValueError(
            f"FaceDecoder: render_mode is {render_mode!r}, expected one of "
            f"{', '.join(RENDER_MODES)}"
        )
