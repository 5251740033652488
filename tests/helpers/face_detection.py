"""How often a face detector finds the faces that the decoder renders.

The detector is OpenCV's frontal-face Haar cascade (`haarcascade_frontalface_default.xml`) with a scale
factor of 1.05 and 3 neighbours, on the grey picture as it is. A face counts as found if one of the boxes lies
on the rendered face: its centre within 0.2 face widths of the point at a third of the way from the eyes to
the mouth, its side between 0.7 and 1.6 face widths (boxes on faces lie within 0.1 of there, and have 1.0 to
1.35). Boxes elsewhere count for nothing, so boxes below 60 pixels, half of the smallest face, are not looked
for; that triples the speed.

Each face is one 240x240 picture of the whole mesh, neutral, drawn at random as follows (`View`):

pose: the axis-angle vector is uniform in the ball of 15 degrees (mean turn 11 degrees; nod, turn and tilt
    alike); sideways and up 6 mm, along the axis 50 mm (standard deviations, normal).
light: ambient light of irradiance 0.35 to 0.75, each channel times 1 +- 0.05; plus one key light, or two
    (chance 0.4), from a direction uniform on the cap of 70 degrees about the camera's axis (three in four of
    those from below are brought above: lamps and the sun stand high), irradiance 0.2 to 0.8 in all. Of the
    keys half are white, a quarter warm or cool (channels 1 +- 0.15), a quarter coloured (channels uniform in
    0.4 to 1). Nothing is re-exposed: dark skin stays dark.
background: one of five, equally likely: grey of any level; any colour; a straight ramp between two colours;
    blotches of random colours with grain; independent noise in each pixel.

Command line, for work on the model (tests use seeds of their own, see test_face_detection.py):
    python -m tests.helpers.face_detection --what people --count 300 --seed 5 [--recipe] [--misses FOLDER]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import to_uint8, write_png
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET, ambient_light, directional_light

SIZE = 240
CAMERA = Camera(SIZE, position=(0.0, -8.0, -1080.0))  # the whole mesh with some background about it
LARGEST_TURN = math.radians(15)
TONE = 2.5  # standard deviations of the first albedo mode
SUBJECTS = ("mean", "people", "dark", "light")
SMALLEST = 60  # pixels; the faces are 125 to 170 wide
_BATCH = 16


@dataclass(frozen=True)
class View:
    """Pose, light and background of one picture.

    Attributes:
        rotation: [3] axis-angle. translation: [3] mm. light: [9, 3] complete.
        background: [3, SIZE, SIZE] in [0, 1].
    """

    rotation: np.ndarray
    translation: np.ndarray
    light: torch.Tensor
    background: torch.Tensor

    @staticmethod
    def draw(rng: np.random.Generator) -> View:
        """One view of the distribution in the module's docstring."""
        axis = rng.normal(size=3)
        angle = LARGEST_TURN * rng.random() ** (1 / 3)
        translation = rng.normal(size=3) * [6.0, 6.0, 50.0]
        light = ambient_light(rng.uniform(0.35, 0.75))
        light = light * torch.tensor(1 + 0.05 * rng.normal(size=3))
        num_keys = 2 if rng.random() < 0.4 else 1
        shares = rng.dirichlet(np.ones(num_keys)) * rng.uniform(0.2, 0.8)
        for share in shares:
            light = light + _key_light(rng) * share
        return View(
            axis / np.linalg.norm(axis) * angle, translation, light.float(), _background(rng)
        )


def _key_light(rng: np.random.Generator) -> torch.Tensor:
    cosine = rng.uniform(math.cos(math.radians(70)), 1.0)
    sine, azimuth = math.sqrt(1 - cosine**2), rng.uniform(-math.pi, math.pi)
    if rng.random() < 0.75:
        azimuth = abs(azimuth)
    towards = torch.tensor([sine * math.cos(azimuth), sine * math.sin(azimuth), cosine])
    kind = rng.random()
    color = np.ones(3)
    if kind > 0.75:
        color = rng.uniform(0.4, 1.0, 3)
    elif kind > 0.5:
        color = 1 + rng.uniform(-0.15, 0.15) * np.array([1.0, 0.0, -1.0])
    return directional_light(towards) * torch.tensor(color)


def _background(rng: np.random.Generator) -> torch.Tensor:
    kind = rng.integers(5)
    color = torch.tensor(rng.random((3, 1, 1)))
    if kind == 0:
        color = color[:1].expand(3, 1, 1)
    picture = color.expand(3, SIZE, SIZE).clone()
    if kind == 2:
        way = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, SIZE)] * 2), -1)
        angle = rng.uniform(0, 2 * math.pi)
        ramp = torch.tensor(0.5 + way @ [math.cos(angle), math.sin(angle)]).clamp(0, 1)
        picture = picture + ramp * (torch.tensor(rng.random((3, 1, 1))) - picture)
    elif kind == 3:
        for cells, amount in ((3, 0.25), (12, 0.12), (60, 0.05)):
            noise = torch.tensor(rng.normal(size=(1, 3, cells, cells)) * amount)
            picture += F.interpolate(noise, (SIZE, SIZE), mode="bilinear", align_corners=False)[0]
    elif kind == 4:
        picture = torch.tensor(rng.random((3, SIZE, SIZE)))
    return picture.clamp(0, 1).float()


