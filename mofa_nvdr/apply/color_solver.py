"""Light and albedo of faces whose pose and form are known, in closed form.

An encoder says well where a face is and how it is formed, and badly what tells one skin from another, while
the colours themselves are in the photograph. With pose and form held, a pixel is the product of two things
that are linear in the code (Eqs. 3 and 4), light and albedo, so each is a least-squares problem given the
other: a few alternations at a thousand vertices take milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.fit_prior import FitPrior, fit_prior
from mofa_nvdr.apply.fit_problem import SATURATED
from mofa_nvdr.apply.region_scatter import region_scatter
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.scene.lighting import sh_basis, total_light

# Cosines to the line of sight between which a vertex begins to count in full.
_GRAZING = (0.15, 0.5)

COLORS = ("encoder", "photograph")
"""Where light and albedo of reconstructed faces may be from."""


@dataclass(frozen=True)
class ColorOptions:
    """How colours are solved for.

    Attributes:
        vertices: about how many are looked at.
        light_rounds: of light alone, under the predicted albedo: what no skin can be, a hand or a fringe, is
            found there, before an albedo explains it.
        rounds: of light, then albedo.
        independent: how many of the vertices tell something of their own; neighbours err alike.
        deviation: of a channel about the rendering, where the face model is right.
        occluder: distance of a channel from the rendering at which a vertex counts half; one of twice that
            distance counts a seventeenth.
        light: how much the predicted light counts, of the prior's own weight.
        albedo: the same of the predicted albedo.
    """

    vertices: int = 1000
    light_rounds: int = 2
    rounds: int = 3
    independent: float = 1000.0
    deviation: float = 0.05
    occluder: float = 0.12
    light: float = 1.0
    albedo: float = 0.0


class ColorSolver:
    """Replaces the light and albedo of codes by those that photographs show.

    Args:
        decoder: of the codes.
        options: None: the defaults.
    """

    def __init__(self, decoder: FaceDecoder, options: ColorOptions | None = None) -> None:
        self.options = o = options or ColorOptions()
        self._decoder, model = decoder, decoder.model
        frontal = model.frontal_triangles.unique().long()
        self._index = index = frontal[:: max(1, round(len(frontal) / o.vertices))]
        prior: FitPrior = fit_prior(model, with_expression=False)
        parts = model.layout.slices
        self._priors = {
            name: (prior.mean[where], prior.precision[where, where])
            for name, where in ((name, parts[name]) for name in ("light", "albedo"))
        }
        self._mean = model.mean_albedo[index]  # [N, 3]
        self._basis = model.albedo_basis[:, index].permute(1, 2, 0).flatten(0, 1)  # [3 N, K]
        self._trust = _trust(model, index)

    @torch.no_grad()
    def __call__(self, photo: Tensor, code: FaceCode, geometry: Geometry | None = None) -> FaceCode:
        """Codes with the photographs' colours.

        Args:
            photo: crops [B, 3, S, S] in [0, 1], of any size; NaN: no photograph there.
            code: of B faces.
            geometry: the decoder's of these codes, if it is there already.

        Returns:
            The same poses and forms, with other light and albedo.
        """
        o, decoder, index = self.options, self._decoder, self._index
        geometry = geometry or decoder.geometry(code)
        points, normals = geometry.vertices[:, index], geometry.normals[:, index]
        pixels = decoder.camera.project(points) * (photo.shape[-1] / decoder.camera.size[1])
        color, known = _sampled(photo, pixels)  # [B, N, 3], [B, N]
        towards = F.normalize(decoder.camera.view_directions(points), dim=-1)
        facing = (normals * towards).sum(-1)
        low, high = _GRAZING
        weight = known * self._trust * ((facing - low) / (high - low)).clamp(0, 1)
        weight = weight * (o.independent / weight.sum(1, keepdim=True).clamp(min=1.0))
        weight = weight / o.deviation**2
        harmonics = sh_basis(normals)  # [B, N, 9]
        light, albedo = total_light(code.light), geometry.albedo[:, index]
        beta = code.albedo
        counts = weight
        for number in range(o.light_rounds + o.rounds):
            light = self._light(color, albedo, harmonics, counts, code.light)
            shading = harmonics @ light  # [B, N, 3]
            if number >= o.light_rounds:
                beta = self._albedo(color, shading, counts, code.albedo)
                albedo = self._mean + (beta @ self._basis.T).unflatten(1, self._mean.shape)
            away = (color - albedo * shading).square().mean(-1)
            counts = weight / (1 + (away / o.occluder**2) ** 2)
        offset = total_light(torch.zeros_like(light))
        return replace(code, light=light - offset, albedo=beta)

    def _light(
        self, color: Tensor, albedo: Tensor, harmonics: Tensor, weight: Tensor, predicted: Tensor
    ) -> Tensor:
        """Complete lights [B, 9, 3]: least squares of color = albedo * (harmonics @ light)."""
        mean, precision = self._priors["light"]
        batch = len(color)
        rows = albedo[..., None] * harmonics[:, :, None]  # [B, N, 3, 9]
        weighted = rows * weight[..., None, None]
        normal = torch.einsum("bnci,bncj->bcij", weighted, rows)
        right = torch.einsum("bnci,bnc->bci", weighted, color)
        # The prior is of numbers in the code's order, coefficient by coefficient, three channels each.
        offset = total_light(torch.zeros(9, 3, dtype=color.dtype, device=color.device))
        whole = precision.expand(batch, 27, 27).clone().unflatten(2, (9, 3)).unflatten(1, (9, 3))
        for channel in range(3):
            whole[:, :, channel, :, channel] += normal[:, channel]
        center = self._center(mean, predicted.flatten(1), self.options.light) + offset.flatten()
        right = right.transpose(1, 2).flatten(1) + center @ precision
        return _solved(whole.flatten(3).flatten(1, 2), right).unflatten(1, (9, 3))

    def _albedo(self, color: Tensor, shading: Tensor, weight: Tensor, predicted: Tensor) -> Tensor:
        """Coefficients [B, K]: least squares of color = (mean + basis @ coefficients) * shading."""
        mean, precision = self._priors["albedo"]
        scale = (shading.square() * weight[..., None]).flatten(1)  # [B, 3 N]
        target = ((color - self._mean * shading) * shading * weight[..., None]).flatten(1)
        normal = (self._basis.T * scale[:, None]) @ self._basis
        center = self._center(mean, predicted, self.options.albedo)
        return _solved(normal + precision, target @ self._basis + center @ precision)

    @staticmethod
    def _center(mean: Tensor, predicted: Tensor, share: float) -> Tensor:
        return torch.lerp(mean.expand_as(predicted), predicted, share)


def color_solver(decoder: FaceDecoder, colors: str) -> ColorSolver | None:
    """The solver for colours from photographs; None where they are to stay the encoder's.

    Raises:
        ValueError: `colors` is none of COLORS.
    """
    if colors not in COLORS:
        raise ValueError(f"--colors is {colors!r}, expected one of {', '.join(COLORS)}")
    return ColorSolver(decoder) if colors == "photograph" else None


def colors_of(colors: str, checkpoint: object) -> str:
    """What a command's `--colors` means: if empty, the encoder's own with a checkpoint, else photographs'."""
    return colors or ("encoder" if str(checkpoint) else "photograph")


def _sampled(photo: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Colours [B, N, 3] at places [B, N, 2] px, and 1 where they are known, else 0, [B, N]."""
    known = photo.amax(1, keepdim=True) < SATURATED  # of NaN it is none
    side = photo.shape[-1]
    # The model is as fine as its vertices are apart: finer detail would be noise.
    smooth = blurred(photo.nan_to_num(0.5), side / 240)
    grid = (pixels * (2 / side) - 1)[:, None]
    both = torch.cat([smooth, known.to(smooth)], 1)
    found = F.grid_sample(both, grid, "bilinear", "zeros", align_corners=False)[:, :, 0]
    return found[:, :3].mT, (found[:, 3] > 0.99).to(smooth)


def _trust(model: FaceModel, index: Tensor) -> Tensor:
    """[N] one over the factor of the variance of what the model draws badly."""
    if model.regions is None:
        return torch.ones(len(index), device=model.mean_albedo.device)
    return 1 / region_scatter(model)[model.regions[index].long()]


def _solved(normal: Tensor, right: Tensor) -> Tensor:
    """The x of normal x = right, for positive definite matrices [B, K, K] and [B, K]."""
    return torch.cholesky_solve(right[..., None], torch.linalg.cholesky(normal))[..., 0]
