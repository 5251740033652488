"""A face model learned from photographs: rounds of fitting a model and of learning a better one.

1. The landmarks of all photographs are fitted; what is left of them becomes a mean and modes of shape.
2. Light and albedo of all photographs are fitted with a light that they share but for little; what each
   vertex shows becomes a mean and modes of albedo. Then once more with the albedo that was learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.fit_prior import fit_prior
from mofa_nvdr.apply.fit_problem import SATURATED
from mofa_nvdr.apply.fitting import FORM, POSE, FaceFitter, FitOptions, FittedFaces, Observed, Stage
from mofa_nvdr.apply.learn_colors import (
    ColorObserver,
    Seen,
    common_light,
    learn_colors,
    strict_light,
    wide_tone,
)
from mofa_nvdr.apply.learn_form import FormLearner, fold
from mofa_nvdr.apply.learn_lips import touching, with_lips_together
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera

Arrays = Mapping[str, np.ndarray]
Keep = Callable[[str, Callable[[], Arrays]], Arrays]
"""Takes a step's name and what makes its arrays; gives those that were made before, or new ones."""

_COLORS = ("light", "albedo")
_LANDMARKS = (Stage(POSE, 5, landmarks=2.0), Stage(FORM, 5, landmarks=2.0))
_FIRST_LIGHT = (
    Stage(("light",), 2, photometric=100.0, blur=1.0),
    Stage(_COLORS, 3, photometric=100.0, blur=1.0, occlusion=True),
)
_FIRST = (
    *_LANDMARKS,
    Stage(_COLORS, 3, photometric=150.0, blur=0.5, occlusion=True),
    Stage(_COLORS, 4, photometric=300.0, detail=100.0, occlusion=True),
)
_NEXT = (
    Stage(_COLORS, 4, photometric=150.0, blur=0.5, occlusion=True),
    Stage((*FORM, *_COLORS), 3, landmarks=1.0, photometric=50.0, detail=150.0),
    Stage(_COLORS, 3, photometric=300.0, detail=100.0, occlusion=True),
)
_LIGHT_OF = 96  # photographs, of all evenly, by which the set's light is found
# Highlights of skin have the colour of the light, and are as bright as the exposure makes them. Faces are
# brought to highlights of one colour, and to one brightness as far as exposure and not skin explains it: 0.7
# of it in logarithms. Over 166 pairs of photographs of the same people their skin then agrees more
# (correlations of red over green 0.33 to 0.56, blue over green 0.42 to 0.69, brightness 0.44 to 0.55).
_HIGHLIGHT, _EXPOSURE, _GAINS = 0.985, 0.7, (0.7, 1.4)
_WIDER = (2.0, 1.5)  # deviations of the kept modes of albedo, in the first round and after it
_WORST = 0.97  # quantile of the photometric error beyond which a photograph teaches no colours
_LEAST_VISIBLE = (
    0.7  # of what is visible of a face in the middle photograph, that one teaches colours
)
# Regions whose colours photographs do not show, or lips that are fitted over them. Edges of lips, which a
# shut mouth hides, are fitted over teeth as well.
_STILL = ("mouth", "teeth")
_FITTED = ("code", "visible", "error")  # what is kept of a fit
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of sRGB's channels (ITU-R BT.709)


@dataclass(frozen=True)
class Faces:
    """Faces of N photographs.

    Attributes:
        photo: uint8 [N, S, S, 3]. known: bool [N, S, S], False beyond the picture's edges.
        points: [N, 478, 2] landmarks, px.
        person: int64 [N], the same number for photographs of one person.
    """

    photo: np.ndarray
    known: np.ndarray
    points: np.ndarray
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.photo)


@dataclass(frozen=True)
class LearnOptions:
    """How a model is learned.

    Attributes:
        rounds: of colours.
        form_modes: of shape that are learned, before they are folded into the model's number.
        albedo_modes: of the learned model.
        kept_modes: numbers of the model's modes of albedo that stay modes, as those of skin's pigments.
        batch: photographs that are fitted together.
    """

    rounds: int = 2
    form_modes: int = 30
    albedo_modes: int = 80
    kept_modes: tuple[int, ...] = ()
    batch: int = 24


