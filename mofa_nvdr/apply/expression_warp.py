"""Another expression in a photograph: its pixels moved as the surface of the fitted face moves.

The posed mesh is drawn with the old and the new expression; the difference of the two pictures of each point
of the skin says where a pixel comes from. Outside of the face the shift fades. What the photograph cannot
show, the inside of a mouth that opens, is the face model's or another photograph's. Folds darken and brighten
as the fitted light says: a ratio image (Liu, Shan, Zhang 2001, "Expressive Expression Mapping with Ratio
Images"), of the model's surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.closed_parts import ClosedParts, OpenParts
from mofa_nvdr.apply.drawn_mouth import inner_mouth, lips_shade
from mofa_nvdr.apply.landmark_alignment import alignment
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_frame import (
    FACE,
    Frame,
    covered,
    distance_to,
    interpolated,
    smooth_step,
)
from mofa_nvdr.apply.ratio_image import filled
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.render.pictures import to_uint8
from mofa_nvdr.scene.light_sources import LUMINANCE
from mofa_nvdr.scene.lighting import sh_basis
from mofa_nvdr.scene.normals import vertex_normals

_MARGINS = (
    0.12,
    0.12,
    0.12,
    0.3,
)  # sides of a crop around it that may change: left, top, right, bottom
_FINEST = 1024  # px of a crop's side in the maps of the shift
_FADE = 0.35  # faces, over which the shift fades outside of the mesh
_FOLDS = 0.25  # most that folds change the logarithm of brightness
_AROUND_EYES = (2.0, 8.0)  # mm from lids where folds begin to count, and over which they do
_OPENS = (
    1.05,
    0.3,
)  # times its area that a mouth opens before its inside is another one, and the way there
_LEAST_OPEN = 4e-4  # faces squared of a mouth that counts as open
_INSIDE = 0.9  # of the other photograph's mouth: lips are not to be seen in it
_GAINS = (0.6, 1.0)  # of the brightness of another photograph
_PALE = 0.7  # share of its colour that is kept: photographs differ in their balance, and teeth are white
_RENDERED = 0.8  # of the brightness of the face model's mouth, which nothing shades
# How bright the inside is at the lips, and over which length they shade it: a mouth that was shut opens dark.
_LIPS = (0.5, 0.022)
_SOFT = 0.6  # px, deviation of a blur of the drawn mouth
_COARSE = 48  # px of a face in the maps in which shifts are continued beyond it
_DARK = 0.05  # least irradiance in ratios


@dataclass(frozen=True)
class MouthPhoto:
    """A photograph from which the inside of a mouth is taken.

    Attributes:
        picture: [3, H, W] in [0, 1]. places: [V, 2] where the vertices of the face in it are, px.
        brightness: mean irradiance of that face.
    """

    picture: Tensor
    places: Tensor
    brightness: float


@torch.no_grad()
def mouth_photo(
    photo: np.ndarray, parameters: FaceParameters, model: FaceModel, points: Tensor | None = None
) -> MouthPhoto:
    """The mouth of a photograph, for faces that take over its expression; arguments as `ExpressionWarper`."""
    placed = _Placed(parameters, model, points)
    return MouthPhoto(_planes(photo), placed.before, float(placed.irradiance.mean()))


@dataclass(frozen=True)
class FaceWarp:
    """Where the pixels of a changed face come from.

    Attributes:
        places: [h, w, 2] in [-1, 1] of the part of the photograph.
        folds: [1, h, w] factors of brightness.
        inside: [3, h, w] colours of the mouth's inside. share: [1, h, w] how far they are taken.
        closed: lids and lips that were open; None: none.
    """

    places: Tensor
    folds: Tensor
    inside: Tensor
    share: Tensor
    closed: ClosedParts | None = None

    def __call__(self, picture: Tensor) -> Tensor:
        """The part of the photograph [3, H, W] with the new expression."""
        size = picture.shape[1:]
        places, rest = self.places, torch.cat([self.folds, self.share, self.inside])
        closed = self.closed
        if size != places.shape[:2]:
            places = _resized(places.permute(2, 0, 1), size).permute(1, 2, 0)
            rest = _resized(rest, size)
            if closed is not None:
                closed = ClosedParts(_resized(closed.skin, size), _resized(closed.line, size))
        moved = F.grid_sample(picture[None], places[None], mode="bicubic", padding_mode="border",
                              align_corners=False)[0]  # fmt: skip
        if closed is not None:
            moved = closed(moved)
        return torch.lerp((moved * rest[:1]).clamp(0, 1), rest[2:], rest[1:2])


class ExpressionWarper:
    """Gives the face in a photograph other expressions.

    Args:
        photo: uint8 [H, W, 3], sRGB.
        parameters: the face in it; its crop is in the photograph's pixels.
        model: the face model of the parameters.
        points: [478, 2] landmarks that were detected in it, px (landmark_alignment); None: the fitted mesh is
            taken as it lies.
        finest: px of a crop's side in the maps of the shift, at most; fewer are faster.

    Raises:
        ValueError: the face lies outside of the photograph.
    """

    @torch.no_grad()
    def __init__(
        self,
        photo: np.ndarray,
        parameters: FaceParameters,
        model: FaceModel,
        points: Tensor | None = None,
        finest: int = _FINEST,
    ) -> None:
        self._photo, self._model = photo, model
        self._placed = _Placed(parameters, model, points)
        x, y, side = (float(n) for n in parameters.crop)
        left, top, right, bottom = _MARGINS
        height, width = photo.shape[:2]
        self._columns = max(0, int(x - left * side)), min(width, int(x + (1 + right) * side))
        self._rows = max(0, int(y - top * side)), min(height, int(y + (1 + bottom) * side))
        high, wide = self._rows[1] - self._rows[0], self._columns[1] - self._columns[0]
        if min(high, wide) < 8:
            raise ValueError("the face's crop lies outside of the photograph")
        scale = min(1.0, finest / side)
        size = max(8, round(high * scale)), max(8, round(wide * scale))
        self._frame = Frame(self._columns[0], self._rows[0], scale, *size)
        self._face = FACE * side * scale  # px of the maps
        rast = self._rasterize(self._placed.geometry, self._placed.before)
        if not bool((rast[..., 3] > 0).any()):
            raise ValueError("the face lies outside of the photograph")
        self._inner, self._held, self._folding = _parts(model)
        self._openings = torch.cat([self._inner, *_sides(model, self._held)], 1)  # [V, 3]
        openings = interpolated(self._openings, rast, model.triangles)
        self._open = float(openings[0].sum())
        self._parts = OpenParts((openings > 0.5).float(), self._face)

    @torch.no_grad()
    def __call__(self, code: FaceCode, mouth: MouthPhoto | None = None) -> np.ndarray:
        """The photograph with another shape and expression of its face.

        Args:
            code: of one face; pose, albedo and light are the photograph's own whatever it says.
            mouth: where the inside of a mouth that opens further comes from; None: the face model.

        Returns:
            uint8 [H, W, 3]: of the photograph's size, equal to it away from the face.
        """
        rows, columns = slice(*self._rows), slice(*self._columns)
        part = self._photo[rows, columns]
        changed = to_uint8(self.warp(code, mouth)(_planes(part))[None])[0]
        out = self._photo.copy()
        out[rows, columns] = changed
        return out

    @torch.no_grad()
    def warp(
        self, code: FaceCode, mouth: MouthPhoto | None = None, vertices: Tensor | None = None
    ) -> FaceWarp:
        """The same for any picture of the part that may change; `box` says which it is.

        Args:
            code: as in a call, like `mouth`.
            mouth: as there.
            vertices: [1, V, 3] mm of the code in model space, where they are known.
        """
        placed, model, frame = self._placed, self._model, self._frame
        if vertices is None:
            vertices = model.vertices(code.shape, code.expression)
        geometry, after = placed.changed(vertices)
        rast = self._rasterize(geometry, after)
        mask = covered(rast)
        shift = (placed.before - after) * (1 - self._held)
        irradiance = sh_basis(geometry.normals[0]) @ geometry.light[0]  # [V, 3]
        folds = (irradiance.clamp(min=_DARK) / placed.irradiance.clamp(min=_DARK)).log()
        folds = folds.mean(1, keepdim=True) * self._folding
        # Photographs are balanced: the colour of the fitted light would make teeth blue.
        brightness = irradiance @ irradiance.new_tensor(LUMINANCE)
        colors = (geometry.albedo[0] * brightness[:, None]).clamp(0, 1)
        source = placed.before if mouth is None else mouth.places
        drawn = interpolated(
            torch.cat([shift, self._openings, folds, colors, source], 1), rast, model.triangles
        )
        fade = 1 - smooth_step(distance_to(mask) / (_FADE * self._face))
        moved = torch.where(mask > 0, drawn[:2], self._beyond(drawn[:2], mask) * fade)
        places = frame.grid() + moved.permute(1, 2, 0)
        size = torch.tensor([frame.width, frame.height]) / frame.scale
        places = (places - torch.tensor([frame.left, frame.top])) / size * 2 - 1
        folds = blurred((drawn[5:6] * mask)[None], 0.012 * self._face)[0].clamp(-_FOLDS, _FOLDS)
        openings = (drawn[2:5] > 0.5).float()
        marks = (after[model.landmarks] - torch.tensor([frame.left, frame.top])) * frame.scale
        closed = self._parts.closed(openings, places, marks)
        opened, share = openings[0], self._share(float(drawn[2].sum()))
        if not share:
            nothing = torch.zeros(3, *mask.shape), torch.zeros(1, *mask.shape)
            return FaceWarp(places, folds.exp(), *nothing, closed)
        if mouth is None:  # drawn without smoothed edges
            inside = _RENDERED * blurred(drawn[None, 6:9], _SOFT)[0]
        else:
            inside = self._of(mouth, drawn[9:], opened)
        soft, shade = lips_shade(opened[None, None], self._face, *_LIPS)
        return FaceWarp(places, folds.exp(), inside * shade[0], share * soft[0], closed)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the part that may change, px."""
        return self._columns[0], self._rows[0], self._columns[1], self._rows[1]

    def _beyond(self, shift: Tensor, mask: Tensor) -> Tensor:
        """Shifts [2, h, w] of a mask [h, w] continued beyond it; coarsely, as they are smooth."""
        step = max(1, round(self._face / _COARSE))
        solid = -F.max_pool2d(-mask[None, None], 3, 1, 1)
        known = F.avg_pool2d(solid, step, ceil_mode=True)
        means = F.avg_pool2d(shift[None] * solid, step, ceil_mode=True) / known.clamp(min=1e-6)
        coarse = filled(means[0], (known[0, 0] > 0).float())
        height, width = mask.shape
        padded = _resized(coarse, torch.Size((coarse.shape[1] * step, coarse.shape[2] * step)))
        return padded[:, :height, :width]

    def _share(self, area: float) -> float:
        """How far a mouth of this area has another inside than the photograph's."""
        least = _LEAST_OPEN * self._face**2
        ratio = (area - least) / max(self._open, least)
        return float(smooth_step(torch.tensor((ratio - _OPENS[0]) / _OPENS[1])))

    def _of(self, mouth: MouthPhoto, places: Tensor, opened: Tensor) -> Tensor:
        """Colours [3, h, w] of another photograph's mouth at its places [2, h, w], px."""
        if not bool(opened.any()):
            return torch.zeros(3, *opened.shape)
        middle = (places * opened).sum((1, 2), keepdim=True) / opened.sum()
        places = middle + _INSIDE * (places - middle)
        size = torch.tensor(mouth.picture.shape[:0:-1]).float()
        grid = places.permute(1, 2, 0) / size * 2 - 1
        colors = F.grid_sample(mouth.picture[None], grid[None], mode="bicubic", padding_mode="border",
                               align_corners=False)[0]  # fmt: skip
        colors = torch.lerp(colors.mean(0, keepdim=True), colors, _PALE)
        gain = float(self._placed.irradiance.mean()) / max(mouth.brightness, _DARK)
        return (colors * min(max(gain, _GAINS[0]), _GAINS[1])).clamp(0, 1)

    def _rasterize(self, geometry: Geometry, places: Tensor) -> Tensor:
        clip = self._placed.camera.clip_space(geometry.vertices)[0]
        return self._frame.rasterize(places, clip, self._model.triangles)


