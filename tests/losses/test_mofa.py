"""The loss layer: closed-form values, what does not count, and gradients against finite differences."""

import math

import pytest
import torch

from mofa_nvdr import dr as default_dr
from mofa_nvdr.dr import reference
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.landmarks import PAPER_46
from mofa_nvdr.losses.color_distance import color_distance
from mofa_nvdr.losses.mofa import (
    batch_pose_prior,
    landmark_alignment,
    landmark_error,
    photometric_raster,
    photometric_vertex,
    statistical_regularizer,
)
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.shaders.gbuffer import GBuffer
from tests.helpers.small_face import small_face


def _rendering(image: torch.Tensor, mask: torch.Tensor) -> Rendering:
    empty = torch.zeros_like(image)
    ids = torch.zeros(mask[:, 0].shape, dtype=torch.long)
    return Rendering(image, mask, lambda: GBuffer(empty, empty, empty, mask, ids))


def smooth_photo(size: int, batch: int = 1) -> torch.Tensor:
    """A smooth picture without symmetry, [B, 3, size, size] in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    x, y = (x + 0.5) / size, (y + 0.5) / size
    channels = [
        0.5 + 0.3 * torch.sin(5 * x + 2 * y + 1.0),
        0.4 + 0.3 * torch.sin(2 * x - 6 * y),
        0.5 + 0.25 * torch.cos(4 * x * y + 3 * x),
    ]
    return torch.stack(channels)[None].expand(batch, -1, -1, -1).contiguous()


class TestPhotometricRaster:
    def test_mean_distance_over_the_mask(self):
        image = torch.zeros(1, 3, 2, 2)
        photo = torch.zeros(1, 3, 2, 2)
        photo[0, :, 0, 0] = torch.tensor([0.2, 0.3, 0.6])  # distance 0.7
        photo[0, :, 1, 1] = 1.0  # not in the mask
        mask = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
        # 1e-4: the floor inside the square root
        value = photometric_raster(_rendering(image, mask), photo)
        torch.testing.assert_close(value, torch.tensor([0.35]), atol=1e-4, rtol=0)

    def test_weights_of_pixels(self):
        """A weighted mean: distances 0.7 and 0.3, of weights 1 and 0.5, and 0.9 off the mask."""
        image, photo = torch.zeros(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 3, 2, 2)
        photo[0, 0] = torch.tensor([[0.7, 0.3], [0.9, 0.0]])
        mask = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
        weight = torch.tensor([[[[1.0, 0.5], [1.0, 1.0]]]], requires_grad=True)
        value = photometric_raster(_rendering(image, mask), photo, weight=weight)
        torch.testing.assert_close(value, torch.tensor([0.85 / 1.5]), atol=1e-4, rtol=0)
        value.sum().backward()
        gradient = image.grad[0, 0].flatten()
        assert weight.grad is None and gradient[2] == 0
        torch.testing.assert_close(
            gradient[:2], torch.tensor([-1 / 1.5, -0.5 / 1.5]), atol=1e-4, rtol=0
        )

    def test_pixels_without_photograph_do_not_count(self):
        image = torch.zeros(2, 3, 2, 2, requires_grad=True)
        photo = torch.full((2, 3, 2, 2), 0.1)
        photo[:, 0, 0, 0] = float("nan")
        photo[1] = float("nan")  # nothing of the second photograph exists
        valid = torch.ones(2, 1, 2, 2, dtype=torch.bool)
        valid[0, 0, 1] = False
        value = photometric_raster(_rendering(image, torch.ones(2, 1, 2, 2)), photo, valid)
        expected = torch.tensor([0.1 * math.sqrt(3), 0.0])
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)
        value.sum().backward()
        assert image.grad.isfinite().all()
        assert image.grad[0, :, 0, 1].abs().sum() > 0  # the one pixel that counts
        assert image.grad.abs().sum() == image.grad[0, :, 0, 1].abs().sum()

    def test_all_gradients_have_one_value(self):
        model = small_face(16)
        code = 0.3 * torch.randn(2, model.layout.size, generator=torch.Generator().manual_seed(1))
        code[:, model.layout.slices["translation"]] *= 10
        photo = smooth_photo(64, 2)
        values = [
            photometric_raster(
                FaceDecoder(model, 64, gradient=gradient, outline=outline)(code), photo
            )
            for gradient, outline in (
                ("rendering", "none"),
                ("surface", "none"),
                ("rendering", "edges"),
            )
        ]
        for value in values[1:]:
            torch.testing.assert_close(value, values[0], atol=1e-5, rtol=0)

    def test_wrong_size(self):
        rendering = _rendering(torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4))
        with pytest.raises(ValueError, match=r"photo is \[1, 3, 5, 5\], expected \[1, 3, 4, 4\]"):
            photometric_raster(rendering, torch.zeros(1, 3, 5, 5))
        with pytest.raises(ValueError, match=r"valid is \[1, 4, 4\], expected \[1, 1, 4, 4\]"):
            photometric_raster(rendering, torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 4))


# What is moved in the checks of the image-level gradients: a part of the code, its entry, and the step of
# the finite difference (it moves the outline by about a pixel, so that counting pixels is smooth).
MOTIONS = {
    "translation x": ("translation", 0, 1.0),
    "translation y": ("translation", 1, 1.0),
    "scale": ("translation", 2, 10.0),  # along the viewing axis: the projected size changes
    "pitch": ("rotation", 0, 0.02),
    "yaw": ("rotation", 1, 0.02),
    "roll": ("rotation", 2, 0.02),
    "shape 0": ("shape", 0, 0.25),
    "shape 1": ("shape", 1, 0.25),
}


class TestImageLevelGradients:
    """Both backward formulas of raster mode are the derivative of the image-level loss."""

    @staticmethod
    def _setup(size, gradient, dtype=torch.float32, dr=default_dr, rows=24):
        model = small_face(rows).to(dtype)
        camera = Camera(size, position=(0.0, 0.0, -1000.0))  # the whole outline is in the picture
        decoder = FaceDecoder(model, camera=camera, gradient=gradient, dr=dr)
        generator = torch.Generator().manual_seed(4)
        code = 0.3 * torch.randn(1, model.layout.size, generator=generator)
        where = model.layout.slices
        code[:, where["rotation"]] = torch.tensor([0.1, -0.15, 0.05])
        code[:, where["translation"]] = torch.tensor([3.0, -2.0, 20.0])
        code[:, where["light"]] *= 0.2
        return decoder, code.to(dtype), smooth_photo(size).to(dtype)

    @pytest.mark.parametrize("motion", MOTIONS)
    def test_rendering_is_exact_away_from_the_outline(self, motion):
        """Over pixels that stay covered; float64, tiny step, large triangles.

        Pixels within 1/32 px of an edge belong to the snapped neighbour and hold clamped barycentrics,
        whose derivative nvdiffrast passes straight through: the fewer edges, the smaller that share.
        Measured: worst relative difference 6e-7 (AMD Zen 4).
        """
        decoder, code, photo = self._setup(48, "rendering", torch.float64, reference, rows=6)
        part, entry, _ = MOTIONS[motion]
        index = decoder.model.layout.slices[part].start + entry
        inside = torch.zeros(1, 1, 48, 48, dtype=torch.bool)
        inside[..., 17:31, 18:30] = True
        assert decoder(code).mask[inside].all()

        def loss(x):
            return photometric_raster(decoder(x), photo, inside).sum()

        step = 1e-6
        ahead, behind = code.clone(), code.clone()
        ahead[0, index] += step
        behind[0, index] -= step
        numeric = (loss(ahead) - loss(behind)) / (2 * step)
        code.requires_grad_()
        (analytic,) = torch.autograd.grad(loss(code), code)
        assert abs(numeric) > 1e-6
        torch.testing.assert_close(analytic[0, index], numeric.detach(), rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize("motion", MOTIONS)
    def test_surface_is_the_derivative_of_the_moving_mean(self, motion):
        """With the outline moving: the whole face over the photograph, 400 px, float32.

        The finite difference counts whole pixels at the outline. Measured: 0.1 to 4.1 % (AMD Zen 4).
        """
        decoder, code, photo = self._setup(400, "surface")
        part, entry, step = MOTIONS[motion]
        index = decoder.model.layout.slices[part].start + entry

        def loss(x):
            return photometric_raster(decoder(x), photo).sum()

        with torch.no_grad():
            values = []
            for k in (-1.0, -0.5, 0.5, 1.0):
                moved = code.clone()
                moved[0, index] += k * step
                values.append(loss(moved).item())
        numeric = (values[3] - values[0] + values[2] - values[1]) / (3 * step)
        code.requires_grad_()
        (analytic,) = torch.autograd.grad(loss(code), code)
        assert analytic[0, index].item() == pytest.approx(numeric, rel=0.06)

    @pytest.mark.parametrize("motion", MOTIONS)
    def test_outline_completes_rendering(self, motion):
        """The same moving mean as above, from the interior and the outline.

        Measured: 0.1 to 4.0 % (AMD Zen 5).
        """
        decoder, code, photo = self._setup(400, "rendering")
        decoder.renderer.outline = "edges"
        part, entry, step = MOTIONS[motion]
        index = decoder.model.layout.slices[part].start + entry
        values = []
        with torch.no_grad():
            for k in (-1.0, -0.5, 0.5, 1.0):
                moved = code.clone()
                moved[0, index] += k * step
                values.append(photometric_raster(decoder(moved), photo).sum().item())
        numeric = (values[3] - values[0] + values[2] - values[1]) / (3 * step)
        code.requires_grad_()
        loss = photometric_raster(decoder(code), photo).sum()
        (analytic,) = torch.autograd.grad(loss, code)
        assert analytic[0, index].item() == pytest.approx(numeric, rel=0.06)

    def test_rendering_misses_the_outline(self):
        """Why there are two formulas: for a shift, `rendering` is off by the outline's part."""
        gradients = {}
        for gradient in ("rendering", "surface"):
            decoder, code, photo = self._setup(200, gradient)
            code.requires_grad_()
            (g,) = torch.autograd.grad(photometric_raster(decoder(code), photo).sum(), code)
            gradients[gradient] = g[0, decoder.model.layout.slices["translation"]][:2]
        difference = (gradients["rendering"] - gradients["surface"]).norm()
        assert difference > 0.2 * gradients["surface"].norm()


