"""Seeds of networks on request, of what learning keeps, and of photographs that are relit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mofa_nvdr.apply import learn_files
from mofa_nvdr.apply.kept_steps import kept_steps
from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.sources import Source
from mofa_nvdr.networks import on_request
from mofa_nvdr.networks.graph import load_network
from mofa_nvdr.networks.network_sets import Member, NetworkSet, from_dlib, from_tflite
from tests.fuzz.kinds import Kind
from tests.helpers.small_dlib import SmallResnet
from tests.helpers.small_tflite import small_model


def write_network_seeds(folder: Path) -> dict[str, Kind]:
    """A .tflite and a .dat file as if they were the known ones, and both as they are kept."""
    (folder / "small.tflite").write_bytes(small_model())
    (folder / "small.dat").write_bytes(SmallResnet().to_bytes())
    facts = {"sha256": "0" * 64, "source": "here", "licence": "MIT"}
    for name, convert in (("small.tflite", from_tflite), ("small.dat", from_dlib)):
        kept = convert((folder / name).read_bytes(), facts)
        (folder / f"kept_{Path(name).suffix[1:]}.safetensors").write_bytes(kept)

    def get(file: Path, out: Path) -> list[str]:
        """The bytes are those that are asked for: what comes is up to the reader alone."""
        data, convert = file.read_bytes(), from_dlib if file.suffix == ".dat" else from_tflite
        member = Member(
            "one",
            file.name,
            hashlib.sha256(data).hexdigest(),
            len(data),
            "[0, 1]",
            ("rows", "maps"),
        )
        known = NetworkSet(
            "for tests", "small==1", (member,), "MIT", "Of nobody.", "apache-2.0.txt", convert
        )
        patch = pytest.MonkeyPatch()
        patch.setattr(on_request, "NETWORK_SETS", {"one": known})
        patch.setenv("MOFA_NVDR_CACHE", str(out / "cache"))
        return ["networks", "get", "one", "--from", str(file)]

    def use(file: Path) -> None:
        network = load_network(file)
        try:
            with torch.inference_mode():
                network(torch.zeros(1, 3, *network.graph.size))
        except (ValueError, RuntimeError, TypeError) as error:
            # Weights and operations that do not fit are found where a network is first used.
            print(json.dumps({"does not fit": str(error)}))

    return {
        "network .tflite": Kind(("small.tflite",), get),
        "network .dat": Kind(("small.dat",), get),
        "kept network": Kind(
            ("kept_tflite.safetensors", "kept_dat.safetensors"), lambda file, out: lambda: use(file)
        ),
    }


def write_learning_seeds(folder: Path) -> dict[str, Kind]:
    """The folder in which `model learn` keeps its steps, and its table of people."""
    with kept_steps(folder / "learned", "mofa-nvdr model learn") as steps:
        steps.begin("words")
        steps.keep(
            "light 0",
            lambda: {
                "code": np.zeros((3, 9), np.float32),
                "visible": np.ones((3, 8, 8), np.float32),
            },
        )

    def go_on(file: Path) -> None:
        with kept_steps(file.parent.with_suffix(""), "mofa-nvdr model learn") as steps:
            steps.begin("words")
            steps.keep("light 0", lambda: {"code": np.zeros(3), "visible": np.zeros(3)})

    (folder / "people.csv").write_text("file,person\na.png,ann\nb/a.png,ann\nb/b.png,\n")
    sources = [Source(Path(name), name, name) for name in ("a.png", "b/a.png", "b/b.png")]
    return {
        "learning": Kind(
            ("learned.learning/light-0.npz", "learned.learning/origin.txt"),
            lambda file, out: lambda: go_on(file),
            around="learned.learning",
        ),
        "people": Kind(
            ("people.csv",), lambda file, out: lambda: learn_files._people(str(file), sources)
        ),
    }


def write_relighting_seeds(folder: Path) -> dict[str, Kind]:
    """The photograph of a face, its parameters, and where its light comes from."""

    whole = np.array([0.0, 0.0, 40.0])  # the crop is the picture
    dataclasses.replace(load_parameters(folder / "face.npz"), crop=whole).save(folder / "of_p.npz")

    def act(file: Path, out: Path) -> list[str]:
        photo, face, light = folder / "p.png", folder / "of_p.npz", "key_left"
        if file.suffix == ".npz":
            face = file
            light = str(file) if len(file.read_bytes()) % 2 else light
        elif file.suffix == ".hdr":
            light = str(file)
        else:
            photo = file
        return ["relight", str(face), "--photo", str(photo), "--light", light, "--face-model",
                str(folder / "cap.safetensors"), "--out", str(out / "a.png")]  # fmt: skip

    return {"relit photograph": Kind(("p.jpg", "p.png", "of_p.npz", "flat.hdr"), act)}
