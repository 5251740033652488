"""Imports go down only: the floors of the rooms, what a room must never know, and where nvdiffrast enters.

A room is a folder of mofa_nvdr/, or shaders/, configs/ and assets/ next to it. A room may import itself and
rooms on lower floors.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from mofa_nvdr import _PUBLIC

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    9: ["cli"],
    8: ["bench"],
    7: ["apply", "training"],
    6: ["losses", "data", "runs", "compat"],
    5: ["render", "networks", "importers"],
    4: ["face", "shaders"],
    3: ["scene"],
    2: ["system"],
    1: ["dr"],
    0: ["configs", "assets"],  # files, which import nothing
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# (room, what it never imports, why); most of these the floors forbid as well, but say no reason.
NEVER = [
    ("apply", "training", "what people do with a run must work without what made it"),
    ("losses", "runs", "a term sees no configuration: its numbers are arguments"),
    ("losses", "networks", "a term is of codes and pictures, whatever made them"),
    ("losses", "importers", "a term knows no file"),
    ("data", "losses", "pictures know no loss"),
    ("data", "networks", "pictures know no encoder"),
    ("render", "networks", "the decoder sees no network"),
    ("networks", "render", "an encoder renders nothing"),
    ("face", "render", "a face model renders nothing"),
    ("shaders", "scene.camera", "a shader knows no camera: the eye is the origin"),
    ("shaders", "scene.normals", "a shader knows no mesh"),
    ("shaders", "scene.topology", "a shader knows no mesh"),
    ("scene", "face", "what stands before the camera may be any mesh"),
]
# Rooms that the rest must work without -> the rooms that may import them all the same.
OPEN_TO = {"compat": [], "bench": ["cli"], "importers": ["apply", "cli", "compat"]}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for folder in ("mofa_nvdr", "shaders", "configs", "assets"):
        for path in sorted((root / folder).rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            parts = parts if parts[0] == "mofa_nvdr" else ["mofa_nvdr", *parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(name: str) -> str:
    """The room of a dotted name below mofa_nvdr; empty: the package's own face."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path, root: Path = ROOT) -> list[str]:
    """Dotted names that a file imports, at its top and inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.parent.relative_to(root).parts
            base = ".".join(package[: len(package) - node.level + 1])
            names += [f"{base}.{node.module or alias.name}" for alias in node.names]
    return names


def faults(name: str, path: Path, known: set[str], root: Path = ROOT) -> list[str]:
    """What is wrong with a module's imports, a line each."""
    room, lines = room_of(name), []
    if room not in FLOOR:
        return [f"{path}: mofa_nvdr/{room} is on no floor; give the room one in FLOORS"]
    for other in imports(path, root):
        for first, second, why in NEVER:
            if room == first and f"{other}.".startswith(f"mofa_nvdr.{second}."):
                lines.append(f"{path}: {room} must never know {second}: {why}")
        if other == "mofa_nvdr":
            lines.append(f"{path}: imports mofa_nvdr as a whole; import from the room instead")
        if not other.startswith("mofa_nvdr."):
            continue
        there = room_of(other)
        if there in _PUBLIC:
            lines.append(
                f"{path}: imports {there} from mofa_nvdr itself, which hides the room; "
                f"import it from mofa_nvdr.{_PUBLIC[there]}"
            )
        if there not in FLOOR:
            if f"mofa_nvdr.{there}" in known:
                lines.append(f"{path}: imports {other}, which is in no room")
            continue  # a name of the package's face: __version__
        if there != room and FLOOR[there] >= FLOOR[room]:
            lines.append(
                f"{path}: {room} (floor {FLOOR[room]}) may not import {there} (floor {FLOOR[there]}): "
                f"imports go down only ({other})"
            )
        if there in OPEN_TO and room not in (there, *OPEN_TO[there]):
            who = " and ".join(OPEN_TO[there]) or "programs outside"
            lines.append(f"{path}: {room} may not import {there}; only {who} may")
    return lines


@pytest.mark.parametrize(
    ("name", "path"), [(n, p) for n, p in modules().items() if room_of(n) not in ("", "__main__")]
)
def test_imports_go_down_only(name, path):
    assert not (lines := faults(name, path, set(modules()))), "\n".join(lines)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, first and last the same; empty: there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_circles():
    known = modules()
    graph = {}
    for name, path in known.items():
        targets = {t if t in known else t.rpartition(".")[0] for t in imports(path)}
        # A package's face hands on the names of its modules.
        face = path.stem == "__init__"
        own = {t for t in targets if t == name or (face and t.startswith(f"{name}."))}
        graph[name] = {t for t in targets if t in known} - own
    found = circle(graph)
    assert not found, "a circle of imports: " + " -> ".join(found)


