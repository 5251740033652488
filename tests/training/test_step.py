"""One training step, and what it reports."""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.runs.build import make_decoder, make_encoder
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import TrainConfig, replace_options
from mofa_nvdr.training.objective import Objective
from mofa_nvdr.training.optimizer import make_optimizer
from mofa_nvdr.training.step import Trainer, code_statistics, gradient_norms, train_step
from mofa_nvdr.training.timing import StageClock
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face


class TestPapersRecipe:
    def test_first_steps_keep_the_face(self):
        """AdaDelta's first steps are of one size whatever the gradient; the units must suit them."""
        config = replace_options(
            load_config("mofa_alexnet_landmarks"),
            {"data.image_size": 80, "render.mode": "raster"},
        )
        model = small_face(24)
        decoder = make_decoder(config, model)
        torch.manual_seed(0)
        encoder = make_encoder(config, model.layout).train()
        optimizer = make_optimizer(config, encoder)
        batches = SyntheticFaces(decoder, plain=True).batches(5, seed=0, start_step=0)
        clock, landmark = StageClock(torch.device("cpu")), []
        trainer = Trainer(config, encoder, Objective(config, decoder), optimizer, clock)
        for step in range(1, 9):
            batch = next(batches)
            result = train_step(trainer, batch, step, reported=True)
            landmark.append(result.terms["landmark"])
        # measured 1.6; where a unit is a radian and a standard deviation, 170 at the third step
        assert max(landmark) < 5 * landmark[0]


class TestStatistics:
    def test_norm_and_deviation_of_each_part(self):
        """Two codes, by hand."""
        layout = CodeLayout(2, 1, 1)
        codes = torch.zeros(2, layout.size)
        codes[0, layout.slices["shape"]] = torch.tensor([3.0, 4.0])
        codes[:, layout.slices["albedo"]] = 2.0
        result = code_statistics(codes, layout)
        assert result["code_norm"]["shape"] == 2.5  # (5 + 0) / 2
        # deviations 1.5 and 2: the root of the mean of their squares
        assert result["code_sd"]["shape"] == pytest.approx(math.sqrt((1.5**2 + 2**2) / 2))
        assert result["code_norm"]["albedo"] == 2 and result["code_sd"]["albedo"] == 0

    def test_gradient_of_each_part(self):
        encoder = small_encoder(TrainConfig(), CodeLayout(4, 3, 5))
        encoder.head.parts["rotation"].bias.grad = torch.tensor([3.0, 0.0, 4.0])
        norms = gradient_norms(encoder)
        assert norms["rotation"] == 5 and norms["trunk"] == 0
