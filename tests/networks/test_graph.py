"""Networks as files: what comes back, what is refused, precision."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mofa_nvdr.networks.graph import (
    WEIGHTS,
    Graph,
    GraphNetwork,
    Operation,
    load_network,
    network_bytes,
    read_facts,
)
from mofa_nvdr.networks.tflite import read_tflite
from tests.helpers.small_tflite import small_model


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.safetensors"
    path.write_bytes(network_bytes(*read_tflite(small_model()), {"licence": "none"}))
    return path


class TestFile:
    def test_the_same_network_comes_back(self, file, images):
        network, again = GraphNetwork(*read_tflite(small_model())), load_network(file)
        assert again.graph == network.graph and again.graph.size == (8, 8)
        for found, expected in zip(again(images), network(images)):
            assert torch.equal(found, expected)
        assert read_facts(file)["licence"] == "none"
        assert not any(p.requires_grad for p in again.parameters())

    def test_missing_cut_or_another_file(self, file, tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            load_network(tmp_path / "none.safetensors")
        other = tmp_path / "other.safetensors"
        save_file({"weight": torch.zeros(3)}, other)
        with pytest.raises(ValueError, match="not a network of this version"):
            load_network(other)
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(ValueError, match=r"small\.safetensors: damaged"):
            load_network(file)

    def test_one_changed_bit(self, file):
        """It would be another network; files from before the digest was written are taken as they are."""
        data = file.read_bytes()
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        with pytest.raises(ValueError, match=r"small\.safetensors: damaged \(its weights are not"):
            load_network(file)
        facts = read_facts(file)
        del facts[WEIGHTS]
        save_file(load_file(file), file, facts)
        load_network(file)


ENLARGE = {"kind": "upsample", "inputs": ["image"], "output": "large", "settings": {"factor": 8}}


class TestGraph:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda f: f["operations"][0].update(kind="exec"),
                "'exec' that this version does not know",
            ),
            (lambda f: f["operations"][0]["settings"].pop("pads"), "does not know"),
            (
                lambda f: f["operations"][0].update(inputs=["nothing"]),
                "takes a value that nothing makes",
            ),
            (lambda f: f.update(outputs=["nothing"]), "an output that nothing makes"),
            (lambda f: f.pop("size"), "not the description of a network"),
            (lambda f: f["operations"][0].update(settings=[1]), "not the description of a network"),
            (lambda f: f.update(size=[1e999, 8]), "not the description of a network"),
            (lambda f: f.update(size=[8, 0]), "images of 8 x 0 px, expected 1 to 2048"),
            (lambda f: f.update(size=[20_000, 8]), "images of 20000 x 8 px, expected 1 to 2048"),
            (
                lambda f: f["operations"][0]["settings"].update(pads=[0, 2**40, 0, 0]),
                r"has pads \[0, 1099511627776, 0, 0\], expected whole numbers from 0 to 256$",
            ),
            (
                lambda f: f["operations"][0]["settings"].update(stride=[1, 0]),
                "numbers from 1 to 64$",
            ),
            (
                lambda f: f["operations"][0]["settings"].update(groups="\x1b[31m"),
                r"has groups \\x1b",
            ),
            (lambda f: f["operations"].extend(3 * [ENLARGE]), "enlarged 128 times, expected 64 at"),
        ],
    )
    def test_damaged_descriptions(self, change, words):
        graph, _ = read_tflite(small_model())
        facts = json.loads(graph.to_json())
        change(facts)
        with pytest.raises(ValueError, match=words):
            Graph.from_json(json.dumps(facts))
        with pytest.raises(ValueError, match="not the description"):
            Graph.from_json("{")

    def test_a_file_whose_weights_do_not_fit(self, file, tmp_path):
        facts = read_facts(file)
        tensors = load_file(file)
        name = next(name for name in tensors if name.endswith(".bias"))
        save_file({**tensors, name: tensors[name][:1]}, tmp_path / "b.safetensors", facts)
        with pytest.raises(ValueError, match=r"b\.safetensors: conv .* is damaged"):
            load_network(tmp_path / "b.safetensors")

    @pytest.mark.parametrize("kind", ["weight", "bias"])
    def test_weights_that_are_missing_or_do_not_fit(self, kind):
        graph, tensors = read_tflite(small_model())
        name = f"{graph.operations[0].output}.{kind}"
        with pytest.raises(ValueError, match="conv .* is damaged"):
            GraphNetwork(graph, {k: v for k, v in tensors.items() if k != name})
        with pytest.raises(ValueError, match="conv .* is damaged"):
            GraphNetwork(graph, {**tensors, name: tensors[name][:1, ..., None]})


class TestPrecision:
    @pytest.mark.parametrize(
        ("dtype", "most"),
        [
            (torch.bfloat16, 0.02),
            (torch.float16, 0.002),
        ],  # measured 0.006 and 0.0005 of the largest
    )
    def test_lower(self, dtype, most, images):
        """Close to float32, in float32, with the last layers as they were."""
        exact = GraphNetwork(*read_tflite(small_model()))(images)
        network = GraphNetwork(*read_tflite(small_model())).lower(dtype)
        found = network(images.to(dtype))
        for got, want in zip(found, exact):
            assert got.dtype == torch.float32
            assert (got - want).abs().max() < most * want.abs().max()
        kinds = {p.dtype for p in network.parameters()}
        assert kinds == {torch.float32, dtype}


class TestKinds:
    """Operations that no .tflite file here has, by hand."""

    def run(self, kind: str, **settings: object) -> torch.Tensor:
        graph = Graph((2, 4), (Operation(kind, ("image",), "out", settings),), ("out",))
        image = torch.arange(24.0).reshape(1, 3, 2, 4)
        (found,) = GraphNetwork(Graph.from_json(graph.to_json()), {})(image)
        return found

    def test_mean(self):
        assert torch.equal(self.run("mean"), torch.tensor([3.5, 11.5, 19.5])[None, :, None, None])

    def test_avg_pool(self):
        found = self.run("avg_pool", kernel=[2, 2], stride=[2, 2])
        assert found[0, 0].tolist() == [[2.5, 4.5]] and found.shape == (1, 3, 1, 2)

    def test_pad(self):
        """Left, right, top, bottom."""
        found = self.run("pad", pads=[0, 1, 2, 0])
        assert found.shape == (1, 3, 4, 5)
        assert found[0, 0].tolist() == [[0] * 5, [0] * 5, [0, 1, 2, 3, 0], [4, 5, 6, 7, 0]]


class TestInPlace:
    """Maps that nobody reads any more give their memory, and the numbers are those of the layers."""

    def run(self, *operations: tuple[str, tuple[str, ...], str], outputs: tuple[str, ...]):
        graph = Graph((2, 4), tuple(Operation(*o, {}) for o in operations), outputs)
        network = GraphNetwork(graph, {})
        image = torch.arange(-12.0, 12.0).reshape(1, 3, 2, 4)
        kept = image.clone()
        with torch.no_grad():
            found = network(image)
        assert torch.equal(image, kept)  # it is the caller's
        want = network(image.requires_grad_())  # layer by layer
        assert all(torch.equal(a, b) for a, b in zip(found, want))
        return found

    def test_what_is_read_again_stays(self):
        positive, twice, both = self.run(
            ("relu", ("image",), "a"), ("add", ("a", "a"), "b"), ("add", ("a", "b"), "c"),
            outputs=("a", "b", "c"),
        )  # fmt: skip
        assert torch.equal(both, positive + twice) and positive.max() == 11

    def test_a_map_that_is_over(self):
        (found,) = self.run(
            ("relu", ("image",), "a"), ("add", ("a", "image"), "b"), ("relu", ("b",), "c"), outputs=("c",)
        )  # fmt: skip
        assert found.max() == 22 and found.min() == 0

    def test_memory_of_the_first_input_is_taken(self):
        graph = Graph(
            (2, 4),
            (Operation("relu", ("image",), "a", {}), Operation("relu", ("a",), "b", {})),
            ("b",),
        )
        network = GraphNetwork(graph, {})
        made: list[int] = []
        network.layers["a"].register_forward_hook(lambda *a: made.append(a[2].data_ptr()))
        with torch.no_grad():
            (found,) = network(torch.ones(1, 3, 2, 4))
        assert [found.data_ptr()] == made

    def test_rows_are_not_written_over(self):
        """They are another view of a map that something else may read."""
        graph = Graph(
            (2, 4),
            (
                Operation("relu", ("image",), "a", {}), Operation("rows", ("a",), "r", {"columns": 3}),
                Operation("relu", ("a",), "b", {}), Operation("add", ("b", "image"), "c", {}),
            ),
            ("r", "c"),
        )  # fmt: skip
        image = torch.arange(24.0).reshape(1, 3, 2, 4)
        with torch.no_grad():
            rows, _ = GraphNetwork(graph, {})(image)
        assert torch.equal(rows, image.permute(0, 2, 3, 1).reshape(1, 8, 3))
