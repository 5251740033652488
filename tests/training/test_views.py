"""Other pictures of predicted people."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.data.synthetic.codes import CodePrior
from mofa_nvdr.dr import reference
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.training.views import RandomViews
from tests.helpers.small_face import small_face
from tests.helpers.triangles import smooth_pixels


@pytest.fixture(scope="module")
def views():
    return RandomViews(FaceDecoder(small_face(16), 48), 3, seed=5, prior=CodePrior())


def people(count: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=g), torch.randn(count, 5, generator=g)


class TestRandomViews:
    def test_each_person_alone(self, views):
        """A person's views depend on its place in the run, not on who else is there."""
        shape, albedo = people()
        both = views(shape, albedo, [10, 11])
        assert both.images.shape == (6, 3, 48, 48) and both.landmarks.shape == (6, 68, 2)
        assert both.images.min() >= 0 and both.images.max() <= 1
        alone = views(shape[1:], albedo[1:], [11])
        torch.testing.assert_close(both.images[3:], alone.images)
        elsewhere = views(shape[1:], albedo[1:], [12])
        assert (elsewhere.images - alone.images).abs().max() > 0.1

    def test_of_the_base_level(self, views):
        """Coefficients that are not given are zero."""
        shape, albedo = people()
        shape[:, 3:], albedo[:, 2:] = 0, 0
        whole, lower = views(shape, albedo, [3, 4]), views(shape[:, :3], albedo[:, :2], [3, 4])
        assert torch.equal(whole.images, lower.images)

    def test_views_of_a_person_differ(self, views):
        """In pose, light and what is behind."""
        found = views(*people(1), [3])
        for a, b in ((0, 1), (0, 2), (1, 2)):
            assert (found.landmarks[a] - found.landmarks[b]).norm(dim=1).mean() > 0.5
            assert (found.images[a, :, 0, 0] - found.images[b, :, 0, 0]).abs().max() > 0.01
            assert (found.images[a, :, 24, 24] - found.images[b, :, 24, 24]).abs().max() > 0.01

    def test_gradcheck(self):
        """Of the pixels inside of the outlines and of the landmarks, in float64 and plain torch."""
        face = small_face(6, modes=3).double()
        draw = RandomViews(FaceDecoder(face, 24, dr=reference), 1, 5, CodePrior())
        parts = [torch.zeros(1, n, dtype=torch.float64, requires_grad=True) for n in (3, 4)]
        seen = []
        rasterize = draw.decoder.rasterize
        draw.decoder.rasterize = lambda geometry: seen.append(geometry) or rasterize(geometry)
        draw(*parts, [0])
        pos = draw.decoder.camera.clip_space(seen[0].vertices.detach())
        rast, _ = reference.rasterize(
            reference.RasterizeContext(), pos, draw.decoder.triangles, (24, 24)
        )
        inside = smooth_pixels(rast.flip(1)).expand(1, 3, 24, 24)
        assert inside.sum() > 200
        weight = torch.rand(
            8, int(inside.sum()), generator=torch.Generator().manual_seed(1)
        ).double()

        def some(shape: torch.Tensor, albedo: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = draw(shape, albedo, [0])
            return weight @ found.images[inside], found.landmarks

        assert torch.autograd.gradcheck(some, parts)

    def test_of_no_training(self, views):
        with pytest.raises(ValueError, match="RandomViews: 0 places for 2 people; only batches of"):
            views(*people(), [])
