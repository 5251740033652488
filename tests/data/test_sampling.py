"""Order of batches: every picture once an epoch, the same after a stop and over any number of processes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mofa_nvdr.data import (
    Batch,
    DataError,
    EpochSampler,
    Photographs,
    batches,
    mirror,
    val_batches,
)
from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.face.landmarks import MIRROR
from tests.helpers.landmarked_photographs import mesh_of
from tests.helpers.picture_folders import SIDE, color, landmarks_of, write_index


def take(iterator, num: int) -> list[Batch]:
    taken = list(itertools.islice(iterator, num))
    iterator.close()
    return taken


def names_of(batch: Batch) -> list[str]:
    return [path.name for path in batch.paths]


class TestMirror:
    def test_swaps_sides(self, corpus: Path):
        sample = Photographs(corpus, image_size=SIDE)[0]
        sample.image[:, :10] = 0
        sample.confidence[36] = 0.25
        other = mirror(sample)
        assert (other.image[:, -10:] == 0).all() and (other.image[:, 0] == color(0)).all()
        # the outer corner of the subject's right eye becomes that of the left eye
        x, y = sample.landmarks[36]
        assert other.landmarks[45].tolist() == pytest.approx([SIDE - x, y])
        assert other.confidence[45] == 0.25 and other.confidence[36] == 1

    def test_dense_landmarks(self, corpus: Path):
        """Their landmarks are those of the mirrored picture, irises included; other samples have none."""
        sample = Photographs(corpus, image_size=SIDE)[0]
        assert mirror(sample).dense is None
        dense = mesh_of(sample.landmarks).astype(np.float32)
        dense[468], dense[473] = (3, 4), (20, 5)
        sample = replace(sample, dense=dense)
        other = mirror(sample)
        assert other.dense.dtype == np.float32
        np.testing.assert_allclose(ibug_landmarks(other.dense), other.landmarks, atol=1e-4)
        assert other.dense[468].tolist() == [SIDE - 20, 5]
        assert other.dense[473].tolist() == [SIDE - 3, 4]
        np.testing.assert_allclose(mirror(other).dense, dense, atol=1e-5)

    def test_twice_is_nothing(self, corpus: Path):
        sample = Photographs(corpus, image_size=SIDE)[0]
        twice = mirror(mirror(sample))
        assert (twice.image == sample.image).all()
        np.testing.assert_allclose(twice.landmarks, sample.landmarks, atol=1e-5)


class TestBatches:
    def test_what_a_batch_holds(self, corpus: Path):
        (batch,) = take(batches(Photographs(corpus, image_size=48), 4, flip=False), 1)
        assert batch.images.shape == (4, 3, 48, 48) and batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()
        assert batch.landmarks.shape == (4, 68, 2) and batch.confidence.shape == (4, 68)
        assert batch.step == 0 and batch.codes is None
        for b, name in enumerate(names_of(batch)):
            number = int(name[5:8])
            expected = torch.tensor(color(number)) / 255
            torch.testing.assert_close(batch.images[b, :, 7, 9], expected)
            expected = torch.from_numpy(landmarks_of(10)[number] * 1.5)
            torch.testing.assert_close(batch.landmarks[b], expected)

    def test_dense_landmarks(self, corpus: Path):
        """Unknown ones are NaN in a batch in which others are known; none are None."""
        (batch,) = take(val_batches(Photographs(corpus, image_size=48), 8), 1)
        assert batch.dense is None
        name = batch.paths[2].relative_to(corpus).as_posix()
        points = mesh_of(landmarks_of(10)[int(name[-7:-4])]).astype(np.float32)
        np.savez(corpus / "landmarks478.npz", files=[name], lm478=points[None])
        data = Photographs(corpus, image_size=48)
        assert data.has_dense
        (batch,) = take(val_batches(data, 8), 1)
        known = batch.to("cpu").dense.isfinite().all(-1).all(-1)
        assert known.nonzero().tolist() == [[2]]
        torch.testing.assert_close(batch.dense[2], torch.from_numpy(points * 1.5))

    def test_every_epoch_holds_every_picture_once(self, corpus: Path):
        taken = take(batches(Photographs(corpus, image_size=SIDE), 4, seed=1), 9)
        names = [name for batch in taken for name in names_of(batch)]
        epochs = [names[i : i + 6] for i in range(0, 36, 6)]
        assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 3

    def test_resumes_where_it_stopped(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        whole = take(batches(dataset, 4, seed=5), 8)
        resumed = take(batches(dataset, 4, seed=5, start_step=3), 5)
        for a, b in zip(whole[3:], resumed):
            assert a.step == b.step and a.paths == b.paths
            assert a.images.equal(b.images) and a.landmarks.equal(b.landmarks)

    def test_seed_decides(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        a, b, c = (
            [names_of(batch) for batch in take(batches(dataset, 3, seed=s), 4)] for s in (0, 0, 1)
        )
        assert a == b != c

    def test_half_is_mirrored(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        plain = landmarks_of(10)
        mirrored = np.stack([SIDE, 0]) + plain[:, list(MIRROR)] * [-1, 1]
        num_mirrored = 0
        for batch in take(batches(dataset, 8), 40):
            for name, landmarks in zip(names_of(batch), batch.landmarks.numpy()):
                number = int(name[5:8])
                is_plain = np.allclose(landmarks, plain[number], atol=1e-4)
                assert is_plain or np.allclose(landmarks, mirrored[number], atol=1e-4)
                num_mirrored += not is_plain
        assert 120 <= num_mirrored <= 200  # expected 160, standard deviation 9

    def test_batch_larger_than_the_data_set(self, corpus: Path):
        (batch,) = take(batches(Photographs(corpus, image_size=SIDE), 13), 1)
        assert len(set(names_of(batch)[:6])) == 6 and len(batch.images) == 13

    def test_unreadable_picture_is_replaced_counted_and_named(self, corpus: Path):
        broken = corpus / "images" / "face_002.png"
        broken.write_bytes(broken.read_bytes()[:60])
        dataset = Photographs(corpus, image_size=SIDE)
        with pytest.warns(UserWarning, match=r"skipped picture 1: .*face_002\.png") as caught:
            taken = take(batches(dataset, 6, seed=2, flip=False), 3)
        assert len(caught) == 1 and dataset.skipped == [str(broken)]
        for batch in taken:
            assert sorted(names_of(batch)) == [f"face_{i:03d}.png" for i in (0, 1, 3, 3, 4, 5)]
        with pytest.warns(UserWarning, match="skipped picture 1"):
            again = Photographs(corpus, image_size=SIDE)
            (resumed,) = take(batches(again, 6, seed=2, start_step=2, flip=False), 1)
        assert resumed.paths == taken[2].paths

    def test_no_readable_picture(self, corpus: Path):
        for path in (corpus / "images").iterdir():
            path.write_bytes(b"")
        with pytest.raises(DataError, match="none of its 6 train pictures is readable"):
            take(batches(Photographs(corpus), 2), 1)

    def test_other_exceptions_come_through(self, corpus: Path):
        class Failing(Photographs):
            def __getitem__(self, index: int):
                raise MemoryError("no room")

        with pytest.raises(MemoryError, match="no room"):
            next(batches(Failing(corpus), 2))

    def test_closing_ends_the_threads(self, corpus: Path):
        before = set(threading.enumerate())
        iterator = batches(Photographs(corpus, image_size=SIDE), 4)
        next(iterator)
        assert len(set(threading.enumerate()) - before) == 2
        iterator.close()
        assert not set(threading.enumerate()) - before

    def test_program_ends_without_closing(self, corpus: Path):
        program = (
            "import sys; from mofa_nvdr.data import Photographs, batches\n"
            "iterator = batches(Photographs(sys.argv[1]), 4); print(next(iterator).step)"
        )
        root = Path(__file__).resolve().parents[2]
        result = subprocess.run(
            [sys.executable, "-c", program, str(corpus)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "0", "")

    @pytest.mark.parametrize("world_size", [1, 2, 3, 6])
    def test_shares_of_processes_make_the_batch(self, corpus: Path, world_size: int):
        """Each process gets its part, in the order of ranks, whatever their number."""
        dataset = Photographs(corpus, "train", 48)
        with closing(batches(dataset, 6, seed=3, start_step=4)) as stream:
            whole = list(itertools.islice(stream, 3))
        shares = []
        for rank in range(world_size):
            options = {"rank": rank, "world_size": world_size}
            with closing(batches(dataset, 6, seed=3, start_step=4, **options)) as stream:
                shares.append(list(itertools.islice(stream, 3)))
        for k, batch in enumerate(whole):
            assert torch.equal(batch.images, torch.cat([share[k].images for share in shares]))
            assert batch.paths == sum((share[k].paths for share in shares), ())
            assert all(share[k].step == batch.step for share in shares)

    def test_bad_input(self, corpus: Path):
        dataset = Photographs(corpus)
        for name in ("batch_size", "seed", "start_step"):
            with pytest.raises(ValueError, match=f"{name} is -1, expected at least"):
                batches(dataset, **{"batch_size": 1, name: -1})
        write_index(corpus / "index.csv", [("images/face_000.png", "train")])
        with pytest.raises(DataError, match="no val pictures in"):
            batches(Photographs(corpus, "val"), 1)

    def test_ranks_see_together_what_one_process_sees(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        alone = take(batches(dataset, 4, seed=3), 3)
        ranks = [take(batches(dataset, 4, seed=3, rank=r, world_size=2), 3) for r in (0, 1)]
        for whole, first, second in zip(alone, *ranks):
            assert whole.paths == first.paths + second.paths
            assert whole.places == first.places + second.places
            assert whole.images.equal(torch.cat([first.images, second.images]))  # mirrors too
            assert whole.landmarks.equal(torch.cat([first.landmarks, second.landmarks]))

    def test_codes_of_rendered_faces(self, corpus: Path):
        names = [f"images/face_{i:03d}.png" for i in range(9)]
        codes = np.arange(9 * 5, dtype=np.float64).reshape(9, 5)
        np.savez(corpus / "codes.npz", files=np.array(names), codes=codes)
        (batch,) = take(val_batches(Photographs(corpus, "val", SIDE), 3), 1)
        assert batch.codes.dtype == torch.float32 and batch.codes.equal(
            torch.tensor(codes[6:9], dtype=torch.float32)
        )
        sample, signs = Photographs(corpus, "val", SIDE)[0], np.float32([1, -1, 1, -1, 1])
        assert mirror(sample).code is None  # nobody says what its mirror image is
        assert mirror(sample, signs).code.tolist() == (sample.code * signs).tolist()
        np.savez(corpus / "codes.npz", files=np.array(names[:7]), codes=codes[:7])
        (batch,) = take(val_batches(Photographs(corpus, "val", SIDE), 3), 1)
        assert batch.codes[0].tolist() == codes[6].tolist() and batch.codes[1:].isnan().all()
        np.savez(corpus / "codes.npz", files=np.array(names[:6]), codes=codes[:6])
        (batch,) = take(val_batches(Photographs(corpus, "val", SIDE), 3), 1)
        assert batch.codes is None  # all of them are unknown
        np.savez(corpus / "codes.npz", files=np.array(names), codes=codes[:7])
        with pytest.raises(
            DataError, match=r"codes\.npz: expected files \[N\] .* found files \[9\]"
        ):
            Photographs(corpus)


class TestEpochSampler:
    @pytest.mark.parametrize(("num", "batch", "world"), [(12, 6, 3), (10, 6, 2), (7, 20, 4)])
    def test_every_sample_once_an_epoch_over_all_ranks(self, num: int, batch: int, world: int):
        ranks = [EpochSampler(num, batch, 1, rank, world) for rank in range(world)]
        seen = [index for _ in range(num) for rank in ranks for index in next(rank)]
        epochs = [seen[i : i + num] for i in range(0, len(seen), num)]
        assert len(epochs) == batch
        assert all(sorted(epoch) == list(range(num)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1

    def test_resumes_in_the_middle_of_an_epoch(self):
        straight = EpochSampler(11, 3, 5)
        for _ in range(5):
            next(straight)
        resumed = EpochSampler(11, 3, 5)
        resumed.load_state_dict(straight.state_dict())
        assert [next(straight) for _ in range(9)] == [next(resumed) for _ in range(9)]

    def test_resumes_with_other_ranks(self):
        two = [EpochSampler(11, 4, 5, rank, 2) for rank in (0, 1)]
        one = EpochSampler(11, 4, 5)
        for _ in range(4):
            next(two[0]), next(two[1])
        assert two[0].state_dict() == two[1].state_dict()
        one.load_state_dict(two[0].state_dict())
        assert next(one) == next(two[0]) + next(two[1])

    def test_mistakes(self):
        for name in ("num_samples", "batch_size"):
            with pytest.raises(ValueError, match=f"EpochSampler: {name} is 0, expected at least 1"):
                EpochSampler(**{"num_samples": 3, "batch_size": 1, name: 0})
        for rank, world_size in ((2, 2), (-1, 2), (0, 0), (0, 3)):
            with pytest.raises(
                ValueError, match="4 images for rank .* that the number of processes"
            ):
                EpochSampler(3, 4, rank=rank, world_size=world_size)
        sampler = EpochSampler(11, 4, 5)
        state = sampler.state_dict()
        with pytest.raises(ValueError, match="the saved seed is 6, this run's is 5; resume with"):
            sampler.load_state_dict({**state, "seed": 6})
        with pytest.raises(ValueError, match="the saved num_samples is 10, this run's is 11"):
            sampler.load_state_dict({**state, "num_samples": 10})
        with pytest.raises(ValueError, match="6 samples seen are no whole steps of 4; resume"):
            sampler.load_state_dict({**state, "samples_seen": 6})


class TestValBatches:
    def test_in_order_and_complete(self, corpus: Path):
        taken = list(val_batches(Photographs(corpus, "val", SIDE), 2))
        assert [names_of(batch) for batch in taken] == [
            ["face_006.png", "face_007.png"],
            ["face_008.png"],
        ]
        assert [batch.step for batch in taken] == [0, 1]

    def test_limit_is_evenly_spaced(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        (batch,) = val_batches(dataset, 8, limit=3)
        assert names_of(batch) == ["face_001.png", "face_003.png", "face_005.png"]
        assert len(list(val_batches(dataset, 1, limit=100))) == 6

    def test_processes_share_the_pictures(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        parts = [list(val_batches(dataset, 2, rank=rank, world_size=2)) for rank in (0, 1)]
        names = [[name for batch in part for name in names_of(batch)] for part in parts]
        assert names[0] == ["face_000.png", "face_002.png", "face_004.png"]
        assert names[1] == ["face_001.png", "face_003.png", "face_005.png"]

    def test_shares_of_processes_make_the_split(self, corpus: Path):
        dataset = Photographs(corpus, "train", 48)
        whole = {path for batch in val_batches(dataset, 2, 5) for path in batch.paths}
        shares = [
            [path for batch in val_batches(dataset, 2, 5, rank, 2) for path in batch.paths]
            for rank in (0, 1)
        ]
        assert [len(share) for share in shares] == [3, 2] and set(sum(shares, [])) == whole

    def test_empty_split(self, corpus: Path):
        write_index(corpus / "index.csv", [("images/face_000.png", "train")])
        assert list(val_batches(Photographs(corpus, "val"), 2)) == []

    def test_unreadable_picture_is_left_out(self, corpus: Path):
        (corpus / "images" / "face_007.png").write_bytes(b"")
        dataset = Photographs(corpus, "val", SIDE)
        with pytest.warns(UserWarning, match=r"face_007\.png"):
            (batch,) = val_batches(dataset, 4)
        assert names_of(batch) == ["face_006.png", "face_008.png"]
        (batch,) = val_batches(dataset, 4)  # warns once a file, not once a pass
        assert len(dataset.skipped) == 1

    def test_bad_input(self, corpus: Path):
        with pytest.raises(ValueError, match="val_batches: batch_size is 0"):
            val_batches(Photographs(corpus, "val"), 0)
        with pytest.raises(
            ValueError, match="val_batches: limit is 0, expected at least 1 or None"
        ):
            val_batches(Photographs(corpus, "val"), 1, limit=0)


class TestBatch:
    def test_to(self, corpus: Path):
        (batch,) = take(batches(Photographs(corpus, image_size=SIDE), 2), 1)
        moved = batch.to("meta")
        assert {moved.images.device.type, moved.landmarks.device.type} == {"meta"}
        assert moved.paths == batch.paths and moved.codes is None
