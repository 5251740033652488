"""Training options and the YAML files that hold them. Imports nothing heavy: `--help` must be quick."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.resources
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on. The defaults are the paper's recipe (MoFA, section 6 and 7)."""

    # --- main
    data: str = "synthetic"
    """folder of face crops or of their tar shards, or 'synthetic' (faces rendered from random codes)"""
    render_mode: Literal["raster", "vertex", "both"] = "raster"
    """photometric loss over rasterized pixels, over front-facing vertices as in the paper, or both"""
    raster_gradient: Literal["rendering", "surface"] = "rendering"
    """backward formula in raster mode: the picture moves under the pixels, or points are followed"""
    outline_gradient: bool = False
    """add the moving outline's part to raster_gradient 'rendering'; 'surface' has its own"""
    encoder: Literal[
        "alexnet", "vgg_face", "resnet18", "resnet50", "mobilenet_v3_large", "compact"
    ] = "alexnet"
    """network from image to code"""
    encoder_weights: str = ""
    """weights file of the encoder's trunk (.safetensors or .pth, torchvision's names); empty: random"""
    encoder_size: int = 0
    """side in pixels to which the encoder shrinks its input; 0: the encoder's own choice"""
    encoder_precision: Literal["float32", "bfloat16"] = "float32"
    """numbers that the encoder's trunk computes with in training; its weights and the rest stay float32"""
    face_model: str = "default"
    """'default' (built in) or a .safetensors face model"""
    steps: int = 200_000
    """number of gradient steps"""
    seed: int = 0
    """seed of initial weights, order of images and augmentation"""
    out: str = ""
    """run folder; empty: runs/NNNNN-NAME, and the same command again resumes it"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """'auto' takes a CUDA GPU where torch and nvdiffrast can use one, else the CPU"""
    threads: int = 0
    """CPU threads a process; 0: torch's choice, or the cores shared among torchrun's processes"""

    # --- batches
    batch_size: int = 5
    """images a step, over all processes"""
    image_size: int = 240
    """side of the images in pixels"""
    flip: bool = True
    """mirror half of the photographs"""
    augment_color: float = 0.0
    """largest relative change of gain, contrast, saturation and gamma, in input and target; 0: off"""
    augment_blur: float = 0.0
    """share of the encoder's inputs that are blurred; the photometric target stays sharp"""
    augment_noise: float = 0.0
    """largest standard deviation of noise in the encoder's input"""
    augment_jpeg: float = 0.0
    """share of the encoder's inputs that are compressed as JPEG"""
    augment_occlude: float = 0.0
    """share of the encoder's inputs with an occluding patch; the photometric target has none"""
    synthetic_surroundings: bool = True
    """rendered faces have heads, hair, occluders and a camera's faults; off: faces on backgrounds"""
    synthetic_pose: float = 1.0
    """spread of the rendered faces' poses, 1: that of portraits, less is easier to learn"""
    synthetic_size: int = 0
    """side in pixels of rendered faces with known codes beside photographs; 0: that of the images"""
    synthetic_lights: str = ""
    """folder of .hdr light probes for half of the rendered faces; empty: lights drawn from the prior"""
    warm_start_steps: int = 0
    """steps at the start on rendered faces with known codes, before the photographs; not in the paper"""

    # --- optimizer
    optimizer: Literal["adadelta", "adam", "adamw"] = "adadelta"
    """update rule"""
    weight_decay: float = 0.0
    """optimizer 'adamw': decay of the trunk's matrices and filters, times the learning rate"""
    learning_rate: float = 0.1
    """base learning rate"""
    translation_z_rate: float = 0.0005
    """learning rate of the outputs that move the face in depth; 0: the base rate"""
    rate_after_warm_start: float = 1.0
    """factor on all learning rates once the warm start is over"""
    freeze_norm: bool = False
    """BatchNorm keeps the averages of the warm start once it is over"""
    schedule: Literal["constant", "cosine"] = "constant"
    """learning rate over the warm start, and over the rest; cosine falls to a tenth in each"""
    warmup_steps: int = 0
    """steps over which the learning rate rises from zero"""
    clip_gradient: float = 0.0
    """largest norm of the whole gradient; 0: no clipping"""
    stop_after_skips: int = 5
    """steps in a row with a loss or gradient that is not finite, each skipped, before the run stops"""
    pose_from_step: int = 0
    """first step at which rotation and translation are free; light and albedo are from the start"""
    shape_from_step: int = 0
    """first step at which shape and expression are free"""

    # --- scale of the encoder's outputs, per unit of its last layer
    scale_shape: float = 1.0
    """standard deviations"""
    scale_expression: float = 1.0
    """standard deviations"""
    scale_albedo: float = 1.0
    """standard deviations"""
    scale_rotation: float = 1.0
    """radians"""
    scale_xy: float = 10.0
    """mm, translation sideways and up"""
    scale_z: float = 10.0
    """mm, translation in depth"""
    scale_light: float = 1.0
    """SH coefficients"""

    # --- loss (Eqs. 7 and 10)
    weight_photometric: float = 1.92
    """w_photo"""
    weight_raster: float = 0.5
    """render_mode 'both': share of the term over pixels in the photometric term"""
    weight_vertex: float = 0.5
    """render_mode 'both': share of the term over vertices"""
    gain_shape: float = 1.0
    """factor of the gradient with which photographs pull their shapes apart from the batch's mean; not in the
    paper"""
    gain_expression: float = 1.0
    """the same of expressions, whose pull is weak beside that of place and colour"""
    weight_landmark: float = 0.0
    """w_land: 0 without landmarks (the default), 1 with"""
    landmark_steps: int = 0
    """last step with the landmark term, for a start with landmarks; 0: it stays to the end"""
    weight_regularizer: float = 2.9e-5
    """w_reg"""
    weight_albedo: float = 1.7e-3
    """w_beta within the regularizer"""
    weight_expression: float = 0.8
    """w_delta within the regularizer"""
    weight_pose_prior: float = 0.0
    """weight of the batch's mean pose, against common drift; not in the paper"""
    weight_anchor: float = 0.0
    """holds the batch's mean place, size and rotation where the warm start left them; not in the paper"""
    anchor_photographs: int = 0
    """so many photographs whose mean place and size by the warm start the anchor moves to code zero's, where
    crops in the training framing have theirs; 0: it holds the warm start's"""
    weight_mirror: float = 0.0
    """a mirrored photograph must have the mirrored face; not in the paper"""
    weight_decoded: float = 0.0
    """weight of the decoded faces' distance beside the codes', of rendered faces; not in the paper"""
    synthetic_share: float = 0.0
    """rendered faces with known codes for each image of a batch after the warm start; not in the paper"""
    weight_synthetic: float = 0.0
    """weight of the loss of these rendered faces"""
    landmark_unit: float = 60.0
    """pixels at 240 that count as 1 in the landmark term; the paper does not state its unit"""

    # --- reports and files
    log_every: int = 20
    """steps between training lines in log.jsonl"""
    val_every: int = 1000
    """steps between validations"""
    val_images: int = 256
    """validation images, evenly spaced over the split; 0: all"""
    sheet_every: int = 1000
    """steps between sheets of pictures"""
    checkpoint_every: int = 500
    """steps between checkpoints"""
    keep_checkpoints: int = 2
    """how many of the newest checkpoints stay; the best one stays as best.safetensors"""
    best_measure: Literal["auto", "photometric", "photometric_vertex", "landmark_px"] = "auto"
    """validation measure of the best checkpoint; 'auto': landmark_px where there are landmarks"""


