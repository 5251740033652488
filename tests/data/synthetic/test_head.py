"""Heads around a face mesh: they go on from its border and cover no face but with hair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mofa_nvdr.data.synthetic.head import CLOTH, HAIR, SKIN, HeadShape, bare_head, border
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.random_draws import draws
from tests.helpers.small_face import small_face


class TestBorder:
    def test_a_square_with_a_hole(self):
        """3 x 3 cells, the middle one missing: the outer loop of 12 vertices, not the inner of 4."""
        index = np.arange(16).reshape(4, 4)
        triangles = []
        for r in range(3):
            for c in range(3):
                if (r, c) != (1, 1):
                    a, b, d, e = index[r, c], index[r, c + 1], index[r + 1, c], index[r + 1, c + 1]
                    triangles += [(a, d, b), (b, d, e)]
        loop = border(np.array(triangles))
        assert sorted(loop) == [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15]
        steps = np.abs(np.diff(loop, append=loop[0]))
        assert set(steps) <= {1, 4}  # neighbours

    def test_closed(self):
        tetrahedron = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])
        with pytest.raises(ValueError, match="mesh is closed, .* without surroundings"):
            border(tetrahedron)


@pytest.fixture(scope="module")
def head(face_model):
    decoder = FaceDecoder(face_model, 64)
    shape = HeadShape(face_model, decoder.camera)
    code = decoder.code_zero(6)
    geometry = decoder.geometry(code)
    return decoder, shape, geometry, shape(code, geometry, face_model, draws(6))


class TestHeadShape:
    def test_parts(self, head):
        _, shape, _, drawn = head
        assert {SKIN, HAIR, CLOTH} == set(shape.part.tolist())
        assert len(shape.part) == len(shape.triangles)
        assert shape.triangles.max() == drawn.vertices.shape[1] - 1
        assert torch.isfinite(drawn.vertices).all()
        assert 0 <= drawn.albedo.min() and drawn.albedo.max() <= 1

    def test_skull_goes_on_from_the_border(self, head):
        """The mesh's border lies between its first two rings; the colours are the border's."""
        _, shape, geometry, drawn = head
        ring = geometry.vertices[:, shape._loop]
        count = ring.shape[1]
        first, second = drawn.vertices[:, :count], drawn.vertices[:, count : 2 * count]
        way = second - first
        place = ((ring - first) * way).sum(2) / way.square().sum(2)
        assert 0 < place.min() and place.max() < 0.6
        away = (first + place[..., None] * way - ring).norm(dim=2)
        assert away.max() < 9  # mm from the line between the rings; measured 5.5
        torch.testing.assert_close(drawn.albedo[:, :count], geometry.albedo[:, shape._loop])

    def test_faces_outwards(self, head):
        """The back of the skull looks away from the camera, the shoulders' front to it."""
        _, shape, _, drawn = head
        normals = vertex_normals(drawn.vertices, shape.triangles)
        skull = slice(0, 144 * 10)
        middle = drawn.vertices[:, skull].mean(1, keepdim=True)
        outward = (normals[:, skull] * (drawn.vertices[:, skull] - middle)).sum(2)
        assert (outward > 0).float().mean() > 0.95

    def test_covers_no_face_but_with_hair(self, head):
        from mofa_nvdr.render.renderer import FaceRenderer

        decoder, shape, geometry, drawn = head
        whole = FaceDecoder(decoder.model, 64, frontal_only=False).rasterize(geometry)
        rendering = FaceRenderer(decoder.camera)(
            drawn.vertices, shape.triangles, drawn.albedo, geometry.light
        )
        nearer = (rendering.mask * whole.mask > 0)[:, 0] & (rendering.depth < whole.depth)[:, 0]
        part = shape.part[rendering.triangle_ids.clamp(min=0)]
        frontal = FaceDecoder(decoder.model, 64).rasterize(geometry).mask[:, 0] > 0
        assert (nearer & frontal & (part == CLOTH)).sum() == 0
        assert (nearer & frontal & (part == SKIN)).float().sum() < 0.01 * frontal.sum()
        assert (rendering.mask.sum() > 1.2 * whole.mask.sum()).item()


class TestBareHead:
    def test_is_the_face_and_a_head_without_hair(self, head, face_model):
        decoder, shape, geometry, _ = head
        code = decoder.code_zero()
        vertices, triangles = bare_head(face_model, decoder.camera, code, decoder.geometry(code))
        count = face_model.num_vertices
        assert torch.equal(vertices[:count], geometry.vertices[0])
        assert torch.equal(triangles[: len(face_model.triangles)], face_model.triangles)
        assert triangles.max() == len(vertices) - 1
        assert len(triangles) - len(face_model.triangles) == (shape.part != HAIR).sum()
        behind, below = vertices[count:, 2].min(), vertices[count:, 1].min()
        assert behind < vertices[:count, 2].min() - 50 and below < vertices[:count, 1].min() - 50

    def test_follows_the_pose(self, face_model):
        decoder = FaceDecoder(face_model, 64)
        code = decoder.code_zero()
        turned = code.replace(rotation=torch.tensor([[0.0, 0.5, 0.0]]))
        still, _ = bare_head(face_model, decoder.camera, code, decoder.geometry(code))
        moved, _ = bare_head(face_model, decoder.camera, turned, decoder.geometry(turned))
        skull = slice(face_model.num_vertices, face_model.num_vertices + 144 * 10)
        home = still.new_tensor(decoder.camera.position)
        matrix = axis_angle_to_matrix(turned.rotation)[0]
        want = (still[skull] - home) @ matrix.T + home
        torch.testing.assert_close(moved[skull], want, rtol=0, atol=1e-2)

    def test_of_a_closed_mesh_it_is_the_face_alone(self):
        model = small_face(6)
        closed = model.triangles.tolist() + [[c, b, a] for a, b, c in model.triangles.tolist()]
        arrays = {name: value.numpy() for name, value in model.named_buffers()}
        arrays["triangles"] = np.array(closed)
        model = FaceModel(arrays, {"name": "cap"})
        decoder = FaceDecoder(model, 32)
        code = decoder.code_zero()
        vertices, triangles = bare_head(model, decoder.camera, code, decoder.geometry(code))
        assert len(vertices) == model.num_vertices and len(triangles) == len(closed)
