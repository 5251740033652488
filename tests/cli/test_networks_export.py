"""mofa-nvdr networks export."""

import pytest

from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line
from tests.helpers.small_networks import install_small_set


@pytest.fixture
def cache(tmp_path, monkeypatch):
    install_small_set(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


def test_networks_that_are_not_here(cache, capsys, tmp_path):
    pytest.importorskip("onnxruntime")
    line = error_line(capsys, "networks", "export", "small", "--out", str(tmp_path / "out"))
    assert line.endswith("get them with mofa-nvdr networks get small")
    assert not (tmp_path / "out").exists()


def test_into_one_call(monkeypatch, tmp_path):
    calls = calls_of(monkeypatch, "mofa_nvdr.apply.network_export.export_networks")
    assert main(["networks", "export", "landmarks", "--out", "o"]) == 0
    assert main(["networks", "export", "landmarks", "--out", "o", "--overwrite"]) == 0
    assert calls == [("landmarks", "o", False), ("landmarks", "o", True)]
