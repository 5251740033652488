"""Training options in groups: each with its default, its unit and its meaning.

An option has one name everywhere: `loss.mirror` in messages, `--loss.mirror` on the command line, `mirror`
under `loss` in YAML, `config.loss.mirror` in Python. Those of the group `run`, `--data`,
`--max-megapixels`, `--render-mode` and `--init` need no group on the command line. Imports nothing heavy:
`--help` must be quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from mofa_nvdr.runs.corrective_options import CorrectiveOptions


@dataclass(frozen=True)
class RunOptions:
    """What runs, where and for how long."""

    steps: int = 200_000
    """number of gradient steps"""
    out: str = ""
    """run folder; empty: runs/NNNNN-NAME, and the same command again resumes it"""
    face_model: str = "default"
    """'portraits', 'procedural' (which 'default' is too) or a .safetensors face model"""
    seed: int = 0
    """seed of initial weights, order of images and augmentation"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; 'auto' takes a CUDA GPU where torch and nvdiffrast can use one, else the
    CPU"""
    threads: int = 0
    """CPU threads of a process; 0: torch's choice, or the cores shared among torchrun's processes"""
    stop_after_skips: int = 5
    """steps in a row with a loss or gradient that is not finite, each skipped, before the run stops"""


@dataclass(frozen=True)
class RenderOptions:
    """How a decoded face meets the photograph."""

    mode: Annotated[
        Literal["raster", "vertex", "both"],
        tyro.conf.arg(name="render-mode", prefix_name=False),
    ] = "raster"
    """photometric loss over rasterized pixels, over front-facing vertices as in the paper, or the mean of
    both"""
    gradient: Literal["rendering", "surface"] = "rendering"
    """backward formula in raster mode: the picture moves under the pixels, or points are followed"""
    outline: bool = False
    """add the moving outline's part to the gradient 'rendering'; 'surface' has its own"""


@dataclass(frozen=True)
class DataOptions:
    """Photographs and how many of them make a step."""

    path: Annotated[str, tyro.conf.arg(name="data", prefix_name=False)] = "synthetic"
    """folder of face crops or of their tar shards, or 'synthetic' (faces rendered from random codes)"""
    image_size: int = 240
    """side of the images in pixels"""
    batch_size: int = 5
    """images in a step, over all processes"""
    flip: bool = True
    """mirror half of the photographs"""
    memory: float = 0.0
    """MB of decoded pictures of each corpus that stay in memory, for small ones that are read many times"""
    max_megapixels: Annotated[float, tyro.conf.arg(name="max-megapixels", prefix_name=False)] = (
        250.0
    )
    """photographs with more megapixels are not read"""


@dataclass(frozen=True)
class AugmentOptions:
    """Changes of the pictures at random; the photometric target stays clean, except for color."""

    color: float = 0.0
    """largest relative change of gain, contrast, saturation and gamma, in input and target; 0: off"""
    blur: float = 0.0
    """share of the encoder's inputs that are blurred"""
    noise: float = 0.0
    """largest standard deviation of noise in the encoder's input"""
    jpeg: float = 0.0
    """share of the encoder's inputs that are compressed as JPEG"""
    occlude: float = 0.0
    """share of the encoder's inputs with an occluding patch"""
    camera: float = 0.0
    """largest relative change of gain, gamma, contrast and saturation (twice that), in the encoder's input
    alone, codes or not: another camera's picture of the same face; 0: off"""
    gray: float = 0.0
    """share of the encoder's inputs without colours"""
    coarse: float = 0.0
    """share of the encoder's inputs with the details of a picture of 0.3 to 0.8 of their size"""
    frame: float = 0.0
    """largest relative change of the face's size, and in proportion of its place (half of it, in sides) and
    its turn (1.5 rad times it), in input, target, landmarks and known codes; 0: off"""


