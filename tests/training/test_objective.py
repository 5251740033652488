"""The terms of a step: by hand, their weights, their gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mofa_nvdr.data.synthetic.faces import ACCOMPANYING, SyntheticFaces
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.build import make_decoder, make_encoder
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from mofa_nvdr.training.objective import _encode_together
from mofa_nvdr.training.teacher import Teacher, with_teacher
from tests.helpers.objective import loss_terms
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face
from tests.helpers.training import HELD, curve, random_batch, small_config


class TestModes:
    def test_both_is_the_mean(self):
        """Of the terms of the two modes; the loss and its gradient too."""
        model = small_face(16)
        batch = random_batch()
        results = {}
        for mode in ("raster", "vertex", "both"):
            config = replace_options(
                load_config("smoke"), {"render.mode": mode, "loss.regularizer": 0.0}
            )
            torch.manual_seed(0)
            encoder = small_encoder(config, model.layout).eval()
            terms = loss_terms(config, encoder, make_decoder(config, model), batch, 1)
            terms["loss"].backward()
            results[mode] = terms, encoder.head.parts["light"].weight.grad
        (raster, by_raster), (vertex, by_vertex), (both, by_both) = results.values()
        assert both["photometric_raster"].item() == raster["photometric"].item()
        assert both["photometric_vertex"].item() == vertex["photometric"].item()
        for key in ("photometric", "loss"):
            expected = 0.5 * raster[key] + 0.5 * vertex[key]
            assert both[key].item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(by_both, 0.5 * by_raster + 0.5 * by_vertex, rtol=1e-5, atol=1e-8)
        assert "photometric_raster" not in raster

    def test_gain_multiplies_what_sets_an_image_apart(self):
        """Of the gradients of shape and expression; no value, no mean and no other part changes."""
        model = small_face(16)
        decoder = make_decoder(load_config("smoke"), model)

        def gradients(shape: float, expression: float) -> tuple[float, dict[str, torch.Tensor]]:
            config = replace_options(
                load_config("smoke"),
                {"loss.gain_shape": shape, "loss.gain_expression": expression},
            )
            codes = torch.linspace(-0.2, 0.2, model.layout.size).repeat(2, 1).requires_grad_()
            terms = loss_terms(config, _GivenCodes(codes), decoder, random_batch(), 1)
            terms["loss"].backward()
            assert codes.grad is not None
            return terms["loss"].item(), vars(model.layout.unpack(codes.grad))

        (plain, by_plain), (gained, by_gained) = gradients(1, 1), gradients(3, 6)
        assert gained == plain
        for part, factor in {"shape": 3, "expression": 6, "albedo": 1, "rotation": 1}.items():
            mean = by_plain[part].mean(0)
            apart = by_plain[part] - mean
            assert apart.abs().max() > 1e-6
            torch.testing.assert_close(by_gained[part], mean + factor * apart, rtol=1e-4, atol=1e-7)

    def test_terms_without_weight_are_in_the_log_alone(self):
        """The landmark term is measured where there are landmarks, whether it counts or not."""
        model = small_face(16)
        landmarks = FaceDecoder(model, 64)(model.layout.zeros()).landmarks.expand(2, -1, -1) + 3.0
        batch = dataclasses.replace(
            random_batch(), landmarks=landmarks, confidence=torch.ones(2, 68)
        )
        for weight in (0.0, 1.0):
            config = replace_options(
                load_config("smoke"), {"loss.landmark": weight, "loss.regularizer": 0.0}
            )
            torch.manual_seed(0)
            encoder = small_encoder(config, model.layout).eval()
            terms = loss_terms(config, encoder, make_decoder(config, model), batch, 1)
            expected = 1.92 * terms["photometric"] + weight * terms["landmark"]
            assert terms["landmark"].item() > 0.1
            assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)

    def test_a_loss_without_weights_is_zero(self):
        config = replace_options(
            load_config("smoke"), {"loss.photometric": 0.0, "loss.regularizer": 0.0}
        )
        model = small_face(16)
        encoder = small_encoder(config, model.layout)
        terms = loss_terms(config, encoder, make_decoder(config, model), random_batch(), 1)
        terms["loss"].backward()
        assert terms["loss"].item() == 0 and terms["photometric"].item() > 0

    def test_outlines_with_both(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        changes = {"render.mode": "both", "run.steps": 2}
        curves = [
            curve(train(small_config(cap, tmp_path / str(on), **changes, **{"render.outline": on})))
            for on in (False, True)
        ]
        plain, outline = ([line["gradient_norm"] for line in c if "loss" in line] for c in curves)
        assert plain[0] != outline[0]


class TestLossTerms:
    def test_landmark_term_counts_in_px_at_240(self):
        """The same error relative to the face gives the same term at every image size."""
        model = small_face(16)
        values = []
        for size in (64, 128):
            config = replace_options(
                load_config("smoke"), {"data.image_size": size, "loss.landmark": 1.0}
            )
            decoder = FaceDecoder(model, size)
            batch = random_batch(size)
            landmarks = decoder(model.layout.zeros()).landmarks.expand(2, -1, -1) + size / 24
            batch = dataclasses.replace(batch, landmarks=landmarks, confidence=torch.ones(2, 68))
            terms = loss_terms(config, make_encoder(config, model.layout), decoder, batch, 1)
            values.append(terms["landmark"].item())
        # 46 points, each 10 px off in x and y at 240, in units of 60 px
        assert values == pytest.approx([46 * 200 / 3600] * 2, rel=1e-4)


class _GivenCodes(torch.nn.Module):
    """Predicts the codes that it was given."""

    def __init__(self, codes: torch.Tensor) -> None:
        super().__init__()
        self.device = torch.nn.Parameter(torch.zeros(1))  # the encoder's parameters say where it is
        self.codes = codes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.codes


class TestMoreTerms:
    @pytest.mark.parametrize("name", ["anchor", "mirror", "synthetic"])
    def test_adds_its_weight_and_teaches_the_encoder(self, name):
        """The loss grows by weight x term; the gradient reaches the encoder and not the teacher."""
        weight = {
            **HELD,
            **dict.fromkeys(("loss.anchor", "loss.mirror", "loss.synthetic"), 0.0),
        }
        config = replace_options(
            load_config("smoke"),
            {**{**weight, f"loss.{name}": 0.7}, "loss.photometric": 0.0, "loss.regularizer": 0.0},
        )
        model = small_face(16)
        decoder = FaceDecoder(model, 64)
        torch.manual_seed(0)
        teacher = Teacher(small_encoder(config, model.layout))
        encoder = small_encoder(config, model.layout)
        rendered = next(
            SyntheticFaces(decoder).batches(1, seed=0, start_step=0, stream=ACCOMPANYING)
        )
        batch = dataclasses.replace(with_teacher(random_batch(), teacher), rendered=rendered)
        terms = loss_terms(config, encoder, decoder, batch, step=3)
        assert {"anchor", "mirror", "synthetic"} & terms.keys() == {name}
        assert terms["loss"].item() == pytest.approx(0.7 * terms[name].item(), rel=1e-6)
        terms["loss"].backward()
        assert encoder.head.parts["rotation"].weight.grad.abs().sum() > 0
        assert all(p.grad is None for p in teacher.parameters())

    def test_interleaved_pass_gives_each_group_its_own_codes(self):
        """Rendered faces may be of another size than photographs: all are as the trunk sees them."""
        encoder = small_encoder(load_config("smoke"), small_face(16).layout).eval()
        encoder.input_size = 64
        groups = {
            name: torch.rand(n, 3, size, size)
            for name, n, size in (("photo", 4, 80), ("mirror", 4, 80), ("rendered", 3, 64))
        }
        for name, codes in _encode_together(encoder, groups).items():
            torch.testing.assert_close(codes, encoder(groups[name]))
