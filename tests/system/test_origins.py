"""Origins: a result replaces its own, and nothing else."""

from __future__ import annotations

import hashlib

import pytest

from mofa_nvdr.system import origins
from mofa_nvdr.system.origins import check_free, content_hash, is_free, origin


def test_other_facts_are_another_origin():
    made = {origin("a"), origin("a", "b"), origin("b", "a"), origin(b"a"), origin("ab")}
    assert len(made) == 5 and origin("a", b"b") == origin("a", b"b")
    assert all(words.isascii() and len(words) == 49 for words in made)


def test_content_hash(tmp_path):
    data = bytes(range(256)) * 9000  # more than a block
    (tmp_path / "file").write_bytes(data)
    assert content_hash(tmp_path / "file") == hashlib.sha256(data).hexdigest()
    with pytest.raises(FileNotFoundError):
        content_hash(tmp_path / "none")


class TestIsFree:
    def test_what_is_there(self, tmp_path):
        own, of_another = origin("alice"), origin("bob")
        path = tmp_path / "a"
        assert is_free(path, own) and is_free(tmp_path, own)
        path.touch()
        assert is_free(path, own)  # an empty file holds nothing to lose
        path.write_text(f"# {own}\n")
        assert is_free(path, own) and not is_free(path, of_another)
        path.write_text("mine")
        assert not is_free(path, own)

    def test_a_link_that_leads_nowhere(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "none")
        assert not is_free(tmp_path / "link", origin("a"))

    @pytest.mark.parametrize("before", [0, 1, 20, 48, 49, 50, 2**10 - 20])
    def test_wherever_it_stands_in_a_large_file(self, tmp_path, monkeypatch, before):
        """Files are read in blocks, and the words may lie across two."""
        monkeypatch.setattr(origins, "_BLOCK", 64)
        own = origin("a")
        (tmp_path / "a").write_bytes(b"\0" * before + own.encode() + b"\0" * 300)
        assert is_free(tmp_path / "a", own) and not is_free(tmp_path / "a", origin("b"))


class TestCheckFree:
    def test_the_file_is_named(self, tmp_path):
        own = origin("a")
        (tmp_path / "own").write_text("mine")
        names = [tmp_path / "none", tmp_path / "own"]
        line = (
            r"--out o: .*own is there, and is no result of the same source; give another --out, or"
        )
        with pytest.raises(ValueError, match=line):
            check_free("o", names, own, overwrite=False)
        with pytest.raises(
            ValueError, match=r"^--json o: .*; give another --json, or --overwrite$"
        ):
            check_free("o", names, own, overwrite=False, flag="--json")
        check_free("o", names, own, overwrite=True)
        (tmp_path / "own").write_text(own)
        check_free("o", names, own, overwrite=False)

    def test_what_cannot_be_read(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(origins, "is_free", refuse)
        with pytest.raises(ValueError, match=r"--out o: cannot read .*a \(Permission denied\)"):
            check_free("o", [tmp_path / "a"], origin("a"), overwrite=False)
