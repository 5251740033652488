"""Who somebody is, from the frozen features of a recognition network: shape and albedo alone.

A recognition network was trained to see through pose, expression, light and what covers a face, which is
what a shape and an albedo should not depend on. Where the face is, and how it is formed and lit, its
features no longer say: an encoder takes that from a trunk of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mofa_nvdr.networks.face_chips import INDEX, cut_chips
from mofa_nvdr.networks.face_recognition import FaceRecognition
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix

# Where the landmarks of face_chips.INDEX are on the built-in faces on average, mm in model space: the middle
# ones, then those of the subject's right side, which is -x.
_MIDDLE = {
    27: (34.0, 45.9), 28: (20.6, 51.7), 29: (8.9, 59.4), 30: (-3.0, 69.2), 33: (-17.9, 51.1),
    51: (-31.2, 55.2), 62: (-34.3, 54.9),
}  # fmt: skip
_RIGHT = {
    (31, 35): (-13.1, -13.9, 47.2), (32, 34): (-7.0, -15.2, 50.3), (36, 45): (-44.1, 29.3, 31.7),
    (37, 44): (-34.5, 35.8, 35.2), (38, 43): (-26.3, 35.9, 35.0), (39, 42): (-18.3, 31.0, 33.3),
    (40, 47): (-25.2, 25.4, 35.2), (41, 46): (-35.2, 25.8, 35.7), (48, 54): (-25.1, -36.7, 39.0),
    (49, 53): (-16.3, -32.2, 49.7), (50, 52): (-7.0, -29.8, 54.3), (60, 64): (-22.2, -34.6, 44.3),
    (61, 63): (-6.2, -33.7, 53.7),
}  # fmt: skip


class IdentityBranch(nn.Module):
    """From pictures and the pose of their faces to features [B, 1024] of who they show.

    Chips are cut where the landmarks of an average face are in that pose; the frozen recognition network
    sees them; two layers learn. The network's weights are in no state dict: they are the same everywhere.

    Args:
        recognition: the network; None: that of `mofa-nvdr networks get identity`.

    Raises:
        on_request.NetworkMissingError: it is not here; the message has the command.

    Source: the decoder of Genova et al. 2018, section 3.1, two layers of 1024 and ReLU on 1024 pooled
    features of FaceNet; dlib's network has 256, all above zero. The normalisation of them is ours.
    """

    NUM_FEATURES = 1024
    places: Tensor

    def __init__(self, recognition: FaceRecognition | None = None) -> None:
        super().__init__()
        network = recognition or FaceRecognition.load()
        self._frozen = [network]  # in a list: no part of the state, nothing that learns
        (count,) = network(torch.zeros(1, 3, 150, 150)).features.shape[1:]
        self.layers = nn.Sequential(
            nn.LayerNorm(count),
            *(nn.Linear(count, self.NUM_FEATURES), nn.ReLU(inplace=True)),
            *(nn.Linear(self.NUM_FEATURES, self.NUM_FEATURES), nn.ReLU(inplace=True)),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        self.register_buffer("places", _average_places(), persistent=False)

    def forward(self, images: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
        """Features [B, 1024]; the arguments are those of `recognized`."""
        return self.learned(self.recognized(images, rotation, translation))

    def recognized(self, images: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
        """What the frozen network says, [B, 256]; differentiable in the images, and not in the pose.

        Args:
            images: [B, 3, S, S] in [0, 1], in the training framing.
            rotation: [B, 3] of a code.
            translation: [B, 3] of a code.
        """
        camera = Camera(image_size=(images.shape[2], images.shape[3]))
        matrix = axis_angle_to_matrix(rotation.detach().to(images))
        # `len` would make the batch of an exported network a constant.
        places = self.places.to(images).expand(images.shape[0], -1, -1)
        points = camera.to_camera(places, matrix, translation.detach().to(images))
        found = self._frozen[0](cut_chips(images, camera.project(points), samples=1))
        features: Tensor = found.features
        return features

    def learned(self, features: Tensor) -> Tensor:
        """The frozen network's features [B, 256], or averages over pictures of one person, to [B, 1024]."""
        who: Tensor = self.layers(features)
        return who

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **more: Any) -> IdentityBranch:
        self._frozen[0]._apply(fn)  # to another device or precision, with the others
        return super()._apply(fn, *args, **more)


def _average_places() -> Tensor:
    """[68, 3] mm; zero for landmarks that place no chip."""
    places = torch.zeros(68, 3)
    for number, (y, z) in _MIDDLE.items():
        places[number] = torch.tensor([0.0, y, z])
    for (right, left), (x, y, z) in _RIGHT.items():
        places[right], places[left] = torch.tensor([x, y, z]), torch.tensor([-x, y, z])
    assert set(INDEX) == {*_MIDDLE, *(number for pair in _RIGHT for number in pair)}
    return places
