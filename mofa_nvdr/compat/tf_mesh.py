"""tf_mesh_renderer for torch: `from mofa_nvdr.compat.tf_mesh import mesh_renderer`.

Source: https://github.com/google/tf_mesh_renderer (Genova et al. 2018, "Unsupervised Training for 3D
Morphable Model Regression"): `mesh_renderer.mesh_renderer` and `tone_mapper`, `rasterize_triangles.rasterize`
and `rasterize_clip_space`, `camera_utils.look_at`, `perspective` and `euler_matrices`.

Mended:

* highlights: the peer divides the cosines between reflection and eye by their length as one vector over all
  pixels of the image, which leaves next to nothing of them; `exact=True` does so too;
* the picture is covered where a triangle is (there where a diffuse colour is not negative);
* a shininess for each vertex gives no NaN in the background, and gradients stay finite;
* camera and clip distances may be plain numbers, integers too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mofa_nvdr.compat.drawing import draw, thread_context
from mofa_nvdr.compat.inputs import Inputs, number, positive_size
from mofa_nvdr.shaders.phong import PhongLight, phong
from mofa_nvdr.system.device import in_full_precision

_SHORTEST = 1e-6  # of a gaze or of the part of "up" across it: below, a camera has no direction


@in_full_precision
def mesh_renderer(
    vertices: Tensor,
    triangles: Tensor,
    normals: Tensor,
    diffuse_colors: Tensor,
    camera_position: Tensor,
    camera_lookat: Tensor,
    camera_up: Tensor,
    light_positions: Tensor,
    light_intensities: Tensor,
    image_width: int,
    image_height: int,
    specular_colors: Tensor | None = None,
    shininess_coefficients: Tensor | float | None = None,
    ambient_color: Tensor | None = None,
    fov_y: Tensor | float = 40.0,
    near_clip: Tensor | float = 0.01,
    far_clip: Tensor | float = 10.0,
    exact: bool = False,
) -> Tensor:
    """Draw meshes under point lights with Phong's model at every pixel; triangles show both sides.

    Args:
        vertices: world space [B, V, 3].
        triangles: [T, 3] of any integer type.
        normals: unit [B, V, 3].
        diffuse_colors: [B, V, 3].
        camera_position: [B, 3] or [3].
        camera_lookat: [B, 3] or [3], a point in the middle of the view.
        camera_up: [B, 3] or [3].
        light_positions: world space [B, L, 3].
        light_intensities: RGB [B, L, 3].
        image_width: pixels.
        image_height: pixels.
        specular_colors: [B, V, 3], together with the next.
        shininess_coefficients: a number, or [B], or [B, V].
        ambient_color: [B, 3].
        fov_y: degrees, a number or [B]; like the next two.
        near_clip: distance.
        far_clip: distance.
        exact: highlights as the peer computes them (see the module).

    Returns:
        RGBA [B, image_height, image_width, 4], row 0 at the top, zero in the background, not clamped.
        Differentiable in all tensors; nothing flows through the outline.

    Raises:
        ValueError: shapes or devices that do not go together; one of specular_colors and
            shininess_coefficients without the other; a camera without a direction, or with a field of view
            or clip distances that are not possible.
        TypeError: not float32, or triangles that are not integers.
    """
    inputs = Inputs("mesh_renderer")
    positive_size("mesh_renderer", image_width=image_width, image_height=image_height)
    inputs.floats("vertices", vertices, ("B", "V", 3))
    batch, num_vertices = vertices.shape[:2]
    tri = inputs.indices("triangles", triangles, num_vertices)
    inputs.floats("normals", normals, ("B", "V", 3))
    inputs.floats("diffuse_colors", diffuse_colors, ("B", "V", 3))
    inputs.floats("light_positions", light_positions, ("B", "L", 3))
    inputs.floats("light_intensities", light_intensities, ("B", "L", 3))
    eye, center, up = (
        inputs.floats(name, value, ("B", 3), (3,)).expand(batch, 3)
        for name, value in (
            ("camera_position", camera_position),
            ("camera_lookat", camera_lookat),
            ("camera_up", camera_up),
        )
    )
    if ambient_color is not None:
        inputs.floats("ambient_color", ambient_color, ("B", 3))
    shininess = _shininess(inputs, specular_colors, shininess_coefficients, vertices)
    fov, near, far = (
        _for_each_image(inputs, name, value, vertices)
        for name, value in (("fov_y", fov_y), ("near_clip", near_clip), ("far_clip", far_clip))
    )
    attributes = [normals, vertices, diffuse_colors]
    if specular_colors is not None:
        attributes.append(specular_colors)
    if shininess is not None and shininess.ndim == 2:
        attributes.append(shininess[..., None])
    projection = perspective(image_width / image_height, fov, near, far) @ look_at(eye, center, up)
    pos = _homogeneous(vertices) @ projection.mT
    drawn = draw(thread_context(), pos, tri, (image_height, image_width))
    pixels = drawn.of_vertices(torch.cat(attributes, dim=-1))
    covered = drawn.mask[..., None]
    normal = functional.normalize(pixels[..., :3], dim=-1)
    position, diffuse = pixels[..., 3:6], pixels[..., 6:9]
    specular = exponent = None
    if specular_colors is not None:
        assert shininess is not None
        specular = pixels[..., 9:12]
        exponent = pixels[..., 12] if shininess.ndim == 2 else shininess
    # With the eye at the origin it is the shader's own geometry: only angles count, in any axes.
    away, lamps = position - eye[:, None, None], light_positions - eye[:, None]
    highlights = (None, None) if exact else (specular, exponent)
    light = PhongLight(lamps, light_intensities, ambient_color, *highlights)
    color = phong(normal, diffuse, away, light)
    if exact and specular is not None and exponent is not None:
        # All attributes of the peer's background are -1, and it counts in the length of the cosines.
        nothing = -torch.ones_like(normal)
        normal = torch.where(covered > 0, normal, functional.normalize(nothing, dim=-1))
        away = torch.where(covered > 0, away, nothing - eye[:, None, None])
        faint = _faint_highlights(normal, away, lamps, light_intensities, exponent)
        color = color + specular * faint
    image = torch.where(covered > 0, color, torch.zeros_like(color))
    return torch.cat([image, covered], dim=-1).flip(1)


def _faint_highlights(
    normal: Tensor, away: Tensor, lamps: Tensor, intensities: Tensor, exponent: Tensor
) -> Tensor:
    """The peer's highlights [B, H, W, 3]: cosines are divided by their length as a vector over the image."""
    view = functional.normalize(-away, dim=-1)
    if exponent.ndim == 1:
        exponent = exponent[:, None, None]
    total = torch.zeros_like(normal)
    for place, color in zip(lamps.unbind(1), intensities.unbind(1)):
        towards = functional.normalize(place[:, None, None] - away, dim=-1)
        cosine = (normal * towards).sum(-1, keepdim=True).clamp(0, 1)
        mirror = functional.normalize(2 * cosine * normal - towards, dim=-1)
        reflected = (view * mirror).sum(-1)  # [B, H, W]
        length = reflected.square().sum((1, 2), keepdim=True).clamp(min=1e-12).sqrt()
        reflected = reflected / length
        seen = (cosine[..., 0] > 0) & (reflected > 0)
        # Where nothing is seen the power is of 1: its slopes are finite, and masked.
        power = torch.where(seen, reflected, torch.ones_like(reflected)) ** exponent
        power = torch.where(seen, power, torch.zeros_like(power))
        total = total + power[..., None] * color[:, None, None]
    return total


