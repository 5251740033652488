"""Codes of one face model in those of another one of the same mesh: who is the same face there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.face.levels import products
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.system.threads import on_one_thread

# Deviation of a vertex's number that no mode needs to explain, in mm and in albedo, and as how many vertices,
# each by itself, the neighbours of the face's front count.
_NOISE = {"shape": 0.1, "expression": 0.1, "albedo": 0.01}
_INDEPENDENT = 500.0
_BEHIND = 0.1  # how far a vertex counts that training does not look at


@dataclass(frozen=True)
class PartMap:
    """An affine map of a part of the code.

    Attributes:
        matrix: [K', K] from the K numbers of the one model to the K' of the other.
        offset: [K'].
        left: rms distance of the faces, of people at random: mm, or albedo; over the frontal region.
    """

    matrix: Tensor
    offset: Tensor
    left: float

    def __call__(self, numbers: Tensor) -> Tensor:
        """[B, K] to [B, K']."""
        return numbers @ self.matrix.T + self.offset


def code_map(model: FaceModel, other: FaceModel) -> dict[str, PartMap]:
    """What makes codes of a face model codes of another one: the nearest face that it has.

    Each part by itself: means and modes at the vertices, by least squares with the other model's prior, the
    frontal region before all. Rotation, translation and light mean the same in both.

    Args:
        model: whose codes there are.
        other: whose codes are wanted.

    Returns:
        "shape", "expression" and "albedo".

    Raises:
        ValueError: they have other meshes.
    """
    if model.triangles.shape != other.triangles.shape or not bool(
        (model.triangles == other.triangles).all()
    ):
        raise ValueError(
            f"face models {model.name} ({model.hash}) and {other.name} ({other.hash}) have other meshes, "
            f"{model.num_vertices} and {other.num_vertices} vertices: no code of one is a code of the other"
        )
    return {
        "shape": _part_map("shape", other, model.shape_basis, other.shape_basis,
                           model.mean_shape - other.mean_shape),
        "expression": _part_map("expression", other, model.expression_basis, other.expression_basis, None),
        "albedo": _part_map("albedo", other, model.albedo_basis, other.albedo_basis,
                            model.mean_albedo - other.mean_albedo),
    }  # fmt: skip


def _part_map(
    part: str, other: FaceModel, own: Tensor, its: Tensor, away: Tensor | None
) -> PartMap:
    """Of modes [K, V, 3] in other ones [K', V, 3], whose mean is `away` [V, 3] from the first's."""
    if own.shape == its.shape and torch.equal(own, its) and (away is None or not away.any()):
        return PartMap(torch.eye(len(its)), torch.zeros(len(its)), 0.0)
    front = other.frontal_mask.float()
    weight = front + _BEHIND * (1 - front)
    weight = weight * (_INDEPENDENT / weight.sum()) / _NOISE[part] ** 2
    rows = its.flatten(1)
    scaled = (its * weight[:, None]).flatten(1)
    wanted = own if away is None else torch.cat([own, away[None]])
    normal = products(scaled, rows).double() + torch.eye(len(its), dtype=torch.float64)
    right = products(scaled, wanted.flatten(1)).double()
    solved = on_one_thread(lambda: torch.linalg.solve(normal, right)).float()  # [K', K (+ 1)]
    where = other.frontal_mask
    rest = wanted[:, where].flatten(1) - solved.T @ its[:, where].flatten(1)
    left = float((rest.double().square().sum() / int(where.sum())).sqrt())
    matrix = solved[:, : len(own)]
    offset = torch.zeros(len(its)) if away is None else solved[:, -1]
    return PartMap(matrix.contiguous(), offset.contiguous(), left)
