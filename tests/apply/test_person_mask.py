"""Skin and hair of a drawn person in front of a wall: found, and the shirt and the wall left out."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.person_mask import along_edges, person_weight

H, W, FACE = 200, 200, 60.0
MIDDLE, CHIN = (85.0, 100.0), 120.0
SKIN, HAIR, SHIRT, WALL = (0.8, 0.6, 0.5), (0.25, 0.16, 0.1), (0.93, 0.93, 0.94), (0.3, 0.45, 0.75)


def scene(hair: bool = True, noise: float = 0.02):
    """A picture, where its parts are, and the arguments about its face."""
    y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    oval = ((x - MIDDLE[1]) / 30) ** 2 + ((y - MIDDLE[0]) / 36) ** 2
    face = oval < 1
    parts = {"wall": torch.ones(H, W, dtype=torch.bool)}
    parts["shirt"] = (y > 150) & ((x - 100).abs() < 75)
    parts["neck"] = ((x - 100).abs() < 18) & (y > 100) & (y < 152)
    parts["hair"] = (
        (oval < 1.75) & (y < 95) & ~face if hair else torch.zeros(H, W, dtype=torch.bool)
    )
    parts["face"] = face
    picture = torch.zeros(3, H, W)
    for name, color in (
        ("wall", WALL),
        ("shirt", SHIRT),
        ("neck", SKIN),
        ("hair", HAIR),
        ("face", SKIN),
    ):
        picture[:, parts[name]] = torch.tensor(color)[:, None]
    for name in ("shirt", "neck", "hair", "face"):
        parts["wall"] &= ~parts[name]
    parts["shirt"] &= ~parts["neck"]
    picture += noise * torch.randn(3, H, W, generator=torch.Generator().manual_seed(0))
    places = face.nonzero().float()[::7]
    grid = torch.stack([y, x], -1).view(-1, 2)
    distance = torch.cdist(grid, places).amin(1).view(H, W) / FACE
    distance[face] = 0
    about = (face.float(), face.float(), distance, (x - 100) / FACE, (y - CHIN) / FACE)
    return picture.clamp(0, 1), parts, about


class TestPersonWeight:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls):
        picture, parts, about = scene()
        return person_weight(picture, *about), parts

    @pytest.mark.parametrize(("part", "least"), [("face", 1.0), ("hair", 0.9), ("neck", 0.9)])
    def test_what_is_of_the_person(self, found, part, least):
        weight, parts = found
        assert weight[parts[part]].mean() >= least

    @pytest.mark.parametrize("part", ["shirt", "wall"])
    def test_what_is_not(self, found, part):
        weight, parts = found
        assert weight[parts[part]].mean() < 0.02

    def test_the_wall_around_a_bald_head_is_no_hair(self):
        picture, parts, about = scene(hair=False)
        weight = person_weight(picture, *about)
        assert weight[parts["wall"]].mean() < 0.02 and weight[parts["neck"]].mean() > 0.9

    @pytest.mark.parametrize("level", [0.0, 1.0])
    def test_one_colour_everywhere(self, level):
        picture, parts, about = scene()
        weight = person_weight(torch.full_like(picture, level), *about)
        assert torch.isfinite(weight).all() and (weight[parts["face"]] == 1).all()


class TestAlongEdges:
    def test_follows_the_pictures_edge(self):
        """A mask that is 3 px off an edge moves to it."""
        picture = torch.zeros(3, 60, 60)
        picture[:, :, 30:] = 1
        rough = torch.zeros(60, 60)
        rough[:, 33:] = 1
        fine = along_edges(rough, picture, 8)
        assert fine[30, 31] > 0.55 > 0.2 > fine[30, 28] and 0 <= fine.min() <= fine.max() <= 1

    @pytest.mark.parametrize("size", [(8, 8), (9, 30), (3, 3)])
    def test_small_pictures(self, size):
        out = along_edges(torch.ones(*size), torch.rand(3, *size), 20)
        assert np.allclose(out.numpy(), 1, atol=1e-4)
