"""Video files and folders of frames, read frame by frame with their times.

Files are decoded by ffmpeg, which imageio-ffmpeg brings (extra `video`). A frame is in memory
once, whatever the clip's length. Of an untrusted file ffmpeg opens that file alone: containers that name
other files or addresses are not read.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, ImageError, Picture
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.system.budget import printable

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".3gp", ".wmv",
    ".flv", ".ogv",
)  # fmt: skip
INSTALL = "pip install 'mofa-nvdr[video]'"
# Demuxers of files that hold their own frames; none that follows names in the file (hls, concat, dash).
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg"
_LAST_LINES = 20


class VideoError(ImageError):
    """A clip that cannot be read or written; the message is one line that names it."""


class VideoExtraError(RuntimeError):
    """ffmpeg is not installed; the message has the command."""


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip.

    Attributes:
        number: from 0 on, among all frames of the clip.
        time: s from the clip's beginning.
        pixels: bytes [H, W, 3], as a viewer shows it.
    """

    number: int
    time: float
    pixels: np.ndarray


class ClipSource(Protocol):
    """What can be read frame by frame, as often as one likes.

    Attributes:
        path: the file or folder.
        damage: after reading: what could not be read, in words; empty: nothing.
    """

    path: Path
    damage: str

    def frames(self) -> Iterator[ClipFrame]:
        """The frames in the order of their times, one at a time."""
        ...


def is_video(path: str | Path) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def clips_among(inputs: Sequence[str | Path], folders: bool) -> bool:
    """Whether inputs are clips: videos, and with `folders` folders of frames.

    Raises:
        VideoError: some are and some are not.
    """
    videos = [str(given) for given in inputs if is_video(given)]
    others = [str(given) for given in inputs if not is_video(given)]
    if folders:
        wrong = [given for given in others if Path(given).exists() and not Path(given).is_dir()]
        if wrong:
            raise VideoError(f"{wrong[0]}: --clip is for videos and folders of frames")
        return True
    if videos and others:
        way = "with --clip it is a clip's frames" if Path(others[0]).is_dir() else "no video"
        raise VideoError(
            f"{videos[0]} is a video and {others[0]} is not; give them in commands of their own ({way})"
        )
    return bool(videos)


