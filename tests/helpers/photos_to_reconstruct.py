"""Pictures to reconstruct."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

SIZE = 64  # of the smoke configuration


def smooth_picture(height: int = 80, width: int = 80, seed: int = 0) -> np.ndarray:
    """Smooth colours."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (5, 5, 3)).astype(np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


def write_photos(folder: Path) -> Path:
    """Three pictures, one of them in a subfolder, and two files that are none."""
    (folder / "more").mkdir(parents=True)
    iio.imwrite(folder / "a.png", smooth_picture(seed=1))
    iio.imwrite(folder / "b.JPG", smooth_picture(seed=2), extension=".jpg")
    iio.imwrite(folder / "more" / "c.png", smooth_picture(seed=3))
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder
