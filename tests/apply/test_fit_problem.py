"""The energy of photographs and its steps: derivatives, shared parts of a person, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian
from mofa_nvdr.apply.fit_colors import PixelTerm
from mofa_nvdr.apply.fit_prior import fit_prior
from mofa_nvdr.apply.fit_problem import FitProblem, FitState, FitTools, Observed, Stage
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.fitted_faces import SIZE, KnownFaces, known_faces, landmarked_face

_FORM = ("rotation", "translation", "shape", "expression")
_ALL = (*_FORM, "albedo", "light")
_MARKS = Stage(_FORM, 1, landmarks=0.5)
_COLORS = Stage(_ALL, 1, landmarks=0.2, photometric=100.0)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return landmarked_face()


@pytest.fixture(scope="module")
def known(model: FaceModel) -> KnownFaces:
    return known_faces(model, count=3)


@pytest.fixture(scope="module")
def tools(model: FaceModel, known: KnownFaces) -> FitTools:
    return _tools(model, known)


def _tools(model: FaceModel, known: KnownFaces | None, size: int = SIZE) -> FitTools:
    decoder = FaceDecoder(model, size)
    jacobian = FaceJacobian(model, decoder.camera)
    prior = fit_prior(model) if known is None else known.prior
    return FitTools(model, decoder, jacobian, PixelTerm(decoder, jacobian, 300), prior, None)


def _begun(
    tools: FitTools, observed: Observed, stage: Stage, code: Tensor
) -> tuple[FitProblem, FitState]:
    problem = FitProblem(tools, observed)
    problem.begin(stage, FitState(code))
    return problem, problem.evaluate(code)


def _near(known: KnownFaces, seed: int = 4, deviation: float = 0.3) -> Tensor:
    """Codes a little away from the truth."""
    noise = torch.randn(known.code.shape, generator=torch.Generator().manual_seed(seed))
    scale = torch.full((known.code.shape[1],), deviation)
    parts = landmarked_face().layout.slices
    scale[parts["rotation"]], scale[parts["light"]] = 0.1, 0.03
    scale[parts["translation"]] = 4.0
    return known.code + noise * scale


class TestDerivatives:
    @pytest.mark.parametrize("landmarks", ["dense", "68"])
    def test_of_landmarks_and_prior(self, tools, known, landmarks):
        """Every column of the form, turns too, against central differences along the step itself."""
        code = _near(known)
        problem, state = _begun(tools, known.observed(landmarks), _MARKS, code)
        _, slopes = problem._normal_equations(state)
        wanted = torch.zeros_like(slopes)
        steps = torch.full((len(problem.columns),), 1e-2)
        turned = tools.model.layout.slices["rotation"]
        steps[(problem.columns >= turned.start) & (problem.columns < turned.stop)] = 1e-3
        for k, step in enumerate(steps):
            move = torch.zeros_like(slopes)
            move[:, k] = step
            up, down = (
                problem.evaluate(problem._moved(code, way * move)).energy for way in (1, -1)
            )
            wanted[:, k] = (up - down) / (2 * step)
        relative = (slopes - wanted).norm(dim=1) / wanted.norm(dim=1)
        assert relative.max() < 2e-3  # measured 2e-4

    def test_robust_landmarks(self, tools, known):
        """One that is far off moves a face by little: its weight falls with the square."""
        code = known.code
        marks = known.dense.clone()
        marks[:, 7] += torch.tensor([30.0, 0.0])
        _, state = _begun(tools, known.observed(landmarks=""), _COLORS, code)
        problem, state = _begun(tools, replace(known.observed(), landmarks=marks), _MARKS, code)
        exact, before = _begun(tools, known.observed(), _MARKS, code)
        rise = (problem._normal_equations(state)[1] - exact._normal_equations(before)[1]).norm()
        near = known.dense.clone()
        near[:, 7] += torch.tensor([2.0, 0.0])
        close, state = _begun(tools, replace(known.observed(), landmarks=near), _MARKS, code)
        less = (close._normal_equations(state)[1] - exact._normal_equations(before)[1]).norm()
        assert rise < less  # of 30 px, and of 2 px

    def test_unknown_landmarks(self, tools, known):
        """NaN counts as no landmark; what the model has no place for neither."""
        marks = known.dense.clone()
        code = _near(known)
        problem, state = _begun(tools, known.observed(), _MARKS, code)
        marks[:, ::50] = 1e4  # without a place
        other, same = _begun(tools, replace(known.observed(), landmarks=marks), _MARKS, code)
        assert torch.equal(state.energy, same.energy)
        for one, two in zip(problem._normal_equations(state), other._normal_equations(same)):
            assert torch.equal(one, two)
        marks[:, 1:] = torch.nan
        one, state = _begun(tools, replace(known.observed(), landmarks=marks), _MARKS, code)
        none, bare = _begun(
            tools,
            replace(known.observed(), landmarks=torch.full_like(marks, torch.nan)),
            _MARKS,
            code,
        )
        assert torch.equal(state.energy, bare.energy)
        assert all(part.isfinite().all() for part in one._normal_equations(state))


class TestOnePerson:
    def test_one_prior_of_what_is_shared(self, tools, known):
        """However many photographs: two equal ones have one prior of shape and albedo, two of the rest."""
        code = _near(known)[:1].repeat(2, 1)
        parts, prior = tools.model.layout.slices, tools.prior

        def energy(person: Tensor | None) -> float:
            observed = Observed(known.photo[:1].repeat(2, 1, 1, 1), None, person)
            _, state = _begun(tools, observed, Stage(_ALL, 1), code)
            return state.energy.sum().item()

        own = prior.mean.repeat(1, 1)
        for name in ("shape", "albedo"):
            own[:, parts[name]] = code[:1, parts[name]]
        shared = prior.energy(own).item()
        assert energy(torch.tensor([5, 5])) == pytest.approx(energy(None) - shared, rel=1e-5)

    @pytest.mark.parametrize("shared", [("shape", "albedo"), ("shape", "albedo", "light"), _ALL])
    def test_schur_step_is_that_of_the_whole_system(self, tools, known, shared):
        """Three photographs, two of one person: one dense system of all unknowns."""
        person = torch.tensor([3, 1, 3])
        observed = known.observed(person=person, shared=shared)
        code = _near(known)
        code[2, : tools.model.layout.size] = torch.where(
            _is_shared(tools, shared), code[0], code[2]
        )
        problem, state = _begun(tools, observed, _COLORS, code)
        matrices, slopes = problem._normal_equations(state)
        damping = torch.tensor([0.01, 0.2])
        moves = problem._solve(matrices, slopes, damping)
        assert torch.equal(moves[0, problem.shared], moves[2, problem.shared])
        wanted = _whole_system(problem, matrices, slopes, damping)
        torch.testing.assert_close(moves, wanted, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("person", [None, torch.tensor([0, 0, 1])])
    def test_the_same_bits_with_two_threads(self, face_model, person):
        """Of systems as large as those of the built-in face, which torch's own solver splits."""
        layout, before, found = face_model.layout, torch.get_num_threads(), []
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(3, 2 * layout.size, layout.size, generator=generator)
        slopes = torch.randn(3, layout.size, generator=generator)
        problem = FitProblem(
            _tools(face_model, None), Observed(torch.rand(3, 3, 8, 8), person=person)
        )
        problem.begin(Stage(_ALL, 1), FitState(slopes))
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append(problem._solve(rows.mT @ rows, slopes, problem.first_damping()))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(*found)

    def test_order_of_people_does_not_matter(self, tools, known):
        person = torch.tensor([3, 1, 3])
        problem = FitProblem(tools, known.observed(person=person))
        assert problem.people == 2 and problem.person.tolist() == [1, 0, 1]


