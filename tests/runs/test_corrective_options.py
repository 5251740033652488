"""Options of corrective levels: off by default, and one line for what cannot be."""

from __future__ import annotations

import dataclasses

import pytest

from mofa_nvdr.runs.config import check_config, load_config
from mofa_nvdr.runs.corrective_options import CorrectiveOptions
from mofa_nvdr.runs.options import ConfigError, TrainConfig, replace_options


class TestCorrectiveOptions:
    def test_off_by_default(self):
        off = dataclasses.asdict(CorrectiveOptions())
        assert off.pop("learning_rate") > 0 and not any(off.values())

    def test_the_recipe_has_all_of_them(self):
        assert all(dataclasses.asdict(load_config("multi_level").correctives).values())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"size": 0.1},
                "--correctives.size is 0.1, but --correctives.shape and --correctives.albedo are 0 and "
                "nothing is corrected; give --correctives.shape 48, or --correctives.size 0",
            ),
            ({"base_steps": 9}, "--correctives.base-steps is 9, but --correctives.shape and"),
            (
                {"smoothness": 0.1, "albedo": 4},
                "--correctives.smoothness is 0.1, but --correctives.shape is 0",
            ),
            (
                {"constancy": 0.1, "shape": 4},
                "--correctives.constancy is 0.1, but --correctives.albedo is 0",
            ),
            (
                {"sparsity": 0.1, "shape": 4},
                "--correctives.sparsity is 0.1, but .* give --correctives.albedo 48",
            ),
            (
                {"rendered_size": 0.1, "shape": 4},
                "--correctives.rendered-size is 0.1, but --loss.synthetic is 0 and no faces are rendered .*; "
                "give --loss.synthetic 0.1, or --correctives.rendered-size 0",
            ),
            ({"learning_rate": 0.0}, "--correctives.learning-rate is 0.0, expected more than 0"),
        ],
    )
    def test_wrong_combinations(self, change, message):
        values = {f"correctives.{name}": value for name, value in change.items()}
        with pytest.raises(ConfigError, match=message) as error:
            check_config(replace_options(TrainConfig(), values))
        assert "\n" not in str(error.value)

    def test_with_bootstrapping(self):
        """Its faces are rendered with the face model's own modes."""
        both = replace_options(load_config("inverse_face_net"), {"correctives.albedo": 4})
        with pytest.raises(
            ConfigError,
            match="--bootstrap.cycles is 8, whose .* --correctives.albedo is 4; give one",
        ):
            check_config(both)
