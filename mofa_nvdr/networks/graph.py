"""A convolutional network from a list of operations and its weights: small, safe to read, plain torch.

A file (.safetensors) holds the weights as tensors and, as JSON in its metadata, the operations in the order
in which they run. Nothing of it is code: a kind of operation that is not in KINDS is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from mofa_nvdr.system.budget import MOST_SIDE, printable, words_of

FORMAT = "mofa-nvdr network 1"
WEIGHTS = "weights_sha256"  # in the metadata
KINDS = {
    "conv": {"stride", "pads", "groups", "dilation"},
    "relu": set[str](),
    "prelu": set[str](),
    "add": set[str](),
    "concat": set[str](),
    "pad": {"pads"},
    "pad_channels": {"before", "after"},
    "max_pool": {"kernel", "stride", "pads"},
    "avg_pool": {"kernel", "stride"},
    "mean": set[str](),
    "upsample": {"factor"},
    "rows": {"columns"},
}
"""Kind of operation -> its settings; `GraphNetwork` says what each computes."""
# Smallest and largest of each: a few edited digits must not take the machine.
_RANGES = {
    "stride": (1, 64), "pads": (0, 256), "groups": (1, 4096), "dilation": (1, 64), "before": (0, 4096),
    "after": (0, 4096), "kernel": (1, 256), "factor": (1, 8), "columns": (0, 65_536),
}  # fmt: skip
_MOST_ENLARGED = 64  # times, of all "upsample" together


@dataclass(frozen=True)
class Operation:
    """One step of a network.

    Attributes:
        kind: of KINDS.
        inputs: values that it takes: "image", or the output of an earlier operation.
        output: the value that it makes.
        settings: the kind's numbers; `pads` are (left, right, top, bottom).
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """A network without its weights.

    Attributes:
        size: (height, width) of the image that it was trained on, px.
        operations: in the order in which they run.
        outputs: the values that the network gives.
    """

    size: tuple[int, int]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Graph:
        """The opposite of `to_json`.

        Raises:
            ValueError: not a graph, or an operation that this version does not know.
        """
        try:
            facts = json.loads(text)
            height, width = (int(n) for n in facts["size"])
            operations = tuple(
                Operation(str(o["kind"]), tuple(o["inputs"]), str(o["output"]), dict(o["settings"]))
                for o in facts["operations"]
            )
            graph = Graph((height, width), operations, tuple(facts["outputs"]))
        except (
            AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError
        ) as error:  # fmt: skip
            raise ValueError(f"not the description of a network ({words_of(error)})") from None
        if not all(1 <= side <= MOST_SIDE for side in graph.size):
            raise ValueError(f"images of {height} x {width} px, expected 1 to {MOST_SIDE}")
        known, enlarged = {"image"}, 1
        for operation in operations:
            if set(operation.settings) != KINDS.get(operation.kind):
                raise ValueError(f"an operation {operation.kind!r} that this version does not know")
            for name, value in operation.settings.items():
                values = value if isinstance(value, list) else [value]
                least, most = _RANGES[name]
                if not all(type(v) is int and least <= v <= most for v in values):
                    raise ValueError(
                        f"{operation.output} has {name} {printable(value, 60)}, expected whole numbers from "
                        f"{least} to {most}"
                    )
            enlarged *= operation.settings.get("factor", 1)
            if enlarged > _MOST_ENLARGED:
                raise ValueError(
                    f"maps enlarged {enlarged} times, expected {_MOST_ENLARGED} at most"
                )
            if not known.issuperset(operation.inputs):
                raise ValueError(f"{operation.output} takes a value that nothing makes")
            known.add(operation.output)
        if not known.issuperset(graph.outputs):
            raise ValueError("an output that nothing makes")
        return graph