def _is_shared(tools: FitTools, names: tuple[str, ...]) -> Tensor:
    shared = torch.zeros(tools.model.layout.size, dtype=torch.bool)
    for name in names:
        shared[tools.model.layout.slices[name]] = True
    return shared


def _whole_system(problem: FitProblem, matrices: Tensor, slopes: Tensor, damping: Tensor) -> Tensor:
    """Moves [B, P] by one dense solve over shared numbers of all people and the photographs' own."""
    own, shared = problem.own, problem.shared
    count = problem.people * len(shared) + problem.batch * len(own)
    matrix, right = torch.zeros(count, count).double(), torch.zeros(count).double()
    places = []
    for b in range(problem.batch):
        place = torch.zeros(matrices.shape[1], dtype=torch.long)
        place[shared] = int(problem.person[b]) * len(shared) + torch.arange(len(shared))
        place[own] = problem.people * len(shared) + b * len(own) + torch.arange(len(own))
        places.append(place)
        damped = matrices[b].double()
        damped += torch.diag(damping[problem.person[b]].double() * damped.diagonal() + 1e-9)
        matrix[place[:, None], place] += damped
        right[place] += slopes[b].double()
    solved = -torch.linalg.solve(matrix, right)
    return torch.stack([solved[place] for place in places]).float()


