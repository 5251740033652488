"""What the limited child hands over of MATLAB and HDF5 files; values by name are in test_containers."""

import h5py
import numpy as np
import pytest
import scipy.io

from mofa_nvdr.importers.files.confined_readers import TEXT, WRONG, as_text
from mofa_nvdr.system.confined import ReaderError, read_arrays

MODULE = "mofa_nvdr.importers.files.confined_readers"


class TestMain:
    def test_names_alone(self, tmp_path):
        scipy.io.savemat(tmp_path / "a.mat", {"x": np.ones((2, 3)), "y": "text"})
        found = read_arrays(MODULE, tmp_path / "a.mat", {"kind": "mat", "names": []})
        assert {name: value.size for name, value in found.items()} == {"x": 0, "y": 0}

    def test_texts_and_what_is_none(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["name"], file["x"] = "RGB", np.ones(3)
        request = {"kind": "h5", "names": {"name": None, "x": None}, "texts": ["name", "none"]}
        found = read_arrays(MODULE, tmp_path / "a.h5", request)
        assert found.keys() == {WRONG + "name", "x", TEXT + "name"}
        assert found[TEXT + "name"].tobytes() == b"RGB"

    @pytest.mark.parametrize("kind", ["mat", "h5"])
    def test_no_such_container(self, tmp_path, kind):
        (tmp_path / "a").write_bytes(b"MATLAB 5.0, no")
        with pytest.raises(ReaderError):
            read_arrays(MODULE, tmp_path / "a", {"kind": kind, "names": {"x": None}, "texts": []})

    def test_compressed_zeros(self, tmp_path):
        """A gigabyte in a megabyte is refused by its claim, before a byte of it is unfolded."""
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("x", (2**28,), "f4", chunks=(2**20,), compression="gzip")
        request = {"kind": "h5", "names": {"x": None}, "texts": []}
        with pytest.raises(ValueError, match=r"a\.h5: x \[268435456\] unfolds into 1.07 GB"):
            read_arrays(MODULE, tmp_path / "a.h5", request)


class TestAsText:
    def test_bytes(self):
        assert as_text("é\ud800").tobytes() == "é?".encode()
