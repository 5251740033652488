"""The common mean of all embeddings."""

import pytest
import torch

from mofa_nvdr.networks.face_recognition import FaceRecognition
from mofa_nvdr.networks.identity_mean import identity_mean


def test_size_and_length():
    mean = identity_mean()
    assert mean.shape == (128,) and mean.dtype == torch.float32
    assert 1.2 < mean.norm() < 1.4


def test_is_that_of_the_network(data_dir):
    """Of faces in the wild: measured 0.99."""
    if not FaceRecognition.is_here():
        pytest.skip("needs mofa-nvdr networks get identity")
    from mofa_nvdr.data.photographs import Photographs

    faces = Photographs(data_dir / "faces", "val", 240)
    some = [faces[k] for k in range(0, len(faces), len(faces) // 8)]
    images = (
        torch.stack([torch.from_numpy(s.image) for s in some]).permute(0, 3, 1, 2).float() / 255
    )
    marks = torch.stack([torch.from_numpy(s.landmarks) for s in some])
    with torch.no_grad():
        own = FaceRecognition.load().embed(images, marks).mean(0)
    assert torch.cosine_similarity(own, identity_mean(), dim=0) > 0.95
