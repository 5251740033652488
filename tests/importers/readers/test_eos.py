"""eos: its blendshapes, and files that claim more than they hold."""

import struct

import numpy as np
import torch

from mofa_nvdr.importers.foreign import ImportOptions
from mofa_nvdr.importers.formats import import_model
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import refused


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
