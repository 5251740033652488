"""The camera of a whole photograph, and the pose of a face before it.

A code belongs to the camera of its crop, whose principal point is the crop's centre. In the photograph's own
pixels that is a pinhole too (`crop_camera`): focal length times side / size, the crop's centre as principal
point, the same pose, the same picture to the last bit. A photograph has one camera for all its faces, with
one focal length and its own principal point. `full_frame_poses` finds the rigid pose before that one under
which the face's vertices fall where the crop's camera sees them, by Gauss-Newton. Where the two focal lengths
differ, perspective does too, and a rigid pose can't make it up: `error` says how far vertices are then apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, isfinite

import numpy as np

from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera

FOCAL_SOURCES = ("given", "exif", "default")
_DIAGONAL = 43.2666  # mm of a 24 x 36 mm picture, to which EXIF's equivalent focal lengths refer
_LEAST_FOCAL = 1.2  # longer sides of the photograph: a moderate wide angle, 45 degrees across
_STEPS = 8
# The package's camera space is x right, y up, looking down -z; extrinsics are x right, y down, z ahead.
_AXES = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class PhotoFrame:
    """A face in the frame of its photograph. Axes x right, y down, z ahead, as OpenCV and COLMAP have them.

    A point v of the face model, mm, is at the pixel (p0 / p2, p1 / p2) with p = K (R v + t); the
    photograph's top left corner is (0, 0), the centre of its first pixel (0.5, 0.5).

    Attributes:
        size: height and width of the photograph, px.
        intrinsics: K [3, 3].
        extrinsics: [3, 4]: R and t, mm.
        focal_from: where the focal length is from, of FOCAL_SOURCES.
        error: how far vertices fall from where the crop's camera sees them, px; root of the mean square.
    """

    size: tuple[int, int]
    intrinsics: np.ndarray
    extrinsics: np.ndarray
    focal_from: str
    error: float

    def camera(self) -> IntrinsicsCamera:
        """The camera, as renderers take it; vertices are then `place`d."""
        k = self.intrinsics
        return IntrinsicsCamera(self.size, k[0, 0], k[1, 1], k[0, 2], k[1, 2], k[0, 1])

    def place(self, vertices: np.ndarray) -> np.ndarray:
        """Points [..., 3] of the face model to the package's camera space, mm."""
        rotation, shift = self.pose()
        return vertices @ rotation.T + shift

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """R [3, 3] and t [3] mm in the package's axes: points v of the face model are at R v + t."""
        return _AXES[:, None] * self.extrinsics[:, :3], _AXES * self.extrinsics[:, 3]


def crop_camera(camera: Camera, crop: Crop, size: tuple[int, int]) -> IntrinsicsCamera:
    """The crop's own camera in pixels of the photograph, of height and width `size`."""
    focal = camera.focal_px * crop.side / camera.size[0]
    centre = crop.left + crop.side / 2, crop.top + crop.side / 2
    return IntrinsicsCamera(
        size, focal, focal, *centre,
        near=camera.near, far=camera.far, position=camera.position,
    )  # fmt: skip


def photo_focal(
    size: tuple[int, int], given: float, focal_35mm: float, largest: float
) -> tuple[float, str]:
    """The focal length of a photograph in px, and where it is from.

    Args:
        size: height and width, px.
        given: the user's, px; 0: none.
        focal_35mm: of EXIF, mm on 35 mm film; 0: none. It says nothing of pictures that were cut since.
        largest: the focal length of the crop camera of the largest face, px, at which that face is as far
            away as in training. It is taken where nothing is known, if it is no wide angle (45 degrees).
    """
    if given:
        return given, FOCAL_SOURCES[0]
    if focal_35mm:
        return focal_35mm / _DIAGONAL * hypot(*size), FOCAL_SOURCES[1]
    return max(largest, _LEAST_FOCAL * max(size)), FOCAL_SOURCES[2]


def photo_intrinsics(
    size: tuple[int, int], focal: float, principal_point: tuple[float, float] | None = None
) -> np.ndarray:
    """K [3, 3] of a photograph; without a principal point (x, y) in px it is the photograph's centre."""
    x, y = principal_point or (size[1] / 2, size[0] / 2)
    return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1.0]])


