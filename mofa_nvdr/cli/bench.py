"""mofa-nvdr bench."""

from __future__ import annotations

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and measure."""
    parse("bench", bench, args)()


def bench(
    device: str = "auto",
    batch: tuple[int, ...] = (5,),
    vertices: tuple[int, ...] = (24_025,),
    resolution: tuple[int, ...] = (240,),
    threads: tuple[int, ...] = (1, 2),
    repeats: int = 20,
    out: str = "",
) -> object:
    """Time the operators and whole decoder steps on this machine.

    Args:
        device: auto, cpu or cuda
        batch: images at once; several numbers are timed one after the other, here and below
        vertices: vertices of the operators' mesh; decoder steps use the built-in face
        resolution: side of the images in pixels
        threads: CPU threads: one is timed as CPU time, several as wall time
        repeats: timed repetitions of each
        out: JSON file for the table; empty: none
    """

    def call() -> None:
        from mofa_nvdr.benchmark import bench as measure

        measure(device, batch, vertices, resolution, threads, repeats, out)

    return call
