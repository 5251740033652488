"""Networks on request: got whole or not at all, known by their hash, one line for what fails."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mofa_nvdr.networks import on_request
from mofa_nvdr.networks.graph import read_facts
from mofa_nvdr.networks.on_request import (
    NETWORK_SETS,
    NetworkMissingError,
    cache_folder,
    describe_sets,
    get_set,
    load_set,
    missing_members,
)
from tests.helpers.small_dlib import SmallResnet
from tests.helpers.small_networks import install_small_set, write_member, write_wheel


@pytest.fixture
def cache(tmp_path, monkeypatch):
    install_small_set(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


def files(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


KEPT = [
    "networks/small/LICENCE.txt",
    "networks/small/one.safetensors",
    "networks/small/two.safetensors",
]


class TestGet:
    def test_from_the_wheel(self, cache, tmp_path):
        paths = get_set("small", [write_wheel(tmp_path)])
        assert files(cache) == KEPT and [path.stem for path in paths] == ["one", "two"]
        networks = load_set("small")
        rows, _ = networks["one"](torch.zeros(1, 3, 8, 8))
        assert rows.shape == (1, 16, 3)
        facts = read_facts(paths[0])
        assert facts["licence"] == "MIT"
        assert facts["source"] == "one.tflite of small-networks==1.0"
        licence = (cache / KEPT[0]).read_text()
        assert licence.startswith("Of nobody.\n") and "one.safetensors: one.tflite" in licence
        assert "Apache License" in licence

    def test_from_an_sdist(self, cache, tmp_path):
        path = tmp_path / "small-networks-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for file in ("one.tflite", "two.tflite"):
                tar.add(write_member(tmp_path, file), f"small/{file}")
        get_set("small", [path])
        assert files(cache) == KEPT

    def test_an_sdist_is_not_run(self, cache, tmp_path, monkeypatch):
        """pip would run its setup.py even to download it, and is not let; --from only unpacks it."""
        marker, folder = tmp_path / "was_run", tmp_path / "index"
        (tmp_path / "setup.py").write_text(f"open({str(marker)!r}, 'w')\n")
        folder.mkdir()
        path = folder / "small_networks-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            tar.add(tmp_path / "setup.py", "small_networks-1.0/setup.py")
            for file in ("one.tflite", "two.tflite"):
                tar.add(write_member(tmp_path, file), f"small_networks-1.0/{file}")
        self.pip_looks_in(folder, monkeypatch)
        with pytest.raises(ValueError, match=r"pip cannot download small-networks==1\.0"):
            get_set("small")
        get_set("small", [path])
        assert files(cache) == KEPT and not marker.exists()

    def test_what_is_not_wanted_is_not_unpacked(self, cache, tmp_path):
        """A member of the archive that is damaged does no harm, as nothing reads it."""
        wheel = write_wheel(tmp_path)
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr("data/predictor.dat", b"not for everyone " * 9)
        data = wheel.read_bytes()
        assert data.count(b"not for everyone") == 9  # stored as it is
        wheel.write_bytes(data.replace(b"not for everyone", b"x" * 16, 1))
        get_set("small", [wheel])
        assert files(cache) == KEPT

    def test_from_own_files_one_after_the_other(self, cache, tmp_path):
        """They are known by their hash, whatever they are called; all that is missing must come at once."""
        one, two = (write_member(tmp_path, f"{name}.tflite") for name in ("one", "two"))
        with pytest.raises(ValueError, match=r"does not hold two\.tflite; nothing was changed"):
            get_set("small", [one])
        assert files(cache) == []
        get_set("small", [one, two])
        assert files(cache) == KEPT
        (cache / KEPT[2]).write_bytes(b"damaged")
        assert missing_members("small") == ["two"]
        get_set("small", [two])
        assert missing_members("small") == []

    def pip_looks_in(self, folder, monkeypatch):
        for name in [n for n in os.environ if n.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def test_by_pip(self, cache, tmp_path, monkeypatch):
        """As pip is set up: here with a folder instead of an index."""
        write_wheel(tmp_path)
        self.pip_looks_in(tmp_path, monkeypatch)
        get_set("small")
        assert files(cache) == KEPT
        monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
        with pytest.raises(
            ValueError, match=r"pip cannot download small-networks==1\.0: .*--from$"
        ):
            get_set("small")
        assert files(cache) == KEPT


class TestNothingChanges:
    """What fails leaves what was there, and nothing half-written."""

    def refused(
        self, cache: Path, sources: list[Path], words: str, kind: type = ValueError
    ) -> None:
        before = files(cache)
        with pytest.raises(kind, match=words) as caught:
            get_set("small", sources)
        assert "\n" not in str(caught.value) and files(cache) == before

    def test_another_version(self, cache, tmp_path):
        wheel = write_wheel(tmp_path, changed="two.tflite")
        self.refused(
            cache, [wheel], r"two\.tflite has the SHA-256 \w{64}, expected \w{64}: another version"
        )

    def test_a_file_is_not_in_the_archive(self, cache, tmp_path):
        wheel = write_wheel(tmp_path, left_out="two.tflite")
        self.refused(cache, [wheel], r"does not hold two\.tflite")

    def test_something_else(self, cache, tmp_path):
        other = tmp_path / "photo.jpg"
        other.write_bytes(b"no network")
        self.refused(cache, [other], "does not hold one.tflite, two.tflite")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            (
                "one.tflite",
                r"one\.tflite has 3,000,000,000 bytes, expected [\d,]+: another version",
            ),
            ("other", r"other does not hold one\.tflite, two\.tflite"),
        ],
    )
    def test_a_large_file_is_not_read(self, cache, tmp_path, name, words):
        """3 GB of nothing, called as a network or not: its size says that it is none."""
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 3_000_000_000)
        tracemalloc.start()
        try:
            self.refused(cache, [tmp_path / name], words)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("kind", ["w:", "w:gz"])
    def test_a_large_member_is_not_read(self, cache, tmp_path, kind):
        member = tmp_path / "large"
        member.write_bytes(bytes(2_000_000))
        with tarfile.open(tmp_path / "a.tar", kind) as tar:
            tar.add(member, "data/one.tflite")
        self.refused(cache, [tmp_path / "a.tar"], r"one\.tflite has 2,000,000 bytes, expected")
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
            archive.write(member, "data/one.tflite")
        self.refused(cache, [tmp_path / "a.whl"], r"one\.tflite has 2,000,000 bytes, expected")

    def test_no_plain_file(self, cache, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        self.refused(cache, [tmp_path / "pipe"], "pipe: no such file")
        self.refused(cache, [Path("/dev/zero")], "/dev/zero: no such file")

    @pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
    def test_cut_off(self, cache, tmp_path, part):
        wheel = write_wheel(tmp_path)
        wheel.write_bytes(wheel.read_bytes()[: int(part * wheel.stat().st_size)])
        self.refused(cache, [wheel], "damaged or cut off .*; get it again")

    def test_damaged_inside(self, cache, tmp_path):
        wheel = write_wheel(tmp_path)
        data = bytearray(wheel.read_bytes())
        data[200:300] = bytes(100)
        wheel.write_bytes(data)
        self.refused(cache, [wheel], "damaged or cut off")

    def test_what_cannot_be_converted_is_named(self, cache, tmp_path, monkeypatch):
        def convert(data: bytes, facts: dict[str, str]) -> bytes:
            raise ValueError("a .tflite file with operation 77, which is not read here")

        small = replace(on_request.NETWORK_SETS["small"], convert=convert)
        monkeypatch.setitem(on_request.NETWORK_SETS, "small", small)
        with pytest.raises(
            ValueError, match=r"^one\.tflite of small-networks==1\.0: a \.tflite file"
        ):
            get_set("small", [write_wheel(tmp_path)])

    def test_no_such_file(self, cache, tmp_path):
        self.refused(cache, [tmp_path / "none.whl"], r"--from \S+none\.whl: no such file")

    def test_unknown_set(self, cache):
        with pytest.raises(ValueError, match="unknown 'noses', expected one of small"):
            get_set("noses")

    @pytest.mark.parametrize(
        ("stderr", "words"),
        [
            ("/usr/bin/python: No module named pip\n", "No module named pip"),
            ("WARNING: x\nERROR: No space left.\nERROR: hint\n", "==1.0: No space left; try again"),
            (
                "Retrying after connection broken by '...'\nERROR: no version",
                "index cannot be reached",
            ),
            ("", "no reason given"),
        ],
    )
    def test_pip_fails(self, cache, monkeypatch, stderr, words):
        done = subprocess.CompletedProcess([], 1, "", stderr)
        monkeypatch.setattr(on_request.subprocess, "run", lambda *args, **kwargs: done)
        self.refused(cache, [], words)

    def test_no_python_to_run(self, cache, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
        self.refused(cache, [], "cannot run .*none")

    def test_no_folder_to_write(self, cache, tmp_path):
        cache.write_text("a file in its place")
        with pytest.raises(
            OSError, match=r"cannot write there .*; set MOFA_NVDR_CACHE to a folder"
        ):
            get_set("small", [write_wheel(tmp_path)])

    def test_disk_full(self, cache, tmp_path, monkeypatch):
        def full(contents):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(on_request, "write_files", full)
        self.refused(cache, [write_wheel(tmp_path)], r"cannot write there \(No space left", OSError)


class TestLoad:
    def test_missing(self, cache):
        with pytest.raises(NetworkMissingError) as caught:
            load_set("small")
        assert str(caught.value) == (
            f"the networks 'small' (one, two) are not in {cache}; get them with mofa-nvdr networks get small"
        )

    def test_of_another_file(self, cache, tmp_path, monkeypatch):
        """A network whose hash is not this version's counts as missing."""
        get_set("small", [write_wheel(tmp_path)])
        (cache / KEPT[1]).write_bytes((cache / KEPT[2]).read_bytes())
        assert missing_members("small") == ["one"]

    def test_description(self, cache, tmp_path):
        assert "small: for tests; MIT; not here; mofa-nvdr networks get small" in describe_sets()
        get_set("small", [write_wheel(tmp_path)])
        assert "small: for tests; MIT; here, 0.0 MB" in describe_sets()
        (cache / KEPT[1]).unlink()
        assert "without one; mofa-nvdr networks get small" in describe_sets()


