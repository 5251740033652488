"""Options of corrective levels: how many modes are learned on top of the face model, and what holds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CorrectiveOptions:
    """Corrective modes of geometry and reflectance, learned from photographs with the encoder.

    As in the multi-level model of Tewari et al. 2018; `model from-run` makes a face model of what is learned.
    """

    shape: int = 0
    """corrective modes of geometry, behind the face model's own; 0: none"""
    albedo: int = 0
    """corrective modes of reflectance; 0: none"""
    base_steps: int = 0
    """steps on photographs with the face model alone, after the warm start and before both levels"""
    learning_rate: float = 0.003
    """base learning rate of the modes, whose unit is 1 mm and 0.03 of reflectance"""
    base_photometric: float = 0.0
    """photometric term of the base level; that of both is loss.photometric"""
    base_landmark: float = 0.0
    """landmark term of the base level; that of both is loss.landmark"""
    smoothness: float = 0.0
    """squared graph Laplacian of displacements, mm^2"""
    sparsity: float = 0.0
    """corrections of reflectance change at few places, and there where neighbours in the photograph differ"""
    constancy: float = 0.0
    """variance of corrections of reflectance over bare skin, of a face model with regions"""
    size: float = 0.0
    """mean square of corrections, in 1 mm and in 0.05 of reflectance"""
    rendered_size: float = 0.0
    """the same of rendered faces next to the photographs (loss.synthetic), which are of the face model alone
    and need none"""
    orthogonality: float = 0.0
    """products of the modes with each other and with the face model's own, apart from those of an orthonormal
    basis"""
