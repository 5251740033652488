"""Heads, backgrounds and what is before a face: placed as said, each sample from its own generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mofa_nvdr.data.draws import Draws, random_generator
from mofa_nvdr.data.synthetic.head import CLOTH, HAIR, SKIN, HeadShape, border
from mofa_nvdr.data.synthetic.surroundings import (
    Layer,
    _beard,
    _glasses,
    _occluder,
    _soften_edges,
    photograph_background,
    plain_background,
)
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.normals import vertex_normals

CPU = torch.device("cpu")


def draws(count: int, first: int = 0) -> Draws:
    return Draws([random_generator(7, k) for k in range(first, first + count)], CPU)


class TestDraws:
    def test_each_sample_from_its_own_generator(self):
        whole, part = draws(5), draws(2, first=3)
        for name, args in (("uniform", (2, 3)), ("chance", (0.5,)), ("color", (0.1, 0.9, 0.3))):
            assert torch.equal(getattr(whole, name)(*args)[3:], getattr(part, name)(*args))
        assert torch.equal(whole.noise(2, 3)[3:], part.noise(2, 3))
        assert torch.equal(whole.random(4)[3:], part.random(4))

    def test_ranges(self):
        d = draws(2000)
        assert 2 <= (x := d.uniform(2, 3)).min() and x.max() < 3
        assert d.chance(0.25).mean().item() == pytest.approx(0.25, abs=0.04)
        color = d.color(0.5, 0.5, 0.2)
        assert color.min() >= 0.4 - 1e-6 and color.max() <= 0.6 + 1e-6


class TestBorder:
    def test_a_square_with_a_hole(self):
        """3 x 3 cells, the middle one missing: the outer loop of 12 vertices, not the inner of 4."""
        index = np.arange(16).reshape(4, 4)
        triangles = []
        for r in range(3):
            for c in range(3):
                if (r, c) != (1, 1):
                    a, b, d, e = index[r, c], index[r, c + 1], index[r + 1, c], index[r + 1, c + 1]
                    triangles += [(a, d, b), (b, d, e)]
        loop = border(np.array(triangles))
        assert sorted(loop) == [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15]
        steps = np.abs(np.diff(loop, append=loop[0]))
        assert set(steps) <= {1, 4}  # neighbours

    def test_closed(self):
        tetrahedron = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])
        with pytest.raises(ValueError, match="mesh is closed, .* without surroundings"):
            border(tetrahedron)


@pytest.fixture(scope="module")
def head(face_model):
    decoder = FaceDecoder(face_model, 64)
    shape = HeadShape(face_model, decoder.camera)
    code = decoder.code_zero(6)
    geometry = decoder.geometry(code)
    return decoder, shape, geometry, shape(code, geometry, face_model, draws(6))


class TestHeadShape:
    def test_parts(self, head):
        _, shape, _, drawn = head
        assert {SKIN, HAIR, CLOTH} == set(shape.part.tolist())
        assert len(shape.part) == len(shape.triangles)
        assert shape.triangles.max() == drawn.vertices.shape[1] - 1
        assert torch.isfinite(drawn.vertices).all()
        assert 0 <= drawn.albedo.min() and drawn.albedo.max() <= 1

    def test_skull_goes_on_from_the_border(self, head):
        """The mesh's border lies between its first two rings; the colours are the border's."""
        _, shape, geometry, drawn = head
        ring = geometry.vertices[:, shape._loop]
        count = ring.shape[1]
        first, second = drawn.vertices[:, :count], drawn.vertices[:, count : 2 * count]
        way = second - first
        place = ((ring - first) * way).sum(2) / way.square().sum(2)
        assert 0 < place.min() and place.max() < 0.6
        away = (first + place[..., None] * way - ring).norm(dim=2)
        assert away.max() < 9  # mm from the line between the rings; measured 5.5
        torch.testing.assert_close(drawn.albedo[:, :count], geometry.albedo[:, shape._loop])

    def test_faces_outwards(self, head):
        """The back of the skull looks away from the camera, the shoulders' front to it."""
        _, shape, _, drawn = head
        normals = vertex_normals(drawn.vertices, shape.triangles)
        skull = slice(0, 144 * 10)
        middle = drawn.vertices[:, skull].mean(1, keepdim=True)
        outward = (normals[:, skull] * (drawn.vertices[:, skull] - middle)).sum(2)
        assert (outward > 0).float().mean() > 0.95

    def test_covers_no_face_but_with_hair(self, head):
        from mofa_nvdr.render.renderer import FaceRenderer

        decoder, shape, geometry, drawn = head
        whole = FaceDecoder(decoder.model, 64, frontal_only=False).rasterize(geometry)
        rendering = FaceRenderer(decoder.camera)(
            drawn.vertices, shape.triangles, drawn.albedo, geometry.light
        )
        nearer = (rendering.mask * whole.mask > 0)[:, 0] & (rendering.depth < whole.depth)[:, 0]
        part = shape.part[rendering.triangle_ids.clamp(min=0)]
        frontal = FaceDecoder(decoder.model, 64).rasterize(geometry).mask[:, 0] > 0
        assert (nearer & frontal & (part == CLOTH)).sum() == 0
        assert (nearer & frontal & (part == SKIN)).float().sum() < 0.01 * frontal.sum()
        assert (rendering.mask.sum() > 1.2 * whole.mask.sum()).item()


