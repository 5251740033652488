"""Albedo of rendered faces with a known light, and what is learned of many."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mofa_nvdr.apply.fit_prior import FitPrior, fit_prior
from mofa_nvdr.apply.learn_colors import (
    ColorObserver,
    Seen,
    common_light,
    learn_colors,
    strict_light,
    wide_tone,
)
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.skin import bearded_area
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import sh_basis, total_light
from mofa_nvdr.scene.normals import vertex_normals
from tests.helpers.fitted_faces import KnownFaces, known_faces
from tests.helpers.symmetric_face import changed, smooth_bump, symmetric_face

SIZE = 120
LIGHT = torch.tensor([0.1, 0.2, 0.3, 0, 0, 0.02, -0.05, 0, 0])


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return symmetric_face()


@pytest.fixture(scope="module")
def known(model) -> KnownFaces:
    return known_faces(model, count=3, size=SIZE)


def observe(model: FaceModel, known: KnownFaces, photo: Tensor | None = None) -> Seen:
    visible = torch.ones(len(known.photo), 1, SIZE, SIZE)
    photo = known.photo if photo is None else photo
    return ColorObserver(model, Camera(image_size=SIZE))(photo, known.code, visible)


@pytest.fixture(scope="module")
def strict(model) -> FitPrior:
    return strict_light(fit_prior(model), model, LIGHT)


class TestStrictLight:
    def energy(self, strict, model, change: Tensor) -> float:
        """Half the squared deviations of a light that differs by [9, 3] from the set's."""
        code = strict.mean.clone()
        code[model.layout.slices["light"]] += change.flatten()
        return float(strict.energy(code[None]))

    def shading(self, model) -> tuple[Tensor, float]:
        """What coefficients do to the mean shading of the face, and that shading."""
        normals = vertex_normals(model.mean_shape[None], model.triangles)[0]
        onto = sh_basis(normals[normals[:, 2] > 0.25]).mean(0)
        light = total_light(LIGHT[None, :, None].expand(1, 9, 3))
        return onto, float(onto @ light[0, :, 0])

    def test_its_middle_is_the_set_s_light(self, strict, model):
        light = strict.mean[model.layout.slices["light"]].view(9, 3)
        assert torch.equal(light, LIGHT[:, None].expand(9, 3))
        assert self.energy(strict, model, torch.zeros(9, 3)) == 0

    def test_a_brighter_light(self, strict, model):
        """By 7 % of the mean shading, less what the coefficient itself says."""
        onto, shading = self.shading(model)
        change = torch.zeros(9, 3)
        change[0] = 0.07 * shading / onto[0]
        own = 0.5 * float(change[0, 0] / 0.12) ** 2
        assert self.energy(strict, model, change) - own == pytest.approx(0.5, rel=1e-3)

    def test_a_coloured_light(self, strict, model):
        onto, shading = self.shading(model)
        hue = torch.tensor([1.0, 0.0, -1.0]) / 2**0.5
        change = torch.zeros(9, 3)
        change[0] = 0.04 * shading / onto[0] * hue
        own = 0.5 * float(change[0].norm() / 0.03) ** 2
        assert self.energy(strict, model, change) - own == pytest.approx(0.5, rel=1e-3)

    def test_a_light_from_aside(self, strict, model):
        """It changes no mean shading: each coefficient's own deviation is left."""
        change = torch.zeros(9, 3)
        change[3] = 0.12
        assert self.energy(strict, model, change) == pytest.approx(0.5, rel=1e-3)
        change[3] = 0.03 * torch.tensor([1.0, 0.0, -1.0]) / 2**0.5
        assert self.energy(strict, model, change) == pytest.approx(0.5, rel=1e-3)

    def test_everything_else_stays(self, strict, model):
        before, where = fit_prior(model), model.layout.slices["light"]
        keep = torch.ones(model.layout.size, dtype=torch.bool)
        keep[where] = False
        assert torch.equal(strict.precision[keep][:, keep], before.precision[keep][:, keep])
        assert torch.equal(strict.mean[keep], before.mean[keep])
        assert (strict.precision[keep][:, ~keep] == 0).all()
        torch.linalg.cholesky(strict.precision.double())