class TestPhotometricVertex:
    def test_mean_over_front_facing_vertices(self):
        photo = torch.zeros(1, 3, 4, 4)
        photo[..., 2] = 1.0  # white third column
        positions = torch.tensor([[[2.5, 1.0], [2.0, 2.0], [0.5, 0.5], [2.5, 2.5]]])
        colors = torch.zeros(1, 4, 3)
        facing = torch.tensor([[True, True, True, False]])
        # bilinear: 1 in the column's centre, 1/2 between columns, 0 elsewhere; the last one looks away
        value = photometric_vertex(positions, colors, facing, photo)
        expected = torch.tensor([math.sqrt(3) * 1.5 / 3])
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)

    def test_outside_and_missing_pixels_do_not_count(self):
        photo = torch.full((2, 3, 4, 4), 0.5)
        photo[:, :, 3] = float("nan")
        positions = torch.tensor(
            [[2.0, 1.0], [-1.0, 2.0], [2.0, 3.4], [math.nan, 1.0], [1e30, 0.0]]
        )
        positions = positions.expand(2, -1, -1).clone().requires_grad_()
        colors = torch.zeros(2, 5, 3, requires_grad=True)
        facing = torch.ones(2, 5, dtype=torch.bool)
        facing[1] = False  # nothing counts in the second image
        value = photometric_vertex(positions, colors, facing, photo)
        expected = torch.tensor([0.5 * math.sqrt(3), 0.0])
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)
        value.sum().backward()
        assert colors.grad.isfinite().all()
        assert positions.grad.isfinite().all()
        assert colors.grad[0, 0].abs().sum() > 0
        assert colors.grad[0, 1:].abs().sum() == 0

    def test_gradcheck(self):
        photo = smooth_photo(8).double()
        generator = torch.Generator().manual_seed(0)
        positions = (1 + 6 * torch.rand(1, 5, 2, generator=generator)).double().requires_grad_()
        colors = torch.rand(1, 5, 3, generator=generator).double().requires_grad_()
        facing = torch.tensor([[True, True, False, True, True]])
        assert torch.autograd.gradcheck(
            lambda p, c: photometric_vertex(p, c, facing, photo), (positions, colors)
        )

    def test_wrong_photo(self):
        with pytest.raises(
            ValueError, match=r"photo is \[2, 3, 4, 4\], expected \[B, 3, H, W\] with B = 1"
        ):
            photometric_vertex(
                torch.zeros(1, 5, 2),
                torch.zeros(1, 5, 3),
                torch.ones(1, 5),
                torch.zeros(2, 3, 4, 4),
            )


