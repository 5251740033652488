"""Shorter ways to fit: they end with light and albedo, and move only what there is."""

import pytest

from mofa_nvdr.apply.fit_stages import QUICK_STAGES, REFINE_STAGES
from mofa_nvdr.apply.fitting import FitOptions
from mofa_nvdr.face.code import CodeLayout


@pytest.mark.parametrize("stages", [QUICK_STAGES, REFINE_STAGES])
def test_shorter_than_the_default(stages):
    parts = set(CodeLayout(80, 64, 80).slices)
    assert all(set(stage.parts) <= parts and stage.steps > 0 for stage in stages)
    assert all(stage.landmarks or stage.photometric for stage in stages)
    assert set(stages[-1].parts) == {"light", "albedo"}
    assert sum(s.steps for s in stages) < sum(s.steps for s in FitOptions().stages)
