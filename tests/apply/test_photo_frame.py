"""Parts of photographs: where pixels are, meshes drawn into them, distances."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.photo_frame import Frame, covered, distance_to, interpolated, smooth_step
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.portraits import mirrored_cap


class TestFrame:
    def test_grid_has_the_middles_of_pixels(self):
        grid = Frame(10, 20, 2.0, 4, 6).grid()
        assert grid.shape == (4, 6, 2)
        assert grid[0, 0].tolist() == [10.25, 20.25] and grid[3, 5].tolist() == [12.75, 21.75]

    def test_a_mesh_is_where_a_renderer_draws_it(self):
        model = mirrored_cap()
        decoder = FaceDecoder(model, 64, frontal_only=False)
        with torch.no_grad():
            geometry = decoder.geometry(decoder.code_zero())
            mask = decoder.rasterize(geometry).mask[0, 0]
        places = decoder.camera.project(geometry.vertices)[0]
        clip = decoder.camera.clip_space(geometry.vertices)[0]
        rast = Frame(0, 0, 1.0, 64, 64).rasterize(places, clip, model.triangles)
        assert (covered(rast) != mask).sum() == 0
        # Values of vertices that are their places are the middles of the pixels.
        drawn = interpolated(places, rast, model.triangles).permute(1, 2, 0)
        inside = mask > 0
        grid = Frame(0, 0, 1.0, 64, 64).grid()
        assert (drawn - grid)[inside].abs().max() < 0.05  # 0.004 measured

    def test_another_part_in_other_pixels(self):
        model = mirrored_cap()
        decoder = FaceDecoder(model, 64, frontal_only=False)
        with torch.no_grad():
            geometry = decoder.geometry(decoder.code_zero())
        places = 3 * decoder.camera.project(geometry.vertices)[0] + torch.tensor([100.0, 50])
        clip = decoder.camera.clip_space(geometry.vertices)[0]
        frame = Frame(130, 80, 0.5, 40, 50)
        rast = frame.rasterize(places, clip, model.triangles)
        drawn = interpolated(places, rast, model.triangles).permute(1, 2, 0)
        inside = covered(rast) > 0
        assert inside.any()
        assert (drawn - frame.grid())[inside].abs().max() < 0.3  # px of 2; 0.02 measured


class TestDistanceTo:
    def test_of_a_square(self):
        mask = torch.zeros(80, 80)
        mask[30:50, 30:50] = 1
        away = distance_to(mask)
        assert (away[mask > 0] == 0).all()
        assert away[40, 70].item() == pytest.approx(21, abs=1.5)
        assert away[10, 10].item() == pytest.approx(np.hypot(20, 20), abs=1.5)

    def test_everywhere(self):
        assert (distance_to(torch.ones(20, 20)) == 0).all()


def test_smooth_step():
    values = smooth_step(torch.tensor([-1.0, 0, 0.5, 1, 2]))
    assert values.tolist() == [0, 0, 0.5, 1, 1]
