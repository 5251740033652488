"""Linear irradiance of a face's drawn surface under any light, shadows of its own included."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.render.blur import blurred
from mofa_nvdr.scene.illumination import Illumination
from mofa_nvdr.scene.lighting import sh_basis
from mofa_nvdr.scene.visibility import (
    cone_directions,
    shadowed_transfer,
    sphere_directions,
    visible_directions,
)

# mm, deviations of a blur of normals: finer forms are the person's own, which no model knows; and those where
# the model is wrong.
_FORM, _ROUGH_FORM = 5.0, 12.0
# mm, the same of how far normals point up: models' sockets are shallow and their cheeks even, so that light
# from above drew bright bars over the nose and below the eyes. From the side finer forms are believed.
_UPRIGHT_FORM, _ROUGH_UPRIGHT_FORM = 7.0, 18.0
_SOFT = 4.0  # mm, the same of shadows: penumbras, and errors of the form
_DIRECTIONS = 96
_LAMP = math.radians(12)  # half the width of a lamp, as of a soft box
_LAMP_DIRECTIONS = 9


class Surface:
    """The pixels of a drawn mesh, and which light reaches them; shadows are looked for once.

    Args:
        drawn: [H, W, 6] positions, mm in camera space, and normals.
        mask: [H, W] 1 where the mesh is: P pixels.
        scale: px in a millimetre.
        casters: vertices [V, 3] mm and triangles [T, 3] of what casts shadows.
        shadows: it does.
        rough: [H, W] how little of the form is known, 0 to 1; None: it is, as far as anywhere.
    """

    def __init__(
        self,
        drawn: Tensor,
        mask: Tensor,
        scale: float,
        casters: tuple[Tensor, Tensor],
        shadows: bool = True,
        rough: Tensor | None = None,
    ) -> None:
        self._inside, self._scale = mask > 0, scale
        self._casters, self._shadows = casters, shadows
        self._normals = drawn[..., 3:][self._inside]  # [P, 3]
        share = torch.zeros_like(mask) if rough is None else rough
        share = share[self._inside][:, None]
        level = self._form(self._normals[:, ::2], (_FORM, _ROUGH_FORM), share)
        upright = self._form(self._normals[:, 1:2], (_UPRIGHT_FORM, _ROUGH_UPRIGHT_FORM), share)
        self._normals = torch.cat([level[:, :1], upright, level[:, 1:]], 1)
        self._normals = F.normalize(self._normals, dim=1)
        # Shadows are looked for at every fourth pixel: they are blurred over more.
        self._sparse = torch.zeros_like(self._inside)
        self._sparse[::2, ::2] = self._inside[::2, ::2]
        if not bool(self._sparse.any()):
            self._sparse = self._inside
        self._points = drawn[..., :3][self._sparse]  # [S, 3]
        self._point_normals = self._normals[self._sparse[self._inside]]
        self._transfer = sh_basis(self._normals)
        if shadows:
            directions = sphere_directions(_DIRECTIONS)
            visible = self._visible(directions)
            lit = shadowed_transfer(self._point_normals, directions, visible)
            lost = sh_basis(self._point_normals) - lit
            self._transfer -= self._blurred(lost, _SOFT, self._sparse)

    def __call__(self, light: Illumination) -> Tensor:
        """Irradiance [P, 3] at the pixels of the mesh, row by row."""
        out = self._transfer @ light.sh
        for towards, color in zip(light.directions, light.colors):
            cone = cone_directions(towards, _LAMP, _LAMP_DIRECTIONS)
            arriving = (self._normals @ cone.T).clamp(min=0).mean(1, keepdim=True)  # [P, 1]
            if self._shadows:
                cosine = (self._point_normals @ cone.T).clamp(min=0)
                lost = (cosine * (1 - self._visible(cone).T)).mean(1, keepdim=True)
                arriving = (arriving - self._blurred(lost, _SOFT, self._sparse)).clamp(min=0)
            out = out + arriving * color
        return out

    def spread(self, values: Tensor, where: Tensor | None = None) -> Tensor:
        """Values of pixels [P, C] as a picture [C, H, W], zeros elsewhere.

        Args:
            values: of the mesh's pixels, row by row.
            where: [H, W] bool, other P pixels; None: the mesh's.
        """
        where = self._inside if where is None else where
        out = values.new_zeros(*where.shape, values.shape[1])
        out[where] = values
        return out.permute(2, 0, 1)

    def _form(self, values: Tensor, lengths: tuple[float, float], share: Tensor) -> Tensor:
        """Values [P, C] blurred by the first length, and by the second where a share [P, 1] is 1."""
        fine, coarse = (self._blurred(values, length) for length in lengths)
        return fine.lerp(coarse, share)

    def _visible(self, directions: Tensor) -> Tensor:
        return visible_directions(self._points, self._point_normals, directions, *self._casters)

    def _blurred(self, values: Tensor, length: float, where: Tensor | None = None) -> Tensor:
        """Values under a Gaussian of a deviation in mm, of what is known: [P, C] at the mesh's pixels."""
        picture = self.spread(torch.cat([values, torch.ones_like(values[:, :1])], 1), where)
        rows, columns = self._inside.any(1).nonzero()[:, 0], self._inside.any(0).nonzero()[:, 0]
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        sigma = max(length * self._scale, 1.0)  # px; less would leave gaps
        soft = blurred(picture[None, :, top:bottom, left:right], sigma, "constant")[0]
        inside = soft.permute(1, 2, 0)[self._inside[top:bottom, left:right]]
        return inside[:, :-1] / inside[:, -1:].clamp(min=1e-6)
