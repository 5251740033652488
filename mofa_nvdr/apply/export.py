"""A face or a face model's average as a file for other programs: .obj, .ply or .glb."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr import __version__
from mofa_nvdr.apply.clip_parameters import load_named_face, names_face
from mofa_nvdr.apply.export_maps import MAPS, face_maps, map_contents
from mofa_nvdr.apply.export_view import View, view_of, view_of_code
from mofa_nvdr.apply.glb_files import glb_bytes
from mofa_nvdr.apply.mesh_files import Mesh, kept_triangles, mtl_bytes, obj_bytes, ply_bytes
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_skin import photo_skin
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.render.pictures import png_bytes
from mofa_nvdr.render.texture_baking import bake, pad
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.normals import vertex_normals
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
TEXTURES = ("albedo", "photo")
MATERIALS = ("unlit", "matte")
_PER_MM = {"mm": 1.0, "m": 0.001}
_WORDS = {"mm": "millimetres", "m": "metres"}
_PADDING = 16
_OFF_CENTRE = 0.5  # px of a principal point that a .glb need not mention
# Displacements of a morph target below this, in mm, are left out: they are the rounding of a basis.
LEAST_MOTION = 0.01


@dataclass(frozen=True)
class ExportOptions:
    """How a face is exported.

    Attributes:
        units: "mm" or "m"; empty: the format's own, metres for .glb, else millimetres.
        color: "texture", "vertex" or "none"; empty: the format's own, vertex for .ply, else texture.
        lit: colours under the face's light, in its pose, as the renderer shows them; else the albedo.
        posed: in camera space, where the photograph shows it; else in model space.
        neutral: without the face's expression.
        targets: morph targets of a .glb: "named" expressions, every "modes" of the expression basis, "none".
        texture_size: side of the texture in texels.
        texture: "albedo", the face model's, or "photo", the person's own skin (photo_texture.py).
        frontal: the frontal region alone.
        material: of a .glb: "unlit", colours as they are, or "matte", for programs with lights of their own.
        balanced: with a texture from photographs: these are balanced for their light; else the fitted light's
            colour is taken out too.
        maps: "png" or "npz": depth and normals too (export_maps.py); empty: none.
    """

    units: str = ""
    color: str = ""
    lit: bool = False
    posed: bool = False
    neutral: bool = False
    targets: str = "named"
    texture_size: int = 1024
    texture: str = "albedo"
    frontal: bool = False
    material: str = "unlit"
    balanced: bool = True
    maps: str = ""

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
        for flag, value, known in (
            ("--targets", self.targets, TARGETS),
            ("--texture", self.texture, TEXTURES),
            ("--material", self.material, MATERIALS),
            ("--maps", self.maps or MAPS[0], MAPS),
        ):
            if value not in known:
                raise ValueError(f"{flag} is {value!r}, expected {', '.join(known)}")
        if self.texture == "photo" and color != "texture":
            raise ValueError(
                f"--texture photo: a {ending} with --color {color} has no texture; use an .obj or .glb"
            )
        if self.texture == "photo" and self.lit:
            raise ValueError(
                "--texture photo: the photograph's light is taken out; leave out --lit, and light it in the "
                "program that shows it"
            )
        if not 16 <= self.texture_size <= 4096:
            raise ValueError(f"--texture-size is {self.texture_size}, expected 16 to 4096 texels")
        return dataclasses.replace(self, units=unit, color=color)


@dataclass(frozen=True)
class _Subject:
    """What is exported: a face with its model, or a model's average."""

    name: str
    model: FaceModel
    code: FaceCode
    camera: Camera
    view: View
    origin: str
    faces: tuple[tuple[Path, FaceParameters], ...] = ()


def export_file(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    face_model: str | Path = "",
    options: ExportOptions | None = None,
    overwrite: bool = False,
    photos: Sequence[str | Path] = (),
) -> list[Path]:
    """Export a reconstructed face, or a model's average face, for other programs.

    With a texture an .obj comes with NAME.mtl and NAME_texture.png. Colours are gamma-encoded sRGB: texture,
    .obj and .ply as they are, vertex colours of a .glb linear, as its specification asks.

    Args:
        sources: parameter file (.npz) of reconstruct, CLIP.npz#120 for a frame of a clip; or 'default' or a
            .safetensors file: its average face. With a texture from photographs, further files of the same
            person: their photographs show more of the skin.
        out: .obj, .ply or .glb; its folder must exist.
        face_model: the model that the parameters are for; empty: the one that the file names.
        options: None: the defaults.
        overwrite: also replace files made from something else (provenance.py).
        photos: with a texture from photographs, these, in the order of the sources; empty: those that the
            files name.

    Returns:
        The files written, `out` last.

    Raises:
        ValueError: a file can't be read, is another face model's, or an option doesn't fit; or a file of
            that name is there and no earlier export of the same face.
    """
    out, o = Path(out), options or ExportOptions()
    given = [sources] if isinstance(sources, (str, Path)) else list(sources)
    check_target(out, MESH_FORMATS)
    subject = _subject(given, str(face_model), o)
    o = o.resolved(out, subject.model)
    skin = None
    if o.texture == "photo":
        skin = photo_skin(subject.faces, subject.model, o.texture_size, photos, o.balanced)
    elif photos:
        raise ValueError("--photo: give --texture photo with it")
    glb = out.suffix.lower() == ".glb"
    mesh = make_mesh(subject.model, subject.code, subject.camera, o, glb, subject.view, skin)
    mesh = dataclasses.replace(mesh, comments=(*mesh.comments, subject.origin))
    contents = mesh_contents(mesh, out, subject.model, subject.origin)
    if o.maps:
        stem = out.with_name("_".join(out.stem.split()))
        drawn = face_maps(subject.model, subject.code, subject.view)
        contents = map_contents(drawn, stem, o.maps, subject.origin) | contents
    write_contents(out, contents, subject.origin, overwrite)
    if glb and subject.view.off_centre > _OFF_CENTRE:
        say(
            f"note: {out}: its camera looks at the picture's centre, as a .glb can say; the photograph's "
            f"principal point is {subject.view.off_centre:.0f} px beside it",
            sys.stderr,
        )
    colour = {"texture": "texture", "vertex": "vertex colours", "none": "no colours"}[o.color]
    shade = "from photographs" if skin is not None else "lit" if o.lit else "unlit albedo"
    say(
        f"{subject.name}: {out} ({sum(map(len, contents.values())) / 1e6:.1f} MB), "
        f"{_WORDS[o.units]}, {'camera' if o.posed else 'model'} space, {colour}"
        + (f" ({shade})" if o.color != "none" else "")
        + (f", {len(mesh.targets)} morph targets" if mesh.targets else "")
    )
    return list(contents)


