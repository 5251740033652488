"""mofa-nvdr reconstruct: which pictures are inputs, what is written, and one line for every mistake."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nvdr.apply.clips import ClipOptions
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.reconstruction import ReconstructOptions
from mofa_nvdr.apply.result_files import NothingWrittenError, Written
from mofa_nvdr.cli import NOTHING_DONE, main
from mofa_nvdr.data.images import resize_square
from mofa_nvdr.render.pictures import FINER, panels
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint, save_checkpoint
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.commands import calls_of, error_line, help_words
from tests.helpers.photos_to_reconstruct import SIZE, smooth_picture
from tests.helpers.small_face import small_face

# In the order of names: a.npz comes before a_crop.png.
ENDINGS = (".npz", "_crop.png", "_mask.png", "_overlay.jpg", "_panel.png")
pytestmark = pytest.mark.usefixtures("certain")


@pytest.fixture
def run(smoke_run):
    return smoke_run[0]


@pytest.fixture
def reconstruct(run, cap, tmp_path, capsys):
    """Call the command; its exit status, the names in the output folder, and stderr's lines but notes."""

    def call(*inputs, checkpoint=run, out=tmp_path / "out", face_model=cap):
        capsys.readouterr()
        status = main(
            ["reconstruct", *map(str, inputs), "--checkpoint", str(checkpoint), "--out", str(out),
             "--face-model", face_model, "--device", "cpu"]
        )  # fmt: skip
        names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*"))
        lines = capsys.readouterr().err.splitlines()
        return status, names, [line for line in lines if not line.startswith("note: ")]

    return call


