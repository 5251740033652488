"""`interpolate` in plain torch, float64 too; conventions are those of `reference`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mofa_nvdr.dr.context import common_device
from mofa_nvdr.dr.interpolate import check_inputs

DTYPES = (torch.float32, torch.float64)


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """`mofa_nvdr.dr.interpolate` in plain torch.

    Raises:
        RuntimeError: as there.
        TypeError: as there.
    """
    common_device("interpolate", attr=attr, rast=rast, tri=tri, rast_db=rast_db)
    listed = check_inputs("interpolate", attr, rast, tri, rast_db, diff_attrs, DTYPES)
    check_one_dtype("interpolate", attr=attr, rast=rast, rast_db=rast_db if listed else None)
    num_images, height, width, _ = rast.shape
    indices, valid = triangles_at(rast, tri, attr.shape[-2])
    where = torch.nonzero(valid, as_tuple=True)
    image = where[0]
    values = attr.expand(num_images, *attr.shape[-2:])[image[:, None], indices[where]]  # [P, 3, C]
    u, v = rast[where][:, 0:1], rast[where][:, 1:2]
    inside = u * values[:, 0] + v * values[:, 1] + (1.0 - u - v) * values[:, 2]
    out = rast.new_zeros(num_images, height, width, attr.shape[-1]).index_put(where, inside)
    out_da = rast.new_zeros(num_images, height, width, 2 * len(listed))
    if listed:
        assert rast_db is not None
        chosen = torch.tensor(listed, device=attr.device)
        along = (values[:, :2] - values[:, 2:])[..., chosen.clamp(min=0)] * (
            chosen >= 0
        )  # [P, 2, D]
        steps = rast_db[where].reshape(-1, 2, 2)  # [P, (u, v), (X, Y)]
        derivatives = torch.einsum("pkd,pkx->pdx", along, steps).flatten(1)
        out_da = out_da.index_put(where, derivatives)
    return out, out_da


def check_one_dtype(verb: str, **tensors: Tensor | None) -> None:
    """Raise RuntimeError unless the tensors that are given have one dtype."""
    given = {name: tensor.dtype for name, tensor in tensors.items() if tensor is not None}
    first = next(iter(given))
    for name, dtype in given.items():
        if dtype != given[first]:
            raise RuntimeError(
                f"{verb}: {name} is {dtype}, but {first} is {given[first]}; convert one of them"
            )


def triangles_at(rast: Tensor, tri: Tensor, num_vertices: int) -> tuple[Tensor, Tensor]:
    """Vertex indices [N, H, W, 3] of what each pixel sees, and whether they can be used."""
    triangle = rast.detach()[..., 3].nan_to_num(nan=0.0).long() - 1
    valid = (triangle >= 0) & (triangle < tri.shape[0])
    indices = tri.long()[triangle.clamp(0, tri.shape[0] - 1)]
    valid = valid & ((indices >= 0) & (indices < num_vertices)).all(dim=-1)
    return indices, valid
