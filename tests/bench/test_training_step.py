"""Timed training steps: the table by given times, and what stands in for photographs."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

from mofa_nvdr.bench import training_step
from mofa_nvdr.bench.training_step import bench_train
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import ConfigError, replace_options
from mofa_nvdr.training.timing import STAGES
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face


def row(decoder: float) -> dict[str, float]:
    """A step whose decoder takes twice a time, and every other stage 10 ms."""
    stages = {name: decoder if "decoder" in name else 10.0 for name in STAGES}
    total = sum(stages.values())
    return {**stages, "step": total, "without_optimizer": total - stages["optimizer"]}


class TestBenchTrain:
    @pytest.fixture
    def seen(self, monkeypatch):
        """The configurations that are run; their times are 10, 30 and 50 ms of decoder."""
        seen = []

        def run(config, device, repeats):
            pictures = sorted(Path(config.data.path).glob("*.jpg")) if config.data.path else []
            seen.append((config, [iio.imread(path).shape for path in pictures]))
            times = [row(decoder) for decoder in (30.0, 10.0, 50.0)]
            return {"wall_ms": times, "cpu_ms": times}

        monkeypatch.setattr(training_step, "_run", run)
        return seen

    def test_medians_by_hand(self, seen, tmp_path, capsys):
        """The median step: 2 x 30 ms of decoder, 3 x 10 ms else and 10 ms of optimizer."""
        out = tmp_path / "b.json"
        result = bench_train(load_config("smoke"), 3, str(out))
        assert result["wall_ms"]["step"] == 100 and result["wall_ms"]["without_optimizer"] == 90
        assert result["decoder_share"] == pytest.approx(60 / 90)
        assert result["best_ms"]["decoder_forward"] == 10 and result["best_ms"]["step"] == 60
        written = json.loads(out.read_text())
        assert written.pop("origin").startswith("mofa-nvdr source ")
        assert written == json.loads(json.dumps(result))
        printed = capsys.readouterr().out
        assert "decoder's share without the optimizer: 66.7 %" in printed
        assert "20.0 images/s" in printed  # two in 100 ms

    def test_only_earlier_figures_are_replaced(self, seen, tmp_path):
        out, smoke = tmp_path / "b.json", load_config("smoke")
        for _ in range(2):
            bench_train(smoke, 3, str(out))
        out.write_text('{"mine": 1}')
        with pytest.raises(
            ValueError, match="--json .*b.json is there, .*; give another --json, or"
        ):
            bench_train(smoke, 3, str(out))
        assert out.read_text() == '{"mine": 1}'
        bench_train(smoke, 3, str(out), overwrite=True)
        assert "wall_ms" in json.loads(out.read_text())

    def test_throw_away_pictures(self, seen, capsys):
        """40 JPEGs that have no landmarks, gone when all is said."""
        config = replace_options(load_config("smoke"), {"data.path": ""})
        bench_train(config, 3)
        ((used, shapes),) = seen
        assert shapes == [(256, 256, 3)] * 40
        assert used.loss.landmark == 0
        assert not Path(used.data.path).exists()

    def test_mistakes(self, seen, tmp_path):
        smoke = load_config("smoke")
        with pytest.raises(ConfigError, match="--repeats is 0, expected at least 1"):
            bench_train(smoke, 0)
        with pytest.raises(ConfigError, match="--data.batch-size is 0"):
            bench_train(replace_options(smoke, {"data.batch_size": 0}))
        with pytest.raises(FileNotFoundError, match="none"):
            bench_train(smoke, out=str(tmp_path / "none" / "b.json"))
        assert seen == []


class TestRun:
    def test_stages_add_up(self, tmp_path, monkeypatch):
        """Warm-up steps are left out, and nothing but the optimizer is missing from the rest."""
        monkeypatch.setattr(training_step, "make_encoder", small_encoder)
        small_face(16).save(tmp_path / "cap.safetensors")
        config = replace_options(
            load_config("smoke"),
            {"run.face_model": str(tmp_path / "cap.safetensors"), "data.image_size": 32},
        )
        rows = training_step._run(config, torch.device("cpu"), 2)
        assert list(rows) == ["wall_ms", "cpu_ms"]
        for times in rows.values():
            assert len(times) == 2
            for step in times:
                stages = [step[name] for name in STAGES]
                assert step["step"] == pytest.approx(sum(stages))
                rest = step["step"] - step["optimizer"]
                assert step["without_optimizer"] == pytest.approx(rest)
