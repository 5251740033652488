"""The encoders' trunks: convolutional networks without their last layer, images to features.

They carry torchvision's parameter names, so that its ImageNet weight files load as they are; VGGFace
also takes those of the published VGG-Face weights.

Every trunk states the input its weights were trained with, as a normalisation of RGB in [0, 1]:
(image - IMAGE_MEAN) / IMAGE_STD, channels in the order red, green, blue. For ImageNet's files these
are the usual statistics; VGGFace's make values of 0 to 255 less the mean face colour. A file made for
channels in the order blue, green, red (as converted from Caffe) must have the input channels of its
first layer reversed: weight[:, [2, 1, 0]].
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class AlexNet(nn.Sequential):
    """The trunk of AlexNet (Krizhevsky 2014): images [B, 3, H, W] to features [B, 4096].

    This is torchvision's single-tower variant (64 first filters, no response normalisation), for
    which weights are available; the paper's Caffe AlexNet has 96 in two groups. Dropout as in both.
    """

    IMAGE_MEAN: ClassVar[tuple[float, float, float]] = _IMAGENET_MEAN
    IMAGE_STD: ClassVar[tuple[float, float, float]] = _IMAGENET_STD
    NUM_FEATURES: ClassVar[int] = 4096
    MIN_SIZE: ClassVar[int] = 63
    INPUT_SIZE: ClassVar[int | None] = None  # the photograph's own: 240 in the paper
    DROPOUT: ClassVar[float] = 0.5
    CHANNELS_LAST: ClassVar[bool] = False
    LAST_LAYER: ClassVar[str] = "classifier.6"  # torchvision's; the code head replaces it

    def __init__(self, dropout: float = DROPOUT) -> None:
        super().__init__()
        relu, pool = partial(nn.ReLU, inplace=True), partial(nn.MaxPool2d, 3, stride=2)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), relu(), pool()),
            *(nn.Conv2d(64, 192, 5, padding=2), relu(), pool()),
            *(nn.Conv2d(192, 384, 3, padding=1), relu()),
            *(nn.Conv2d(384, 256, 3, padding=1), relu()),
            *(nn.Conv2d(256, 256, 3, padding=1), relu(), pool()),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            *(nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), relu()),
            *(nn.Dropout(dropout), nn.Linear(4096, 4096), relu()),
        )
        _initialize(self)


# kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride:
# table 1 of Howard et al. 2019, "Searching for MobileNetV3".
_MOBILENET_V3_LARGE = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)


class MobileNetV3Large(nn.Sequential):
    """The trunk of MobileNetV3-Large (Howard et al. 2019): [B, 3, H, W] to features [B, 1280].

    Two things differ from torchvision's: BatchNorm averages with momentum 0.05, not 0.01, because
    runs here may be a few hundred steps short and the averages that validation uses would lag
    behind the weights; and no dropout by default, because it is noise on a regressed pose.
    """

    IMAGE_MEAN: ClassVar[tuple[float, float, float]] = _IMAGENET_MEAN
    IMAGE_STD: ClassVar[tuple[float, float, float]] = _IMAGENET_STD
    NUM_FEATURES: ClassVar[int] = 1280
    MIN_SIZE: ClassVar[int] = 33  # a batch of one must still leave BatchNorm more than one value
    INPUT_SIZE: ClassVar[int | None] = 128  # a third of the time of 240, for CPUs
    DROPOUT: ClassVar[float] = 0.0
    CHANNELS_LAST: ClassVar[bool] = False
    LAST_LAYER: ClassVar[str] = "classifier.3"

    def __init__(self, dropout: float = DROPOUT) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_norm(3, 16, 3, stride=2, activation=nn.Hardswish)]
        channels = 16
        for kernel, expanded, out, squeeze, activation, stride in _MOBILENET_V3_LARGE:
            layers.append(
                _InvertedResidual(channels, kernel, expanded, out, squeeze, activation, stride)
            )
            channels = out
        layers.append(_conv_norm(channels, 960, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(960, 1280), nn.Hardswish(inplace=True), nn.Dropout(dropout)
        )
        _initialize(self)


def _conv_norm(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=1e-3, momentum=0.05),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class _SqueezeExcitation(nn.Module):
    """Channel gates from the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible_by_8(channels // 4)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(gate))))


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, gate, project; added to its input where the shape allows."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        expanded: int,
        out: int,
        squeeze: bool,
        activation: type[nn.Module],
        stride: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != channels:
            layers.append(_conv_norm(channels, expanded, 1, activation=activation))
        layers.append(_conv_norm(expanded, expanded, kernel, stride, expanded, activation))
        if squeeze:
            layers.append(_SqueezeExcitation(expanded))
        layers.append(_conv_norm(expanded, out, 1))
        self.block = nn.Sequential(*layers)
        self.is_residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return x + y if self.is_residual else y


def _divisible_by_8(channels: int) -> int:
    """The multiple of 8 nearest to `channels`, but never more than 10 % below it."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _initialize(module: nn.Module) -> None:
    """He et al. 2015: keep the variance of activations through ReLU layers; biases zero."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


# Channels of the convolutions of VGG-16 (configuration D of Simonyan and Zisserman 2014); 0: pooling.
_VGG_16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def _vgg_names() -> dict[str, str]:
    """conv1_1, ..., fc8 of the published VGG-Face weights -> torchvision's names."""
    names, block, number, index = {"fc6": "classifier.0", "fc7": "classifier.3"}, 1, 1, 0
    for channels in _VGG_16:
        if channels:
            names[f"conv{block}_{number}"] = f"features.{index}"
        block, number = (block, number + 1) if channels else (block + 1, 1)
        index += 2 if channels else 1
    return names | {"fc8": "classifier.6"}


class VGGFace(nn.Sequential):
    """The trunk of VGG-Face (Parkhi et al. 2015), a VGG-16: [B, 3, H, W] to features [B, 4096].

    The paper's larger encoder. Input statistics are those of the published weights: RGB of 0 to 255
    less the mean face colour, not divided; weights trained on ImageNet expect others.
    """

    IMAGE_MEAN: ClassVar[tuple[float, float, float]] = (
        129.1863 / 255,
        104.7624 / 255,
        93.5940 / 255,
    )
    IMAGE_STD: ClassVar[tuple[float, float, float]] = (1 / 255, 1 / 255, 1 / 255)
    NUM_FEATURES: ClassVar[int] = 4096
    MIN_SIZE: ClassVar[int] = 32
    INPUT_SIZE: ClassVar[int | None] = None
    DROPOUT: ClassVar[float] = 0.5
    CHANNELS_LAST: ClassVar[bool] = False
    LAST_LAYER: ClassVar[str] = "classifier.6"
    OTHER_NAMES: ClassVar[dict[str, str]] = _vgg_names()

    def __init__(self, dropout: float = DROPOUT) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in _VGG_16:
            if channels:
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
                before = channels
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)),
            *(nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)),
        )
        _initialize(self)
        # Its first layer sees values of up to 150, not of about 1 as those of the others.
        first = self.features[0]
        assert isinstance(first, nn.Conv2d)
        with torch.no_grad():
            first.weight.div_(255 * _IMAGENET_STD[0])


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 with a bottleneck, added to the input."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        # (kernel, stride, channels out): the 3 x 3 convolution carries a bottleneck's stride.
        plan = [(3, stride, width), (3, 1, width)]
        if bottleneck:
            plan = [(1, 1, width), (3, stride, width), (1, 1, out)]
        before = channels
        for number, (kernel, step, after) in enumerate(plan, 1):
            convolution = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
            setattr(self, f"conv{number}", convolution)
            setattr(self, f"bn{number}", nn.BatchNorm2d(after))
            before = after
        self.num_convolutions = len(plan)
        self.downsample = nn.Sequential()  # the identity, without parameters
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )
        # He et al. 2019, "Bag of tricks": every block starts as the identity.
        nn.init.zeros_(getattr(self, f"bn{len(plan)}").weight)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number in range(1, self.num_convolutions + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.num_convolutions:
                y = F.relu(y, inplace=True)
        return F.relu(y + self.downsample(x), inplace=True)


class _ResNet(nn.Module):
    IMAGE_MEAN: ClassVar[tuple[float, float, float]] = _IMAGENET_MEAN
    IMAGE_STD: ClassVar[tuple[float, float, float]] = _IMAGENET_STD
    MIN_SIZE: ClassVar[int] = 33
    INPUT_SIZE: ClassVar[int | None] = None
    DROPOUT: ClassVar[float] = 0.0
    CHANNELS_LAST: ClassVar[bool] = False
    LAST_LAYER: ClassVar[str] = "fc"
    DEPTHS: ClassVar[tuple[int, int, int, int]]
    BOTTLENECK: ClassVar[bool]

    def __init__(self, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.dropout = nn.Dropout(dropout)
        channels = 64
        for stage, depth in enumerate(self.DEPTHS):
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(_ResidualBlock(channels, 64 << stage, stride, self.BOTTLENECK))
                channels = (64 << stage) * (4 if self.BOTTLENECK else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, stride=2, padding=1)
        for stage in range(len(self.DEPTHS)):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.dropout(x.mean((2, 3)))


class ResNet18(_ResNet):
    """The trunk of ResNet-18 (He et al. 2016): [B, 3, H, W] to features [B, 512]."""

    NUM_FEATURES: ClassVar[int] = 512
    DEPTHS = (2, 2, 2, 2)
    BOTTLENECK = False


class ResNet50(_ResNet):
    """The trunk of ResNet-50 (He et al. 2016; stride in the 3 x 3 convolutions): features [B, 2048]."""

    NUM_FEATURES: ClassVar[int] = 2048
    DEPTHS = (3, 4, 6, 3)
    BOTTLENECK = True


class Compact(nn.Sequential):
    """A small trunk that keeps where things are: [B, 3, H, W] to features [B, 512].

    Five convolutions of stride 2, and a linear layer over the whole last map. ResNets and MobileNets
    average their last map over the picture; where the face is must then leak in from the borders. From
    random weights, on rendered faces, this one learns the pose from far fewer samples
    (docs/reports/training.md). There are no published weights for it.
    """

    IMAGE_MEAN: ClassVar[tuple[float, float, float]] = _IMAGENET_MEAN
    IMAGE_STD: ClassVar[tuple[float, float, float]] = _IMAGENET_STD
    NUM_FEATURES: ClassVar[int] = 512
    MIN_SIZE: ClassVar[int] = 33
    INPUT_SIZE: ClassVar[int | None] = 128
    DROPOUT: ClassVar[float] = 0.0
    CHANNELS_LAST: ClassVar[bool] = True  # in memory: a quarter less time on a CPU
    LAST_LAYER: ClassVar[str] = "classifier.3"

    def __init__(self, dropout: float = DROPOUT) -> None:
        super().__init__()
        channels = (3, 32, 64, 128, 192, 256)
        self.features = nn.Sequential(
            *(
                _conv_norm(before, after, 3, stride=2, activation=nn.ReLU)
                for before, after in zip(channels, channels[1:])
            )
        )
        self.avgpool = nn.AdaptiveAvgPool2d(4)  # of 128 px: the map as it is
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(256 * 4 * 4, 512), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        _initialize(self)


class _Refinement(nn.Module):
    """Two 3 x 3 convolutions whose sum with the input starts as the input, which has no negative values."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(channels, channels, 3, activation=nn.ReLU)
        self.conv2 = _conv_norm(channels, channels, 3)
        _initialize(self)
        last = self.conv2[1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(self.conv1(x)), inplace=True)


class CompactDeep(Compact):
    """`Compact` with two more convolutions at each of its three smallest maps: features [B, 512].

    They start as the identity, so that it can begin with the weights of a trained `Compact` (`--init`) and
    is that network then. About twice the time.
    """

    BEGINS_AS: ClassVar[str] = "compact"

    def __init__(self, dropout: float = Compact.DROPOUT) -> None:
        super().__init__(dropout)
        maps = [layer for layer in self.features.modules() if isinstance(layer, nn.Conv2d)]
        self.refinements = nn.ModuleDict(
            {str(k): _Refinement(layer.out_channels) for k, layer in enumerate(maps) if k >= 2}
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 512]."""
        for k, layer in enumerate(self.features):
            x = layer(x)
            if str(k) in self.refinements:
                x = self.refinements[str(k)](x)
        return self.classifier(self.flatten(self.avgpool(x)))


Trunk = AlexNet | VGGFace | ResNet18 | ResNet50 | MobileNetV3Large | Compact | CompactDeep

TRUNKS: dict[str, type[Trunk]] = {
    "alexnet": AlexNet,
    "vgg_face": VGGFace,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    "mobilenet_v3_large": MobileNetV3Large,
    "compact": Compact,
    "compact_deep": CompactDeep,
}
"""The encoders' names on the command line."""
