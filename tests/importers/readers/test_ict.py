"""The ICT-FaceKit importer on the published topology, written back to OBJ files from arrays of it."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.spatial import cKDTree

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.importers.foreign import ImportOptions, ModelFileError
from mofa_nvdr.importers.formats import import_file, import_model
from mofa_nvdr.importers.readers.ict import read
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.topology import topology
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import basis, refused

IDENTITIES = 12
EXPRESSIONS = ("jawOpen", "mouthClose", "mouthSmile_L", "mouthSmile_R", "eyeBlink_L", "eyeBlink_R",
               "mouthPucker", "browInnerUp_L", "browInnerUp_R", "eyeLookIn_L")  # fmt: skip


@pytest.fixture(scope="module")
def arrays(data_dir) -> dict[str, np.ndarray]:
    with np.load(data_dir / "ict_facekit" / "ict_facekit_light.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def model(arrays, tmp_path_factory) -> FaceModel:
    folder = tmp_path_factory.mktemp("FaceXModel")
    _write(folder, arrays)
    out = folder / "ict.safetensors"
    import_file("ict", folder, out, ImportOptions(shape_modes=IDENTITIES))
    return FaceModel.load(out)


@pytest.fixture(scope="module")
def reference(data_dir, arrays) -> dict[str, np.ndarray]:
    """Mean and modes in mm from a subdivision matrix that was made elsewhere."""
    with np.load(data_dir / "ict_facekit" / "ict_face27k.npz", allow_pickle=False) as q:
        parts = tuple(q[f"S_cc_{name}"] for name in ("data", "indices", "indptr"))
        matrix = scipy.sparse.csr_matrix(parts, shape=tuple(q["S_shape"]))
        base, landmarks, caps = q["base_vertices"], q["landmarks68"], q["eye_cap_vertex"]
    modes = _motions(arrays, "identity")[:IDENTITIES, base]
    return {
        "mean": 10 * (matrix @ arrays["mean"][base].astype(np.float64)),
        "modes": 10 * np.stack([matrix @ mode for mode in modes]),
        "landmarks": landmarks,
        "caps": caps,
    }


def _motions(arrays: dict[str, np.ndarray], kind: str) -> np.ndarray:
    scale = arrays[f"{kind}_scale"][:, None, None].astype(np.float64)
    return arrays[f"{kind}_q"][: max(IDENTITIES, 57)].astype(np.float64) * scale[:57]


def _write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """The published layout: v, vt, usemtl sections, quads and triangles as f v/vt."""
    tail = [f"vt {u:.6f} {v:.6f}" for u, v in arrays["uv"].tolist()]
    current = -1
    rows = zip(*(arrays[n].tolist() for n in ("polygons", "polygon_uv", "polygon_material")))
    for polygon, corners, material in rows:
        if material != current:
            tail.append(f"usemtl {arrays['material_names'][material]}")
            current = material
        tail.append("f " + " ".join(f"{a + 1}/{b + 1}" for a, b in zip(polygon, corners) if a >= 0))
    end = "\n".join(tail) + "\n"

    def write(name: str, vertices: np.ndarray) -> None:
        head = "\n".join(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist())
        (folder / name).write_text(f"# ICT\n{head}\n{end}")

    mean = arrays["mean"].astype(np.float64)
    write("generic_neutral_mesh.obj", mean)
    for k, motion in enumerate(_motions(arrays, "identity")[:IDENTITIES]):
        write(f"identity{k:03d}.obj", mean + motion)
    motions = _motions(arrays, "expression")
    names = arrays["expression_names"].tolist()
    for name in EXPRESSIONS:
        write(f"{name}.obj", mean + motions[names.index(name)])


@pytest.mark.slow
class TestPublishedTopology:
    def test_mesh(self, model):
        """The published face gives 26,944 vertices with all 68 landmarks inside; one surface, eyes closed."""
        facts = topology(model.triangles)
        assert model.num_vertices == 26_944
        assert facts.is_manifold and facts.num_components == 1
        # A disc with one hole, the mouth's.
        assert facts.euler_number == 0
        assert 0.8 < model.frontal_mask.float().mean() < 0.97
        turned = model.mean_shape[model.mirror_index] * torch.tensor([-1.0, 1.0, 1.0])
        assert (turned - model.mean_shape).norm(dim=1).median() < 0.05

    def test_mean_and_modes_are_the_reference(self, model, reference):
        shift = (
            model.mean_shape[model.landmarks].numpy() - reference["mean"][reference["landmarks"]]
        )
        shift = np.median(shift, axis=0)
        distance, match = cKDTree(model.mean_shape.numpy() - shift).query(reference["mean"])
        same = distance < 1e-3
        # What differs: the eyes' caps, which are made otherwise, and the rim, of which rings were taken off.
        assert same.mean() > 0.85, same.mean()
        assert np.quantile(distance[~reference["caps"]], 0.9) < 1e-3
        # The same normal distribution: the covariance of a few hundred coordinates.
        some = np.flatnonzero(same)[::60]
        ours = model.shape_basis.numpy()[:, match[some]].reshape(IDENTITIES, -1)
        theirs = reference["modes"][:, some].reshape(IDENTITIES, -1)
        # six decimals of a centimetre in the files: 1e-5 mm in a coordinate
        np.testing.assert_allclose(ours.T @ ours, theirs.T @ theirs, atol=2e-3)

    def test_modes_are_orthogonal_over_the_region(self, model):
        flat = model.shape_basis.flatten(1).double()
        gram = flat @ flat.T
        cosines = gram / (gram.diag().sqrt()[:, None] * gram.diag().sqrt()[None])
        assert (cosines - torch.eye(IDENTITIES)).abs().max() < 1e-4

    def test_named_expressions(self, model, arrays):
        """Each comes out of the 64-dimensional space as the file has it, at the landmarks."""
        names = arrays["expression_names"].tolist()
        motions = 10 * _motions(arrays, "expression")
        for name, coefficients in model.named_expressions.items():
            moved = torch.einsum("e,evc->vc", coefficients, model.expression_basis)
            want = motions[names.index(name)][arrays["landmarks68"]]
            got = moved[model.landmarks].numpy()
            # Subdivision smooths: 1.5 mm at a lip's edge of 42 mm (jawOpen).
            assert np.abs(got - want).max() < 0.25 + 0.05 * np.abs(want).max(), name
            assert 2 < float(coefficients.norm()) < 7, name
        assert set(model.named_expressions) == set(EXPRESSIONS)

    def test_it_is_a_face_in_the_training_framing(self, model, face_model):
        """Landmarks of code zero within 8 px of the built-in face's at 240, and colours in their places."""
        pictures = []
        for one in (model, face_model):
            decoder = FaceDecoder(one, image_size=240)
            pictures.append(decoder(decoder.code_zero()))
        distance = (pictures[0].landmarks - pictures[1].landmarks).norm(dim=2)[0]
        assert distance[17:].mean() < 5 and distance.max() < 25, distance
        covered = pictures[0].mask.mean() / pictures[1].mask.mean()
        assert 0.85 < covered < 1.15
        spots = pictures[0].landmarks[0].long()
        tone = pictures[0].albedo[0].mean(0)[spots[:, 1], spots[:, 0]]
        assert tone[29] > tone[[51, 57]].mean() and tone[29] > tone[[19, 24]].mean()


