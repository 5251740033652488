"""A face model of two levels: its code, its base level, its modes' symmetry, the model that joins both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.correctives import (
    ALBEDO_UNIT,
    SHAPE_UNIT,
    CorrectedFaceModel,
    spaced_vertices,
)
from mofa_nvdr.face.mirror import mirror_signs
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.system.budget import MOST_MODES
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import symmetric_face

BASE = small_face(12)


@pytest.fixture
def model() -> CorrectedFaceModel:
    return CorrectedFaceModel(BASE, 3, 6, seed=1)


def random_code(layout: CodeLayout, count: int = 2, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return layout.unpack(0.3 * torch.randn(count, layout.size, generator=generator))


class TestLevels:
    def test_layout(self, model):
        assert model.base_layout == BASE.layout == CodeLayout(4, 3, 5)
        assert model.layout == CodeLayout(7, 3, 11)
        assert model.hash == BASE.hash and model.base is BASE

    def test_is_the_base_where_correctives_are_zero(self, model):
        code = random_code(BASE.layout)
        both = model.layout.zeros(2).replace(expression=code.expression)
        both.shape[:, :4], both.albedo[:, :5] = code.shape, code.albedo
        torch.testing.assert_close(
            model.vertices(both.shape, both.expression),
            BASE.vertices(code.shape, code.expression),
        )
        torch.testing.assert_close(model.albedo(both.albedo), BASE.albedo(code.albedo))
        lower = model.base_code(both)
        assert lower.shape.equal(code.shape) and lower.albedo.equal(code.albedo)
        assert model.base_code(code).shape.equal(code.shape)

    def test_by_hand(self, model):
        """One coefficient moves all vertices by its mode in mm, another paints."""
        code = model.layout.zeros(1)
        code.shape[0, 5], code.albedo[0, 7] = 2.0, -3.0
        moved = model.vertices(code.shape, code.expression)[0] - BASE.mean_shape
        torch.testing.assert_close(
            moved, 2 * SHAPE_UNIT * model.shape_correctives[1], atol=2e-5, rtol=1e-4
        )
        painted = model.albedo(code.albedo)[0] - BASE.mean_albedo
        torch.testing.assert_close(
            painted, -3 * ALBEDO_UNIT * model.albedo_correctives[2], atol=1e-6, rtol=1e-4
        )

    def test_some_vertices(self, model):
        code, index = random_code(model.layout), torch.tensor([3, 80, 3])
        torch.testing.assert_close(
            model.vertices(code.shape, code.expression, index),
            model.vertices(code.shape, code.expression)[:, index],
        )
        torch.testing.assert_close(
            model.albedo(code.albedo, index), model.albedo(code.albedo)[:, index]
        )

    def test_both_levels(self, model):
        code = random_code(model.layout)
        levels, lower = model.both_levels(code), model.base_code(code)
        for (vertices, albedo), (face, part) in zip(
            levels.values(), ((BASE, lower), (model, code)), strict=True
        ):
            torch.testing.assert_close(vertices, face.vertices(part.shape, part.expression))
            torch.testing.assert_close(albedo, face.albedo(part.albedo))
        assert list(levels) == ["base", "final"]

    def test_decodes_and_learns(self, model):
        """Through a decoder of its own, by the picture; what stays has no gradient."""
        code = random_code(model.layout).map(lambda part: part.requires_grad_())
        face = FaceDecoder(model, 64)(code)
        face.image.square().sum().backward()
        for name, learned in model.named_parameters():
            assert learned.grad is not None and learned.grad.abs().max() > 0, name
        assert code.shape.grad[:, 4:].abs().max() > 0
        assert all(not buffer.requires_grad for buffer in model.buffers())

    def test_gradients_are_those_of_plain_torch(self, model):
        code = random_code(model.layout)
        model.vertices(code.shape, code.expression).sin().sum().backward()
        fast = model.shape_correctives.grad.clone()
        model.double().zero_grad()
        wide = code.map(lambda part: part.double())
        model.vertices(wide.shape, wide.expression).sin().sum().backward()
        torch.testing.assert_close(
            fast.double(), model.shape_correctives.grad, atol=1e-3, rtol=1e-3
        )

    def test_too_many_modes(self):
        with pytest.raises(ValueError, match=f"{MOST_MODES + 4} modes of shape, expected at most"):
            CorrectedFaceModel(BASE, MOST_MODES, 0)


class TestModes:
    def test_length_and_seed(self, model):
        for modes in (model.shape_correctives, model.albedo_correctives):
            length = modes.detach().square().sum(2).mean(1).sqrt()
            torch.testing.assert_close(length, torch.ones(len(modes)), atol=1e-4, rtol=1e-4)
        same, other = (CorrectedFaceModel(BASE, 3, 6, seed=seed) for seed in (1, 2))
        assert same.shape_correctives.equal(model.shape_correctives)
        assert not other.shape_correctives.equal(model.shape_correctives)

    def test_each_is_its_mirror_image_or_the_negative(self, model):
        """At first, and after steps whose gradients are of one side alone."""
        across = torch.tensor([-1.0, 1.0, 1.0])
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        before = model.shape_correctives.detach().clone()
        for _ in range(3):
            optimizer.zero_grad()
            left = torch.linspace(0, 1, 144)[:, None]
            (model.shape_correctives * left).sum().backward()
            optimizer.step()
        for modes in (before, model.shape_correctives.detach()):
            image = modes[:, model.mirror_index] * across
            signs = torch.tensor([1.0, 1.0, -1.0])[:, None, None]
            torch.testing.assert_close(image, signs * modes, atol=1e-6, rtol=0)
        assert (model.shape_correctives - before).abs().max() > 0.05

    def test_where_the_other_side_is_unknown(self):
        """A mirror that is no mirror: modes are free."""
        arrays = {name: value.numpy() for name, value in BASE.named_buffers()}
        arrays["mirror_index"] = np.roll(arrays["mirror_index"], 1)
        free = CorrectedFaceModel(FaceModel(arrays), 3, 0)
        grad = torch.randn(3, 144, 3)
        (free.shape_correctives * grad).sum().backward()
        assert free.shape_correctives.grad.equal(grad)

    def test_the_state_is_what_is_learned(self, model):
        assert set(model.state_dict()) == {
            "shape_correctives", "albedo_correctives", "moments", "batches",
        }  # fmt: skip
        other = CorrectedFaceModel(BASE, 3, 6, seed=9)
        other.load_state_dict(model.state_dict())
        assert other.shape_correctives.equal(model.shape_correctives)


class TestJoined:
    def test_codes_go_over(self, model):
        """A code less the mean, in deviations, is the same face in the joined model."""
        with torch.no_grad():
            model.albedo_correctives.mul_(1.7)
        draws = random_code(model.layout, 400)
        shifted = draws.replace(shape=3 * draws.shape + 0.5, albedo=draws.albedo - 0.2)
        model.observe(shifted)
        mean, deviation = model.coefficient_range
        # Two of geometry are even, the third is odd, and has no mean.
        torch.testing.assert_close(
            mean[:3], torch.tensor([0.5, 0.5, 0.0]), atol=0.15, rtol=0
        )  # 400 draws
        torch.testing.assert_close(deviation[:2], torch.full((2,), 0.9), atol=0.1, rtol=0)
        joined = model.joined({"name": "both", "licence": "own work"})
        assert joined.layout == model.layout and joined.metadata["licence"] == "own work"
        code = random_code(model.layout)
        over = code.replace(
            shape=torch.cat([code.shape[:, :4], (code.shape[:, 4:] - mean[:3]) / deviation[:3]], 1),
            albedo=torch.cat(
                [code.albedo[:, :5], (code.albedo[:, 5:] - mean[3:]) / deviation[3:]], 1
            ),
        )
        torch.testing.assert_close(
            joined.vertices(over.shape, over.expression),
            model.vertices(code.shape, code.expression),
            atol=1e-4, rtol=1e-5,
        )  # fmt: skip
        torch.testing.assert_close(
            joined.albedo(over.albedo), model.albedo(code.albedo), atol=1e-5, rtol=1e-5
        )

    def test_moments_forget(self, model):
        zeros = model.layout.zeros(4)
        model.observe(zeros.replace(shape=zeros.shape + 1))
        assert model.moments[0, :3].tolist() == [1, 1, 1] and int(model.batches) == 1
        model.observe(zeros)
        torch.testing.assert_close(model.moments[0, :3], torch.full((3,), 0.5))

    def test_symmetric_modes_stay_so(self):
        """The joined model still knows its mirror image."""
        base = symmetric_face()
        assert mirror_signs(base) is not None
        joined = CorrectedFaceModel(base, 4, 3).joined()
        signs = mirror_signs(joined)
        assert signs is not None
        place = joined.layout.slices["shape"]
        assert signs[place][-4:].tolist() == [1, 1, -1, 1]

    def test_survives_a_file(self, model, tmp_path):
        joined = model.joined()
        joined.save(tmp_path / "m.safetensors")
        assert FaceModel.load(tmp_path / "m.safetensors").hash == joined.hash != BASE.hash


class TestVertices:
    @pytest.mark.parametrize("count", [20, 144, 9999])
    def test_spaced_with_their_mirror_images(self, count):
        some = spaced_vertices(BASE, count)
        assert set(BASE.mirror_index[some].tolist()) == set(some.tolist())
        assert len(some) <= 144 and (count < 144 or len(some) > 100)