@dataclass(frozen=True)
class SyntheticOptions:
    """Rendered faces whose codes are known: of the warm start, and next to photographs (loss.synthetic)."""

    path: str = ""
    """folder that `synthesize` wrote for the run's face model: its faces, again and again, in the place of
    new ones, which take most of a step's time to render; empty: new ones"""
    count: int = 0
    """different rendered faces of known codes, which stay in memory (77 kB each at 160 px) and come again,
    mirrored every second time, when all were seen: a step is as cheap as its network then; 0: new ones in
    each step; synthetic.path has faces of its own"""
    surroundings: bool = True
    """faces have heads, hair, occluders and a camera's faults; off: faces on backgrounds"""
    pose: float = 1.0
    """spread of the poses; 1: that of portraits, less is easier to learn"""
    size: int = 0
    """side in pixels of rendered faces next to photographs; 0: that of the images"""
    lights: str = ""
    """folder of .hdr light probes for half of the faces; empty: lights drawn from the prior"""


@dataclass(frozen=True)
class ScaleOptions:
    """What one unit of the encoder's last layer means: the size of a part's steps next to the others'."""

    shape: float = 1.0
    """standard deviations"""
    expression: float = 1.0
    """standard deviations"""
    albedo: float = 1.0
    """standard deviations"""
    rotation: float = 1.0
    """radians"""
    translation_xy: float = 10.0
    """mm, sideways and up"""
    translation_z: float = 10.0
    """mm, in depth"""
    light: float = 1.0
    """SH coefficients"""


@dataclass(frozen=True)
class EncoderOptions:
    """The network from image to code."""

    network: Literal[
        "alexnet",
        "vgg_face",
        "resnet18",
        "resnet50",
        "mobilenet_v3_large",
        "compact",
        "compact_deep",
        "identity_mlp",
    ] = "alexnet"
    """the convolutional trunk; identity_mlp: compact, with shape and albedo from the features of a frozen
    recognition network (`networks get identity`)"""
    weights: str = ""
    """weights file of the trunk (.safetensors or .pth, torchvision's names); empty: random"""
    init: Annotated[str, tyro.conf.arg(name="init", prefix_name=False)] = ""
    """run folder or checkpoint whose whole encoder this run begins with, its last layer and output scales
    included; empty: none"""
    size: int = 0
    """side in pixels to which the encoder shrinks its input; 0: the trunk's own choice"""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """numbers that the trunk computes with in training; its weights and the rest stay float32; auto: bfloat16
    on a CPU that multiplies them itself, where it takes half of the time"""
    scale: ScaleOptions = field(default_factory=ScaleOptions)


@dataclass(frozen=True)
class OptimizerOptions:
    """The update rule."""

    name: Literal["adadelta", "adam", "adamw"] = "adadelta"
    """update rule"""
    learning_rate: float = 0.1
    """base learning rate"""
    translation_z_rate: float = 0.0005
    """learning rate of the outputs that move the face in depth; 0: the base rate"""
    weight_decay: float = 0.0
    """with 'adamw': decay of the trunk's matrices and filters, times the learning rate"""
    clip_gradient: float = 0.0
    """largest norm of the whole gradient; 0: no clipping"""


