"""Clips as .glb that move and as tables: what is read back is what the clip holds."""

import csv

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.arkit import BLENDSHAPES
from mofa_nvdr.apply.export import ExportOptions
from mofa_nvdr.apply.export_clip import export_clip, export_weights
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.arkit_cap import NAMES, arkit_cap, known_clip
from tests.helpers.exported_faces import some_face
from tests.helpers.mesh_readers import Glb


@pytest.fixture
def film(tmp_path):
    """(model, clip, weights, folder with cap.safetensors and clip.npz)."""
    model = arkit_cap()
    model.save(tmp_path / "cap.safetensors")
    clip, weights = known_clip(model)
    clip.save(tmp_path / "clip.npz")
    return model, clip, weights, tmp_path


def _export(folder, out="a.glb", person=0, **options) -> Glb:
    options = ExportOptions(texture_size=32, **options)
    model = str(folder / "cap.safetensors")
    export_clip(folder / "clip.npz", folder / out, model, options, True, person)
    return Glb((folder / out).read_bytes())


def _animation(glb: Glb) -> dict[str, np.ndarray]:
    """Times, and the values of each path."""
    (clip,) = glb.json["animations"]
    read = {"times": glb.array(clip["samplers"][0]["input"])[:, 0]}
    for channel in clip["channels"]:
        sampler = clip["samplers"][channel["sampler"]]
        read[channel["target"]["path"]] = glb.array(sampler["output"])
    return read


