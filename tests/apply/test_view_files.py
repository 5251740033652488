"""What a viewer may open: one file, or those of a folder; nothing outside of it."""

import dataclasses
import os

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.apply.view_files import FaceLibrary
from mofa_nvdr.data.decoding import ImageError
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.runs import shipped
from mofa_nvdr.system.origins import content_hash
from tests.helpers.fake_landmarks import take_networks_away
from tests.helpers.portraits import mirrored_cap, portrait

OUTSIDE = ("../secret.npz", "/etc/passwd", "faces/../../secret.npz", "..", "", "link.npz")


@pytest.fixture(scope="module")
def model():
    return mirrored_cap()


@pytest.fixture
def folder(model, tmp_path):
    """faces/: two people, one in a folder below, with photographs; secret.npz and secret.png next to it."""
    folder = tmp_path / "faces"
    (folder / "more").mkdir(parents=True)
    model.save(folder / "m.safetensors")
    for place, name in ((folder, "a"), (folder / "more", "b"), (tmp_path, "secret")):
        photo, face = portrait(model)
        photo[0, 0] = len(name)
        iio.imwrite(place / f"{name}.png", photo)
        known = {"source": f"{name}.png", "source_hash": content_hash(place / f"{name}.png")}
        where = str(folder / "m.safetensors")
        dataclasses.replace(face, face_model_file=where, **known).save(place / f"{name}.npz")
    return folder


class TestFolder:
    def test_names(self, folder):
        (folder / "notes.txt").write_text("no face")
        np.savez(folder / "other.npz", a=1)
        (folder / ".hidden.npz").write_bytes((folder / "a.npz").read_bytes())
        assert FaceLibrary(folder).names == ["a.npz", "more/b.npz", "a.png", "more/b.png"]

    def test_opens_with_its_photograph(self, folder):
        library = FaceLibrary(folder, size=64)
        for name in ("a.npz", "more/b.npz"):
            face = library.open(name)
            assert face.name == name and face.size == 64
            assert np.array_equal(face.photo, iio.imread(folder / name.replace("npz", "png")))

    def test_the_last_few_are_kept(self, folder):
        content = (folder / "a.npz").read_bytes()
        for k in range(5):
            (folder / f"a{k}.npz").write_bytes(content)
        library = FaceLibrary(folder)
        first = library.open("a0.npz")
        assert library.open("a0.npz") is first
        for k in range(1, 5):
            library.open(f"a{k}.npz")
        assert library.open("a0.npz") is not first

    def test_without_a_face(self, tmp_path):
        with pytest.raises(ValueError, match="no face in this folder; expected .npz files"):
            FaceLibrary(tmp_path)

    def test_with_a_photo(self, folder):
        with pytest.raises(ValueError, match="--photo x.png: .* is a folder; give one .npz"):
            FaceLibrary(folder, "x.png")

    def test_many(self, folder, monkeypatch, capsys):
        monkeypatch.setattr("mofa_nvdr.apply.view_files._MOST", 2)
        assert len(FaceLibrary(folder).names) == 2
        assert "4 faces, the first 2 are listed" in capsys.readouterr().out


class TestNothingOutside:
    @pytest.mark.parametrize("name", OUTSIDE)
    def test_names_that_lead_out(self, folder, name):
        with pytest.raises(ValueError, match="no face"):
            FaceLibrary(folder).open(name)

    def test_links_that_lead_out(self, folder):
        """Are not listed, nor followed when one takes the place of a file later."""
        os.symlink("../secret.npz", folder / "link.npz")
        os.symlink("../secret.png", folder / "link.png")
        library = FaceLibrary(folder)
        assert not any("link" in name for name in library.names)
        (folder / "a.npz").unlink()
        os.symlink("../secret.npz", folder / "a.npz")
        with pytest.raises(ValueError, match="a.npz: leads out of the folder"):
            library.open("a.npz")

    @pytest.mark.parametrize("source", ["../secret.png", "{outside}/secret.png", "link.png"])
    def test_parameters_that_name_a_photograph_outside(self, folder, model, source):
        """Are shown without it."""
        outside = folder.parent
        os.symlink("../secret.png", folder / "link.png")
        source = source.format(outside=outside)
        face = portrait(model)[1]
        where = str(folder / "m.safetensors")
        named = {"source": source, "source_hash": content_hash(outside / "secret.png")}
        dataclasses.replace(face, face_model_file=where, **named).save(folder / "bad.npz")
        assert FaceLibrary(folder).open("bad.npz").photo is None

    def test_parameters_that_name_a_face_model_outside(self, folder, model):
        """The user may name it; a file of the folder may not."""
        outside = folder.parent / "m.safetensors"
        model.save(outside)
        face = dataclasses.replace(portrait(model)[1], face_model_file=str(outside))
        face.save(folder / "bad.npz")
        with pytest.raises(ValueError, match="its face model lies outside of the folder"):
            FaceLibrary(folder).open("bad.npz")
        assert FaceLibrary(folder, face_model=str(outside)).open("bad.npz").photo is None


class TestOneFile:
    def test_parameters(self, folder):
        library = FaceLibrary(folder / "a.npz")
        assert library.names == ["a.npz"] and library.open("a.npz").photo is not None
        with pytest.raises(ValueError, match="no face"):
            library.open("more/b.npz")

    def test_without_its_photograph(self, folder, capsys):
        (folder / "a.png").unlink()
        assert FaceLibrary(folder / "a.npz").open("a.npz").photo is None
        line = capsys.readouterr().out
        assert "a.npz: its photograph is not here" in line and len(line.splitlines()) == 1

    def test_with_a_given_photograph(self, folder):
        (folder / "a.png").rename(folder / "c.png")
        library = FaceLibrary(folder / "a.npz", str(folder / "c.png"))
        assert library.open("a.npz").photo is not None

    def test_missing(self, tmp_path):
        for name in ("no.npz", "no.jpg"):
            with pytest.raises(ValueError, match=f"{name}: no such file"):
                FaceLibrary(tmp_path / name).open(name)

    def test_a_video(self, tmp_path):
        with pytest.raises(ImageError, match="clip.mp4: a video; .* makes CLIP.npz of it"):
            FaceLibrary(tmp_path / "clip.mp4").open("clip.mp4")

    def test_a_result_is_no_photograph(self, folder):
        from mofa_nvdr.render.pictures import write_png

        write_png(folder / "panel.png", np.zeros((20, 20, 3), np.uint8), kind="panel")
        with pytest.raises(ImageError, match="panel.png: a panel that mofa-nvdr wrote"):
            FaceLibrary(folder / "panel.png").open("panel.png")

    def test_a_photograph_without_the_networks(self, folder, monkeypatch):
        take_networks_away(monkeypatch)
        monkeypatch.setattr(shipped, "SHIPPED_FILE", "nothing.safetensors")
        with pytest.raises(NetworkMissingError, match="^view: .* or give the .npz of a face"):
            FaceLibrary(folder / "a.png").open("a.png")