class ModelLearner:
    """Learns a face model from faces.

    Args:
        model: that is fitted first, with places for dense landmarks.
        faces: of the photographs; those of a person next to each other.
        options: None: the defaults.
        keep: of steps, so that learning can go on where it stopped; None: they are not kept.
        say: called with lines that tell what was found; None: nothing is told.
        after: called after each batch with the step's name, the number of its photographs and that of all of
            the step; None: not called.
    """

    def __init__(
        self,
        model: FaceModel,
        faces: Faces,
        options: LearnOptions | None = None,
        keep: Keep | None = None,
        say: Callable[[str], None] | None = None,
        after: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.model, self.faces, self.options = model, faces, options or LearnOptions()
        self._keep = keep or (lambda name, make: make())
        self._say = say or (lambda line: None)
        self._after = after or (lambda step, count, total: None)
        self.camera = Camera(image_size=faces.photo.shape[1])
        self.gain = torch.ones(len(faces), 3)

    def __call__(self) -> FaceModel:
        """Learn; returns the model, with its own hash and the name of the one that was fitted first."""
        o = self.options
        model = self._learned_form()
        light = self._light(model)
        kept = o.kept_modes
        codes: Tensor | None = None
        for number in range(1, o.rounds + 1):
            prior = strict_light(fit_prior(model), model, light)
            prior = wide_tone(prior, model, kept, _WIDER[min(number, len(_WIDER)) - 1])
            stages = _FIRST if codes is None else _NEXT
            fitter = FaceFitter(model, FitOptions(stages=stages), prior, self.camera)
            fits = self._fits(f"colors {number}", fitter, codes)
            codes = fits[0]
            model, kept = self._learned_colors(model, *fits, kept), tuple(range(len(kept)))
        shapes = torch.cat([model.mean_shape[None], model.shape_basis])
        shapes = with_lips_together(self.model, shapes)
        return _changed(model, mean_shape=shapes[0], shape_basis=shapes[1:])

    def _learned_form(self) -> FaceModel:
        """The model with the mean and the modes of shape that landmarks show; sets the exposures."""
        fitter = FaceFitter(self.model, FitOptions(stages=_LANDMARKS), camera=self.camera)
        codes, *_ = self._fits("landmarks", fitter, None)
        self.gain = self._exposure(codes)
        learner = FormLearner(self.model, self.camera)
        points = torch.from_numpy(self.faces.points).float()
        level = learner.learn(codes, points, self.options.form_modes, self._say)
        model = self.model
        return _changed(
            model,
            mean_shape=model.mean_shape + level.mean,
            shape_basis=fold(model.shape_basis, level.modes),
        )

    def _light(self, model: FaceModel) -> Tensor:
        """The code [9] of the light that the photographs share."""
        fitter = FaceFitter(
            model, FitOptions(stages=(*_LANDMARKS, *_FIRST_LIGHT)), camera=self.camera
        )
        count = min(_LIGHT_OF, len(self.faces))
        some = np.linspace(0, len(self.faces) - 1, count).round().astype(int)
        codes, *_ = self._fits("light", fitter, None, some)
        light = common_light(model.layout.unpack(codes))
        self._say(
            f"light: ambient {light[0]:.2f}, from above {light[1]:.2f}, from the front {light[2]:.2f}"
        )
        return light

    def _fits(
        self, step: str, fitter: FaceFitter, start: Tensor | None, some: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fit faces in batches, each a step that is kept.

        Args:
            step: its name.
            fitter: of the face model.
            start: [N, 257] codes of all faces to start from, but for their albedo; None: the prior's middle.
            some: numbers of the faces; None: all.

        Returns:
            Codes [N, 257], visible [N, S, S] uint8 and photometric errors [N].
        """
        every = np.arange(len(self.faces)) if some is None else some
        parts: list[Arrays] = []
        for number, batch in enumerate(self._batches(every)):

            def make(batch: np.ndarray = batch) -> Arrays:
                return self._fit(fitter, batch, None if start is None else start[batch])

            parts.append(self._keep(f"{step} {number}", make))
            self._after(step, len(batch), len(every))
        joined = [torch.from_numpy(np.concatenate([p[name] for p in parts])) for name in _FITTED]
        if some is None:
            self._say(f"{step}: photometric error {float(joined[2].mean()):.4f}")
        return joined[0], joined[1], joined[2]

    def _batches(self, every: np.ndarray) -> Iterator[np.ndarray]:
        """Numbers of photographs; a person's stay together."""
        person, first = self.faces.person, 0
        while first < len(every):
            last = min(first + self.options.batch, len(every))
            while last < len(every) and person[every[last]] == person[every[last - 1]]:
                last += 1
            yield every[first:last]
            first = last

    def _fit(self, fitter: FaceFitter, batch: np.ndarray, start: Tensor | None) -> Arrays:
        """The arrays of `_fits` for one batch, whose codes to start from are [B, 257]."""
        photo = self._photo(batch)
        points = torch.from_numpy(self.faces.points[batch]).float()
        person = torch.from_numpy(self.faces.person[batch])
        code: FaceCode | None = None
        if start is not None:
            where = fitter.model.layout.slices["albedo"]
            start = start.clone()
            start[:, where] = 0  # of other modes
            code = fitter.model.layout.unpack(start)
        fits: FittedFaces = fitter(Observed(photo, points, person, ("shape", "albedo")), code)
        mask = fits.face.mask[:, 0] * photo.isfinite().all(1)
        away = (photo.nan_to_num(0.0) - fits.face.image).square().sum(1).sqrt()
        error = (away * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1)
        return {
            "code": fits.code.pack().numpy(),
            "visible": (fits.visible[:, 0] * 255).round().to(torch.uint8).numpy(),
            "error": error.numpy(),
        }

    def _photo(self, batch: np.ndarray) -> Tensor:
        """[B, 3, S, S] at one exposure; NaN where it is unknown."""
        photo = torch.from_numpy(self.faces.photo[batch]).permute(0, 3, 1, 2).float() / 255
        known = torch.from_numpy(self.faces.known[batch])[:, None]
        known = known & (photo.amax(1, keepdim=True) < SATURATED)
        gain = self.gain[torch.from_numpy(batch)]
        return torch.where(known, photo * gain[:, :, None, None], torch.nan)

    def _exposure(self, codes: Tensor) -> Tensor:
        """Gains [N, 3] that bring the brightness and the colour of the faces' highlights together."""
        decoder = FaceFitter(self.model, camera=self.camera).decoder_of(self.camera.size[0])
        highlights = []
        for batch in self._batches(np.arange(len(self.faces))):
            with torch.no_grad():
                mask = decoder(codes[torch.from_numpy(batch)]).mask[:, 0] > 0
            photo = torch.from_numpy(self.faces.photo[batch]).float() / 255
            bright = torch.where(mask, photo @ photo.new_tensor(_LUMINANCE), torch.nan)
            least = bright.flatten(1).nanquantile(_HIGHLIGHT, dim=1)[:, None, None]
            lit = torch.where((bright >= least)[..., None], photo, torch.nan)
            highlights.append(lit.flatten(1, 2).nanmean(1).nan_to_num(1.0))
        logarithm = torch.cat(highlights).clamp(min=0.05).log()
        away = logarithm.mean(0) - logarithm
        brightness = away @ away.new_tensor(_LUMINANCE)
        gain = (away + ((_EXPOSURE - 1) * brightness)[:, None]).exp()
        return gain.clamp(*_GAINS)

    def _learned_colors(
        self, model: FaceModel, codes: Tensor, visible: Tensor, error: Tensor, kept: tuple[int, ...]
    ) -> FaceModel:
        """The model with the albedo that photographs show where they were fitted well and show enough."""
        observer = ColorObserver(model, self.camera)
        parts = []
        for batch in self._batches(np.arange(len(self.faces))):
            numbers = torch.from_numpy(batch)
            shown = visible[numbers][:, None].float() / 255
            parts.append(observer(self._photo(batch), codes[numbers], shown))
        seen = Seen.joined(parts)
        good = (error <= error.quantile(_WORST)) & (
            seen.weight.mean(1) > _LEAST_VISIBLE * float(seen.weight.mean(1).median())
        )
        seen = seen[good]
        mean, modes, level = learn_colors(
            seen, model, kept, self.options.albedo_modes, self._still(model)
        )
        self._say(
            f"albedo: of {int(good.sum())} photographs, {level.noise:.3f} left outside the modes"
        )
        return _changed(model, mean_albedo=mean, albedo_basis=modes)

    def _still(self, model: FaceModel) -> Tensor | None:
        """Which frontal vertices keep their colours, bool [F]; None: the model has no regions."""
        if model.regions is None:
            return None
        still = model.in_regions(*_STILL)
        still[touching(self.model).flatten()] = True
        return still[model.frontal_mask]


def _changed(model: FaceModel, **arrays: Tensor) -> FaceModel:
    """The model with other arrays: another model, whose codes mean other faces."""
    every = {name: value.numpy() for name, value in (dict(model.named_buffers()) | arrays).items()}
    metadata = {key: value for key, value in model.metadata.items() if key != "same_codes"}
    named = {name: value.numpy() for name, value in model.named_expressions.items()}
    return FaceModel(every, metadata, named, model.region_names)
