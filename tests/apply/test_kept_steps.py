"""Steps that are kept: who may write them, what is gone on with, and what is damaged."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from mofa_nvdr.apply.kept_steps import kept_steps
from mofa_nvdr.system.locks import FolderInUse

COMMAND = "mofa-nvdr model learn"
ARRAYS = {"points": np.arange(6.0).reshape(2, 3), "name": np.array(["a.png", "b.png"])}


def never():
    raise AssertionError("made again")


@pytest.fixture
def out(tmp_path):
    """A result of which one step is kept."""
    with kept_steps(tmp_path / "m.safetensors", COMMAND) as steps:
        steps.begin("words")
        steps.keep("light 0", lambda: ARRAYS)
    return tmp_path / "m.safetensors"


class TestKeptSteps:
    def test_gone_on_with(self, out, capsys):
        with kept_steps(out, COMMAND) as steps:
            assert steps.begun
            steps.begin("words")
            assert f"going on with {steps.folder}\n" in capsys.readouterr().err
            kept = steps.keep("light 0", never)
            assert kept.keys() == ARRAYS.keys()
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(kept[name], array)
                assert kept[name].dtype == array.dtype
            steps.remove()
        assert not list(out.parent.iterdir())

    def test_of_something_else(self, out):
        folder = out.with_name("m.safetensors.learning")
        for words in (b"word\n", b"words and more\n", b"\xff\xfe", b"words" * 10**6):
            (folder / "origin.txt").write_bytes(words)
            with kept_steps(out, COMMAND) as steps:
                with pytest.raises(ValueError, match=f"^{folder}: begun with other photographs"):
                    steps.begin("words")
        (folder / "origin.txt").unlink()  # whose steps these are nobody knows
        with kept_steps(out, COMMAND) as steps:
            with pytest.raises(ValueError, match=f"^{folder}: begun with other photographs"):
                steps.begin("words")
        assert (folder / "light-0.npz").is_file()

    def test_killed_before_anything_was_kept(self, tmp_path):
        """A folder without a note, and half a note under its temporary name."""
        folder = tmp_path / "m.safetensors.learning"
        folder.mkdir()
        (folder / ".origin.txt.mofa-0000-1-0.tmp").write_text("wor")
        with kept_steps(tmp_path / "m.safetensors", COMMAND) as steps:
            steps.begin("words")
            steps.keep("light 0", lambda: ARRAYS)
        with kept_steps(tmp_path / "m.safetensors", COMMAND) as steps:
            steps.begin("words")
            steps.keep("light 0", never)

    def test_a_mistake_before_the_beginning_leaves_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="^a mistake$"):
            with kept_steps(tmp_path / "m.safetensors", COMMAND):
                raise ValueError("a mistake")
        assert not list(tmp_path.iterdir())

    def test_one_process_at_a_time(self, out):
        with kept_steps(out, COMMAND):
            with pytest.raises(FolderInUse, match="is writing there"):
                with kept_steps(out, COMMAND):
                    raise AssertionError("two at once")

    def test_a_file_in_its_place(self, tmp_path):
        (tmp_path / "m.safetensors.learning").write_text("")
        with pytest.raises(ValueError, match=r"\.learning: a file, where the steps would be kept"):
            with kept_steps(tmp_path / "m.safetensors", COMMAND):
                pass

    def test_large_ones_are_read_again(self, tmp_path):
        """What shrinks to almost nothing is more than a file of its size may unfold into."""
        empty = {"visible": np.zeros((80, 1000, 1000), np.uint8)}
        with kept_steps(tmp_path / "m.safetensors", COMMAND) as steps:
            steps.begin("words")
            steps.keep("light 0", lambda: empty)
            assert steps.keep("light 0", never)["visible"].shape == (80, 1000, 1000)


def bomb() -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2**30,)}
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", header.getvalue() + bytes(64))
    return stream.getvalue()


def other(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


class TestDamaged:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (lambda whole: whole[:300], r"damaged \(.*\); remove it, and it is made again$"),
            (lambda whole: b"", r"damaged \(it is no archive of arrays\); remove it"),
            (
                lambda whole: other(**ARRAYS),
                r"damaged \(its arrays are not those that were written",
            ),
            (
                lambda whole: other(**ARRAYS, checksum=np.array("0" * 64)),
                r"damaged \(its arrays are not those that were written",
            ),
            (
                lambda whole: other(**ARRAYS, checksum=np.zeros(3)),
                r"damaged \(its arrays are not those that were written",
            ),
            (lambda whole: other(points=np.array([{}])), r"damaged \(.*pickled objects"),
            (lambda whole: bomb(), r"points \[1073741824\] unfolds into 4.29 GB"),
        ],
    )
    def test_files(self, out, data, words):
        path = out.with_name("m.safetensors.learning") / "light-0.npz"
        path.write_bytes(data(path.read_bytes()))
        with kept_steps(out, COMMAND) as steps:
            steps.begin("words")
            with pytest.raises(ValueError, match=f"^{path}: {words}"):
                steps.keep("light 0", never)

    def test_a_folder(self, out):
        path = out.with_name("m.safetensors.learning") / "light-0.npz"
        path.unlink()
        path.mkdir()
        with kept_steps(out, COMMAND) as steps:
            steps.begin("words")
            with pytest.raises(ValueError, match=r"light-0\.npz: damaged \(Is a directory\)"):
                steps.keep("light 0", never)
