"""Who is recognised: portraits of the same people, for judging renders of their faces.

`python tests/benchmarks/bm_identity.py pairs --out FILE.csv [--data FOLDER] [--crops FILE.npz]`; it needs
`mofa-nvdr networks get identity` and `landmarks`, and the portraits of $MOFA_NVDR_DATA or ../shared/data.
`--crops` keeps the crops and landmarks of all portraits, which take minutes, for the next time.

For other benchmarks: `embed` makes embeddings of pictures, `recall` says how many are recognised,
`mean_recall` on average over who the others are; `without_means` takes away what all renders have in common
and photographs have not; `likeness` compares distributions of similarities. Who has the same network in a
loss and in a measure must say so.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import hypergeom, wasserstein_distance
from torch import Tensor

from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.crops.finder import cut_crop
from mofa_nvdr.data.crops.framing import crop_from_landmarks
from mofa_nvdr.data.decoding import Picture
from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.networks.face_chips import cut_chips
from mofa_nvdr.networks.face_recognition import FaceRecognition
from mofa_nvdr.networks.identity_mean import identity_mean
from mofa_nvdr.networks.landmark_detector import LandmarkDetector

SIZE = 240
BATCH = 32
SAME_PERSON = (
    0.4  # nearer embeddings are one person's: of 145,000 pairs of different people none is
)
SAME_PHOTOGRAPH = 0.85  # correlation of two chips, or of one with the other mirrored, from which
NEAREST = 0.25  # or embeddings' distance up to which both are one photograph, or two of one moment


@functools.cache
def network() -> FaceRecognition:
    """The network that is here, loaded once."""
    return FaceRecognition.load()


@torch.no_grad()
def embed(pictures: np.ndarray | Tensor, landmarks68: np.ndarray | Tensor) -> Tensor:
    """Embeddings [N, 128] of one face each.

    Args:
        pictures: bytes [N, H, W, 3], or floats in [0, 1], [N, 3, H, W]; faces of up to about 400 px.
        landmarks68: iBUG's points, px of the pictures, [N, 68, 2].
    """
    parts = []
    for start in range(0, len(pictures), BATCH):
        images = _floats(torch.as_tensor(pictures[start : start + BATCH]))
        points = torch.as_tensor(landmarks68[start : start + BATCH])
        parts.append(network().embed(images, points.float()))
    return torch.cat(parts)


def _floats(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2) / 255 if pictures.dtype == torch.uint8 else pictures


def recall(
    queries: Tensor, gallery: Tensor, same: Sequence[int] | np.ndarray | Tensor
) -> tuple[float, float]:
    """Shares of queries whose own person is the nearest, and among the five nearest, of the gallery.

    Who is as near as another counts as behind it, so that a network that gives the same for everyone has 0.

    Args:
        queries: embeddings [N, 128].
        gallery: embeddings [M, 128], one a person.
        same: which of the gallery is each query's person, [N].

    Raises:
        ValueError: an embedding is not finite, shapes disagree, or a person is not in the gallery.
    """
    own = torch.as_tensor(list(same)).long().reshape(-1, 1)
    if queries.shape[1:] != gallery.shape[1:] or len(own) != len(queries) or not len(queries):
        raise ValueError(
            f"recall: queries {list(queries.shape)}, gallery {list(gallery.shape)}, same {len(own)}"
        )
    if own.min() < 0 or own.max() >= len(gallery):
        raise ValueError(f"recall: same is in {own.min()}..{own.max()} of {len(gallery)}")
    if not (queries.isfinite().all() and gallery.isfinite().all()):
        raise ValueError("recall: embeddings that are not finite")
    # Not by matrix products, whose rounding is larger than some differences.
    away = torch.cdist(queries, gallery, compute_mode="donot_use_mm_for_euclid_dist")
    behind = (away <= away.gather(1, own)).sum(1) - 1  # who is at least as near, without oneself
    return (behind < 1).float().mean().item(), (behind < 5).float().mean().item()


def mean_recall(queries: Tensor, own: Tensor, others: Tensor, size: int) -> tuple[float, float]:
    """`recall` in galleries of `size` people, on average over all choices of who else is there.

    One stranger whom many renders are like moves the recall of a single gallery by more than fits do.

    Args:
        queries: embeddings [N, 128].
        own: of their people in the same order, [N, 128], who are in every gallery.
        others: embeddings [K, 128], of whom size - N are in a gallery.
        size: people in a gallery.

    Raises:
        ValueError: there are not as many people, or as in `recall`.
    """
    drawn = size - len(own)
    if not 0 <= drawn <= len(others):
        raise ValueError(
            f"mean_recall: {len(own)} people and {len(others)} others, a gallery of {size}"
        )
    recall(queries, torch.cat([own, others]), range(len(own)))  # raises
    if not drawn:
        return recall(queries, own, range(len(own)))
    away, strangers = (
        torch.cdist(queries, some, compute_mode="donot_use_mm_for_euclid_dist")
        for some in (own, others)
    )
    known = away.diagonal()[:, None]
    before = ((away <= known).sum(1) - 1).numpy()
    nearer = (strangers <= known).sum(1).numpy()
    top = [hypergeom.cdf(n - 1 - before, len(others), nearer, drawn).mean() for n in (1, 5)]
    return float(top[0]), float(top[1])


@dataclass(frozen=True)
class Likeness:
    """How alike renders and their photographs are, next to photographs of one and of two people.

    Similarity is the cosine of embeddings about networks.identity_mean, 1 at most. After the evaluation of
    Genova et al. 2018, section 4.3, with another network; theirs is not in their loss, this one may be.

    Attributes:
        mean: of renders with their own photographs.
        to_same: earth mover's distance of those to the similarities of two photographs of one person.
        to_different: to those of two people; a render is recognisable where `to_same` is the smaller one.
    """

    mean: float
    to_same: float
    to_different: float


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosines about the common mean, [N, M] of embeddings [N, 128] and [M, 128]."""
    mean = identity_mean()
    return (
        torch.nn.functional.normalize(a - mean, dim=1)
        @ torch.nn.functional.normalize(b - mean, dim=1).T
    )


