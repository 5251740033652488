"""The named blendshapes: 52 after the ARKit set, authored from anatomy.

Each says which places a muscle moves and by how many millimetres (FACS's action units; published excursions:
commissure 10 to 14 mm in a smile, brow 8 to 10 mm, fissure closed from about 10 mm, jaw opened 40 mm between
the incisors); soft_tissue drags the rest along. No scan is used.
"""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.recipe import tables as t
from mofa_nvdr.face.recipe.grid import Grid, gauss, smooth_step
from mofa_nvdr.face.recipe.mean import Lids, mouth_seam
from mofa_nvdr.face.recipe.soft_tissue import Motion, Tissue

JAW_OPEN = np.radians(26.0)
JAW_SLIDE: Motion = (0.0, -4.0, 6.0)  # the condyles leave their sockets in a wide opening

# Motion of places on the subject's left in mm: outwards, up, forward. Both sides do the same.
_MOUTH: dict[str, dict[str, Motion]] = {
    # Zygomaticus major (AU 12).
    "mouthSmile": {
        "corner": (8.0, 8.2, -4.8), "upper_lip": (0, 0.4, -1.2), "upper_lip_1": (2.7, 1.5, -1.6),
        "upper_lip_2": (5.6, 4.6, -3.0), "lower_lip": (0, 0.6, -1.5),
        "lower_lip_1": (2.6, 1.6, -1.9), "lower_lip_2": (5.4, 4.6, -3.2),
        "upper_border": (0, 0.9, -1.1), "upper_border_1": (3.8, 2.7, -1.8),
        "lower_border": (0, 0.9, -1.3), "lower_border_1": (3.0, 2.4, -1.9),
        "fold_middle": (4.6, 5.6, -0.4), "fold_top": (1.6, 2.8, 0.6), "ala": (1.2, 0.8, -0.2),
        "fold_low": (6.6, 7.4, -1.4), "apple": (1.6, 4.4, 3.0), "cheekbone": (0.6, 2.8, 1.6),
        "cheek": (3.6, 5.6, 0.2), "jowl": (2.0, 3.6, -1.4), "mental": (0, 0.8, -0.8),
        "chin": (0, 0.7, -0.4), "under_eye": (0.0, 1.9, 0.7), "crow": (-0.3, 0.8, 0),
        "lower_lid": (0, 0.4, 0), "nose_tip": (0, -0.4, 0),
    },
    # Depressor anguli oris (AU 15), with some mentalis.
    "mouthFrown": {
        "corner": (1.0, -7.6, -1.6), "upper_lip": (0, 0, 0), "upper_lip_1": (0, -0.9, 0),
        "upper_lip_2": (0.4, -4.3, -0.4), "lower_lip": (0, 0.5, 0.7),
        "lower_lip_1": (0, -0.5, 0.4), "lower_lip_2": (0.4, -4.3, -0.4),
        "lower_border_1": (0, -1.2, 0.4), "upper_border_1": (0, -1.6, 0),
        "fold_low": (0.2, -6.2, -0.4), "fold_middle": (0.2, -2.4, 0), "jowl": (0.3, -4.0, 0.6),
        "cheek": (0.2, -3.2, 0), "apple": (0, -0.9, 0), "chin": (0, 1.0, 0.8),
        "mental": (0, 1.0, 0.6),
    },
    # Buccinator (AU 14).
    "mouthDimple": {
        "corner": (5.0, 0.6, -4.6), "upper_lip": (0, 0, -0.5), "upper_lip_1": (1.2, 0.1, -0.9),
        "upper_lip_2": (2.9, 0.3, -2.2), "lower_lip": (0, 0, -0.6),
        "lower_lip_1": (1.2, 0.1, -1.0), "lower_lip_2": (2.9, 0.3, -2.3),
        "fold_low": (2.6, 0.6, -2.4), "cheek": (1.6, 0.8, 0.9), "fold_middle": (1.6, 0.6, 0.2),
        "jowl": (1.2, 0.3, 0),
    },
    # Risorius and platysma (AU 20).
    "mouthStretch": {
        "corner": (8.4, -2.6, -5.0), "upper_lip": (0, -0.2, -1.3), "upper_lip_1": (2.6, -0.5, -1.7),
        "upper_lip_2": (5.7, -1.5, -3.2), "lower_lip": (0, -0.9, -1.3),
        "lower_lip_1": (2.7, -1.5, -1.8), "lower_lip_2": (5.8, -2.6, -3.3),
        "lower_border": (0, -1.4, -1.0), "fold_low": (6.4, -3.0, -2.6), "cheek": (4.0, -1.2, -0.2),
        "fold_middle": (2.8, -0.8, -0.6), "jowl": (3.8, -4.2, -1.0), "mental_1": (2.0, -2.4, -0.8),
        "chin": (0, -1.2, -0.3), "apple": (0.8, -0.8, 0),
    },
    # Levator labii superioris (AU 10).
    "mouthUpperUp": {
        "upper_lip": (0, 4.6, 0.6), "upper_lip_1": (0.5, 5.6, 0.5), "upper_lip_2": (0.8, 3.6, 0.2),
        "upper_border": (0, 4.6, 1.2), "upper_border_1": (0.6, 5.4, 1.0),
        "philtrum": (0, 2.6, 1.0), "beside_philtrum": (0.5, 4.0, 1.4),
        "fold_top": (0.9, 3.2, 1.0), "fold_middle": (0.7, 3.2, 1.2), "ala": (0.9, 1.6, 0.2),
        "apple": (0.2, 2.8, 1.4), "corner": (0.2, 1.0, 0), "fold_low": (0.2, 1.4, 0.3),
        "under_eye": (0, 1.1, 0.5), "lower_lip": (0, 0, 0), "lower_lip_1": (0, 0, 0),
        "lower_lip_2": (0.1, 0.5, 0), "cheekbone": (0, 1.4, 0.6), "nose_tip": (0, 0.5, 0),
    },
    # Depressor labii inferioris (AU 16).
    "mouthLowerDown": {
        "lower_lip": (0, -4.8, 0.3), "lower_lip_1": (1.0, -5.8, 0.0), "lower_lip_2": (1.2, -3.8, 0),
        "lower_border": (0, -4.4, 1.0), "lower_border_1": (1.2, -5.2, 0.5),
        "mental": (0, -2.2, 0.9), "mental_1": (0.9, -3.2, 0.5), "chin": (0, -0.9, 0.4),
        "chin_1": (0.4, -1.2, 0.2), "corner": (0.5, -1.1, -0.2), "upper_lip": (0, 0, 0),
        "upper_lip_1": (0, 0, 0), "upper_lip_2": (0.2, -0.4, 0), "jowl": (0.5, -1.8, 0),
        "fold_low": (0.4, -1.2, 0),
    },
    # Orbicularis oris, inner part (AU 24).
    "mouthPress": {
        "upper_lip": (0, -0.2, -1.3), "upper_lip_1": (0, -0.2, -1.3), "upper_lip_2": (0.4, 0, -1.4),
        "lower_lip": (0, -0.2, -1.4), "lower_lip_1": (0, -0.2, -1.4), "lower_lip_2": (0.4, 0, -1.4),
        "upper_border": (0, -2.0, -1.7), "upper_border_1": (0.2, -2.0, -1.6),
        "lower_border": (0, 2.4, -1.8), "lower_border_1": (0.2, 2.2, -1.6),
        "corner": (1.0, 0.3, -1.9), "fold_low": (1.0, 0.4, 0.4), "philtrum": (0, -1.3, -0.1),
        "mental": (0, 1.5, 0.2), "chin": (0, 1.2, 0.6), "beside_philtrum": (0.2, -1.2, 0.2),
        "cheek": (0.6, 0.4, 0.6),
    },
}  # fmt: skip

