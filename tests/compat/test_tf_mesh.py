"""tf_mesh_renderer's functions: cases by hand, float64, the highlights, and every refusal.

Against the peer's own twelve golden pictures (tf_mesh_renderer 7de13fc): at most 1.0e-4 of the pixels differ
by more than 0.01, where its tests allow 1e-3 (docs/parity.md).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from mofa_nvdr.compat import tf_mesh
from mofa_nvdr.dr import reference
from tests.helpers.peer_scenes import ball, random_values, relative

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def scene():
    vertices, triangles = ball()
    return {
        "vertices": vertices,
        "triangles": triangles,
        "normals": normalize(vertices, dim=-1),
        "diffuse_colors": random_values(*vertices.shape),
        "camera_position": torch.tensor([0.3, 0.5, 6]),
        "camera_lookat": torch.zeros(3),
        "camera_up": torch.tensor([0.1, 1.0, 0]),
        "light_positions": torch.tensor([[[0, 0, 6.0], [3, 2, 4]], [[1, 4, 2], [0, -5, 5]]]),
        "light_intensities": random_values(2, 2, 3, seed=5),
        "image_width": WIDTH,
        "image_height": HEIGHT,
    }


def highlights(scene):
    shape = scene["vertices"].shape
    more = {
        "specular_colors": random_values(*shape, seed=7),
        "shininess_coefficients": 4 + 4 * random_values(*shape[:2], seed=8),
        "ambient_color": random_values(2, 3, seed=9),
    }
    return {**scene, **more}


def by_the_contract(s, exact):
    """The picture [B, H, W, 4] of `highlights` in float64, with the reference's verbs."""
    vertices, batch = s["vertices"], 2
    eye, center, up = (
        s[f"camera_{name}"].expand(batch, 3) for name in ("position", "lookat", "up")
    )
    ahead = normalize(center - eye, dim=-1)
    side = normalize(torch.linalg.cross(ahead, up), dim=-1)
    frame = torch.stack([side, torch.linalg.cross(side, ahead), -ahead], 1)
    x, y, z = ((vertices - eye[:, None]) @ frame.mT).unbind(-1)
    focal, near, far = 1 / math.tan(math.radians(20)), 0.01, 10.0
    depth = -(far + near) / (far - near) * z - 2 * far * near / (far - near)
    pos = torch.stack([focal * HEIGHT / WIDTH * x, focal * y, depth, -z], -1)
    tri = s["triangles"].int()
    rast, _ = reference.rasterize(None, pos, tri, (HEIGHT, WIDTH))
    shine = s["shininess_coefficients"][..., None]
    attr = torch.cat([s["normals"], vertices, s["diffuse_colors"], s["specular_colors"], shine], -1)
    at, _ = reference.interpolate(attr, rast, tri)
    normal, point, diffuse, specular, shine = at.split([3, 3, 3, 3, 1], -1)
    normal, view = normalize(normal, dim=-1), normalize(eye[:, None, None] - point, dim=-1)
    color = s["ambient_color"][:, None, None] * diffuse
    for place, lamp in zip(s["light_positions"].unbind(1), s["light_intensities"].unbind(1)):
        towards = normalize(place[:, None, None] - point, dim=-1)
        cosine = (normal * towards).sum(-1, keepdim=True).clamp(0, 1)
        mirror = (normalize(2 * cosine * normal - towards, dim=-1) * view).sum(-1, keepdim=True)
        covered = rast[..., 3:] > 0
        if exact:  # background pixels count in the peer's sum: normal 0 there, attributes -1
            back = normalize(torch.full_like(point, -1), dim=-1)
            to_light = normalize(place[:, None, None] + torch.ones_like(point), dim=-1)
            to_eye = normalize(eye[:, None, None] + torch.ones_like(point), dim=-1)
            cos_back = (back * to_light).sum(-1, keepdim=True).clamp(0, 1)
            behind = (normalize(2 * cos_back * back - to_light, dim=-1) * to_eye).sum(
                -1, keepdim=True
            )
            everywhere = torch.where(covered, mirror, behind)
            mirror = mirror / everywhere.square().sum((1, 2), keepdim=True).sqrt()
        power = torch.where((cosine > 0) & (mirror > 0), mirror.clamp(min=1e-12) ** shine, 0)
        color = color + lamp[:, None, None] * (diffuse * cosine + specular * power)
    alpha = covered.double()
    return torch.cat([color * alpha, alpha], -1).flip(1)


