"""mofa-nvdr evaluate."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and measure."""
    parse("evaluate", evaluate, args)()


def evaluate(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    on: str = "synthetic",
    count: int = 200,
    plain: bool = False,
    covered: bool = False,
    learned: bool = False,
    learned_steps: int | None = None,
    learned_size: int | None = None,
    learned_seed: int | None = None,
    sheet: str = "",
    face_model: str = "",
    device: str = "auto",
    out: str = "",
    overwrite: bool = False,
) -> object:
    """Measure encoders as the MoFA paper does, next to its numbers; or reconstructions against scans.

    Args:
        checkpoints: run folders or checkpoint files, a row each; none: the encoder that comes with the
            package
        on: 'synthetic': rendered people with known codes; a training folder: its validation pictures; a
            folder of scans (NAME.ply, .obj, .stl, .off) next to reconstructions (NAME.npz): distances in mm,
            and no encoder is needed (pip install 'mofa-nvdr[evaluate]')
        count: how many rendered faces, or at most how many pictures, evenly spaced; 0: all pictures
        plain: rendered faces alone in front of made-up rooms, as `synthesize --plain` makes them, without
            heads, hair, occluders and a camera's faults: what the paper's synthetic images are
        covered: errors by the share of each face that a box covers, from 0 to 50 %
        learned: train what the paper compares its analytic decoder with, and measure both: a learned decoder
            on renders, and with --on FOLDER a convolutional autoencoder on the folder's training pictures;
            its validation pictures are the measure. Ten minutes of one core; what was stopped starts anew
        learned_steps: training steps of each of the two, of 8 pictures; not given: 2500
        learned_size: side of their pictures in pixels, a multiple of 16 from 32 to 512; not given: 64
        learned_seed: of their first weights and of what they see; not given: 0
        sheet: .png file for a sheet of the pictures that --learned compares
        face_model: the face model of the run or of the reconstructions; empty: the one that they name
        device: auto, cpu, cuda or cuda:N
        out: .json file for all digits, with the protocol
        overwrite: replace what is there
    """

    def call() -> None:
        from mofa_nvdr.apply.scan_error import has_scans, measure_scans
        from mofa_nvdr.runs.measured import Measured, MeasuredTables, check_file

        if out:
            check_file(out, overwrite)
        if sheet:
            check_file(sheet, overwrite, ".png", "--sheet")
        words = {"steps": learned_steps, "size": learned_size, "seed": learned_seed}
        given = {name: value for name, value in words.items() if value is not None}
        if not learned and (given or sheet):
            flag = f"--learned-{next(iter(given))}" if given else "--sheet"
            raise ValueError(f"evaluate: {flag} is of --learned; give that too")
        if learned and (plain or covered):
            other = "--plain" if plain else "--covered"
            raise ValueError(
                f"evaluate: --learned and {other} are two measurements; give one of them"
            )
        if plain and on != "synthetic":
            raise ValueError(f"evaluate: --plain is of rendered people, not of --on {on}")
        measured: Measured | MeasuredTables
        if on != "synthetic" and has_scans(on):
            if covered or learned:
                flag = "--covered" if covered else "--learned"
                raise ValueError(f"evaluate: {flag} is of pictures, and {on} holds scans")
            measured = measure_scans(on, face_model)
        elif learned:
            from mofa_nvdr.apply.learned_evaluation import evaluate_learned
            from mofa_nvdr.apply.learned_pictures import LearnedOptions
            from mofa_nvdr.runs.rows import load_rows
            from mofa_nvdr.system.device import keep_freed_memory

            options = LearnedOptions(**given)
            keep_freed_memory()  # it trains
            runs = load_rows(checkpoints, face_model, device)
            measured = evaluate_learned(runs, on, count, options, sheet)
        else:
            from mofa_nvdr.apply.occluded_error import measure_occluded
            from mofa_nvdr.runs.rows import load_rows
            from mofa_nvdr.training.paper_tables import measure_photographs, measure_renders

            runs = load_rows(checkpoints, face_model, device)
            if covered:
                measured = measure_occluded(runs, on, count, plain)
            elif on == "synthetic":
                measured = measure_renders(runs, count, plain)
            else:
                measured = measure_photographs(runs, on, count)
        print(measured.text())
        if out:
            measured.save(out)

    return call
