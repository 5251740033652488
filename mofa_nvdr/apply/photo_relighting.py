"""A photograph of a face under another light: its pixels times new shading over old shading.

The face that was fitted says how light falls on the person; the photograph keeps skin, wrinkles, beard,
glasses and hair. What does not depend on the new light is made once for a photograph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from mofa_nvdr.apply.lit_surface import Surface
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.person_mask import along_edges, person_weight
from mofa_nvdr.apply.photo_frame import (
    FACE,
    Frame,
    covered,
    distance_to,
    grown,
    interpolated,
    smooth_step,
)
from mofa_nvdr.apply.ratio_image import (
    bounded,
    dulled,
    exposure,
    filled,
    floored,
    gloss,
    paler,
    relit,
    smooth_outside,
    warmed,
)
from mofa_nvdr.data.synthetic.head import bare_head
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.losses.occlusion import visible_weight
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.illumination import Illumination, code_illumination
from mofa_nvdr.scene.light_sources import LUMINANCE
from mofa_nvdr.scene.lighting import linear_to_srgb, srgb_to_linear

_REACH = 1.1  # sides of a crop around its middle within which pixels may change
_MAP = 192  # px of a crop's side in the maps of the ratio
_LIPS = slice(48, 60)  # of the landmarks
# Brows and the bridge of the nose: light from above draws the model's edge there, where people differ.
_BROWS, _NEAR_BROWS = slice(17, 28), 0.12  # faces

_FILL, _STEEP = (0.3, 0.6), (0.3, 0.6)  # from and to which share of light from above


class PhotoRelighter:
    """Relights one photograph.

    Args:
        photo: uint8 [H, W, 3], sRGB.
        parameters: the face in it; its crop is in the photograph's pixels.
        model: the face model of the parameters.
        shadows: faces cast shadows on themselves.
        color: share of a new light's colour that shows (`paler`); the less, the warmer shadows (`warmed`).
        fill: share of light that comes from everywhere alike, as from a reflector, in the old light as in the
            new one; it softens hard lights. None: 0.3, and up to 0.6 for light from above or below, which
            draws what the model does not know: the depth of sockets, the bridge of a nose.
        balanced: the photograph is balanced for its light, as cameras do; False: the colour of the light that
            was fitted is divided out with it.
        person: [H, W] in [0, 1], what may change, in the place of the mask that is found; None: that one.

    Raises:
        ValueError: the face lies outside of the photograph.
    """

    @torch.no_grad()
    def __init__(
        self,
        photo: np.ndarray,
        parameters: FaceParameters,
        model: FaceModel,
        shadows: bool = True,
        color: float = 0.2,
        fill: float | None = None,
        balanced: bool = True,
        person: Tensor | None = None,
        map_size: int = _MAP,
    ) -> None:
        self.photo, self._map_size = photo, map_size
        self._color, self._fill = color, fill
        self._model, self._parameters = model, parameters
        self._side = float(parameters.crop[2])
        self._face = FACE * self._side  # px of the photograph
        decoder = FaceDecoder(model, camera=parameters.camera, frontal_only=False)
        geometry = decoder.geometry(parameters.code)
        self._marks = self._to_photo(decoder.landmarks(geometry)[0])
        self._place()
        self._draw(geometry, decoder.pinhole, shadows)
        self._everywhere = self._even_light()
        self._old = self._surface(code_illumination(geometry.light[0], not balanced))  # [P, 3]
        self._weigh(decoder, geometry, person)

    @torch.no_grad()
    def __call__(self, light: Illumination, stops: float = 0.0) -> np.ndarray:
        """The photograph under a light.

        Args:
            light: the new light; its shape and part of its colour count, not its strength.
            stops: brighter (or darker) than the photograph's own exposure.

        Returns:
            uint8 [H, W, 3]: of the photograph's size, equal to it outside of the person.
        """
        ratio = self._ratio(light)
        return self._picture(ratio, self._gain(ratio) + stops * math.log(2))

    @torch.no_grad()
    def turn(
        self, light: Illumination, angles: Sequence[float], stops: float = 0.0
    ) -> Iterator[np.ndarray]:
        """The photograph under a light that is turned by angles, radians (`Illumination.turned`).

        All pictures have the exposure of the brightest, so that a light that goes behind leaves the dark.
        """
        ratios = [self._ratio(light.turned(angle)) for angle in angles]
        gain = min(self._gain(ratio) for ratio in ratios) + stops * math.log(2)
        for ratio in ratios:
            yield self._picture(ratio, gain)

    def _ratio(self, light: Illumination) -> Tensor:
        """Logarithms of new shading over old, at the mesh's pixels [P, 3]."""
        fill = _fill_of(light) if self._fill is None else self._fill
        old, new = (self._filled(x, fill) for x in (self._old, self._surface(light)))
        return warmed((paler(new, self._color) / old).clamp(min=1e-4).log(), 1 - self._color)

    def _filled(self, shading: Tensor, fill: float) -> Tensor:
        """Irradiance [P, 3] of which a share comes from everywhere alike."""
        mean = (shading @ shading.new_tensor(LUMINANCE)).mean()
        return floored(torch.lerp(shading, mean * self._everywhere, fill))

    @cached_property
    def _gloss(self) -> Tensor:
        """`gloss` of the photograph; pictures need it, an even face does not."""
        skin = F.grid_sample(self._known[None, None], self._to_maps, align_corners=False)[0, 0]
        return gloss(self._linear, skin, 0.008 * self._face)

    def _even_light(self) -> Tensor:
        """Irradiance [P, 1] by a light from everywhere, of mean 1: less in hollows of the face."""
        white = torch.zeros(9, 3)
        white[0] = 1
        even = self._surface(Illumination.of_sh(white))[:, :1].clamp(min=0)
        return even / even.mean().clamp(min=1e-9)

    def _gain(self, ratio: Tensor) -> float:
        """What to add to a ratio's logarithms to leave the face as bright as it is."""
        return math.log(exposure(self._luminance, ratio[self._lit].exp()))

    @torch.no_grad()
    def even(self) -> tuple[Tensor, tuple[int, int]]:
        """The face as if light came from everywhere alike: the fitted light is divided out.

        Returns:
            [3, h, w] linear, of the part of the photograph around the face, and its left and top corner, px.
        """
        old = floored(self._old)
        mean = (old @ old.new_tensor(LUMINANCE)).mean()
        top, left = self._box
        return self._linear * self._enlarged((mean / old).log()).exp(), (left, top)

    def _enlarged(self, ratio: Tensor, gain: float = 0.0) -> Tensor:
        """`log_ratio` in the photograph's pixels."""
        return F.grid_sample(self.log_ratio(ratio, gain)[None], self._to_maps, mode="bicubic",
                             align_corners=False, padding_mode="border")[0]  # fmt: skip

    def _picture(self, ratio: Tensor, gain: float) -> np.ndarray:
        top, left = self._box
        height, width = self._linear.shape[1:]
        large = self._enlarged(ratio, gain) * self._weight
        matte = dulled(self._linear, self._gloss, large)
        bright = linear_to_srgb(relit(matte, large)).clamp(0, 1)
        pixels = (bright * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        out = self.photo.copy()
        part = out[top : top + height, left : left + width]
        np.copyto(part, pixels, where=self._weight.numpy()[..., None] > 0)
        return out

    def log_ratio(self, ratio: Tensor, gain: float = 0.0) -> Tensor:
        """Logarithms of ratios at the mesh's pixels [P, 3] over all of the maps, [3, h, w]."""
        values = bounded(self._surface.spread(ratio) + gain)
        whole = filled(values, self._known)
        whole = smooth_outside(whole, self._distance, 0.12 * self._unit, 0.3)
        return blurred(whole[None], 0.012 * self._unit)[0]

    def _to_photo(self, points: Tensor) -> Tensor:
        """Pixels of the crop's camera [..., 2] to those of the photograph."""
        scale = self._side / self._parameters.camera.size[0]
        return points * scale + torch.from_numpy(self._parameters.crop[:2]).float()

    def _place(self) -> None:
        """The part of the photograph that may change, and the frame of the maps."""
        height, width = self.photo.shape[:2]
        x, y, side = (float(n) for n in self._parameters.crop)
        middle_x, middle_y, reach = x + side / 2, y + side / 2, _REACH * side
        left, right = max(0, math.floor(middle_x - reach)), min(width, math.ceil(middle_x + reach))
        top, bottom = max(0, math.floor(middle_y - reach)), min(height, math.ceil(middle_y + reach))
        if right - left < 8 or bottom - top < 8:
            raise ValueError("the face's crop lies outside of the photograph")
        self._box = (top, left)
        self._patch = torch.from_numpy(self.photo[top:bottom, left:right].copy())
        self._patch = self._patch.permute(2, 0, 1).float() / 255  # [3, h, w]
        self._frame = self._frame_of(self._map_size)
        self._unit = self._face * self._frame.scale  # px of the maps that a face is wide

    def _draw(self, geometry: Geometry, camera: Camera, shadows: bool) -> None:
        """The mesh in the frame of the maps, and how light falls on it."""
        f = self._frame
        points = self._to_photo(camera.project(geometry.vertices)[0])
        triangles = self._model.triangles
        rast = f.rasterize(points, camera.clip_space(geometry.vertices)[0], triangles)
        self._mask = covered(rast)
        if not bool((self._mask > 0).any()):
            raise ValueError("the face lies outside of the photograph")
        both = torch.cat([geometry.vertices[0], geometry.normals[0]], 1)
        drawn = interpolated(both, rast, triangles).permute(1, 2, 0)
        casters = bare_head(self._model, camera, self._parameters.code, geometry)
        # px of the maps in a millimetre at the face's distance
        scale = camera.focal_px / float(-geometry.vertices[..., 2].mean())
        scale *= self._side / camera.size[0] * f.scale
        away = torch.cdist(f.grid().flatten(0, 1), self._marks[_BROWS]).amin(1).view_as(self._mask)
        rough = (-(away / (_NEAR_BROWS * self._face)).square()).exp()
        self._surface = Surface(drawn, self._mask, scale, casters, shadows, rough)

    def _frame_of(self, crop_px: float) -> Frame:
        """The patch in a frame in which a crop is `crop_px` wide, but never larger than the photograph."""
        height, width = self._patch.shape[1:]
        scale = min(1.0, crop_px / self._side)
        rows, columns = max(8, math.ceil(height * scale)), max(8, math.ceil(width * scale))
        top, left = self._box
        return Frame(left, top, scale, rows, columns)

    def _resampled(self, picture: Tensor, frame: Frame) -> Tensor:
        """The patch's pixels [C, h, w] in a frame."""
        if picture.shape[1:] == (frame.height, frame.width):
            return picture
        # By the frame's own scale: its last pixels reach a little beyond the patch.
        return F.interpolate(picture[None], (frame.height, frame.width), mode="bilinear",
                             align_corners=False, antialias=True)[0]  # fmt: skip

    def _weigh(self, decoder: FaceDecoder, geometry: Geometry, person: Tensor | None) -> None:
        """Masks and weights that no light changes."""
        f, unit = self._frame, self._unit
        seen = self._seen(decoder, geometry)  # [h, w]
        cut = self._mouth(f)
        solid = -grown(1 - self._mask, 0.03 * unit) + 1
        solid = solid * (1 - grown(cut, 0.03 * unit))
        self._known = solid * (0.15 + 0.85 * seen)
        self._distance = distance_to(self._mask) / unit
        picture = self._resampled(self._patch, f)
        linear = srgb_to_linear(picture)
        lit = (self._mask > 0) & (seen > 0.5)
        lit = lit if bool(lit.any()) else self._mask > 0
        weights = linear.new_tensor(LUMINANCE).view(3, 1, 1)
        inside = self._mask > 0
        self._luminance = (linear * weights).sum(0)[lit]
        self._lit = lit[inside]  # of the mesh's pixels
        self._linear = srgb_to_linear(self._patch)
        height, width = self._patch.shape[1:]
        top, left = self._box
        x = ((torch.arange(width) + 0.5) * f.scale / f.width) * 2 - 1
        y = ((torch.arange(height) + 0.5) * f.scale / f.height) * 2 - 1
        self._to_maps = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        if person is not None:
            self._weight = person[top : top + height, left : left + width].float()
            return
        across, below = self._axes(f)
        found = person_weight(picture, self._mask, solid * seen, self._distance, across, below)
        found = along_edges(found, picture, 0.03 * unit)
        found = torch.maximum(found, 1 - grown(1 - self._mask, 0.02 * unit))
        fall = smooth_step(1 - (self._distance - 0.25) / 0.75) * smooth_step(
            1 - (below - 0.35) / 0.35
        )
        large = F.grid_sample(torch.stack([found, fall])[None], self._to_maps, mode="bilinear",
                              align_corners=False, padding_mode="border")[0]  # fmt: skip
        edges = large[0]
        if f.scale < 1:
            edges = along_edges(edges, self._patch, 0.02 * self._face)
        weight = edges * large[1]
        self._weight = torch.where(weight > 0.004, weight, 0.0)

    def _seen(self, decoder: FaceDecoder, geometry: Geometry) -> Tensor:
        """How far the map's pixels show the face and nothing before it, [h, w]."""
        rows, columns = self._parameters.camera.size
        face = decoder.rasterize(geometry)
        x, y, side = (float(n) for n in self._parameters.crop)
        height, width = self.photo.shape[:2]
        scale = side / rows
        grid = Frame(x, y, 1 / scale, rows, columns).grid()
        places = torch.stack([grid[..., 0] / width, grid[..., 1] / height], -1) * 2 - 1
        pixels = torch.from_numpy(self.photo.copy()).permute(2, 0, 1)[None].float() / 255
        crop = F.grid_sample(pixels, places[None], align_corners=False, padding_mode="border")
        crop = torch.where((places.abs() <= 1).all(-1), crop, torch.nan)
        visible = visible_weight(face.image, crop, face.mask)
        visible = torch.where(face.mask > 0, visible, 1.0)
        where = (self._frame.grid() - torch.tensor([x, y])) / torch.tensor(
            [scale * columns, scale * rows]
        )
        return F.grid_sample(
            visible, where[None] * 2 - 1, align_corners=False, padding_mode="border"
        )[0, 0]

    def _mouth(self, frame: Frame) -> Tensor:
        """Lips and what is between them, where shading is not that of a face's surface, [h, w]."""
        canvas = Image.new("L", (frame.width, frame.height))
        places = (self._marks - torch.tensor([frame.left, frame.top])) * frame.scale
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in places[_LIPS].tolist()], fill=255)
        return torch.from_numpy(np.array(canvas)).float() / 255

    def _axes(self, frame: Frame) -> tuple[Tensor, Tensor]:
        """Places across the line from nose to chin and below the chin, in faces, [h, w] each."""
        chin, bridge = self._marks[8], self._marks[27]
        down = F.normalize(chin - bridge, dim=0)
        away = (frame.grid() - chin) / self._face
        return away @ torch.stack([down[1], -down[0]]), away @ down


def _fill_of(light: Illumination) -> float:
    """The share of filling light that a light asks for; by look, on two dozen portraits."""
    steep = torch.tensor((abs(light.upright()) - _STEEP[0]) / (_STEEP[1] - _STEEP[0]))
    least, most = _FILL
    return least + (most - least) * float(smooth_step(steep))
