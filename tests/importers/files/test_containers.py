"""MATLAB, HDF5 and NumPy files: values by name, and files of absurd sizes."""

import io
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from mofa_nvdr.importers.files.containers import (
    interleaved,
    mat_names,
    npz_names,
    numbers,
    read_h5,
    read_mat,
    read_npz,
    whole,
)
from mofa_nvdr.importers.foreign import ModelFileError
from tests.helpers.foreign_files import refused, with_member


class TestHostile:
    def test_h5_of_absurd_size(self, files, tmp_path, capsys):
        """A data set without a single stored number may claim any size."""
        path = tmp_path / "big.h5"
        path.write_bytes(files["bfm2017"].read_bytes())
        with h5py.File(path, "a") as file:
            del file["shape/model/pcaBasis"]
            file.create_dataset("shape/model/pcaBasis", (3 * 10**9, 10**6), "f4", chunks=(1024, 64))
        text = refused(capsys, tmp_path / "a.safetensors", "bfm2017", path)
        assert "big.h5: shape/model/pcaBasis [3000000000, 80] unfolds into 960 GB" in text

    def test_h5_with_links_elsewhere(self, files, tmp_path, capsys):
        path = tmp_path / "linked.h5"
        path.write_bytes(files["bfm2017"].read_bytes())
        with h5py.File(path, "a") as file:
            del file["shape/model/mean"]
            file["shape/model/mean"] = h5py.ExternalLink(str(files["bfm2017"]), "shape/model/mean")
        text = refused(capsys, tmp_path / "a.safetensors", "bfm2017", path)
        assert "missing shape/model/mean" in text

    def test_npz_of_absurd_size(self, files, tmp_path, capsys):
        path = tmp_path / "big.npz"
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (10**7, 10**7, 3)}
        )
        with_member(files["gnm"], path, "vertex_identity_basis.npy", header.getvalue())
        text = refused(capsys, tmp_path / "a.safetensors", "gnm", path)
        assert "vertex_identity_basis [10000000, 10000000, 3] unfolds into 1.2e+06 GB" in text

    def test_npz_with_pickled_objects(self, files, tmp_path, capsys):
        path = tmp_path / "pickled.npz"
        body = io.BytesIO()
        np.save(body, np.array([{}], dtype=object), allow_pickle=True)
        with_member(files["gnm"], path, "triangles.npy", body.getvalue())
        text = refused(capsys, tmp_path / "a.safetensors", "gnm", path)
        assert "triangles holds pickled objects; they are not read" in text


class TestReadNpz:
    def test_wanted_and_optional(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, a=np.arange(3), b=np.array("text"), c=np.ones(2))
        found = read_npz(path, ["a"], ("b", "d"))
        assert found.keys() == {"a", "b"}
        assert found["a"].tolist() == [0, 1, 2] and str(found["b"]) == "text"
        with pytest.raises(ModelFileError, match=r"a\.npz: missing d, e$"):
            read_npz(path, ["a", "d", "e"])

    def test_no_archive(self, tmp_path):
        (tmp_path / "a.npz").write_bytes(b"PK nothing")
        with pytest.raises(ModelFileError, match=r"a\.npz: not a readable \.npz file \("):
            read_npz(tmp_path / "a.npz", ["a"])


class TestNames:
    def test_of_what_is_there(self, tmp_path):
        np.savez(tmp_path / "a.npz", a=np.ones(1), b=np.ones(1))
        scipy.io.savemat(tmp_path / "a.mat", {"c": np.ones(1)})
        assert npz_names(tmp_path / "a.npz") == {"a", "b"}
        assert mat_names(tmp_path / "a.mat") == {"c"}

    def test_none_of_other_files(self, tmp_path):
        (tmp_path / "a").write_text("no container")
        for path in (tmp_path / "a", tmp_path / "none", tmp_path):
            assert npz_names(path) == set() == mat_names(path)


class TestReadMat:
    def test_by_name(self, tmp_path):
        path = tmp_path / "a.mat"
        scipy.io.savemat(path, {"a": np.arange(3.0), "b": {"c": np.ones(2)}, "d": np.ones(1)})
        found = read_mat(path, ["a", "b"], ("e",))
        assert found.keys() == {"a", "b", "b.c"} and found["a"].tolist() == [[0, 1, 2]]
        assert found["b.c"].tolist() == [[1, 1]]
        with pytest.raises(ModelFileError, match=r"a\.mat: missing e$"):
            read_mat(path, ["a", "e"])
        path.write_bytes(b"MATLAB, no")
        with pytest.raises(ModelFileError, match=r"a\.mat: not a readable MATLAB file"):
            read_mat(path, ["a"])

    def test_no_numbers(self, tmp_path):
        """Structures and texts where numbers belong."""
        path = tmp_path / "a.mat"
        many = np.zeros((1, 3), [("c", object)])
        scipy.io.savemat(path, {"a": "text", "b": {"c": {"d": 1}}, "e": many})
        with pytest.raises(ModelFileError, match=r"a\.mat: a holds <U4 \[1\], expected numbers"):
            read_mat(path, ["a"])
        with pytest.raises(ModelFileError, match=r"b\.c holds cells or structures .* expected num"):
            read_mat(path, ["b"])
        with pytest.raises(ModelFileError, match=r"e holds structures \[1, 3\], expected one"):
            read_mat(path, ["e"])

    def test_cells_within_cells(self, tmp_path):
        """Whatever becomes of the reader, it is a line that names the file."""
        cell = np.empty((1, 1), object)
        cell[0, 0] = np.ones(1)
        for _ in range(400):
            outer = np.empty((1, 1), object)
            outer[0, 0] = cell
            cell = outer
        path = tmp_path / "deep.mat"
        scipy.io.savemat(path, {"a": cell})
        with pytest.raises(ModelFileError, match=r"deep\.mat: "):
            read_mat(path, ["a"])