class TestCacheFolder:
    def test_order(self, monkeypatch, tmp_path):
        monkeypatch.setenv("MOFA_NVDR_CACHE", "/a")
        monkeypatch.setenv("XDG_CACHE_HOME", "/b")
        assert cache_folder() == Path("/a")
        monkeypatch.delenv("MOFA_NVDR_CACHE")
        assert cache_folder() == Path("/b/mofa-nvdr")
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "mofa-nvdr"


def test_the_recognition_network_by_its_own_file(tmp_path, monkeypatch):
    """As the set is defined, but for the hash and size of a small file in its format."""
    data = SmallResnet(size=150).to_bytes()
    identity = NETWORK_SETS["identity"]
    (member,) = identity.members
    small = replace(member, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    monkeypatch.setattr(
        on_request, "NETWORK_SETS", {"identity": replace(identity, members=(small,))}
    )
    monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name, content in (("shape_predictor_68.dat", b"x" * 999), (member.file, data)):
            info = tarfile.TarInfo(f"face_recognition_models-0.3.0/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (path,) = get_set("identity", [tmp_path / "a.tar.gz"])
    assert files(tmp_path / "cache") == [
        "networks/identity/LICENCE.txt",
        "networks/identity/recognition.safetensors",
    ]
    facts, licence = read_facts(path), (path.parent / "LICENCE.txt").read_text()
    assert facts["licence"] == "CC0-1.0" and facts["sha256"] == small.sha256
    assert "Davis King" in licence and "CC0 1.0 Universal" in licence
    image = torch.rand(1, 3, 150, 150, generator=torch.Generator().manual_seed(0))
    features, embedding = load_set("identity")["recognition"](image)
    wanted = SmallResnet(size=150).reference(image)[1]
    assert (embedding - wanted).abs().max() < 3e-3 * wanted.abs().max()


class TestHostileArchives:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        install_small_set(monkeypatch, tmp_path / "cache")

    def test_a_kind_of_packing_that_is_unknown(self, tmp_path):
        """zipfile says so by NotImplementedError, without the file's name."""
        wheel = write_wheel(tmp_path)
        data = bytearray(wheel.read_bytes())
        for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            at = data.find(signature)
            data[at + place : at + place + 2] = b"\x63\x00"
        wheel.write_bytes(data)
        with pytest.raises(
            ValueError, match=r"\.whl: cannot read it, damaged or cut off \(That comp"
        ):
            get_set("small", [wheel])

    def test_what_is_passed_over_counts(self, tmp_path):
        """8 GB of zeros before the network: to pass over them they must be unpacked."""
        large = tarfile.TarInfo("zeros\x1b[31m")
        large.size = 1 << 33
        path = tmp_path / "a.tar.gz"
        path.write_bytes(gzip.compress(large.tobuf() + bytes(1 << 16)))
        with pytest.raises(
            ValueError, match=r"a\.tar\.gz: zeros\\x1b\[31m unfolds into 8\.59 GB, with "
        ):
            get_set("small", [path])

    def test_many_members(self, tmp_path):
        path = tmp_path / "a.tar.gz"
        path.write_bytes(gzip.compress(tarfile.TarInfo("empty").tobuf() * 10_001))
        with pytest.raises(ValueError, match=r"a\.tar\.gz: 10001 members in it, expected at most"):
            get_set("small", [path])
