"""What programs call in torch.cuda around their work on a GPU, for the CPU: see `cuda_on_cpu`.

Everything has been done when a call returns, so that waiting is nothing; times are the clock's.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from types import SimpleNamespace
from typing import Any

import torch


class Event:
    """`torch.cuda.Event` by the clock."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._time = 0.0

    def record(self, *_: Any) -> None:
        """Now."""
        self._time = time.perf_counter()

    def wait(self, *_: Any) -> None:
        """Everything is done already."""

    def synchronize(self) -> None:
        """Everything is done already."""

    def query(self) -> bool:
        """Yes."""
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds from here to the other one."""
        return 1e3 * (other._time - self._time)


class Stream:
    """`torch.cuda.Stream`, of which there is one; also what `torch.cuda.stream` and `device` give."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = torch.device("cpu", 0)
        self.device_index = 0
        self.cuda_stream = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        """Everything is done already."""

    def wait_stream(self, stream: Any) -> None:
        """Everything is done already."""

    def wait_event(self, event: Any) -> None:
        """Everything is done already."""

    def query(self) -> bool:
        """Yes."""
        return True

    def record_event(self, event: Event | None = None) -> Event:
        """The event, a new one if there is none, recorded now."""
        event = Event() if event is None else event
        event.record()
        return event


_stream = Stream()


def _name(*_: Any) -> str:
    return f"CPU ({platform.processor() or platform.machine()})"


def _memory(pages: str) -> int:
    """Bytes of the machine's memory; 0 where the system doesn't tell."""
    try:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows, macOS
        return 0


def _properties(*_: Any) -> SimpleNamespace:
    return SimpleNamespace(
        name=_name(),
        major=0,
        minor=0,
        total_memory=_memory("SC_PHYS_PAGES"),
        multi_processor_count=os.cpu_count() or 1,
        is_integrated=True,
    )


def replace_cuda_functions() -> None:
    """Put these into torch.cuda: whoever has imported a function from there earlier keeps the old one."""
    for name in ("synchronize", "set_device", "set_stream", "init", "reset_peak_memory_stats"):
        setattr(torch.cuda, name, lambda *_, **__: None)
    replaced = {
        "current_device": lambda: 0,
        "current_stream": lambda *_: _stream,
        "default_stream": lambda *_: _stream,
        "stream": lambda stream=None: _stream,
        "get_device_name": _name,
        "get_device_capability": lambda *_: (0, 0),
        "get_device_properties": _properties,
        "mem_get_info": lambda *_: (_memory("SC_AVPHYS_PAGES"), _memory("SC_PHYS_PAGES")),
        "Event": Event,
        "Stream": Stream,
        "device": Stream,
        "device_of": Stream,
    }
    for name, value in replaced.items():
        setattr(torch.cuda, name, value)
    for kind in ("Float", "Double", "Half", "Int", "Long", "Short", "Byte", "Bool"):
        setattr(torch.cuda, f"{kind}Tensor", getattr(torch, f"{kind}Tensor"))
    for name in ("range_push", "range_pop", "mark"):
        setattr(torch.cuda.nvtx, name, lambda *_, **__: 0)
    setattr(torch.cuda.nvtx, "range", lambda *_, **__: contextlib.nullcontext())  # noqa: B010 (for mypy)
