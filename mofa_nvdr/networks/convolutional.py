"""What the MoFA paper compares its analytic decoder with: a convolutional autoencoder, and a learned decoder.

The layers are the paper's (Figs. 12 and 13): four 3x3 convolutions, a fully connected layer as long as the
face model's code, four 4x4 deconvolutions. The stride of 2, the rectifiers, the linear layer from the code to
the first map of the deconvolutions, and how weights begin are ours: the paper does not say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONVOLUTIONS = (64, 96, 128, 256)
DECONVOLUTIONS = (128, 96, 64, 3)
SHRINKING = 2 ** len(CONVOLUTIONS)
"""How many times smaller the last map is than the picture, whose side it divides."""
_MIDDLE = 0.5  # of the range of colours


class ConvolutionalEncoder(nn.Sequential):
    """Pictures [B, 3, S, S] in [0, 1] to codes [B, code_size] that mean nothing.

    Args:
        size: side S of the pictures in pixels, a multiple of SHRINKING.
        code_size: length of the code.

    Raises:
        ValueError: another size.
    """

    def __init__(self, size: int, code_size: int) -> None:
        side = _last_map(size)
        layers: list[nn.Module] = []
        for before, after in zip((3, *CONVOLUTIONS), CONVOLUTIONS):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.Flatten(), nn.Linear(CONVOLUTIONS[-1] * side**2, code_size)]
        super().__init__(*layers)
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, code_size]."""
        return super().forward(images - _MIDDLE)


class ConvolutionalDecoder(nn.Module):
    """Codes [B, code_size] to pictures [B, 3, S, S], not clamped to [0, 1].

    Args:
        size: side S of the pictures in pixels, a multiple of SHRINKING.
        code_size: length of the code.
        mean: [code_size], what is taken from the codes; None: nothing.
        deviation: [code_size], by what they are divided then, where it is not 0: millimetres and radians
            become numbers of one size. None: 1.

    Raises:
        ValueError: another size.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        size: int,
        code_size: int,
        mean: Tensor | None = None,
        deviation: Tensor | None = None,
    ) -> None:
        super().__init__()
        side = _last_map(size)
        first = CONVOLUTIONS[-1]
        mean = torch.zeros(code_size) if mean is None else mean
        deviation = torch.ones(code_size) if deviation is None else deviation
        self.register_buffer("mean", mean.clone())
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1.0))
        layers: list[nn.Module] = [
            nn.Linear(code_size, first * side**2),
            nn.Unflatten(1, (first, side, side)),
        ]
        for before, after in zip((first, *DECONVOLUTIONS), DECONVOLUTIONS):
            layers += [
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1),
            ]
        self.layers = nn.Sequential(*layers)
        _initialize(self.layers)

    def forward(self, codes: Tensor) -> Tensor:
        """[B, code_size] to [B, 3, S, S]."""
        pictures: Tensor = self.layers((codes - self.mean) / self.deviation)
        return pictures + _MIDDLE


class ConvolutionalAutoencoder(nn.Sequential):
    """Pictures [B, 3, S, S] to pictures, by way of a code of `code_size` numbers.

    Args:
        size: side S of the pictures in pixels, a multiple of SHRINKING.
        code_size: length of the code.

    Raises:
        ValueError: another size.
    """

    def __init__(self, size: int, code_size: int) -> None:
        super().__init__(
            ConvolutionalEncoder(size, code_size), ConvolutionalDecoder(size, code_size)
        )


def _last_map(size: int) -> int:
    if size < SHRINKING or size % SHRINKING:
        raise ValueError(
            f"convolutional networks: pictures of {size} px, expected a multiple of {SHRINKING}"
        )
    return size // SHRINKING


def _initialize(layers: nn.Sequential) -> None:
    """He et al.'s, from torch's global generator, so that every layer's outputs are of one size.

    The last layer of each network begins a tenth as large: the first pictures are grey.
    """
    last = layers[-1]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, nn.ConvTranspose2d):
            # Each pixel is the sum of 4 of a kernel's 16 places, over the channels before.
            nn.init.normal_(layer.weight, std=(2 / (4 * layer.in_channels)) ** 0.5)
        else:
            continue
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
        if layer is last and isinstance(layer, nn.ConvTranspose2d):
            layer.weight.data *= 0.1
