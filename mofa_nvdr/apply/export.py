"""A face or a face model's average as a file for other programs: .obj, .ply or .glb."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr import __version__
from mofa_nvdr.apply.clip_parameters import load_named_face, names_face
from mofa_nvdr.apply.mesh_files import Mesh, glb_bytes, mtl_bytes, obj_bytes, ply_bytes
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.render.pictures import png_bytes
from mofa_nvdr.render.texture_baking import bake, pad
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.shaders.sh_lambert import sh_lambert
from mofa_nvdr.system.files import write_files
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import check_free

# ending -> (units, colours) that it can hold, the default first.
MESH_FORMATS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ".obj": (("mm", "m"), ("texture", "vertex", "none")),
    ".ply": (("mm", "m"), ("vertex", "none")),
    ".glb": (("m",), ("texture", "vertex", "none")),
}
TARGETS = ("named", "modes", "none")
_PER_MM = {"mm": 1.0, "m": 0.001}
_WORDS = {"mm": "millimetres", "m": "metres"}
_PADDING = 16
# Displacements of a morph target below this, in mm, are left out: they are the rounding of a basis.
LEAST_MOTION = 0.01


@dataclass(frozen=True)
class ExportOptions:
    """How a face is exported.

    Attributes:
        units: "mm" or "m"; empty: the format's own, metres for .glb, else millimetres.
        color: "texture", "vertex" or "none"; empty: the format's own, vertex for .ply, else texture.
        lit: colours under the face's light, in its pose, as the renderer shows them; else the albedo.
        posed: in camera space, where the photograph shows it (.glb: with the camera); else in model space.
        neutral: without the face's expression.
        targets: morph targets of a .glb: "named" expressions, every "modes" of the expression basis, "none".
        texture_size: side of the texture in texels.
    """

    units: str = ""
    color: str = ""
    lit: bool = False
    posed: bool = False
    neutral: bool = False
    targets: str = "named"
    texture_size: int = 1024

    def resolved(self, out: Path, model: FaceModel) -> ExportOptions:
        """The same with the format's defaults filled in.

        Raises:
            ValueError: an unknown ending, or what the format or the model can't do.
        """
        ending = out.suffix.lower()
        if ending not in MESH_FORMATS:
            raise ValueError(f"--out {out}: expected a file ending in {', '.join(MESH_FORMATS)}")
        units, colors = MESH_FORMATS[ending]
        unit, color = self.units or units[0], self.color or colors[0]
        if unit not in _PER_MM:
            raise ValueError(f"--units is {unit!r}, expected mm or m")
        if unit not in units:
            raise ValueError(f"--units {unit}: a {ending} is in metres by its specification; use m")
        if color not in ("texture", "vertex", "none"):
            raise ValueError(f"--color is {color!r}, expected texture, vertex or none")
        if color not in colors:
            raise ValueError(f"--color {color}: a {ending} takes {' or '.join(colors)}")
        if color == "texture" and model.uv is None:
            raise ValueError(
                f"export: face model {model.name} has no texture coordinates; use --color vertex"
            )
        if self.targets not in TARGETS:
            raise ValueError(f"--targets is {self.targets!r}, expected {', '.join(TARGETS)}")
        if not 16 <= self.texture_size <= 4096:
            raise ValueError(f"--texture-size is {self.texture_size}, expected 16 to 4096 texels")
        return ExportOptions(
            unit, color, self.lit, self.posed, self.neutral, self.targets, self.texture_size
        )


def export_file(
    source: str | Path,
    out: str | Path,
    face_model: str | Path = "",
    options: ExportOptions | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Export a reconstructed face, or a model's average face, for other programs.

    With a texture an .obj comes with NAME.mtl and NAME_texture.png. Colours are gamma-encoded sRGB: texture,
    .obj and .ply as they are, vertex colours of a .glb linear, as its specification asks.

    Args:
        source: parameter file (.npz) of reconstruct, CLIP.npz#120 for a frame of a clip; or 'default' or a
            .safetensors file: its average face.
        out: .obj, .ply or .glb; its folder must exist.
        face_model: the model that the parameters are for; empty: the one that the file names.
        options: None: the defaults.
        overwrite: also replace files made from something else (provenance.py).

    Returns:
        The files written, `out` last.

    Raises:
        ValueError: a file can't be read, is another face model's, or an option doesn't fit; or a file of
            that name is there and no earlier export of the same face.
    """
    out = Path(out)
    if out.suffix.lower() not in MESH_FORMATS:
        raise ValueError(f"--out {out}: expected a file ending in {', '.join(MESH_FORMATS)}")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: no such folder {out.parent}")
    if names_face(source):
        models: dict[str, FaceModel] = {}
        face = load_named_face(source, str(face_model), models)
        model = models[face.face_model[1]]
        code, camera, subject = face.code, face.camera, f"the face of {Path(source).name}"
        origin = origin_of(face)
    else:
        model = FaceModel.load(source)
        code, camera, subject = model.layout.zeros(), Camera(), "the average face"
        origin = origin_of(model)
    options = (options or ExportOptions()).resolved(out, model)
    mesh = make_mesh(model, code, camera, options, with_targets=out.suffix.lower() == ".glb")
    mesh = dataclasses.replace(mesh, comments=(*mesh.comments, origin))
    contents = _contents(mesh, out, model, origin)
    check_free(out, contents, origin, overwrite)
    try:
        write_files(contents)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    colour = {"texture": "texture", "vertex": "vertex colours", "none": "no colours"}[options.color]
    shade = "lit" if options.lit else "unlit albedo"
    say(
        f"{subject}: {out} ({sum(map(len, contents.values())) / 1e6:.1f} MB), "
        f"{_WORDS[options.units]}, {'camera' if options.posed else 'model'} space, {colour}"
        + (f" ({shade})" if options.color != "none" else "")
        + (f", {len(mesh.targets)} morph targets" if mesh.targets else "")
    )
    return list(contents)


