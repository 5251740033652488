"""Moments at which a kill would hurt: half a file, half a line, on either side of a rename.

They are counted in the process that is to die, and at the chosen one it sends itself SIGKILL: nothing is
cleaned up, as from outside.
"""

from __future__ import annotations

import functools
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mofa_nvdr.data.crops import preprocess
from mofa_nvdr.runs import checkpoint, folder
from mofa_nvdr.training import loop

MOMENTS = (
    "half a checkpoint", "half a file", "half a line", "before a rename", "after a rename", "sync",
    "link", "removal", "step",
)  # fmt: skip


class Watch:
    """Counts moments, and dies at one.

    Args:
        moment: of MOMENTS; empty: none.
        count: which one of its kind, from 1.
    """

    def __init__(self, moment: str = "", count: int = 0) -> None:
        self.moment, self.count = moment, count
        self.counts: Counter[str] = Counter()

    def reached(self, moment: str) -> bool:
        """Count a moment; whether it is the chosen one."""
        self.counts[moment] += 1
        return moment == self.moment and self.counts[moment] == self.count

    def install(self) -> None:
        """Watch this process's files, and the steps of a training."""
        self._wrap(checkpoint, "save_file", "half a checkpoint", after=_cut)
        self._wrap(Path, "write_bytes", "half a file", before=_half_a_file)
        self._wrap(os, "replace", "before a rename")
        self._wrap(os, "replace", "after a rename", after=_nothing)
        self._wrap(os, "fsync", "sync")
        self._wrap(os, "link", "link")
        self._wrap(os, "unlink", "removal")
        self._wrap(loop, "train_step", "step")
        for module in (folder, preprocess):  # those whose files grow line by line
            vars(module)["open"] = self._open

    def _wrap(
        self,
        owner: Any,
        name: str,
        moment: str,
        before: Callable[..., None] | None = None,
        after: Callable[..., None] | None = None,
    ) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args: Any, **more: Any) -> Any:
            chosen = self.reached(moment)
            if chosen and after is None:
                (before or _nothing)(*args)
                die()
            result = function(*args, **more)
            if chosen:
                assert after is not None
                after(*args)
                die()
            return result

        setattr(owner, name, watched)

    def _open(self, *args: Any, **more: Any) -> Any:
        file = open(*args, **more)
        if "a" in (*args, more.get("mode")):
            write = file.write

            def watched(text: str) -> int:
                if self.reached("half a line"):
                    write(text[: len(text) // 2])
                    file.flush()
                    die()
                return write(text)

            file.write = watched
        return file


def die() -> None:
    """As from outside: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def _nothing(*_: Any) -> None:
    pass


def _cut(_: Any, path: Path, *more: Any) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _half_a_file(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
