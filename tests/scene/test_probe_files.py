"""Light probes by their ending."""

import numpy as np
import pytest

from mofa_nvdr.scene.hdr import write_hdr
from mofa_nvdr.scene.probe_files import is_probe, read_probe
from tests.helpers.exr import write_exr

VALUES = np.array([[[1.0, 0.5, 0.25]] * 8] * 4, np.float32)


def test_both_formats_hold_the_same(tmp_path):
    write_hdr(tmp_path / "a.HDR", VALUES)
    write_exr(tmp_path / "a.exr", dict(zip("RGB", VALUES.transpose(2, 0, 1))))
    for name in ("a.HDR", "a.exr"):
        assert is_probe(tmp_path / name)
        assert np.array_equal(read_probe(tmp_path / name), VALUES)


def test_another_ending(tmp_path):
    assert not is_probe("a.png")
    with pytest.raises(ValueError, match="^a.png: no light probe, expected .hdr, .*, .exr"):
        read_probe("a.png")