class TestStep:
    @pytest.mark.parametrize("person", [None, torch.tensor([0, 0, 1])])
    def test_energies_never_rise(self, tools, known, person):
        code = _near(known, deviation=1.0)
        if person is not None:
            code[:2, _is_shared(tools, ("shape", "albedo"))] = 0
        problem, state = _begun(tools, known.observed(person=person), _COLORS, code)
        damping = problem.first_damping()
        first = before = _of_people(problem, state)
        for _ in range(6):
            state, damping = problem.step(state, damping)
            now = _of_people(problem, state)
            assert (now <= before).all()
            before = now
        assert (now < 0.2 * first).all()  # measured

    def test_a_step_that_raises_the_energy_is_not_taken(self, tools, known, monkeypatch):
        """Of the first photograph; its damping grows, that of the others falls."""
        solve = FitProblem._solve

        def wrong(self, *args):
            moves = solve(self, *args)
            moves[0] = -moves[0]
            return moves

        code = _near(known)
        problem, state = _begun(tools, known.observed(), _MARKS, code)
        monkeypatch.setattr(FitProblem, "_solve", wrong)
        after, damping = problem.step(state, problem.first_damping())
        assert torch.equal(after.code[0], code[0]) and torch.equal(after.energy[0], state.energy[0])
        assert (after.energy[1:] < state.energy[1:]).all()
        first = problem.first_damping()
        assert damping[0] > first[0] and (damping[1:] < first[1:]).all()

    def test_only_its_parts_move(self, tools, known):
        code = _near(known)
        stage = Stage(("light", "translation"), 1, landmarks=0.5, photometric=100.0)
        problem, state = _begun(tools, known.observed(), stage, code)
        after, _ = problem.step(state, problem.first_damping())
        moved = (after.code != code).any(0)
        assert moved[_is_shared(tools, ("light", "translation"))].all()
        assert not moved[~_is_shared(tools, ("light", "translation"))].any()


def _of_people(problem: FitProblem, state: FitState) -> Tensor:
    return torch.zeros(problem.people).index_add_(0, problem.person, state.energy)