def check_target(out: Path, endings: Collection[str]) -> None:
    """Refuse a file to write whose ending is none of these, or whose folder is not there.

    Raises:
        ValueError: it is.
    """
    if out.suffix.lower() not in endings:
        raise ValueError(f"--out {out}: expected a file ending in {', '.join(endings)}")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: no such folder {out.parent}")


def write_contents(out: Path, contents: dict[Path, bytes], origin: str, overwrite: bool) -> None:
    """Write files that belong together.

    Raises:
        ValueError: one is there and made from something else, or the folder cannot be written.
    """
    check_free(out, contents, origin, overwrite)
    try:
        write_files(contents)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None


def _subject(sources: Sequence[str | Path], face_model: str, o: ExportOptions) -> _Subject:
    """Read what is to be exported."""
    if not sources:
        raise ValueError("export: no face; give a parameter file (.npz) or a face model")
    if len(sources) > 1 and o.texture != "photo":
        raise ValueError(
            f"export: {len(sources)} faces, expected one; several are for --texture photo"
        )
    if not names_face(sources[0]):
        if o.texture == "photo":
            raise ValueError(
                f"{sources[0]}: --texture photo needs the .npz of a photograph's face, not a face model"
            )
        model = FaceModel.load(sources[0])
        code, camera = model.layout.zeros(), Camera()
        return _Subject(
            "the average face", model, code, camera, view_of_code(code, camera), origin_of(model)
        )
    models: dict[str, FaceModel] = {}
    faces = [(Path(name), load_named_face(name, face_model, models)) for name in sources]
    face = faces[0][1]
    return _Subject(
        f"the face of {faces[0][0].name}",
        models[face.face_model[1]],
        face.code,
        face.camera,
        view_of(face),
        origin_of(*(one for _, one in faces)),
        tuple(faces),
    )


@torch.no_grad()
def make_mesh(
    model: FaceModel,
    code: FaceCode,
    camera: Camera,
    options: ExportOptions,
    with_targets: bool = True,
    view: View | None = None,
    skin: np.ndarray | None = None,
) -> Mesh:
    """The exported mesh of a code [1, ...], in the options' units.

    Args:
        model: face model, on the CPU.
        code: one face.
        camera: of the code; lights it.
        options: resolved.
        with_targets: compute morph targets.
        view: places it, and is its camera; None: as the code's camera sees it.
        skin: uint8 [S, S, 3], a texture in the place of the albedo.
    """
    view = view_of_code(code, camera) if view is None else view
    expression = code.expression
    shown = code.replace(expression=torch.zeros_like(expression)) if options.neutral else code
    vertices = model.vertices(shown.shape, shown.expression)
    normals = vertex_normals(vertices, model.triangles)[0].numpy()
    places = vertices[0].double().numpy()
    targets = {}
    if with_targets:
        targets = {
            k: v.double().numpy() for k, v in _targets(model, expression[0], options).items()
        }
    if options.posed:
        places, normals = view.place(places), normals @ view.rotation.T
        targets = {name: value @ view.rotation.T for name, value in targets.items()}
    scale = _PER_MM[options.units]
    uv = options.color == "texture"
    geometry = FaceDecoder(model, camera=camera, frontal_only=False).geometry(shown)
    if uv and skin is None:
        skin = _texture(model, geometry, options)
    mesh = Mesh(
        vertices=places * scale,
        triangles=model.triangles.numpy(),
        normals=normals,
        colors=_colors(geometry, options).numpy() if options.color == "vertex" else None,
        uv=model.uv.numpy() if uv and model.uv is not None else None,
        uv_triangles=model.uv_triangles.numpy() if uv and model.uv_triangles is not None else None,
        texture=skin if uv else None,
        comments=_comments(model, options),
        targets={name: value * scale for name, value in targets.items()},
        camera=view.mesh_camera(scale, options.posed),
        unlit=options.material == "unlit",
    )
    if not options.frontal:
        return mesh
    return kept_triangles(mesh, model.frontal_mask[model.triangles.long()].all(1).numpy())


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


def _comments(model: FaceModel, options: ExportOptions) -> tuple[str, ...]:
    space = (
        "camera space: x right, y up, the camera at the origin looks down -z"
        if options.posed
        else "model space: +x the subject's left, +y up, +z out of the face"
    )
    of_what = "from photographs" if options.texture == "photo" else "albedo"
    colors = "as lit, gamma-encoded sRGB" if options.lit else f"{of_what}, gamma-encoded sRGB"
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


def mesh_contents(mesh: Mesh, out: Path, model: FaceModel, origin: str) -> dict[Path, bytes]:
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
