"""A limited number of rendered faces: rendered once, shown again; the same in resumed and shared runs."""

import itertools

import numpy as np
import pytest
import torch

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.data.synthetic.kept_faces import GROUP, KeptFaces
from mofa_nvdr.face.mirror import mirror_signs
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.symmetric_face import symmetric_face


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(FaceDecoder(symmetric_face(), 48), plain=True)


@pytest.fixture(scope="module")
def signs(faces) -> np.ndarray:
    found = mirror_signs(faces.decoder.model)
    assert found is not None
    return found.numpy()


def _take(kept: KeptFaces, step: int, count: int, size: int = GROUP, **more: int) -> list[Batch]:
    return list(itertools.islice(kept.batches(size, 3, step, **more), count))


class TestKeptFaces:
    def test_first_round_has_the_faces_of_the_seed(self, faces):
        """Rounded to bytes."""
        (kept,) = _take(KeptFaces(faces, 2 * GROUP), 1, 1)
        new = next(faces.batches(GROUP, 3, 1))
        assert torch.equal(kept.codes, new.codes) and torch.equal(kept.landmarks, new.landmarks)
        assert (kept.images - new.images).abs().max() <= 0.5 / 255 + 1e-6
        assert kept.places == new.places and kept.step == 1 and not kept.paths

    def test_each_is_rendered_once(self, faces, monkeypatch):
        rendered: list[int] = []
        original = SyntheticFaces.render

        def render(self, seed, places, *more):
            rendered.extend(places)
            return original(self, seed, places, *more)

        monkeypatch.setattr(SyntheticFaces, "render", render)
        kept = KeptFaces(faces, 2 * GROUP - 3)  # rounded up
        assert len(kept) == 2 * GROUP
        _take(kept, 0, 7)
        assert rendered == list(range(2 * GROUP))

    def test_every_second_round_is_mirrored(self, faces, signs):
        first, second, third = _take(KeptFaces(faces, GROUP, signs), 0, 3)
        assert torch.equal(second.images, first.images.flip(3))
        assert torch.equal(second.codes, first.codes * torch.from_numpy(signs))
        assert not torch.equal(second.codes, first.codes)
        assert torch.equal(third.images, first.images) and torch.equal(third.codes, first.codes)
        # The mirrored code is drawn as the mirrored picture shows it, but for pixels at edges.
        face = faces.decoder.rasterize(faces.decoder.geometry(second.codes))
        away = ((face.image - second.images).abs() * face.mask).amax(1)
        assert face.mask.mean() > 0.1 and away.quantile(0.95) < 2 / 255

    def test_without_mirror_images_they_come_as_they_are(self, faces):
        first, second = _take(KeptFaces(faces, GROUP), 0, 2)
        assert torch.equal(first.images, second.images) and torch.equal(first.codes, second.codes)

    def test_a_round_has_each_group_once_in_an_order_of_its_own(self, faces):
        kept = KeptFaces(faces, 6 * GROUP)
        rounds = [_take(kept, 6 * turn, 6) for turn in range(3)]
        orders = [[batch.codes[0, 0].item() for batch in batches] for batches in rounds]
        assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
        assert orders[0] != orders[1] != orders[2]

    def test_resumed_and_shared_runs_get_the_same(self, faces, signs):
        straight = _take(KeptFaces(faces, 3 * GROUP, signs), 0, 8, size=12)
        for batch in straight[5:]:  # another process: nothing is there yet
            (resumed,) = _take(KeptFaces(faces, 3 * GROUP, signs), batch.step, 1, size=12)
            assert torch.equal(resumed.images, batch.images)
            assert torch.equal(resumed.codes, batch.codes)
        shares = [
            _take(KeptFaces(faces, 3 * GROUP, signs), 7, 1, 12, rank=rank, world_size=2)[0]
            for rank in (0, 1)
        ]
        assert torch.equal(torch.cat([s.images for s in shares]), straight[7].images)

    def test_where_the_sequence_begins(self, faces):
        """Other batches go on where those before ended: 4 steps of 16, then of 8."""
        kept = KeptFaces(faces, 8 * GROUP)
        before = _take(kept, 0, 5)
        after = _take(kept, 4, 2, size=8, first=4 * (16 - 8))
        assert torch.equal(torch.cat([b.codes for b in after]), before[4].codes)

    @pytest.mark.parametrize("count", [0, -1])
    def test_none(self, faces, count):
        with pytest.raises(ValueError, match=f"KeptFaces: count is {count}, expected at least 1"):
            KeptFaces(faces, count)
