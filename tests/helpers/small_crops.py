"""Face crops smaller than the commands', so that fits take milliseconds."""

from __future__ import annotations

import pytest

from mofa_nvdr.apply import fit_files, largest_face, learn_files


def use_small_crops(patch: pytest.MonkeyPatch, size: int) -> None:
    """Cut crops of `size` px wherever faces of photographs are fitted."""
    for module in (largest_face, fit_files, learn_files):
        patch.setattr(module, "FIT_SIZE", size)
