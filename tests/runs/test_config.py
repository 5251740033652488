"""Options, YAML files, and what is said about mistakes in them."""

import dataclasses

import pytest
import yaml

from mofa_nvdr.runs.config import check_config, dump_config, load_config, shipped_configs
from mofa_nvdr.runs.options import ConfigError, TrainConfig, replace_options


class TestPapersRecipe:
    @pytest.mark.parametrize("name", [(), ("mofa_alexnet",)])
    def test_constants(self, name):
        """Sections 6 and 7 of the paper; the defaults have them too."""
        c = load_config(*name)
        assert (c.loss.photometric, c.loss.regularizer) == (1.92, 2.9e-5)
        assert (c.loss.albedo, c.loss.expression) == (1.7e-3, 0.8)
        assert (c.optimizer.name, c.optimizer.learning_rate, c.optimizer.translation_z_rate) == (
            "adadelta",
            0.1,
            0.0005,
        )
        assert (c.data.batch_size, c.run.steps, c.data.image_size, c.encoder.network) == (
            5,
            200_000,
            240,
            "alexnet",
        )
        assert c.loss.landmark == c.loss.pose_prior == 0


class TestShipped:
    @pytest.mark.parametrize("name", shipped_configs())
    def test_parses_against_the_options(self, name):
        config = load_config(name)
        begins = (
            {"encoder.init": "RUN"} if name in ("shipped", "shipped_colors") else {}
        )  # they go on from another run
        check_config(replace_options(config, begins))
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
        (tmp_path / "a.yaml").write_text("optimizer: {learning-rate: 1e-4}\nrun: {steps: 7}\n")
        (tmp_path / "b.yaml").write_text("run: {steps: 8}\ndata:\n  flip: false\n")
        config = load_config("smoke", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
        assert (config.optimizer.learning_rate, config.run.steps, config.data.flip) == (
            1e-4,
            8,
            False,
        )
        assert config.data.image_size == load_config("smoke").data.image_size
        (tmp_path / "c.yaml").write_text(dump_config(config))
        assert load_config(str(tmp_path / "c.yaml")) == config

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("render: {mod: raster}", "unknown key 'render.mod'; perhaps you meant 'render.mode'"),
            ("loss: {flip: true}", "unknown key 'loss.flip'; perhaps you meant"),
            ("sun: 3", "unknown key 'sun'"),
            ("loss: 3", "loss is 3, expected the group's options on lines below it"),
            ("encoder: {scale: 3}", "encoder.scale is 3, expected the group's options"),
            (
                "render: {mode: voxels}",
                "render.mode is 'voxels', expected one of raster, vertex, both",
            ),
            ("run: {steps: many}", "run.steps is 'many', expected int"),
            ("run: {steps: 1.5}", "run.steps is 1.5, expected int"),
            ("run: {steps: true}", "run.steps is True, expected int"),
            ("data: {flip: 1}", "data.flip is 1, expected bool"),
            ("data: {path: 3}", "data.path is 3, expected str"),
            ("data: faces", "'data' is 'data.path' now"),
            ("weight_mirror: 1", "'weight_mirror' is 'loss.mirror' now"),
            ("pose_from_step: 1", "'pose_from_step' is retired; what replaces it: schedule.warm"),
            ("- a\n- b", "expected groups of 'key: value' lines, got a list"),
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
        path.write_text("run: {steps: 3}\nbase: mofa_alexnet_landmarks\n")
        expected = replace_options(
            load_config("mofa_alexnet"), {"loss.landmark": 1.0, "run.steps": 3}
        )
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
        with pytest.raises(
            ConfigError, match="a.yaml: base is 'smoky': neither a .yaml file nor one of .*smoke"
        ):
            load_config(str(a))
        a.write_text("base: none.yaml\n")
        with pytest.raises(ConfigError, match="a.yaml: base is 'none.yaml': no such file$"):
            load_config(str(a))

    def test_a_base_of_a_name_that_no_file_has(self, tmp_path):
        """The name is cut short, as every value in a message is; the system refuses it in other ways."""
        path = tmp_path / "a.yaml"
        for base in ("9" * 5000, "9" * 5000 + ".yaml"):
            path.write_text(f"base: '{base}'\n")
            with pytest.raises(
                ConfigError, match="a.yaml: base is '9{79}[.]{3}: (no such|neither)"
            ):
                load_config(str(path))

    def test_unknown_name(self):
        with pytest.raises(
            ConfigError, match="--config quick: neither a .yaml file nor one of .*smoke"
        ):
            load_config("quick")
        with pytest.raises(ConfigError, match="no such file"):
            load_config("missing.yaml")

    def test_empty_file_changes_nothing(self, tmp_path):
        for text in ("# nothing\n", "loss:\n  # mirror: 1\ndata:\n"):
            (tmp_path / "e.yaml").write_text(text)
            assert load_config(str(tmp_path / "e.yaml")) == TrainConfig()
        assert yaml.safe_load(dump_config(TrainConfig())) == dataclasses.asdict(TrainConfig())


class TestCheck:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"data.batch_size": 0}, "--data.batch-size is 0, expected more than 0"),
            ({"optimizer.learning_rate": -1.0}, "--optimizer.learning-rate is -1.0"),
            ({"run.steps": -1}, "--steps is -1"),
            ({"loss.landmark": -0.5}, "--loss.landmark is -0.5, expected 0 or more"),
            (
                {"encoder.scale.translation_z": float("nan")},
                "--encoder.scale.translation-z is nan, expected 0 or more",
            ),
            (
                {"optimizer.learning_rate": float("inf")},
                "--optimizer.learning-rate is inf, expected at most 1e.30",
            ),
            ({"run.threads": 4000}, "--threads is 4000, expected at most 256"),
            ({"augment.jpeg": 1.5}, "--augment.jpeg is 1.5, expected 0 to 1"),
            (
                {"schedule.rate_after_warm_start": 0.0},
                "--schedule.rate-after-warm-start is 0.0, expected more than 0",
            ),
            ({"data.image_size": 8}, "--data.image-size is 8, expected 16 or more"),
            ({"synthetic.size": 8}, "--synthetic.size is 8, expected 16 or more"),
            (
                {"optimizer.weight_decay": 0.1},
                "--optimizer.weight-decay is 0.1, but --optimizer.name is adadelta; give adamw",
            ),
            (
                {"render.outline": True, "render.gradient": "surface"},
                "--render.outline needs .* --render.gradient rendering; got raster and surface",
            ),
            (
                {"loss.occlusion": "robust", "render.mode": "both"},
                "--loss.occlusion is robust, but --render-mode is both; give raster",
            ),
            ({"render.outline": True, "render.mode": "vertex"}, "got vertex and rendering"),
            (
                {"loss.loopback": 0.07, "loss.parameter_shape": 0.4},
                "--loss.loopback is 0.07, but --loss.views is 0: nothing is rendered .* --loss.views 1",
            ),
            (
                {"loss.loopback": 0.07, "loss.views": 3},
                "--loss.loopback is 0.07, but --loss.parameter-shape and .* are 0: nothing is compared",
            ),
            (
                {"loss.codes": 0.0, "schedule.warm_start_steps": 3},
                "--schedule.warm-start-steps is 3, but --loss.codes is 0 and no other .* --loss.codes 1",
            ),
            (
                {"loss.codes": 0.0, "loss.fitted": 0.5},
                "--loss.fitted is 0.5, but --loss.codes is 0",
            ),
            (
                {"loss.anchor": 0.1},
                "--loss.anchor is 0.1, but --schedule.warm-start-steps is 0 .* give a warm start",
            ),
            ({"schedule.freeze_norm": True}, "--schedule.freeze-norm, but --schedule.warm-start"),
        ],
    )
    def test_impossible_values(self, change, message):
        with pytest.raises(ConfigError, match=message):
            check_config(replace_options(TrainConfig(), change))


class TestInit:
    def test_is_something_to_hold_on_to(self):
        held = {"loss.anchor": 0.1, "schedule.freeze_norm": True, "schedule.warm_start_steps": 0}
        check_config(replace_options(TrainConfig(), {**held, "encoder.init": "runs/a"}))
        with pytest.raises(ConfigError, match="--loss.anchor is 0.1, but .* --init RUN"):
            check_config(replace_options(TrainConfig(), held))

    def test_and_weights(self):
        both = {"encoder.init": "runs/a", "encoder.weights": "b.pth"}
        words = (
            "--init is runs/a and --encoder.weights is b.pth: both are what the encoder begins w"
        )
        with pytest.raises(ConfigError, match=words):
            check_config(replace_options(TrainConfig(), both))
