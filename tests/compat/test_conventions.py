"""Conversions between projects: each against what that project computes, on random numbers in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from mofa_nvdr.compat.conventions import (
    CAMERAS,
    LANDMARKS,
    LIGHTS,
    convert_landmarks,
    convert_light,
    convert_points,
)
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import sh_basis

GENERATOR = torch.Generator().manual_seed(0)
NORMALS = normalize(torch.randn(50, 3, generator=GENERATOR, dtype=torch.float64), dim=-1)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def deep3d(gamma):
    """Deep3D's irradiance: a_l c_l with its signs, 0.8 in every channel's first place."""
    a0, a1, a2 = math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)
    c0, c1 = 1 / math.sqrt(4 * math.pi), math.sqrt(3) / math.sqrt(4 * math.pi)
    c2 = 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
    x, y, z = NORMALS.unbind(-1)
    basis = [
        a0 * c0 * torch.ones_like(x), -a1 * c1 * y, a1 * c1 * z, -a1 * c1 * x, a2 * c2 * x * y,
        -a2 * c2 * y * z, 0.5 * a2 * c2 / math.sqrt(3) * (3 * z * z - 1), -a2 * c2 * x * z,
        0.5 * a2 * c2 * (x * x - y * y),
    ]  # fmt: skip
    first = torch.tensor([0.8] + 8 * [0.0], dtype=torch.float64)
    return torch.stack(basis, -1) @ (gamma.view(3, 9) + first).T


def deca(coefficients):
    """DECA's shading: 1, x, y, z, xy, xz, yz, x^2 - y^2, 3 z^2 - 1; the first without pi."""
    x, y, z = NORMALS.unbind(-1)
    pi = math.pi
    one, two = 2 * pi / 3 * math.sqrt(3 / (4 * pi)), pi / 4 * 3 * math.sqrt(5 / (12 * pi))
    basis = [
        torch.ones_like(x) / math.sqrt(4 * pi), one * x, one * y, one * z, two * x * y, two * x * z,
        two * y * z, two / 2 * (x * x - y * y), pi / 4 / 2 * math.sqrt(5 / (4 * pi)) * (3 * z * z - 1),
    ]  # fmt: skip
    return torch.stack(basis, -1) @ coefficients


def focus(sh):
    """FOCUS's illumination: real harmonics with Condon and Shortley's signs, y down and z away, no cosine."""
    x, y, z = (NORMALS * torch.tensor([1, -1, -1])).unbind(-1)
    theta, phi = z.acos(), torch.atan2(y, x)
    sine, cosine = theta.sin(), theta.cos()
    legendre = {  # P_l^m with the sign (-1)^m
        (0, 0): torch.ones_like(x), (1, 0): cosine, (1, 1): -sine,
        (2, 0): (3 * cosine**2 - 1) / 2, (2, 1): -3 * sine * cosine, (2, 2): 3 * sine**2,
    }  # fmt: skip
    basis = []
    for band in range(3):
        for m in range(-band, band + 1):
            k = math.sqrt(
                (2 * band + 1) / (4 * math.pi)
                * math.factorial(band - abs(m)) / math.factorial(band + abs(m))
            )  # fmt: skip
            around = math.sqrt(2) * ((m * phi).cos() if m > 0 else (-m * phi).sin())
            basis.append(k * legendre[band, abs(m)] * (1 if m == 0 else around))
    return torch.stack(basis, -1) @ sh.view(3, 9).T


def irradiance(coefficients):
    """E_lm of the irradiance itself: orthonormal harmonics, Ramamoorthi and Hanrahan 2001, Eqs. 7 and 8."""
    lobe = torch.tensor([math.pi] + 3 * [2 * math.pi / 3] + 5 * [math.pi / 4], dtype=torch.float64)
    return (sh_basis(NORMALS) / lobe) @ coefficients


SHADING = {
    "ours": lambda light: sh_basis(NORMALS) @ light,
    "deep3d": deep3d,
    "deca": deca,
    "focus": focus,
    "ramamoorthi": lambda light: sh_basis(NORMALS) @ light,
    "irradiance": irradiance,
}


