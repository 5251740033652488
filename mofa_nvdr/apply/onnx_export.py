"""A trained encoder as an ONNX file, compared with torch before it is kept."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mofa_nvdr import __version__
from mofa_nvdr.apply.result_files import image_paths
from mofa_nvdr.data.crops.framing import FRAMING
from mofa_nvdr.data.images import ImageError, read_square
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.networks.on_request import cache_error
from mofa_nvdr.networks.onnx_encoder import FILE, INPUT, OUTPUTS, OnnxEncoder, dump_facts, require
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.checkpoint import CheckpointError
from mofa_nvdr.runs.config import RESUME_MAY_CHANGE
from mofa_nvdr.runs.shipped import shipped_onnx
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.system.files import write_files
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import KEY, check_free, origin

OPSET = 18  # the first with an antialiased Resize
# A part may differ from torch's by ABSOLUTE (standard deviations, radians, mm, SH coefficients) plus
# RELATIVE times the part's largest number over the batch plus ROUNDING times what torch itself differs
# from the same network in float64. Measured on photographs: 2e-6 to 2e-5 of the largest. On noise the
# activations of a network with running averages grow, and rounding alone moved the depth of one by
# 2e-3 of 11 mm in torch, 6e-4 in ONNX Runtime.
ABSOLUTE, RELATIVE, ROUNDING = 1e-4, 1e-4, 4.0
_PHOTOGRAPHS = 16  # at most
_UNITS = {
    "shape": "standard deviations",
    "expression": "standard deviations",
    "albedo": "standard deviations",
    "rotation": "axis-angle in radians about the head's centre, camera axes x right, y up, -z ahead",
    "translation": "mm in camera space from the camera's position of code zero",
    "light": "SH coefficients [9, 3] of incoming radiance in camera space without the ambient offset",
}


def export_encoder(
    run: str | Path = "",
    out: str | Path = "",
    face_model: str = "",
    photographs: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint's encoder as one .onnx file, checked against torch; returns its path.

    The file is kept only if ONNX Runtime's code agrees with torch's (`compare_with_torch`)
    on noise of two sizes, on rendered faces and on photographs; otherwise an older file stays.

    Args:
        run: run folder (its newest checkpoint) or checkpoint file; empty: the encoder of the package.
        out: .onnx file; empty: encoder.onnx next to the checkpoint, or in this folder without a run.
        face_model: the face model that the run was trained with; empty: found by the run.
        photographs: image files or folders to compare on; empty: those that the run was trained on,
            if they are still there.
        overwrite: replace a file that is there, whatever it was made from; else only an encoder of the same
            run.

    Raises:
        ValueError: a mistake in the checkpoint, the photographs or `out`, or a file there that was made
            from something else.
        RuntimeError: a package is missing, or the exported encoder disagrees with torch.
    """
    require("onnx", "onnxscript", "onnxruntime")
    if str(run).endswith(".onnx"):
        raise ValueError(f"{run}: exported already; give a run folder or a checkpoint")
    try:
        trained = Reconstructor.load(run, face_model, "cpu")
    except CheckpointError as error:  # there it is an option, here the command's argument
        raise ValueError(str(error).removeprefix("--checkpoint ")) from None
    target = _target(out or (trained.path.parent / FILE if str(run) else FILE))
    made_from = _origin(trained.metadata, trained.face_model.hash)
    check_free(target, [target], made_from, overwrite)
    data, checked = _exported(trained, made_from, photographs)
    try:
        write_files({target: data})
    except OSError as error:
        raise _unwritable(target, error) from None
    name = f"{trained.spec.trunk} of {trained.path.name}"
    say(f"{target}: {name}, opset {OPSET}, {len(data) / 1e6:.1f} MB")
    say(checked)
    return target


def export_shipped() -> Path:
    """The .onnx file of the package's encoder, in the cache: exported at the first use, which one line says.

    Raises:
        OSError: the cache cannot be written.
        RuntimeError: as `export_encoder`.
    """
    target = shipped_onnx()
    if target.is_file():
        return target
    require("onnx", "onnxscript", "onnxruntime")
    say(f"note: {target}: exporting the package's encoder for ONNX Runtime, once", sys.stderr)
    trained = Reconstructor.load(device="cpu")
    data, _ = _exported(trained, _origin(trained.metadata, trained.face_model.hash))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_files({target: data})
    except OSError as error:
        raise cache_error(target.parent, error) from None
    return target


def load_run(checkpoint: str | Path, face_model: str, device: str, runtime: str) -> Reconstructor:
    """`Reconstructor.load`, which finds the package's encoder exported where ONNX Runtime is to run it.

    Raises:
        OSError, RuntimeError, ValueError: as `export_shipped` and `Reconstructor.load`.
    """
    if runtime == "onnx" and not str(checkpoint):
        export_shipped()
    return Reconstructor.load(checkpoint, face_model, device, runtime)


