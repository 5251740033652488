"""From pictures to parameter files: what is an input, what is written, and what a run predicts."""

import shutil

import imageio.v3 as iio
import pytest
import torch

from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.reconstruction import image_paths, reconstruct_files
from mofa_nvdr.data.images import resize_square
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint, save_checkpoint
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.photos_to_reconstruct import SIZE, write_photos


@pytest.fixture
def run(smoke_run):
    return smoke_run[0]


@pytest.fixture
def cap(smoke_run) -> str:
    return smoke_run[1]


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


class TestReconstructor:
    def test_equals_encoder_and_decoder_by_hand(self, run, cap, photos, tmp_path):
        (written,) = reconstruct_files([photos / "a.png"], run, tmp_path / "out", cap, "cpu")
        from mofa_nvdr.networks.encoder import build_encoder

        model = FaceModel.load(cap)
        tensors, metadata = read_checkpoint(list_checkpoints(run)[-1])
        options = metadata["options"]["encoder"]
        encoder = build_encoder(
            options["network"], model.layout, None, options["scale"], options["size"]
        ).eval()
        encoder.load_state_dict(
            {k.removeprefix("encoder/"): v for k, v in tensors.items() if k.startswith("encoder/")}
        )
        photo = torch.from_numpy(resize_square(iio.imread(photos / "a.png"), SIZE))
        with torch.no_grad():
            vector = encoder(photo.permute(2, 0, 1)[None].float() / 255)
        assert vector.abs().max() > 0
        assert torch.equal(load_parameters(written).code.pack(), vector)

    def test_newest_checkpoint_or_the_one_named(self, run, cap):
        images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        newest = Reconstructor.load(run, cap, "cpu")(images).pack()
        older, last = (Reconstructor.load(p, cap, "cpu")(images) for p in list_checkpoints(run))
        assert torch.equal(newest, last.pack())
        assert not torch.equal(newest, older.pack())

    def test_computes_in_float32_whatever_the_training_did(self, run, cap, tmp_path):
        _, metadata = read_checkpoint(list_checkpoints(run)[-1])
        metadata["options"]["encoder"]["precision"] = "bfloat16"
        path = tmp_path / "other.safetensors"
        save_checkpoint(path, Reconstructor.load(run, cap, "cpu").encoder, None, metadata)
        images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        codes = (Reconstructor.load(p, cap, "cpu")(images).pack() for p in (run, path))
        assert torch.equal(*codes)

    def test_does_not_need_the_training_weights_file(self, run, cap, tmp_path):
        """A run folder that was carried to another machine."""
        shutil.copytree(run, tmp_path / "moved")
        assert not Reconstructor.load(tmp_path / "moved", cap, "cpu").encoder.training


class TestReconstructFiles:
    def test_what_is_written(self, run, cap, photos, tmp_path, capsys):
        """The paths of the parameters, in the order of the inputs; those that are no picture are named."""
        (tmp_path / "bad.png").write_bytes(b"no picture")
        inputs = [photos / "more", tmp_path / "bad.png", photos / "a.png"]
        out = tmp_path / "new" / "out"
        written = reconstruct_files(inputs, run, out, cap, "cpu")
        assert written == [out / "c.npz", out / "a.npz"]
        assert sorted(p.name for p in out.iterdir()) == [
            "a.npz", "a_panel.png", "c.npz", "c_panel.png",
        ]  # fmt: skip
        printed = capsys.readouterr()
        assert f"2 reconstructed, 1 skipped: {out}" in printed.out
        assert printed.err.startswith(f"skipped: {tmp_path / 'bad.png'}: cannot read this picture")
        face = load_parameters(written[0])
        assert face.source == "c.png" and face.face_model_file == cap
        assert face.crop.tolist() == [0, 0, 80]

    def test_nothing_readable(self, run, cap, tmp_path):
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(b"no picture")
        with pytest.raises(
            ValueError, match=r"no readable picture: .*a\.png: cannot read .*; and 1 more$"
        ):
            reconstruct_files([tmp_path], run, tmp_path / "out", cap, "cpu")


class TestImagePaths:
    def test_folders_and_files_in_order(self, photos):
        paths = image_paths([photos / "more", str(photos / "notes.txt"), photos])
        names = [path.relative_to(photos).as_posix() for path in paths]
        # A file that is named is an input whatever it is; hidden ones and others in folders are none.
        assert names == ["more/c.png", "notes.txt", "a.png", "b.JPG", "more/c.png"]

    def test_panels_of_an_earlier_call_are_none(self, photos):
        (photos / "a_panel.png").write_bytes(b"")
        assert photos / "a_panel.png" in image_paths([photos])
        (photos / "a.npz").write_bytes(b"")
        assert photos / "a_panel.png" not in image_paths([photos])

    def test_mistakes(self, tmp_path):
        with pytest.raises(ValueError, match="no input; give image files or folders of images"):
            image_paths([])
        with pytest.raises(ValueError, match="none: no such image or folder"):
            image_paths([tmp_path / "none"])
        with pytest.raises(ValueError, match="no pictures in this folder"):
            image_paths([tmp_path])
