"""A reader in a limited child: what it hands over, and what is said when it ends."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mofa_nvdr.system.confined import ReaderError, read_arrays

_READER = """
import os, time
import numpy as np
from mofa_nvdr.system.confined import serve

def read(path, request):
    what = request["what"]
    if what == "arrays":
        yield "a", np.arange(6, dtype=np.float32).reshape(2, 3).T
        yield "none", np.empty((0, 3))
        yield "file", np.frombuffer(open(path, "rb").read(), np.uint8)
    if what == "refuse":
        raise KeyError("it is\\nbroken\\x1b")
    if what == "crash":
        os.abort()
    if what == "leave":
        os._exit(3)
    if what == "memory":
        yield "a", np.ones(10**9)
    if what == "claim":
        yield "a", np.zeros(10**7)
    if what == "spin":
        while True:
            pass
    if what == "write":
        with open(request["out"], "w") as file:
            file.write("x" * 100)
    if what == "many":
        for k in range(5000):
            yield f"{k}", np.zeros(1)
    if what == "long":
        for k in range(4000):
            yield f"{k}" + "x" * 5000, np.zeros(1)
    if what == "pid":
        yield "pid", np.array(os.getpid())
        open(request["out"], "wb").close()
        time.sleep(60)

def main():
    serve(lambda request: None, read)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of this kind are Linux's")


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Call the reader above on a small file."""
    (tmp_path / "confined_test_reader.py").write_text(_READER)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "some.mat"
    path.write_bytes(b"abc")

    def call(what: str, **more: str):
        return read_arrays("confined_test_reader", path, {"what": what, **more})

    return call


class TestReadArrays:
    def test_values(self, read):
        found = read("arrays")
        assert found["a"].tolist() == [[0, 3], [1, 4], [2, 5]] and found["a"].dtype == np.float32
        assert found["none"].shape == (0, 3) and found["file"].tobytes() == b"abc"

    def test_refusal(self, read):
        with pytest.raises(ReaderError, match=r"^'it is\\nbroken\\x1b'$"):
            read("refuse")

    def test_the_child_ends(self, read):
        with pytest.raises(
            ReaderError, match="its reader was ended by SIGABRT: damaged, or made to"
        ):
            read("crash")
        with pytest.raises(ReaderError, match="its reader ended with status 3"):
            read("leave")

    @pytest.mark.parametrize("what", ["many", "long"])
    def test_more_names_than_any_model(self, read, what):
        with pytest.raises(ReaderError, match="more names in it than any face model has"):
            read(what)

    @linux
    def test_memory(self, read):
        with pytest.raises(ReaderError, match="more memory than a file of its size may take"):
            read("memory")

    def test_more_than_the_budget(self, read):
        with pytest.raises(ValueError, match=r"some\.mat: a \[10000000\] unfolds into 80 MB"):
            read("claim")

    @linux
    def test_time(self, read, monkeypatch):
        monkeypatch.setattr("mofa_nvdr.system.confined._SECONDS", 1.0)
        began = time.monotonic()
        with pytest.raises(ReaderError, match="reading it takes longer than any face model would"):
            read("spin")
        assert time.monotonic() - began < 60

    @linux
    def test_it_writes_nothing(self, read, tmp_path):
        with pytest.raises(ReaderError, match="."):
            read("write", out=str(tmp_path / "out"))
        assert not (tmp_path / "out").exists() or (tmp_path / "out").stat().st_size == 0

    @linux
    def test_it_dies_with_its_parent(self, read, tmp_path):
        mark = tmp_path / "mark"
        parent = os.fork()
        if parent == 0:
            try:
                read("pid", out=str(mark))
            finally:
                os._exit(0)
        while not mark.exists():
            time.sleep(0.02)
        children = _children(parent)
        assert len(children) == 1
        os.kill(parent, 9)
        os.waitpid(parent, 0)
        for _ in range(500):
            if not _alive(children[0]):
                break
            time.sleep(0.02)
        assert not _alive(children[0])

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_arrays("confined_test_reader", tmp_path / "none", {})


def _children(process: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            if int(text.rpartition(")")[2].split()[1]) == process:
                found.append(int(name))
    return found


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
