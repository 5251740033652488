"""The photometric term of fitting: its rows against finite differences of its energy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian, Pose
from mofa_nvdr.apply.fit_colors import PixelTerm, Target, VertexTerm, robust, robust_weight
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.fitted_faces import landmarked_face

_SIZE = 64
_ALL_POINTS = 10**6


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return landmarked_face()


@pytest.fixture(scope="module")
def decoder(model: FaceModel) -> FaceDecoder:
    return FaceDecoder(model, _SIZE)


@pytest.fixture(scope="module")
def code(model: FaceModel) -> Tensor:
    """A face that looks ahead, a little smaller than the picture, under ambient light."""
    generator = torch.Generator().manual_seed(2)
    code = 0.5 * torch.randn(1, model.layout.size, generator=generator)
    parts = model.layout.slices
    code[:, parts["rotation"]] = torch.tensor([0.1, -0.15, 0.05])
    code[:, parts["translation"]] = torch.tensor([2.0, -3.0, -60.0])
    code[:, parts["light"]] = 0
    return code


def _target(photo: Tensor, colors: float = 100.0, detail: float = 0.0, inside: int = 0) -> Target:
    """All pixels count, but for a border of `inside` px."""
    weight = torch.zeros_like(photo[:, 0])
    weight[:, inside : _SIZE - inside, inside : _SIZE - inside] = 1
    return Target(photo, weight, torch.full((len(photo),), 0.05**2), None, colors, detail)


def _noise(seed: int = 3, count: int = 1) -> Tensor:
    return torch.rand(count, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(seed))


def _waves() -> Tensor:
    """Smooth differences of a few hundredths, others in every channel, [3, S, S]."""
    row, column = torch.meshgrid(*2 * [torch.linspace(0, 1, _SIZE)], indexing="ij")
    phase = torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    return 0.08 * torch.sin(7 * column + 4 * row + phase)


def _term(kind: type, model: FaceModel, decoder: FaceDecoder, points: int = _ALL_POINTS):
    return kind(decoder, FaceJacobian(model, decoder.camera), points)


def _slopes(term, decoder: FaceDecoder, code: Tensor, target: Target) -> Tensor:
    """J^T W r [257] over all rows."""
    geometry = decoder.geometry(code)
    colors = term.look(geometry, target)
    total = torch.zeros(code.shape[1])
    for some in term.rows(colors, geometry, target, 0, _pose(decoder, code, geometry), 1):
        assert some.rows.shape == (len(some.weight), 3, code.shape[1])
        total += torch.einsum("nrp,nr,n->p", some.rows, some.away, some.weight)
    return total


def _pose(decoder: FaceDecoder, code: Tensor, geometry: Geometry) -> Pose:
    parts = decoder.model.layout.slices
    position = code[0, parts["translation"]] + torch.tensor(decoder.camera.position)
    rotation = axis_angle_to_matrix(code[:, parts["rotation"]])[0]
    return Pose(rotation, geometry.vertices[0], position)


def _differences(term, decoder, code: Tensor, target: Target, columns: range, by: float) -> Tensor:
    """Central differences of the energy."""
    found = []
    for column in columns:
        move = torch.zeros_like(code)
        move[:, column] = by
        up, down = (
            term.energy(term.look(decoder.geometry(code + way * move), target), target).item()
            for way in (1, -1)
        )
        found.append((up - down) / (2 * by))
    return torch.tensor(found)


def _columns(model: FaceModel, part: str) -> range:
    where = model.layout.slices[part]
    return range(where.start, where.stop)


def _check(term, decoder, code, target, part: str, by: float, error: float) -> None:
    columns = _columns(decoder.model, part)
    wanted = _differences(term, decoder, code, target, columns, by)
    got = _slopes(term, decoder, code, target)[columns.start : columns.stop]
    assert wanted.norm() > 0.1
    relative = ((got - wanted).norm() / wanted.norm()).item()
    assert relative < error, (part, relative, got, wanted)


class TestRobust:
    def test_values(self):
        """2 log(1 + s / 4): half of small squares, and no more than a logarithm of large ones."""
        squared = torch.tensor([0.0, 1e-4, 4.0, 400.0])
        wanted = [0.0, 0.5e-4, 2 * math.log(2), 2 * math.log(101)]
        assert robust(squared).tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-9)

    def test_the_weight_is_its_derivative(self):
        squared = torch.tensor([0.0, 0.5, 3.0, 50.0], requires_grad=True)
        (slope,) = torch.autograd.grad(robust(squared).sum(), squared)
        torch.testing.assert_close(2 * slope, robust_weight(squared.detach()))


class TestTarget:
    def test_slopes_of_a_plane(self):
        """0.01 a px to the right, 0.02 down; at the edges half of it, towards the picture alone."""
        row, column = torch.meshgrid(*2 * [torch.arange(_SIZE)], indexing="ij")
        plane = (0.01 * column - 0.02 * row).expand(1, 3, -1, -1)
        found = _target(plane).slopes(0, row.flatten(), column.flatten())
        assert found.shape == (_SIZE**2, 3, 2)
        slopes = found.transpose(0, 1).reshape(1, 3, _SIZE, _SIZE, 2)
        inner = slopes[0, 0, 1:-1, 1:-1]
        torch.testing.assert_close(
            inner, torch.tensor([0.01, -0.02]).expand_as(inner), atol=1e-6, rtol=0
        )
        assert slopes[0, 0, 5, 0, 0].item() == pytest.approx(0.005)

    def test_variances(self):
        target = replace(_target(_noise(count=2)), variance=torch.tensor([1.0, 2.0]))
        ids = torch.tensor([[[0, 1], [-1, 2]]] * 2)
        assert target.variances(ids).tolist() == [[[1, 1], [1, 1]], [[2, 2], [2, 2]]]
        scattered = replace(target, scatter=torch.tensor([1.0, 3.0, 5.0]))
        assert scattered.variances(ids).tolist() == [[[1, 3], [1, 5]], [[2, 6], [2, 10]]]


class TestPixelTerm:
    @pytest.mark.parametrize("detail", [0.0, 80.0])
    @pytest.mark.parametrize("part", ["albedo", "light"])
    def test_rows_of_colours(self, model, decoder, code, part, detail):
        """Any photograph: the mask stays as it is. With the differences of pixels, too."""
        term = _term(PixelTerm, model, decoder)
        code = code.clone()
        code[:, model.layout.slices["light"]] = 0.05 * torch.randn(
            27, generator=torch.Generator().manual_seed(8)
        )
        # Every other pixel has its pair to the right, the others below: smooth, so that both are alike.
        with torch.no_grad():
            photo = decoder.rasterize(decoder.geometry(code)).image + _waves()
        target = _target(photo if detail else _noise(), 0.0 if detail else 100.0, detail)
        # Measured 4e-4, with pairs 0.02.
        _check(term, decoder, code, target, part, 1e-2, 0.05 if detail else 2e-3)

    @pytest.mark.parametrize("part", ["expression", "shape", "translation"])
    def test_rows_of_motion(self, model, decoder, code, part):
        """A photograph that is everywhere as much brighter as the rendering, in the middle of the face.

        There the derivative at a point that moves is that of a pixel that stays.
        """
        term = _term(PixelTerm, model, decoder)
        with torch.no_grad():
            photo = decoder.rasterize(decoder.geometry(code)).image + 0.04
        _check(term, decoder, code, _target(photo, inside=20), part, 0.05, 0.03)  # measured 9e-3

    def test_the_same_energy_of_any_share_of_pixels(self, model, decoder, code):
        """Rows of some pixels stand for all of them; in every turn for others."""
        term = _term(PixelTerm, model, decoder, points=50)
        geometry, target = decoder.geometry(code), _target(_noise())
        colors, pose = term.look(geometry, target), _pose(decoder, code, geometry)
        turns = [next(iter(term.rows(colors, geometry, target, 0, pose, k))) for k in range(8)]
        assert all(len(some.weight) == 50 for some in turns)
        assert not torch.equal(turns[0].away, turns[1].away)
        whole = _slopes(_term(PixelTerm, model, decoder), decoder, code, target)
        parts = [torch.einsum("nrp,nr,n->p", s.rows, s.away, s.weight) for s in turns]
        light = model.layout.slices["light"]
        mean = torch.stack(parts).mean(0)[light]
        assert (mean - whole[light]).norm() < 0.25 * whole[light].norm()  # measured 0.1

    def test_scatter_weighs_less(self, model, decoder, code):
        term, geometry = _term(PixelTerm, model, decoder), decoder.geometry(code)
        target = _target(_noise())
        wide = replace(target, scatter=torch.full((len(decoder.triangles),), 4.0))
        energies = [term.energy(term.look(geometry, t), t).item() for t in (target, wide)]
        assert energies[1] < energies[0]

    @pytest.mark.parametrize("detail", [0.0, 10.0])
    def test_nothing_to_compare(self, model, decoder, code, detail):
        term, geometry = _term(PixelTerm, model, decoder), decoder.geometry(code)
        target = replace(_target(_noise(), detail=detail), weight=torch.zeros(1, _SIZE, _SIZE))
        colors = term.look(geometry, target)
        assert term.energy(colors, target).tolist() == [0]
        pose = _pose(decoder, code, geometry)
        assert list(term.rows(colors, geometry, target, 0, pose, 1)) == []


class TestVertexTerm:
    @pytest.mark.parametrize("part", ["albedo", "light"])
    def test_rows_of_colours(self, model, decoder, code, part):
        term = _term(VertexTerm, model, decoder)
        _check(term, decoder, code, _target(_noise()), part, 1e-2, 2e-3)  # measured 5e-4

    @pytest.mark.parametrize("part", ["expression", "shape", "translation"])
    def test_rows_of_motion(self, model, decoder, code, part):
        """Over a photograph that is a plane, whose samples change as its slope says."""
        row, column = torch.meshgrid(*2 * [torch.linspace(0, 1, _SIZE)], indexing="ij")
        photo = torch.stack([column, row, 0.5 * column + 0.3 * row])[None]
        term = _term(VertexTerm, model, decoder)
        _check(term, decoder, code, _target(photo), part, 0.05, 0.01)  # measured 2.4e-3

    def test_vertices_beyond_the_picture(self, model, decoder, code):
        """Do not count; those that look away neither."""
        away = code.clone()
        away[:, model.layout.slices["translation"]] = torch.tensor([90.0, 0, 0])
        term, target = _term(VertexTerm, model, decoder), _target(_noise())
        colors = term.look(decoder.geometry(away), target)
        places = colors.face.positions[0]
        outside = (places < 0).any(1) | (places > _SIZE).any(1)
        assert outside.any() and (colors.weight[0][outside] == 0).all()
        assert (colors.weight[0][~colors.face.front_facing[0]] == 0).all()
        assert colors.weight.sum() > 0

    def test_nothing_to_compare(self, model, decoder, code):
        term, geometry = _term(VertexTerm, model, decoder), decoder.geometry(code)
        target = replace(_target(_noise()), weight=torch.zeros(1, _SIZE, _SIZE))
        colors = term.look(geometry, target)
        assert term.energy(colors, target).tolist() == [0]
        pose = _pose(decoder, code, geometry)
        assert list(term.rows(colors, geometry, target, 0, pose, 1)) == []
