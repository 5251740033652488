"""From pictures to parameter files: what is an input, what is written, and what a run predicts."""

import hashlib

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nvdr.apply import prediction
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files
from mofa_nvdr.apply.result_files import NothingWrittenError, image_paths
from mofa_nvdr.data.images import resize_square
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.system.origins import content_hash
from tests.helpers.photographs_of_faces import dog, drawing, photograph
from tests.helpers.photos_to_reconstruct import smooth_picture

ENDINGS = (".npz", "_panel.png", "_crop.png", "_overlay.jpg", "_mask.png")
pytestmark = pytest.mark.usefixtures("certain")


@pytest.fixture
def run(smoke_run):
    return smoke_run[0]


class TestReconstructFiles:
    def test_what_is_written(self, run, cap, photos, tmp_path, capsys):
        """The paths of the parameters, in the order of the inputs; those that are no picture are named."""
        (tmp_path / "bad.png").write_bytes(b"no picture")
        inputs = [photos / "more", tmp_path / "bad.png", photos / "a.png"]
        out = tmp_path / "new" / "out"
        written = reconstruct_files(inputs, run, out, cap, "cpu")
        assert written == [out / "more" / "c.npz", out / "a.npz"]
        assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == sorted(
            ["sheet.jpg", *(f"{name}{end}" for name in ("a", "more/c") for end in ENDINGS)]
        )
        (reason,) = written.left_out
        assert reason.startswith(f"{tmp_path / 'bad.png'}: cannot read this picture")
        printed = capsys.readouterr()
        assert f"2 reconstructed, 1 skipped: {out}" in printed.out
        assert f"skipped: {tmp_path / 'bad.png'}: cannot read this picture" in printed.err
        assert "note: 2 pictures in which no face was found were taken whole" in printed.err
        face = load_parameters(written[0])
        assert face.source == "more/c.png" and face.face_model_file == cap
        assert face.source_hash == hashlib.sha256((photos / "more/c.png").read_bytes()).hexdigest()
        assert face.crop.tolist() == [0, 0, 80]

    def test_measures(self, run, cap, photos, tmp_path):
        """Landmarks in pixels of the photograph, and how far rendering and photograph are apart."""
        (path,) = reconstruct_files([photos / "a.png"], run, tmp_path / "out", cap, "cpu")
        face = load_parameters(path)
        decoder = FaceDecoder(FaceModel.load(cap), camera=face.camera)
        with torch.no_grad():
            rendering = decoder.rasterize(decoder.geometry(face.code))
        size, mask = face.camera.size[0], rendering.mask[0, 0]
        points = rendering.landmarks[0].numpy() * (80 / size)
        np.testing.assert_allclose(face.landmarks68, points, atol=1e-3)
        assert face.mask_fraction == pytest.approx(mask.mean().item(), abs=1e-6)
        photo = torch.from_numpy(resize_square(iio.imread(photos / "a.png"), size)) / 255
        distance = (rendering.image[0].permute(1, 2, 0) - photo).norm(dim=2)
        want = ((distance * mask).sum() / mask.sum()).item()
        assert face.photometric == pytest.approx(want, abs=1e-3)

    def test_own_results_are_no_inputs(self, run, cap, photos, capsys):
        """Into the folder of the photographs, twice; results that are named are skipped and named."""
        for _ in range(2):
            written = reconstruct_files([photos], run, photos, cap, "cpu")
            assert [path.name for path in written] == ["a.npz", "b.npz", "c.npz"]
        assert (
            "note: 17 files not read: 1 .txt, what mofa-nvdr wrote: 3 crops, 3 masks, 3 overlays, "
            "3 panels, 3 parameter files, 1 sheet of faces\n"
        ) in capsys.readouterr().err
        inputs = [photos / "a.png", photos / "a.npz", photos / "a_panel.png"]
        reconstruct_files(inputs, run, photos, cap, "cpu", options=ReconstructOptions(crops=True))
        assert capsys.readouterr().err == (
            f"skipped: {photos / 'a.npz'}: a parameter file that mofa-nvdr wrote, not a photograph\n"
            f"skipped: {photos / 'a_panel.png'}: a panel that mofa-nvdr wrote, not a photograph\n"
        )

    def test_large_ones(self, run, cap, tmp_path, capsys):
        """Its place in the photograph is kept in the photograph's pixels; above the limit it is skipped."""
        Image.fromarray(smooth_picture(900, 1300)).save(tmp_path / "a.jpg")
        Image.fromarray(smooth_picture(100, 100)).save(tmp_path / "b.jpg")
        (written, _) = reconstruct_files([tmp_path], run, tmp_path, cap, "cpu")
        assert load_parameters(written).crop.tolist() == [200, 0, 900]
        options = ReconstructOptions(max_megapixels=1)
        reconstruct_files([tmp_path], run, tmp_path, cap, "cpu", options=options)
        assert (
            "a.jpg: the picture is 1300x900 px, 1 megapixels, more than --max-megapixels 1; "
            in (capsys.readouterr().err)
        )

    def test_nothing_readable(self, run, cap, tmp_path):
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(b"no picture")
        with pytest.raises(
            NothingWrittenError,
            match=r"nothing reconstructed: .*a\.png: cannot read .*; and 1 more$",
        ):
            reconstruct_files([tmp_path], run, tmp_path / "out", cap, "cpu")

    def test_any_number_of_threads(self, run, cap, photos, tmp_path):
        """Batches on two threads: the same files, in the same order, and torch as it was."""
        results, before = [], torch.get_num_threads()
        for threads in (1, 2):
            torch.set_num_threads(threads)
            try:
                options = ReconstructOptions(batch=1)
                out = tmp_path / str(threads)
                written = reconstruct_files([photos], run, out, cap, "cpu", options=options)
                assert torch.get_num_threads() == threads
            finally:
                torch.set_num_threads(before)
            results.append([(p.relative_to(out), p.read_bytes()) for p in written])
        assert len(results[0]) > 1 and results[0] == results[1]

    def test_a_certainty_that_is_none(self, run, tmp_path):
        with pytest.raises(ValueError, match="--least-certainty is 1.5, expected 0 to 1"):
            options = ReconstructOptions(least_certainty=1.5)
            reconstruct_files([tmp_path], run, tmp_path / "out", options=options)

    def test_no_folder(self, run, photos):
        with pytest.raises(ValueError, match="--out is empty, expected a folder"):
            reconstruct_files([photos], run, "")


