"""The frontal region in pictures: the same place, without teeth, and where the mesh ends with it no edge."""

import pytest
import torch

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.smooth_edge import edge_field


@pytest.fixture(scope="module")
def model():
    return FaceModel.load("procedural")


def roughness(mask):
    """How far the region's upper edge is from its own mean over 31 columns, px."""
    top = mask[0, 0].argmax(0)[mask[0, 0].any(0)].double()
    middle = top[len(top) // 5 : -len(top) // 5]
    mean = middle.unfold(0, 31, 1).mean(1)
    return (middle[15:-15] - mean).abs().mean()


class TestEdgeField:
    def test_the_region_but_for_its_edge(self, model):
        field = edge_field(model)[:, 0]
        moved = (field > 0.5) != model.frontal_mask
        assert field.min() >= 0 and field.max() <= 1
        assert 0 < moved.float().mean() < 0.02
        x = model.mean_shape[moved]
        edge = model.mean_shape[~model.frontal_mask]
        assert torch.cdist(x, edge).amin(1).max() < 8  # mm

    def test_a_mesh_that_ends_with_the_region(self, face_model):
        whole = edge_field(face_model)
        assert torch.equal(whole[:, 0] > 0.5, face_model.frontal_mask) or not (
            face_model.frontal_mask.all()
        )


class TestSmoothEdge:
    def test_no_teeth(self, model):
        plain, smooth = (
            FaceDecoder(model, 480, smooth_edge=smooth)(model.layout.zeros())
            for smooth in (False, True)
        )
        assert roughness(smooth.mask) < 0.5 * roughness(plain.mask)
        both = (plain.mask * smooth.mask).sum()
        assert both / plain.mask.sum() > 0.98 and both / smooth.mask.sum() > 0.96

    def test_nothing_is_drawn_beyond_it(self, model):
        face = FaceDecoder(model, 120, smooth_edge=True)(model.layout.zeros())
        beyond = (face.mask == 0)[0, 0]
        assert beyond.any()
        for picture in (face.image, face.albedo, face.normal, face.shading, face.depth):
            assert not picture[0][:, beyond].any()
        assert (face.triangle_ids[0][beyond] == -1).all()
        assert (face.triangle_ids[0][~beyond] >= 0).all()

    def test_recolored_too(self, model):
        decoder = FaceDecoder(model, 96, smooth_edge=True)
        code = model.layout.zeros()
        face, geometry = decoder(code), decoder.geometry(code)
        again = decoder.recolored(face, geometry)
        assert torch.equal(again.mask, face.mask)
        torch.testing.assert_close(again.image, face.image)

    def test_of_the_whole_mesh_nothing_is_cut(self, model):
        whole = FaceDecoder(model, 96, frontal_only=False)(model.layout.zeros())
        same = FaceDecoder(model, 96, frontal_only=False, smooth_edge=True)(model.layout.zeros())
        assert torch.equal(whole.image, same.image)
