"""Files that appear complete or not at all, and what is said where none can be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mofa_nvdr.system.files import (
    cannot_write,
    check_folder_of,
    check_model_out,
    check_out,
    make_folders,
    named_errors,
    read_json_lines,
    remove_abandoned,
    replacing,
    replacing_by_library,
    working_folder,
    write_bytes,
    write_files,
    write_text,
)


class TestReplacing:
    def test_appears_at_the_end(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("before")
        with replacing(path) as temporary:
            assert temporary.parent == tmp_path and temporary.name.startswith(".a.txt.mofa-")
            assert temporary.name.endswith(".tmp") and f"-{os.getpid()}-" in temporary.name
            temporary.write_text("after")
            assert path.read_text() == "before"
        assert path.read_text() == "after" and os.listdir(tmp_path) == ["a.txt"]

    def test_an_error_leaves_the_old_one(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("before")
        with pytest.raises(KeyError), replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError
        assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.txt"]

    def test_nothing_written(self, tmp_path):
        with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
            pass
        assert os.listdir(tmp_path) == []

    def test_a_folder_in_its_place(self, tmp_path):
        (tmp_path / "a.txt").mkdir()
        with pytest.raises(OSError), replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("after")
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_each_has_a_name_of_its_own(self, tmp_path):
        path = tmp_path / "a.txt"
        with replacing(path) as one, replacing(path) as other:
            assert one != other
            one.write_text("first")
            other.write_text("second")
        assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.txt"]

    def test_the_longest_name_of_a_file_system(self, tmp_path):
        path = tmp_path / ("é" * 125 + ".txt")  # 254 bytes
        with replacing(path) as temporary:
            temporary.write_text("after")
        assert path.read_text() == "after"


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes of POSIX")
class TestReplacingByLibrary:
    def test_as_other_new_files(self, tmp_path):
        path = tmp_path / "a.txt"
        before = os.umask(0o022)
        try:
            with replacing_by_library(path) as temporary:
                temporary.unlink()
                temporary.with_name(".tmpAbC123").write_text("half")  # what a library leaves
                temporary.write_text("a library's")
                temporary.chmod(0o600)
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o644 and path.read_text() == "a library's"
        assert os.listdir(tmp_path) == ["a.txt"]


class TestWorkingFolder:
    def test_goes_with_all_that_is_in_it(self, tmp_path):
        with working_folder(tmp_path / "a.npz") as folder:
            (folder / "x").write_text("x")
        assert os.listdir(tmp_path) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from mofa_nvdr.system.files import replacing, replacing_by_library
with replacing(Path(sys.argv[1])) as one, replacing_by_library(Path(sys.argv[1])) as two:
    one.write_text("half")
    two.with_name(".tmpAbC123").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
class TestRemoveAbandoned:
    def test_what_a_killed_process_left_goes_at_the_next_start(self, tmp_path):
        subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "a.txt")])
        left = os.listdir(tmp_path)
        assert len(left) == 2 and all(name.startswith(".a.txt.mofa-") for name in left)
        write_text(tmp_path / "b.txt", "whole")
        assert os.listdir(tmp_path) == ["b.txt"]

    def test_what_others_may_still_write_stays(self, tmp_path):
        """Of a living process, of another machine, and what is not ours."""
        own = next(iter(self._names(tmp_path)))
        machine = own.split(".mofa-")[1][:4]
        other = f"{int(machine, 16) ^ 1:04x}"
        alive, foreign, old = (
            tmp_path / f".x.mofa-{m}-{p}-0.tmp"
            for m, p in ((machine, os.getppid()), (other, 2**22 + 5), (other, 2**22 + 6))
        )
        before = tmp_path / f".x.mofa-{machine}-{os.getpid()}-0.tmp"  # this number's former process
        theirs = [tmp_path / name for name in ("a.tmp", ".tmpAbC123", ".x.mofa-1-0.tmp")]
        for path in (alive, foreign, old, before, *theirs):
            path.write_text("x")
        for path in (old, before):
            os.utime(path, (0, 0))
        assert sorted(remove_abandoned(tmp_path)) == sorted([old, before])
        assert all(path.exists() for path in (alive, foreign, *theirs))

    @staticmethod
    def _names(folder):
        with replacing(folder / "x") as temporary:
            temporary.write_text("")
            yield temporary.name


class TestWriteFiles:
    def test_all_or_none(self, tmp_path):
        """The second can't be written: the first doesn't appear, an old one stays as it was."""
        (tmp_path / "old").write_bytes(b"before")
        with pytest.raises(OSError, match="nowhere"):
            write_files({tmp_path / "old": b"after", tmp_path / "nowhere" / "b": b"b"})
        assert (tmp_path / "old").read_bytes() == b"before"
        assert [p.name for p in tmp_path.iterdir()] == ["old"]
        write_files({tmp_path / "old": b"after", tmp_path / "b": b"b"})
        assert (tmp_path / "old").read_bytes() == b"after"


class TestReadJsonLines:
    def test_objects_in_order(self, tmp_path):
        path = tmp_path / "log.jsonl"
        path.write_text('{"step": 1}\n[2]\n\n{"step": 3}\n{"st')  # stopped while writing
        assert read_json_lines(path) == [{"step": 1}, {"step": 3}]

    def test_bytes_that_are_no_text(self, tmp_path):
        (tmp_path / "log.jsonl").write_bytes(b'{"a": 1}\n\xff\xfe\n{"b": 2}\n')
        assert read_json_lines(tmp_path / "log.jsonl") == [{"a": 1}, {"b": 2}]

    def test_missing(self, tmp_path):
        assert read_json_lines(tmp_path / "log.jsonl") == []


class TestMakeFolders:
    def test_makes_them_once(self, tmp_path):
        for _ in range(2):
            folder = make_folders(str(tmp_path / "a" / "b"), "", "images")
            assert folder == tmp_path / "a" / "b" and (folder / "images").is_dir()

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "a").write_text("")
        out = tmp_path / "a" / "b"
        with pytest.raises(ValueError) as error:
            make_folders(str(out), "images")
        said = f"--out {out}: cannot write there (Not a directory); give another folder"
        assert str(error.value) == said


class TestWords:
    def test_cannot_write(self):
        said = "--out run: cannot write there ({}); give another folder"
        full = OSError(errno.ENOSPC, "No space left on device")
        assert cannot_write(Path("run"), full) == said.format("No space left on device")
        assert cannot_write(Path("run"), OSError("odd")) == said.format("odd")

    def test_check_folder_of(self, tmp_path):
        check_folder_of(tmp_path / "a.png")
        with pytest.raises(
            ValueError, match=r"--out .*a\.png: cannot write there \(there is no folder"
        ):
            check_folder_of(tmp_path / "no" / "a.png")

    def test_check_model_out(self, tmp_path):
        check_model_out(tmp_path / "a.safetensors")
        (tmp_path / "b.safetensors").mkdir()
        for name, reason in (
            ("a.npz", "expected a .safetensors file"),
            ("no/a.safetensors", "no such folder"),
            ("b.safetensors", "a folder, expected a file"),
        ):
            with pytest.raises(ValueError, match=f"--out .*: {reason}"):
                check_model_out(tmp_path / name)

    def test_check_out(self):
        check_out("run")
        with pytest.raises(ValueError, match="--out is empty, expected a folder"):
            check_out("")


class TestNamedErrors:
    def test_where_what_is_safe_and_the_way_out(self):
        safe = []
        with pytest.raises(OSError) as error, named_errors(Path("run"), lambda: safe[0]):
            safe.append("step 7 is safe")  # known only later
            raise OSError(errno.ENOSPC, "No space left on device")
        assert str(error.value) == (
            "run: cannot write there any more (No space left on device); step 7 is safe; free some "
            "space or repair the folder, then the same command resumes"
        )

    @pytest.mark.parametrize("kind", [BrokenPipeError, KeyError])
    def test_others_pass(self, kind):
        with pytest.raises(kind) as error, named_errors(Path("run"), str):
            raise kind("its own")
        assert error.value.args == ("its own",)


class TestWriteText:
    def test_utf_8_whatever_the_locale(self, tmp_path):
        write_text(tmp_path / "a.txt", "gr\u00fcn\n")
        assert (tmp_path / "a.txt").read_bytes() == b"gr\xc3\xbcn\n"

    def test_a_full_disk(self, tmp_path, monkeypatch):
        def full(self, data):
            self.touch()
            raise OSError(errno.ENOSPC, "No space left on device")

        write_bytes(tmp_path / "a", b"before")
        monkeypatch.setattr(Path, "write_bytes", full)
        for write, data in ((write_bytes, b"after"), (write_text, "after")):
            with pytest.raises(OSError, match="No space left"):
                write(tmp_path / "a", data)
        assert (tmp_path / "a").read_bytes() == b"before" and os.listdir(tmp_path) == ["a"]