@dataclass(frozen=True)
class ScheduleOptions:
    """What changes over the steps."""

    warm_start_steps: int = 0
    """steps at the start on rendered faces with known codes, before the photographs; not in the paper"""
    rate_after_warm_start: float = 1.0
    """factor on all learning rates once the warm start is over"""
    freeze_norm: bool = False
    """BatchNorm keeps the averages of the warm start once it is over"""
    decay: Literal["constant", "cosine"] = "constant"
    """learning rate over the warm start, and over the rest; cosine falls to a tenth in each"""
    warmup_steps: int = 0
    """steps over which the learning rate rises from zero"""


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms that a step minimises (Eqs. 7 and 10), and factors of their gradients."""

    photometric: float = 1.92
    """w_photo"""
    landmark: float = 0.0
    """w_land: 0 without landmarks (the default), 1 with"""
    landmark_set: Literal["ibug", "dense"] = "ibug"
    """landmarks that loss.landmark and loss.lid take: the paper's 46 of 68, or the 478 of landmarks478.npz
    less the face's oval, each by how little it scatters on the face model"""
    lid: float = 0.0
    """eyes and mouths as far open as the landmarks say, in loss.landmark's unit; not in the paper"""
    regularizer: float = 2.9e-5
    """w_reg"""
    albedo: float = 1.7e-3
    """w_beta within the regularizer"""
    expression: float = 0.8
    """w_delta within the regularizer"""
    pose_prior: float = 0.0
    """the batch's mean pose, against common drift; not in the paper"""
    anchor: float = 0.0
    """holds the batch's mean place, size and rotation where the warm start left them; not in the paper"""
    anchor_photographs: int = 0
    """for this many photographs the mean place and size by the warm start is moved to code zero's, where
    crops in the training framing have theirs; 0: the anchor holds the warm start's"""
    mirror: float = 0.0
    """a mirrored photograph must have the mirrored face; not in the paper"""
    synthetic: float = 0.0
    """rendered faces with known codes, half as many as photographs, after the warm start; 0: none"""
    fitted: float = 0.0
    """photographs with a code in codes.npz (`fit --codes`): the distance to it as of known faces; not in the
    paper"""
    codes: float = 1.0
    """how known codes are compared (warm start, loss.synthetic, loss.fitted), as the next four: robust
    distance of all parts, each in units of its own; not in the paper"""
    decoded: float = 0.0
    """known codes: distance of the decoded faces; not in the paper"""
    parameter_shape: float = 0.0
    """known codes, and loss.loopback: mean squared difference of shapes (Genova et al. 2018: 0.4)"""
    parameter_albedo: float = 0.0
    """the same of albedos (Genova et al. 2018: 0.002)"""
    model_space: float = 0.0
    """known codes: squared difference of codes by what each number moves in the face (InverseFaceNet 2018)"""
    identity: float = 0.0
    """rendered faces are recognised as the people in their photographs, by the frozen network of `networks
    get identity`; photographs need landmarks"""
    identity_measure: Literal["euclidean", "cosine"] = "euclidean"
    """of embeddings in loss.identity: squared distance, or one less the cosine about their common mean"""
    identity_photographs: int = 4
    """how many photographs of each step and process loss.identity and loss.loopback look at: the network
    costs more than the renderer"""
    views: int = 0
    """pictures of each person for loss.identity and loss.loopback: without expression, in random poses, under
    two random lamps (Genova et al. 2018: 3); 0: loss.identity takes the face as it is in its photograph"""
    batch_distribution: float = 0.0
    """means and variances of the batch's shapes and albedos are those of the face model's people (Genova et
    al. 2018: 10)"""
    loopback: float = 0.0
    """people are predicted again from the first of their loss.views, and compared as loss.parameter_shape and
    loss.parameter_albedo say (Genova et al. 2018: 0.07)"""
    occlusion: Literal["none", "robust"] = "none"
    """what counts in the photometric term in raster mode: every pixel, or each by how likely it shows the
    face and nothing in front of it, by its distance from the rendering; for encoders that fit faces already
    (a warm start, or --init)"""
    gain_shape: float = 1.0
    """factor of the gradient with which photographs pull their shapes apart from the batch's mean; not in
    the paper"""
    gain_expression: float = 1.0
    """the same for expressions, whose pull is weak next to that of place and colour"""


@dataclass(frozen=True)
class BootstrapOptions:
    """Cycles after the warm start, on faces rendered around what is predicted of photographs.

    As in InverseFaceNet 2018; the photographs' own terms come after the last cycle.
    """

    cycles: int = 0
    """how many; 0: none"""
    steps: int = 800
    """steps of each"""
    photographs: int = 5000
    """training photographs that are predicted for a cycle, evenly spaced; 0: all"""
    faces: int = 5000
    """faces that are rendered for a cycle, at synthetic.size; they stay in the run folder, some 10 KB each"""
    spread: float = 0.3
    """deviations about the predictions, in those of faces at random"""


