"""HRN's renderer: occlusion by hand, textures, and the search for a texture.

Against the peer's own file (HRN 5883369, on this package's operators): mask, image, depth of image 0 and
textured image and the texture found the same bits, occlusion within 7e-6.
"""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.compat.hrn import MeshRenderer
from tests.compat.test_deep3d import FOV, SIZE, renderer, scene  # noqa: F401 (a fixture)
from tests.helpers.peer_scenes import random_values

SQUARE = torch.tensor([[[-1.2, -1.2, 10], [1.2, -1.2, 10], [-1.2, 1.2, 10], [1.2, 1.2, 10]]])
TRIANGLES = torch.tensor([[0, 1, 2], [1, 3, 2]])
UV = torch.tensor([[[0.0, 0], [1, 0], [0, 1], [1, 1]]])


def hrn(size: int = SIZE) -> MeshRenderer:
    return MeshRenderer(FOV, znear=5, zfar=15, rasterize_size=size)


class TestForward:
    def test_the_first_three_are_deep3ds(self, scene):  # noqa: F811
        found = hrn()(*scene)
        for a, b in zip(found, renderer()(*scene)):
            assert torch.equal(a, b)
        assert found[3].shape == (2, 1, SIZE, SIZE)

    def test_occlusion_by_hand(self):
        # Covered everywhere: the four weights add up to (1 + 1 + 1 + 1).
        occlusion = hrn()(SQUARE, TRIANGLES)[3]
        assert torch.allclose(occlusion, torch.ones_like(occlusion), atol=1e-5)
        # A triangle whose tip points right: around the tip only pixels to the left are covered.
        tip = torch.tensor([[[-1.2, -1.2, 10], [-1.2, 1.2, 10], [0.5, 0, 10.0]]])
        found = hrn()(tip, torch.tensor([[0, 1, 2]]))[3][0, 0, SIZE // 2]
        covered = found[found > 0]
        assert covered[-1] < 0.75 and covered[0] > 0.9

    def test_of_each_image(self, scene):  # noqa: F811
        together, alone = hrn()(*scene)[3], hrn()(scene[0][1:], scene[1])[3]
        assert torch.equal(together[1], alone[0])

    def test_refusal(self):
        with pytest.raises(ValueError, match=r"vertex is \[1, 4, 4\], expected \[B, N, 3\]"):
            hrn()(random_values(1, 4, 4), TRIANGLES)


class TestTextures:
    def test_draws_it_upright(self):
        texture = random_values(1, 3, 5, 5)
        kept = UV.clone()
        mask, depth, image = hrn(5).render_uv_texture(SQUARE, TRIANGLES, UV, texture)
        again = hrn(5).render_uv_texture(SQUARE, TRIANGLES, UV, texture)[2]
        assert mask.all() and torch.allclose(depth, torch.full_like(depth, 10.0))
        # Texture and picture have the same middle, row 0 at the top in both.
        assert torch.allclose(image[0, :, 2, 2], texture[0, :, 2, 2], atol=1e-3)
        assert (image[0, :, 0, 2] - texture[0, :, 0, 2]).abs().max() < 0.2
        assert torch.equal(again, image) and torch.equal(UV, kept)

    def test_finds_the_texture_of_a_picture(self):
        wanted = random_values(1, 3, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3)
        target = hrn(64).render_uv_texture(SQUARE, TRIANGLES, UV, wanted)[2].permute(0, 2, 3, 1)
        mask, _, image, texture, used = hrn(64).pred_texture(
            SQUARE, TRIANGLES, UV, target.contiguous(), tex_size=64
        )
        assert mask.all() and texture.shape == (1, 64, 64, 3) and used.shape == (64, 64)
        assert (image - target.permute(0, 3, 1, 2)).abs().mean() < 0.01
        seen = torch.from_numpy(used == 1)
        assert 0.5 < seen.double().mean() < 1  # the square is larger than the picture
        found = (texture[0] - wanted[0].permute(1, 2, 0)).abs().mean(-1)
        assert found[seen].mean() < 0.05 < found[~seen].mean()

    def test_from_coarse_to_fine(self):
        target = torch.full((1, 32, 32, 3), 0.25)
        texture = hrn(32).pred_texture(SQUARE, TRIANGLES, UV, target, tex_size=96)[3]
        assert texture.shape == (1, 96, 96, 3)
        assert (texture - 0.25).abs().mean() < 1e-3

    def test_a_vertex_without_a_place(self):
        mask, _, _, covered = hrn()(SQUARE * float("nan"), TRIANGLES)
        assert not mask.any() and not covered.any()

    def test_refusals(self):
        with pytest.raises(ValueError, match="tex_size is 32, expected 64 or more"):
            hrn().pred_texture(SQUARE, TRIANGLES, UV, random_values(1, SIZE, SIZE, 3), tex_size=32)
        with pytest.raises(ValueError, match=r"target_img is .* expected \[1, 48, 48, 3\]"):
            hrn().pred_texture(SQUARE, TRIANGLES, UV, random_values(1, 8, 8, 3))
        with pytest.raises(ValueError, match=r"uv is \[1, 3, 2\].* N = 4"):
            hrn().render_uv_texture(SQUARE, TRIANGLES, UV[:, :3], random_values(1, 3, 4, 4))
        with pytest.raises(ValueError, match=r"uv_texture is \[3, 4, 4\]"):
            hrn().render_uv_texture(SQUARE, TRIANGLES, UV, random_values(3, 4, 4))