_PARTED = ("mouthUpperUp", "mouthLowerDown", "mouthFunnel")  # the others close

_ROUND: dict[str, dict[str, Motion]] = {
    # Incisivi and orbicularis oris (AU 18): a kiss.
    "mouthPucker": {
        "corner": (-9.5, 0.2, 3.6), "upper_lip": (0, 0.2, 7.6), "upper_lip_1": (-3.2, 0.2, 7.2),
        "upper_lip_2": (-6.6, 0.2, 5.8), "lower_lip": (0, 0.2, 7.4),
        "lower_lip_1": (-3.2, 0.2, 7.0), "lower_lip_2": (-6.6, 0.2, 5.7),
        "upper_border": (0, 0.9, 6.8), "upper_border_1": (-4.0, 0.9, 5.9),
        "lower_border": (0, -0.6, 6.6), "lower_border_1": (-4.2, -0.4, 5.8),
        "philtrum": (0, -0.4, 3.2), "beside_philtrum": (-2.4, -0.6, 2.6), "fold_low": (-6.6, 0, 1.0),
        "fold_middle": (-3.0, -1.2, 0.6), "fold_top": (-0.6, -0.6, 0.2), "cheek": (-4.2, 0, -1.2),
        "apple": (-1.4, -1.2, 0), "mental": (0, 1.0, 2.4), "mental_1": (-3.0, 0.8, 1.2),
        "chin": (0, 1.4, 0.8), "jowl": (-3.0, 0.6, -0.6), "nose_tip": (0, -0.6, 0),
    },
    # Orbicularis oris with the lips turned out (AU 22): the vowel of "oh".
    "mouthFunnel": {
        "corner": (-6.6, -0.2, 2.4), "upper_lip": (0, 3.2, 5.6), "upper_lip_1": (-2.0, 2.9, 5.4),
        "upper_lip_2": (-4.6, 1.7, 4.2), "lower_lip": (0, -2.6, 5.4),
        "lower_lip_1": (-2.0, -2.3, 5.1), "lower_lip_2": (-4.6, -1.2, 3.9),
        "upper_border": (0, 2.6, 6.8), "upper_border_1": (-3.0, 2.2, 5.4),
        "lower_border": (0, -1.4, 6.6), "lower_border_1": (-3.2, -1.0, 5.2),
        "philtrum": (0, 1.4, 3.0), "beside_philtrum": (-1.6, 1.0, 2.4), "fold_low": (-4.6, -0.6, 0.4),
        "fold_middle": (-2.0, 0.2, 0.6), "cheek": (-3.0, -0.4, -1.4), "mental": (0, -0.6, 2.0),
        "mental_1": (-2.2, -0.4, 0.8), "chin": (0, 0, 0.4), "jowl": (-2.2, -0.4, -0.6),
        "apple": (-0.8, -0.8, -0.4), "nose_tip": (0, 0, 0),
    },
    # Both lips drawn in over the teeth (AU 28), one by one.
    "mouthRollUpper": {
        "upper_lip": (0, -0.6, -3.0), "upper_lip_1": (0, -0.6, -2.8), "upper_lip_2": (0, -0.4, -1.7),
        "upper_border": (0, -4.3, -2.8), "upper_border_1": (0, -3.4, -2.4),
        "philtrum": (0, -2.6, -0.9), "beside_philtrum": (0, -2.0, -0.7),
        "lower_lip": (0, -0.2, -1.2), "lower_lip_1": (0, -0.2, -1.1), "lower_lip_2": (0, -0.2, -0.7),
        "corner": (0.4, 0, -0.6), "fold_middle": (0, -0.8, 0), "lower_border": (0, 0.2, -0.2),
        "nose_tip": (0, -0.6, 0), "fold_low": (0.2, 0, 0),
    },
    "mouthRollLower": {
        "lower_lip": (0, 0.6, -3.2), "lower_lip_1": (0, 0.6, -3.0), "lower_lip_2": (0, 0.3, -1.8),
        "lower_border": (0, 5.4, -3.2), "lower_border_1": (0, 4.2, -2.6),
        "mental": (0, 2.6, -0.4), "mental_1": (0, 1.9, -0.2), "chin": (0, 1.2, 0.6),
        "upper_lip": (0, 0.2, -1.0), "upper_lip_1": (0, 0.2, -0.9), "upper_lip_2": (0, 0.2, -0.6),
        "corner": (0.4, 0, -0.6), "upper_border": (0, -0.2, -0.2), "fold_low": (0.2, 0, 0),
    },
    # The upper lip pushed up and out; mentalis pushes chin and lower lip up (AU 17).
    "mouthShrugUpper": {
        "upper_lip": (0, 3.0, 1.6), "upper_lip_1": (0, 2.7, 1.4), "upper_lip_2": (0, 1.4, 0.7),
        "lower_lip": (0, 2.9, 1.2), "lower_lip_1": (0, 2.6, 1.1), "lower_lip_2": (0, 1.4, 0.6),
        "upper_border": (0, 3.0, 2.2), "upper_border_1": (0, 2.4, 1.6), "philtrum": (0, 1.5, 1.2),
        "lower_border": (0, 1.2, 0.4), "corner": (0, 0, 0), "nose_tip": (0, 0.6, 0),
        "fold_top": (0, 0.5, 0.2), "mental": (0, 0.5, 0),
    },
    "mouthShrugLower": {
        "lower_lip": (0, 3.4, 2.2), "lower_lip_1": (0, 2.9, 1.9), "lower_lip_2": (0, 1.3, 0.8),
        "upper_lip": (0, 3.2, 1.0), "upper_lip_1": (0, 2.7, 0.9), "upper_lip_2": (0, 1.2, 0.4),
        "lower_border": (0, 4.4, 2.6), "lower_border_1": (0, 3.2, 1.8), "upper_border": (0, 2.4, 0.6),
        "mental": (0, 5.2, 1.0), "mental_1": (-0.4, 4.0, 0.6), "chin": (0, 5.0, 1.4),
        "chin_1": (-0.6, 3.6, 0.6), "under_chin": (0, 2.6, 0.6), "corner": (0, -1.0, -0.3),
        "fold_low": (0, -0.6, 0), "philtrum": (0, 1.2, 0.2), "nose_tip": (0, 0.2, 0),
    },
    # Cheeks blown up against closed lips (AU 34).
    "cheekPuff": {
        "cheek": (6.6, 0, 6.6), "fold_low": (3.4, 0, 7.4), "fold_middle": (1.6, 0.4, 5.0),
        "apple": (2.2, 0.8, 3.6), "jowl": (4.4, -1.2, 3.6), "jaw_angle": (3.6, 0, 1.6),
        "corner": (-1.4, 0, 3.4), "philtrum": (0, 0, 2.6), "beside_philtrum": (0.4, 0, 3.4),
        "upper_lip": (0, 0, 1.4), "upper_lip_1": (-0.4, 0, 1.6), "upper_lip_2": (-0.9, 0, 2.4),
        "lower_lip": (0, 0, 1.4), "lower_lip_1": (-0.4, 0, 1.6), "lower_lip_2": (-0.9, 0, 2.4),
        "mental": (0, 0, 2.0), "mental_1": (0.6, 0, 3.0), "chin": (0, -0.4, 0.4),
        "cheekbone": (0.6, 0.6, 0.8), "ala": (0.4, 0, 0.4), "nose_tip": (0, 0, 0),
    },
}  # fmt: skip