@torch.no_grad()
def make_mesh(
    model: FaceModel,
    code: FaceCode,
    camera: Camera,
    options: ExportOptions,
    with_targets: bool = True,
) -> Mesh:
    """The exported mesh of a code [1, ...], in the options' units.

    Args:
        model: face model, on the CPU.
        code: one face.
        camera: places and lights it.
        options: resolved.
        with_targets: compute morph targets.
    """
    expression = code.expression
    shown = code.replace(expression=torch.zeros_like(expression)) if options.neutral else code
    geometry = FaceDecoder(model, camera=camera, frontal_only=False).geometry(shown)
    if options.posed:
        vertices, normals = geometry.vertices, geometry.normals
    else:
        vertices = model.vertices(shown.shape, shown.expression)
        normals = vertex_normals(vertices, model.triangles)
    scale = _PER_MM[options.units]
    targets = _targets(model, expression[0], options) if with_targets else {}
    if options.posed:
        turn = axis_angle_to_matrix(code.rotation)[0]
        targets = {name: value @ turn.T for name, value in targets.items()}
    uv = options.color == "texture"
    return Mesh(
        vertices=vertices[0].double().numpy() * scale,
        triangles=model.triangles.numpy(),
        normals=normals[0].numpy(),
        colors=_colors(geometry, options).numpy() if options.color == "vertex" else None,
        uv=model.uv.numpy() if uv and model.uv is not None else None,
        uv_triangles=model.uv_triangles.numpy() if uv and model.uv_triangles is not None else None,
        texture=_texture(model, geometry, options) if uv else None,
        comments=_comments(model, options),
        targets={name: value.double().numpy() * scale for name, value in targets.items()},
        camera=_camera(camera, scale) if options.posed else None,
    )


