"""Parameter files: nothing is lost on the way to disk and back, and no damaged file gets through."""

import dataclasses
import math
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix

LAYOUT = CodeLayout(4, 3, 5)


def _parameters(camera: Camera | None = None, layout: CodeLayout = LAYOUT) -> FaceParameters:
    generator = torch.Generator().manual_seed(3)
    code = layout.unpack(torch.randn(1, layout.size, generator=generator))
    crop = np.array([12.0, 0.0, 480.0])
    return FaceParameters(code, camera or Camera(112), crop, ("cap", "0123456789abcdef"), "ä b.jpg")


def _rewrite(path, **changes) -> None:
    """Change entries of an .npz; None removes one."""
    with np.load(path) as file:
        arrays = {**{key: file[key] for key in file.files}, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "face.npz"
    _parameters().save(path)
    return path


def _refused(path, layout=None) -> str:
    with pytest.raises(ValueError) as caught:
        load_parameters(path, layout)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and len(text.splitlines()) == 1
    return text


class TestSave:
    @pytest.mark.parametrize(
        "camera",
        [
            Camera(112),
            Camera((96, 128), 301.7, near=50, far=3000, position=(1.5, -2.25, -900.1)),
        ],
    )
    def test_round_trip_is_exact(self, tmp_path, camera):
        before = _parameters(camera)
        before.save(tmp_path / "face.npz")
        after = load_parameters(tmp_path / "face.npz", LAYOUT)
        assert torch.equal(after.code.pack(), before.code.pack())
        assert (after.camera.image_size, after.camera.focal_px) == (
            camera.image_size,
            camera.focal_px,
        )
        assert after.camera.position == camera.position
        assert (after.camera.near, after.camera.far) == (camera.near, camera.far)
        assert np.array_equal(after.crop, before.crop)
        assert (after.face_model, after.source) == (before.face_model, "ä b.jpg")
        after.save(tmp_path / "again.npz")
        first, second = np.load(tmp_path / "face.npz"), np.load(tmp_path / "again.npz")
        assert first.files == second.files
        assert all(first[key].tobytes() == second[key].tobytes() for key in first.files)

    def test_measures(self, tmp_path):
        """Kept where they were measured; in files without them they are unknown."""
        plain = _parameters()
        plain.save(tmp_path / "plain.npz")
        points = np.arange(136.0).reshape(68, 2)
        measured = dataclasses.replace(
            plain, certainty=0.5, photometric=0.125, mask_fraction=0.25, landmarks68=points
        )
        measured.save(tmp_path / "measured.npz")
        unknown, known = (load_parameters(tmp_path / f"{k}.npz") for k in ("plain", "measured"))
        assert (known.certainty, known.photometric, known.mask_fraction) == (0.5, 0.125, 0.25)
        assert np.array_equal(known.landmarks68, points)
        assert math.isnan(unknown.photometric) and math.isnan(unknown.mask_fraction)
        assert unknown.landmarks68 is None
        _rewrite(tmp_path / "measured.npz", photometric=None, mask_fraction=None, landmarks68=None)
        earlier = load_parameters(tmp_path / "measured.npz")
        assert math.isnan(earlier.photometric) and earlier.landmarks68 is None

    def test_paper_pose_gives_the_same_camera_points(self, saved):
        """Phi(v) = T^-1 (v - t) of the file is R v + position + translation of the code."""
        face = load_parameters(saved)
        points = 80 * torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(0))
        rotation = axis_angle_to_matrix(face.code.rotation)
        ours = face.camera.to_camera(points, rotation, face.code.translation)[0].double().numpy()
        with np.load(saved) as file:
            orientation, place = file["T"].astype(float), file["t"].astype(float)
        paper = (np.linalg.inv(orientation) @ (points[0].double().numpy() - place).T).T
        # 1.0e-4 mm was measured, at 0.9 m: float32.
        assert np.abs(paper - ours).max() < 1e-3
        assert np.linalg.norm(place) == pytest.approx(np.linalg.norm(_shift(face)), rel=1e-5)

    def test_no_pickles_inside(self, saved):
        with np.load(saved, allow_pickle=False) as file:
            assert {file[key].dtype.kind for key in file.files} <= set("fiU")

    def test_code_with_gradient(self, tmp_path):
        face = _parameters()
        code = face.code.map(lambda part: part.requires_grad_())
        FaceParameters(code, face.camera, face.crop, face.face_model, "a").save(tmp_path / "a.npz")
        assert torch.equal(load_parameters(tmp_path / "a.npz").code.shape, code.shape)

    def test_two_faces(self, tmp_path):
        face = _parameters()
        two = FaceParameters(LAYOUT.zeros(2), face.camera, face.crop, face.face_model, "a")
        with pytest.raises(ValueError, match="code holds 2 faces, expected 1"):
            two.save(tmp_path / "a.npz")

    def test_failed_write_leaves_nothing(self, tmp_path):
        (tmp_path / "face.npz").mkdir()
        with pytest.raises(OSError):
            _parameters().save(tmp_path / "face.npz")
        assert os.listdir(tmp_path) == ["face.npz"]


def _shift(face: FaceParameters) -> np.ndarray:
    return face.code.translation[0].numpy() + np.array(face.camera.position)