# Options that may change between the first command and one that resumes it.
RESUME_MAY_CHANGE = (
    "out", "steps", "device", "threads", "log_every", "val_every", "val_images", "sheet_every",
    "checkpoint_every", "keep_checkpoints", "best_measure", "stop_after_skips",
)  # fmt: skip
# And where --out names the run: the ways out of losses that are not finite. Without --out another rate
# means another run.
OUT_MAY_CHANGE = ("learning_rate", "clip_gradient")

_POSITIVE = ("batch_size", "image_size", "log_every", "val_every", "sheet_every", "checkpoint_every",
             "keep_checkpoints", "stop_after_skips", "landmark_unit", "learning_rate",
             "rate_after_warm_start", "synthetic_pose")  # fmt: skip

_LARGEST = 1e30  # of any float: half of float32's exponents, and no infinity
_MOST_THREADS = 256  # of one process


class ConfigError(ValueError):
    """A mistake in a configuration; the message names the file or flag, and the key."""


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = importlib.resources.files("mofa_nvdr.configs")
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_config(*names_or_paths: str) -> TrainConfig:
    """The paper's defaults overlaid by YAML files in turn: shipped names or paths.

    A file's key `base` names another one, which it changes: its keys come on top of that file's.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a value of the wrong type, or files that are
            each other's base.
    """
    config = TrainConfig()
    for name in names_or_paths:
        config = dataclasses.replace(config, **_read_yaml(name))
    return config


