"""What pictures and meshes were made from: the origin (system/origins.py) of faces and face models."""

from __future__ import annotations

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.system.origins import origin


def origin_of(*sources: FaceParameters | FaceModel) -> str:
    """What results made of these carry: of faces their photographs' content, of models their own.

    A face reconstructed again, by another run too, is the same source.
    """
    facts: list[bytes | str] = []
    for source in sources:
        if isinstance(source, FaceModel):
            facts.append(f"model {source.hash}")
        elif source.source_hash:
            facts.append(_photograph(source.source_hash))
        else:  # of an earlier version
            facts.append(b"code " + source.code.pack().numpy().tobytes())
    return origin(*facts)


def photo_origin(file_hash: str) -> str:
    """What results made of a photograph carry, by the content hash of its file; as `origin_of` its face."""
    return origin(_photograph(file_hash))


def _photograph(file_hash: str) -> str:
    return f"photograph {file_hash}"
