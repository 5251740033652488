"""Lips that touch on the face that is fitted first, and what a learned shape may do to them."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.apply.learn_form import closed_and_open
from mofa_nvdr.apply.learn_lips import touching, with_lips_together
from mofa_nvdr.face.model import FaceModel
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import changed


@pytest.fixture(scope="module")
def pairs(face_model) -> torch.Tensor:
    return touching(face_model)


@pytest.fixture(scope="module")
def parted(face_model, pairs) -> torch.Tensor:
    """[2, V, 3]: what lies below the shut lips is 2 mm lower, what lies above 1 mm higher; and twice it.

    Which of two that touch is the upper one, their way where the mouth opens says.
    """
    places = closed_and_open(face_model)
    lower = places[:, 4] < places[pairs].mean((0, 1))[4]
    shape = torch.zeros(face_model.num_vertices, 3)
    shape[:, 1] = torch.where(lower, -2.0, 1.0)
    return torch.stack([shape, 2 * shape])


class TestTouching:
    def test_both_lips_of_the_built_in_face(self, face_model, pairs):
        assert len(pairs) > 50 and (pairs[:, 0] < pairs[:, 1]).all()
        names = [face_model.region_names[k] for k in face_model.regions[pairs].flatten()]
        assert names.count("lips") > 0.9 * len(names) and "teeth" not in names
        places = closed_and_open(face_model)[pairs]
        assert (places[:, 0, :3] - places[:, 1, :3]).norm(dim=1).max() < 0.1
        wide = face_model.mean_shape[pairs[:, 0], 0]
        assert wide.min() < -20 and wide.max() > 20  # mm: from one corner to the other

    def test_no_mouth_that_opens(self):
        assert not len(touching(small_face()))

    def test_an_open_mouth(self, face_model):
        opened = face_model.mean_shape + closed_and_open(face_model)[:, 3:]
        assert not len(touching(changed(face_model, mean_shape=opened)))


class TestWithLipsTogether:
    def test_each_goes_half_of_the_way(self, face_model, pairs, parted):
        shapes = with_lips_together(face_model, parted)
        one, other = shapes[:, pairs].unbind(2)
        assert torch.equal(one, other)  # bits: no crack
        torch.testing.assert_close(one[0, :, 1], torch.full((len(pairs),), -0.5), atol=1e-5, rtol=0)
        torch.testing.assert_close(shapes[1], 2 * shapes[0], atol=1e-4, rtol=0)

    def test_what_is_about_them_goes_along(self, face_model, parted):
        """Lips move, less with the distance; teeth, eyes and the nose's bridge do not."""
        ways = (with_lips_together(face_model, parted)[0] - parted[0]).norm(dim=1)
        still = [face_model.region_names.index(name) for name in ("teeth", "eyes", "brows")]
        assert ways[torch.isin(face_model.regions, torch.tensor(still))].max() < 1e-3
        upper, skin = ways[face_model.landmarks[[51, 33]]]  # the lip's edge, and below the nose
        assert 0.1 < upper < 1.5 and skin < upper

    def test_what_moves_both_alike_stays(self, face_model, pairs):
        shape = torch.randn(face_model.num_vertices, 3, generator=torch.Generator().manual_seed(0))
        shape[pairs[:, 1]] = shape[pairs[:, 0]]
        assert torch.equal(with_lips_together(face_model, shape[None])[0], shape)

    def test_a_model_without_such_lips(self):
        model: FaceModel = small_face()
        shapes = torch.ones(2, model.num_vertices, 3)
        assert with_lips_together(model, shapes) is shapes

    def test_any_number_of_threads(self, face_model, parted):
        before, found = torch.get_num_threads(), []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append(with_lips_together(face_model, parted))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(*found)