def _targets(model: FaceModel, expression: Tensor, options: ExportOptions) -> dict[str, Tensor]:
    """Displacements [V, 3] in mm, by name; the first leads to the expression that is not shown."""
    directions: dict[str, Tensor] = {}
    if options.targets != "none" and bool(expression.any()):
        name = "expression" if options.neutral else "neutral"
        while name in model.named_expressions:  # a model may have one of its own of that name
            name += "_"
        directions[name] = expression if options.neutral else -expression
    if options.targets == "named":
        directions |= model.named_expressions
    elif options.targets == "modes":
        every = torch.eye(len(expression))
        directions |= {f"mode {k + 1}": row for k, row in enumerate(every)}
    targets = {}
    for name, direction in directions.items():
        motion = torch.tensordot(direction, model.expression_basis, 1)
        targets[name] = motion * (motion.norm(dim=1, keepdim=True) >= LEAST_MOTION)
    return targets


def _colors(geometry: Geometry, options: ExportOptions) -> Tensor:
    """[V, 3] albedo, or colours under the light, clamped to [0, 1]."""
    colors = geometry.albedo
    if options.lit:
        colors = sh_lambert(geometry.normals, colors, geometry.light)
    return colors[0].clamp(0, 1)


def _texture(model: FaceModel, geometry: Geometry, options: ExportOptions) -> np.ndarray:
    """uint8 [S, S, 3]; light is computed at every texel, as the renderer does at every pixel."""
    assert model.uv is not None
    corners = model.triangles if model.uv_triangles is None else model.uv_triangles
    both = torch.cat([geometry.albedo[0], geometry.normals[0]], dim=1)
    texture, covered = bake(both, model.triangles, model.uv, corners, options.texture_size)
    colors = texture[..., :3]
    if options.lit:
        normals = torch.nn.functional.normalize(texture[..., 3:], dim=-1)
        colors = sh_lambert(normals[None], colors[None].contiguous(), geometry.light)[0]
    colors = pad(colors.clamp(0, 1), covered, _PADDING)
    return (colors * 255).round().to(torch.uint8).numpy()


def _camera(camera: Camera, scale: float) -> tuple[float, float, float, float]:
    height, width = camera.size
    field = 2 * math.atan(height / 2 / camera.focal_px)
    return field, width / height, camera.near * scale, camera.far * scale


def _comments(model: FaceModel, options: ExportOptions) -> tuple[str, ...]:
    space = (
        "camera space: x right, y up, the camera at the origin looks down -z"
        if options.posed
        else "model space: +x the subject's left, +y up, +z out of the face"
    )
    colors = "as lit, gamma-encoded sRGB" if options.lit else "albedo, gamma-encoded sRGB"
    licence = model.metadata.get("licence", "")
    lines = [
        f"written by mofa-nvdr {__version__}",
        f"units: {_WORDS[options.units]}; {space}",
        *([f"colours: {colors}"] if options.color != "none" else []),
        f"face model: {model.name} {model.hash}" + (f", licence: {licence}" if licence else ""),
    ]
    return tuple(
        " ".join(line.split()) for line in lines
    )  # one line each, whatever is in the metadata


def _contents(mesh: Mesh, out: Path, model: FaceModel, origin: str) -> dict[Path, bytes]:
    """The files of an export; the one that names the others last."""
    ending = out.suffix.lower()
    if ending == ".glb":
        licence = " ".join(model.metadata.get("licence", "").split())
        return {out: glb_bytes(mesh, licence, f"mofa-nvdr {__version__}")}
    if ending == ".ply":
        return {out: ply_bytes(mesh)}
    if mesh.texture is None:
        return {out: obj_bytes(mesh)}
    # File names with spaces break many readers of .obj and .mtl.
    stem = "_".join(out.stem.split())
    material, texture = out.with_name(f"{stem}.mtl"), out.with_name(f"{stem}_texture.png")
    return {
        texture: png_bytes(mesh.texture, kind="texture", comment=origin),
        material: mtl_bytes(texture.name, [origin]),
        out: obj_bytes(mesh, material.name),
    }
