"""What one file may ask of the machine."""

import pytest

from mofa_nvdr.system import budget
from mofa_nvdr.system.budget import Budget, printable, read_text, words_of


class TestBudget:
    def test_allowance_and_share(self):
        assert Budget("a", 0).whole == 64 * 2**20
        assert Budget("a", 2**20).whole == (64 + 16) * 2**20
        assert Budget("a", 2**30).whole == 4 * 2**30

    def test_parts_add_up(self):
        room = Budget("a.npz", 0)
        room.take_array("x", (1000, 1000), 8)
        room.take_array("y", (7, 1000, 1000), 8)
        with pytest.raises(
            ValueError, match=r"^a\.npz: z \[1000, 1000\] unfolds into 8 MB, with the"
        ):
            room.take_array("z", (1000, 1000), 8)
        room.take_array("small", (100,), 8)  # what does not fit takes nothing

    def test_an_element_counts_whatever_its_size(self):
        """Texts of no characters have no bytes, and take time all the same."""
        with pytest.raises(ValueError, match="unfolds into"):
            Budget("a", 0).take_array("x", (2**40,), 0)

    def test_products_do_not_overflow(self):
        with pytest.raises(
            ValueError, match=r"x \[4294967296, 4294967296\] unfolds into 7.38e\+10 GB"
        ):
            Budget("a", 0).take_array("x", (2**32, 2**32), 4)

    def test_negative(self):
        with pytest.raises(ValueError, match=r"a: x is \[-1\], a size below 0"):
            Budget("a", 0).take_array("x", (-1,), 4)
        with pytest.raises(ValueError):
            Budget("a", 0).take("x", -5)

    def test_largest_file_and_kind_of_error(self, tmp_path):
        class Mine(ValueError):
            pass

        with pytest.raises(Mine, match=r"^a: 5 GB, more than the 4.29 GB of any file"):
            Budget("a", 5 * 10**9, Mine)
        with pytest.raises(Mine, match="a: 10001 members in it, expected at most 10000"):
            Budget("a", 1, Mine).members(10_001)
        (tmp_path / "b").write_bytes(bytes(5))
        assert Budget(tmp_path / "b").left == budget.ALLOWANCE + 16 * 5
        with pytest.raises(FileNotFoundError):
            Budget(tmp_path / "none")


class TestReadText:
    def test_as_it_is(self, tmp_path):
        (tmp_path / "a").write_bytes("\ufeffé".encode())
        assert read_text(tmp_path / "a") == "é"

    def test_refused(self, tmp_path, monkeypatch):
        (tmp_path / "a").write_bytes(b"ab\xff")
        with pytest.raises(ValueError, match=r"a: not a text in UTF-8 \(byte 2 is 0xff\)"):
            read_text(tmp_path / "a")
        monkeypatch.setattr(budget, "MOST_TEXT", 2)
        with pytest.raises(ValueError, match="a: more than the 2 bytes that such a text may have"):
            read_text(tmp_path / "a")


class TestPrintable:
    def test_control_characters_are_escaped(self):
        assert printable("a\nb\x1b[31m\x9b\u2028\u202e\ud800é") == (
            r"a\nb\x1b[31m\x9b\u2028\u202e\ud800é"
        )

    def test_length(self):
        assert printable("abcdef", 3) == "abc..." and printable("abc", 3) == "abc"


class TestWordsOf:
    def test_one_line(self):
        assert words_of(ValueError("a\n  b\x1b")) == r"a b\x1b"
        assert words_of(KeyError()) == "KeyError"
        assert len(words_of(ValueError("x" * 10**6))) == 203
