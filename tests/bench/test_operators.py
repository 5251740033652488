"""Timed operators: the scene, what is timed, and the table by a clock that ticks as told."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch

import mofa_nvdr
from mofa_nvdr.bench import operators
from mofa_nvdr.bench.operators import (
    bench,
    decoder_cases,
    machine_facts,
    make_scene,
    operator_cases,
)
from mofa_nvdr.render.renderer import FaceRenderer
from tests.helpers.small_face import small_face

OPERATORS = [
    "rasterize",
    "interpolate, 6 channels",
    "antialias, 3 channels",
    "vertex_normals",
    "sh_lambert, every pixel",
    "phong, every pixel, 1 light",
]
STEPS = [
    "decoder step, raster, rendering",
    "decoder step, raster, surface",
    "decoder step, raster, phong",
    "decoder step, vertex",
]


class TestMakeScene:
    def test_sizes(self):
        """A square grid: 10 x 10 vertices, 9 x 9 cells of two triangles."""
        scene = make_scene(vertices=103, batch=3, resolution=40)
        assert scene.vertices.shape == scene.normals.shape == scene.albedo.shape == (3, 100, 3)
        assert scene.triangles.shape == (162, 3) and scene.triangles.dtype == torch.int32
        assert scene.light.shape == (3, 9, 3) and scene.camera.size == (40, 40)

    def test_fills_what_it_says(self):
        scene = make_scene(vertices=900, batch=2, resolution=64)
        rendering = FaceRenderer(scene.camera)(
            scene.vertices, scene.triangles, scene.albedo, scene.light
        )
        # 0.63 of the picture was measured for both.
        covered = (rendering.mask > 0).float().mean((1, 2, 3))
        assert covered.min() > 0.5 and covered.max() < 0.7

    def test_same_again(self):
        one, two = make_scene(64, 2, 32), make_scene(64, 2, 32)
        assert torch.equal(one.light, two.light) and torch.equal(one.albedo, two.albedo)


class TestOperatorCases:
    def test_each_has_a_gradient(self):
        cases = operator_cases(make_scene(100, 2, 32))
        assert list(cases) == OPERATORS
        generator = torch.Generator().manual_seed(0)
        for name, (forward, leaves) in cases.items():
            out = forward()
            for grad in torch.autograd.grad(
                out, leaves, torch.rand(out.shape, generator=generator)
            ):
                assert torch.isfinite(grad).all() and (grad != 0).any(), name


class TestDecoderCases:
    def test_each_is_a_loss_of_the_code(self):
        cases = decoder_cases(small_face(), 2, 32)
        assert list(cases) == STEPS
        for name, (forward, (code, *_)) in cases.items():
            loss = forward()
            assert loss.shape == (2,)
            (grad,) = torch.autograd.grad(loss, code, torch.tensor([1.0, 0.7]))
            assert grad.shape == (2, small_face().layout.size)
            assert torch.isfinite(grad).all() and (grad != 0).any(), name


class TestBench:
    @pytest.fixture
    def ticking(self, monkeypatch):
        """One case of each kind, and a clock that goes on by a millisecond each time it is read."""
        x = torch.ones(3, requires_grad=True)
        cases = {"square": (lambda: x * x, [x])}
        monkeypatch.setattr(operators, "operator_cases", lambda scene: cases)
        monkeypatch.setattr(operators, "decoder_cases", lambda *_: {"step": cases["square"]})
        monkeypatch.setattr(operators, "_MATRIX", 8)
        ticks = itertools.count()
        monkeypatch.setattr(operators, "_clock", lambda *_: lambda: 1e-3 * next(ticks))

    def test_table_by_hand(self, ticking, face_model, tmp_path, capsys):
        """Every time is 1 ms, the matrix product's too: the ratio of both passes is 2."""
        out = tmp_path / "bench.json"
        rows = bench("cpu", (1, 2), (100,), (32,), (1,), repeats=3, out=str(out))
        assert [(row.operator, row.batch) for row in rows] == [
            ("square", 1), ("step", 1), ("square", 2), ("step", 2),
        ]  # fmt: skip
        # Steps use the built-in face, whatever is said of the operators' mesh.
        assert [row.vertices for row in rows[:2]] == [100, face_model.num_vertices]
        for row in rows:
            times = (row.forward, row.forward_best, row.backward, row.backward_best, row.ratio / 2)
            assert times == pytest.approx((1.0,) * 5)  # rounding of the clock: 1e-13 measured
        facts = json.loads(out.read_text())
        assert [row["operator"] for row in facts["rows"]] == [row.operator for row in rows]
        assert facts["torch"] == torch.__version__
        assert "8^3 matrix product, one thread: 1.0 ms" in capsys.readouterr().out

    def test_only_an_earlier_table_is_replaced(self, ticking, tmp_path):
        out = tmp_path / "b.json"
        sizes = ("cpu", (1,), (100,), (32,), (1,), 1, str(out))
        bench(*sizes)
        bench(*sizes)
        out.write_text('{"mine": 1}')
        with pytest.raises(ValueError, match="--out .*b.json is there, and is no result of the sa"):
            bench(*sizes)
        assert out.read_text() == '{"mine": 1}'
        bench(*sizes, overwrite=True)
        assert "rows" in json.loads(out.read_text())

    def test_what_was_timed_before_an_error_is_kept(self, ticking, tmp_path, monkeypatch):
        def fail(*_: object) -> None:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(operators, "decoder_cases", fail)
        before = torch.get_num_threads()
        out = tmp_path / "bench.json"
        with pytest.raises(RuntimeError, match="out of memory"):
            bench("cpu", (1,), (100,), (32,), (1,), repeats=1, out=str(out))
        assert [row["operator"] for row in json.loads(out.read_text())["rows"]] == ["square"]
        assert torch.get_num_threads() == before

    @pytest.mark.parametrize("name", ["batch", "vertices", "resolution", "threads"])
    def test_sizes_below_one(self, name):
        with pytest.raises(ValueError, match=rf"bench: {name} is \(4, 0\), expected numbers of at"):
            bench("cpu", **{name: (4, 0)})
        with pytest.raises(ValueError, match=rf"bench: {name} is \(\), expected numbers of at"):
            bench("cpu", **{name: ()})


class TestMachineFacts:
    def test_versions(self):
        facts = machine_facts(torch.device("cpu"))
        assert facts["torch"] == torch.__version__
        assert facts["mofa-nvdr"].startswith(mofa_nvdr.__version__)
        assert "gpu" not in facts and "cores" in facts["processor"]

    def test_commit_of_the_checkout(self, monkeypatch):
        """Asked of the folder that holds the package, where that is a checkout."""
        asked = []
        monkeypatch.setattr(operators, "_output", lambda command: asked.append(command) or "1a2b3c")
        monkeypatch.setattr(operators.Path, "exists", lambda path: path.name == ".git")
        facts = machine_facts(torch.device("cpu"))
        assert facts["mofa-nvdr"] == f"{mofa_nvdr.__version__} 1a2b3c"
        (command,) = asked
        package = operators.Path(mofa_nvdr.__file__).resolve().parent
        assert command[:3] == ["git", "-C", str(package.parent)]


def test_clock_of_one_thread_is_cpu_time():
    """Of several it is wall time: CPU time would add them up."""
    cpu, wall = (operators._clock(torch.device("cpu"), threads) for threads in (1, 2))
    start = cpu(), wall()
    while wall() - start[1] < 0.02:
        math.sqrt(2.0)
    assert 0 < cpu() - start[0]
    assert cpu.__name__ == "process_time" and wall.__name__ == "perf_counter"
