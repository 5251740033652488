"""Pictures of every kind as bytes, and square ones of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.data import (
    ImageError,
    read_image,
    resize_square,
)
from mofa_nvdr.data.images import coarsest, decode_square, read_square


class TestReadImage:
    @pytest.mark.parametrize(
        ("mode", "value", "suffix", "expected"),
        [
            ("RGB", (10, 20, 30), ".png", (10, 20, 30)),
            ("RGB", (10, 20, 30), ".bmp", (10, 20, 30)),
            ("RGB", (10, 20, 30), ".tif", (10, 20, 30)),
            ("L", 77, ".png", (77, 77, 77)),
            ("1", 1, ".png", (255, 255, 255)),
            ("LA", (90, 255), ".png", (90, 90, 90)),
            ("RGBA", (10, 20, 30, 255), ".png", (10, 20, 30)),
            ("RGBA", (10, 20, 30, 0), ".png", (128, 128, 128)),
            ("CMYK", (0, 255, 255, 0), ".tif", (255, 0, 0)),
        ],
    )
    def test_kinds(self, tmp_path: Path, mode: str, value, suffix: str, expected: tuple):
        path = tmp_path / f"picture{suffix}"
        Image.new(mode, (20, 30), value).save(path)
        image = read_image(path)
        assert image.shape == (30, 20, 3) and image.dtype == np.uint8
        assert (image == expected).all()

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_lossy_kinds(self, tmp_path: Path, suffix: str):
        Image.new("RGB", (20, 30), (200, 150, 120)).save(tmp_path / f"x{suffix}", quality=95)
        image = read_image(tmp_path / f"x{suffix}").astype(int)
        # measured 1 for JPEG and 2 for WebP: rounding of the colour transform
        assert np.abs(image - (200, 150, 120)).max() <= 3

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bit_grey_keeps_the_upper_byte(self, tmp_path: Path, suffix: str):
        values = np.full((16, 16), 0x40FF, np.uint16)
        values[0, 0] = 0xFFFF
        Image.fromarray(values).save(tmp_path / f"grey{suffix}")
        image = read_image(tmp_path / f"grey{suffix}")
        assert image[0, 0].tolist() == [255] * 3 and image[1, 1].tolist() == [0x40] * 3

    def test_16_bit_color(self, tmp_path: Path):
        cv2 = pytest.importorskip("cv2", reason="only OpenCV writes 16-bit colour here")
        bgr = np.full((16, 16, 3), (0x1000, 0x8000, 0xFF00), np.uint16)
        cv2.imwrite(str(tmp_path / "deep.png"), bgr)
        assert read_image(tmp_path / "deep.png")[3, 3].tolist() == [0xFF, 0x80, 0x10]

    def test_palette_with_and_without_transparency(self, tmp_path: Path):
        picture = Image.new("P", (16, 16), 1)
        picture.putpalette([0, 0, 0, 10, 200, 30])
        picture.save(tmp_path / "plain.png")
        picture.save(tmp_path / "clear.png", transparency=1)
        assert read_image(tmp_path / "plain.png")[0, 0].tolist() == [10, 200, 30]
        assert read_image(tmp_path / "clear.png")[0, 0].tolist() == [128, 128, 128]

    def test_half_transparent_over_mid_grey(self, tmp_path: Path):
        Image.new("RGBA", (16, 16), (255, 128, 0, 128)).save(tmp_path / "half.png")
        got = read_image(tmp_path / "half.png")[0, 0].astype(int)
        assert np.abs(got - (192, 128, 64)).max() <= 1

    def test_exif_orientation(self, tmp_path: Path):
        """A camera held upright: stored 40 wide and 20 high with the top at the left."""
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[:, :20] = 255
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise to show
        Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=100)
        image = read_image(tmp_path / "turned.jpg")
        assert image.shape == (40, 20, 3)
        assert image[2].min() > 250 and image[-3].max() < 5

    def test_first_frame(self, tmp_path: Path):
        first, second = (Image.new("RGB", (16, 16), c) for c in ((255, 0, 0), (0, 0, 255)))
        first.save(tmp_path / "film.gif", save_all=True, append_images=[second])
        assert read_image(tmp_path / "film.gif")[0, 0].tolist() == [255, 0, 0]

    @pytest.mark.parametrize("size", [(1, 1), (15, 400)])
    def test_too_small(self, tmp_path: Path, size: tuple[int, int]):
        Image.new("RGB", size).save(tmp_path / "dot.png")
        with pytest.raises(ImageError, match=r"dot\.png: the picture is \d+x\d+ px, too small to"):
            read_image(tmp_path / "dot.png")

    def test_damaged(self, tmp_path: Path):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.jpg")
        whole = (tmp_path / "whole.jpg").read_bytes()
        contents = {
            "cut.jpg": whole[: len(whole) // 2],
            "head.jpg": whole[:30],
            "text.jpg": b"this is no picture",
            "empty.jpg": b"",
        }
        for name, content in contents.items():
            path = tmp_path / name
            path.write_bytes(content)
            with pytest.raises(ImageError) as error:
                read_image(path)
            message = str(error.value)
            assert message.startswith(f"{path}: cannot read this picture: ")
            assert "\n" not in message and message.count(name) == 1

    def test_missing_and_unknown_white(self, tmp_path: Path):
        with pytest.raises(ImageError, match=r"none\.png: no such file$"):
            read_image(tmp_path / "none.png")
        Image.fromarray(np.zeros((16, 16), np.float32)).save(tmp_path / "float.tif")
        with pytest.raises(ImageError, match=r"float\.tif: floating-point pixels have no known wh"):
            read_image(tmp_path / "float.tif")
        Image.fromarray(np.full((16, 16), 70000, np.int32)).save(tmp_path / "int.tif")
        with pytest.raises(ImageError, match=r"int\.tif: 32-bit pixels have no known white"):
            read_image(tmp_path / "int.tif")


class TestReadSquare:
    """What read_image and resize_square give, without the whole picture in memory."""

    @pytest.fixture
    def picture(self, tmp_path: Path) -> Path:
        cells = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
        smooth = Image.fromarray(cells).resize((803, 601), Image.Resampling.BICUBIC)
        smooth.save(tmp_path / "a.jpg", quality=95)
        smooth.save(tmp_path / "a.png")
        return tmp_path / "a"

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    @pytest.mark.parametrize("size", [601, 301, 64, 30])
    def test_same_as_the_whole(self, picture: Path, suffix: str, size: int):
        path = picture.with_suffix(suffix)
        square, whole = read_square(path, size)
        assert whole == (601, 803) and square.shape == (size, size, 3)
        want = resize_square(read_image(path), size)
        if size > 300:
            assert (square == want).all()
        # Measured: 5 where the smallest averages a cell of 100 px; 1 on average.
        difference = np.abs(square.astype(int) - want)
        assert difference.max() <= 8 and difference.mean() < 1.5

    def test_of_bytes(self, picture: Path):
        data = picture.with_suffix(".jpg").read_bytes()
        square, whole = decode_square(data, "a/b.jpg", 64)
        assert whole == (601, 803)
        assert (square == read_square(picture.with_suffix(".jpg"), 64)[0]).all()
        with pytest.raises(ImageError, match=r"^a/b\.jpg: cannot read this picture: "):
            decode_square(data[:2000], "a/b.jpg", 64)

    def test_limit(self, picture: Path):
        for read in (read_image, lambda path, **limit: read_square(path, 64, **limit)):
            with pytest.raises(ImageError, match="more than --max-megapixels 0.1; give a larger"):
                read(picture.with_suffix(".png"), max_megapixels=0.1)

    def test_coarsest(self):
        assert [coarsest(side, 100) for side in (50, 399, 400, 1000)] == [1, 1, 2, 5]


class TestResizeSquare:
    def test_same_size_is_untouched(self):
        image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
        assert (resize_square(image, 20) == image).all()

    def test_takes_the_central_square(self):
        image = np.zeros((10, 30, 3), np.uint8)
        image[:, 10:20] = 200
        assert (resize_square(image, 5) == 200).all()
        assert (resize_square(image.transpose(1, 0, 2), 10) == 200).all()

    def test_is_antialiased(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        inside = resize_square(stripes, 16)[2:-2, 2:-2].astype(float)
        assert np.abs(inside - 127.5).max() < 2  # nearest pixels would give 0 or 255

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"image is \[4, 4\] uint8, expected \[H, W, 3\] uint"):
            resize_square(np.zeros((4, 4), np.uint8), 2)
        with pytest.raises(ValueError, match=r"image is \[4, 4, 3\] float64"):
            resize_square(np.zeros((4, 4, 3)), 2)
        with pytest.raises(ValueError, match="size is 0 px"):
            resize_square(np.zeros((4, 4, 3), np.uint8), 0)
