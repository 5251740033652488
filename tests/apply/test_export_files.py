"""Which export a command asks for: a face, a clip, a table."""

import numpy as np
import pytest

from mofa_nvdr.apply import export_files as module
from mofa_nvdr.apply.export import ExportOptions
from mofa_nvdr.apply.export_files import export_files
from tests.helpers.arkit_cap import arkit_cap, known_clip
from tests.helpers.exported_faces import some_face
from tests.helpers.mesh_readers import Glb


@pytest.fixture
def files(tmp_path):
    """cap.safetensors, face.npz and clip.npz."""
    model = arkit_cap()
    model.save(tmp_path / "cap.safetensors")
    some_face(model, tmp_path / "face.npz")
    known_clip(model)[0].save(tmp_path / "clip.npz")
    return tmp_path


def _export(files, source, out, **more):
    sources = [str(files / name) for name in ([source] if isinstance(source, str) else source)]
    return export_files(
        sources, files / out, str(files / "cap.safetensors"), ExportOptions(texture_size=32), **more
    )


class TestExportFiles:
    def test_a_face(self, files):
        assert _export(files, "face.npz", "a.glb") == [files / "a.glb"]
        assert "animations" not in Glb((files / "a.glb").read_bytes()).json

    def test_a_clip(self, files):
        _export(files, "clip.npz", "a.glb", person=1)
        assert "animations" in Glb((files / "a.glb").read_bytes()).json

    def test_a_frame_of_a_clip(self, files):
        _export(files, "clip.npz#3:1", "a.glb")
        assert "animations" not in Glb((files / "a.glb").read_bytes()).json

    def test_tables(self, files):
        for source, lines in (("face.npz", 2), ("clip.npz", 7), ("clip.npz#2", 2)):
            _export(files, source, "w.csv", overwrite=True)
            assert len((files / "w.csv").read_text().splitlines()) == lines

    def test_default_options(self, files, monkeypatch):
        calls = []
        monkeypatch.setattr(module, "export_file", lambda *args: calls.append(args))
        export_files(["default"], files / "a.ply")
        assert calls[0][3] == ExportOptions()

    @pytest.mark.parametrize(
        ("source", "out", "more", "message"),
        [
            ("face.npz", "a.stl", {}, "expected a file ending in .obj, .ply, .glb, .csv"),
            ("face.npz", "no/a.glb", {}, "no such folder"),
            ("face.npz", "a.glb", {"person": 1}, "--person: only of a whole clip"),
            ("cap.safetensors", "a.csv", {}, "a table of weights is of one face or clip"),
            (["face.npz", "face.npz"], "a.csv", {}, "a table of weights is of one face or clip"),
            (["face.npz", "face.npz"], "a.glb", {}, "2 faces, expected one; several are for"),
            (["face.npz", "clip.npz"], "a.glb", {}, "2 faces, expected one"),
        ],
    )
    def test_mistakes(self, files, source, out, more, message):
        with pytest.raises(ValueError, match=message):
            _export(files, source, out, **more)

    def test_nothing_to_export(self, files):
        with pytest.raises(ValueError, match="no face; give a parameter file"):
            export_files([], files / "a.glb")

    def test_a_model_without_blendshapes(self, files, tmp_path):
        from tests.helpers.small_face import textured_face

        model = textured_face()
        model.save(tmp_path / "plain.safetensors")
        some_face(model, tmp_path / "plain.npz")
        with pytest.raises(ValueError, match="none of ARKit's 52 blendshapes"):
            export_files(
                [str(tmp_path / "plain.npz")],
                tmp_path / "w.csv",
                str(tmp_path / "plain.safetensors"),
            )


def test_weights_are_bounded(files):
    _export(files, "clip.npz", "w.csv")
    values = np.genfromtxt(files / "w.csv", delimiter=",", skip_header=1)[:, 9:-1]
    assert values.shape == (6, 52) and values.min() >= 0 and values.max() <= 1
