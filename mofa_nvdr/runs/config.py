"""The YAML files that hold training options, and what no run can use."""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from mofa_nvdr.runs.former_options import is_flat, modern_name, translate
from mofa_nvdr.runs.options import (
    ConfigError,
    ReportOptions,
    TrainConfig,
    flag,
    hint_at,
    option_types,
    options,
    replace_options,
)
from mofa_nvdr.runs.yaml_files import load_yaml
from mofa_nvdr.system.budget import MOST_SIDE, printable, read_text

# Options that may change between the first command and one that resumes it.
RESUME_MAY_CHANGE = (
    "run.out", "run.steps", "run.device", "run.threads", "run.stop_after_skips", "data.max_megapixels",
    *(f"report.{option.name}" for option in dataclasses.fields(ReportOptions)),
)  # fmt: skip
# And where --out names the run: the ways out of losses that are not finite. Without --out another rate
# means another run.
OUT_MAY_CHANGE = ("optimizer.learning_rate", "optimizer.clip_gradient")

_POSITIVE = (
    "data.batch_size", "data.image_size", "data.max_megapixels",
    "report.log_every", "report.val_every", "report.sheet_every",
    "report.checkpoint_every", "report.keep_checkpoints", "run.stop_after_skips",
    "optimizer.learning_rate", "schedule.rate_after_warm_start", "synthetic.pose", "bootstrap.steps",
    "bootstrap.faces", "correctives.learning_rate",
)  # fmt: skip
_SHARES = ("augment.color", "augment.blur", "augment.jpeg", "augment.occlude", "augment.frame")

_LARGEST = 1e30  # of any float: half of float32's exponents, and no infinity
_LONGEST = 80  # characters of a value in a message
_MOST_THREADS = 256  # of one process


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = importlib.resources.files("mofa_nvdr.configs")
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_config(*names_or_paths: str) -> TrainConfig:
    """The defaults overlaid by YAML files in turn: shipped names or paths.

    A file's key `base` names another one, which it changes: its keys come on top of that file's.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a value of the wrong type, or files that are
            each other's base.
    """
    config = TrainConfig()
    for name in names_or_paths:
        config = replace_options(config, _read_yaml(name))
    return config


def load_run_config(path: Path) -> TrainConfig:
    """The config.yaml of a run; one that is flat, from before the groups, is translated.

    Raises:
        ConfigError: as `load_config`; or the run was trained with an option that is retired, and the
            message names it and what replaces it.
    """
    values = load_yaml(str(path), read_text(path, ConfigError))
    return config_of(values, str(path))


def config_of(values: Mapping[str, Any], where: str) -> TrainConfig:
    """A configuration from the options that a run kept, in groups or flat; messages begin with `where`.

    Raises:
        ConfigError: as `load_run_config`.
    """
    named = values if is_flat(values) else _by_name(values)
    try:
        named = translate(named)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return replace_options(TrainConfig(), _checked(where, named))


