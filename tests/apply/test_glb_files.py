"""Binary glTF from meshes given by hand: targets, cameras, motion, material."""

import dataclasses

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.glb_files import glb_bytes, quaternions
from mofa_nvdr.apply.mesh_files import Mesh, MeshCamera, Motion
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.apply.test_mesh_files import seamed
from tests.helpers.mesh_readers import Glb


class TestGlbBytes:
    def test_target_that_moves_nothing(self):
        mesh = Mesh(
            np.eye(3), np.array([[0, 1, 2]]), np.eye(3), targets={"still": np.zeros((3, 3))}
        )
        assert (Glb(glb_bytes(mesh)).targets["still"] == 0).all()

    def test_few_moved_vertices_are_sparse(self):
        """One of four moves: its row alone is stored; where three move all four are."""
        few, many = np.zeros((4, 3)), np.ones((4, 3))
        few[2], many[0] = [0, 5, 0], 0
        glb = Glb(glb_bytes(dataclasses.replace(seamed(False), targets={"a": few, "b": many})))
        assert np.array_equal(glb.targets["a"], few) and np.array_equal(glb.targets["b"], many)
        numbers = [target["POSITION"] for target in glb.primitive["targets"]]
        assert ["sparse" in glb.json["accessors"][k] for k in numbers] == [True, False]

    def test_seams_and_turned_coordinates(self):
        """Vertices are doubled at the seam; v points down in a .glb."""
        glb = Glb(glb_bytes(dataclasses.replace(seamed(), texture=np.zeros((2, 2, 3), np.uint8))))
        assert glb.attribute("POSITION").shape == (6, 3)
        uv = seamed().uv[[0, 1, 3, 2, 4, 5]]
        np.testing.assert_allclose(glb.attribute("TEXCOORD_0"), uv * [1, -1] + [0, 1], atol=1e-7)

    def test_camera_and_copyright(self):
        mesh = dataclasses.replace(seamed(False), camera=MeshCamera(0.5, 1.5, 0.1, 10.0))
        glb = Glb(glb_bytes(mesh, "own work", "a program"))
        assert glb.json["cameras"][0]["perspective"] == {
            "yfov": 0.5, "aspectRatio": 1.5, "znear": 0.1, "zfar": 10.0,
        }  # fmt: skip
        assert glb.json["asset"]["copyright"] == "own work"
        assert glb.json["asset"]["generator"] == "a program"
        assert "cameras" not in Glb(glb_bytes(seamed(False))).json

    def test_a_camera_elsewhere(self):
        """It stands at (1, 2, 3) and looks to -x: a quarter turn about the vertical."""
        turn = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
        camera = MeshCamera(0.5, 1.5, 0.1, 10.0, turn, np.array([1.0, 2, 3]))
        node = Glb(glb_bytes(dataclasses.replace(seamed(False), camera=camera))).json["nodes"][1]
        assert node["translation"] == [1, 2, 3]
        np.testing.assert_allclose(node["rotation"], [0, 0.5**0.5, 0, 0.5**0.5], atol=1e-12)

    def test_materials(self):
        for unlit in (True, False):
            glb = Glb(glb_bytes(dataclasses.replace(seamed(False), unlit=unlit))).json
            (material,) = glb["materials"]
            assert ("KHR_materials_unlit" in material.get("extensions", {})) == unlit
            assert ("extensionsUsed" in glb) == unlit
            assert material["pbrMetallicRoughness"]["metallicFactor"] == 0

    def test_motion(self):
        """Two targets and three frames: weights frame by frame, poses, and the first frame at rest."""
        axes = np.array([[0, 0, 0], [0, 0.2, 0], [0.1, 0.3, -0.2]])
        turns = axis_angle_to_matrix(torch.from_numpy(axes)).numpy()
        weights = np.array([[0, 0.5], [0.25, 1], [1, 0]])
        motion = Motion(np.array([0.5, 0.6, 0.9]), weights, turns, np.eye(3))
        targets = {"a": np.ones((4, 3)), "b": 2 * np.ones((4, 3))}
        mesh = dataclasses.replace(seamed(False), targets=targets, motion=motion)
        glb = Glb(glb_bytes(mesh))
        (clip,) = glb.json["animations"]
        read = {}
        for channel in clip["channels"]:
            assert channel["target"]["node"] == 0
            sampler = clip["samplers"][channel["sampler"]]
            assert sampler["interpolation"] == "LINEAR"
            np.testing.assert_allclose(
                glb.array(sampler["input"])[:, 0], [0.5, 0.6, 0.9], rtol=1e-6
            )
            read[channel["target"]["path"]] = glb.array(sampler["output"])
        assert np.array_equal(read["weights"].reshape(3, 2), weights)
        assert np.array_equal(read["translation"], np.eye(3))
        np.testing.assert_allclose(read["rotation"], quaternions(turns), atol=1e-7)
        assert glb.json["meshes"][0]["weights"] == [0, 0.5]
        assert glb.json["nodes"][0]["translation"] == [1, 0, 0]
        input_accessor = glb.json["accessors"][clip["samplers"][0]["input"]]
        assert input_accessor["min"] == [0.5]  # the specification asks for it

    def test_motion_without_targets(self):
        motion = Motion(
            np.array([0.0, 1]), np.zeros((2, 0)), np.eye(3)[None].repeat(2, 0), np.eye(2, 3)
        )
        glb = Glb(glb_bytes(dataclasses.replace(seamed(False), motion=motion))).json
        paths = [channel["target"]["path"] for channel in glb["animations"][0]["channels"]]
        assert paths == ["rotation", "translation"]


class TestQuaternions:
    def test_every_rotation(self):
        """q v q* is R v, half turns included."""
        generator = np.random.default_rng(0)
        axes = generator.normal(size=(50, 3))
        axes[0] = [np.pi, 0, 0]
        matrices = axis_angle_to_matrix(torch.from_numpy(axes)).numpy()
        x, y, z, w = quaternions(matrices).T
        again = np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]).transpose(2, 0, 1)  # fmt: skip
        np.testing.assert_allclose(again, matrices, atol=1e-9)

    def test_neighbours_are_near(self):
        """Linear interpolation goes the short way: through the half turn the sign does not jump."""
        angles = np.linspace(0, 6, 40)
        axes = np.stack([0 * angles, angles, 0 * angles], 1)
        turns = quaternions(axis_angle_to_matrix(torch.from_numpy(axes)).numpy())
        assert turns[0, 3] == pytest.approx(1)
        assert np.abs(np.diff(turns, axis=0)).max() < 0.1