_UPPER: dict[str, dict[str, Motion]] = {
    # Orbicularis oculi, orbital part (AU 6).
    "cheekSquint": {
        "apple": (-0.6, 4.0, 2.4), "cheekbone": (-1.4, 4.0, 1.4), "under_eye": (-0.4, 3.0, 1.2),
        "below_canthus": (0.2, 1.6, 0.6), "crow": (-1.4, 0.8, 0.2), "lower_lid": (0, 0.6, 0.2),
        "fold_top": (0.2, 1.8, 0.6), "fold_middle": (0.2, 2.2, 0.6), "cheek": (0, 2.2, 0.2),
        "corner": (0.2, 0.9, 0), "inner_canthus": (0.2, 0, 0), "outer_canthus": (-0.3, 0, 0),
        "brow_5": (-0.6, -1.2, 0), "brow_4": (-0.2, -0.6, 0), "temple": (-0.8, 0.2, 0),
    },
    # Levator labii superioris alaeque nasi (AU 9).
    "noseSneer": {
        "ala": (0.7, 4.4, 0.8), "fold_top": (0.8, 4.4, 1.5), "nose_side": (0.1, 3.0, 1.6),
        "below_canthus": (0.2, 1.5, 1.0), "beside_philtrum": (0.4, 3.6, 1.0),
        "philtrum": (0, 1.8, 0.6), "upper_lip": (0, 1.0, 0.4), "upper_lip_1": (0.2, 1.5, 0.4),
        "upper_lip_2": (0.3, 1.1, 0.2), "lower_lip": (0, 0.9, 0), "lower_lip_1": (0.1, 1.3, 0),
        "lower_lip_2": (0.2, 0.9, 0), "corner": (0.2, 0.4, 0), "apple": (0, 2.6, 1.0),
        "fold_middle": (0.5, 2.8, 0.8), "under_eye": (0, 1.5, 0.6), "nose_tip": (0, 1.0, 0.2),
        "brow_1": (-1.2, -2.8, 0.6), "brow_2": (-0.8, -1.6, 0.3), "glabella": (0, -2.0, 0.7),
        "nose_root": (0, -0.4, 0.4), "inner_canthus": (0, 0.2, 0.2), "brow_4": (0, -0.2, 0),
        "upper_lid": (0, 0, 0), "outer_canthus": (0, 0, 0), "lower_lid": (0, 0.4, 0.1),
    },
    # Corrugator, procerus, depressor supercilii (AU 4).
    "browDown": {
        "brow_1": (-3.0, -5.2, 1.3), "brow_2": (-2.7, -5.2, 1.0), "brow_3": (-1.8, -4.0, 0.4),
        "brow_4": (-0.8, -2.0, 0), "brow_5": (-0.3, -0.8, 0), "glabella": (0, -3.4, 1.2),
        "forehead_1": (-0.8, -2.2, 0), "forehead_2": (-0.8, -1.6, 0), "forehead_3": (-0.3, -0.6, 0),
        "lid_fold": (-0.4, -2.2, 0.3), "nose_root": (0, -0.9, 0.3), "upper_lid": (0, -0.3, 0),
        "inner_canthus": (0, 0, 0), "outer_canthus": (0, 0, 0), "lower_lid": (0, 0.2, 0),
        "nose_side": (0, -0.2, 0), "crow": (0, -0.2, 0),
    },
    # Frontalis, lateral part (AU 2).
    "browOuterUp": {
        "brow_1": (0, 0.5, 0), "brow_2": (0.1, 2.6, 0.1), "brow_3": (0.2, 5.8, 0.2),
        "brow_4": (0.3, 7.4, -0.2), "brow_5": (0.5, 6.4, -0.2), "forehead_1": (0, 1.0, 0),
        "forehead_2": (0, 4.2, -0.2), "forehead_3": (0.1, 4.8, -0.4), "temple": (0.2, 2.4, 0),
        "lid_fold": (0, 2.2, 0), "crow": (0, 1.4, 0), "upper_lid": (0, 0.4, 0),
        "outer_canthus": (0, 0.2, 0), "inner_canthus": (0, 0, 0), "lower_lid": (0, 0, 0),
        "glabella": (0, 0.2, 0), "nose_root": (0, 0, 0),
    },
}  # fmt: skip

