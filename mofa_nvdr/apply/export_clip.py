"""A clip's face as a .glb that moves, before the clip's camera; and weights of faces and clips as a .csv."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from mofa_nvdr.apply.arkit import (
    BLENDSHAPES,
    NEVER_SEEN,
    arkit_expressions,
    arkit_weights,
    csv_text,
)
from mofa_nvdr.apply.clip_parameters import Clip, ClipTrack, load_clip, load_named_face
from mofa_nvdr.apply.export import (
    ExportOptions,
    check_target,
    make_mesh,
    mesh_contents,
    write_contents,
)
from mofa_nvdr.apply.export_view import view_of_code
from mofa_nvdr.apply.mesh_files import Motion
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import origin

_METRES = 0.001
# Options of a face that a clip has no use for, and their values that say nothing.
_STILL = {"posed": False, "neutral": False, "lit": False, "maps": "", "texture": "albedo"}


def open_clip(path: Path, face_model: str, person: int) -> tuple[Clip, ClipTrack, FaceModel, str]:
    """A clip, one person in it, their face model, and the origin of what is made of it.

    Raises:
        ValueError: as `load_clip`; no such person; or the face model is not there or is another one.
    """
    clip = load_clip(path)
    if not 0 <= person < len(clip.tracks):
        raise ValueError(f"--person is {person}, expected 0 to {len(clip.tracks) - 1} in {path}")
    reference = ModelReference(*clip.face_model, clip.face_model_file)
    model, _ = reference.load(face_model, path.parent, f"{path}: parameters of")
    track = clip.tracks[person]
    try:
        model.layout.check(track.code)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return clip, track, model, origin(f"clip {clip.source_hash}")


def export_clip(
    path: Path,
    out: Path,
    face_model: str,
    options: ExportOptions,
    overwrite: bool,
    person: int = 0,
) -> list[Path]:
    """Write a clip's face as one .glb with an animation.

    The mesh is the person's neutral face. Targets "named" are ARKit's blendshapes with weights in [0, 1],
    which leave a part of the motion out; "modes" are all modes of the expression basis, whose weights are the
    code's own; "none": the head moves alone. Over frames without the face it stays as it was, then goes on.

    Args:
        path: parameters of a clip (.npz).
        out: .glb.
        face_model: as `export_file`.
        options: as `export_file`.
        overwrite: as `export_file`.
        person: number of the track.

    Returns:
        The files written.

    Raises:
        ValueError: a file can't be read, or an option doesn't fit.
    """
    check_target(out, (".glb",))
    for name, value in _STILL.items():
        if getattr(options, name) != value:
            raise ValueError(
                f"--{name}: not for a whole clip, whose face moves before its camera; leave it out, or "
                f"export one frame as {path.name}#0"
            )
    clip, track, model, source = open_clip(path, face_model, person)
    o = options.resolved(out, model)
    rest = track.code.map(lambda part: part[:1])
    rest = rest.replace(expression=torch.zeros_like(rest.expression))
    view = view_of_code(rest, clip.camera)
    mesh = make_mesh(model, rest, clip.camera, o, with_targets=False, view=view)
    targets, weights, words = _targets(model, track.code, o.targets)
    if o.frontal:
        targets = {name: motion[_used(model)] for name, motion in targets.items()}
    mesh = dataclasses.replace(
        mesh,
        targets={name: _METRES * motion for name, motion in targets.items()},
        camera=view.mesh_camera(_METRES, posed=True),
        motion=_motion(track, clip, weights),
        comments=(*mesh.comments, source),
    )
    contents = mesh_contents(mesh, out, model, source)
    write_contents(out, contents, source, overwrite)
    say(
        f"person {person} of {path}: {out} ({sum(map(len, contents.values())) / 1e6:.1f} MB), "
        f"{len(track.frame)} frames, {words}"
    )
    return list(contents)


def _targets(
    model: FaceModel, code: FaceCode, kind: str
) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Displacements [V, 3] in mm by name, their weights [N, K], and words about them."""
    basis = model.expression_basis.double()
    if kind == "modes":
        modes = {f"mode {k + 1}": motion.numpy() for k, motion in enumerate(basis)}
        return modes, code.expression.double().numpy(), f"{len(modes)} modes"
    if kind == "none":
        return {}, np.zeros((code.batch_size, 0)), "no targets"
    found = arkit_weights(model, code.expression)
    shapes = arkit_expressions(model)
    motions = {
        name: torch.tensordot(row.double(), basis, 1).numpy() for name, row in shapes.items()
    }
    columns = [BLENDSHAPES.index(name) for name in shapes]
    words = (
        f"{len(shapes)} of ARKit's 52 blendshapes, which leave {found.left_mm.mean():.2f} of "
        f"{found.motion_mm.mean():.2f} mm (rms)"
    )
    return motions, found.weights[:, columns], words


