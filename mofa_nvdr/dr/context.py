"""Contexts, checks and the choice of backend that the verbs share.

CPU tensors go to our kernels, CUDA tensors to nvdiffrast, and nothing else decides: no tensor is
moved. This is the only module that imports nvdiffrast, in `load_nvdiffrast`, when a CUDA tensor
arrives.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.dr import cuda_on_cpu

# nvdiffrast numbers triangles in float32: above 2^24 ids continue in the bit pattern.
MAX_PLAIN_ID = 1 << 24
# A context's buffers are reallocated whenever the size changes, so one is kept per size.
_MAX_CUDA_CONTEXTS = 8


class RasterizeContext:
    """What `rasterize` takes first; device-neutral, made once and kept.

    On the CPU it holds nothing. On CUDA it creates nvdiffrast's contexts when they are needed, one
    for each (device, N, H, W), and keeps the last eight. Like nvdiffrast's, it must not be used by
    two threads or CUDA streams at once; make one for each.

    Args:
        device: None accepts any device; a device makes `rasterize` refuse tensors from elsewhere. A
            number is that of a CUDA device.
    """

    def __init__(self, device: torch.device | str | int | None = None) -> None:
        if isinstance(device, int):
            device = f"cuda:{device}"
        if cuda_on_cpu.enabled():  # all devices are one
            device = None
        self.device = None if device is None else torch.device(device)
        self.active_depth_peeler: Any = None
        self._cuda_contexts: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def cuda_context(self, device: torch.device, size: tuple[int, int, int]) -> Any:
        """The nvdiffrast context for images of `size` = (N, H, W) on a CUDA device.

        Raises:
            RuntimeError: nvdiffrast is not installed.
        """
        key = (device, *size)
        if key not in self._cuda_contexts:
            nvdiffrast = load_nvdiffrast("rasterize")
            self._cuda_contexts[key] = nvdiffrast.RasterizeCudaContext(device=device)
            if len(self._cuda_contexts) > _MAX_CUDA_CONTEXTS:
                self._cuda_contexts.popitem(last=False)
        self._cuda_contexts.move_to_end(key)
        return self._cuda_contexts[key]

    def __getstate__(self) -> dict[str, Any]:
        # nvdiffrast's contexts own GPU buffers: copies and unpickled modules make their own.
        return {
            "device": self.device,
            "active_depth_peeler": None,
            "_cuda_contexts": OrderedDict(),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}(device={self.device})"


class RasterizeGLContext(RasterizeContext):
    """nvdiffrast's older OpenGL context by name; the same as `RasterizeContext`.

    Args:
        output_db: accepted and ignored: `rast_db` is always produced.
        mode: accepted and ignored.
        device: as in `RasterizeContext`.
    """

    def __init__(
        self,
        output_db: bool = True,
        mode: str = "automatic",
        device: torch.device | str | int | None = None,
    ) -> None:
        del output_db, mode
        super().__init__(device)

    def set_context(self) -> None:
        """Nothing: there is no OpenGL context to make current."""

    def release_context(self) -> None:
        """Nothing, as `set_context`."""


_log_level = 1


def get_log_level() -> int:
    """The level from which messages are printed: 0 info, 1 warning, 2 error, 3 fatal."""
    return _log_level


def set_log_level(level: int) -> None:
    """Set nvdiffrast's log level; the CPU kernels print nothing, and only keep the number.

    Raises:
        ValueError: not 0, 1, 2 or 3.
    """
    global _log_level
    if level not in (0, 1, 2, 3):
        raise ValueError(f"set_log_level: level is {level!r}, expected 0, 1, 2 or 3")
    _log_level = level
    # Only where a CUDA tensor has brought nvdiffrast in; it hears of the level when it is loaded.
    operators = sys.modules.get("nvdiffrast.torch")
    if operators is not None and operators is not sys.modules.get("mofa_nvdr.dr"):
        operators.set_log_level(level)


def has_nvdiffrast() -> bool:
    """Whether the real nvdiffrast is installed; a folder of its name or its sources alone don't count."""
    if sys.modules.get("nvdiffrast", sys) is None:
        return False
    operators = sys.modules.get("nvdiffrast.torch")
    if operators is not None:
        return operators is not sys.modules.get("mofa_nvdr.dr")
    try:
        return importlib.util.find_spec("nvdiffrast.torch") is not None
    except ImportError:  # sources that were never installed ask for their version in vain
        return False


def load_nvdiffrast(verb: str) -> ModuleType:
    """Import nvdiffrast.torch, the operators for CUDA tensors.

    Args:
        verb: the operator that needs it, for the message.

    Raises:
        RuntimeError: it is not installed; the message holds the install line.
    """
    try:
        import nvdiffrast.torch as operators

        if operators is sys.modules.get("mofa_nvdr.dr"):
            raise ImportError("mofa_nvdr.dr.install put this package in its place")
    except ImportError as error:
        raise RuntimeError(
            f"{verb}: the tensors are on CUDA, and nvdiffrast can't be imported ({error}); "
            "pip install setuptools wheel ninja; pip install --no-build-isolation "
            "git+https://github.com/NVlabs/nvdiffrast.git@v0.4.0, or move the tensors to the CPU"
        ) from error
    return operators


def common_device(verb: str, **tensors: Tensor | None) -> torch.device:
    """The one device of all tensors; None entries don't count.

    Raises:
        TypeError: an argument is not a tensor.
        RuntimeError: two devices, or a device that no backend serves.
    """
    first_name, first = "", None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{verb}: {name} is a {type(tensor).__name__}, expected a torch.Tensor")
        if first is None:
            first_name, first = name, tensor
        elif tensor.device != first.device:
            raise RuntimeError(
                f"{verb}: {name} is on {tensor.device}, but {first_name} is on {first.device}; "
                "move both to one device"
            )
    assert first is not None
    if first.device.type not in ("cpu", "cuda"):
        raise RuntimeError(
            f"{verb}: {first_name} is on {first.device}, expected cpu or cuda; move the tensors"
        )
    return first.device


def check_tensor(
    verb: str,
    name: str,
    tensor: Tensor,
    shape: Sequence[int | str],
    dtypes: Sequence[torch.dtype] = (torch.float32,),
) -> None:
    """Refuse a tensor that has another shape or dtype, or is not contiguous.

    Ints in `shape` must match, names must be above 0.

    Raises:
        RuntimeError: as nvdiffrast does, for shape, dtype and layout alike.
    """
    expected = "[" + ", ".join(str(size) for size in shape) + "]"
    matches = tensor.dim() == len(shape) and all(
        size > 0 if isinstance(wanted, str) else size == wanted
        for size, wanted in zip(tensor.shape, shape)
    )
    if not matches:
        raise RuntimeError(
            f"{verb}: {name} is {list(tensor.shape)}, expected {expected}, every size above 0"
        )
    if tensor.dtype not in dtypes:
        wanted_dtypes = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        way_out = f"convert it with .to(torch.{wanted_dtypes.split(' ')[0]})"
        if tensor.dtype is torch.float64:
            way_out += "; mofa_nvdr.dr.reference takes float64"
        raise RuntimeError(
            f"{verb}: {name} is {str(tensor.dtype).removeprefix('torch.')}, "
            f"expected {wanted_dtypes}; {way_out}"
        )
    if not tensor.is_contiguous():
        raise RuntimeError(f"{verb}: {name} is not contiguous; call .contiguous() on it")


def check_triangles(verb: str, tri: Tensor) -> None:
    """Refuse an index buffer that is not contiguous int32 [T, 3] with T > 0."""
    check_tensor(verb, "tri", tri, ("T", 3), (torch.int32,))
