"""As much of PyTorch3D's meshes and cameras as its rasterizer asks of them: see the module `pytorch3d`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.compat.inputs import floating, number


class Meshes:
    """Meshes of any sizes.

    Args:
        verts: [N, V, 3], or a list of [V, 3].
        faces: [N, F, 3], or a list of [F, 3]; integers. Rows of a tensor that hold -1 are padding.

    Raises:
        ValueError: another number of faces than of verts, another shape, or parts on several devices.
        TypeError: not tensors, or lists of them; vertices that are not floats.
    """

    def __init__(self, verts: Tensor | Sequence[Tensor], faces: Tensor | Sequence[Tensor]) -> None:
        for name, given in (("verts", verts), ("faces", faces)):
            if not isinstance(given, (Tensor, list, tuple)):
                raise TypeError(
                    f"Meshes: {name} is a {type(given).__name__}, expected a torch.Tensor or a list of them"
                )
        if len(verts) != len(faces) or not len(verts):
            raise ValueError(
                f"Meshes: verts has {len(verts)} meshes and faces has {len(faces)}, expected as many, at "
                "least one"
            )
        for k, (points, triangles) in enumerate(zip(verts, faces)):
            for name, part in (("verts", points), ("faces", triangles)):
                if not isinstance(part, Tensor):
                    raise TypeError(
                        f"Meshes: {name}[{k}] is a {type(part).__name__}, expected a torch.Tensor"
                    )
                if part.device != verts[0].device:
                    raise ValueError(
                        f"Meshes: {name}[{k}] is on {part.device}, but verts[0] is on {verts[0].device}; "
                        "move both to one device"
                    )
                if part.ndim != 2 or part.shape[1] != 3:
                    raise ValueError(
                        f"Meshes: {name}[{k}] is {list(part.shape)}, expected [{name[0].upper()}, 3]"
                    )
            floating("Meshes", f"verts[{k}]", points)
        self._verts = list(verts)
        self._faces = [part[(part >= 0).all(1)].long() for part in faces]

    def __len__(self) -> int:
        return len(self._verts)

    @property
    def device(self) -> torch.device:
        """Where the vertices are."""
        return self._verts[0].device

    def verts_list(self) -> list[Tensor]:
        """[V, 3] of each mesh."""
        return self._verts

    def faces_list(self) -> list[Tensor]:
        """[F, 3] of each mesh."""
        return self._faces

    def verts_packed(self) -> Tensor:
        """[sum of V, 3]."""
        return torch.cat(self._verts)

    def faces_packed(self) -> Tensor:
        """[sum of F, 3], numbers of `verts_packed`."""
        firsts = self.mesh_to_verts_packed_first_idx().tolist()
        return torch.cat([part + first for part, first in zip(self._faces, firsts)])

    def verts_padded(self) -> Tensor:
        """[N, most V, 3], zeros behind the shorter ones."""
        return torch.nn.utils.rnn.pad_sequence(self._verts, batch_first=True)

    def num_verts_per_mesh(self) -> Tensor:
        """[N]."""
        return torch.tensor([len(part) for part in self._verts], device=self.device)

    def num_faces_per_mesh(self) -> Tensor:
        """[N]."""
        return torch.tensor([len(part) for part in self._faces], device=self.device)

    def mesh_to_verts_packed_first_idx(self) -> Tensor:
        """[N]."""
        counts = self.num_verts_per_mesh()
        return counts.cumsum(0) - counts

    def mesh_to_faces_packed_first_idx(self) -> Tensor:
        """[N]."""
        counts = self.num_faces_per_mesh()
        return counts.cumsum(0) - counts

    def update_padded(self, new_verts_padded: Tensor) -> Meshes:
        """The same faces with other vertices [N, most V, 3]."""
        counts = [len(part) for part in self._verts]
        verts = [rows[:count] for rows, count in zip(new_verts_padded, counts)]
        return Meshes(verts, self._faces)


class _Transform:
    """Row vectors times [N, 4, 4], then divided by the last coordinate."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def transform_points(self, points: Tensor, eps: float | None = None) -> Tensor:
        """[N, P, 3] or [P, 3] -> the same.

        Args:
            points: to be transformed.
            eps: keeps the divisor at least so far from zero.
        """
        homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1) @ self.matrix
        divisor = homogeneous[..., 3:]
        if eps is not None:
            sign = torch.where(divisor < 0, -1.0, 1.0)
            divisor = sign * divisor.abs().clamp(min=eps)
        return homogeneous[..., :3] / divisor


