"""The linear face model of the paper's Eqs. 2 and 3: code parts to vertices and albedo."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.dense_landmarks import DenseLandmarks
from mofa_nvdr.face.linear import linear_vertices
from mofa_nvdr.face.model_arrays import ARRAYS, DENSE, OPTIONAL, check_arrays
from mofa_nvdr.system.budget import Budget, printable, words_of
from mofa_nvdr.system.files import replacing_by_library

FORMAT = "mofa-nvdr face model 1"
BUILT_IN = ("default", "procedural", "portraits")
"""Names of the faces that the package ships; "default" is one of the others."""

_DENSE_FILE = "default_face_landmarks.npz"  # of the built-in face; docs/make_dense_landmarks.py
# Hashes of the built-in faces whose landmarks were other vertices: files name them, and codes are the same.
_EARLIER = {
    "procedural": ("ff3fa8bc75d138e4", "c2a7b12092d54309"),
    "portraits": ("27edbd3e6ac63fd5",),
}
_READ = {*ARRAYS, *OPTIONAL, "named_expressions"}
# safetensors' names of the number types that an array may be stored in.
_KINDS = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


class FaceModel(nn.Module):
    """A linear 3DMM: V = A_s + E_s alpha + E_e delta (Eq. 2) and R = A_r + E_r beta (Eq. 3).

    Convention: millimetres; +x the subject's left, +y up, +z out of the face; the origin is the head's
    centre, about which the head turns. Bases are scaled by their standard deviations, so coefficients are
    standard normal. Albedo is gamma-encoded sRGB in [0, 1]. Everything is a buffer: `.to(device)` moves it.

    Attributes:
        mean_shape: [V, 3] mm. mean_albedo: [V, 3].
        shape_basis: [S, V, 3] mm. expression_basis: [E, V, 3] mm. albedo_basis: [A, V, 3].
        triangles: [T, 3] int32, counter-clockwise seen from outside.
        landmarks: [68] vertex indices, iBUG order.
        mirror_index: [V] the vertex on the other side of the face.
        frontal_mask: [V] bool, the part of the face that training compares with photographs.
        uv: [U, 2] texture coordinates in [0, 1], v upwards (OBJ, OpenGL), or None. One per vertex (U = V),
            unless uv_triangles says otherwise.
        uv_triangles: [T, 3] int32, the rows of uv at each triangle's corners; None: `triangles`. A layout
            with seams has more than one uv at some vertices; the mesh itself is never cut.
        regions: [V] uint8 labels, indices into region_names, or None.
        region_names: names of the labels, () without regions.
        dense_vertices, dense_weights, dense_spread: `dense_landmarks`, or None.
        named_expressions: name -> coefficients [E] of the blendshape in the expression basis.
        metadata: name, version, licence, source, units; same_codes: hashes of other models, with a space
            between, whose codes mean the same faces.

    Raises:
        ValueError: an array is missing, misshapen, not finite, an index points outside the mesh, a uv lies
            outside [0, 1], or a region has no name.
    """

    mean_shape: Tensor
    mean_albedo: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    albedo_basis: Tensor
    triangles: Tensor
    landmarks: Tensor
    mirror_index: Tensor
    frontal_mask: Tensor
    uv: Tensor | None
    uv_triangles: Tensor | None
    regions: Tensor | None
    dense_vertices: Tensor | None
    dense_weights: Tensor | None
    dense_spread: Tensor | None

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        metadata: dict[str, str] | None = None,
        named_expressions: dict[str, np.ndarray] | None = None,
        region_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.metadata = {"name": "unnamed", "version": "0", "units": "mm", **(metadata or {})}
        self.region_names = tuple(region_names)
        check_arrays(arrays, self.region_names)
        for name, (dtype, _) in (ARRAYS | OPTIONAL).items():
            value = None
            if arrays.get(name) is not None:
                array: np.ndarray = np.ascontiguousarray(arrays[name], dtype=dtype)
                value = torch.from_numpy(array)
            self.register_buffer(name, value, persistent=False)
        self.named_expressions = {
            name: torch.as_tensor(np.asarray(value, np.float32))
            for name, value in (named_expressions or {}).items()
        }
        modes = len(self.expression_basis)
        for name, value in self.named_expressions.items():
            if tuple(value.shape) != (modes,):
                raise ValueError(
                    f"FaceModel: named expression {name!r} is {list(value.shape)}, expected [{modes}]"
                )
        self._hash: str | None = None

    @property
    def name(self) -> str:
        """The model's name from its metadata."""
        return self.metadata["name"]

    @property
    def num_vertices(self) -> int:
        """Number of vertices V."""
        return self.mean_shape.shape[0]

    @property
    def layout(self) -> CodeLayout:
        """Sizes of the code that drives this model."""
        return CodeLayout(
            self.shape_basis.shape[0], self.expression_basis.shape[0], self.albedo_basis.shape[0]
        )

    @property
    def hash(self) -> str:
        """Sixteen hex digits that name the model's content; kept with everything that depends on it."""
        if self._hash is None:
            digest = hashlib.sha256()
            for name in ARRAYS:
                digest.update(name.encode())
                digest.update(getattr(self, name).cpu().contiguous().numpy().tobytes())
            self._hash = digest.hexdigest()[:16]
        return self._hash

    @property
    def dense_landmarks(self) -> DenseLandmarks | None:
        """Where the 478 points of a detector lie on this model; None: nobody has measured it."""
        if self.dense_vertices is None or self.dense_weights is None or self.dense_spread is None:
            return None
        return DenseLandmarks(self.dense_vertices.long(), self.dense_weights, self.dense_spread)

    def place_dense_landmarks(self, places: DenseLandmarks) -> None:
        """Take the places of a detector's points as this model's; no hash and no code changes."""
        self.dense_vertices = places.vertices.int().to(self.triangles.device)
        self.dense_weights = places.weights.float().to(self.triangles.device)
        self.dense_spread = places.spread.float().to(self.triangles.device)

    def has_codes_of(self, hash: str) -> bool:
        """Whether codes of the model with this hash are codes of this one."""
        return hash == self.hash or hash in self.metadata.get("same_codes", "").split()

    @property
    def frontal_triangles(self) -> Tensor:
        """Triangles [T', 3] whose three vertices all lie in the frontal region."""
        keep = self.frontal_mask[self.triangles.long()].all(dim=1)
        return self.triangles[keep].contiguous()

    def in_regions(self, *names: str) -> Tensor:
        """Which vertices lie in one of these regions, bool [V]: none where the model does not know them."""
        if self.regions is None:
            return torch.zeros_like(self.frontal_mask)
        labels = [n for n, name in enumerate(self.region_names) if name in names]
        return torch.isin(self.regions, self.regions.new_tensor(labels))

    def vertices(self, shape: Tensor, expression: Tensor, index: Tensor | None = None) -> Tensor:
        """Vertices [B, V, 3] in mm, in model space (Eq. 2).

        Args:
            shape: coefficients [B, S].
            expression: coefficients [B, E].
            index: int64 [N]; only these vertices, [B, N, 3], without the work for the others.
        """
        return linear_vertices(
            self.mean_shape, [self.shape_basis, self.expression_basis], [shape, expression], index
        )

    def albedo(self, albedo: Tensor, index: Tensor | None = None) -> Tensor:
        """Reflectance [B, V, 3], not clamped to [0, 1] (Eq. 3).

        Args:
            albedo: coefficients [B, A].
            index: int64 [N]; only these vertices, [B, N, 3].
        """
        return linear_vertices(self.mean_albedo, [self.albedo_basis], [albedo], index)

    @staticmethod
    def load(name_or_path: str | Path = "default") -> FaceModel:
        """Load a built-in model or a .safetensors file that `save` wrote.

        Args:
            name_or_path: "portraits", with shapes and colours learned from portraits; "procedural", made by a
                recipe alone; "default", which is the latter; or a file.

        Raises:
            ValueError: no such name or file, or the file is not a complete face model.
        """
        if str(name_or_path) in BUILT_IN:
            return _built_in(str(name_or_path))
        path = Path(name_or_path)
        if not path.is_file():
            raise ValueError(
                f"face model {str(name_or_path)!r}: no such file; give 'default', 'procedural' "
                "or 'portraits' (built in) or a .safetensors file"
            )
        try:
            Budget(path)
            with safe_open(path, framework="np") as file:
                # Shown in messages and written into other files.
                metadata = {key: printable(text) for key, text in (file.metadata() or {}).items()}
                arrays = {key: _array_of(file, key) for key in file.keys() if key in _READ}
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(
                f"face model {path}: not a readable .safetensors file ({words_of(error)})"
            ) from None
        if metadata.pop("format", None) != FORMAT:
            raise ValueError(f"face model {path}: the file's metadata does not say {FORMAT!r}")
        rows = arrays.pop("named_expressions", np.zeros((0, 0), np.float32))
        try:
            names, regions = (_names(metadata, key) for key in ("expression_names", "region_names"))
            if len(names) != len(rows):
                raise ValueError(
                    f"FaceModel: {len(names)} expression_names, but {len(rows)} named_expressions"
                )
            return FaceModel(arrays, metadata, dict(zip(names, rows)), regions)
        except ValueError as error:
            raise ValueError(f"face model {path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the model as one .safetensors file with its metadata; atomic.

        Raises:
            OSError: the folder cannot be written.
        """
        path = Path(path)
        arrays = {
            name: getattr(self, name).cpu().numpy()
            for name in (*ARRAYS, *OPTIONAL)
            if getattr(self, name) is not None
        }
        if self.named_expressions:
            arrays["named_expressions"] = np.stack(
                [v.numpy() for v in self.named_expressions.values()]
            )
        metadata = {
            **self.metadata,
            "format": FORMAT,
            "expression_names": json.dumps(list(self.named_expressions)),
            "region_names": json.dumps(list(self.region_names)),
        }
        try:
            with replacing_by_library(path) as temporary:
                save_file(arrays, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{path}: cannot write the face model ({error})") from None


def _array_of(file: Any, key: str) -> np.ndarray:
    """An array of an open .safetensors file; ValueError for number types that NumPy does not have."""
    kind = file.get_slice(key).get_dtype()
    if kind not in _KINDS:
        raise ValueError(f"{key} holds {kind} numbers, expected one of {', '.join(_KINDS)}")
    return file.get_tensor(key)


def _names(metadata: dict[str, str], key: str) -> list[str]:
    """Take a list of names, written as JSON, out of a file's metadata."""
    text = metadata.pop(key, "[]")
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"FaceModel: {key} in the metadata is not a list of names: {text[:60]!r}")
    return [printable(name) for name in names]


