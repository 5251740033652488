"""mofa-nvdr bench, and mofa-nvdr bench train."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse
from mofa_nvdr.cli.train import refuse_former_flags, take_configs
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import TrainConfig, replace_options


def run(args: list[str]) -> None:
    """Parse options and measure."""
    if args[:1] == ["train"]:
        bench_train(args[1:])
    else:
        parse("bench", bench, args)()


def bench_train(args: list[str]) -> None:
    """Parse the options of `bench train` and measure."""
    names, rest = take_configs(args)
    names = names or ["mofa_alexnet"]
    base = load_config(*names)
    refuse_former_flags(rest)
    if base.data.path == "synthetic" and names == ["mofa_alexnet"]:
        base = replace_options(base, {"data.path": ""})

    def options(
        config: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME|FILE")] = tuple(names),
        repeats: Annotated[int, tyro.conf.arg(help="timed steps")] = 20,
        json: Annotated[str, tyro.conf.arg(help="file for the figures; empty: none")] = "",
        overwrite: Annotated[
            bool,
            tyro.conf.arg(help="replace that file, whatever it holds; else only earlier figures"),
        ] = False,
        options: Annotated[TrainConfig, tyro.conf.arg(name="")] = base,
    ) -> tuple[TrainConfig, int, str, bool]:
        return options, repeats, json, overwrite

    options.__doc__ = (
        "Time the stages of training steps: data, encoder, decoder, backward, optimizer. Takes every "
        "option of mofa-nvdr train; nothing is trained or kept. With an empty --data throw-away pictures "
        "are used instead of photographs."
    )
    settings = parse("bench train", options, rest)
    from mofa_nvdr.bench.training_step import bench_train as measure
    from mofa_nvdr.system.device import keep_freed_memory

    keep_freed_memory()  # as train does
    measure(*settings)


def bench(
    device: str = "auto",
    batch: tuple[int, ...] = (5,),
    vertices: tuple[int, ...] = (24_025,),
    resolution: tuple[int, ...] = (240,),
    threads: tuple[int, ...] = (1, 2),
    repeats: int = 20,
    out: str = "",
    overwrite: bool = False,
) -> object:
    """Time the operators and whole decoder steps on this machine; `mofa-nvdr bench train`: training steps.

    Args:
        device: auto, cpu, cuda or cuda:N
        batch: images at once; several numbers are timed one after the other, here and below
        vertices: vertices of the operators' mesh; decoder steps use the built-in face
        resolution: side of the images in pixels
        threads: CPU threads: one is timed as CPU time, several as wall time
        repeats: timed repetitions of each
        out: JSON file for the table; empty: none
        overwrite: replace that file, whatever it holds; else only an earlier table
    """

    def call() -> None:
        from mofa_nvdr.bench.operators import bench as measure

        measure(device, batch, vertices, resolution, threads, repeats, out, overwrite)

    return call
