"""Run programs that say `device="cuda"` on the CPU: what they make or move there stays in main memory.

Programs written for nvdiffrast name the GPU everywhere, because without one they could not draw. In
this mode torch makes a CPU tensor wherever "cuda" is asked for. Copies between the two devices stay
copies: a program that keeps `.cpu()` of a tensor and goes on changing the tensor keeps what it saw.

Tensors say that they are on "cpu:0": a device of type "cpu" with an index, as every CUDA device has one.
`torch.device("cuda")`, `torch.device("cuda:1")` and `torch.device("cpu")` give the same, so that comparisons
hold. `is_cuda` and `torch.cuda.is_available()` say no: programs that choose their device choose the CPU by
themselves. The mode is on in all threads that begin later, and inside of backward passes, hooks and
recomputation. `torch.jit.script` leaves functions as they are, because the mode is off in TorchScript; it
scripts modules and classes, in which "cuda" stays "cuda". Streams and events are there and do nothing
(`cuda_stand_ins`); CUDA graphs, half precision under autocast and libraries with CUDA code of their own are
beyond this.
"""

from __future__ import annotations

import copyreg
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from mofa_nvdr.dr.cuda_stand_ins import replace_cuda_functions

_Device = torch.device
_CPU = torch.device("cpu")
_CPU_0 = torch.device("cpu", 0)


def is_cuda(device: Any) -> bool:
    """Whether this names a CUDA device: "cuda", "cuda:1", a number or a torch.device."""
    if isinstance(device, str):
        return device.partition(":")[0] == "cuda"
    if isinstance(device, _Device):
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
        if func is Tensor.get_device:
            return 0
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


_mode: CudaOnCpu | None = None


def enabled() -> bool:
    """Whether CUDA devices stand for the CPU in this process."""
    return _mode is not None


def enable() -> None:
    """Switch it on for good, in this thread and all that begin from now on."""
    global _mode
    if _mode is not None:
        return
    _mode = CudaOnCpu()
    _mode.__enter__()
    replace_cuda_functions()
    # Functions that torch modes don't see.
    _replace_argument(torch, "set_default_device", 0, "device", _on_cpu)
    _replace_argument(torch, "set_default_tensor_type", 0, "t", _cpu_type)
    _replace_argument(torch.nn.Module, "to", 1, "device", _on_cpu)
    _replace_argument(torch, "load", 1, "map_location", _place_to_load)
    _replace_argument(torch.jit, "load", 1, "map_location", _place_to_load)
    # For all tensors, whether or not the mode is on: torch compares devices between its own functions.
    own: Any = Tensor.device
    start = threading.Thread.start

    def start_in_mode(thread: threading.Thread) -> None:
        thread.run = _in_mode(thread.run)  # type: ignore[method-assign]
        start(thread)

    # The mode is off in what a mode calls, and a backward pass is such a call.
    run_backward = _in_mode(torch.autograd.graph._engine_run_backward)
    replaced: list[tuple[Any, str, Any]] = [
        (Tensor, "device", property(lambda tensor: _indexed(own.__get__(tensor)))),
        (Tensor, "record_stream", lambda tensor, stream: None),
        (torch, "device", _stand_in(_Device, lambda *a, **k: _indexed(_Device(*a, **k)))),
        (torch, "Generator", _stand_in(torch.Generator, _make_generator)),
        (torch.jit, "script", _but_functions(torch.jit.script)),
        (torch.autograd, "_engine_run_backward", run_backward),
        (torch.autograd.graph, "_engine_run_backward", run_backward),
        (threading.Thread, "start", functools.wraps(start)(start_in_mode)),
    ]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    # Pickles name torch.device, which is the stand-in now.
    copyreg.pickle(_Device, lambda device: (torch.device, (str(device),)))


def _in_mode(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the mode on inside of it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(mode, CudaOnCpu) for mode in _get_current_function_mode_stack()):
            return function(*args, **kwargs)
        with CudaOnCpu():
            return function(*args, **kwargs)

    return call


def _but_functions(script: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.jit.script` for all but functions, which stay Python, where the mode sees what they call."""

    @functools.wraps(script)
    def wrapped(obj: Any, *args: Any, **kwargs: Any) -> Any:
        if inspect.isfunction(obj):
            return obj
        if (
            len(args) < 2
        ):  # the names in a class are looked up in its caller's frame, one further up
            kwargs["_frames_up"] = kwargs.get("_frames_up", 0) + 1
        return script(obj, *args, **kwargs)

    return wrapped


def _stand_in(real: type, make: Callable[..., Any]) -> type:
    """A class in place of one that can't be changed: it makes the real objects, which are its instances."""

    class Kind(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            return make(*args, **kwargs)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return subclass is cls or issubclass(subclass, real)

    names = {"__module__": "torch", "__qualname__": real.__name__, "__doc__": real.__doc__}
    return Kind(real.__name__, (), names)


_make_real_generator = torch.Generator


def _make_generator(device: Any = None) -> torch.Generator:
    return _make_real_generator() if device is None else _make_real_generator(_on_cpu(device))


def _indexed(device: torch.device) -> torch.device:
    return _CPU_0 if device.type in ("cpu", "cuda") else device


def _on_cpu(device: Any) -> Any:
    return _CPU if is_cuda(device) else device


def _place_to_load(place: Any) -> Any:
    """What `torch.load` takes: no CPU with an index, and files that were written on a GPU by default."""
    if place is None or is_cuda(place):
        return _CPU
    named = isinstance(place, (str, _Device)) and str(place).partition(":")[0] == "cpu"
    return _CPU if named else place


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