class TestReconstructCommand:
    def test_folders_and_files(self, reconstruct, photos, tmp_path):
        iio.imwrite(tmp_path / "d.png", smooth_picture(seed=4))
        status, names, errors = reconstruct(photos)
        assert status == 0 and errors == []
        stems = ("a", "b", "more/c")
        assert names == [*(f"{n}{end}" for n in stems for end in ENDINGS), "sheet.jpg"]
        status, names, errors = reconstruct(photos, tmp_path / "d.png", out=tmp_path / "both")
        assert status == 0 and errors == []
        stems = ("d", "photos/a", "photos/b", "photos/more/c")
        assert names == [*(f"{n}{end}" for n in stems for end in ENDINGS), "sheet.jpg"]
        face = load_parameters(tmp_path / "both" / "photos" / "b.npz")
        assert face.source == "photos/b.JPG" and face.camera.size == (SIZE, SIZE)

    def test_panel(self, reconstruct, photos, tmp_path, run, cap):
        reconstruct(photos / "a.png")
        panel = iio.imread(tmp_path / "out" / "a_panel.png")
        assert panel.shape == (SIZE, 5 * SIZE, 3)
        square = resize_square(iio.imread(photos / "a.png"), SIZE)
        assert np.array_equal(panel[:, :SIZE], square)
        decoder = Reconstructor.load(run, cap, "cpu").decoder
        image = torch.from_numpy(square).permute(2, 0, 1)[None] / 255
        # Drawn finer and averaged, as panels are.
        fine = decoder.finer(FINER)
        with torch.no_grad():
            face = fine(load_parameters(tmp_path / "out" / "a.npz").code)
        assert np.abs(panel.astype(int) - panels(image, face)[0]).max() <= 1

    def test_same_result_again_and_in_other_company(self, reconstruct, photos, tmp_path):
        reconstruct(photos, out=tmp_path / "one")
        reconstruct(photos / "b.JPG", out=tmp_path / "two")
        reconstruct(photos / "b.JPG", out=tmp_path / "three")
        codes = [
            load_parameters(tmp_path / n / "b.npz").code.pack() for n in ("one", "two", "three")
        ]
        assert torch.equal(codes[1], codes[2])
        # Kernels may add in another order in other batches.
        torch.testing.assert_close(codes[0], codes[1], atol=1e-5, rtol=1e-5)

    def test_results_beside_the_photographs_are_no_inputs(self, reconstruct, photos):
        first = reconstruct(photos, out=photos)
        assert first[0] == 0
        assert reconstruct(photos, out=photos) == first

    def test_kinds_of_pictures(self, reconstruct, tmp_path):
        grey = smooth_picture()[..., 0]
        Image.fromarray(grey).save(tmp_path / "grey.png")
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
        alpha = np.full((80, 80, 1), 255, np.uint8)
        Image.fromarray(np.concatenate([smooth_picture(), alpha], 2)).save(tmp_path / "rgba.png")
        Image.fromarray(smooth_picture()).save(tmp_path / "rgb.png")
        names = ("grey", "sixteen", "rgba", "rgb")
        status, _, errors = reconstruct(*(tmp_path / f"{n}.png" for n in names))
        assert status == 0 and errors == []
        codes = {n: load_parameters(tmp_path / "out" / f"{n}.npz").code.pack() for n in names}
        assert torch.equal(codes["grey"], codes["sixteen"])
        assert torch.equal(codes["rgba"], codes["rgb"])
        assert not torch.equal(codes["grey"], codes["rgb"])

    def test_unreadable_ones_are_skipped_and_named(self, reconstruct, photos):
        (photos / "cut.jpg").write_bytes((photos / "b.JPG").read_bytes()[:300])
        iio.imwrite(photos / "dot.png", smooth_picture(1, 1))
        status, names, errors = reconstruct(photos)
        assert status == 4 and len(names) == 3 * len(ENDINGS) + 1
        assert len(errors) == 2
        assert errors[0].startswith(f"skipped: {photos / 'cut.jpg'}: cannot read this picture")
        assert errors[1].startswith(f"skipped: {photos / 'dot.png'}: the picture is 1x1 px")

    def test_two_of_one_name(self, reconstruct, photos, tmp_path):
        iio.imwrite(tmp_path / "a.jpg", smooth_picture(seed=9))
        status, names, errors = reconstruct(photos / "a.png", tmp_path / "a.jpg")
        assert status == 0 and errors == []
        assert names == [*(f"a.{n}{end}" for n in ("jpg", "png") for end in ENDINGS), "sheet.jpg"]
        assert load_parameters(tmp_path / "out" / "a.png.npz").source == "a.png"
        assert load_parameters(tmp_path / "out" / "a.jpg.npz").source == "a.jpg"

    def test_a_name_that_another_photograph_has(self, reconstruct, photos):
        assert reconstruct(photos / "a.png")[0] == 0
        iio.imwrite(photos / "more" / "a.png", smooth_picture(seed=9))
        status, names, errors = reconstruct(photos / "more" / "a.png", photos / "b.JPG")
        assert status == 4 and names == [f"{n}{end}" for n in "ab" for end in ENDINGS]
        assert len(errors) == 1
        assert errors[0].startswith(f"skipped: {photos / 'more' / 'a.png'}: ")
        assert "is the result of another photograph (a.png)" in errors[0]
        status, _, errors = reconstruct(photos / "more" / "a.png")
        assert status == 3 and errors[0].startswith("mofa-nvdr: reconstruct: nothing reconstructed")

    def test_crop_of_an_oblong_picture_maps_back(self, reconstruct, tmp_path):
        """A dot of the photograph is found at the place that the crop names."""
        picture = np.zeros((96, 160, 3), np.uint8)
        picture[30:33, 100:103] = 255  # its centre is (101.5, 31.5)
        Image.fromarray(picture).save(tmp_path / "wide.png")
        assert reconstruct(tmp_path / "wide.png")[0] == 0
        crop = load_parameters(tmp_path / "out" / "wide.npz").crop
        assert crop.tolist() == [32, 0, 96]
        shown = iio.imread(tmp_path / "out" / "wide_panel.png")[:, :SIZE, 0].astype(float)
        centres = np.arange(SIZE) + 0.5
        x = (shown.sum(0) * centres).sum() / shown.sum()
        y = (shown.sum(1) * centres).sum() / shown.sum()
        assert crop[:2] + np.array([x, y]) * crop[2] / SIZE == pytest.approx([101.5, 31.5], abs=0.1)


