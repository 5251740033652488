"""Face models of others: each format from a small file in its layout, and files that are wrong."""

import io
import os
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from mofa_nvdr.cli import main
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.importers import formats
from mofa_nvdr.importers.foreign import ImportOptions
from mofa_nvdr.importers.formats import ALIASES, FORMATS, import_model
from mofa_nvdr.importers.landmark_points import known_landmarks
from tests.helpers import foreign_files as ff

# format -> (writer, name of the file)
FILES = {
    "bfm2009": (ff.write_bfm2009, "01_MorphableModel.mat"),
    "deep3d": (ff.write_deep3d, "BFM_model_front.mat"),
    "lyhm": (ff.write_lyhm, "lyhm.mat"),
    "bfm2017": (ff.write_bfm2017, "model2017-1_bfm_nomouth.h5"),
    "flame": (ff.write_flame, "generic_model.pkl"),
    "gnm": (ff.write_gnm, "gnm_head.npz"),
    "eos": (ff.write_eos, "sfm.bin"),
    "ict": (ff.write_ict, "FaceXModel"),
}


@pytest.fixture(scope="module")
def foreign() -> ff.SmallForeign:
    return ff.SmallForeign()


@pytest.fixture(scope="module")
def files(foreign, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("foreign")
    ff.write_landmarks(folder / "landmarks.json")
    return {key: write(folder / name, foreign) for key, (write, name) in FILES.items()}


@pytest.fixture(scope="module")
def options(files) -> ImportOptions:
    return ImportOptions(landmarks=files["eos"].with_name("landmarks.json"))


def _basis(model: FaceModel, name: str) -> np.ndarray:
    return getattr(model, f"{name}_basis").numpy()


def _refused(capsys, out: Path, *args: object) -> str:
    """An import that must fail with one line and write nothing; the line."""
    before = sorted(p.name for p in out.parent.iterdir())
    assert main(["model", "import", *map(str, args), "--out", str(out)]) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("mofa-nvdr: ") and len(text.splitlines()) == 1, text
    assert sorted(p.name for p in out.parent.iterdir()) == before
    return text


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
                flat = _basis(model, name).reshape(len(modes), -1)
                want = modes.reshape(len(modes), -1)
                assert np.abs(flat.T @ flat - want.T @ want).max() < 1e-2
                lengths = np.linalg.norm(flat, axis=1)
                assert (np.diff(lengths) < 0).all()
        else:
            np.testing.assert_allclose(_basis(model, "shape"), foreign.shape, atol=2e-3)
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
        np.testing.assert_allclose(_basis(model, "albedo"), foreign.albedo, atol=1e-5)
        assert "albedo: its own" in notes

    @pytest.mark.parametrize("key", ["flame", "gnm", "ict"])
    def test_transferred_albedo(self, key, files, options, face_model):
        """Vertex k lies on the built-in face's landmark k and takes its colour."""
        model, notes = import_model(key, files[key], options)
        assert any("transferred from the built-in face" in note for note in notes)
        assert model.layout.num_albedo == 80
        if key != "ict":  # there the vertices are smoothed away from the landmarks
            points = [27, 30, 33, 8, 40, 51, 57]
            want = face_model.mean_albedo[face_model.landmarks[points]]
            # 0.067 at a lip's edge, where the coarse mesh's normals choose the neighbour's colour
            assert (model.mean_albedo[points] - want).abs().max() < 0.1
        # Skin is skin: lighter than lips and brows.
        middle = model.mean_albedo[model.landmarks]
        assert middle[[2, 14, 29]].mean() > middle[[51, 57]].mean() > 0.1

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
        np.testing.assert_allclose(_basis(model, "shape")[:, :count], foreign.shape, atol=2e-3)
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
        text = _refused(capsys, tmp_path / "a.safetensors", other, files[key])
        assert f"{files[key]}: not " in text and text.endswith(f"; it looks like {key}")

    @pytest.mark.parametrize("key", [k for k in FILES if k != "ict"])
    def test_truncated(self, key, files, tmp_path, capsys):
        data = files[key].read_bytes()
        for share in (0.2, 0.6):
            cut = tmp_path / files[key].name
            cut.write_bytes(data[: int(share * len(data))])
            text = _refused(capsys, tmp_path / "a.safetensors", key, cut)
            assert str(cut) in text

    @pytest.mark.parametrize("key", [k for k in FILES if k != "ict"])
    def test_noise(self, key, files, tmp_path, capsys):
        """Random bytes, and the format's own file with some of its bytes exchanged."""
        rng = np.random.default_rng(3)
        path = tmp_path / files[key].name
        for data in (b"", rng.bytes(3000)):
            path.write_bytes(data)
            assert f"{path}: not " in _refused(capsys, tmp_path / "a.safetensors", key, path)
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

    def test_landmarks_in_one_place(self, files, tmp_path, capsys):
        (tmp_path / "l.json").write_text(str([5] * 40 + [6] * 28))
        text = _refused(
            capsys,
            tmp_path / "a.safetensors",
            "lyhm",
            files["lyhm"],
            "--landmarks",
            tmp_path / "l.json",
        )
        assert "give --landmarks FILE" in text or "68 landmarks lie on 2 vertices" in text

    def test_help_names_every_format(self, capsys):
        with pytest.raises(SystemExit):
            main(["model", "import", "--help"])
        words = capsys.readouterr().out.replace("\n", "").replace("│", "").replace(" ", "")
        assert ",".join(("ict", "bfm2009")) in words
        assert all(name in words for name in (*FORMATS, *ALIASES))


class TestFormats:
    def test_bfm2017_mean_is_the_sum_and_landmarks_are_its_own(self, files, foreign):
        model, notes = import_model("bfm2017", files["bfm2017"])
        np.testing.assert_allclose(_basis(model, "expression"), foreign.expression, atol=1e-4)
        assert "landmarks: 8 known for this mesh, the others by geometry" in notes
        # The coarse face has the built-in one's landmarks, so that bending finds each.
        assert (model.landmarks.numpy() == np.arange(68)).mean() > 0.9

    @pytest.mark.parametrize(
        ("file", "name"),
        [
            ("model2019_face12.h5", "bfm2019-face12"),
            ("model2017-1_face12_nomouth.h5", "bfm2017-face12"),
        ],
    )
    def test_bfm_is_named_by_its_file(self, file, name, files, tmp_path):
        shutil.copy(files["bfm2017"], tmp_path / file)
        assert import_model("bfm2019", tmp_path / file)[0].name == name

    def test_bfm_without_expressions(self, files, foreign, tmp_path, options):
        """The .h5 form of BFM 2009: shape and colour alone."""
        path = tmp_path / "model2009-publicmm1-bfm.h5"
        shutil.copy(files["bfm2017"], path)
        with h5py.File(path, "a") as file:
            del file["expression"]
        model, notes = import_model("bfm2017", path, options)
        assert model.layout.num_expression == 0
        assert any("no expression in this model" in note for note in notes)

    def test_bfm_with_the_albedo_of_another_file(self, files, foreign, tmp_path, options):
        path = ff.write_albedomm(tmp_path / "albedo.h5", foreign)
        for key in ("bfm2009", "bfm2017"):
            model, _ = import_model(
                key, files[key], ImportOptions(albedo=path, landmarks=options.landmarks)
            )
            np.testing.assert_allclose(model.mean_albedo.numpy(), 1 - foreign.color, atol=1e-5)
            np.testing.assert_allclose(_basis(model, "albedo"), foreign.albedo[:2], atol=1e-5)

    @pytest.mark.parametrize("write", [ff.write_flame, ff.write_flame_npz])
    def test_flame_jaw_and_expressions(self, write, foreign, tmp_path, options):
        path = write(tmp_path / ("a.npz" if write is ff.write_flame_npz else "a.pkl"), foreign)
        model, _ = import_model("flame", path, options)
        assert model.layout.num_shape == 6 and model.layout.num_expression == 3 + 2
        np.testing.assert_allclose(
            _basis(model, "expression")[3:], foreign.expression[:2], atol=1e-4
        )
        opened = torch.einsum(
            "e,evc->vc", model.named_expressions["jawOpen"], model.expression_basis
        )
        below = foreign.mean[:, 1] < foreign.mean[33, 1]
        # An arc is not a straight line: what is above moves by 0.83 mm in the closest combination.
        assert opened[8, 1] < -15 and opened[~below].abs().max() < 1.0
        # By hand: the jaw turns about the point between the ears.
        joint = 0.5 * (foreign.mean[0] + foreign.mean[16])
        c, s = np.cos(0.35), np.sin(0.35)
        x, y, z = (foreign.mean[8] - joint).tolist()
        want = np.array([x, c * y - s * z, s * y + c * z]) - [x, y, z]
        # A turn by 0.35 as a multiple of one by 0.1: the arc becomes its chord.
        np.testing.assert_allclose(opened[8], want, atol=0.15 * np.linalg.norm(want))

    @pytest.mark.parametrize("own", [False, True])
    def test_flame_albedo(self, own, files, foreign, tmp_path, options):
        path = ff.write_flame_albedo(tmp_path / "albedo.npz", foreign, own)
        model, _ = import_model(
            "flame", files["flame"], ImportOptions(albedo=path, landmarks=options.landmarks)
        )
        low, high = foreign.mean[:, :2].min(0), foreign.mean[:, :2].max(0)
        uv = 0.1 + 0.8 * (foreign.mean[:, :2] - low) / (high - low)
        np.testing.assert_allclose(model.mean_albedo[:, :2].numpy(), uv, atol=1e-4)
        np.testing.assert_allclose(_basis(model, "albedo")[0], [[0, 0, 0.1]] * len(uv), atol=1e-6)

    def test_flame_landmark_embedding(self, files, foreign, tmp_path):
        """landmark_embedding.npy holds a pickled dict; it is read without running anything."""
        corner = [int(np.flatnonzero((foreign.triangles == k).any(1))[0]) for k in range(68)]
        weights = 0.1 + 0.7 * (foreign.triangles[corner] == np.arange(68)[:, None])
        table = {"full_lmk_faces_idx": np.array([corner]), "full_lmk_bary_coords": weights[None]}
        np.save(tmp_path / "embedding.npy", np.array(table, dtype=object))
        model, _ = import_model(
            "flame", files["flame"], ImportOptions(landmarks=tmp_path / "embedding.npy")
        )
        assert model.landmarks.tolist() == list(range(68))

    def test_eos_blendshapes(self, files, foreign, tmp_path, options):
        path = ff.write_eos_blendshapes(tmp_path / "expressions.bin", foreign)
        model, _ = import_model(
            "eos", files["eos"], ImportOptions(expressions=path, landmarks=options.landmarks)
        )
        assert list(model.named_expressions) == ["anger", "smile_L", "smile_R"]
        for k, coefficients in enumerate(model.named_expressions.values()):
            motion = torch.einsum("e,evc->vc", coefficients, model.expression_basis)
            np.testing.assert_allclose(motion.numpy(), foreign.expression[k], atol=1e-3)

    def test_landmarks_are_located_by_geometry_alone(self, face_model, tmp_path, capsys):
        """The built-in face itself, moved and without a word about its landmarks: within 1 mm."""
        m = ff.SmallForeign()
        m.mean = face_model.mean_shape.numpy().astype(np.float64) + [3.0, 40.0, -25.0]
        m.triangles = face_model.triangles.numpy().astype(np.int64)
        m.shape = face_model.shape_basis[:2].numpy()
        m.color = face_model.mean_albedo.numpy()
        m.albedo = face_model.albedo_basis[:2].numpy()
        model, notes = import_model("lyhm", ff.write_lyhm(tmp_path / "a.mat", m))
        assert any("located by geometry alone" in note for note in notes)
        own = face_model.mean_shape[face_model.landmarks]
        found = model.mean_shape[model.landmarks]
        assert (found - own).norm(dim=1).max() < 1.0
        assert (model.mean_shape - face_model.mean_shape).abs().max() < 1.0
        # The rule for any face against the mask that was drawn for this one.
        agreed = (model.frontal_mask == face_model.frontal_mask).float().mean()
        assert agreed > 0.85, agreed

    def test_speckles_take_their_neighbours_colour(self):
        """A strip of six triangles in a ramp of greys; vertex 4 is white, vertex 0 the ramp's end."""
        from mofa_nvdr.importers.transfer import _speckles

        triangles = np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4], [4, 5, 6], [5, 7, 6]])
        colors = np.linspace(0.3, 0.37, 8)[:, None] * np.ones(3)
        colors[4] = 1.0
        odd, around = _speckles(colors, triangles)
        assert odd.tolist() == [4]
        np.testing.assert_allclose(around @ colors, colors[[2, 3, 5, 6]].mean(0, keepdims=True))

    def test_published_landmark_lists(self):
        """Complete lists have 68 entries; every index lies within the topology that is named."""
        for entry in formats_lists():
            indices = list(entry["landmarks"].values())
            assert max(indices) < entry["vertices"] and min(indices) >= 0
            assert entry["licence"] in ("MIT", "Apache-2.0") and entry["source"]
            found = known_landmarks(entry["format"], entry["vertices"], None)
            assert len(found) == len(indices) and found.keys() <= set(range(68))
        assert len(known_landmarks("ict", 26719, None)) == 68
        assert known_landmarks("ict", 26720, None) == {}

    @pytest.mark.parametrize(
        ("name", "text", "want"),
        [
            ("a.json", "[5, 6, 7, 8, 9, 10]", {0: 5, 5: 10}),
            ("a.json", '{"9": 3, "31": 4, "37": 5, "46": 6, "49": 7, "55": 8}', {8: 3, 54: 8}),
            ("a.txt", "5\n6\n7\n8\n9\n10\n", {0: 5, 5: 10}),
            ("a.txt", "# heaviest\n5 .2 6 .8\n6 1\n7 1\n8 1\n9 .5 11 .4\n10 1\n", {0: 6, 4: 9}),
        ],
    )
    def test_landmark_files(self, tmp_path, name, text, want):
        (tmp_path / name).write_text(text)
        found = known_landmarks("ict", 100, tmp_path / name)
        assert len(found) == 6 and all(found[k] == v for k, v in want.items())