class TestLight:
    @pytest.mark.parametrize("source", LIGHTS)
    @pytest.mark.parametrize("target", LIGHTS)
    def test_shades_alike(self, source, target):
        given = draw(27) if source in ("deep3d", "focus") else draw(9, 3)
        converted = convert_light(given, source, target)
        assert torch.allclose(SHADING[target](converted), SHADING[source](given), atol=1e-12)
        assert torch.allclose(convert_light(converted, target, source), given, atol=1e-12)

    def test_batches_and_gradients(self):
        gamma = draw(2, 4, 27).requires_grad_()
        light = convert_light(gamma, "deep3d")
        assert light.shape == (2, 4, 9, 3)
        assert torch.equal(light[1, 2], convert_light(gamma[1, 2], "deep3d"))
        light.sum().backward()
        assert (gamma.grad != 0).all()

    def test_refusals(self):
        with pytest.raises(
            ValueError, match="unknown convention 'flame', expected one of ours, deep3d"
        ):
            convert_light(draw(9, 3), "flame")
        with pytest.raises(
            ValueError, match=r"coefficients are \[9, 3\], expected \[..., 27\] of deep3d"
        ):
            convert_light(draw(9, 3), "deep3d")
        with pytest.raises(
            ValueError, match=r"coefficients are \[27\], expected \[..., 9, 3\] of deca"
        ):
            convert_light(draw(27), "deca")
        # Whole numbers would lose the fractions of the factors without a word.
        with pytest.raises(TypeError, match="coefficients is torch.int64, expected floats"):
            convert_light(torch.ones(27).long(), "deep3d")


class TestPoints:
    @pytest.mark.parametrize("source", CAMERAS)
    @pytest.mark.parametrize("target", CAMERAS)
    def test_there_and_back(self, source, target):
        points = draw(5, 3)
        there = convert_points(points, source, target)
        assert torch.allclose(convert_points(there, target, source), points, atol=1e-12)

    def test_by_hand(self):
        # One point: 20 mm to the right, 30 mm up, 1 m away.
        ours = torch.tensor([20.0, 30, -1000])
        for name, wanted in (
            ("deep3d", [0.2, 0.3, 10]), ("focus", [20, -30, 1000]), ("opencv", [20, -30, 1000]),
            ("pytorch3d", [-20, 30, 1000]),
        ):  # fmt: skip
            assert convert_points(ours, "ours", name).tolist() == pytest.approx(wanted)

    def test_projects_as_deep3d_does(self):
        """Its to_image: 1015 px, the principal point in the middle, y up; then its landmark frame."""
        points = draw(6, 3) + torch.tensor([0, 0, 10.0])
        x, y, z = points.unbind(-1)
        landmarks = torch.stack([1015 * x / z + 112, 1015 * y / z + 112], -1)
        camera = Camera(image_size=224, focal=1015, near=100)
        ours = camera.project(convert_points(points, "deep3d"))
        assert torch.allclose(convert_landmarks(landmarks, 224, "deep3d"), ours, atol=1e-9)

    def test_refusals(self):
        with pytest.raises(ValueError, match="unknown convention 'unity'"):
            convert_points(draw(3), "ours", "unity")
        with pytest.raises(ValueError, match=r"points are \[4\], expected \[..., 3\]"):
            convert_points(draw(4), "ours")
        with pytest.raises(TypeError, match="convert_points: points is torch.int64, expected"):
            convert_points(torch.ones(3).long(), "ours", "deep3d")


class TestLandmarks:
    @pytest.mark.parametrize("source", LANDMARKS)
    @pytest.mark.parametrize("target", LANDMARKS)
    def test_there_and_back(self, source, target):
        points = draw(5, 2) * 100
        there = convert_landmarks(points, 224, source, target)
        assert torch.allclose(convert_landmarks(there, 224, target, source), points, atol=1e-12)

    def test_by_hand(self):
        # The centre of the pixel in row 10, column 20 of a picture of height 100.
        ours = torch.tensor([20.5, 10.5])
        for name, wanted in (
            ("deep3d", [20.5, 89.5]), ("deep3d_saved", [20.5, 9.5]), ("focus", [20, 10]),
            ("pixel_index", [20, 10]),
        ):  # fmt: skip
            assert convert_landmarks(ours, 100, "ours", name).tolist() == wanted

    def test_refusals(self):
        with pytest.raises(ValueError, match="unknown convention 'dlib'"):
            convert_landmarks(draw(2), 10, "dlib")
        with pytest.raises(ValueError, match=r"points are \[3\], expected \[..., 2\]"):
            convert_landmarks(draw(3), 10, "ours")
        with pytest.raises(TypeError, match="convert_landmarks: points is a list, expected a"):
            convert_landmarks([0.0, 0.0], 10, "ours")
        with pytest.raises(TypeError, match="convert_landmarks: height is None, expected a number"):
            convert_landmarks(draw(2), None, "deep3d")

    def test_whole_pixels(self):
        found = convert_landmarks(torch.tensor([20, 10]), 100, "pixel_index")
        assert found.tolist() == [20.5, 10.5]
