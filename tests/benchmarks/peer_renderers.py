"""One scene drawn by this package's operators, by DRTK and by PyTorch3D, each in its own conventions.

Every class has `surface()`, what the pixels show, and `cases()`, what is timed; see `bm_peers`.
"""

from __future__ import annotations

import math
import types
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr import dr
from mofa_nvdr.scene.camera import Camera

# Soft outlines of PyTorch3D, as its tutorials set them: faces of a pixel, width and depth of blending.
FACES_PER_PIXEL, SIGMA, GAMMA = 8, 1e-4, 1e-4
ROWS = {
    "rasterize": "triangles and barycentrics",
    "interpolate": "6 channels interpolated",
    "outline": "gradient of the outline",
    "whole": "positions to loss",
}
_LIGHT = (0.3, 0.2, 0.9)


@dataclass(frozen=True)
class Scene:
    """Faces in camera space: vertices [B, V, 3] mm, triangles [T, 3] int32, normals and albedo [B, V, 6].

    `target` [B, H, W, 3] is the picture that the loss compares with.
    """

    camera: Camera
    vertices: Tensor
    triangles: Tensor
    attributes: Tensor
    target: Tensor


@dataclass(frozen=True)
class Surface:
    """What the pixels show: ids [B, H, W] int64, -1 where nothing is, depth [B, H, W] mm."""

    ids: Tensor
    depth: Tensor


@dataclass(frozen=True)
class Case:
    """A forward pass, and the leaves by which its gradient is taken."""

    forward: Callable[[], Tensor]
    leaves: list[Tensor]


class Renderer(ABC):
    """A scene that is ready to be drawn."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.triangles = scene.triangles
        self.vertices = _leaf(scene.vertices)
        self.attributes = _leaf(scene.attributes)

    @abstractmethod
    def surface(self) -> Surface:
        """What the pixels show, without blending."""

    @abstractmethod
    def flat(self) -> Tensor:
        """[B, H, W, 3]: the nearest surface, shaded; nothing is done at outlines."""

    @abstractmethod
    def picture(self) -> Tensor:
        """[B, H, W, 3]: camera space to a shaded picture whose outline has a gradient."""

    @abstractmethod
    def cases(self) -> dict[str, Case]:
        """What is timed, by the names of `ROWS`."""

    def whole(self) -> Case:
        """From positions and attributes to the mean square of the difference to the target."""
        return Case(
            lambda: (self.picture() - self.scene.target).square().mean(),
            [self.vertices, self.attributes],
        )


class Ours(Renderer):
    """Operators of `mofa_nvdr.dr`: nvdiffrast's, on the CPU. Row 0 of theirs is at the bottom."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.context = dr.RasterizeContext()
        self.topology = dr.antialias_construct_topology_hash(self.triangles)
        self.pos = _leaf(scene.camera.clip_space(scene.vertices))
        self.rast = _leaf(self._rasterize(self.pos))

    def _rasterize(self, pos: Tensor) -> Tensor:
        return dr.rasterize(
            self.context, pos, self.triangles, self.scene.camera.size, grad_db=False
        )[0]

    def surface(self) -> Surface:
        depth = -dr.interpolate(self.scene.vertices, self.rast.detach(), self.triangles)[0][..., 2]
        ids = self.rast.detach()[..., 3].long() - 1
        return Surface(ids.flip(1), depth.flip(1))

    def flat(self) -> Tensor:
        return shade(dr.interpolate(self.attributes, self.rast, self.triangles)[0]).flip(1)

    def picture(self) -> Tensor:
        pos = self.scene.camera.clip_space(self.vertices)
        rast = self._rasterize(pos)
        color = shade(dr.interpolate(self.attributes, rast, self.triangles)[0])
        return dr.antialias(color, rast, pos, self.triangles, self.topology).flip(1)

    def cases(self) -> dict[str, Case]:
        color = _leaf(shade(dr.interpolate(self.attributes, self.rast.detach(), self.triangles)[0]))
        rast = self.rast.detach()
        return {
            "rasterize": Case(lambda: self._rasterize(self.pos), [self.pos]),
            "interpolate": Case(
                lambda: dr.interpolate(self.attributes, self.rast, self.triangles)[0],
                [self.attributes, self.rast],
            ),
            "outline": Case(
                lambda: dr.antialias(color, rast, self.pos, self.triangles, self.topology),
                [color, self.pos],
            ),
            "whole": self.whole(),
        }