class TestLoadParameters:
    def test_no_such_file(self, tmp_path):
        assert "no such file" in _refused(tmp_path / "no.npz")

    def test_folder(self, tmp_path):
        assert "no such file" in _refused(tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"PK\x03\x04", b"\x89PNG\r\n", os.urandom(2000), pickle.dumps({"a": 1})]
    )
    def test_not_an_npz(self, tmp_path, content):
        (tmp_path / "face.npz").write_bytes(content)
        assert "not a readable .npz" in _refused(tmp_path / "face.npz")

    def test_single_array(self, tmp_path):
        with open(tmp_path / "face.npz", "wb") as file:
            np.save(file, np.zeros(257))
        assert "not a readable .npz of parameters (a single array)" in _refused(
            tmp_path / "face.npz"
        )

    def test_pickled_objects_are_not_loaded(self, saved, tmp_path):
        class Trap:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        _rewrite(saved, shape=np.array([Trap()], dtype=object))
        assert "not a readable .npz" in _refused(saved)
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_truncated(self, saved, share):
        content = saved.read_bytes()
        saved.write_bytes(content[: int(share * len(content))])
        assert "not a readable .npz" in _refused(saved)

    def test_flipped_byte_in_an_array(self, saved):
        with zipfile.ZipFile(saved) as archive:
            place = archive.getinfo("albedo.npy").header_offset + 180
        content = bytearray(saved.read_bytes())
        content[place] ^= 255
        saved.write_bytes(content)
        assert "not a readable .npz" in _refused(saved)

    @pytest.mark.parametrize(
        "key",
        ["shape", "expression", "albedo", "rotation", "translation", "light", "image_size", "focal",
         "position", "crop", "face_model", "face_model_hash", "source"],
    )  # fmt: skip
    def test_missing_key(self, saved, key):
        _rewrite(saved, **{key: None})
        assert f"missing {key}; expected a file of reconstruct" in _refused(saved)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
    @pytest.mark.parametrize("key", ["shape", "light", "translation", "crop", "focal"])
    def test_not_finite(self, saved, key, value):
        with np.load(saved) as file:
            array = file[key].astype(float)
        array[(0,) * array.ndim] = value
        _rewrite(saved, **{key: array})
        assert f"{key} holds values that are not finite numbers" in _refused(saved)

    @pytest.mark.parametrize(
        ("key", "value", "words"),
        [
            ("light", np.zeros(27), r"light is [1, 27], expected [1, 9, 3]"),
            ("rotation", np.zeros((3, 3)), "rotation is [1, 3, 3], expected [1, 3]"),
            ("translation", np.zeros(2), "translation is [1, 2], expected [1, 3]"),
            ("shape", np.zeros((1, 4)), "shape is [1, 1, 4], expected [1, 4]"),
            ("crop", np.zeros(4), "crop is [4], expected [3]"),
            ("crop", np.zeros(3), "the crop's side is 0 px, expected more than 0"),
            ("focal", np.ones(2), "focal is [2], expected []"),
            ("focal", np.array(-5.0), "focal is -5.0, expected a positive number"),
            ("image_size", np.array(64), "image_size is [], expected [2]"),
            ("image_size", np.array([0, 64]), "expected 1 or more pixels"),
            ("near", np.array(1e6), "expected 0 < near < far"),
            ("position", np.zeros((3, 1)), "position is [3, 1], expected [3]"),
            ("shape", np.array(["a"] * 4), "shape holds <U1 values, expected numbers"),
            ("albedo", np.ones(5, complex), "albedo holds complex128 values, expected numbers"),
            ("face_model", np.array(3), "face_model is not a text"),
            ("certainty", np.array(1.5), "certainty is not a number from 0 to 1"),
            ("certainty", np.array("high"), "certainty is not a number from 0 to 1"),
            ("certainty", np.zeros(2), "certainty is not a number from 0 to 1"),
            ("photometric", np.array(-0.1), "photometric is not a number from 0 to inf"),
            ("mask_fraction", np.array(1.1), "mask_fraction is not a number from 0 to 1"),
            ("landmarks68", np.zeros((478, 2)), "landmarks68 is [478, 2], expected [68, 2]"),
            (
                "landmarks68",
                np.full((68, 2), np.nan),
                "landmarks68 holds values that are not finite",
            ),
        ],
    )
    def test_wrong_content(self, saved, key, value, words):
        _rewrite(saved, **{key: value})
        assert words in _refused(saved)

    def test_other_layout(self, saved):
        assert "shape is [1, 4], expected [1, 80]" in _refused(saved, CodeLayout())
        assert isinstance(load_parameters(saved).code, FaceCode)

    def test_double_precision_becomes_float32(self, saved):
        with np.load(saved) as file:
            shape = file["shape"]
        _rewrite(saved, shape=shape.astype(np.float64))
        code = load_parameters(saved).code
        assert code.shape.dtype == torch.float32
        assert np.array_equal(code.shape[0].numpy(), shape)

    def test_reads_paths_given_as_text(self, saved):
        assert load_parameters(str(saved)).source == "ä b.jpg"


class TestHostile:
    def test_pictures_of_any_size(self, saved):
        _rewrite(saved, image_size=np.array([20_000, 20_000]))
        assert "image_size is 20000 x 20000 px, expected at most 2048" in _refused(saved)

    def test_members_that_are_no_arrays(self, saved):
        with zipfile.ZipFile(saved, "a") as archive:
            archive.writestr("readme.txt", "text")
        assert "readme.txt is no array" in _refused(saved)

    def test_a_picture(self, tmp_path):
        """Not an advice to unpickle it."""
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
        said = _refused(tmp_path / "a.jpg")
        assert "it is no archive of arrays); expected a file of reconstruct" in said

    def test_texts_that_command_the_terminal(self, saved):
        _rewrite(saved, source=np.array("a\n\x1b[31m.jpg"))
        assert load_parameters(saved).source == r"a\n\x1b[31m.jpg"