def check_config(config: TrainConfig) -> None:
    """Raise ConfigError for values that no run can use."""
    values = options(config)

    def say(name: str) -> str:
        value = values[name]
        return (
            f"--{flag(name)} is {value:g}"
            if isinstance(value, float)
            else f"--{flag(name)} is {value}"
        )

    for name in _POSITIVE:
        if not values[name] > 0:
            raise ConfigError(f"--{flag(name)} is {values[name]}, expected more than 0")
    for name, value in values.items():
        if isinstance(value, (int, float)) and not value >= 0:
            raise ConfigError(f"--{flag(name)} is {value}, expected 0 or more")
        if isinstance(value, float) and value > _LARGEST:
            raise ConfigError(f"--{flag(name)} is {value}, expected at most {_LARGEST:g}")
    if config.run.threads > _MOST_THREADS:
        raise ConfigError(f"{say('run.threads')}, expected at most {_MOST_THREADS}")
    for name in _SHARES:
        if values[name] > 1:
            raise ConfigError(f"--{flag(name)} is {values[name]}, expected 0 to 1")
    render, schedule = config.render, config.schedule
    if render.outline and (render.mode == "vertex" or render.gradient != "rendering"):
        raise ConfigError(
            "--render.outline needs --render-mode raster or both, and --render.gradient rendering; "
            f"got {render.mode} and {render.gradient}"
        )
    if config.loss.occlusion == "robust" and render.mode != "raster":
        raise ConfigError(
            f"--loss.occlusion is robust, but --render-mode is {render.mode}; give raster, or "
            "--loss.occlusion none"
        )
    if config.optimizer.weight_decay > 0 and config.optimizer.name != "adamw":
        raise ConfigError(
            f"{say('optimizer.weight_decay')}, but --optimizer.name is {config.optimizer.name}; give adamw"
        )
    if config.encoder.init and config.encoder.weights:
        raise ConfigError(
            f"{say('encoder.init')} and {say('encoder.weights')}: both are what the encoder begins with; "
            "give one"
        )
    loss = config.loss
    if loss.loopback > 0 and loss.views == 0:
        raise ConfigError(
            f"{say('loss.loopback')}, but --loss.views is 0: nothing is rendered that could be predicted "
            "again; give --loss.views 1, or --loss.loopback 0"
        )
    if loss.loopback > 0 and loss.parameter_shape == loss.parameter_albedo == 0:
        raise ConfigError(
            f"{say('loss.loopback')}, but --loss.parameter-shape and --loss.parameter-albedo are 0: nothing "
            "is compared; give them, or --loss.loopback 0"
        )
    compared = (
        loss.codes,
        loss.decoded,
        loss.parameter_shape,
        loss.parameter_albedo,
        loss.model_space,
    )
    known = ("schedule.warm_start_steps", "bootstrap.cycles", "loss.synthetic", "loss.fitted")
    for name in known:
        if values[name] > 0 and not any(compared):
            raise ConfigError(
                f"{say(name)}, but --loss.codes is 0 and no other distance of known codes is asked for; "
                "give --loss.codes 1"
            )
    begun = schedule.warm_start_steps > 0 or config.encoder.init != ""
    if config.bootstrap.cycles > 0 and not begun:
        raise ConfigError(
            f"{say('bootstrap.cycles')}, but --schedule.warm-start-steps is 0 and the encoder can predict "
            "nothing yet; give a warm start, or --init RUN"
        )
    if config.loss.anchor > 0 and not begun:
        raise ConfigError(
            f"{say('loss.anchor')}, but --schedule.warm-start-steps is 0 and there is nothing to hold on "
            "to; give a warm start, --init RUN, or --loss.anchor 0"
        )
    if schedule.freeze_norm and not begun:
        raise ConfigError(
            "--schedule.freeze-norm, but --schedule.warm-start-steps is 0 and BatchNorm has no averages "
            "to keep; give a warm start, or --init RUN"
        )
    _check_correctives(config, say)
    for name in ("data.image_size", "synthetic.size"):
        if values[name] > MOST_SIDE:
            raise ConfigError(f"--{flag(name)} is {values[name]}, expected at most {MOST_SIDE}")
        if values[name] < 16 and not (name == "synthetic.size" and values[name] == 0):
            raise ConfigError(f"--{flag(name)} is {values[name]}, expected 16 or more")


# Options of corrective levels -> the modes that they need.
_CORRECTED = {
    "base_steps": ("shape", "albedo"), "base_photometric": ("shape", "albedo"),
    "base_landmark": ("shape", "albedo"), "size": ("shape", "albedo"), "rendered_size": ("shape", "albedo"),
    "orthogonality": ("shape", "albedo"), "smoothness": ("shape",), "sparsity": ("albedo",),
    "constancy": ("albedo",),
}  # fmt: skip


