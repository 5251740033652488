"""The compiled colour distances against their plain twins, what does not count, and the same bits always."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from mofa_nvdr.losses.color_distance import (
    mean_over_mask,
    mean_over_mask_ref,
    mean_over_surface,
    mean_over_vertices,
    mean_over_vertices_ref,
)
from mofa_nvdr.render.surface_motion import SurfaceMotion
from tests.helpers.clip_matrices import centred_pinhole
from tests.render.test_surface_motion import FLOOR, NEAR, scene

BATCH, HEIGHT, WIDTH, VERTICES = 3, 17, 23, 300


def pictures(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A rendering over 70 % of the pixels and a photograph with holes, an infinity and a border."""
    generator = torch.Generator().manual_seed(0)

    def uniform(channels: int) -> Tensor:
        return torch.rand(BATCH, channels, HEIGHT, WIDTH, generator=generator, dtype=dtype)

    photo = uniform(3)
    photo[0, 1, 2:5, 7] = torch.nan
    photo[1, 0, 9, 0] = torch.inf
    mask = (uniform(1) > 0.3).to(dtype)
    mask[:, :, 4] = 0.5  # weights between 0 and 1 count as weights
    mask[2] = 0  # nothing is drawn
    valid = torch.ones(BATCH, 1, HEIGHT, WIDTH, dtype=torch.bool)
    valid[1, :, :, 15:] = False
    return {
        "image": uniform(3), "photo": photo, "mask": mask, "valid": valid,
        "position": uniform(2) * 9, "log_area": uniform(1),
    }  # fmt: skip


