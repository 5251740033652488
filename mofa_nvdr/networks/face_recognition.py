"""Whose face it is: dlib's recognition network in plain torch, frozen and differentiable.

Two pictures of one person have embeddings closer than about 0.6 (docs/networks.md has the figures). The
network was trained to project each person into a ball of that radius, so distances are Euclidean; all
embeddings lie around a common mean, which makes cosines large for everybody.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mofa_nvdr.networks.face_chips import SIZE, cut_chips
from mofa_nvdr.networks.graph import GraphNetwork
from mofa_nvdr.networks.on_request import load_set, missing_members, network_path

SET, MEMBER = "identity", "recognition"  # of network_sets.NETWORK_SETS


class Identity(NamedTuple):
    """What the network gives of B faces.

    Attributes:
        features: means of the last maps, at least 0, [B, 256]: for a network that learns from them.
        embedding: [B, 128]; the distance of two says whether they show one person.
    """

    features: Tensor
    embedding: Tensor


class FaceRecognition(nn.Module):
    """Chips of faces to what is known of whose they are.

    Its weights are frozen; gradients reach the chips, and through `cut_chips` pictures and landmarks. The
    same bytes come out again on one CPU with as many threads; with another number of threads torch adds up in
    another order, and numbers differ by about a millionth.

    Args:
        network: "recognition" of `network_sets.NETWORK_SETS`; moved and changed.
        device: where it computes.
        dtype: what it computes with; the last layer stays float32, or float64.

    Raises:
        ValueError: another network.
    """

    def __init__(
        self,
        network: GraphNetwork,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        graph = network.graph
        if graph.size != (SIZE, SIZE) or graph.outputs != ("features", "embedding"):
            raise ValueError(
                f"FaceRecognition: a network for {graph.size} px that gives {', '.join(graph.outputs)}; "
                f"expected {(SIZE, SIZE)}, features and embedding"
            )
        self.network = network.to(torch.device(device), dtype)
        if torch.finfo(dtype).bits < 32:
            self.network.layers["product"].float()
        self.eval()

    @staticmethod
    def load(
        device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> FaceRecognition:
        """With the network that `mofa-nvdr networks get identity` keeps.

        Raises:
            on_request.NetworkMissingError: it is not here; the message has the command.
            ValueError: a damaged file.
        """
        network = load_set(SET)[MEMBER]
        try:
            return FaceRecognition(network, device, dtype)
        except ValueError as error:
            raise ValueError(f"{network_path(SET, MEMBER)}: damaged ({error})") from None

    @staticmethod
    def is_here() -> bool:
        """Whether the network of `load` is on this machine."""
        return not missing_members(SET)

    def forward(self, chips: Tensor) -> Identity:
        """Features and embeddings of chips [B, 3, 150, 150], RGB in [0, 1], row 0 at the top.

        Raises:
            ValueError: another shape, or no floats.
        """
        if chips.shape[1:] != (3, SIZE, SIZE) or not chips.is_floating_point():
            raise ValueError(
                f"FaceRecognition: chips are {list(chips.shape)} {chips.dtype}, expected floats "
                f"[B, 3, {SIZE}, {SIZE}]; cut_chips makes them"
            )
        with torch.autocast(chips.device.type, enabled=False):  # the precision is `dtype`
            features, embedding = self.network(chips.contiguous(memory_format=torch.channels_last))
        exact = embedding.dtype
        return Identity(features.to(exact), embedding)

    def embed(self, images: Tensor, landmarks: Tensor, samples: int = 2) -> Tensor:
        """Embeddings [B, 128] of the faces of pictures; the arguments are those of `cut_chips`."""
        embedding: Tensor = self(cut_chips(images, landmarks, samples)).embedding
        return embedding
