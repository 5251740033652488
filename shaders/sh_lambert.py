"""Lambertian shading under distant spherical-harmonics light: the paper's Eq. 4."""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.lighting import sh_basis


def sh_lambert(normal: Tensor, albedo: Tensor, light: Tensor) -> Tensor:
    """Shade (placeholder until measured)."""
    return albedo * sh_irradiance(normal, light)


def sh_irradiance(normal: Tensor, light: Tensor) -> Tensor:
    """Irradiance [B, ..., 3] of unit normals [B, ..., 3] under light [B, 9, 3]."""
    basis = sh_basis(normal)
    return (basis.flatten(1, -2) @ light).view_as(normal)


def sh_irradiance_ref(normal: Tensor, light: Tensor) -> Tensor:
    """Plain twin."""
    return torch.einsum("b...k,bkc->b...c", sh_basis(normal), light)