def points(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Vertices over and beyond the photograph, on its rim and at no number, half of them counted."""
    generator = torch.Generator().manual_seed(1)
    positions = torch.rand(BATCH, VERTICES, 2, generator=generator, dtype=dtype)
    positions = positions * torch.tensor([WIDTH + 6, HEIGHT + 6]) - 3
    positions[0, :6] = torch.tensor(
        [[0, 0], [WIDTH, HEIGHT], [0.2, 3], [WIDTH - 0.2, 3], [torch.nan, 1], [5, torch.inf]]
    )
    colors = torch.rand(BATCH, VERTICES, 3, generator=generator, dtype=dtype)
    counted = torch.rand(BATCH, VERTICES, generator=generator) > 0.5
    counted[0, :6] = True
    counted[2] = False
    own = pictures(dtype)
    return {
        "positions": positions, "colors": colors, "counted": counted,
        "photo": own["photo"], "valid": own["valid"],
    }  # fmt: skip


def step(function, inputs: dict, wanted: tuple[str, ...], device="cpu") -> list[Tensor]:
    """The means, and the gradients of the wanted inputs under different weights for the images."""
    inputs = {name: None if t is None else t.to(device) for name, t in inputs.items()}
    for name in wanted:
        inputs[name] = inputs[name].clone().requires_grad_()
    means = function(**inputs)
    (means * torch.tensor([1.0, -2.0, 3.0]).to(means)).sum().backward()
    return [means.detach(), *(inputs[name].grad for name in wanted)]


def assert_same(one: list[Tensor], two: list[Tensor]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, atol=1e-6, rtol=2e-5)


class TestMeanOverMask:
    @pytest.mark.parametrize("with_valid", [True, False])
    @pytest.mark.parametrize("moving", [True, False])
    def test_is_its_twin(self, device, with_valid, moving):
        inputs = pictures()
        if not with_valid:
            inputs["valid"] = None
        if not moving:
            inputs["position"] = inputs["log_area"] = None
        wanted = ("image", "position", "log_area") if moving else ("image",)
        one = step(mean_over_mask, inputs, wanted, device)
        assert_same(one, step(mean_over_mask_ref, inputs, wanted, device))
        assert one[0][2] == 0 and (one[1][2] == 0).all()

    def test_by_hand(self):
        """Two of four pixels count, with distances 5 and 13; the gradient is the unit vector halved."""
        image = torch.zeros(1, 3, 2, 2)
        image[0, :2, 0, 0] = torch.tensor([3.0, 4.0])
        image[0, :2, 0, 1] = torch.tensor([5.0, 12.0])
        photo = torch.zeros(1, 3, 2, 2)
        photo[0, 0, 1, 0] = torch.nan
        mask = torch.tensor([[[[1.0, 1], [1, 0]]]])
        image.requires_grad_()
        mean = mean_over_mask(image, photo, mask)
        mean.backward()
        assert mean.item() == pytest.approx(9)
        assert image.grad[0, :, 0, 0].tolist() == pytest.approx([0.3, 0.4, 0])
        assert (image.grad[0, :, 1] == 0).all()

    @pytest.mark.parametrize("mean", [mean_over_mask, mean_over_mask_ref])
    def test_weights_by_hand(self, mean):
        """Distances 5 and 13 of weights 1 and 0.5: a mean of 23 / 3; an area pulls by w (f - mean f)."""
        image, photo = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
        image[0, 0, 0] = torch.tensor([5.0, 13.0])
        area = torch.zeros(1, 1, 1, 2, requires_grad=True)
        mask = torch.tensor([[[[1.0, 0.5]]]])
        value = mean(image, photo, mask, None, torch.zeros(1, 2, 1, 2), area)
        value.sum().backward()
        assert value.item() == pytest.approx(23 / 3)
        expected = [(5 - 23 / 3) / 1.5, 0.5 * (13 - 23 / 3) / 1.5]
        assert area.grad.flatten().tolist() == pytest.approx(expected)

    def test_twin_gradcheck(self):
        inputs = pictures(torch.float64)
        inputs["position"] = inputs["log_area"] = None
        image = inputs.pop("image")[..., :4].requires_grad_()
        rest = {k: None if t is None else t[..., :4] for k, t in inputs.items()}
        assert gradcheck(lambda image: mean_over_mask_ref(image, **rest), image)

    def test_a_photograph_that_is_learned(self):
        inputs = pictures()
        inputs["photo"] = torch.rand(BATCH, 3, HEIGHT, WIDTH)
        gradient = step(mean_over_mask, inputs, ("photo",))[1]
        assert gradient.abs().sum() > 0

    def test_image_changed_in_place_is_an_error(self):
        inputs = pictures()
        leaf = inputs["image"].requires_grad_()
        inputs["image"] = leaf * 1
        mean = mean_over_mask(**inputs).sum()
        inputs["image"].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            mean.backward()


class TestMeanOverVertices:
    @pytest.mark.parametrize("with_valid", [True, False])
    def test_is_its_twin(self, device, with_valid):
        inputs = points()
        if not with_valid:
            inputs["valid"] = None
        wanted = ("positions", "colors")
        one = step(mean_over_vertices, inputs, wanted, device)
        assert_same(one, step(mean_over_vertices_ref, inputs, wanted, device))
        assert one[0][2] == 0

    def test_by_hand(self):
        """A photograph that is x to the right: midway between two centres it is their mean."""
        photo = torch.arange(4.0).expand(1, 3, 2, 4)
        positions = torch.tensor([[[2.0, 1.0], [9.0, 1.0]]], requires_grad=True)
        colors = torch.zeros(1, 2, 3, requires_grad=True)
        mean = mean_over_vertices(positions, colors, torch.ones(1, 2, dtype=torch.bool), photo)
        mean.backward()
        assert mean.item() == pytest.approx(1.5 * 3**0.5)  # the second one lies outside
        assert positions.grad[0].tolist() == [[pytest.approx(3**0.5), 0], [0, 0]]
        assert colors.grad[0, 0].tolist() == pytest.approx([-(3**-0.5)] * 3)


# Clip space is (sx x, sy y, sz z + tz, -z); the motion of surface points does not ask for its z.
MATRIX = centred_pinhole(0.5, 2.0, 1.0, 0.0)


def to_clip(vertices: Tensor) -> Tensor:
    x, y, z = vertices.unbind(-1)
    return torch.stack([0.5 * x, 2 * y, z, -z], dim=-1)


def to_camera(pos: Tensor) -> Tensor:
    return torch.stack([2 * pos[..., 0], 0.5 * pos[..., 1], -pos[..., 3]], dim=-1)


class TestMeanOverSurface:
    """Pictures of the moving grid of test_surface_motion."""

    def inputs(self, with_valid: bool = True) -> tuple[dict, Tensor, Tensor, Tensor]:
        pos, triangles, rast = scene()
        own = pictures()
        size = (own["image"].shape[0], 11, 90)
        generator = torch.Generator().manual_seed(2)
        image, photo = (torch.rand(size[0], 3, *size[1:], generator=generator) for _ in range(2))
        photo[0, 1, 2:5, 7] = torch.nan
        mask = (rast.flip(1)[..., 3] > 0).float()[:, None]
        valid = torch.rand(size[0], 1, *size[1:], generator=generator) > 0.2 if with_valid else None
        return {"image": image, "photo": photo, "mask": mask, "valid": valid}, pos, triangles, rast

    def step(self, function, given: dict, pos, triangles, rast) -> list[Tensor]:
        image, leaf = given["image"].clone().requires_grad_(), to_camera(pos).requires_grad_()
        motion = SurfaceMotion(leaf, to_clip, MATRIX, triangles, rast, NEAR, FLOOR)
        means = function(image, given["photo"], given["mask"], given["valid"], motion)
        weights = torch.arange(1.0, 1 + len(means)).to(means)
        (means * weights).sum().backward()
        return [means.detach(), image.grad, leaf.grad]

    @staticmethod
    def by_planes(image, photo, mask, valid, motion) -> Tensor:
        return mean_over_mask(image, photo, mask, valid, *motion.planes())

    @pytest.mark.parametrize("with_valid", [True, False])
    def test_is_the_mean_with_the_planes_made(self, device, with_valid):
        given, *mesh = self.inputs(with_valid)
        given = {name: None if t is None else t.to(device) for name, t in given.items()}
        mesh = [t.to(device) for t in mesh]
        one, two = (self.step(f, given, *mesh) for f in (mean_over_surface, self.by_planes))
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
        assert one[2].abs().max() > 0
        # Bands of odd heights end elsewhere when they are turned over: other orders of the same sums.
        torch.testing.assert_close(one[2], two[2], atol=1e-6, rtol=1e-5)

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 3, 5):
                torch.set_num_threads(num_threads)
                given, *mesh = self.inputs()
                results.append(self.step(mean_over_surface, given, *mesh))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))

    def test_a_change_in_place_is_an_error(self):
        given, pos, triangles, rast = self.inputs()
        moved = to_camera(pos).requires_grad_() * 1
        motion = SurfaceMotion(moved, to_clip, MATRIX, triangles, rast, NEAR, FLOOR)
        means = mean_over_surface(*given.values(), motion)
        moved.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            means.sum().backward()


@pytest.mark.parametrize(
    ("function", "make", "wanted"),
    [
        (mean_over_mask, pictures, ("image", "position", "log_area")),
        (mean_over_vertices, points, ("positions", "colors")),
    ],
)
def test_same_bits_for_any_thread_count(function, make, wanted):
    before, results = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 5):
            torch.set_num_threads(num_threads)
            results.append(step(function, make(), wanted))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