def tone_mapper(image: Tensor, gamma: float | Tensor) -> Tensor:
    """Raise an image to a power, and scale each one of the batch so that its largest value is 1.

    Args:
        image: not negative [B, H, W, C].
        gamma: below 1 it lowers the contrast.

    Returns:
        [B, H, W, C] in [0, 1]; an image of zeros stays so.

    Raises:
        ValueError: another shape, or a gamma of 0 or less.
        TypeError: not float32, or a gamma that is no number.
    """
    inputs = Inputs("tone_mapper")
    inputs.floats("image", image, ("B", "H", "W", "C"))
    if isinstance(gamma, Tensor):
        inputs.tensor("gamma", gamma)
    elif number("tone_mapper", "gamma", gamma) <= 0:
        raise ValueError(f"tone_mapper: gamma is {gamma}, expected a number above 0")
    corrected = image**gamma
    largest = corrected.amax((1, 2, 3), keepdim=True)
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (corrected / scale).clamp(0, 1)


def rasterize(
    world_space_vertices: Tensor,
    attributes: Tensor,
    triangles: Tensor,
    camera_matrices: Tensor,
    image_width: int,
    image_height: int,
    background_value: Any,
) -> Tensor:
    """Interpolate attributes of vertices over the pixels, through matrices that end in clip space.

    Args:
        world_space_vertices: [B, V, 3].
        attributes: [B, V, C].
        triangles: [T, 3] of any integer type.
        camera_matrices: model-view-perspective [B, 4, 4], for column vectors.
        image_width: pixels.
        image_height: pixels.
        background_value: C numbers for pixels that no triangle covers.

    Returns:
        [B, image_height, image_width, C]; row 0 is at clip-space y = -1, the bottom.

    Raises:
        ValueError: shapes or devices that do not go together.
        TypeError: not float32, or triangles that are not integers.
    """
    inputs = Inputs("rasterize")
    inputs.floats("world_space_vertices", world_space_vertices, ("B", "V", 3))
    inputs.floats("camera_matrices", camera_matrices, ("B", 4, 4))
    pos = _homogeneous(world_space_vertices) @ camera_matrices.mT
    return rasterize_clip_space(
        pos, attributes, triangles, image_width, image_height, background_value
    )