def _built_in(name: str) -> FaceModel:
    from mofa_nvdr.face import portraits, recipe

    if name == "portraits":
        arrays, metadata = portraits.load_portraits()
        metadata["same_codes"] = " ".join([metadata.get("same_codes", ""), *_EARLIER[name]]).strip()
        return _with_shared_parts(arrays, metadata)
    return model_of_recipe(recipe.load_product())


def model_of_recipe(arrays: Mapping[str, np.ndarray], name: str = "procedural") -> FaceModel:
    """The built-in face as a model, from arrays of `recipe.build` or `load_product`."""
    metadata = {
        "name": name,
        "version": "1",
        "licence": "Apache-2.0",
        "source": "mofa_nvdr.face.recipe",
    }
    metadata["same_codes"] = " ".join(_EARLIER["procedural"])
    return _with_shared_parts(arrays, metadata)


def _with_shared_parts(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> FaceModel:
    """A model of the built-in mesh: with the places of its dense landmarks and its names."""
    places = importlib.resources.files("mofa_nvdr.assets") / _DENSE_FILE
    with np.load(io.BytesIO(places.read_bytes()), allow_pickle=False) as file:
        arrays = {**{key: file[key] for key in DENSE}, **arrays}
    names = [str(name) for name in arrays["expression_names"]]
    return FaceModel(
        {name: arrays[name] for name in (*ARRAYS, *OPTIONAL) if name in arrays},
        metadata,
        dict(zip(names, arrays["named_expressions"])),
        [str(name) for name in arrays["region_names"]],
    )
