"""The trunks against a second statement of each architecture: names, shapes, and what they compute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks import trunks
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.networks.trunks import (
    TRUNKS,
    AlexNet,
    Compact,
    CompactDeep,
    MobileNetV3Large,
    ResNet18,
    ResNet50,
    VGGFace,
)

Shapes = dict[str, list[int]]

# AlexNet of Krizhevsky 2014 as torchvision numbers it: index in `features`, out, in, kernel.
ALEXNET = [(0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3)]
# VGG-16, configuration D: names in the literature -> index in `features`, out, in.
VGG_16 = {
    "conv1_1": (0, 64, 3), "conv1_2": (2, 64, 64),
    "conv2_1": (5, 128, 64), "conv2_2": (7, 128, 128),
    "conv3_1": (10, 256, 128), "conv3_2": (12, 256, 256), "conv3_3": (14, 256, 256),
    "conv4_1": (17, 512, 256), "conv4_2": (19, 512, 512), "conv4_3": (21, 512, 512),
    "conv5_1": (24, 512, 512), "conv5_2": (26, 512, 512), "conv5_3": (28, 512, 512),
}  # fmt: skip
# Table 1 of He et al. 2016: blocks a stage; the stages' widths are 64, 128, 256, 512.
RESNET = {ResNet18: ((2, 2, 2, 2), False), ResNet50: ((3, 4, 6, 3), True)}
# Table 1 of Howard et al. 2019, one row a block:
# kernel, expansion size, #out, squeeze (the width of fc1, 0: none), activation, stride.
MOBILENET = [
    (3, 16, 16, 0, "relu", 1),
    (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1),
    (5, 72, 40, 24, "relu", 2), (5, 120, 40, 32, "relu", 1), (5, 120, 40, 32, "relu", 1),
    (3, 240, 80, 0, "hardswish", 2), (3, 200, 80, 0, "hardswish", 1),
    (3, 184, 80, 0, "hardswish", 1), (3, 184, 80, 0, "hardswish", 1),
    (3, 480, 112, 120, "hardswish", 1), (3, 672, 112, 168, "hardswish", 1),
    (5, 672, 160, 168, "hardswish", 2), (5, 960, 160, 240, "hardswish", 1),
    (5, 960, 160, 240, "hardswish", 1),
]  # fmt: skip


def layer(name: str, *weight: int) -> Shapes:
    """A convolution or a linear layer with a bias."""
    return {f"{name}.weight": list(weight), f"{name}.bias": [weight[0]]}


def norm(name: str, channels: int) -> Shapes:
    """A BatchNorm: five tensors."""
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": [channels] for kind in kinds} | {f"{name}.num_batches_tracked": []}


def alexnet_shapes() -> Shapes:
    shapes: Shapes = {}
    for index, out, before, kernel in ALEXNET:
        shapes |= layer(f"features.{index}", out, before, kernel, kernel)
    return shapes | layer("classifier.1", 4096, 9216) | layer("classifier.4", 4096, 4096)


def vgg_shapes() -> Shapes:
    shapes: Shapes = {}
    for index, out, before in VGG_16.values():
        shapes |= layer(f"features.{index}", out, before, 3, 3)
    return shapes | layer("classifier.0", 4096, 25088) | layer("classifier.3", 4096, 4096)


def resnet_blocks(trunk: type) -> Iterator[tuple[str, int, int, int, bool]]:
    """Name, channels in, width, stride, whether the shortcut is projected."""
    depths, bottleneck = RESNET[trunk]
    before = 64
    for stage, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512)), 1):
        for number in range(depth):
            out = width * (4 if bottleneck else 1)
            stride = 2 if stage > 1 and number == 0 else 1
            yield f"layer{stage}.{number}", before, width, stride, stride > 1 or before != out
            before = out


def resnet_shapes(trunk: type) -> Shapes:
    shapes: Shapes = {"conv1.weight": [64, 3, 7, 7]} | norm("bn1", 64)
    for name, before, width, _, projected in resnet_blocks(trunk):
        if RESNET[trunk][1]:
            out = 4 * width
            shapes |= {f"{name}.conv1.weight": [width, before, 1, 1]} | norm(f"{name}.bn1", width)
            shapes |= {f"{name}.conv2.weight": [width, width, 3, 3]} | norm(f"{name}.bn2", width)
            shapes |= {f"{name}.conv3.weight": [out, width, 1, 1]} | norm(f"{name}.bn3", out)
        else:
            out = width
            shapes |= {f"{name}.conv1.weight": [width, before, 3, 3]} | norm(f"{name}.bn1", width)
            shapes |= {f"{name}.conv2.weight": [width, width, 3, 3]} | norm(f"{name}.bn2", width)
        if projected:
            shapes |= {f"{name}.downsample.0.weight": [out, before, 1, 1]}
            shapes |= norm(f"{name}.downsample.1", out)
    return shapes


def mobilenet_shapes() -> Shapes:
    shapes: Shapes = {"features.0.0.weight": [16, 3, 3, 3]} | norm("features.0.1", 16)
    before = 16
    for number, (kernel, expanded, out, squeeze, _, _) in enumerate(MOBILENET, 1):
        block, place = f"features.{number}.block", 0
        if expanded != before:
            shapes |= {f"{block}.0.0.weight": [expanded, before, 1, 1]}
            shapes |= norm(f"{block}.0.1", expanded)
            place = 1
        shapes |= {f"{block}.{place}.0.weight": [expanded, 1, kernel, kernel]}
        shapes |= norm(f"{block}.{place}.1", expanded)
        if squeeze:
            place += 1
            shapes |= layer(f"{block}.{place}.fc1", squeeze, expanded, 1, 1)
            shapes |= layer(f"{block}.{place}.fc2", expanded, squeeze, 1, 1)
        shapes |= {f"{block}.{place + 1}.0.weight": [out, expanded, 1, 1]}
        shapes |= norm(f"{block}.{place + 1}.1", out)
        before = out
    shapes |= {"features.16.0.weight": [960, 160, 1, 1]} | norm("features.16.1", 960)
    return shapes | layer("classifier.0", 1280, 960)


class TestParameters:
    @pytest.mark.parametrize(
        ("trunk", "expected", "published"),
        [  # published: entries of the whole file, which has a classification layer of two more
            (AlexNet, alexnet_shapes(), 16),
            (VGGFace, vgg_shapes(), 32),
            (ResNet18, resnet_shapes(ResNet18), 122),
            (ResNet50, resnet_shapes(ResNet50), 320),
            (MobileNetV3Large, mobilenet_shapes(), 312),
        ],
    )
    def test_every_name_and_shape(self, trunk, expected: Shapes, published: int):
        with torch.device("meta"):
            state = trunk().state_dict()
        assert {key: list(value.shape) for key, value in state.items()} == expected
        assert len(state) + 2 == published
        assert not any(key.startswith(f"{trunk.LAST_LAYER}.") for key in state)

    def test_vgg_faces_own_names(self):
        """conv1_1 to fc8, as the published weights call them."""
        expected = {name: f"features.{index}" for name, (index, _, _) in VGG_16.items()}
        expected |= {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
        assert expected == VGGFace.OTHER_NAMES

    def test_every_trunk_states_its_input(self):
        for trunk in TRUNKS.values():
            if trunk is VGGFace:  # of 0 to 255: the mean face colour of Parkhi et al. 2015
                mean = [255 * value for value in trunk.IMAGE_MEAN]
                assert mean == pytest.approx([129.1863, 104.7624, 93.5940])
                assert [255 * value for value in trunk.IMAGE_STD] == pytest.approx([1, 1, 1])
            else:
                assert trunk.IMAGE_MEAN == (0.485, 0.456, 0.406)
                assert trunk.IMAGE_STD == (0.229, 0.224, 0.225)


def shaken(trunk: torch.nn.Module) -> dict[str, Tensor]:
    """Random values for every tensor, running averages and zero-initialised gains included."""
    generator = torch.Generator().manual_seed(3)
    for key, value in trunk.state_dict().items():
        if key.endswith("tracked"):
            continue
        if value.ndim > 1:
            spread = 1.4 / value[0].numel() ** 0.5
            value.copy_(spread * torch.randn(value.shape, generator=generator))
        else:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return trunk.state_dict()


def conv_norm(x: Tensor, w: dict, conv: str, bn: str, eps: float, **options) -> Tensor:
    x = F.conv2d(x, w[f"{conv}.weight"], **options)
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(w[f"{bn}.{name}"] for name in names), eps=eps)


@pytest.fixture
def narrow(monkeypatch) -> None:
    """Linear layers of 32 where they have 4096: they hold most weights of AlexNet and VGG-16."""
    make = torch.nn.Linear.__init__

    def init(self, inputs: int, outputs: int, *args, **kwargs) -> None:
        make(self, *(32 if size == 4096 else size for size in (inputs, outputs)), *args, **kwargs)

    monkeypatch.setattr(torch.nn.Linear, "__init__", init)


class TestValues:
    """Features equal those of the same network written down once more, function by function."""

    def check(self, trunk: torch.nn.Module, again: Tensor, image: Tensor) -> None:
        with torch.no_grad():
            features = trunk.eval()(image)
        assert features.std() > 0.01
        # measured 2e-6 of the largest, on one thread of a CPU
        assert (features - again).abs().max() < 1e-4 * features.abs().max()

    def test_compact(self):
        trunk, image = Compact(), torch.rand(2, 3, 128, 128)
        w, x = shaken(trunk), image
        for index in range(5):
            names = (f"features.{index}.0", f"features.{index}.1")
            x = F.relu(conv_norm(x, w, *names, 1e-3, stride=2, padding=1))
        assert x.shape == (2, 256, 4, 4)
        x = F.linear(x.flatten(1), w["classifier.0.weight"], w["classifier.0.bias"])
        self.check(trunk, F.relu(x), image)

    def test_compact_deep(self):
        trunk, image = CompactDeep(), torch.rand(2, 3, 128, 128)
        w, x = shaken(trunk), image
        for index in range(5):
            names = (f"features.{index}.0", f"features.{index}.1")
            x = F.relu(conv_norm(x, w, *names, 1e-3, stride=2, padding=1))
            if index >= 2:
                block = f"refinements.{index}"
                y = F.relu(conv_norm(x, w, f"{block}.conv1.0", f"{block}.conv1.1", 1e-3, padding=1))
                y = conv_norm(y, w, f"{block}.conv2.0", f"{block}.conv2.1", 1e-3, padding=1)
                x = F.relu(x + y)
        x = F.linear(x.flatten(1), w["classifier.0.weight"], w["classifier.0.bias"])
        self.check(trunk, F.relu(x), image)

    def test_compact_deep_begins_as_compact(self):
        deep, compact, image = CompactDeep().eval(), Compact().eval(), torch.rand(2, 3, 128, 128)
        missing, unexpected = deep.load_state_dict(compact.state_dict(), strict=False)
        assert not unexpected and all(name.startswith("refinements.") for name in missing)
        assert torch.equal(deep(image), compact(image))

    def test_alexnet(self, narrow):
        trunk, image = AlexNet(), torch.rand(1, 3, 240, 240)
        w = shaken(trunk)
        x = F.relu(F.conv2d(image, w["features.0.weight"], w["features.0.bias"], 4, 2))
        x = F.max_pool2d(x, 3, 2)
        x = F.relu(F.conv2d(x, w["features.3.weight"], w["features.3.bias"], 1, 2))
        x = F.max_pool2d(x, 3, 2)
        for index in (6, 8, 10):
            name = f"features.{index}"
            x = F.relu(F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], 1, 1))
        x = F.max_pool2d(x, 3, 2).flatten(1)  # 6 x 6 already
        x = F.relu(F.linear(x, w["classifier.1.weight"], w["classifier.1.bias"]))
        x = F.relu(F.linear(x, w["classifier.4.weight"], w["classifier.4.bias"]))
        self.check(trunk, x, image)

    def test_vgg_face(self, narrow):
        trunk, image = VGGFace(), torch.rand(1, 3, 64, 96)
        w = shaken(trunk)
        x = image
        for block, count in enumerate((2, 2, 3, 3, 3), 1):
            for number in range(1, count + 1):
                name = f"features.{VGG_16[f'conv{block}_{number}'][0]}"
                x = F.relu(F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], 1, 1))
            x = F.max_pool2d(x, 2)
        x = F.adaptive_avg_pool2d(x, 7).flatten(1)
        x = F.relu(F.linear(x, w["classifier.0.weight"], w["classifier.0.bias"]))
        x = F.relu(F.linear(x, w["classifier.3.weight"], w["classifier.3.bias"]))
        self.check(trunk, x, image)

    @pytest.mark.parametrize("kind", [ResNet18, ResNet50])
    def test_resnet(self, kind):
        trunk, image = kind(), torch.rand(2, 3, 64, 96)
        w = shaken(trunk)
        x = F.relu(conv_norm(image, w, "conv1", "bn1", 1e-5, stride=2, padding=3))
        x = F.max_pool2d(x, 3, 2, padding=1)
        for name, _, _, stride, projected in resnet_blocks(kind):
            plan = [(stride, 1), (1, 1)]  # stride and padding of each convolution
            if RESNET[kind][1]:
                plan = [(1, 0), (stride, 1), (1, 0)]
            y = x
            for number, (step, padding) in enumerate(plan, 1):
                conv, bn = f"{name}.conv{number}", f"{name}.bn{number}"
                y = conv_norm(y, w, conv, bn, 1e-5, stride=step, padding=padding)
                y = F.relu(y) if number < len(plan) else y
            if projected:
                ends = f"{name}.downsample.0", f"{name}.downsample.1"
                x = conv_norm(x, w, *ends, 1e-5, stride=stride)
            x = F.relu(x + y)
        self.check(trunk, F.adaptive_avg_pool2d(x, 1).flatten(1), image)

    def test_mobilenet(self):
        trunk, image = MobileNetV3Large(), torch.rand(2, 3, 64, 96)
        w = shaken(trunk)

        def step(x: Tensor, name: str, act: str, **options) -> Tensor:
            x = conv_norm(x, w, f"{name}.0", f"{name}.1", 1e-3, **options)
            return getattr(F, act)(x) if act else x

        x = step(image, "features.0", "hardswish", stride=2, padding=1)
        for number, (kernel, expanded, out, squeeze, act, stride) in enumerate(MOBILENET, 1):
            block, place, y = f"features.{number}.block", 0, x
            if expanded != x.shape[1]:
                y, place = step(y, f"{block}.0", act), 1
            options = {"stride": stride, "padding": kernel // 2, "groups": expanded}
            y = step(y, f"{block}.{place}", act, **options)
            if squeeze:
                place += 1
                gate = F.adaptive_avg_pool2d(y, 1)
                for fc, non_linear in (("fc1", F.relu), ("fc2", F.hardsigmoid)):
                    name = f"{block}.{place}.{fc}"
                    gate = non_linear(F.conv2d(gate, w[f"{name}.weight"], w[f"{name}.bias"]))
                y = y * gate
            y = step(y, f"{block}.{place + 1}", "")
            x = x + y if stride == 1 and x.shape[1] == out else y
        x = F.adaptive_avg_pool2d(step(x, "features.16", "hardswish"), 1).flatten(1)
        x = F.hardswish(F.linear(x, w["classifier.0.weight"], w["classifier.0.bias"]))
        self.check(trunk, x, image)


class TestTrunks:
    """Names, shapes and counts are those of torchvision's networks without their last layer."""

    @pytest.mark.parametrize(
        ("trunk", "num_parameters", "shapes"),
        [
            (
                AlexNet,
                61_100_840 - 1000 * (4096 + 1),
                {
                    "features.0.weight": [64, 3, 11, 11],
                    "features.3.weight": [192, 64, 5, 5],
                    "features.10.weight": [256, 256, 3, 3],
                    "classifier.1.weight": [4096, 9216],
                    "classifier.4.bias": [4096],
                },
            ),
            (
                VGGFace,
                138_357_544 - 1000 * (4096 + 1),
                {
                    "features.0.weight": [64, 3, 3, 3],
                    "features.5.weight": [128, 64, 3, 3],
                    "features.28.bias": [512],
                    "classifier.0.weight": [4096, 25088],
                    "classifier.3.weight": [4096, 4096],
                },
            ),
            (
                ResNet18,
                11_689_512 - 1000 * (512 + 1),
                {
                    "conv1.weight": [64, 3, 7, 7],
                    "layer1.0.conv1.weight": [64, 64, 3, 3],
                    "layer2.0.downsample.0.weight": [128, 64, 1, 1],
                    "layer4.1.bn2.running_var": [512],
                },
            ),
            (
                ResNet50,
                25_557_032 - 1000 * (2048 + 1),
                {
                    "bn1.weight": [64],
                    "layer1.0.conv3.weight": [256, 64, 1, 1],
                    "layer1.0.downsample.1.bias": [256],
                    "layer3.5.conv2.weight": [256, 256, 3, 3],
                    "layer4.0.conv2.weight": [512, 512, 3, 3],
                },
            ),
            (
                MobileNetV3Large,
                5_483_032 - 1000 * (1280 + 1),
                {
                    "features.0.0.weight": [16, 3, 3, 3],
                    "features.0.1.running_mean": [16],
                    "features.1.block.0.0.weight": [16, 1, 3, 3],
                    "features.4.block.2.fc1.weight": [24, 72, 1, 1],
                    "features.7.block.1.0.weight": [240, 1, 3, 3],
                    "features.13.block.2.fc2.weight": [672, 168, 1, 1],
                    "features.15.block.3.0.weight": [160, 960, 1, 1],
                    "features.16.0.weight": [960, 160, 1, 1],
                    "classifier.0.weight": [1280, 960],
                },
            ),
        ],
    )
    def test_names_shapes_and_count(self, trunk, num_parameters: int, shapes: dict):
        with torch.device("meta"):
            network = trunk()
        state = network.state_dict()
        assert {key: list(state[key].shape) for key in shapes} == shapes
        assert sum(p.numel() for p in network.parameters()) == num_parameters

    @pytest.mark.parametrize("name", TRUNKS)
    def test_features_at_the_smallest_size_and_at_240(self, name):
        with torch.device("meta"):
            trunk = TRUNKS[name]().eval()
            for size in (trunk.MIN_SIZE, 240):
                features = trunk(torch.zeros(2, 3, size, size))
                assert features.shape == (2, trunk.NUM_FEATURES)

    def test_vgg_face_240_is_7_by_7_before_the_linear_layers(self):
        with torch.device("meta"):
            assert VGGFace().features(torch.zeros(1, 3, 240, 240)).shape == (1, 512, 7, 7)

    @pytest.mark.parametrize(("trunk", "stride"), [(ResNet18, 32), (ResNet50, 32)])
    def test_resnet_reduces_by_32(self, trunk, stride):
        seen = []
        with torch.device("meta"):
            network = trunk().eval()
            network.layer4.register_forward_hook(lambda _, __, out: seen.append(out.shape[2:]))
            network(torch.zeros(1, 3, 8 * stride, 4 * stride))
        assert list(seen[0]) == [8, 4]

    def test_residual_blocks_start_as_the_identity(self):
        torch.manual_seed(0)
        block = ResNet18().eval().layer1[0]
        x = torch.rand(1, 64, 5, 5)
        torch.testing.assert_close(block(x), x)

    def test_vgg_face_sees_the_published_statistics(self):
        """An image of the mean face's colour is all zeros to the trunk; white is 255 less the mean."""
        with torch.device("meta"):
            network = Encoder(VGGFace(), CodeLayout(3, 2, 4))
        values = torch.tensor([129.1863, 104.7624, 93.5940])
        mean, std = (torch.tensor(v) for v in (VGGFace.IMAGE_MEAN, VGGFace.IMAGE_STD))
        torch.testing.assert_close((values / 255 - mean) / std, torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close((torch.ones(3) - mean) / std, 255 - values)
        assert network.mean.shape == network.std.shape == (3, 1, 1)

    def test_alexnet_240_is_6_by_6_before_the_linear_layers(self):
        with torch.device("meta"):
            network, image = AlexNet(), torch.zeros(1, 3, 240, 240)
            assert network.features(image).shape == (1, 256, 6, 6)
            assert network(image).shape == (1, 4096)

    def test_smallest_image_works_and_one_less_does_not(self):
        with torch.device("meta"):
            network = AlexNet()
            assert network(torch.zeros(1, 3, 63, 63)).shape == (1, 4096)
            with pytest.raises(RuntimeError):
                network(torch.zeros(1, 3, 62, 62))

    def test_mobilenet_trains_on_a_batch_of_one_at_its_smallest(self):
        size = MobileNetV3Large.MIN_SIZE
        assert MobileNetV3Large().train()(torch.rand(1, 3, size, size)).isfinite().all()
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            MobileNetV3Large().train()(torch.rand(1, 3, size - 1, size - 1))

    def test_dropout_as_documented(self):
        with torch.device("meta"):
            for trunk, expected in ((AlexNet(), 0.5), (MobileNetV3Large(), 0.0)):
                layers = [m for m in trunk.modules() if isinstance(m, torch.nn.Dropout)]
                assert layers and all(layer.p == expected for layer in layers)

    def test_squeeze_widths_are_multiples_of_8(self):
        # 72 / 4 = 18 would round to 16, which is more than 10 % below
        assert [trunks._divisible_by_8(c // 4) for c in (16, 72, 120, 480, 672, 960)] == [
            *(8, 24, 32, 120, 168, 240)
        ]