def check_camera(focal_px: float, principal_point: tuple[float, float] | None) -> None:
    """Refuse a focal length or principal point that is none.

    Raises:
        ValueError: one is.
    """
    if not 0 <= focal_px < float("inf"):
        raise ValueError(f"--focal-px is {focal_px}, expected pixels, more than 0")
    if principal_point is not None and not all(map(isfinite, principal_point)):
        raise ValueError(f"--principal-point is {principal_point}, expected two finite numbers")


def full_frame_poses(
    points: np.ndarray, cameras: list[IntrinsicsCamera], intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rigid motions from the crops' camera spaces to the photographs'.

    Args:
        points: [B, N, 3] of each face in its crop camera's space, mm, the package's axes.
        cameras: of the B crops, in px of their photographs.
        intrinsics: K [B, 3, 3] of the photographs.

    Returns:
        Q [B, 3, 3] and q [B, 3] mm: points go to Q p + q, in the package's axes; and the root mean square
        distance of the points' pixels [B].
    """
    p = np.asarray(points, np.float64) * _AXES
    focal = np.array([c.fx for c in cameras])[:, None]
    centre = np.array([[c.cx, c.cy] for c in cameras])
    seen = p[..., :2] / p[..., 2:] * focal[..., None] + centre[:, None]  # [B, N, 2]
    middle = p.mean(1)
    k = intrinsics[:, 0, 0][:, None]
    own = intrinsics[:, :2, 2]
    # The start: as large and in the same place, without a turn.
    depth = middle[:, 2:] * k / focal
    place = seen.mean(1)
    start = np.concatenate([(place - own) / k * depth, depth], 1)
    turn, shift = np.broadcast_to(np.eye(3), (len(p), 3, 3)).copy(), start
    inside = p - middle[:, None]
    for _ in range(_STEPS):
        turned = inside @ turn.transpose(0, 2, 1)
        x, y, z = np.moveaxis(turned + shift[:, None], -1, 0)
        residual = np.stack([k * x / z, k * y / z], -1) + own[:, None] - seen
        zero, inverse = np.zeros_like(z), 1 / z
        rows = k[..., None, None] * np.stack(
            [
                np.stack([inverse, zero, -x * inverse**2], -1),
                np.stack([zero, inverse, -y * inverse**2], -1),
            ],
            2,
        )  # [B, N, 2, 3]: pixels by the point
        # A small turn w moves a point by w x r: row . (w x r) = w . (r x row).
        by_turn = np.cross(turned[:, :, None], rows)
        jacobian = np.concatenate([by_turn, rows], -1).reshape(len(p), -1, 6)
        normal = jacobian.transpose(0, 2, 1) @ jacobian
        gradient = jacobian.transpose(0, 2, 1) @ residual.reshape(len(p), -1, 1)
        # A flat or tiny mesh leaves a turn open: then it stays as it is.
        damping = 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        step = -np.linalg.solve(normal + damping, gradient)[..., 0]
        turn = _rotations(step[:, :3]) @ turn
        shift = shift + step[:, 3:]
        if np.abs(step[:, :3]).max() < 1e-7 and np.abs(step[:, 3:]).max() < 1e-5:
            break
    final = inside @ turn.transpose(0, 2, 1) + shift[:, None]
    pixels = final[..., :2] / final[..., 2:] * k[..., None] + own[:, None]
    error = np.sqrt(((pixels - seen) ** 2).sum(-1).mean(1))
    translation = shift - (turn @ middle[..., None])[..., 0]
    flip = np.diag(_AXES)
    return flip @ turn @ flip, translation * _AXES, error


def extrinsics_of(rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """[3, 4] in the axes of `PhotoFrame` of v_cam = R v + s in the package's."""
    return _AXES[:, None] * np.concatenate([rotation, shift[:, None]], 1)


def _rotations(vectors: np.ndarray) -> np.ndarray:
    """Axis-angle vectors [B, 3] to matrices [B, 3, 3] (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = (vectors / np.maximum(angle[..., 0], 1e-12)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
