"""Which device a command runs on, and its memory."""

from __future__ import annotations

import os

from mofa_nvdr.system import device


class TestMemory:
    def test_freed_memory_is_kept_unless_the_user_decides(self, monkeypatch):

        called = []

        class Library:
            def mallopt(self, parameter, value):
                called.append((parameter, value))
                return 1

        monkeypatch.setattr(device.ctypes, "CDLL", lambda _: Library())
        monkeypatch.setattr(device.sys, "platform", "linux")
        for name in [n for n in os.environ if n.startswith("MALLOC_") or n == "GLIBC_TUNABLES"]:
            monkeypatch.delenv(name)
        assert device.keep_freed_memory()
        assert called == [(-1, -1), (-4, 0)]
        monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
        assert not device.keep_freed_memory() and len(called) == 2
        monkeypatch.delenv("MALLOC_ARENA_MAX")
        monkeypatch.setattr(device.ctypes, "CDLL", lambda _: object())
        assert not device.keep_freed_memory()
        assert device.peak_memory() > 100 << 20  # torch alone is more
