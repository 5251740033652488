"""Read dlib's face recognition network (.dat) without dlib: its operations and weights, nothing else.

A .dat file is a stream of values in the order in which dlib's objects write themselves: integers as a byte of
length and sign and then as many bytes, floating-point numbers as mantissa and exponent (two such integers),
texts, flags, and tensors as 32-bit floats after their four sizes. A network writes the versions of its
layers, the outermost first, then its input, then its layers from the input on. Which layers a network has is
a type in C++ and not in the file, but each names itself, and residual blocks are told by the unnamed layers
that tag a value to come back to. So residual networks of any depth and width are read; what is not of this
kind is refused.

Source: the serialization of dlib 19 (dlib/serialize.h, dlib/float_details.h, dlib/dnn/core.h,
dlib/dnn/layers.h), found out by reading a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.networks.graph import Graph, Operation

_LOSS, _INPUT = "loss_metric_2", "input_rgb_image_sized"
_UNNAMED, _INNER, _FIRST = (
    1,
    2,
    3,
)  # versions of layers: tags and skips, others, the first after the input
_MOST_LAYERS, _MOST_NUMBERS, _LARGEST_SIZE = 1000, 1 << 24, 4096
_Value = tuple[
    str, tuple[int, int, int]
]  # a value of the graph, and its channels, height and width


class _UnknownError(ValueError):
    """What is not of a network that is read here; the message says what."""


class _Stream:
    """dlib's values, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def raw(self, count: int) -> memoryview:
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise _UnknownError("it ends too early")
        self._at += count
        return found

    def integer(self) -> int:
        head = self.raw(1)[0]
        if head & 0x70 or not 1 <= head & 0x0F <= 8:
            raise _UnknownError(f"no integer at byte {self._at - 1}")
        value = int.from_bytes(self.raw(head & 0x0F), "little")
        return -value if head & 0x80 else value

    def integers(self, count: int) -> list[int]:
        return [self.integer() for _ in range(count)]

    def number(self) -> float:
        mantissa, exponent = self.integers(2)
        # dlib's exponents of infinities and NaN are 32000 and more.
        if abs(exponent) > 1100:
            raise _UnknownError(f"no finite number before byte {self._at}")
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError:
            raise _UnknownError(f"no finite number before byte {self._at}") from None

    def numbers(self, count: int) -> list[float]:
        return [self.number() for _ in range(count)]

    def text(self) -> str:
        length = self.integer()
        if not 0 <= length < 64:
            raise _UnknownError(f"no name at byte {self._at}")
        return bytes(self.raw(length)).decode("latin-1")

    def flags(self, count: int) -> None:
        if not set(self.raw(count)) <= set(b"01"):
            raise _UnknownError(f"no flags at byte {self._at - count}")

    def tensor(self) -> np.ndarray:
        """An array of four sizes; the file's bytes, not copied."""
        version, *shape = self.integers(5)
        count = math.prod(shape)
        if version != 2 or min(shape) < 0 or not 0 <= count < _MOST_NUMBERS:
            raise _UnknownError(f"a tensor of version {version}, {shape}")
        values = np.frombuffer(self.raw(4 * count), "<f4").reshape(shape)
        if not np.isfinite(values).all():
            raise _UnknownError("weights that are not finite")
        return values

    def end(self) -> None:
        if self._at != len(self._data):
            raise _UnknownError("something follows the network")


def read_dlib_resnet(data: bytes) -> tuple[Graph, dict[str, Tensor]]:
    """The network of a .dat file.

    It takes RGB in [0, 1], [B, 3, S, S], and gives "features" [B, C], the means of its last maps, and
    "embedding" [B, N]. The affine layers (batch normalisation, frozen) and the scaling of the input are in
    the filters, which are rounded to half precision; biases are float32.

    Raises:
        ValueError: not a residual network of dlib with a metric loss, or damaged.
    """
    try:
        return _Reader(data).network()
    except _UnknownError as error:
        raise ValueError(f"not a face recognition network of dlib: {error}") from None


