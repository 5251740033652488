"""The formats by name, what a file looks like, and the import as one call."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mofa_nvdr.importers.foreign import ImportOptions, ModelFileError
from mofa_nvdr.system.budget import MOST_BYTES, words_of
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import KEY, check_free, content_hash, origin

if TYPE_CHECKING:
    from mofa_nvdr.face.model import FaceModel

_EXTRA = 'pip install "mofa-nvdr[import]"'


@dataclass(frozen=True)
class Format:
    """A foreign format.

    Attributes:
        what: for people.
        module: in mofa_nvdr.importers.readers; its reader and sniffer are named by `read` and `looks_like`.
        takes: options that name a further file, which this format knows.
    """

    what: str
    module: str
    read: str = "read"
    looks_like: str = "looks_like"
    takes: tuple[str, ...] = ()


FORMATS = {
    "ict": Format("ICT-FaceKit: the folder with generic_neutral_mesh.obj", "ict"),
    "bfm2009": Format(
        "Basel Face Model 2009: 01_MorphableModel.mat", "basel_mat", "read_bfm2009",
        "looks_like_bfm2009", ("albedo",),
    ),
    "bfm2017": Format(
        "Basel Face Model 2017 or 2019, full or face12: .h5", "basel_h5", takes=("albedo",)
    ),
    "deep3d": Format(
        "Deep3DFaceRecon: BFM_model_front.mat", "basel_mat", "read_deep3d", "looks_like_deep3d"
    ),
    "flame": Format(
        "FLAME 2020 or 2023: generic_model.pkl or .npz", "flame", takes=("albedo",)
    ),
    "gnm": Format("Google GNM head: gnm_head.npz", "gnm"),
    "lyhm": Format(
        "Liverpool-York Head Model: .mat", "basel_mat", "read_lyhm", "looks_like_lyhm"
    ),
    "eos": Format("eos: .bin (Surrey Face Model and others)", "eos", takes=("expressions",)),
}  # fmt: skip
ALIASES = {"bfm2019": "bfm2017", "flame2020": "flame", "flame2023": "flame", "sfm": "eos"}
# From the surest sign to the vaguest: an eos file has no magic word.
_SNIFFING = ("ict", "gnm", "flame", "bfm2017", "bfm2009", "deep3d", "lyhm", "eos")


def import_model(
    name: str, path: str | Path, options: ImportOptions | None = None
) -> tuple[FaceModel, list[str]]:
    """Read a foreign face model.

    Args:
        name: a key of FORMATS or ALIASES.
        path: the file or folder.
        options: what to keep; None: as many modes as the built-in face has.

    Returns:
        the model; lines for the user (modes kept, landmarks, albedo).

    Raises:
        ModelFileError: not such a file, damaged, oversized, or no face in millimetres. One line.
        RuntimeError: a reader's library is not installed.
        ValueError: no such format, or no such face model to take albedo of.
    """
    options = options or ImportOptions()
    path = Path(path)
    key = ALIASES.get(name, name)
    if key not in FORMATS:
        raise ValueError(
            f"format {name!r} is unknown, expected one of {', '.join([*FORMATS, *ALIASES])}"
        )
    _check_options(key, options)
    if not path.exists():
        raise ModelFileError(f"{path}: no such file or folder")
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise RuntimeError(f"importing a face model needs scipy; {_EXTRA}") from None
    from mofa_nvdr.importers.normalise import arrays_of, face_model

    arrays_of(options.albedo_of)  # raises here, where the foreign file is not to blame
    if not _call(key, "looks_like", path):
        others = [k for k in _SNIFFING if k != key and _call(k, "looks_like", path)]
        hint = f"; it looks like {others[0]}" if others else ""
        if path.suffix == ".safetensors":
            hint = "; a .safetensors face model needs no import, give it as --face-model"
        raise ModelFileError(f"{path}: not {FORMATS[key].what}{hint}")
    try:
        with np.errstate(all="ignore"):  # what is not finite is found by looking
            foreign = _call(key, "read", path, options)
            return face_model(foreign, options, path)
    except ModelFileError:
        raise
    except (ValueError, ArithmeticError, LookupError) as error:  # of numbers that fit by chance
        raise ModelFileError(f"{path}: its numbers form no face ({words_of(error)})") from error
    except MemoryError:
        raise ModelFileError(f"{path}: too large for this machine's memory") from None


def _call(key: str, what: str, *args: Any) -> Any:
    form = FORMATS[key]
    module = importlib.import_module(f"mofa_nvdr.importers.readers.{form.module}")
    function: Callable[..., Any] = getattr(module, form.read if what == "read" else form.looks_like)
    if what == "looks_like" and args[0].is_dir() and key != "ict":
        return False
    return function(*args)


def _origin(name: str, path: Path) -> str:
    """Of a file its bytes, of a folder the names and sizes of its files: it may hold a gigabyte."""
    facts = [f"model import {ALIASES.get(name, name)}"]
    with contextlib.suppress(OSError):  # import_model says what is wrong with it
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
            facts += [f"{os.fsencode(file.name).hex()} {file.stat().st_size}" for file in files]
        elif path.is_file() and path.stat().st_size <= MOST_BYTES:
            facts.append(content_hash(path))
    return origin(*facts)


def _check_options(key: str, options: ImportOptions) -> None:
    for field in ("shape_modes", "expression_modes", "albedo_modes"):
        least = 0 if field == "expression_modes" else 1
        if getattr(options, field) < least:
            raise ValueError(
                f"--{field.replace('_', '-')} is {getattr(options, field)}, expected {least} or more"
            )
    if options.vertices < 0 or options.vertices > 1_000_000:
        raise ValueError(f"--vertices is {options.vertices}, expected 0 to 1000000")
    for field in ("albedo", "expressions"):
        given = getattr(options, field)
        if given is None:
            continue
        if field not in FORMATS[key].takes:
            raise ValueError(f"--{field} {given}: format {key} takes no such file")
        if not given.is_file():
            raise ModelFileError(f"--{field} {given}: no such file")


def import_file(
    name: str,
    path: str | Path,
    out: str | Path,
    options: ImportOptions | None = None,
    overwrite: bool = False,
) -> Path:
    """Read a foreign face model and write it as .safetensors; prints what it is and its licence.

    Args:
        name: a key of FORMATS or ALIASES.
        path: the file or folder.
        out: .safetensors file; its folder must exist.
        options: what to keep.
        overwrite: replace a file that is there, whatever it was made from; else only what was imported from
            the same file or folder (system/origins.py).

    Raises:
        ValueError: as `import_model`; or `out` has another ending, its folder cannot be written, or a file of
            that name was made from something else. Nothing is written then.
        RuntimeError: a reader's library is not installed.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"--out {out}: expected a .safetensors file")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: no such folder {out.parent}")
    made_from = _origin(name, Path(path))
    check_free(out, [out], made_from, overwrite)
    model, notes = import_model(name, path, options)
    model.metadata[KEY] = made_from
    try:
        model.save(out)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    sizes = model.layout
    say(
        f"{out}: {model.name}, {model.num_vertices} vertices, {len(model.triangles)} triangles, "
        f"{sizes.num_shape} shape, {sizes.num_expression} expression and {sizes.num_albedo} albedo "
        f"modes, {len(model.named_expressions)} named expressions"
    )
    for note in notes:
        say(f"  {note}")
    say(f"  licence: {model.metadata['licence']}")
    say(f"  source: {model.metadata['source']}")
    return out
