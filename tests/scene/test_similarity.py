"""The similarity that was applied is found again."""

import numpy as np

from mofa_nvdr.scene.similarity import similarity


def test_brings_back_what_was_applied():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3)) * [3.0, 2.0, 1.0]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    scale, rotation, shift = similarity(points, 2.5 * points @ turn.T + [1.0, -2.0, 3.0])
    np.testing.assert_allclose(scale, 2.5, rtol=1e-12)
    np.testing.assert_allclose(rotation, turn, atol=1e-12)
    np.testing.assert_allclose(shift, [1.0, -2.0, 3.0], atol=1e-12)


def test_never_a_mirror_image():
    """Of points and their mirror image the best turn is one, not the mirror."""
    points = np.random.default_rng(1).normal(size=(30, 3))
    _, rotation, _ = similarity(points, points * [-1.0, 1.0, 1.0])
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, rtol=1e-12)
