"""Which files of a folder are photographs, and what becomes of the others: one rule for all commands.

Not photographs are pictures that the package wrote itself: by their mark (system/marks.py), and by their
names where an earlier version wrote them without one. What is not read is counted, for a line that says so.
Hidden files and folders, landmark files and the tables of a data set are not worth a word.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mofa_nvdr.data.picture_formats import IMAGE_SUFFIXES, why_unreadable
from mofa_nvdr.system.array_files import npz_members
from mofa_nvdr.system.marks import MARKED, read_mark

PARAMETERS = "parameter file"
_PARAMETER_KEYS = frozenset({"shape", "expression", "albedo", "rotation", "translation", "light"})
# Landmarks of one photograph: endings, the surest first, and folders next to it or to its folder.
LANDMARK_SUFFIXES = (".pts", ".npz", ".txt", ".csv")
LANDMARK_FOLDERS = ("landmarks", "detections")  # the second of Deep3DFaceRecon
# What data sets, runs and shards hold next to pictures.
_TABLES = re.compile(
    r"(index|faces)\.csv|landmarks(5|68)\.npz|codes\.npz|(preprocess|log)\.jsonl|synthesize\.json"
    r"|(train|val)-\d{5}\.(tar|index)|\d{6}\.npz|.*\.tmp|thumbs\.db|desktop\.ini",
    re.IGNORECASE,
)
_ENDING = re.compile(r"\.[a-z0-9_+-]{1,12}")
_OTHERS = ""
_MOST_ENDINGS = 5  # that are named in a line


def result_kind(path: Path) -> str:
    """What a file is if the package wrote it as a result, like "panel"; empty: it is none."""
    ending = path.suffix.lower()
    if ending == ".npz":
        return PARAMETERS if is_parameter_file(path) else ""
    if ending not in MARKED:
        return ""
    return read_mark(path) or _kind_by_name(path)


def is_parameter_file(path: Path) -> bool:
    """Whether an .npz holds parameters of reconstruct, by the names of its arrays alone."""
    return npz_members(path).keys() >= _PARAMETER_KEYS


def not_a_photograph(path: Path) -> str:
    """Why a named file is not taken for a photograph; empty: it may be one."""
    kind = result_kind(path)
    return kind and f"{path}: a {kind} that mofa-nvdr wrote, not a photograph"


def _kind_by_name(path: Path) -> str:
    """The kind of a picture that an earlier version wrote, which marked none."""
    name, folder = path.name, path.parent
    if name.endswith("_panel.png"):
        source = folder / (name.removesuffix("_panel.png") + ".npz")
        return "panel" if is_parameter_file(source) else ""
    if name.endswith("_texture.png"):
        return (
            "texture"
            if path.with_name(name.removesuffix("_texture.png") + ".mtl").is_file()
            else ""
        )
    if re.fullmatch(r"sheet-\d{8}\.png", name):
        return "sheet" if (folder / "log.jsonl").is_file() else ""
    if folder.name == "masks":
        return "mask" if (folder.parent / "codes.npz").is_file() else ""
    return ""


def _several(kind: str) -> str:
    return kind if kind.endswith("s") else f"{kind}s"  # "occluders" are several already


class Inventory:
    """The files of folders, by what becomes of them.

    Attributes:
        results: kind -> how many results of the package were left out.
        unread: ending -> how many other files are not read.
        ways: what pictures among these would need, by their ending.
        closed: folders that cannot be looked into.
    """

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.ways: dict[str, str] = {}
        self.closed: list[OSError] = []

    def photographs(
        self,
        folder: Path,
        leave_out: Callable[[Path], bool] = lambda _: False,
        listed: bool = False,
    ) -> list[Path]:
        """The photographs in a folder and its subfolders, sorted.

        Args:
            folder: where to look.
            leave_out: whether a subfolder is left out.
            listed: a table says which of the pictures count: all are taken, none is looked into.
        """
        found: list[Path] = []
        for root, folders, files in os.walk(folder, onerror=self.closed.append):
            place = Path(root)
            folders[:] = [
                f for f in sorted(folders) if not f.startswith(".") and not leave_out(place / f)
            ]
            names = [name for name in files if not name.startswith(".")]
            pictures = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
            if listed:
                found += [place / name for name in pictures]
                continue
            stems = {os.path.splitext(name)[0].lower() for name in pictures}
            found += filter(self._is_photograph, map(place.joinpath, pictures))
            for name in set(names) - set(pictures):
                self._count(place / name, stems)
        return sorted(found)

    def _is_photograph(self, path: Path) -> bool:
        kind = result_kind(path)
        if kind:
            self.results[kind] += 1
            return False
        way = why_unreadable(path)
        if way is None:
            return True
        ending = path.suffix.lower()
        self.unread[ending] += 1
        self.ways[ending] = way
        return False

    def _count(self, path: Path, stems: set[str]) -> None:
        """Count a file that is no picture by its ending."""
        stem, ending = os.path.splitext(path.name)
        ending = ending.lower()
        if _TABLES.fullmatch(path.name):
            return
        if ending == ".npz" and is_parameter_file(path):
            self.results[PARAMETERS] += 1
        elif ending not in LANDMARK_SUFFIXES or not (
            stem.lower() in stems or path.parent.name in LANDMARK_FOLDERS
        ):
            # Others have no ending, or one that is none: a name may hold any characters.
            self.unread[ending if _ENDING.fullmatch(ending) else _OTHERS] += 1

    def __str__(self) -> str:
        """What is not read, in a line without the folder's name; empty: nothing."""
        # Pictures first, and next to each other what one way out helps.
        order = sorted(
            (item for item in self.unread.items() if item[0] != _OTHERS),
            key=lambda item: (item[0] not in self.ways, self.ways.get(item[0]), -item[1], item[0]),
        )
        shown = order[:_MOST_ENDINGS]
        words = []
        for (ending, count), (following, _) in zip(shown, [*shown[1:], ("", 0)]):
            way = self.ways.get(ending, "")
            same = way == self.ways.get(following, "")
            words.append(f"{count} {ending}" + (f" ({way})" if way and not same else ""))
        rest = self.unread[_OTHERS] + sum(count for _, count in order[_MOST_ENDINGS:])
        words += [f"{rest} other{'s' * (rest > 1)}"] if rest else []
        if self.results:
            kinds = [
                f"{n} {_several(kind) if n > 1 else kind}"
                for kind, n in sorted(self.results.items())
            ]
            words.append(f"what mofa-nvdr wrote: {', '.join(kinds)}")
        total = self.unread.total() + self.results.total()
        return f"{total} file{'s' * (total != 1)} not read: {', '.join(words)}" if total else ""
