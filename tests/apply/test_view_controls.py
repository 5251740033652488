"""What the viewer's controls make of a face: code, light, sun."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.view_controls import EXPRESSION, LIGHT, MODES, POSE, SUN, FaceControls
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.illumination import code_illumination
from mofa_nvdr.scene.light_sources import LUMINANCE
from mofa_nvdr.scene.lighting import total_light
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.small_face import small_face

NAMES = {"jawOpen": [0.0, 1, 1], "browInnerUp": [1.0, 0, 0], "wink": [0.0, 0, 1]}


@pytest.fixture(scope="module")
def model():
    arrays = {name: value.numpy() for name, value in small_face().named_buffers()}
    return FaceModel(arrays, {"name": "cap"}, {n: np.array(v) for n, v in NAMES.items()})


@pytest.fixture
def code(model):
    generator = torch.Generator().manual_seed(0)
    return model.layout.unpack(0.3 * torch.randn(1, model.layout.size, generator=generator))


@pytest.fixture
def controls(model, code):
    return FaceControls(model, code)


class TestValues:
    def test_at_first_the_face_is_as_it_was(self, controls, code):
        for field in dataclasses.fields(code):
            there, own = getattr(controls.code(), field.name), getattr(code, field.name)
            assert torch.allclose(there, own, atol=1e-6), field.name

    def test_groups(self, controls):
        groups = dict.fromkeys(c.group for c in controls.controls.values())
        assert list(groups)[:4] == [SUN, LIGHT, POSE, EXPRESSION]
        assert {"Jaw expressions", "Brow expressions", "Other expressions"} <= set(groups)
        assert set(MODES.values()) <= set(groups)
        assert "Jaw expressions" in controls.expression_groups
        assert MODES["shape"] in controls.form_groups

    def test_ranges_hold_what_is_there(self, model, code):
        shape = code.shape.clone()
        shape[0, 0] = 7.2
        control = FaceControls(model, code.replace(shape=shape)).controls["shape0"]
        assert control.low == -8 and control.high == 8 and control.start == pytest.approx(7.2)
        for c in FaceControls(model, code).controls.values():
            assert c.low <= c.start <= c.high, c.name

    def test_set_keeps_within_the_range(self, controls):
        assert controls.set("yaw", 500) and controls.values["yaw"] == 60
        assert not controls.set("yaw", 99)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_no_number(self, controls, value):
        with pytest.raises(ValueError, match="yaw is .*, expected a number"):
            controls.set("yaw", value)

    def test_unknown(self, controls):
        with pytest.raises(ValueError, match="no control '../../etc/passwd'"):
            controls.set("../../etc/passwd", 1)

    def test_reset(self, controls, code):
        for name in ("yaw", "jawOpen", "sh3", "shape1", "strength"):
            controls.set(name, 1.0)
        controls.reset()
        assert torch.allclose(controls.code().pack(), code.pack(), atol=1e-6)

    def test_moved_and_key(self, controls):
        before = controls.key(POSE)
        assert not controls.moved((POSE,))
        controls.set("roll", 3)
        assert controls.moved((POSE,)) and not controls.moved((SUN, LIGHT))
        assert controls.key(POSE) != before and len(before) == 6


class TestCode:
    def test_named_expressions_add(self, controls, code, model):
        controls.set("jawOpen", 0.5)
        controls.set("wink", 1.0)
        wanted = code.expression + torch.tensor([[0.0, 0.5, 1.5]])
        assert torch.allclose(controls.code().expression, wanted)

    def test_amount_of_its_own(self, controls, code):
        controls.set("amount", 0)
        assert not controls.code().expression.any()
        controls.set("browInnerUp", 1)
        assert controls.code().expression.tolist() == [[1, 0, 0]]

    def test_modes(self, controls, code):
        controls.set("shape1", 2.5)
        controls.set("albedo0", -1)
        new = controls.code()
        assert new.shape[0, 1] == 2.5 and new.albedo[0, 0] == -1
        assert torch.equal(new.shape[0, 2:], code.shape[0, 2:])

    @pytest.mark.parametrize(
        ("name", "axis", "towards"),
        [("yaw", 0, 1.0), ("pitch", 1, 1.0)],
    )
    def test_the_face_turns_where_the_control_says(self, model, name, axis, towards):
        """Its front: to the picture's right, and up."""
        controls = FaceControls(model, model.layout.zeros())
        controls.set(name, 30)
        matrix = axis_angle_to_matrix(controls.code().rotation)[0]
        front = matrix @ torch.tensor([0.0, 0, 1])
        assert front[axis].item() == pytest.approx(towards * math.sin(math.radians(30)), abs=1e-5)

    def test_roll_is_clockwise(self, model):
        controls = FaceControls(model, model.layout.zeros())
        controls.set("roll", 30)
        crown = axis_angle_to_matrix(controls.code().rotation)[0] @ torch.tensor([0.0, 1, 0])
        assert crown[0].item() == pytest.approx(0.5, abs=1e-5)

    def test_turns_come_on_top_of_the_pose(self, model):
        own = torch.tensor([[0.0, 0.3, 0.0]])
        controls = FaceControls(model, model.layout.zeros().replace(rotation=own))
        controls.set("yaw", 20)
        assert controls.code().rotation[0, 1].item() == pytest.approx(
            0.3 + math.radians(20), abs=1e-5
        )

    def test_translation(self, controls, code):
        for name, value in (("x", 5), ("y", -6), ("z", 70)):
            controls.set(name, value)
        moved = controls.code().translation - code.translation
        assert torch.allclose(moved, torch.tensor([[5.0, -6, 70]]), atol=1e-4)


