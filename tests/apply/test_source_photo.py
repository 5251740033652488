"""Where the photograph of a parameter file is: given, named, moved, changed."""

import dataclasses

import pytest

from mofa_nvdr.apply.source_photo import source_photo
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