def formats_lists() -> list[dict]:
    from mofa_nvdr.importers.landmark_points import _lists

    return _lists()


class TestIct:
    @pytest.mark.parametrize("quads", [False, True])
    def test_eyes_are_closed_and_the_rest_is_left(self, quads, foreign, tmp_path, options):
        from mofa_nvdr.scene.topology import topology

        path = ff.write_ict(tmp_path / "ict", foreign, quads)
        model, _ = import_model("ict", path, options)
        facts = topology(model.triangles)
        assert facts.is_manifold and facts.num_components == 1
        assert facts.euler_number == 1  # a disc: no hole is left
        assert float(model.mean_shape[:, 2].min()) > -120  # nothing of the back of the head

    def test_modes_are_orthogonal_and_describe_the_same_faces(self, files, options, foreign):
        model, _ = import_model("ict", files["ict"], options)
        flat = _basis(model, "shape").reshape(model.layout.num_shape, -1)
        gram = flat @ flat.T
        off = gram - np.diag(np.diag(gram))
        assert np.abs(off).max() < 1e-4 * gram.max()
        assert (np.diff(np.diag(gram)) < 0).all()

    def test_named_expressions_and_their_halves(self, files, options):
        model, _ = import_model("ict", files["ict"], options)
        assert set(model.named_expressions) == {
            "jawOpen", "mouthClose", "mouthSmile_L", "mouthSmile_R",
        }  # fmt: skip
        # jawOpen and mouthClose in two halves each, the smiles: six directions.
        assert model.layout.num_expression == 6

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: (d / "generic_neutral_mesh.obj").unlink(), "not ICT-FaceKit"),
            (lambda d: [p.unlink() for p in d.glob("identity*")], "no identity000.obj and on"),
            (lambda d: (d / "jawOpen.obj").write_text("v 1 2 3\n"), "jawOpen.obj: 1 vertices, but"),
            (lambda d: (d / "jawOpen.obj").write_text("v 1 x 3\n"), "'v' line is not 3 numbers"),
            (lambda d: (d / "jawOpen.obj").write_text("v 1 nan 3\n"), "numbers that are not finite"),
            (lambda d: _replace(d, "f 1/1", "f 9999/1"), "points outside the mesh"),
            (lambda d: _replace(d, "f 1/1", "f 1/9999"), "a texture corner points outside"),
            (lambda d: _replace(d, "f 1/1", "f 1/1 2/2 3/3 4/4 5/5"), "expected 3 or 4"),
            (lambda d: _replace(d, "f 1/1", "f one"), "is not a polygon"),
        ],
    )  # fmt: skip
    def test_wrong_files(self, change, message, foreign, tmp_path, capsys, files):
        folder = ff.write_ict(tmp_path / "ict", foreign)
        change(folder)
        landmarks = files["eos"].with_name("landmarks.json")
        text = _refused(capsys, tmp_path / "a.safetensors", "ict", folder, "--landmarks", landmarks)
        assert message in text

    def test_unknown_topology_needs_landmarks(self, files, tmp_path, capsys):
        text = _refused(capsys, tmp_path / "a.safetensors", "ict", files["ict"])
        assert "its 68 landmarks are not known; give them as --landmarks FILE" in text


