"""Depth and normals of a face in the pixels of its photograph."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mofa_nvdr import dr
from mofa_nvdr.apply.export_view import View
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.pictures import png16_bytes
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera
from mofa_nvdr.scene.normals import vertex_normals

MAPS = ("png", "npz")
PER_MM = 10
"""Numbers of a depth map's PNG in a millimetre."""

_MOST = 2**16 - 1


@dataclass(frozen=True)
class FaceMaps:
    """A face in the pixels of its photograph.

    Attributes:
        depth: float32 [H, W] mm along the viewing axis; 0: no face.
        normals: float32 [H, W, 3] unit, in camera space: x right, y up, z to the camera; 0: no face.
        intrinsics: K [3, 3] of the camera, px; axes x right, y down, z ahead.
    """

    depth: np.ndarray
    normals: np.ndarray
    intrinsics: np.ndarray


@torch.no_grad()
def face_maps(model: FaceModel, code: FaceCode, view: View) -> FaceMaps:
    """Draw the whole mesh of a code [1, ...] as a view's camera sees it."""
    vertices = model.vertices(code.shape, code.expression)
    normals = vertex_normals(vertices, model.triangles)[0].double().numpy() @ view.rotation.T
    places = torch.from_numpy(view.place(vertices[0].double().numpy())).float()
    camera = _with_intrinsics(view)
    height, width = camera.size
    pixels = camera.project(places)
    # The part that holds the face: photographs are many times as large.
    low = pixels.amin(0).floor().long().clamp(min=0)
    left, top = int(low[0]), int(low[1])
    high = pixels.amax(0).ceil().long()
    right, bottom = min(width, int(high[0]) + 1), min(height, int(high[1]) + 1)
    depth = np.zeros((height, width), np.float32)
    directions = np.zeros((height, width, 3), np.float32)
    if left < right and top < bottom:
        part = replace(
            camera,
            image_size=(bottom - top, right - left),
            cx=camera.cx - left,
            cy=camera.cy - top,
        )
        both = torch.cat([-places[:, 2:], torch.from_numpy(normals).float()], 1)
        rast, _ = dr.rasterize(
            dr.RasterizeContext(),
            part.clip_space(places)[None].contiguous(),
            model.triangles,
            part.size,
            grad_db=False,
        )
        drawn, _ = dr.interpolate(both[None].contiguous(), rast, model.triangles)
        drawn = torch.where(rast[..., 3:] > 0, drawn, 0.0)[0].flip(0)
        depth[top:bottom, left:right] = drawn[..., 0].numpy()
        directions[top:bottom, left:right] = F.normalize(drawn[..., 1:], dim=-1).numpy()
    k = np.array([[camera.fx, camera.skew, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    return FaceMaps(depth, directions, k)


def map_contents(maps: FaceMaps, stem: Path, kind: str, origin: str) -> dict[Path, bytes]:
    """The files of maps.

    Args:
        maps: to be written.
        stem: path of the files without what tells them apart.
        kind: of MAPS. "png": STEM_depth.png, 16 bit grey, tenths of a millimetre, and STEM_normals.png,
            16 bit RGB, (n + 1) / 2 * 65535; 0 where no face is. "npz": STEM_maps.npz with depth, normals and
            intrinsics.
        origin: what they were made from.

    Raises:
        ValueError: a face is too far away for tenths of a millimetre in 16 bits.
    """
    if kind == "npz":
        stream = io.BytesIO()
        np.savez(
            stream,
            depth=maps.depth,
            normals=maps.normals,
            intrinsics=maps.intrinsics,
            origin=np.array(origin.encode()),  # bytes, which are found again in the file
        )
        return {stem.with_name(f"{stem.name}_maps.npz"): stream.getvalue()}
    furthest = float(maps.depth.max(initial=0))
    if furthest * PER_MM > _MOST:
        raise ValueError(
            f"--maps png: the face is {furthest / 1000:.1f} m away, expected at most "
            f"{_MOST / PER_MM / 1000:.1f} m in tenths of a millimetre of 16 bits; use --maps npz"
        )
    depth = np.rint(maps.depth * PER_MM).astype(np.uint16)
    inside = maps.depth[..., None] > 0
    normals = np.where(inside, np.rint((maps.normals + 1) / 2 * _MOST), 0).astype(np.uint16)
    return {
        stem.with_name(f"{stem.name}_depth.png"): png16_bytes(
            depth, kind="depth map", comment=origin
        ),
        stem.with_name(f"{stem.name}_normals.png"): png16_bytes(
            normals, kind="normal map", comment=origin
        ),
    }


def _with_intrinsics(view: View) -> IntrinsicsCamera:
    """The view's camera as one with a principal point."""
    camera = view.camera
    if isinstance(camera, IntrinsicsCamera):
        return camera
    height, width = camera.size
    return IntrinsicsCamera(
        camera.size, camera.focal_px, camera.focal_px, width / 2, height / 2,
        near=camera.near, far=camera.far,
    )  # fmt: skip
