"""What a face model is, in numbers and as a table."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.face.info import describe, table
from mofa_nvdr.face.model import FaceModel
from tests.helpers.small_face import small_face, textured_face


class TestDescribe:
    def test_variance_by_hand(self):
        """Modes of 3, 4 and 12 mm at one vertex of 144: shares 9, 16 and 144 of 169."""
        arrays = {name: value.numpy() for name, value in small_face().named_buffers()}
        basis = np.zeros((3, 144, 3))
        basis[[0, 1, 2], [5, 5, 9], [0, 2, 1]] = [3, 4, 12]
        arrays["shape_basis"] = basis
        group = describe(FaceModel(arrays))["modes"]["shape"]
        assert group["count"] == 3 and group["explained"] == {"3": 1.0}
        assert group["deviation"] == pytest.approx(np.sqrt(169 / 144), abs=1e-5)

    def test_explained_by_the_first(self, face_model):
        facts = describe(face_model)
        variance = face_model.shape_basis.double().square().sum((1, 2))
        for count, share in facts["modes"]["shape"]["explained"].items():
            assert share == pytest.approx(
                float(variance[: int(count)].sum() / variance.sum()), abs=1e-5
            )
        assert list(facts["modes"]["shape"]["explained"]) == ["10", "20", "40", "80"]
        assert list(facts["modes"]["expression"]["explained"])[-1] == "64"

    def test_facts(self):
        facts = describe(textured_face())
        assert facts["vertices"] == 144 and facts["triangles"] == 242
        assert facts["extent_mm"]["width"] == 140 and facts["extent_mm"]["height"] == 190
        assert facts["mesh"] == {
            "manifold": True, "oriented": True, "pieces": 1, "boundary_edges": 44, "unused_vertices": 0,
        }  # fmt: skip
        assert facts["regions"] == {"right": 72, "left": 72}
        assert facts["uv"] == {"count": 144, "seams": False, "triangle_area": 1.0}
        assert facts["licence"] == "own work" and facts["named_expressions"] == ["grin", "frown"]

    def test_bare_model(self):
        facts = describe(small_face())
        assert facts["uv"] is None and facts["regions"] == {} and facts["named_expressions"] == []
        text = table(facts)
        assert (
            "no coordinates" in text and "none named" in text and "licence      not given" in text
        )

    def test_seams(self):
        arrays = {name: value.numpy() for name, value in textured_face().named_buffers()}
        corners = arrays["triangles"].astype(np.int64)
        uv = arrays["uv"][corners].reshape(-1, 2)  # every triangle on its own
        arrays |= {"uv": uv, "uv_triangles": np.arange(len(uv)).reshape(-1, 3)}
        facts = describe(FaceModel(arrays, region_names=["right", "left"]))
        assert facts["uv"] == {"count": 726, "seams": True, "triangle_area": 1.0}
