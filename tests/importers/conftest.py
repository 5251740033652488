"""The small foreign model in every format, written once."""

from pathlib import Path

import pytest

from mofa_nvdr.importers.foreign import ImportOptions
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import FILES


@pytest.fixture(scope="session")
def foreign() -> ff.SmallForeign:
    return ff.SmallForeign()


@pytest.fixture(scope="session")
def files(foreign, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("foreign")
    ff.write_landmarks(folder / "landmarks.json")
    return {key: write(folder / name, foreign) for key, (write, name) in FILES.items()}


@pytest.fixture(scope="session")
def options(files) -> ImportOptions:
    return ImportOptions(landmarks=files["eos"].with_name("landmarks.json"))
