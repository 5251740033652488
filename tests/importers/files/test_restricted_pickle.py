"""Pickles read without running them: arrays come out, everything else is refused."""

import os
import pickle
import re

import numpy as np
import pytest
import scipy.sparse

from mofa_nvdr.importers.files.restricted_pickle import read_object_npy, read_pickle
from mofa_nvdr.importers.foreign import ModelFileError
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import refused


class TestHostile:
    def test_pickle_that_runs_code(self, tmp_path, capsys):
        class Attack:
            def __reduce__(self):  # noqa: ANN204
                return os.mkdir, (str(tmp_path / "pwned"),)

        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"v_template": Attack()}, protocol=2))
        text = refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "a.pkl")
        assert "refused: it asks for posix.mkdir" in text
        assert not (tmp_path / "pwned").exists()

    @pytest.mark.parametrize(
        "body",
        [
            b"cbuiltins\neval\n(S'1'\ntR.",
            b"\x80\x04cnumpy\nload\n(S'x'\ntR.",
            b"cscipy.sparse\nsave_npz\n.",
            b"cchumpy.ch\nCh\n(S'x'\ntR.",
            b"\x80\x02Vnot a dict\n.",
            b"\x80\x02P0\n.",
        ],
    )
    def test_pickles_beyond_arrays(self, tmp_path, capsys, body):
        (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + body.removeprefix(b"\x80\x02"))
        text = refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "a.pkl")
        assert "refused" in text or "expected a dict" in text or "not a readable pickle" in text

    def test_landmark_file_that_runs_code(self, files, tmp_path, capsys):
        class Attack:
            def __reduce__(self):  # noqa: ANN204
                return os.mkdir, (str(tmp_path / "pwned"),)

        np.save(tmp_path / "l.npy", np.array({"a": Attack()}, dtype=object), allow_pickle=True)
        text = refused(
            capsys, tmp_path / "a.safetensors", "flame", files["flame"], "--landmarks",
            tmp_path / "l.npy",
        )  # fmt: skip
        assert "refused" in text and not (tmp_path / "pwned").exists()


class TestReadPickle:
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_arrays_of_every_kind(self, tmp_path, protocol):
        matrix = np.arange(6.0).reshape(2, 3)
        given = {
            "c": matrix, "fortran": np.asfortranarray(matrix), "big": matrix.astype(">f4"),
            "integers": np.arange(3, dtype=np.uint32), "number": np.float64(2.5), "text": "words",
            "inner": {"deeper": matrix}, b"key": 1,
        }  # fmt: skip
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(given, protocol=protocol))
        found = read_pickle(tmp_path / "a.pkl")
        for name in ("c", "fortran", "big"):
            assert np.array_equal(found[name], matrix)
        assert found["integers"].tolist() == [0, 1, 2] and found["integers"].dtype == np.uint32
        assert found["number"] == 2.5 and found["text"] == "words"
        assert np.array_equal(found["inner"]["deeper"], matrix)

    @pytest.mark.parametrize("form", [scipy.sparse.csc_matrix, scipy.sparse.csr_matrix])
    def test_sparse_comes_dense(self, tmp_path, form):
        dense = np.array([[0, 2.0, 0], [1, 0, 0]])
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"j": form(dense)}, protocol=2))
        assert np.array_equal(read_pickle(tmp_path / "a.pkl")["j"], dense)

    def test_chumpy_gives_its_numbers(self, tmp_path, foreign):
        """Without chumpy: an object of its classes keeps its state alone."""
        path = ff.write_flame(tmp_path / "a.pkl", foreign, chumpy=True)
        assert b"chumpy" in path.read_bytes()
        np.testing.assert_allclose(read_pickle(path)["v_template"], foreign.mean / 1e3)


