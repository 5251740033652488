"""By how much colours scatter more where face models draw badly."""

import pytest

from mofa_nvdr.apply.region_scatter import region_scatter
from mofa_nvdr.face.model import FaceModel
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import symmetric_face


class TestRegionScatter:
    @pytest.mark.parametrize("name", ["procedural", "portraits"])
    def test_shipped_faces(self, name):
        model = FaceModel.load(name)
        factors = dict(zip(model.region_names, region_scatter(model).tolist()))
        assert factors["eyes"] == factors["teeth"] == 9 and factors["lips"] == 4
        assert min(factors.values()) == 1

    def test_names_of_others(self):
        assert region_scatter(symmetric_face(regions=True)).tolist() == [1, 9]
        assert region_scatter(small_face(16)).tolist() == []
