"""NumPy's files: headers first, no pickles, sizes within the budget."""

import io
import zipfile

import numpy as np
import pytest

from mofa_nvdr.system.array_files import NotArrays, npz_members, read_header, read_npy, read_npz


def header(kind: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


class TestReadNpz:
    def test_values(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez_compressed(path, a=np.arange(3), b=np.array("text"), c=np.zeros((0, 3)))
        assert npz_members(path) == {"a": "a.npy", "b": "b.npy", "c": "c.npy"}
        found = read_npz(path)
        assert found["a"].tolist() == [0, 1, 2] and str(found["b"]) == "text"
        assert found["c"].shape == (0, 3)
        assert read_npz(path, ["c", "none"]).keys() == {"c"}

    @pytest.mark.parametrize(
        ("member", "message"),
        [
            (b"text", "x is no array"),
            (b"", "x is no array"),
            (header("|O", (1,)) + bytes(64), "x holds pickled objects; they are not read"),
            (header("<M8[s]", (1,)) + bytes(64), "x holds datetime64"),
            (header("<f4", (9,)) + bytes(8), "."),
        ],
    )
    def test_members_that_are_no_arrays(self, tmp_path, member, message):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", member)
        with pytest.raises(NotArrays, match=message):
            read_npz(path)

    @pytest.mark.parametrize(("kind", "shape"), [
        ("<f4", (10**7, 10**7)), ("<U0", (2**40,)), ("<U100000000", ()), ("|b1", (2**27,)),
    ])  # fmt: skip
    def test_bombs(self, tmp_path, kind, shape):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", header(kind, shape) + bytes(2**20))
        with pytest.raises(ValueError, match=r"a\.npz: x \[.*\] unfolds into"):
            read_npz(path)

    def test_together_beyond_the_budget(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez_compressed(path, **{f"x{k}": np.zeros(2**20) for k in range(9)})
        with pytest.raises(ValueError, match=r"a\.npz: x8 \[1048576\] unfolds into 8.39 MB"):
            read_npz(path)
        assert read_npz(path, ["x1"])["x1"].shape == (2**20,)

    def test_other_files(self, tmp_path):
        for name, data in (("a", b""), ("b", b"PK\3\4"), ("c", b"text")):
            (tmp_path / name).write_bytes(data)
            assert npz_members(tmp_path / name) == {}
            with pytest.raises(NotArrays):
                read_npz(tmp_path / name)
        np.save(tmp_path / "d.npy", np.ones(3))
        with pytest.raises(NotArrays, match="a single array"):
            read_npz(tmp_path / "d.npy")

    def test_other_compressions(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("x.npy", header("<f4", (1,)) + bytes(4))
        with pytest.raises(NotArrays, match="compressed in a way that NumPy does not write"):
            read_npz(tmp_path / "a.npz")


class TestReadNpy:
    def test_file_and_bytes(self, tmp_path):
        np.save(tmp_path / "a.npy", np.arange(4.0))
        assert read_npy(tmp_path / "a.npy").tolist() == [0, 1, 2, 3]
        data = (tmp_path / "a.npy").read_bytes()
        assert read_npy(data, "x").tolist() == [0, 1, 2, 3]
        with pytest.raises(NotArrays):
            read_npy(data[:-8], "x")
        with pytest.raises(ValueError, match=r"^x: the array \[1000000000\] unfolds into 4 GB"):
            read_npy(header("<f4", (10**9,)), "x")


class TestReadHeader:
    def test_shape_and_type(self):
        shape, dtype = read_header(io.BytesIO(header("<f4", (2, 3))))
        assert shape == (2, 3) and dtype == np.float32
        with pytest.raises(NotArrays):
            read_header(io.BytesIO(b"\x93NUMPY\1\0\10\0nonsense"))
