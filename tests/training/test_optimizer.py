"""The learning rates over the steps, and what decays."""

from __future__ import annotations

import math

import pytest

from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.runs.build import make_encoder
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.training.optimizer import make_optimizer, set_rates
from tests.helpers.small_face import small_face


class TestRates:
    def test_by_hand(self):
        """Warm-up and cosine to a tenth, once for the warm start and once for the rest; depth's own rate."""
        config = replace_options(
            load_config("smoke"),
            {
                "run.steps": 100,
                "optimizer.learning_rate": 0.1,
                "optimizer.translation_z_rate": 0.0005,
                "schedule.warmup_steps": 10,
                "schedule.warm_start_steps": 40,
                "schedule.rate_after_warm_start": 0.5,
                "schedule.decay": "cosine",
            },
        )
        optimizer = make_optimizer(config, make_encoder(config, small_face(8).layout))

        def cosine(share: float) -> float:
            return 0.1 + 0.45 * (1 + math.cos(math.pi * share))

        expected = {
            1: 0.1, 10: cosine(9 / 40), 21: cosine(0.5), 40: cosine(39 / 40),
            41: 0.5 * 0.1, 50: 0.5 * cosine(9 / 60), 71: 0.5 * cosine(0.5), 101: 0.5 * 0.1,
        }  # fmt: skip
        for step, factor in expected.items():
            set_rates(config, optimizer, step)
            rates = sorted({group["lr"] for group in optimizer.param_groups})
            assert rates == pytest.approx([0.0005 * factor, 0.1 * factor]), step

    def test_length_of_the_rest_does_not_change_the_warm_start(self):
        """So that one warm start serves several trainings."""
        config = replace_options(
            load_config("smoke"),
            {"run.steps": 100, "schedule.warm_start_steps": 40, "schedule.decay": "cosine"},
        )
        optimizer = make_optimizer(config, make_encoder(config, small_face(8).layout))
        rates = []
        for steps in (100, 300):
            set_rates(replace_options(config, {"run.steps": steps}), optimizer, 30)
            rates.append([group["lr"] for group in optimizer.param_groups])
        assert rates[0] == rates[1]

    def test_only_filters_decay(self):
        """AdamW: the trunk's matrices; no gain, no bias, nothing of the last layer. Every one once."""
        config = replace_options(
            load_config("smoke"),
            {
                "optimizer.name": "adamw",
                "optimizer.weight_decay": 0.3,
                "encoder.network": "compact",
            },
        )
        encoder = make_encoder(config, small_face(8).layout)
        optimizer = make_optimizer(config, encoder)
        decaying = [
            p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]
        ]
        expected = [p for p in encoder.trunk.parameters() if p.ndim > 1]
        assert {id(p) for p in decaying} == {id(p) for p in expected} and len(expected) == 6
        every = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(every) == sorted(id(p) for p in encoder.parameters())

    @pytest.mark.parametrize("name", ["adadelta", "adam", "adamw"])
    def test_correctives_have_a_rate_of_their_own(self, name):
        """A group each, behind the encoder's; one without modes has none."""
        changes = {"optimizer.name": name, "correctives.learning_rate": 0.02}
        config = replace_options(load_config("smoke"), changes)
        model = CorrectedFaceModel(small_face(8), 2, 0)
        encoder = make_encoder(config, model.layout)
        plain = make_optimizer(config, encoder).param_groups
        groups = make_optimizer(config, encoder, dict(model.named_parameters())).param_groups
        assert len(groups) == len(plain) + 1
        last = groups[-1]
        assert last["name"] == "shape_correctives" and last["lr"] == last["base_rate"] == 0.02
        assert last["params"] == [model.shape_correctives] and not last.get("weight_decay")
