"""python -m tests.fuzz --cases 10000 --seed 0: mutated and hand-made files of every kind; prints a table.

The last columns must be zero: status 1 where they are not. --keep FOLDER keeps the files that failed;
--only KIND,KIND runs some kinds; Ctrl-C ends it with the table of what is done.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.fuzz.pool import OUTCOMES, Case, Outcome


def make_cases(
    folder: Path, kinds: dict, count: int, seed: int, only: str, handmade: bool
) -> Iterator[Case]:
    """The hand-made ones, then `count` mutations, the kinds in turn; the same for the same seed."""
    from tests.fuzz.handmade import write_handmade
    from tests.fuzz.mutations import mutate

    chosen = [name for name in kinds if any(part in name for part in only.split(","))]
    if handmade:
        for kind, name, path in write_handmade(folder / "seeds", folder / "handmade"):
            if kind in chosen:
                yield Case(kind, name, path.name, path.read_bytes())
    for number in range(count):
        kind = chosen[number % len(chosen)]
        rng = random.Random(f"{seed}/{number}")
        name = rng.choice(kinds[kind].files)
        data = (folder / "seeds" / name).read_bytes()
        yield Case(kind, name, f"seed {seed}, case {number}", mutate(data, name, rng))


def table(outcomes: list[Outcome]) -> str:
    """A line for each kind: how many cases came to which end."""
    kinds = list(dict.fromkeys(outcome.case.kind for outcome in outcomes))
    counts = Counter((outcome.case.kind, outcome.what) for outcome in outcomes)
    lines = [f"{'kind':20}" + "".join(f"{name:>11}" for name in ("cases", *OUTCOMES))]
    for kind in [*kinds, "all"]:
        of = [sum(counts[k, o] for k in kinds if kind in (k, "all")) for o in OUTCOMES]
        lines.append(f"{kind:20}" + "".join(f"{n:>11}" for n in (sum(of), *of)))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="KIND")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-handmade", dest="handmade", action="store_false")
    args = parser.parse_args()
    import torch

    from tests.fuzz.pool import run_cases
    from tests.fuzz.seeds import write_seeds

    torch.set_num_threads(1)  # what is forked must not hold threads
    with tempfile.TemporaryDirectory(prefix="mofa-nvdr-fuzz-") as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        kinds = write_seeds(folder / "seeds")
        cases = make_cases(folder, kinds, args.cases, args.seed, args.only, args.handmade)
        outcomes = []
        try:
            for outcome in run_cases(cases, kinds, folder, args.workers):
                if outcome.what not in ("clean", "accepted"):
                    _tell(outcome, args.keep)
                outcomes.append(replace(outcome, case=replace(outcome.case, data=b""), said=""))
        except KeyboardInterrupt:
            if not outcomes:
                raise
    print(table(outcomes))
    slow = max(outcomes, key=lambda o: o.seconds)
    large = max(outcomes, key=lambda o: o.memory)
    print(f"slowest: {slow.seconds:.1f} s ({slow.case.kind}, {slow.case.label}); largest: "
          f"{large.memory / 1e6:.0f} MB ({large.case.kind}, {large.case.label})")  # fmt: skip
    return any(outcome.what not in ("clean", "accepted") for outcome in outcomes)


def _tell(outcome: Outcome, keep: Path | None) -> None:
    case = outcome.case
    print(
        f"{outcome.what}: {case.kind}, {case.label}, {case.seed}: {outcome.said.strip()[-600:]!r}",
        flush=True,
    )
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        label = "".join(c if c.isalnum() else "_" for c in f"{case.kind} {case.label}")
        (keep / f"{label}_{Path(case.seed).name}").write_bytes(case.data)


if __name__ == "__main__":
    sys.exit(main())
