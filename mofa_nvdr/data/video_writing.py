"""Videos written by ffmpeg, with the sound of the clip that they were made of; and their rates."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.data.video_files import (
    CONTAINERS,
    ClipSource,
    FfmpegLog,
    VideoFile,
    file_url,
    find_ffmpeg,
)
from mofa_nvdr.system.budget import printable
from mofa_nvdr.system.files import replacing

_COPIED_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus")  # that players take in an .mp4
# Rates of cameras; measured ones within 0.2 % are these.
_RATES = [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)] + [
    Fraction(n) for n in (5, 8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)
]
_QUALITY = "18"  # of x264: no loss that people see


def rate_of(times: Sequence[float]) -> tuple[Fraction, bool]:
    """Frames a second of a clip, and whether they are evenly spaced.

    Args:
        times: of its frames, s, in order.

    Returns:
        The rate of a camera where it is within 0.2 % of the measured one. Of uneven times that of the usual
        distance of two frames, which leaves none out.
    """
    steps = np.diff(np.asarray(times, np.float64))
    steps = steps[steps > 1e-6]
    if not len(steps):
        return Fraction(25), True
    usual, mean = float(np.median(steps)), float(np.mean(steps))
    # Files count in milliseconds, or in whole ticks of a clock of their own.
    even = bool(np.abs(steps - usual).max() < 0.3 * usual + 0.0011)
    measured = 1 / (mean if even else usual)
    nearest = min(_RATES, key=lambda rate: abs(float(rate) - measured))
    if abs(float(nearest) / measured - 1) < (0.002 if even else 0.02):
        return nearest, even
    return Fraction(measured).limit_denominator(1001), even


class VideoWriter:
    """Writes an .mp4 (H.264, 4:2:0) that any player shows; a context manager, and atomic.

    An odd side is one pixel longer in the file, which repeats the last row or column: 4:2:0 has no odd sides.

    Args:
        path: .mp4; the folder must exist.
        rate: frames a second.
        source: the clip whose sound it gets; None: none.
        start: s of the first frame in the source.
        comment: a text in its metadata.

    Attributes:
        note: at the end: what became of the sound, in words; empty: there was none.

    Raises:
        VideoExtraError: ffmpeg is not installed.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        source: ClipSource | None = None,
        start: float = 0.0,
        comment: str = "",
    ) -> None:
        self.note = ""
        self._path, self._rate, self._start = path, rate, start
        self._source = source if isinstance(source, VideoFile) and source.sound else None
        self._comment = comment
        self._ffmpeg = find_ffmpeg(f"{path}: writing a video")
        self._process: subprocess.Popen[bytes] | None = None
        self._log: FfmpegLog | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> VideoWriter:
        self._target = self._stack.enter_context(replacing(self._path))
        self._silent = self._stack.enter_context(
            _passing(self._path.with_name(self._target.name.removesuffix(".tmp") + "-s.tmp"))
        )
        return self

    def add(self, pixels: np.ndarray) -> None:
        """Append a frame, bytes [H, W, 3], of the first one's size.

        Raises:
            OSError: it cannot be written.
        """
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        if self._process is None:
            self._begin(*pixels.shape[:2])
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(pixels).data)
        except OSError:
            self._end()
            raise OSError(f"ffmpeg stopped: {self._last_words()}") from None

    def __exit__(self, kind: type[BaseException] | None, *more: Any) -> None:
        if kind is not None:
            if self._process is not None:
                self._process.kill()
            self._end()
            self._stack.__exit__(kind, *more)
            return
        with self._stack:
            self._end()
            if self._process is None or self._process.returncode:
                raise OSError(f"ffmpeg stopped: {self._last_words()}")
            if self._source is None or not self._add_sound(self._source):
                self._silent.replace(self._target)

    def _begin(self, height: int, width: int) -> None:
        command = [
            self._ffmpeg, "-hide_banner", "-nostats", "-loglevel", "level+error", "-y",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(self._rate),
            "-i", "-",
            "-vf", "scale=out_color_matrix=bt709:out_range=tv", "-c:v", "libx264", "-crf", _QUALITY,
            "-preset", "veryfast", "-pix_fmt", "yuv420p", "-colorspace", "bt709", "-color_primaries", "bt709",
            "-color_trc", "bt709", "-metadata", f"comment={self._comment}", "-movflags", "+faststart",
            "-f", "mp4", file_url(self._silent),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        self._log = FfmpegLog(self._process.stderr)

    def _end(self) -> None:
        if self._process is None or self._log is None:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._log.join()

    def _last_words(self) -> str:
        lines = self._log.errors if self._log is not None else []
        return printable(lines[0], 120) if lines else "no frame was written"

    def _add_sound(self, source: VideoFile) -> bool:
        """Write the target with the source's sound; False: that failed, which `note` says."""
        copied = source.sound in _COPIED_SOUND
        command = [
            self._ffmpeg, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+error", "-y",
            "-itsoffset", f"{self._start:.6f}", "-i", file_url(self._silent),
            "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", file_url(source.path),
            "-map", "0:v:0", "-map", "1:a:0", "-map_metadata", "0", "-c:v", "copy",
            "-c:a", "copy" if copied else "aac", "-movflags", "+faststart",
            "-f", "mp4", file_url(self._target),
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            self.note = f"without its sound, which ffmpeg could not copy ({source.sound})"
            return False
        self.note = f"with its sound ({source.sound}{', copied' if copied else ' as aac'})"
        return True


class FolderWriter:
    """Writes frames as pictures FOLDER/000001.png where there is no ffmpeg; the numbers begin at 1.

    Args:
        folder: made if missing.
        write: of a picture: called with its path and bytes [H, W, 3].

    Attributes:
        note: empty.
    """

    def __init__(self, folder: Path, write: Callable[[Path, np.ndarray], None]) -> None:
        self.note = ""
        self._folder, self._write, self._count = folder, write, 0

    def __enter__(self) -> FolderWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        return

    def add(self, pixels: np.ndarray) -> None:
        """Write the next frame.

        Raises:
            OSError: it cannot be written.
        """
        self._count += 1
        self._write(self._folder / f"{self._count:06d}.png", pixels)


@contextlib.contextmanager
def _passing(path: Path) -> Iterator[Path]:
    """A temporary file that never becomes another."""
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
