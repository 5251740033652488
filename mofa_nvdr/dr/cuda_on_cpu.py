"""Run programs that say `device="cuda"` on the CPU: what they make or move there stays in main memory.

Programs written for nvdiffrast name the GPU everywhere, because without one they could not draw. In
this mode torch makes a CPU tensor wherever "cuda" is asked for. Copies between the two devices stay
copies: a program that keeps `.cpu()` of a tensor and goes on changing the tensor keeps what it saw.

Tensors say that they are on the CPU (`device`, `is_cuda`), and `torch.cuda.is_available()` says no: so
programs that choose their device choose the CPU by themselves. CUDA streams, graphs, half precision
under autocast and libraries with CUDA code of their own are beyond this.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CPU = torch.device("cpu")


def is_cuda(device: Any) -> bool:
    """Whether this names a CUDA device: "cuda", "cuda:1", a number or a torch.device."""
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    if isinstance(device, torch.device):
        return device.type == "cuda"
    return isinstance(device, int) and not isinstance(device, bool)


class CudaOnCpu(TorchFunctionMode):
    """A torch mode in which CUDA tensors are CPU tensors; a context manager, or `enable()` for good."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.cuda:
            return _moved(args[0])
        if func is Tensor.cpu:
            return args[0].clone()
        if func is Tensor.pin_memory:
            return args[0]
        if func is Tensor.to:
            return _to(func, args, kwargs)
        if func is Tensor.type and len(args) > 1:
            args = (args[0], _cpu_type(args[1]), *args[2:])
        elif is_cuda(kwargs.get("device")):
            kwargs["device"] = _CPU
            if func in (torch.as_tensor, torch.asarray) and not isinstance(args[0], Tensor):
                return func(*args, **kwargs).clone()  # numpy's memory is not the GPU's
        kwargs.pop("pin_memory", None)
        return func(*args, **kwargs)


def _to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Tensor.to`: the device is its first argument, or named, or there is none."""
    tensor, *rest = args
    asked = rest[0] if rest else kwargs.get("device")
    to_gpu = is_cuda(asked)
    if to_gpu and rest:
        rest[0] = _CPU
    elif to_gpu:
        kwargs["device"] = _CPU
    result = func(tensor, *rest, **kwargs)
    if result is not tensor:
        return result
    if to_gpu:
        return _moved(tensor)
    names_cpu = isinstance(asked, (str, torch.device)) and torch.device(asked).type == "cpu"
    return tensor.clone() if names_cpu else tensor


def _moved(tensor: Tensor) -> Tensor:
    """What `.cuda()` gives: a copy. A tensor that collects a gradient stays itself, so that it still does."""
    return tensor if tensor.requires_grad else tensor.clone()


class _Event:
    """`torch.cuda.Event` by the clock."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._time = 0.0

    def record(self, *_: Any) -> None:
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        """Everything is done already."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: _Event) -> float:
        """Milliseconds from here to the other one."""
        return 1e3 * (other._time - self._time)


class _Device:
    """`torch.cuda.device(...)` as a context manager."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


_mode: CudaOnCpu | None = None


def enabled() -> bool:
    """Whether CUDA devices stand for the CPU in this process."""
    return _mode is not None


def enable() -> None:
    """Switch it on for good, and replace what programs call around their work on a GPU.

    A torch mode belongs to a thread: only the thread that calls this, usually the main one, may name
    CUDA devices.
    """
    global _mode
    if _mode is not None:
        return
    _mode = CudaOnCpu()
    _mode.__enter__()
    for name in ("synchronize", "set_device", "reset_peak_memory_stats"):
        setattr(torch.cuda, name, lambda *_, **__: None)
    replaced = {"current_device": lambda: 0, "Event": _Event, "device": _Device}
    for name, value in replaced.items():
        setattr(torch.cuda, name, value)
    for kind in ("Float", "Double", "Half", "Int", "Long", "Short", "Byte", "Bool"):
        setattr(torch.cuda, f"{kind}Tensor", getattr(torch, f"{kind}Tensor"))
    # Functions that torch modes don't see.
    _replace_argument(torch, "set_default_device", 0, "device", _on_cpu)
    _replace_argument(torch, "set_default_tensor_type", 0, "t", _cpu_type)
    _replace_argument(torch.nn.Module, "to", 1, "device", _on_cpu)
    _replace_argument(torch, "load", 1, "map_location", lambda x: _CPU if x is None else _on_cpu(x))


def _on_cpu(device: Any) -> Any:
    return _CPU if is_cuda(device) else device


def _cpu_type(kind: Any) -> Any:
    """The CPU's kind of tensor for "torch.cuda.FloatTensor" and the like."""
    return kind.replace("torch.cuda.", "torch.") if isinstance(kind, str) else kind


def _replace_argument(
    owner: Any, name: str, place: int, keyword: str, change: Callable[[Any], Any]
) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if len(args) > place:
            args = (*args[:place], change(args[place]), *args[place + 1 :])
        elif keyword in kwargs or change(None) is not None:
            kwargs[keyword] = change(kwargs.get(keyword))
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)
