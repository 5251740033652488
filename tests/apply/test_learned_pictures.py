"""Training the learned counterparts: errors fall, and the same seed gives the same weights."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.apply.learned_pictures import (
    TEST,
    LearnedOptions,
    drawn_codes,
    learn_autoencoder,
    learn_components,
    learn_decoder,
    moments,
)
from mofa_nvdr.data.shards import open_corpus
from mofa_nvdr.losses.color_distance import color_distance
from mofa_nvdr.render.decoder import face_image
from tests.helpers.photos_to_reconstruct import write_photos

CPU = torch.device("cpu")


@pytest.fixture
def corpus(tmp_path):
    return open_corpus(write_photos(tmp_path / "faces"), "train", 32)


def away(picture, wanted):
    return float(color_distance(picture, wanted, dim=1).mean())


@torch.no_grad()
def test_autoencoder(corpus):
    images = torch.stack([torch.tensor(corpus[k].image) for k in range(len(corpus))])
    images = images.permute(0, 3, 1, 2) / 255
    state = torch.get_rng_state()
    networks = [
        learn_autoencoder(corpus, 20, LearnedOptions(steps, 32), CPU) for steps in (1, 20, 20)
    ]
    errors = [away(network(images), images) for network in networks]
    assert errors[1] < 0.9 * errors[0], errors
    assert torch.equal(networks[1](images), networks[2](images))  # the same seed
    assert torch.equal(torch.get_rng_state(), state)
    other = learn_autoencoder(corpus, 20, LearnedOptions(1, 32, seed=1), CPU)
    assert away(other(images), networks[0](images)) > 0
    few = learn_components(corpus, 257, LearnedOptions(1, 32), CPU)
    assert away(few(images), images) < 1e-3  # as many as there are pictures


@torch.no_grad()
def test_decoder(cap):
    model = FaceModel.load(cap)
    analytic = FaceDecoder(model, image_size=32)
    codes = drawn_codes(model, 16, 5, TEST)
    wanted = face_image(analytic(codes))
    networks = [learn_decoder(analytic, LearnedOptions(steps, 32)) for steps in (1, 40)]
    errors = [away(network(codes), wanted) for network in networks]
    assert errors[1] < 0.9 * errors[0], errors
    mean, deviation = moments(model)
    assert torch.equal(networks[0].mean, mean) and (deviation > 0).all()
    assert not torch.equal(codes, drawn_codes(model, 16, 6, TEST))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "--learned-steps is 0, expected at least 1"),
        ({"seed": -1}, "--learned-seed is -1, expected at least 0"),
        ({"size": 100}, "--learned-size is 100 px, expected a multiple of 16 from 32 to 512"),
        ({"size": 16}, "--learned-size is 16 px, expected a multiple of 16 from 32 to 512"),
        ({"size": 1024}, "--learned-size is 1024 px, expected a multiple"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(ValueError, match=message):
        LearnedOptions(**given)
