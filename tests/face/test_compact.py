from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.face.compact import (
    decode,
    encode,
    half_of,
    pack,
    read_packed,
    unpack,
    write_packed,
)

MIRROR = np.array([1, 0, 2, 4, 3])  # two pairs, and a vertex in the middle
STEPS = {"mean_shape": 0.01, "shape_basis": 0.01, "albedo_basis": 0.001}


def symmetric(values: np.ndarray, across: tuple[int, ...], sign: int = 1) -> np.ndarray:
    return (values + sign * values[MIRROR] * across) / 2


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0).normal
    shape, color = (-1, 1, 1), (1, 1, 1)
    return {
        "mean_shape": symmetric(draw(size=(5, 3)), shape),
        "shape_basis": np.stack([symmetric(draw(size=(5, 3)), shape, s) for s in (1, -1)]),
        "albedo_basis": np.stack([symmetric(draw(size=(5, 3)), color, s) for s in (-1, 1)]),
    }


class TestPack:
    def test_there_and_back(self, arrays):
        back = unpack(pack(arrays, MIRROR, STEPS), MIRROR, STEPS)
        for name, step in STEPS.items():
            assert back[name].dtype == np.float32 and back[name].shape == arrays[name].shape
            assert np.abs(back[name] - arrays[name]).max() <= step / 2 + 1e-6

    def test_half_is_stored_and_which_kind_a_mode_is(self, arrays):
        stored = pack(arrays, MIRROR, STEPS)
        assert stored["shape_basis"].shape == (2, 3, 3) and stored["mean_shape"].shape == (1, 3, 3)
        assert stored["shape_basis_parity"].tolist() == [1, -1]
        assert stored["albedo_basis_parity"].tolist() == [-1, 1]

    def test_a_mode_of_nothing(self):
        empty = {"albedo_basis": np.zeros((1, 5, 3))}
        back = unpack(pack(empty, MIRROR, {"albedo_basis": 1}), MIRROR, {"albedo_basis": 1})
        assert (back["albedo_basis"] == 0).all()

    def test_a_step_that_is_too_fine(self, arrays):
        with pytest.raises(
            ValueError, match=r"^compact face: a step of 1e-07 is too fine for int16$"
        ):
            pack(arrays, MIRROR, {"shape_basis": 1e-7})


class TestEncode:
    def test_by_hand(self):
        values = np.array([[[1.0, 0.0], [1.5, -0.5], [0.5, 0.0]]])
        differences = encode(values, 0.5, np.int16)
        assert differences.tolist() == [[[2, 1, -2], [0, -1, 1]]]
        assert decode(differences, 0.5).tolist() == values.tolist()


class TestHalf:
    def test_one_side_and_the_middle(self):
        assert half_of(MIRROR).tolist() == [0, 2, 3]


class TestPackedFile:
    def test_there_and_back(self, tmp_path):
        write_packed(tmp_path / "a.npz", {"faces": np.arange(3), "name": np.array("cap")})
        back = read_packed((tmp_path / "a.npz").read_bytes())
        assert back["faces"].tolist() == [0, 1, 2] and str(back["name"]) == "cap"
        assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
        assert list(read_packed((tmp_path / "a.npz").read_bytes(), ["name"])) == ["faces"]
