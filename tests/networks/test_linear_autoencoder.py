"""Principal components: exact where the pictures have no more."""

from __future__ import annotations

import torch

from mofa_nvdr.networks.linear_autoencoder import LinearAutoencoder


def test_pictures_of_few_components():
    """Sums of three pictures need three numbers; others lose what lies across."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, 3 * 6 * 6, generator=generator)
    pictures = torch.rand(40, 3, generator=generator) @ parts + 0.5
    network = LinearAutoencoder(pictures.view(40, 3, 6, 6).clone(), 3)
    new = (torch.rand(5, 3, generator=generator) @ parts + 0.5).view(5, 3, 6, 6)
    torch.testing.assert_close(network(new), new, atol=1e-4, rtol=0)  # measured 4e-6
    two = LinearAutoencoder(pictures.view(40, 3, 6, 6).clone(), 2)
    assert (two(new) - new).abs().max() > 0.05


def test_fewer_pictures_than_components():
    pictures = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    network = LinearAutoencoder(pictures.clone(), 257)
    torch.testing.assert_close(network(pictures), pictures, atol=1e-4, rtol=0)


def test_the_same_again_and_the_programs_numbers_stay():
    pictures = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    one = LinearAutoencoder(pictures.clone(), 4, seed=1)
    assert torch.equal(torch.rand(3), want)
    assert torch.equal(one.basis, LinearAutoencoder(pictures.clone(), 4, seed=1).basis)
