"""Light and albedo in closed form, of rendered faces whose colours are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mofa_nvdr.apply.color_solver import ColorOptions, ColorSolver, color_solver, colors_of
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.fitted_faces import color_distance, known_faces, landmarked_face
from tests.helpers.symmetric_face import symmetric_face

SIZE = 64


@pytest.fixture(scope="module")
def model():
    return landmarked_face()


@pytest.fixture(scope="module")
def decoder(model):
    return FaceDecoder(model, SIZE)


def _without_colors(known, model):
    """The true pose and form, with the average light and albedo."""
    code = model.layout.unpack(known.code)
    prior = model.layout.unpack(known.prior.mean[None].repeat(len(known.code), 1))
    return replace(code, albedo=prior.albedo, light=prior.light)


class TestColorSolver:
    def test_brings_back_the_colours(self, model, decoder):
        known = known_faces(model, count=3)
        start = _without_colors(known, model)
        found = ColorSolver(decoder, ColorOptions(rounds=4))(known.photo, start)
        before = color_distance(known.photo, decoder.rasterize(decoder.geometry(start)))
        after = color_distance(known.photo, decoder.rasterize(decoder.geometry(found)))
        assert (after < 0.3 * before).all() and after.max() < 0.03
        for name in ("shape", "expression", "rotation", "translation"):
            assert getattr(found, name) is getattr(start, name)
        true = model.layout.unpack(known.code)
        albedo, there = (model.albedo(c.albedo) for c in (found, true))
        nothing = model.albedo(start.albedo)
        assert (albedo - there).abs().mean() < 0.6 * (nothing - there).abs().mean()

    @pytest.mark.parametrize(
        ("place", "color"),
        [
            ((slice(26, 38), slice(20, 30)), (0.1, 0.9, 0.1)),
            ((slice(26, 38), slice(20, 30)), (0.02, 0.02, 0.02)),
            ((slice(0, 22), slice(0, 64)), (0.1, 0.9, 0.1)),
        ],
    )
    def test_what_is_in_front_hardly_counts(self, model, decoder, place, color):
        """Something small, green or dark, and something large over the upper part of the face."""
        known = known_faces(model, count=1)
        start, covered = _without_colors(known, model), known.photo.clone()
        covered[:, :, place[0], place[1]] = torch.tensor(color)[:, None, None]
        solve = ColorSolver(decoder)
        clean, robust = (solve(photo, start).albedo for photo in (known.photo, covered))
        trusting = ColorSolver(decoder, ColorOptions(light_rounds=0, rounds=1))(covered, start)
        assert (robust - clean).norm() < 0.5 * (trusting.albedo - clean).norm()

    def test_unknown_pixels_do_not_count(self, model, decoder):
        known = known_faces(model, count=1)
        start, solve = _without_colors(known, model), ColorSolver(decoder)
        black, unknown = known.photo.clone(), known.photo.clone()
        black[..., :30], unknown[..., :30] = 0.0, torch.nan
        clean = solve(known.photo, start)
        found = solve(unknown, start)
        assert found.albedo.isfinite().all() and found.light.isfinite().all()
        away = (found.albedo - clean.albedo).norm()
        assert away < (solve(black, start).albedo - clean.albedo).norm()

    def test_photographs_of_any_size(self, model, decoder):
        known = known_faces(model, count=1)
        start, solve = _without_colors(known, model), ColorSolver(decoder)
        large = torch.nn.functional.interpolate(known.photo, 2 * SIZE, mode="bilinear")
        a, b = solve(known.photo, start), solve(large, start)
        assert (a.albedo - b.albedo).abs().max() < 0.5 and (a.light - b.light).abs().max() < 0.1

    def test_nothing_is_seen(self, model, decoder):
        """Then the prior says what there is."""
        known = known_faces(model, count=1)
        start = _without_colors(known, model)
        found = ColorSolver(decoder, ColorOptions(light=0.0))(known.photo * torch.nan, start)
        prior = model.layout.unpack(known.prior.mean[None])
        torch.testing.assert_close(found.albedo, prior.albedo, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.light, prior.light, atol=1e-4, rtol=0)

    def test_the_prediction_counts_as_said(self, model, decoder):
        known = known_faces(model, count=1)
        start = _without_colors(known, model)
        told = replace(start, albedo=start.albedo + 1.0)
        nothing = known.photo * torch.nan
        found = ColorSolver(decoder, ColorOptions(albedo=0.5))(nothing, told)
        torch.testing.assert_close(found.albedo, start.albedo + 0.5, atol=1e-4, rtol=0)

    def test_a_face_alone_or_among_others(self, model, decoder):
        known = known_faces(model, count=3)
        start, solve = _without_colors(known, model), ColorSolver(decoder)
        whole = solve(known.photo, start)
        alone = solve(known.photo[1:2], start.map(lambda part: part[1:2]))
        torch.testing.assert_close(whole.albedo[1:2], alone.albedo, atol=1e-4, rtol=1e-4)

    def test_regions_that_are_drawn_badly_count_less(self):
        solver = ColorSolver(FaceDecoder(symmetric_face(regions=True), SIZE))
        assert sorted(set(solver._trust.tolist())) == [pytest.approx(1 / 9), 1.0]


class TestColorsOf:
    def test_of_whom_they_are(self, decoder):
        assert color_solver(decoder, "encoder") is None
        assert isinstance(color_solver(decoder, "photograph"), ColorSolver)
        with pytest.raises(
            ValueError, match="--colors is 'x', expected one of encoder, photograph"
        ):
            color_solver(decoder, "x")

    def test_default(self):
        assert colors_of("", "") == "photograph" and colors_of("", "runs/a") == "encoder"
        assert colors_of("photograph", "runs/a") == "photograph"
