"""Fitting photographs from files: `mofa-nvdr fit`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mofa_nvdr.apply import arkit
from mofa_nvdr.apply.certainty import DOUBTFUL, LEAST_FOUND, face_certainty
from mofa_nvdr.apply.face_search import WHOLE, FaceSearch
from mofa_nvdr.apply.fit_stages import QUICK_STAGES
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, FittedFaces, Observed, Stage
from mofa_nvdr.apply.largest_face import (
    FIT_SIZE,
    LONGEST,
    FacePhotograph,
    known_face,
    largest_face,
)
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_camera import crop_camera, photo_focal, photo_intrinsics
from mofa_nvdr.apply.prediction import Predictor, frame_points, with_frames
from mofa_nvdr.apply.result_files import (
    Written,
    check_source,
    image_paths,
    with_measures,
    write_result,
)
from mofa_nvdr.apply.sources import Source, name_sources
from mofa_nvdr.data.crops.finder import FaceFinder
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.data.crops.known_points import KnownPoints
from mofa_nvdr.data.crops.landmark_files import DENSE_FIRST, TABLE_ORDER
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, Picture
from mofa_nvdr.data.images import ImageError, picture_square
from mofa_nvdr.data.listing import Inventory, not_a_photograph
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.decoder import RENDER_MODES, FaceDecoder, RasterFace
from mofa_nvdr.render.pictures import FINER, panels
from mofa_nvdr.runs.checkpoint import CheckpointError
from mofa_nvdr.runs.shipped import SHIPPED_FACE, shipped_encoder
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.system.files import check_out
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import content_hash

_FACE = "portraits"  # people, as photographs show them
_EDGE_PX = 2.5  # deviation over which a panel's last column is carried on past the mask


@dataclass(frozen=True)
class FitFileOptions:
    """Options of the command.

    Attributes:
        checkpoint: a run whose predictions are where fitting starts; empty: the face model's average, or
            without the landmark networks the predictions of the encoder that comes with the package.
        face_model: as FaceModel.load takes it; empty: the run's, or "portraits".
        render_mode: of the photometric term, "raster" or "vertex".
        same_person: all photographs show one person: shape and albedo are shared.
        same_light: with `same_person`: one light too, as in a clip.
        batch: photographs that are fitted together.
        max_megapixels: larger photographs are not read.
        overwrite: replace what is in the place of a result, whatever it came of.
    """

    checkpoint: str = ""
    face_model: str = ""
    render_mode: str = "raster"
    same_person: bool = False
    same_light: bool = False
    batch: int = 24
    max_megapixels: float = MAX_MEGAPIXELS
    overwrite: bool = False


@dataclass(frozen=True)
class _Photograph:
    """A photograph whose face is to be fitted."""

    source: Source
    file_hash: str
    face: FacePhotograph


def fit_files(
    inputs: Sequence[str | Path], out: str | Path, options: FitFileOptions | None = None
) -> Written:
    """Fit the face model to photographs: NAME.npz, NAME_panel.png and NAME_occluders.png for each.

    Of several faces the largest is fitted. Landmarks next to a photograph are used as `preprocess` reads
    them. Else, without the landmark networks, OpenCV's cascades find the face, and fitting starts from the
    predictions of an encoder.

    Args:
        inputs: image files or folders of images.
        out: folder, made if missing; results lie in it as the photographs do in theirs (sources.py).
        options: None: the defaults.

    Returns:
        The paths of the parameters.

    Raises:
        NothingWrittenError: every photograph was left out.
        NetworkMissingError: neither the landmark networks nor an encoder of that face model.
        ValueError: a mistake in the inputs, the options or the folder.
    """
    o = options or FitFileOptions()
    check_out(str(out))
    if o.batch < 1:
        raise ValueError(f"--batch is {o.batch}, expected 1 or more")
    if o.render_mode not in RENDER_MODES:
        raise ValueError(
            f"--render-mode is {o.render_mode!r}, expected one of {', '.join(RENDER_MODES)}"
        )
    if o.same_light and not o.same_person:
        raise ValueError("--same-light: give --same-person with it")
    folder, inventory = Path(out), Inventory()
    if not inputs:
        image_paths([], command="fit")  # raises
    paths = [(given, image_paths([given], inventory, "fit")) for given in inputs]
    fitter = _FileFitter(o)
    sources, written = name_sources(paths), Written()
    whole = len(sources) if o.same_person else o.batch
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fitter.read_landmarks(sources)
        with tqdm(total=len(sources), unit="photo", disable=not sys.stderr.isatty()) as bar:
            for first in range(0, len(sources), whole):
                some = sources[first : first + whole]
                photographs = list(fitter.photographs(some, folder, written))
                bar.update(len(some) - len(photographs))
                for alike in _alike(photographs, o.same_person):
                    fits = fitter.fit(alike, bar)
                    _write(fits, alike, fitter, folder, o.overwrite, written)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    written.report("fit", "fitted", folder, inventory)
    return written


def _alike(photographs: Sequence[_Photograph], same_person: bool) -> list[list[_Photograph]]:
    """Those with as many landmarks together, which can be fitted at once.

    Raises:
        ValueError: they are to be of one person, and have landmarks of several numbers.
    """
    groups: dict[int, list[_Photograph]] = {}
    for photograph in photographs:
        points = photograph.face.points
        groups.setdefault(0 if points is None else len(points), []).append(photograph)
    if same_person and len(groups) > 1:
        numbers = " and ".join(str(count) for count in sorted(groups))
        raise ValueError(
            f"--same-person: the photographs have {numbers} landmarks; give all of them the same number"
        )
    return list(groups.values())


class PhotographFitter:
    """Fits single photographs, for commands that need the face in one on their way.

    Args:
        face_model: as FaceModel.load takes it; empty: "portraits".
        command: what messages call it.

    Raises:
        NetworkMissingError: neither the landmark networks nor an encoder of that face model.
        ValueError: the face model cannot be read.
    """

    def __init__(self, face_model: str, command: str) -> None:
        self._fitter = _FileFitter(FitFileOptions(face_model=face_model), QUICK_STAGES, command)
        self.model = self._fitter.model

    def __call__(self, path: str | Path) -> FaceParameters:
        """The largest face of a photograph.

        Raises:
            ImageError: it cannot be read, or shows no face.
        """
        name_of = Source(Path(path), str(path), "")
        if other := not_a_photograph(Path(path)):
            raise ImageError(other)
        with Picture(path) as picture:
            face = self._fitter._face(picture, name_of)
        photograph = _Photograph(name_of, content_hash(Path(path)), face)
        fits = self._fitter.fit([photograph], tqdm(disable=True))
        (parameters,) = _parameters(fits, [photograph], self._fitter)
        return replace(parameters, source=str(path), source_hash=photograph.file_hash)


class _FileFitter:
    """The networks and the fitter of one command."""

    def __init__(
        self,
        o: FitFileOptions,
        stages: tuple[Stage, ...] | None = None,
        command: str = "fit",
    ) -> None:
        self.options = o
        self.detector: LandmarkDetector | None = None
        try:
            self.detector = LandmarkDetector.load()
        except NetworkMissingError as error:
            if not o.checkpoint:
                self._check_face(o.face_model, f"{command}: {error}")
        predicted = o.checkpoint or self.detector is None
        self.run = Reconstructor.load(o.checkpoint, o.face_model, "cpu") if predicted else None
        if self.run is not None:
            self.model, self.reference = self.run.decoder.model, self.run.face_model
        else:
            given = o.face_model or _FACE
            self.model = FaceModel.load(given)
            self.reference = ModelReference.of(self.model, given)
        if self.detector is not None and self.model.dense_landmarks is None:
            say(
                f"note: face model {self.model.name} has no places for 478 landmarks: 68 are fitted; import "
                "it again now that the landmark networks are here",
                sys.stderr,
            )
        camera = None if self.run is None else self.run.decoder.pinhole
        options = FitOptions(render_mode=o.render_mode)
        options = options if stages is None else replace(options, stages=stages)
        self.fitter = FaceFitter(self.model, options, camera=camera)
        self._finer: FaceDecoder | None = None
        self._known: KnownPoints | None = None
        self._finding: tuple[FaceSearch, Predictor] | None = None

    @staticmethod
    def _check_face(given: str, reason: str) -> None:
        """Refuse a face model that no encoder of the package predicts; `reason`: no networks."""
        with contextlib.suppress(CheckpointError):
            if given in ("", SHIPPED_FACE) and shipped_encoder():
                return
        raise NetworkMissingError(
            f"{reason}; or give --checkpoint RUN, whose predictions are fitted further"
        )

    def read_landmarks(self, sources: Sequence[Source]) -> None:
        """Look for landmarks next to photographs; they are used instead of detected ones.

        Raises:
            ValueError: a table of landmarks that cannot be read.
        """
        networks = None if self.detector is None else self.detector.points
        finder = FaceFinder(1, 0.0, LONGEST, networks=networks)
        dense = self.model.dense_landmarks is not None
        order = DENSE_FIRST if dense else TABLE_ORDER
        self._known = KnownPoints([s.path for s in sources], finder, LONGEST, order)
        for note in self._known.notes:
            say(f"note: {note}", sys.stderr)

    def photographs(
        self, sources: Sequence[Source], folder: Path, written: Written
    ) -> Iterator[_Photograph]:
        """The photographs that can be fitted; the others are named in `written.left_out`."""
        for source in sources:
            try:
                file_hash = check_source(source, folder, self.options.overwrite)
                with Picture(source.path, max_megapixels=self.options.max_megapixels) as picture:
                    face = self._face(picture, source)
                yield _Photograph(source, file_hash, face)
            except ImageError as error:
                written.left_out.append(str(error))

    def _face(self, picture: Picture, source: Source) -> FacePhotograph:
        dense = self.model.dense_landmarks is not None
        if self._known is not None:
            known = self._known.of(source.path)
            for note in known.notes:
                say(f"note: {note}", sys.stderr)
            if known.points is not None:
                self._known.check(known, source.path, picture)
                return known_face(picture, source.path, known.points, dense)
        if self.detector is None:
            return self._predicted_face(picture, source.path)
        return largest_face(picture, source.path, self.detector, dense)

    def _predicted_face(self, picture: Picture, path: Path) -> FacePhotograph:
        """The largest face that OpenCV's cascades find, framed as it is predicted; or the whole picture.

        Raises:
            ImageError: the package's own encoder sees no face there. That of a run may be a poor one, and
                its user is taken to know that the pictures are face crops.
        """
        assert self.run is not None
        if self._finding is None:
            predictor = Predictor(self.run)
            self._finding = FaceSearch(predictor.size), predictor
        search, predictor = self._finding
        candidates = search(picture)
        least = DOUBTFUL if candidates[0].found_by == WHOLE else LEAST_FOUND
        found = zip(candidates, predictor(candidates).parameters)
        kept = [both for both in found if self.options.checkpoint or both[1].certainty >= least]
        if not kept:
            raise ImageError(f"{path}: no face found")
        candidate, face = kept[0]
        known: dict[str, Any] = {
            "size": (picture.height, picture.width), "focal_35mm": picture.focal_35mm
        }  # fmt: skip
        if candidate.found_by == WHOLE:
            pixels = torch.from_numpy(picture_square(picture, FIT_SIZE)).permute(2, 0, 1)
            return FacePhotograph(pixels.float() / 255, candidate.crop, None, **known)
        crop = Crop(*map(float, face.crop))
        return FacePhotograph(candidate.known(crop, FIT_SIZE), crop, None, **known)

    def fit(self, photographs: Sequence[_Photograph], bar: tqdm[NoReturn]) -> FittedFaces:
        """Fit some photographs together."""
        o, count = self.options, len(photographs)
        photo = torch.stack([p.face.photo for p in photographs])
        landmarks = [p.face.points for p in photographs if p.face.points is not None]
        shared = ("shape", "albedo", "light") if o.same_light else ("shape", "albedo")
        observed = Observed(
            photo,
            torch.stack(landmarks) if landmarks else None,
            torch.zeros(count, dtype=torch.long) if o.same_person else None,
            shared,
        )

        def after(step: int, steps: int) -> None:
            bar.update(count / steps)

        return self.fitter(observed, self._start(photo), after)

    @torch.no_grad()
    def finer(self, code: FaceCode) -> RasterFace:
        """Fitted faces, drawn for pictures without steps."""
        if self._finer is None:
            self._finer = self.fitter.decoder_of(FIT_SIZE).finer(FINER)
        return self._finer.rasterize(self._finer.geometry(code))

    def _start(self, photo: Tensor) -> FaceCode | None:
        if self.run is None:
            return None
        size = self.run.decoder.camera.size
        images = torch.nn.functional.interpolate(
            photo.nan_to_num(0.5), size, mode="bilinear", align_corners=False, antialias=True
        )
        return self.run(images)


def beyond_the_edge(visible: Tensor, mask: Tensor) -> Tensor:
    """What is visible [B, 1, S, S], carried on past a mask: pictures have a smoother edge than fits."""
    inside = (mask > 0).to(visible)
    near = blurred(inside, _EDGE_PX).clamp(min=1e-6)
    return torch.where(inside > 0, visible, blurred(visible * inside, _EDGE_PX) / near)


def _write(
    fits: FittedFaces,
    photographs: Sequence[_Photograph],
    fitter: _FileFitter,
    folder: Path,
    overwrite: bool,
    written: Written,
) -> None:
    photo = torch.stack([p.face.photo for p in photographs])
    shown = beyond_the_edge(fits.visible, fits.face.mask)
    pictures = panels(photo, fitter.finer(fits.code), shown)
    known = photo.isfinite().all(1)
    hidden = fits.face.mask[:, 0] * known * (1 - fits.visible[:, 0])  # [B, S, S]
    occluders = (hidden * 255).round().to(torch.uint8).numpy()
    measured = _parameters(fits, photographs, fitter)
    for k, (photograph, parameters) in enumerate(zip(photographs, measured)):
        try:
            written.append(
                write_result(
                    photograph.source, photograph.file_hash, parameters,
                    {"panel": pictures[k], "occluders": occluders[k]}, folder, overwrite,
                    arkit.arrays(fitter.model, parameters.code.expression)
                    | {"landmark_error": fits.landmark_error[k].double().numpy()},
                )
            )  # fmt: skip
        except ImageError as error:
            written.left_out.append(str(error))


def _parameters(
    fits: FittedFaces, photographs: Sequence[_Photograph], fitter: _FileFitter
) -> list[FaceParameters]:
    """What is known of fitted faces, but for their sources."""
    photo = torch.stack([p.face.photo for p in photographs])
    certainty = face_certainty(photo.nan_to_num(0.5), fits.face)
    camera = fitter.fitter.decoder_of(FIT_SIZE).pinhole
    every = [
        FaceParameters(
            code=FaceCode(
                **{f.name: getattr(fits.code, f.name)[k : k + 1] for f in fields(FaceCode)}
            ),
            camera=camera,
            crop=np.array([p.face.crop.left, p.face.crop.top, p.face.crop.side], np.float64),
            face_model=(fitter.model.name, fitter.model.hash),
            source="",
            face_model_file=fitter.reference.file,
            certainty=certainty[k].item(),
        )
        for k, p in enumerate(photographs)
    ]
    measured = with_measures(every, photo, fits.face)
    decoder = fitter.fitter.decoder_of(FIT_SIZE)
    points = decoder.points(fits.code, frame_points(fitter.model)).double().numpy()
    framed = []
    for one, p, place in zip(measured, photographs, points):
        own = crop_camera(camera, p.face.crop, p.face.size)
        focal, focal_from = photo_focal(p.face.size, 0.0, p.face.focal_35mm, own.fx)
        intrinsics = photo_intrinsics(p.face.size, focal)
        framed += with_frames([one], [place], p.face.size, intrinsics, focal_from)
    return framed
