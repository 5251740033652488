"""The known networks: every entry is whole, and says whose it is."""

import importlib.resources

from mofa_nvdr.networks.graph import FORMAT
from mofa_nvdr.networks.network_sets import NETWORK_SETS, from_dlib, from_tflite
from tests.helpers.small_dlib import SmallResnet
from tests.helpers.small_tflite import small_model


def test_the_known_sets_are_whole():
    """Every entry has what the commands and LICENCE.txt need."""
    assert {"landmarks", "identity"} <= set(NETWORK_SETS)
    for name, networks in NETWORK_SETS.items():
        assert name.isidentifier() and "==" in networks.requirement
        hashes = [member.sha256 for member in networks.members]
        assert all(len(bytes.fromhex(h)) == 32 for h in hashes) and len(set(hashes)) == len(hashes)
        assert all(member.size > 1000 for member in networks.members)
        text = importlib.resources.files("mofa_nvdr.assets").joinpath(networks.licence_text)
        assert len(text.read_text()) > 5000 and networks.notice.endswith(".")


def test_files_become_safetensors():
    for convert, data in ((from_tflite, small_model()), (from_dlib, SmallResnet().to_bytes())):
        kept = convert(data, {"source": "a test"})
        assert FORMAT.encode() in kept[:100_000] and b"a test" in kept[:100_000]


def test_the_predictor_is_no_network_of_a_set():
    """It comes in the same archive, and is not for commercial use."""
    files = {member.file for networks in NETWORK_SETS.values() for member in networks.members}
    assert not any("shape_predictor" in file for file in files)
