"""How long the viewer takes from a moved control to the picture, as a table in Markdown.

`python -m tests.benchmarks.bm_view FACE.npz [--size 240] [--count 30] [--threads 2] [--live SECONDS]`

Protocol: the face with its photograph; a control is moved in small steps, and after each the sheet of six
pictures is drawn as a draft and encoded as JPEG, which is what a window does between a slider's callback
and the picture's message. Medians, after two steps that do not count: wall time, and the process's processor
time, which depends less on what else the machine does.

--live: the whole way instead: `mofa-nvdr view` in a process of its own, and a window that speaks viser's
protocol and moves a slider 50 times a second. Each slider is moved once before, which makes what is made
once. Pictures that came a second, and the server's processor time for each (Linux).
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mofa_nvdr.apply.view_files import FaceLibrary
from mofa_nvdr.apply.viewing import SIZE, FaceView
from mofa_nvdr.bench.operators import machine_facts

_QUALITY = 90
_LIVE = (("azimuth, °", -60, 60), ("yaw, °", -30, 30), ("mouthSmileLeft", 0, 1))
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


def live(face: str, size: int, seconds: float) -> None:
    """Pictures that reach a window while a slider moves."""
    from tests.helpers.viser_client import ViserClient

    command = [sys.executable, "-m", "mofa_nvdr", "view", face, "--size", str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(re.findall(r":(\d+) ", server.stdout.readline())[-1])
        client = ViserClient(port)
        client.until(lambda: len(client.pictures()) > 2)
        print("| slider | moves a second | pictures a second | CPU ms a picture |")
        print("|---|---|---|---|", flush=True)
        _rest(client, "strength", 1.0)
        for label, low, high in _LIVE:
            _rest(client, label, high)
            client.messages.clear()
            began, cpu, moves = time.monotonic(), _cpu(server.pid), 0
            while time.monotonic() < began + seconds:
                client.move(label, low + (high - low) * (0.5 + 0.5 * math.sin(moves / 20)))
                moves += 1
                client.read(0.02)
            took, cpu = time.monotonic() - began, _cpu(server.pid) - cpu
            count = len(client.pictures())
            each = 1000 * cpu / max(count, 1)
            print(f"| {label} | {moves / took:.0f} | {count / took:.1f} | {each:.0f} |", flush=True)
            _rest(client, label, 0.0)
        client.close()
        server.send_signal(signal.SIGINT)


def _rest(client: Any, label: str, value: float) -> None:
    """Move a slider, and wait until no picture has come for a while."""
    count = len(client.pictures())
    client.move(label, value)
    client.until(lambda: len(client.pictures()) > count + 1)
    client.read(3.0)


def _cpu(process: int) -> float:
    """Processor time of a process, s."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    if o.live:
        live(o.face, o.size, o.live)
    else:
        library = FaceLibrary(o.face, size=o.size)
        draws(FaceView(library.open(Path(o.face).name)), o.count)


if __name__ == "__main__":
    main()
