"""From pictures to parameter files: what is an input, what is written, and what a run predicts."""

import pytest
from PIL import Image

from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.reconstruction import image_paths, reconstruct_files
from mofa_nvdr.data.listing import Inventory
from tests.helpers.photos_to_reconstruct import smooth_picture, write_photos


@pytest.fixture
def run(smoke_run):
    return smoke_run[0]


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


class TestReconstructFiles:
    def test_what_is_written(self, run, cap, photos, tmp_path, capsys):
        """The paths of the parameters, in the order of the inputs; those that are no picture are named."""
        (tmp_path / "bad.png").write_bytes(b"no picture")
        inputs = [photos / "more", tmp_path / "bad.png", photos / "a.png"]
        out = tmp_path / "new" / "out"
        written = reconstruct_files(inputs, run, out, cap, "cpu")
        assert written == [out / "c.npz", out / "a.npz"]
        assert sorted(p.name for p in out.iterdir()) == [
            "a.npz", "a_panel.png", "c.npz", "c_panel.png",
        ]  # fmt: skip
        printed = capsys.readouterr()
        assert f"2 reconstructed, 1 skipped: {out}" in printed.out
        assert printed.err.startswith(f"skipped: {tmp_path / 'bad.png'}: cannot read this picture")
        face = load_parameters(written[0])
        assert face.source == "c.png" and face.face_model_file == cap
        assert face.crop.tolist() == [0, 0, 80]

    def test_own_results_are_no_inputs(self, run, cap, photos, capsys):
        """Into the folder of the photographs, twice; results that are named are skipped and named."""
        for _ in range(2):
            written = reconstruct_files([photos], run, photos, cap, "cpu")
            assert [path.name for path in written] == ["a.npz", "b.npz", "c.npz"]
        assert (
            "note: 7 files not read: 1 .txt, what mofa-nvdr wrote: 3 panels, 3 parameter files\n"
        ) in capsys.readouterr().err
        inputs = [photos / "a.png", photos / "a.npz", photos / "a_panel.png"]
        reconstruct_files(inputs, run, photos, cap, "cpu")
        assert capsys.readouterr().err == (
            f"skipped: {photos / 'a.npz'}: a parameter file that mofa-nvdr wrote, not a photograph\n"
            f"skipped: {photos / 'a_panel.png'}: a panel that mofa-nvdr wrote, not a photograph\n"
        )

    def test_large_ones(self, run, cap, tmp_path, capsys):
        """Its place in the photograph is kept in the photograph's pixels; above the limit it is skipped."""
        Image.fromarray(smooth_picture(900, 1300)).save(tmp_path / "a.jpg")
        Image.fromarray(smooth_picture(100, 100)).save(tmp_path / "b.jpg")
        (written, _) = reconstruct_files([tmp_path], run, tmp_path, cap, "cpu")
        assert load_parameters(written).crop.tolist() == [200, 0, 900]
        reconstruct_files([tmp_path], run, tmp_path, cap, "cpu", max_megapixels=1)
        assert (
            "a.jpg: the picture is 1300x900 px, 1 megapixels, more than --max-megapixels 1; "
            in (capsys.readouterr().err)
        )

    def test_nothing_readable(self, run, cap, tmp_path):
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(b"no picture")
        with pytest.raises(
            ValueError, match=r"no readable picture: .*a\.png: cannot read .*; and 1 more$"
        ):
            reconstruct_files([tmp_path], run, tmp_path / "out", cap, "cpu")


class TestImagePaths:
    def test_folders_and_files_in_order(self, photos):
        paths = image_paths([photos / "more", str(photos / "notes.txt"), photos])
        names = [path.relative_to(photos).as_posix() for path in paths]
        # A file that is named is an input whatever it is; hidden ones and others in folders are none.
        assert names == ["more/c.png", "notes.txt", "a.png", "b.JPG", "more/c.png"]

    def test_what_else_is_there_is_counted(self, photos):
        inventory = Inventory()
        image_paths([photos], inventory)
        assert str(inventory) == "1 file not read: 1 .txt"

    def test_mistakes(self, tmp_path):
        with pytest.raises(ValueError, match="no input; give image files or folders of images"):
            image_paths([])
        with pytest.raises(ValueError, match="none: no such image or folder"):
            image_paths([tmp_path / "none"])
        with pytest.raises(ValueError, match="no pictures in this folder$"):
            image_paths([tmp_path])
        (tmp_path / "film.mov").write_bytes(b"")
        with pytest.raises(ValueError, match=r"in this folder; 1 file not read: 1 \.mov$"):
            image_paths([tmp_path])