# Frontalis, medial part (AU 1); one shape for both sides, as in ARKit.
_BROW_INNER_UP: dict[str, Motion] = {
    "brow_1": (0.4, 8.4, 0.5), "brow_2": (0.3, 6.2, 0.3), "brow_3": (0.1, 2.4, 0.1),
    "brow_4": (0, 0.2, 0), "glabella": (0, 6.0, 0.4), "forehead_1": (0.1, 5.0, -0.2),
    "forehead_2": (0, 2.2, 0), "forehead_3": (0, 0.3, 0), "lid_fold": (0, 1.8, 0),
    "upper_lid": (0, 0.3, 0), "inner_canthus": (0, 0.2, 0), "outer_canthus": (0, 0, 0),
    "lower_lid": (0, 0, 0), "nose_root": (0, 1.4, 0), "brow_5": (0, 0, 0),
}  # fmt: skip

# The whole mouth drawn to the subject's left: of the leading side and of the trailing one.
_MOUTH_LEFT: tuple[dict[str, Motion], dict[str, Motion]] = (
    {
        "corner": (7.6, 1.4, -5.4), "upper_lip": (8.4, 0.3, -0.6), "upper_lip_1": (8.2, 0.6, -2.0),
        "upper_lip_2": (7.9, 1.0, -3.8), "lower_lip": (8.2, 0.3, -0.6),
        "lower_lip_1": (8.1, 0.6, -2.0), "lower_lip_2": (7.9, 1.0, -3.8), "philtrum": (5.0, 0, 0),
        "fold_low": (4.6, 1.2, -2.2), "fold_middle": (3.4, 1.6, 0.2), "cheek": (2.8, 1.4, 1.6),
        "apple": (1.0, 1.4, 0.8), "mental": (4.6, 0, 0), "chin": (1.6, 0, 0),
        "jowl": (2.2, 0.4, 0), "nose_tip": (1.0, 0, 0), "ala": (1.4, 0.4, 0),
    },
    {
        "corner": (8.0, -0.6, 2.6), "upper_lip_1": (8.4, 0, 0.8), "upper_lip_2": (8.2, -0.3, 1.9),
        "lower_lip_1": (8.2, 0, 0.8), "lower_lip_2": (8.1, -0.3, 1.9), "fold_low": (6.4, -0.4, 1.6),
        "fold_middle": (4.0, -0.6, 0.6), "cheek": (3.6, -0.4, -0.6), "apple": (1.2, -0.6, 0),
        "jowl": (2.6, -0.2, 0), "ala": (1.0, -0.2, 0),
    },
)  # fmt: skip


