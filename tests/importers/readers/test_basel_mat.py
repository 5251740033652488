"""Models in MATLAB files: units, scales, and variables that do not fit."""

import numpy as np
import scipy.io

from tests.helpers.foreign_files import refused


class TestReadDeep3d:
    def test_missing_and_misshapen_variables(self, files, tmp_path, capsys):
        data = scipy.io.loadmat(files["deep3d"])
        keep = {k: v for k, v in data.items() if not k.startswith("_")}
        path = tmp_path / "a.mat"
        for key, value, message in (
            ("texBase", None, "missing texBase"),
            (
                "idBase",
                keep["idBase"][:-3],
                "the identity modes are [6, 75, 3], expected [K, 76, 3]",
            ),
            ("idBase", keep["idBase"][:-1], "idBase has 227 rows, expected three for each vertex"),
            ("tri", keep["tri"] + 0.5, "tri holds numbers that are no vertex indices"),
            ("meanshape", np.array(["x"]), "meanshape"),
        ):
            changed = {**keep, key: value}
            if value is None:
                del changed[key]
            scipy.io.savemat(path, changed)
            assert message in refused(capsys, tmp_path / "a.safetensors", "deep3d", path)