class TestWholePhotographs:
    """Faces of the built-in model in front of a wall, found by OpenCV's cascades."""

    @pytest.fixture
    def call(self, run, cap, tmp_path):
        """Reconstruct a picture; the .npz names, what was left out, and the folder."""

        def function(image, ending=".png", stem="a", **options):
            path, out = tmp_path / f"{stem}{ending}", tmp_path / "out"
            saving = options.pop("saving", {})
            (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
                path, **saving
            )
            options = ReconstructOptions(**options)
            try:
                written = reconstruct_files([path], run, out, cap, "cpu", options=options)
            except NothingWrittenError as error:
                return [], [str(error)], out
            return [p.name for p in written], written.left_out, out

        return function

    TWO = [(20, 30, 120), (220, 60, 180)]

    def test_all_faces(self, call, tmp_path):
        names, _, out = call(photograph(300, 420, self.TWO))
        assert names == ["a.npz", "a_face2.npz"]
        large, small = (load_parameters(out / name) for name in names)
        assert large.crop[2] > small.crop[2] and large.crop[0] > small.crop[0]
        assert large.source == small.source == "a.png" and large.frame.size == (300, 420)
        # One camera for both: the largest is about as far away as in training, unless that is a wide angle.
        assert np.array_equal(large.frame.intrinsics, small.frame.intrinsics)
        assert large.frame.focal_from == "default" and large.frame.intrinsics[0, 2] == 210
        overlay, mask = iio.imread(out / "a_overlay.jpg"), iio.imread(out / "a_mask.png")
        assert overlay.shape == (300, 420, 3) and mask.shape == (300, 420)
        for face in (large, small):
            x, y = (face.crop[:2] + face.crop[2] / 2).astype(int)
            assert mask[y, x] == 255
        beside = mask == 0
        drawn = np.abs(overlay.astype(int) - photograph(300, 420, self.TWO))
        assert np.median(drawn[beside]) <= 2 and drawn[mask == 255].mean() > 5
        assert (out / "a_face2_crop.png").is_file() and (out / "sheet.jpg").is_file()
        # The same again replaces the same.
        assert call(photograph(300, 420, self.TWO))[0] == names

    def test_one_of_them(self, call, tmp_path):
        picture = photograph(300, 420, self.TWO)
        every = call(picture)[2]
        second = load_parameters(every / "a_face2.npz").code.pack()
        for path in every.iterdir():
            path.unlink()
        names, _, out = call(picture, face="2")
        assert names == ["a_face2.npz"]
        assert torch.allclose(load_parameters(out / "a_face2.npz").code.pack(), second, atol=1e-5)
        assert call(picture, face="largest")[0] == ["a.npz"]
        (reason,) = call(picture, face="3")[1]
        assert reason.endswith("a.png: --face 3, but it shows 2 faces")

    def test_without_pictures(self, call):
        _, _, out = call(photograph(300, 420, self.TWO), pictures=False)
        assert sorted(p.name for p in out.iterdir()) == ["a.npz", "a_face2.npz"]

    def test_the_camera(self, call):
        options = {"focal_px": 700.0, "principal_point": (200.0, 160.0)}
        out = call(photograph(300, 420, self.TWO), face="largest", **options)[2]
        frame = load_parameters(out / "a.npz").frame
        assert frame.focal_from == "given"
        assert frame.intrinsics.tolist() == [[700, 0, 200], [0, 700, 160], [0, 0, 1]]

    def test_turned_and_told_its_focal_length_by_exif(self, call):
        upright = photograph(300, 420, [(220, 60, 180)])
        want = load_parameters(call(upright)[2] / "a.npz")
        exif = Image.Exif()
        exif[0x0112] = 6  # a viewer turns it by 90 degrees clockwise
        exif.get_ifd(0x8769)[0xA405] = 50
        stored = Image.fromarray(np.rot90(upright).copy())
        out = call(stored, ".jpg", "b", saving={"exif": exif, "quality": 100, "subsampling": 0})[2]
        got = load_parameters(out / "b.npz")
        assert got.frame.size == (300, 420) and got.frame.focal_from == "exif"
        assert got.frame.intrinsics[0, 0] == pytest.approx(50 / 43.2666 * np.hypot(300, 420))
        np.testing.assert_allclose(got.crop, want.crop, atol=3)
        assert iio.imread(out / "b_overlay.jpg").shape == (300, 420, 3)

    def test_cmyk(self, call):
        image = Image.fromarray(photograph(300, 420, [(220, 60, 180)])).convert("CMYK")
        names, left_out, _ = call(image, ".jpg")
        assert names == ["a.npz"] and not left_out

    def test_sixty_faces(self, call):
        tiles = [(100 * x, 100 * y, 100) for y in range(6) for x in range(10)]
        names, _, out = call(photograph(600, 1000, tiles), batch=16)
        assert len(names) == len(set(names)) == 60
        crops = np.array([load_parameters(out / name).crop for name in names])
        centres = {tuple(c) for c in ((crops[:, :2] + crops[:, 2:] / 2) // 100).astype(int)}
        assert len(centres) == 60

    def test_forty_megapixels(self, call):
        names, _, out = call(photograph(5000, 8000, [(3000, 1000, 2400)]), ".jpg")
        assert names == ["a.npz"]
        face = load_parameters(out / "a.npz")
        assert face.crop[:2] + face.crop[2] / 2 == pytest.approx([4200, 2200], abs=250)
        with Image.open(out / "a_overlay.jpg") as overlay:
            assert overlay.size == (8000, 5000)

    @pytest.mark.parametrize("make", [dog, drawing])
    def test_no_face(self, call, monkeypatch, make):
        """Nothing is found, and taken whole nothing looks like one."""
        monkeypatch.setattr(prediction, "face_certainty", lambda *_: torch.tensor([0.3]))
        names, (reason,), out = call(make())
        assert names == [] and not list(out.iterdir())
        assert reason.endswith("a.png: no face found; --crops takes a tight crop of a face whole")

    def test_what_only_the_detector_takes_for_a_face(self, call, monkeypatch):
        monkeypatch.setattr(prediction, "face_certainty", lambda *_: torch.tensor([0.9, 0.01]))
        names, _, _ = call(photograph(300, 420, self.TWO))
        assert names == ["a.npz"]

    def test_a_face_whose_place_is_taken(self, call, tmp_path):
        """All faces of a photograph are written, or none."""
        (tmp_path / "out").mkdir()
        np.savez(tmp_path / "out" / "a_face2.npz", x=np.zeros(3))
        _, (reason,), out = call(photograph(300, 420, self.TWO))
        assert "a_face2.npz is there, and no result of it" in reason
        assert [p.name for p in out.iterdir()] == ["a_face2.npz"]
        (out / "a_face2.npz").unlink()
        Image.new("RGB", (20, 20)).save(out / "a_overlay.jpg")
        _, (reason,), out = call(photograph(300, 420, self.TWO))
        assert "a_overlay.jpg is there, and no result of it" in reason
        assert [p.name for p in out.iterdir()] == ["a_overlay.jpg"]

    def test_a_sheet_of_somebody_else(self, call, tmp_path, capsys):
        (tmp_path / "out").mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / "out" / "sheet.jpg")
        before = (tmp_path / "out" / "sheet.jpg").read_bytes()
        assert len(call(photograph(300, 420, self.TWO))[0]) == 2
        assert "sheet.jpg is there, and no sheet of faces" in capsys.readouterr().err
        assert (tmp_path / "out" / "sheet.jpg").read_bytes() == before


class TestSamePerson:
    """Several photographs of one person."""

    @pytest.fixture
    def call(self, run, cap, photos, tmp_path):
        def function(**options):
            made = ReconstructOptions(crops=True, batch=2, **options)
            written = reconstruct_files([photos], run, tmp_path / "out", cap, "cpu", options=made)
            return [load_parameters(path) for path in written]

        return function

    def test_shape_and_albedo_are_shared(self, call):
        each, one = call(pictures=False), call(same_person=True)
        assert len(one) == 3  # more than a batch
        shapes = torch.cat([face.code.shape for face in each])
        assert (shapes[0] - shapes[1]).norm() > 1e-4
        for name in ("shape", "albedo"):
            shared = torch.cat([getattr(face.code, name) for face in one])
            assert (shared == shared[:1]).all()
        # Of pictures as sure and as large as each other nearly their mean.
        assert (one[0].code.shape - shapes.mean(0)).norm() < (shapes - shapes.mean(0)).norm()
        for ours, theirs in zip(one, each, strict=True):
            assert torch.equal(ours.code.expression, theirs.code.expression)
            # The face stays where it was, and what is measured is of the shared one.
            away = np.linalg.norm(ours.landmarks68 - theirs.landmarks68, axis=1)
            assert away.mean() < 0.02 * ours.crop[2]
            assert ours.photometric != theirs.photometric

    def test_of_the_largest_faces(self, run, cap, tmp_path):
        picture = photograph(300, 420, TestWholePhotographs.TWO)
        for name in ("a", "b"):
            Image.fromarray(picture).save(tmp_path / f"{name}.png")
        options = ReconstructOptions(same_person=True, pictures=False)
        inputs = [tmp_path / "a.png", tmp_path / "b.png"]
        written = reconstruct_files(inputs, run, tmp_path / "out", cap, "cpu", options=options)
        assert [path.name for path in written] == ["a.npz", "b.npz"]


class TestNothingIsReplacedButOnesOwn:
    """Two people, a picture of the same name in the folder of each."""

    @pytest.fixture
    def people(self, tmp_path):
        for seed, name in enumerate(("alice", "bob")):
            (tmp_path / "people" / name).mkdir(parents=True)
            iio.imwrite(tmp_path / "people" / name / "0001.png", smooth_picture(seed=seed))
        return tmp_path / "people"

    @pytest.fixture
    def call(self, run, cap, tmp_path):
        """Reconstruct into tmp_path / "out", or `out`; the results' paths below it, and what was left out."""

        def function(*inputs, out=tmp_path / "out", **options):
            options = ReconstructOptions(**options)
            try:
                written = reconstruct_files(inputs, run, out, cap, "cpu", options=options)
            except NothingWrittenError as error:
                return [], [str(error)]
            return [p.relative_to(out).as_posix() for p in written], written.left_out

        return function

    @staticmethod
    def contents(folder):
        return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def test_a_folder_of_people(self, call, people, tmp_path):
        assert call(people) == (["alice/0001.npz", "bob/0001.npz"], [])
        for name in ("alice", "bob"):
            face = load_parameters(tmp_path / "out" / name / "0001.npz")
            assert face.source == f"{name}/0001.png"
            assert face.source_hash == content_hash(people / name / "0001.png")
        # By their names they go to the same places: these are their own results.
        assert call(people / "alice", people / "bob") == (["alice/0001.npz", "bob/0001.npz"], [])

    def test_one_after_the_other(self, call, people, tmp_path):
        assert call(people / "alice") == (["0001.npz"], [])
        before = self.contents(tmp_path / "out")
        written, (reason,) = call(people / "bob")
        assert written == [] and self.contents(tmp_path / "out") == before
        assert f"{people / 'bob' / '0001.png'}: {tmp_path / 'out' / '0001.npz'} is the" in reason
        assert "result of another photograph (0001.png)" in reason and "--overwrite" in reason
        assert call(people / "alice") == (["0001.npz"], [])
        assert self.contents(tmp_path / "out") == before
        assert call(people / "bob", overwrite=True) == (["0001.npz"], [])
        face = load_parameters(tmp_path / "out" / "0001.npz")
        assert face.source_hash == content_hash(people / "bob" / "0001.png")

    def test_a_photograph_that_changed(self, call, people):
        photo = people / "alice" / "0001.png"
        call(photo)
        iio.imwrite(photo, smooth_picture(seed=9))
        assert "or of another state of it" in call(photo)[1][0]

    def test_pictures_that_differ_in_their_ending(self, call, people, tmp_path):
        Image.fromarray(smooth_picture(seed=5)).save(people / "alice" / "0001.tif")
        assert call(people / "alice") == (["0001.png.npz", "0001.tif.npz"], [])
        for ending in ("png", "tif"):
            face = load_parameters(tmp_path / "out" / f"0001.{ending}.npz")
            assert face.source == f"0001.{ending}"

    def test_a_result_of_an_earlier_version(self, call, people, tmp_path):
        call(people / "alice")
        file = tmp_path / "out" / "0001.npz"
        with np.load(file) as arrays:
            kept = {k: v for k, v in arrays.items() if k not in ("source_hash", "certainty")}
        np.savez(file, **kept)
        assert "by an earlier version, which kept no hash" in call(people / "alice")[1][0]

    @pytest.mark.parametrize("name", ["0001.npz", "0001_panel.png"])
    def test_files_that_are_no_results(self, call, people, name):
        """Landmarks NAME.npz and a photograph NAME_panel.png, next to the photograph."""
        alice = people / "alice"
        if name.endswith("npz"):
            np.savez(alice / name, lm68=np.zeros((68, 2)))
        else:
            iio.imwrite(alice / name, smooth_picture(seed=6))
        before = self.contents(alice)
        _, (reason,) = call(alice / "0001.png", out=alice)
        assert f"{alice / name} is there, and no result of" in reason
        assert self.contents(alice) == before

    def test_least_certainty(self, call, people, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(prediction, "face_certainty", lambda *_: torch.tensor([0.2, 0.9]))
        written, (reason,) = call(people, least_certainty=0.4)
        assert written == ["bob/0001.npz"]
        assert reason == (
            f"{people / 'alice' / '0001.png'}: no face found, certainty 0.20 is below --least-certainty"
        )
        assert load_parameters(tmp_path / "out" / "bob" / "0001.npz").certainty == pytest.approx(
            0.9
        )
        assert "WARNING" not in capsys.readouterr().err

    def test_a_picture_that_hardly_looks_like_a_face(self, call, people, monkeypatch, capsys):
        monkeypatch.setattr(prediction, "face_certainty", lambda *_: torch.tensor([0.2]))
        assert call(people / "alice", crops=True) == (["0001.npz"], [])
        assert capsys.readouterr().err == (
            f"WARNING: {people / 'alice' / '0001.png'}: this hardly looks like a face crop "
            "(certainty 0.20); look at 0001_panel.png\n"
        )


class TestImagePaths:
    def test_folders_and_files_in_order(self, photos):
        paths = image_paths([photos / "more", str(photos / "notes.txt"), photos])
        names = [path.relative_to(photos).as_posix() for path in paths]
        # A file that is named is an input whatever it is; hidden ones and others in folders are none.
        assert names == ["more/c.png", "notes.txt", "a.png", "b.JPG", "more/c.png"]

    def test_what_else_is_there_is_counted(self, photos):
        inventory = Inventory()
        image_paths([photos], inventory)
        assert str(inventory) == "1 file not read: 1 .txt"

    def test_mistakes(self, tmp_path):
        with pytest.raises(ValueError, match="no input; give image files or folders of images"):
            image_paths([])
        with pytest.raises(ValueError, match="none: no such image or folder"):
            image_paths([tmp_path / "none"])
        with pytest.raises(ValueError, match="no pictures in this folder$"):
            image_paths([tmp_path])
        (tmp_path / "film.mov").write_bytes(b"")
        with pytest.raises(ValueError, match=r"in this folder; 1 file not read: 1 \.mov$"):
            image_paths([tmp_path])
