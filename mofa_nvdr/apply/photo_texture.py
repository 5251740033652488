"""The person's own skin: a texture of a face from its photographs, without their light.

What a photograph shows of the face is read into the texture, its light divided out; what it does not show
comes from the other side of the face, and then from the face model's albedo, both moved to its colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_camera import crop_camera
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.apply.ratio_image import filled
from mofa_nvdr.apply.texture_layers import (
    Part,
    TextureLayer,
    check_size,
    continued,
    enlarged,
    feathered,
    laid_over,
    logarithm,
    lows,
    merged,
)
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.losses.occlusion import visibility
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.texture_baking import bake
from mofa_nvdr.render.texture_places import mirrored_places, seen_points
from mofa_nvdr.scene.light_sources import LUMINANCE
from mofa_nvdr.scene.lighting import linear_to_srgb, srgb_to_linear
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.shaders.sh_lambert import sh_lambert

# Cosines of the angle of view: where a place begins to count, and where it counts fully.
_LEAST_FACING, _FULL_FACING = 0.15, 0.45
# mm from the outline, where fits are off and hair and background show: the same.
_RIM = (3.0, 7.0)
# Brightness over the model's that is no sign of an occluder (folds, beards, highlights); about the hairline.
_GAIN, _HAIR_GAIN = (0.4, 1.7), 0.72
# Mean sRGB of a face below which differences are scaled up, and by how much at most.
_LEVEL, _MOST_SCALE = 0.5, 2.5
_TINT = 0.5  # share of the model's colour, which knows how skin looks, in the mean colour of the texture
_MOST_TINT = 0.05  # logarithm by which a channel's low frequencies may differ from the model's
_ASIDE = (0.25, 0.6)  # z of normals, below which albedo learned from the front knows no detail
_FINEST = 1024  # px of a crop's side in which hidden places are looked for, at least about
_CLIPPED = 0.97  # sRGB, from which a pixel says nothing of its colour
# Logarithms over the skin around: where highlights begin, and what remains of the brightest.
_BRIGHT, _WHITEST = 0.05, 0.12
_PALE = 0.25  # the same, at which a highlight's colour is all the skin's
_BROAD = 12.0  # coarse texels over which light differs, and birthmarks do not
_NARROW, _MOST_NARROW_TINT = (
    4.0,
    0.1,
)  # the same of what may shine from the side, and most of its tint
_INSIDE = ("eyes", "mouth", "teeth")  # regions with colours of their own


@dataclass(frozen=True)
class Shot:
    """A photograph and the face in it.

    Attributes:
        photo: uint8 [H, W, 3] sRGB, the part of the photograph around the face, or all of it.
        face: its parameters; the crop is in the pixels of `photo`.
    """

    photo: np.ndarray
    face: FaceParameters


@dataclass(frozen=True)
class PhotoTexture:
    """A texture from photographs.

    Attributes:
        image: uint8 [S, S, 3] sRGB, row 0 at v = 1, continued beyond the islands.
        seen: [S, S] in [0, 1], how far each texel is from a photograph itself.
        mirrored: [S, S] in [0, 1], how far it is from the other side of the face.
    """

    image: np.ndarray
    seen: np.ndarray
    mirrored: np.ndarray


class TextureMaker:
    """Makes the texture of one person.

    Args:
        model: with texture coordinates, on the CPU.
        albedo: coefficients [1, A], where no photograph shows the skin.
        size: side of the texture, texels.

    Raises:
        ValueError: the model has no texture coordinates, or a size that is no multiple of its coarse maps'.
    """

    def __init__(self, model: FaceModel, albedo: Tensor, size: int) -> None:
        if model.uv is None:
            raise ValueError(f"TextureMaker: face model {model.name} has no texture coordinates")
        check_size(size)
        self.model, self.size = model, size
        self._uv = model.uv
        self._corners = model.triangles if model.uv_triangles is None else model.uv_triangles
        self._mirrored = mirrored_places(
            model.triangles, self._uv, self._corners, model.mirror_index, size
        )
        self._find_parts()
        colors = self._baked(model.albedo(albedo)[0].clamp(0, 1))
        self._model = self._trusted(srgb_to_linear(colors.permute(2, 0, 1)))

    @torch.no_grad()
    def __call__(self, layers: Sequence[TextureLayer]) -> PhotoTexture:
        """The texture.

        Args:
            layers: of `layer`, one or more.
        """
        front = merged(layers, sigma=4)
        other = self._reflected(front)
        under = laid_over(self._model, other, self._parts, sigma=1.5)
        # What the other side shows has detail of its own.
        grain = continued(front, self._skin & (self._hairline < 0.5), 1.5, self.size / 7)
        under = torch.lerp(under * grain, under, other.weight)
        under = laid_over(under, front, self._parts, sigma=1.5)
        beyond = enlarged(lows(under, self._covered.float(), 0.5), self.size)
        under = torch.where(self._covered, under, beyond)
        colors = linear_to_srgb(under).clamp(0, 1).permute(1, 2, 0)
        return PhotoTexture(
            (colors * 255).round().to(torch.uint8).numpy(),
            front.weight.numpy(),
            (other.weight * (1 - front.weight)).numpy(),
        )

    def _baked(self, values: Tensor) -> Tensor:
        """Values at vertices [V, C] at the texels, [S, S, C]; zeros where no triangle is."""
        texture, self._covered = bake(
            values.contiguous(), self.model.triangles, self._uv, self._corners, self.size
        )
        return texture

    def _find_parts(self) -> None:
        """Parts of the texture; where texels look aside and where hair is near, [S, S] each, 0 to 1."""
        model, marks = self.model, self.model.mean_shape[self.model.landmarks.long()]
        mean = model.mean_shape
        normals = vertex_normals(mean[None], model.triangles)[0]
        low, high = _ASIDE
        aside = ((high - normals[:, 2]) / (high - low)).clamp(0, 1)
        brow, chin, eye = marks[17:27, 1].max(), marks[8, 1], marks[36:48, 1].mean()
        above = ((mean[:, 1] - brow) / (brow - chin) / 0.12).clamp(0, 1)
        wide = 1.12 * marks[[36, 45], 0].abs().mean()
        beside = ((mean[:, 0].abs() / wide - 1) / 0.15).clamp(0, 1) * (mean[:, 1] > eye)
        values = [aside, torch.maximum(above, beside)]
        for name in (*_INSIDE, "lips"):
            values.append(model.in_regions(name).float())
        both = self._baked(torch.stack(values, 1))
        self._aside, self._hairline = both[..., 0], both[..., 1]
        inside = [both[..., 2 + k] > 0.5 for k in range(len(_INSIDE))]
        skin = self._covered.clone()
        for one in inside:
            skin &= ~one
        self._skin = skin
        self._plain = skin & (both[..., -1] < 0.5)  # no lips
        found = [Part.of(mask) for mask in (skin, *inside)]
        self._parts = [part for part in found if part is not None]

    def _trusted(self, model: Tensor) -> Tensor:
        """The model's albedo, smooth where it knows no detail."""
        aside = self._aside * self._skin
        smooth = enlarged(lows(logarithm(model), self._skin.float(), 4), self.size).exp()
        return torch.lerp(model, smooth, aside)

    @torch.no_grad()
    def layer(self, shot: Shot, balanced: bool = True, shadows: bool = True) -> TextureLayer:
        """What one photograph shows, in the brightness of the model's skin.

        Args:
            shot: the photograph.
            balanced: it is balanced for its light, as cameras do; False: the colour of the light that was
                fitted is divided out with it.
            shadows: the face casts shadows on itself, which are divided out too.

        Raises:
            ValueError: the face lies outside of the photograph.
        """
        face, height, width = shot.face, *shot.photo.shape[:2]
        decoder = FaceDecoder(self.model, camera=face.camera, frontal_only=False)
        geometry = decoder.geometry(face.code)
        person = torch.ones(height, width)
        relighter = PhotoRelighter(
            shot.photo, face, self.model, shadows, balanced=balanced, person=person
        )
        even, corner = relighter.even()
        lit = sh_lambert(geometry.normals, geometry.albedo, geometry.light)[0]
        attributes = torch.cat([geometry.vertices[0], geometry.normals[0], lit], 1)
        points, normals, lit = self._baked(attributes).split(3, -1)
        # Lids and lips leave gaps finer than the pixels of a small photograph.
        finer = max(1, round(_FINEST / float(face.crop[2])))
        crop = Crop(*(finer * float(n) for n in face.crop))
        camera = crop_camera(decoder.pinhole, crop, (finer * height, finer * width))
        at = seen_points(
            points, F.normalize(normals, dim=-1), geometry.vertices[0], self.model.triangles, camera
        )
        places = at.places / finer
        photo = torch.from_numpy(shot.photo).permute(2, 0, 1).float() / 255
        shown = _sampled(photo, places).clamp(0, 1)
        color = _sampled(even, places - places.new_tensor(corner)).clamp(min=0)
        graded = ((at.facing - _LEAST_FACING) / (_FULL_FACING - _LEAST_FACING)).clamp(0, 1)
        graded *= ((at.rim - _RIM[0]) / (_RIM[1] - _RIM[0])).clamp(0, 1)
        weight = at.seen.float() * graded * self._covered
        weight = weight * self._unhidden(shown, lit.permute(2, 0, 1), weight)
        clipped = ((shown.amin(0) - _CLIPPED) / (1 - _CLIPPED)).clamp(0, 1)
        weight = weight * (1 - clipped * self._skin)
        # Of skin softly; lids and lips end sharply.
        sigmas = [self.size / (170 if k == 0 else 700) for k in range(len(self._parts))]
        soft = [feathered(weight, s, part) for s, part in zip(sigmas, self._parts)]
        weight = torch.stack(soft).sum(0)
        color = self._levelled(color, weight)
        color = self._evened(color, weight)
        # px of the photograph in a millimetre of the surface
        fine = at.facing / (-points[..., 2] * camera.pixel_angle * finer).clamp(min=1e-3)
        return TextureLayer(self._without_highlights(color, weight), weight, fine)

    def _unhidden(self, shown: Tensor, lit: Tensor, weight: Tensor) -> Tensor:
        """How likely texels show the face and nothing before it, [S, S].

        A colour that is the model's but brighter or darker is none of an occluder: folds, beards, highlights.
        """
        factor = max(1, self.size // 256)
        skin = self._plain * (weight > 0).float()
        both = torch.cat([shown, lit, self._hairline[None], torch.ones_like(skin)[None]])
        both = F.avg_pool2d((both * skin)[None], factor)[0]
        area = both[-1]
        shown, lit, hairline = (both[:-1] / area.clamp(min=1e-3)).split([3, 3, 1])
        gain = (shown * lit).sum(0) / (lit * lit).sum(0).clamp(min=1e-4)
        least = _GAIN[0] + (_HAIR_GAIN - _GAIN[0]) * hairline[0]
        gain = torch.maximum(gain, least).clamp(max=_GAIN[1])
        known = (area > 0.5).float()
        # Of dark skin and in dim pictures differences are as small as the colours.
        level = float((lit.mean(0) * known).sum() / known.sum().clamp(min=1))
        scale = min(max(_LEVEL / max(level, 1e-3), 1.0), _MOST_SCALE)
        squared = ((shown - gain * lit) * scale).square().sum(0)
        visible, _ = visibility(squared[None], known[None], torch.ones(1, 1, 1))
        visible = -F.max_pool2d(-visible, 7, 1, 3)  # strands and edges about what is hidden
        return enlarged(filled(visible, known), self.size)[0].clamp(0, 1)

    def _levelled(self, color: Tensor, weight: Tensor) -> Tensor:
        """Colours as bright as the model's skin, and a part of its tint."""
        skin = weight * self._skin > 0.5
        if not bool(skin.any()):
            return color
        shift = (logarithm(self._model) - logarithm(color))[:, skin].median(1).values
        grey = shift @ shift.new_tensor(LUMINANCE)
        return color * (grey + _TINT * (shift - grey)).exp().view(3, 1, 1)

    def _evened(self, color: Tensor, weight: Tensor) -> Tensor:
        """Without what low frequencies still hold of the light.

        Skin is as bright on the left as on the right: what they differ by, where both are seen, is light. Its
        colour changes little over the face: what changes more is the colour of a light from the side.
        """
        skin = weight * self._plain
        low = lows(logarithm(color), skin, _BROAD)
        factor = self.size // low.shape[-1]
        known = blurred(F.avg_pool2d(skin[None, None], factor), 2, "constant")[0]
        grid = self._mirrored[factor // 2 :: factor, factor // 2 :: factor].nan_to_num(2.0)
        other = F.grid_sample(torch.cat([low, known])[None], grid[None], align_corners=False)[0]
        away = (low - other[:3]) / 2 * (known * other[3:]).clamp(0, 1)
        tint = self._tint_of(low - away, _BROAD)
        mean = (tint * known).sum((1, 2), keepdim=True) / known.sum().clamp(min=1e-4)
        tint = tint - mean
        away = away + tint - _MOST_TINT * (tint / _MOST_TINT).tanh()
        color = color * torch.where(self._skin, (-enlarged(away, self.size)).exp(), 1.0)
        # The same, less strictly, of narrow strips: a coloured backdrop shines on temples.
        tint = self._tint_of(lows(logarithm(color), skin, _NARROW), _NARROW)
        away = tint - _MOST_NARROW_TINT * (tint / _MOST_NARROW_TINT).tanh()
        return color * torch.where(self._skin, (-enlarged(away, self.size)).exp(), 1.0)

    def _tint_of(self, low: Tensor, length: float) -> Tensor:
        """Low frequencies of logarithms less the model's, without their brightness."""
        tint = low - lows(logarithm(self._model), self._plain.float(), length)
        return tint - (tint * tint.new_tensor(LUMINANCE).view(3, 1, 1)).sum(0)

    def _without_highlights(self, color: Tensor, weight: Tensor) -> Tensor:
        """Skin that is brighter than the skin around it: darker, and in its colour."""
        size, skin = self.size, weight * self._skin
        if float(skin.sum()) < 1:
            return color
        weights = color.new_tensor(LUMINANCE).view(3, 1, 1)
        shift = logarithm(color) - logarithm(self._model)
        middle = (
            shift[:, skin > 0.5].median(1).values
            if bool((skin > 0.5).any())
            else shift.new_zeros(3)
        )
        # Highlights themselves are not to lift the skin around.
        near = middle[:, None, None] + (shift - middle[:, None, None]).clamp(-0.5, 0.15)
        around = self._model * enlarged(lows(near, skin, 6), size).exp()
        bright, base = (color * weights).sum(0), (around * weights).sum(0).clamp(min=1e-4)
        over = (bright / base).clamp(min=1e-4).log()
        # Highlights are smooth; the white hairs of a beard, which are not, stay.
        shine = enlarged(lows(over[None], skin, 1), size)[0]
        room = _WHITEST - _BRIGHT
        held = _BRIGHT + room * ((shine - _BRIGHT) / room).tanh()
        less = torch.where(shine > _BRIGHT, held - shine, 0.0)
        share = ((shine - _BRIGHT) / _PALE).clamp(0, 1)
        own = color * less.exp()
        skins = around * (bright / base * less.exp())
        return torch.where(self._skin, torch.lerp(own, skins, share), color)

    def _reflected(self, layer: TextureLayer) -> TextureLayer:
        """The other side's texels at their mirror images."""
        known = self._mirrored.isfinite().all(-1)
        grid = self._mirrored.nan_to_num(2.0)[None]
        both = torch.cat([layer.color, layer.weight[None]])[None]
        both = F.grid_sample(both, grid, align_corners=False, padding_mode="zeros")[0]
        return TextureLayer(both[:3].clamp(min=0), both[3] * known)


def _sampled(picture: Tensor, places: Tensor) -> Tensor:
    """A picture [3, h, w] at px [S, S, 2] of it, bicubic."""
    height, width = picture.shape[1:]
    grid = places / places.new_tensor([width, height]) * 2 - 1
    return F.grid_sample(
        picture[None], grid[None], mode="bicubic", align_corners=False, padding_mode="border"
    )[0]
