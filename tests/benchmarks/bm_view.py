"""How long the viewer takes from a moved control to the picture, as a table in Markdown.

`python tests/benchmarks/bm_view.py FACE.npz [--size 240] [--count 30] [--threads 2] [--live SECONDS]`

Protocol: the face with its photograph; a control is moved in small steps, and after each the sheet of six
pictures is drawn as a draft and encoded as JPEG, which is what a window does between a slider's callback
and the picture's message. Medians, after two steps that do not count: wall time, and the process's processor
time, which depends less on what else the machine does.

--live: the whole way instead: a server, and a window that speaks viser's protocol and moves a slider 50 times
a second (needs viser). Pictures that came a second, and processor time of server and window for each.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from mofa_nvdr.apply.view_files import FaceLibrary
from mofa_nvdr.apply.viewing import SIZE, FaceView
from mofa_nvdr.bench.operators import machine_facts

_QUALITY = 90
_STEPS = {
    "azimuth": (-60.0, 3.0),
    "sh3": (-0.2, 0.01),
    "yaw": (-20.0, 1.0),
    "albedo0": (-1.0, 0.05),
    "mouthSmileLeft": (0.0, 0.02),
    "jawOpen": (0.0, 0.02),
    "shape0": (-1.0, 0.05),
}


def draws(view: FaceView, count: int) -> None:
    """Times of a control's step."""
    view.controls.set("strength", 1.0)
    view.sheet()
    print("| control | computed | wall ms | CPU ms | 1000 / CPU ms |\n|---|---|---|---|---|")
    for name, (start, step) in _STEPS.items():
        if name not in view.controls.controls:
            continue
        times = []
        for k in range(count + 2):
            view.computed.clear()
            view.controls.set(name, start + k * step)
            wall, cpu = time.perf_counter(), time.process_time()
            cv2.imencode(".jpeg", view.sheet(), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = 1000 * np.median(np.array(times[2:]), axis=0)
        what = ", ".join(view.computed)
        print(f"| {name} | {what} | {wall:.0f} | {cpu:.0f} | {1000 / cpu:.0f} |", flush=True)
        view.controls.reset()
        view.controls.set("strength", 1.0)
    wall, cpu = time.perf_counter(), time.process_time()
    view.sheet(fine=True)
    print(f"\nThe first fine sheet: {time.process_time() - cpu:.2f} s CPU")
    view.controls.set("azimuth", 10)
    wall, cpu = time.perf_counter(), time.process_time()
    view.sheet(fine=True)
    print(f"Another one: {time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} s CPU")


def live(library: FaceLibrary, seconds: float) -> None:
    """Pictures that reach a window while a slider moves."""
    from mofa_nvdr.apply.view_server import FaceServer
    from tests.helpers.viser_client import ViserClient

    server = FaceServer(library)
    client = ViserClient(server.port)
    client.until(lambda: server.windows and server.windows[0].at_rest)
    client.move("strength", 1.0)
    print("| slider | moves a second | pictures a second | CPU ms a picture |\n|---|---|---|---|")
    for label, low, high in (
        ("azimuth, °", -60, 60),
        ("yaw, °", -30, 30),
        ("mouthSmileLeft", 0, 1),
    ):
        client.read(1.0)
        client.messages.clear()
        end, moves = time.monotonic() + seconds, 0
        began, cpu = time.monotonic(), time.process_time()
        while time.monotonic() < end:
            client.move(label, low + (high - low) * (0.5 + 0.5 * math.sin(moves / 20)))
            moves += 1
            client.read(0.02)
        count = len(client.pictures())
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        print(
            f"| {label} | {moves / took:.0f} | {count / took:.1f} | {1000 * cpu / max(count, 1):.0f} |",
            flush=True,
        )
        client.move(label, 0)
    client.close()
    server.stop()


def main() -> None:
    """Measure one face."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("face")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--live", type=float, default=0.0)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    facts = machine_facts(torch.device("cpu"))
    print(", ".join(f"{k} {v}" for k, v in facts.items()) + f"; {o.threads} threads\n")
    library = FaceLibrary(o.face, size=o.size)
    if o.live:
        live(library, o.live)
    else:
        draws(FaceView(library.open(Path(o.face).name)), o.count)


if __name__ == "__main__":
    main()
