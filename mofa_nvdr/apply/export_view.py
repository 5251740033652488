"""How the camera of a photograph sees a face that is exported."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mofa_nvdr.apply.mesh_files import MeshCamera
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera
from mofa_nvdr.scene.pose import axis_angle_to_matrix


@dataclass(frozen=True)
class View:
    """A face before a camera, in the package's axes.

    Attributes:
        rotation: R [3, 3]. shift: t [3] mm: points v of the face model are at R v + t in camera space.
        camera: of the whole photograph; of files that don't know it, of the face's crop.
    """

    rotation: np.ndarray
    shift: np.ndarray
    camera: Camera | IntrinsicsCamera

    @property
    def off_centre(self) -> float:
        """How far the principal point is from the picture's centre, px."""
        if isinstance(self.camera, Camera):
            return 0.0
        height, width = self.camera.size
        return math.hypot(self.camera.cx - width / 2, self.camera.cy - height / 2)

    def place(self, vertices: np.ndarray) -> np.ndarray:
        """Points [..., 3] of the face model to camera space, mm."""
        return vertices @ self.rotation.T + self.shift

    def mesh_camera(self, scale: float, posed: bool) -> MeshCamera:
        """The camera next to a mesh of the face.

        Args:
            scale: of the mesh's unit, in a millimetre.
            posed: the mesh is in camera space; else in model space, and the camera stands before it.
        """
        height, width = self.camera.size
        if isinstance(self.camera, Camera):
            fx = fy = self.camera.focal_px
        else:
            fx, fy = self.camera.fx, self.camera.fy
        camera = MeshCamera(
            2 * math.atan(height / 2 / fy),
            width / height * fy / fx,
            self.camera.near * scale,
            self.camera.far * scale,
        )
        if posed:
            return camera
        position = -self.rotation.T @ self.shift * scale
        return replace(camera, rotation=self.rotation.T, position=position)


def view_of_code(code: FaceCode, camera: Camera) -> View:
    """As the camera of a code [1, ...] sees it."""
    rotation = axis_angle_to_matrix(code.rotation.double())[0].numpy()
    shift = code.translation[0].double().numpy() + np.array(camera.position)
    return View(rotation, shift, camera)


def view_of(face: FaceParameters) -> View:
    """As its photograph's camera sees it; as its crop's, where the file knows no other."""
    if face.frame is None:
        return view_of_code(face.code, face.camera)
    rotation, shift = face.frame.pose()
    distance = float(-shift[2])
    camera = face.frame.camera()
    # The near and far of any distance, not of a crop's.
    near, far = min(camera.near, distance / 4), max(camera.far, 2 * distance)
    if not 0 < near < far:
        return view_of_code(face.code, face.camera)
    return View(rotation, shift, replace(camera, near=near, far=far))
