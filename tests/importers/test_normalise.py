"""From a foreign model to a FaceModel: an upright face in millimetres, or one line."""

import re
from pathlib import Path

import numpy as np

from mofa_nvdr.importers.foreign import ForeignModel, ImportOptions
from mofa_nvdr.importers.normalise import face_model, frontal_region
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import refused


class TestHostile:
    def test_another_unit(self, tmp_path, capsys):
        m = ff.SmallForeign()
        m.mean, m.shape = m.mean / 10, m.shape / 10
        path = ff.write_deep3d(tmp_path / "a.mat", m)
        text = refused(capsys, tmp_path / "a.safetensors", "deep3d", path)
        assert re.search(r"the outer eye corners are 8\.\d+ mm apart, expected 60 to 130", text)

    def test_upside_down(self, tmp_path, capsys):
        m = ff.SmallForeign()
        m.mean = m.mean * [-1, -1, 1]
        path = ff.write_deep3d(tmp_path / "a.mat", m)
        text = refused(capsys, tmp_path / "a.safetensors", "deep3d", path)
        assert "form no upright face" in text


class TestEveryFormat:
    def test_landmarks_in_one_place(self, files, tmp_path, capsys):
        (tmp_path / "l.json").write_text(str([5] * 40 + [6] * 28))
        text = refused(
            capsys,
            tmp_path / "a.safetensors",
            "lyhm",
            files["lyhm"],
            "--landmarks",
            tmp_path / "l.json",
        )
        assert f"the 68 landmarks of {tmp_path / 'l.json'} lie on 2 vertices, expected one" in text


def model_of(m: ff.SmallForeign, **changes: object) -> ForeignModel:
    parts = {
        "mean": m.mean, "shape": m.shape.astype(np.float32), "polygons": m.triangles,
        "expression": m.expression.astype(np.float32), "landmarks": dict(enumerate(m.landmarks)),
        "mean_albedo": m.color, "albedo": m.albedo.astype(np.float32), **changes,
    }  # fmt: skip
    return ForeignModel("small", "own work", "here", **parts)


class TestFaceModel:
    def test_wherever_it_stands(self, foreign):
        """A shift of the file's origin changes nothing; the plane of symmetry comes to x = 0."""
        one, two = (
            face_model(model_of(foreign, mean=foreign.mean + shift), ImportOptions(), Path("a"))[0]
            for shift in (0, np.array([5.0, -300, 40]))
        )
        # The same bits here; elsewhere float32 of some 100 mm: 8e-6.
        assert (one.mean_shape - two.mean_shape).abs().max() < 1e-4
        pairs = one.mean_shape[[36, 39, 31, 48, 45, 42, 35, 54], 0]
        assert abs(float(pairs.sum())) < 1e-3

    def test_wound_outwards(self, foreign):
        turned = model_of(foreign, polygons=foreign.triangles[:, [0, 2, 1]])
        models = [face_model(m, ImportOptions(), Path("a"))[0] for m in (model_of(foreign), turned)]
        sets = [{tuple(np.roll(t, -t.argmin())) for t in m.triangles.numpy()} for m in models]
        assert sets[0] == sets[1]

    def test_unused_vertices_are_dropped(self, foreign):
        """Three in front of the others, that no triangle uses: landmarks are numbered anew."""

        def more(array: np.ndarray) -> np.ndarray:
            return np.concatenate([array[..., :3, :], array], axis=-2)

        m = model_of(foreign)
        for name in ("mean", "shape", "expression", "mean_albedo", "albedo"):
            setattr(m, name, more(getattr(m, name)))
        m.polygons = m.polygons + 3
        m.landmarks = {k: v + 3 for k, v in m.landmarks.items()}
        model, _ = face_model(m, ImportOptions(), Path("a"))
        assert model.num_vertices == len(foreign.mean)
        assert model.landmarks.tolist() == list(range(68))
        np.testing.assert_allclose(model.mean_albedo, foreign.color, atol=1e-6)

    def test_options_and_notes(self, foreign):
        options = ImportOptions(2, 1, 3, name="mine")
        model, notes = face_model(model_of(foreign, notes=["first"]), options, Path("a"))
        layout = model.layout
        assert (layout.num_shape, layout.num_expression, layout.num_albedo) == (2, 1, 3)
        assert notes == ["first", "landmarks: 68 known for this mesh", "albedo: its own"]
        assert model.name == "mine" and model.metadata["licence"] == "own work"

    def test_named_expressions_become_coefficients(self, foreign):
        motion = 2 * foreign.expression[0] - foreign.expression[3]
        model, _ = face_model(
            model_of(foreign, named_expressions={"grin": motion}), ImportOptions(), Path("a")
        )
        # 8e-9 measured: a trace of the diagonal
        np.testing.assert_allclose(model.named_expressions["grin"], [2, 0, 0, -1, 0], atol=1e-5)

    def test_bare_one(self, foreign):
        bare = model_of(foreign, expression=None, mean_albedo=None, albedo=None)
        model, notes = face_model(bare, ImportOptions(albedo_modes=2), Path("a"))
        assert model.layout.num_expression == 0 and model.layout.num_albedo == 2
        assert notes[1].startswith("albedo: transferred from the face procedural (")
        assert notes[2] == "no expression in this model: its faces keep the mean's"


class TestFrontalRegion:
    def test_the_size_does_not_matter(self, face_model):
        own = {
            "mean_shape": face_model.mean_shape.numpy(),
            "landmarks": face_model.landmarks.numpy(),
        }
        region = frontal_region(own["mean_shape"], own["landmarks"], own)
        assert region.dtype == bool and 0.3 < region.mean() < 0.97
        twice = frontal_region(2 * own["mean_shape"], own["landmarks"], own)
        assert (region == twice).all()  # a power of two: no rounding
        # Eyes, brows, nose and mouth are inside; ears, which the jaw's ends stand before, are not.
        assert region[own["landmarks"][17:]].all() and not region[own["landmarks"][[0, 16]]].any()
