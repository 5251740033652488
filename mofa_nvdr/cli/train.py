"""mofa-nvdr train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from mofa_nvdr.cli import parse
from mofa_nvdr.runs.config import check_loaded, load_config, shipped_configs
from mofa_nvdr.runs.former_options import RENAMED, RETIRED
from mofa_nvdr.runs.options import ConfigError, TrainConfig, flag


def run(args: list[str]) -> None:
    """Parse options and train."""
    names, rest = take_configs(args)
    base = load_config(*names)
    refuse_former_flags(rest)

    def options(
        config: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME|FILE")] = tuple(names),
        options: Annotated[TrainConfig, tyro.conf.arg(name="")] = base,
    ) -> TrainConfig:
        return options

    options.__doc__ = (
        "Train the face autoencoder. Options override the configuration file, which overrides the "
        f"defaults. Shipped configurations: {', '.join(shipped_configs())}. The same command again "
        "resumes a stopped run."
    )
    config = parse("train", options, rest)
    if not names and not args:
        raise ConfigError(
            "nothing to do: give --config NAME (quickstart for a first run) or options"
        )
    check_loaded(config, base, names)
    from mofa_nvdr.system.device import keep_freed_memory
    from mofa_nvdr.training.loop import train

    keep_freed_memory()
    train(config, "-".join([Path(names[-1]).stem if names else "mofa", config.render.mode]))


def take_configs(args: list[str]) -> tuple[list[str], list[str]]:
    """Take every --config NAME out of the arguments: files are the defaults that the options override."""
    names, rest, pending = [], [], False
    for arg in args:
        if pending:
            names.append(arg)
            pending = False
        elif arg == "--config":
            pending = True
        elif arg.startswith("--config="):
            names.append(arg[len("--config=") :])
        else:
            rest.append(arg)
    if pending:
        raise ConfigError(f"--config: give a .yaml file or one of {', '.join(shipped_configs())}")
    return names, rest


def refuse_former_flags(args: list[str]) -> None:
    """Say what a flag from before the groups is called now.

    Raises:
        ConfigError: one is there.
    """
    for arg in args:
        if not arg.startswith("--"):
            continue
        key = arg[2:].partition("=")[0].removeprefix("no-").replace("-", "_")
        if key in RENAMED and flag(RENAMED[key]) != key.replace("_", "-"):
            raise ConfigError(f"--{key.replace('_', '-')} is --{flag(RENAMED[key])} now")
        if key in RETIRED:
            raise ConfigError(
                f"--{key.replace('_', '-')} is retired; what replaces it: {RETIRED[key][1]}"
            )
