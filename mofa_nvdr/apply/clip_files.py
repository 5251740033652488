"""Clips from files to files: `mofa-nvdr reconstruct CLIP.mp4`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.apply import arkit
from mofa_nvdr.apply.clip_overlay import draw_over
from mofa_nvdr.apply.clip_parameters import Clip, load_clip
from mofa_nvdr.apply.clips import ClipOptions, check_face, reconstruct_clip
from mofa_nvdr.apply.result_files import Written
from mofa_nvdr.apply.same_person import model_on_cpu
from mofa_nvdr.apply.sources import Source, name_sources
from mofa_nvdr.data.decoding import ImageError
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.data.video_files import (
    INSTALL,
    FrameFolder,
    VideoFile,
    has_ffmpeg,
)
from mofa_nvdr.data.video_writing import FolderWriter, VideoWriter, rate_of
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.pictures import write_png
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.system.files import check_out
from mofa_nvdr.system.marks import mark
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import content_hash, is_free, origin

_KIND = "clip"


def reconstruct_clips(
    inputs: Sequence[str | Path],
    reconstructor: Reconstructor,
    out: str | Path,
    options: ClipOptions | None = None,
) -> Written:
    """Write NAME.npz (clip_parameters.py) and NAME_overlay.mp4 into `out` for each clip.

    Args:
        inputs: video files and folders of frames.
        reconstructor: the encoder.
        out: folder, made if missing.
        options: None: the defaults.

    Returns:
        The paths of the parameters.

    Raises:
        NothingWrittenError: no clip shows a face, or none can be read.
        VideoExtraError: ffmpeg is not installed, and a clip is a video file.
        ValueError: a mistake in the inputs, the options or the folder.
    """
    o, folder = options or ClipOptions(), Path(out)
    check_out(str(out))
    check_face(o.face)
    for given in inputs:
        if not Path(given).exists():
            raise ValueError(f"{given}: no such video or folder of frames")
    sources = name_sources([(given, [Path(given)]) for given in inputs])
    written = Written()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            try:
                written.append(_reconstruct(reconstructor, source, folder, o))
            except ImageError as error:
                written.left_out.append(str(error))
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    written.report("reconstruct", "reconstructed", folder, Inventory())
    return written


def _reconstruct(
    reconstructor: Reconstructor, source: Source, folder: Path, o: ClipOptions
) -> Path:
    """Write the results of one clip; returns the .npz."""
    target, video = folder / f"{source.result}.npz", folder / f"{source.result}_overlay.mp4"
    if source.path.is_dir():
        stills = FrameFolder(source.path, o.fps, o.max_megapixels)
        clip: VideoFile | FrameFolder = stills
        file_hash = _hash_of(stills.files)
    else:
        clip, file_hash = VideoFile(source.path, o.max_megapixels), content_hash(source.path)
    mine = origin(f"clip {file_hash}")
    if not o.overwrite:
        _check_places(source, file_hash, target, video, mine)
    result, times = reconstruct_clip(clip, reconstructor, o)
    result = replace(result, source=source.name, source_hash=file_hash)
    target.parent.mkdir(parents=True, exist_ok=True)
    result.save(target, _arkit_of(result, reconstructor.decoder.model))
    words = ""
    if o.overlay and (isinstance(clip, VideoFile) or has_ffmpeg()):
        comment = f"{mark(_KIND)} {mine}"
        with VideoWriter(video, rate_of(times)[0], clip, times[0], comment) as writer:
            _draw(clip, result, times, reconstructor, writer)
        words = f", {video}" + (f" {writer.note}" if writer.note else "")
    elif o.overlay:
        frames = folder / f"{source.result}_overlay"
        with FolderWriter(frames, lambda p, x: write_png(p, x, kind="overlay", comment=mine)) as to:
            _draw(clip, result, times, reconstructor, to)
        words = f", {frames}{os.sep}NNNNNN.png (an .mp4 needs ffmpeg: {INSTALL})"
    if clip.damage:
        say(f"WARNING: {source.path}: {clip.damage}", sys.stderr)
    seen = len(np.unique(np.concatenate([t.frame for t in result.tracks])))
    people = f"{len(result.tracks)} {'person' if len(result.tracks) == 1 else 'people'}"
    say(f"{source.path}: {people} in {seen} of {result.num_frames} frames: {target}{words}")
    return target


def _draw(
    clip: VideoFile | FrameFolder,
    result: Clip,
    times: Sequence[float],
    reconstructor: Reconstructor,
    writer: VideoWriter | FolderWriter,
) -> None:
    """Write the frames with the faces over them, evenly in time: some are repeated or left out for it."""
    model = model_on_cpu(reconstructor.decoder.model)
    rate, even = rate_of(times)
    even = even or isinstance(writer, FolderWriter)
    where: dict[int, list[tuple[int, int]]] = {}
    for number, track in enumerate(result.tracks):
        for row, frame in enumerate(track.frame.tolist()):
            where.setdefault(frame, []).append((number, row))
    written = 0
    bar = tqdm(total=len(times), unit="frame", disable=not sys.stderr.isatty())
    for k, frame in enumerate(clip.frames()):
        bar.update()
        # This frame is shown until half-way to the next one.
        until = (frame.time + times[k + 1]) / 2 if k + 1 < len(times) else frame.time
        last = k if even else int(np.floor((until - times[0]) * float(rate)))
        if last < written:
            continue
        pixels = frame.pixels
        faces = [(result.tracks[n], row) for n, row in where.get(frame.number, [])]
        for track, row in sorted(
            faces, key=lambda item: float(item[0].code.translation[item[1], 2])
        ):
            one = track.code.map(lambda part, row=row: part[row : row + 1])  # type: ignore[misc]
            pixels = draw_over(pixels, model, result.camera, one, track.landmarks68[row])
        while written <= last:
            writer.add(pixels)
            written += 1
    bar.close()


def _hash_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {content_hash(file)}\n".encode())
    return digest.hexdigest()


def _arkit_of(clip: Clip, model: FaceModel) -> dict[str, np.ndarray]:
    """The weights of ARKit's blendshapes in the rows of the file."""
    return arkit.arrays(model, torch.cat([track.code.expression for track in clip.tracks]))


def _check_places(source: Source, file_hash: str, target: Path, video: Path, mine: str) -> None:
    """Raise ImageError where the place of a result holds what is none of this clip."""
    way = "give another --out, or --overwrite"
    if os.path.lexists(target):
        try:
            there = load_clip(target)
        except ValueError:
            there = None
        if there is None or (there.source, there.source_hash) != (source.name, file_hash):
            raise ImageError(f"{source.path}: {target} is there, and no result of it; {way}")
    if not is_free(video, mine):
        raise ImageError(f"{source.path}: {video} is there, and no result of it; {way}")
