"""Make the built-in face again from its recipe, and say how it compares with the one that is shipped."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from mofa_nvdr.face import recipe
from mofa_nvdr.face.model import FaceModel, model_of_recipe
from mofa_nvdr.system.files import working_folder
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import KEY, check_free, origin

SUFFIXES = (".safetensors", ".npz")
# Vertices whose covariances are compared; a basis may be turned among modes of nearly equal variance.
_COMPARED = 300
_BASES = {"shape_basis": "mm2", "expression_basis": "mm2", "albedo_basis": ""}


def build_model(out: str | Path, overwrite: bool = False) -> FaceModel:
    """Run the recipe and write its product.

    The written model holds the numbers of the compact file, rounded to its steps. Where the recipe gives the
    shipped product's bits, it is the built-in face with the same hash, and parameters fit both;
    if this machine's LAPACK turns the modes, it is another model and has another name.

    Args:
        out: .safetensors, which --face-model takes; or .npz, the compact file that the package ships.
        overwrite: replace a file that is there, whatever it was made from; else only one that was built here.

    Returns:
        The model.

    Raises:
        ValueError: another ending, a file that was made from something else, or it can't be written.
        RuntimeError: scipy is not installed.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"--out {out}: expected a .safetensors file (a face model) or an .npz file (the compact "
            "file of mofa_nvdr.assets)"
        )
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: no such folder {out.parent}")
    made_from = origin("model build")
    check_free(out, [out], made_from, overwrite)
    try:
        arrays = recipe.build()
    except ImportError as error:
        raise RuntimeError(
            f"model build: the recipe needs scipy ({error}); pip install scipy"
        ) from None
    try:
        with working_folder(out) as folder:
            compact = folder / "product.npz"
            recipe.write_product(compact, arrays)
            rounded = recipe.load_product(compact)
            size = compact.stat().st_size
            model = model_of_recipe(rounded)
            shipped = recipe.load_product()
            if model.hash != model_of_recipe(shipped).hash:
                model.metadata["name"] = "procedural-rebuilt"
            model.metadata[KEY] = made_from
            if out.suffix.lower() == ".npz":
                with zipfile.ZipFile(compact, "a") as archive:
                    archive.comment = made_from.encode()
                os.replace(compact, out)
            else:
                model.save(out)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    say(f"{model.name} {model.hash}: {out} ({size / 1e6:.2f} MB as a compact file)")
    for line in differences(rounded, shipped):
        say(line)
    return model


def differences(arrays: dict[str, np.ndarray], shipped: dict[str, np.ndarray]) -> list[str]:
    """Lines that say how two products of the recipe differ.

    Bases are compared by the covariance that they span, over the same 300 vertices: it doesn't depend on the
    choice of eigenvectors among nearly equal variances.
    """
    missing = sorted(set(shipped) ^ set(arrays))
    unlike = [
        name
        for name in sorted(set(arrays) & set(shipped))
        if arrays[name].shape != shipped[name].shape
    ]
    if missing or unlike:
        parts = [f"only one has {name}" for name in missing]
        parts += [
            f"{name} is {list(arrays[name].shape)}, shipped {list(shipped[name].shape)}"
            for name in unlike
        ]
        return ["unlike the shipped product: " + "; ".join(parts)]
    if all(np.array_equal(arrays[name], shipped[name]) for name in arrays):
        return ["the same as the shipped product, bit for bit"]
    lines = ["against the shipped product, largest differences:"]
    for name, unit in (("mean_shape", " mm"), ("mean_albedo", ""), ("uv", "")):
        lines.append(f"  {name}: {np.abs(arrays[name] - shipped[name]).max():.2g}{unit}")
    some = np.random.default_rng(0).choice(
        len(arrays["mean_shape"]), min(_COMPARED, len(arrays["mean_shape"])), replace=False
    )
    for name, unit in _BASES.items():
        a, b = (x[name][:, some].reshape(len(x[name]), -1).astype(float) for x in (arrays, shipped))
        spread = np.abs(b.T @ b)
        off = np.abs(a.T @ a - b.T @ b).max()
        lines.append(f"  covariance of {name}: {off:.2g} of {spread.max():.3g} {unit}".rstrip())
    plain = (
        "triangles",
        "landmarks",
        "mirror_index",
        "frontal_mask",
        "regions",
        "expression_names",
    )
    for name in plain:
        differ = int((arrays[name] != shipped[name]).sum())
        lines.append(f"  {name}: {f'{differ} differ' if differ else 'the same'}")
    return lines