def likeness(renders: Tensor, fitted: Tensor, other: Tensor) -> Likeness:
    """Of N people.

    Args:
        renders: embeddings [N, 128] of what was made of `fitted`.
        fitted: of one photograph of each person.
        other: of another one of each.

    Raises:
        ValueError: they are not of one number, of two people or more.
    """
    count = len(renders)
    if not count == len(fitted) == len(other) or count < 2:
        raise ValueError(
            f"likeness: {count} renders, {len(fitted)} and {len(other)} photographs; expected as many of "
            "each, of two people or more"
        )
    own = similarity(renders, fitted).diagonal()
    pairs = similarity(fitted, other)
    apart = pairs[~torch.eye(count, dtype=torch.bool)]
    distance = [float(wasserstein_distance(own, x)) for x in (pairs.diagonal(), apart)]
    return Likeness(own.mean().item(), *distance)


def without_means(queries: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Both with their own mean at 0: what remains is how each differs from the others of its kind."""
    return queries - queries.mean(0), gallery - gallery.mean(0)


@dataclass(frozen=True)
class Portraits:
    """Crops of the portraits that show one face.

    Attributes:
        names: files, [N].
        photos: bytes [N, 240, 240, 3].
        points: the 478 points, px of the crop, [N, 478, 2].
    """

    names: list[str]
    photos: np.ndarray
    points: np.ndarray

    @functools.cached_property
    def landmarks68(self) -> np.ndarray:
        """iBUG's points, px of the crop, [N, 68, 2]."""
        return np.stack([ibug_landmarks(points) for points in self.points]).astype(np.float32)

    def rows(self, names: Sequence[str]) -> list[int]:
        """Where files are."""
        place = {name: row for row, name in enumerate(self.names)}
        return [place[name] for name in names]


def portraits(data: Path, kept: Path | None) -> Portraits:
    """Crops of all portraits as training crops are framed, or those that `kept` holds."""
    if kept is None or not kept.exists():
        names, photos, points = [], [], []
        detector = LandmarkDetector.load()
        for path in sorted((data / "portraits/images").glob("*.jpg")):
            with Picture(path) as picture:
                copy = picture.copy(1280)
                shift = [copy.left, copy.top]
                for face in detector(copy.pixels)[:1]:
                    crop = crop_from_landmarks(face.landmarks68 * copy.factor + shift)
                    names.append(path.name)
                    photos.append(cut_crop(picture, crop, SIZE))
                    whole = face.points[:, :2] * copy.factor + shift
                    points.append(crop.to_crop(whole, SIZE))
        found = Portraits(names, np.stack(photos).astype(np.uint8), np.stack(points))
        if kept is not None:
            np.savez(kept, names=np.array(names), photos=found.photos, points=found.points)
        return found
    with np.load(kept) as table:
        return Portraits([str(n) for n in table["names"]], table["photos"], table["points"])


@dataclass(frozen=True)
class Pair:
    """Two photographs of one person.

    Attributes:
        portrait: a file portrait_*.
        directory: a file directory_*.
        distance: of their embeddings.
        likeness: correlation of the middles of their chips in grey, of one of them mirrored if that is more.
    """

    portrait: str
    directory: str
    distance: float
    likeness: float = 0.0

    @property
    def is_one_photograph(self) -> bool:
        """Whether both are one photograph, or two of one moment."""
        return self.likeness > SAME_PHOTOGRAPH or self.distance < NEAREST


def find_pairs(people: Portraits) -> tuple[list[Pair], list[float]]:
    """Which portrait_* and directory_* pictures are each other's nearest, the nearest first.

    Returns:
        All such pairs; the distances of all pairs of two portrait_* pictures, which show different people.
    """
    embeddings = embed(people.photos, people.landmarks68)
    names = people.names
    first, second = (
        [k for k, name in enumerate(names) if name.startswith(kind)]
        for kind in ("portrait_", "directory_")
    )
    away = torch.cdist(embeddings[first], embeddings[second])
    nearest, back = away.argmin(1).tolist(), away.argmin(0).tolist()
    found = []
    for k, j in enumerate(nearest):
        if back[j] == k:
            a, b = first[k], second[j]
            likeness = _likeness(people, a, b)
            found.append(Pair(names[a], names[b], away[k, j].item(), likeness))
    rows, columns = np.triu_indices(len(first), 1)
    within = torch.cdist(embeddings[first], embeddings[first])[rows, columns]
    return sorted(found, key=lambda pair: pair.distance), within.tolist()


def _likeness(people: Portraits, a: int, b: int) -> float:
    images = _floats(torch.from_numpy(people.photos[[a, b]]))
    chips = cut_chips(images, torch.from_numpy(people.landmarks68[[a, b]])).mean(1)
    x, y = chips[:, 25:125, 25:125].numpy()
    return float(max(np.corrcoef(x.ravel(), other.ravel())[0, 1] for other in (y, y[:, ::-1])))


def pairs(people: Portraits, out: str) -> None:
    """Write the pairs of different photographs of one person, and print how sure they are."""
    found, within = find_pairs(people)
    near = [pair for pair in found if pair.distance < SAME_PERSON]
    different = [pair for pair in near if not pair.is_one_photograph]
    with open(out, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["portrait", "directory", "distance"])
        table.writerows([p.portrait, p.directory, f"{p.distance:.4f}"] for p in different)
    kinds = ("portrait_", "directory_")
    counts = [sum(name.startswith(kind) for name in people.names) for kind in kinds]
    print(f"{counts[0]} portrait_*, {counts[1]} directory_*\n")
    print(f"| nearer than | pairs | of {len(within):,} pairs of two portrait_* |\n|---|---|---|")
    for limit in (0.3, 0.35, 0.4, 0.45, 0.5, 0.6):
        count = sum(pair.distance < limit for pair in found)
        print(f"| {limit} | {count} | {sum(d < limit for d in within)} |")
    print(
        f"\n{len(different)} pairs of different photographs nearer than {SAME_PERSON} in {out}; "
        f"{len(near) - len(different)} more are one photograph twice and left out"
    )


def read_pairs(path: str) -> list[Pair]:
    """The pairs of a table that `pairs` wrote."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Pair(r["portrait"], r["directory"], float(r["distance"])) for r in csv.DictReader(file)
        ]


@dataclass(frozen=True)
class RenderRecall:
    """Top-1 and top-5 of renders of fitted faces among people, of each of whom there are two photographs.

    Attributes:
        people: in each gallery.
        fitted: gallery of the photographs that were fitted.
        other: gallery of another photograph of each person.
        fitted_without_means: as `fitted`, but see `without_means`.
        other_without_means: as `other`.
    """

    people: int
    fitted: tuple[float, float]
    other: tuple[float, float]
    fitted_without_means: tuple[float, float]
    other_without_means: tuple[float, float]


def recall_of_renders(
    renders: Tensor, names: Sequence[str], people: Portraits, chosen: Sequence[Pair]
) -> RenderRecall:
    """How many renders are recognised.

    Args:
        renders: embeddings of renders, on grey, of faces fitted to portrait_* pictures, [N, 128].
        names: which picture each was fitted to, [N]; of one picture there may be several renders.
        people: the portraits.
        chosen: pairs of different photographs, as `read_pairs` gives; all of them are the gallery.

    Raises:
        ValueError: a picture is not in the pairs.
    """
    place = {pair.portrait: k for k, pair in enumerate(chosen)}
    unknown = sorted(set(names) - set(place))
    if unknown:
        raise ValueError(f"recall_of_renders: {unknown[0]} is in none of the {len(chosen)} pairs")
    same = [place[name] for name in names]
    results = []
    for kind in ("portrait", "directory"):
        rows = people.rows([getattr(pair, kind) for pair in chosen])
        gallery = embed(people.photos[rows], people.landmarks68[rows])
        results += [
            recall(renders, gallery, same),
            recall(*without_means(renders, gallery), same),
        ]
    return RenderRecall(len(chosen), results[0], results[2], results[1], results[3])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("pairs",))
    parser.add_argument("--data", default=os.environ.get("MOFA_NVDR_DATA", "../shared/data"))
    parser.add_argument("--crops", type=Path, help="crops and points of all portraits (.npz)")
    parser.add_argument("--out", default="pairs.csv", help="of pairs: the table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    facts = machine_facts(torch.device("cpu"))
    print("; ".join(f"{name} {value}" for name, value in facts.items()) + "\n")
    people = portraits(Path(options.data), options.crops)
    if options.what == "pairs":
        pairs(people, options.out)


if __name__ == "__main__":
    main()
