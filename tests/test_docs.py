"""The README and the pages of docs/ name only what exists: commands, options, files, pages, sections."""

import contextlib
import functools
import io
import re
import shlex
from pathlib import Path

import pytest

from mofa_nvdr.cli import COMMANDS, main
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.former_options import RENAMED, RETIRED
from mofa_nvdr.runs.options import TrainConfig, flag, options

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
ALL = ["README.md", *PAGES]

_OF_TRAIN = {f"--{flag(name)}" for name in options(TrainConfig())} | {
    f"--{group}no-{key}"
    for name, value in options(TrainConfig()).items()
    if isinstance(value, bool)
    for group, key in [re.fullmatch(r"(.*\.)?([^.]+)", flag(name)).groups(default="")]
}
# Options of other programs, and of this project's scripts.
_OF_OTHERS = {
    "--its-options", "--no-build-isolation", "--standalone", "--nproc-per-node", "--nnodes",
    "--rdzv-backend", "--rdzv-endpoint", "--max-restarts", "--shutdown-timeout", "--resolution",
    "--max-iter", "--parts", "--seed", "--count", "--cases", "--kills", "--only", "--no-deps",
    "--mip", "--to", "--execute", "--wogui", "--mode", "--ssaa", "--num_azimuth", "--save",
}  # fmt: skip
_NETWORKS = {f"networks {name}" for name in ("list", "get", "export")}
_MODEL = {
    f"model {name}" for name in ("info", "show", "build", "learn", "encoder", "from-run", "import")
}


@functools.cache
def options_of(command: str) -> set[str]:
    """The options of a command: of its help; `model import` and so on with their second word."""
    if command in ("train", "bench train"):
        more = {"--repeats", "--json"} if command == "bench train" else set()
        return _OF_TRAIN | {"--config", "--help"} | more
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return set(re.findall(r"(?<![\w-])--[a-z][a-z.-]*", text.getvalue())) | {"--help"}


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _prose(page: str) -> str:
    return re.sub(r"```.*?```", "", _text(page), flags=re.DOTALL)


def _commands(page: str) -> list[list[str]]:
    """Every call of mofa-nvdr, in blocks and in the text, as words."""
    text = _text(page)
    lines = [
        line
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    lines += re.findall(r"`([^`\n]+)`", _prose(page))
    calls = []
    for line in lines:
        for part in line.replace("-m mofa_nvdr ", "&& mofa-nvdr ").split("&&"):
            words = shlex.split(part, comments=True) if "mofa-nvdr" in part else []
            if words and words[0] == "mofa-nvdr" and len(words) > 1:
                calls.append(words[1:])
    return calls


@pytest.mark.parametrize("page", ALL)
def test_commands_and_options_exist(page):
    for words in _commands(page):
        if words[0] in ("COMMAND", "--help"):
            continue
        assert words[0] in COMMANDS, words
        two = " ".join(words[:2])
        command = two if two in _MODEL | _NETWORKS | {"bench train"} else words[0]
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options_of(command), (words, given - options_of(command))
        if "--config" in words and (name := words[words.index("--config") + 1]).islower():
            if not name.endswith(".yaml"):
                load_config(name)


@pytest.mark.parametrize("page", ALL)
def test_flags_in_the_text_exist(page):
    """A flag in backticks is one of some command, or of another program."""
    known = _OF_TRAIN | _OF_OTHERS
    for command in [
        *(set(COMMANDS) - {"train", "model"}),
        "bench train",
        "train",
        *_MODEL,
        *_NETWORKS,
    ]:
        known = known | options_of(command)
    for code in re.findall(r"`([^`\n]+)`", _prose(page)):
        for word in code.split():
            if re.match(r"--[a-z]", word):
                assert word.partition("=")[0] in known, f"{page}: {word}"


@pytest.mark.parametrize("page", ALL)
def test_no_former_name_of_an_option(page):
    """`weight_mirror` is loss.mirror now; flat names that are still words of their own are left alone."""
    if page == "docs/api.md":  # generated: arguments may bear the names that options had
        return
    former = {name for name in [*RENAMED, *RETIRED] if "_" in name and not name.startswith("best")}
    still = {name.rpartition(".")[2] for name in options(TrainConfig())} | {"face_model"}
    for code in re.findall(r"`([a-z_]+)(?:: \w+)?`", _prose(page)):
        assert code not in former - still, f"{page}: {code}"


@pytest.mark.parametrize("page", ALL)
def test_option_names_exist(page):
    """`loss.mirror`, and `render.gradient: surface`, in backticks are options."""
    known, groups = options(TrainConfig()), TrainConfig.__dataclass_fields__
    for code in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:: \w+)?`", _prose(page)):
        if code.partition(".")[0] in groups and not code.endswith((".py", ".html")):
            assert code in known or any(name.startswith(f"{code}.") for name in known), code


@pytest.mark.parametrize("page", ALL)
def test_paths_in_the_text_exist(page):
    """Files and folders of the repository that are named in backticks."""
    pattern = r"((?:mofa_nvdr|shaders|tests|docs|configs|assets)/[\w/.-]*)"
    for code in re.findall(r"`([^`\n]+)`", _prose(page)):
        for path in re.findall(rf"(?<![\w/.-]){pattern}", code):
            if "NAME" not in path:
                assert (ROOT / path).exists(), f"{page}: {path}"


@pytest.mark.parametrize("page", ALL)
def test_modules_in_the_text_exist(page):
    for code in re.findall(r"`(mofa_nvdr(?:\.\w+)+)", _prose(page)):
        parts = code.split(".")[1:]
        if parts[0] in ("shaders", "configs", "assets"):
            base, rest = ROOT, parts
        else:
            base, rest = ROOT / "mofa_nvdr", parts
        path = base / rest[0]
        for part in rest[1:]:
            path = path / part if path.is_dir() else path
        assert path.is_dir() or path.with_suffix(".py").is_file() or path.suffix == ".py", code


@pytest.mark.parametrize("page", ALL)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if "://" in target:
            continue
        path, _, section = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if section:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert section in anchors, f"{page}: {target}"


def test_index_has_every_page():
    linked = set(re.findall(r"\]\(([^)#]+\.md)\)", _text("docs/index.md")))
    assert {page.removeprefix("docs/") for page in PAGES} - {"index.md"} <= linked


def test_example_with_phong_runs():
    example, *_ = re.findall(r"```python\n(.*?)```", _text("docs/howto_programs.md"), re.DOTALL)
    scope: dict = {}
    exec(compile(example, "howto_programs.md", "exec"), scope)
    assert scope["rendering"].mask.sum() > 1000
    assert scope["vertices"].grad.abs().sum() > 0


def test_example_with_a_texture_runs():
    _, example, *_ = re.findall(r"```python\n(.*?)```", _text("docs/howto_programs.md"), re.DOTALL)
    scope: dict = {}
    exec(compile(example, "howto_programs.md", "exec"), scope)
    assert scope["image"].shape == (1, 3, 90, 120) and scope["numbers"].shape == (1, 17, 90, 120)
    # A square of 80 x 80 px in the middle; the background at its side.
    assert scope["face"].mask.sum() == 6400
    assert scope["image"][0, :, 0, 0].tolist() == pytest.approx([0.2, 0.3, 0.5])
