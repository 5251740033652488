"""Bases in whole steps: found bit by bit or not at all, the same products, noticed changes."""

import numpy as np
import pytest
import torch

from mofa_nvdr.face import linear, steps
from mofa_nvdr.face.linear import linear_model
from mofa_nvdr.face.steps import in_steps

LENGTH = 9000  # several blocks, and numbers enough to be looked at


def stepped(modes: int = 11, size: float = 0.004, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-3000, 3000, (modes, LENGTH), generator=generator)
    numbers[0, 0] = 1
    return numbers.float() * np.float32(size)


def seen_twice(basis: torch.Tensor) -> steps.Steps | None:
    assert in_steps(basis) is None
    return in_steps(basis)


class TestInSteps:
    def test_gives_every_number_again(self):
        basis = stepped()
        found = seen_twice(basis)
        assert found is not None and found.size == np.float32(0.004)
        assert found.values.dtype == np.int16
        assert np.array_equal(found.values.astype(np.float32) * found.size, basis.numpy())
        assert in_steps(basis) is found

    @pytest.mark.parametrize(
        ("place", "number"),
        [
            (7, 0.006),  # between two steps
            (8, 0.0041),
            (9, 0.004 * 40_000),  # too many
            (10, float("nan")),
            (10, float("inf")),
            (10, 1e-40),
        ],
    )
    def test_one_number_that_does_not_fit(self, place, number):
        basis = stepped()
        basis[place, LENGTH - 1] = number
        assert seen_twice(basis) is None

    def test_zeros_alone(self):
        assert seen_twice(torch.zeros(10, LENGTH)) is None

    def test_a_basis_that_is_learned(self):
        assert seen_twice(stepped().requires_grad_()) is None

    def test_a_change_in_place_is_noticed(self):
        basis = stepped()
        assert seen_twice(basis) is not None
        basis[3, 5] += 0.001
        assert seen_twice(basis) is None
        basis.copy_(stepped(size=0.5))
        assert seen_twice(basis).size == 0.5

    def test_views_are_of_one_tensor(self):
        basis = stepped(size=0.25).view(11, -1, 3)
        found = seen_twice(basis.flatten(1))
        assert found is not None
        assert in_steps(basis.flatten(1)) is found

    def test_a_part_is_not_looked_at(self):
        """Of a basis of which some vertices are taken anew in every call."""
        basis, index = stepped(size=0.25), torch.arange(LENGTH - 1)
        assert all(in_steps(basis[:, index]) is None for _ in range(3))

    def test_in_inference_mode(self):
        with torch.inference_mode():
            assert seen_twice(stepped()) is None

    def test_what_is_kept_leaves_with_the_tensor(self):
        basis = stepped()
        in_steps(basis)
        key = id(basis)
        assert key in steps._seen
        del basis
        assert key not in steps._seen


class TestProducts:
    @pytest.mark.parametrize("modes", [3, 8, 19])
    @pytest.mark.parametrize("batch", [1, 5])
    def test_same_bits_as_of_floats(self, monkeypatch, modes, batch):
        generator = torch.Generator().manual_seed(1)
        bases = [stepped(19), stepped(modes, size=0.001, seed=2)]
        mean = torch.randn(LENGTH, generator=generator)
        weights = [torch.randn(batch, len(b), generator=generator) for b in bases]
        assert all(in_steps(b) is None for b in bases)
        assert in_steps(bases[0]) is not None
        results = []
        for function in (in_steps, lambda basis: None):
            monkeypatch.setattr(linear, "in_steps", function)
            leaves = [w.clone().requires_grad_() for w in weights]
            out = linear_model(mean, bases, leaves)
            out.square().sum().backward()
            results.append((out, *(leaf.grad for leaf in leaves)))
        for one, two in zip(*results):
            assert torch.equal(one, two)

    @pytest.mark.parametrize("name", ["procedural", "portraits"])
    def test_built_in_faces_are_in_steps(self, name):
        from mofa_nvdr.face.model import FaceModel

        model = FaceModel.load(name)
        for basis in (model.shape_basis, model.expression_basis, model.albedo_basis):
            found = seen_twice(basis.flatten(1))
            assert found is not None
            assert np.array_equal(found.values * found.size, basis.flatten(1).numpy())
