"""What terms look at: known codes, people and their other pictures."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from mofa_nvdr.losses.batch_distribution import batch_distribution
from mofa_nvdr.losses.identity import identity_cosine
from mofa_nvdr.losses.known_faces import code_distance, decoded_face_distance
from mofa_nvdr.losses.model_space import model_space_distance, model_space_weights
from mofa_nvdr.losses.parameter_distance import parameter_distance
from mofa_nvdr.networks.identity_mean import identity_mean
from mofa_nvdr.render.decoder import face_image
from mofa_nvdr.runs.build import make_decoder
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import ConfigError, replace_options
from mofa_nvdr.training.objective import Objective
from tests.helpers.objective import loss_terms
from tests.helpers.small_dlib import use_small_recognition
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face
from tests.helpers.training import random_batch

NOTHING_ELSE = {"loss.photometric": 0.0, "loss.regularizer": 0.0}


class TestKnownDistance:
    def test_is_the_sum_of_what_is_asked_for(self):
        """In the warm start: robust distance, decoded faces, Genova's two parameters, model space."""
        model = small_face(16)
        weights = {"codes": 0.5, "decoded": 0.25, "parameter_shape": 0.4, "parameter_albedo": 0.2,
                   "model_space": 0.1}  # fmt: skip
        codes = 0.3 * torch.randn(2, model.layout.size, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        encoder = small_encoder(load_config("smoke"), model.layout).eval()
        batch = dataclasses.replace(random_batch(), codes=codes)
        decoder = make_decoder(load_config("smoke"), model)
        pair = model.layout.unpack(encoder(batch.images)), model.layout.unpack(codes)
        alone = {
            "codes": code_distance(*pair), "decoded": decoded_face_distance(decoder, *pair),
            "parameter_shape": parameter_distance(*pair, 1.0, 0.0),
            "parameter_albedo": parameter_distance(*pair, 0.0, 1.0),
            "model_space": model_space_distance(*pair, model_space_weights(model)),
        }  # fmt: skip
        nothing = dict.fromkeys((f"loss.{name}" for name in weights), 0.0)
        for asked in (*([name] for name in weights), list(weights)):
            options = nothing | {f"loss.{name}": weights[name] for name in asked}
            config = replace_options(
                load_config("smoke"), {**options, "schedule.warm_start_steps": 1}
            )
            loss = loss_terms(config, encoder, decoder, batch, 1)["loss"]
            expected = sum(weights[name] * alone[name] for name in asked).mean()
            assert loss.item() == pytest.approx(expected.item(), rel=1e-5), asked
        loss.backward()
        assert encoder.head.parts["shape"].weight.grad.abs().max() > 0


class TestBatchDistribution:
    def test_of_the_photographs(self):
        model = small_face(16)
        config = replace_options(
            load_config("smoke"), {**NOTHING_ELSE, "loss.batch_distribution": 10.0}
        )
        torch.manual_seed(0)
        encoder = small_encoder(config, model.layout).eval()
        batch = random_batch()
        terms = loss_terms(config, encoder, make_decoder(config, model), batch, 1)
        expected = batch_distribution(model.layout.unpack(encoder(batch.images)))
        assert terms["batch_distribution"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert terms["loss"].item() == pytest.approx(10 * expected.item(), rel=1e-5)
        assert "batch_distribution" not in loss_terms(
            load_config("smoke"), encoder, make_decoder(config, model), batch, 1
        )


class TestLoopback:
    def test_of_the_first_view(self):
        """The prediction from it against the one that it is of; both get a gradient."""
        model = small_face(16)
        changes = {
            **NOTHING_ELSE, "loss.loopback": 0.07, "loss.views": 2, "loss.parameter_shape": 0.4,
            "loss.parameter_albedo": 0.1, "loss.identity_photographs": 2,
        }  # fmt: skip
        config = replace_options(load_config("smoke"), changes)
        torch.manual_seed(0)
        encoder, decoder = small_encoder(config, model.layout).eval(), make_decoder(config, model)
        batch = dataclasses.replace(random_batch(), places=(8, 9))
        objective = Objective(config, decoder)
        terms = objective(encoder, batch, 1)
        first = model.layout.unpack(encoder(batch.images))
        views = objective.tools.views(first.shape, first.albedo, (8, 9))
        again = model.layout.unpack(encoder(views.images[::2]))
        expected = parameter_distance(again, first, 0.4, 0.1).mean()
        assert terms["loopback"].item() == pytest.approx(expected.item(), rel=1e-4)
        assert terms["loss"].item() == pytest.approx(0.07 * expected.item(), rel=1e-4)
        slope = torch.autograd.grad(terms["loss"], encoder.head.parts["shape"].weight)[0]
        expected.backward()
        torch.testing.assert_close(
            slope, 0.07 * encoder.head.parts["shape"].weight.grad, rtol=1e-3, atol=1e-7
        )


class TestIdentity:
    @pytest.fixture
    def objective(self, monkeypatch):
        use_small_recognition(monkeypatch)
        config = replace_options(
            load_config("smoke"), {"loss.identity": 0.5, "loss.identity_photographs": 1}
        )
        return Objective(config, make_decoder(config, small_face(16)))

    def test_of_the_first_photographs_with_landmarks(self, objective):
        torch.manual_seed(0)
        encoder = small_encoder(objective.config, objective.decoder.model.layout).eval()
        batch = random_batch()
        marks = objective.decoder(torch.zeros(2, objective.decoder.model.layout.size)).landmarks
        known = marks.clone()
        known[0] = math.nan
        terms = objective(encoder, dataclasses.replace(batch, landmarks=known), 1)
        face = objective.decoder(encoder(batch.images))
        person = objective.tools.recognition.embed(batch.images[1:], marks[1:], samples=1)
        own = objective.tools.recognition.embed(
            face_image(face, 0.5)[1:], face.landmarks[1:], samples=1
        )
        expected = (own - person).square().sum()
        assert terms["identity"].item() == pytest.approx(expected.item(), rel=1e-4)
        terms["loss"].backward()
        assert encoder.head.parts["albedo"].weight.grad.abs().max() > 0
        assert objective(encoder, batch, 1)["identity"].item() == 0  # nobody has landmarks

    def test_without_the_network(self, monkeypatch, tmp_path):
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        config = replace_options(load_config("smoke"), {"loss.identity": 0.5})
        with pytest.raises(ConfigError, match="--loss.identity is 0.5: .*networks get identity"):
            Objective(config, make_decoder(config, small_face(16)))

    @pytest.mark.parametrize("measure", ["euclidean", "cosine"])
    def test_of_several_views(self, monkeypatch, measure):
        """Each against the one photograph."""
        network = use_small_recognition(monkeypatch)
        changes = {"loss.identity": 1.0, "loss.views": 2, "loss.identity_measure": measure}
        config = replace_options(load_config("smoke"), {**NOTHING_ELSE, **changes})
        objective = Objective(config, make_decoder(config, small_face(16)))
        layout = objective.decoder.model.layout
        torch.manual_seed(0)
        encoder = small_encoder(config, layout).eval()
        marks = objective.decoder(torch.zeros(2, layout.size)).landmarks
        batch = dataclasses.replace(random_batch(), landmarks=marks, places=(4, 5))
        terms = objective(encoder, batch, 1)
        code = layout.unpack(encoder(batch.images))
        views = objective.tools.views(code.shape, code.albedo, (4, 5))
        people = network.embed(batch.images, marks, samples=1)
        drawn = network.embed(views.images, views.landmarks, samples=1)
        pairs = [(drawn[k], people[k // 2]) for k in range(4)]
        mean = identity_mean()
        if measure == "cosine":
            each = [identity_cosine(a[None], b[None], mean) for a, b in pairs]
        else:
            each = [(a - b).square().sum() for a, b in pairs]
        expected = sum(each) / 4
        assert terms["identity"].item() == pytest.approx(expected.item(), rel=1e-4)
        terms["loss"].backward()
        for part, moves in {
            "shape": True,
            "albedo": True,
            "expression": False,
            "light": False,
        }.items():
            assert (encoder.head.parts[part].weight.grad.abs().max() > 0) == moves
