"""Small face models in the layouts that others publish, for the importers' tests."""

from __future__ import annotations

import functools
import json
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import scipy.sparse
from scipy.spatial import Delaunay

from mofa_nvdr.cli import main
from mofa_nvdr.face.model import FaceModel

EYES = (range(36, 42), range(42, 48))


@functools.cache
def _default() -> FaceModel:
    return FaceModel.load("procedural")


class SmallForeign:
    """A coarse face over the built-in one's landmarks (vertices 0 to 67) and a rim, with random modes.

    Attributes:
        mean: [V, 3] mm. triangles: [T, 3], outward.
        shape: [6, V, 3], expression: [5, V, 3] mm. color: [V, 3], albedo: [4, V, 3] in [0, 1].
    """

    def __init__(self, seed: int = 0) -> None:
        default = _default()
        points = default.mean_shape.numpy()[default.landmarks.numpy()].astype(np.float64)
        points[[65, 66, 67], 1] -= 3.0  # a mouth that is a little open
        points[:, :2] += np.random.default_rng(9).normal(
            0, 0.05, (68, 2)
        )  # no two points in one place
        top = [(15, 82), (45, 75), (70, 60), (84, 30)]
        rim = [[s * x, y, -30 - 0.006 * x * x] for x, y in top for s in (-1, 1)]
        self.mean = np.concatenate([points, rim])
        self.triangles = Delaunay(self.mean[:, :2]).simplices.astype(np.int64)
        a, b, c = (self.mean[self.triangles[:, k], :2] for k in range(3))
        turned = np.cross(np.c_[b - a, 0 * a[:, :1]], np.c_[c - a, 0 * a[:, :1]])[:, 2] < 0
        self.triangles[turned] = self.triangles[turned][:, ::-1]
        rng = np.random.default_rng(seed)
        count = len(self.mean)
        self.shape = rng.normal(size=(6, count, 3)) * np.linspace(3, 1, 6)[:, None, None]
        self.expression = rng.normal(size=(5, count, 3)) * np.linspace(2, 1, 5)[:, None, None]
        self.color = rng.uniform(0.2, 0.8, size=(count, 3))
        self.albedo = rng.normal(size=(4, count, 3)) * 0.03

    @property
    def landmarks(self) -> list[int]:
        return list(range(68))


def _columns(modes: np.ndarray) -> np.ndarray:
    """[K, V, 3] -> [3 V, K]."""
    return modes.reshape(len(modes), -1).T.astype(np.float32)