class TestDamaged:
    """Pickles of the right names with the wrong things behind them."""

    NUMPY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    TYPE = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (NUMPY + b"(I1\n(I9\nt" + TYPE % b"f8" + b"I00\nS'short'\ntb", "a damaged array"),
            (NUMPY + b"I3\nb", "a damaged array"),
            (TYPE % b"M8[s]", "an array of type M8"),
            (b"c_codecs\nencode\n(Vx\nVutf-16\ntR", "bytes as utf-16"),
            (b"ccopy_reg\n_reconstructor\n(c__builtin__\nint\nc__builtin__\nobject\nNtR",
             "asks for|of a kind that is not read"),
        ],
    )  # fmt: skip
    def test_values(self, tmp_path, value, message):
        path = tmp_path / "a.pkl"
        path.write_bytes(b"(dS'f'\n" + value + b"s.")
        with pytest.raises(
            ModelFileError, match=rf"^{re.escape(str(path))}: refused: .*({message})"
        ):
            read_pickle(path)

    @pytest.mark.parametrize("change", [{"_shape": (2, 3, 1)}, {"data": np.ones((2, 2))}])
    def test_sparse_matrices_of_other_shapes(self, tmp_path, change):
        matrix = scipy.sparse.csc_matrix(np.eye(2))
        vars(matrix).update(change)
        path = tmp_path / "a.pkl"
        path.write_bytes(pickle.dumps({"j": matrix}, protocol=2))
        with pytest.raises(ModelFileError, match=r"a\.pkl: refused: a sparse matrix of \[2, "):
            read_pickle(path)


class TestReadObjectNpy:
    def test_dict_or_none(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array({"x": np.arange(3)}, dtype=object))
        np.save(tmp_path / "b.npy", np.arange(68))
        assert read_object_npy(tmp_path / "a.npy")["x"].tolist() == [0, 1, 2]
        assert read_object_npy(tmp_path / "b.npy") is None

    def test_several_objects(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{}, {}], dtype=object))
        with pytest.raises(ModelFileError, match=r"a\.npy: refused: .*an array of objects"):
            read_object_npy(tmp_path / "a.npy")

    def test_what_unpacks_to_nothing(self, tmp_path):
        path = tmp_path / "a.npy"
        np.save(path, np.array({}, dtype=object))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ModelFileError, match=r"a\.npy: (not a readable \.npy file|refused)"):
            read_object_npy(path)

    def test_no_npy(self, tmp_path):
        (tmp_path / "a.npy").write_bytes(b"no")
        with pytest.raises(ModelFileError, match=r"a\.npy: not a readable \.npy file"):
            read_object_npy(tmp_path / "a.npy")


class TestBombs:
    """A few bytes that stand for gigabytes, or never end."""

    @staticmethod
    def _refused(path, data, message):
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=message) as error:
            read_pickle(path)
        assert str(error.value).startswith(f"{path}: ")

    def test_tables_that_share_their_parts(self, tmp_path):
        shared: dict = {"x": 1}
        for _ in range(60):
            shared = {str(k): shared for k in range(9)}
        path = tmp_path / "a.pkl"
        self._refused(path, pickle.dumps({"v_template": shared}, 2), "its tables unfolds into")

    def test_a_table_that_contains_itself(self, tmp_path):
        table: dict = {"f": 1}
        table["again"] = table
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(table, 2))
        assert read_pickle(tmp_path / "a.pkl")["f"] == 1

    def test_bytes_that_are_not_there(self, tmp_path):
        body = b"\x80\x05}\x8c\x01a\x96" + (5 << 30).to_bytes(8, "little")
        self._refused(
            tmp_path / "a.pkl", body, "refused: cut short: 5368709120 bytes wanted, 0 left"
        )

    def test_more_steps_than_any_model(self, tmp_path):
        self._refused(
            tmp_path / "a.pkl", b"\x80\x02" + b"}" * 1_000_001 + b".", "more than 1000000 steps"
        )

    def test_one_text_copied_again_and_again(self, tmp_path):
        text = b"\x80\x02X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20) + b"q\x00"
        self._refused(
            tmp_path / "a.pkl", text + b"c_codecs\nencode\nh\x00\x85R" * 100 + b".", "its texts unf"
        )

    def test_bytes_in_band(self, tmp_path):
        """Protocol 5's arrays of bytes are read where they are there."""
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": bytearray(b"abc")}, 5))
        assert read_pickle(tmp_path / "a.pkl")["a"] == b"abc"

    def test_sparse_columns_that_do_not_add_up(self, tmp_path):
        matrix = scipy.sparse.csc_matrix(np.eye(3))
        matrix.indptr = np.array([0, 1, 2, 2**40])
        path = tmp_path / "a.pkl"
        self._refused(path, pickle.dumps({"J": matrix}, 2), "columns do not add up")
