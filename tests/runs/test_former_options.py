"""Runs with options of before: translated, or refused with what replaces them."""

from pathlib import Path

import pytest
import yaml

from mofa_nvdr.runs.config import config_of, load_config, load_run_config
from mofa_nvdr.runs.former_options import RENAMED, RETIRED, is_flat, modern_name, translate
from mofa_nvdr.runs.options import ConfigError, options, replace_options

FIXTURE = Path(__file__).parent / "before_schema" / "config.yaml"


class TestTables:
    def test_every_option_of_before_is_accounted_for(self):
        flat = yaml.safe_load(FIXTURE.read_text())
        assert len(flat) == 71
        assert set(flat) == RENAMED.keys() | RETIRED.keys()
        assert not RENAMED.keys() & RETIRED.keys()

    def test_new_names_exist(self):
        assert set(RENAMED.values()) <= set(options(load_config()))


class TestTranslate:
    def test_run_of_before(self, tmp_path):
        """The fixture's options, but for the retired ones that it was trained with."""
        text = FIXTURE.read_text()
        for line in ("pose_from_step: 1", "shape_from_step: 1", "landmark_unit: 50.0"):
            assert line in text
            text = text.replace(line, f"{line.split(':')[0]}: {RETIRED[line.split(':')[0]][0][0]}")
        (tmp_path / "config.yaml").write_text(text)
        config = load_run_config(tmp_path / "config.yaml")
        expected = replace_options(
            load_config(),
            {
                "encoder.network": "compact", "encoder.size": 48, "run.steps": 1, "run.out": "run",
                "run.face_model": "/tmp/fixture/run/cap.safetensors", "run.threads": 1,
                "data.batch_size": 2, "data.image_size": 48, "encoder.scale.shape": 0.3,
                "encoder.scale.translation_xy": 12.0, "encoder.scale.translation_z": 60.0,
                "optimizer.name": "adam", "optimizer.learning_rate": 1e-3, "report.log_every": 1,
                "report.val_images": 2,
            },
        )  # fmt: skip
        assert config == expected

    def test_retired_options_are_all_named_with_what_replaces_them(self):
        with pytest.raises(ConfigError) as caught:
            load_run_config(FIXTURE)
        text = str(caught.value)
        assert str(FIXTURE) in text and "\n" not in text
        for flag in ("--pose-from-step 1", "--shape-from-step 1", "--landmark-unit 50.0"):
            assert f"{flag} is retired; what replaces it: " in text

    def test_options_of_a_checkpoint(self):
        values = {"encoder": "compact", "weight_mirror": 0.5, "synthetic_share": 0.5}
        config = config_of(values, "a checkpoint")
        assert (config.encoder.network, config.loss.mirror) == ("compact", 0.5)
        assert config_of({"loss": {"mirror": 0.5}}, "x").loss.mirror == 0.5

    def test_flat_or_grouped(self):
        assert is_flat({"steps": 3}) and not is_flat({"run": {"steps": 3}})
        assert translate({"steps": 3, "landmark_steps": 0}) == {"run.steps": 3}


def test_modern_name():
    assert modern_name("scale_z") == "'scale_z' is 'encoder.scale.translation_z' now"
    assert modern_name("weight_raster").startswith("'weight_raster' is retired; what replaces it:")
    assert modern_name("colour") == ""


def test_an_option_of_a_group_may_be_renamed_or_retired(monkeypatch, tmp_path):
    """Runs of this version outlive what a later one does with its options."""
    monkeypatch.setitem(RENAMED, "loss.reflection", "loss.mirror")
    monkeypatch.setitem(RETIRED, "loss.magic", ((0.0,), "loss.mirror"))
    file = tmp_path / "config.yaml"
    file.write_text("loss: {reflection: 0.5, magic: 0.0}\nrun: {steps: 3}\n")
    config = load_run_config(file)
    assert (config.loss.mirror, config.run.steps) == (0.5, 3)
    file.write_text("loss: {magic: 2.0}\n")
    with pytest.raises(
        ConfigError, match="--loss.magic 2.0 is retired; what replaces it: loss.mirror"
    ):
        load_run_config(file)
    with pytest.raises(ConfigError, match="config.yaml: 'loss.magic' is retired; what replaces it"):
        load_config(str(file))
