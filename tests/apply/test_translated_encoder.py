"""An encoder for another face model: the same faces, said in the other model's codes."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.apply.translated_encoder import save_translated_encoder
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.checkpoint import list_checkpoints
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.corrected_run import corrected_run


@pytest.fixture(scope="module")
def other(smoke_run, tmp_path_factory):
    """A face model of the run's faces: modes in another order and size, and another mean."""
    model = FaceModel.load(smoke_run[1])
    arrays = {name: value.numpy() for name, value in model.named_buffers()}
    for part in ("shape", "albedo"):
        basis = arrays[f"{part}_basis"]
        arrays[f"mean_{part}"] = arrays[f"mean_{part}"] + 0.5 * basis[0]
        arrays[f"{part}_basis"] = 1.25 * basis[::-1]
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    FaceModel(arrays, {"name": "other"}).save(path)
    return path


class TestSaveTranslatedEncoder:
    def test_the_same_faces(self, smoke_run, other, tmp_path, capsys):
        run, face = smoke_run
        out = save_translated_encoder(other, tmp_path / "e.safetensors", run)
        assert "an encoder of other" in capsys.readouterr().out
        before, after = (Reconstructor.load(x, device="cpu") for x in (run, out))
        assert after.decoder.model.hash == FaceModel.load(other).hash
        images = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            old, new = before(images), after(images)
            torch.testing.assert_close(
                after.decoder.model.vertices(new.shape, new.expression),
                before.decoder.model.vertices(old.shape, old.expression), atol=0.05, rtol=0,
            )  # fmt: skip
            torch.testing.assert_close(
                after.decoder.model.albedo(new.albedo),
                before.decoder.model.albedo(old.albedo), atol=2e-3, rtol=0,
            )  # fmt: skip
        assert not torch.allclose(new.shape, old.shape, atol=0.05)
        for part in ("rotation", "translation", "light"):
            assert torch.equal(getattr(new, part), getattr(old, part))

    def test_the_encoder_in_the_box(self, tmp_path):
        """Without --checkpoint; to the procedural face, whose mesh it shares."""
        out = save_translated_encoder("procedural", tmp_path / "e.safetensors")
        assert Reconstructor.load(out, device="cpu").decoder.model.name == "procedural"

    def test_another_mesh(self, smoke_run, tmp_path):
        with pytest.raises(ValueError, match="have other meshes"):
            save_translated_encoder("procedural", tmp_path / "e.safetensors", smoke_run[0])
        assert not (tmp_path / "e.safetensors").exists()

    def test_a_run_with_correctives(self, tmp_path):
        run, _, _ = corrected_run(tmp_path)
        with pytest.raises(ValueError, match="face model learned too.*model from-run RUN --out"):
            save_translated_encoder("procedural", tmp_path / "e.safetensors", run)

    def test_what_is_there_stays(self, smoke_run, other, tmp_path):
        out = tmp_path / "e.safetensors"
        save_translated_encoder(other, out, smoke_run[0])
        save_translated_encoder(other, out, smoke_run[0])  # the same again
        with pytest.raises(ValueError, match="is there, and is no result of the same source"):
            save_translated_encoder("procedural", out)
        save_translated_encoder("procedural", out, overwrite=True)
        assert Reconstructor.load(out, device="cpu").decoder.model.name == "procedural"

    def test_no_such_things(self, smoke_run, tmp_path):
        with pytest.raises(ValueError, match="--checkpoint .*nothing"):
            save_translated_encoder("procedural", tmp_path / "e.safetensors", tmp_path / "nothing")
        with pytest.raises(ValueError, match="expected a .safetensors file"):
            save_translated_encoder("procedural", tmp_path / "e.onnx")
        with pytest.raises(ValueError, match="none.safetensors"):
            save_translated_encoder(tmp_path / "none.safetensors", tmp_path / "e.safetensors")
        assert list_checkpoints(tmp_path) == []