def _replace(folder: Path, old: str, new: str) -> None:
    path = folder / "generic_neutral_mesh.obj"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


class TestHostile:
    def test_pickle_that_runs_code(self, tmp_path, capsys):
        class Attack:
            def __reduce__(self):  # noqa: ANN204
                return os.mkdir, (str(tmp_path / "pwned"),)

        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"v_template": Attack()}, protocol=2))
        text = _refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "a.pkl")
        assert "refused: it asks for posix.mkdir" in text
        assert not (tmp_path / "pwned").exists()

    @pytest.mark.parametrize(
        "body",
        [
            b"cbuiltins\neval\n(S'1'\ntR.",
            b"\x80\x04cnumpy\nload\n(S'x'\ntR.",
            b"cscipy.sparse\nsave_npz\n.",
            b"cchumpy.ch\nCh\n(S'x'\ntR.",
            b"\x80\x02Vnot a dict\n.",
            b"\x80\x02P0\n.",
        ],
    )
    def test_pickles_beyond_arrays(self, tmp_path, capsys, body):
        (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + body.removeprefix(b"\x80\x02"))
        text = _refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "a.pkl")
        assert "refused" in text or "expected a dict" in text or "not a readable pickle" in text

    def test_landmark_file_that_runs_code(self, files, tmp_path, capsys):
        class Attack:
            def __reduce__(self):  # noqa: ANN204
                return os.mkdir, (str(tmp_path / "pwned"),)

        np.save(tmp_path / "l.npy", np.array({"a": Attack()}, dtype=object), allow_pickle=True)
        text = _refused(
            capsys, tmp_path / "a.safetensors", "flame", files["flame"], "--landmarks",
            tmp_path / "l.npy",
        )  # fmt: skip
        assert "refused" in text and not (tmp_path / "pwned").exists()

    def test_h5_of_absurd_size(self, files, tmp_path, capsys):
        """A data set without a single stored number may claim any size."""
        path = tmp_path / "big.h5"
        path.write_bytes(files["bfm2017"].read_bytes())
        with h5py.File(path, "a") as file:
            del file["shape/model/pcaBasis"]
            file.create_dataset("shape/model/pcaBasis", (3 * 10**9, 10**6), "f4", chunks=(1024, 64))
        text = _refused(capsys, tmp_path / "a.safetensors", "bfm2017", path)
        assert "shape/model/pcaBasis is [3000000000, 80]" in text

    def test_h5_with_links_elsewhere(self, files, tmp_path, capsys):
        path = tmp_path / "linked.h5"
        path.write_bytes(files["bfm2017"].read_bytes())
        with h5py.File(path, "a") as file:
            del file["shape/model/mean"]
            file["shape/model/mean"] = h5py.ExternalLink(str(files["bfm2017"]), "shape/model/mean")
        text = _refused(capsys, tmp_path / "a.safetensors", "bfm2017", path)
        assert "missing shape/model/mean" in text

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "eos", "ict"])
    def test_more_numbers_than_any_model_has(self, key, files, tmp_path, capsys, monkeypatch):
        from mofa_nvdr.importers import foreign

        monkeypatch.setattr(foreign, "MAX_NUMBERS", 150)
        landmarks = files["eos"].with_name("landmarks.json")
        text = _refused(
            capsys, tmp_path / "a.safetensors", key, files[key], "--landmarks", landmarks
        )
        assert "numbers, more than the 150 that a face model may have" in text

    @pytest.mark.parametrize("key", ["flame", "eos", "ict"])
    def test_larger_files_than_any_model_has(self, key, files, tmp_path, capsys, monkeypatch):
        from mofa_nvdr.importers.files import obj_files, restricted_pickle
        from mofa_nvdr.importers.readers import eos

        for module in (eos, obj_files, restricted_pickle):
            monkeypatch.setattr(module, "_MOST_BYTES", 2000)
        text = _refused(capsys, tmp_path / "a.safetensors", key, files[key])
        assert "more than" in text and "B, more than" in text

    def test_npz_of_absurd_size(self, files, tmp_path, capsys):
        path = tmp_path / "big.npz"
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (10**7, 10**7, 3)}
        )
        _with_member(files["gnm"], path, "vertex_identity_basis.npy", header.getvalue())
        text = _refused(capsys, tmp_path / "a.safetensors", "gnm", path)
        assert "vertex_identity_basis is [10000000, 10000000, 3]: 3e+14 numbers" in text

    def test_npz_with_pickled_objects(self, files, tmp_path, capsys):
        path = tmp_path / "pickled.npz"
        body = io.BytesIO()
        np.save(body, np.array([{}], dtype=object), allow_pickle=True)
        _with_member(files["gnm"], path, "triangles.npy", body.getvalue())
        text = _refused(capsys, tmp_path / "a.safetensors", "gnm", path)
        assert "triangles holds pickled objects; they are not read" in text

    def test_eos_of_absurd_size(self, tmp_path, capsys):
        for rows in (3 * 10**8, 3 * 10**5):
            path = tmp_path / "a.bin"
            path.write_bytes(struct.pack("<Iii", 1, rows, 1) + b"\0" * 50)
            text = _refused(capsys, tmp_path / "a.safetensors", "eos", path)
            assert "the file ends within the shape mean" in text

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "flame", "eos", "ict"])
    def test_nan(self, key, foreign, tmp_path, capsys, files):
        broken = ff.SmallForeign()
        broken.mean[3, 1] = np.nan
        path = FILES[key][0](tmp_path / FILES[key][1], broken)
        landmarks = files["eos"].with_name("landmarks.json")
        text = _refused(capsys, tmp_path / "a.safetensors", key, path, "--landmarks", landmarks)
        assert "not finite" in text

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "flame", "eos", "ict"])
    def test_triangle_outside_the_mesh(self, key, tmp_path, capsys, files):
        broken = ff.SmallForeign()
        broken.triangles[5, 1] = 7000
        path = FILES[key][0](tmp_path / FILES[key][1], broken)
        landmarks = files["eos"].with_name("landmarks.json")
        text = _refused(capsys, tmp_path / "a.safetensors", key, path, "--landmarks", landmarks)
        assert "outside the mesh" in text

    def test_missing_and_misshapen_variables(self, files, tmp_path, capsys):
        data = scipy.io.loadmat(files["deep3d"])
        keep = {k: v for k, v in data.items() if not k.startswith("_")}
        path = tmp_path / "a.mat"
        for key, value, message in (
            ("texBase", None, "missing texBase"),
            (
                "idBase",
                keep["idBase"][:-3],
                "the identity modes are [6, 75, 3], expected [K, 76, 3]",
            ),
            ("idBase", keep["idBase"][:-1], "idBase has 227 rows, expected three for each vertex"),
            ("tri", keep["tri"] + 0.5, "tri holds numbers that are no vertex indices"),
            ("meanshape", np.array(["x"]), "meanshape"),
        ):
            changed = {**keep, key: value}
            if value is None:
                del changed[key]
            scipy.io.savemat(path, changed)
            assert message in _refused(capsys, tmp_path / "a.safetensors", "deep3d", path)

    def test_another_unit(self, tmp_path, capsys):
        m = ff.SmallForeign()
        m.mean, m.shape = m.mean / 10, m.shape / 10
        path = ff.write_deep3d(tmp_path / "a.mat", m)
        text = _refused(capsys, tmp_path / "a.safetensors", "deep3d", path)
        assert re.search(r"the outer eye corners are 9\.\d+ mm apart, expected 60 to 130", text)

    def test_upside_down(self, tmp_path, capsys):
        m = ff.SmallForeign()
        m.mean = m.mean * [-1, -1, 1]
        path = ff.write_deep3d(tmp_path / "a.mat", m)
        text = _refused(capsys, tmp_path / "a.safetensors", "deep3d", path)
        assert "form no upright face" in text


