"""Times of the operators and of whole decoder steps: what `mofa-nvdr bench` prints.

The scene is a bumpy ellipsoid cap in a few poses, about as large and as dense as a face. On a CPU
one thread is timed as process CPU time, which other programs disturb least, and several threads as
wall time; on CUDA the clock is wall time between synchronisations. Next to each time is its ratio
to a 2048 x 2048 x 2048 float32 matrix product on one thread of the same machine in the same run.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr import __version__, dr
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.losses.mofa import photometric_raster, photometric_vertex
from mofa_nvdr.render.decoder import FaceDecoder, RasterFace
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.shaders.phong import Phong, PhongLight, phong
from mofa_nvdr.shaders.sh_lambert import sh_lambert
from mofa_nvdr.system.device import make_current, resolve_device
from mofa_nvdr.system.files import write_text
from mofa_nvdr.system.origins import KEY, check_free, origin

_WARM_UP = 2
_MATRIX = 2048


@dataclass(frozen=True)
class Timing:
    """One row of the table; milliseconds.

    Attributes:
        operator: name of the operator or step. threads: CPU threads (0 on CUDA).
        batch, vertices, resolution: size of the scene.
        forward, forward_best, backward, backward_best: median and best time; None where an operator
            is timed as a whole.
        ratio: best forward + backward, over the best matrix product on one thread.
    """

    operator: str
    threads: int
    batch: int
    vertices: int
    resolution: int
    forward: float
    forward_best: float
    backward: float
    backward_best: float
    ratio: float


@dataclass(frozen=True)
class Scene:
    """A mesh in camera space (mm) with attributes, in a few poses: [B, V, 3] each, triangles [T, 3]."""

    camera: Camera
    vertices: Tensor
    triangles: Tensor
    normals: Tensor
    albedo: Tensor
    light: Tensor


def make_scene(
    vertices: int = 24_025, batch: int = 5, resolution: int = 240, device: str = "cpu"
) -> Scene:
    """A bumpy ellipsoid cap of about `vertices` vertices that fills about 60 % of the picture."""
    side = max(2, round(math.sqrt(vertices)))
    u, v = torch.meshgrid(
        torch.linspace(-1.25, 1.25, side), torch.linspace(-1.25, 1.25, side), indexing="ij"
    )
    radius = 1 + 0.02 * torch.sin(7 * u) * torch.sin(9 * v)
    cap = torch.stack([78 * u.sin() * v.cos(), 104 * v.sin(), 90 * u.cos() * v.cos()], dim=-1)
    cap = (cap * radius[..., None]).reshape(-1, 3)
    corner = torch.arange(side * side).reshape(side, side)[:-1, :-1].flatten()
    right, up = corner + side, corner + 1
    first, second = torch.stack([corner, right, up], 1), torch.stack([right, right + 1, up], 1)
    triangles = torch.stack([first, second], dim=1).reshape(-1, 3).int()
    camera = Camera(image_size=resolution)
    yaw = torch.linspace(-0.4, 0.4, batch)
    pose = axis_angle_to_matrix(torch.stack([0 * yaw, yaw, 0 * yaw], dim=1))
    posed = camera.to_camera(cap.expand(batch, -1, -1), pose, torch.zeros(batch, 3))
    generator = torch.Generator().manual_seed(0)
    light = 0.1 * torch.randn(batch, 9, 3, generator=generator)
    light[:, 0] += 0.8
    albedo = torch.rand(batch, side * side, 3, generator=generator)
    posed, triangles = posed.contiguous().to(device), triangles.to(device)
    normals = vertex_normals(posed, triangles)
    return Scene(camera, posed, triangles, normals, albedo.to(device), light.to(device))


def bench(
    device: str = "auto",
    batch: Sequence[int] = (5,),
    vertices: Sequence[int] = (24_025,),
    resolution: Sequence[int] = (240,),
    threads: Sequence[int] = (1, 2),
    repeats: int = 20,
    out: str = "",
    overwrite: bool = False,
) -> list[Timing]:
    """Time every operator and decoder step, print the table, write it as JSON.

    Args:
        device: "auto", "cpu" or "cuda".
        batch: numbers of images; each combination of the sizes is timed.
        vertices: sizes of the operators' mesh; decoder steps use the built-in face.
        resolution: sides of the images, px.
        threads: CPU threads; ignored on CUDA.
        repeats: timed repetitions of each.
        out: JSON file; empty: none.
        overwrite: replace a file that is there, whatever it holds; else only an earlier table.

    Returns:
        The rows of the table.

    Raises:
        ValueError: a size below 1, or a JSON file that is no earlier table.
        RuntimeError: CUDA asked for where there is none.
        OSError: the JSON file can't be written.
    """
    sizes = {"batch": batch, "vertices": vertices, "resolution": resolution, "threads": threads}
    for name, values in {**sizes, "repeats": (repeats,)}.items():
        if not values or min(values) < 1:
            raise ValueError(f"bench: {name} is {tuple(values)}, expected numbers of at least 1")
    target = resolve_device(device)
    make_current(target)
    made_from = origin("bench")
    if out:
        check_free(out, [Path(out)], made_from, overwrite)
        Path(out).touch()  # better now than after minutes of work
    facts = machine_facts(target)
    for name, value in facts.items():
        print(f"{name}: {value}")
    before = torch.get_num_threads()
    rows: list[Timing] = []
    try:
        torch.set_num_threads(1)
        a = torch.rand(_MATRIX, _MATRIX)
        product = min(_times_of(lambda: a @ a, 5, _clock(torch.device("cpu"), 1)))
        print(f"{_MATRIX}^3 matrix product, one thread: {product:.1f} ms\n{_HEADER}")
        model = FaceModel.load("procedural").to(target)
        for count in (0,) if target.type == "cuda" else threads:
            if count:
                torch.set_num_threads(count)
            for b in batch:
                for r in resolution:
                    for v in vertices:
                        scene = make_scene(v, b, r, str(target))
                        cases = operator_cases(scene)
                        shown = scene.vertices.shape[1]
                        _measure(rows, cases, target, count, b, shown, r, repeats, product)
                    cases = decoder_cases(model, b, r)
                    shown = model.mean_shape.shape[0]
                    _measure(rows, cases, target, count, b, shown, r, repeats, product)
    finally:
        torch.set_num_threads(before)
        if out:  # also what was timed before an error
            table = {KEY: made_from, **facts, "rows": [asdict(row) for row in rows]}
            write_text(Path(out), json.dumps(table, indent=1) + "\n")
    return rows


def operator_cases(scene: Scene) -> dict[str, tuple[Callable[[], Tensor], list[Tensor]]]:
    """Name -> (forward pass, what its gradient is taken by)."""
    size, triangles = scene.camera.size, scene.triangles
    context = dr.RasterizeContext()
    pos = scene.camera.clip_space(scene.vertices).contiguous().requires_grad_()
    attributes = torch.cat([scene.normals, scene.albedo], dim=-1).contiguous().requires_grad_()
    rast = dr.rasterize(context, pos, triangles, size)[0].detach()
    leaf_rast = rast.clone().requires_grad_()
    color = dr.interpolate(attributes, rast, triangles)[0].detach()[..., :3].contiguous()
    color.requires_grad_()
    topology = dr.antialias_construct_topology_hash(triangles)
    vertices = scene.vertices.clone().requires_grad_()
    normals, albedo = dr.interpolate(attributes, rast, triangles)[0].detach().split(3, dim=-1)
    normals = torch.nn.functional.normalize(normals + 1e-6, dim=-1).requires_grad_()
    albedo = albedo.contiguous().requires_grad_()
    light = scene.light.clone().requires_grad_()
    position = dr.interpolate(scene.vertices, rast, triangles)[0].requires_grad_()
    lamps = some_lamps(len(pos), 1, pos.device)
    return {
        "rasterize": (lambda: dr.rasterize(context, pos, triangles, size)[0], [pos]),
        "interpolate, 6 channels": (
            lambda: dr.interpolate(attributes, leaf_rast, triangles)[0],
            [attributes, leaf_rast],
        ),
        "antialias, 3 channels": (
            lambda: dr.antialias(color, rast, pos, triangles, topology_hash=topology),
            [color, pos],
        ),
        "vertex_normals": (lambda: vertex_normals(vertices, triangles), [vertices]),
        "sh_lambert, every pixel": (
            lambda: sh_lambert(normals, albedo, light),
            [normals, albedo, light],
        ),
        "phong, every pixel, 1 light": (
            lambda: phong(normals, albedo, position, lamps),
            [normals, albedo, position, *vars(lamps).values()],
        ),
    }


def some_lamps(batch: int, num_lights: int, device: torch.device) -> PhongLight:
    """Point lights in front of a face and at its sides, with highlights; everything wants a gradient."""
    generator = torch.Generator().manual_seed(0)
    place = 400 * torch.randn(batch, num_lights, 3, generator=generator)
    place[..., 2].abs_().neg_().div_(4)
    parts = (
        place,
        torch.rand(batch, num_lights, 3, generator=generator),
        torch.full((batch, 3), 0.2),
        torch.full((batch, 3), 0.3),
        torch.full((batch,), 15.0),
    )
    return PhongLight(*(part.to(device).requires_grad_() for part in parts))


def decoder_cases(
    model: FaceModel, batch: int, resolution: int
) -> dict[str, tuple[Callable[[], Tensor], list[Tensor]]]:
    """Whole steps, from the code to the photometric loss."""
    generator = torch.Generator().manual_seed(0)
    device = model.mean_shape.device
    values = 0.1 * torch.randn(batch, model.layout.size, generator=generator)
    code = values.to(device).requires_grad_()
    photo = torch.rand(batch, 3, resolution, resolution, generator=generator).to(device)
    lamps = some_lamps(batch, 1, device)
    phong_decoder = FaceDecoder(model, resolution, shader=Phong()).to(device)

    def phong_step() -> Tensor:
        geometry = dataclasses.replace(phong_decoder.geometry(code), light=lamps)
        return photometric_raster(phong_decoder.rasterize(geometry), photo)

    def step(mode: str, gradient: str) -> Callable[[], Tensor]:
        decoder = FaceDecoder(model, resolution, mode, gradient).to(device)

        def forward() -> Tensor:
            face = decoder(code)
            if isinstance(face, RasterFace):
                return photometric_raster(face, photo)
            return photometric_vertex(face.positions, face.colors, face.front_facing, photo)

        return forward

    return {
        "decoder step, raster, rendering": (step("raster", "rendering"), [code]),
        "decoder step, raster, surface": (step("raster", "surface"), [code]),
        "decoder step, raster, phong": (phong_step, [code, *vars(lamps).values()]),
        "decoder step, vertex": (step("vertex", "rendering"), [code]),
    }


_HEADER = (
    f"{'operator':32} {'threads':>7} {'batch':>5} {'vertices':>8} {'pixels':>6}  "
    f"{'forward':>16} {'backward':>16} {'ratio':>6}\n"
    f"{'':64}{'median (best) ms':>17} {'median (best) ms':>16}"
)


def _measure(
    rows: list[Timing],
    cases: dict[str, tuple[Callable[[], Tensor], list[Tensor]]],
    device: torch.device,
    threads: int,
    batch: int,
    vertices: int,
    resolution: int,
    repeats: int,
    product: float,
) -> None:
    """Time each case, print its row and append it to `rows`."""
    for name, (forward, leaves) in cases.items():
        clock = _clock(device, threads)
        grad = torch.rand_like(forward())
        there, back = [], []
        for _ in range(_WARM_UP + repeats):  # one after the other, as in training
            start = clock()
            out = forward()
            middle = clock()
            torch.autograd.grad(out, leaves, grad)
            back.append(1e3 * (clock() - middle))
            there.append(1e3 * (middle - start))
        there, back = there[_WARM_UP:], back[_WARM_UP:]
        row = Timing(
            operator=name,
            threads=threads,
            batch=batch,
            vertices=vertices,
            resolution=resolution,
            forward=statistics.median(there),
            forward_best=min(there),
            backward=statistics.median(back),
            backward_best=min(back),
            ratio=(min(there) + min(back)) / product,
        )
        rows.append(row)
        print(
            f"{name:32} {threads or '-':>7} {batch:>5} {vertices:>8} {resolution:>6}  "
            f"{row.forward:>7.1f} ({row.forward_best:>6.1f}) {row.backward:>7.1f} "
            f"({row.backward_best:>6.1f}) {row.ratio:>6.3f}",
            flush=True,
        )


def _times_of(
    function: Callable[[], object], repeats: int, clock: Callable[[], float]
) -> list[float]:
    """Times of some repetitions, ms."""
    times = []
    for _ in range(_WARM_UP + repeats):
        start = clock()
        function()
        times.append(1e3 * (clock() - start))
    return times[_WARM_UP:]


def _clock(device: torch.device, threads: int) -> Callable[[], float]:
    """Seconds: process CPU time for one thread, wall time for several, synchronised on CUDA."""
    if device.type == "cuda":

        def synchronized() -> float:
            torch.cuda.synchronize(device)
            return time.perf_counter()

        return synchronized
    return time.process_time if threads == 1 else time.perf_counter


def machine_facts(device: torch.device) -> dict[str, str]:
    """What the figures depend on: processor, GPU and driver, versions, commit."""
    import numba

    facts = {
        "mofa-nvdr": f"{__version__} {_commit()}".strip(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = str(torch.version.cuda)
        facts["driver"] = _output(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        )
        facts["nvdiffrast"] = _output_of_nvdiffrast()
    return facts


def _output_of_nvdiffrast() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("nvdiffrast")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """The checkout's commit; empty for an installed package."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    return _output(["git", "-C", str(folder), "describe", "--always", "--dirty"])


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
