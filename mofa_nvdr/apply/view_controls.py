"""What a person can move in the viewer: named numbers with ranges, and the face and light that they make."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.illumination import Illumination, code_illumination
from mofa_nvdr.scene.light_sources import LUMINANCE
from mofa_nvdr.scene.lighting import (
    AMBIENT_OFFSET,
    DEFAULT_EXPOSURE,
    LAMBERT_CONSTANTS,
    directional_light,
    total_light,
)
from mofa_nvdr.scene.pose import axis_angle_to_matrix, matrix_to_axis_angle

SUN, LIGHT, POSE, EXPRESSION = "Sun", "Light", "Pose", "Expression"
MODES = {"shape": "Shape", "expression": "Expression modes", "albedo": "Albedo"}
_NUM_MODES = 10
_MODE_RANGE = 4.0  # standard deviations
_FUNCTIONS = ("1", "y", "z", "x", "xy", "yz", "3z2-1", "xz", "x2-y2")
_COEFFICIENT_RANGE = 1.5
_FACE_PARTS = ("brow", "eye", "cheek", "nose", "jaw", "mouth", "tongue")
_LEAST_LIGHT = 1e-3  # mean coefficient of a light that is exposed for
_GAMMA = 2.2  # stops are of linear light, and codes shade encoded albedo
# Codes shade gamma-encoded albedo; their lamps are as bright as those of presets (light_sources).
_LAMP = DEFAULT_EXPOSURE / (AMBIENT_OFFSET * LAMBERT_CONSTANTS[0])


@dataclass(frozen=True)
class Control:
    """A number that can be moved.

    Attributes:
        name: by which it is set. label: as it is shown. group: of controls that are shown together.
        low, high: its range. start: at first. step: of a slider.
        hint: more words about it.
    """

    name: str
    label: str
    group: str
    low: float
    high: float
    start: float
    step: float = 0.01
    hint: str = ""


class FaceControls:
    """The controls of one face in one window, their values, and what these make of the face.

    Args:
        model: face model.
        code: the face as it was reconstructed.

    Attributes:
        controls: name -> control, in the order in which they are shown.
        values: name -> value.
    """

    def __init__(self, model: FaceModel, code: FaceCode) -> None:
        self._model, self._code = model, code
        self._own_light = total_light(code.light)[0]  # [9, 3]
        self._own_grey = self._own_light @ torch.tensor(LUMINANCE)
        every = [
            Control(
                "azimuth",
                "azimuth, °",
                SUN,
                -180,
                180,
                -45,
                1,
                "from the camera to the picture's right",
            ),
            Control("elevation", "elevation, °", SUN, -90, 90, 25, 1, "above the horizon"),
            Control(
                "strength", "strength", SUN, 0, 4, 0, hint="irradiance of skin that faces the sun"
            ),
            Control("warmth", "warmth", SUN, -1, 1, 0),
            Control(
                "own",
                "own light",
                LIGHT,
                0,
                1.5,
                1,
                hint="how much of the photograph's light stays",
            ),
            Control("exposure", "exposure", LIGHT, -2, 2, 0, hint="stops"),
            *self._coefficients(),
            Control("yaw", "yaw, °", POSE, -60, 60, 0, 0.5, "to the picture's right"),
            Control("pitch", "pitch, °", POSE, -40, 40, 0, 0.5, "up"),
            Control("roll", "roll, °", POSE, -40, 40, 0, 0.5, "clockwise"),
            Control("x", "x, mm", POSE, -60, 60, 0, 1, "to the picture's right"),
            Control("y", "y, mm", POSE, -60, 60, 0, 1, "up"),
            Control("z", "z, mm", POSE, -200, 200, 0, 1, "towards the camera"),
            Control(
                "amount", "own", EXPRESSION, 0, 1.5, 1, hint="share of the face's own expression"
            ),
            *(
                Control(name, name, _part_of(name), 0, 1, 0)
                for name in sorted(self._named(), key=_order)
            ),
            *self._modes(),
        ]
        self.controls = {control.name: control for control in every}
        self.values = {control.name: control.start for control in every}
        self._made: tuple[dict[str, float], FaceCode] | None = None

    def set(self, name: str, value: float) -> bool:
        """Move a control, within its range.

        Returns:
            Whether it moved.

        Raises:
            ValueError: no such control, or not a finite number.
        """
        if name not in self.controls:
            raise ValueError(f"view: no control {name!r}")
        if not math.isfinite(value):
            raise ValueError(f"view: {name} is {value}, expected a number")
        control = self.controls[name]
        value = min(max(float(value), control.low), control.high)
        moved = value != self.values[name]
        self.values[name] = value
        return moved

    def reset(self) -> None:
        """Move all controls back."""
        self.values = {name: control.start for name, control in self.controls.items()}

    def key(self, *groups: str) -> tuple[float, ...]:
        """The values of groups: equal where what they make is."""
        return tuple(v for n, v in self.values.items() if self.controls[n].group in groups)

    @property
    def expression_groups(self) -> tuple[str, ...]:
        """Groups that make the expression."""
        named = (_part_of(name) for name in self._named())
        return tuple(dict.fromkeys((EXPRESSION, MODES["expression"], *named)))

    @property
    def form_groups(self) -> tuple[str, ...]:
        """Groups that make shape and expression."""
        return (MODES["shape"], *self.expression_groups)

    def moved(self, groups: Iterable[str]) -> bool:
        """Whether a control of these groups is not where it was at first."""
        some = tuple(groups)
        return any(self.values[n] != c.start for n, c in self.controls.items() if c.group in some)

    def code(self) -> FaceCode:
        """The face, its light included."""
        if self._made is None or self._made[0] != self.values:
            self._made = dict(self.values), self._make()
        return self._made[1]

    def _make(self) -> FaceCode:
        v, code = self.values, self._code
        expression = self._with_modes("expression") * v["amount"]
        for name, direction in self._named().items():
            if v[name]:
                expression = expression + v[name] * direction
        light = self.light() - total_light(torch.zeros(9, 3))
        return code.replace(
            shape=self._with_modes("shape"),
            expression=expression,
            albedo=self._with_modes("albedo"),
            rotation=self._rotation(),
            translation=code.translation + torch.tensor([[v["x"], v["y"], v["z"]]]),
            light=light[None],
        )

    def light(self) -> Tensor:
        """The complete light that shades gamma-encoded albedo, [9, 3]: the face's own, moved, and the sun.

        Its mean over all directions is that of the own light, as cameras expose; stops brighten it.
        """
        light = self._base() + directional_light(self.sun()) * self._sun_color() * _LAMP
        mean = float(light[0] @ torch.tensor(LUMINANCE))
        own = float(self._own_grey[0])
        exposed = own / mean if min(mean, own) > _LEAST_LIGHT else 1.0
        return light * exposed * 2 ** (self.values["exposure"] / _GAMMA)

    def illumination(self, lamp: bool = True) -> Illumination:
        """The same as linear light, for photographs; without the own light's colour, which is a guess.

        Args:
            lamp: the sun is a lamp; else nine coefficients more, which are faster and softer.
        """
        sh = code_illumination(self._base()).sh
        if not self.values["strength"]:
            return Illumination.of_sh(sh)
        if lamp:
            return Illumination(sh, self.sun()[None], self._sun_color()[None])
        return Illumination.of_sh(sh + directional_light(self.sun()) * self._sun_color())

    def sun(self) -> Tensor:
        """Unit vector [3] towards the sun, camera space."""
        azimuth, elevation = (math.radians(self.values[n]) for n in ("azimuth", "elevation"))
        flat = math.cos(elevation)
        return torch.tensor(
            [flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth)]
        )

    def drag_sun(self, x: float, y: float, axes: Tensor | None = None) -> None:
        """Move the sun to where it was dragged on the sphere around the head, as a camera sees it.

        Args:
            x: to the right of the head's middle, in radii of the sphere.
            y: above it. Within a radius the sun is in front of the head; beyond, it goes on behind it.
            axes: [3, 3] the camera's right, up and back, a row each, in the photograph's camera space; None:
                that camera's own.

        Raises:
            ValueError: not finite numbers.
        """
        radius = math.hypot(x, y)
        if not math.isfinite(radius):
            raise ValueError(f"view: the sun is at {x}, {y}, expected numbers")
        inside = max(0.0, 2 - radius) if radius > 1 else radius
        scale = inside / radius if radius else 0.0
        back = math.sqrt(max(0.0, 1 - inside * inside)) * (-1 if radius > 1 else 1)
        place = torch.tensor([x * scale, y * scale, back])
        right, up, back = (place if axes is None else place @ axes.float()).tolist()
        self.set("elevation", math.degrees(math.asin(max(-1.0, min(1.0, up)))))
        self.set("azimuth", math.degrees(math.atan2(right, back)))

    def _coefficients(self) -> list[Control]:
        return [
            Control(
                f"sh{k}", f"{k + 1}: {name}", LIGHT,
                *_widened(_COEFFICIENT_RANGE, float(self._own_grey[k])), float(self._own_grey[k]),
                hint="coefficient of spherical harmonics, of grey light",
            )
            for k, name in enumerate(_FUNCTIONS)
        ]  # fmt: skip

    def _modes(self) -> list[Control]:
        controls = []
        for part, group in MODES.items():
            for k, own in enumerate(getattr(self._code, part)[0, :_NUM_MODES].tolist()):
                low, high = _widened(_MODE_RANGE, own)
                controls.append(Control(f"{part}{k}", f"mode {k + 1}", group, low, high, own))
        return controls

    def _named(self) -> dict[str, Tensor]:
        return self._model.named_expressions

    def _with_modes(self, part: str) -> Tensor:
        values = getattr(self._code, part).clone()
        for k in range(min(_NUM_MODES, values.shape[1])):
            values[0, k] = self.values[f"{part}{k}"]
        return values

    def _rotation(self) -> Tensor:
        v = self.values
        own = self._code.rotation
        if not (v["yaw"] or v["pitch"] or v["roll"]):
            return own
        turns = [(1, v["yaw"]), (0, -v["pitch"]), (2, -v["roll"])]
        matrix = axis_angle_to_matrix(own)
        for axis, degrees in reversed(turns):
            turn = torch.zeros(1, 3)
            turn[0, axis] = math.radians(degrees)
            matrix = axis_angle_to_matrix(turn) @ matrix
        return matrix_to_axis_angle(matrix)

    def _base(self) -> Tensor:
        grey = torch.tensor([self.values[f"sh{k}"] for k in range(9)])
        return self.values["own"] * (self._own_light + (grey - self._own_grey)[:, None])

    def _sun_color(self) -> Tensor:
        """[3] irradiance of a surface that faces the sun."""
        color = torch.tensor([1.0, 1.0, 1.0]) + self.values["warmth"] * torch.tensor(
            [0.35, -0.03, -0.45]
        )
        return self.values["strength"] * color / (color @ torch.tensor(LUMINANCE))


def _widened(reach: float, own: float) -> tuple[float, float]:
    """A range about zero that holds a value."""
    high = max(reach, math.ceil(abs(own)))
    return -high, high


def _part_of(name: str) -> str:
    """The group of a named expression."""
    for part in _FACE_PARTS:
        if name.startswith(part):
            return f"{part.capitalize()} expressions"
    return "Other expressions"


def _order(name: str) -> tuple[int, str]:
    return next((k for k, part in enumerate(_FACE_PARTS) if name.startswith(part)), 99), name