class TestExportClip:
    def test_frames(self, film, capsys):
        """Weights in [0, 1] at the frames' times; before a gap and a cut the frame before is held."""
        _, clip, weights, folder = film
        glb = _export(folder)
        assert list(glb.targets) == list(NAMES)
        read = _animation(glb)
        times = clip.tracks[0].time
        held = times[4] - 0.001, times[5] - 0.001
        expected = [*times[:4], held[0], times[4], held[1], times[5]]
        np.testing.assert_allclose(read["times"], expected, atol=1e-6)
        rows = [0, 1, 2, 3, 3, 4, 4, 5]
        np.testing.assert_allclose(read["weights"].reshape(8, 3), weights[rows], atol=0.03)
        assert "3 of ARKit's 52 blendshapes" in capsys.readouterr().out

    def test_where_the_decoder_draws_it(self, film):
        """Targets, weights and pose of a frame give the vertices of its code, in the clip's camera space."""
        model, clip, _, folder = film
        glb = _export(folder, targets="modes")
        read = _animation(glb)
        row, track = 3, clip.tracks[0]
        shape = glb.attribute("POSITION").astype(float)
        for value, motion in zip(read["weights"].reshape(-1, 3)[row], glb.targets.values()):
            shape = shape + value * motion
        x, y, z, w = read["rotation"][row].astype(float)
        vector = np.array([x, y, z])
        turned = shape + 2 * np.cross(vector, np.cross(vector, shape) + w * shape)
        places = (turned + read["translation"][row]) * 1000
        decoder = FaceDecoder(model, camera=clip.camera)
        code = track.code.map(lambda part: part[row : row + 1])
        np.testing.assert_allclose(places, decoder.geometry(code).vertices[0], atol=0.03)
        (camera,) = glb.json["cameras"]
        focal = 0.5 * 120 / np.tan(camera["perspective"]["yfov"] / 2)
        assert focal == pytest.approx(500)
        assert camera["perspective"]["aspectRatio"] == pytest.approx(160 / 120)

    def test_without_targets_the_head_moves(self, film):
        read = _animation(_export(film[3], targets="none"))
        assert "weights" not in read and np.ptp(read["rotation"], axis=0).max() > 0.1

    def test_frontal_region(self, film):
        """The cap is all frontal: nothing is lost; with a smaller region targets lose the same vertices."""
        model, _, _, folder = film
        whole = _export(folder)
        model.frontal_mask[: model.num_vertices // 2] = False
        model.save(folder / "cap.safetensors")
        clip, _ = known_clip(FaceModel.load(folder / "cap.safetensors"))  # another hash
        clip.save(folder / "clip.npz")
        part = _export(folder, frontal=True)
        assert len(part.attribute("POSITION")) == model.num_vertices // 2
        for name, motion in part.targets.items():
            np.testing.assert_allclose(motion, whole.targets[name][model.num_vertices // 2 :])

    def test_another_person(self, film):
        one, other = (_export(film[3], person=k).attribute("POSITION") for k in (0, 1))
        assert np.abs(one - other).max() > 1e-4
        with pytest.raises(ValueError, match="--person is 2, expected 0 to 1 in"):
            _export(film[3], person=2)

    @pytest.mark.parametrize(
        "option",
        [{"posed": True}, {"neutral": True}, {"lit": True}, {"maps": "png"}, {"texture": "photo"}],
    )
    def test_options_of_one_face(self, film, option):
        (name,) = option
        with pytest.raises(ValueError, match=rf"--{name}: not for a whole clip.*clip.npz#0"):
            _export(film[3], **option)

    def test_only_glb(self, film):
        with pytest.raises(ValueError, match="expected a file ending in .glb"):
            _export(film[3], out="a.obj")

    def test_the_wrong_model(self, film):
        with pytest.raises(ValueError, match="clip.npz: parameters of face model cap"):
            export_clip(film[3] / "clip.npz", film[3] / "a.glb", "default", ExportOptions(), True)


class TestExportWeights:
    def _rows(self, path):
        with open(path, newline="") as file:
            return list(csv.DictReader(file))

    def test_of_a_clip(self, film, capsys):
        model, clip, weights, folder = film
        out = folder / "w.csv"
        assert export_weights(
            folder / "clip.npz", out, str(folder / "cap.safetensors"), False, 0
        ) == [out]
        said = capsys.readouterr().out
        assert "always 0: tongueOut, browDownLeft" in said and "6 x 52 weights" in said
        rows = self._rows(out)
        assert [int(row["frame"]) for row in rows] == clip.tracks[0].frame.tolist()
        assert float(rows[1]["time_s"]) == pytest.approx(0.08)
        read = np.array([[float(row[name]) for name in NAMES] for row in rows])
        np.testing.assert_allclose(read, weights, atol=0.03)
        assert all(float(row["eyeBlinkLeft"]) == 0 for row in rows)
        assert float(rows[-1]["rotation_y_rad"]) == pytest.approx(0.3)
        assert float(rows[-1]["translation_x_mm"]) == pytest.approx(10)
        assert float(rows[-1]["translation_z_mm"]) == pytest.approx(clip.camera.position[2])
        # The same clip again replaces it; another file of that name stays.
        export_weights(folder / "clip.npz", out, str(folder / "cap.safetensors"), False, 0)
        out.write_text("mine")
        with pytest.raises(ValueError, match="w.csv is there, and is no result"):
            export_weights(folder / "clip.npz", out, str(folder / "cap.safetensors"), False, 0)

    def test_of_a_face(self, film):
        model, _, _, folder = film
        face = some_face(model, folder / "face.npz")
        out = folder / "w.csv"
        export_weights(folder / "face.npz", out, str(folder / "cap.safetensors"), False)
        (row,) = self._rows(out)
        assert list(row) == [*BLENDSHAPES, "origin"]
        named = torch.stack([model.named_expressions[name] for name in NAMES])
        free = torch.linalg.solve(named.T, face.code.expression[0])
        for name, value in zip(NAMES, free.clamp(0, 1).tolist()):
            if 0.1 < value < 0.9:  # the others' bounds move it a little
                assert float(row[name]) == pytest.approx(value, abs=0.35)
        assert 0 <= min(float(row[name]) for name in BLENDSHAPES)

    def test_of_a_frame(self, film):
        _, _, weights, folder = film
        out = folder / "w.csv"
        model = str(folder / "cap.safetensors")
        export_weights(folder / "clip.npz#3", out, model, False)
        (row,) = self._rows(out)
        np.testing.assert_allclose([float(row[n]) for n in NAMES], weights[3], atol=0.03)
