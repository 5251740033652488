"""Run folders and logs."""

import json

import pytest

from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.folder import JsonLog, keep_config, open_run, read_log, remove_leftovers
from mofa_nvdr.runs.options import ConfigError, TrainConfig, replace_options


class TestOpenRun:
    def test_numbers_go_up_and_the_same_command_resumes(self, tmp_path):
        config = TrainConfig()
        first = open_run(config, "mofa-raster", tmp_path)
        keep_config(first, config)
        assert first.name == "00000-mofa-raster"
        assert load_config(str(first / "config.yaml")) == config
        other = open_run(replace_options(config, {"run.seed": 1}), "mofa-raster", tmp_path)
        assert other.name == "00001-mofa-raster"
        assert open_run(
            replace_options(config, {"optimizer.learning_rate": 3}), "x", tmp_path
        ) not in (
            first,
            other,
        )
        again = replace_options(config, {"run.steps": 9, "report.log_every": 3})  # both may change
        assert open_run(again, "mofa-raster", tmp_path) == first
        keep_config(first, again)
        assert load_config(str(first / "config.yaml")).run.steps == 9

    def test_out_is_the_folder(self, tmp_path):
        config = replace_options(TrainConfig(), {"run.out": str(tmp_path / "a" / "b")})
        assert open_run(config, "x") == tmp_path / "a" / "b"
        keep_config(tmp_path / "a" / "b", config)
        with pytest.raises(ConfigError, match="holds a run with another --seed, --data.flip"):
            open_run(replace_options(config, {"run.seed": 3, "data.flip": False}), "x")

    def test_not_writable(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot write there .*; give another folder"):
            open_run(
                replace_options(TrainConfig(), {"run.out": str(tmp_path / "file" / "run")}), "x"
            )
        with pytest.raises(ConfigError, match="cannot write there .*; give another folder"):
            keep_config(tmp_path / "missing", TrainConfig())

    def test_other_rate_with_out_is_said(self, tmp_path):
        config = replace_options(TrainConfig(), {"run.out": str(tmp_path)})
        keep_config(tmp_path, config)
        said: list[str] = []
        assert (
            open_run(
                replace_options(config, {"optimizer.clip_gradient": 5.0}), "x", warn=said.append
            )
            == tmp_path
        )
        assert said == [f"WARNING: {tmp_path}: goes on with --optimizer.clip-gradient 5, it was 0"]


class TestJsonLog:
    def test_resuming_drops_what_came_after_the_checkpoint(self, tmp_path):
        path = tmp_path / "log.jsonl"
        log = JsonLog(path, 0)
        for step in range(5):
            log.write({"step": step})
        log.close()
        with open(path, "a") as file:
            file.write('{"step": 5, "lo')  # killed while writing
        assert [line["step"] for line in read_log(path)] == [0, 1, 2, 3, 4]
        log = JsonLog(path, 3)
        log.write({"step": 4, "again": True})
        log.close()
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
        assert lines[-1]["again"]

    def test_foreign_lines_are_left_out(self, tmp_path):
        (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"other": 2}\n[3]\n4\n{"step": null}\n')
        assert read_log(tmp_path / "log.jsonl") == [{"step": 1}]

    def test_a_new_run_starts_an_empty_log(self, tmp_path):
        (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
        JsonLog(tmp_path / "log.jsonl", 0).close()
        assert (tmp_path / "log.jsonl").read_text() == ""
        assert read_log(tmp_path / "missing.jsonl") == []

    def test_numbers_that_json_lacks_become_null(self, tmp_path):
        log = JsonLog(tmp_path / "log.jsonl", 0)
        log.write({"step": 0, "landmark_px": float("nan"), "photometric": 0.5})
        log.close()
        text = (tmp_path / "log.jsonl").read_text()
        assert text == '{"step": 0, "landmark_px": null, "photometric": 0.5}\n'


class TestRemoveLeftovers:
    def test_of_earlier_versions_and_of_safetensors(self, tmp_path):
        """What kills left before temporary files had names of their processes; a user's files stay."""
        left = (
            "checkpoint-00000002.safetensors.tmp",
            "sheet.png.123.tmp",
            ".tmpAbC123",
            "report.html.tmp",
        )
        kept = ("notes.tmp", ".tmp", "a.txt.tmp", "checkpoint-00000002.safetensors", ".tmpAbC12x3")
        for name in (*left, *kept):
            (tmp_path / name).write_text("x")
        remove_leftovers(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == set(kept)