def rasterize_clip_space(
    clip_space_vertices: Tensor,
    attributes: Tensor,
    triangles: Tensor,
    image_width: int,
    image_height: int,
    background_value: Any,
) -> Tensor:
    """As `rasterize`, of vertices in clip space.

    Args:
        clip_space_vertices: homogeneous [B, V, 4].
        attributes: as there, like the others.
        triangles: as there.
        image_width: as there.
        image_height: as there.
        background_value: as there.

    Returns:
        As there.

    Raises:
        ValueError: as there.
        TypeError: as there.
    """
    inputs = Inputs("rasterize_clip_space")
    positive_size("rasterize_clip_space", image_width=image_width, image_height=image_height)
    inputs.floats("clip_space_vertices", clip_space_vertices, ("B", "V", 4))
    inputs.floats("attributes", attributes, ("B", "V", "C"))
    tri = inputs.indices("triangles", triangles, clip_space_vertices.shape[1])
    try:
        background = torch.as_tensor(
            background_value, dtype=torch.float32, device=attributes.device
        )
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"rasterize_clip_space: background_value is a {type(background_value).__name__}, expected "
            f"{attributes.shape[2]} numbers (from attributes)"
        ) from None
    if background.shape not in ((), attributes.shape[2:]):
        raise ValueError(
            f"rasterize_clip_space: background_value is {list(background.shape)}, expected "
            f"[{attributes.shape[2]}] (from attributes)"
        )
    drawn = draw(thread_context(), clip_space_vertices, tri, (image_height, image_width))
    pixels = drawn.of_vertices(attributes)
    return torch.where(drawn.mask[..., None] > 0, pixels, background)


def look_at(eye: Tensor, center: Tensor, world_up: Tensor) -> Tensor:
    """gluLookAt: world space to eye space (x right, y up, looking down -z), for column vectors.

    Args:
        eye: [B, 3].
        center: [B, 3] a point in the middle of the view.
        world_up: [B, 3].

    Returns:
        [B, 4, 4].

    Raises:
        ValueError: other shapes or devices; eye and center are at one place, or the gaze is along `world_up`.
        TypeError: not floats, or not all of one type.
    """
    inputs = Inputs("look_at", dtype=None)
    for name, value in (("eye", eye), ("center", center), ("world_up", world_up)):
        inputs.floats(name, value, ("B", 3))
        if not bool(value.isfinite().all()):
            raise ValueError(f"look_at: {name} holds NaN or infinity")
    forward, side = center - eye, None
    if not bool((forward.norm(dim=-1) > _SHORTEST).all()):
        raise ValueError("look_at: center is where eye is, so the camera has no direction")
    forward = functional.normalize(forward, dim=-1)
    side = torch.linalg.cross(forward, world_up)
    if not bool((side.norm(dim=-1) > _SHORTEST).all()):
        raise ValueError(
            "look_at: the camera looks along world_up, so its upper side is not known; choose another "
            "world_up"
        )
    side = functional.normalize(side, dim=-1)
    rotation = torch.stack([side, torch.linalg.cross(side, forward), -forward], dim=1)
    shift = -(rotation @ eye[..., None])
    last = eye.new_tensor([0.0, 0, 0, 1]).expand(len(eye), 1, 4)
    return torch.cat([torch.cat([rotation, shift], dim=2), last], dim=1)


