"""The terms of a step: by hand, their weights, their gradients."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import pytest
import torch

from mofa_nvdr.data.synthetic.faces import ACCOMPANYING, SyntheticFaces
from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.dense_landmarks import DenseLandmarks
from mofa_nvdr.face.skin import skin_vertices
from mofa_nvdr.losses.corrections import (
    correction_size,
    displacement_smoothness,
    skin_constancy,
    soft_orthogonality,
)
from mofa_nvdr.losses.known_faces import code_distance, decoded_face_distance
from mofa_nvdr.losses.landmark_terms import openings
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.build import make_decoder, make_encoder
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import ConfigError, replace_options
from mofa_nvdr.scene.vertex_graph import VertexGraph
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from mofa_nvdr.training.objective import Objective
from mofa_nvdr.training.teacher import Teacher, with_teacher
from tests.helpers.objective import loss_terms
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import symmetric_face
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

    def test_nothing_is_drawn_for_a_log_that_is_not_written(self, monkeypatch):
        model = small_face(16)
        config = replace_options(load_config("smoke"), {"loss.photometric": 0.0})
        encoder = small_encoder(config, model.layout).eval()
        decoder = make_decoder(config, model)
        whole = Objective(config, decoder)(encoder, random_batch(), 1)
        monkeypatch.setattr(FaceDecoder, "rasterize", None)
        terms = Objective(config, decoder)(encoder, random_batch(), 1, reported=False)
        assert set(terms) == {"loss", "regularizer"}
        assert terms["loss"].equal(whole["loss"]) and whole["photometric"] > 0

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


class TestLandmarkSets:
    @pytest.fixture
    def face(self):
        """The small cap, on which points of the mesh have places at vertices."""
        model = small_face(16)
        generator = torch.Generator().manual_seed(0)
        corners = torch.randint(0, 256, (478, 1), generator=generator).expand(-1, 3)
        spread = torch.full((478,), 2.0)
        spread[380] = 0
        model.place_dense_landmarks(
            DenseLandmarks(corners, torch.tensor([1.0, 0, 0]).expand(478, -1), spread)
        )
        return model

    def terms(self, model, batch, **changes) -> dict[str, torch.Tensor]:
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        config = replace_options(load_config("smoke"), {"loss.regularizer": 0.0, **changes})
        codes = torch.zeros(2, model.layout.size, requires_grad=True)
        terms = loss_terms(config, _GivenCodes(codes), make_decoder(config, model), batch, 1)
        terms["loss"].backward()
        assert codes.grad.isfinite().all()
        return terms

    def test_dense(self, face):
        """All points 3 px aside in one of two pictures of 64 px, whose unit is 16 px: 46 (3 / 16)^2 / 2."""
        decoder = FaceDecoder(face, 64)
        dense = decoder.dense_landmarks(decoder.geometry(face.layout.zeros(2))).clone()
        dense[0, :, 0] += 3
        dense[1, 5:] = math.nan
        batch = dataclasses.replace(random_batch(), dense=dense)
        options = {"loss__landmark": 1.0, "loss__lid": 1.0, "loss__landmark_set": "dense"}
        terms = self.terms(face, batch, **options)
        assert terms["landmark"].item() == pytest.approx(46 * (3 / 16) ** 2 / 2, rel=1e-4)
        expected = 1.92 * terms["photometric"] + terms["landmark"] + terms["lid"]
        assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
        # Moved alike, lids and lips are as open; but for the pair of which a point has no place.
        own = openings(decoder.landmarks(decoder.geometry(face.layout.zeros())))[0, 2]
        away = (own - openings(dense)[0, 2]) / 16
        assert terms["lid"].item() == pytest.approx(away.square().sum().item() / 2, rel=1e-3)

    def test_lids_of_68(self, face):
        decoder = FaceDecoder(face, 64)
        landmarks = decoder(face.layout.zeros(2)).landmarks + 3.0
        landmarks[1, 41, 1] += 4
        batch = dataclasses.replace(
            random_batch(), landmarks=landmarks, confidence=torch.ones(2, 68)
        )
        terms = self.terms(face, batch, loss__lid=1.0)
        assert terms["lid"].item() == pytest.approx((4 / 16) ** 2 / 2, rel=1e-4)
        assert "lid" not in self.terms(face, batch)

    def test_no_picture_has_any(self, face):
        options = {"loss__landmark": 1.0, "loss__lid": 1.0, "loss__landmark_set": "dense"}
        terms = self.terms(face, random_batch(), **options)
        assert terms["landmark"].item() == terms["lid"].item() == 0

    def test_face_model_without_places(self):
        config = replace_options(load_config("smoke"), {"loss.landmark_set": "dense"})
        message = "--loss.landmark-set is dense, but face model cap has no places .* or give ibug"
        with pytest.raises(ConfigError, match=message):
            Objective(config, make_decoder(config, small_face(16)))


class TestOcclusion:
    def test_an_occluder_does_not_count(self):
        """Of a rendering, a little brighter, with a patch on it: what the patch leaves counts as before."""
        model = small_face(16)
        config = replace_options(load_config("smoke"), {"loss.regularizer": 0.0})
        decoder = make_decoder(config, model)
        face = decoder(model.layout.zeros(2))
        photo = torch.where(face.mask > 0, face.image.detach() + 0.02, torch.tensor(0.2))
        hidden = photo.clone()
        hidden[..., 24:40, 24:36] = torch.tensor([0.0, 1.0, 0.1])[:, None, None]
        values, gradients = [], []
        for picture, occlusion in ((photo, "none"), (hidden, "none"), (hidden, "robust")):
            config = replace_options(config, {"loss.occlusion": occlusion})
            codes = torch.zeros(2, model.layout.size, requires_grad=True)
            batch = dataclasses.replace(random_batch(), images=picture)
            terms = loss_terms(config, _GivenCodes(codes), decoder, batch, 1)
            terms["loss"].backward()
            values.append(terms["photometric"].item())
            gradients.append(codes.grad[0])
        clean, plain, robust = values
        assert clean == pytest.approx(0.02 * math.sqrt(3), rel=1e-3) and plain > 1.5 * clean
        assert robust == pytest.approx(clean, rel=0.02)
        alike = torch.nn.functional.cosine_similarity(torch.stack(gradients[1:]), gradients[0])
        assert alike[1] > 0.97 and alike[1] > alike[0], alike


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


class TestFittedCodes:
    def test_distance_to_the_codes_of_photographs(self):
        """Of those that have one, over all of the batch; the loss reaches the encoder through it."""
        model = small_face(16)
        config = replace_options(
            load_config("smoke"), {"loss.fitted": 0.5, "loss.photometric": 0.0, "loss.decoded": 1.0}
        )
        torch.manual_seed(0)
        encoder, decoder = small_encoder(config, model.layout).eval(), make_decoder(config, model)
        codes = 0.3 * torch.randn(2, model.layout.size)
        batch = dataclasses.replace(random_batch(), codes=codes)
        both = loss_terms(config, encoder, decoder, batch, 1)
        pair = model.layout.unpack(encoder(batch.images)), model.layout.unpack(codes)
        distance = code_distance(*pair) + decoded_face_distance(decoder, *pair)
        assert both["fitted"].item() == pytest.approx(distance.mean().item(), rel=1e-5)
        codes[1] = math.nan
        one = loss_terms(config, encoder, decoder, dataclasses.replace(batch, codes=codes), 1)
        assert one["fitted"].item() == pytest.approx(distance[0].item() / 2, rel=1e-5)
        one["loss"].backward()
        assert encoder.head.parts["shape"].weight.grad.abs().max() > 0
        for nobody in (None, torch.full_like(codes, math.nan)):
            none = loss_terms(config, encoder, decoder, dataclasses.replace(batch, codes=nobody), 1)
            assert none["fitted"].item() == 0
        assert "fitted" not in loss_terms(load_config("smoke"), encoder, decoder, batch, 1)


class TestTwoLevels:
    """Terms of a face model with correctives: the base level alone at first, then both."""

    WEIGHTS: ClassVar[dict[str, float]] = {
        "base_photometric": 0.5, "base_landmark": 0.2, "smoothness": 0.3, "sparsity": 0.4,
        "constancy": 0.6, "size": 0.7, "rendered_size": 0.9, "orthogonality": 0.8,
    }  # fmt: skip

    @pytest.fixture
    def parts(self):
        """Configuration, encoder, decoder and a batch with landmarks, one of rendered faces next to it."""
        options = {f"correctives.{name}": weight for name, weight in self.WEIGHTS.items()}
        options |= {"correctives.shape": 2, "correctives.albedo": 3, "correctives.base_steps": 1}
        options |= {"loss.synthetic": 0.1, "loss.landmark": 1.0, "loss.batch_distribution": 0.1}
        config = replace_options(load_config("smoke"), options)
        model = CorrectedFaceModel(symmetric_face(regions=True), 2, 3)
        with torch.no_grad():  # so that corrections are large next to float32's steps at 600 mm
            model.shape_correctives.mul_(50)
        torch.manual_seed(0)
        encoder = small_encoder(config, model.layout).eval()
        base = make_decoder(config, model.base)
        rendered = next(SyntheticFaces(base).batches(1, seed=0, start_step=0, stream=ACCOMPANYING))
        marks = base(model.base.layout.zeros()).landmarks.expand(2, -1, -1) + 2.0
        batch = dataclasses.replace(
            random_batch(), landmarks=marks, confidence=torch.ones(2, 68), rendered=rendered
        )
        return config, encoder, make_decoder(config, model), batch

    def test_the_base_level_alone(self, parts):
        """What a training of the base model has; nothing learns of correctives."""
        config, encoder, decoder, batch = parts
        model = decoder.model
        terms = Objective(config, decoder)(encoder, batch, 1)
        assert all(terms[name].isnan() for name in self.WEIGHTS)
        terms["loss"].backward()
        grad = encoder.head.parts["shape"].weight.grad
        assert grad[:4].abs().max() > 0 and grad[4:].abs().max() == 0
        assert all(parameter.grad is None for parameter in model.parameters())

        class Cut(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = encoder

            def resize(self, images):
                return images

            def forward(self, images):
                return model.base_code(model.layout.unpack(encoder(images))).pack()

        plain = {f"correctives.{name}": 0 for name in (*self.WEIGHTS, "shape", "albedo")}
        own = replace_options(config, {**plain, "correctives.base_steps": 0})
        expected = Objective(own, make_decoder(own, model.base))(Cut(), batch, 1)
        assert not self.WEIGHTS.keys() & expected.keys()
        for name, value in expected.items():
            assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name

    def test_both(self, parts):
        """The loss is the sum; corrections are what sets the final level apart; all of it learns."""
        config, encoder, decoder, batch = parts
        objective = Objective(config, decoder)
        lower, both = objective(encoder, batch, 1), objective(encoder, batch, 2)
        w = config.loss
        weights = {name: getattr(w, name) for name in (
            "photometric", "landmark", "regularizer", "synthetic", "batch_distribution")}  # fmt: skip
        weights |= self.WEIGHTS
        total = sum(weight * both[name] for name, weight in weights.items())
        assert both["loss"].item() == pytest.approx(total.item(), rel=1e-5)
        assert both["base_photometric"].item() == lower["photometric"].item()
        assert both["base_landmark"].item() == lower["landmark"].item()
        for name in ("regularizer", "synthetic", "batch_distribution"):  # of the base level
            assert both[name].item() == lower[name].item()
        assert both["photometric"].item() != lower["photometric"].item()

        model, layout = decoder.model, decoder.model.layout

        def corrections(images):
            code = layout.unpack(encoder(images))
            base = model.base_code(code)
            moved = model.vertices(code.shape, code.expression)
            moved = moved - model.base.vertices(base.shape, base.expression)
            return moved, model.albedo(code.albedo) - model.base.albedo(base.albedo)

        moved, painted = corrections(batch.images)
        graph = VertexGraph.of(model.triangles, model.num_vertices)
        expected = {
            "size": correction_size(moved, painted).mean(),
            "rendered_size": correction_size(*corrections(batch.rendered.images)).mean(),
            "smoothness": displacement_smoothness(moved, graph).mean(),
            "constancy": skin_constancy(painted, skin_vertices(model)).mean(),
            "orthogonality": soft_orthogonality(model.shape_correctives, model.shape_basis)
            + soft_orthogonality(model.albedo_correctives, model.albedo_basis),
        }
        for name, value in expected.items():
            assert both[name].item() == pytest.approx(value.item(), rel=1e-3), name
        assert both["sparsity"].item() > 0
        both["loss"].backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.abs().max() > 0, name
        assert encoder.head.parts["albedo"].weight.grad[5:].abs().max() > 0

    @pytest.mark.parametrize("mode", ["vertex", "both"])
    def test_of_each_render_mode(self, parts, mode):
        config, encoder, decoder, batch = parts
        config = replace_options(config, {"render.mode": mode})
        decoder = make_decoder(config, decoder.model)
        lower, both = (Objective(config, decoder)(encoder, batch, step) for step in (1, 2))
        assert both["base_photometric"].item() == pytest.approx(
            lower["photometric"].item(), rel=1e-6
        )

    def test_views_of_the_base_level(self, parts):
        """Loopback predicts again what is drawn of either level."""
        config, encoder, decoder, batch = parts
        options = {"loss.loopback": 0.1, "loss.views": 1, "loss.parameter_shape": 0.4}
        batch = dataclasses.replace(batch, places=(4, 5))
        objective = Objective(replace_options(config, options), decoder)
        assert all(objective(encoder, batch, step)["loopback"] > 0 for step in (1, 2))
