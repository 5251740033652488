"""Compiling and running the CPU kernels: Numba functions without the GIL on a few plain threads.

Why not Numba's own `parallel=True`: its OpenMP layer aborts a process that forks after the first
call (data loader workers do), its workqueue layer is not safe to enter from two threads, and which
layer is there differs from machine to machine. Kernels here work on one item (an image, or a band
of its rows), and items never share an output. Where items hold sums, how many there are follows from
the shapes alone, so the bits don't depend on the number of threads.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import numba
import torch
from numba.core import event

_PACKAGE = f"{__name__.partition('.')[0]}."


class _Compiling(event.Listener):
    """Shows whoever waits at a terminal how many kernels are compiled; what the cache holds is not.

    Only where the package's notes are shown, as the commands do.
    """

    def __init__(self) -> None:
        self.count = 0
        self._open, self._shown = 0, 0

    def on_start(self, event: event.Event) -> None:
        if self._is_shown(event):
            self._open += 1  # kernels that others call are compiled on the way
            if self.count == 0 and self._open == 1:
                logging.getLogger(__name__).info(
                    "compiling the kernels, once after an install: about ten seconds"
                )

    def on_end(self, event: event.Event) -> None:
        if self._is_shown(event):
            self.count, self._open = self.count + 1, self._open - 1
            # One line, written over; empty in the end, as notes and progress bars may follow.
            text = f"{self.count} kernels compiled" if self._open else ""
            sys.stderr.write(f"\r{text.ljust(self._shown)}" + ("" if text else "\r"))
            sys.stderr.flush()
            self._shown = len(text)

    def _is_shown(self, event: event.Event) -> bool:
        module = event.data["dispatcher"].py_func.__module__ or ""
        log = logging.getLogger(__name__)
        return (
            module.startswith(_PACKAGE) and log.isEnabledFor(logging.INFO) and sys.stderr.isatty()
        )


event.register("numba:compile", _Compiling())
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


@overload
def jit(function: Callable[..., Any]) -> Callable[..., Any]: ...
@overload
def jit(
    *, inline: bool = ..., reassociate: bool = ...
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def jit(
    function: Callable[..., Any] | None = None, *, inline: bool = False, reassociate: bool = False
) -> Callable[..., Any]:
    """Compile on first call, without the GIL and with IEEE arithmetic; cache on disk if possible.

    Args:
        function: a function in Numba's subset of Python.
        inline: compile it into its callers, which then know the shapes of their local arrays; Python cannot
            call it.
        reassociate: let the compiler change the order of sums, as a vectorised sum needs. The bits are
            the same at every call, but may follow the processor, as a matrix product's do.

    Returns:
        The compiled function. Where no cache directory is writable it is compiled once per process.
    """
    if function is None:
        return functools.partial(jit, inline=inline, reassociate=reassociate)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": inline}
    # Ways to call a kernel from C, and from Python what is only ever part of kernels: an eighth of compiling.
    options |= {"no_cfunc_wrapper": True, "no_cpython_wrapper": inline}
    options["fastmath"] = {"reassoc", "nsz"} if reassociate else False
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": nowhere to write the cache
        return numba.njit(**options)(function)


def compiles(*tensors: torch.Tensor) -> bool:
    """Whether the compiled kernels take these tensors: float32 on the CPU.

    Not those of other types, as exporting a module traces it with: they have no memory to read.
    """
    return all(
        type(t) in (torch.Tensor, torch.nn.Parameter)
        and t.device.type == "cpu"
        and t.dtype == torch.float32
        for t in tensors
    )


def run_on_threads(kernel: Callable[..., None], items: Sequence[tuple[Any, ...]]) -> None:
    """Call `kernel(*item)` for every item, on at most `torch.get_num_threads()` threads.

    Args:
        kernel: releases the GIL and writes only what belongs to its item.
        items: argument tuples; the order of the calls is not defined.

    Raises:
        Exception: whatever a call raised; the other calls still end before it is passed on.
    """
    num_threads = min(torch.get_num_threads(), len(items))
    pending = iter(items)

    def work() -> None:
        for item in pending:  # next() on a list iterator is atomic under the GIL
            kernel(*item)

    if num_threads <= 1:
        work()
        return
    helpers = [_shared_pool().submit(work) for _ in range(num_threads - 1)]
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():  # not started: nothing is left for it to do
                helper.result()


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="mofa_nvdr")
        return _pool


def _forget_pool() -> None:
    """A forked child has the pool but none of its threads, and perhaps a lock that nobody will release."""
    global _pool, _pool_lock
    _pool = None
    _pool_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