class TestReadH5:
    def test_values(self, tmp_path):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            file["g/numbers"] = np.arange(12.0).reshape(3, 4)
            file["g/name"] = "RGB"
        names = {"g/numbers": 2, "g": None, "g/none/more": None, "g/name": None}
        file = read_h5(path, names, ("g/name", "none"))
        assert file.has("g/numbers") and not file.has("g") and not file.has("g/none/more")
        assert file.read("g/numbers").tolist() == [[0, 1], [4, 5], [8, 9]]
        assert read_h5(path, {"g/numbers": 9}).read("g/numbers").shape == (3, 4)
        assert file.text("g/name") == "RGB" and file.text("none") == ""
        with pytest.raises(ModelFileError, match=r"a\.h5: missing g/none"):
            file.read("g/none")
        with pytest.raises(ModelFileError, match="g/name holds object, expected numbers"):
            file.read("g/name")

    def test_data_in_other_files_is_not_read(self, tmp_path):
        """Virtual data sets, external storage, and links of both kinds."""
        other, path = tmp_path / "other.h5", tmp_path / "a.h5"
        with h5py.File(other, "w") as file:
            file["x"] = np.arange(4.0)
        (tmp_path / "raw").write_bytes(bytes(32))
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(other), "x", (4,))
        with h5py.File(path, "w") as file:
            file["own"] = np.arange(4.0)
            file.create_virtual_dataset("virtual", layout)
            file.create_dataset("stored", (4,), "f8", external=str(tmp_path / "raw"))
            file["linked"] = h5py.ExternalLink(str(other), "x")
            file["soft"] = h5py.SoftLink("/own")
        names = ("own", "virtual", "stored", "linked", "soft")
        found = read_h5(path, dict.fromkeys(names))
        assert [name for name in names if found.has(name)] == ["own"]

    def test_no_such_file(self, tmp_path):
        (tmp_path / "a.h5").write_bytes(b"no")
        with pytest.raises(ModelFileError, match=r"a\.h5: not a readable HDF5 file \("):
            read_h5(tmp_path / "a.h5", {"x": None})
        with pytest.raises(ModelFileError, match=r"b\.h5: cannot read it \(No such file"):
            read_h5(tmp_path / "b.h5", {"x": None})


class TestNumbers:
    PATH = Path("a.mat")

    def test_as_float32(self):
        found = numbers(self.PATH, "x", [[1, 2], [3, 4]], (None, 2))
        assert found.dtype == np.float32 and found.tolist() == [[1, 2], [3, 4]]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.zeros((2, 3)), "a.mat: x is float64 [2, 3], expected numbers [any, 2]"),
            (np.zeros(2), "a.mat: x is float64 [2], expected numbers [any, 2]"),
            (np.array([["a", "b"]]), "a.mat: x is <U1 [1, 2], expected numbers [any, 2]"),
            (np.array([[1, np.inf]]), "a.mat: x holds numbers that are not finite"),
        ],
    )
    def test_wrong(self, value, message):
        with pytest.raises(ModelFileError, match=re.escape(message)):
            numbers(self.PATH, "x", value, (None, 2))


class TestWhole:
    def test_of_floats(self):
        found = whole(Path("a"), "x", np.array([3.0, 0.0]))
        assert found.dtype == np.int64 and found.tolist() == [3, 0]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ([0.5], "a: x holds numbers that are no vertex indices"),
            ([2.0**40], "a: x holds numbers that are no vertex indices"),
            ([np.nan], "a: x holds float64 values, expected vertex indices"),
            (["a"], "a: x holds <U1 values, expected vertex indices"),
        ],
    )
    def test_wrong(self, value, message):
        with pytest.raises(ModelFileError, match=re.escape(message)):
            whole(Path("a"), "x", value)


class TestInterleaved:
    def test_modes_and_mean(self):
        """Rows are x, y, z of the first vertex, then of the second; columns are modes."""
        columns = np.arange(12).reshape(6, 2)
        found = interleaved(Path("a"), "x", columns, modes=True)
        assert found.tolist() == [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 11]]]
        mean = interleaved(Path("a"), "x", np.arange(6), modes=False)
        assert mean.tolist() == [[0, 1, 2], [3, 4, 5]]

    @pytest.mark.parametrize("rows", [0, 4])
    def test_wrong(self, rows):
        with pytest.raises(ModelFileError, match=f"a: x has {rows} rows, expected three for each"):
            interleaved(Path("a"), "x", np.zeros((rows, 2)), modes=True)
