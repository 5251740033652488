"""Who somebody is, from frozen features: a small network in the real one's place."""

from __future__ import annotations

import copy

import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks.encoder import build_encoder
from mofa_nvdr.networks.face_chips import INDEX, cut_chips
from mofa_nvdr.networks.identity_branch import IdentityBranch
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.small_dlib import use_small_recognition

SMALL = CodeLayout(num_shape=3, num_expression=2, num_albedo=4)


@pytest.fixture
def network(monkeypatch):
    return use_small_recognition(monkeypatch)


def pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


class TestIdentityBranch:
    def test_chips_are_where_the_face_is(self, network, face_model):
        """As by the face model's own landmarks, in any pose: the average face is the built-in one's."""
        decoder = FaceDecoder(face_model, 64)
        code = decoder.code_zero(2).replace(
            rotation=torch.tensor([[0.1, -0.4, 0.2], [0.0, 0.3, -0.1]]),
            translation=torch.tensor([[10.0, -5.0, 60.0], [0.0, 8.0, -40.0]]),
        )
        marks = decoder.landmarks(decoder.geometry(code))
        branch = IdentityBranch()
        own = decoder.camera.project(
            decoder.place(code, branch.places.expand(2, -1, -1))[:, list(INDEX)]
        )
        # Measured 0.1 px of 64: the face from portraits counts for the average face, too.
        assert (own - marks[:, list(INDEX)]).norm(dim=2).max() < 0.3
        found = branch.recognized(pictures(), code.rotation, code.translation)
        expected = network(cut_chips(pictures(), marks, samples=1)).features
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()

    def test_layers_by_hand(self, network):
        branch = IdentityBranch().eval()
        norm, first, _, second, _ = branch.layers
        with torch.no_grad():
            for k, layer in enumerate((first, second)):
                layer.weight.fill_(1e-3 * (k + 1))
                layer.bias.fill_(0.5)
        features = torch.tensor([[1.0, 2, 3, 4, 5, 6]])
        assert norm(features).sum().abs() < 1e-5  # so the first layer gives its bias
        assert branch.learned(features).shape == (1, 1024)
        torch.testing.assert_close(
            branch.learned(features), torch.full((1, 1024), 2e-3 * 0.5 * 1024 + 0.5)
        )

    def test_gradients_reach_pictures_and_not_poses(self, network):
        images = pictures().requires_grad_()
        pose = [torch.zeros(2, 3, requires_grad=True) for _ in range(2)]
        branch = IdentityBranch()
        branch(images, *pose).square().sum().backward()
        assert images.grad.abs().max() > 0
        assert all(part.grad is None for part in pose)
        assert all(p.grad is None for p in network.parameters())
        assert branch.layers[1].weight.grad.abs().max() > 0

    def test_frozen_weights_are_no_state(self, network):
        """Yet they go along to another precision; a copy has the same ones."""
        branch = IdentityBranch()
        learning = {name.split(".")[0] for name, _ in branch.named_parameters()}
        assert learning == {"layers"} == {key.split(".")[0] for key in branch.state_dict()}
        zero = torch.zeros(2, 3)
        expected = branch(pictures(), zero, zero)
        twin = copy.deepcopy(branch).double()
        found = twin(pictures().double(), zero.double(), zero.double())
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-4)
        assert branch(pictures(), zero, zero).dtype == torch.float32

    def test_without_the_network(self, monkeypatch, tmp_path):
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        with pytest.raises(NetworkMissingError, match="mofa-nvdr networks get identity"):
            build_encoder("identity_mlp", SMALL)


class TestEncoder:
    @pytest.fixture
    def encoder(self, network):
        torch.manual_seed(0)
        encoder = build_encoder("identity_mlp", SMALL, input_size=64).eval()
        assert encoder(pictures()).abs().max() == 0  # the average face, as all begin
        for part in encoder.head.parts.values():
            torch.nn.init.normal_(part.weight, std=0.05)
        return encoder

    def test_each_branch_has_its_parts(self, encoder):
        """The identity's layers change shape and albedo alone; expression and light are the trunk's."""
        before = SMALL.unpack(encoder(pictures()))
        with torch.no_grad():
            encoder.identity.layers[3].bias += 1
        after = SMALL.unpack(encoder(pictures()))
        pairs = {name: (part, getattr(after, name)) for name, part in vars(before).items()}
        changed = {name for name, pair in pairs.items() if not torch.equal(*pair)}
        assert changed == {"shape", "albedo"}
        with torch.no_grad():
            for part in ("expression", "light"):
                encoder.head.parts[part].bias += 1
        again = SMALL.unpack(encoder(pictures()))
        assert torch.equal(again.shape, after.shape) and not torch.equal(again.light, after.light)

    def test_pose_places_the_chips(self, encoder):
        code = SMALL.unpack(encoder(pictures()))
        branch = encoder.identity
        found = branch(pictures(), code.rotation, code.translation)
        expected = encoder.head.parts["shape"](found)
        torch.testing.assert_close(code.shape, expected, rtol=1e-4, atol=1e-5)

    def test_one_person(self, encoder):
        """What is recognised is averaged, before the layers: with their weights, and not after them."""
        images = pictures(3)
        code = SMALL.unpack(encoder(images))
        shape, albedo = encoder.person(images[1:2], torch.ones(1))
        torch.testing.assert_close(shape, code.shape[1:2])
        torch.testing.assert_close(albedo, code.albedo[1:2])
        weights = torch.tensor([1.0, 2.0, 5.0])
        shape, _ = encoder.person(images, weights)
        features = encoder.identity.recognized(images, code.rotation, code.translation)
        mean = (weights[:, None] / 8 * features).sum(0, keepdim=True)
        expected = encoder.head.parts["shape"](encoder.identity.learned(mean))
        torch.testing.assert_close(shape, expected)
        apart = (weights[:, None] / 8 * code.shape).sum(0, keepdim=True)
        assert (shape - apart).abs().max() > 1e-4

    def test_every_parameter_is_in_a_group_once(self, encoder):
        grouped = [p for group in encoder.parameter_groups().values() for p in group]
        assert {id(p) for p in grouped} == {id(p) for p in encoder.parameters()}
        assert len(grouped) == len({id(p) for p in grouped})
        assert any("identity.layers" in key for key in encoder.state_dict())

    def test_one_that_recognises_nobody(self):
        encoder = build_encoder("compact", SMALL, input_size=64)
        with pytest.raises(
            ValueError, match="Encoder.person: Compact recognises nobody; expected id"
        ):
            encoder.person(pictures(), torch.ones(2))
