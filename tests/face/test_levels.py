from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.levels import combinations, learn_level, principal_axes, products

PAIRS = 30
MIRROR = torch.arange(2 * PAIRS).view(2, PAIRS).flip(0).flatten()  # vertex k and k + PAIRS
FLIP = (-1.0, 1.0, 1.0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def even_and_odd(modes: torch.Tensor) -> torch.Tensor:
    """The first half of modes [K, V, 3] even, the others odd; all of length sqrt(V)."""
    image = modes[:, MIRROR] * torch.tensor(FLIP)
    half = len(modes) // 2
    parts = torch.cat([(modes + image)[:half], (modes - image)[half:]])
    return parts / parts.flatten(1).norm(dim=1)[:, None, None] * len(MIRROR) ** 0.5


@pytest.fixture(scope="module")
def known():
    """Values [400, V, 3] of people, and the mean and four modes that they come from."""
    modes = (
        even_and_odd(random(4, len(MIRROR), 3)) * torch.tensor([3.0, 2.0, 2.5, 1.5])[:, None, None]
    )
    mean = random(len(MIRROR), 3, seed=1)
    mean = (mean + mean[MIRROR] * torch.tensor(FLIP)) / 2
    people = random(400, 4, seed=2)
    values = mean + torch.einsum("nk,kvd->nvd", people, modes)
    values += 0.05 * random(*values.shape, seed=3)
    return values, mean, modes


def covariance(modes: torch.Tensor) -> torch.Tensor:
    flat = modes.flatten(1)
    return flat.T @ flat


class TestLearnLevel:
    def test_everything_seen(self, known):
        values, _, modes = known
        level = learn_level(values, torch.ones(values.shape[:2]), MIRROR, 4, across=FLIP)
        truth = covariance(modes)
        away = covariance(level.modes) - truth
        assert away.norm() / truth.norm() < 0.15  # 400 people and their images: 5 % a deviation
        both = (values.mean(0) + values.mean(0)[MIRROR] * torch.tensor(FLIP)) / 2
        torch.testing.assert_close(level.mean, both * 800 / 803, atol=1e-4, rtol=1e-4)
        assert 0.04 < level.noise < 0.06

    def test_half_of_it_seen(self, known):
        """What was never measured of a person doesn't count: it is not a number."""
        values, mean, modes = known
        seen = (random(*values.shape[:2], seed=4) > 0).float()
        hidden = values.where(seen[..., None] > 0, torch.nan)
        level = learn_level(hidden, seen, MIRROR, 4, across=FLIP, rounds=20)
        truth = covariance(modes)
        assert (covariance(level.modes) - truth).norm() / truth.norm() < 0.2
        assert (level.mean - mean).square().mean().sqrt() < 0.3
        assert level.modes.isfinite().all()

    def test_modes_are_even_or_odd(self, known):
        values, _, _ = known
        level = learn_level(values[:50], torch.ones(50, len(MIRROR)), MIRROR, 4, across=FLIP)
        image = level.modes[:, MIRROR] * torch.tensor(FLIP)
        same = (image - level.modes).flatten(1).norm(dim=1)
        opposite = (image + level.modes).flatten(1).norm(dim=1)
        assert (torch.minimum(same, opposite) < 1e-3).all()
        sizes = level.modes.flatten(1).norm(dim=1)
        assert (sizes.diff() <= 0).all()

    def test_given_modes_are_left_alone(self, known):
        values, _, modes = known
        level = learn_level(
            values, torch.ones(values.shape[:2]), MIRROR, 3, fixed=modes[:1] / 2, across=FLIP
        )
        along = level.modes.flatten(1) @ modes[0].flatten()
        assert along.abs().max() / modes[0].norm() < 1e-3 * level.modes[0].norm()
        truth = covariance(modes[1:])
        assert (covariance(level.modes) - truth).norm() / truth.norm() < 0.15

    def test_a_vertex_that_few_saw_is_drawn_to_zero(self):
        values = torch.ones(2, len(MIRROR), 3)
        seen = torch.ones(2, len(MIRROR))
        seen[:, 0] = seen[:, PAIRS] = 0
        level = learn_level(values, seen, MIRROR, 1)
        torch.testing.assert_close(level.mean[1], torch.full((3,), 4 / 7))
        assert (level.mean[0] == 0).all()

    def test_more_modes_than_people_have(self):
        level = learn_level(random(2, len(MIRROR), 3), torch.ones(2, len(MIRROR)), MIRROR, 80)
        assert len(level.modes) <= 4
        assert level.modes.isfinite().all()

    def test_any_number_of_threads(self, known):
        values, _, modes = known
        seen = (random(*values.shape[:2], seed=4) > 0).float()
        before, levels = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                levels.append(learn_level(values, seen, MIRROR, 4, modes[:1], FLIP))
        finally:
            torch.set_num_threads(before)
        for level in levels[1:]:
            assert torch.equal(level.modes, levels[0].modes)
            assert torch.equal(level.mean, levels[0].mean)

    def test_wrong_shapes(self):
        with pytest.raises(ValueError, match=r"^learn_level: values are \[3, 5, 3\] and seen"):
            learn_level(torch.zeros(3, 5, 3), torch.ones(3, 5), MIRROR, 2)

    def test_no_mode(self):
        with pytest.raises(ValueError, match="^learn_level: count is 0, expected 1 or more$"):
            learn_level(torch.zeros(3, len(MIRROR), 3), torch.ones(3, len(MIRROR)), MIRROR, 0)

    def test_one_person(self):
        with pytest.raises(ValueError, match="^learn_level: 1 people, expected two or more$"):
            learn_level(torch.zeros(1, len(MIRROR), 3), torch.ones(1, len(MIRROR)), MIRROR, 2)


class TestProducts:
    def test_is_the_product(self):
        a, b = random(3, 10_000), random(5, 10_000, seed=1)
        torch.testing.assert_close(products(a, b), a @ b.T, rtol=1e-4, atol=1e-3)


class TestCombinations:
    def test_is_the_product(self):
        weights, rows = random(3, 5), random(5, 10_000, seed=1)
        torch.testing.assert_close(combinations(weights, rows), weights @ rows)

    def test_of_nothing(self):
        assert combinations(random(3, 0), random(0, 7)).equal(torch.zeros(3, 7))


class TestPrincipal:
    def test_largest_first(self):
        values, vectors = principal_axes(torch.diag(torch.tensor([1.0, 3.0, -1e-9])))
        assert values.tolist() == [3.0, 1.0, 0.0]
        torch.testing.assert_close(vectors.abs()[:, 0], torch.tensor([0.0, 1.0, 0.0]))
