"""From photographs to parameters and pictures of the faces in them, with a trained encoder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mofa_nvdr.apply import arkit
from mofa_nvdr.apply.certainty import DOUBTFUL, LEAST_FOUND
from mofa_nvdr.apply.color_solver import colors_of
from mofa_nvdr.apply.drawn_mouth import inner_mouth
from mofa_nvdr.apply.face_search import BY_DETECTOR, WHOLE, Candidate, FaceSearch, whole
from mofa_nvdr.apply.onnx_export import load_run
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_camera import check_camera, crop_camera, photo_focal, photo_intrinsics
from mofa_nvdr.apply.photo_pictures import PhotoPainter, contact_sheet, sheet_cells
from mofa_nvdr.apply.prediction import Predicted, Predictor, with_frames
from mofa_nvdr.apply.provenance import photo_origin
from mofa_nvdr.apply.refinement import Refiner
from mofa_nvdr.apply.result_files import (
    Written,
    check_pictures,
    check_place,
    check_source,
    image_paths,
    write_result,
    write_sheet,
)
from mofa_nvdr.apply.same_person import join_codes, model_on_cpu, share_faces
from mofa_nvdr.apply.sources import Source, name_sources
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, Picture
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.render.pictures import panels, write_jpeg, write_png
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.system.device import resolve_device
from mofa_nvdr.system.files import check_out
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.threads import map_ahead, one_thread_each

OUT = "faces"
SHEET = "sheet.jpg"


@dataclass(frozen=True)
class ReconstructOptions:
    """How photographs are reconstructed.

    Attributes:
        face: "all", "largest", or a number: the so-many-th largest.
        crops: the pictures are face crops, framed as in training: they are taken whole.
        refine: fit from the prediction, a few steps.
        colors: of color_solver.COLORS; empty: the photographs' with the encoder that comes with the package,
            the encoder's own with another.
        focal_px: focal length of the photographs, px; 0: of EXIF, or the stated default (photo_camera.py).
        principal_point: (x, y) px; None: the photographs' centres.
        pictures: write pictures.
        batch: faces that go through the encoder together.
        max_megapixels: larger images are not read.
        overwrite: replace what is in the place of a result, whatever it was made from.
        least_certainty: leave faces out that are less certain (certainty.py).
        same_person: all photographs show one person, whose shape and albedo they share; of each the largest
            face is taken, or that of `face`.
    """

    face: str = "all"
    crops: bool = False
    refine: bool = False
    colors: str = ""
    focal_px: float = 0.0
    principal_point: tuple[float, float] | None = None
    pictures: bool = True
    batch: int = 16
    max_megapixels: float = MAX_MEGAPIXELS
    overwrite: bool = False
    least_certainty: float = 0.0
    same_person: bool = False

    def check(self) -> None:
        """Refuse options that are none.

        Raises:
            ValueError: one is.
        """
        if not 0 <= self.least_certainty <= 1:
            raise ValueError(f"--least-certainty is {self.least_certainty}, expected 0 to 1")
        if self.face not in ("all", "largest") and not (self.face.isdecimal() and int(self.face)):
            raise ValueError(f"--face is {self.face!r}, expected all, largest or a number from 1")
        if self.batch < 1:
            raise ValueError(f"--batch is {self.batch}, expected 1 or more")
        check_camera(self.focal_px, self.principal_point)


def reconstruct_files(
    inputs: Sequence[str | Path],
    checkpoint: str | Path = "",
    out: str | Path = OUT,
    face_model: str = "",
    device: str = "auto",
    runtime: str = "torch",
    options: ReconstructOptions | None = None,
) -> Written:
    """Write the faces of photographs: NAME.npz of each, and pictures; returns the .npz paths.

    The largest face of a photograph is NAME.npz, the next ones are NAME_face2.npz and so on; next to each
    lie _crop.png and _panel.png; NAME_overlay.jpg and NAME_mask.png are of the whole photograph, and
    sheet.jpg shows all faces. Results lie in `out` as the images do in their folders (sources.py), and
    replace only earlier ones of the same file: the same `source` and `source_hash`. An input that is no
    image, that the package wrote itself, that shows no face, or whose place another file's result has, is
    left out and named on stderr. What else is in a folder is counted.

    Args:
        inputs: image files or folders of images.
        checkpoint: run folder or checkpoint file; with runtime "onnx" a run folder with an exported
            encoder, or an .onnx file; empty: the encoder that comes with the package, which is exported
            for "onnx" at the first use.
        out: folder, made if missing.
        face_model: the model that the run was trained with; empty: found by the run.
        device: of system.device.resolve_device.
        runtime: what the encoder runs in: torch or onnx.
        options: None: the defaults.

    Raises:
        NothingWrittenError: every image was left out.
        ValueError: a mistake in the inputs, the options, the checkpoint or the folder.
        RuntimeError: CUDA asked for where there is none, or ONNX Runtime is not installed.
    """
    o = options or ReconstructOptions()
    o.check()
    check_out(str(out))
    folder = Path(out)
    if not inputs:
        image_paths([])  # raises
    inventory = Inventory()
    sources = name_sources([(given, image_paths([given], inventory)) for given in inputs])
    o = replace(o, colors=colors_of(o.colors, checkpoint))
    # A batch a thread, each with one of torch's, which serve many small steps badly; fits have threads of
    # their own, and one person's photographs are one batch.
    alone = o.refine or o.same_person or resolve_device(device).type != "cpu"
    with nullcontext(0) if alone else one_thread_each() as threads:
        work = _Work(load_run(checkpoint, face_model, device, runtime), folder, o)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tqdm(total=len(sources), unit="photo", disable=not sys.stderr.isatty()) as bar:
                for photos, faces in work.reconstructed(sources, threads):
                    work.finish(photos, faces)
                    bar.update(len(photos))
            work.write_sheet()
        except OSError as error:
            raise ValueError(
                f"--out {out}: cannot write there ({error.strerror or error})"
            ) from None
    work.written.report("reconstruct", "reconstructed", folder, inventory)
    return work.written


@dataclass(frozen=True)
class _Photo:
    """A photograph whose faces are to be reconstructed."""

    source: Source
    file_hash: str
    candidates: list[Candidate]
    focal_35mm: float


@dataclass
class _Face:
    """A reconstructed face, with what its pictures and its place in the photograph need."""

    parameters: FaceParameters
    candidate: Candidate
    points: np.ndarray
    panel: np.ndarray | None
    crop: np.ndarray
    cells: np.ndarray | None


class _Work:
    """One call of the command: what it reads with, and what it has written."""

    def __init__(self, run: Reconstructor, folder: Path, options: ReconstructOptions) -> None:
        self._o, self._folder = options, folder
        decoder = run.decoder
        refine = Refiner(model_on_cpu(decoder.model), decoder.pinhole) if options.refine else None
        self._refine = refine
        # Of one person all are fitted together, once it is known which of the faces are that one's.
        self._predict = Predictor(run, None if options.same_person else refine, options.colors)
        self._model = decoder.model
        self._search = None if options.crops else FaceSearch.load(self._predict.size)
        self._painter = PhotoPainter(decoder.model)
        self._cells: list[np.ndarray] = []
        self._whole = 0
        self.written = Written()

    def groups(self, sources: Sequence[Source]) -> Iterator[list[_Photo]]:
        """Photographs with as many faces together as a batch holds; what can't be read is named."""
        group: list[_Photo] = []
        # A thread reads the next ones while those before are reconstructed and written.
        with closing(map_ahead(self._try_to_read, sources, self._o.batch, 1)) as photos:
            for photo in photos:
                if isinstance(photo, ImageError):
                    self.written.left_out.append(str(photo))
                    continue
                group.append(photo)
                count = sum(len(photo.candidates) for photo in group)
                if count >= self._o.batch and not self._o.same_person:
                    yield group
                    group = []
        if group:
            yield group

    def reconstructed(
        self, sources: Sequence[Source], threads: int
    ) -> Iterator[tuple[list[_Photo], list[_Face]]]:
        """Photographs and all their faces, computed in advance by these threads; 0: when asked for."""
        groups = self.groups(sources)
        if not threads:
            yield from ((photos, self._faces(photos)) for photos in groups)
            return
        with closing(
            map_ahead(lambda photos: (photos, self._faces(photos)), groups, threads + 1, threads)
        ) as pairs:
            yield from pairs

    def finish(self, photos: Sequence[_Photo], faces: list[_Face]) -> None:
        """Write the faces of some photographs."""
        chosen: list[tuple[_Photo, list[tuple[int, _Face]]]] = []
        for photo in photos:
            own, faces = faces[: len(photo.candidates)], faces[len(photo.candidates) :]
            try:
                chosen.append((photo, self._chosen(photo, own)))
            except ImageError as error:
                self.written.left_out.append(str(error))
        if self._o.same_person and chosen:
            shared = self._shared([face for _, ((_, face),) in chosen])
            chosen = [(p, [(n, face)]) for (p, ((n, _),)), face in zip(chosen, shared)]
        for photo, numbered in chosen:
            try:
                self._write(photo, numbered)
            except ImageError as error:
                self.written.left_out.append(str(error))

    def _shared(self, faces: Sequence[_Face]) -> list[_Face]:
        """One person's faces with one shape and albedo: fitted together, or their mean (same_person.py)."""
        candidates = [face.candidate for face in faces]
        crops = [Crop(*map(float, face.parameters.crop)) for face in faces]
        if self._refine is not None:
            code = join_codes([face.parameters.code for face in faces])
            code = self._refine(candidates, crops, code, same_person=True)
        else:
            model = model_on_cpu(self._model)
            shared = share_faces(
                model,
                [face.parameters for face in faces],
                lambda weights: self._predict.person(candidates, crops, weights),
            )
            code = join_codes([face.code for face in shared])
        batches = [slice(k, k + self._o.batch) for k in range(0, len(faces), self._o.batch)]
        return [
            face
            for b in batches
            for face in self._drawn(
                self._predict.measured(
                    candidates[b],
                    crops[b],
                    code.map(lambda part, b=b: part[b]),  # type: ignore[misc]
                    [face.parameters.certainty for face in faces[b]],
                ),
                candidates[b],
            )
        ]

    def write_sheet(self) -> None:
        """Write the sheet of all faces, where there are several; and say what was taken whole."""
        if self._whole:
            say(
                f"note: {self._whole} pictures in which no face was found were taken whole, as face crops",
                sys.stderr,
            )
        if len(self._cells) > 1:
            write_sheet(self._folder / SHEET, contact_sheet(self._cells), self._o.overwrite)

    def _try_to_read(self, source: Source) -> _Photo | ImageError:
        try:
            return self._read(source)
        except ImageError as error:
            return error

    def _read(self, source: Source) -> _Photo:
        file_hash = check_source(source, self._folder, self._o.overwrite)
        with Picture(source.path, max_megapixels=self._o.max_megapixels) as picture:
            if self._search is None:
                candidates = [whole(picture, self._predict.size)]
            else:
                candidates = self._search(picture)
            return _Photo(source, file_hash, candidates, picture.focal_35mm)

    def _faces(self, photos: Sequence[_Photo]) -> list[_Face]:
        candidates = [candidate for photo in photos for candidate in photo.candidates]
        size = self._o.batch
        batches = [candidates[k : k + size] for k in range(0, len(candidates), size)]
        return [face for batch in batches for face in self._drawn(self._predict(batch), batch)]

    def _drawn(self, found: Predicted, candidates: Sequence[Candidate]) -> list[_Face]:
        """Faces with their pictures, if these are wanted."""
        side, faces = self._predict.size, zip(found.parameters, candidates, found.points)
        if not self._o.pictures:
            return [_Face(one, c, points, None, c.pixels, None) for one, c, points in faces]
        fine = self._predict.finer(found)
        drawn = panels(found.photo, fine)
        cells = sheet_cells(found.photo, fine, inner_mouth(self._model))
        return [
            _Face(one, c, points, drawn[k], drawn[k][:, :side], cells[k])
            for k, (one, c, points) in enumerate(faces)
        ]

    def _chosen(self, photo: _Photo, faces: Sequence[_Face]) -> list[tuple[int, _Face]]:
        """The faces that are kept, the largest first, each with its number from 1 on."""
        path, o = photo.source.path, self._o
        best = max(face.parameters.certainty for face in faces)
        if o.crops or faces[0].candidate.found_by != WHOLE:
            least = LEAST_FOUND if faces[0].candidate.found_by == BY_DETECTOR else 0.0
            kept = [f for f in faces if f.parameters.certainty >= max(least, o.least_certainty)]
        else:
            least = max(DOUBTFUL, o.least_certainty)
            kept = [f for f in faces if f.parameters.certainty >= least]
            self._whole += bool(kept)
        if not kept and best < o.least_certainty:
            raise ImageError(
                f"{path}: no face found, certainty {best:.2f} is below --least-certainty"
            )
        if not kept:
            raise ImageError(f"{path}: no face found; --crops takes a tight crop of a face whole")
        kept.sort(key=lambda face: -float(face.parameters.crop[2]))
        numbered = list(enumerate(kept, 1))
        if o.face == "all" and not o.same_person:
            return numbered
        number = int(o.face) if o.face.isdecimal() else 1
        if number > len(numbered):
            faces_ = "face" if len(numbered) == 1 else "faces"
            raise ImageError(f"{path}: --face {number}, but it shows {len(numbered)} {faces_}")
        return numbered[number - 1 : number]

    def _write(self, photo: _Photo, faces: Sequence[tuple[int, _Face]]) -> None:
        """Write the results of one photograph, all or none."""
        o, path = self._o, photo.source.path
        named = [(_of_face(photo.source, number), face) for number, face in faces]
        for source, _ in named:
            if not o.overwrite:
                check_place(source, self._folder, photo.file_hash)
        placed = self._placed(photo, [face for _, face in named])
        if o.pictures:
            check_pictures(
                photo.source,
                photo.file_hash,
                [self._overlay(photo), self._mask(photo)],
                o.overwrite,
            )
        for (source, face), parameters in zip(named, placed):
            pictures: dict[str, np.ndarray] = {}
            if face.panel is not None:
                pictures = {"panel": face.panel, "crop": face.crop}
            self.written.append(
                write_result(
                    source,
                    photo.file_hash,
                    parameters,
                    pictures,
                    self._folder,
                    o.overwrite,
                    arkit.arrays(self._model, parameters.code.expression),
                )  # fmt: skip
            )
            if face.cells is not None:
                self._cells.append(face.cells)
            if parameters.certainty < DOUBTFUL:
                what = "face crop" if o.crops else "face"
                say(
                    f"WARNING: {path}: this hardly looks like a {what} (certainty "
                    f"{parameters.certainty:.2f}); look at {source.result}_panel.png",
                    sys.stderr,
                )
        if o.pictures:
            self._paint(photo, placed)

    def _placed(self, photo: _Photo, faces: Sequence[_Face]) -> list[FaceParameters]:
        """The faces before the photograph's own camera."""
        size = photo.candidates[0].size
        parameters = [face.parameters for face in faces]
        largest = parameters[0]
        own = crop_camera(largest.camera, Crop(*map(float, largest.crop)), size)
        focal, focal_from = photo_focal(size, self._o.focal_px, photo.focal_35mm, own.fx)
        intrinsics = photo_intrinsics(size, focal, self._o.principal_point)
        points = [face.points for face in faces]
        return with_frames(parameters, points, size, intrinsics, focal_from)

    def _overlay(self, photo: _Photo) -> Path:
        return self._folder / f"{photo.source.result}_overlay.jpg"

    def _mask(self, photo: _Photo) -> Path:
        return self._folder / f"{photo.source.result}_mask.png"

    def _paint(self, photo: _Photo, faces: Sequence[FaceParameters]) -> None:
        with Picture(photo.source.path, max_megapixels=self._o.max_megapixels) as picture:
            pixels = picture.read().pixels.copy()
        mask = self._painter.paint(pixels, faces)
        origin = photo_origin(photo.file_hash)
        write_jpeg(self._overlay(photo), pixels, kind="overlay", comment=origin)
        write_png(self._mask(photo), mask, kind="mask", comment=origin)


def _of_face(source: Source, number: int) -> Source:
    """The source under the name of one of its faces: of the largest its own."""
    return source if number == 1 else replace(source, result=f"{source.result}_face{number}")
