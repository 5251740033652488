"""What stands in for torch.cuda by itself; in place it is tested with cuda_on_cpu, in processes of their
own."""

from __future__ import annotations

import time

from mofa_nvdr.dr import cuda_stand_ins
from mofa_nvdr.dr.cuda_stand_ins import Event, Stream


def test_events_measure_time():
    start, end = Event(enable_timing=True), Event(enable_timing=True)
    start.record()
    time.sleep(0.01)
    end.record(Stream())
    end.synchronize()
    assert 9 < start.elapsed_time(end) < 5000 and end.query()


def test_memory_where_the_system_does_not_tell(monkeypatch):
    def fail(_):
        raise ValueError

    monkeypatch.setattr(cuda_stand_ins.os, "sysconf", fail)
    assert cuda_stand_ins._memory("SC_PHYS_PAGES") == 0