@dataclass(frozen=True)
class ReportOptions:
    """What a run writes, and how often."""

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


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run depends on.

    The defaults have the paper's optimizer, encoder and weights, on rendered faces and in raster mode;
    `mofa_alexnet` is the paper's recipe.
    """

    run: Annotated[RunOptions, tyro.conf.arg(name="")] = field(default_factory=RunOptions)
    render: RenderOptions = field(default_factory=RenderOptions)
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    synthetic: SyntheticOptions = field(default_factory=SyntheticOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    correctives: CorrectiveOptions = field(default_factory=CorrectiveOptions)
    bootstrap: BootstrapOptions = field(default_factory=BootstrapOptions)
    report: ReportOptions = field(default_factory=ReportOptions)


# Flags that are not their option's name; those of the group run are without "run." too.
_SHORT = {
    "data.path": "data",
    "data.max_megapixels": "max-megapixels",
    "render.mode": "render-mode",
    "encoder.init": "init",
}


class ConfigError(ValueError):
    """A mistake in a configuration; the message names the file or flag, and the key."""


def options(config: TrainConfig) -> dict[str, Any]:
    """Every option by its name ("loss.mirror"), in order."""
    return dict(_walk(config))


def replace_options(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """The configuration with other values of some options: {"loss.mirror": 0.1}.

    Raises:
        ConfigError: no option of that name.
    """
    known = options(config)
    for name in values:
        if name not in known:
            raise ConfigError(f"no option {name!r}{hint_at(name)}")
    return _replace(config, values)


def count_synthetic(config: TrainConfig) -> int:
    """Rendered faces next to a batch after the warm start, over all processes: half of it, or none."""
    return max(1, round(config.data.batch_size / 2)) if config.loss.synthetic > 0 else 0


def cycle_start(config: TrainConfig, cycle: int) -> int:
    """Steps before a cycle of bootstrapping, from 1; that after the last one: steps before what follows."""
    return config.schedule.warm_start_steps + (cycle - 1) * config.bootstrap.steps


def known_face_steps(config: TrainConfig) -> int:
    """Steps on rendered faces alone, before the photographs: the warm start's and the cycles'."""
    return cycle_start(config, config.bootstrap.cycles + 1)


def base_level_steps(config: TrainConfig) -> int:
    """Steps before corrective modes are learned: on known faces, then with the base level alone."""
    return known_face_steps(config) + config.correctives.base_steps


def flag(name: str) -> str:
    """An option's flag, without its first hyphens: "loss.mirror", but "data" and "steps"."""
    return _SHORT.get(name, name.removeprefix("run.").replace("_", "-"))


def _walk(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for entry in dataclasses.fields(group):
        value, name = getattr(group, entry.name), f"{above}{entry.name}"
        if dataclasses.is_dataclass(value):
            yield from _walk(value, f"{name}.")
        else:
            yield name, value


def _replace(group: Any, values: Mapping[str, Any]) -> Any:
    """A group with other values, by names below it."""
    own: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    own |= {first: _replace(getattr(group, first), some) for first, some in below.items()}
    return dataclasses.replace(group, **own)


def option_types(group: type, above: str = "") -> Iterator[tuple[str, Any]]:
    """Name and type of every option of a group and of the groups in it; `above`: before their names."""
    for key, hint in typing.get_type_hints(group).items():
        if dataclasses.is_dataclass(hint):
            yield from option_types(typing.cast(type, hint), f"{above}{key}.")
        else:
            yield f"{above}{key}", hint


def hint_at(name: str) -> str:
    """The nearest option's name: by the whole name, or by its last part in another group."""
    known = [option for option, _ in option_types(TrainConfig)]
    near = difflib.get_close_matches(name, known, n=1)
    last = name.rpartition(".")[2]
    near = near or [option for option in known if option.rpartition(".")[2] == last]
    return f"; perhaps you meant {near[0]!r}" if near else ""