def _exported(
    trained: Reconstructor, made_from: str, photographs: Sequence[str | Path] = ()
) -> tuple[bytes, str]:
    """The file's bytes, and a line that says how they were compared with torch."""
    encoder, decoder, metadata = trained.encoder, trained.decoder, trained.metadata
    assert isinstance(encoder, Encoder)
    size = decoder.camera.size[0]
    sets = _check_sets(decoder, photographs or _training_photographs(metadata), size)
    spec = dataclasses.replace(
        trained.spec,
        # Not where it was on this machine: it is looked for next to the file, by its name.
        face_model=dataclasses.replace(trained.face_model, file=Path(trained.face_model.file).name),
        camera=dataclasses.replace(decoder.pinhole, focal=decoder.pinhole.focal_px),
    )
    facts = {
        "mofa_nvdr": __version__,
        KEY: made_from,
        **spec.to_json(),
        "checkpoint": trained.path.name,
        "step": metadata["step"],
        "crop": FRAMING,
        "input": f"RGB in [0, 1], row 0 at the top; any size, resized to {size} x {size}",
        "units": _UNITS,
        "opset": OPSET,
        "tolerance": {"absolute": ABSOLUTE, "relative": RELATIVE, "rounding": ROUNDING},
    }
    data = encoder_to_onnx(encoder, size, facts)
    worst = compare_with_torch(encoder, OnnxEncoder(data), size, sets)
    figures = ", ".join(f"{part} {difference:.1e}" for part, difference in worst.items())
    names = ", ".join(f"{len(images)} {name}" for name, images in sets.items())
    names = names.replace(" 1 photographs", " 1 photograph")
    return data, f"checked against torch on {names}: largest difference: {figures}"


def encoder_to_onnx(encoder: Encoder, image_size: int, facts: Mapping[str, Any]) -> bytes:
    """An encoder in evaluation mode as a serialised ONNX model.

    Args:
        encoder: on the CPU.
        image_size: side in px of the images that it was trained on; others are resized to it
            (bilinear, antialiased).
        facts: become the file's metadata, see `onnx_encoder.dump_facts`.

    Raises:
        RuntimeError: onnx or onnxscript are not installed, or torch is too old.
    """
    example = torch.rand(2, 3, image_size + 7, image_size + 11)  # no two alike, none 1: all dynamic
    names = {0: "batch", 2: "height", 3: "width"}
    return module_to_onnx(
        _Graph(encoder, image_size), "encoder", example, names, OUTPUTS, dump_facts(facts)
    )


