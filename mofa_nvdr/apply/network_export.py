"""Networks of others that are on this machine as ONNX files, compared with torch before they are kept."""

from __future__ import annotations

from pathlib import Path

import torch

from mofa_nvdr.apply.onnx_export import ABSOLUTE, OPSET, RELATIVE, module_to_onnx
from mofa_nvdr.networks.graph import WEIGHTS, GraphNetwork, read_facts
from mofa_nvdr.networks.network_sets import Member
from mofa_nvdr.networks.on_request import find_set, load_set, network_path
from mofa_nvdr.networks.onnx_encoder import INPUT, require
from mofa_nvdr.system.files import check_out, make_folders, write_files
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import KEY, check_free, origin

FORMAT = "mofa-nvdr exported network 1"


def export_networks(name: str, out: str, overwrite: bool = False) -> list[Path]:
    """Write the networks of a set as OUT/MEMBER.onnx, all or none; returns their paths.

    Each takes `image` [B, 3, S, S] for any B; the metadata says which range and where it comes from.

    Args:
        name: of network_sets.NETWORK_SETS.
        out: folder.
        overwrite: replace files that are there, whatever they were made from; else only exports of the same
            networks.

    Raises:
        on_request.NetworkMissingError: the networks are not here; the message has the command.
        ValueError: no such set, a folder that cannot be made, or a file in it that was made from something
            else.
        RuntimeError: a package is missing, or an exported network disagrees with torch.
        OSError: the folder cannot be written.
    """
    require("onnx", "onnxscript", "onnxruntime")
    check_out(out)
    networks = load_set(name)
    folder = make_folders(out, "")
    contents, lines = {}, []
    members = find_set(name).members
    marks = {member.name: origin("networks export", member.sha256) for member in members}
    for member in members:
        check_free(out, [folder / f"{member.name}.onnx"], marks[member.name], overwrite)
    for member in members:
        network = networks[member.name]
        facts = read_facts(network_path(name, member.name))
        del facts["graph"]
        facts.pop(WEIGHTS, None)
        facts |= {"format": FORMAT, "input": f"RGB in {member.image_range}, row 0 at the top"}
        facts[KEY] = marks[member.name]
        data = network_to_onnx(network, member, facts)
        difference = _difference(network, data, member)
        path = folder / f"{member.name}.onnx"
        contents[path] = data
        lines.append(
            f"{path}: opset {OPSET}, {len(data) / 1e6:.1f} MB, gives {', '.join(member.outputs)}; "
            f"largest difference from torch {difference:.1e}"
        )
    write_files(contents)
    for line in lines:
        say(line)
    return list(contents)


def network_to_onnx(network: GraphNetwork, member: Member, facts: dict[str, str]) -> bytes:
    """One network as a serialised ONNX model."""
    example = torch.rand(2, 3, *network.graph.size)
    return module_to_onnx(network, member.name, example, {0: "batch"}, member.outputs, facts)


def _difference(network: GraphNetwork, data: bytes, member: Member) -> float:
    """The largest difference of ONNX Runtime from torch on noise.

    Raises:
        RuntimeError: it is above ABSOLUTE + RELATIVE * the output's largest number.
    """
    (onnxruntime,) = require("onnxruntime")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for count in (1, 3):
        images = torch.rand(count, 3, *network.graph.size, generator=generator)
        found = session.run(list(member.outputs), {INPUT: images.numpy()})
        for name, got, want in zip(member.outputs, found, network(images)):
            difference = (torch.from_numpy(got) - want).abs().max().item()
            allowed = ABSOLUTE + RELATIVE * want.abs().max().item()
            if not difference <= allowed:  # NaN is refused too
                raise RuntimeError(
                    f"networks export: {name} of {member.name} differs from torch by {difference:.2g}, "
                    f"allowed are {allowed:.2g}; no file was written"
                )
            worst = max(worst, difference)
    return worst
