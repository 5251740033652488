"""What a training run must not lose: weights, optimizer, random states, and the facts of the run so far."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mofa_nvdr.face.correctives import CorrectedFaceModel, corrected
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.build import encoder_spec
from mofa_nvdr.runs.checkpoint import (
    BEST,
    CORRECTIVES,
    CheckpointError,
    checkpoint_path,
    cycle_path,
    keep_as,
    list_checkpoints,
    read_checkpoint,
    restore_encoder,
    restore_training,
    save_checkpoint,
    spec_of,
)
from mofa_nvdr.runs.initial import read_initial
from mofa_nvdr.runs.options import TrainConfig, cycle_start, known_face_steps
from mofa_nvdr.system import distributed
from mofa_nvdr.system.budget import printable
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.teacher import Teacher

# A run whose faces cover less than this share of what they covered at the start is collapsing: the
# photometric figure alone rewards it.
MASK_ALARM = 0.6


class TrainingState:
    """The state of a run and its checkpoints. Only the main process reads and writes files.

    Attributes:
        facts: JSON that goes into every checkpoint and comes back from it: "first_mask_fraction",
            "best" (step, measure and value), "skipped_in_a_row", "seconds" and (of the
            main process) "cpu_seconds" of training so far,
            "commands" (step and command line of every start), "init" (file and step of
            encoder.init, where it is given), "threads" (of torch, at the latest start).
        teacher: the encoder as it was at the end of the warm start, for the term `loss.anchor`; None
            without it. Before that end it is the initial encoder and not used.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        encoder: Encoder,
        optimizer: torch.optim.Optimizer,
        decoder: FaceDecoder,
        data: TrainingData,
    ) -> None:
        self.config = config
        self.run = run
        self.encoder = encoder
        self.optimizer = optimizer
        self.decoder = decoder
        self.data = data
        self.facts: dict[str, Any] = {
            "skipped_in_a_row": 0,
            "seconds": 0.0,
            "cpu_seconds": 0.0,
            "commands": [],
        }
        # Made here, before the processes' layers replace the encoder's own.
        self.teacher = Teacher(encoder) if config.loss.anchor > 0 else None

    @property
    def _learned(self) -> CorrectedFaceModel | None:
        """The face model where its modes learn too."""
        return corrected(self.decoder.model)

    def resume(self, warn: Callable[[str], None]) -> int:
        """Restore the newest readable checkpoint, on every process; returns the steps done.

        If one is damaged the one before it is taken, and best.safetensors last.

        Raises:
            CheckpointError: all are damaged, or they are another face model's or version's.
        """
        tensors: dict[str, torch.Tensor] = {}

        def read() -> tuple[dict[str, Any], Path] | None:
            """On the main process: the metadata, and the tensors on the side."""
            paths = list_checkpoints(self.run)[::-1]
            paths += [self.run / BEST] if (self.run / BEST).is_file() else []
            for number, path in enumerate(paths):
                try:
                    found, metadata = read_checkpoint(path)
                except CheckpointError as error:
                    warn(f"WARNING: {error}")
                    continue
                reference = spec_of(path, metadata, found).face_model
                reference.check(self.decoder.model, f"{path}: trained with")
                tensors.update(found)
                for damaged in paths[:number]:  # otherwise they would count among the newest
                    damaged.rename(damaged.with_name(f"{damaged.name}.damaged"))
                if number:
                    warn(f"WARNING: taking {path}, of step {metadata.get('step')}")
                return metadata, path
            if paths:
                raise CheckpointError(
                    f"{self.run}: none of its {len(paths)} checkpoints can be read; give another --out to "
                    "start over, or delete them"
                )
            return None

        found = distributed.on_main(read)
        if found is None:
            return 0
        metadata, path = found
        tensors = distributed.broadcast_tensors(tensors)
        try:
            restore_encoder(self.encoder, tensors)
            if self._learned is not None:
                restore_encoder(self._learned, tensors, CORRECTIVES)
            restore_training(self.optimizer, tensors)
            self.facts |= _facts(metadata["facts"])
            step = _step(metadata["step"])
            if self.teacher is not None and step >= known_face_steps(self.config):
                restore_encoder(self.teacher, tensors, "teacher/")
        except (
            ArithmeticError, AttributeError, KeyError, LookupError, RuntimeError, TypeError, ValueError,
        ) as error:  # of another version, or edited  # fmt: skip
            reason = printable(textwrap.shorten(str(error), 300, placeholder=" ..."))
            raise CheckpointError(
                f"{path}: not a checkpoint that this version can resume ({reason})"
            ) from error
        sampler = metadata.get("sampler", {})
        if not isinstance(sampler, dict):
            raise CheckpointError(
                f"{path}: not a checkpoint that this version can resume (its place in the data is "
                f"{printable(sampler, 40)!r})"
            )
        changed = self.data.changes_since(sampler)
        if changed and distributed.is_main():
            warn(f"WARNING: {changed}")
        if distributed.is_main():
            self._keep(path, step)  # the run may have been killed just before,
            self._remove_old()  # or between a checkpoint and what it makes superfluous
        return step

    def begin(self) -> str:
        """Take the encoder of the run that encoder.init names, on every process; words for the first line.

        Empty without one. With no warm start this encoder is the teacher.

        Raises:
            ValueError: no such run, a damaged checkpoint, or another network, input size, face model or
                layout of the code.
        """
        if not self.config.encoder.init:
            return ""
        tensors: dict[str, torch.Tensor] = {}

        def read() -> tuple[str, int]:
            path, step, found = read_initial(
                self.config, self.encoder, self.decoder.model, self.decoder.pinhole
            )
            tensors.update(found)
            return str(path), step

        path, step = distributed.on_main(read)
        tensors = distributed.broadcast_tensors(tensors)
        restore_encoder(self.encoder, tensors)
        if any(name.startswith(CORRECTIVES) for name in tensors):
            assert self._learned is not None
            restore_encoder(self._learned, tensors, CORRECTIVES)
        self.facts["init"] = [path, step]
        self.keep_teacher(0)
        return f"; begins with the encoder of {path} (step {step}), its output scales too"

    def keep_teacher(self, step: int) -> None:
        """After every step: at the end of the warm start the encoder becomes the teacher.

        Step 0: that of encoder.init, where there is no warm start.
        """
        if self.teacher is None or step != known_face_steps(self.config):
            return
        self.teacher.follow(self.encoder)
        if self.config.loss.anchor_photographs > 0:
            share = {"rank": distributed.rank(), "world_size": distributed.world_size()}
            photographs = self.data.some(self.config.loss.anchor_photographs, **share)
            self.teacher.centre(self.decoder, photographs)

    def save(self, step: int) -> None:
        """Write the checkpoint of a step, mark it if it is the best one, and delete what is too old.

        Raises:
            OSError: it cannot be written; the older ones are untouched.
        """
        if not distributed.is_main():
            return
        reference = ModelReference.of(self.decoder.model, self.config.run.face_model)
        spec = encoder_spec(self.config, self.encoder, reference, self.decoder.pinhole)
        metadata = {
            "step": step,
            "encoder": spec.to_json(),  # all that using it needs: options come and go
            "data": self.config.data.path,
            "options": dataclasses.asdict(self.config),
            "sampler": self.data.state_dict(step),
            "facts": self.facts,
        }
        path = checkpoint_path(self.run, step)
        kept = self.teacher if step >= known_face_steps(self.config) else None
        save_checkpoint(path, self.encoder, self.optimizer, metadata, kept, self._learned)
        self._keep(path, step)
        self._remove_old()

    def _keep(self, path: Path, step: int) -> None:
        """Let a checkpoint stay that is the best so far, or between two cycles of bootstrapping."""
        if self.facts.get("best", {}).get("step") == step:
            keep_as(path, BEST)
        cycles = self.config.bootstrap.cycles
        ends = [cycle_start(self.config, k + 1) for k in range(cycles + 1)] if cycles else []
        if step in ends:
            keep_as(path, cycle_path(self.run, ends.index(step)).name)

    def _remove_old(self) -> None:
        if self.facts["skipped_in_a_row"]:  # the weights may be why: an earlier one has to stay
            return
        for old in list_checkpoints(self.run)[: -self.config.report.keep_checkpoints]:
            old.unlink(missing_ok=True)

    def note_validation(self, step: int, line: dict[str, Any]) -> bool:
        """Remember a validation (evaluation.validate); whether it is the best so far.

        One in which the face vanishes gets a "warning" and can't be the best: its photometric figure
        means nothing.
        """
        self.facts.setdefault("first_mask_fraction", line["mask_fraction"])
        if line["mask_fraction"] < MASK_ALARM * self.facts["first_mask_fraction"]:
            line["warning"] = "the face vanishes"
            return False
        measure = self.config.report.best_measure
        if measure == "auto":
            measure = "landmark_px" if math.isfinite(line["landmark_px"]) else "photometric"
        value, best = line[measure], self.facts.get("best")
        if not math.isfinite(value):
            return False
        if best and best["measure"] == measure and best["value"] <= value:
            return False
        self.facts["best"] = {"step": step, "measure": measure, "value": value}
        return True


