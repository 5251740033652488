"""FLAME: turns of the jaw, albedo in texture space, embedded landmarks."""

import pickle
import re

import numpy as np
import pytest
import torch

from mofa_nvdr.importers.foreign import ImportOptions, ModelFileError
from mofa_nvdr.importers.formats import import_model
from mofa_nvdr.importers.readers.flame import looks_like, read
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import basis


class TestRead:
    @pytest.mark.parametrize("write", [ff.write_flame, ff.write_flame_npz])
    def test_flame_jaw_and_expressions(self, write, foreign, tmp_path, options):
        path = write(tmp_path / ("a.npz" if write is ff.write_flame_npz else "a.pkl"), foreign)
        model, _ = import_model("flame", path, options)
        assert model.layout.num_shape == 6 and model.layout.num_expression == 3 + 2
        np.testing.assert_allclose(
            basis(model, "expression")[3:], foreign.expression[:2], atol=1e-4
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
        np.testing.assert_allclose(basis(model, "albedo")[0], [[0, 0, 0.1]] * len(uv), atol=1e-6)

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

    def test_without_joints(self, foreign, tmp_path):
        """No turns of the jaw: the identity and expression modes of the file, three to one."""
        arrays = {k: v for k, v in ff.flame_arrays(foreign).items() if k != "J_regressor"}
        np.savez(tmp_path / "a.npz", **arrays)
        model = read(tmp_path / "a.npz", ImportOptions())
        assert model.notes == ["no joints in this file: its expressions do not open the mouth"]
        np.testing.assert_allclose(model.shape, foreign.shape, atol=1e-5)
        np.testing.assert_allclose(model.expression, foreign.expression[:2], atol=1e-5)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("f", None, "missing f"),
            ("f", np.zeros((4, 2), int), "f is [4, 2], expected [T, 3]"),
            ("f", np.full((4, 3), 900), "f points outside the mesh (vertices 900 to 900"),
            (
                "shapedirs",
                np.zeros((5, 3, 8)),
                "shapedirs is float64 [5, 3, 8], expected numbers [76, 3",
            ),
        ],
    )
    def test_wrong(self, foreign, tmp_path, name, value, message):
        arrays = {**ff.flame_arrays(foreign), name: value}
        path = tmp_path / "a.pkl"
        path.write_bytes(pickle.dumps(arrays, protocol=2))
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}")):
            read(path, ImportOptions())

    def test_albedo_of_something_else(self, files, tmp_path):
        np.savez(tmp_path / "a.npz", texture=np.zeros(3))
        for name, message in (
            ("a.npz", "neither MU and PC nor mean and tex_dir"),
            ("b", "no such file"),
        ):
            with pytest.raises(ModelFileError, match=f"--albedo .*{name}: {message}"):
                read(files["flame"], ImportOptions(albedo=tmp_path / name))

    def test_albedo_of_another_mesh(self, files, foreign, tmp_path):
        path = ff.write_flame_albedo(tmp_path / "albedo.npz", foreign, False)
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        arrays["ft"] = arrays["ft"][:-1]
        np.savez(path, **arrays)
        count = len(foreign.triangles)
        message = f"--albedo {path}: {count - 1} triangles, but the model has {count}"
        with pytest.raises(ModelFileError, match=re.escape(message)):
            read(files["flame"], ImportOptions(albedo=path))

    def test_embeddings_of_something_else(self, files, tmp_path):
        path = tmp_path / "e.npy"
        with pytest.raises(ModelFileError, match=r"--landmarks .*e\.npy: no such file"):
            read(files["flame"], ImportOptions(landmarks=path))
        tables = (
            {},
            {"full_lmk_faces_idx": [10**6], "full_lmk_bary_coords": [[1, 0, 0]]},
            {"full_lmk_faces_idx": ["a"], "full_lmk_bary_coords": [[1, 0, 0]]},
        )
        for table in tables:
            np.save(path, np.array(table, dtype=object), allow_pickle=True)
            with pytest.raises(
                ModelFileError, match=r"--landmarks .*e\.npy: no embedding of 68 land"
            ):
                read(files["flame"], ImportOptions(landmarks=path))


class TestLooksLike:
    def test_pickle_or_its_arrays(self, files, foreign, tmp_path):
        assert looks_like(files["flame"])
        assert looks_like(ff.write_flame_npz(tmp_path / "a.npz", foreign))
        assert not looks_like(files["gnm"]) and not looks_like(files["eos"])
