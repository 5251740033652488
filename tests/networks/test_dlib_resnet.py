"""dlib's .dat files: small ones against plain arithmetic, what is damaged or foreign in one line."""

import random

import pytest
import torch

from mofa_nvdr.networks.dlib_resnet import read_dlib_resnet
from mofa_nvdr.networks.graph import GraphNetwork
from tests.helpers.small_dlib import SmallResnet, integer, integers, number, text

FIRST = "not a face recognition network of dlib: "


def images(size: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def replaced(old: bytes, new: bytes) -> bytes:
    """The small file with the first of some bytes exchanged."""
    data = SmallResnet().to_bytes()
    assert old in data
    return data.replace(old, new, 1)


class TestValues:
    @pytest.mark.parametrize("size", [30, 31, 53, 150])
    @pytest.mark.parametrize("channels", [(4, 6), (6, 4), (5, 5)])
    def test_as_computed_plainly(self, size, channels):
        """The two sides of the last block differ in size or not, and in channels either way."""
        small = SmallResnet(3, size, channels)
        wanted = small.reference(images(size))
        for found, expected in zip(small.network()(images(size)), wanted):
            assert found.shape == expected.shape
            # Weights are kept in half precision: measured 2.8e-4 of the largest.
            assert (found - expected).abs().max() < 1e-3 * expected.abs().max()

    def test_the_rounding_is_all_that_differs(self):
        """With weights that half precision holds exactly, up to the rounding of float32."""
        small = SmallResnet()
        for name, values in small.weights.items():
            exact = torch.ones_like(values) if name.endswith("gamma") else values.half().float()
            small.weights[name] = exact
        small.weights["first.filters"] = torch.randint(
            -3, 4, small.weights["first.filters"].shape, generator=torch.Generator().manual_seed(2)
        ) * (256 / 255)  # what it is multiplied by is in the filters
        for found, expected in zip(small.network()(images(30)), small.reference(images(30))):
            # Measured 3e-7.
            assert (found - expected).abs().max() < 2e-6 * expected.abs().max()

    def test_precision_of_the_file(self):
        _, tensors = read_dlib_resnet(SmallResnet().to_bytes())
        kinds = {name.rpartition(".")[2]: values.dtype for name, values in tensors.items()}
        assert kinds == {"weight": torch.float16, "bias": torch.float32}

    def test_numbers(self):
        """The writer of these tests against bytes worked out by hand."""
        assert integer(0) == b"\x01\x00" and integer(-2) == b"\x81\x02"
        assert integers(1, 300) == b"\x01\x01\x02\x2c\x01"
        assert number(0.75) == integers(3 << 51, -53)
        assert text("ab") == b"\x01\x02ab"


class TestRefused:
    def refused(self, data: bytes, words: str) -> None:
        with pytest.raises(ValueError, match=words) as caught:
            read_dlib_resnet(data)
        assert str(caught.value).startswith(FIRST) and "\n" not in str(caught.value)

    @pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.9999])
    def test_cut_off(self, part):
        data = SmallResnet().to_bytes()
        self.refused(data[: int(part * len(data))], "it ends too early|no integer|no finite")

    def test_longer(self):
        self.refused(SmallResnet().to_bytes() + b"1", "something follows the network")

    def test_foreign(self):
        self.refused(b"PK\x03\x04" + bytes(1000), "no integer at byte 0")
        self.refused(b"\x01\x01" + text("loss_mmod_"), "'loss_mmod_' where 'loss_metric_2' should")
        self.refused(b"\x01\x01\x01\x7f", "no name at byte 4")

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            (text("relu_"), text("prelu"), "a layer 'prelu'"),
            (text("input_rgb_image_sized"), text("input_rgb_image"), "'input_rgb_image' where"),
            (number(0.6), integers(1, 32000), "no finite number before byte"),
            (number(0.6), integers(1 << 60, 1000), "no finite number before byte"),
            (integers(30, 30), integers(30, 31), "pictures of 31 x 30 px"),
            (integers(30, 30), integers(5, 5), "a max_pool that leaves nothing|a window"),
            (integers(3, 3, 2, 2, 0, 0), integers(3, 3, 0, 2, 0, 0), r"stride \[0, 2\]"),
            (integers(3, 3, 2, 2, 0, 0), integers(3, 3, 2, 2, 3, 0), r"margins \[3, 0\]"),
            (integers(2, 2, 2, 2, 0, 0), integers(2, 2, 2, 2, 1, 1), "more than the picture"),
            (integers(1, 4, 3, 3, 3), integers(1, 4, 5, 3, 3), "for 3 channels"),
            (integers(4, 3, 3, 2, 2), integers(5, 3, 3, 2, 2), "filters .* for 3 channels"),
            (integers(2, 112, 1, 1, 1), integers(2, 1 << 30, 1, 1, 1), "a tensor of version 2"),
            (integers(2, 112, 1, 1, 1), integers(1, 112, 1, 1, 1), "a tensor of version 1"),
            (integers(1, 1, 4, 1, 1, 0), integers(1, 1, 4, 1, 1, 1), "an affine layer that"),
            (
                integers(6, 5, 1, 1, 1, 0, 0, 0, 0, 1),
                integers(6, 5, 1, 1, 1, 0, 0, 0, 0, 0),
                "a last layer .* without biases",
            ),
            (b"110", b"11x", "no flags at byte"),
            (integers(4, 3, 3, 2, 2, 0, 0), integers(4, 3, 3, 2, 2, 1, 1), "a first layer that"),
        ],
    )
    def test_changed(self, old, new, words):
        self.refused(replaced(old, new), words)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda layers: layers.pop(), "the last layer is missing"),
            (lambda layers: layers.append(layers[2]), "'relu_' behind the last one"),
            (lambda layers: layers.insert(4, (1, b"")), "tags that make no residual block"),
            (lambda layers: layers.pop(4), "a sum of one value"),
            (lambda layers: layers.insert(13, (1, b"")), "tags that make no residual block"),
            (lambda layers: layers.insert(1, (7, b"")), "layer .* of version 7"),
            (lambda layers: layers.extend([(2, b"")] * 1000), "layer 1000 of version 2"),
        ],
    )
    def test_other_orders(self, change, words):
        layers = SmallResnet().layers()
        change(layers)
        self.refused(SmallResnet().to_bytes(layers), words)

    def test_weights_that_are_not_finite_or_too_large(self):
        for value, words in ((float("nan"), "not finite"), (1e6, "beyond half precision")):
            small = SmallResnet()
            small.weights["a1.filters"][0, 0, 0, 0] = value
            self.refused(small.to_bytes(), words)

    def test_mutations(self):
        """A changed byte is a changed weight, or one line; nothing else, and never much memory."""
        data, rng = SmallResnet().to_bytes(), random.Random(0)
        outcomes = []
        for _ in range(400):
            changed = bytearray(data)
            for _ in range(rng.choice((1, 3))):
                changed[rng.randrange(len(data))] = rng.randrange(256)
            try:
                network = GraphNetwork(*read_dlib_resnet(bytes(changed)))
                outcomes.append(network.graph.outputs == ("features", "embedding"))
            except ValueError as error:
                assert str(error).startswith(FIRST) and "\n" not in str(error)
                outcomes.append(False)
        assert 50 < sum(outcomes) < 350
