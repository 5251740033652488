"""Networks of others as ONNX files: the same numbers in ONNX Runtime, all files or none."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply import network_export
from mofa_nvdr.apply.network_export import export_networks
from mofa_nvdr.networks.on_request import find_set, get_set, load_set
from tests.helpers.small_networks import install_small_set, write_wheel

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def here(tmp_path, monkeypatch):
    install_small_set(monkeypatch, tmp_path / "cache")
    get_set("small", [write_wheel(tmp_path)])


def test_the_same_in_onnx_runtime(here, tmp_path, capsys):
    paths = export_networks("small", str(tmp_path / "out"))
    assert [path.name for path in paths] == ["one.onnx", "two.onnx"]
    assert "one.onnx: opset 18, " in capsys.readouterr().out
    session = onnxruntime.InferenceSession(paths[0].read_bytes())
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    rows, maps = session.run(["rows", "maps"], {"image": images.numpy()})
    for found, expected in zip((rows, maps), load_set("small")["one"](images)):
        assert np.abs(found - expected.numpy()).max() < 1e-4  # measured 5e-6
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["input"] == "RGB in [0, 1], row 0 at the top"
    assert facts["source"] == "one.tflite of small-networks==1.0" and facts["licence"] == "MIT"


def test_one_that_disagrees_is_not_written(here, tmp_path, monkeypatch):
    """Here the second network's file is the first's."""
    of_one = network_export.network_to_onnx
    first = find_set("small").members[0]
    network = load_set("small")["one"]
    data = of_one(network, first, {})
    monkeypatch.setattr(network_export, "network_to_onnx", lambda *_: data)
    with pytest.raises(
        RuntimeError, match=r"rows of two differs from torch by .*; no file was written"
    ):
        export_networks("small", str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_only_its_own_files_are_replaced(here, tmp_path):
    out = tmp_path / "out"
    paths = export_networks("small", str(out))
    export_networks("small", str(out))
    before = paths[0].read_bytes()
    paths[1].write_bytes(b"mine")
    with pytest.raises(ValueError, match="two.onnx is there, and is no result of the same source"):
        export_networks("small", str(out))
    assert paths[1].read_bytes() == b"mine" and paths[0].read_bytes() == before
    paths[1].write_bytes(before)  # another network of the set is another source
    with pytest.raises(ValueError, match="two.onnx is there, and is no result of the same source"):
        export_networks("small", str(out))
    export_networks("small", str(out), overwrite=True)
    export_networks("small", str(out))


def test_empty_out(here):
    with pytest.raises(ValueError, match="--out is empty"):
        export_networks("small", "")