class TestTheTestItself:
    """A module with a fault is refused, with a line that says which."""

    @pytest.fixture
    def refused(self, tmp_path):
        def call(name: str, text: str) -> list[str]:
            path = tmp_path / "mofa_nvdr" / Path(*name.split(".")[1:]).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return faults(name, path, {"mofa_nvdr.cli", "mofa_nvdr.loose"}, tmp_path)

        return call

    @pytest.mark.parametrize(
        ("name", "text", "line"),
        [
            (
                "face.x",
                "from mofa_nvdr.render.decoder import FaceDecoder",
                "(floor 4) may not import",
            ),
            ("face.x", "import mofa_nvdr.shaders.phong", "face (floor 4) may not import shaders"),
            (
                "apply.x",
                "def f():\n    from mofa_nvdr.training.loop import train",
                "must never know",
            ),
            ("apply.x", "from mofa_nvdr import training", "must never know training: what people"),
            ("losses.x", "from mofa_nvdr.runs.config import TrainConfig", "sees no configuration"),
            ("shaders.x", "from mofa_nvdr.scene.camera import Camera", "knows no camera"),
            ("data.x", "from mofa_nvdr.compat.deep3d import R", "only programs outside may"),
            (
                "training.x",
                "from mofa_nvdr.bench import operators",
                "may not import bench; only cli may",
            ),
            (
                "training.x",
                "import mofa_nvdr.importers.formats",
                "only apply and cli and compat may",
            ),
            (
                "face.x",
                "from mofa_nvdr import FaceDecoder",
                "import it from mofa_nvdr.render.decoder",
            ),
            ("face.x", "import mofa_nvdr", "import from the room instead"),
            ("loft.x", "", "mofa_nvdr/loft is on no floor; give the room one in FLOORS"),
            ("cli.x", "from mofa_nvdr.loose import f", "which is in no room"),
        ],
    )
    def test_refuses(self, refused, name, text, line):
        assert any(line in found for found in refused(f"mofa_nvdr.{name}", text))

    def test_allows(self, refused):
        text = "from mofa_nvdr import __version__\nfrom mofa_nvdr.dr import rasterize\nimport torch"
        assert refused("mofa_nvdr.render.x", text) == []
        assert refused("mofa_nvdr.cli.x", "from mofa_nvdr.bench.operators import run") == []

    def test_circle(self):
        assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})[:1] != []
        assert circle({"a": {"b"}, "b": set()}) == []


def test_nvdiffrast_is_imported_in_one_function():
    places = []
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                inside = [n for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom))]
                if any("nvdiffrast" in ast.unparse(n) for n in inside):
                    places.append(f"{path.name}:{node.name}")
    assert len(places) == 1, places


def test_the_package_is_light():
    """`import mofa_nvdr` brings no torch, numba or nvdiffrast; --help must be quick."""
    code = (
        "import sys, mofa_nvdr, mofa_nvdr.cli; "
        "print([m for m in ('torch', 'numba', 'nvdiffrast', 'kornia') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_public_names_resolve():
    import mofa_nvdr

    for name in mofa_nvdr.__all__:
        assert getattr(mofa_nvdr, name) is not None
    assert set(mofa_nvdr.__all__) <= set(dir(mofa_nvdr))
    with pytest.raises(AttributeError, match="no attribute 'FaceRendere'"):
        mofa_nvdr.FaceRendere  # noqa: B018


# Kernels whose callers' file has another name.
_CALLER = {
    "sh_kernels": "sh_lambert",
    "rasterize_backward_kernels": "rasterize",
    "texture_backward_kernels": "texture",
}


def test_every_module_has_a_test_of_its_own_name():
    """tests/<room>/test_<module>.py; a file of kernels is tested with the functions that call it."""
    missing = []
    for path in modules().values():
        place = path.relative_to(ROOT)
        parts = place.parts[1:] if place.parts[0] == "mofa_nvdr" else place.parts
        if len(parts) == 1 or parts[0] in ("configs", "assets") or path.stem.startswith("__"):
            continue
        stem = _CALLER.get(path.stem, path.stem).removesuffix("_kernels")
        test = ROOT / "tests" / Path(*parts[:-1]) / f"test_{stem}.py"
        if not test.is_file():
            missing.append(f"{place}: no {test.relative_to(ROOT)}")
    assert not missing, "\n".join(missing)


def test_a_class_has_a_name_of_its_own():
    places: dict[str, list[str]] = {}
    for name, path in modules().items():
        # Drop-ins have their peers' names, and the reference has those of the verbs.
        if room_of(name) == "compat" or name == "mofa_nvdr.dr.reference":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, f"one name for two things: {twice}"


def test_a_module_has_a_name_of_its_own():
    """A command may be named as what it calls: cli/export.py, apply/export.py."""
    places: dict[str, list[str]] = {}
    for name, path in modules().items():
        if room_of(name) != "cli" and not path.stem.startswith("__"):
            places.setdefault(path.stem, []).append(str(path.relative_to(ROOT)))
    del places["identity"]  # of the recipe's faces, and the loss of that name
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, f"one name for two modules: {twice}"