class PerspectiveCameras:
    """Pinhole cameras by focal length and principal point; X_view = X_world R + T.

    Args:
        focal_length: a number, [N], or [N, 2]; in NDC, or pixels.
        principal_point: [N, 2]; in NDC (x left, y up), or pixels (x right, y down from the top left corner).
        R: [N, 3, 3] for row vectors; None: the identity.
        T: [N, 3]; None: zero.
        in_ndc: whether focal length and principal point are in NDC.
        image_size: [N, 2] or [1, 2] (height, width) in pixels; needed unless in_ndc.
        device: where all of it goes; None: where the first tensor of R, T and the others is.

    Raises:
        ValueError: pixels without image_size, other shapes, or numbers of cameras that differ.
        TypeError: what makes no tensor of floats.
    """

    def __init__(
        self,
        focal_length: Any = 1.0,
        principal_point: Any = ((0.0, 0.0),),
        R: Tensor | None = None,  # noqa: N803 (the peer's names)
        T: Tensor | None = None,  # noqa: N803
        in_ndc: bool = True,
        image_size: Any = None,
        device: Any = None,
    ) -> None:
        name = type(self).__name__
        if device is None:
            given = (R, T, focal_length, principal_point)
            device = next((part.device for part in given if isinstance(part, Tensor)), None)
        focal = _floats(name, "focal_length", focal_length, device)
        focal = focal.view(-1, 1) if focal.ndim < 2 else focal
        if focal.ndim != 2 or focal.shape[1] not in (1, 2) or not len(focal):
            raise ValueError(
                f"{name}: focal_length is {list(focal.shape)}, expected a number, [N] or [N, 2]"
            )
        focal = focal.expand(-1, 2)
        centre = _floats(name, "principal_point", principal_point, device, 2)
        if not in_ndc:
            if image_size is None:
                raise ValueError(
                    f"{name}: image_size is None, expected (height, width) of the "
                    "picture, because focal length and principal point are in pixels (in_ndc=False)"
                )
            size = _floats(name, "image_size", image_size, device)
            size = _floats(name, "image_size", size[None] if size.ndim == 1 else size, device, 2)
            half = size.amin(1, keepdim=True) / 2
            focal, centre = focal / half, (size.flip(1) / 2 - centre) / half
        turn = torch.eye(3, device=focal.device)[None] if R is None else R
        shift = torch.zeros(1, 3, device=focal.device) if T is None else T
        self.R, self.T = (
            _floats(name, "R", turn, device, 3, 3),
            _floats(name, "T", shift, device, 3),
        )
        self._focal, self._centre = focal, centre
        counts = {len(part) for part in (self.R, self.T, focal, centre)} - {1}
        if len(counts) > 1:
            raise ValueError(
                f"{name}: R, T, focal_length and principal_point are for "
                f"{', '.join(map(str, sorted(counts)))} cameras, expected one number"
            )
        self._count = max(counts, default=1)

    def __len__(self) -> int:
        return self._count

    @property
    def device(self) -> torch.device:
        """Where the cameras are."""
        return self.R.device

    def to(self, device: Any) -> PerspectiveCameras:
        """The cameras on another device, in place."""
        self.R, self.T = self.R.to(device), self.T.to(device)
        self._focal, self._centre = self._focal.to(device), self._centre.to(device)
        return self

    def is_perspective(self) -> bool:
        """Yes."""
        return True

    def get_znear(self) -> float | Tensor | None:
        """None: no near plane."""
        return None

    def get_world_to_view_transform(self, **_: Any) -> _Transform:
        """World space to camera space."""
        count = max(len(self.R), len(self.T))
        matrix = torch.zeros(count, 4, 4, device=self.R.device, dtype=self.R.dtype)
        matrix[:, :3, :3] = self.R
        matrix[:, 3, :3] = self.T
        matrix[:, 3, 3] = 1
        return _Transform(matrix)

    def get_ndc_camera_transform(self, **_: Any) -> _Transform:
        """Nothing more to do: `transform_points` ends in NDC."""
        return _Transform(torch.eye(4, device=self.R.device)[None])

    def transform_points(self, points: Tensor, eps: float | None = None, **_: Any) -> Tensor:
        """World space [N, P, 3] to NDC; z is one over the distance."""
        x, y, z = self.get_world_to_view_transform().transform_points(points).unbind(-1)
        if eps is not None:
            z = torch.where(z < 0, -1.0, 1.0) * z.abs().clamp(min=eps)
        focal, centre = self._focal[:, None], self._centre[:, None]
        return torch.stack(
            [
                focal[..., 0] * x / z + centre[..., 0],
                focal[..., 1] * y / z + centre[..., 1],
                1 / z,
            ],
            dim=-1,
        )