class TestStart:
    @pytest.mark.parametrize("degrees", [-100, -30, 0, 45, 170])
    @pytest.mark.parametrize("landmarks", ["dense", "68"])
    def test_upright_as_the_landmarks_are(self, tools, known, degrees, landmarks):
        """A picture that is turned clockwise starts with a face that is turned so."""
        middle, turn = SIZE / 2, math.radians(degrees)
        matrix = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        observed = known.observed(landmarks)
        turned = (observed.landmarks - middle) @ matrix.T + middle
        straight = FitProblem(tools, observed).start(None)
        code = FitProblem(tools, replace(observed, landmarks=turned)).start(None)
        spin = tools.model.layout.slices["rotation"].start + 2
        change = -(code - straight)[:, spin]
        away = torch.remainder(change - turn + math.pi, 2 * math.pi) - math.pi
        assert away.abs().max() < 1e-4
        rest = torch.ones(code.shape[1], dtype=torch.bool)
        rest[spin] = False
        assert torch.equal(code[:, rest], known.prior.mean.expand(3, -1)[:, rest])

    def test_without_eyes(self, tools, known):
        """No corner of an eye is known: upright."""
        marks = known.dense.clone()
        marks[:, [33, 263]] = torch.nan
        code = FitProblem(tools, replace(known.observed(), landmarks=marks)).start(None)
        assert torch.equal(code, known.prior.mean.expand(3, -1))

    def test_of_given_codes(self, tools, known):
        start = tools.model.layout.unpack(known.code)
        code = FitProblem(tools, known.observed("")).start(start)
        assert torch.equal(code, known.code)
        code += 1
        assert torch.equal(tools.model.layout.pack(start), known.code)

    def test_what_a_person_shares_is_the_mean(self, tools, known):
        person = torch.tensor([1, 0, 1])
        start = tools.model.layout.unpack(known.code)
        code = FitProblem(tools, known.observed("", person=person)).start(start)
        shared = _is_shared(tools, ("shape", "albedo"))
        wanted = known.code.clone()
        wanted[[0, 2]] = torch.where(shared, known.code[[0, 2]].mean(0), known.code[[0, 2]])
        torch.testing.assert_close(code, wanted)
        assert torch.equal(code[0, shared], code[2, shared])


class TestPhotographs:
    def test_unknown_and_overexposed_pixels_do_not_count(self, tools, known):
        photo = known.photo.clone()
        photo[:, :, :20] = torch.nan
        photo[:, 1, 30:, 40:] = 1.0
        problem = FitProblem(tools, replace(known.observed(), photo=photo))
        assert not problem.known[:, :20].any() and not problem.known[:, 30:, 40:].any()
        assert problem.known[:, 20:30].all() and problem.known[:, 30:, :40].all()

    def test_of_another_size(self, tools, known):
        """Compared at the fitter's size, landmarks too; of pixels that are partly unknown none counts."""
        large = torch.nn.functional.interpolate(known.photo, 2 * SIZE, mode="nearest")
        large[:, :, 21:22] = torch.nan
        observed = Observed(large, 2 * known.dense)
        problem = FitProblem(tools, observed)
        torch.testing.assert_close(problem.landmarks.marks, known.dense)
        assert problem.photo.shape == known.photo.shape and problem.photo.isfinite().all()
        assert not problem.known[:, 10].any() and problem.known[:, 13:].all()


class TestRefused:
    @pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 32)])
    def test_photo(self, tools, shape):
        with pytest.raises(ValueError, match=r"^fit: photo is \[.*\], expected \[B, 3, S, S\]$"):
            FitProblem(tools, Observed(torch.zeros(shape)))

    @pytest.mark.parametrize("shape", [(2, 478, 2), (3, 478, 3), (478, 2)])
    def test_landmarks(self, tools, known, shape):
        with pytest.raises(ValueError, match=r"^fit: landmarks is \[.*\], expected \[3, N, 2\]$"):
            FitProblem(tools, Observed(known.photo, torch.zeros(shape)))

    def test_person(self, tools, known):
        with pytest.raises(ValueError, match=r"^fit: person is \[2\], expected \[3\]$"):
            FitProblem(tools, known.observed(person=torch.zeros(2)))

    def test_unknown_parts(self, tools, known):
        with pytest.raises(ValueError, match="^fit: shared has 'lihgt', expected some of shape, "):
            FitProblem(tools, known.observed(shared=("lihgt",)))

    def test_neither_landmarks_nor_start(self, tools, known):
        with pytest.raises(ValueError, match="^fit: no landmarks and no start; give one of them$"):
            FitProblem(tools, known.observed("")).start(None)

    def test_start_of_another_number(self, tools, known):
        start = tools.model.layout.unpack(known.code[:2])
        with pytest.raises(ValueError, match="^fit: start has 2 codes, expected 3$"):
            FitProblem(tools, known.observed()).start(start)
