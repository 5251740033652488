"""DECA's two rasterizers, which draw the same here: see the module `deca`."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from mofa_nvdr import dr
from mofa_nvdr.compat.drawing import (
    NEAREST,
    Drawn,
    draw,
    into_clip_range,
    without_those_behind,
)
from mofa_nvdr.compat.inputs import Inputs, positive_size
from mofa_nvdr.system.device import in_full_precision


class Pytorch3dRasterizer(nn.Module):
    """Interpolate attributes of the corners of triangles over a picture.

    Convention: image space, x right, y down, both from -1 to 1 over the whole picture, square or not; smaller
    z is nearer; row 0 is the top; attributes are linear on the screen.

    Args:
        image_size: side of the square picture in pixels, unless a call says otherwise.
        exact: drop triangles that have a vertex with z < 1e-8.

    Raises:
        ValueError: a size that is no size.
    """

    def __init__(self, image_size: int = 224, exact: bool = False) -> None:
        super().__init__()
        positive_size(type(self).__name__, image_size=image_size)
        self.raster_settings = SimpleNamespace(
            image_size=image_size, blur_radius=0.0, faces_per_pixel=1, bin_size=None,
            max_faces_per_bin=None, perspective_correct=False,
        )  # fmt: skip
        self.exact = exact
        self._context = dr.RasterizeContext()

    @in_full_precision
    def forward(
        self,
        vertices: Tensor,
        faces: Tensor,
        attributes: Tensor | None = None,
        h: int | None = None,
        w: int | None = None,
    ) -> Tensor:
        """Draw a batch.

        Args:
            vertices: image space [B, V, 3].
            faces: [B, F, 3] of any integer type, the same for all images or not.
            attributes: of each triangle's corners [B, F, 3, D], or None.
            h: height of the picture in pixels.
            w: width.

        Returns:
            [B, D + 1, h, w]: the attributes, zero where no triangle is, and last the mask. Differentiable in
            vertices (x, y) and attributes; nothing flows through the outline.

        Raises:
            ValueError: shapes, sizes or devices that do not go together, or no triangle.
            TypeError: not float32, or not integers.
        """
        drawn = self.draw(vertices, faces, h, w)
        mask = drawn.mask[:, None]
        if attributes is None:
            return mask
        inputs = Inputs(type(self).__name__)
        inputs.floats("vertices", vertices, ("B", "V", 3))
        inputs.size("F", faces.shape[1], "faces")
        inputs.floats("attributes", attributes, ("B", "F", 3, "D"))
        corners = attributes.flatten(0, 1) if drawn.own else attributes
        return torch.cat([drawn.of_corners(corners).permute(0, 3, 1, 2), mask], dim=1)

    def draw(
        self, vertices: Tensor, faces: Tensor, h: int | None = None, w: int | None = None
    ) -> Drawn:
        """What `forward` draws, before attributes are interpolated; the arguments and errors are its."""
        name = type(self).__name__
        size = self._size()
        height, width = (size[0] if h is None else h), (size[1] if w is None else w)
        positive_size(name, h=height, w=width)
        inputs = Inputs(name)
        inputs.floats("vertices", vertices, ("B", "V", 3))
        depth = into_clip_range(vertices[..., 2])
        x, y = vertices[..., 0], vertices[..., 1]
        # Row 0 is y = -1 for both: the top here, the bottom there, and nothing is turned over.
        pos = torch.stack([x, y, depth, torch.ones_like(x)], dim=-1)
        triangles = _of_images(inputs, faces, *vertices.shape[:2])
        if self.exact and bool((vertices[..., 2] < NEAREST).any()):
            if isinstance(triangles, Tensor):
                triangles = [triangles] * len(vertices)
            triangles = [without_those_behind(t, z) for t, z in zip(triangles, vertices[..., 2])]
        return draw(self._context, pos, triangles, (height, width))

    def _size(self) -> tuple[int, int]:
        return self.raster_settings.image_size, self.raster_settings.image_size


class StandardRasterizer(Pytorch3dRasterizer):
    """`Pytorch3dRasterizer` by the constructor of DECA's compiled one.

    Args:
        height: of the picture in pixels, unless a call says otherwise.
        width: None: the height.
        exact: drop triangles that have a vertex with z < 1e-8.

    Raises:
        ValueError: a size that is no size.
    """

    def __init__(self, height: int, width: int | None = None, exact: bool = False) -> None:
        positive_size("StandardRasterizer", height=height, width=height if width is None else width)
        super().__init__(height, exact)
        self.h, self.w = height, height if width is None else width

    def _size(self) -> tuple[int, int]:
        return self.h, self.w


def _of_images(
    inputs: Inputs, faces: Tensor, batch: int, num_vertices: int
) -> Tensor | list[Tensor]:
    """Triangles [B, F, 3] as `draw` takes them: once if they are the same for all images."""
    if not isinstance(faces, Tensor) or faces.ndim != 3 or len(faces) not in (1, batch):
        shape = list(faces.shape) if isinstance(faces, Tensor) else type(faces).__name__
        raise ValueError(
            f"{inputs.who}: faces is {shape}, expected [B, F, 3] with B = {batch} (from vertices)"
        )
    inputs.tensor("faces", faces)
    if len(faces) == 1 or faces.stride(0) == 0 or bool((faces == faces[:1]).all()):
        return inputs.indices("faces", faces[0], num_vertices)
    return [inputs.indices(f"faces[{k}]", part, num_vertices) for k, part in enumerate(faces)]