class TestMeshRenderer:
    @pytest.mark.parametrize("exact", [False, True])
    def test_is_the_contract_in_float64(self, scene, exact):
        given = highlights(scene)
        names = [
            name
            for name, value in given.items()
            if torch.is_tensor(value) and value.is_floating_point()
        ]
        found = {n: given[n].clone().requires_grad_() for n in names}
        wanted = {n: given[n].double().requires_grad_() for n in names}
        picture = tf_mesh.mesh_renderer(**{**given, **found}, exact=exact)
        in_double = by_the_contract({**given, **wanted}, exact)
        assert picture.shape == (2, HEIGHT, WIDTH, 4)
        assert torch.equal(picture[..., 3], in_double[..., 3].float())
        assert (picture - in_double).abs().max() < 1e-5  # 2e-6 measured
        weight = random_values(2, HEIGHT, WIDTH, 4, seed=3)
        (picture * weight).sum().backward()
        (in_double * weight).sum().backward()
        for name in names:
            # nvdiffrast's area term of the backward pass, on triangles of a few pixels.
            limit = (
                0.02
                if name in ("vertices", "camera_position", "camera_lookat", "camera_up")
                else 1e-4
            )
            assert relative(found[name].grad, wanted[name].grad) < limit, name

    def test_exact_highlights_are_faint(self, scene):
        given = highlights(scene)
        dull = tf_mesh.mesh_renderer(**scene, ambient_color=given["ambient_color"])
        bright, faint = (tf_mesh.mesh_renderer(**given, exact=exact) for exact in (False, True))
        assert (faint - dull).abs().max() < 1e-2 < 0.3 < (bright - dull).max()

    def test_one_shininess_for_all_and_for_each(self, scene):
        given = highlights(scene)
        shapes = ((), (2,), given["vertices"].shape[:2])
        pictures = [
            tf_mesh.mesh_renderer(**{**given, "shininess_coefficients": shininess}, exact=exact)
            for exact in (False, True)
            for shininess in (6, *(torch.full(shape, 6.0) for shape in shapes))
        ]
        for first in (0, 4):
            for other in pictures[first + 1 : first + 4]:
                assert torch.allclose(pictures[first], other, atol=1e-5)

    def test_unlit_side_and_row_0(self):
        # A triangle in the upper half of the picture, white, under ambient light alone.
        vertices = torch.tensor([[[-1, 0.5, 0], [1, 0.5, 0], [0, 1, 0.0]]])
        picture = tf_mesh.mesh_renderer(
            vertices, torch.tensor([[0, 1, 2]]), torch.tensor([[[0, 0, 1.0]]]).expand(1, 3, 3).clone(),
            torch.ones(1, 3, 3), torch.tensor([0.0, 0, 4]), torch.zeros(3), torch.tensor([0, 1.0, 0]),
            torch.tensor([[[0.0, 0, -5]]]), torch.ones(1, 1, 3), 20, 20,
            ambient_color=torch.tensor([[0.1, 0.2, 0.3]]),
        )  # fmt: skip
        rows = torch.nonzero(picture[0, ..., 3])[:, 0]
        assert len(rows) and rows.max() < 10
        assert torch.allclose(
            picture[0, rows[0]][picture[0, rows[0], :, 3] > 0][0, :3], torch.tensor([0.1, 0.2, 0.3])
        )

    def test_a_mesh_of_negative_colours_is_covered(self, scene):
        scene["diffuse_colors"] = -scene["diffuse_colors"]
        assert tf_mesh.mesh_renderer(**scene)[..., 3].any()

    def test_angles_and_distances_for_each_image(self, scene):
        numbers = {"fov_y": 30, "near_clip": 1, "far_clip": 20}
        wanted = tf_mesh.mesh_renderer(**scene, **numbers)
        tensors = {name: torch.full((2,), float(value)) for name, value in numbers.items()}
        assert torch.equal(tf_mesh.mesh_renderer(**scene, **tensors), wanted)


class TestRasterize:
    def test_barycentrics_not_upside_down(self):
        clip = torch.tensor([[[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1.0]]])
        found = tf_mesh.rasterize_clip_space(
            clip, torch.eye(3)[None], torch.tensor([[0, 1, 2]]), 4, 4, [7, 8, 9]
        )
        # spec R1: pixel (0, 0) has the weights 3/4, 1/8, 1/8; the far corner is background.
        assert torch.allclose(found[0, 0, 0], torch.tensor([0.75, 0.125, 0.125]))
        assert found[0, 3, 3].tolist() == [7, 8, 9]

    def test_by_matrices(self, scene):
        vertices, attributes = scene["vertices"], scene["diffuse_colors"]
        turn = tf_mesh.euler_matrices(torch.tensor([[0.1, 0.2, 0.3], [0, 0, 0]])) * 0.5
        turn[:, 3, 3] = 1
        found = tf_mesh.rasterize(vertices, attributes, scene["triangles"], turn, 16, 12, 0.0)
        clip = torch.cat([vertices, torch.ones_like(vertices[..., :1])], -1) @ turn.mT
        wanted = tf_mesh.rasterize_clip_space(
            clip, attributes, scene["triangles"], 16, 12, [0.0] * 3
        )
        assert found.shape == (2, 12, 16, 3) and torch.equal(found, wanted) and found.any()


