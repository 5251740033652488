"""Decoded pictures that stay in memory: small corpora are read again and again in a training."""

from __future__ import annotations

import threading
from pathlib import Path

from mofa_nvdr.data.photographs import Corpus, Sample


class KeptCorpus(Corpus):
    """A corpus whose samples are kept once they were read, as long as there is room.

    Args:
        corpus: whose samples.
        megabytes: of pixels that are kept, 10^6 bytes; 0: none. What comes when it is full is read each time.
    """

    def __init__(self, corpus: Corpus, megabytes: float) -> None:  # noqa: D107 (documented above)
        self._corpus, self._room = corpus, megabytes * 1e6
        self._samples: dict[int, Sample] = {}
        self._lock = threading.Lock()
        for name in ("path", "split", "image_size", "max_megapixels", "files", "left_out"):
            setattr(self, name, getattr(corpus, name))
        self.has_landmarks, self.has_dense = corpus.has_landmarks, corpus.has_dense
        self.skipped = corpus.skipped

    def __getitem__(self, index: int) -> Sample:
        """Read one sample, or take the one that is here.

        Raises:
            ImageError: it cannot be read.
            IndexError: no such index.
        """
        sample = self._samples.get(index)
        if sample is not None:
            return sample
        sample = self._corpus[index]
        size = sample.image.nbytes
        with self._lock:
            if size <= self._room and index not in self._samples:
                self._room -= size
                self._samples[index] = sample
        return sample

    def at_size(self, image_size: int) -> Corpus:  # noqa: D102 (documented with the base)
        return self._corpus.at_size(image_size)

    def report_skipped(self, path: Path, reason: str) -> None:  # noqa: D102 (documented with the base)
        self._corpus.report_skipped(path, reason)
