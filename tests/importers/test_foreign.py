"""What every reader hands over: sizes that agree, finite numbers, indices within the mesh."""

import numpy as np
import pytest

from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import FILES, refused


class TestHostile:
    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "eos", "ict"])
    def test_more_numbers_than_any_model_has(self, key, files, tmp_path, capsys, monkeypatch):
        from mofa_nvdr.importers import foreign

        monkeypatch.setattr(foreign, "MAX_NUMBERS", 150)
        landmarks = files["eos"].with_name("landmarks.json")
        text = refused(
            capsys, tmp_path / "a.safetensors", key, files[key], "--landmarks", landmarks
        )
        assert "numbers, more than the 150 that a face model may have" in text

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "flame", "eos", "ict"])
    def test_nan(self, key, foreign, tmp_path, capsys, files):
        broken = ff.SmallForeign()
        broken.mean[3, 1] = np.nan
        path = FILES[key][0](tmp_path / FILES[key][1], broken)
        landmarks = files["eos"].with_name("landmarks.json")
        text = refused(capsys, tmp_path / "a.safetensors", key, path, "--landmarks", landmarks)
        assert "not finite" in text

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "flame", "eos", "ict"])
    def test_triangle_outside_the_mesh(self, key, tmp_path, capsys, files):
        broken = ff.SmallForeign()
        broken.triangles[5, 1] = 7000
        path = FILES[key][0](tmp_path / FILES[key][1], broken)
        landmarks = files["eos"].with_name("landmarks.json")
        text = refused(capsys, tmp_path / "a.safetensors", key, path, "--landmarks", landmarks)
        assert "outside the mesh" in text
