"""What a face model's arrays are, and what is refused, one line each."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.face.model_arrays import ARRAYS, INDICES, OPTIONAL, check_arrays
from tests.helpers.small_face import small_face


def _arrays(**more) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in small_face().named_buffers()} | more


def _with_layout(**more) -> dict[str, np.ndarray]:
    uv = np.random.default_rng(0).uniform(0, 1, (144, 2)).astype(np.float32)
    return _arrays(uv=uv, regions=(np.arange(144) % 2).astype(np.uint8)) | more


def _with_dense_places(**more) -> dict[str, np.ndarray]:
    dense = {
        "dense_vertices": np.arange(478 * 3).reshape(478, 3) % 144,
        "dense_weights": np.full((478, 3), 1 / 3),
        "dense_spread": np.r_[0.0, np.ones(477)],
    }
    return _arrays(**dense) | more


class TestTables:
    def test_indices_are_arrays(self):
        assert set(INDICES) <= {*ARRAYS, *OPTIONAL} and not set(ARRAYS) & set(OPTIONAL)

    def test_whole_models_pass(self):
        check_arrays(_arrays())
        check_arrays(_with_layout(), ["skin", "nose"])
        check_arrays(_with_dense_places())


class TestRefusals:
    @pytest.mark.parametrize(
        ("key", "change", "message"),
        [
            ("triangles", lambda a: None, "missing triangles"),
            ("mean_albedo", lambda a: a[:-1], r"mean_albedo is \[143, 3\], expected \[144, 3\]"),
            ("landmarks", lambda a: a[:5], r"landmarks is \[5\], expected \[68\]"),
            ("mean_shape", lambda a: a * np.nan, "mean_shape holds numbers that are not finite"),
            ("mean_shape", lambda a: a.astype("U4"), "mean_shape holds <U4, expected numbers"),
            (
                "mean_shape",
                lambda a: a.astype(complex),
                "mean_shape holds complex128, expected num",
            ),
            ("mirror_index", lambda a: a + 1, "mirror_index points outside the mesh"),
        ],
    )
    def test_incomplete(self, key, change, message):
        arrays = _arrays()
        arrays[key] = change(arrays[key])
        if arrays[key] is None:
            del arrays[key]
        with pytest.raises(ValueError, match=message):
            check_arrays(arrays)

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"uv": np.zeros((144, 3))}, r"uv is \[144, 3\], expected \['U', 2\]"),
            ({"uv": np.zeros((150, 2))}, r"uv is \[150, 2\], expected \[144, 2\], one a vertex"),
            ({"uv": np.full((144, 2), np.nan)}, "uv holds numbers that are not finite"),
            ({"uv": np.full((144, 2), 1.5)}, r"uv runs from 1.5 to 1.5, expected \[0, 1\]"),
            ({"uv": None, "uv_triangles": np.zeros((242, 3))}, "uv_triangles without uv"),
            ({"uv_triangles": np.zeros((5, 3))}, r"uv_triangles is \[5, 3\], expected \[242, 3\]"),
            (
                {"uv_triangles": np.full((242, 3), 144)},
                r"uv_triangles points outside the texture \(index 144 to 144, 144 uv\)",
            ),
            ({"regions": np.zeros(5, np.uint8)}, r"regions is \[5\], expected \[144\]"),
            ({"regions": np.full(144, 2)}, "regions has label 2, but there are 2 region_names"),
            ({"regions": np.full(144, -1)}, "regions is not an array of labels"),
            ({"regions": np.zeros(144)}, "regions is not an array of labels"),
            ({"regions": None}, "region_names without regions"),
            ({"region_names": []}, "regions has label 1, but there are 0 region_names"),
        ],
    )
    def test_layout(self, more, message):
        names = more.get("region_names", ["skin", "nose"])
        arrays = {name: value for name, value in more.items() if name != "region_names"}
        with pytest.raises(ValueError, match=message):
            check_arrays(_with_layout(**arrays), names)

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"dense_spread": None}, "missing dense_spread; give all three or none"),
            (
                {"dense_weights": np.ones((468, 3))},
                r"dense_weights is \[468, 3\], expected \[478, 3\]",
            ),
            ({"dense_vertices": np.full((478, 3), 144)}, "dense_vertices points outside the mesh"),
            (
                {"dense_spread": np.full(478, np.nan)},
                "dense_spread holds numbers that are not finite",
            ),
        ],
    )
    def test_dense_places(self, more, message):
        with pytest.raises(ValueError, match=message):
            check_arrays(_with_dense_places(**more))

    def test_more_modes_than_any_model(self):
        arrays = _arrays()
        arrays["albedo_basis"] = np.zeros((4097, *arrays["mean_shape"].shape), np.float32)
        with pytest.raises(ValueError, match="4097 modes in a basis, expected at most 4096"):
            check_arrays(arrays)
