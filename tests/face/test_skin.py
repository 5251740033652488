from __future__ import annotations

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.skin import bearded_area, skin_vertices
from tests.helpers.small_face import small_face


class TestSkinVertices:
    def test_bare_skin_of_the_portraits_face(self):
        """Cheeks and forehead; not lips, brows and eyes, and nothing below the nostrils."""
        model = FaceModel.load("portraits")
        skin = skin_vertices(model)
        names = {model.region_names[k] for k in model.regions[skin].tolist()}
        assert names == {"skin", "nose"} and model.frontal_mask[skin].all()
        nose = model.mean_shape[model.landmarks[33], 1]
        chin = model.mean_shape[model.landmarks[8], 1]
        lowest = model.mean_shape[skin, 1].min()
        assert chin < lowest and abs(lowest - nose) < 10  # mm
        assert 5000 < len(skin) < 15_000

    def test_without_regions(self):
        assert skin_vertices(small_face()) is None


class TestBeardedArea:
    def test_of_the_portraits_face(self):
        """Chin, jaw and upper lip, on both sides; neither nose nor lips, and no cheek bones."""
        model = FaceModel.load("portraits")
        area = bearded_area(model)
        assert (area == area[model.mirror_index]).all()
        assert not (area & model.in_regions("nose", "lips", "eyes", "brows")).any()
        x, y, z = model.mean_shape.T
        nose, mouth = model.mean_shape[model.landmarks[33]], model.mean_shape[model.landmarks[51]]
        upper = (x.abs() < 3) & (y < nose[1] - 3) & (y > mouth[1] + 3) & (z > 30)
        assert upper.any() and area[upper & model.in_regions("skin")].all()
        assert area[model.landmarks[8]]  # the chin
        assert y[area].max() < model.mean_shape[model.landmarks[30], 1]  # tip of the nose

    def test_without_regions(self):
        assert not bearded_area(small_face()).any()
