"""What a run trains and validates on, and what is said where there is none of it."""

import warnings
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.data import ImageError, write_shards
from mofa_nvdr.data.synthetic.synthesis import SynthesisOptions, synthesize_files
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import write_png
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.loop import train
from tests.helpers.small_face import small_face
from tests.helpers.training import small_config


class TestFolder:
    def test_what_is_not_trained_on(self, cap, tmp_path, caplog):
        """Panels among the photographs are counted in a note, and not learned from."""
        for k in range(4):
            iio.imwrite(tmp_path / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
            write_png(tmp_path / f"{k}_panel.png", np.zeros((64, 320, 3), np.uint8), kind="panel")
        caplog.set_level("INFO", "mofa_nvdr")
        config = small_config(cap, tmp_path / "run", **{"data.path": str(tmp_path)})
        data = TrainingData(config, FaceDecoder(FaceModel.load(cap), image_size=64))
        assert len(data.train_set) + len(data.val_set) == 4
        assert caplog.messages == [f"{tmp_path}: 4 files not read: what mofa-nvdr wrote: 4 panels"]

    def test_limit_of_pixels(self, cap, tmp_path):
        for k in range(4):
            iio.imwrite(tmp_path / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        options = {"data.path": str(tmp_path), "data.max_megapixels": 0.004}
        config = small_config(cap, tmp_path / "run", **options)
        data = TrainingData(config, FaceDecoder(FaceModel.load(cap), image_size=64))
        with pytest.raises(
            ImageError, match="0 megapixels, more than --max-megapixels 0.004; give"
        ):
            data.train_set[0]
        assert data.val_set.max_megapixels == 0.004


class TestMistakes:
    def test_nothing_to_validate_on(self, cap, tmp_path):
        (tmp_path / "photos").mkdir()
        iio.imwrite(tmp_path / "photos" / "only.png", np.full((64, 64, 3), 90, np.uint8))
        with pytest.raises(
            ValueError, match="photos: no picture to validate on; bring at least two"
        ):
            train(small_config(cap, tmp_path / "run", **{"data.path": str(tmp_path / "photos")}))

    def test_shards_without_any(self, cap, tmp_path):
        (tmp_path / "photos").mkdir()
        iio.imwrite(tmp_path / "photos" / "only.png", np.full((64, 64, 3), 90, np.uint8))
        write_shards(tmp_path / "photos", str(tmp_path / "shards"))
        with pytest.raises(
            ValueError, match=r"shards: no picture to validate on; shards called val-\*\.tar hold "
        ):
            train(small_config(cap, tmp_path / "run", **{"data.path": str(tmp_path / "shards")}))

    @pytest.mark.parametrize("packed", [False, True])
    def test_none_to_validate_on_is_readable(self, cap, tmp_path, packed):
        """On several processes too: one whose share alone is unreadable goes on."""
        folder = tmp_path / "photos"
        folder.mkdir()
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        names = [f"{k}.png,{'val' if k % 2 else 'train'}" for k in range(8)]
        (folder / "index.csv").write_text("\n".join(["file,split", *names]) + "\n")

        def corpus() -> TrainingData:
            data = folder
            if packed:
                data = tmp_path / "shards"
                write_shards(folder, str(data))
            decoder = FaceDecoder(FaceModel.load(cap), image_size=64)
            return TrainingData(
                small_config(
                    cap, tmp_path / "run", **{"data.path": str(data), "report.val_images": 3}
                ),
                decoder,
            )

        warnings.simplefilter("ignore")
        for k in (1, 3, 5):
            (folder / f"{k}.png").write_bytes(b"no picture")
        shares = [[len(b.images) for b in corpus().val(None, rank, 4)] for rank in range(4)]
        assert sum(map(len, shares)) <= 1 and [] in shares  # and nothing is raised
        (folder / "7.png").write_bytes(b"no picture")
        for world in (1, 2):
            with pytest.raises(
                ValueError,
                match=r"none of 3 pictures to validate on can be read, first \S+; replace them, or "
                + ("pack others that have the" if packed else "give others the")
                + " split 'val' in index.csv",
            ):
                list(corpus().val(None, 0, world))

    @pytest.mark.parametrize("given", [["--data", ""], ["--data="]])
    def test_empty_name(self, capsys, tmp_path, monkeypatch, given):
        """It would be the working directory."""
        monkeypatch.chdir(tmp_path)
        for k in range(8):
            iio.imwrite(f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        assert main(["train", "--config", "smoke", *given]) == 2
        said = capsys.readouterr().err
        assert said == ("mofa-nvdr: --data is empty; give a folder of face crops, or 'synthetic'\n")
        assert not Path("runs").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"loss.landmark": 1.0},
                "--loss.landmark is 1, but there is no landmarks68.npz; bring it",
            ),
            (
                {"loss.lid": 2.0},
                "--loss.lid is 2, but there is no landmarks68.npz; .* --loss.lid 0",
            ),
            (
                {"loss.lid": 2.0, "loss.landmark_set": "dense", "run.face_model": "default"},
                "--loss.lid is 2, but there is no landmarks478.npz",
            ),
            (
                {"loss.identity": 2.0},
                "--loss.identity is 2, but there is no landmarks68.npz, by .* --loss.identity 0",
            ),
        ],
    )
    def test_landmarks_that_are_not_there(self, cap, tmp_path, options, message):
        (tmp_path / "photos").mkdir()
        for k in range(8):
            iio.imwrite(tmp_path / "photos" / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        config = small_config(
            cap, tmp_path / "run", **{"data.path": str(tmp_path / "photos"), **options}
        )
        with pytest.raises(ValueError, match=message):
            train(config)


class TestKeptFaces:
    def test_warm_start_and_what_is_next_to_photographs_share_them(self, cap, tmp_path):
        """The latter go on where the former ended, and are the first ones again once all were seen."""
        for k in range(8):
            iio.imwrite(tmp_path / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        options = {
            "data.path": str(tmp_path), "data.batch_size": 16, "schedule.warm_start_steps": 2,
            "loss.synthetic": 0.1, "synthetic.count": 32, "synthetic.surroundings": False,
        }  # fmt: skip
        config = small_config(cap, tmp_path / "run", **options)
        data = TrainingData(config, FaceDecoder(FaceModel.load(cap), image_size=64))
        first, second, *later = list(data.train(0, 6))
        warm = np.concatenate([first.codes.numpy(), second.codes.numpy()])
        known = [batch.rendered.codes.numpy() for batch in later]
        assert [len(rows) for rows in known] == [8] * 4
        again = np.concatenate(known)  # 32 faces, perhaps mirrored, in an order of groups
        distance = np.abs(np.abs(again[:, None]) - np.abs(warm[None])).max(2)
        assert (distance.min(1) < 1e-6).all() and len(set(distance.argmin(1))) == 32

    def test_a_folder_has_faces_of_its_own(self, cap, tmp_path):
        out, photos = tmp_path / "renders", tmp_path / "photos"
        synthesize_files(8, str(out), SynthesisOptions(size=64, face_model=cap, plain=True))
        photos.mkdir()
        for k in range(8):
            iio.imwrite(photos / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        options = {"data.path": str(photos), "synthetic.path": str(out), "synthetic.count": 32}
        config = small_config(cap, tmp_path / "run", **options, **{"schedule.warm_start_steps": 1})
        data = TrainingData(config, FaceDecoder(FaceModel.load(cap), image_size=64))
        batch = next(data.train(0))
        assert batch.paths and all(out in path.parents for path in batch.paths)


class TestChanges:
    def test_a_folder_that_changed_is_said(self, small, tmp_path, capsys):
        import imageio.v3 as iio
        import numpy as np

        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        config = replace_options(small, {"data.path": str(folder), "run.steps": 4})
        run = train(config)
        state = read_checkpoint(list_checkpoints(run)[-1])[1]["sampler"]
        assert state == {"num_train": 7, "epoch": 1, "position": 1}  # after 4 steps of 2
        iio.imwrite(folder / "8.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        train(replace_options(config, {"run.steps": 6}))
        words = (
            "has 8 training photographs, it had 7 at the checkpoint: the run goes on, with another"
        )
        assert words in capsys.readouterr().err


class TestKnownCodes:
    """Photographs with fitted codes, and rendered faces that are read again and again."""

    @pytest.fixture
    def renders(self, cap, tmp_path):
        folder = tmp_path / "renders"
        options = SynthesisOptions(size=64, face_model=cap, plain=True)
        return synthesize_files(12, str(folder), options)

    def _data(self, cap, tmp_path, **options):
        config = small_config(cap, tmp_path / "run", **options)
        return TrainingData(config, FaceDecoder(FaceModel.load(cap), image_size=64))

    def test_rendered_faces_of_a_folder(self, cap, tmp_path, renders):
        """In the warm start and next to photographs, in another order; mirrored where codes can be."""
        options = {
            "data.path": str(renders), "synthetic.path": str(renders), "data.batch_size": 4,
            "schedule.warm_start_steps": 2, "loss.synthetic": 1.0, "data.memory": 1.0,
        }  # fmt: skip
        stream = self._data(cap, tmp_path, **options).train(0)
        warm, _, after = (next(stream) for _ in range(3))
        stream.close()
        names = {path.name for path in (renders / "images").iterdir()}
        assert (
            {p.name for p in warm.paths} <= names and warm.codes.isfinite().all()
        )  # of a face without mirror images none is mirrored
        assert after.rendered.images.shape == (2, 3, 64, 64)
        assert {p.name for p in after.rendered.paths} <= names
        again = self._data(cap, tmp_path, **options).train(2)
        assert next(again).rendered.images.equal(after.rendered.images)
        again.close()

    def test_frames_change_with_all_that_is_known(self, cap, tmp_path, renders):
        options = {"data.path": str(renders), "data.flip": False, "data.batch_size": 4}
        plain = next(self._data(cap, tmp_path, **options).train(0))
        framed = next(self._data(cap, tmp_path, **options, **{"augment.frame": 0.2}).train(0))
        assert framed.paths == plain.paths
        for name in ("images", "landmarks", "codes"):
            assert not getattr(framed, name).equal(getattr(plain, name))

    def test_codes_of_another_face_model(self, cap, tmp_path, renders):
        other = tmp_path / "other.safetensors"
        small_face(16, modes=2).save(other)
        message = (
            r"renders: its codes.npz is of another face model than .* \(mofa-nvdr synthesize\)"
        )
        with pytest.raises(ValueError, match=message):
            self._data(str(other), tmp_path, **{
                "data.path": str(renders), "synthetic.path": str(renders)})  # fmt: skip

    def test_no_codes(self, cap, tmp_path, renders):
        (renders / "codes.npz").unlink()
        (renders / "landmarks68.npz").unlink()  # the small face's look like nobody's
        options = {"data.path": str(renders), "loss.fitted": 1.0}
        with pytest.raises(ValueError, match="renders: no codes.npz, which --loss.fitted needs"):
            self._data(cap, tmp_path, **options)
