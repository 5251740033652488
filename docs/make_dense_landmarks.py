"""Make mofa_nvdr/assets/default_face_landmarks.npz: where a detector's points lie on the built-in face.

mofa-nvdr networks get landmarks
python docs/make_dense_landmarks.py
python docs/make_dense_landmarks.py ibug   # print where its 68 landmarks do: face/recipe/landmark_vertices.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mofa_nvdr import FaceModel
from mofa_nvdr.apply.landmark_places import place_dense_landmarks, place_detected_landmarks
from mofa_nvdr.networks.landmark_detector import LandmarkDetector

COUNT = 400


def main() -> None:
    """Measure and write; the file to write may be given."""
    default = Path(__file__).parents[1] / "assets" / "default_face_landmarks.npz"
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    detector, model = LandmarkDetector.load(), FaceModel.load("procedural")

    def detect(pictures: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        return [[face.points for face in faces] for faces in detector.detect(pictures)]

    if sys.argv[1:] == ["ibug"]:
        found = place_detected_landmarks(model, detect, COUNT, progress=True)
        for number, place in enumerate(found.round(1).tolist()):
            print(number, *place)
        return
    places = place_dense_landmarks(model, detect, COUNT, progress=True)
    np.savez_compressed(
        out,
        dense_vertices=places.vertices.numpy().astype(np.int32),
        dense_weights=places.weights.numpy(),
        dense_spread=places.spread.numpy(),
    )
    spread = places.spread[places.known]
    print(
        f"{out}: {len(spread)} of {len(places.spread)} points, "
        f"spread {spread.median():.2f} mm (median), {spread.quantile(0.9):.2f} (90 %)"
    )


if __name__ == "__main__":
    main()