def _used(model: FaceModel) -> np.ndarray:
    """Vertices of the frontal region's triangles, as `kept_triangles` keeps them."""
    return np.unique(model.frontal_triangles.numpy())


def _motion(track: ClipTrack, clip: Clip, weights: np.ndarray) -> Motion:
    """The track's frames, each held to the end of a gap or a cut that follows it."""
    rotations = axis_angle_to_matrix(track.code.rotation.double()).numpy()
    shift = track.code.translation.double().numpy() + np.array(clip.camera.position)
    cut = np.isin(track.frame[1:], clip.cuts) | (np.diff(track.frame) > 1)
    # A moment before the next frame: glTF wants times that grow.
    moment = np.minimum(0.001, np.diff(track.time) / 4)
    held = np.flatnonzero(cut)
    order = np.argsort(np.concatenate([np.arange(len(track.time)), held + 0.5]))
    rows = np.concatenate([np.arange(len(track.time)), held])[order]
    times = np.concatenate([track.time, (track.time[1:] - moment)[held]])[order]
    return Motion(times, weights[rows], rotations[rows], _METRES * shift[rows])


def export_weights(
    path: Path, out: Path, face_model: str, overwrite: bool, person: int | None = None
) -> list[Path]:
    """Write the weights of ARKit's 52 blendshapes as a .csv, a line for each frame of a clip, or one.

    Of a clip a line begins with frame, time_s and seen, and the head's pose before the clip's camera follows:
    rotation (axis-angle, radians) and translation (mm).

    Args:
        path: parameters of a face, a clip, or a clip's frame (CLIP.npz#120).
        out: .csv.
        face_model: as `export_file`.
        overwrite: as `export_file`.
        person: number of a clip's track; None: no clip.

    Raises:
        ValueError: a file can't be read, or its face model has no such blendshapes.
    """
    check_target(out, (".csv",))
    columns: dict[str, np.ndarray] = {}
    if person is None:
        models: dict[str, FaceModel] = {}
        face = load_named_face(path, face_model, models)
        model, code, source = models[face.face_model[1]], face.code, origin_of(face)
    else:
        clip, track, model, source = open_clip(path, face_model, person)
        code = track.code
        columns = {"frame": track.frame, "time_s": track.time, "seen": track.seen.astype(int)}
        shift = code.translation.double().numpy() + np.array(clip.camera.position)
        for k, axis in enumerate("xyz"):
            columns[f"rotation_{axis}_rad"] = code.rotation[:, k].double().numpy()
        for k, axis in enumerate("xyz"):
            columns[f"translation_{axis}_mm"] = shift[:, k]
    found = arkit_weights(model, code.expression)
    text = csv_text(columns, found.weights, source)
    write_contents(out, {out: text.encode("ascii")}, source, overwrite)
    missing = [name for name in BLENDSHAPES if name not in arkit_expressions(model)]
    say(
        f"{path}: {out}, {len(found.weights)} x 52 weights, which leave {found.left_mm.mean():.2f} of "
        f"{found.motion_mm.mean():.2f} mm (rms); always 0: {', '.join([*NEVER_SEEN, *missing])}"
    )
    return [out]
