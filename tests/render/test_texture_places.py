"""Texels on the mesh: what hides them, at which angle they are seen, and where their mirror images are."""

import numpy as np
import pytest
import torch

from mofa_nvdr.render.texture_places import mirrored_places, seen_points
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera
from tests.helpers.small_face import small_face

CAMERA = IntrinsicsCamera((100, 200), 100.0, 100.0, 100.0, 50.0)


def _square(half: float, z: float, left: float = 0.0) -> torch.Tensor:
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return torch.cat([corners + torch.tensor([left, 0.0]), torch.full((4, 1), z)], 1)


TWO = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


class TestSeenPoints:
    @pytest.fixture
    def squares(self):
        """A wall 1 m away, 80 cm wide; a plate of 20 cm 20 cm before it."""
        vertices = torch.cat([_square(400.0, -1000.0), _square(100.0, -800.0)])
        return vertices, torch.cat([TWO, TWO + 4])

    def test_hidden_and_seen(self, squares):
        points = torch.tensor(
            [[0, 0, -1000.0], [200, 0, -1000], [0, 0, -800], [130, 0, -1000], [110, 0, -1000]]
        )
        normals = torch.tensor([0.0, 0, 1]).expand(5, 3)
        at = seen_points(points, normals, *squares, CAMERA)
        # The plate's edge is at 100 mm in 800, 125 in 1000: behind it, beside, on it, just beside and behind.
        assert at.seen.tolist() == [False, True, True, True, False]
        np.testing.assert_allclose(at.places[1], [120, 50])
        np.testing.assert_allclose(at.facing[[0, 2]], 1, atol=1e-6)
        assert float(at.facing[1]) == pytest.approx(1 / (1 + 0.2**2) ** 0.5)  # to the line of sight

    def test_looking_away_and_out_of_the_picture(self, squares):
        points = torch.tensor([[200, 0, -1000.0], [0, 390, -1000], [0, 0, 100]])
        normals = torch.tensor([[0, 0, -1.0], [0, 0, 1], [0, 0, -1]])
        at = seen_points(points, normals, *squares, CAMERA)
        # A picture 100 px high sees 500 mm up at 1 m; the last point is behind the camera.
        assert at.seen.tolist() == [False, True, False]
        narrow = IntrinsicsCamera((60, 200), 100.0, 100.0, 100.0, 30.0)
        assert not seen_points(points, normals, *squares, narrow).seen.any()

    def test_distance_to_the_outline(self, squares):
        points = torch.tensor([[200, 0, -1000.0], [300, 0, -1000], [0, 200, -1000]])
        at = seen_points(points, torch.tensor([0.0, 0, 1]).expand(3, 3), *squares, CAMERA)
        # 400 mm wide each way, in pixels of 10 mm; cv2's distances are off by a few per cent.
        np.testing.assert_allclose(at.rim, [200, 100, 200], atol=12)

    def test_a_slanted_surface_does_not_hide_itself(self):
        """Seen at 75 degrees, a pixel holds depths of 40 mm."""
        angle = np.radians(75)
        turn = torch.tensor(
            [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        ).float()
        vertices = _square(300.0, 0.0) @ turn.T + torch.tensor([0.0, 0, -1000])
        share = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
        flat = torch.cat([300 * share, torch.zeros(2000, 1)], 1)
        points = flat @ turn.T + torch.tensor([0.0, 0, -1000])
        at = seen_points(points, turn[:, 2].expand(2000, 3), vertices, TWO, CAMERA)
        assert at.seen[at.facing > 0.1].float().mean() > 0.99


class TestMirroredPlaces:
    def _parts(self, model):
        mean = model.mean_shape
        uv = (mean[:, :2] - mean[:, :2].amin(0)) / (mean[:, :2].amax(0) - mean[:, :2].amin(0))
        return model.triangles, uv, model.triangles, model.mirror_index

    def test_the_cap_is_its_own_mirror_image(self):
        triangles, uv, corners, mirror = self._parts(small_face(8))
        # The diagonals of its squares are not symmetric: no triangle has another one across.
        assert mirrored_places(triangles, uv, corners, mirror, 32).isnan().all()

    def test_across(self):
        """A square of two symmetric halves: x goes to -x, y stays."""
        uv = torch.tensor([[0, 0], [0.5, 0], [1, 0], [0, 1], [0.5, 1], [1, 1.0]])
        triangles = torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 4], [2, 5, 4]], dtype=torch.int32)
        mirror = torch.tensor([2, 1, 0, 5, 4, 3])
        grid = mirrored_places(triangles, uv, triangles, mirror, 16)
        middle = (torch.arange(16) + 0.5) / 8 - 1
        np.testing.assert_allclose(grid[..., 0], -middle.expand(16, 16), atol=1e-5)
        np.testing.assert_allclose(grid[..., 1], middle[:, None].expand(16, 16), atol=1e-5)

    def test_a_layout_with_a_seam(self):
        """The left half lies in the lower half of the texture, the right one in the upper half."""
        uv = torch.tensor(
            [[0, 0], [1, 0], [0, 0.5], [1, 0.5], [0, 0.5], [1, 0.5], [0, 1.0], [1, 1]]
        )
        # Vertices 0 1 2 / 3 4 5; their halves share 1 and 4, which have two uv each.
        triangles = torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 4], [2, 5, 4]], dtype=torch.int32)
        corners = torch.tensor([[0, 1, 3], [0, 3, 2], [5, 4, 7], [4, 6, 7]], dtype=torch.int32)
        grid = mirrored_places(triangles, uv, corners, torch.tensor([2, 1, 0, 5, 4, 3]), 16)
        middle = (torch.arange(16) + 0.5) / 8 - 1
        np.testing.assert_allclose(grid[..., 0], middle.expand(16, 16), atol=1e-5)
        # What lies above goes down by half of the texture, and back.
        np.testing.assert_allclose(grid[:8, :, 1], (middle[:8, None] + 1).expand(8, 16), atol=1e-5)
        np.testing.assert_allclose(grid[8:, :, 1], (middle[8:, None] - 1).expand(8, 16), atol=1e-5)

    def test_beside_the_islands(self):
        uv = torch.tensor([[0, 0], [0.25, 0], [0.5, 0], [0, 0.5], [0.25, 0.5], [0.5, 0.5]])
        triangles = torch.tensor([[0, 1, 4], [0, 4, 3], [1, 2, 4], [2, 5, 4]], dtype=torch.int32)
        grid = mirrored_places(triangles, uv, triangles, torch.tensor([2, 1, 0, 5, 4, 3]), 16)
        assert grid[:8].isnan().all() and grid[:, 8:].isnan().all()
        assert grid[8:, :8].isfinite().all()