class TestLight:
    def test_the_sun_brightens_its_side_and_keeps_the_exposure(self, controls, code):
        own = total_light(code.light)[0]
        controls.set("azimuth", 90)
        controls.set("elevation", 0)
        controls.set("strength", 1)
        light = controls.light()
        grey, before = light @ torch.tensor(LUMINANCE), own @ torch.tensor(LUMINANCE)
        assert grey[3] > before[3]  # x
        assert grey[0].item() == pytest.approx(before[0].item(), abs=1e-5)

    def test_coefficients_move_all_colours_alike(self, controls, code):
        own = total_light(code.light)[0]
        controls.set("sh3", controls.values["sh3"] + 0.3)
        moved = controls.light() - own
        assert torch.allclose(moved[3], torch.full((3,), 0.3), atol=1e-5)
        assert moved[[0, 1, 2, 4]].abs().max() < 1e-5

    def test_stops(self, controls, code):
        controls.set("exposure", 1)
        ratio = controls.light() / total_light(code.light)[0]
        assert torch.allclose(ratio, torch.full((9, 3), 2 ** (1 / 2.2)), rtol=1e-4)

    def test_warmth(self, controls):
        controls.set("strength", 1)
        controls.set("warmth", 1)
        red, _, blue = controls.illumination().colors[0].tolist()
        assert red > 1 > blue
        assert controls.illumination().colors[0] @ torch.tensor(LUMINANCE) == pytest.approx(1)

    def test_without_the_sun_it_is_the_faces_own(self, controls, code):
        own = code_illumination(total_light(code.light)[0])
        there = controls.illumination()
        assert torch.allclose(there.sh, own.sh, atol=1e-6) and not len(there.directions)

    def test_a_lamp_and_its_coefficients(self, controls):
        """Of the same irradiance where they face it: 17/16 and 1."""
        controls.set("strength", 1)
        lamp, soft = controls.illumination(), controls.illumination(lamp=False)
        assert len(lamp.directions) == 1 and not len(soft.directions)
        assert torch.allclose(lamp.directions[0], controls.sun())
        assert (soft.sh - lamp.sh).abs().max() > 0.1

    def test_no_light_at_all(self, controls):
        controls.set("own", 0)
        assert controls.light().abs().max() == 0
        assert torch.isfinite(controls.illumination().sh).all()


class TestSun:
    @pytest.mark.parametrize(
        ("azimuth", "elevation", "direction"),
        [(0, 0, (0, 0, 1)), (90, 0, (1, 0, 0)), (-90, 0, (-1, 0, 0)), (0, 90, (0, 1, 0))],
    )
    def test_direction(self, controls, azimuth, elevation, direction):
        controls.set("azimuth", azimuth)
        controls.set("elevation", elevation)
        assert controls.sun().tolist() == pytest.approx(direction, abs=1e-6)

    @pytest.mark.parametrize(
        ("place", "direction"),
        [
            ((0, 0), (0, 0, 1)),
            ((0.6, 0), (0.6, 0, 0.8)),
            ((0, 0.6), (0, 0.6, 0.8)),
            ((1, 0), (1, 0, 0)),
            ((1.4, 0), (0.6, 0, -0.8)),  # beyond the rim: behind
            ((5, 0), (0, 0, -1)),
        ],
    )
    def test_dragged(self, controls, place, direction):
        controls.drag_sun(*place)
        assert controls.sun().tolist() == pytest.approx(direction, abs=1e-5)

    def test_dragged_as_another_camera_sees_it(self, controls):
        """From the face's left, which is the picture's right: its back is +x."""
        axes = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
        controls.drag_sun(0, 0, axes)
        assert controls.sun().tolist() == pytest.approx([1, 0, 0], abs=1e-5)
        controls.drag_sun(0.6, 0, axes)
        assert controls.sun().tolist() == pytest.approx([0.8, 0, -0.6], abs=1e-5)

    def test_no_place(self, controls):
        with pytest.raises(ValueError, match="the sun is at nan"):
            controls.drag_sun(math.nan, 0)
