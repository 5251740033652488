"""A stand-in for a CUDA GPU: tensors that say they are on cuda:0, and refuse what such tensors refuse.

They live in main memory, but don't mix with CPU tensors and have no `numpy()`; so the suite for GPUs, and the
code for them, are walked through where there is none. What it can't show is what a GPU computes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
NAME = "stand-in for a GPU"
# A CPU tensor may index a CUDA tensor; messages may compare anything.
_TAKES_INDICES = {"__getitem__", "__setitem__", "index_put", "index_put_"}
_SEES_THROUGH = {
    "tolist", "item", "size", "dim", "__repr__", "__len__", "backward", "requires_grad_", "register_hook",
}  # fmt: skip


def is_cuda(device: Any) -> bool:
    return not isinstance(device, bool) and (
        isinstance(device, int)
        or (isinstance(device, (str, torch.device)) and "cuda" in str(device))
    )


class CudaTensor(Tensor):
    """A tensor of the stand-in."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.__name__
        if name == "__get__":  # of a property
            answers = {"device": CUDA, "is_cuda": True, "is_cpu": False}
            if func.__self__.__name__ in answers:
                return answers[func.__self__.__name__]
        elif name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu()")
        elif name == "cpu":
            return plain(args[0]).clone()
        elif name == "cuda":
            return args[0]
        elif name == "to":
            return move(*args, **kwargs)
        elif name in _SEES_THROUGH:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        elif name not in ("__set__", "copy_", "grad"):
            strangers = [t for t in _tensors(args, kwargs) if t.dim() and not isinstance(t, cls)]
            indexed = name in _TAKES_INDICES and isinstance(args[0], cls)
            if strangers and not indexed:
                raise RuntimeError(
                    f"{name}: expected all tensors on one device, got cuda:0 and cpu"
                )
        wants_gradient = kwargs.pop("requires_grad", False)
        device = kwargs.get("device")
        if is_cuda(device):
            kwargs["device"] = CPU
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        if device is not None and not is_cuda(device):
            return plain(result)
        result = on_cuda(result)
        return result.requires_grad_() if wants_gradient else result


def _tensors(*values: Any) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(*value)
        elif isinstance(value, dict):
            found += _tensors(*value.values())
    return found


def on_cuda(value: Any) -> Any:
    """The tensor, or the tensors in a tuple or list, as the stand-in's."""
    if isinstance(value, Tensor):
        return value if isinstance(value, CudaTensor) else value.as_subclass(CudaTensor)
    if type(value) in (tuple, list):
        return type(value)(on_cuda(v) for v in value)
    if type(value).__module__ == "torch.return_types":
        return type(value)([on_cuda(v) for v in value])
    return value


def plain(value: Any) -> Any:
    """The same memory as CPU tensors, for whoever computes behind the stand-in."""
    if isinstance(value, CudaTensor):
        with torch._C.DisableTorchFunctionSubclass():
            return value.as_subclass(Tensor)
    if type(value) in (tuple, list):
        return type(value)(plain(v) for v in value)
    return value


def move(tensor: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`."""
    asked = rest[0] if rest else kwargs.get("device")
    to_cuda = isinstance(tensor, CudaTensor)
    if isinstance(asked, Tensor):
        to_cuda, rest = isinstance(asked, CudaTensor), (asked.dtype, *rest[1:])
    elif isinstance(asked, (str, torch.device, int)):
        to_cuda = is_cuda(asked)
        if rest:
            rest = (CPU, *rest[1:])
        else:
            kwargs["device"] = CPU
    with torch._C.DisableTorchFunctionSubclass():
        result = Tensor.to(tensor, *rest, **kwargs)
    if to_cuda == isinstance(tensor, CudaTensor):
        return on_cuda(result) if to_cuda else result
    return on_cuda(result.clone()) if to_cuda else plain(result).clone()


class _Mode(TorchFunctionMode):
    """What makes or moves tensors without having one of the stand-in's at hand."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if any(isinstance(t, CudaTensor) for t in _tensors(args, kwargs)):
            return CudaTensor.__torch_function__(func, types, args, kwargs)
        if func is Tensor.cuda:
            return move(args[0], CUDA)
        if func is Tensor.to:
            return move(*args, **kwargs)
        if is_cuda(kwargs.get("device")):
            wants_gradient = kwargs.pop("requires_grad", False)
            return on_cuda(func(*args, **{**kwargs, "device": CPU})).requires_grad_(wants_gradient)
        return func(*args, **kwargs)


def enable() -> None:
    """Let torch believe in the stand-in for the rest of the process."""
    _Mode().__enter__()
    replaced = {
        "is_available": lambda: True,
        "synchronize": lambda *_: None,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: NAME,
        "device": lambda *_: contextlib.nullcontext(),
    }
    for name, value in replaced.items():
        setattr(torch.cuda, name, value)