class Drtk(Renderer):
    """DRTK: pixels' centres are whole numbers, z is the distance along the viewing axis."""

    def __init__(self, scene: Scene, drtk: types.ModuleType) -> None:
        super().__init__(scene)
        self.drtk = drtk
        self.pixels = _leaf(self._project(scene.vertices))
        with torch.no_grad():
            self.ids, bary, self.depth = self._rasterize(self.pixels)
        self.bary = _leaf(bary)

    def _project(self, vertices: Tensor) -> Tensor:
        return torch.cat([self.scene.camera.project(vertices) - 0.5, -vertices[..., 2:]], dim=-1)

    def _rasterize(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ids = self.drtk.rasterize(pixels, self.triangles, *self.scene.camera.size)
        depth, bary = self.drtk.render(pixels, self.triangles, ids)
        return ids, bary, depth

    def _interpolate(self, ids: Tensor, bary: Tensor) -> Tensor:
        return self.drtk.interpolate(self.attributes, self.triangles, ids, bary)

    def _shade(self, values: Tensor, ids: Tensor) -> Tensor:
        color = shade(values.permute(0, 2, 3, 1)) * (ids >= 0)[..., None]
        return color.permute(0, 3, 1, 2)

    def _outline(self, pixels: Tensor, color: Tensor, ids: Tensor, bary: Tensor) -> Tensor:
        return self.drtk.edge_grad_estimator(pixels, self.triangles, bary, color, ids)

    def surface(self) -> Surface:
        return Surface(self.ids.long(), self.depth)

    def flat(self) -> Tensor:
        color = self._shade(self._interpolate(self.ids, self.bary), self.ids)
        return color.permute(0, 2, 3, 1)

    def picture(self) -> Tensor:
        pixels = self._project(self.vertices)
        ids, bary, _ = self._rasterize(pixels)
        color = self._shade(self._interpolate(ids, bary), ids)
        return self._outline(pixels, color, ids, bary).permute(0, 2, 3, 1)

    def cases(self) -> dict[str, Case]:
        color = _leaf(self._shade(self._interpolate(self.ids, self.bary), self.ids))
        bary = self.bary.detach()
        return {
            "rasterize": Case(lambda: self._rasterize(self.pixels)[1], [self.pixels]),
            "interpolate": Case(
                lambda: self._interpolate(self.ids, self.bary), [self.attributes, self.bary]
            ),
            "outline": Case(
                lambda: self._outline(self.pixels, color, self.ids, bary), [color, self.pixels]
            ),
            "whole": self.whole(),
        }


class PyTorch3D(Renderer):
    """PyTorch3D: x to the left, y up, -1 to 1 across the picture; blending in the place of antialiasing."""

    def __init__(self, scene: Scene, pytorch3d: types.ModuleType) -> None:
        super().__init__(scene)
        self.p3d = pytorch3d
        self.faces = self.triangles.long().expand(len(scene.vertices), -1, -1)
        first = len(scene.vertices[0]) * torch.arange(len(scene.vertices))
        self.packed_faces = (self.faces + first[:, None, None]).flatten(0, 1)
        self.params = pytorch3d.renderer.BlendParams(SIGMA, GAMMA, (0.0, 0.0, 0.0))
        self.range = (float(-scene.vertices[..., 2].max()), float(-scene.vertices[..., 2].min()))
        self.screen = _leaf(self._project(scene.vertices))
        with torch.no_grad():
            self.hard = self._rasterize(self.screen, soft=False)

    def _project(self, vertices: Tensor) -> Tensor:
        height, width = self.scene.camera.size
        pixels = self.scene.camera.project(vertices) / vertices.new_tensor([width, height])
        return torch.cat([1 - 2 * pixels, -vertices[..., 2:]], dim=-1)

    def _rasterize(self, screen: Tensor, soft: bool) -> types.SimpleNamespace:
        ids, zbuf, bary, dists = self.p3d.renderer.mesh.rasterize_meshes(
            self.p3d.structures.Meshes(screen, self.faces),
            self.scene.camera.size,
            blur_radius=math.log(1 / 1e-4 - 1) * SIGMA if soft else 0.0,
            faces_per_pixel=FACES_PER_PIXEL if soft else 1,
            perspective_correct=True,
            clip_barycentric_coords=soft,
        )
        return types.SimpleNamespace(pix_to_face=ids, zbuf=zbuf, bary=bary, dists=dists)

    def _interpolate(self, ids: Tensor, bary: Tensor) -> Tensor:
        corners = self.attributes.flatten(0, 1)[self.packed_faces]
        return self.p3d.ops.interpolate_face_attributes(ids, bary, corners)

    def _blend(self, color: Tensor, fragments: types.SimpleNamespace) -> Tensor:
        near, far = self.range
        blended = self.p3d.renderer.softmax_rgb_blend(color, fragments, self.params, near, far)
        return blended[..., :3]

    def surface(self) -> Surface:
        ids = self.hard.pix_to_face[..., 0]
        return Surface(torch.where(ids < 0, ids, ids % len(self.triangles)), self.hard.zbuf[..., 0])

    def flat(self) -> Tensor:
        return shade(self._interpolate(self.hard.pix_to_face, self.hard.bary))[..., 0, :]

    def picture(self) -> Tensor:
        fragments = self._rasterize(self._project(self.vertices), soft=True)
        color = shade(self._interpolate(fragments.pix_to_face, fragments.bary))
        return self._blend(color, fragments)

    def cases(self) -> dict[str, Case]:
        bary = _leaf(self.hard.bary)
        with torch.no_grad():
            soft = self._rasterize(self.screen, soft=True)
            values = self._interpolate(soft.pix_to_face, soft.bary)
        color, dists, zbuf = _leaf(shade(values)), _leaf(soft.dists), _leaf(soft.zbuf)
        given = types.SimpleNamespace(pix_to_face=soft.pix_to_face, zbuf=zbuf, dists=dists)
        return {
            "rasterize": Case(lambda: self._rasterize(self.screen, soft=False).bary, [self.screen]),
            "interpolate": Case(
                lambda: self._interpolate(self.hard.pix_to_face, bary), [self.attributes, bary]
            ),
            "outline": Case(lambda: self._blend(color, given), [color, dists, zbuf]),
            "whole": self.whole(),
        }


def shade(values: Tensor) -> Tensor:
    """Colours [..., 3] of interpolated normals and albedo [..., 6]: a lamp at infinity and ambient light."""
    light = values.new_tensor(_LIGHT)
    return values[..., 3:] * (0.4 + 0.6 * (values[..., :3] * light).sum(-1, keepdim=True))


def _leaf(values: Tensor) -> Tensor:
    return values.detach().clone().contiguous().requires_grad_()
