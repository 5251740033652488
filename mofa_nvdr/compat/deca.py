"""DECA's renderers: `from mofa_nvdr.compat.deca import SRenderY, Pytorch3dRasterizer, set_rasterizer`.

Source: https://github.com/yfeng95/DECA, `decalib/utils/renderer.py` (Feng et al. 2021, "Learning an
Animatable Detailed 3D Face Model from In-The-Wild Images"); EMOCA, inferno, SPECTRE and
photometric_optimization hold copies. Neither PyTorch3D nor a compiler is needed.

Mended:

* the caller's `transformed_vertices` stay as they are (there every call adds 10 to their z);
* everything in the picture is drawn, whatever its z (there triangles with a vertex at z < 0 are dropped
  without a word, in `render_colors` half of a head); `exact=True` of a rasterizer drops them too;
* `StandardRasterizer` uses its width, and has gradients;
* `h` or `w` may be given alone, attributes may be None (the mask alone), and meshes of a batch may differ;
* an unknown `rasterizer_type` is refused.

Lights are as there: point lights are not clamped where they shine from behind, directional ones are, and
several lights are averaged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mofa_nvdr.compat.conventions import convert_light
from mofa_nvdr.compat.deca_rasterizers import Pytorch3dRasterizer, StandardRasterizer
from mofa_nvdr.compat.drawing import Drawn
from mofa_nvdr.compat.inputs import Inputs, positive_size
from mofa_nvdr.importers.files.obj_files import read_obj
from mofa_nvdr.scene.lighting import LAMBERT_CONSTANTS
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.shaders.sh_lambert import sh_irradiance
from mofa_nvdr.system.device import in_full_precision

__all__ = ["Pytorch3dRasterizer", "SRenderY", "StandardRasterizer", "set_rasterizer"]

RASTERIZERS = ("pytorch3d", "standard")
_FACING, _FACING_SHAPE = (
    -0.05,
    0.15,
)  # the z of an image-space normal below which a pixel is in the mask
_SHAPE_GREY = 180 / 255
_MARGIN_X, _MARGIN_Y = 2, 5  # of the dense mesh over the texture, in texels


def set_rasterizer(type: str = "pytorch3d") -> None:  # noqa: A002 (the peer's name)
    """Nothing: there is one rasterizer, and it needs no import or compiler.

    Raises:
        ValueError: neither "pytorch3d" nor "standard".
    """
    _check_type("set_rasterizer", type)


class SRenderY(nn.Module):
    """Draw a head with a texture and light, as DECA does.

    Args:
        image_size: side of the pictures in pixels, unless a call says otherwise.
        obj_filename: a Wavefront file with texture coordinates; quads are cut into triangles.
        uv_size: side of textures that `world2uv` makes.
        rasterizer_type: "pytorch3d" or "standard"; both draw the same.

    Raises:
        ValueError: an unknown rasterizer, a size that is no size, or a file that cannot be read or has no
            texture coordinates.
    """

    faces: Tensor
    uvfaces: Tensor
    uvcoords: Tensor
    face_uvcoords: Tensor
    face_colors: Tensor
    constant_factor: Tensor

    def __init__(
        self,
        image_size: int,
        obj_filename: str | Path,
        uv_size: int = 256,
        rasterizer_type: str = "pytorch3d",
    ) -> None:
        super().__init__()
        _check_type("SRenderY", rasterizer_type)
        positive_size("SRenderY", image_size=image_size, uv_size=uv_size)
        self.image_size, self.uv_size = image_size, uv_size
        kind = Pytorch3dRasterizer if rasterizer_type == "pytorch3d" else StandardRasterizer
        self.rasterizer, self.uv_rasterizer = kind(image_size), kind(uv_size)
        faces, uvcoords, uvfaces = _read(Path(obj_filename))
        self.register_buffer("dense_faces", _dense_faces(uv_size)[None])
        self.register_buffer("faces", faces[None])
        self._num_vertices = int(faces.max()) + 1
        self.register_buffer("raw_uvcoords", uvcoords[None])
        # The plane of the texture as a picture: v is up, y is down.
        plane = torch.stack(
            [2 * uvcoords[:, 0] - 1, 1 - 2 * uvcoords[:, 1], torch.ones(len(uvcoords))], dim=-1
        )
        self.register_buffer("uvcoords", plane[None])
        self.register_buffer("uvfaces", uvfaces[None])
        self.register_buffer("face_uvcoords", plane[uvfaces][None])
        self.register_buffer("face_colors", torch.full((1, len(faces), 3, 3), _SHAPE_GREY))
        constants = torch.tensor(LAMBERT_CONSTANTS)[[0, 3, 1, 2, 4, 7, 5, 8, 6]]
        constants[0] /= torch.pi
        self.register_buffer("constant_factor", constants)

    @in_full_precision
    def forward(
        self,
        vertices: Tensor,
        transformed_vertices: Tensor,
        albedos: Tensor,
        lights: Tensor | None = None,
        h: int | None = None,
        w: int | None = None,
        light_type: str = "point",
        background: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Draw heads with their textures.

        Args:
            vertices: world space [B, V, 3], from which normals and light are taken.
            transformed_vertices: image space [B, V, 3] (see `Pytorch3dRasterizer`); not changed.
            albedos: textures [B, 3, uv, uv] or [1, 3, uv, uv].
            lights: SH coefficients [B, 9, 3] in DECA's order, or [B, L, 6] positions and RGB; None: no
                shading.
            h: height of the pictures in pixels.
            w: width.
            light_type: "point" or "directional", for lights that are not SH.
            background: [B, 3, h, w] where no triangle is; None: black.

        Returns:
            images, albedo_images, shading_images [B, 3, h, w]; alpha_images, pos_mask (facing the camera)
            [B, 1, h, w]; grid [B, h, w, 2] where the texture was read; normals, transformed_normals
            [B, V, 3]; normal_images [B, 3, h, w].

        Raises:
            ValueError: shapes or devices that do not go together, or an unknown kind of light.
            TypeError: not float32.
        """
        inputs = self._checked(vertices, transformed_vertices)
        inputs.floats("albedos", albedos, ("B", 3, "Ht", "Wt"), (1, 3, "Ht", "Wt"))
        drawn = self._draw(transformed_vertices, h, w)
        normals, transformed_normals = self._normals(vertices, transformed_vertices)
        pixels = drawn.of_vertices(
            torch.cat([transformed_normals.detach(), vertices.detach(), normals], dim=-1)
        )
        facing, points, normal_pixels = pixels.split(3, dim=-1)
        grid = drawn.of_corners(self.face_uvcoords)[..., :2]
        alpha = drawn.mask[:, None]
        albedo = functional.grid_sample(
            albedos.expand(len(vertices), -1, -1, -1), grid, align_corners=False
        )
        normal_images = normal_pixels.permute(0, 3, 1, 2)
        if lights is None:
            shading, images = torch.zeros_like(albedo), albedo
        else:
            shading = self._shading(inputs, lights, light_type, points, normal_pixels)
            images = albedo * shading
        behind: Tensor | float = 0.0
        if background is not None:
            inputs.floats("background", background, ("B", 3, *alpha.shape[2:]))
            behind = background * (1 - alpha)
        return {
            "images": images * alpha + behind,
            "albedo_images": albedo * alpha + behind,
            "alpha_images": alpha,
            "pos_mask": (facing.detach()[..., 2] < _FACING).float()[:, None],
            "shading_images": shading,
            "grid": grid,
            "normals": normals,
            "normal_images": normal_images * alpha,
            "transformed_normals": transformed_normals,
        }

    def _shading(
        self, inputs: Inputs, lights: Tensor, light_type: str, points: Tensor, normals: Tensor
    ) -> Tensor:
        """[B, 3, h, w] of G-buffers [B, h, w, 3]."""
        inputs.floats("lights", lights, ("B", 9, 3), ("B", "L", 6))
        if lights.shape[1] == 9:
            return self.add_SHlight(normals.permute(0, 3, 1, 2), lights)
        if light_type not in ("point", "directional"):
            raise ValueError(
                f"SRenderY: light_type is {light_type!r}, expected 'point' or 'directional'"
            )
        flat = normals.flatten(1, 2)
        if light_type == "point":
            shading = self.add_pointlight(points.detach().flatten(1, 2), flat, lights)
        else:
            shading = self.add_directionlight(flat, lights)
        return shading.view(normals.shape).permute(0, 3, 1, 2)

    def add_SHlight(self, normal_images: Tensor, sh_coeff: Tensor) -> Tensor:  # noqa: N802
        """The shading [B, 3, h, w] of normals [B, 3, h, w] under coefficients [B, 9, 3] in DECA's order."""
        inputs = Inputs("add_SHlight", dtype=None)
        inputs.floats("normal_images", normal_images, ("B", 3, "h", "w"))
        inputs.floats("sh_coeff", sh_coeff, ("B", 9, 3))
        normals = normal_images.permute(0, 2, 3, 1).contiguous()
        light = convert_light(sh_coeff, "deca").contiguous()
        return sh_irradiance(normals, light).permute(0, 3, 1, 2)

    @staticmethod
    def add_pointlight(vertices: Tensor, normals: Tensor, lights: Tensor) -> Tensor:
        """The mean over point lights [B, L, 6] of colour times cosine, not clamped, for points [B, P, 3]."""
        inputs = Inputs("add_pointlight", dtype=None)
        inputs.floats("vertices", vertices, ("B", "P", 3))
        inputs.floats("normals", normals, ("B", "P", 3))
        inputs.floats("lights", lights, ("B", "L", 6))
        total = torch.zeros_like(normals)
        for place, color in zip(lights[..., :3].unbind(1), lights[..., 3:].unbind(1)):
            towards = functional.normalize(place[:, None] - vertices, dim=-1)
            total = total + (normals * towards).sum(-1, keepdim=True) * color[:, None]
        return total / lights.shape[1]

    @staticmethod
    def add_directionlight(normals: Tensor, lights: Tensor) -> Tensor:
        """The mean over distant lights [B, L, 6] of colour times cosine in [0, 1], for normals [B, P, 3]."""
        inputs = Inputs("add_directionlight", dtype=None)
        inputs.floats("normals", normals, ("B", "P", 3))
        inputs.floats("lights", lights, ("B", "L", 6))
        towards = functional.normalize(lights[..., :3], dim=-1)
        cosine = (normals @ towards.mT).clamp(0, 1)  # [B, P, L]
        return cosine @ lights[..., 3:] / lights.shape[1]

    @in_full_precision
    def render_shape(
        self,
        vertices: Tensor,
        transformed_vertices: Tensor,
        colors: Tensor | None = None,
        images: Tensor | None = None,
        detail_normal_images: Tensor | None = None,
        lights: Tensor | None = None,
        return_grid: bool = False,
        uv_detail_normals: Tensor | None = None,
        h: int | None = None,
        w: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw the bare shape under distant lights.

        Args:
            vertices: world space [B, V, 3].
            transformed_vertices: image space [B, V, 3]; not changed.
            colors: of the triangles' corners [B, F, 3, 3]; None: grey.
            images: behind the shape, [B, 3, h, w]; None: black.
            detail_normal_images: normals [B, 3, h, w] in place of the mesh's.
            lights: [B, L, 6] directions and RGB; None: five from the front.
            return_grid: whether to return more.
            uv_detail_normals: not used, as there.
            h: height of the pictures in pixels.
            w: width.

        Returns:
            The picture [B, 3, h, w]; with return_grid also the normals [B, 3, h, w], the grid [B, h, w, 2]
            where a texture would be read, and the mask [B, 1, h, w].

        Raises:
            ValueError: shapes or devices that do not go together.
            TypeError: not float32.
        """
        inputs = self._checked(vertices, transformed_vertices)
        if lights is None:
            places = vertices.new_tensor(
                [[-1, 1, 1], [1, 1, 1], [-1, -1, 1], [1, -1, 1], [0, 0, 1]]
            )
            five = torch.cat([places, torch.full_like(places, 1.7)], dim=-1)
            lights = five.expand(len(vertices), -1, -1)
        inputs.floats("lights", lights, ("B", "L", 6))
        drawn = self._draw(transformed_vertices, h, w)
        normals, transformed_normals = self._normals(vertices, transformed_vertices)
        pixels = drawn.of_vertices(torch.cat([transformed_normals, normals], dim=-1).detach())
        corners = self.face_colors if colors is None else colors
        inputs.size("F", self.faces.shape[1], "the mesh")
        inputs.floats("colors", corners, ("B", "F", 3, 3), (1, "F", 3, 3))
        albedo = drawn.of_corners(corners).permute(0, 3, 1, 2)
        normal_images = pixels[..., 3:].permute(0, 3, 1, 2)
        if detail_normal_images is not None:
            inputs.floats("detail_normal_images", detail_normal_images, tuple(normal_images.shape))
            normal_images = detail_normal_images
        flat = normal_images.permute(0, 2, 3, 1).flatten(1, 2)
        shading = self.add_directionlight(flat, lights).view(len(vertices), *albedo.shape[2:], 3)
        alpha = drawn.mask[:, None] * (pixels[..., 2] < _FACING_SHAPE)[:, None]
        picture = albedo * shading.permute(0, 3, 1, 2) * alpha
        if images is not None:
            inputs.floats("images", images, tuple(picture.shape))
            picture = picture + images * (1 - alpha)
        if not return_grid:
            return picture
        return picture, normal_images, drawn.of_corners(self.face_uvcoords)[..., :2], alpha

    @in_full_precision
    def render_depth(self, transformed_vertices: Tensor) -> Tensor:
        """Depth [B, 1, S, S] from 1 at the nearest to 0 at the farthest vertex of the batch; background 0."""
        Inputs("SRenderY").floats("transformed_vertices", transformed_vertices, ("B", "V", 3))
        z = transformed_vertices[..., 2:]
        nearness = z.max() - z
        largest = nearness.max()
        scaled = nearness / torch.where(largest > 0, largest, torch.ones_like(largest))
        return self._draw(transformed_vertices).of_vertices(scaled).permute(0, 3, 1, 2)

    @in_full_precision
    def render_colors(self, transformed_vertices: Tensor, colors: Tensor) -> Tensor:
        """Colours of vertices [B, V, C] as pictures [B, C, S, S]; background 0."""
        inputs = Inputs("SRenderY")
        inputs.floats("transformed_vertices", transformed_vertices, ("B", "V", 3))
        inputs.floats("colors", colors, ("B", "V", "C"))
        return self._draw(transformed_vertices).of_vertices(colors).permute(0, 3, 1, 2)

    @in_full_precision
    def world2uv(self, vertices: Tensor) -> Tensor:
        """Attributes of vertices [B, V, C] over the plane of the texture, [B, C, uv, uv]."""
        inputs = Inputs("SRenderY")
        inputs.floats("vertices", vertices, ("B", "V", "C"))
        inputs.tensor("the mesh", self.faces)
        if vertices.shape[1] < self._num_vertices:
            raise ValueError(
                f"SRenderY: vertices is {list(vertices.shape)}, expected [B, V, C] with V = "
                f"{self._num_vertices} (from the mesh)"
            )
        batch = len(vertices)
        plane, faces = self.uvcoords.expand(batch, -1, -1), self.uvfaces.expand(batch, -1, -1)
        drawn = self.uv_rasterizer.draw(plane, faces)
        return drawn.of_corners(vertices[:, self.faces[0]]).permute(0, 3, 1, 2)

    def _draw(self, vertices: Tensor, h: int | None = None, w: int | None = None) -> Drawn:
        return self.rasterizer.draw(vertices, self.faces.expand(len(vertices), -1, -1), h, w)

    def _normals(self, *meshes: Tensor) -> list[Tensor]:
        return [vertex_normals(vertices, self.faces[0]) for vertices in meshes]

    @staticmethod
    def _checked(vertices: Tensor, transformed_vertices: Tensor) -> Inputs:
        inputs = Inputs("SRenderY")
        inputs.floats("vertices", vertices, ("B", "V", 3))
        inputs.floats("transformed_vertices", transformed_vertices, ("B", "V", 3))
        return inputs


def _check_type(who: str, kind: str) -> None:
    if kind not in RASTERIZERS:
        raise ValueError(
            f"{who}: rasterizer type is {kind!r}, expected one of {', '.join(RASTERIZERS)}"
        )


def _read(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Triangles [F, 3], texture coordinates [N, 2] and which of them each corner has [F, 3]."""
    mesh = read_obj(path)
    if (mesh.uv_polygons[:, :3] < 0).any():
        raise ValueError(
            f"SRenderY: {path} has polygons without texture coordinates; expected f v/vt"
        )
    # Two triangles of a quad follow each other, as in PyTorch3D's reader.
    fan = np.array([[0, 1, 2], [0, 2, 3]])
    kept = np.stack([np.ones(len(mesh.polygons), bool), mesh.polygons[:, 3] >= 0], axis=1)
    faces, uvfaces = (torch.from_numpy(t[:, fan][kept]) for t in (mesh.polygons, mesh.uv_polygons))
    return faces, torch.from_numpy(mesh.uv_points).float(), uvfaces


def _dense_faces(size: int) -> Tensor:
    """Triangles of a mesh with a vertex for each texel, but for a margin, column by column, int64 [F, 3]."""
    column = torch.arange(_MARGIN_X, max(size - 1 - _MARGIN_X, _MARGIN_X))
    row = torch.arange(_MARGIN_Y, max(size - 1 - _MARGIN_Y, _MARGIN_Y))
    a = (row * size + column[:, None]).flatten()
    pairs = torch.stack([a, a + size, a + 1, a + 1, a + size, a + size + 1], dim=-1)
    return pairs.view(-1, 3)