def module_to_onnx(
    module: nn.Module,
    name: str,
    example: Tensor,
    dynamic: Mapping[int, str],
    outputs: Sequence[str],
    facts: Mapping[str, str],
) -> bytes:
    """A module of images in evaluation mode as a serialised ONNX model.

    Args:
        module: [B, 3, H, W] to a tuple of tensors, on the CPU.
        name: of the graph.
        example: images; their dynamic dimensions must not be 1, nor alike.
        dynamic: dimension -> the name of its size, for those that may vary.
        outputs: names.
        facts: become the file's metadata.

    Raises:
        RuntimeError: onnx or onnxscript are not installed, or torch is too old.
    """
    onnx, _ = require("onnx", "onnxscript")
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        raise RuntimeError(f"export to ONNX needs torch 2.6 or newer, this is {torch.__version__}")
    sizes = {place: torch.export.Dim(size) for place, size in dynamic.items()}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=(sizes,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.graph.name = name
    model.producer_name, model.producer_version = "mofa-nvdr", __version__
    _keep_metadata_alone(model)
    onnx.helper.set_model_props(model, dict(facts))
    return model.SerializeToString()


def compare_with_torch(
    encoder: Encoder, exported: OnnxEncoder, image_size: int, sets: Mapping[str, Tensor]
) -> dict[str, float]:
    """The largest difference of each part over sets of images [B, 3, H, W].

    Allowed are ABSOLUTE + RELATIVE * the part's largest number + ROUNDING * the largest difference of
    `encoder`, in float32, from itself in float64.

    Raises:
        RuntimeError: a difference above the tolerance, or a number that is not finite; the message
            names part and set.
    """
    worst = dict.fromkeys(OUTPUTS, 0.0)
    exact = copy.deepcopy(encoder).double()
    for name, images in sets.items():
        with torch.no_grad():
            codes = encoder(_resize(images, image_size))
            rounding = (codes - exact(_resize(images.double(), image_size))).abs()
        again = exported(images)
        alone = exported(images[:1])  # a batch of one, and one of many
        for part, where in encoder.layout.slices.items():
            expected = codes[:, where]
            allowed = ABSOLUTE + RELATIVE * expected.abs().max().item()
            allowed += ROUNDING * rounding[:, where].max().item()
            for got, want in ((again[:, where], expected), (alone[:, where], expected[:1])):
                difference = (got - want).abs().max().item()
                if not difference <= allowed:  # NaN is refused too
                    raise RuntimeError(
                        f"export-encoder: {part} differs from torch by {difference:.2g} on {name}, "
                        f"allowed are {allowed:.2g}; no file was written"
                    )
                worst[part] = max(worst[part], difference)
    return worst


class _Graph(nn.Module):
    """Image of any size to the code's parts."""

    def __init__(self, encoder: Encoder, image_size: int) -> None:
        super().__init__()
        self.encoder, self.image_size = encoder, image_size

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        code = self.encoder.layout.unpack(self.encoder(_resize(image, self.image_size)))
        return tuple(getattr(code, part) for part in OUTPUTS)


def _resize(images: Tensor, size: int) -> Tensor:
    """What `Encoder` does to its input too; images of that size stay as they are."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def _keep_metadata_alone(model: Any) -> None:
    """Drop the exporter's notes: stack traces with the paths of the machine that exported."""
    values = [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]
    for value in [model.graph, *values, *model.graph.initializer]:
        del value.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns that torchvision is missing and about torch's own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _origin(metadata: Mapping[str, Any], face_model: str) -> str:
    """Of a run: its options, without those that may change when it goes on, and its face model."""
    kept = metadata.get("options", metadata.get("config"))  # "config": from before the groups
    named: dict[str, Any] = {}
    for key, value in kept.items() if isinstance(kept, dict) else ():
        named |= (
            {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        )
    named = {key: value for key, value in named.items() if key not in RESUME_MAY_CHANGE}
    return origin("export-encoder", face_model, json.dumps(named, sort_keys=True))


def _target(out: str | Path) -> Path:
    """Where the file goes; an impossible place is refused before the work."""
    path = Path(out)
    if path.suffix != ".onnx" or path.is_dir():
        raise ValueError(f"--out {out}: expected the name of an .onnx file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def _unwritable(path: Path, error: OSError) -> ValueError:
    return ValueError(f"--out {path}: cannot write there ({error.strerror or error})")


def _check_sets(
    decoder: FaceDecoder, photographs: Sequence[str | Path], size: int
) -> dict[str, Tensor]:
    """Name -> images [B, 3, H, W] to compare on."""
    generator = torch.Generator().manual_seed(0)
    sets = {
        "images of noise": torch.rand(4, 3, size, size, generator=generator),
        "of another size": torch.rand(2, 3, size * 5 // 4, size * 3 // 4 + 1, generator=generator),
        "rendered faces": _rendered_faces(decoder, 6, generator),
    }
    if photographs:
        paths = image_paths(photographs)
        crops, reasons = [], []
        for path in paths[:: -(-len(paths) // _PHOTOGRAPHS)]:  # evenly spaced
            try:
                crops.append(torch.from_numpy(read_square(path, size)[0]))
            except ImageError as error:
                reasons.append(str(error))
        for reason in reasons if crops else ():
            say(f"skipped: {reason}", sys.stderr)
        if not crops:
            raise ValueError(f"export-encoder: no readable picture: {reasons[0]}")
        sets["photographs"] = torch.stack(crops).permute(0, 3, 1, 2).float() / 255
    return sets


@torch.no_grad()
def _rendered_faces(decoder: FaceDecoder, count: int, generator: torch.Generator) -> Tensor:
    """Random people, a little turned, over random grounds."""
    layout = decoder.model.layout
    spread = {"shape": 0.7, "expression": 0.7, "albedo": 0.7, "rotation": 0.15, "translation": 5.0}
    code = torch.randn(count, layout.size, generator=generator)
    for part, where in layout.slices.items():
        code[:, where] *= spread.get(part, 0.1)
    face = decoder.rasterize(decoder.geometry(code))
    size = decoder.camera.size
    ground = F.interpolate(torch.rand(count, 3, 8, 8, generator=generator), size, mode="bicubic")
    return face.over(ground).clamp(0, 1)


def _training_photographs(metadata: Mapping[str, Any]) -> list[str]:
    """The folder of photographs that the run was trained on, if it is still there."""
    # Before the schema: among the options.
    folder = metadata.get("data", metadata.get("config", {}).get("data", "synthetic"))
    try:
        return [folder] if folder != "synthetic" and image_paths([folder]) else []
    except ValueError:
        return []
