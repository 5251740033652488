"""A face model of two levels: one that stays as it is, and corrective modes that are learned on top of it.

final = base + corrections: displacements of the vertices and offsets of their reflectance, both linear. The
code is the base model's with the correctives' coefficients behind its shape's and its albedo's.

Source: Tewari et al. 2018, "Self-supervised Multi-level Face Model Learning for Monocular Reconstruction at
over 250 Hz", with linear corrective spaces.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.face.linear import linear_vertices
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_arrays import ARRAYS, OPTIONAL
from mofa_nvdr.system import distributed
from mofa_nvdr.system.budget import MOST_MODES

SHAPE_UNIT, ALBEDO_UNIT = 1.0, 0.03
"""What a coefficient of one moves at first, root mean square over the vertices: mm, and reflectance."""

_MODES = 8  # with the seed: of the modes alone
_SHORTEST, _LONGEST = 20.0, 120.0  # mm: waves of the first modes
_ODD_EVERY = 3  # mode that is the negative of its mirror image: faces are more alike on both sides
_ACROSS = {"shape": (-1.0, 1.0, 1.0), "albedo": (1.0, 1.0, 1.0)}
_REMEMBERED = 100  # batches over which the coefficients' moments are taken
_LEAST = 1e-3  # deviation of a coefficient: one that nobody uses is not blown up


class CorrectedFaceModel(FaceModel):
    """A face model whose code also holds coefficients of corrective modes, which are parameters.

    The arrays of a FaceModel, and its hash, are the base model's; `layout`, `vertices` and `albedo` are of
    both levels. Modes begin as smooth waves at random, each its own mirror image or the negative of it, and
    stay so as they learn; coefficients begin at zero with the encoder, so the first face is the base one.
    The state dict holds what is learned alone.

    Args:
        base: the model that is corrected.
        num_shape: correctives of geometry.
        num_albedo: correctives of reflectance.
        seed: of the modes.

    Attributes:
        shape_correctives: [G, V, 3] in SHAPE_UNIT mm. albedo_correctives: [R, V, 3] in ALBEDO_UNIT.
        moments: [2, G + R], mean and mean square of the coefficients over the latest batches.
        batches: how many `observe` has seen.

    Raises:
        ValueError: more modes than a face model may have.
    """

    shape_correctives: nn.Parameter
    albedo_correctives: nn.Parameter
    moments: Tensor
    batches: Tensor

    def __init__(self, base: FaceModel, num_shape: int, num_albedo: int, seed: int = 0) -> None:
        arrays = {
            name: getattr(base, name).cpu().numpy()
            for name in (*ARRAYS, *OPTIONAL)
            if getattr(base, name) is not None
        }
        named = {name: value.numpy() for name, value in base.named_expressions.items()}
        super().__init__(arrays, base.metadata, named, base.region_names)
        self._base = [base]  # in a list: no sub-module, its arrays are here already
        for part, count in (("shape", num_shape), ("albedo", num_albedo)):
            whole = count + len(getattr(self, f"{part}_basis"))
            if whole > MOST_MODES:
                raise ValueError(
                    f"CorrectedFaceModel: {whole} modes of {part}, expected at most {MOST_MODES}"
                )
            modes = _waves(self, count, part, seed)
            parameter = nn.Parameter(torch.from_numpy(modes))
            self.register_parameter(f"{part}_correctives", parameter)
            parameter.register_hook(self._mirrored(part))
        self.register_buffer("moments", torch.zeros(2, num_shape + num_albedo))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @property
    def base(self) -> FaceModel:
        """The model that is corrected."""
        return self._base[0]

    @property
    def base_layout(self) -> CodeLayout:
        """Sizes of the base level's code."""
        return super().layout

    @property
    def layout(self) -> CodeLayout:
        """Sizes of the code of both levels."""
        own, shape, albedo = super().layout, self.shape_correctives, self.albedo_correctives
        return CodeLayout(
            own.num_shape + len(shape), own.num_expression, own.num_albedo + len(albedo)
        )

    def base_code(self, code: FaceCode) -> FaceCode:
        """The base level's part of a code of both; a code of the base level is returned as it is."""
        own = self.base_layout
        return code.replace(
            shape=code.shape[:, : own.num_shape], albedo=code.albedo[:, : own.num_albedo]
        )

    def vertices(self, shape: Tensor, expression: Tensor, index: Tensor | None = None) -> Tensor:
        """FaceModel.vertices of both levels; shape: [B, S + G]."""
        shape, more = self._split(shape, self.base_layout.num_shape, SHAPE_UNIT)
        bases = [self.shape_basis, self.expression_basis, self.shape_correctives]
        return linear_vertices(self.mean_shape, bases, [shape, expression, more], index)

    def albedo(self, albedo: Tensor, index: Tensor | None = None) -> Tensor:
        """FaceModel.albedo of both levels; albedo: [B, A + R]."""
        albedo, more = self._split(albedo, self.base_layout.num_albedo, ALBEDO_UNIT)
        bases = [self.albedo_basis, self.albedo_correctives]
        return linear_vertices(self.mean_albedo, bases, [albedo, more], index)

    def both_levels(self, code: FaceCode) -> dict[str, tuple[Tensor, Tensor]]:
        """Vertices [B, V, 3] in mm and albedo of "base" and of "final"; the base level is computed once."""
        base = self.base_code(code)
        vertices = super().vertices(base.shape, base.expression)
        albedo = super().albedo(base.albedo)
        displacement, offset = self.corrections(code)
        return {"base": (vertices, albedo), "final": (vertices + displacement, albedo + offset)}

    def corrections(self, code: FaceCode) -> tuple[Tensor, Tensor]:
        """What sets the final level apart: displacement [B, V, 3] in mm, and offset of reflectance."""
        own = self.base_layout
        both = []
        for part, count, unit, modes in (
            (code.shape, own.num_shape, SHAPE_UNIT, self.shape_correctives),
            (code.albedo, own.num_albedo, ALBEDO_UNIT, self.albedo_correctives),
        ):
            _, more = self._split(part, count, unit)
            nothing = modes.new_zeros(self.num_vertices, 3)
            both.append(linear_vertices(nothing, [modes], [more], None))
        return both[0], both[1]

    @staticmethod
    def _split(part: Tensor, own: int, unit: float) -> tuple[Tensor, Tensor]:
        return part[:, :own], unit * part[:, own:]

    @torch.no_grad()
    def observe(self, code: FaceCode) -> None:
        """Remember how far a batch's correctives go; of several processes each gives its share."""
        more = torch.cat(
            [code.shape[:, self.base_layout.num_shape :],
             code.albedo[:, self.base_layout.num_albedo :]], 1,
        ).to(self.moments)  # fmt: skip
        now = distributed.batch_mean(torch.stack([more.mean(0), more.square().mean(0)]))
        self.batches += 1
        self.moments.lerp_(now, 1 / min(int(self.batches), _REMEMBERED))

    @property
    def coefficient_range(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation [G + R] of the coefficients, geometry first; the mean of odd modes is 0."""
        mean, square = self.moments
        even = torch.cat([self._parity("shape"), self._parity("albedo")]).to(mean.device) > 0
        mean = torch.where(even, mean, 0.0)
        return mean, (square - mean.square()).clamp(min=0).sqrt().clamp(min=_LEAST)

    @torch.no_grad()
    def joined(self, metadata: dict[str, str] | None = None) -> FaceModel:
        """Both levels as one ordinary model: the correctives behind the base model's modes.

        Each has the size of one deviation of its coefficient, and the mean is in the mean face. A code of
        this model is one of that if `coefficient_range` is taken off its correctives.
        """
        arrays = {
            name: getattr(self, name).cpu().numpy()
            for name in (*ARRAYS, *OPTIONAL)
            if getattr(self, name) is not None
        }
        count = len(self.shape_correctives)
        for part, unit, some in (
            ("shape", SHAPE_UNIT, slice(count)), ("albedo", ALBEDO_UNIT, slice(count, None)),
        ):  # fmt: skip
            modes = unit * getattr(self, f"{part}_correctives").cpu()
            mean, deviation = (x.cpu()[some, None, None] for x in self.coefficient_range)
            scaled = (deviation * modes).numpy()
            arrays[f"{part}_basis"] = np.concatenate([arrays[f"{part}_basis"], scaled])
            arrays[f"mean_{part}"] = arrays[f"mean_{part}"] + (mean * modes).sum(0).numpy()
        named = {name: value.numpy() for name, value in self.named_expressions.items()}
        return FaceModel(arrays, metadata or self.metadata, named, self.region_names)

    def _parity(self, part: str) -> Tensor:
        """[K] 1 for modes that are their own mirror image, -1 for the negative of it, 0 for neither."""
        count = len(getattr(self, f"{part}_correctives"))
        return torch.from_numpy(_parity(self, count))

    def _mirrored(self, part: str) -> Callable[[Tensor], Tensor]:
        """Of a gradient what keeps modes their own mirror images."""

        def hook(grad: Tensor) -> Tensor:
            parity = self._parity(part).to(grad)[:, None, None]
            if not parity.any():
                return grad
            image = grad.index_select(1, self.mirror_index) * grad.new_tensor(_ACROSS[part])
            return (grad + parity * image) / 2

        return hook


def corrected(model: FaceModel) -> CorrectedFaceModel | None:
    """The model itself where its modes learn; None where it stays as it is."""
    return model if isinstance(model, CorrectedFaceModel) else None


def spaced_vertices(model: FaceModel, count: int) -> Tensor:
    """About `count` vertices evenly spaced over the mesh, each with its mirror image, ascending int64."""
    stride = max(1, 2 * model.num_vertices // count)
    some = torch.arange(0, model.num_vertices, stride, device=model.mirror_index.device)
    return torch.cat([some, model.mirror_index[some]]).unique()


def _parity(model: FaceModel, count: int) -> np.ndarray:
    mirror = model.mirror_index.cpu()
    if not torch.equal(mirror[mirror], torch.arange(len(mirror))):
        return np.zeros(count, np.float32)
    odd = np.arange(count) % _ODD_EVERY == _ODD_EVERY - 1
    return np.where(odd, -1, 1).astype(np.float32)


def _waves(model: FaceModel, count: int, part: str, seed: int) -> np.ndarray:
    """Smooth modes [K, V, 3] at random with a root mean square length of one over the vertices."""
    random = np.random.default_rng([seed, _MODES, len(part)])
    place = model.mean_shape.cpu().numpy().astype(np.float64)
    mirror = model.mirror_index.cpu().numpy()
    modes = np.empty((count, *place.shape), np.float32)
    for mode, parity in zip(modes, _parity(model, count)):
        length = math.exp(random.uniform(math.log(_SHORTEST), math.log(_LONGEST)))
        way = random.normal(size=3)
        wave = np.sin(
            place @ (2 * math.pi / length * way / np.linalg.norm(way)) + random.uniform(0, 6)
        )
        # Reflectance is mostly brighter or darker, less another colour.
        to = random.normal(size=3) if part == "shape" else 1 + 0.5 * random.normal(size=3)
        field = wave[:, None] * to
        field = field + parity * field[mirror] * np.array(_ACROSS[part])
        mode[:] = field / max(np.sqrt(np.square(field).sum(1).mean()), 1e-6)
    return modes