class TestMistakes:
    @pytest.fixture
    def refused(self, reconstruct):
        def call(*inputs, expected=2, **options) -> str:
            status, _, errors = reconstruct(*inputs, **options)
            assert status == expected and len(errors) == 1, errors
            assert errors[0].startswith("mofa-nvdr: ")
            return errors[0]

        return call

    def test_nothing_readable(self, refused, tmp_path):
        for name in ("x.png", "y.png", "z.png"):
            (tmp_path / name).write_bytes(b"nothing")
        text = refused(*sorted(tmp_path.glob("*.png")), expected=3)
        assert f"nothing reconstructed: {tmp_path / 'x.png'}: cannot read" in text
        assert text.endswith("; and 2 more")

    def test_one_pixel(self, refused, tmp_path):
        iio.imwrite(tmp_path / "dot.png", smooth_picture(1, 1))
        text = refused(tmp_path / "dot.png", expected=3)
        assert f"{tmp_path / 'dot.png'}: the picture is 1x1 px, too small" in text

    def test_no_input(self, refused):
        assert "input" in refused().lower()

    def test_missing_input(self, refused, tmp_path):
        assert f"{tmp_path / 'no'}: no such image or folder" in refused(tmp_path / "no")

    def test_folder_without_pictures(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        assert f"{tmp_path / 'empty'}: no pictures in this folder" in refused(tmp_path / "empty")

    def test_no_checkpoint(self, refused, photos, tmp_path):
        text = refused(photos, checkpoint=tmp_path / "no")
        assert f"--checkpoint {tmp_path / 'no'}: no such run folder" in text
        assert "no checkpoint-*" in refused(photos, checkpoint=photos)

    def test_truncated_checkpoint(self, refused, photos, run, tmp_path):
        damaged = tmp_path / "damaged.safetensors"
        damaged.write_bytes(list_checkpoints(run)[-1].read_bytes()[:-1000])
        text = refused(photos, checkpoint=damaged)
        assert f"{damaged}: not a readable checkpoint" in text

    def test_picture_as_checkpoint(self, refused, photos):
        assert "not a readable checkpoint" in refused(photos, checkpoint=photos / "a.png")

    def test_checkpoint_of_another_model(self, refused, photos, tmp_path):
        other = tmp_path / "other.safetensors"
        small_face(24, seed=5).save(other)
        text = refused(photos, face_model=str(other))
        assert "trained with face model cap" in text and "--face-model" in text

    @pytest.mark.parametrize("change", ["schema", "encoder", "camera"])
    def test_checkpoint_of_another_version(self, refused, photos, run, tmp_path, change):
        _, metadata = read_checkpoint(list_checkpoints(run)[-1])
        if change == "schema":
            metadata["encoder"]["schema"] = 2
        elif change == "camera":
            del metadata["encoder"]["camera"]
        encoder = torch.nn.Linear(2, 2)
        path = tmp_path / "other.safetensors"
        save_checkpoint(path, encoder, None, metadata)
        text = refused(photos, checkpoint=path)
        assert f"{path}: not a checkpoint that this version can read" in text

    def test_out_is_a_file(self, refused, photos, tmp_path):
        (tmp_path / "file").write_text("")
        text = refused(photos, out=tmp_path / "file" / "out")
        assert f"--out {tmp_path / 'file' / 'out'}: cannot write there" in text

    def test_out_cannot_take_the_file(self, refused, photos, tmp_path):
        (tmp_path / "out" / "a.npz").mkdir(parents=True)
        assert "cannot write there" in refused(photos / "a.png")

    def test_unknown_device(self, run, cap, photos, capsys):
        status = main(
            ["reconstruct", str(photos), "--checkpoint", str(run), "--out", "o", "--device", "tpu"]
        )
        assert status == 2 and "--device is 'tpu'" in capsys.readouterr().err


class TestOptions:
    def test_into_one_call(self, monkeypatch):
        called = "mofa_nvdr.apply.reconstruction.reconstruct_files"
        calls = calls_of(monkeypatch, called, Written())
        assert main(["reconstruct", "a", "b.png"]) == 0
        more = ["--checkpoint", "runs/a", "--out", "o", "--face-model", "m.safetensors"]
        more += ["--device", "cpu", "--runtime", "onnx", "--max-megapixels", "30", "--overwrite"]
        more += ["--least-certainty", "0.5", "--face", "2", "--crops", "--refine", "--no-pictures"]
        more += [
            "--colors",
            "encoder",
            "--focal-px",
            "900",
            "--principal-point",
            "3",
            "4",
            "--batch",
            "5",
        ]
        assert main(["reconstruct", "a", *more]) == 0
        options = ReconstructOptions(
            "2", True, True, "encoder", 900.0, (3.0, 4.0), False, 5, 30.0, True, 0.5
        )
        assert calls == [
            (["a", "b.png"], "", "faces", "", "auto", "torch", ReconstructOptions()),
            (["a"], "runs/a", "o", "m.safetensors", "cpu", "onnx", options),
        ]

    def test_the_status_of_nothing_reconstructed(self):
        assert NothingWrittenError.exit_code == NOTHING_DONE

    def test_wrong_ones(self, capsys):
        words = ["a", "--checkpoint", "c", "--out", "o", "--sise", "3"]
        assert "--sise" in error_line(capsys, "reconstruct", *words)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--face", "0"], "--face is '0', expected all, largest or a number from 1"),
            (["--face", "both"], "--face is 'both', expected all, largest or a number from 1"),
            (["--batch", "0"], "--batch is 0, expected 1 or more"),
            (["--focal-px", "-3"], "--focal-px is -3.0, expected pixels, more than 0"),
            (["--principal-point", "nan", "3"], "expected two finite numbers"),
        ],
    )
    def test_numbers_that_are_none(self, capsys, flags, message):
        assert message in error_line(capsys, "reconstruct", "a", *flags)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["x.mp4", "--crops"], "--crops is for photographs; leave it out for clips"),
            (["x.mp4", "--refine"], "--refine is for photographs"),
            (["x.mp4", "--same-person"], "--same-person is for photographs"),
            (["x.mp4", "y.jpg"], "x.mp4 is a video and y.jpg is not"),
        ],
    )
    def test_clips_and_photographs(self, capsys, words, message):
        assert message in error_line(capsys, "reconstruct", *words)

    def test_clips(self, monkeypatch):
        from mofa_nvdr.apply import clip_files

        monkeypatch.setattr(Reconstructor, "load", lambda *words: words)
        calls = []

        def reconstruct_clips(*words):
            calls.append(words)
            return Written()

        monkeypatch.setattr(clip_files, "reconstruct_clips", reconstruct_clips)
        words = [
            "a.mov",
            "b.webm",
            "--checkpoint",
            "r",
            "--out",
            "o",
            "--face",
            "2",
            "--no-pictures",
        ]
        assert main(["reconstruct", *words, "--focal-px", "900"]) == 0
        options = ClipOptions(face="2", focal_px=900.0, overlay=False)
        assert calls == [(["a.mov", "b.webm"], ("r", "", "auto", "torch"), "o", options)]

    def test_help(self, capsys):
        words = help_words(capsys, "reconstruct")
        assert (
            "photographs, or folders of photographs" in words
            and "auto, cpu, cuda or cuda:N" in words
        )
