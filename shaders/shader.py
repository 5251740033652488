"""The interface of shaders: what a renderer needs of one, and how one states its parameters.

A shader is one file in this folder with a class like this, and nothing else has to know it:

    class Toon(Shader):
        name = "toon"
        parameters = (Parameter("direction", (("B", 3),), "towards the light, unit"),)

        def colors(self, normal, albedo, position, direction):
            cosine = (normal * at_points(direction, normal)).sum(-1, keepdim=True)
            return albedo * (cosine > 0.5)

It is then drawn through `dr.rasterize` and `dr.interpolate`, differentiably, and its vertices are coloured
by the same function. A shader with kernels of its own (`Kernels`) is drawn by them on a CPU in float32.

Convention: camera space, x right, y up, looking down -z; millimetres; the eye is the origin, or infinitely
far along +z under an orthographic camera (`Shader.for_distant_eye`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parameter:
    """Numbers that a shader takes for each image, or for each vertex.

    Attributes:
        name: the keyword by which the shader's functions get it.
        shapes: the shapes it may have, of numbers and letters: "B" images come first; "V" in the second
            place means one value for each vertex, which is interpolated over the pixels; any other letter
            is a size that the caller chooses, the same in all parameters of the shader.
        meaning: one line, with units.
        optional: whether None may be given for it.
    """

    name: str
    shapes: tuple[tuple[str | int, ...], ...]
    meaning: str
    optional: bool = False

    def __str__(self) -> str:
        return " or ".join(f"[{', '.join(map(str, shape))}]" for shape in self.shapes)


@dataclass(frozen=True)
class Kernels:
    """Compiled passes of a shader over rows of an image: float32 on the CPU (`gbuffer.draw_mesh`).

    Attributes:
        shade: called as shade(*by_vertex, *by_image, rast, tri, start, stop, image, mask) with the arrays
            of one image.
        shade_backward: called as shade_backward(pos, *by_vertex, *by_image, rast, tri, g_image, g_rast,
            start, stop, with_rast, grad_rast, *sums, pos_sums, *image_sums); `sums` are those of normals
            and albedo together, [V, 8], and one array [V, C] for each further tensor of by_vertex, with C
            filled up to a multiple of four.
        inputs: (normals, albedo, positions, **parameters) -> by_vertex, tensors [B, V, C] of which
            normals and albedo are the first two, and by_image, tensors [B, ...]; by differentiable steps.
        prepare: by_image as the kernels take it. restore: the transpose, for gradients.
    """

    shade: Callable[..., None]
    shade_backward: Callable[..., None]
    inputs: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
    prepare: Callable[[Tensor], Tensor] = lambda tensor: tensor
    restore: Callable[[Tensor], Tensor] = lambda tensor: tensor


@dataclass(frozen=True)
class Shader:
    """The base of shaders: objects that are compared by value, copied and pickled.

    Attributes:
        name: as it is printed.
        parameters: what the shader takes for each image. A caller gives them together as `light`: an
            object or a mapping that has them by name, or the tensor itself if there is only one.
        uses_position: whether `colors` reads positions; otherwise a renderer need not interpolate them.
        uses_normal: whether it reads normals; otherwise they are all towards the eye.
        channels: of the albedo; None: any number.
        kernels: compiled passes, or None.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    uses_position: ClassVar[bool] = True
    uses_normal: ClassVar[bool] = True
    channels: ClassVar[int | None] = 3
    kernels: ClassVar[Kernels | None] = None

    def colors(
        self, normal: Tensor, albedo: Tensor, position: Tensor, *args: Any, **parameters: Any
    ) -> Tensor:
        """The colours of points of a surface: pixels [B, H, W, 3] or vertices [B, V, 3].

        Args:
            normal: [B, ..., 3] unit, camera space.
            albedo: [B, ..., 3].
            position: [B, ..., 3] camera space, mm.
            args: none; subclasses name their parameters here.
            parameters: by name, those for each vertex as [B, ..., C], one value for each point. An
                optional one may be missing.

        Returns:
            [B, ..., 3], differentiable in everything. Pixels without a triangle are masked by the caller;
            they come with albedo and parameters of zero, a normal towards the eye and a point in front of it.
        """
        raise NotImplementedError

    def for_distant_eye(self) -> Shader:
        """The shader for cameras whose lines of sight are parallel: the eye is infinitely far along +z.

        Itself, unless the class says otherwise: most shaders don't ask where the eye is.
        """
        return self

    def shading(self, normal: Tensor, position: Tensor, *args: Any, **parameters: Any) -> Tensor:
        """What multiplies the albedo, [B, ..., 3]: the colour of white minus that of black.

        Args:
            normal: as in `colors`, like the others.
            position: as there.
            args: none.
            parameters: as there.
        """
        white, black = torch.ones_like(normal), torch.zeros_like(normal)
        of_white = self.colors(normal, white, position, *args, **parameters)
        return of_white - self.colors(normal, black, position, *args, **parameters)

    def values(self, who: str, light: Any) -> dict[str, Tensor]:
        """The parameters in `light` by name, without those that are None.

        Raises:
            TypeError: a parameter is missing or unknown, or is not a tensor.
        """
        names = {parameter.name: parameter.optional for parameter in self.parameters}
        if isinstance(light, Tensor) and len(names) == 1:
            return {next(iter(names)): light}
        if isinstance(light, Mapping):
            given = dict(light)
        elif is_dataclass(light) and not isinstance(light, type):
            given = {part.name: getattr(light, part.name) for part in fields(light)}
        else:
            given = {"": light}
        values = {name: value for name, value in given.items() if value is not None}
        missing = [name for name, optional in names.items() if not optional and name not in values]
        if missing or not set(values) <= set(names):
            kind = type(light).__name__ + ("" if "" in given else f" of {', '.join(given)}")
            wanted = ", ".join(name + " (optional)" * optional for name, optional in names.items())
            raise TypeError(
                f"{who}: light is {kind}, expected an object or mapping with {wanted} "
                f"(the shader {self.name})"
            )
        for name, value in values.items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{who}: light.{name} is {type(value).__name__}, expected a tensor "
                    f"(the shader {self.name})"
                )
        return values

    def check(self, who: str, light: Any, points: Tensor) -> dict[str, Tensor]:
        """`values`, whose shapes, dtypes and devices fit the vertices.

        Args:
            who: the caller, for the message.
            light: the parameters.
            points: the vertices [B, V, 3].

        Raises:
            ValueError: a shape or device does not fit.
            TypeError: a dtype does not fit, or `values` refuses.
        """
        values = self.values(who, light)
        alone = isinstance(light, Tensor)
        sizes: dict[str | int, int] = {"B": points.shape[0], "V": points.shape[1]}
        sources: dict[str | int, str] = dict.fromkeys(sizes, "vertices")
        for parameter in self.parameters:
            if parameter.name not in values:
                continue
            value = values[parameter.name]
            label = "light" if alone else f"light.{parameter.name}"
            # "[ 2, 9]" fits ("B", 9) where each letter that is known has its size.
            fitting = [
                shape
                for shape in parameter.shapes
                if len(shape) == value.ndim
                and all(sizes.get(x, size if isinstance(x, str) else x) == size
                        for x, size in zip(shape, value.shape))
            ]  # fmt: skip
            if not fitting:
                letters = dict.fromkeys(x for shape in parameter.shapes for x in shape)
                known = [f"{x} = {sizes[x]} (from {sources[x]})" for x in letters if x in sizes]
                raise ValueError(
                    f"{who}: {label} is {list(value.shape)}, expected {parameter} with "
                    f"{', '.join(known)}"
                )
            for letter, size in zip(fitting[0], value.shape):
                if isinstance(letter, str):
                    sizes.setdefault(letter, size)
                    sources.setdefault(letter, label)
            if value.dtype != points.dtype:
                raise TypeError(
                    f"{who}: {label} is {value.dtype}, expected {points.dtype} (as vertices)"
                )
            if value.device != points.device:
                raise ValueError(
                    f"{who}: {label} is on {value.device}, expected {points.device} (as vertices)"
                )
        return values

    def by_vertex(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the parameters that hold a value for each vertex."""
        found = {}
        for parameter in self.parameters:
            value = values.get(parameter.name)
            if value is not None and any(
                len(shape) == value.ndim and shape[1:2] == ("V",) for shape in parameter.shapes
            ):
                found[parameter.name] = value
        return found


def at_points(value: Tensor, points: Tensor) -> Tensor:
    """A parameter for each image [B, C], or for each point already [B, ..., C], to go with [B, ..., C]."""
    if value.ndim == points.ndim:
        return value
    return value.view(value.shape[0], *[1] * (points.ndim - 2), value.shape[-1])
