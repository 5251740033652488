"""Several processes that train as one: torchrun starts them, gloo (CPU) or nccl (CUDA) joins them.

A step's batch is shared out. Gradients, the means that the loss takes over the batch, the statistics of
BatchNorm and the draws of dropout are those of the whole batch, so that a step is that of one process up
to the order of sums. All processes keep the same random state: what is random is drawn for the whole
batch, and each takes its part. A checkpoint of one process therefore serves any number of them.

On one process, or outside of torchrun, every function here does nothing or returns its argument.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

_Result = TypeVar("_Result")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _joined() else 1


def is_main() -> bool:
    """Whether this process writes files and prints: the one of rank 0."""
    return rank() == 0


@contextlib.contextmanager
def processes(device: str = "cpu", threads: int = 0) -> Iterator[None]:
    """Join the processes that torchrun started for as long as the block runs; a single process stays single.

    A process group that is there already is used and left in place. Each process gets `threads` CPU
    threads for torch and for the compiled kernels; 0 shares the machine's cores evenly among the
    processes on it (torchrun's own choice is one thread), and leaves a single process as it is.

    Args:
        device: "cpu" or "cuda"; on CUDA process k of a machine takes its GPU k.
        threads: of each process; 0: see above.

    Raises:
        RuntimeError: more processes on this machine than GPUs, or no connection to the others.
    """
    started = not _joined() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    local, here = (int(os.environ.get(f"LOCAL_{name}", "0")) for name in ("RANK", "WORLD_SIZE"))
    before = torch.get_num_threads()
    if started and device == "cuda":
        if local >= torch.cuda.device_count():
            raise RuntimeError(
                f"process {local} of this machine has no GPU, torch sees {torch.cuda.device_count()}; "
                "give torchrun as many --nproc-per-node as there are GPUs, or --device cpu"
            )
        torch.cuda.set_device(local)
    if threads or started:
        torch.set_num_threads(threads or _fair_share(max(here, 1)))
    try:
        if started:
            _join(device)
        yield
    finally:
        if started and dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(before)


def on_main(function: Callable[[], _Result]) -> _Result:
    """What `function` returns on the main process, which alone calls it; it must be picklable.

    Raises:
        Exception: on the main process whatever it raised; the others then end quietly (SystemExit).
    """
    if world_size() == 1:
        return function()
    answer: list[Any] = [None, False]
    try:
        if is_main():
            answer = [function(), True]
    finally:  # in any case the others must learn of it
        dist.broadcast_object_list(answer, src=0)
    if not answer[1]:
        raise SystemExit(2)
    return answer[0]


def broadcast_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The main process's CPU tensors on every process; what the others pass is ignored."""
    if world_size() == 1:
        return tensors
    kinds = [(name, value.shape, value.dtype) for name, value in tensors.items()]
    result = {}
    for name, shape, dtype in on_main(lambda: kinds):
        value = tensors[name].contiguous() if is_main() else torch.empty(shape, dtype=dtype)
        dist.broadcast(value, src=0)
        result[name] = value
    return result


def gather(value: _Result) -> list[_Result]:
    """Every process's `value` in the order of ranks, on every process; they must be picklable."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def total(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes, the same on all of them; without gradient."""
    values = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def batch_mean(values: Tensor) -> Tensor:
    """The mean over the whole batch of what is a mean over this process's share; differentiable.

    Its gradient is right under DistributedDataParallel, which averages the processes' gradients.
    """
    return values if world_size() == 1 else _Sum.apply(values) / world_size()


def parallel(encoder: nn.Module) -> nn.Module:
    """The encoder as every process calls it to train: gradients are averaged during backward.

    Its BatchNorm and Dropout layers are exchanged in place for those of this module, which have the same
    parameters and see the whole batch. On one process it is returned as it is.
    """
    if world_size() == 1:
        return encoder
    for module in list(encoder.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _BatchNorm.of(child))
            elif type(child) is nn.Dropout:
                setattr(module, name, _Dropout(child.p))
    # Buffers are the same everywhere as it is. torch 2.13 has a new name for the option.
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"gradient_as_bucket_view": True, option: False}
    return nn.parallel.DistributedDataParallel(encoder, **options)


class _Sum(torch.autograd.Function):
    """Sum over the processes; so is its gradient's, because every process's loss depends on the sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return total(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return total(grad)


class _BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d over the whole batch; torch's SyncBatchNorm takes CUDA tensors alone."""

    @classmethod
    def of(cls, layer: nn.BatchNorm2d) -> _BatchNorm:
        """A layer with the same parameters and averages, the very same tensors."""
        new = cls(layer.num_features, layer.eps, layer.momentum)
        new._parameters, new._buffers = layer._parameters, layer._buffers
        new.training = layer.training
        return new

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count = world_size() * input.numel() // input.shape[1]
        variance, mean = torch.var_mean(input, (0, 2, 3), correction=0)
        # Doubles, because the square of the mean is subtracted again.
        mean, variance = mean.double(), variance.double()
        mean, square = batch_mean(torch.stack([mean, variance + mean.square()]))
        variance = square - mean.square()
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked += 1
            unbiased = variance * (count / (count - 1))
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt().to(input)
        shift = self.bias - mean.to(input) * scale
        return input * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class _Dropout(nn.Dropout):
    """Dropout whose mask is drawn for the whole batch, as one process would."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        count = input.shape[0]
        shape = (count * world_size(), *input.shape[1:])
        kept = torch.empty(shape, dtype=torch.bool, device=input.device).bernoulli_(1 - self.p)
        return input * kept[rank() * count : (rank() + 1) * count] / (1 - self.p)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _join(device: str) -> None:
    """Connect to the other processes at the address in torchrun's environment."""
    store, own_rank, count = next(rendezvous("env://"))
    # After an elastic restart torch 2.13 hands out the earlier store, in which the addresses of the
    # processes that are gone are still listed.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt {attempt}", store)
    # What is gathered for reports is on the CPU, so gloo is there next to nccl.
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=count)


def _fair_share(count: int) -> int:
    """Threads for each of `count` processes of this machine.

    torchrun sets OMP_NUM_THREADS to 1 where it is not set; another number is the user's.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(int(os.environ.get("OMP_NUM_THREADS", "1")), (cores or 1) // count, 1)
