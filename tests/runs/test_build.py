"""From options to encoder and decoder, and what a checkpoint says of them."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.runs import build
from mofa_nvdr.runs.build import encoder_spec, make_decoder, make_encoder, make_face_model
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import ConfigError, replace_options
from mofa_nvdr.scene.camera import Camera
from tests.helpers.small_dlib import use_small_recognition
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import symmetric_face


def config():
    return replace_options(
        load_config("smoke"),
        {
            "encoder.network": "compact", "encoder.size": 48, "encoder.precision": "bfloat16",
            "encoder.scale.translation_z": 60.0, "render.mode": "both", "render.outline": True,
            "data.image_size": 72,
        },
    )  # fmt: skip


class TestMakeEncoder:
    def test_options_arrive(self):
        encoder = make_encoder(config(), small_face(8).layout)
        assert encoder.input_size == 48 and encoder.precision == torch.bfloat16
        depth = encoder.layout.slices["translation"].stop - 1
        assert encoder.head.scale[depth] == 60 and encoder.head.scale[0] == 1

    @pytest.mark.parametrize("multiplies", [False, True])
    def test_precision_by_the_processor(self, monkeypatch, multiplies):
        monkeypatch.setattr(build, "multiplies_bfloat16", lambda: multiplies)
        own = replace_options(config(), {"encoder.precision": "auto", "run.device": "cpu"})
        expected = torch.bfloat16 if multiplies else torch.float32
        assert make_encoder(own, small_face(8).layout).precision == expected

    def test_size_of_the_networks_own_choice(self):
        own = replace_options(config(), {"encoder.size": 0})
        assert make_encoder(own, small_face(8).layout).input_size == 128


class TestMakeFaceModel:
    def test_options_arrive(self):
        base = symmetric_face(regions=True)
        assert make_face_model(config(), base) is base
        options = {"correctives.shape": 3, "correctives.constancy": 0.1, "correctives.albedo": 2}
        model = make_face_model(replace_options(config(), options), base)
        assert isinstance(model, CorrectedFaceModel) and model.base is base
        assert (len(model.shape_correctives), len(model.albedo_correctives)) == (3, 2)

    def test_without_regions(self):
        own = replace_options(config(), {"correctives.albedo": 2, "correctives.constancy": 0.1})
        with pytest.raises(
            ConfigError, match="--correctives.constancy is 0.1, but face model cap has"
        ):
            make_face_model(own, small_face(8))

    def test_too_many(self):
        own = replace_options(config(), {"correctives.shape": 5000})
        with pytest.raises(
            ConfigError, match="--correctives: CorrectedFaceModel: 5004 modes of sh"
        ):
            make_face_model(own, small_face(8))


class TestMakeDecoder:
    def test_options_arrive(self):
        decoder = make_decoder(config(), small_face(8))
        assert decoder.camera.size == (72, 72)
        assert (decoder.render_mode, decoder.renderer.outline) == ("raster", "edges")
        vertex = replace_options(config(), {"render.mode": "vertex", "render.outline": False})
        assert make_decoder(vertex, small_face(8)).render_mode == "vertex"


class TestEncoderSpec:
    def test_builds_the_same_encoder(self):
        model = small_face(8)
        encoder = make_encoder(config(), model.layout)
        reference = ModelReference(model.name, model.hash, "default")
        spec = encoder_spec(config(), encoder, reference, Camera(72))
        again = spec.build()
        assert again.precision == torch.float32  # what saves time in training is not asked for
        again.load_state_dict(encoder.state_dict())
        assert torch.equal(again.head.scale, encoder.head.scale)
        assert (again.input_size, again.layout) == (encoder.input_size, encoder.layout)

    def test_of_the_identity_network(self, monkeypatch):
        """Without the frozen weights, which are nobody's state."""
        use_small_recognition(monkeypatch)
        model = small_face(8)
        own = replace_options(
            config(), {"encoder.network": "identity_mlp", "encoder.precision": "float32"}
        )
        encoder = make_encoder(own, model.layout)
        reference = ModelReference(model.name, model.hash, "default")
        again = encoder_spec(own, encoder, reference, Camera(72)).build()
        again.load_state_dict(encoder.state_dict())
        images = torch.rand(2, 3, 72, 72)
        assert torch.equal(again.eval()(images), encoder.eval()(images))


def test_identity_network_that_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
    own = replace_options(config(), {"encoder.network": "identity_mlp"})
    with pytest.raises(ConfigError, match="--encoder.network is identity_mlp: .* get identity"):
        make_encoder(own, small_face(8).layout)
