"""Face models of others: each format from a small file in its layout, and files that are wrong."""

import dataclasses

import numpy as np
import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.importers import formats
from mofa_nvdr.importers.foreign import ImportOptions
from mofa_nvdr.importers.formats import import_file, import_model
from tests.helpers.foreign_files import FILES, basis, refused


class TestEveryFormat:
    @pytest.mark.parametrize("key", [k for k in FILES if k != "ict"])
    def test_geometry(self, key, files, options, foreign):
        """Millimetres, our axes, deviations in the bases, outward triangles, whatever the file has."""
        model, _ = import_model(key, files[key], options)
        assert model.num_vertices == len(foreign.mean)  # what no triangle uses is gone
        shift = model.mean_shape.numpy() - foreign.mean
        # float32 of some 1e5 micrometres: 0.01 mm
        assert np.abs(shift - shift.mean(0)).max() < 0.02
        if key == "gnm":  # orthogonal modes of the same distribution
            for name, modes in (("shape", foreign.shape), ("expression", foreign.expression)):
                flat = basis(model, name).reshape(len(modes), -1)
                want = modes.reshape(len(modes), -1)
                assert np.abs(flat.T @ flat - want.T @ want).max() < 1e-2
                lengths = np.linalg.norm(flat, axis=1)
                assert (np.diff(lengths) < 0).all()
        else:
            np.testing.assert_allclose(basis(model, "shape"), foreign.shape, atol=2e-3)
        order = model.triangles.numpy()
        want = foreign.triangles
        same = {tuple(np.roll(t, -t.argmin())) for t in order}
        assert same == {tuple(np.roll(t, -t.argmin())) for t in want}
        assert model.landmarks.tolist() == list(range(68))

    @pytest.mark.parametrize("key", FILES)
    def test_placed_like_the_built_in_face(self, key, files, options, face_model):
        """Code zero's landmarks are in the same framing; the coarse face has the built-in one's landmarks."""
        model, _ = import_model(key, files[key], options)
        own = face_model.mean_shape[face_model.landmarks]
        distance = (model.mean_shape[model.landmarks] - own).norm(dim=1)
        # Subdivision rounds the coarse ict face off, its chin above all.
        assert distance.median() < (4.0 if key == "ict" else 0.2)
        assert abs(float(model.mean_shape[[36, 45], 0].sum())) < 0.5

    @pytest.mark.parametrize("key", ["bfm2009", "bfm2017", "deep3d", "lyhm", "eos"])
    def test_own_albedo(self, key, files, options, foreign):
        model, notes = import_model(key, files[key], options)
        np.testing.assert_allclose(model.mean_albedo.numpy(), foreign.color, atol=1e-5)
        np.testing.assert_allclose(basis(model, "albedo"), foreign.albedo, atol=1e-5)
        assert "albedo: its own" in notes

    @pytest.mark.parametrize("key", ["flame", "gnm", "ict"])
    def test_transferred_albedo(self, key, files, options, face_model):
        """Vertex k lies on the built-in face's landmark k and takes its colour."""
        model, notes = import_model(key, files[key], options)
        assert any("transferred from the face procedural" in note for note in notes)
        assert model.layout.num_albedo == 80
        if key != "ict":  # there the vertices are smoothed away from the landmarks
            points = [27, 30, 33, 8, 40, 51, 57]
            want = face_model.mean_albedo[face_model.landmarks[points]]
            # 0.067 at a lip's edge, where the coarse mesh's normals choose the neighbour's colour
            assert (model.mean_albedo[points] - want).abs().max() < 0.1
        # Skin is skin: lighter than lips and brows.
        middle = model.mean_albedo[model.landmarks]
        assert middle[[2, 14, 29]].mean() > middle[[51, 57]].mean() > 0.1

    def test_albedo_of_another_face(self, files, options):
        """Of that face, with its licence in the note, and modes of it."""
        giver = FaceModel.load("portraits")
        model, notes = import_model(
            "gnm", files["gnm"], dataclasses.replace(options, albedo_of="portraits")
        )
        assert f"transferred from the face portraits ({giver.hash}; Apache-2.0" in str(notes)
        points = [30, 33, 40, 51, 57]
        own = giver.landmarks[points]
        assert (model.mean_albedo[points] - giver.mean_albedo[own]).abs().max() < 0.05  # 0.025
        away = model.albedo_basis[:, points] - giver.albedo_basis[:, own]
        assert away.square().mean() < 0.1 * giver.albedo_basis[:, own].square().mean()

    def test_albedo_of_no_face(self, files, options):
        with pytest.raises(ValueError, match="^face model 'nobody': no such file"):
            import_model("gnm", files["gnm"], dataclasses.replace(options, albedo_of="nobody"))

    @pytest.mark.parametrize("key", FILES)
    def test_wanted_number_of_modes(self, key, files, options):
        few = ImportOptions(
            shape_modes=2, expression_modes=1, albedo_modes=3, landmarks=options.landmarks
        )
        layout = import_model(key, files[key], few)[0].layout
        has_expression = key not in ("bfm2009", "lyhm", "eos")
        assert (layout.num_shape, layout.num_albedo) == (2, 3)
        assert layout.num_expression == (1 if has_expression else 0)

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "eos", "bfm2017"])
    def test_subdivided(self, key, files, options, foreign):
        finer = ImportOptions(vertices=300, landmarks=options.landmarks)
        model, notes = import_model(key, files[key], finer)
        assert 250 < model.num_vertices < 300 and any("subdivided 1 times" in n for n in notes)
        count = len(foreign.mean)
        np.testing.assert_allclose(basis(model, "shape")[:, :count], foreign.shape, atol=2e-3)
        assert len(model.triangles) == 4 * len(foreign.triangles)
        fewer = ImportOptions(vertices=20, landmarks=options.landmarks)
        assert any(
            "more than --vertices 20: kept" in n for n in import_model(key, files[key], fewer)[1]
        )

    @pytest.mark.parametrize("key", FILES)
    def test_command(self, key, files, tmp_path, capsys):
        """Written, loaded again, and the licence printed."""
        out = tmp_path / "model.safetensors"
        landmarks = files["eos"].with_name("landmarks.json")
        args = ["model", "import", key, str(files[key]), "--out", str(out), "--landmarks"]
        assert main([*args, str(landmarks), "--name", "mine"]) == 0
        model = FaceModel.load(out)
        printed = capsys.readouterr().out
        assert f"licence: {model.metadata['licence']}" in printed and "mine" in printed
        assert model.name == "mine" and model.metadata["source"]
        assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]

    @pytest.mark.parametrize("key", FILES)
    def test_mislabelled(self, key, files, tmp_path, capsys):
        """Every format says what another one's file looks like."""
        other = "eos" if key != "eos" else "gnm"
        text = refused(capsys, tmp_path / "a.safetensors", other, files[key])
        assert f"{files[key]}: not " in text and text.endswith(f"; it looks like {key}")

    @pytest.mark.parametrize("key", [k for k in FILES if k != "ict"])
    def test_truncated(self, key, files, tmp_path, capsys):
        data = files[key].read_bytes()
        for share in (0.2, 0.6):
            cut = tmp_path / files[key].name
            cut.write_bytes(data[: int(share * len(data))])
            text = refused(capsys, tmp_path / "a.safetensors", key, cut)
            assert str(cut) in text

    @pytest.mark.parametrize("key", [k for k in FILES if k != "ict"])
    def test_noise(self, key, files, tmp_path, capsys):
        """Random bytes, and the format's own file with some of its bytes exchanged."""
        rng = np.random.default_rng(3)
        path = tmp_path / files[key].name
        for data in (b"", rng.bytes(3000)):
            path.write_bytes(data)
            assert f"{path}: not " in refused(capsys, tmp_path / "a.safetensors", key, path)
        landmarks = str(files["eos"].with_name("landmarks.json"))
        for _ in range(4):
            damaged = bytearray(files[key].read_bytes())
            for place in rng.integers(0, len(damaged), 40):
                damaged[place] = rng.integers(256)
            path.write_bytes(bytes(damaged))
            # Some survive (a number changed a little); none ends in a traceback or leaves half a file.
            out = tmp_path / "b.safetensors"
            args = ["model", "import", key, str(path), "--out", str(out), "--landmarks", landmarks]
            status = main(args)
            text = capsys.readouterr().err.strip()
            assert status in (0, 2) and len(text.splitlines()) == (1 if status else 0), text
            assert out.exists() == (status == 0)
            out.unlink(missing_ok=True)


