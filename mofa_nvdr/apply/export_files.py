"""`mofa-nvdr export`: which of the exports a command asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mofa_nvdr.apply.clip_parameters import names_face
from mofa_nvdr.apply.export import MESH_FORMATS, ExportOptions, check_target, export_file
from mofa_nvdr.apply.export_clip import export_clip, export_weights
from mofa_nvdr.apply.parameters import CLIP_KEY
from mofa_nvdr.system.array_files import npz_members

TABLE = ".csv"


def export_files(
    sources: Sequence[str],
    out: str | Path,
    face_model: str = "",
    options: ExportOptions | None = None,
    overwrite: bool = False,
    photos: Sequence[str] = (),
    person: int = 0,
) -> list[Path]:
    """Write a face, a whole clip or a face model's average for other programs, or a table of weights.

    Args:
        sources: as `export_file`; or the parameters of one clip, all of whose frames are exported.
        out: .obj, .ply or .glb; .glb of a clip; .csv: weights of ARKit's blendshapes.
        face_model: as `export_file`.
        options: None: the defaults.
        overwrite: as `export_file`.
        photos: as `export_file`.
        person: of a clip: number of the track.

    Raises:
        ValueError: as `export_file`, `export_clip` and `export_weights`.
    """
    out, o = Path(out), options or ExportOptions()
    check_target(out, (*MESH_FORMATS, TABLE))
    clip = len(sources) == 1 and CLIP_KEY in npz_members(sources[0])
    if person and not clip:
        raise ValueError("--person: only of a whole clip; of a frame it is CLIP.npz#120:1")
    if out.suffix.lower() == TABLE:
        if len(sources) != 1 or not names_face(sources[0]):
            raise ValueError(f"--out {out}: a table of weights is of one face or clip (.npz)")
        return export_weights(
            Path(sources[0]), out, face_model, overwrite, person if clip else None
        )
    if clip:
        return export_clip(Path(sources[0]), out, face_model, o, overwrite, person)
    return export_file(sources, out, face_model, o, overwrite, photos)