def check_config(config: TrainConfig) -> None:
    """Raise ConfigError for values that no run can use."""
    for key in _POSITIVE:
        if not getattr(config, key) > 0:
            raise ConfigError(f"--{flag(key)} is {getattr(config, key)}, expected more than 0")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, (int, float)) and not value >= 0:
            raise ConfigError(f"--{flag(field.name)} is {value}, expected 0 or more")
        if isinstance(value, float) and value > _LARGEST:
            raise ConfigError(f"--{flag(field.name)} is {value}, expected at most {_LARGEST:g}")
    if config.threads > _MOST_THREADS:
        raise ConfigError(f"--threads is {config.threads}, expected at most {_MOST_THREADS}")
    for key in ("augment_color", "augment_blur", "augment_jpeg", "augment_occlude"):
        if getattr(config, key) > 1:
            raise ConfigError(f"--{flag(key)} is {getattr(config, key)}, expected 0 to 1")
    if config.outline_gradient and (
        config.render_mode == "vertex" or config.raster_gradient != "rendering"
    ):
        raise ConfigError(
            "--outline-gradient needs --render-mode raster or both, and --raster-gradient rendering; "
            f"got {config.render_mode} and {config.raster_gradient}"
        )
    if config.render_mode == "both" and config.weight_raster + config.weight_vertex == 0:
        raise ConfigError("--weight-raster and --weight-vertex are both 0; give one of them more")
    if config.landmark_steps > 0 and config.weight_landmark == 0:
        raise ConfigError(
            f"--landmark-steps is {config.landmark_steps}, but --weight-landmark is 0; give it 1"
        )
    if config.weight_decay > 0 and config.optimizer != "adamw":
        raise ConfigError(
            f"--weight-decay is {config.weight_decay:g}, but --optimizer is {config.optimizer}; give adamw"
        )
    if config.weight_anchor > 0 and config.warm_start_steps == 0:
        raise ConfigError(
            f"--weight-anchor is {config.weight_anchor:g}, but --warm-start-steps is 0 and there is nothing "
            "to hold on to; give a warm start, or --weight-anchor 0"
        )
    if config.freeze_norm and config.warm_start_steps == 0:
        raise ConfigError(
            "--freeze-norm, but --warm-start-steps is 0 and BatchNorm has no averages to keep; give a "
            "warm start"
        )
    if config.synthetic_share > 1:
        raise ConfigError(f"--synthetic-share is {config.synthetic_share:g}, expected 0 to 1")
    if (config.synthetic_share > 0) != (config.weight_synthetic > 0):
        raise ConfigError(
            f"--synthetic-share is {config.synthetic_share:g} and --weight-synthetic is "
            f"{config.weight_synthetic:g}; give both, or neither"
        )
    for key in ("image_size", "synthetic_size"):
        if getattr(config, key) < 16 and not (
            key == "synthetic_size" and config.synthetic_size == 0
        ):
            raise ConfigError(f"--{flag(key)} is {getattr(config, key)}, expected 16 or more")


def count_synthetic(config: TrainConfig) -> int:
    """Rendered faces beside a batch after the warm start, over all processes: at least one if any."""
    if config.synthetic_share == 0:
        return 0
    return max(1, round(config.synthetic_share * config.batch_size))


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML, one key a line, in the order of the options."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def _read_yaml(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of a file over those of its bases; `above`: the files that it is a base of."""
    if name in above:
        raise ConfigError(f"{name}: it is its own base, by way of {' and '.join(above)}")
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"--config {name}: no such file")
        text = path.read_text(encoding="utf-8")
    elif name in shipped_configs():
        file = importlib.resources.files("mofa_nvdr.configs") / f"{name}.yaml"
        text = file.read_text(encoding="utf-8")
    else:
        raise ConfigError(
            f"--config {name}: neither a .yaml file nor one of {', '.join(shipped_configs())}"
        )
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected 'key: value' lines, got a {type(values).__name__}")
    hints = typing.get_type_hints(TrainConfig)
    result = {}
    if (base := values.pop("base", None)) is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{name}: base is {base!r}, expected the name of a configuration")
        result = _read_yaml(base, (*above, name))
    for key, value in values.items():
        field = str(key).replace("-", "_")
        if field not in hints:
            near = difflib.get_close_matches(field, hints, n=1)
            hint = f"; perhaps you meant {near[0]!r}" if near else ""
            raise ConfigError(f"{name}: unknown key {key!r}{hint}")
        result[field] = _convert(name, field, value, hints[field])
    return result


def _convert(name: str, key: str, value: Any, hint: Any) -> Any:
    """The YAML value as the field's type; YAML reads 1e-4 as a string, so numbers are converted."""
    if typing.get_origin(hint) is Literal:
        if value in typing.get_args(hint):
            return value
        raise ConfigError(
            f"{name}: {key} is {value!r}, expected one of {', '.join(typing.get_args(hint))}"
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
    raise ConfigError(f"{name}: {key} is {value!r}, expected {hint.__name__}")


def flag(key: str) -> str:
    """The option of a key, without its hyphens."""
    return key.replace("_", "-")
