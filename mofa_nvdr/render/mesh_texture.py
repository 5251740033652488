"""Texture: a picture on a mesh, in place of one albedo for each vertex."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

_BOUNDARIES = ("wrap", "clamp", "zero")


@dataclass(frozen=True, eq=False)
class Texture:
    """What `FaceRenderer` takes as albedo to read it from a picture.

    Convention: v is upwards: (0, 0) is the outer corner of the picture's lower left texel, (1, 1) that of
        the upper right one, as in OBJ files and OpenGL; row 0 of the picture is the top one.

    Attributes:
        image: [B, Ht, Wt, C] or, for all images of the batch, [1, Ht, Wt, C].
        uv: texture coordinates [U, 2] or [B, U, 2].
        triangles: [T, 3] of any integer type, the rows of uv at the corners of the mesh's triangles, in their
            order; None: one uv for each vertex.
        mipmaps: read from a pyramid of smaller pictures, the level that fits the size of a pixel on the
            texture, so that fine textures don't flicker in small renderings. There are as many levels as the
            sides can be halved without a rest.
        boundary: beyond [0, 1] the picture repeats ("wrap"), its edge goes on ("clamp"), or it is black
            ("zero").

    Raises:
        ValueError: a shape or boundary that is none.
        TypeError: triangles that are not integers, or image and uv of two dtypes.
    """

    image: Tensor
    uv: Tensor
    triangles: Tensor | None = None
    mipmaps: bool = False
    boundary: str = "wrap"

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or not self.image.numel():
            raise ValueError(
                f"Texture: image is {list(self.image.shape)}, expected [B, Ht, Wt, C], channels last"
            )
        if self.uv.ndim not in (2, 3) or self.uv.shape[-1] != 2:
            raise ValueError(f"Texture: uv is {list(self.uv.shape)}, expected [U, 2] or [B, U, 2]")
        if self.uv.dtype != self.image.dtype:
            raise TypeError(
                f"Texture: image is {self.image.dtype} and uv is {self.uv.dtype}, expected one dtype"
            )
        if self.triangles is not None:
            check_triangles("Texture", self.triangles)
        if self.boundary not in _BOUNDARIES:
            raise ValueError(
                f"Texture: boundary is {self.boundary!r}, expected one of {', '.join(_BOUNDARIES)}"
            )

    def sample(self, rast: Tensor, rast_db: Tensor, triangles: Tensor, dr: ModuleType) -> Tensor:
        """The picture at the pixels of a rasterization.

        Args:
            rast: [B, H, W, 4] of `dr.rasterize`.
            rast_db: its second result.
            triangles: int32 [T, 3] of the mesh.
            dr: the module with nvdiffrast's verbs.

        Returns:
            [B, H, W, C], row 0 at the bottom, whatever it is where no triangle is. Differentiable in image,
            uv, and u and v of rast; with mipmaps in rast_db.
        """
        corners = triangles if self.triangles is None else self.triangles.int().contiguous()
        # The verbs' row 0 is at v = 0.
        u, v = self.uv.unbind(-1)
        uv = torch.stack([u, 1 - v], dim=-1)
        image = self.image.contiguous()
        if not self.mipmaps:
            places, _ = dr.interpolate(uv, rast, corners)
            return dr.texture(image, places, filter_mode="linear", boundary_mode=self.boundary)
        places, moves = dr.interpolate(uv, rast, corners, rast_db=rast_db, diff_attrs="all")
        return dr.texture(
            image,
            places,
            moves,
            boundary_mode=self.boundary,
            max_mip_level=_halvings(*image.shape[1:3]),
        )

    def check(self, who: str, vertices: Tensor, triangles: Tensor, channels: int | None) -> None:
        """Refuse a texture that does not fit a mesh.

        Args:
            who: the caller, for the message.
            vertices: [B, V, 3].
            triangles: [T, 3].
            channels: how many the shader takes; None: any number.

        Raises:
            ValueError: a size or device does not fit.
            TypeError: another dtype than the vertices'.
        """
        batch, count = len(vertices), len(triangles)
        if self.image.shape[0] not in (1, batch) or (
            channels is not None and self.image.shape[3] != channels
        ):
            raise ValueError(
                f"{who}: albedo.image is {list(self.image.shape)}, expected [{batch} or 1, Ht, Wt, "
                f"{channels or 'C'}] (from vertices and shader)"
            )
        if self.uv.ndim == 3 and self.uv.shape[0] not in (1, batch):
            raise ValueError(
                f"{who}: albedo.uv is {list(self.uv.shape)}, expected [U, 2] or [{batch}, U, 2] (from "
                "vertices)"
            )
        if self.triangles is not None and len(self.triangles) != count:
            raise ValueError(
                f"{who}: albedo.triangles is {list(self.triangles.shape)}, expected [{count}, 3], one row "
                "for each of triangles"
            )
        if self.triangles is None and self.uv.shape[-2] != vertices.shape[1]:
            raise ValueError(
                f"{who}: albedo.uv is {list(self.uv.shape)}, expected one for each of {vertices.shape[1]} "
                "vertices, or albedo.triangles with it"
            )
        if self.image.dtype != vertices.dtype:
            raise TypeError(
                f"{who}: albedo.image is {self.image.dtype}, expected {vertices.dtype} (as vertices)"
            )
        for name in ("image", "uv", "triangles"):
            value = getattr(self, name)
            if value is not None and value.device != vertices.device:
                raise ValueError(
                    f"{who}: albedo.{name} is on {value.device}, expected {vertices.device} (as vertices)"
                )


def _halvings(height: int, width: int) -> int:
    """How often both sides can be halved; a side of 1 stays."""
    count = 0
    while max(height, width) > 1 and all(side == 1 or side % 2 == 0 for side in (height, width)):
        height, width, count = max(height // 2, 1), max(width // 2, 1), count + 1
    return count


def check_triangles(who: str, triangles: Tensor) -> None:
    """Refuse what is no list of triangles.

    Raises:
        ValueError: another shape or dtype than [T, 3] of integers.
    """
    whole = not (triangles.is_floating_point() or triangles.is_complex())
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not whole or triangles.dtype == torch.bool:
        raise ValueError(
            f"{who}: triangles is {list(triangles.shape)} {triangles.dtype}, "
            "expected [T, 3] of integers"
        )
