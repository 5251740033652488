"""The rest of a head around a face mesh: skull, ears, neck, shoulders and hair, made for training pictures.

A face model ends at the ears and the hairline. Here rough shapes continue from there, posed and lit as the
face is and depth-tested against it, so that an encoder trained on renders meets foreheads, necks and
fringes before it meets photographs. They carry no ground truth and are not part of any code.

Directions are those of the model space: +x the subject's left, +y up, +z out of the face; azimuth 0 is
the front, 90 degrees the left ear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.data.random_numbers import Draws
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.landmarks import EYES
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import Geometry
from mofa_nvdr.scene.camera import BaseCamera
from mofa_nvdr.scene.pose import axis_angle_to_matrix

SKIN, HAIR, CLOTH = 0, 1, 2  # parts, as labels of triangles
_LOFT, _RINGS = 144, 10  # points of the mesh's border and rings from it to the back of the head
_OVERLAP = -0.03  # where the rings begin, as a share of the way
_HAIR = (40, 128)  # rows from the crown down, columns around
_BODY = (12, 28)
_EAR = (7, 10)
_PARTS_OF_HAIR_COLOR = torch.tensor(
    [[0.06, 0.05, 0.05], [0.14, 0.10, 0.08], [0.26, 0.17, 0.11], [0.40, 0.27, 0.17],
     [0.72, 0.58, 0.40], [0.62, 0.60, 0.58], [0.34, 0.15, 0.08]]
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """What is drawn around a face.

    Attributes:
        vertices: [B, V, 3] mm in camera space. albedo: [B, V, 3].
        hair_color: [B, 3], under a hat too.
    """

    vertices: Tensor
    albedo: Tensor
    hair_color: Tensor


class HeadShape:
    """Rough heads that fit a face model's mesh.

    Args:
        model: the face model.
        camera: places heads as it places faces.
        hair: heads have hair; False: `bare` alone can be asked for, and the rest takes a fifth of the time.

    Attributes:
        triangles: [T, 3] int32 of all parts together.
        part: [T] int64, SKIN, HAIR or CLOTH.
    """

    def __init__(self, model: FaceModel, camera: BaseCamera, hair: bool = True) -> None:
        device = model.mean_shape.device
        self.camera = camera
        mean = model.mean_shape.detach().cpu().double().numpy()
        loop = border(model.triangles.cpu().numpy())
        self._loop = torch.from_numpy(loop[np.linspace(0, len(loop), _LOFT, False).astype(int)])
        self._loop = self._loop.to(device)
        eyes = mean[model.landmarks.cpu().numpy()[list(EYES)]].mean(0)
        self._width = float(np.abs(mean[:, 0]).max())
        self._center = torch.tensor([0.0, eyes[1], mean[:, 2].min()], dtype=torch.float32)
        self._center = self._center.to(device)
        pole = F.normalize(torch.tensor([0.0, 0.3, -1.0]), dim=0)
        self._pole = pole.to(device)
        points = torch.from_numpy(mean).float().to(device)
        self._low = F.normalize(points[self._loop] - self._center, dim=1)[:, 1].neg().clamp(min=0)
        skull = self._skull(points[None, self._loop])
        if hair:
            self._hair_radius = self._support(torch.cat([points, skull.flatten(0, 2)]))
        self._mean_size = (points[self._loop] - self._center).norm(dim=1).mean()

        faces, parts, start = [], [], 0
        counts = ((_RINGS, _LOFT), _EAR, _EAR, _BODY, _HAIR)
        kinds = (SKIN, SKIN, SKIN, CLOTH, HAIR)
        for (rows, columns), part in list(zip(counts, kinds))[: 5 if hair else 4]:
            grid = _grid_triangles(rows, columns)
            faces.append(grid + start)
            label = np.full(len(grid), part)
            if part == CLOTH:  # the neck's rows
                label[: 2 * columns * _NECK_ROWS] = SKIN
            parts.append(label)
            start += rows * columns
        triangles = np.concatenate(faces)
        flipped = self._inside_out(triangles, parts, points)
        triangles[flipped] = triangles[flipped][:, ::-1]
        self.triangles = torch.from_numpy(triangles.astype(np.int32)).to(device)
        self.part = torch.from_numpy(np.concatenate(parts)).to(device)

    def __call__(self, code: FaceCode, geometry: Geometry, model: FaceModel, d: Draws) -> Head:
        """Random surroundings of decoded faces.

        Args:
            code: B faces.
            geometry: the same, decoded.
            model: the face model.
            d: randomness for B samples.
        """
        points = model.vertices(code.shape, code.expression, self._loop)  # [B, L, 3]
        border_color = geometry.albedo[:, self._loop]
        skin = border_color.mean(1)  # [B, 3]
        skull = self._skull(points)
        fade = torch.linspace(0, 1, _RINGS, device=d.device).view(1, -1, 1, 1)
        skull_color = border_color[:, None] * (1 - fade) + skin[:, None, None] * fade
        size = (points - self._center).norm(dim=2).mean(1) / self._mean_size
        ears, ear_color = self._ears(size, skin, d)
        body, body_color = self._body(size, skin, d)
        hair, hair_color, base = self._hair(size, d)

        rotation = axis_angle_to_matrix(code.rotation)
        turned = torch.cat([skull.flatten(1, 2), ears, hair], dim=1)
        turned = self.camera.to_camera(turned, rotation, code.translation)
        # Shoulders follow a turn of the head by a third.
        third = axis_angle_to_matrix(code.rotation / 3)
        body = self.camera.to_camera(body, third, code.translation)
        split = skull.shape[1] * skull.shape[2] + ears.shape[1]
        return Head(
            torch.cat([turned[:, :split], body, turned[:, split:]], dim=1),
            torch.cat([skull_color.flatten(1, 2), ear_color, body_color, hair_color], 1).clamp(
                0, 1
            ),
            base,
        )

    def bare(self, code: FaceCode, geometry: Geometry, model: FaceModel) -> Tensor:
        """Skull, ears, neck and shoulders without hair, average ones: [B, V, 3] mm in camera space.

        In the order of `__call__`, and of the triangles that are no hair.
        """
        points = model.vertices(code.shape, code.expression, self._loop)
        size = (points - self._center).norm(dim=2).mean(1) / self._mean_size
        skin = geometry.albedo.mean(1)
        d = Draws([np.random.default_rng(0) for _ in range(len(points))], points.device)
        ears, body = self._ears(size, skin, d)[0], self._body(size, skin, d)[0]
        turned = torch.cat([self._skull(points).flatten(1, 2), ears], dim=1)
        turned = self.camera.to_camera(
            turned, axis_angle_to_matrix(code.rotation), code.translation
        )
        body = self.camera.to_camera(
            body, axis_angle_to_matrix(code.rotation / 3), code.translation
        )
        return torch.cat([turned, body], dim=1)

    def _skull(self, points: Tensor) -> Tensor:
        """Rings [B, R, L, 3] from the mesh's border [B, L, 3] to the back of the head."""
        away = points - self._center
        radius = away.norm(dim=2, keepdim=True)  # [B, L, 1]
        direction = away / radius.clamp(min=1e-3)
        angle = (direction @ self._pole).clamp(-0.999, 0.999).acos()[..., None]
        rings = []
        for ring in range(_RINGS):
            # The first ring lies within the border: a face is drawn over it, and no gap shows.
            t = _OVERLAP + ring / (_RINGS - 1) * (1 - _OVERLAP)
            turned = (((1 - t) * angle).sin() * direction + (t * angle).sin() * self._pole) / (
                angle.sin()
            )
            smooth = max(t, 0.0) ** 2 * (3 - 2 * t)
            length = radius + (1.35 * self._width - radius) * smooth
            # Under the jaw the surface goes back, not down.
            length = length * (
                1 - 0.42 * self._low[:, None] * math.sin(math.pi * min(1, 1.4 * max(t, 0)))
            )
            rings.append(self._center + turned * length)
        return torch.stack(rings, dim=1)

    def _support(self, points: Tensor) -> Tensor:
        """Largest distance of the head from its centre around each direction of the hair, [rows, columns]."""
        directions = _sphere(*_HAIR).to(points.device)  # [R, C, 3]
        away = points[:: max(1, len(points) // 6000)] - self._center
        distance = away.norm(dim=1)
        near = (directions.flatten(0, 1) @ F.normalize(away, dim=1).T) > math.cos(math.radians(9))
        radius = torch.where(near, distance, 0.0).amax(1)
        radius = torch.where(radius > 0, radius, 1.2 * self._width).view(1, 1, *_HAIR)
        padded = F.pad(F.pad(radius, (3, 3, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")
        return F.avg_pool2d(padded, (3, 7), stride=1)[0, 0]

    def _ears(self, size: Tensor, skin: Tensor, d: Draws) -> tuple[Tensor, Tensor]:
        ball = _sphere(*_EAR).to(d.device).flatten(0, 1)
        spread = self._width * size * d.uniform(0.95, 1.06)
        flap = d.uniform(0.1, 0.7)
        both = []
        for side in (1.0, -1.0):
            # Flat, upright, leaning away from the head towards the back.
            x, y, z = 0.05 * ball[:, 0], 0.40 * ball[:, 1], 0.22 * ball[:, 2]
            lean = flap[:, None]
            out = side * (x * lean.cos() - z * lean.sin())
            back = x * lean.sin() + z * lean.cos()
            place = torch.stack([out, y.expand_as(out), back], dim=2) * self._width
            offset = torch.stack([side * spread, -0.14 * self._width + 0 * spread, 0 * spread], 1)
            both.append(place + (self._center + offset)[:, None])
        tint = torch.tensor([1.02, 0.88, 0.84], device=d.device)
        fold = (1 - 0.35 * (ball[:, 0].abs() > 0.5).float())[None, :, None]
        color = (skin * tint)[:, None] * d.uniform(0.75, 1.05)[:, None, None] * fold
        return torch.cat(both, dim=1), color.repeat(1, 2, 1)

    def _body(self, size: Tensor, skin: Tensor, d: Draws) -> tuple[Tensor, Tensor]:
        """Neck and shoulders: a tube that widens, rows from the top."""
        rows, columns = _BODY
        w = self._width
        neck, slope = d.uniform(0.62, 0.86), d.uniform(1.8, 3.2)
        top, length = -0.35, d.uniform(1.15, 1.75)
        height = torch.linspace(0, 1, rows, device=d.device)  # 0 in the head, 1 below the picture
        drop = top - 2.6 * height * torch.ones_like(length)[:, None]
        below = (-(drop + length[:, None])).clamp(min=0)  # under the collar bones
        across = neck[:, None] + slope[:, None] * below.clamp(max=0.8) + 0.15 * below
        deep = 0.72 * neck[:, None] + 0.8 * below.clamp(max=0.9)
        around = torch.arange(columns, device=d.device) / columns * 2 * math.pi
        x = across[..., None] * around.sin()
        z = deep[..., None] * around.cos() - 0.25
        y = drop[..., None].expand_as(x)
        vertices = torch.stack([x, y, z], dim=-1) * (w * size)[:, None, None, None] + self._center
        folds = 1 + 0.12 * d.noise(rows, columns)[..., None]
        cloth = d.color(0.03, 0.85, 0.45)[:, None, None] * folds
        shade = torch.linspace(0.75, 1, rows, device=d.device)[None, :, None, None]
        neck_color = skin[:, None, None] * d.uniform(0.75, 1.0)[:, None, None, None] * shade
        is_cloth = torch.arange(rows, device=d.device)[None, :, None, None] > _NECK_ROWS
        color = torch.where(is_cloth, cloth, neck_color.expand_as(cloth))
        return vertices.flatten(1, 2), color.flatten(1, 2)

    def _hair(self, size: Tensor, d: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """A shell around the skull that dips into it where there is no hair."""
        rows, columns = _HAIR
        direction = _sphere(rows, columns).to(d.device)
        elevation = direction[..., 1].clamp(-1, 1).asin()[None]  # [1, R, C]
        azimuth = torch.atan2(direction[..., 0], direction[..., 2])[None]
        degree = math.pi / 180

        def of_batch(value: Tensor) -> Tensor:
            return value.view(-1, 1, 1)

        fringe, long, bald, hat = (d.chance(p) for p in (0.3, 0.4, 0.07, 0.05))
        front = torch.where(fringe > 0, d.uniform(15, 30), d.uniform(33, 50))
        front = torch.where(hat > 0, d.uniform(18, 32), front)
        side, nape = d.uniform(-14, 16), d.uniform(-45, -20)
        back = _smooth((azimuth.abs() - 95 * degree) / (50 * degree))
        aside = _smooth((azimuth.abs() - 22 * degree) / (62 * degree))
        line = of_batch(front) + of_batch(side - front) * aside + of_batch(nape - side) * back
        line = line + of_batch(d.uniform(-9, 9)) * azimuth.sin() * (1 - back)  # a parting
        curtain = of_batch(long * (1 - hat) * (1 - bald)) * _smooth(
            (azimuth.abs() - of_batch(d.uniform(55, 95)) * degree) / (12 * degree)
        )
        line = line - 200 * curtain + 200 * of_batch(bald)
        ragged = _around(d.noise(1, 1, 40), columns) * 3.0 * of_batch(1 - hat)
        amount = _smooth((elevation / degree - line + ragged) / 7 + 0.5)

        volume = of_batch(d.uniform(0.02, 0.2)) * (0.5 + 0.5 * (elevation.sin() + 0.4).clamp(0, 1))
        lumps = 0.03 * F.interpolate(d.noise(1, 7, 18), (rows, columns), mode="bicubic")[:, 0]
        shell = self._hair_radius * (1 + volume + lumps * of_batch(1 - hat))
        # Deep inside where there is none: behind the mouth's cavity too.
        inner = 0.4 * self._hair_radius
        radius = inner + (shell - inner) * amount.sqrt()
        vertices = direction * radius[..., None]
        # Long hair hangs down from the height of the ears.
        start = -6 * degree
        below = ((start - elevation) / (start + math.pi / 2)).clamp(min=0)  # [1, R, C]
        flat = F.normalize(direction * direction.new_tensor([1.0, 0.0, 1.0]), dim=-1)
        reach = shell[:, rows // 2 : rows // 2 + 1] * (1 + of_batch(d.uniform(-0.1, 0.25)) * below)
        hanging = flat * reach[..., None]
        fall = reach * math.sin(start) - of_batch(d.uniform(0.9, 3.2)) * self._width * below
        hanging = torch.cat([hanging[..., :1], fall[..., None], hanging[..., 2:]], dim=-1)
        hangs = (curtain * (below > 0))[..., None]
        vertices = vertices + (hanging - vertices) * hangs
        vertices = vertices * size.view(-1, 1, 1, 1) + self._center

        kind = (d.uniform() * len(_PARTS_OF_HAIR_COLOR)).long()
        base = _PARTS_OF_HAIR_COLOR.to(d.device)[kind] * d.uniform(0.6, 1.5)[:, None]
        natural = base.clamp(0, 1)
        base = torch.where(hat[:, None] > 0, d.color(0.03, 0.8, 0.6), base).clamp(0, 1)
        strands = 0.22 * _around(d.noise(1, 1, columns), columns) + 0.16 * _around(
            d.noise(1, 6, columns // 2), columns, rows
        )
        strands = (1 + strands * of_batch(1 - 0.8 * hat)).clamp(min=0.3)
        color = base[:, None, None] * (strands * (0.6 + 0.4 * amount))[..., None]
        return vertices.flatten(1, 2), color.flatten(1, 2), natural

    def _inside_out(
        self, triangles: np.ndarray, parts: list[np.ndarray], points: Tensor
    ) -> np.ndarray:
        """Which triangles are clockwise seen from outside, by part, on an average head."""
        d = Draws([np.random.default_rng(0)], points.device)
        one = torch.ones(1, device=points.device)
        skin = torch.ones(1, 3, device=points.device)
        shapes = [self._skull(points[None, self._loop]).flatten(1, 2)]
        ears = self._ears(one, skin, d)[0]
        shapes += [ears, self._body(one, skin, d)[0]]
        if len(parts) > len(shapes) + 1:
            shapes.append(self._hair(one, d)[0])
        vertices = torch.cat(shapes, dim=1)[0].cpu().double().numpy()
        a, b, c = (vertices[triangles[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        flipped, start = np.zeros(len(triangles), bool), 0
        for labels in parts:
            part = slice(start, start + len(labels))
            start += len(labels)
            middle = vertices[np.unique(triangles[part])].mean(0)
            outward = (normal[part] * ((a + b + c)[part] / 3 - middle)).sum(1)
            flipped[part] = np.median(outward) < 0
        return flipped


_NECK_ROWS = 5  # of the body's rows, skin above the collar


def bare_head(
    model: FaceModel, camera: BaseCamera, code: FaceCode, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """A decoded face with a skull and a neck, without hair: what casts shadows on it.

    Args:
        model: the face model.
        camera: the decoder's.
        code: one face.
        geometry: the same, decoded.

    Returns:
        vertices [V, 3] mm in camera space, the face's first; triangles [T, 3] int32. Of a closed mesh, which
        has a back of its own, the face alone.
    """
    face, triangles = geometry.vertices[0], model.triangles
    try:
        shape = HeadShape(model, camera, hair=False)
    except ValueError:
        return face, triangles
    head = shape.bare(code, geometry, model)[0]
    return torch.cat([face, head]), torch.cat([triangles, shape.triangles + len(face)])


def border(triangles: np.ndarray) -> np.ndarray:
    """The longest loop of a mesh's border edges, vertex indices in order.

    Raises:
        ValueError: the mesh has no border.
    """
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, first, counts = np.unique(
        np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True
    )
    following = dict(edges[first[counts == 1]].tolist())
    longest: list[int] = []
    while following:
        start, place = following.popitem()
        loop = [start]
        while place in following:
            loop.append(place)
            place = following.pop(place)
        longest = max(longest, loop, key=len)
    if not longest:
        raise ValueError(
            "border: the face model's mesh is closed, expected an open border from which a head goes on; "
            "render such faces without surroundings (--plain, --synthetic.no-surroundings)"
        )
    return np.array(longest)


def _grid_triangles(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid [rows, columns] that is closed around its columns."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1], np.roll(index, -1, axis=1)[:-1]
    c, d = index[1:], np.roll(index, -1, axis=1)[1:]
    return np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], axis=2).reshape(-1, 3)


def _sphere(rows: int, columns: int) -> Tensor:
    """Unit directions [rows, columns, 3], from up to down and around from the back by the left."""
    elevation = torch.linspace(math.pi / 2 - 0.02, -math.pi / 2 + 0.02, rows)[:, None]
    azimuth = torch.arange(columns) / columns * 2 * math.pi - math.pi
    flat = elevation.cos()
    y = elevation.sin().expand(rows, columns)
    return torch.stack([flat * azimuth.sin(), y, flat * azimuth.cos()], dim=-1)


def _smooth(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _around(noise: Tensor, columns: int, rows: int = 1) -> Tensor:
    """Noise [B, 1, R, C] brought to [B, rows, columns], closed around its columns."""
    padded = F.pad(noise, (2, 2, 0, 0), mode="circular")
    scale = columns / noise.shape[-1]
    wide = F.interpolate(
        padded, (rows, round(padded.shape[-1] * scale)), mode="bilinear", align_corners=False
    )
    first = round(2 * scale)
    return wide[:, 0, :, first : first + columns]