class _Reader:
    """One file's layers as operations."""

    def __init__(self, data: bytes) -> None:
        self._stream = _Stream(data)
        self._operations: list[Operation] = []
        self._filters: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # float64, by output
        self._now: _Value = ("image", (3, 0, 0))
        self._tags: list[_Value] = []
        self._matrix: np.ndarray | None = None
        self._layers: dict[str, Callable[[], None]] = {
            "con_4": self._convolution,
            "affine_": self._affine,
            "relu_": self._relu,
            "max_pool_2": self._max_pool,
            "avg_pool_2": self._avg_pool,
            "add_prev_": self._add,
            "fc_2": self._fully_connected,
        }

    def network(self) -> tuple[Graph, dict[str, Tensor]]:
        stream = self._stream
        stream.integer()
        self._expect(_LOSS)
        stream.numbers(2)
        versions = [stream.integer()]
        while versions[-1] != _FIRST:
            if versions[-1] not in (_UNNAMED, _INNER) or len(versions) == _MOST_LAYERS:
                raise _UnknownError(f"layer {len(versions)} of version {versions[-1]}")
            versions.append(stream.integer())
        self._expect(_INPUT)
        mean = stream.numbers(3)
        height, width = stream.integers(2)
        if not (0 < height == width <= _LARGEST_SIZE):
            raise _UnknownError(f"pictures of {width} x {height} px")
        self._now = ("image", (3, height, width))
        before = _INNER
        for version in reversed(versions):
            if version == _UNNAMED:
                self._mark(before == _UNNAMED)
            else:
                self._layer(version)
            before = version
        stream.end()
        return self._finish((height, width), mean)

    def _expect(self, name: str) -> None:
        found = self._stream.text()
        if found != name:
            raise _UnknownError(f"{found!r} where {name!r} should be")

    def _mark(self, again: bool) -> None:
        """A tag of the value here; right behind another one a skip, which goes back to the tag before."""
        if again and len(self._tags) == 2:
            self._now = self._tags[0]
        elif again or len(self._tags) == 2:
            raise _UnknownError("tags that make no residual block")
        else:
            self._tags.append(self._now)

    def _layer(self, version: int) -> None:
        stream = self._stream
        name = stream.text()
        if name not in self._layers:
            raise _UnknownError(f"a layer {name!r}")
        if self._matrix is not None:
            raise _UnknownError(f"a layer {name!r} behind the last one")
        self._layers[name]()
        # Whether it is set up and its gradients are stale; buffers of training, empty as a rule.
        stream.flags(3)
        for _ in range(3):
            stream.tensor()
        if version == _FIRST:
            stream.integer()

    def _append(self, kind: str, shape: tuple[int, int, int], **settings: object) -> str:
        if min(shape[1:]) < 1:
            raise _UnknownError(f"a {kind} that leaves nothing of {self._now[1]}")
        name = f"v{len(self._operations)}"
        self._operations.append(Operation(kind, (self._now[0],), name, settings))
        self._now = (name, shape)
        return name

    def _window(self, kernel: list[int], stride: list[int], pads: list[int]) -> tuple[int, int]:
        """Height and width of what a window that moves gives."""
        sizes = zip(self._now[1][1:], kernel, stride, pads)
        good = all(1 <= k <= 16 and 1 <= s <= 16 and 0 <= p < k for _, k, s, p in sizes)
        if not good:
            raise _UnknownError(f"a window of {kernel}, stride {stride}, margins {pads}")
        height, width = (
            (n + 2 * p - k) // s + 1 for n, k, s, p in zip(self._now[1][1:], kernel, stride, pads)
        )
        return height, width

    def _convolution(self) -> None:
        stream = self._stream
        values = stream.tensor().reshape(-1).astype(np.float64)
        count, *numbers = stream.integers(7)
        kernel, stride, pads = numbers[:2], numbers[2:4], numbers[4:]
        shape, biases = stream.integers(5)[1:], stream.integers(5)[1:]
        stream.numbers(4)  # multipliers of learning rates and weight decays
        channels = self._now[1][0]
        if shape != [count, channels, *kernel] or biases != [1, count, 1, 1]:
            raise _UnknownError(f"filters {shape} and biases {biases} for {channels} channels")
        if values.size != math.prod(shape) + count:
            raise _UnknownError(f"{values.size} numbers for filters {shape} and their biases")
        size = self._window(kernel, stride, pads)
        sides = [pads[1], pads[1], pads[0], pads[0]]
        name = self._append(
            "conv", (count, *size), stride=stride, pads=sides, groups=1, dilation=[1, 1]
        )
        self._filters[name] = values[:-count].reshape(shape), values[-count:]

    def _affine(self) -> None:
        stream = self._stream
        values = stream.tensor().reshape(-1).astype(np.float64)
        *_, mode = stream.integers(11)
        name, (channels, _, _) = self._now
        if name not in self._filters or values.size != 2 * channels or mode != 0:
            raise _UnknownError("an affine layer that does not fit a convolution before it")
        factor, offset = values.reshape(2, -1)
        filters, biases = self._filters[name]
        self._filters[name] = filters * factor[:, None, None, None], biases * factor + offset

    def _relu(self) -> None:
        self._append("relu", self._now[1])

    def _max_pool(self) -> None:
        numbers = self._stream.integers(6)
        kernel, stride, pads = numbers[:2], numbers[2:4], numbers[4:]
        size = self._window(kernel, stride, pads)
        sides = [pads[1], pads[1], pads[0], pads[0]]
        channels = self._now[1][0]
        self._append("max_pool", (channels, *size), kernel=kernel, stride=stride, pads=sides)

    def _avg_pool(self) -> None:
        numbers = self._stream.integers(6)
        kernel, stride, pads = numbers[:2], numbers[2:4], numbers[4:]
        channels = self._now[1][0]
        if kernel == [0, 0]:  # of everything
            self._append("mean", (channels, 1, 1))
        elif any(pads):
            raise _UnknownError("a mean over more than the picture")
        else:
            size = self._window(kernel, stride, pads)
            self._append("avg_pool", (channels, *size), kernel=kernel, stride=stride)

    def _add(self) -> None:
        """A residual block's end. Of two different sizes zeros follow the smaller one, as in dlib."""
        if not self._tags:
            raise _UnknownError("a sum of one value")
        values = [self._now, self._tags[-1]]
        self._tags.clear()
        largest = tuple(max(sizes) for sizes in zip(*(shape for _, shape in values)))
        channels, height, width = largest
        names = []
        for value in values:
            self._now = value
            if value[1][1:] != largest[1:]:
                sides = [0, width - value[1][2], 0, height - value[1][1]]
                self._append("pad", (value[1][0], height, width), pads=sides)
            if value[1][0] != channels:
                more = channels - value[1][0]
                self._append("pad_channels", (channels, height, width), before=0, after=more)
            names.append(self._now[0])
        output = f"v{len(self._operations)}"
        self._operations.append(Operation("add", tuple(names), output, {}))
        self._now = (output, (channels, height, width))

    def _fully_connected(self) -> None:
        stream = self._stream
        outputs, inputs = stream.integers(2)
        matrix = stream.tensor()
        *_, mode = stream.integers(11)
        stream.numbers(4)
        _, shape = self._now
        if matrix.shape != (inputs, outputs, 1, 1) or shape != (inputs, 1, 1) or mode != 1:
            raise _UnknownError(f"a last layer {list(matrix.shape)} without biases for {shape}")
        self._matrix = matrix[:, :, 0, 0]

    def _finish(self, size: tuple[int, int], mean: list[float]) -> tuple[Graph, dict[str, Tensor]]:
        if self._matrix is None or self._tags:
            raise _UnknownError("the last layer is missing")
        first = self._operations[0]
        if first.kind != "conv" or any(first.settings["pads"]):
            raise _UnknownError("a first layer that is no convolution of the picture alone")
        tensors = {}
        for name, (filters, biases) in self._filters.items():
            weight = torch.from_numpy(filters * (255 / 256 if name == first.output else 1)).half()
            bias = torch.from_numpy(biases)
            if name == first.output:
                # dlib's input is (255 x - mean) / 256: the mean is in the biases, for filters as rounded.
                bias = bias - weight.double().sum((2, 3)) @ (torch.tensor(mean).double() / 255)
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, bias.float()
        mean_name = self._now[0]
        matrix = torch.tensor(self._matrix.T).half()[:, :, None, None]
        tensors["product.weight"], tensors["product.bias"] = matrix, torch.zeros(len(matrix))
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise _UnknownError("weights beyond half precision")
        one = {"stride": [1, 1], "pads": [0, 0, 0, 0], "groups": 1, "dilation": [1, 1]}
        self._operations += [
            Operation("rows", (mean_name,), "features", {"columns": 0}),
            Operation("conv", (mean_name,), "product", one),
            Operation("rows", ("product",), "embedding", {"columns": 0}),
        ]
        return Graph(size, tuple(self._operations), ("features", "embedding")), tensors
