"""The encoder that comes with the package: how one is made of a run, loaded, and missed."""

import hashlib

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.color_solver import ColorSolver
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.losses.mofa import photometric_raster
from mofa_nvdr.networks.encoder import build_encoder
from mofa_nvdr.networks.spec import EncoderSpec
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs import shipped, trained
from mofa_nvdr.runs.checkpoint import read_checkpoint, save_checkpoint
from mofa_nvdr.runs.shipped import shipped_encoder, shipped_onnx, write_encoder
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.camera import Camera


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of an encoder of the face from portraits, with weights that predict something."""
    model = FaceModel.load("portraits")
    scale = {"rotation": 0.3, "translation_z": 60.0}
    torch.manual_seed(0)
    encoder = build_encoder("compact", model.layout, output_scale=scale).eval()
    for part in encoder.head.parts.values():
        torch.nn.init.normal_(part.weight, std=0.05)
    reference = ModelReference.of(model, "portraits")
    spec = EncoderSpec(
        "compact", 128, encoder.head.output_scale, model.layout, reference, Camera(160)
    )
    path = tmp_path_factory.mktemp("run") / "checkpoint-00000007.safetensors"
    optimizer = torch.optim.AdamW(encoder.parameters())
    metadata = {"step": 7, "encoder": spec.to_json(), "data": "/home/somebody/photographs"}
    save_checkpoint(path, encoder, optimizer, metadata)
    return path


class TestWriteEncoder:
    def test_small_and_the_same(self, checkpoint, tmp_path, monkeypatch):
        path = tmp_path / "encoder.safetensors"
        size = write_encoder(checkpoint, path)
        assert size == path.stat().st_size < 0.51 * checkpoint.stat().st_size
        tensors, metadata = read_checkpoint(path)
        # Nothing of the machine that trained it, and nothing but the encoder.
        assert set(metadata) == {"step", "encoder"} and all(
            k.startswith("encoder/") for k in tensors
        )
        assert tensors["encoder/head.scale"].dtype == torch.float32
        images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
        whole = Reconstructor.load(checkpoint, device="cpu")(images).pack()
        monkeypatch.setattr(trained, "shipped_encoder", lambda: path)
        half = Reconstructor.load(device="cpu")
        assert half.encoder.head.parts["shape"].weight.dtype == torch.float32
        # Half precision has eleven bits, and a code is a sum of many products: measured 3e-4.
        apart = (half(images).pack() - whole).norm() / whole.norm()
        assert 0 < apart < 2e-3

    def test_another_face_model(self, smoke_run, tmp_path):
        with pytest.raises(ValueError, match=r"trained with face model cap .*, expected portraits"):
            write_encoder(smoke_run[0], tmp_path / "e.safetensors")
        assert not list(tmp_path.iterdir())

    def test_too_large(self, checkpoint, tmp_path, monkeypatch):
        monkeypatch.setattr(shipped, "_MOST_BYTES", 1_000_000)
        with pytest.raises(ValueError, match="its encoder takes 6.0 MB, expected at most 1 MB"):
            write_encoder(checkpoint, tmp_path / "e.safetensors")

    def test_weights_that_half_precision_cannot_hold(self, checkpoint, tmp_path):
        tensors, metadata = read_checkpoint(checkpoint)
        tensors["encoder/head.parts.shape.weight"][0, 0] = 1e6
        path = tmp_path / "large.safetensors"
        shipped.write_checkpoint(path, tensors, metadata)
        with pytest.raises(ValueError, match="head.parts.shape.weight has numbers that half"):
            write_encoder(path, tmp_path / "e.safetensors")

    def test_no_run(self, tmp_path):
        with pytest.raises(ValueError, match="make_encoder .*nowhere: no such run folder"):
            write_encoder(tmp_path / "nowhere", tmp_path / "e.safetensors")


class TestShippedEncoder:
    def test_an_installation_without_it(self, monkeypatch):
        monkeypatch.setattr(shipped, "SHIPPED_FILE", "nothing.safetensors")
        with pytest.raises(
            ValueError, match="no encoder comes with this installation .*--checkpoint RUN"
        ):
            shipped_encoder()

    def test_onnx_asks_for_its_export(self, tmp_path, monkeypatch):
        """In a program; the command exports it (tests/apply/test_onnx_export.py)."""
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        assert shipped_onnx().parent == tmp_path / "encoders"
        with pytest.raises(ValueError, match="--runtime onnx: export the shipped encoder first"):
            Reconstructor.load(runtime="onnx")

    def test_the_file(self):
        """What is shipped is an encoder of the shipped face, and the one that its card describes."""
        path = shipped_encoder()
        assert path.stat().st_size < 12_000_000
        card = (path.parent / "encoder.md").read_text("utf-8")
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card
        run = Reconstructor.load(device="cpu")
        assert run.face_model.file == "portraits"
        code = run(torch.full((1, 3, 160, 160), 0.5)).pack().numpy()
        assert np.isfinite(code).all()

    def test_it_does_what_its_card_says(self):
        """On rendered people of the shipped face, within what another training of it would differ by."""
        run = Reconstructor.load(device="cpu")
        decoder = FaceDecoder(run.decoder.model, camera=run.decoder.pinhole)
        faces = SyntheticFaces(decoder).render(2026, range(16))
        photo = faces.picture.image
        with torch.no_grad():
            code = ColorSolver(decoder)(photo, run(photo, both_ways=True))
            face = decoder.rasterize(decoder.geometry(code))
        assert face.landmarks is not None
        away = (face.landmarks - faces.landmarks).norm(dim=2).mean(1)
        photometric = photometric_raster(face, faces.picture.clean)
        assert away.median() < 4.0  # px; measured 3.1
        assert photometric.median() < 0.115  # measured 0.091
