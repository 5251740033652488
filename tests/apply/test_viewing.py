"""The viewer's pictures, without a browser: what follows from a control, and what is computed for it."""

import dataclasses
import io

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import trimesh

from mofa_nvdr.apply.expression_warp import ExpressionWarper
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.apply.viewing import FaceView, ViewedFace
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.portraits import mirrored_cap, portrait

SIZE = 64


@pytest.fixture(scope="module")
def model():
    arrays = {name: value.numpy() for name, value in mirrored_cap().named_buffers()}
    return FaceModel(arrays, {"name": "cap"}, {"jawOpen": np.array([2.0, 1, -1])})


@pytest.fixture(scope="module")
def viewed(model):
    photo, face = portrait(model)
    return ViewedFace("face.npz", face, model, photo, SIZE)


@pytest.fixture
def view(viewed):
    return FaceView(viewed)


def _changed(before, after):
    """The names of pictures that are not as they were."""
    return {name for name in before if not np.array_equal(before[name], after[name])}


class TestPictures:
    def test_at_first(self, view, viewed):
        pictures = view.pictures()
        assert list(pictures) == [
            "photograph", "overlay", "relit", "geometry", "albedo", "rendering"
        ]  # fmt: skip
        assert all(p.shape == (SIZE, SIZE, 3) and p.dtype == np.uint8 for p in pictures.values())
        crop = viewed.photo[16:80, 16:80]
        assert np.array_equal(pictures["photograph"], crop)
        assert np.array_equal(pictures["relit"], crop)  # nothing has been moved
        gap = np.abs(pictures["overlay"].astype(int) - crop)
        assert gap.max() <= 1  # the photograph is its own rendering

    def test_draft_is_what_the_decoder_renders(self, view, viewed):
        """By other steps: colours and normals drawn once, then lit."""
        view.controls.set("strength", 0.7)
        view.controls.set("yaw", 10)
        with torch.no_grad():
            face = FaceDecoder(viewed.model, SIZE, frontal_only=False)(view.controls.code())
        truth = (face.image[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
        inside = face.mask[0, 0].numpy() > 0
        gap = np.abs(view.pictures()["rendering"].astype(float) - truth)[inside]
        assert gap.max() < 1.5  # rounding; 0.6 measured

    def test_fine_pictures_are_the_same_but_smoother(self, view):
        view.controls.set("yaw", 10)
        draft, fine = view.pictures(), view.pictures(fine=True)
        for name in ("geometry", "albedo", "rendering", "overlay"):
            gap = np.abs(draft[name].astype(int) - fine[name]).mean(2)
            assert np.median(gap) < 3 and gap.max() > 10, name  # the outline

    def test_a_face_without_a_photograph(self, viewed):
        view = FaceView(ViewedFace("a", viewed.parameters, viewed.model, size=SIZE))
        assert list(view.pictures()) == ["geometry", "albedo", "rendering"]
        assert view.sheet().shape[1] == 3 * SIZE

    def test_sheet(self, view):
        sheet, pictures = view.sheet(), view.pictures()
        height = sheet.shape[0] // 2
        assert sheet.shape == (2 * height, 3 * SIZE, 3)
        assert np.array_equal(sheet[:SIZE, :SIZE], pictures["photograph"])
        assert np.array_equal(sheet[height : height + SIZE, 2 * SIZE :], pictures["rendering"])

    def test_other_sizes(self, viewed):
        for size in (48, 100):  # of a crop of 64 px
            face = ViewedFace("a", viewed.parameters, viewed.model, viewed.photo, size)
            pictures = FaceView(face).pictures()
            assert {p.shape for p in pictures.values()} == {(size, size, 3)}
            gap = np.abs(pictures["overlay"].astype(int) - pictures["photograph"])
            assert np.median(gap) < 6

    def test_a_crop_beyond_the_photograph(self, model):
        photo, face = portrait(model, 60, 60, (-10.0, -6.0, 64.0))
        view = FaceView(ViewedFace("a", face, model, photo, SIZE))
        view.controls.set("strength", 1)
        assert view.sheet().shape[1] == 3 * SIZE


class TestWhatIsComputed:
    @pytest.fixture
    def counted(self, view):
        view.sheet()
        view.computed.clear()
        return view

    @pytest.mark.parametrize(
        ("control", "value", "computed", "pictures"),
        [
            ("strength", 1, {"shade", "relit"}, {"overlay", "relit", "rendering"}),
            ("sh1", 1, {"shade", "relit"}, {"overlay", "relit", "rendering"}),
            ("exposure", 1, {"shade", "relit"}, {"overlay", "relit", "rendering"}),
            ("yaw", 20, {"pixels", "shade"}, {"overlay", "geometry", "albedo", "rendering"}),
            ("x", 20, {"pixels", "shade"}, {"overlay", "geometry", "albedo", "rendering"}),
            ("albedo0", 2, {"albedo", "pixels", "shade"}, {"overlay", "albedo", "rendering"}),
            (
                "jawOpen",
                1,
                {"geometry", "pixels", "shade", "warp"},
                {"overlay", "relit", "geometry", "albedo", "rendering"},
            ),
            (
                "shape0",
                2,
                {"geometry", "pixels", "shade", "warp"},
                {"overlay", "relit", "geometry", "albedo", "rendering"},
            ),
        ],
    )
    def test_only_what_changed(self, counted, control, value, computed, pictures):
        """Light alone draws no geometry; a pose decodes no form."""
        before = counted.pictures()
        counted.controls.set(control, value)
        assert _changed(before, counted.pictures()) == pictures
        assert set(counted.computed) == computed
        assert set(counted.computed.values()) == {1}

    def test_nothing_changed(self, counted):
        counted.sheet()
        assert not counted.computed

    def test_windows_do_not_disturb_each_other(self, viewed):
        one, other = FaceView(viewed), FaceView(viewed)
        before = one.pictures()
        for name in ("strength", "yaw", "jawOpen", "shape0", "albedo0"):
            other.controls.set(name, 1)
        assert len(_changed(before, other.pictures())) == 5
        one.computed.clear()
        assert not _changed(before, one.pictures()) and not one.computed


class TestRelit:
    def test_is_what_the_relighter_makes(self, view, viewed):
        view.controls.set("strength", 1)
        crop = dataclasses.replace(viewed.parameters, crop=np.array([0.0, 0, SIZE]))
        truth = PhotoRelighter(viewed.crop, crop, viewed.model)(view.controls.illumination())
        assert np.array_equal(view.pictures(fine=True)["relit"], truth)
        draft = view.pictures()["relit"].astype(int)
        # Coarser maps and no cast shadows, but the same light.
        assert np.abs(draft - truth).mean() < 0.4 * np.abs(viewed.crop - draft).mean() + 2

    def test_relit_and_with_an_expression(self, view, viewed):
        view.controls.set("jawOpen", 1)
        crop = dataclasses.replace(viewed.parameters, crop=np.array([0.0, 0, SIZE]))
        truth = ExpressionWarper(viewed.crop, crop, viewed.model)(view.controls.code())
        assert np.abs(view.pictures(fine=True)["relit"].astype(int) - truth).max() <= 1
        gap = np.abs(view.pictures()["relit"].astype(int) - truth).mean()
        assert gap < 0.5 * np.abs(viewed.crop.astype(int) - truth).mean()
        view.controls.set("strength", 2)
        assert (view.pictures()["relit"] != truth).any()

    def test_is_prepared(self, model):
        photo, face = portrait(model)
        viewed = ViewedFace("a", face, model, photo, SIZE)
        viewed.prepare()
        assert {"draft_relighter", "draft_warper"} <= set(vars(viewed))
        ViewedFace("a", face, model, size=SIZE).prepare()


class TestMesh:
    def test_turns_with_the_head_and_does_not_move(self, view, viewed):
        mean = viewed.model.mean_shape.numpy()
        assert np.allclose(view.mesh(), mean, atol=1e-3)
        view.controls.set("x", 50)
        assert np.allclose(view.mesh(), mean, atol=1e-3)
        view.controls.set("yaw", 30)
        turned = view.mesh()
        assert not np.allclose(turned, mean, atol=1)
        assert np.allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(mean, axis=1), atol=1e-2)

    def test_color(self, view):
        assert all(0 < c < 255 for c in view.mesh_color())


class TestSaving:
    def test_parameters(self, view, viewed, tmp_path):
        """What is saved is what is shown, and names the photograph as long as it fits it."""
        view.controls.set("strength", 1)
        (tmp_path / "a.npz").write_bytes(view.parameters().npz_bytes())
        saved = load_parameters(tmp_path / "a.npz")
        assert torch.allclose(saved.code.pack(), view.controls.code().pack())
        assert saved.source == viewed.parameters.source == "face.png"
        view.controls.set("jawOpen", 1)
        assert view.parameters().source == ""
        view.controls.set("jawOpen", 0)
        view.controls.set("yaw", 5)
        assert view.parameters().source == "" and view.parameters().landmarks68.shape == (68, 2)

    def test_picture_of_the_whole_photograph(self, view, viewed):
        untouched = iio.imread(view.saved_picture(), extension=".png")
        assert np.array_equal(untouched, viewed.photo)
        view.controls.set("strength", 1)
        view.controls.set("exposure", 0.5)
        relit = iio.imread(view.saved_picture(), extension=".png")
        truth = PhotoRelighter(viewed.photo, viewed.parameters, viewed.model)(
            view.controls.illumination(), 0.5
        )
        assert np.array_equal(relit, truth)
        view.controls.set("jawOpen", 1)
        warper = ExpressionWarper(truth, viewed.parameters, viewed.model)
        both = iio.imread(view.saved_picture(), extension=".png")
        assert np.array_equal(both, warper(view.controls.code()))

    def test_picture_without_a_photograph(self, viewed):
        view = FaceView(ViewedFace("a", viewed.parameters, viewed.model, size=SIZE))
        view.controls.set("yaw", 20)
        picture = iio.imread(view.saved_picture(), extension=".png")
        assert picture.shape == (960, 960, 3)
        small = picture.reshape(SIZE, 15, SIZE, 15, 3).mean((1, 3))
        fine = view.pictures(fine=True)["rendering"]
        assert np.abs(small - fine).mean() < 1  # 0.3 measured

    def test_mesh(self, view):
        view.controls.set("jawOpen", 0.5)
        scene = trimesh.load(io.BytesIO(view.saved_mesh()), file_type="glb")
        (mesh,) = scene.geometry.values()
        code = view.controls.code()
        wanted = view.face.model.vertices(code.shape, code.expression)[0].numpy() / 1000
        assert np.allclose(mesh.vertices, wanted, atol=1e-5)
