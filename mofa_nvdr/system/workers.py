"""Worker processes that do not outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this worker of `multiprocessing` as soon as its parent is gone, also when that was killed.

    Left alone it would write what it was given after the folder's lock has ended, and then wait for more
    forever: it holds both ends of the pipe that its work comes through. In a process without such a parent
    nothing happens.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="mofa-nvdr-parent", daemon=True).start()
