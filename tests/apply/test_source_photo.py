"""Where the photograph of a parameter file is: given, named, moved, changed."""

import dataclasses
from pathlib import Path

import pytest

from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.source_photo import (
    named_photograph,
    photograph_in,
    source_photo,
    way_to,
)
from mofa_nvdr.system.origins import content_hash
from tests.helpers.exported_faces import some_face
from tests.helpers.small_face import textured_face


@pytest.fixture
def face(tmp_path):
    """Made of someone.jpg, which lies next to the file."""
    (tmp_path / "someone.jpg").write_bytes(b"pixels")
    face = some_face(textured_face(), tmp_path / "face.npz")
    return dataclasses.replace(face, source_hash=content_hash(tmp_path / "someone.jpg"))


class TestSourcePhoto:
    def test_next_to_the_file(self, face, tmp_path):
        assert source_photo(tmp_path / "face.npz", face) == tmp_path / "someone.jpg"

    def test_next_to_its_folder(self, face, tmp_path):
        assert source_photo(tmp_path / "out" / "face.npz", face) == tmp_path / "someone.jpg"

    def test_of_an_earlier_version_without_a_hash(self, face, tmp_path):
        (tmp_path / "someone.jpg").write_bytes(b"other pixels")
        old = dataclasses.replace(face, source_hash="")
        assert source_photo(tmp_path / "face.npz", old) == tmp_path / "someone.jpg"

    def test_missing(self, face, tmp_path):
        (tmp_path / "someone.jpg").unlink()
        with pytest.raises(ValueError) as error:
            source_photo(tmp_path / "face.npz", face, way_out="leave it")
        message = "its photograph someone.jpg is not here; give it as --photo, or leave it"
        assert str(error.value) == f"{tmp_path / 'face.npz'}: {message}"

    def test_changed(self, face, tmp_path):
        (tmp_path / "someone.jpg").write_bytes(b"other pixels")
        with pytest.raises(
            ValueError, match="someone.jpg is not the photograph that it was made of"
        ):
            source_photo(tmp_path / "face.npz", face)

    def test_without_a_name(self, face, tmp_path):
        nameless = dataclasses.replace(face, source="")
        with pytest.raises(ValueError, match=r"its photograph \(unnamed\) is not here"):
            source_photo(tmp_path / "face.npz", nameless)

    def test_given(self, face, tmp_path, capsys):
        same, other = tmp_path / "same.jpg", tmp_path / "other.jpg"
        same.write_bytes(b"pixels")
        other.write_bytes(b"other pixels")
        assert source_photo(tmp_path / "face.npz", face, str(same)) == same
        assert not capsys.readouterr().err
        assert source_photo(tmp_path / "face.npz", face, str(other)) == other
        assert "other.jpg is not the file that" in capsys.readouterr().err

    def test_given_what_is_no_photograph(self, face, tmp_path):
        npz = tmp_path / "face.npz"
        with pytest.raises(ValueError, match="--photo .*a parameter file that mofa-nvdr wrote"):
            source_photo(npz, face, str(npz))


class TestNamedPhotograph:
    def test_where_it_was_when_the_file_was_written(self, face, tmp_path, monkeypatch):
        """Files in faces/, the photograph in pictures/: neither is named from where the command runs."""
        for folder in ("pictures", "faces", "elsewhere"):
            (tmp_path / folder).mkdir()
        photo = (tmp_path / "someone.jpg").rename(tmp_path / "pictures" / "someone.jpg")
        npz = tmp_path / "faces" / "someone.npz"
        placed = dataclasses.replace(face, source_file=way_to(photo, npz.parent))
        assert placed.source_file == "../pictures/someone.jpg"
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert named_photograph(npz, face) is None
        assert named_photograph(npz, placed).samefile(photo)
        assert source_photo(npz, placed).samefile(photo)
        monkeypatch.chdir(tmp_path)
        here = Path("faces", "someone.npz")
        assert named_photograph(here, placed) == Path("pictures", "someone.jpg")
        placed.save(npz)
        assert load_parameters(npz).source_file == "../pictures/someone.jpg"

    def test_through_a_folder_that_is_a_link(self, face, tmp_path):
        (tmp_path / "deep" / "down").mkdir(parents=True)
        (tmp_path / "out").symlink_to(tmp_path / "deep" / "down")
        photo = (tmp_path / "someone.jpg").rename(tmp_path / "deep" / "someone else.jpg")
        placed = dataclasses.replace(face, source="", source_file=way_to(photo, tmp_path / "out"))
        assert named_photograph(tmp_path / "out" / "face.npz", placed).samefile(photo)

    def test_no_other_file_is_opened_than_the_one_that_was_meant(self, face, tmp_path):
        secret = tmp_path / "secret.jpg"
        secret.write_bytes(b"what a stranger's file may not reach")
        npz = tmp_path / "out" / "face.npz"
        for source_hash in ("", face.source_hash):
            lying = dataclasses.replace(
                face, source="", source_file="../secret.jpg", source_hash=source_hash
            )
            assert named_photograph(npz, lying) is None

    def test_no_name(self, face, tmp_path):
        nameless = dataclasses.replace(face, source="")
        assert named_photograph(tmp_path / "face.npz", nameless) is None


class TestPhotographIn:
    def test_in_the_first_folder_that_has_it(self, face, tmp_path):
        (tmp_path / "empty").mkdir()
        assert photograph_in(face, [tmp_path / "empty", tmp_path]) == tmp_path / "someone.jpg"

    def test_another_state_of_it_is_none(self, face, tmp_path):
        (tmp_path / "someone.jpg").write_bytes(b"other pixels")
        assert photograph_in(face, [tmp_path]) is None
        unhashed = dataclasses.replace(face, source_hash="")
        assert photograph_in(unhashed, [tmp_path]) == tmp_path / "someone.jpg"

    def test_no_name(self, face, tmp_path):
        assert photograph_in(dataclasses.replace(face, source=""), [tmp_path]) is None


class TestWayTo:
    def test_a_link_is_a_photograph_of_its_own(self, face, tmp_path):
        (tmp_path / "link.jpg").symlink_to(tmp_path / "someone.jpg")
        assert way_to(tmp_path / "link.jpg", tmp_path / "a" / "b") == "../../link.jpg"

    def test_a_folder_that_is_a_link(self, face, tmp_path):
        (tmp_path / "deep" / "down").mkdir(parents=True)
        (tmp_path / "out").symlink_to(tmp_path / "deep" / "down")
        assert way_to(tmp_path / "someone.jpg", tmp_path / "out") == "../../someone.jpg"

    def test_another_drive(self, monkeypatch, tmp_path):
        def relpath(path, start):
            raise ValueError("path is on mount 'C:', start on mount 'D:'")

        monkeypatch.setattr("os.path.relpath", relpath)
        assert way_to(tmp_path / "someone.jpg", tmp_path) == ""
