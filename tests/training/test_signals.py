"""Signals that ask for an end."""

from __future__ import annotations

import os
import signal

import pytest

from mofa_nvdr.training.signals import Signals, Stopped


class TestSignals:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_the_first_asks_and_the_second_ends(self, number, code):
        before = signal.getsignal(number)
        with Signals() as signals:
            assert not signals.came()
            os.kill(os.getpid(), number)
            assert signals.came() and signals.number == number
            stop = signals.stopped("saved")
            assert isinstance(stop, Stopped) and stop.exit_code == code and str(stop) == "saved"
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is before

    def test_one_that_came_to_another_process(self):
        assert Signals().stopped("saved").exit_code == 143