def perspective(aspect_ratio: float, fov_y: Tensor, near_clip: Tensor, far_clip: Tensor) -> Tensor:
    """gluPerspective: eye space to clip space, for column vectors.

    Args:
        aspect_ratio: width by height.
        fov_y: degrees [B].
        near_clip: [B].
        far_clip: [B].

    Returns:
        [B, 4, 4].

    Raises:
        ValueError: other shapes or devices; not 0 < fov_y < 180 or not 0 < near_clip < far_clip < infinity.
        TypeError: not floats, or not all of one type.
    """
    inputs = Inputs("perspective", dtype=None)
    for name, value in (("fov_y", fov_y), ("near_clip", near_clip), ("far_clip", far_clip)):
        inputs.floats(name, value, ("B",))
    if number("perspective", "aspect_ratio", aspect_ratio) <= 0:
        raise ValueError(f"perspective: aspect_ratio is {aspect_ratio}, expected a number above 0")
    if not bool(((fov_y > 0) & (fov_y < 180)).all()):
        raise ValueError(
            f"perspective: fov_y is {fov_y.tolist()}, expected degrees between 0 and 180"
        )
    if not bool(((near_clip > 0) & (near_clip < far_clip) & far_clip.isfinite()).all()):
        raise ValueError(
            f"perspective: near_clip is {near_clip.tolist()} and far_clip is {far_clip.tolist()}, "
            "expected 0 < near_clip < far_clip"
        )
    focal = 1 / torch.tan(fov_y * (math.pi / 360))
    depth = far_clip - near_clip
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    rows = [
        [focal / aspect_ratio, zero, zero, zero],
        [zero, focal, zero, zero],
        [zero, zero, -(far_clip + near_clip) / depth, -2 * (far_clip * near_clip / depth)],
        [zero, zero, -one, zero],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def euler_matrices(angles: Tensor) -> Tensor:
    """Rotations Rz Ry Rx of angles [B, 3] about x, y and z in radians, as [B, 4, 4] for column vectors."""
    Inputs("euler_matrices", dtype=None).floats("angles", angles, ("B", 3))
    cx, cy, cz = angles.cos().unbind(-1)
    sx, sy, sz = angles.sin().unbind(-1)
    zero, one = torch.zeros_like(cx), torch.ones_like(cx)
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz, zero],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz, zero],
        [-sy, sx * cy, cx * cy, zero],
        [zero, zero, zero, one],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _homogeneous(vertices: Tensor) -> Tensor:
    return torch.cat([vertices, torch.ones_like(vertices[..., :1])], dim=-1)


def _for_each_image(inputs: Inputs, name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """A number, or a tensor [] or [B], as [B]."""
    if not isinstance(value, Tensor):
        return like.new_full((len(like),), number(inputs.who, name, value))
    return inputs.floats(name, value, ("B",), ()).expand(len(like))


def _shininess(
    inputs: Inputs, specular: Tensor | None, shininess: Tensor | float | None, like: Tensor
) -> Tensor | None:
    """[B] or [B, V], or None without highlights."""
    given = {"specular_colors": specular, "shininess_coefficients": shininess}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 1:
        present = next(name for name in given if name not in missing)
        raise ValueError(
            f"mesh_renderer: {present} is given without {missing[0]}; highlights need both"
        )
    if specular is None or shininess is None:
        return None
    inputs.floats("specular_colors", specular, ("B", "V", 3))
    if isinstance(shininess, Tensor) and shininess.ndim == 2:
        return inputs.floats("shininess_coefficients", shininess, ("B", "V"))
    return _for_each_image(inputs, "shininess_coefficients", shininess, like)
