"""mofa-nvdr preprocess."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and preprocess."""
    parse("preprocess", preprocess, args)()


def preprocess(
    photos: Annotated[tuple[str, ...], tyro.conf.Positional],
    out: str,
    size: int = 256,
    smallest: int = 48,
    sharpness: float = 15.0,
    turned: float = 0.9,
    score: float = 2.0,
    landmark_model: str = "",
    detection_size: int = 1280,
    max_megapixels: float = 250.0,
    workers: int = 2,
    shards: float = 0.0,
    detector: Literal["auto", "networks", "haar"] = "auto",
) -> object:
    """Find the faces in photographs and crop them for training and reconstruction.

    Args:
        photos: image files, or folders of them; landmarks next to them are used (.pts, .txt, .csv, .npz)
        out: folder for images/, index.csv, landmarks68.npz and landmarks478.npz; the same command resumes,
            others add to it
        size: side of the crops in pixels
        smallest: least side of a face's crop in the photograph, in pixels
        sharpness: least sharpness (variance of the Laplacian at 128 px; good crops have 40 to 400)
        turned: largest turn of the head where landmarks are known (0 frontal, 1 nose in line with an eye)
        score: least certainty of OpenCV's face detector (about 1 to 12)
        landmark_model: .dat file of a dlib predictor of 68 landmarks, for faces that have none next to them
        detection_size: longer side in pixels of the copy in which faces are looked for; faces narrower than
            about 1/60 of it are not found: raise it for large groups
        max_megapixels: photographs with more megapixels are not read
        workers: photographs at once; together they hold at most 2 GB of decoded ones, or one that is larger
        shards: also pack the crops into tar shards of about this many MB, in OUT/shards; 0: do not
        detector: what finds faces that have no landmarks next to them: networks (with landmarks, of
            `mofa-nvdr networks get landmarks`), haar (OpenCV's cascade, as in the paper), or auto: networks
            if they are here and no landmark_model is given
    """

    def call() -> None:
        from mofa_nvdr.data.crops.preprocess import PreprocessOptions, preprocess_files
        from mofa_nvdr.system.device import keep_freed_memory

        keep_freed_memory()  # the networks' maps of large photographs

        options = PreprocessOptions(
            size, smallest, sharpness, turned, score, landmark_model, detection_size
        )
        networks = None
        if detector == "networks" and landmark_model:
            raise ValueError(
                "--detector networks: gives landmarks of its own, leave --landmark-model out, or give "
                "--detector haar"
            )
        if detector != "haar" and not landmark_model:
            from mofa_nvdr.networks.landmark_detector import LandmarkDetector

            if detector == "networks" or LandmarkDetector.is_here():
                networks = LandmarkDetector.load().points
        preprocess_files(list(photos), out, options, workers, shards, max_megapixels, networks)

    return call
