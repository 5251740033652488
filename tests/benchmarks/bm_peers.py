"""The same faces drawn on a CPU by this package, by DRTK and by PyTorch3D, in turns in one run. By hand:

OMP_NUM_THREADS=1 python -m tests.benchmarks.bm_peers CHECKOUTS [--sizes 240 480] [--batches 1 5]

CHECKOUTS is a folder with checkouts `drtk` and `pytorch3d` of facebookresearch's repositories; what is not
there is left out. What is needed of them is compiled into --build, once; that takes minutes, a C++ compiler
and ninja. A compilation that was stopped leaves a file `lock` there for which the next one waits: delete it.

The scene is the built-in face. Prints Markdown: process CPU time of one thread, ms, the best and in brackets
the median of as many repetitions as fit into --seconds for each renderer. A peer that draws another picture
has no rows, nor one that would take more than --longest seconds to draw the scene once.

The rows of the outline are of three different operations: nvdiffrast's antialiasing, DRTK's estimator, which
leaves the colours as they are, and PyTorch3D's soft blending of the eight nearest triangles, whose drawing
is in the last row alone. There PyTorch3D draws these eight, the others the nearest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from tests.benchmarks.peer_builds import commit_of, load_drtk, load_pytorch3d
from tests.benchmarks.peer_renderers import (
    ROWS,
    Case,
    Drtk,
    Ours,
    PyTorch3D,
    Renderer,
    Scene,
    Surface,
)

OURS = "mofa-nvdr"
# Our vertices, as nvdiffrast's, lie on sixteenths of a pixel: a pixel at an edge may show its neighbour.
COVERED_APART, SAME_DEPTH_MM, OTHER_SURFACE, COLORS_APART = 0.01, 1.0, 0.01, 0.005

Times = list[tuple[float, float]]  # forward, backward of each repetition, CPU seconds


def make_scene(model: FaceModel, size: int, batch: int) -> Scene:
    """Random faces, the same for every call of a batch, and a random picture to compare with."""
    generator = torch.Generator().manual_seed(0)
    decoder = FaceDecoder(model, size)
    with torch.no_grad():
        face = decoder.geometry(0.1 * torch.randn(batch, model.layout.size, generator=generator))
    return Scene(
        decoder.pinhole,
        face.vertices,
        model.triangles,
        torch.cat([face.normals, face.albedo], dim=-1).contiguous(),
        torch.rand(batch, size, size, 3, generator=generator),
    )


def compare(ours: Surface, theirs: Surface) -> tuple[float, float, float]:
    """How far two drawings differ.

    Returns:
        Pixels that only one of them covers, over all that ours covers; of the pixels that both cover the part
        with the same triangle, and the part whose surfaces lie further than SAME_DEPTH_MM apart.
    """
    here, there = ours.ids >= 0, theirs.ids >= 0
    both = here & there
    apart = (ours.depth - theirs.depth).abs() > SAME_DEPTH_MM
    same = ours.ids == theirs.ids
    return (
        float((here ^ there).sum() / here.sum()),
        float(same[both].float().mean()),
        float(apart[both].float().mean()),
    )


def once(case: Case) -> tuple[float, float]:
    """CPU seconds of a forward and a backward pass."""
    start = time.process_time()
    out = case.forward()
    middle = time.process_time()
    grad = torch.ones_like(out)
    again = time.process_time()
    torch.autograd.grad(out, case.leaves, grad)
    return middle - start, time.process_time() - again


def in_turns(cases: dict[str, Case], seconds: float) -> dict[str, Times]:
    """Times of each case, in turns, until each has had its seconds; the first of several is left out."""
    times: dict[str, Times] = {name: [] for name in cases}
    while waiting := [name for name in cases if sum(map(sum, times[name])) < seconds]:
        for name in waiting:
            times[name].append(once(cases[name]))
    return {name: rounds[1:] or rounds for name, rounds in times.items()}


def cell(times: Times) -> str:
    """Best of forward + backward, medians and repetitions in brackets; ms."""
    best, median = (
        " + ".join(f"{1e3 * part([t[k] for t in times]):.1f}" for k in (0, 1))
        for part in (min, statistics.median)
    )
    return f"{best} ({median}; {len(times)})" if len(times) > 1 else f"{best} (once)"


class Run:
    """Measures scene after scene and keeps the lines of the tables.

    Args:
        peers: name -> a function that makes a renderer of a scene.
        seconds: CPU seconds for each renderer and row.
        longest: CPU seconds that one drawing may take.
    """

    def __init__(
        self, peers: dict[str, Callable[[Scene], Renderer]], seconds: float, longest: float
    ) -> None:
        self.peers, self.seconds, self.longest = peers, seconds, longest
        self.rows: list[str] = []
        self.agreement: list[str] = []
        self._cost: dict[str, float] = {}  # CPU seconds of a pixel's drawing, of the scene before

    def measure(self, scene: Scene) -> None:
        """Compare, then time in turns."""
        batch, size = scene.target.shape[:2]
        title = f"{size} px, batch {batch}"
        ours = Ours(scene)
        cases = {OURS: ours.cases()}
        for case in cases[OURS].values():
            once(case)  # compiles the kernels at their first use
        for name in self.peers:
            peer = self._make(name, scene, title)
            if peer is not None:
                if self._agree(ours, peer, title, name):
                    cases[name] = peer.cases()
                else:
                    note(f"{title}: {name} draws another picture, left out")
        for key, label in ROWS.items():
            note(f"{title}: {label}")
            times = in_turns(
                {name: of[key] for name, of in cases.items() if key in of}, self.seconds
            )
            best = {name: min(map(sum, rounds)) for name, rounds in times.items()}
            cells = [title, label, cell(times[OURS])]
            for name in self.peers:
                if name in times:
                    ratio = best[name] / best[OURS]
                    cells += [cell(times[name]), f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"]
                else:
                    cells += ["", ""]
            self.rows.append(table_line(cells))

    def _make(self, name: str, scene: Scene, title: str) -> Renderer | None:
        """The peer's renderer, which draws once, or None where that would take too long."""
        pixels = scene.target[..., 0].numel()
        expected = self._cost.get(name, 0.0) * pixels
        if expected > self.longest:
            note(f"{title}: {name} would take {expected:.0f} s for one drawing, left out")
            return None
        start = time.process_time()
        renderer = self.peers[name](scene)
        self._cost[name] = (time.process_time() - start) / pixels
        return renderer

    def _agree(self, ours: Renderer, peer: Renderer, title: str, name: str) -> bool:
        """Whether both draw the same surface; what they do at outlines is compared, but may differ."""
        shown, there = ours.surface(), peer.surface()
        covered, same, elsewhere = compare(shown, there)
        both = (shown.ids >= 0) & (there.ids >= 0)
        with torch.no_grad():
            flat = float((ours.flat() - peer.flat()).abs()[both].mean())
            blended = float((ours.picture() - peer.picture()).abs()[both].mean())
        parts = [f"{covered:.3%}", f"{same:.2%}", f"{elsewhere:.3%}", f"{flat:.4f}"]
        parts.append(f"{blended:.4f}")
        self.agreement.append(table_line([title, name, *parts]))
        return covered <= COVERED_APART and elsewhere <= OTHER_SURFACE and flat <= COLORS_APART

    def print_tables(self) -> None:
        """Both tables, as Markdown."""
        names = [part for name in self.peers for part in (name, "times ours")]
        columns = ["scene", "forward + backward", OURS, *names]
        print("\n".join([table_line(columns), "|---" * len(columns) + "|", *self.rows, ""]))
        columns = ["scene", "", "covered by one alone", "same triangle"]
        columns += [f"over {SAME_DEPTH_MM:g} mm apart", "colours apart", "outlines included"]
        print("\n".join([table_line(columns), "|---" * len(columns) + "|", *self.agreement]))


