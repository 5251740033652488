"""The shipped face and the pieces of its recipe, made once for all the recipe's tests."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.face import recipe


@pytest.fixture(scope="session")
def face() -> dict[str, np.ndarray]:
    """The shipped product, and the marks [68] that its recipe builds on; read only."""
    pytest.importorskip("scipy")
    from mofa_nvdr.face.recipe.landmark_vertices import landmark_vertices
    from mofa_nvdr.face.recipe.mean import face_grid, mean_shape

    return {**recipe.load_product(), "marks": landmark_vertices(mean_shape(), face_grid())}


@pytest.fixture(scope="session")
def grid():
    """The recipe's grid, which needs scipy."""
    pytest.importorskip("scipy")
    from mofa_nvdr.face.recipe.mean import face_grid

    return face_grid()


@pytest.fixture(scope="session")
def mean() -> np.ndarray:
    """The recipe's mean [V, 3] in the tables' frame."""
    pytest.importorskip("scipy")
    from mofa_nvdr.face.recipe.mean import mean_shape

    return mean_shape()


@pytest.fixture(scope="session")
def shipped_mean(face: dict[str, np.ndarray]) -> np.ndarray:
    """The shipped mean [V, 3] in the tables' frame."""
    from mofa_nvdr.face.recipe import tables

    return face["mean_shape"].astype(float) + tables.HEAD_CENTRE


@pytest.fixture(scope="session")
def named(mean: np.ndarray, grid) -> dict[str, np.ndarray]:
    """The recipe's blendshapes: about 2 s."""
    from mofa_nvdr.face.recipe.blendshapes import named_expressions

    return named_expressions(mean, grid)
