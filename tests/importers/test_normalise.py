"""From a foreign model to a FaceModel: an upright face in millimetres, or one line."""

import re

from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import refused


class TestHostile:
    def test_another_unit(self, tmp_path, capsys):
        m = ff.SmallForeign()
        m.mean, m.shape = m.mean / 10, m.shape / 10
        path = ff.write_deep3d(tmp_path / "a.mat", m)
        text = refused(capsys, tmp_path / "a.safetensors", "deep3d", path)
        assert re.search(r"the outer eye corners are 9\.\d+ mm apart, expected 60 to 130", text)

    def test_upside_down(self, tmp_path, capsys):
        m = ff.SmallForeign()
        m.mean = m.mean * [-1, -1, 1]
        path = ff.write_deep3d(tmp_path / "a.mat", m)
        text = refused(capsys, tmp_path / "a.safetensors", "deep3d", path)
        assert "form no upright face" in text


class TestEveryFormat:
    def test_landmarks_in_one_place(self, files, tmp_path, capsys):
        (tmp_path / "l.json").write_text(str([5] * 40 + [6] * 28))
        text = refused(
            capsys,
            tmp_path / "a.safetensors",
            "lyhm",
            files["lyhm"],
            "--landmarks",
            tmp_path / "l.json",
        )
        assert "give --landmarks FILE" in text or "68 landmarks lie on 2 vertices" in text
