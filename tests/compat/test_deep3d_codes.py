"""Deep3D's codes and networks: both ways against its formulas, and files that are not its.

Against the peer's own network (Deep3DFaceRecon_pytorch 9167c71, ResNet-50 with random weights saved as it
saves them): codes within 3e-7 (docs/parity.md).
"""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.compat.conventions import convert_landmarks, convert_points
from mofa_nvdr.compat.deep3d_codes import (
    PARTS,
    Deep3dEncoder,
    code_from_deep3d,
    code_to_deep3d,
    deep3d_camera,
    load_deep3d_checkpoint,
)
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.trunks import ResNet50
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import sh_basis
from tests.compat.test_conventions import NORMALS, deep3d
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return FaceModel.load("procedural").double()


def random_coeffs(batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coeffs = 0.3 * torch.randn(batch, 257, generator=generator, dtype=torch.float64)
    return coeffs


def deep3d_vertices(coeffs, model):
    """Its camera-space vertices, decimetres: shape about the mean, R of the angles, to_camera."""
    parts = dict(zip(PARTS, coeffs.split(list(PARTS.values()), dim=1)))
    origin = model.mean_shape.mean(0)
    shape = (model.vertices(parts["id"], parts["exp"]) - origin) / 100
    rotations = []
    for x, y, z in parts["angle"].tolist():
        rx = [[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]]
        ry = [[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]]
        rz = [[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]]
        one, two, three = (torch.tensor(m, dtype=torch.float64) for m in (rx, ry, rz))
        rotations.append(three @ two @ one)
    placed = shape @ torch.stack(rotations).mT + parts["trans"][:, None]
    return torch.cat([placed[..., :2], 10 - placed[..., 2:]], dim=-1)


class TestCodes:
    @pytest.mark.parametrize("camera", [None, Camera(224, 1015.0, position=(1.0, 2.0, -900.0))])
    def test_the_same_face_in_the_same_place(self, model, camera):
        coeffs = random_coeffs()
        code = code_from_deep3d(coeffs, model, camera)
        decoder = FaceDecoder(model, camera=camera or deep3d_camera())
        vertices = decoder.place(code, model.vertices(code.shape, code.expression))
        theirs = deep3d_vertices(coeffs, model)
        assert (vertices - convert_points(theirs, "deep3d")).abs().max() < 1e-6  # mm
        # Its landmarks: 1015 px, y up from the lower edge.
        x, y, z = theirs[:, model.landmarks].unbind(-1)
        landmarks = torch.stack([1015 * x / z + 112, 1015 * y / z + 112], dim=-1)
        ours = decoder.camera.project(vertices[:, model.landmarks])
        assert (convert_landmarks(landmarks, 224, "deep3d") - ours).abs().max() < 1e-6  # px

    def test_the_same_light_and_albedo(self, model):
        coeffs = random_coeffs(1)
        code = code_from_deep3d(coeffs, model)
        light = code.light[0].clone()
        light[0] += 0.7
        assert torch.allclose(sh_basis(NORMALS) @ light, deep3d(coeffs[0, 227:254]), atol=1e-12)
        assert torch.equal(code.albedo, coeffs[:, 144:224])

    def test_there_and_back(self, model):
        coeffs = random_coeffs()
        code = code_from_deep3d(coeffs, model)
        assert torch.allclose(code_to_deep3d(code, model), coeffs, atol=1e-9)

    def test_another_origin(self, model):
        origin = torch.tensor([1.0, 2, 3], dtype=torch.float64)
        coeffs = random_coeffs()
        code = code_from_deep3d(coeffs, model, origin=origin)
        assert not torch.allclose(code.translation, code_from_deep3d(coeffs, model).translation)
        assert torch.allclose(code_to_deep3d(code, model, origin=origin), coeffs, atol=1e-9)

    def test_refusals(self, model):
        with pytest.raises(ValueError, match=r"coeffs is \[1, 256\], expected \[B, 257\]"):
            code_from_deep3d(torch.zeros(1, 256), model)
        with pytest.raises(TypeError, match="code_from_deep3d: coeffs is a list, expected a"):
            code_from_deep3d([[0.0] * 257], model)
        with pytest.raises(ValueError, match="coeffs is on meta, but the face model is on cpu"):
            code_from_deep3d(torch.zeros(1, 257, device="meta"), model)
        with pytest.raises(
            TypeError, match="Deep3dEncoder: images is torch.uint8, expected floats"
        ):
            Deep3dEncoder()(torch.zeros(1, 3, 64, 64).byte())
        with pytest.raises(TypeError, match="images are torch.float64, expected torch.float32"):
            Deep3dEncoder()(torch.zeros(1, 3, 64, 64).double())
        with pytest.raises(ValueError, match="images are on meta, but the network is on cpu"):
            Deep3dEncoder()(torch.zeros(1, 3, 64, 64, device="meta"))
        with pytest.raises(ValueError, match=r"images are \[1, 3, 64, 0\], expected \[B, 3, 224"):
            Deep3dEncoder()(torch.zeros(1, 3, 64, 0))
        small = small_face()
        with pytest.raises(ValueError, match="the face model has 4, 3 and 5 modes .* import BFM"):
            code_from_deep3d(torch.zeros(1, 257), small)
        with pytest.raises(ValueError, match="code_to_deep3d: the face model has 4, 3 and 5 modes"):
            code_to_deep3d(small.layout.unpack(small.layout.zeros().pack()), small)


def checkpoint(path, change=None, prefix=""):
    """A file as the peer saves it, the trunk it holds and the last layers as one."""
    torch.manual_seed(0)
    trunk = ResNet50()
    state = {f"{prefix}backbone.{key}": value for key, value in trunk.state_dict().items()}
    weight, bias = 0.01 * torch.randn(257, 2048), torch.randn(257)
    sizes = [80, 64, 80, 3, 27, 2, 1]
    for k, (w, b) in enumerate(zip(weight.split(sizes), bias.split(sizes))):
        state[f"{prefix}final_layers.{k}.weight"] = w[..., None, None]
        state[f"{prefix}final_layers.{k}.bias"] = b
    if change is not None:
        change(state)
    torch.save({"net_recon": state, "opt_00": {"param_groups": [{"lr": 1e-4}]}}, path)
    return trunk.eval(), weight, bias


class TestCheckpoint:
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_the_whole_network(self, tmp_path, prefix):
        trunk, weight, bias = checkpoint(tmp_path / "epoch_20.pth", prefix=prefix)
        encoder = load_deep3d_checkpoint(tmp_path / "epoch_20.pth")
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            wanted = trunk(images) @ weight.T + bias
            assert not encoder.training
            assert torch.allclose(encoder(images), wanted, rtol=1e-4, atol=1e-4)

    def test_other_files(self, tmp_path):
        path = tmp_path / "a.pth"
        with pytest.raises(ValueError, match="a.pth: no such weights file"):
            load_deep3d_checkpoint(path)
        torch.save({"encoder": {}, "opt": {}}, path)
        with pytest.raises(
            ValueError, match="no entry 'net_recon' in this file; it holds encoder, opt"
        ):
            load_deep3d_checkpoint(path)
        torch.save(torch.zeros(1), path)
        with pytest.raises(ValueError, match="no entry 'net_recon' in this file; it holds Tensor"):
            load_deep3d_checkpoint(path)
        checkpoint(path, lambda state: state.pop("backbone.conv1.weight"))
        with pytest.raises(
            ValueError, match="not the weights of ResNet50; 1 missing: conv1.weight"
        ):
            load_deep3d_checkpoint(path)
        checkpoint(path, lambda state: state.pop("final_layers.6.weight"))
        with pytest.raises(
            ValueError, match="no final_layers.6.weight in net_recon; expected seven"
        ):
            load_deep3d_checkpoint(path)
        checkpoint(path, lambda state: state.update({"final_layers.1.bias": torch.zeros(63)}))
        with pytest.raises(ValueError, match=r"final_layers.1.bias is \[63\], expected 64 outputs"):
            load_deep3d_checkpoint(path)

    def test_images(self):
        with pytest.raises(
            ValueError, match=r"Deep3dEncoder: images are \[3, 224, 224\], expected"
        ):
            Deep3dEncoder()(torch.zeros(3, 224, 224))
