"""eos: its blendshapes, and files that claim more than they hold."""

import re
import struct

import numpy as np
import pytest
import torch

from mofa_nvdr.importers.foreign import ImportOptions, ModelFileError
from mofa_nvdr.importers.formats import import_model
from mofa_nvdr.importers.readers.eos import looks_like, read
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import refused


def _matrix(rows: int, columns: int) -> bytes:
    return struct.pack("<ii", rows, columns) + bytes(4 * rows * columns)


class TestRead:
    def test_eos_blendshapes(self, files, foreign, tmp_path, options):
        path = ff.write_eos_blendshapes(tmp_path / "expressions.bin", foreign)
        model, _ = import_model(
            "eos", files["eos"], ImportOptions(expressions=path, landmarks=options.landmarks)
        )
        assert list(model.named_expressions) == ["anger", "smile_L", "smile_R"]
        for k, coefficients in enumerate(model.named_expressions.values()):
            motion = torch.einsum("e,evc->vc", coefficients, model.expression_basis)
            np.testing.assert_allclose(motion.numpy(), foreign.expression[k], atol=1e-3)

    def test_eos_of_absurd_size(self, tmp_path, capsys):
        for rows in (3 * 10**8, 3 * 10**5):
            path = tmp_path / "a.bin"
            path.write_bytes(struct.pack("<Iii", 1, rows, 1) + b"\0" * 50)
            text = refused(capsys, tmp_path / "a.safetensors", "eos", path)
            assert "the file ends within the shape mean" in text

    def test_deviations_colours_and_coordinates(self, files, foreign):
        """Modes times roots of their variances; v counts downwards in the file."""
        model = read(files["eos"], ImportOptions(shape_modes=4))
        np.testing.assert_allclose(model.mean, foreign.mean, atol=1e-4)
        np.testing.assert_allclose(model.shape, foreign.shape[:4], atol=1e-5)
        np.testing.assert_allclose(model.mean_albedo, foreign.color, atol=1e-6)
        np.testing.assert_allclose(model.uv[0], [0, 1 - 1 / (2 * len(foreign.mean) - 1)])
        assert np.array_equal(model.polygons, foreign.triangles) and model.expression is None

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: struct.pack("<I", 99) + d[4:], "not an eos model (its version would be 99)"),
            (lambda d: d[:-1], "the file ends within the texture coordinates ("),
            (
                lambda d: (
                    d[:4]
                    + _matrix(0, 0) * 3
                    + struct.pack("<Q", 0)
                    + _matrix(0, 0) * 3
                    + struct.pack("<Q", 0)
                ),
                "no triangles in this file",
            ),
            (
                lambda d: (
                    d[:4] + _matrix(6, 1) + _matrix(3, 1) + _matrix(1, 1) + struct.pack("<Q", 0)
                ),
                "the shape basis is [3, 1] for a mean of 6 numbers",
            ),
            (lambda d: d[:2], "the file ends within the version (4 bytes wanted, 2 left)"),
            (
                lambda d: d[:4] + struct.pack("<ii", -3, 1) + d[12:],
                "the shape mean is -3 x 1: not an",
            ),
        ],
    )
    def test_wrong(self, files, tmp_path, change, message):
        path = tmp_path / "a.bin"
        path.write_bytes(change(files["eos"].read_bytes()))
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}")):
            read(path, ImportOptions())

    @pytest.mark.parametrize("number", [0, 4097])
    def test_numbers_of_blendshapes(self, files, tmp_path, number):
        path = tmp_path / "e.bin"
        path.write_bytes(struct.pack("<Q", number))
        message = f"{path}: {number} blendshapes; not an eos blendshape file"
        with pytest.raises(ModelFileError, match=re.escape(message)):
            read(files["eos"], ImportOptions(expressions=path))

    def test_blendshapes_that_are_not_finite(self, files, tmp_path, foreign):
        path = tmp_path / "e.bin"
        motion = struct.pack("<ii", 3 * len(foreign.mean), 1)
        motion += np.full(3 * len(foreign.mean), np.nan, "<f4").tobytes()
        path.write_bytes(struct.pack("<QQ", 1, 1) + b"a" + motion)
        with pytest.raises(ModelFileError, match=r"e\.bin: a holds numbers that are not finite"):
            read(files["eos"], ImportOptions(expressions=path))

    def test_a_file_that_cannot_be_read(self, tmp_path):
        with pytest.raises(
            ModelFileError, match=r"none\.bin: cannot read this file \(No such file"
        ):
            read(tmp_path / "none.bin", ImportOptions())

    def test_blendshapes_of_another_mesh(self, files, tmp_path, foreign):
        path = tmp_path / "e.bin"
        motion = struct.pack("<ii", 3, 1) + bytes(12)
        path.write_bytes(struct.pack("<QQ", 1, 1) + b"a" + motion)
        message = f"blendshape 'a' has 1 vertices, the model {len(foreign.mean)}"
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}")):
            read(files["eos"], ImportOptions(expressions=path))


class TestLooksLike:
    def test_by_its_first_numbers(self, files, tmp_path):
        assert looks_like(files["eos"])
        (tmp_path / "a").write_bytes(struct.pack("<Iii", 1, 4, 1))  # no multiple of three
        (tmp_path / "b").write_bytes(b"short")
        assert not any(looks_like(tmp_path / name) for name in "ab")
