"""The clock of a step's stages."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.training.timing import STAGES, StageClock


class TestStageClock:
    def test_laps_add_up_and_the_decoders_backward_is_its_own(self, monkeypatch):
        now = iter(range(100))
        monkeypatch.setattr(StageClock, "_now", lambda self: (float(t := next(now)), 2.0 * t))
        clock = StageClock(torch.device("cpu"))
        for _ in range(2):
            clock.start()
            clock.lap("data")
            leaf = torch.ones(2, 3, requires_grad=True)
            codes = leaf * 2
            clock.lap("encoder_forward")
            clock.watch(codes)
            loss = codes.sum()
            clock.lap("decoder_forward")
            loss.backward()
            clock.lap("encoder_backward")
            clock.lap("optimizer")
        assert torch.equal(clock.codes, torch.full((2, 3), 2.0))
        wall, cpu = clock.take()
        assert list(wall) == list(STAGES)
        assert set(wall.values()) == {1000.0} and set(cpu.values()) == {2000.0}
        assert clock.take() == ({}, {})

    def test_a_step_that_is_not_measured_reads_no_clock(self, monkeypatch):
        monkeypatch.setattr(StageClock, "_now", lambda self: pytest.fail("read"))
        clock = StageClock(torch.device("cpu"))
        clock.start(measure=False)
        clock.lap("data")
        clock.watch(torch.ones(1, 2, requires_grad=True))
        assert clock.codes is not None
