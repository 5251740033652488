"""Shorter ways to fit than `FitOptions.stages`, for who starts near or needs no likeness."""

from mofa_nvdr.apply.fit_problem import Stage

# A prediction is near: its pose and form need few steps, and light comes first, which it knows least.
REFINE_STAGES = (
    Stage(("rotation", "translation", "shape", "expression"), 3, landmarks=0.5),
    Stage(("light", "albedo"), 3, photometric=100.0, blur=1.0),
    Stage(
        ("rotation", "translation", "shape", "expression", "albedo", "light"), 4,
        landmarks=0.3, photometric=50.0, detail=150.0, blur=1.0, occlusion=True,
    ),
    Stage(("light", "albedo"), 2, photometric=300.0, detail=300.0, occlusion=True),
)  # fmt: skip

# For relighting, which needs a face's form and light and no likeness: half of the time.
QUICK_STAGES = (
    Stage(("rotation", "translation"), 5, landmarks=0.5),
    Stage(("rotation", "translation", "shape", "expression"), 4, landmarks=0.5),
    Stage(("light",), 2, photometric=100.0, blur=1.0),
    Stage(("light", "albedo"), 3, photometric=100.0, blur=1.0),
    Stage(
        ("rotation", "translation", "shape", "expression", "albedo", "light"), 3,
        landmarks=0.3, photometric=50.0, detail=150.0, blur=1.0, occlusion=True,
    ),
    Stage(("light", "albedo"), 2, photometric=300.0, detail=300.0, occlusion=True),
)  # fmt: skip