class TestHostile:
    @pytest.mark.parametrize("key", ["flame", "eos", "ict"])
    def test_larger_files_than_any_model_has(self, key, files, tmp_path, capsys, monkeypatch):
        from mofa_nvdr.importers.files import obj_files
        from mofa_nvdr.system import budget

        monkeypatch.setattr(obj_files, "_MOST_BYTES", 2000)
        monkeypatch.setattr(budget, "MOST_BYTES", 2000)
        text = refused(capsys, tmp_path / "a.safetensors", key, files[key])
        assert ", more than the " in text


class TestMistakes:
    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["no/such"], "no/such: no such file or folder"),
            (["{gnm}", "--shape-modes", "0"], "--shape-modes is 0, expected 1 or more"),
            (["{gnm}", "--vertices", "-1"], "--vertices is -1, expected 0 to 1000000"),
            (["{gnm}", "--albedo", "x.npz"], "--albedo x.npz: format gnm takes no such file"),
            (["{gnm}", "--landmarks", "x.txt"], "--landmarks x.txt: no such file"),
        ],
    )
    def test_options(self, args, message, files, tmp_path, capsys):
        args = [a.format(**files) for a in args]
        assert message in refused(capsys, tmp_path / "a.safetensors", "gnm", *args)

    def test_out(self, files, tmp_path, capsys):
        text = refused(capsys, tmp_path / "a.npz", "gnm", files["gnm"])
        assert "expected a .safetensors file" in text
        out = str(tmp_path / "none" / "a.safetensors")
        assert main(["model", "import", "gnm", str(files["gnm"]), "--out", out]) == 2
        assert "no such folder" in capsys.readouterr().err
        (tmp_path / "d.safetensors").mkdir()
        text = refused(capsys, tmp_path / "d.safetensors", "deep3d", files["deep3d"])
        assert "cannot write there" in text

    def test_only_what_made_from_the_same_file_is_replaced(self, files, options, tmp_path):
        """Of a folder too, and with other options."""
        out = tmp_path / "m.safetensors"
        for key, other in (("gnm", "flame"), ("ict", "gnm")):
            few = dataclasses.replace(options, shape_modes=2)
            for given in (options, few):
                import_file(key, files[key], out, given)
            before = out.read_bytes()
            with pytest.raises(
                ValueError, match=r"m\.safetensors is there, and is no result of the sa"
            ):
                import_file(other, files[other], out, options)
            assert out.read_bytes() == before
            import_file(other, files[other], out, options, overwrite=True)
            out.unlink()
        out.write_bytes(b"mine")
        with pytest.raises(ValueError, match=r"--out .*; give another --out, or --overwrite"):
            import_file("gnm", files["gnm"], out, options)
        assert out.read_bytes() == b"mine"

    def test_our_own_file(self, tmp_path, capsys):
        (tmp_path / "mine.safetensors").write_bytes(b"\0" * 100)
        text = refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "mine.safetensors")
        assert "needs no import, give it as --face-model" in text

    def test_unknown_format_and_subcommand(self, files, tmp_path, capsys):
        with pytest.raises(
            ValueError, match="format 'bmf' is unknown, expected one of ict, bfm2009"
        ):
            import_model("bmf", files["gnm"])
        assert main(["model", "export"]) == 2
        assert "unknown sub-command 'export'" in capsys.readouterr().err
        assert main(["model"]) == 0
        assert "import" in capsys.readouterr().out

    @pytest.mark.parametrize(("library", "key"), [("scipy", "gnm"), ("h5py", "bfm2017")])
    def test_missing_library(self, library, key, files, tmp_path, capsys, monkeypatch):
        """As where the extra is not installed: the import fails."""
        import sys

        monkeypatch.setitem(sys.modules, library, None)
        text = refused(capsys, tmp_path / "a.safetensors", key, files[key])
        assert f'needs {library}; pip install "mofa-nvdr[import]"' in text

    def test_memory(self, files, monkeypatch):
        def exhausted(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(formats, "_call", lambda key, what, *a: what != "read" or exhausted())
        with pytest.raises(ValueError, match="too large for this machine's memory"):
            import_model("gnm", files["gnm"])


def test_every_format_is_sniffed_and_offered():
    """The three places that name a format."""
    import typing

    from mofa_nvdr.cli.model_import import import_

    assert set(formats._SNIFFING) == set(formats.FORMATS)
    offered = typing.get_args(typing.get_type_hints(import_)["format"])
    assert set(offered) == set(formats.FORMATS) | set(formats.ALIASES)
    assert set(formats.ALIASES.values()) <= set(formats.FORMATS)
