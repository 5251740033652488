"""What holds faces in place: the frozen encoder and the terms that need no label."""

from __future__ import annotations

import dataclasses

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.data.synthetic.faces import ACCOMPANYING, SyntheticFaces
from mofa_nvdr.losses.consistency import Placement, mean_placement_anchor, placement_units
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.checkpoint import read_checkpoint
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from mofa_nvdr.training.teacher import Teacher, with_teacher
from tests.helpers.objective import loss_terms
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face
from tests.helpers.training import HELD, curve, random_batch, small_config


class TestHeldInPlace:
    """The terms of consistency.py in a training."""

    def test_logged_and_resumed_to_the_same_bits(self, cap, tmp_path, monkeypatch):
        """Stopped before, at and after the end of the warm start, when the teacher is taken."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        config = small_config(
            cap, tmp_path / "a", **HELD | {"run.steps": 5}, **{"data.path": str(folder)}
        )
        whole = [line for line in curve(train(config)) if "split" not in line]
        for name in ("anchor", "mirror", "synthetic"):
            assert [line[name] is None for line in whole] == [True] * 2 + [False] * 3
            assert all(line[name] > 0 for line in whole[2:])
        for steps in (1, 2, 4, 5):
            run = train(
                replace_options(config, {"run.out": str(tmp_path / "b"), "run.steps": steps})
            )
        assert [line for line in curve(run) if "split" not in line] == whole

        ends = [
            read_checkpoint(r / "checkpoint-00000005.safetensors")[0] for r in (tmp_path / "a", run)
        ]
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
        teacher = [key for key in ends[0] if key.startswith("teacher/encoder.")]
        assert len(teacher) == len([key for key in ends[0] if key.startswith("encoder/")])
        early = train(replace_options(config, {"run.out": str(tmp_path / "c"), "run.steps": 2}))
        warm = read_checkpoint(early / "checkpoint-00000002.safetensors")[0]
        for key in teacher:  # the encoder at the end of the warm start, not the one of now
            assert torch.equal(ends[0][key], warm[key.replace("teacher/encoder.", "encoder/")])
        assert any(
            not torch.equal(ends[0][key], ends[0][key.replace("teacher/encoder.", "encoder/")])
            for key in teacher
        )

    def test_checkpoint_without_its_teacher(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        config = small_config(
            cap, tmp_path / "run", **{**HELD, "loss.anchor": 0.0}, **{"run.steps": 3}
        )
        run = train(config)
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(text.replace("anchor: 0.0", "anchor: 0.2"))
        with pytest.raises(ValueError, match="not a checkpoint that this version can resume"):
            train(replace_options(config, {"loss.anchor": 0.2, "run.steps": 4}))

    def test_an_encoder_is_at_rest_with_itself_as_teacher(self):
        config = replace_options(
            load_config("smoke"), {"schedule.warm_start_steps": 2, "loss.anchor": 1.0}
        )
        model = small_face(16)
        torch.manual_seed(0)
        encoder = small_encoder(config, model.layout).eval()
        batch = with_teacher(random_batch(), Teacher(encoder))
        terms = loss_terms(config, encoder, FaceDecoder(model, 64), batch, step=3)
        assert terms["anchor"].item() == pytest.approx(0, abs=1e-9)

    def test_frozen_norms_keep_the_warm_starts_averages(self, cap, tmp_path, monkeypatch):
        """A validation in between, which puts layers back into training, included."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        more = {
            **HELD,
            "schedule.freeze_norm": True,
            "report.val_every": 1,
            "report.checkpoint_every": 1,
            "run.steps": 4,
        }
        run = train(small_config(cap, tmp_path / "run", **more, **{"report.keep_checkpoints": 9}))
        at = [
            read_checkpoint(run / f"checkpoint-0000000{step}.safetensors")[0] for step in range(5)
        ]
        averages = [key for key in at[0] if key.startswith("encoder/") and "running" in key]
        assert len(averages) == 4
        for key in averages:
            assert not torch.equal(at[1][key], at[2][key])
            assert torch.equal(at[2][key], at[3][key]) and torch.equal(at[2][key], at[4][key])
        gain = "encoder/trunk.1.weight"
        assert not torch.equal(at[3][gain], at[4][gain])  # what is learned goes on being learned

    def test_teacher_is_centred_on_code_zero(self):
        """With the offset that it finds the mean of its own codes is off by place and size alone."""
        model = small_face(16)
        decoder = FaceDecoder(model, 64)
        torch.manual_seed(0)
        teacher = Teacher(small_encoder(load_config("smoke"), model.layout))
        batches = [
            random_batch(),
            dataclasses.replace(random_batch(), images=torch.rand(5, 3, 64, 64)),
        ]
        teacher.centre(decoder, batches)
        assert teacher.offset[:3].abs().max() > 1e-3 and teacher.offset[3:].abs().max() == 0
        images = torch.cat([batch.images for batch in batches])
        faces = Placement.of(decoder, model.layout.unpack(teacher(images)))
        zero = Placement.of(decoder, decoder.code_zero(len(images)))
        difference = (placement_units(zero, 64) - placement_units(faces, 64)).mean(0)
        torch.testing.assert_close(teacher.offset[:3], difference[:3], rtol=1e-4, atol=1e-4)
        anchor = mean_placement_anchor(zero, faces, 64, teacher.offset)
        assert anchor.item() == pytest.approx(difference[3:].square().sum().item(), rel=1e-3)
        encoder = small_encoder(load_config("smoke"), model.layout)
        teacher.follow(encoder)
        assert teacher.offset.abs().max() == 0
        assert torch.equal(teacher(images), encoder.eval()(images))

    def test_offset_is_kept_in_checkpoints(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        more = {**HELD, "loss.anchor_photographs": 6, "report.checkpoint_every": 1, "run.steps": 4}
        run = train(small_config(cap, tmp_path / "run", **more, **{"report.keep_checkpoints": 9}))
        first, last = (
            read_checkpoint(run / f"checkpoint-0000000{step}.safetensors")[0]["teacher/offset"]
            for step in (2, 4)
        )
        assert first.abs().max() > 0 and torch.equal(first, last)

    def test_rendered_faces_are_other_ones_than_the_warm_starts(self):
        faces = SyntheticFaces(FaceDecoder(small_face(16), 64))
        warm, beside = (
            next(faces.batches(2, seed=0, start_step=0, **more))
            for more in ({}, {"stream": ACCOMPANYING})
        )
        assert not torch.equal(warm.codes, beside.codes)
        again = next(
            faces.batches(2, seed=0, start_step=0, rank=1, world_size=2, stream=ACCOMPANYING)
        )
        assert torch.equal(again.codes, beside.codes[1:])