class _Conv(nn.Conv2d):
    """A convolution whose margins may differ from side to side, as even strides need."""

    def __init__(self, weight: Tensor, bias: Tensor, settings: Mapping[str, Any]) -> None:
        groups = settings["groups"]
        outputs, inputs, *kernel = weight.shape
        left, right, top, bottom = settings["pads"]
        even = left == right and top == bottom
        super().__init__(
            inputs * groups,
            outputs,
            (kernel[0], kernel[1]),
            tuple(settings["stride"]),
            (top, left) if even else 0,
            tuple(settings["dilation"]),
            groups,
            device="meta",
        )
        self.margins = None if even else (left, right, top, bottom)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        return super().forward(x if self.margins is None else F.pad(x, self.margins))


class _MaxPool(nn.Module):
    """As the convolution: margins, which never win, by side."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.kernel, self.stride = tuple(settings["kernel"]), tuple(settings["stride"])
        self.margins = tuple(settings["pads"])

    def forward(self, x: Tensor) -> Tensor:
        if any(self.margins):
            x = F.pad(x, self.margins, value=float("-inf"))
        return F.max_pool2d(x, self.kernel, self.stride)


class _PadChannels(nn.Module):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.margins = (0, 0, 0, 0, settings["before"], settings["after"])

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.margins)


class _Pad(nn.Module):
    """Zeros around a map."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.margins = tuple(settings["pads"])

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.margins)


class _Mean(nn.Module):
    """Of each map: [B, C, H, W] to [B, C, 1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class _Upsample(nn.Module):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.factor = settings["factor"]

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(
            x, scale_factor=float(self.factor), mode="bilinear", align_corners=False
        )


class _Rows(nn.Module):
    """Maps [B, C, H, W] to [B, N, columns], pixel by pixel; columns 0: to [B, N]."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.columns = settings["columns"]

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return x.reshape(x.shape[0], -1, self.columns) if self.columns else x.flatten(1)


class _Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class _Concat(nn.Module):
    """Of rows: [B, N, C] and [B, M, C] to [B, N + M, C]."""

    def forward(self, *values: Tensor) -> Tensor:
        return torch.cat(values, 1)


class GraphNetwork(nn.Module):
    """The network of a graph and its weights, in evaluation mode.

    Images [B, 3, H, W] in the range that the network was trained on; H and W may be other multiples of what
    `graph.size` is a multiple of, where the network has no part for one size only.

    Args:
        graph: the operations.
        tensors: `OUTPUT.weight` and `OUTPUT.bias` of each convolution, `OUTPUT.weight` of each PReLU, by the
            name of the operation's output; floats of any precision, computed with as float32.

    Attributes:
        graph: the operations.

    Raises:
        ValueError: a tensor is missing, or does not fit its operation.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        for operation in graph.operations:
            try:
                self.layers[operation.output] = _layer(operation, tensors)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"{operation.kind} {operation.output} is damaged ({error!r})"
                ) from None
        last = {name: n for n, o in enumerate(graph.operations) for name in o.inputs}
        self._dead = [
            [name for name in set(o.inputs) if last[name] == n and name not in graph.outputs]
            for n, o in enumerate(graph.operations)
        ]
        self._exact = _makers_of_outputs(graph)
        # A map that nobody else reads is changed in place: a new one is cleared page by page by the system.
        shared = {n for o in graph.operations if o.kind == "rows" for n in (*o.inputs, o.output)}
        self._in_place = [
            o.kind in _WITHOUT_WEIGHTS and o.inputs[0] in dead and o.inputs[0] not in {"image", *shared}
            for o, dead in zip(graph.operations, self._dead)
        ]  # fmt: skip
        self.eval().requires_grad_(False)
        # Faster on a CPU; torch's stubs do not know this form.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def lower(self, dtype: torch.dtype) -> GraphNetwork:
        """Compute with another precision, but in the last layers: bfloat16 has no room for coordinates.

        Images must come in that precision then; outputs are float32.
        """
        for name, layer in self.layers.items():
            layer.to(torch.float32 if name in self._exact else dtype)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images [B, 3, H, W] to the graph's outputs; maps are [B, C, H, W], rows [B, N, C] or [B, N]."""
        values = {"image": images}
        steps = zip(self.graph.operations, self._dead, self._in_place)
        for operation, dead, in_place in steps:
            inputs = [values[name] for name in operation.inputs]
            alike = all(i.shape == inputs[0].shape and i.dtype == inputs[0].dtype for i in inputs)
            if in_place and alike and not torch.is_grad_enabled():
                values[operation.output] = _WITHOUT_WEIGHTS[operation.kind](*inputs)
            else:
                values[operation.output] = self.layers[operation.output](*inputs)
            for name in dead:
                del values[name]
        return tuple(values[name] for name in self.graph.outputs)


