"""Analysis by synthesis: face codes of photographs without a network that was trained for it.

Gauss-Newton with Levenberg's damping on the paper's energy (Eq. 6): landmarks (Eq. 9) first, then light and
albedo, then all parameters together with the photometric term (Eq. 8) over the rendered face. What stands in
front of a face is told by colours that no face has (losses/occlusion.py) and does not count. Several
photographs of one person share what a person keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian
from mofa_nvdr.apply.fit_colors import PixelTerm, VertexTerm
from mofa_nvdr.apply.fit_prior import FitPrior, fit_prior
from mofa_nvdr.apply.fit_problem import FitProblem, FitState, FitTools, Observed, Stage
from mofa_nvdr.apply.region_scatter import region_scatter
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, RasterFace
from mofa_nvdr.scene.camera import Camera

__all__ = ["FaceFitter", "FitOptions", "FittedFaces", "Observed", "Stage"]

POSE = ("rotation", "translation")
FORM = (*POSE, "shape", "expression")
_ALL = (*FORM, "albedo", "light")


@dataclass(frozen=True)
class FitOptions:
    """How photographs are fitted.

    Attributes:
        size: side at which photographs are compared, px.
        render_mode: "raster", pixels of the rendered face; or "vertex", its front-facing vertices.
        points: of the surface, at which derivatives are taken.
        stages: what is done, in this order.
    """

    size: int = 120
    render_mode: str = "raster"
    points: int = 1500
    stages: tuple[Stage, ...] = (
        Stage(POSE, 6, landmarks=0.5),
        Stage(FORM, 5, landmarks=0.5),
        Stage(("light",), 2, photometric=100.0, blur=1.0),
        Stage(("light", "albedo"), 3, photometric=100.0, blur=1.0),
        Stage(_ALL, 6, landmarks=0.3, photometric=50.0, detail=150.0, blur=1.0, occlusion=True),
        Stage(_ALL, 6, landmarks=0.3, photometric=50.0, detail=150.0, occlusion=True),
        Stage(("light", "albedo"), 3, photometric=300.0, detail=300.0, occlusion=True),
    )


@dataclass(frozen=True)
class FittedFaces:
    """Fitted faces.

    Attributes:
        code: of the B photographs.
        face: their renderings at the photographs' size.
        visible: [B, 1, H, W] probability that a pixel of the face's mask shows the face; 0 elsewhere.
        deviation: [B] of a channel of the photograph about the rendering, where the face is visible.
        landmark_error: [B] mean distance of the given landmarks and the face's, px; NaN without any.
    """

    code: FaceCode
    face: RasterFace
    visible: Tensor
    deviation: Tensor
    landmark_error: Tensor


class FaceFitter:
    """Fits a face model to photographs, many at once.

    Args:
        model: the face model.
        options: None: the defaults.
        prior: None: `fit_prior` of the model.
        camera: of the photographs, at any image size; None: the default one.

    Raises:
        ValueError: an unknown render mode.
    """

    def __init__(
        self,
        model: FaceModel,
        options: FitOptions | None = None,
        prior: FitPrior | None = None,
        camera: Camera | None = None,
    ) -> None:
        self.options = options or FitOptions()
        self.model = model
        self._camera = camera or Camera()
        decoder = self.decoder_of(self.options.size)
        jacobian = FaceJacobian(model, decoder.pinhole)
        term = VertexTerm if self.options.render_mode == "vertex" else PixelTerm
        self._tools = FitTools(
            model,
            decoder,
            jacobian,
            term(decoder, jacobian, self.options.points),
            prior or fit_prior(model),
            _scatter(model),
        )

    def decoder_of(self, size: int) -> FaceDecoder:
        """A decoder of the face model at an image size, px."""
        focal = self._camera.focal
        if focal is not None:
            focal *= size / self._camera.size[0]
        camera = replace(self._camera, image_size=size, focal=focal)
        return FaceDecoder(self.model, camera=camera, render_mode=self.options.render_mode)

    def stages_of(self, landmarks: bool) -> list[Stage]:
        """What is done with photographs, in this order; without landmarks only what compares colours."""
        return [stage for stage in self.options.stages if landmarks or stage.photometric]

    @torch.no_grad()
    def __call__(
        self,
        observed: Observed,
        start: FaceCode | None = None,
        after: Callable[[int, int], None] | None = None,
    ) -> FittedFaces:
        """Fit photographs.

        Args:
            observed: the photographs.
            start: codes to start from, as an encoder predicts them; None: the prior's middle, upright as the
                landmarks are.
            after: called after each step with its number from 1 on and the number of all steps.

        Returns:
            The faces.

        Raises:
            ValueError: shapes disagree, landmarks of another number, the face model has no places for 478
                landmarks, or neither landmarks nor a start.
        """
        problem = FitProblem(self._tools, observed)
        state = FitState(problem.start(start))
        stages = self.stages_of(observed.landmarks is not None)
        total, done = sum(stage.steps for stage in stages), 0
        for stage in stages:
            problem.begin(stage, state)
            state = problem.evaluate(state.code, state)
            damping = problem.first_damping()
            for _ in range(stage.steps):
                state, damping = problem.step(state, damping)
                done += 1
                if after is not None:
                    after(done, total)
        decoder = self.decoder_of(observed.photo.shape[-1])
        return FittedFaces(self.model.layout.unpack(state.code), *problem.finish(state, decoder))


def _scatter(model: FaceModel) -> Tensor | None:
    """Factors of the variance of the frontal triangles; None of a model without regions."""
    if model.regions is None:
        return None
    return region_scatter(model)[model.regions.long()[model.frontal_triangles.long()]].amax(1)