class TestMatrices:
    def test_look_at_by_hand(self):
        eye = torch.tensor([[0, 0, 5.0], [5, 0, 0]])
        found = tf_mesh.look_at(eye, torch.zeros(2, 3), torch.tensor([[0, 1.0, 0]] * 2))
        point = torch.tensor([1.0, 2, 3, 1])
        # From +z everything stays but for the shift; from +x the picture's right is -z.
        assert torch.allclose(
            found @ point, torch.tensor([[1.0, 2, -2, 1], [-3, 2, -4, 1]]), atol=1e-6
        )

    def test_perspective_by_hand(self):
        matrix = tf_mesh.perspective(
            2.0, torch.tensor([90.0]), torch.tensor([1.0]), torch.tensor([3.0])
        )
        corners = torch.tensor([[2.0, 1, -1, 1], [6, 3, -3, 1]])
        clip = (matrix @ corners.T)[0].T
        assert torch.allclose(
            clip / clip[:, 3:], torch.tensor([[1.0, 1, -1, 1], [1, 1, 1, 1]]), atol=1e-6
        )

    def test_euler_matrices(self):
        angles = torch.tensor([[0.3, -0.5, 0.7]])
        rotations = []
        for axis, angle in enumerate(angles[0].tolist()):
            one = torch.zeros(1, 3)
            one[0, axis] = angle
            rotations.append(tf_mesh.euler_matrices(one)[0])
        assert torch.allclose(
            tf_mesh.euler_matrices(angles)[0], rotations[2] @ rotations[1] @ rotations[0], atol=1e-6
        )
        quarter = tf_mesh.euler_matrices(torch.tensor([[math.pi / 2, 0, 0]]))[0, :3, :3]
        assert torch.allclose(
            quarter @ torch.tensor([0, 1.0, 0]), torch.tensor([0, 0, 1.0]), atol=1e-6
        )