# What these kinds compute, in the memory of their first input.
_WITHOUT_WEIGHTS: dict[str, Callable[..., Tensor]] = {"relu": Tensor.relu_, "add": Tensor.add_}


def _makers_of_outputs(graph: Graph) -> set[str]:
    """The convolutions whose results reach an output without another convolution."""
    by_name = {operation.output: operation for operation in graph.operations}
    found, todo = set(), list(graph.outputs)
    while todo:
        operation = by_name.get(todo.pop())
        if operation is not None and operation.kind == "conv":
            found.add(operation.output)
        elif operation is not None:
            todo += operation.inputs
    return found


def _layer(operation: Operation, tensors: Mapping[str, Tensor]) -> nn.Module:
    settings = operation.settings
    if operation.kind in ("conv", "prelu"):
        weight = tensors[f"{operation.output}.weight"].float()
        if operation.kind == "conv":
            bias = tensors[f"{operation.output}.bias"].float()
            if weight.ndim != 4 or bias.shape != weight.shape[:1]:
                raise ValueError(f"weight {list(weight.shape)}, bias {list(bias.shape)}")
            return _Conv(weight, bias, settings)
        if weight.ndim != 1:
            raise ValueError(f"weight {list(weight.shape)}")
        layer = nn.PReLU(len(weight), device="meta")
        layer.weight = nn.Parameter(weight)
        return layer
    make: dict[str, Any] = {
        "relu": lambda _: nn.ReLU(),
        "add": lambda _: _Add(),
        "concat": lambda _: _Concat(),
        "pad": _Pad,
        "pad_channels": _PadChannels,
        "max_pool": _MaxPool,
        "avg_pool": lambda s: nn.AvgPool2d(tuple(s["kernel"]), tuple(s["stride"])),
        "mean": lambda _: _Mean(),
        "upsample": _Upsample,
        "rows": _Rows,
    }
    return make[operation.kind](settings)


def network_bytes(graph: Graph, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """A network as the bytes of its file; `facts` become metadata next to the graph."""
    metadata = {**facts, "format": FORMAT, "graph": graph.to_json(), WEIGHTS: _digest(tensors)}
    return save({name: t.contiguous() for name, t in tensors.items()}, metadata)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of weights as they are kept."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_facts(path: Path) -> dict[str, str]:
    """The metadata of a network's file, without its weights.

    Raises:
        ValueError: no such file, damaged, or not a network of this package.
    """
    return _read(path, ())[0]


def load_network(path: Path) -> GraphNetwork:
    """The network of a file.

    Raises:
        ValueError: no such file, damaged, or not a network of this package.
    """
    facts, tensors = _read(path, None)
    try:
        network = GraphNetwork(Graph.from_json(facts["graph"]), tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {printable(error, 300)}") from None
    if facts.get(WEIGHTS, digest := _digest(tensors)) != digest:  # earlier files have none
        raise ValueError(f"{path}: damaged (its weights are not those that were written)")
    return network


def _read(path: Path, names: Sequence[str] | None) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata, and tensors by name; None: all."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            wanted = file.keys() if names is None else names
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged ({words_of(error)})") from None
    if facts.get("format") != FORMAT or "graph" not in facts:
        raise ValueError(
            f"{path}: its metadata does not say {FORMAT!r}: not a network of this version"
        )
    return facts, tensors
