"""MATLAB, HDF5 and NumPy files: values by name, and files of absurd sizes."""

import io

import h5py
import numpy as np

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
        assert "shape/model/pcaBasis is [3000000000, 80]" in text

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
        assert "vertex_identity_basis is [10000000, 10000000, 3]: 3e+14 numbers" in text

    def test_npz_with_pickled_objects(self, files, tmp_path, capsys):
        path = tmp_path / "pickled.npz"
        body = io.BytesIO()
        np.save(body, np.array([{}], dtype=object), allow_pickle=True)
        with_member(files["gnm"], path, "triangles.npy", body.getvalue())
        text = refused(capsys, tmp_path / "a.safetensors", "gnm", path)
        assert "triangles holds pickled objects; they are not read" in text
