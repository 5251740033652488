"""Options by their names and their flags."""

from __future__ import annotations

import pytest

from mofa_nvdr.runs.options import ConfigError, TrainConfig, flag, options, replace_options


class TestReplaceOptions:
    def test_groups_within_groups(self):
        config = replace_options(
            TrainConfig(), {"encoder.scale.light": 0.5, "encoder.size": 9, "run.seed": 3}
        )
        assert (config.encoder.scale.light, config.encoder.size, config.run.seed) == (0.5, 9, 3)
        assert config.encoder.scale.shape == TrainConfig().encoder.scale.shape
        before, after = options(TrainConfig()), options(config)
        assert {name for name in before if before[name] != after[name]} == {
            "encoder.scale.light", "encoder.size", "run.seed",
        }  # fmt: skip

    def test_unknown(self):
        with pytest.raises(
            ConfigError, match="no option 'mirror'; perhaps you meant 'loss.mirror'"
        ):
            replace_options(TrainConfig(), {"mirror": 1.0})


class TestFlag:
    def test_groups_but_for_what_is_typed_most(self):
        names = ("data.path", "render.mode", "run.steps", "run.face_model", "loss.gain_shape")
        assert [flag(name) for name in names] == [
            "data", "render-mode", "steps", "face-model", "loss.gain-shape",
        ]  # fmt: skip
