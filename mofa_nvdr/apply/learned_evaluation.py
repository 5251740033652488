"""One measurement of learned counterparts (Figs. 12 and 13): training, tables, a sheet of pictures."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.learned_error import (
    AUTOENCODER,
    COMPONENTS,
    Learned,
    Runs,
    learn_counterparts,
    measure_autoencoders,
    measure_decoders,
    seen_by,
    unseen_codes,
)
from mofa_nvdr.apply.learned_pictures import LearnedOptions
from mofa_nvdr.render.decoder import face_image
from mofa_nvdr.render.pictures import captioned, png_bytes, sheet, to_uint8
from mofa_nvdr.runs.measured import MeasuredTables
from mofa_nvdr.system.files import write_bytes

logger = logging.getLogger(__name__)

_PEOPLE, _PAIRS = 8, 12
_COLUMNS = 7  # of photographs; pairs of decoders take four of eight
_TIMES = 2  # as large as the networks' pictures, so that pixels are seen


def evaluate_learned(
    runs: Runs, on: str, count: int, options: LearnedOptions, sheet_file: str = ""
) -> MeasuredTables:
    """Train the learned counterparts of runs, measure both, and draw a sheet where it is asked for.

    Args:
        runs: encoders, by the names of their rows.
        on: "synthetic": Fig. 13 alone; or a training folder: Fig. 12 and Fig. 13.
        count: how many codes are drawn, and at most how many pictures; 0 of a folder: some hundred, and all.
        options: of the trainings.
        sheet_file: .png file for `learned_sheet`; empty: none.

    Raises:
        DataError: no such folder, or no training or no validation picture in it.
        ValueError: count below 1 without a folder.
    """
    if on == "synthetic" and count < 1:
        raise ValueError(f"evaluate: --count is {count}, expected at least 1")
    try:
        learned = learn_counterparts(runs, on, options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped; evaluate --learned keeps nothing, and starts anew"
        ) from None
    tables = [measure_decoders(runs, learned, on, count)]
    if on == "synthetic":
        logger.info("the autoencoders of Fig. 12 learn from photographs: --on FOLDER")
    else:
        tables.insert(0, measure_autoencoders(runs, learned, on, count))
    if sheet_file:
        write_bytes(Path(sheet_file), png_bytes(learned_sheet(runs, learned, on), kind="sheet"))
    return MeasuredTables(tuple(tables))


@torch.no_grad()
def learned_sheet(runs: Runs, learned: Learned, on: str) -> np.ndarray:
    """Pictures uint8 [H, W, 3] of the first run.

    Of a folder: a row for each of some validation pictures, evenly spaced. Below, or alone: drawn codes by
    both decoders.

    Args:
        runs: as `learn_counterparts` took them.
        learned: what it gave.
        on: likewise.
    """
    name, run = next(iter(runs.items()))
    analytic, network = learned.decoders[name]
    parts = []
    if on != "synthetic":
        rows = []
        for seen in seen_by(run, on, learned.options.size, _PEOPLE):
            face, solved = analytic(seen.code), analytic(seen.solved)
            columns = [
                seen.photo,
                torch.where(face.mask > 0, face.image, seen.photo),
                torch.where(solved.mask > 0, solved.image, seen.photo),
                learned.autoencoders[AUTOENCODER](seen.photo),
                learned.autoencoders[COMPONENTS](seen.photo),
                face_image(face),
                network(seen.code.pack()),
            ]
            rows.append(torch.stack(columns, 1).flatten(0, 1))
        parts.append(
            (
                torch.cat(rows), _COLUMNS,
                "photograph; model-based autoencoder; the same with light and albedo solved for; "
                "convolutional autoencoder; principal components; the encoder's code by the analytic "
                "decoder; by the learned decoder",
            )
        )  # fmt: skip
    codes = unseen_codes(analytic, _PAIRS)
    pairs = torch.stack([face_image(analytic(codes)), network(codes)], 1).flatten(0, 1)
    across = _COLUMNS - 1 if parts else 4
    text = "pairs of drawn codes, none of them trained on: by the analytic decoder, by the learned decoder"
    parts.append((pairs, across, text))
    return _below(
        [captioned(sheet(_enlarged(cells), number), words) for cells, number, words in parts]
    )


def _enlarged(pictures: Tensor) -> np.ndarray:
    return to_uint8(pictures).repeat(_TIMES, 1).repeat(_TIMES, 2)


def _below(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrower ones filled up with the empty cells' grey."""
    width = max(picture.shape[1] for picture in pictures)
    grey = int(pictures[0][-1, -1, 0])
    wide = [
        np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=grey)
        for picture in pictures
    ]
    return np.concatenate(wide)