class TestToneMapper:
    def test_by_hand(self):
        image = torch.tensor([[4.0, 1], [0, 16]]).view(1, 2, 2, 1)
        found = tf_mesh.tone_mapper(torch.cat([image, 0 * image]), 0.5)
        assert found[0].flatten().tolist() == [0.5, 0.25, 0, 1]
        assert not found[1].any()


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"vertices": torch.zeros(4, 3)}, ValueError, r"vertices is \[4, 3\], expected \[B, V, 3\]"),
            ({"triangles": torch.zeros(0, 3).int()}, ValueError, r"triangles is \[0, 3\].*without triangles"),
            ({"normals": torch.zeros(2, 1, 3)}, ValueError, r"normals is .* V = \d+ \(from vertices\)"),
            ({"camera_up": torch.zeros(4)}, ValueError, r"camera_up is \[4\], expected \[B, 3\] or \[3\]"),
            ({"light_positions": torch.zeros(1, 2, 3)}, ValueError, "light_positions is .* B = 2"),
            ({"light_intensities": torch.zeros(2, 3, 3)}, ValueError, r"light_intensities .* L = 2"),
            ({"image_width": 0}, ValueError, "image_width is 0, expected a whole number of pixels"),
            ({"specular_colors": torch.zeros(2, 4, 3)}, ValueError, "specular_colors .* without shininess"),
            ({"shininess_coefficients": 3.0}, ValueError, "shininess_coefficients is given without"),
            ({"ambient_color": torch.zeros(3)}, ValueError, r"ambient_color is \[3\], expected \[B, 3\]"),
            ({"fov_y": torch.zeros(3)}, ValueError, r"fov_y is \[3\], expected \[B\] or \[\]"),
            ({"diffuse_colors": torch.zeros(2, 1).double()}, ValueError, r"diffuse_colors is \[2, 1\]"),
            ({"vertices": torch.zeros(1, 3, 3).double()}, TypeError, "vertices is torch.float64"),
            ({"fov_y": None}, TypeError, "fov_y is None, expected a number"),
            ({"near_clip": "0.01"}, TypeError, "near_clip is '0.01', expected a number"),
            ({"far_clip": float("inf")}, ValueError, "far_clip is inf, expected a finite number"),
            ({"normals": torch.zeros(2, 1, 3, device="meta")}, ValueError, "normals is on meta, but"),
        ],
    )  # fmt: skip
    def test_mesh_renderer(self, scene, change, error, message):
        with pytest.raises(error, match=f"mesh_renderer: {message}"):
            tf_mesh.mesh_renderer(**{**scene, **change})

    def test_cameras_without_a_direction(self, scene):
        with pytest.raises(ValueError, match="look_at: center is where eye is"):
            tf_mesh.mesh_renderer(**{**scene, "camera_lookat": scene["camera_position"]})
        with pytest.raises(ValueError, match="look_at: the camera looks along world_up"):
            tf_mesh.mesh_renderer(**{**scene, "camera_up": scene["camera_position"]})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"fov_y": 0}, r"fov_y is \[0.0, 0.0\], expected degrees between 0 and 180"),
            ({"fov_y": torch.tensor([40.0, 180])}, r"fov_y is \[40.0, 180.0\], expected degrees"),
            ({"near_clip": 0}, r"near_clip is \[0.0, 0.0\] .* expected 0 < near_clip < far_clip"),
            ({"near_clip": 10}, r"near_clip is .* and far_clip is \[10.0, 10.0\]"),
        ],
    )
    def test_cameras_that_are_none(self, scene, change, message):
        with pytest.raises(ValueError, match=f"perspective: {message}"):
            tf_mesh.mesh_renderer(**{**scene, **change})

    def test_matrices(self):
        one = torch.ones(1)
        with pytest.raises(ValueError, match=r"look_at: eye is \[3\], expected \[B, 3\]"):
            tf_mesh.look_at(torch.zeros(3), torch.ones(1, 3), torch.ones(1, 3))
        with pytest.raises(
            TypeError, match="look_at: center is torch.float64, expected torch.float32"
        ):
            tf_mesh.look_at(torch.zeros(1, 3), torch.ones(1, 3).double(), torch.ones(1, 3))
        with pytest.raises(ValueError, match="look_at: world_up holds NaN or infinity"):
            tf_mesh.look_at(torch.zeros(1, 3), torch.ones(1, 3), torch.full((1, 3), torch.nan))
        with pytest.raises(
            ValueError, match=r"perspective: far_clip is \[2\].* B = 1 \(from fov_y"
        ):
            tf_mesh.perspective(1.0, 40 * one, one, torch.tensor([2.0, 3]))
        with pytest.raises(
            ValueError, match="perspective: aspect_ratio is 0, expected a number above"
        ):
            tf_mesh.perspective(0, 40 * one, one, 2 * one)
        with pytest.raises(
            ValueError, match=r"euler_matrices: angles is \[1, 2\], expected \[B, 3\]"
        ):
            tf_mesh.euler_matrices(torch.zeros(1, 2))

    @pytest.mark.parametrize("gamma", [0, -1.0])
    def test_gamma(self, gamma):
        with pytest.raises(ValueError, match="tone_mapper: gamma is .* expected a number above 0"):
            tf_mesh.tone_mapper(torch.zeros(1, 2, 2, 3), gamma)

    def test_gamma_of_other_kinds(self):
        image = torch.full((1, 2, 2, 3), 0.25)
        assert (tf_mesh.tone_mapper(image, torch.tensor(0.5)) == 1).all()
        with pytest.raises(TypeError, match="tone_mapper: gamma is None, expected a number"):
            tf_mesh.tone_mapper(image, None)
        with pytest.raises(ValueError, match="tone_mapper: gamma is on meta, but image is on cpu"):
            tf_mesh.tone_mapper(image, torch.tensor(0.5, device="meta"))

    def test_rasterize(self):
        clip, tri = torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]])
        with pytest.raises(
            ValueError, match=r"rasterize_clip_space: background_value is \[2\], expected \[3\]"
        ):
            tf_mesh.rasterize_clip_space(clip, torch.zeros(1, 3, 3), tri, 4, 4, [0, 0])
        for bad in (None, "black", [[0, 0, 0], [0]]):
            with pytest.raises(
                TypeError,
                match=r"rasterize_clip_space: background_value is a .* expected 3 numbers",
            ):
                tf_mesh.rasterize_clip_space(clip, torch.zeros(1, 3, 3), tri, 4, 4, bad)
        with pytest.raises(
            ValueError, match=r"rasterize_clip_space: clip_space_vertices is \[1, 3, 3\]"
        ):
            tf_mesh.rasterize_clip_space(clip[..., :3], torch.zeros(1, 3, 3), tri, 4, 4, 0)
        with pytest.raises(ValueError, match=r"rasterize: camera_matrices is \[1, 3, 3\]"):
            tf_mesh.rasterize(clip[..., :3], torch.zeros(1, 3, 3), tri, torch.eye(3)[None], 4, 4, 0)
        with pytest.raises(ValueError, match=r"tone_mapper: image is \[4, 4\]"):
            tf_mesh.tone_mapper(torch.zeros(4, 4), 0.5)