class TestLandmarks:
    def test_eq_9_by_hand(self):
        projected = torch.zeros(1, 68, 2)
        target = torch.zeros(1, 68, 2)
        confidence = torch.ones(1, 68)
        target[0, 30] = torch.tensor([3.0, 4.0])  # nose tip: 25 px^2
        target[0, 36] = torch.tensor([0.0, 2.0])  # eye corner: 4 px^2, half confident
        confidence[0, 36] = 0.5
        target[0, 0] = 100.0  # the jaw is not one of the 46
        assert len(PAPER_46) == 46
        value = landmark_alignment(projected, target, confidence, unit=2.0)
        torch.testing.assert_close(value, torch.tensor([27 / 4]))
        torch.testing.assert_close(landmark_error(projected, target), torch.tensor([7 / 46]))

    def test_missing_landmarks(self):
        projected = torch.zeros(2, 68, 2, requires_grad=True)
        target = torch.full((2, 68, 2), math.nan)
        target[0] = 1.0
        value = landmark_alignment(projected, target, torch.ones(2, 68), unit=1.0)
        torch.testing.assert_close(value, torch.tensor([92.0, 0.0]))
        value.sum().backward()
        assert projected.grad.isfinite().all()
        assert projected.grad[1].abs().sum() == 0
        error = landmark_error(projected, target)
        assert error[0].item() == pytest.approx(math.sqrt(2))
        assert error[1].isnan()


class TestTotal:
    def test_regularizer_eq_10(self):
        code = (
            CodeLayout(2, 2, 2)
            .zeros()
            .replace(
                shape=torch.tensor([[1.0, 2.0]]),
                albedo=torch.tensor([[3.0, 0.0]]),
                expression=torch.tensor([[0.0, 2.0]]),
            )
        )
        torch.testing.assert_close(
            statistical_regularizer(code, 1.7e-3, 0.8), torch.tensor([5 + 1.7e-3 * 9 + 0.8 * 4])
        )

    def test_pose_prior_leaves_each_image_free(self):
        code = CodeLayout(1, 1, 1).zeros(2)
        spread = code.replace(rotation=torch.tensor([[0.0, 0.4, 0.0], [0.0, -0.4, 0.0]]))
        assert batch_pose_prior(spread) == 0
        common = code.replace(translation=torch.tensor([[10.0, 0.0, 60.0]]).expand(2, 3))
        assert batch_pose_prior(common) == 2

    def test_color_distance_has_a_gradient_at_zero(self):
        a = torch.zeros(1, 3, requires_grad=True)
        color_distance(a, torch.zeros(1, 3), dim=1).sum().backward()
        assert a.grad.abs().sum() == 0
