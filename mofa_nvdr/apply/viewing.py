"""The pictures of a face that a person moves: what the viewer shows, without a browser.

A `ViewedFace` is what is known of a face and its photograph, shared and never changed; a `FaceView` is one
window on it. A window computes again only what its controls have changed: light alone draws no geometry.
While something moves, pictures are drafts; at rest they are drawn finer, with the sun's cast shadows.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mofa_nvdr import __version__
from mofa_nvdr.apply.export import ExportOptions, make_mesh
from mofa_nvdr.apply.expression_warp import ExpressionWarper
from mofa_nvdr.apply.glb_files import glb_bytes
from mofa_nvdr.apply.landmark_alignment import detected_points
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.apply.relighting import resized
from mofa_nvdr.apply.view_controls import LIGHT, MODES, POSE, SUN, FaceControls
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import FINER, PAPER, captioned, clay, png_bytes, to_uint8
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.shaders.sh_lambert import sh_lambert
from mofa_nvdr.shaders.unlit import Unlit

SIZE = 240  # px of a picture's side
_DRAFT_MAP = 96  # px of a crop's side in the maps of drafts of relit photographs
_SAVED_HEIGHT = 960  # px of a saved rendering
_COLUMNS = 3  # of the sheet
_KIND = "viewed face"


class ViewedFace:
    """A face, and its photograph where there is one; what any window on it needs, made once.

    Args:
        name: as it is shown.
        parameters: the face.
        model: its face model.
        photo: uint8 [H, W, 3], the photograph; None: the face alone.
        size: px of a picture's side.
    """

    def __init__(
        self,
        name: str,
        parameters: FaceParameters,
        model: FaceModel,
        photo: np.ndarray | None = None,
        size: int = SIZE,
    ) -> None:
        self.name, self.parameters, self.model, self.photo = name, parameters, model, photo
        self.size = size
        camera = resized(name, parameters.camera, size)
        self.decoder = FaceDecoder(model, camera=camera, frontal_only=False)
        self.finer = self.decoder.finer(FINER)

    @cached_property
    def crop(self) -> np.ndarray:
        """The photograph's crop as the pictures show it, uint8 [S, S, 3]; its edge repeats beyond it."""
        assert self.photo is not None
        x, y, side = (float(n) for n in self.parameters.crop)
        times = max(1, min(4, math.ceil(side / self.size)))
        step = side / (self.size * times)
        column = (x + (np.arange(self.size * times) + 0.5) * step).astype(np.int64)
        row = (y + (np.arange(self.size * times) + 0.5) * step).astype(np.int64)
        height, width = self.photo.shape[:2]
        large = self.photo[row.clip(0, height - 1)[:, None], column.clip(0, width - 1)[None]]
        if times == 1:  # smaller than it is shown: no squares
            box = (x, y, x + side, y + side)
            inside = x >= 0 and y >= 0 and x + side <= width and y + side <= height
            if inside:
                picture = Image.fromarray(self.photo)
                shown = (self.size, self.size)
                return np.asarray(picture.resize(shown, Image.Resampling.BICUBIC, box))
        return np.asarray(
            Image.fromarray(large).resize((self.size, self.size), Image.Resampling.BOX)
        )

    @cached_property
    def points(self) -> Tensor | None:
        """Landmarks in the photograph, [478, 2] px; None: without the networks."""
        assert self.photo is not None
        return detected_points(self.photo, self.parameters)

    @cached_property
    def draft_relighter(self) -> PhotoRelighter:
        """Relights `crop`, coarsely."""
        return PhotoRelighter(self.crop, self._in_crop, self.model, map_size=_DRAFT_MAP)

    @cached_property
    def crop_relighter(self) -> PhotoRelighter:
        """Relights `crop`."""
        return PhotoRelighter(self.crop, self._in_crop, self.model)

    @cached_property
    def draft_warper(self) -> ExpressionWarper:
        """Changes expressions in `crop`, coarsely."""
        return self._warper(self.size // 2)

    @cached_property
    def crop_warper(self) -> ExpressionWarper:
        """Changes expressions in `crop`."""
        return self._warper(self.size)

    @cached_property
    def photo_relighter(self) -> PhotoRelighter:
        """Relights the whole photograph."""
        assert self.photo is not None
        return PhotoRelighter(self.photo, self.parameters, self.model)

    def _warper(self, finest: int) -> ExpressionWarper:
        points = self.points
        if points is not None:
            corner = torch.from_numpy(np.asarray(self.parameters.crop[:2])).float()
            points = (points - corner) * (self.size / float(self.parameters.crop[2]))
        return ExpressionWarper(self.crop, self._in_crop, self.model, points, finest)

    def prepare(self) -> None:
        """Make what the first moves of light and expression need, before they come."""
        if self.photo is not None:
            _ = self.draft_relighter, self.draft_warper

    @property
    def _in_crop(self) -> FaceParameters:
        crop = np.array([0.0, 0.0, self.size])
        return dataclasses.replace(self.parameters, crop=crop)


class FaceView:
    """One window's face: its controls and the pictures that follow from them.

    Args:
        face: what is looked at.

    Attributes:
        controls: what can be moved.
        computed: how often each part was computed: "geometry", "albedo", "pixels", "shade", "relit", "warp".
    """

    def __init__(self, face: ViewedFace) -> None:
        self.face = face
        self.controls = FaceControls(face.model, face.parameters.code)
        self.computed: Counter[str] = Counter()
        self._kept: dict[tuple[str, bool], tuple[tuple[Any, ...], Any]] = {}
        names = ["geometry", "albedo", "rendering"]
        if face.photo is not None:
            names = ["photograph", "overlay", "relit", *names]
        blank = np.zeros((0, face.size, 3), np.uint8)
        self._captions = {name: captioned(blank, name) for name in names}

    @torch.no_grad()
    def pictures(self, fine: bool = False) -> dict[str, np.ndarray]:
        """The pictures by name, uint8 [S, S, 3].

        Args:
            fine: smooth outlines and cast shadows of the sun, for what does not move; takes 5 times as long.
        """
        mask, colors, normals = self._pixels(fine)
        shaded = self._shaded(fine)
        empty = torch.full_like(mask, PAPER)
        drawn = {
            "geometry": torch.lerp(empty, self._clay(normals, fine), mask),
            "albedo": torch.lerp(empty, colors, mask),
            "rendering": torch.lerp(empty, shaded, mask),
        }
        pictures = {name: to_uint8(picture)[0] for name, picture in drawn.items()}
        if self.face.photo is None:
            return pictures
        crop = self.face.crop
        photo = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 255
        overlay = to_uint8(torch.lerp(photo, shaded, mask))[0]
        return {"photograph": crop, "overlay": overlay, "relit": self._relit(fine), **pictures}

    def sheet(self, fine: bool = False) -> np.ndarray:
        """The pictures side by side with their names, uint8: 3 x 2, or 3 of a face without a photograph."""
        cells = [
            np.concatenate([picture, self._captions[name]])
            for name, picture in self.pictures(fine).items()
        ]
        rows = [np.concatenate(cells[k : k + _COLUMNS], 1) for k in range(0, len(cells), _COLUMNS)]
        return np.concatenate(rows)

    @torch.no_grad()
    def mesh(self) -> np.ndarray:
        """The vertices, turned as the controls say, about the head's middle: [V, 3] mm, +y up."""
        code = self.controls.code()
        turn = axis_angle_to_matrix(code.rotation)[0]
        vertices: np.ndarray = (self._form()[0] @ turn.T).numpy()
        return vertices

    def mesh_color(self) -> tuple[int, int, int]:
        """The skin's mean colour, 0 to 255."""
        with torch.no_grad():
            mean = self.face.model.albedo(self.face.parameters.code.albedo)[0].mean(0)
        red, green, blue = (mean.clamp(0, 1) * 255).round().int().tolist()
        return red, green, blue

    @torch.no_grad()
    def parameters(self) -> FaceParameters:
        """The face as it is now; it names its photograph as long as it lies on it."""
        face, c = self.face, self.controls
        code = c.code()
        same_place = not c.moved((POSE,))
        on_photo = same_place and not c.moved(c.form_groups)
        old = face.parameters
        decoder = FaceDecoder(face.model, camera=old.camera)
        marks = decoder.landmarks(decoder.geometry(code))[0].double().numpy()
        return dataclasses.replace(
            old,
            code=code,
            source=old.source if on_photo else "",
            source_hash=old.source_hash if on_photo else "",
            source_file="",  # nobody knows where a browser will put the file
            certainty=math.nan,
            photometric=math.nan,
            mask_fraction=math.nan,
            landmarks68=old.crop[:2] + marks * (old.crop[2] / old.camera.size[0]),
            frame=old.frame if same_place else None,
        )

    @torch.no_grad()
    def saved_picture(self) -> bytes:
        """A PNG: the whole photograph, relit and with the expression; without one, the rendering."""
        face, c = self.face, self.controls
        origin = origin_of(face.parameters)
        if face.photo is None:
            camera = resized(face.name, face.parameters.camera, _SAVED_HEIGHT)
            decoder = FaceDecoder(face.model, camera=camera, frontal_only=False)
            drawn = decoder(c.code())
            picture = to_uint8(
                torch.lerp(torch.full_like(drawn.image, PAPER), drawn.image, drawn.mask)
            )
            return png_bytes(picture[0], kind=_KIND, comment=origin)
        photo = face.photo
        if c.moved((SUN, LIGHT)):
            photo = face.photo_relighter(c.illumination(), c.values["exposure"])
        if c.moved(c.form_groups):
            warper = ExpressionWarper(photo, face.parameters, face.model, face.points)
            photo = warper(c.code())
        return png_bytes(photo, kind=_KIND, comment=origin)

    def saved_mesh(self) -> bytes:
        """A .glb of the face, with its named expressions as morph targets."""
        model, parameters = self.face.model, self.parameters()
        color = "texture" if model.uv is not None else "vertex"
        options = ExportOptions(color=color).resolved(Path("face.glb"), model)
        mesh = make_mesh(model, parameters.code, parameters.camera, options)
        mesh = dataclasses.replace(mesh, comments=(*mesh.comments, origin_of(parameters)))
        licence = " ".join(model.metadata.get("licence", "").split())
        return glb_bytes(mesh, licence, f"mofa-nvdr {__version__}")

    def _memo(self, what: str, fine: bool, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What was made last for the same key; else it is made, and counted."""
        kept = self._kept.get((what, fine))
        if kept is None or kept[0] != key:
            self.computed[what] += 1
            kept = self._kept[what, fine] = key, make()
        return kept[1]

    def _form(self) -> Tensor:
        """Vertices in model space, [1, V, 3] mm."""
        c = self.controls

        def make() -> Tensor:
            code = c.code()
            return self.face.model.vertices(code.shape, code.expression)

        form: Tensor = self._memo("geometry", False, c.key(*c.form_groups), make)
        return form

    def _pixels(self, fine: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Mask [1, 1, s, s], albedo and normals [1, 3, s, s]; the pictures' size, or finer."""
        face, c = self.face, self.controls
        decoder = face.finer if fine else face.decoder

        def albedo() -> Tensor:
            return face.model.albedo(c.code().albedo)

        def make() -> tuple[Tensor, Tensor, Tensor]:
            colors = self._memo("albedo", False, c.key(MODES["albedo"]), albedo)
            vertices = decoder.place(c.code(), self._form())
            normals = vertex_normals(vertices, face.model.triangles)
            renderer = FaceRenderer(decoder.camera, shader=Unlit())
            drawn = renderer(vertices, decoder.triangles, torch.cat([colors, normals], 2))
            unit = F.normalize(drawn.image[:, 3:], dim=1)
            return drawn.mask, drawn.image[:, :3], unit

        key = c.key(POSE, MODES["albedo"], *c.form_groups)
        mask, colors, normals = self._memo("pixels", fine, key, make)
        return self._reduced(mask, fine), self._reduced(colors, fine, mask), normals

    def _shaded(self, fine: bool) -> Tensor:
        """The lit face, [1, 3, S, S]."""
        c = self.controls

        def make() -> Tensor:
            self._pixels(fine)
            mask, colors, normals = self._kept["pixels", fine][1]
            image = sh_lambert(
                normals.permute(0, 2, 3, 1).contiguous(),
                colors.permute(0, 2, 3, 1).contiguous(),
                c.light()[None],
            )
            return self._reduced(image.permute(0, 3, 1, 2).clamp(0, 1), fine, mask)

        key = (c.key(POSE, MODES["albedo"], *c.form_groups), c.key(SUN, LIGHT))
        shaded: Tensor = self._memo("shade", fine, key, make)
        return shaded

    def _clay(self, normals: Tensor, fine: bool) -> Tensor:
        picture = clay(normals)
        return F.avg_pool2d(picture, FINER) if fine else picture

    def _reduced(self, picture: Tensor, fine: bool, mask: Tensor | None = None) -> Tensor:
        """A finer picture in the pictures' size: means, of a mask's inside alone where one is given."""
        if not fine:
            return picture
        if mask is None:
            return F.avg_pool2d(picture, FINER)
        return F.avg_pool2d(picture * mask, FINER) / F.avg_pool2d(mask, FINER).clamp(min=1e-6)

    def _relit(self, fine: bool) -> np.ndarray:
        """The photograph's crop under the light and with the expression of the controls."""
        face, c = self.face, self.controls
        lit = face.crop
        light_key = c.key(SUN, LIGHT)
        if c.moved((SUN, LIGHT)):
            relighter = face.crop_relighter if fine else face.draft_relighter
            lit = self._memo(
                "relit", fine, light_key,
                lambda: relighter(c.illumination(lamp=fine), c.values["exposure"]),
            )  # fmt: skip
        if not c.moved(c.form_groups):
            return lit
        form, warper = self._form(), face.crop_warper if fine else face.draft_warper
        warp = self._memo(
            "warp", fine, c.key(*c.form_groups), lambda: warper.warp(c.code(), vertices=form)
        )
        left, top, right, bottom = warper.box
        out = lit.copy()
        part = torch.from_numpy(lit[top:bottom, left:right].copy()).permute(2, 0, 1).float() / 255
        out[top:bottom, left:right] = to_uint8(warp(part)[None])[0]
        return out