def named_expressions(mean: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    """Displacements [V, 3] in mm at full weight, ARKit's 52 names; Left and Right are the subject's.

    mouthClose is ARKit's: it brings the lips together while jawOpen is on, and is meaningless without it.

    Args:
        mean: [V, 3] the average face in the tables' frame.
        grid: its topology.
    """
    tissue = Tissue(mean, grid)
    whole = _jaw(tissue)
    for name, motions in _ROUND.items():
        motion = tissue.drag(motions)
        whole[name] = motion if name in _PARTED else tissue.seal(motion)
    whole["mouthFunnel"] += tissue.follow_jaw(tissue.turn_jaw(np.radians(3.5)), 0.0)
    whole["browInnerUp"] = _finish_brows(tissue, tissue.drag(_BROW_INNER_UP), 1.0, 22)
    whole["tongueOut"] = _tongue(tissue)
    to_left = tissue.turn_jaw(0.0, (7.5, 0, 0))
    sideways = {
        "jawLeft": tissue.seal(tissue.follow_jaw(to_left, 0.42), to_left),
        "mouthLeft": tissue.seal(tissue.drag(*_MOUTH_LEFT)),
    }
    pairs: dict[str, tuple[np.ndarray, float]] = {}  # motion of both sides, half width of the blend
    for name, motions in _MOUTH.items():
        held = dict.fromkeys(("inner_canthus", "outer_canthus", "upper_lid"), (0.0, 0.0, 0.0))
        motion = tissue.drag(held | motions)
        pairs[name] = motion if name in _PARTED else tissue.seal(motion), 11.0
    pairs["mouthSmile"] = _smile(tissue, pairs["mouthSmile"][0]), 11.0
    for name, motions in _UPPER.items():
        pairs[name] = tissue.seal(tissue.drag(motions), overlap=0.1), 7.0
    brows = _finish_brows(tissue, pairs["browOuterUp"][0], 0.8, 38)
    pairs["browOuterUp"] = brows, 7.0
    squint = tissue.lids(Lids(squint=0.25))
    pairs["cheekSquint"] = tissue.clear_eyes(pairs["cheekSquint"][0] + squint), 7.0
    pairs |= {name: (motion, 3.5) for name, motion in _eyes(tissue).items()}

    result = whole
    for name, motion in sideways.items():
        result[name] = motion
        result[name.replace("Left", "Right")] = motion[grid.mirror] * [-1, 1, 1]
    for name, (motion, width) in pairs.items():
        left = motion * tissue.left(width)
        result[f"{name}Left"] = left
        result[f"{name}Right"] = left[grid.mirror] * [-1, 1, 1]
    return dict(sorted(result.items()))


def _jaw(tissue: Tissue) -> dict[str, np.ndarray]:
    turn = tissue.turn_jaw(JAW_OPEN, JAW_SLIDE)
    # The stretched cheeks fall in and draw the corners of the mouth together.
    hollow = tissue.drag({
        "corner": (-3.6, 0, 0.4), "cheek": (-2.6, 0, -1.6), "fold_low": (-3.4, 0, -0.4),
        "upper_lip": (0, -1.0, -0.8), "upper_lip_1": (-0.6, -0.8, -0.6), "jaw_angle": (-1.0, 0, -0.6),
        "upper_lip_2": (-2.2, -0.4, -0.2), "lower_lip": (0, 0, 0), "lower_lip_1": (-0.6, 0, 0),
        "lower_lip_2": (-2.2, 0, 0), "nose_tip": (0, -0.6, 0), "apple": (-0.4, -1.6, -0.4),
        "chin": (0, 0, 0), "mental": (0, 0, 0), "under_eye": (0, -0.5, 0),
        "lower_lid": (0, 0, 0), "inner_canthus": (0, 0, 0), "outer_canthus": (0, 0, 0),
    })  # fmt: skip
    opened = tissue.follow_jaw(turn, 0.0) + hollow
    together = tissue.seal(tissue.follow_jaw(turn, 0.5) + hollow, turn)
    forward = tissue.turn_jaw(0.0, (0.0, 0.0, 6.0))
    return {
        "jawOpen": opened,
        "jawForward": tissue.seal(tissue.follow_jaw(forward, 0.30), forward),
        "mouthClose": together - opened,
    }


def _smile(tissue: Tissue, motion: np.ndarray) -> np.ndarray:
    """Deepen the nasolabial fold under the lifted cheek and narrow the eye."""
    x, y = tissue.ax, tissue.y
    fold = x - (18.5 + (-38 - y) * 0.50)
    on = smooth_step(y, -66, -56) * (1 - smooth_step(y, -44, -37)) * tissue.skin
    motion[:, 2] += on * (0.9 * gauss(fold - 7, 4.5) - 1.3 * gauss(fold - 0.8, 2.6))
    return tissue.clear_eyes(motion + tissue.lids(Lids(squint=0.2)))


def _finish_brows(tissue: Tissue, motion: np.ndarray, depth: float, centre: float) -> np.ndarray:
    """Fold the forehead above raised brows into three soft furrows."""
    y = tissue.y
    on = smooth_step(y, 29, 36) * (1 - smooth_step(y, 54, 62)) * gauss(tissue.ax - centre, 15)
    motion[:, 2] += 0.5 * depth * on * np.cos((y - 33) * 2 * np.pi / 9.5) * tissue.skin
    return tissue.clear_eyes(motion)


def _eyes(tissue: Tissue) -> dict[str, np.ndarray]:
    held = dict.fromkeys(("brow_2", "brow_4", "nose_root"), (0.0, 0.0, 0.0))

    def eye(lids: Lids, look: tuple[float, float] = (0.0, 0.0), **drag: Motion) -> np.ndarray:
        motion = tissue.lids(lids) + tissue.look(*look)
        if drag:
            motion += tissue.seal(tissue.drag(held | drag), overlap=0.1)
        return tissue.clear_eyes(motion)

    return {
        "eyeBlink": eye(Lids(blink=1.0), under_eye=(-0.3, 0.4, 0), crow=(-0.3, -0.2, 0)),
        "eyeSquint": eye(Lids(squint=1.0), under_eye=(-0.3, 1.8, 0.6), crow=(-0.8, 0.2, 0),
                         below_canthus=(0, 0.8, 0.2), cheekbone=(-0.3, 0.8, 0.2)),
        "eyeWide": eye(Lids(wide=1.25), lid_fold=(0, 0.9, -0.2)),
        "eyeLookUp": eye(Lids(wide=0.75, squint=0.1), (0.0, 4.0), lid_fold=(0, 0.6, 0)),
        "eyeLookDown": eye(Lids(blink=0.36, squint=-0.65), (0.0, -3.7),
                           under_eye=(0, -0.5, 0)),
        "eyeLookIn": eye(Lids(), (-5.0, 0.0), upper_lid=(-0.7, 0, 0), lower_lid=(-0.5, 0, 0)),
        "eyeLookOut": eye(Lids(), (5.0, 0.0), upper_lid=(0.7, 0, 0), lower_lid=(0.5, 0, 0)),
    }  # fmt: skip


def _tongue(tissue: Tissue) -> np.ndarray:
    """The tongue's tip slides out over the lower teeth between parted lips."""
    turn = tissue.turn_jaw(np.radians(8.0))
    flat = {
        "lower_lip": (0.0, -1.5, 0.0),
        "lower_lip_1": (0.0, -2.6, 0.0),
        "corner": (0.0, 0.0, 0.0),
    }
    field = tissue.follow_jaw(turn, 0.0) + tissue.drag(flat)
    rows = tissue.grid.pockets["mouth"]
    throat = int(np.argmin([dz for dz, _ in t.MOUTH_BAG]))
    body, tip = rows[throat + 2], rows[throat + 3]
    m = tissue.m[rows[0]]
    blade = np.clip(1 - (m / 0.66) ** 2, 0, 1) ** 0.35  # as seen from above: a rounded tip
    field[body] += blade[:, None] * [0.0, 5.5, 17.0]
    field[tip] += blade[:, None] * [0.0, -4.0, 29.0]
    seam = mouth_seam(tissue.x[rows[0]] / tissue.grid.mouth_half_width)
    for row in (body, tip):
        field[row, 1] -= seam * blade  # the bag's rows have the lips' line, a tongue has not
        field[row, 1] -= (0.8 * gauss(m, 0.16) - 0.8 * gauss(m - 0.42, 0.12)) * blade
        field[row, 0] -= 0.10 * tissue.x[row] * blade
    return field
