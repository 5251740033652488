"""Radiance pictures, read and written."""

import math
import struct

import numpy as np
import pytest
import torch

from mofa_nvdr.scene.hdr import read_hdr, write_hdr


def header(resolution: str = "-Y 2 +X 8", extra: str = "", newline: str = "\n") -> bytes:
    """A picture's bytes before its pixels; `extra` lines are separated by |."""
    lines = ["#?RADIANCE", "# by hand", "FORMAT=32-bit_rle_rgbe", *filter(None, extra.split("|"))]
    return newline.join([*lines, "", resolution, ""]).encode()


def new_rle(rows: np.ndarray) -> bytes:
    """Scanlines [H, W, 4] with a run for each stretch of equal bytes and literals in between."""
    out = bytearray()
    for row in rows:
        out += bytes([2, 2]) + struct.pack(">H", len(row))
        for channel in row.T:
            column = 0
            while column < len(channel):
                same = 1
                while column + same < len(channel) and channel[column + same] == channel[column]:
                    same += 1
                if same > 2:
                    same = min(same, 127)
                    out += bytes([128 + same, channel[column]])
                else:
                    same = 1
                    out += bytes([1, channel[column]])
                column += same
    return bytes(out)


class TestReadHdr:
    def setup_method(self):
        """Two rows of eight pixels: 1 = 128 * 2^(129 - 136), ..."""
        self.rgbe = np.full((2, 8, 4), (128, 64, 32, 129), np.uint8)
        self.rgbe[0, 3] = (255, 0, 128, 136)
        self.rgbe[1, 5] = (9, 9, 9, 0)  # exponent 0: black
        self.want = np.full((2, 8, 3), (1, 0.5, 0.25), np.float32)
        self.want[0, 3] = (255, 0, 128)
        self.want[1, 5] = 0

    def read(self, tmp_path, data):
        path = tmp_path / "probe.hdr"
        path.write_bytes(data)
        return read_hdr(path)

    def test_flat(self, tmp_path):
        image = self.read(tmp_path, header() + self.rgbe.tobytes())
        assert image.dtype == np.float32
        assert np.array_equal(image, self.want)

    def test_new_run_lengths(self, tmp_path):
        assert np.array_equal(self.read(tmp_path, header() + new_rle(self.rgbe)), self.want)

    def test_new_run_lengths_of_a_wide_picture(self, tmp_path):
        rgbe = np.random.default_rng(0).integers(0, 3, (3, 400, 4)).astype(np.uint8)
        rgbe[..., 3] = 136
        rgbe[1] = 136
        image = self.read(tmp_path, header("-Y 3 +X 400") + new_rle(rgbe))
        assert np.array_equal(image, rgbe[..., :3].astype(np.float32))

    def test_old_run_lengths(self, tmp_path):
        """Row 0: a pixel, two more of it, one, four of it. Row 1: 300 columns by two digits."""
        first, second = bytes([128, 64, 32, 129]), bytes([255, 0, 128, 136])
        repeat = b"\1\1\1"
        row = first + repeat + b"\2" + second + repeat + bytes([300 - 4 - 256]) + repeat + b"\1"
        image = self.read(tmp_path, header("-Y 2 +X 300") + row + row)
        assert np.array_equal(image[:, :3], np.broadcast_to(np.float32([1, 0.5, 0.25]), (2, 3, 3)))
        assert np.array_equal(image[:, 3:], np.broadcast_to(np.float32([255, 0, 128]), (2, 297, 3)))

    def test_narrow_pictures_are_flat(self, tmp_path):
        rgbe = np.full((1, 2, 4), (2, 2, 0, 136), np.uint8)
        image = self.read(tmp_path, header("-Y 1 +X 2") + rgbe.tobytes())
        assert np.array_equal(image, np.full((1, 2, 3), (2, 2, 0)))

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    @pytest.mark.parametrize("extra", ["", "EXPOSURE=2", "SOFTWARE=x|EXPOSURE = 4|EXPOSURE= 0.5"])
    def test_headers(self, tmp_path, extra, newline):
        image = self.read(tmp_path, header(extra=extra, newline=newline) + self.rgbe.tobytes())
        assert np.array_equal(image, self.want / (2 if extra else 1))

    def test_without_format(self, tmp_path):
        image = self.read(tmp_path, b"#?RGBE\n\n-Y 2 +X 8\n" + self.rgbe.tobytes())
        assert np.array_equal(image, self.want)

    def test_agrees_with_opencv(self, data_dir):
        cv2 = pytest.importorskip("cv2")
        path = data_dir / "light_probes" / "brown_photostudio_02_512.hdr"
        if not path.is_file():
            pytest.skip(f"no light probe at {path}")
        theirs = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
        assert np.array_equal(read_hdr(path), theirs)

    @pytest.mark.parametrize("encode", [lambda x: x.tobytes(), new_rle])
    def test_every_cut_is_noticed(self, tmp_path, encode):
        data = header() + encode(self.rgbe)
        for end in range(len(header()), len(data)):
            with pytest.raises(
                ValueError, match=r"probe\.hdr: ends after row [01] of 2: .* cut short"
            ):
                self.read(tmp_path, data[:end])
        for end in range(1, len(header())):
            with pytest.raises(ValueError, match=r"probe\.hdr: (ends inside|not a Radiance)"):
                self.read(tmp_path, data[:end])

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "not a Radiance .hdr picture"),
            (b"\xff\xd8\xff\xe0 JFIF", "not a Radiance .hdr picture"),
            (
                header().replace(b"rgbe", b"xyze"),
                "FORMAT is 32-bit_rle_xyze, expected 32-bit_rle_rgbe",
            ),
            (header(extra="EXPOSURE=zero"), "EXPOSURE is 'zero', expected a positive number"),
            (header(extra="EXPOSURE=0"), "EXPOSURE is '0', expected a positive number"),
            (header("+Y 2 +X 8"), r"resolution is '\+Y 2 \+X 8': a flipped or turned picture"),
            (header("-Y 2 -X 8"), r"resolution is '-Y 2 -X 8': a flipped or turned picture"),
            (header("+X 8 -Y 2"), r"resolution is '\+X 8 -Y 2': a flipped or turned picture"),
            (header("-Y two +X 8"), "resolution is '-Y two .X 8', expected '-Y height .X width'"),
            (header("8 x 2"), "resolution is '8 x 2', expected '-Y height .X width'"),
            (header("-Y 99999999999 +X 8"), "resolution is '-Y 99999999999 .X 8', expected"),
            (header("-Y 0 +X 8"), "size is 8x0, expected 1 to 134217728 pixels"),
            (header("-Y 99999 +X 99999"), "size is 99999x99999, expected 1 to"),
            (header() + b"\2\2\0\7" + bytes(99), r"row 1 of 2 is damaged \(.*own width differs"),
            (header() + b"\2\2\0\x08\x89\0" + bytes(99), r"row 1 of 2 is damaged \(a run leaves"),
            (header() + b"\2\2\0\x08\0" + bytes(99), r"row 1 of 2 is damaged \(a run leaves"),
            (header() + b"\1\1\1\2" + bytes(99), r"row 1 of 2 is damaged \(a run leaves"),
            (header() + b"\5\5\5\5\1\1\1\x09" + bytes(99), r"row 1 of 2 is damaged \(a run leaves"),
            (header() + b"\5\5\5\5" + b"\1\1\1\0" * 9, r"row 1 of 2 is damaged \(a run leaves"),
        ],
    )
    def test_damaged(self, tmp_path, data, message):
        with pytest.raises(ValueError, match=rf"probe\.hdr: {message}") as caught:
            self.read(tmp_path, data)
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path):
        with pytest.raises(ValueError, match=r"none\.hdr: cannot read \(No such file"):
            read_hdr(tmp_path / "none.hdr")