def find_ffmpeg(what: str) -> str:
    """The program that imageio-ffmpeg brings.

    Args:
        what: it is needed for, as the beginning of the message.

    Raises:
        VideoExtraError: it is not installed.
    """
    try:
        library: Any = importlib.import_module("imageio_ffmpeg")
        return str(library.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise VideoExtraError(f"{what} needs ffmpeg: {INSTALL}") from error


def has_ffmpeg() -> bool:
    """Whether videos can be read and written here."""
    with contextlib.suppress(VideoExtraError):
        return bool(find_ffmpeg(""))
    return False


class VideoFile:
    """A video file, whose frames are decoded upright: the rotation that telephones write is applied.

    Args:
        path: the file.
        max_megapixels: a video with larger frames is not read.
        own: clips that the package wrote are read too.

    Attributes:
        path, damage: as of ClipSource.
        sound: after reading: the codec of its sound; empty: it has none.

    Raises:
        VideoError: no such file.
        VideoExtraError: ffmpeg is not installed.
    """

    def __init__(
        self, path: str | Path, max_megapixels: float = MAX_MEGAPIXELS, own: bool = False
    ) -> None:
        self.path, self.damage, self.sound = Path(path), "", ""
        self._max_megapixels, self._own = max_megapixels, own
        if not self.path.is_file():
            raise VideoError(f"{path}: no such file")
        self._ffmpeg = find_ffmpeg(f"{path}: reading a video")

    def frames(self) -> Iterator[ClipFrame]:
        """The frames in the order of their times, one at a time.

        Raises:
            VideoError: no frame can be decoded. Where some can, `damage` says what is missing.
        """
        command = [
            self._ffmpeg, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info",
            "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS,
            "-max_pixels", str(int(1e6 * self._max_megapixels)), "-i", file_url(self.path),
            "-map", "0:V:0", "-an", "-sn", "-dn", "-fps_mode", "passthrough",
            # Times are read from showinfo's lines; pixels of other shapes become squares.
            "-vf", "showinfo=checksum=0,scale='if(gt(sar,0),iw*sar,iw)':ih,setsar=1",
            "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "-",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None and process.stderr is not None
        log = FfmpegLog(process.stderr)
        count, last = 0, 0.0
        try:
            while (pixels := _read_ppm(process.stdout)) is not None:
                # A stream may begin with a repeated or missing time: never backwards.
                time = log.next_time()
                if log.is_ours and not self._own:
                    raise VideoError(f"{self.path}: a clip that mofa-nvdr wrote, not a recording")
                last = max(last, time) if time is not None else last
                yield ClipFrame(count, last, pixels)
                count += 1
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
            process.stdout.close()
            process.wait()
            log.join()
        self.sound = log.sound
        if not count:
            raise VideoError(f"{self.path}: {self._reason(log)}")
        self.damage = ""
        if log.errors or process.returncode:
            whole = f" of {log.duration:.1f}" if log.duration else ""
            words = self._words(log.errors[-1]) if log.errors else "it ends too early"
            self.damage = (
                f"damaged: {count} frames could be decoded, up to {last:.1f}{whole} s ({words})"
            )

    def _reason(self, log: FfmpegLog) -> str:
        """Why no frame came of it."""
        text = " ".join(log.errors)
        if "moov atom not found" in text:
            return (
                "its index is missing: it was cut off, its recording never ended, or it is no video"
            )
        if "matches no streams" in text:
            return "there is no picture in this file" + (", only sound" if log.sound else "")
        if "Picture size" in text or "image parameters invalid" in text:
            return f"its frames have more than --max-megapixels {self._max_megapixels:g}"
        if "Invalid data found" in text and not log.has_input:
            return "cannot read this video: it is damaged, or none that ffmpeg knows"
        if not log.errors:
            return "there is no frame in this video"
        return f"cannot read this video: {self._words(log.errors[0])}"

    def _words(self, line: str) -> str:
        """An error of ffmpeg's without the file's name, which messages begin with."""
        return printable(line.replace(file_url(self.path), "it").rstrip(". "), 120)


class FrameFolder:
    """A folder of pictures as a clip, in the order of the numbers in their names.

    Pictures that cannot be read, or have another size than the first, are left out: their places stay empty.

    Args:
        folder: of the frames.
        fps: frames a second.
        max_megapixels: larger pictures are not read.

    Attributes:
        path, damage: as of ClipSource.
        sound: empty.

    Raises:
        VideoError: no pictures in it, or a rate that is none.
    """

    def __init__(
        self, folder: str | Path, fps: float = 25.0, max_megapixels: float = MAX_MEGAPIXELS
    ) -> None:
        self.path, self.damage, self.sound = Path(folder), "", ""
        if not 0 < fps <= 1000:
            raise VideoError(
                f"--fps is {fps:g}, expected more than 0, at most 1000 frames a second"
            )
        self._fps, self._max_megapixels = fps, max_megapixels
        self.files = sorted(Inventory().photographs(self.path), key=_in_order)
        if not self.files:
            raise VideoError(f"{folder}: no pictures in this folder")

    def frames(self) -> Iterator[ClipFrame]:
        """The frames, one at a time.

        Raises:
            VideoError: none can be read.
        """
        shape, reasons = None, []
        for number, path in enumerate(self.files):
            try:
                with Picture(path, max_megapixels=self._max_megapixels) as picture:
                    pixels = picture.read().pixels
            except ImageError as error:
                reasons.append(str(error))
                continue
            shape = shape or pixels.shape
            if pixels.shape != shape:
                (h, w, _), (height, width, _) = pixels.shape, shape
                reasons.append(f"{path}: {w}x{h} px, the first frame has {width}x{height}")
                continue
            yield ClipFrame(number, number / self._fps, pixels)
        if shape is None:
            raise VideoError(reasons[0])
        more = f"; and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        self.damage = f"{len(reasons)} frames left out: {reasons[0]}{more}" if reasons else ""


_LEVEL = re.compile(r"^(?:\[[^\]]*\] )?\[(info|warning|error|fatal|panic)\] (.*)$")
_TIME = re.compile(r"^n: *\d+ pts: *\S+ +pts_time:(\S+)")
_DURATION = re.compile(r"Duration: (\d+):(\d+):(\d+\.\d+)")
_OURS = re.compile(r"\s*comment\s*: mofa-nvdr \(", re.IGNORECASE)
_SOUND = re.compile(r"Stream #0:\d+.*: Audio: (\w+)")


class FfmpegLog:
    """What ffmpeg says, read by a thread so that it never waits: frames' times, errors, facts of the file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.errors: list[str] = []
        self.sound, self.duration, self.has_input, self.is_ours = "", 0.0, False, False
        self._times: queue.Queue[float | None] = queue.Queue()
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def next_time(self) -> float | None:
        """The time of the next frame; None: it has none, or ffmpeg has ended."""
        return self._times.get()

    def join(self) -> None:
        """Wait until ffmpeg has said everything."""
        self._thread.join()

    def _read(self) -> None:
        with self._stream:
            for raw in self._stream:
                self._line(raw.decode("utf-8", "replace").rstrip())
        for _ in range(2):  # a frame without a line must not wait for ever
            self._times.put(None)

    def _line(self, line: str) -> None:
        found = _LEVEL.match(line)
        if not found:
            return
        level, text = found.groups()
        if time := _TIME.match(text):
            with contextlib.suppress(ValueError):
                self._times.put(float(time[1]))
                return
            self._times.put(None)
        elif level in ("error", "fatal", "panic"):
            if len(self.errors) < _LAST_LINES:
                self.errors.append(text)
        elif text.startswith("Input #0"):
            self.has_input = True
        elif _OURS.match(text):
            self.is_ours = True
        elif duration := _DURATION.search(text):
            hours, minutes, seconds = map(float, duration.groups())
            self.duration = 3600 * hours + 60 * minutes + seconds
        elif not self.sound and (sound := _SOUND.search(text)):
            self.sound = sound[1]


def _read_ppm(stream: IO[bytes]) -> np.ndarray | None:
    """The next picture of a stream of PPM files, bytes [H, W, 3]; None: it has ended."""
    if not stream.readline().startswith(b"P6"):
        return None
    try:
        width, height = map(int, stream.readline().split())
    except ValueError:
        return None
    stream.readline()  # 255
    pixels = np.empty((height, width, 3), np.uint8)
    left = pixels.data.cast("B")
    while left:
        count = stream.readinto(left)  # type: ignore[attr-defined]
        if not count:
            return None
        left = left[count:]
    return pixels


def file_url(path: Path) -> str:
    """A path that ffmpeg cannot take for an option or an address."""
    return f"file:{path.absolute()}"


def _in_order(path: Path) -> list[tuple[int, int, str]]:
    """Names by the numbers in them: 9.png is before 10.png."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts]
