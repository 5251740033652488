"""Bootstrapping: a training renders its own corpus around what it predicts on photographs, cycle by cycle.

    encoder -> codes of photographs -> codes around them -> rendered faces -> encoder -> ...

So the rendered faces come to look like the photographs, without a label of any. A cycle's predictions
(distribution.npz) and its faces lie in the run folder, CORPUS-NN, a data set like that of `synthesize`; the
encoder at its end is cycle-NN.safetensors. All of it follows from the encoder at the cycle's start, the seed
and the photographs: a killed run goes on in the middle of any of it.

Source: the self-supervised bootstrapping of Kim et al. 2018, "InverseFaceNet: Deep Monocular Inverse Face
Rendering".
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from mofa_nvdr.data.ahead import one_ahead
from mofa_nvdr.data.crop_tables import CODE_FILE, DataError, code_table, npz_bytes, read_codes
from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.data.synthetic.faces import CYCLES
from mofa_nvdr.data.synthetic.rendered_folder import (
    FOLDERS,
    chunks_to_do,
    one_thread,
    remove_unfinished,
    write_chunk,
    write_tables,
)
from mofa_nvdr.data.synthetic.resampling import Resampling
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.runs.checkpoint import (
    CheckpointError,
    cycle_path,
    read_checkpoint,
    restore_encoder,
)
from mofa_nvdr.runs.options import TrainConfig, cycle_start, known_face_steps
from mofa_nvdr.system import distributed
from mofa_nvdr.system.files import make_folders, write_bytes
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.signals import Signals

CORPUS = "corpus"
DISTRIBUTION = "distribution.npz"


def corpus_folder(run: Path, cycle: int) -> Path:
    """Where the faces of a cycle are, from 1."""
    return run / f"{CORPUS}-{cycle:02d}"


class Bootstrap:
    """The batches of a run, and the corpora of its cycles where it has any.

    Args:
        config: of the run.
        run: its folder.
        encoder: in training; of DistributedDataParallel the one inside.
        data: of the run.
        signals: what may ask for a stop while faces are rendered.
        say: takes a line for people.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        encoder: Encoder,
        data: TrainingData,
        signals: Signals,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.run, self.encoder, self.data = config, run, encoder, data
        self._signals, self._say = signals, say

    def batches(self, done: int) -> Generator[Batch, None, None]:
        """Batches after `done` steps, the next one made ahead; before a cycle's first one, its corpus.

        Raises:
            DataError: a corpus cannot be made any more.
            Stopped: a signal, while faces are rendered.
        """
        c, step = self.config, done
        last = known_face_steps(c)
        while True:
            stop, corpus = None, None
            if c.bootstrap.cycles and step < last:
                cycle = 0
                if step >= c.schedule.warm_start_steps:
                    cycle = 1 + (step - c.schedule.warm_start_steps) // c.bootstrap.steps
                    corpus = self.corpus(cycle, step)
                stop = cycle_start(c, cycle + 1)
            with closing(one_ahead(self.data.train(step, stop, corpus))) as part:
                for batch in part:
                    step += 1
                    yield batch

    def corpus(self, cycle: int, step: int) -> Path:
        """The folder of a cycle's faces, which are rendered where they are not there.

        Args:
            cycle: from 1.
            step: steps done.

        Raises:
            DataError: its predictions are gone, and the encoder that made them too.
            Stopped: a signal came; what is rendered is kept.
        """
        c, folder = self.config, corpus_folder(self.run, cycle)
        started = time.monotonic()
        distributed.on_main(lambda: make_folders(str(folder), *FOLDERS))
        if not distributed.on_main((folder / DISTRIBUTION).is_file):
            self._predict(folder, cycle, step)
        model, count = self.data.faces.decoder.model, c.bootstrap.faces
        codes = _read_distribution(folder / DISTRIBUTION, model.layout.size)
        todo = distributed.on_main(lambda: _to_do(folder, count))
        if todo is None:
            return folder
        around = Resampling(codes, c.bootstrap.spread * self.data.faces.deviations())
        self._render(folder, cycle, todo, around)
        source = f"cycle {cycle} seed {c.run.seed}"
        distributed.on_main(lambda: write_tables(folder, count, model.layout, model.hash, source))
        spreads = ", ".join(
            f"{name} {float(codes[:, place].std(0).square().mean().sqrt()):.2f}"
            for name, place in list(model.layout.slices.items())[:3]
            if place.stop > place.start
        )
        self._say(
            f"cycle {cycle}: {count} faces around {len(codes)} predictions ({spreads} standard "
            f"deviations) in {time.monotonic() - started:.0f} s: {folder}"
        )
        return folder

    def _predict(self, folder: Path, cycle: int, step: int) -> None:
        """Write the codes that the encoder at the cycle's start gives to photographs."""
        encoder = self._encoder_of(cycle, step)
        training = encoder.training
        encoder.eval()
        device = next(encoder.parameters()).device
        share = {"rank": distributed.rank(), "world_size": distributed.world_size()}
        count = self.config.bootstrap.photographs or len(self.data.train_set)
        own: list[tuple[str, np.ndarray]] = []
        with torch.no_grad():
            for batch in self.data.some(count, **share):
                codes = encoder(batch.images.to(device)).float().cpu().numpy()
                own += zip(map(str, batch.paths), codes)
        encoder.train(training)
        # Whoever predicted them, in the order of their names; what is not finite is no face.
        rows = sorted((r for share in distributed.gather(own) for r in share), key=lambda r: r[0])
        table = {name: code for name, code in rows if np.isfinite(code).all()}
        if not table:
            raise DataError(
                f"{self.config.data.path}: none of the photographs that cycle {cycle} begins with can be "
                "read, or none has a finite prediction; replace them, or give --bootstrap.cycles 0"
            )
        model = self.data.faces.decoder.model
        facts = {"step": np.array(cycle_start(self.config, cycle))}
        data = npz_bytes(**code_table(table, model.layout, model.hash, **facts))
        distributed.on_main(lambda: write_bytes(folder / DISTRIBUTION, data))

    def _encoder_of(self, cycle: int, step: int) -> Encoder:
        """The encoder at a cycle's start: this one, or what was kept of it.

        Raises:
            DataError: nothing was.
        """
        start = cycle_start(self.config, cycle)
        if step == start:
            return self.encoder
        path = cycle_path(self.run, cycle - 1)

        def read() -> dict[str, torch.Tensor]:
            try:
                return read_checkpoint(path)[0]
            except CheckpointError as error:
                missing = corpus_folder(self.run, cycle) / DISTRIBUTION
                raise DataError(
                    f"{missing}: missing, and the encoder of step {start} that it was predicted with cannot "
                    f"be read ({error}); bring one of them back, or begin another run"
                ) from None

        tensors: dict[str, torch.Tensor] = {}
        distributed.on_main(lambda: tensors.update(read()))
        encoder = copy.deepcopy(self.encoder)
        restore_encoder(encoder, distributed.broadcast_tensors(tensors))
        return encoder

    def _render(
        self, folder: Path, cycle: int, todo: list[tuple[int, int]], around: Resampling
    ) -> None:
        """Each process renders its share of the chunks."""
        seed, world = self.config.run.seed, distributed.world_size()
        with one_thread():
            for first in range(0, len(todo), world):
                for chunk, count in todo[first : first + world][distributed.rank() :][:1]:
                    write_chunk(folder, self.data.faces, seed, chunk, count, CYCLES + cycle, around)
                asked = distributed.total(torch.tensor(float(self._signals.came())))
                if asked.item() > 0:
                    raise self._signals.stopped(
                        f"{self.run}: stopped while faces of cycle {cycle} were rendered; the same command "
                        "again resumes"
                    )


def _to_do(folder: Path, count: int) -> list[tuple[int, int]] | None:
    """The chunks that are not rendered yet; None: all are, and the tables too."""
    todo = chunks_to_do(folder, count)
    if not todo and (folder / CODE_FILE).is_file():
        return None
    remove_unfinished(folder)
    return todo


def _read_distribution(path: Path, size: int) -> torch.Tensor:
    """The codes [N, size] of a distribution.npz.

    Raises:
        DataError: damaged, or of another layout.
    """
    found = read_codes(path)[0]
    codes = np.stack(list(found.values())) if found else np.zeros((0, 0), np.float32)
    if not len(codes) or codes.shape[1] != size:
        raise DataError(
            f"{path}: codes are {list(codes.shape)}, expected [N, {size}]; delete it, and it is made again"
        )
    return torch.from_numpy(codes)