class TestBackgrounds:
    def test_rooms_differ(self):
        pictures = plain_background((40, 50), draws(6))
        assert pictures.shape == (6, 3, 40, 50)
        assert pictures.min() >= 0 and pictures.max() <= 1
        assert (
            torch.cdist(pictures.flatten(1), pictures.flatten(1)).add(torch.eye(6) * 99).min() > 3
        )

    def test_photographs(self):
        """Every kind holds pixels of its own photograph alone; kept ones are left alone."""
        base = torch.arange(40).view(-1, 1, 1, 1) / 64
        photographs = (base + torch.rand(40, 3, 33, 33) * 0.01).clamp(0, 1)
        kept = torch.zeros(40)
        kept[:5] = 1
        result = photograph_background(photographs, kept, draws(40))
        low, high = photographs.amin((1, 2, 3)), photographs.amax((1, 2, 3))
        assert (result.amin((1, 2, 3)) >= low - 1e-6).all()
        assert (result.amax((1, 2, 3)) <= high + 1e-6).all()
        for k in range(5):
            assert result[k].equal(photographs[k]) or result[k].equal(photographs[k].flip(2))
        moved = [
            not (result[k].equal(photographs[k]) or result[k].equal(photographs[k].flip(2)))
            for k in range(5, 40)
        ]
        assert all(moved)

    def test_shuffled_patches_are_a_permutation(self):
        photographs = torch.rand(60, 1, 16, 16).expand(-1, 3, -1, -1)
        result = photograph_background(photographs, torch.zeros(60), draws(60))
        same = [
            torch.equal(a.flatten().sort().values, b.flatten().sort().values)
            for a, b in zip(photographs, result)
        ]
        assert 0.3 < np.mean(same) < 0.85  # rolled or shuffled; the others are enlarged


class TestBeforeTheFace:
    def layer(self, count: int) -> Layer:
        image = torch.full((count, 3, 64, 64), 0.6)
        mask = torch.zeros(count, 1, 64, 64)
        mask[:, :, 8:60, 12:52] = 1
        return Layer(image * mask, mask, mask, mask.long())

    def landmarks(self, count: int) -> torch.Tensor:
        points = torch.zeros(count, 68, 2)
        points[:, 17:27] = torch.tensor([32.0, 20])
        points[:, 8] = torch.tensor([32.0, 58])
        points[:, 36:42] = torch.tensor([24.0, 26])
        points[:, 42:48] = torch.tensor([40.0, 26])
        return points

    def test_beards_grow_low(self):
        skin = torch.full((100, 3, 64, 64), 0.6)
        out = _beard(skin, self.landmarks(100), torch.full((100, 3), 0.1), draws(100))
        changed = (out - skin).abs().amax(1) > 0.05  # [B, H, W]
        bearded = changed.flatten(1).any(1)
        assert 5 <= bearded.sum() <= 25  # 14 %
        assert (
            not changed[:, :26, 22:42].any()
            and changed[bearded][:, 50:58, 28:36].float().mean() > 0.5
        )

    def test_glasses_are_round_the_eyes(self):
        image, visible = torch.full((100, 3, 64, 64), 0.6), torch.ones(100, 1, 64, 64)
        out, seen = _glasses(image, visible, self.landmarks(100), draws(100))
        worn = (seen < 0.9).flatten(1).any(1)
        assert 7 <= worn.sum() <= 27  # 16 %
        hidden = 1 - seen[worn].mean(0)[0]
        assert hidden[18:34, 14:50].mean() > 0.1 and hidden[40:].max() < 0.01
        assert torch.equal(out[~worn], image[~worn])

    def test_occluders_hide_what_they_cover(self):
        image, visible = torch.rand(100, 3, 64, 64), torch.ones(100, 1, 64, 64)
        face = self.layer(100)
        out, seen = _occluder(image, visible, torch.rand(100, 3, 64, 64), face, draws(100))
        changed = (out - image).abs().amax(1, keepdim=True) > 1e-6
        assert torch.equal(changed & (seen == 1), torch.zeros_like(changed))
        covered = (seen == 0).flatten(1).any(1)
        assert 8 <= covered.sum() <= 35  # 22 %, some outside of the picture

    def test_edges_alone_are_softened(self):
        mask = torch.zeros(1, 1, 8, 8)
        mask[..., 4:] = 1
        image = (mask + torch.rand(1, 1, 8, 8) * 0.2).expand(-1, 3, -1, -1)
        out = _soften_edges(image, mask)
        assert torch.equal(out[..., :3], image[..., :3]) and torch.equal(
            out[..., 5:], image[..., 5:]
        )
        assert ((out - image)[..., 3:5].abs() > 0.1).float().mean() > 0.8