class _Placed:
    """A fitted face in its photograph.

    Attributes:
        before: [V, 2] where its vertices are, px of the photograph.
        irradiance: [V, 3] under its light.
    """

    def __init__(self, parameters: FaceParameters, model: FaceModel, points: Tensor | None) -> None:
        self._model = model
        self.camera, self._code = parameters.camera, parameters.code
        self._decoder = FaceDecoder(model, camera=self.camera, frontal_only=False)
        self._scale = float(parameters.crop[2]) / self.camera.size[0]
        self._corner = torch.from_numpy(np.asarray(parameters.crop[:2])).float()
        self.geometry = self._decoder.geometry(self._code)
        self.before = self._to_photo(self.camera.project(self.geometry.vertices)[0])
        self._moved = torch.zeros_like(self.before)
        if points is not None and model.dense_landmarks is not None:
            fitted = self._to_photo(self._decoder.dense_landmarks(self.geometry)[0])
            self._moved = alignment(model, fitted, points, float(parameters.crop[2]))
            self.before = self.before + self._moved
        self.irradiance = sh_basis(self.geometry.normals[0]) @ self.geometry.light[0]

    def changed(self, form: Tensor) -> tuple[Geometry, Tensor]:
        """The face with other vertices in model space, and where they are in the photograph then."""
        vertices = self._decoder.place(self._code, form)
        normals = vertex_normals(vertices, self._model.triangles)
        geometry = replace(self.geometry, vertices=vertices, normals=normals)
        return geometry, self._to_photo(self.camera.project(geometry.vertices)[0]) + self._moved

    def _to_photo(self, points: Tensor) -> Tensor:
        return points * self._scale + self._corner


def _parts(model: FaceModel) -> tuple[Tensor, Tensor, Tensor]:
    """[V, 1] each: 1 inside of the mouth; 1 on eyeballs, which stay; how far folds of the skin count."""
    inner = inner_mouth(model)
    held = model.in_regions("eyes").float()[:, None]
    skin = model.in_regions("skin", "nose").float()[:, None]
    folding = 1 - inner if model.regions is None else skin
    around = model.mean_shape[model.in_regions("eyes", "eyelids")][::20]
    if len(around):
        near = torch.cdist(model.mean_shape, around).amin(1, keepdim=True)
        folding = folding * smooth_step((near - _AROUND_EYES[0]) / _AROUND_EYES[1])
    return inner, held, folding


def _sides(model: FaceModel, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values of vertices [V, 1] on the subject's right, -x, and on the left, 0 elsewhere."""
    left = (model.mean_shape[:, :1] > 0).to(values)
    return values * (1 - left), values * left


def _planes(photo: np.ndarray) -> Tensor:
    return torch.from_numpy(photo.copy()).permute(2, 0, 1).float() / 255


def _resized(picture: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(picture[None], tuple(size), mode="bilinear", align_corners=False)[0]
