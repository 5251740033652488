"""The options of `train`: groups, files, what is said about flags of before."""

import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.cli.train import refuse_former_flags, take_configs
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.former_options import RENAMED, RETIRED
from mofa_nvdr.runs.options import ConfigError, flag, options
from tests.helpers.commands import error_line


@pytest.fixture
def trained(monkeypatch):
    """What the command would train, and under which name."""
    calls = []
    monkeypatch.setattr("mofa_nvdr.training.loop.train", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr("mofa_nvdr.system.device.keep_freed_memory", lambda: None)

    def call(*arguments: str):
        assert main(["train", *arguments]) == 0
        return calls.pop()

    return call


class TestOptions:
    def test_flags_override_the_file(self, trained):
        config, name = trained(
            "--config", "smoke", "--steps", "9", "--data", "faces", "--render-mode", "vertex",
            "--loss.mirror", "0.5", "--encoder.scale.translation-z", "3", "--data.no-flip",
        )  # fmt: skip
        assert name == "smoke-vertex"
        before, after = options(load_config("smoke")), options(config)
        assert {key: after[key] for key in after if after[key] != before[key]} == {
            "run.steps": 9, "data.path": "faces", "render.mode": "vertex", "loss.mirror": 0.5,
            "encoder.scale.translation_z": 3.0, "data.flip": False,
        }  # fmt: skip

    def test_every_option_is_a_flag_with_words(self, capsys):
        with pytest.raises(SystemExit):
            main(["train", "--config", "smoke", "--help"])
        text = capsys.readouterr().out
        for name in options(load_config()):
            assert f"--{flag(name)}" in text
        for group in ("render", "data", "augment", "synthetic", "encoder", "optimizer", "schedule"):
            assert f"{group} options" in text

    def test_files_in_turn(self):
        assert take_configs(["--config", "a", "--steps", "3", "--config=b"]) == (
            ["a", "b"], ["--steps", "3"],
        )  # fmt: skip


class TestFormerFlags:
    @pytest.mark.parametrize(
        ("given", "line"),
        [
            ("--batch-size=8", "--batch-size is --data.batch-size now"),
            ("--weight-landmark", "--weight-landmark is --loss.landmark now"),
            ("--no-flip", "--flip is --data.flip now"),
            ("--encoder", "--encoder is --encoder.network now"),
            ("--pose-from-step", "--pose-from-step is retired; what replaces it: schedule.warm"),
        ],
    )
    def test_say_what_they_are_now(self, capsys, given, line):
        assert error_line(capsys, "train", "--config", "smoke", given, "1").startswith(
            f"mofa-nvdr: {line}"
        )

    def test_all_are_known(self):
        for key in [*RENAMED, *RETIRED]:
            typed = f"--{key.replace('_', '-')}"
            if key in RENAMED and flag(RENAMED[key]) == typed[2:]:
                refuse_former_flags([typed])  # is one still
            else:
                with pytest.raises(ConfigError, match=f"^{typed} is "):
                    refuse_former_flags([typed])
