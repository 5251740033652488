"""Whether an .onnx file names other files, by the encoding of the file alone."""

import pytest

from mofa_nvdr.networks.onnx_wire import NotOnnx, names_other_files


def field(number: int, body: bytes | int) -> bytes:
    if isinstance(body, int):
        return bytes([number << 3 & 127 | 128 if number > 15 else number << 3]) + (
            bytes([number >> 4]) if number > 15 else b""
        ) + bytes([body])  # fmt: skip
    return bytes([number << 3 | 2, len(body)]) + body


ENTRY = field(1, b"location") + field(2, b"weights.bin")


class TestNamesOtherFiles:
    @pytest.mark.parametrize(
        "path",
        [
            (7, 5),  # an initializer
            (7, 15, 1),  # a sparse one's values
            (7, 1, 5, 5),  # a node's attribute
            (7, 1, 5, 6, 5),  # of a graph in an attribute
        ],
    )
    def test_wherever_the_tensor_is(self, path):
        for inside, expected in (
            (field(13, ENTRY), True),
            (field(14, 1), True),
            (field(14, 0), False),
        ):
            body = field(8, b"name") + inside
            for number in reversed(path):
                body = field(number, body)
            assert names_other_files(body) is expected

    def test_what_only_looks_like_it(self):
        """The same numbers of fields in other messages mean other things."""
        assert not names_other_files(field(14, field(1, b"key")) + field(8, ENTRY))
        assert not names_other_files(b"")

    @pytest.mark.parametrize("data", [b"\x3a", b"\x3a\x05a", b"\xff" * 20, b"\x3b", b"\x39abc"])
    def test_damaged(self, data):
        with pytest.raises(NotOnnx):
            names_other_files(data)

    def test_graphs_within_graphs(self):
        import onnx

        graph = onnx.GraphProto()
        for _ in range(25):
            outer = onnx.GraphProto()
            node = outer.node.add()
            node.attribute.add().g.CopyFrom(graph)
            graph = outer
        with pytest.raises(NotOnnx, match="graphs within graphs"):
            names_other_files(onnx.ModelProto(graph=graph).SerializeToString())