def subject_codes(model: FaceModel, what: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Shape and albedo coefficients of one subject.

    Args:
        model: the face model.
        what: "mean"; "people", shape and albedo drawn at one standard deviation; "dark" or "light", the mean
            with its first albedo mode at TONE standard deviations towards darker or lighter skin.
        rng: source of "people".
    """
    layout = model.layout
    shape, albedo = rng.normal(size=layout.num_shape), rng.normal(size=layout.num_albedo)
    if what == "people":
        return {"shape": shape, "albedo": albedo}
    albedo = np.zeros(layout.num_albedo)
    if what != "mean":
        darker = -np.sign(model.albedo_basis[0][model.landmarks[27:36]].mean().item())
        albedo[0] = TONE * darker * (1 if what == "dark" else -1)
    return {"shape": np.zeros(layout.num_shape), "albedo": albedo}


@torch.no_grad()
def pictures(
    decoder: FaceDecoder, what: str, count: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures uint8 [SIZE, SIZE, 3] and landmarks [68, 2] in pixels of `count` faces, one by one.

    Face k depends on the seed and k alone: a longer run begins with the shorter one's faces, and different
    subjects are seen in the same views.
    """
    model = decoder.model
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        views, codes = [], []
        for number in numbers:
            streams = np.random.SeedSequence([seed, number]).spawn(2)
            views.append(View.draw(np.random.default_rng(streams[0])))
            codes.append(subject_codes(model, what, np.random.default_rng(streams[1])))
        light = torch.stack([view.light for view in views])
        light[:, 0] -= AMBIENT_OFFSET
        code = FaceCode(
            shape=_rows([code["shape"] for code in codes]),
            expression=torch.zeros(len(codes), model.layout.num_expression),
            albedo=_rows([code["albedo"] for code in codes]),
            rotation=_rows([view.rotation for view in views]),
            translation=_rows([view.translation for view in views]),
            light=light,
        )
        face = decoder(code)
        images = to_uint8(face_image(face, torch.stack([view.background for view in views])))
        yield from zip(images, face.landmarks.numpy())


def _rows(arrays: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32))


class Detector:
    """OpenCV's frontal-face Haar cascade.

    Raises:
        ImportError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        import cv2

        file = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
        self._cascade = cv2.CascadeClassifier(str(file))
        assert not self._cascade.empty(), f"{file} is not a cascade"
        self._to_grey = lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

    def boxes(self, image: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] (x, y, width, height) found in uint8 [H, W, 3]."""
        found = self._cascade.detectMultiScale(
            self._to_grey(image), scaleFactor=1.05, minNeighbors=3, minSize=(SMALLEST, SMALLEST)
        )
        return np.asarray(found, float).reshape(-1, 4)

    def finds(self, image: np.ndarray, landmarks: np.ndarray) -> bool:
        """Whether a box lies on the face with these landmarks [68, 2] in pixels."""
        return any(lies_on_face(box, landmarks) for box in self.boxes(image))


def lies_on_face(box: np.ndarray, landmarks: np.ndarray) -> bool:
    """Whether a box (x, y, width, height) is about where and as large as the face."""
    eyes, mouth = landmarks[36:48].mean(0), landmarks[48:60].mean(0)
    width = np.linalg.norm(landmarks[16] - landmarks[0])
    off = np.linalg.norm(box[:2] + box[2:] / 2 - (2 * eyes + mouth) / 3)
    return bool(off < 0.2 * width and 0.7 * width < box[2] < 1.6 * width)


def detection_rate(
    model: FaceModel, what: str, count: int, seed: int, misses: Path | None = None
) -> float:
    """The part of `count` faces that is found; writes the others as PNG into the folder `misses`."""
    decoder = FaceDecoder(model, camera=CAMERA, frontal_only=False)
    detector = Detector()
    found = 0
    for number, (image, landmarks) in enumerate(pictures(decoder, what, count, seed)):
        hit = detector.finds(image, landmarks)
        found += hit
        if misses is not None and not hit:
            write_png(misses / f"{what}_{seed}_{number:04d}.png", image)
    return found / count


def wilson_interval(rate: float, count: int) -> tuple[float, float]:
    """95 % confidence interval of a rate measured on `count` faces (Wilson 1927)."""
    z2 = 1.96**2
    middle = (rate + z2 / (2 * count)) / (1 + z2 / count)
    spread = math.sqrt(z2 * (rate * (1 - rate) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return middle - spread, middle + spread


def load_model(recipe: bool, name: str = "procedural") -> FaceModel:
    """A face model that is there, or what the built-in face's recipe gives now."""
    if not recipe:
        return FaceModel.load(name)
    from mofa_nvdr.face import recipe

    arrays = recipe.build()
    names = [str(name) for name in arrays.pop("expression_names")]
    named = dict(zip(names, arrays.pop("named_expressions")))
    return FaceModel(arrays, {"name": "recipe"}, named)


def main() -> None:
    """Print the rates asked for."""
    parser = argparse.ArgumentParser(description="How often the Haar cascade finds our faces.")
    parser.add_argument("--what", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--recipe", action="store_true", help="run the recipe, not its product")
    parser.add_argument("--face-model", default="procedural", help="as FaceModel.load takes it")
    parser.add_argument("--misses", type=Path, help="folder for the pictures that were not found")
    options = parser.parse_args()
    if options.misses is not None:
        options.misses.mkdir(parents=True, exist_ok=True)
    model = load_model(options.recipe, options.face_model)
    for what in options.what:
        rate = detection_rate(model, what, options.count, options.seed, options.misses)
        low, high = wilson_interval(rate, options.count)
        print(
            f"{what}: {rate:.1%} of {options.count} (seed {options.seed}; 95 % interval {low:.1%} to "
            f"{high:.1%})",
            flush=True,
        )


if __name__ == "__main__":
    main()