class TestIct:
    @pytest.mark.parametrize("quads", [False, True])
    def test_eyes_are_closed_and_the_rest_is_left(self, quads, foreign, tmp_path, options):
        from mofa_nvdr.scene.topology import topology

        path = ff.write_ict(tmp_path / "ict", foreign, quads)
        model, _ = import_model("ict", path, options)
        facts = topology(model.triangles)
        assert facts.is_manifold and facts.num_components == 1
        assert facts.euler_number == 1  # a disc: no hole is left
        assert float(model.mean_shape[:, 2].min()) > -120  # nothing of the back of the head

    def test_modes_are_orthogonal_and_describe_the_same_faces(self, files, options, foreign):
        model, _ = import_model("ict", files["ict"], options)
        flat = basis(model, "shape").reshape(model.layout.num_shape, -1)
        gram = flat @ flat.T
        off = gram - np.diag(np.diag(gram))
        assert np.abs(off).max() < 1e-4 * gram.max()
        assert (np.diff(np.diag(gram)) < 0).all()

    def test_named_expressions_and_their_halves(self, files, options):
        model, _ = import_model("ict", files["ict"], options)
        assert set(model.named_expressions) == {
            "jawOpen", "mouthClose", "mouthSmile_L", "mouthSmile_R",
        }  # fmt: skip
        # jawOpen and mouthClose in two halves each, the smiles: six directions.
        assert model.layout.num_expression == 6

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: (d / "generic_neutral_mesh.obj").unlink(), "not ICT-FaceKit"),
            (lambda d: [p.unlink() for p in d.glob("identity*")], "no identity000.obj and on"),
            (lambda d: (d / "jawOpen.obj").write_text("v 1 2 3\n"), "jawOpen.obj: 1 vertices, but"),
            (lambda d: (d / "jawOpen.obj").write_text("v 1 x 3\n"), "'v' line is not 3 numbers"),
            (lambda d: (d / "jawOpen.obj").write_text("v 1 nan 3\n"), "numbers that are not finite"),
            (lambda d: _replace(d, "f 1/1", "f 9999/1"), "points outside the mesh"),
            (lambda d: _replace(d, "f 1/1", "f 1/9999"), "a texture corner points outside"),
            (lambda d: _replace(d, "f 1/1", "f 1/1 2/2 3/3 4/4 5/5"), "expected 3 or 4"),
            (lambda d: _replace(d, "f 1/1", "f one"), "is not a polygon"),
        ],
    )  # fmt: skip
    def test_wrong_files(self, change, message, foreign, tmp_path, capsys, files):
        folder = ff.write_ict(tmp_path / "ict", foreign)
        change(folder)
        landmarks = files["eos"].with_name("landmarks.json")
        text = refused(capsys, tmp_path / "a.safetensors", "ict", folder, "--landmarks", landmarks)
        assert message in text

    def test_no_such_folder(self, tmp_path):
        (tmp_path / "a.obj").write_text("")
        with pytest.raises(
            ModelFileError, match=r"a\.obj: expected the folder with generic_neutral"
        ):
            read(tmp_path / "a.obj", ImportOptions())
        with pytest.raises(
            ModelFileError, match=r"no generic_neutral_mesh\.obj in this folder; give"
        ):
            read(tmp_path, ImportOptions())

    def test_unknown_topology_needs_landmarks(self, files, tmp_path, capsys):
        text = refused(capsys, tmp_path / "a.safetensors", "ict", files["ict"])
        assert "its 68 landmarks are not known; give them as --landmarks FILE" in text


def _replace(folder: Path, old: str, new: str) -> None:
    path = folder / "generic_neutral_mesh.obj"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
