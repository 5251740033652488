"""What a run trains and validates on: photographs or rendered faces, as its configuration says."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from mofa_nvdr.data.augmentation import Augmentation, augment
from mofa_nvdr.data.crop_tables import CODE_FILE, DENSE_FILE, INDEX_FILE, LANDMARK_FILE, DataError
from mofa_nvdr.data.kept import KeptCorpus
from mofa_nvdr.data.photographs import Corpus, Photographs
from mofa_nvdr.data.reframing import reframe
from mofa_nvdr.data.sampling import Batch, batches, val_batches
from mofa_nvdr.data.shards import Shards, open_corpus
from mofa_nvdr.data.synthetic.codes import CodePrior, load_lights
from mofa_nvdr.data.synthetic.faces import ACCOMPANYING, TRAIN, SyntheticFaces
from mofa_nvdr.data.synthetic.kept_faces import KeptFaces
from mofa_nvdr.face.mirror import mirror_signs
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.options import TrainConfig, count_synthetic, known_face_steps
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system import distributed

logger = logging.getLogger(__name__)


def _rendered_corpus(config: TrainConfig, model: FaceModel) -> Corpus | None:
    """The faces of synthetic.path.

    Raises:
        DataError: no such folder, no codes in it, or those of another face model.
    """
    path = config.synthetic.path
    if not path:
        return None
    size = config.synthetic.size or config.data.image_size
    corpus = Photographs(path, "train", size)
    _check_codes(corpus, model, "--synthetic.path", "mofa-nvdr synthesize")
    return KeptCorpus(corpus, config.data.memory)


def _check_codes(corpus: Corpus, model: FaceModel, option: str, command: str) -> None:
    """Raise DataError unless a folder has codes of this face model."""
    if not isinstance(corpus, Photographs):
        return  # shards do not say whose their codes are
    if not corpus.codes_of:
        raise DataError(f"{corpus.path}: no {CODE_FILE}, which {option} needs; {command} writes it")
    if not model.has_codes_of(corpus.codes_of):
        raise DataError(
            f"{corpus.path}: its {CODE_FILE} is of another face model than {model.name}; give that one as "
            f"--face-model, or write it again ({command})"
        )


class TrainingData:
    """Training and validation batches of photographs or of synthetic faces; each process its share.

    Raises:
        DataError: nothing to train or to validate on, or no landmarks where the loss needs them.
    """

    def __init__(self, config: TrainConfig, decoder: FaceDecoder) -> None:
        self.config = config
        self.device = decoder.triangles.device
        self.synthetic: SyntheticFaces | None = None
        self._layout, self._camera = decoder.model.layout, decoder.pinhole
        signs = mirror_signs(decoder.model)
        self._signs = None if signs is None else signs.numpy()
        self._rendered = _rendered_corpus(config, decoder.model)
        self._kept_faces: KeptFaces | None = None
        prior = CodePrior().with_pose(config.synthetic.pose)
        rendering: dict[str, Any] = {"plain": not config.synthetic.surroundings, "prior": prior}
        if config.synthetic.lights:
            rendering["lights"] = load_lights(config.synthetic.lights)
        if config.data.path == "synthetic":
            if config.bootstrap.cycles > 0:
                raise DataError(
                    f"--bootstrap.cycles is {config.bootstrap.cycles}, but --data is synthetic: there are no "
                    "photographs to predict; give --data FOLDER, or --bootstrap.cycles 0"
                )
            self.faces = self.synthetic = SyntheticFaces(decoder, **rendering)
            self._keep_faces()
            return
        if not config.data.path:  # the working directory, if it were a path
            raise DataError("--data is empty; give a folder of face crops, or 'synthetic'")
        what = config.data.path, config.data.image_size, config.data.max_megapixels
        self.train_set = open_corpus(what[0], "train", *what[1:])
        self._kept = KeptCorpus(self.train_set, config.data.memory)
        self.val_set = open_corpus(what[0], "val", *what[1:])
        if self.train_set.left_out and distributed.rank() == 0:
            logger.info("%s: %s", config.data.path, self.train_set.left_out)
        if len(self.val_set) == 0:
            way = f"bring at least two, or give some the split 'val' in {INDEX_FILE}"
            if isinstance(self.val_set, Shards):
                way = (
                    "shards called val-*.tar hold them: pack crops of which some have the split 'val' in "
                    f"{INDEX_FILE}, or call no shard train-*.tar and one sample in twenty is taken"
                )
            raise DataError(f"{config.data.path}: no picture to validate on; {way}")
        is_dense = config.loss.landmark_set == "dense"
        has_any = self.train_set.has_dense if is_dense else self.train_set.has_landmarks
        for name, weight in (("landmark", config.loss.landmark), ("lid", config.loss.lid)):
            if weight > 0 and not has_any:
                raise DataError(
                    f"{config.data.path}: --loss.{name} is {weight:g}, but there is no "
                    f"{DENSE_FILE if is_dense else LANDMARK_FILE}; bring it, or give --loss.{name} 0"
                )
        if config.loss.identity > 0 and not self.train_set.has_landmarks:
            raise DataError(
                f"{config.data.path}: --loss.identity is {config.loss.identity:g}, but there is no "
                f"{LANDMARK_FILE}, by which faces are cut out; bring it, or give --loss.identity 0"
            )
        if config.loss.fitted > 0:
            _check_codes(self.train_set, decoder.model, "--loss.fitted", "mofa-nvdr fit --codes")
        if config.synthetic.size not in (0, config.data.image_size):
            camera = Camera(image_size=config.synthetic.size)
            decoder = FaceDecoder(decoder.model, camera=camera).to(self.device)
        self.faces = SyntheticFaces(decoder, photographs=self.train_set, **rendering)
        self._keep_faces()

    def _keep_faces(self) -> None:
        if self.config.synthetic.count > 0 and self._rendered is None:
            self._kept_faces = KeptFaces(self.faces, self.config.synthetic.count, self._signs)

    def __str__(self) -> str:
        if self.synthetic is not None:
            return "synthetic faces"
        return f"{len(self.train_set)} training and {len(self.val_set)} validation photographs"

    def train(
        self, start_step: int, stop_step: int | None = None, corpus: Path | None = None
    ) -> Generator[Batch, None, None]:
        """Batches from `start_step` on, augmented, on the decoder's device.

        Args:
            start_step: steps done.
            stop_step: the step of the last batch; None: without an end.
            corpus: the rendered faces of a cycle of bootstrapping; None: the warm start's, then photographs.

        Raises:
            DataError: the corpus is of another face model, or not there.
        """
        last = None if stop_step is None else stop_step - start_step
        source = self._train(start_step) if corpus is None else self._cycle(start_step, corpus)
        with closing(source) as stream:
            for batch in itertools.islice(stream, last):
                batch = self._changed(batch.to(self.device))
                if batch.rendered is not None:
                    rendered = self._changed(batch.rendered)
                    batch = dataclasses.replace(batch, rendered=rendered)
                yield batch

    def _changed(self, batch: Batch) -> Batch:
        """A batch of training as the options `augment` change it."""
        options, seed = (
            Augmentation(**dataclasses.asdict(self.config.augment)),
            self.config.run.seed,
        )
        batch = reframe(batch, options, seed, self._layout, self._camera)
        return augment(batch, options, seed)

    def _cycle(self, start_step: int, corpus: Path) -> Generator[Batch, None, None]:
        """Known faces of a folder without end, each seen as often."""
        c = self.config
        size = c.synthetic.size or c.data.image_size
        faces = Photographs(corpus, "train", size)
        _check_codes(faces, self.faces.decoder.model, "--bootstrap.cycles", "mofa-nvdr train")
        return batches(
            KeptCorpus(faces, c.data.memory), c.data.batch_size, c.run.seed + TRAIN, start_step,
            flip=self._signs is not None, signs=self._signs,
            rank=distributed.rank(), world_size=distributed.world_size(),
        )  # fmt: skip

    def _train(self, start_step: int) -> Generator[Batch, None, None]:
        """Rendered faces while the warm start lasts, then the corpus, with rendered faces next to it."""
        c = self.config
        share = {"rank": distributed.rank(), "world_size": distributed.world_size()}
        warm = self._known_faces(c.data.batch_size, start_step, **share)
        yield from itertools.islice(warm, max(0, c.schedule.warm_start_steps - start_step))
        start_step = max(start_step, known_face_steps(c))
        if self.synthetic is not None:
            stream = self.synthetic.batches(c.data.batch_size, c.run.seed, start_step, **share)
        else:
            stream = batches(
                self._kept, c.data.batch_size, c.run.seed, start_step, flip=c.data.flip, **share,
                signs=self._signs,
            )  # fmt: skip
        count = count_synthetic(c)
        with closing(stream):
            if count == 0:
                yield from stream
            more = self._known_faces(count, start_step, **share, stream=ACCOMPANYING)
            for batch, rendered in zip(stream, more):
                yield dataclasses.replace(batch, rendered=rendered)

    def _known_faces(
        self, count: int, start_step: int, rank: int, world_size: int, stream: int = TRAIN
    ) -> Generator[Batch, None, None]:
        """Rendered faces with known codes: new ones, synthetic.count of them, or those of synthetic.path."""
        seed = self.config.run.seed
        if self._kept_faces is not None:
            # Next to photographs they go on where the warm start ended.
            warm = self.config.schedule.warm_start_steps * (self.config.data.batch_size - count)
            first = warm if stream == ACCOMPANYING else 0
            return self._kept_faces.batches(count, seed, start_step, rank, world_size, first)
        if self._rendered is None:
            return self.faces.batches(count, seed, start_step, rank, world_size, stream)
        return batches(
            self._rendered, count, seed + stream, start_step, flip=self._signs is not None, rank=rank,
            world_size=world_size, signs=self._signs,
        )  # fmt: skip

    def val(
        self, limit: int | None = None, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch, None, None]:
        """The validation images, the same each time, or a process's share of them.

        Raises:
            DataError: while iterating: none of all processes' images can be read.
        """
        count = self.config.report.val_images if limit is None else limit
        size = self.config.data.batch_size
        if self.synthetic is not None:
            return self.synthetic.val_batches(count or 256, size, rank, world_size)
        return self._val(count or None, rank, world_size)

    def _val(self, limit: int | None, rank: int, world_size: int) -> Generator[Batch, None, None]:
        found = False
        for batch in val_batches(
            self.val_set, self.config.data.batch_size, limit, rank, world_size
        ):
            found = True
            yield batch
        if found:
            return
        # Other processes may have some: each finds out for itself, so that none waits for another.
        with closing(val_batches(self.val_set, 1, limit)) as everyone:
            if next(everyone, None) is not None:
                return
        count = min(limit or len(self.val_set), len(self.val_set))
        way = f"give others the split 'val' in {INDEX_FILE}"
        if isinstance(self.val_set, Shards):
            way = f"pack others that have the split 'val' in {INDEX_FILE}"
        raise DataError(
            f"{self.config.data.path}: none of {count} pictures to validate on can be read, first "
            f"{self.val_set.skipped[0]}; replace them, or {way}"
        )

    def some(self, count: int, rank: int = 0, world_size: int = 1) -> Generator[Batch, None, None]:
        """Training images, evenly spaced and unchanged, or a process's share of them."""
        size = self.config.data.batch_size
        if self.synthetic is not None:
            return self.synthetic.val_batches(count, size, rank, world_size)
        return val_batches(self.train_set, size, count, rank, world_size)

    def state_dict(self, step: int) -> dict[str, Any]:
        """The position in the order of the images after `step` steps.

        All of it follows from the seed and the step; what is kept here tells a resumed run whether the
        corpus is still the same.
        """
        if self.synthetic is not None:
            return {}
        epoch, position = divmod(step * self.config.data.batch_size, len(self.train_set))
        return {"num_train": len(self.train_set), "epoch": epoch, "position": position}

    def changes_since(self, state: dict[str, Any]) -> str:
        """What differs from the corpus of a `state_dict`, as words; empty: nothing."""
        now = self.state_dict(0).get("num_train")
        then = state.get("num_train", now)
        if now == then:
            return ""
        return (
            f"{self.config.data.path} has {now} training photographs, it had {then} at the checkpoint: the "
            "run goes on, with another order of images than an uninterrupted run would have had"
        )

    @property
    def skipped(self) -> list[str]:
        """Names of the pictures found unreadable so far."""
        return [] if self.synthetic is not None else self.train_set.skipped + self.val_set.skipped