def _unit(modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit columns [3 V, K] and their lengths [K]."""
    columns = _columns(modes).astype(np.float64)
    lengths = np.linalg.norm(columns, axis=0)
    return (columns / lengths).astype(np.float32), lengths


def write_landmarks(path: Path) -> Path:
    path.write_text(json.dumps(list(range(68))))
    return path


def write_bfm2009(path: Path, m: SmallForeign) -> Path:
    shape, deviations = _unit(m.shape * 1e3)  # micrometres
    texture, texture_deviations = _unit(m.albedo * 255)
    scipy.io.savemat(path, {
        "shapeMU": m.mean.reshape(-1, 1) * 1e3, "shapePC": shape, "shapeEV": deviations[:, None],
        "texMU": m.color.reshape(-1, 1) * 255, "texPC": texture, "texEV": texture_deviations[:, None],
        "tl": (m.triangles[:, [0, 2, 1]] + 1).astype(float), "segbin": np.ones((len(m.mean), 4)),
    })  # fmt: skip
    return path


def write_deep3d(path: Path, m: SmallForeign) -> Path:
    scipy.io.savemat(path, {
        "meanshape": m.mean.reshape(1, -1) / 100, "idBase": _columns(m.shape / 100),
        "exBase": _columns(m.expression / 100), "meantex": m.color.reshape(1, -1) * 255,
        "texBase": _columns(m.albedo * 255), "tri": (m.triangles + 1).astype(float),
        "keypoints": np.arange(1, 69, dtype=float)[None],
        "point_buf": np.ones((len(m.mean), 8)), "skinmask": np.ones((1, len(m.mean))),
    })  # fmt: skip
    return path


def write_lyhm(path: Path, m: SmallForeign) -> Path:
    shape, deviations = _unit(m.shape)
    texture, texture_deviations = _unit(m.albedo)
    scipy.io.savemat(path, {
        "shp": {"mu": m.mean.reshape(1, -1), "eigVec": shape, "eigVal": deviations[:, None] ** 2},
        "tex": {"mu": m.color.reshape(1, -1), "eigVec": texture,
                "eigVal": texture_deviations[:, None] ** 2},
        "tri": {"faces": (m.triangles[:, [0, 2, 1]] + 1).astype(float)},
    })  # fmt: skip
    return path


def write_bfm2017(path: Path, m: SmallForeign) -> Path:
    offset = 0.25 * m.expression[0]  # the expressions' own mean
    with h5py.File(path, "w") as file:
        for part, mean, modes in (
            ("shape", m.mean - offset, m.shape),
            ("expression", offset, m.expression),
            ("color", m.color, m.albedo),
        ):
            basis, deviations = _unit(modes)
            file[f"{part}/model/mean"] = mean.reshape(-1).astype(np.float32)
            file[f"{part}/model/pcaBasis"] = basis
            file[f"{part}/model/pcaVariance"] = (deviations**2).astype(np.float32)
            file[f"{part}/model/noiseVariance"] = np.zeros(1, np.float32)
        file["shape/representer/points"] = m.mean.T.astype(np.float32)
        file["shape/representer/cells"] = m.triangles.T.astype(np.int32)
        file["color/representer/colorspace"] = "RGB"
        names = {"right.eye.corner_outer": 36, "left.eye.corner_outer": 45, "center.nose.tip": 30,
                 "right.lips.corner": 48, "left.lips.corner": 54, "center.chin.tip": 8,
                 "right.eye.corner_inner": 39, "left.eye.corner_inner": 42}  # fmt: skip
        file["metadata/landmarks/json"] = json.dumps(
            [{"id": n, "coordinates": m.mean[k].tolist()} for n, k in names.items()]
        )
    return path


def write_albedomm(path: Path, m: SmallForeign) -> Path:
    basis, deviations = _unit(m.albedo[:2])
    with h5py.File(path, "w") as file:
        file["diffuseAlbedo/model/mean"] = (1 - m.color).reshape(-1).astype(np.float32)
        file["diffuseAlbedo/model/pcaBasis"] = basis
        file["diffuseAlbedo/model/pcaVariance"] = (deviations**2).astype(np.float32)
    return path


def flame_arrays(m: SmallForeign) -> dict:
    """Three joints; the third is the jaw, which moves what lies below the nose."""
    modes = np.concatenate([m.shape, m.expression[:2]]) / 1e3  # 6 and 2: three to one
    below = (m.mean[:, 1] < m.mean[33, 1]).astype(float)
    regressor = np.zeros((3, len(m.mean)))
    regressor[:, [0, 16]] = 0.5  # between the ears
    return {
        "v_template": m.mean / 1e3, "shapedirs": modes.transpose(1, 2, 0),
        "posedirs": np.zeros((len(m.mean), 3, 18)), "weights": np.c_[1 - below, 0 * below, below],
        "J_regressor": scipy.sparse.csc_matrix(regressor), "f": m.triangles.astype(np.uint32),
        "kintree_table": np.array([[-1, 0, 1], [0, 1, 2]]),
    }  # fmt: skip


def write_flame(path: Path, m: SmallForeign, chumpy: bool = True) -> Path:
    """A pickle as of Python 2: protocol 2, chumpy objects around some arrays."""
    arrays = flame_arrays(m)
    if not chumpy:
        path.write_bytes(pickle.dumps(arrays, protocol=2))
        return path
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x: np.ndarray) -> None:
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch  # type: ignore[attr-defined]
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = package, module
    try:
        for key in ("shapedirs", "posedirs", "weights", "v_template"):
            arrays[key] = Ch(arrays[key])
        path.write_bytes(pickle.dumps(arrays, protocol=2))
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
    return path


def write_flame_npz(path: Path, m: SmallForeign) -> Path:
    arrays = flame_arrays(m)
    arrays["J_regressor"] = arrays["J_regressor"].toarray()
    np.savez(path, **arrays)
    return path


def write_flame_albedo(path: Path, m: SmallForeign, own: bool = False) -> Path:
    """A texture of a red ramp along u and a green one along v; one mode that adds 0.1 blue."""
    ramp = (np.arange(64) + 0.5) / 64
    texture = np.zeros((64, 64, 3))
    texture[..., 0], texture[..., 1] = ramp[None, :], ramp[::-1, None]
    basis = np.zeros((64, 64, 3, 2))
    basis[..., 2, 0] = 0.1
    low, high = m.mean[:, :2].min(0), m.mean[:, :2].max(0)
    uv = 0.1 + 0.8 * (m.mean[:, :2] - low) / (high - low)
    names = {"MU": texture, "PC": basis}
    if own:
        names = {"mean": texture[..., ::-1] * 255, "tex_dir": basis[..., ::-1, :] * 255}
    np.savez(path, vt=uv, ft=m.triangles, **names)
    return path


def write_gnm(path: Path, m: SmallForeign) -> Path:
    """With a tooth: one triangle before the mouth, of a group of its own."""
    tooth = m.mean[62] + np.array([[0, 0, 3.0], [2, 0, 3.0], [0, 2, 3.0]])
    vertices = np.concatenate([m.mean, tooth])
    extra = ((0, 0), (0, 3), (0, 0))
    groups = np.zeros((2, len(vertices)), np.float32)
    groups[0, : len(m.mean)], groups[1, len(m.mean) :] = 1, 1
    first = len(m.mean)
    np.savez(
        path,
        template_vertex_positions=vertices / 1e3,
        # Weak modes first: the reader has to order them.
        vertex_identity_basis=np.pad(m.shape[::-1], extra) / 1e3,
        expression_basis=np.pad(m.expression[::-1], extra) / 1e3,
        triangles=np.concatenate([m.triangles, [[first, first + 1, first + 2]]]),
        vertex_groups=groups,
        vertex_group_names=np.array(["skin", "upper_teeth_and_gums"]),
        version=np.array("3.0"),
    )
    return path


def _matrix(values: np.ndarray) -> bytes:
    values = np.atleast_2d(np.asarray(values, np.float32))
    return struct.pack("<ii", *values.shape) + values.tobytes(order="F")


def write_eos(path: Path, m: SmallForeign) -> Path:
    def pca(mean: np.ndarray, modes: np.ndarray) -> bytes:
        basis, deviations = _unit(modes)
        triangles = m.triangles.astype("<i4")
        return (
            _matrix(mean.reshape(-1, 1)) + _matrix(basis) + _matrix((deviations**2)[:, None])
            + struct.pack("<Q", len(triangles)) + triangles.tobytes()
        )  # fmt: skip

    uv = np.linspace(0, 1, 2 * len(m.mean)).reshape(-1, 2).astype("<f8")
    path.write_bytes(
        struct.pack("<I", 1) + pca(m.mean, m.shape) + pca(m.color, m.albedo)
        + struct.pack("<Q", len(uv)) + uv.tobytes()
    )  # fmt: skip
    return path


def write_eos_blendshapes(path: Path, m: SmallForeign) -> Path:
    parts = [struct.pack("<Q", 3)]
    for k, name in enumerate((b"anger", b"smile_L", b"smile_R")):
        parts.append(struct.pack("<Q", len(name)) + name + _matrix(m.expression[k].reshape(-1, 1)))
    path.write_bytes(b"".join(parts))
    return path


def write_ict(folder: Path, m: SmallForeign, quads: bool = False) -> Path:
    """The face with holes for the eyes (material M_Face), two eyeballs, and a back of the head."""
    folder.mkdir(parents=True, exist_ok=True)
    inside = [np.isin(m.triangles, list(eye)).all(1) for eye in EYES]
    skin = m.triangles[~(inside[0] | inside[1])]
    vertices, materials = [m.mean], [("M_Face", skin)]
    for name, eye in zip(("M_ScleraRight", "M_ScleraLeft"), EYES):
        centre = m.mean[list(eye)].mean(0) - [0, 0, 11]
        ball = _sphere(12.0) + centre
        first = sum(map(len, vertices))
        fan = (
            first + Delaunay(_sphere(12.0)[:, :2] + 1e-3 * np.arange(len(ball))[:, None]).simplices
        )
        vertices.append(ball)
        materials.append((name, fan))
    first = sum(map(len, vertices))
    vertices.append(m.mean[:3] - [0, 0, 150])
    materials.append(("M_BackHead", np.array([[first, first + 1, first + 2]])))
    everything = np.concatenate(vertices) / 10  # centimetres
    faces: list[str] = []
    for name, triangles in materials:
        faces.append(f"usemtl {name}")
        rows = _paired(triangles) if quads and name == "M_Face" else triangles.tolist()
        faces += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in row) for row in rows]
    coordinates = [f"vt {0.5 + x / 30:.5f} {0.5 + y / 30:.5f}" for x, y in everything[:, :2]]

    def write(name: str, motion: np.ndarray) -> None:
        moved = everything.copy()
        moved[: len(m.mean)] += motion / 10
        lines = ["# a comment", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in moved)]
        (folder / name).write_text("\n".join([*lines, *coordinates, *faces]) + "\n")

    write("generic_neutral_mesh.obj", np.zeros_like(m.mean))
    for k, mode in enumerate(m.shape):
        write(f"identity{k:03d}.obj", mode)
    for k, name in enumerate(("jawOpen", "mouthClose", "mouthSmile_L", "mouthSmile_R")):
        write(f"{name}.obj", m.expression[k])
    return folder


def _sphere(radius: float) -> np.ndarray:
    """Forty points spread over a sphere."""
    k = np.arange(40)
    z, angle = 1 - (2 * k + 1) / 40, k * np.pi * (3 - np.sqrt(5))
    return radius * np.column_stack(
        [np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z]
    )


def _paired(triangles: np.ndarray) -> list[list[int]]:
    """Some pairs of neighbouring triangles as quads, the others as they are."""
    rows, used = [], set()
    for i, one in enumerate(triangles.tolist()):
        if i in used:
            continue
        for j in range(i + 1, len(triangles)):
            other = triangles[j].tolist()
            shared = set(one) & set(other)
            if j not in used and len(shared) == 2 and len(rows) < 20:
                apex = next(v for v in other if v not in shared)
                k = next(k for k in range(3) if {one[k], one[(k + 1) % 3]} == shared)
                rows.append([one[k], apex, one[(k + 1) % 3], one[(k + 2) % 3]])
                used |= {i, j}
                break
        else:
            rows.append(one)
            used.add(i)
    return rows


# format -> (writer, name of the file)
FILES = {
    "bfm2009": (write_bfm2009, "01_MorphableModel.mat"),
    "deep3d": (write_deep3d, "BFM_model_front.mat"),
    "lyhm": (write_lyhm, "lyhm.mat"),
    "bfm2017": (write_bfm2017, "model2017-1_bfm_nomouth.h5"),
    "flame": (write_flame, "generic_model.pkl"),
    "gnm": (write_gnm, "gnm_head.npz"),
    "eos": (write_eos, "sfm.bin"),
    "ict": (write_ict, "FaceXModel"),
}


def basis(model: FaceModel, name: str) -> np.ndarray:
    return getattr(model, f"{name}_basis").numpy()


def refused(capsys, out: Path, *args: object) -> str:
    """An import that must fail with one line and write nothing; the line."""
    before = sorted(p.name for p in out.parent.iterdir())
    assert main(["model", "import", *map(str, args), "--out", str(out)]) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("mofa-nvdr: ") and len(text.splitlines()) == 1, text
    assert sorted(p.name for p in out.parent.iterdir()) == before
    return text


def with_member(source: Path, target: Path, name: str, body: bytes) -> None:
    """A copy of a zip archive with one member exchanged."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            new.writestr(member, body if member == name else old.read(member))