class FoVPerspectiveCameras(PerspectiveCameras):
    """Pinhole cameras by field of view.

    Args:
        znear: distance at whose half faces are cut.
        zfar: kept.
        aspect_ratio: of a pixel's width to its height.
        fov: vertical field of view.
        degrees: whether it is in degrees, else radians.
        R: as in `PerspectiveCameras`, like the next two.
        T: as there.
        device: as there.

    Raises:
        ValueError: as there, or a field of view that is not between 0 and 180 degrees.
        TypeError: as there, or a znear that is no number.
    """

    def __init__(
        self,
        znear: float | Tensor = 1.0,
        zfar: float | Tensor = 100.0,
        aspect_ratio: float | Tensor = 1.0,
        fov: float | Tensor = 60.0,
        degrees: bool = True,
        R: Tensor | None = None,  # noqa: N803
        T: Tensor | None = None,  # noqa: N803
        device: Any = None,
    ) -> None:
        name = type(self).__name__
        if device is None:
            given = (R, T, fov, aspect_ratio)
            device = next((part.device for part in given if isinstance(part, Tensor)), None)
        angle = _floats(name, "fov", fov, device).view(-1)
        angle = angle * (math.pi / 180) if degrees else angle
        if not bool(((angle > 0) & (angle < math.pi)).all()):
            raise ValueError(
                f"{name}: fov is {fov}, expected more than 0 and less than 180 degrees"
            )
        if not isinstance(znear, Tensor):
            number(name, "znear", znear)
        focal = 1 / torch.tan(angle / 2)
        wide = _floats(name, "aspect_ratio", aspect_ratio, device).view(-1)
        focal = torch.stack(torch.broadcast_tensors(focal / wide, focal), -1)
        super().__init__(focal, R=R, T=T, device=device)
        self.znear, self.zfar = znear, zfar

    def get_znear(self) -> float | Tensor | None:
        """As given."""
        return self.znear


def _floats(who: str, name: str, value: Any, device: Any, *rows: int) -> Tensor:
    """A float32 tensor on the device; with rows [N, *rows], N above 0."""
    try:
        found = torch.as_tensor(value, dtype=torch.float32, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{who}: {name} is a {type(value).__name__}, expected numbers or a torch.Tensor"
        ) from None
    if rows and (found.shape[1:] != rows or not len(found)):
        raise ValueError(
            f"{who}: {name} is {list(found.shape)}, expected [N, {', '.join(map(str, rows))}]"
        )
    return found