def _step(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise TypeError(f"its step is {printable(value, 40)}, expected a whole number of 0 or more")
    return value


def _facts(facts: Any) -> dict[str, Any]:
    """The facts of a checkpoint, whose kinds are what TrainingState says.

    Raises:
        TypeError: they are not.
    """
    if not isinstance(facts, dict):
        raise TypeError("its facts are no table")
    kinds: dict[str, type | tuple[type, ...]] = {
        "first_mask_fraction": (int, float), "seconds": (int, float), "cpu_seconds": (int, float),
        "skipped_in_a_row": int, "commands": list, "best": dict,
    }  # fmt: skip
    for name, kind in kinds.items():
        if name in facts and (isinstance(facts[name], bool) or not isinstance(facts[name], kind)):
            raise TypeError(f"its fact {name} is {printable(facts[name], 40)}")
    for command in facts.get("commands", []):
        if not (isinstance(command, list) and len(command) == 2 and isinstance(command[1], str)):
            raise TypeError(f"a command of it is {printable(command, 40)}")
        _step(command[0])
    if best := facts.get("best"):
        _step(best.get("step"))
        measure, value = best.get("measure"), best.get("value")
        if measure not in ("landmark_px", "photometric") or not isinstance(value, (int, float)):
            raise TypeError(f"its best is {printable(best, 80)}")
    return facts
