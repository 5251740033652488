"""The model-space loss of InverseFaceNet: differences of codes count by what they move in the face.

Source: Kim et al. 2018, "InverseFaceNet: Deep Monocular Inverse Face Rendering", whose weights of the groups
we do not know; the units here are ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mofa_nvdr.face.code import FaceCode, check_pair
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.lighting import icosahedron, sh_basis

# What counts as one: a root mean square over the frontal region of the face, or over the normals that a
# camera in front of it sees.
_VERTICES = 2.0  # mm, by shape, by expression and by the head's turn
_PLACE = (8.0, 8.0, 40.0)  # mm sideways, up and in depth: a camera sees about as much of each
_ALBEDO = 0.05
_IRRADIANCE = 0.15


def model_space_weights(model: FaceModel) -> dict[str, Tensor]:
    """The diagonal of the A in ||A (x - x*)||^2: what each number of a code moves, by part.

    A coefficient weighs what its mode, which has one standard deviation, moves: the root mean square over
    the vertices of the frontal region. Where modes are orthogonal there, the distance of two shapes is the
    mean squared distance of their vertices. A turn moves points by their distance from its axis, a light's
    coefficient irradiance.

    Args:
        model: the face model; the weights have its device and dtype.

    Returns:
        Part of the code -> weights of one face's numbers, for `model_space_distance`.
    """
    frontal = model.frontal_mask.nonzero()[:, 0]
    places = model.mean_shape[frontal]
    from_axes = places.square().sum(1, keepdim=True) - places.square()  # squared, from x, y and z
    normals = icosahedron().to(places)
    seen = sh_basis(normals[normals[:, 2] >= 0])  # [M, 9]
    return {
        "shape": _moved(model.shape_basis, frontal) / _VERTICES,
        "expression": _moved(model.expression_basis, frontal) / _VERTICES,
        "albedo": _moved(model.albedo_basis, frontal) / _ALBEDO,
        "rotation": from_axes.mean(0).sqrt() / _VERTICES,
        "translation": 1 / places.new_tensor(_PLACE),
        "light": (seen.square().mean(0).sqrt() / _IRRADIANCE)[:, None].expand(9, 3),
    }


def model_space_distance(code: FaceCode, true: FaceCode, weights: Mapping[str, Tensor]) -> Tensor:
    """||A (x - x*)||^2 of each face, [B].

    Args:
        code: predicted.
        true: of rendered faces.
        weights: of `model_space_weights`.

    Raises:
        ValueError: shapes disagree.
    """
    check_pair("model_space_distance", code, true)
    total = code.rotation.new_zeros(code.batch_size)
    for name, weight in weights.items():
        difference = (getattr(code, name) - getattr(true, name)) * weight
        total = total + difference.square().flatten(1).sum(1)
    return total


def _moved(basis: Tensor, index: Tensor) -> Tensor:
    """What each mode [K, V, 3] moves at some vertices: root mean square of the distance, [K]."""
    return basis[:, index].square().sum(2).mean(1).sqrt()
