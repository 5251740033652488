"""Pictures decoded as finely as is asked for: each pixel where it belongs, however the picture is turned."""

from __future__ import annotations

import io
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from mofa_nvdr.data.decoding import ImageError, Picture
from mofa_nvdr.data.picture_formats import readable_formats
from mofa_nvdr.system.memory import MemoryBudget


def smooth(width: int = 203, height: int = 151, seed: int = 0) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation: int, kind: str) -> tuple[bytes, np.ndarray]:
    """A picture with an EXIF orientation, and what a viewer shows."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {}
    data = file_of(smooth(), kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        return data, np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


class TestRead:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_places(self, kind, orientation):
        """The mean of the squares that the excerpt says it shows, also at the edges."""
        data, shown = turned(orientation, kind)
        height, width = shown.shape[:2]
        for factor, box in ((1, None), (4, None), (3, (30, 41, 101, 90.5)), (8, (77, 0, 95, 150))):
            with Picture(data, "x") as picture:
                assert (picture.height, picture.width) == (height, width)
                part = picture.read(factor, box)
            left, top, right, bottom = box or (0, 0, width, height)
            rows, columns = part.pixels.shape[:2]
            assert part.left <= left and part.left + columns * part.factor >= right
            assert part.top <= top and part.top + rows * part.factor >= bottom
            worst = 0.0
            for i in range(0, rows, 3):
                for j in range(0, columns, 3):
                    x, y, f = part.left + j * part.factor, part.top + i * part.factor, part.factor
                    square = shown[int(max(y, 0)) : int(y + f), int(max(x, 0)) : int(x + f)]
                    mean = square.reshape(-1, 3).mean(0)
                    worst = max(worst, float(np.abs(mean - part.pixels[i, j]).max()))
            # Measured: 0 at factor 1; 0.56 of rounding; 2.6 of JPEG's own halving.
            assert worst <= (0 if factor == 1 else 4 if kind == "JPEG" else 0.6)

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
    def test_kinds_of_pixels_in_strips(self, mode, monkeypatch):
        """Strips of any height show what the whole picture shows."""
        if mode == "I;16":
            image = Image.fromarray(np.arange(60 * 50, dtype=np.uint16).reshape(60, 50) * 21)
        else:
            image = smooth(50, 60).convert("RGBA" if mode in ("LA", "P") else mode).convert(mode)
            if mode in ("LA", "RGBA"):
                image.putalpha(smooth(50, 60, seed=2).convert("L"))
        data = file_of(image, "PNG")
        with Picture(data, "x") as picture:
            whole, half = picture.read().pixels, picture.read(2).pixels
        monkeypatch.setattr("mofa_nvdr.data.decoding._STRIP", 500)
        with Picture(data, "x") as picture:
            np.testing.assert_array_equal(picture.read().pixels, whole)
            np.testing.assert_array_equal(picture.read(2).pixels, half)

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "MPO", "AVIF", "PNG"])
    def test_first_of_several_frames(self, kind):
        if kind != "MPO" and kind not in readable_formats():
            pytest.skip(f"Pillow without {kind}")
        colors = [(250, 10, 10), (10, 10, 250)]
        first, second = (Image.new("RGB", (64, 48), color) for color in colors)
        data = file_of(first, kind, save_all=True, append_images=[second])
        with Picture(data, "x") as picture:
            for factor in (2, 1):
                pixels = picture.read(factor).pixels.astype(int)
                assert pixels.shape == (48 // factor, 64 // factor, 3)
                assert np.abs(pixels - colors[0]).max() <= 5  # measured 4, MPO

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_damaged_exif_hides_no_pixels(self):
        data = file_of(smooth(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
        with Picture(data, "x") as picture:
            assert picture.read().pixels.shape == (151, 203, 3)

    def test_a_photograph_that_is_cut_off(self):
        data = file_of(smooth(800, 600), "JPEG")
        with Picture(data[: len(data) // 2], "half.jpg") as picture:
            with pytest.raises(ImageError, match=r"^half\.jpg: cannot read this picture: .*trunc"):
                picture.read(4)


class TestCopy:
    def test_size_and_places(self):
        """A bright square in a corner stays where it was."""
        pixels = np.zeros((1000, 1400, 3), np.uint8)
        pixels[700:800, 1200:1300] = 255
        with Picture(file_of(Image.fromarray(pixels), "JPEG", quality=95), "x") as picture:
            copy = picture.copy(300)
        assert copy.pixels.shape[:2] == (214, 300)
        y, x = (np.argwhere(copy.pixels[..., 0] > 127) + 0.5).mean(0) * copy.factor
        assert (x + copy.left, y + copy.top) == pytest.approx((1250, 750), abs=1)

    def test_small_pictures_stay(self):
        with Picture(file_of(smooth(), "PNG"), "x") as picture:
            copy = picture.copy(1280)
        assert copy.factor == 1 and (copy.pixels == np.asarray(smooth())).all()


class TestLarge:
    def test_only_what_is_needed_is_decoded(self):
        """A JPEG of 12 megapixels at an eighth: 0.2 megapixels, and no copy of the whole."""
        data = file_of(Image.new("RGB", (4000, 3000), (90, 120, 150)), "JPEG")
        sizes = []
        with Picture(data, "x", budget=MemoryBudget(1e9)) as picture:
            tracemalloc.start()
            assert picture.copy(400).pixels.shape == (300, 400, 3)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            sizes.append(picture._decoded.size)
            picture.read(1, (0, 0, 64, 64))
            sizes.append(picture._decoded.size)
        assert sizes == [(500, 375), (4000, 3000)]
        assert peak < 4e6  # NumPy's part; measured 1.0e6, the whole is 36e6

    def test_pillows_limit_is_not_ours(self, monkeypatch):
        """Pillow warns above 89 megapixels and refuses twice as many; its limit is back afterwards."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        data = file_of(smooth(), "TIFF")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Picture(data, "x") as picture:
                assert picture.read().pixels.shape == (151, 203, 3)
        assert Image.MAX_IMAGE_PIXELS == 1000

    def test_limit_names_its_option(self):
        data = file_of(smooth(2000, 1000), "PNG")
        with pytest.raises(ImageError) as error:
            Picture(data, "large.png", max_megapixels=1.5)
        assert str(error.value) == (
            "large.png: the picture is 2000x1000 px, 2 megapixels, more than --max-megapixels 1.5; give a "
            "larger one if it is to be read"
        )
        assert Picture(data, "large.png", max_megapixels=2).width == 2000

    @pytest.mark.parametrize("limit", [0, -1, float("nan")])
    def test_limit_that_cannot_be_meant(self, limit):
        with pytest.raises(ValueError, match="--max-megapixels is .*, expected more than 0"):
            Picture(b"", "x", max_megapixels=limit)

    def test_budget_is_held_while_pixels_are(self):
        budget, data = MemoryBudget(100), file_of(smooth(), "PNG")
        opened = threading.Event()

        def second() -> None:
            with Picture(data, "b", budget=budget):
                opened.set()

        with Picture(data, "a", budget=budget):
            thread = threading.Thread(target=second)
            thread.start()
            assert not opened.wait(0.1)
        thread.join(5)
        assert opened.is_set()

    def test_budget_is_back_after_an_error(self):
        data = file_of(smooth(), "PNG")
        budget = MemoryBudget(100)
        with pytest.raises(ImageError):
            Picture(data[:-300], "cut", budget=budget)
        with budget.taken(100):
            pass


class TestFormats:
    def test_eps_starts_no_program(self, tmp_path, monkeypatch):
        """Pillow's reader of EPS runs Ghostscript when it is there."""
        from PIL import EpsImagePlugin

        monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("started"))
        smooth().save(tmp_path / "a.eps")
        (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
        with pytest.raises(ImageError) as error:
            Picture(tmp_path / "a.jpg")
        assert str(error.value) == (
            f"{tmp_path / 'a.jpg'}: cannot read this picture: EPS and PDF are not opened; save it as JPEG "
            "or PNG"
        )

    @pytest.mark.parametrize("kind", ["PCX", "TGA", "ICO", "SGI", "DDS", "PDF"])
    def test_formats_that_are_not_named(self, kind):
        with pytest.raises(ImageError, match="x: cannot read this picture: "):
            Picture(file_of(smooth(64, 64), kind), "x")
