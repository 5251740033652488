"""Reading .tflite files: each operation against a result by hand, and one line for what is not read."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mofa_nvdr.networks.graph import GraphNetwork
from mofa_nvdr.networks.tflite import read_tflite
from tests.helpers import small_tflite as t


def run(data: bytes, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return GraphNetwork(*read_tflite(data))(images)


def ramp(size: int) -> torch.Tensor:
    """An image whose channels are row, column and 1."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack([y, x, torch.ones_like(y)])[None].float()


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, "<f4")


class TestByHand:
    def test_same_convolution_reaches_further_after(self):
        """A 3x3 window at stride 2 of an even image begins at its first pixel, as TensorFlow has it."""
        m = t.SmallModel(8)
        kernel = np.zeros((1, 3, 3, 3), "<f4")
        kernel[0, 0, 0, 0], kernel[0, 2, 2, 1] = (
            1,
            10,
        )  # row at the window's top left, column at its last
        x = m.step(t.CONV, [0, m.constant(kernel)], [1, 4, 4, 1], t.conv_options(2))
        (found,) = run(m.data([x]), ramp(8))
        columns = torch.tensor([2.0, 4, 6, 0]) * 10  # the last window is beyond the image
        expected = 2 * torch.arange(4.0)[:, None] + columns
        expected[3] = 6  # and the last row of windows
        assert torch.equal(found, expected.reshape(1, 1, 16).reshape(1, 16, 1))

    def test_depthwise_convolution(self):
        m = t.SmallModel(4)
        kernel = np.array([2, 3, 5], "<f4").reshape(1, 1, 1, 3)
        bias = np.array([0, 1, 2], "<f4")
        inputs = [0, m.constant(kernel), m.constant(bias)]
        x = m.step(t.DEPTHWISE, inputs, [1, 4, 4, 3], t.depthwise_options(1, t.VALID))
        (found,) = run(m.data([x]), ramp(4))
        assert found[0, 7].tolist() == [2.0, 3 * 3 + 1, 7]  # pixel 7: row 1, column 3

    def test_prelu_and_relu(self):
        m = t.SmallModel(2)
        slopes = m.constant(np.array([0.5, 0.25, -1], "<f4").reshape(1, 1, 3))
        a, b = m.step(t.PRELU, [0, slopes], [1, 2, 2, 3]), m.step(t.RELU, [0], [1, 2, 2, 3])
        found = run(m.data([a, b]), -ramp(2))
        assert found[0][0, 3].tolist() == [-0.5, -0.25, 1.0]
        assert found[1].count_nonzero() == 0

    def test_upsampling_is_between_pixel_centres(self):
        m = t.SmallModel(2)
        size = m.constant(np.array([4, 4], "<i4"))
        x = m.step(t.RESIZE, [0, size], [1, 4, 4, 3], {3: t.Number("<b", 1)})
        (found,) = run(m.data([x]), ramp(2))
        assert found[0, :4, 1].tolist() == [0.0, 0.25, 0.75, 1.0]

    def test_activation_in_a_convolution(self):
        m = t.SmallModel(2)
        kernel = -np.ones((1, 1, 1, 3), "<f4")
        x = m.step(t.CONV, [0, m.constant(kernel)], [1, 2, 2, 1], t.conv_options(1, activation=1))
        (found,) = run(m.data([x]), ramp(2))
        assert found.count_nonzero() == 0


class TestAllKinds:
    def test_batches_and_shapes(self):
        images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        rows, maps = run(t.small_model(), images)
        assert rows.shape == (3, 16, 3) and maps.shape == (3, 16, 6)
        alone, _ = run(t.small_model(), images[1:2])
        assert torch.allclose(alone[0], rows[1], atol=1e-4)
        assert torch.equal(rows[:, :8], rows[:, 8:])

    def test_first_layer_against_torch(self):
        graph, tensors = read_tflite(t.small_model())
        assert [o.kind for o in graph.operations][:5] == ["conv", "conv", "prelu", "add", "relu"]
        weight, bias = (tensors[f"{graph.operations[0].output}.{n}"] for n in ("weight", "bias"))
        assert weight.dtype == torch.float16  # as precise as in the file
        images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        network = GraphNetwork(graph, tensors)
        found = network.layers[graph.operations[0].output](images)
        expected = F.conv2d(F.pad(images, (0, 1, 0, 1)), weight.float(), bias, 2)
        assert torch.allclose(found, expected, atol=1e-6)


class TestMistakes:
    def refused(self, data: bytes) -> str:
        with pytest.raises(ValueError, match="file") as caught:
            read_tflite(data)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_not_a_tflite_file(self):
        assert self.refused(b"PK\3\4 something else") == "not a .tflite file"
        assert self.refused(b"") == "not a .tflite file"

    @pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
    def test_cut_off(self, part):
        data = t.small_model()
        assert "damaged" in self.refused(data[: int(part * len(data))])

    def test_random_damage_is_refused_or_read(self):
        data, rng = t.small_model(), np.random.default_rng(0)
        for _ in range(200):
            broken = bytearray(data)
            broken[rng.integers(8, len(data))] = rng.integers(256)
            try:
                GraphNetwork(*read_tflite(bytes(broken)))
            except ValueError as error:
                assert str(error)

    def _one(self, code: int, shape: list[int], options=None, *constants) -> bytes:
        m = t.SmallModel(4)
        return m.data([m.step(code, [0, *[m.constant(c) for c in constants]], shape, options)])

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (lambda s: s._one(t.TANH, [1, 4, 4, 3]), "operation 28"),
            (
                lambda s: s._one(
                    t.CONV, [1, 4, 4, 1], t.conv_options(1, activation=4), _zeros(1, 1, 1, 3)
                ),
                "activation 4",
            ),
            (
                lambda s: s._one(
                    t.DEPTHWISE,
                    [1, 4, 4, 6],
                    t.depthwise_options(1, multiplier=2),
                    _zeros(1, 1, 1, 6),
                ),
                "several filters",
            ),
            (
                lambda s: s._one(
                    t.PAD, [1, 6, 4, 3], None, np.array([[0, 0], [1, 1], [0, 0], [0, 0]], "<i4")
                ),
                "margins of other things than channels",
            ),
            (lambda s: s._one(t.RESIZE, [1, 8, 8, 3], None, np.array([8, 8], "<i4")), "centred 0"),
            (lambda s: s._one(t.RESHAPE, [1, 2, 8, 3]), "a reshape"),
            (lambda s: s._one(t.CONCAT, [1, 4, 4, 3], {0: t.Number("<i", 3)}), "a concatenation"),
            (lambda s: s._one(t.PRELU, [1, 4, 4, 3], None, np.ones((4, 4, 3), "<f4")), "a PReLU"),
            (lambda s: s._one(t.PRELU, [1, 4, 4, 3], None, np.ones((1, 1, 3), "u1")), "weights of type 3"),
            (lambda s: t.SmallModel(4, channels=1).data([0]), "an image of 1 channels"),
            (lambda s: t.SmallModel(4).data([0], graphs=2), "2 graphs"),
        ],
    )  # fmt: skip
    def test_what_is_not_read_is_named(self, data, words):
        assert words in self.refused(data(self))
