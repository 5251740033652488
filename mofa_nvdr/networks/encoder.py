"""Encoders: photograph to code vector, by a convolutional trunk (trunks.py) and a linear layer per part."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks.identity_branch import IdentityBranch
from mofa_nvdr.networks.trunks import TRUNKS, Compact, Trunk
from mofa_nvdr.networks.weights import load_trunk_weights
from mofa_nvdr.system.device import without_autocast

# The code's parts as the head predicts them: Eq. 1's order, with the translation cut in two,
# because depth has a learning rate of its own in the paper.
HEAD_PARTS = (
    "shape",
    "expression",
    "albedo",
    "rotation",
    "translation_xy",
    "translation_z",
    "light",
)
IDENTITY_PARTS = ("shape", "albedo")
"""The parts that an encoder with an identity branch takes from it."""
IDENTITY_MLP = "identity_mlp"
NETWORKS = (*TRUNKS, IDENTITY_MLP)
"""The names of `build_encoder`."""


class CodeHead(nn.Module):
    """Features [B, in_features] to codes [B, layout.size]: a zero-initialised layer per part.

    The first prediction is therefore code zero: the average face in the middle, under ambient light
    (Sec. 6).

    Args:
        in_features: length of the feature vector.
        layout: the code's parts.
        output_scale: part of HEAD_PARTS -> what one unit of the linear layer's output means, in the
            code's units (standard deviations, radians, millimetres). It sets the step size of each
            part relative to the others. Parts not named have 1, as in the paper. Kept in the state
            dict, because weights mean nothing without it.
        own_features: part -> length of a feature vector of its own.

    Raises:
        ValueError: an unknown part, or a scale that is not a positive number.
    """

    scale: Tensor

    def __init__(
        self,
        in_features: int,
        layout: CodeLayout,
        output_scale: Mapping[str, float] | None = None,
        own_features: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        output_scale = dict(output_scale or {})
        unknown = sorted(set(output_scale) - set(HEAD_PARTS))
        if unknown:
            raise ValueError(
                f"CodeHead: output_scale has no part {', '.join(unknown)}; "
                f"parts are {', '.join(HEAD_PARTS)}"
            )
        for part, value in output_scale.items():
            if not 0.0 < value < float("inf"):
                raise ValueError(
                    f"CodeHead: output_scale of {part} is {value}, expected a positive number"
                )
        sizes = {**layout.sizes, "translation_xy": 2, "translation_z": 1}
        self.parts = nn.ModuleDict()
        for part in HEAD_PARTS:
            with warnings.catch_warnings():
                # A face model may have no expressions: torch warns of a layer without outputs.
                warnings.filterwarnings("ignore", "Initializing zero-element tensors")
                layer = nn.Linear((own_features or {}).get(part, in_features), sizes[part])
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.parts[part] = layer
        scale = [torch.full((sizes[part],), output_scale.get(part, 1.0)) for part in HEAD_PARTS]
        self.register_buffer("scale", torch.cat(scale))
        assert len(self.scale) == layout.size

    @property
    def output_scale(self) -> dict[str, float]:
        """Part of HEAD_PARTS -> its scale, as it is in the state; 1 for a part without numbers."""
        sizes = [layer.out_features for layer in self.parts.values()]
        parts = zip(HEAD_PARTS, self.scale.cpu().split(sizes))
        # Seven digits: of float32's 0.3 that is 0.3.
        return {name: float(f"{part[0]:.7g}") if len(part) else 1.0 for name, part in parts}

    def forward(self, features: Tensor, own: Mapping[str, Tensor] | None = None) -> Tensor:
        """Features [B, in_features], and those of parts with features of their own, to [B, layout.size]."""
        inputs = {**dict.fromkeys(HEAD_PARTS, features), **(own or {})}
        return torch.cat([self.parts[part](inputs[part]) for part in HEAD_PARTS], 1) * self.scale

    def some(self, parts: Sequence[str], features: Tensor) -> Tensor:
        """Some parts of codes next to each other, from the same features."""
        sizes = [layer.out_features for layer in self.parts.values()]
        scales = dict(zip(HEAD_PARTS, self.scale.split(sizes)))
        return torch.cat([self.parts[part](features) * scales[part] for part in parts], 1)


class Encoder(nn.Module):
    """Images [B, 3, H, W], RGB in [0, 1], row 0 at the top, to codes [B, layout.size].

    Convention: the input is normalised here, by the statistics that the trunk's weights were
    trained with (`IMAGE_MEAN`, `IMAGE_STD`).

    Args:
        trunk: one of `trunks.TRUNKS`.
        layout: the code's parts.
        output_scale: see `CodeHead`.
        input_size: side in pixels to which images are resized (bilinear, antialiased) before the
            trunk; None takes them as they come.
        identity: what predicts IDENTITY_PARTS in the place of the trunk, from the same images.

    Attributes:
        precision: what the trunk computes with: torch.float32, or torch.bfloat16 by torch's autocast.
            Weights, gradients and the last layer are float32 in any case, in a torch.autocast around
            the encoder too.

    Raises:
        ValueError: input_size is below the trunk's smallest.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: Trunk,
        layout: CodeLayout,
        output_scale: Mapping[str, float] | None = None,
        input_size: int | None = None,
        identity: IdentityBranch | None = None,
    ) -> None:
        super().__init__()
        if input_size is not None and input_size < trunk.MIN_SIZE:
            raise ValueError(
                f"Encoder: input_size is {input_size} px, {type(trunk).__name__} needs at least "
                f"{trunk.MIN_SIZE} px"
            )
        self.layout = layout
        self.input_size = input_size
        self.precision = torch.float32
        self.trunk = trunk
        self.identity = identity
        own = {} if identity is None else dict.fromkeys(IDENTITY_PARTS, identity.NUM_FEATURES)
        self.head = CodeHead(trunk.NUM_FEATURES, layout, output_scale, own)
        for name, values in (("mean", trunk.IMAGE_MEAN), ("std", trunk.IMAGE_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Predict codes [B, layout.size] from images [B, 3, H, W].

        Raises:
            ValueError: not [B, 3, H, W], or smaller than the trunk can take.
            TypeError: not floating point.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Encoder: images are {list(images.shape)}, expected [B, 3, H, W]")
        if not images.is_floating_point():
            raise TypeError(
                f"Encoder: images are {images.dtype}, expected floats in [0, 1]; "
                "divide bytes by 255"
            )
        images = self.resize(images)
        if min(images.shape[2:]) < self.trunk.MIN_SIZE:
            raise ValueError(
                f"Encoder: images are {images.shape[3]}x{images.shape[2]} px, "
                f"{type(self.trunk).__name__} needs at least {self.trunk.MIN_SIZE} px"
            )
        features = self._trunk_features(images)
        # The last layer's outputs are millimetres and radians: bfloat16 has three digits.
        with without_autocast(images.device.type):
            if self.identity is None:
                return self.head(features)
            who = self.identity.learned(self._recognized(images, features))
            return self.head(features, dict.fromkeys(IDENTITY_PARTS, who))

    def person(self, images: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Shape [1, S] and albedo [1, A] of one person: what is recognised in B pictures is averaged first.

        Args:
            images: [B, 3, H, W] as `forward` takes them.
            weights: [B], how much each counts.

        Raises:
            ValueError: the encoder has no identity branch.
        """
        if self.identity is None:
            raise ValueError(
                f"Encoder.person: {type(self.trunk).__name__} recognises nobody; expected {IDENTITY_MLP}"
            )
        images = self.resize(images)
        found = self._recognized(images, self._trunk_features(images))
        share = (weights / weights.sum()).to(found)
        who = self.identity.learned((share[:, None] * found).sum(0, keepdim=True))
        both = self.head.some(IDENTITY_PARTS, who)
        shape, albedo = both.split([self.layout.num_shape, self.layout.num_albedo], 1)
        return shape, albedo

    def _trunk_features(self, images: Tensor) -> Tensor:
        """Of images at the trunk's size, in the last layer's numbers."""
        images = (images - self.mean) / self.std
        if self.trunk.CHANNELS_LAST:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.precision == torch.float32:
            features = self.trunk(images)
        else:
            with torch.autocast(images.device.type, self.precision):
                features = self.trunk(images)
        return features.to(self.head.scale.dtype)

    def _recognized(self, images: Tensor, features: Tensor) -> Tensor:
        """What the identity branch's frozen network says of faces where the trunk finds them."""
        assert self.identity is not None
        pose = self.head.some(("rotation", "translation_xy", "translation_z"), features)
        return self.identity.recognized(images, pose[:, :3], pose[:, 3:])

    def resize(self, images: Tensor) -> Tensor:
        """Images at the size at which the trunk sees them; `forward` does it itself."""
        size = self.input_size
        if size is None or images.shape[2:] == (size, size):
            return images
        return F.interpolate(
            images, (size, size), mode="bilinear", align_corners=False, antialias=True
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter once: "trunk" and what is next to it, and the last layer's by HEAD_PARTS.

        The paper's optimiser needs this: rate 0.1 for all, 0.0005 for the translation in z.
        """
        trunk = list(self.trunk.parameters())
        if self.identity is not None:
            trunk += self.identity.parameters()
        groups = {"trunk": trunk}
        return groups | {part: list(self.head.parts[part].parameters()) for part in HEAD_PARTS}


def build_encoder(
    name: str,
    layout: CodeLayout | None = None,
    weights: str | Path | None = None,
    output_scale: Mapping[str, float] | None = None,
    input_size: int | str | None = "default",
    dropout: float | None = None,
) -> Encoder:
    """Build an encoder by name, its trunk from a weights file or at random.

    Args:
        name: of NETWORKS: "alexnet" and "vgg_face" (the paper's), "resnet18", "resnet50",
            "mobilenet_v3_large" (light, for CPUs), "compact" (lighter, learns the pose from scratch),
            "compact_deep" (that, deeper), or "identity_mlp" (compact, with shape and albedo from the features
            of a frozen recognition network).
        layout: the code's parts; the built-in face model's by default.
        weights: file with torchvision's keys, .safetensors or .pth (no pickled code is run). Its
            classification layer is left out. None: random (He et al.), from torch's global
            generator.
        output_scale: see `CodeHead`.
        input_size: side in pixels at which the trunk sees the image; None the image's own;
            "default" the encoder's (MobileNetV3-Large, compact and compact_deep 128, the others None).
        dropout: probability; None the encoder's (AlexNet and VGG-Face 0.5, the others 0).

    Raises:
        ValueError: unknown name; the file is unreadable or is not this network's.
        on_request.NetworkMissingError: "identity_mlp" without `mofa-nvdr networks get identity`.
    """
    if name not in NETWORKS:
        raise ValueError(
            f"build_encoder: unknown encoder {name!r}, expected one of {', '.join(NETWORKS)}"
        )
    trunk_class = TRUNKS.get(name, Compact)
    size = trunk_class.INPUT_SIZE if input_size == "default" else input_size
    if isinstance(size, str):
        raise ValueError(
            f"build_encoder: input_size is {size!r}, expected pixels, None or 'default'"
        )
    trunk = trunk_class(trunk_class.DROPOUT if dropout is None else dropout)
    if weights is not None:
        load_trunk_weights(trunk, weights)
    identity = IdentityBranch() if name == IDENTITY_MLP else None
    return Encoder(trunk, layout or CodeLayout(), output_scale, size, identity)
