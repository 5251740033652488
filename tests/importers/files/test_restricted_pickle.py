"""Pickles read without running them: arrays come out, everything else is refused."""

import os
import pickle

import numpy as np
import pytest

from tests.helpers.foreign_files import refused


class TestHostile:
    def test_pickle_that_runs_code(self, tmp_path, capsys):
        class Attack:
            def __reduce__(self):  # noqa: ANN204
                return os.mkdir, (str(tmp_path / "pwned"),)

        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"v_template": Attack()}, protocol=2))
        text = refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "a.pkl")
        assert "refused: it asks for posix.mkdir" in text
        assert not (tmp_path / "pwned").exists()

    @pytest.mark.parametrize(
        "body",
        [
            b"cbuiltins\neval\n(S'1'\ntR.",
            b"\x80\x04cnumpy\nload\n(S'x'\ntR.",
            b"cscipy.sparse\nsave_npz\n.",
            b"cchumpy.ch\nCh\n(S'x'\ntR.",
            b"\x80\x02Vnot a dict\n.",
            b"\x80\x02P0\n.",
        ],
    )
    def test_pickles_beyond_arrays(self, tmp_path, capsys, body):
        (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + body.removeprefix(b"\x80\x02"))
        text = refused(capsys, tmp_path / "a.safetensors", "flame", tmp_path / "a.pkl")
        assert "refused" in text or "expected a dict" in text or "not a readable pickle" in text

    def test_landmark_file_that_runs_code(self, files, tmp_path, capsys):
        class Attack:
            def __reduce__(self):  # noqa: ANN204
                return os.mkdir, (str(tmp_path / "pwned"),)

        np.save(tmp_path / "l.npy", np.array({"a": Attack()}, dtype=object), allow_pickle=True)
        text = refused(
            capsys, tmp_path / "a.safetensors", "flame", files["flame"], "--landmarks",
            tmp_path / "l.npy",
        )  # fmt: skip
        assert "refused" in text and not (tmp_path / "pwned").exists()
