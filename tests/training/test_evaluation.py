"""Validation measures against values known by hand."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.training.evaluation import validate
from tests.helpers.small_face import small_face


class Oracle(nn.Module):
    """An encoder that knows the codes: hands them out in order, and records how it was called."""

    def __init__(self, *codes: FaceCode) -> None:
        super().__init__()
        self.codes = [code.pack() for code in codes]
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(self.training)
        return self.codes[len(self.calls) - 1]


@pytest.fixture(scope="module")
def decoder() -> FaceDecoder:
    return FaceDecoder(small_face(16), 64)


def _batch(decoder: FaceDecoder, code: FaceCode, shift: float = 0.0) -> Batch:
    """The rendering of a code as the photograph, its landmarks moved `shift` px to the right."""
    with torch.no_grad():
        face = decoder(code, render_mode="raster")
    count = code.batch_size
    landmarks = face.landmarks + torch.tensor([shift, 0.0])
    return Batch(face_image(face, 0.5), landmarks, torch.ones(count, 68), 0)


def _posed(decoder: FaceDecoder, rotation=(0.0, 0.0, 0.0), z=0.0) -> FaceCode:
    code = decoder.code_zero()
    return code.replace(
        rotation=torch.tensor([rotation]), translation=torch.tensor([[0.0, 0.0, z]])
    )


class TestValidate:
    @pytest.mark.parametrize("mode", ["raster", "vertex"])
    def test_its_own_rendering(self, decoder, mode):
        """No error; the photometric term's smallest value is the root of its 1e-8."""
        decoder = FaceDecoder(decoder.model, 64, mode)
        code = decoder.code_zero(2)
        result = validate(Oracle(code), decoder, [_batch(decoder, code)])
        assert result["photometric"] == pytest.approx(1e-4, rel=1e-3)
        assert result["landmark_px"] == 0 and result["scale"] == 1
        mask = decoder(code, render_mode="raster").mask
        assert result["mask_fraction"] == pytest.approx(mask.mean().item(), rel=1e-6)
        assert all(result[f"{a}_{s}_deg"] == 0 for a in ("yaw", "pitch") for s in ("mean", "std"))

    def test_photometric_is_the_rgb_distance(self, decoder):
        code = decoder.code_zero()
        batch = _batch(decoder, code)
        offset = torch.tensor([0.02, -0.03, 0.06]).view(1, 3, 1, 1)  # of length 0.07
        result = validate(Oracle(code), decoder, [replace(batch, images=batch.images + offset)])
        assert result["photometric"] == pytest.approx(0.07, rel=1e-3)

    def test_photometric_counts_the_face_alone(self, decoder):
        code = decoder.code_zero()
        face = decoder(code)
        batch = replace(_batch(decoder, code), images=face_image(face, 1.0))
        assert validate(Oracle(code), decoder, [batch])["photometric"] < 2e-4

    @pytest.mark.parametrize("size", [60, 120, 240])
    def test_landmarks_count_in_pixels_at_240(self, size):
        decoder = FaceDecoder(small_face(16), size)
        code = decoder.code_zero()
        result = validate(Oracle(code), decoder, [_batch(decoder, code, shift=3.0)])
        assert result["landmark_px"] == pytest.approx(3 * 240 / size, rel=1e-4)

    def test_landmarks_of_some_images_only(self, decoder):
        code = decoder.code_zero(2)
        batch = _batch(decoder, code, shift=2.0)
        batch.landmarks[0] = torch.nan
        result = validate(Oracle(code), decoder, [batch])
        assert result["landmark_px"] == pytest.approx(2 * 240 / 64, rel=1e-4)

    def test_no_landmarks(self, decoder):
        code = decoder.code_zero()
        batch = _batch(decoder, code)
        batch.landmarks[:] = torch.nan
        result = validate(Oracle(code), decoder, [batch])
        assert math.isnan(result.pop("landmark_px"))
        json.dumps(result, allow_nan=False)

    @pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
    def test_scale_is_the_ratio_of_projected_sizes(self, decoder, scale):
        home = -decoder.camera.position[2]  # mm from the camera
        code = _posed(decoder, z=home - home / scale)
        result = validate(Oracle(code), decoder, [_batch(decoder, code)])
        assert result["scale"] == pytest.approx(scale, rel=1e-5)

        def width(code: FaceCode) -> float:
            ends = torch.tensor([[[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
            placed = decoder.camera.to_camera(ends, torch.eye(3)[None], code.translation)
            left, right = decoder.camera.project(placed)[0, :, 0].tolist()
            return right - left

        assert width(code) / width(decoder.code_zero()) == pytest.approx(scale, rel=1e-4)

    def test_head_behind_the_camera_stays_finite(self, decoder):
        code = _posed(decoder, z=2000.0)
        result = validate(Oracle(code), decoder, [_batch(decoder, code)])
        home = -decoder.camera.position[2]
        assert result["scale"] == pytest.approx(home / decoder.camera.near)

    @pytest.mark.parametrize(
        ("axis", "yaw", "pitch"),
        [((0, 20, 0), 20, 0), ((0, -35, 0), -35, 0), ((15, 0, 0), 0, 15), ((0, 0, 30), 0, 0)],
    )
    def test_angles(self, decoder, axis, yaw, pitch):
        code = _posed(decoder, [math.radians(a) for a in axis])
        result = validate(Oracle(code), decoder, [_batch(decoder, code)])
        assert result["yaw_mean_deg"] == pytest.approx(yaw, abs=1e-3)
        assert result["pitch_mean_deg"] == pytest.approx(pitch, abs=1e-3)

    def test_positive_yaw_looks_to_the_pictures_right_and_positive_pitch_down(self, decoder):
        def tip(*rotation: float) -> Tensor:
            """Where a point before the face projects, px."""
            code = _posed(decoder, rotation)
            matrix = axis_angle_to_matrix(code.rotation)
            point = torch.tensor([[[0.0, 0.0, 100.0]]])
            return decoder.camera.project(
                decoder.camera.to_camera(point, matrix, code.translation)
            ).view(2)

        right, down = tip(0.0, 0.3, 0.0) - tip(0, 0, 0), tip(0.3, 0.0, 0.0) - tip(0, 0, 0)
        assert right[0] > 5 and abs(right[1]) < 0.5
        assert down[1] > 5 and abs(down[0]) < 0.5

    def test_spread_and_mean_over_batches_of_unequal_size(self, decoder):
        """Yaw -10 and 10 in one batch, 30 in another: mean 10, spread sqrt(800 / 3)."""
        layout = decoder.model.layout
        rows = [_posed(decoder, (0.0, math.radians(a), 0.0)).pack() for a in (-10, 10, 30)]
        codes = [layout.unpack(torch.cat(rows[:2])), layout.unpack(rows[2])]
        result = validate(Oracle(*codes), decoder, [_batch(decoder, code) for code in codes])
        assert result["yaw_mean_deg"] == pytest.approx(10, abs=1e-3)
        assert result["yaw_std_deg"] == pytest.approx(math.sqrt(800 / 3), abs=1e-3)

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_is_put_back(self, decoder, training):
        code = decoder.code_zero()
        oracle = Oracle(code).train(training)
        validate(oracle, decoder, [_batch(decoder, code)])
        assert oracle.calls == [False] and oracle.training == training

    def test_mode_is_put_back_after_an_error(self, decoder):
        oracle = Oracle().train()
        with pytest.raises(IndexError):
            validate(oracle, decoder, [_batch(decoder, decoder.code_zero())])
        assert oracle.training

    def test_no_images(self, decoder):
        with pytest.raises(ValueError, match="no images to validate on"):
            validate(Oracle(), decoder, [])
