"""Panels and sheets: where each picture lies, and its values by hand."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.render.pictures import (
    PANEL_COLUMNS,
    captioned,
    geometry_picture,
    panels,
    png_bytes,
    sheet,
    to_uint8,
    write_png,
)
from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.shaders.gbuffer import GBuffer
from mofa_nvdr.system.marks import read_mark

PAPER = 33  # 0.13 * 255, rounded


def _rendering(normal: tuple[float, float, float] = (0, 0, 1)) -> Rendering:
    """2x3 pixels, one colour and one normal everywhere; only the left column is covered."""
    height, width = 2, 3

    def plain(*values: float) -> torch.Tensor:
        return (
            torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1).repeat(1, 1, height, width)
        )

    mask = torch.zeros(1, 1, height, width)
    mask[..., 0] = 1
    buffer = GBuffer(
        albedo=plain(0.2, 0.4, 0.6),
        normal=plain(*normal),
        shading=plain(1.0, 0.5, 3.0),
        depth=plain(1000),
        triangle_ids=mask[:, 0].long() - 1,
    )
    return Rendering(plain(1.2, 0.4, -0.1), mask, lambda: buffer)


class TestGeometryPicture:
    def test_values(self):
        """0.12 + 0.75 cos of the angle to (0.35, 0.45, 1); 0.12 where turned away."""
        rendering = _rendering()
        picture = geometry_picture(rendering)
        assert picture.shape == (1, 3, 2, 3)
        expected = 0.12 + 0.75 / (0.35**2 + 0.45**2 + 1) ** 0.5
        assert torch.allclose(picture, torch.tensor(expected))
        assert torch.allclose(geometry_picture(_rendering((0, 0, -1))), torch.tensor(0.12))

    def test_light_comes_from_above_and_right(self):
        def brightness(*normal: float) -> float:
            return geometry_picture(_rendering(normal)).mean().item()

        assert brightness(0, 0.6, 0.8) > brightness(0, -0.6, 0.8)
        assert brightness(0.6, 0, 0.8) > brightness(-0.6, 0, 0.8)


class TestPanels:
    def test_layout_and_values(self):
        photo = torch.full((1, 3, 2, 3), 0.5)
        result = panels(photo, _rendering())
        assert result.shape == (1, 2, 15, 3) and result.dtype == np.uint8
        columns = dict(zip(PANEL_COLUMNS, np.split(result[0], 5, axis=1)))
        assert list(columns) == ["input", "overlay", "geometry", "albedo", "shading"]
        clay = round(255 * (0.12 + 0.75 / 1.325**0.5))
        covered = {
            "input": (128, 128, 128),
            "overlay": (255, 102, 0),
            "geometry": (clay,) * 3,
            "albedo": (51, 102, 153),
            "shading": (128, 64, 255),  # halved, then clipped
        }
        for name, picture in columns.items():
            assert (picture[:, 0] == covered[name]).all(), name
            empty = 128 if name in ("input", "overlay") else PAPER
            assert (picture[:, 1:] == empty).all(), name

    def test_pixels_without_photograph(self):
        photo = torch.full((1, 3, 2, 3), torch.nan)
        assert (panels(photo, _rendering())[0, :, :3] == PAPER).all()

    def test_what_is_seen(self):
        """White where the photograph shows the face, in a sixth column; grey beside the face."""
        visible = torch.full((1, 1, 2, 3), 0.2)
        row = panels(torch.full((1, 3, 2, 3), 0.5), _rendering(), visible)[0]
        assert row.shape == (2, 18, 3)
        assert (row[:, 15] == 51).all() and (row[:, 16:] == PAPER).all()
        assert np.array_equal(row[:, :15], panels(torch.full((1, 3, 2, 3), 0.5), _rendering())[0])

    def test_finer_renderings_have_no_steps(self):
        """Pixels are the means of those that they hold; what is covered by half is half the photograph."""
        photo = torch.full((1, 3, 1, 1), 1.0)
        mask = torch.tensor([[1.0, 0], [1, 0]]).view(1, 1, 2, 2)
        three = mask.expand(1, 3, 2, 2)
        normal = mask * torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)
        buffer = GBuffer(0.6 * three, normal, 1.0 * three, mask, mask[:, 0].long() - 1)
        fine = Rendering(0.2 * three, mask, lambda: buffer)
        row = panels(photo, fine, torch.ones(1, 1, 1, 1))[0, 0, :, 0] / 255
        clay = 0.12 + 0.75 / 1.325**0.5
        half = [(x + 0.13) / 2 for x in (clay, 0.6, 0.5, 1.0)]
        np.testing.assert_allclose(row, [1.0, 0.6, *half], atol=0.003)

    def test_inputs_are_untouched(self):
        photo = torch.full((1, 3, 2, 3), torch.nan)
        panels(photo, _rendering())
        assert photo.isnan().all()


class TestToUint8:
    def test_rounds_and_clips(self):
        image = torch.tensor([-0.1, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0]).view(1, 1, 1, 6)
        assert to_uint8(image).ravel().tolist() == [0, 0, 0, 1, 255, 255]

    def test_layout(self):
        image = torch.rand(2, 3, 4, 5, requires_grad=True)
        result = to_uint8(image)
        assert result.shape == (2, 4, 5, 3)
        assert result[1, 3, 0, 2] == round(255 * image[1, 2, 3, 0].item())


class TestSheet:
    def test_fills_row_by_row(self):
        pictures = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones(
            (2, 4, 3), np.uint8
        )
        result = sheet(pictures, columns=2)
        assert result.shape == (6, 8, 3)
        assert result[::2, ::4, 0].tolist() == [[1, 2], [3, 4], [5, PAPER]]
        assert np.array_equal(result[2:4, 4:], pictures[3])

    def test_one_column(self):
        pictures = np.random.default_rng(0).integers(0, 255, (3, 2, 4, 3)).astype(np.uint8)
        assert np.array_equal(sheet(pictures, columns=1), pictures.reshape(6, 4, 3))


class TestWritePng:
    def test_round_trip(self, tmp_path):
        picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
        write_png(tmp_path / "a.png", picture)
        assert np.array_equal(iio.imread(tmp_path / "a.png"), picture)

    def test_grey(self, tmp_path):
        grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
        write_png(tmp_path / "a.png", grey)
        assert np.array_equal(iio.imread(tmp_path / "a.png"), grey)

    def test_mark(self, tmp_path):
        """What a picture is can be read back; its pixels are the same."""
        picture = np.zeros((5, 7, 3), np.uint8)
        write_png(tmp_path / "a.png", picture)
        assert read_mark(tmp_path / "a.png") == "picture"
        write_png(tmp_path / "a.png", picture, kind="panel")
        assert read_mark(tmp_path / "a.png") == "panel"
        assert png_bytes(picture, kind="panel") == (tmp_path / "a.png").read_bytes()

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(OSError):
            write_png(tmp_path / "no" / "a.png", np.zeros((5, 7, 3), np.uint8))


class TestCaptioned:
    def test_caption(self):
        picture = captioned(np.zeros((20, 100, 3), np.uint8), "jawOpen")
        assert picture.shape == (34, 100, 3)
        assert picture[20:].max() > 150 and picture[20:, 90:].max() < 60
        long = captioned(
            np.zeros((20, 100, 3), np.uint8), "a caption of more words than one line holds"
        )
        assert long.shape[0] >= 20 + 3 * 14 and long.shape[1] == 100
        assert (long[20:].reshape(-1, 14, 100, 3).max((1, 2, 3)) > 150).all()  # text in every line