def load_peers(checkouts: Path, build: Path) -> dict[str, Callable[[Scene], Renderer]]:
    """Name -> renderer of a scene, for the peers that are there."""
    peers: dict[str, Callable[[Scene], Renderer]] = {}
    for name, load, renderer in (
        ("DRTK", load_drtk, Drtk),
        ("PyTorch3D", load_pytorch3d, PyTorch3D),
    ):
        checkout = checkouts / name.lower()
        if not checkout.is_dir():
            note(f"{name}: no folder {checkout}, left out")
            continue
        package = load(checkout, build)
        peers[name] = lambda scene, of=renderer, package=package: of(scene, package)
        print(f"{name}: {commit_of(checkout)}")
    return peers


def table_line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def note(line: str) -> None:
    """Progress, apart from the tables."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Compile, compare, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("--build", type=Path, default=Path(tempfile.gettempdir()) / "bm_peers")
    parser.add_argument("--sizes", type=int, nargs="+", default=[240, 480])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--longest", type=float, default=30.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, value in machine_facts(torch.device("cpu")).items():
        print(f"{name}: {value}")
    run = Run(
        load_peers(options.checkouts, options.build.resolve()), options.seconds, options.longest
    )
    model = FaceModel.load("procedural")
    print(f"{len(model.mean_shape)} vertices, {len(model.triangles)} triangles\n")
    for size in options.sizes:
        for batch in options.batches:
            run.measure(make_scene(model, size, batch))
    run.print_tables()


if __name__ == "__main__":
    main()