def _check_correctives(config: TrainConfig, say: Callable[[str], str]) -> None:
    own = config.correctives
    for name, needed in _CORRECTED.items():
        if getattr(own, name) > 0 and not any(getattr(own, part) for part in needed):
            lacking = " and ".join(f"--correctives.{part}" for part in needed)
            raise ConfigError(
                f"{say(f'correctives.{name}')}, but {lacking} {'are' if len(needed) > 1 else 'is'} 0 and "
                f"nothing is corrected; give --correctives.{needed[0]} 48, or "
                f"--{flag(f'correctives.{name}')} 0"
            )
    if own.rendered_size > 0 and config.loss.synthetic == 0:
        raise ConfigError(
            f"{say('correctives.rendered_size')}, but --loss.synthetic is 0 and no faces are rendered next "
            "to the photographs; give --loss.synthetic 0.1, or --correctives.rendered-size 0"
        )
    if (own.shape > 0 or own.albedo > 0) and config.bootstrap.cycles > 0:
        raise ConfigError(
            f"{say('bootstrap.cycles')}, whose faces are the face model's own, and "
            f"{say('correctives.shape' if own.shape else 'correctives.albedo')}; give one of them"
        )


def check_loaded(config: TrainConfig, base: TrainConfig, names: Sequence[str]) -> None:
    """As `check_config`; where the files `names`, which gave `base`, are wrong by themselves, it names them.

    Raises:
        ConfigError: values that no run can use.
    """
    try:
        check_config(config)
    except ConfigError as error:
        try:
            check_config(base)
        except ConfigError as before:
            if names and str(before) == str(error):
                raise ConfigError(f"{' and '.join(names)}: {error}") from None
        raise


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML, one option a line below its group."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def _read_yaml(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options of a file over those of its bases; `above`: the files that it is a base of."""
    if name in above:
        raise ConfigError(f"{name}: it is its own base, by way of {' and '.join(above)}")
    asked = f"{above[-1]}: base is {_shown(name)}" if above else f"--config {name}"
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not os.path.isfile(path):  # False for a name that no file can have, too
            raise ConfigError(f"{asked}: no such file")
        text = read_text(path, ConfigError)
    elif name in shipped_configs():
        file = importlib.resources.files("mofa_nvdr.configs") / f"{name}.yaml"
        text = file.read_text(encoding="utf-8")
    else:
        raise ConfigError(
            f"{asked}: neither a .yaml file nor one of {', '.join(shipped_configs())}"
        )
    values = load_yaml(name, text)
    result = {}
    if (base := values.pop("base", None)) is not None:
        if not isinstance(base, str):
            raise ConfigError(
                f"{name}: base is {_shown(base)}, expected the name of a configuration"
            )
        result = _read_yaml(base, (*above, name))
    return result | _checked(name, _by_name(values))


def _by_name(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested groups as option names."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{above}{key}".replace("-", "_")
        if isinstance(value, dict):
            result |= _by_name(value, f"{name}.")
        elif value is not None:  # a key with nothing below it: a group whose options are comments
            result[name] = value
    return result


def _checked(where: str, values: Mapping[str, Any]) -> dict[str, Any]:
    hints = dict(option_types(TrainConfig))
    for name in values:
        if now := modern_name(name):
            raise ConfigError(f"{where}: {printable(now)}")
        if any(option.startswith(f"{name}.") for option in hints):
            raise ConfigError(
                f"{where}: {name} is {_shown(values[name])}, expected the group's options on lines below it"
            )
        if name not in hints:
            raise ConfigError(f"{where}: unknown key {_shown(name)}{hint_at(name[:_LONGEST])}")
    return {name: _convert(where, name, value, hints[name]) for name, value in values.items()}


def _convert(name: str, key: str, value: Any, hint: Any) -> Any:
    """The YAML value as the option's type; YAML reads 1e-4 as a string, so numbers are converted."""
    if typing.get_origin(hint) is Literal:
        if isinstance(value, str) and value in typing.get_args(hint):
            return value
        raise ConfigError(
            f"{name}: {key} is {_shown(value)}, expected one of {', '.join(typing.get_args(hint))}"
        )
    if hint is str and isinstance(value, str):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
            if hint is float or number == int(number):
                return hint(number)
        except (TypeError, ValueError, OverflowError):
            pass
    raise ConfigError(f"{name}: {key} is {_shown(value)}, expected {hint.__name__}")


def _shown(value: Any) -> str:
    return printable(repr(value), _LONGEST)
