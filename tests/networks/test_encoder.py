"""Encoders: the zero start, what the trunk sees, parameter groups, precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks.encoder import HEAD_PARTS, CodeHead, Encoder, build_encoder
from mofa_nvdr.networks.trunks import AlexNet, MobileNetV3Large

SMALL = CodeLayout(num_shape=3, num_expression=2, num_albedo=4)  # 42 numbers


@pytest.fixture(scope="module")
def mobilenet() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("mobilenet_v3_large", SMALL, input_size=64).eval()


class TestCodeHead:
    def test_starts_at_zero(self):
        head = CodeHead(5, SMALL)
        assert head(torch.randn(2, 5)).equal(torch.zeros(2, SMALL.size))

    def test_each_part_lands_in_its_slice_times_its_scale(self):
        scale = {part: 0.5 * (i + 1) for i, part in enumerate(HEAD_PARTS)}
        head = CodeHead(1, SMALL, scale)
        for i, part in enumerate(HEAD_PARTS):
            torch.nn.init.constant_(head.parts[part].bias, 10.0**i)
        code = head(torch.zeros(1, 1))[0]
        where = SMALL.slices
        for i, part in enumerate(HEAD_PARTS):
            expected = 10.0**i * 0.5 * (i + 1)
            if part.startswith("translation"):
                got = code[where["translation"]]
                got = got[2:] if part.endswith("z") else got[:2]
            else:
                got = code[where[part]]
            assert len(got) == head.parts[part].out_features
            assert got.tolist() == [expected] * len(got)

    def test_scale_travels_with_the_weights(self):
        other = CodeHead(2, SMALL)
        other.load_state_dict(CodeHead(2, SMALL, {"rotation": 0.02}).state_dict())
        assert other.scale[SMALL.slices["rotation"]].tolist() == pytest.approx([0.02] * 3)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="output_scale has no part translation; parts are sha"):
            CodeHead(2, SMALL, {"translation": 1.0})
        with pytest.raises(ValueError, match="output_scale of light is 0, expected a positive"):
            CodeHead(2, SMALL, {"light": 0})
        with pytest.raises(ValueError, match="output_scale of light is nan"):
            CodeHead(2, SMALL, {"light": float("nan")})


class TestEncoder:
    def test_first_prediction_is_code_zero(self, mobilenet: Encoder):
        assert mobilenet(torch.rand(2, 3, 80, 80)).equal(torch.zeros(2, SMALL.size))

    def test_sees_a_normalised_image_of_its_input_size(self):
        seen = []
        with torch.device("meta"):
            network = Encoder(MobileNetV3Large(), SMALL, input_size=64).eval()
        network.mean, network.std = (
            torch.tensor(v).view(3, 1, 1)
            for v in (MobileNetV3Large.IMAGE_MEAN, MobileNetV3Large.IMAGE_STD)
        )
        network.trunk.forward = lambda x: (seen.append(x), x.new_zeros(len(x), 1280))[1]
        network.head.to_empty(device="cpu")
        images = torch.tensor([0.485 + 0.229, 0.456 - 0.224, 0.406]).view(1, 3, 1, 1)
        network(images.expand(1, 3, 240, 240))
        assert seen[0].shape == (1, 3, 64, 64)
        torch.testing.assert_close(
            seen[0].mean((0, 2, 3)), torch.tensor([1.0, -1.0, 0.0]), atol=1e-5, rtol=0
        )

    def test_resizing_is_antialiased(self, mobilenet: Encoder):
        """Stripes one pixel wide, reduced four times, look like grey to the trunk."""
        with torch.no_grad():
            seen = []
            handle = mobilenet.trunk.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
            stripes = (torch.arange(256) % 2).float().expand(1, 3, 256, 256)
            mobilenet(stripes)
            handle.remove()
        grey = (0.5 - torch.tensor(MobileNetV3Large.IMAGE_MEAN)) / torch.tensor(
            MobileNetV3Large.IMAGE_STD
        )
        inside = seen[0][0, :, 2:-2, 2:-2]
        # measured 2e-7; without the filter the stripes alias to 0 or 1, over 1.9 away
        assert (inside - grey.view(3, 1, 1)).abs().max() < 0.01

    def test_groups_hold_every_parameter_once(self, mobilenet: Encoder):
        groups = mobilenet.parameter_groups()
        assert list(groups) == ["trunk", *HEAD_PARTS]
        ids = [id(p) for group in groups.values() for p in group]
        assert len(ids) == len(set(ids))
        assert set(ids) == {id(p) for p in mobilenet.parameters()}
        assert [p.shape[0] for p in groups["translation_z"]] == [1, 1]

    @pytest.mark.parametrize("name", ["mobilenet_v3_large", "resnet18"])
    def test_gradients_are_useful(self, name):
        """From random weights, eight images and eight codes are learned by heart."""
        torch.manual_seed(0)
        network = build_encoder(name, SMALL, input_size=None).train()
        images, codes = torch.rand(8, 3, 48, 48), torch.randn(8, SMALL.size)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        losses = []
        for _ in range(25):
            loss = F.mse_loss(network(images), codes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        # measured 0.006 and 0.009 of the start on one thread of a CPU
        assert losses[-1] < 0.1 * losses[0]

    def test_bfloat16_is_the_trunks_alone(self):
        """Codes, weights and gradients stay float32; they are near those of a float32 trunk."""
        torch.manual_seed(0)
        network, images = build_encoder("compact", SMALL).train(), torch.rand(8, 3, 128, 128)
        for part in network.head.parts.values():
            torch.nn.init.normal_(part.weight, std=0.02)
        seen, codes, gradients = [], [], []
        network.trunk.register_forward_hook(lambda _, x, features: seen.append(features.dtype))
        for network.precision in (torch.float32, torch.bfloat16):
            network.zero_grad()
            code = network(images)
            code.square().sum().backward()
            codes.append(code.detach())
            gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
        assert seen == [torch.float32, torch.bfloat16]
        assert all(value.dtype == torch.float32 for value in (*codes, *gradients))
        error = (codes[1] - codes[0]).norm() / codes[0].norm()
        likeness = F.cosine_similarity(*gradients, dim=0)
        # measured 0.010 and 0.998
        assert 1e-6 < error < 0.03 and likeness > 0.98

    def test_bad_input(self, mobilenet: Encoder):
        with pytest.raises(ValueError, match=r"images are \[3, 64, 64\], expected \[B, 3, H, W\]"):
            mobilenet(torch.rand(3, 64, 64))
        with pytest.raises(ValueError, match=r"images are \[1, 64, 64, 3\]"):
            mobilenet(torch.rand(1, 64, 64, 3))
        with pytest.raises(TypeError, match="torch.uint8, expected floats.*divide bytes by 255"):
            mobilenet(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
        with torch.device("meta"):
            network = Encoder(AlexNet(), SMALL)
            with pytest.raises(ValueError, match="images are 64x40 px, AlexNet needs at least 63"):
                network(torch.rand(1, 3, 40, 64))
            with pytest.raises(ValueError, match="input_size is 32 px, AlexNet needs at least 63"):
                Encoder(AlexNet(), SMALL, input_size=32)


class TestBuildEncoder:
    def test_defaults(self):
        with torch.device("meta"):
            network = build_encoder("alexnet")
            assert network.input_size is None
            assert network.head.scale.shape == (257,)
            assert build_encoder("mobilenet_v3_large").input_size == 128
            assert build_encoder("compact").input_size == 128
            assert build_encoder("mobilenet_v3_large", input_size=None).input_size is None

    def test_dropout_is_passed_on(self):
        with torch.device("meta"):
            assert build_encoder("alexnet", dropout=0.25).trunk.classifier[0].p == 0.25

    def test_seed_decides(self):
        states = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            states.append(MobileNetV3Large().state_dict()["classifier.0.weight"])
        assert states[0].equal(states[1]) and not states[0].equal(states[2])

    def test_bad_input(self):
        with pytest.raises(
            ValueError, match="unknown encoder 'resnet', expected one of alexnet, vgg_face, res"
        ):
            build_encoder("resnet")
        with pytest.raises(ValueError, match="input_size is 'big', expected pixels"):
            build_encoder("alexnet", input_size="big")


def test_the_heads_output_scale_can_be_read_back():
    """As it is in the state: 0.3 of float32 is 0.3, and a part without numbers has 1."""
    scale = {"shape": 0.3, "translation_z": 60.0, "expression": 0.2}
    encoder = build_encoder("compact", CodeLayout(3, 0, 4), output_scale=scale)
    expected = dict.fromkeys(HEAD_PARTS, 1.0) | {"shape": 0.3, "translation_z": 60.0}
    assert encoder.head.output_scale == expected
