"""What commands that write parameter files share: places, what is said, and what a result measures."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.result_files import (
    NothingWrittenError,
    Written,
    check_source,
    image_paths,
    result_path,
    with_measures,
    write_result,
)
from mofa_nvdr.apply.sources import Source, name_sources
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.marks import read_mark
from mofa_nvdr.system.origins import content_hash
from tests.helpers.photos_to_reconstruct import smooth_picture
from tests.helpers.small_face import small_face


def _parameters() -> FaceParameters:
    model = small_face()
    return FaceParameters(
        model.layout.zeros(), Camera(48), np.array([10.0, 20.0, 96.0]), ("cap", model.hash), ""
    )


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "people"
    (folder / "alice").mkdir(parents=True)
    iio.imwrite(folder / "alice" / "1.png", smooth_picture())
    (found,) = name_sources([(folder, image_paths([folder]))])
    return found


class TestWritten:
    def test_report(self, capsys):
        written = Written()
        written.append(Path("a.npz"))
        written.left_out.append("b.png: no face found")
        written.report("fit", "fitted", Path("out"), Inventory())
        printed = capsys.readouterr()
        assert printed.err == "skipped: b.png: no face found\n"
        assert printed.out == "1 fitted, 1 skipped: out\n"

    def test_nothing(self):
        written = Written()
        written.left_out += ["b.png: no face found", "c.png: no face found"]
        with pytest.raises(
            NothingWrittenError, match=r"^fit: nothing fitted: b\.png: no face found; and 1 more$"
        ):
            written.report("fit", "fitted", Path("out"), Inventory())
        assert NothingWrittenError.exit_code == 3


class TestImagePaths:
    def test_the_command_is_named(self):
        with pytest.raises(
            ValueError, match="^fit: no input; give image files or folders of images$"
        ):
            image_paths([], command="fit")


class TestWriteResult:
    def test_what_is_written(self, source, tmp_path):
        """In the photograph's own place, with pictures that are marked and know what they came of."""
        out = tmp_path / "out"
        file_hash = check_source(source, out, overwrite=False)
        assert file_hash == content_hash(source.path)
        pictures = {"panel": smooth_picture(8, 16), "occluders": smooth_picture(8, 8)[..., 0]}
        path = write_result(source, file_hash, _parameters(), pictures, out, overwrite=False)
        assert path == result_path(source, out) == out / "alice" / "1.npz"
        face = load_parameters(path)
        assert (face.source, face.source_hash) == ("alice/1.png", file_hash)
        for kind, picture in pictures.items():
            file = out / "alice" / f"1_{kind}.png"
            assert np.array_equal(iio.imread(file), picture)
            assert read_mark(file) == kind
        write_result(source, file_hash, _parameters(), pictures, out, overwrite=False)  # its own

    @pytest.mark.parametrize("name", ["1_panel.png", "1_occluders.png"])
    def test_the_place_of_a_picture_is_taken(self, source, tmp_path, name):
        """Then nothing is written."""
        out = tmp_path / "out"
        (out / "alice").mkdir(parents=True)
        (out / "alice" / name).write_bytes(b"somebody's")
        pictures = {"panel": smooth_picture(8, 8), "occluders": smooth_picture(8, 8)}
        with pytest.raises(
            ImageError, match=rf"{name} is there, and no result of it; give another"
        ):
            write_result(source, "", _parameters(), pictures, out, overwrite=False)
        assert [p.name for p in (out / "alice").iterdir()] == [name]
        write_result(source, "", _parameters(), pictures, out, overwrite=True)


class TestCheckSource:
    def test_another_photograph_s_place(self, source, tmp_path):
        """A changed photograph is another one."""
        out = tmp_path / "out"
        file_hash = check_source(source, out, overwrite=False)
        write_result(source, file_hash, _parameters(), {}, out, overwrite=False)
        iio.imwrite(source.path, smooth_picture(seed=5))
        with pytest.raises(
            ImageError, match=r"1\.npz is the result of another photograph \(alice/1"
        ):
            check_source(source, out, overwrite=False)
        assert check_source(source, out, overwrite=True) == content_hash(source.path)

    def test_own_files(self, source, tmp_path):
        written = write_result(source, "", _parameters(), {}, tmp_path / "out", overwrite=False)
        (own,) = name_sources([(written, [written])])
        with pytest.raises(ImageError, match="a parameter file that mofa-nvdr wrote"):
            check_source(own, tmp_path / "other", overwrite=False)


class TestWithMeasures:
    def test_by_hand(self):
        """A photograph that is 0.1 brighter in all channels: sqrt(0.03), and landmarks in its pixels."""
        model = small_face()
        decoder = FaceDecoder(model, 48)
        with torch.no_grad():
            face = decoder.rasterize(decoder.geometry(model.layout.zeros()))
        photo = face.image + 0.1
        (measured,) = with_measures([_parameters()], photo, face)
        assert measured.photometric == pytest.approx(0.03**0.5, abs=1e-4)
        assert measured.mask_fraction == face.mask.mean().item()
        want = face.landmarks[0].numpy() * 2 + [10, 20]
        np.testing.assert_allclose(measured.landmarks68, want, atol=1e-4)
        photo[..., :24] = torch.nan
        (again,) = with_measures([_parameters()], photo, face)
        assert again.photometric == pytest.approx(0.03**0.5, abs=1e-4)
