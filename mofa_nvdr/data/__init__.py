"""Images for training: photographs in a folder, and batches of them in a fixed order."""

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.images import ImageError, read_image, resize_square
from mofa_nvdr.data.packing import write_shards
from mofa_nvdr.data.photographs import Corpus, Photographs, Sample
from mofa_nvdr.data.sampling import Batch, EpochSampler, batches, mirror, val_batches
from mofa_nvdr.data.shards import Shards, open_corpus

__all__ = [
    "Batch",
    "Corpus",
    "DataError",
    "EpochSampler",
    "ImageError",
    "Photographs",
    "Sample",
    "Shards",
    "batches",
    "mirror",
    "open_corpus",
    "read_image",
    "resize_square",
    "val_batches",
    "write_shards",
]