class TestWideTone:
    def test_deviations(self, model):
        prior = fit_prior(model)
        wide = wide_tone(prior, model, (0, 2), 3.0)
        first = model.layout.slices["albedo"].start
        change = torch.ones(model.layout.size, model.layout.size)
        for k in (first, first + 2):
            change[k] /= 3
            change[:, k] /= 3
        torch.testing.assert_close(wide.precision, prior.precision * change)
        assert torch.equal(wide.mean, prior.mean)


class TestCommonLight:
    def test_grey_even_and_robust(self, model):
        code = torch.zeros(5, model.layout.size)
        light = code[:, model.layout.slices["light"]].view(5, 9, 3)
        light[:] = LIGHT[:, None] + 0.1 * torch.tensor([1.0, 0.0, -1.0])
        light[:, 3] += 0.5
        light[4] += 9.0  # one odd picture
        found = common_light(model.layout.unpack(code))
        torch.testing.assert_close(found, LIGHT)


class TestColorObserver:
    def test_the_albedo_comes_back(self, model, known):
        seen = observe(model, known)
        truth = model.albedo(known.code[:, model.layout.slices["albedo"]])
        good = seen.weight == 1
        assert 0.3 < good.float().mean() < 0.95
        away = (seen.albedo - truth).abs()[good]
        assert away.mean() < 0.01 and away.quantile(0.95) < 0.04

    def test_hidden_vertices(self, model, known):
        """Those that face away, and those behind other skin."""
        behind = model.mean_shape.clone()
        rows = torch.arange(len(behind)) // 16
        behind[rows == 8] -= torch.tensor([0.0, 0.0, 30.0])
        code = torch.zeros(1, model.layout.size)
        dented = changed(model, mean_shape=behind)
        photo = torch.full((1, 3, SIZE, SIZE), 0.5)
        one = torch.ones(1, 1, SIZE, SIZE)
        observer = ColorObserver(dented, Camera(image_size=SIZE))
        turned = code.clone()
        turned[0, model.layout.slices["rotation"]] = torch.tensor([0.0, 1.2, 0.0])
        seen = observer(photo, turned, one)
        normals = observer.decoder.geometry(turned).normals[0]
        assert (seen.weight[0, normals[:, 2] < 0] == 0).all()
        tilted = code.clone()
        tilted[0, model.layout.slices["rotation"]] = torch.tensor([-0.6, 0.0, 0.0])
        assert observer(photo, tilted, one).weight[0, rows == 8].mean() < 0.5
        assert (observer(photo, code, one).weight[0, rows == 3][3:13] == 1).all()

    def test_unknown_pixels(self, model, known):
        photo = known.photo.clone()
        photo[:, :, : SIZE // 2] = torch.nan
        seen = observe(model, known, photo)
        whole = observe(model, known)
        decoder = ColorObserver(model, Camera(image_size=SIZE)).decoder
        row = decoder.camera.project(decoder.geometry(known.code).vertices)[..., 1]
        assert (seen.weight[row < SIZE / 2 - 1] == 0).all()
        below = row > SIZE / 2 + 1
        assert torch.equal(seen.weight[below], whole.weight[below])
        assert seen.albedo.isfinite().all()
        torch.testing.assert_close(seen.albedo[below], whole.albedo[below])

    def test_what_is_in_front_counts_less(self, model, known):
        visible = torch.full((3, 1, SIZE, SIZE), 0.25)
        seen = ColorObserver(model, Camera(image_size=SIZE))(known.photo, known.code, visible)
        torch.testing.assert_close(seen.weight, observe(model, known).weight / 4)

    @pytest.mark.parametrize(
        ("what", "counts"),
        [("a beard", True), ("a hand at one side", False), ("a mask over the nose too", False)],
    )
    def test_what_hides_the_chin(self, what, counts):
        """A beard is on both sides and not on the nose; anything else stays in front of the face."""
        model = FaceModel.load("procedural")
        observer = ColorObserver(model, Camera(image_size=96))
        code = torch.zeros(1, model.layout.size)
        places = observer.decoder.camera.project(observer.decoder.geometry(code).vertices)[0]
        top = places[model.landmarks[62 if what != "a mask over the nose too" else 29], 1]
        visible = torch.ones(1, 1, 96, 96)
        visible[:, :, int(top) :, 48 if what == "a hand at one side" else 0 :] = 0
        photo = torch.full((1, 3, 96, 96), 0.4)
        whole = observer(photo, code, torch.ones(1, 1, 96, 96)).weight[0]
        weight = observer(photo, code, visible).weight[0]
        chin = (places[:, 1] > places[model.landmarks[57], 1] + 2) & (places[:, 0] > 50)
        chin = (chin & bearded_area(model))[observer.index] & (whole > 0)
        assert chin.sum() > 500
        share = float(weight[chin].sum() / whole[chin].sum())
        assert share > 0.95 if counts else share < 0.05
        lips = model.in_regions("lips")[observer.index] & (whole > 0)
        assert (weight[lips] < whole[lips]).any()  # lips have no beard

    def test_dark_skin_in_the_dark_says_nothing(self, model, known):
        code = known.code.clone()
        code[:, model.layout.slices["light"]] = (
            -0.65 * torch.tensor([1.0] + 8 * [0.0])[:, None].expand(9, 3).flatten()
        )
        one = torch.ones(3, 1, SIZE, SIZE)
        seen = ColorObserver(model, Camera(image_size=SIZE))(known.photo, code, one)
        assert (seen.weight == 0).all()


def people(model: FaceModel, count: int, change: Tensor) -> Seen:
    """Everything of the albedo of people of a model, whose mean differs by [V, 3]."""
    draws = torch.randn(count, len(model.albedo_basis), generator=torch.Generator().manual_seed(2))
    albedo = model.albedo(draws)[:, model.frontal_mask] + change[model.frontal_mask]
    return Seen(albedo, torch.ones(albedo.shape[:2]))


class TestLearnColors:
    def test_mean_and_modes(self, model):
        change = smooth_bump(model, (0.06, 0.03, -0.04))
        mean, modes, level = learn_colors(people(model, 60, change), model, (1, 3), 8)
        assert modes.shape == (8, model.num_vertices, 3)
        assert torch.equal(modes[:2], model.albedo_basis[[1, 3]])
        assert torch.equal(modes[2:7], level.modes[:5])
        wanted = model.mean_albedo + change
        assert (mean - wanted).norm() < 0.35 * change.norm()
        assert level.noise < 0.01
        # All that people differ in is learned: of five modes, two of which stay too.
        truth = model.albedo_basis.flatten(1)
        found = modes[2:].flatten(1)
        covariance = truth.T @ truth
        assert (found.T @ found - covariance).norm() < 0.45 * covariance.norm()

    def test_fewer_people_than_modes(self, model):
        _, modes, level = learn_colors(
            people(model, 3, torch.zeros_like(model.mean_albedo)), model, (), 20
        )
        assert len(modes) == 20 and len(level.modes) < 7
        assert (modes[len(level.modes) :] == 0).all() and (modes[0] != 0).any()

    def test_still_vertices(self, model):
        still = torch.arange(model.num_vertices) % 16 < 3
        still |= still[model.mirror_index]
        change = smooth_bump(model, (0.06, 0.03, -0.04))
        mean, modes, _ = learn_colors(people(model, 20, change), model, (), 4, still)
        torch.testing.assert_close(mean[still], model.mean_albedo[still])
        assert (modes[:, still] == 0).all() and (modes[0, ~still] != 0).any()

    def test_beyond_the_frontal_region(self, model):
        """What few photographs show takes the change of what lies next to it."""
        front = model.mean_shape[:, 1] < 40
        narrow = changed(model, frontal_mask=front)
        change = torch.zeros_like(model.mean_albedo)
        change[:, 0] = 0.1
        mean, modes, level = learn_colors(people(narrow, 30, change), narrow, (), 3)
        shown = (mean - narrow.mean_albedo)[:, 0]
        assert shown[front].min() - 1e-6 <= shown[~front].min()
        assert shown[~front].max() <= shown[front].max() + 1e-6
        assert (
            shown[~front] - 0.1
        ).abs().max() < 0.03  # 6 % are lost where the mean is drawn to zero
        assert level.modes.shape == (3, int(front.sum()), 3)
        assert modes[0, ~front].norm(dim=1).min() > 0

    def test_no_mode_left(self, model):
        with pytest.raises(ValueError, match="count is 0, expected 1 or more"):
            learn_colors(people(model, 3, torch.zeros_like(model.mean_albedo)), model, (0, 1), 2)
