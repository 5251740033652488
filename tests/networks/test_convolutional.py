"""The paper's convolutional networks: their layers, shapes, and the units of codes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mofa_nvdr.networks.convolutional import (
    ConvolutionalAutoencoder,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
)


def test_shapes_and_layers():
    network = ConvolutionalAutoencoder(48, 257)
    encoder, decoder = network
    images = torch.rand(2, 3, 48, 48)
    assert encoder(images).shape == (2, 257) and network(images).shape == images.shape
    convolutions = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, *c.kernel_size) for c in convolutions] == [
        (64, 3, 3), (96, 3, 3), (128, 3, 3), (256, 3, 3),
    ]  # fmt: skip
    back = [layer for layer in decoder.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [(c.out_channels, *c.kernel_size) for c in back] == [
        (128, 4, 4), (96, 4, 4), (64, 4, 4), (3, 4, 4),
    ]  # fmt: skip


def test_every_layer_keeps_the_size_of_numbers():
    """He et al.'s beginning: codes of unit size for noise of unit size, and small first pictures."""
    torch.manual_seed(0)
    encoder, decoder = ConvolutionalEncoder(64, 257), ConvolutionalDecoder(64, 257)
    with torch.no_grad():
        codes = encoder(0.5 + torch.randn(4, 3, 64, 64))
        away = decoder(torch.randn(4, 257)) - 0.5
    assert 0.3 < codes.std() < 2, codes.std()
    assert 0.03 < away.std() < 0.3, away.std()


def test_units_of_codes():
    """What a code means to the network is its distance from the mean in deviations; 0: as it is."""
    mean, deviation = torch.tensor([1.0, -50.0, 3.0]), torch.tensor([2.0, 60.0, 0.0])
    torch.manual_seed(0)
    decoder = ConvolutionalDecoder(32, 3, mean, deviation)
    torch.manual_seed(0)
    plain = ConvolutionalDecoder(32, 3)
    unit = torch.randn(2, 3)
    codes = mean + unit * torch.tensor([2.0, 60.0, 1.0])
    torch.testing.assert_close(decoder(codes), plain(unit))


@pytest.mark.parametrize("size", [8, 100])
def test_sizes_that_do_not_fit(size):
    for make in (ConvolutionalEncoder, ConvolutionalDecoder, ConvolutionalAutoencoder):
        with pytest.raises(ValueError, match=f"pictures of {size} px, expected a multiple of 16"):
            make(size, 10)
