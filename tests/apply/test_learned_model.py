"""A face model of what a run has learned: the same faces, by an ordinary model and an encoder of its own."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.apply.learned_model import save_learned_model
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.checkpoint import list_checkpoints
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.corrected_run import corrected_run


@pytest.fixture
def learned(tmp_path):
    return tmp_path / "learned.safetensors", *corrected_run(tmp_path)


class TestSaveLearnedModel:
    def test_the_same_faces(self, learned, capsys):
        """Of pictures, by the run's own model and encoder, and by what is written."""
        out, run, model, encoder = learned
        written, encoder_path = save_learned_model(run, out, licence="public domain")
        assert encoder_path.name == "learned_encoder.safetensors"
        assert "learned_encoder.safetensors" in capsys.readouterr().out
        found = Reconstructor.load(encoder_path, device="cpu")
        assert found.decoder.model.hash == written.hash == FaceModel.load(out).hash
        images = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            expected = model.layout.unpack(encoder(images))
            code = found(images)
            torch.testing.assert_close(
                written.vertices(code.shape, code.expression),
                model.vertices(expected.shape, expected.expression),
                atol=1e-3, rtol=1e-4,
            )  # fmt: skip
            torch.testing.assert_close(
                written.albedo(code.albedo), model.albedo(expected.albedo), atol=1e-4, rtol=1e-4
            )
        assert not torch.allclose(code.shape[:, 4:], expected.shape[:, 4:], atol=1e-2)
        both = found(images, both_ways=True)  # its modes are mirror images still
        assert not torch.equal(both.light, code.light)

    def test_says_what_it_is_from(self, learned):
        out, run, model, _ = learned
        save_learned_model(run, out, licence="public domain", name="us")
        facts = FaceModel.load(out).metadata
        assert facts["name"] == "us" and facts["licence"] == "public domain"
        for words in ("3 correctives of geometry and 2", "12 photographs in 7 steps", model.hash):
            assert words in facts["source"]
        save_learned_model(run, out.with_name("b.safetensors"))
        facts = FaceModel.load(out.with_name("b.safetensors")).metadata
        assert facts["name"] == "b" and "that of the photographs" in facts["licence"]

    def test_the_run_itself_says_what_to_do(self, learned):
        _, run, _, _ = learned
        with pytest.raises(
            ValueError, match=f"mofa-nvdr model from-run {run} --out MODEL"
        ) as error:
            Reconstructor.load(run, device="cpu")
        assert "\n" not in str(error.value)

    def test_what_is_there_stays(self, learned):
        """Only what the same checkpoint gave is written again."""
        out, run, _, _ = learned
        save_learned_model(run, out)
        save_learned_model(run, out)
        with pytest.raises(ValueError, match="is there, and is no result of the same source"):
            save_learned_model(run, out, name="other")
        save_learned_model(run, out, name="other", overwrite=True)
        assert FaceModel.load(out).name == "other"

    def test_without_correctives(self, smoke_run, tmp_path):
        with pytest.raises(ValueError, match="a run without correctives: .* --config multi_level"):
            save_learned_model(smoke_run[0], tmp_path / "m.safetensors")

    def test_before_they_learn(self, tmp_path):
        run, _, _ = corrected_run(tmp_path, observed=0)
        with pytest.raises(ValueError, match="of step 7, when its correctives had not begun"):
            save_learned_model(run, tmp_path / "m.safetensors")

    @pytest.mark.parametrize(
        ("out", "message"),
        [
            ("m.npz", "expected a .safetensors file"),
            ("no/m.safetensors", "no such folder"),
            ("f.safetensors", "a folder, expected a file"),
        ],
    )
    def test_wrong_out(self, learned, tmp_path, out, message):
        (tmp_path / "f.safetensors").mkdir()
        with pytest.raises(ValueError, match=message):
            save_learned_model(learned[1], tmp_path / out)

    def test_no_run_and_another_face_model(self, learned, tmp_path, cap):
        out, run, _, _ = learned
        with pytest.raises(ValueError, match="model from-run .*: no such run folder"):
            save_learned_model(tmp_path / "nowhere", out)
        with pytest.raises(ValueError, match="trained with face model cap"):
            save_learned_model(run, out, face_model=cap)

    def test_edited(self, learned):
        from mofa_nvdr.runs.checkpoint import read_checkpoint, write_checkpoint

        out, run, _, _ = learned
        path = list_checkpoints(run)[0]
        tensors, facts = read_checkpoint(path)
        tensors["correctives/albedo_correctives"] = torch.zeros(2, 5, 3)
        write_checkpoint(path, tensors, facts)
        with pytest.raises(ValueError, match="not a checkpoint that this version can read"):
            save_learned_model(run, out)
