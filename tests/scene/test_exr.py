"""OpenEXR pictures, read."""

import struct

import numpy as np
import pytest

from mofa_nvdr.scene.exr import read_exr
from tests.helpers.exr import NONE, PIZ, RLE, ZIP, ZIPS, write_exr


@pytest.fixture
def path(tmp_path):
    return tmp_path / "probe.exr"


def channels(height: int = 20, width: int = 9, kind: str = "f4") -> dict[str, np.ndarray]:
    """Values that halves hold; the upper rows are black, so that they shrink."""
    values = np.random.default_rng(0).integers(0, 2048, (3, height, width))
    values[:, : height // 2] = 0
    return dict(zip("RGB", values.astype(kind)))


def as_picture(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([parts[name] for name in "RGB"], -1).astype(np.float32)


class TestReadExr:
    @pytest.mark.parametrize("compression", [NONE, RLE, ZIPS, ZIP])
    @pytest.mark.parametrize("kind", ["f4", "f2", "u4"])
    def test_every_value(self, path, compression, kind):
        parts = channels(kind=kind)
        write_exr(path, parts, compression)
        sizes = path.stat().st_size
        write_exr(path.with_name("plain.exr"), parts, NONE)
        plain = path.with_name("plain.exr").stat().st_size
        assert sizes < plain or compression == NONE
        image = read_exr(path)
        assert image.dtype == np.float32 and np.array_equal(image, as_picture(parts))

    def test_bytes_by_hand(self, path):
        """One grey pixel of 1.5, the half 0x3E00, behind a header of 167 bytes."""
        write_exr(path, {"Y": np.array([[1.5]], np.float16)}, NONE)
        data = path.read_bytes()
        (start,) = struct.unpack("<Q", data[-18:-10])
        assert start == len(data) - 10 and data[start:] == b"\0\0\0\0\2\0\0\0\x00\x3e"
        assert read_exr(path).tolist() == [[[1.5, 1.5, 1.5]]]

    def test_other_channels_and_kinds_between_them(self, path):
        parts = channels()
        depth = np.full((20, 9), 7, np.uint32)
        alpha = np.ones((20, 9), np.float16)
        write_exr(path, {**parts, "A": alpha, "Z": depth, "Foo.R": alpha})
        assert np.array_equal(read_exr(path), as_picture(parts))

    def test_rows_that_begin_elsewhere(self, path):
        parts = channels()
        write_exr(path, parts, window=(-4, -30, 4, -11))
        assert np.array_equal(read_exr(path), as_picture(parts))

    def test_negative_values(self, path):
        write_exr(path, {"Y": np.array([[-1.0, 2.0]], np.float32)})
        assert read_exr(path)[0, :, 0].tolist() == [0, 2]

    @pytest.mark.parametrize("name", ["NO", "RLE", "ZIPS", "ZIP"])
    def test_what_the_library_writes(self, path, name):
        library = pytest.importorskip("OpenEXR")
        parts = as_picture(channels())
        kind = getattr(library, f"{name}_COMPRESSION")
        header = {"compression": kind, "type": library.scanlineimage}
        library.File(header, {"RGB": parts}).write(str(path))
        assert np.array_equal(read_exr(path), parts)


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"compression": PIZ}, "compression PIZ, expected none, RLE, ZIPS, ZIP; save it with"),
            ({"compression": 77}, "compression 77, expected"),
            ({"flags": 0x200}, "OpenEXR in tiles, expected scanlines of one part; save it"),
            ({"flags": 0x1000}, "OpenEXR of several parts or deep samples"),
            ({"whole": (0, 0, 99, 49)}, "its pixels do not fill the picture"),
            ({"window": (0, 0, -5, 9)}, "size is -4x10, expected pixels"),
            ({"sampling": 2}, "channel B is smaller than the picture; save it"),
            ({"without": "dataWindow"}, "no dataWindow in its header: the file is damaged"),
        ],
    )
    def test_kinds(self, path, options, text):
        write_exr(path, channels(), **options)
        with pytest.raises(ValueError) as e:
            read_exr(path)
        assert str(e.value).startswith(f"{path}: {text}") and "\n" not in str(e.value)

    @pytest.mark.parametrize("names", ["RG", "Z", ("Y", "RY", "BY")])
    def test_channels(self, path, names):
        write_exr(path, {name: np.ones((2, 2), np.float32) for name in names})
        found = ", ".join(sorted(names))
        with pytest.raises(
            ValueError, match=f"its channels are {found}, expected R, G and B, or Y"
        ):
            read_exr(path)

    def test_no_such_file(self, path):
        with pytest.raises(ValueError, match=r"probe.exr: cannot read \(No such file"):
            read_exr(path)

    def test_another_format(self, path):
        path.write_bytes(b"#?RADIANCE")
        with pytest.raises(ValueError, match=r"not an OpenEXR picture \(it does not begin with"):
            read_exr(path)

    @pytest.mark.parametrize("compression", [NONE, RLE, ZIP])
    def test_cut_short_anywhere(self, path, compression):
        write_exr(path, channels(), compression)
        data = path.read_bytes()
        for end in range(4, len(data), 7):
            path.write_bytes(data[:end])
            with pytest.raises(ValueError, match="cut short|damaged"):
                read_exr(path)

    @pytest.mark.parametrize("compression", [RLE, ZIP])
    def test_a_damaged_block(self, path, compression):
        write_exr(path, channels(), compression)
        data = bytearray(path.read_bytes())
        (start,) = struct.unpack_from("<Q", data, data.index(b"screenWindowWidth") + 33)
        data[start + 8 : start + 24] = b"\x81" * 16
        path.write_bytes(data)
        with pytest.raises(ValueError, match="row 1 is damaged"):
            read_exr(path)

    def test_a_block_of_no_row(self, path):
        write_exr(path, channels())
        data = bytearray(path.read_bytes())
        (start,) = struct.unpack_from("<Q", data, data.index(b"screenWindowWidth") + 33)
        data[start : start + 4] = struct.pack("<i", 3)
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"a block of rows at byte {start} is damaged"):
            read_exr(path)

    def test_a_claimed_size(self, path):
        write_exr(path, channels(), window=(0, 0, 99_999, 99_999))
        with pytest.raises(ValueError, match="unfolds into"):
            read_exr(path)

    def test_a_damaged_channel(self, path):
        write_exr(path, channels())
        data = path.read_bytes().replace(b"B\0\2\0\0\0", b"B\0\7\0\0\0")
        path.write_bytes(data)
        with pytest.raises(ValueError, match="channel B is damaged"):
            read_exr(path)
