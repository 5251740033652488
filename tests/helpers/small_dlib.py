"""Small residual networks in dlib's format, written here byte by byte, and what they give."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mofa_nvdr.networks.dlib_resnet import read_dlib_resnet
from mofa_nvdr.networks.face_recognition import FaceRecognition
from mofa_nvdr.networks.graph import GraphNetwork

MEAN = (122.75, 117.0, 104.25)


def integer(value: int) -> bytes:
    """A byte of length and sign, then the bytes."""
    count = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([count | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(count, "little")


def integers(*values: int) -> bytes:
    """One after the other."""
    return b"".join(map(integer, values))


def number(value: float) -> bytes:
    """Mantissa and exponent."""
    mantissa, exponent = math.frexp(value)
    return integers(int(mantissa * 2**53), exponent - 53)


def text(value: str) -> bytes:
    """Length and letters."""
    return integer(len(value)) + value.encode("latin-1")


def tensor(array: np.ndarray | None = None, shape: tuple[int, ...] = ()) -> bytes:
    """Version, four sizes, floats."""
    if array is None:
        return integers(2, 0, 0, 0, 0)
    sizes = shape or array.shape
    sizes = (*sizes, *[1] * (4 - len(sizes)))
    return integers(2, *sizes) + struct.pack(f"<{array.size}f", *array.ravel().tolist())


@dataclass
class SmallResnet:
    """A first convolution, a residual block, and one that halves its maps and has more channels.

    In the last one the two sides differ in size where `size` is 30 or 150, as in the real network.

    Args:
        seed: of the random weights.
        size: of the pictures, px.
        channels: of the two blocks.
        embedding: numbers of the last layer.
    """

    seed: int = 0
    size: int = 30
    channels: tuple[int, int] = (4, 6)
    embedding: int = 5
    weights: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        few, many = self.channels
        generator = torch.Generator().manual_seed(self.seed)
        self.weights = {}
        for name, inputs, outputs in (
            ("first", 3, few), ("a1", few, few), ("a2", few, few), ("b1", few, many), ("b2", many, many)
        ):  # fmt: skip
            scale = (9 * inputs) ** -0.5
            self.weights[f"{name}.filters"] = scale * torch.randn(
                outputs, inputs, 3, 3, generator=generator
            )
            for part in ("biases", "gamma", "beta"):
                self.weights[f"{name}.{part}"] = 0.3 * torch.randn(outputs, generator=generator)
            self.weights[f"{name}.gamma"] += 1
        self.weights["matrix"] = torch.randn(max(few, many), self.embedding, generator=generator)

    def reference(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and embedding in float64, step by step as dlib's documentation says."""
        w = {name: tensor.double() for name, tensor in self.weights.items()}

        def block(x: Tensor, name: str, stride: int, padding: int) -> Tensor:
            x = F.conv2d(x, w[f"{name}.filters"], w[f"{name}.biases"], stride, padding)
            return x * w[f"{name}.gamma"][:, None, None] + w[f"{name}.beta"][:, None, None]

        x = (images.double() * 255 - torch.tensor(MEAN).double()[:, None, None]) / 256
        x = F.max_pool2d(block(x, "first", 2, 0).relu(), 3, 2)
        x = (x + block(block(x, "a1", 1, 1).relu(), "a2", 1, 1)).relu()
        y = block(block(x, "b1", 2, 0).relu(), "b2", 1, 1)
        x = F.avg_pool2d(x, 2)
        total = x.new_zeros(len(x), *np.maximum(x.shape[1:], y.shape[1:]))
        for part in (x, y):
            total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
        features = total.relu().mean((2, 3))
        return features, features @ w["matrix"]

    def layers(self) -> list[tuple[int, bytes]]:
        """Version and bytes of each layer, the one after the input first."""
        affine_relu = lambda name: [self._affine(name), ("relu_", b"")]  # noqa: E731
        named = [
            self._convolution("first", 2, 0), *affine_relu("first"),
            ("max_pool_2", integers(3, 3, 2, 2, 0, 0)),
            None, self._convolution("a1", 1, 1), *affine_relu("a1"), self._convolution("a2", 1, 1),
            self._affine("a2"), ("add_prev_", b""), ("relu_", b""),
            None, self._convolution("b1", 2, 0), *affine_relu("b1"), self._convolution("b2", 1, 1),
            self._affine("b2"), None, None, ("avg_pool_2", integers(2, 2, 2, 2, 0, 0)), ("add_prev_", b""),
            ("relu_", b""), ("avg_pool_2", integers(0, 0, 1, 1, 0, 0)), self._last(),
        ]  # fmt: skip
        found = []
        for layer in named:
            if layer is None:
                found.append((1, b""))
            else:
                version = 2 if found else 3
                rest = b"110" + 3 * tensor() + (integer(1) if version == 3 else b"")
                found.append((version, text(layer[0]) + layer[1] + rest))
        return found

    def to_bytes(self, layers: list[tuple[int, bytes]] | None = None) -> bytes:
        """The file; `layers` instead of its own ones."""
        layers = self.layers() if layers is None else layers
        head = integer(1) + text("loss_metric_2") + number(0.04) + number(0.6)
        head += integers(*(version for version, _ in reversed(layers)))
        head += text("input_rgb_image_sized") + b"".join(map(number, MEAN))
        return head + integers(self.size, self.size) + b"".join(data for _, data in layers)

    def network(self) -> GraphNetwork:
        """As the package reads it."""
        return GraphNetwork(*read_dlib_resnet(self.to_bytes()))

    def _convolution(self, name: str, stride: int, padding: int) -> tuple[str, bytes]:
        filters, biases = self.weights[f"{name}.filters"], self.weights[f"{name}.biases"]
        values = torch.cat([filters.flatten(), biases]).numpy()
        count = len(filters)
        details = integers(count, 3, 3, stride, stride, padding, padding)
        details += integers(1, *filters.shape) + integers(1, 1, count, 1, 1)
        return "con_4", tensor(values) + details + b"".join(map(number, (1, 1, 1, 0)))

    def _affine(self, name: str) -> tuple[str, bytes]:
        gamma, beta = self.weights[f"{name}.gamma"], self.weights[f"{name}.beta"]
        values, count = torch.cat([gamma, beta]).numpy(), len(gamma)
        return "affine_", tensor(values) + integers(1, 1, count, 1, 1, 1, 1, count, 1, 1, 0)

    def _last(self) -> tuple[str, bytes]:
        inputs, outputs = matrix = self.weights["matrix"].shape
        data = integers(outputs, inputs) + tensor(self.weights["matrix"].numpy())
        data += integers(1, *matrix, 1, 1, 1, 0, 0, 0, 0, 1)
        return "fc_2", data + b"".join(map(number, (1, 1, 1, 0)))


def use_small_recognition(monkeypatch: pytest.MonkeyPatch) -> FaceRecognition:
    """Let every recognition network that is loaded be a small one, with embeddings as long as the real's."""
    network = FaceRecognition(SmallResnet(size=150, embedding=128).network())
    monkeypatch.setattr(FaceRecognition, "load", staticmethod(lambda *args: network))
    return network
