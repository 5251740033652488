"""The affine face model and its file."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mofa_nvdr.face_model import FaceModel
from tests.small_face import small_face


def _arrays(model: FaceModel) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.named_buffers()}


class TestFaceModel:
    def test_affine(self):
        """Eq. 2 and 3 by hand."""
        model = small_face()
        shape, expression = torch.randn(2, 4), torch.randn(2, 3)
        expected = (
            model.mean_shape
            + torch.einsum("bk,kvc->bvc", shape, model.shape_basis)
            + torch.einsum("bk,kvc->bvc", expression, model.expression_basis)
        )
        # float32 sums of a few hundred mm: 1e-4 mm
        torch.testing.assert_close(model.vertices(shape, expression), expected, atol=1e-4, rtol=0)
        albedo = torch.randn(2, 5)
        expected = model.mean_albedo + torch.einsum("bk,kvc->bvc", albedo, model.albedo_basis)
        torch.testing.assert_close(model.albedo(albedo), expected, atol=1e-6, rtol=0)

    def test_layout_comes_from_the_bases(self):
        assert small_face(modes=4).layout.sizes == {
            "shape": 4, "expression": 3, "albedo": 5, "rotation": 3, "translation": 3, "light": 27,
        }  # fmt: skip

    def test_frontal_triangles_need_three_frontal_vertices(self):
        arrays = _arrays(small_face())
        arrays["frontal_mask"] = np.zeros_like(arrays["frontal_mask"])
        keep = arrays["triangles"][7]
        arrays["frontal_mask"][keep] = True
        assert FaceModel(arrays).frontal_triangles.tolist() == [keep.tolist()]

    def test_hash_is_the_content(self):
        arrays = _arrays(small_face())
        arrays["mean_shape"] = arrays["mean_shape"].copy()
        arrays["mean_shape"][3, 1] += 1e-3
        assert small_face().hash == small_face().hash != FaceModel(arrays).hash

    @pytest.mark.parametrize(
        ("key", "change", "message"),
        [
            ("triangles", lambda a: None, "missing triangles"),
            ("mean_albedo", lambda a: a[:-1], r"mean_albedo is \[143, 3\], expected \[144, 3\]"),
            ("landmarks", lambda a: a[:5], r"landmarks is \[5\], expected \[68\]"),
            ("mean_shape", lambda a: a * np.nan, "mean_shape holds numbers that are not finite"),
            ("mirror_index", lambda a: a + 1, "mirror_index points outside the mesh"),
        ],
    )
    def test_incomplete_model(self, key, change, message):
        arrays = _arrays(small_face())
        arrays[key] = change(arrays[key])
        if arrays[key] is None:
            del arrays[key]
        with pytest.raises(ValueError, match=message):
            FaceModel(arrays)

    def test_named_expression_of_wrong_size(self):
        with pytest.raises(ValueError, match=r"'smile' is \[7\], expected \[3\]"):
            FaceModel(_arrays(small_face()), named_expressions={"smile": np.zeros(7)})


class TestFile:
    def test_round_trip(self, tmp_path):
        model = FaceModel(
            _arrays(small_face()), {"name": "cap"}, {"smile": np.array([1.0, 0.0, -1.0])}
        )
        model.save(tmp_path / "cap.safetensors")
        again = FaceModel.load(tmp_path / "cap.safetensors")
        assert again.hash == model.hash
        assert again.name == "cap"
        assert again.named_expressions["smile"].tolist() == [1.0, 0.0, -1.0]
        assert [p.name for p in tmp_path.iterdir()] == ["cap.safetensors"]

    def test_no_such_file(self):
        with pytest.raises(ValueError, match="'bfm': no such file; give 'default'"):
            FaceModel.load("bfm")

    def test_not_a_model(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(b"not safetensors")
        with pytest.raises(ValueError, match="not a readable .safetensors file"):
            FaceModel.load(tmp_path / "a.safetensors")
        save_file({"x": np.zeros(3)}, tmp_path / "b.safetensors")
        with pytest.raises(ValueError, match="does not say 'mofa-nvdr face model 1'"):
            FaceModel.load(tmp_path / "b.safetensors")


class TestDefault:
    def test_size(self, face_model):
        assert face_model.layout.size == 257
        assert 23_500 <= face_model.num_vertices <= 24_500
        assert face_model.frontal_mask.float().mean() > 0.5

    def test_code_zero_is_the_mean(self, face_model):
        zero = face_model.layout.zeros()
        assert torch.equal(
            face_model.vertices(zero.shape, zero.expression)[0], face_model.mean_shape
        )
        assert torch.equal(face_model.albedo(zero.albedo)[0], face_model.mean_albedo)
