"""Options, YAML files, and what is said about mistakes in them."""

import dataclasses

import pytest
import yaml

from mofa_nvdr.runs.config import (
    ConfigError,
    TrainConfig,
    check_config,
    dump_config,
    load_config,
    shipped_configs,
)


class TestDefaults:
    def test_are_the_papers(self):
        """Sections 6 and 7 of the paper; the list of shared constants lives nowhere else."""
        c = TrainConfig()
        assert (c.weight_photometric, c.weight_regularizer) == (1.92, 2.9e-5)
        assert (c.weight_albedo, c.weight_expression) == (1.7e-3, 0.8)
        assert (c.optimizer, c.learning_rate, c.translation_z_rate) == ("adadelta", 0.1, 0.0005)
        assert (c.batch_size, c.steps, c.image_size, c.encoder) == (5, 200_000, 240, "alexnet")
        assert c.weight_landmark == c.weight_pose_prior == 0


class TestShipped:
    @pytest.mark.parametrize("name", shipped_configs())
    def test_parses_against_the_options(self, name):
        config = load_config(name)
        check_config(config)
        assert load_config(name) == config != TrainConfig()

    def test_the_documented_ones_are_there(self):
        assert {
            "quickstart",
            "smoke",
            "modern",
            "modern_landmarks",
            "mofa_alexnet",
            "mofa_vgg_face_landmarks",
        } <= set(shipped_configs())


class TestLoad:
    def test_files_stack_and_dump_reads_back(self, tmp_path):
        (tmp_path / "a.yaml").write_text("learning-rate: 1e-4\nsteps: 7\n")
        (tmp_path / "b.yaml").write_text("steps: 8\nflip: false\n")
        config = load_config("smoke", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
        assert (config.learning_rate, config.steps, config.flip) == (1e-4, 8, False)
        assert config.image_size == load_config("smoke").image_size
        (tmp_path / "c.yaml").write_text(dump_config(config))
        assert load_config(str(tmp_path / "c.yaml")) == config

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("render_mod: raster", "unknown key 'render_mod'; perhaps you meant 'render_mode'"),
            (
                "render_mode: voxels",
                "render_mode is 'voxels', expected one of raster, vertex, both",
            ),
            ("steps: many", "steps is 'many', expected int"),
            ("steps: 1.5", "steps is 1.5, expected int"),
            ("steps: true", "steps is True, expected int"),
            ("flip: 1", "flip is 1, expected bool"),
            ("data: 3", "data is 3, expected str"),
            ("- a\n- b", "expected 'key: value' lines, got a list"),
            ("a: [", "not valid YAML"),
        ],
    )
    def test_mistakes_name_file_and_key(self, tmp_path, text, message):
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as caught:
            load_config(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_base_is_changed(self, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("steps: 3\nbase: mofa_alexnet_landmarks\n")
        expected = dataclasses.replace(load_config("mofa_alexnet"), weight_landmark=1.0, steps=3)
        assert load_config(str(path)) == expected

    def test_mistakes_about_bases(self, tmp_path):
        a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
        a.write_text(f"base: {b}\n")
        b.write_text(f"base: {a}\n")
        with pytest.raises(ConfigError, match="a.yaml: it is its own base, by way of .*a.yaml and"):
            load_config(str(a))
        a.write_text("base: 3\n")
        with pytest.raises(ConfigError, match="a.yaml: base is 3, expected the name"):
            load_config(str(a))
        a.write_text("base: smoky\n")
        with pytest.raises(ConfigError, match="smoky: neither a .yaml file nor one of .*smoke"):
            load_config(str(a))

    def test_unknown_name(self):
        with pytest.raises(
            ConfigError, match="--config quick: neither a .yaml file nor one of .*smoke"
        ):
            load_config("quick")
        with pytest.raises(ConfigError, match="no such file"):
            load_config("missing.yaml")

    def test_empty_file_changes_nothing(self, tmp_path):
        (tmp_path / "e.yaml").write_text("# nothing\n")
        assert load_config(str(tmp_path / "e.yaml")) == TrainConfig()
        assert yaml.safe_load(dump_config(TrainConfig())) == dataclasses.asdict(TrainConfig())


class TestCheck:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"batch_size": 0}, "--batch-size is 0, expected more than 0"),
            ({"learning_rate": -1.0}, "--learning-rate is -1.0"),
            ({"steps": -1}, "--steps is -1"),
            ({"weight_landmark": -0.5}, "--weight-landmark is -0.5, expected 0 or more"),
            ({"scale_z": float("nan")}, "--scale-z is nan, expected 0 or more"),
            ({"learning_rate": float("inf")}, "--learning-rate is inf, expected at most 1e.30"),
            ({"threads": 4000}, "--threads is 4000, expected at most 256"),
            (
                {"rate_after_warm_start": 0.0},
                "--rate-after-warm-start is 0.0, expected more than 0",
            ),
            ({"image_size": 8}, "--image-size is 8, expected 16 or more"),
            ({"synthetic_size": 8}, "--synthetic-size is 8, expected 16 or more"),
            (
                {"weight_decay": 0.1},
                "--weight-decay is 0.1, but --optimizer is adadelta; give adamw",
            ),
            (
                {"outline_gradient": True, "raster_gradient": "surface"},
                "--outline-gradient needs .* --raster-gradient rendering; got raster and surface",
            ),
            ({"outline_gradient": True, "render_mode": "vertex"}, "got vertex and rendering"),
            (
                {"render_mode": "both", "weight_raster": 0.0, "weight_vertex": 0.0},
                "--weight-raster and --weight-vertex are both 0",
            ),
            (
                {"weight_anchor": 0.1},
                "--weight-anchor is 0.1, but --warm-start-steps is 0 .* give a warm start",
            ),
            (
                {"synthetic_share": 1.5, "weight_synthetic": 1.0},
                "--synthetic-share is 1.5, expected 0 to 1",
            ),
            (
                {"synthetic_share": 0.5},
                "--synthetic-share is 0.5 and --weight-synthetic is 0; give",
            ),
            ({"weight_synthetic": 2.0}, "--synthetic-share is 0 and --weight-synthetic is 2; give"),
            ({"landmark_steps": 9}, "--landmark-steps is 9, but --weight-landmark is 0"),
        ],
    )
    def test_impossible_values(self, change, message):
        with pytest.raises(ConfigError, match=message):
            check_config(dataclasses.replace(TrainConfig(), **change))