class TestWriteHdr:
    def test_round_trip(self, tmp_path):
        """To half a step of the brightest channel: 1/256 of it."""
        image = np.random.default_rng(1).random((5, 9, 3)) ** 4 * 1000
        image[0, 0], image[0, 1], image[0, 2] = 0, 1e-45, (1, 0, 0)
        path = tmp_path / "probe.hdr"
        write_hdr(path, torch.from_numpy(image))
        step = image.max(-1, keepdims=True) / 256
        assert (np.abs(read_hdr(path) - image) <= step * 1.01 + 1e-40).all()
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 2.0**127])
    def test_bad_values(self, tmp_path, value):
        with pytest.raises(ValueError, match="image holds values that are negative, not finite"):
            write_hdr(tmp_path / "probe.hdr", np.full((2, 2, 3), value))

    @pytest.mark.parametrize("shape", [(2, 2), (2, 2, 4), (0, 2, 3)])
    def test_bad_shape(self, tmp_path, shape):
        with pytest.raises(ValueError, match=r"write_hdr: image is .*, expected \[H, W, 3\]"):
            write_hdr(tmp_path / "probe.hdr", np.zeros(shape))


class TestHostile:
    def test_a_large_picture_in_a_small_file(self, tmp_path):
        """Runs of runs: 134 million pixels in 100 kB."""
        row = b"\x80\x80\x80\x80" + bytes([1, 1, 1, 255, 1, 1, 1, 63])
        path = tmp_path / "wide.hdr"
        head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8192 +X 16384\n"
        path.write_bytes(head + row * 8192)
        with pytest.raises(
            ValueError, match=r"wide\.hdr: the picture \[8192, 16384, 3\] unfolds into"
        ):
            read_hdr(path)
