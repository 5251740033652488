"""Signals that ask a training to end: after the step in progress, with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """A signal ended a run after its step was finished and saved; the same call again resumes."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Signals:
    """SIGTERM and SIGINT ask for a stop at the end of a step; a second one stops at once.

    Attributes:
        number: of the signal that came; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def came(self) -> bool:
        """Whether one came."""
        return self.number != 0

    def stopped(self, message: str) -> Stopped:
        """What to raise; the signal may have come to another process."""
        return Stopped(message, self.number or signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
