"""mofa-nvdr export: every format, and one line for options that do not go together."""

import os

import pytest

from mofa_nvdr.apply.export import ExportOptions
from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words
from tests.helpers.exported_faces import some_face
from tests.helpers.mesh_readers import Glb, geometry_of
from tests.helpers.small_face import small_face, textured_face


@pytest.fixture
def cap(tmp_path):
    """(model, its file, a face, its file): the small cap, with named expressions and a layout."""
    model = textured_face()
    model.save(tmp_path / "cap.safetensors")
    face = some_face(model, tmp_path / "face.npz")
    return model, str(tmp_path / "cap.safetensors"), face, str(tmp_path / "face.npz")


class TestCommand:
    def test_all_formats(self, cap, tmp_path, capsys):
        _, model_file, _, face_file = cap
        for ending in ("obj", "ply", "glb"):
            out = str(tmp_path / f"face.{ending}")
            args = ["--out", out, "--face-model", model_file, "--lit", "--posed"]
            assert main(["export", face_file, *args]) == 0
            said = capsys.readouterr().out
            assert out in said and "camera space" in said and "(lit)" in said
            assert ("metres" if ending == "glb" else "millimetres") in said
            assert len(geometry_of(out).vertices) == 144

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--out", "face.stl"], "expected a file ending in .obj, .ply, .glb, .csv"),
            (["--out", "face"], "expected a file ending in .obj, .ply, .glb"),
            (["--out", "no/face.obj"], "no such folder"),
            (["--out", "face.obj", "--units", "cm"], "--units is 'cm', expected mm or m"),
            (["--out", "face.glb", "--units", "mm"], "a .glb is in metres by its specification"),
            (["--out", "face.obj", "--color", "pink"], "expected texture, vertex or none"),
            (["--out", "face.ply", "--color", "texture"], "a .ply takes vertex or none"),
            (
                ["--out", "face.glb", "--targets", "all"],
                "--targets is 'all', expected named, modes",
            ),
            (["--out", "face.obj", "--texture-size", "3"], "--texture-size is 3, expected 16 to"),
            (
                ["--out", "face.obj", "--texture", "skin"],
                "--texture is 'skin', expected albedo, photo",
            ),
            (
                ["--out", "face.glb", "--material", "gold"],
                "--material is 'gold', expected unlit, matte",
            ),
            (["--out", "face.glb", "--maps", "exr"], "--maps is 'exr', expected png, npz"),
            (["--out", "face.glb", "--photo", "a.jpg"], "--photo: give --texture photo with it"),
            (
                ["--out", "face.ply", "--texture", "photo"],
                "a .ply with --color vertex has no texture",
            ),
            (
                ["--out", "face.obj", "--texture", "photo", "--lit"],
                "the photograph's light is taken out",
            ),
            (["--out", "face.obj", "--texture", "photo"], "its photograph someone.jpg is not here"),
            (["--out", "face.obj", "--person", "1"], "--person: only of a whole clip"),
        ],
    )
    def test_mistakes(self, cap, tmp_path, capsys, args, message):
        before = sorted(os.listdir(tmp_path))
        args[1] = str(tmp_path / args[1])
        assert message in error_line(capsys, "export", cap[3], *args, "--face-model", cap[1])
        assert sorted(os.listdir(tmp_path)) == before

    def test_photograph_of_a_face_model(self, cap, tmp_path, capsys):
        out = ["--out", str(tmp_path / "a.glb"), "--texture", "photo"]
        message = error_line(capsys, "export", cap[1], *out)
        assert "--texture photo needs the .npz of a photograph's face" in message

    def test_no_texture_coordinates(self, tmp_path, capsys):
        """One line that says the way out; vertex colours only when they are asked for."""
        small_face().save(tmp_path / "bare.safetensors")
        model, out = str(tmp_path / "bare.safetensors"), str(tmp_path / "a.glb")
        message = error_line(capsys, "export", model, "--out", out)
        assert "face model cap has no texture coordinates; use --color vertex" in message
        assert not os.path.exists(out)
        assert main(["export", model, "--out", out, "--color", "vertex"]) == 0
        glb = Glb((tmp_path / "a.glb").read_bytes())
        assert "COLOR_0" in glb.primitive["attributes"] and "targets" not in glb.primitive

    def test_wrong_input(self, cap, tmp_path, capsys):
        _, model_file, _, face_file = cap
        out = ["--out", str(tmp_path / "a.obj")]
        assert "no such file" in error_line(capsys, "export", str(tmp_path / "b.npz"), *out)
        message = error_line(capsys, "export", face_file, *out, "--face-model", "default")
        assert "parameters of face model cap" in message and "not of procedural" in message
        (tmp_path / "c.npz").write_bytes(b"no")
        assert "not a readable .npz" in error_line(capsys, "export", str(tmp_path / "c.npz"), *out)
        assert not (tmp_path / "a.obj").exists()

    def test_place_that_cannot_be_written(self, cap, tmp_path, capsys):
        """A folder has the file's name: nothing of the three files stays."""
        (tmp_path / "face.mtl").mkdir()
        before = sorted(os.listdir(tmp_path))
        args = ["export", cap[3], "--out", str(tmp_path / "face.obj"), "--face-model", cap[1]]
        assert "cannot write there" in error_line(capsys, *args)
        assert sorted(set(os.listdir(tmp_path)) - {"face_texture.png"}) == before


class TestOptions:
    def test_into_one_call(self, monkeypatch):
        calls = calls_of(monkeypatch, "mofa_nvdr.apply.export_files.export_files")
        assert main(["export", "default", "--out", "a.obj"]) == 0
        words = ["--face-model", "m.safetensors", "--units", "m", "--color", "vertex"]
        more = ["--lit", "--posed", "--neutral", "--targets", "modes", "--texture-size", "64"]
        more += [
            "--overwrite",
            "--frontal",
            "--material",
            "matte",
            "--maps",
            "png",
            "--person",
            "1",
        ]
        assert main(["export", "face.npz", "--out", "b.glb", *words, *more]) == 0
        skin = ["--texture", "photo", "--photo", "a.jpg", "b.jpg", "--no-balanced"]
        assert main(["export", "a.npz", "b.npz", "--out", "b.glb", *skin]) == 0
        wanted = ExportOptions(
            "m", "vertex", True, True, True, "modes", 64, frontal=True, material="matte", maps="png"
        )
        photo = ExportOptions(texture="photo", balanced=False)
        assert calls == [
            (("default",), "a.obj", "", ExportOptions(), False, (), 0),
            (("face.npz",), "b.glb", "m.safetensors", wanted, True, (), 1),
            (("a.npz", "b.npz"), "b.glb", "", photo, False, ("a.jpg", "b.jpg"), 0),
        ]

    def test_help_has_units(self, capsys):
        words = help_words(capsys, "export")
        assert "m for .glb (its specification), else mm" in words
        assert "side of the texture in texels" in words