def _with_member(source: Path, target: Path, name: str, body: bytes) -> None:
    """A copy of a zip archive with one member exchanged."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            new.writestr(member, body if member == name else old.read(member))


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
        assert message in _refused(capsys, tmp_path / "a.safetensors", "gnm", *args)

    @pytest.mark.parametrize(
        ("name", "text"),
        [("l.json", "[1, 2]"), ("l.json", "{"), ("l.json", '"x"'), ("l.txt", "a b"),
         ("l.txt", "1 2 3\n"), ("l.json", "[1, 2, 3, 4, 5, 99999]"), ("l.json", "[1.5, 2, 3, 4, 5, 6]")],
    )  # fmt: skip
    def test_landmark_files(self, name, text, files, tmp_path, capsys):
        (tmp_path / name).write_text(text)
        message = _refused(
            capsys, tmp_path / "a.safetensors", "gnm", files["gnm"], "--landmarks", tmp_path / name
        )
        assert f"--landmarks {tmp_path / name}: " in message

    def test_out(self, files, tmp_path, capsys):
        text = _refused(capsys, tmp_path / "a.npz", "gnm", files["gnm"])
        assert "expected a .safetensors file" in text
        out = str(tmp_path / "none" / "a.safetensors")
        assert main(["model", "import", "gnm", str(files["gnm"]), "--out", out]) == 2
        assert "no such folder" in capsys.readouterr().err
        (tmp_path / "d.safetensors").mkdir()
        text = _refused(capsys, tmp_path / "d.safetensors", "deep3d", files["deep3d"])
        assert "cannot write there" in text

    def test_our_own_file(self, tmp_path, capsys):
        (tmp_path / "mine.safetensors").write_bytes(b"\0" * 100)
        text = _refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "mine.safetensors")
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
        text = _refused(capsys, tmp_path / "a.safetensors", key, files[key])
        assert f'needs {library}; pip install "mofa-nvdr[import]"' in text

    def test_memory(self, files, monkeypatch):
        def exhausted(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr(formats, "_call", lambda key, what, *a: what != "read" or exhausted())
        with pytest.raises(ValueError, match="too large for this machine's memory"):
            import_model("gnm", files["gnm"])
