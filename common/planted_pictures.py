"""Pictures and labels that are known to be wrong: what finds them can be measured.

Copies of a picture as they come back to a collection, photographs among drawings, and labels that
are not a picture's own.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from common.album import Album, Item
from common.images import Picture, read_picture
from common.ranking_quality import Ranking
from common.vectors import Float32, Float64

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

COPIES = ("same pixels", "mirrored", "framed", "half size", "turned 10°", "cropped", "JPEG 85")
PLANTED = "planted photograph"  # the category of what belongs to none


def copies(picture: Picture) -> dict[str, Picture]:
    """The same picture as it may come back: from the name of a change (COPIES) to the copy."""
    image = picture.image
    width, height = image.size
    x, y = width // 12, height // 12
    half = image.resize((max(8, width // 2), max(8, height // 2)), Image.Resampling.BICUBIC)
    changed = {
        "same pixels": image.copy(),
        "mirrored": ImageOps.mirror(image),
        "framed": ImageOps.expand(image, max(1, width // 10), "white"),
        "half size": half,
        "turned 10°": image.rotate(10, Image.Resampling.BICUBIC, fillcolor="white"),
        "cropped": image.crop((x, y, width - x, height - y)),
    }
    found = {name: Picture(picture.name, copy, copy.size) for name, copy in changed.items()}
    return found | {"JPEG 85": _as_jpeg(picture, 85)}


class Copies(NamedTuple):
    """How the copies of one kind were found, out of all of that kind.

    Attributes:
        same_digest: how many have the digest of a stored picture.
        nearest: how many found their original first.
        median_score: of a copy with its original; 0 for one that was not found.
        near: how many score as near duplicates with their original.
    """

    same_digest: int
    nearest: int
    median_score: float
    near: int


def judge_copies(
    originals: Sequence[Item],
    pictures: Sequence[Picture],
    known: Sequence[Mapping[str, str]],
    rankings: Sequence[Ranking],
    near: float,
) -> Copies:
    """How copies of one kind were found.

    Args:
        originals: what the copies were made of.
        pictures: the copies, in the same order.
        known: rows of stored pictures with the field `digest`.
        rankings: what a search with each copy found.
        near: the score from which on two pictures are called the same.
    """
    pairs = list(zip(rankings, originals, strict=True))
    scores = [dict(ranking).get(item.id, 0.0) for ranking, item in pairs]
    digests = {row["digest"] for row in known}
    return Copies(
        sum(picture.digest in digests for picture in pictures),
        # A twin of the original, pixel for pixel, may stand before it at the same score.
        sum(
            math.isclose(ranking[0][1], score, abs_tol=1e-6)
            for ranking, score in zip(rankings, scores, strict=True)
        ),
        median(scores),
        sum(score >= near for score in scores),
    )


def near_pairs(
    album: Album, rankings: Sequence[Ranking], near: float
) -> list[tuple[int, int, float]]:
    """Pairs of pictures that score `near` or more: both ids and the score, best first.

    Args:
        album: the pictures.
        rankings: what a search with each of them found.
        near: see above.
    """
    pairs = {
        (min(item.id, other), max(item.id, other)): score
        for item, ranking in zip(album.items, rankings, strict=True)
        for other, score in ranking
        if item.id != other and score >= near
    }
    return sorted(((*ids, score) for ids, score in pairs.items()), key=lambda pair: -pair[2])


@dataclass(frozen=True)
class Mixture:
    """Pictures of an album, some with a wrong category, and photographs among them.

    Attributes:
        vectors: float32 of shape (rows, dimension); row i is stored under the id i.
        labels: the category of each row; that of a photograph is PLANTED.
        wrong: whether a row has a category that is not its own.
        strange: whether a row is a photograph.
    """

    vectors: Float32
    labels: NDArray[np.str_]
    wrong: NDArray[np.bool_]
    strange: NDArray[np.bool_]

    def rows(self) -> Iterator[dict[str, object]]:
        """The rows as Milvus takes them, with the fields of `Album.rows`; most texts are empty."""
        empty = dict.fromkeys(("name", "label_en", "label_ko", "digest"), "")
        for number, label in enumerate(self.labels):
            yield {"id": number, "category": str(label), "look": self.vectors[number], **empty}


def mix(album: Album, photographs: int, share: float, seed: int = 0) -> Mixture:
    """Give a share of the pictures a wrong category, and add pieces of photographs to drawings.

    No photographs are added to pictures that may be some themselves: they would be no strangers.
    And no category is wrong where there is only one.
    """
    labels, wrong = album.categories, np.zeros(len(album.items), bool)
    if len(set(labels)) > 1:
        labels, wrong = mislabel(labels, share, seed)
    photographs = photographs if album.drawings else 0
    look = album.spaces["look"]
    strange = album.encode(photograph_crops(photographs, seed=seed)) if photographs else look[:0]
    return Mixture(
        np.concatenate([look, strange]),
        np.array([*labels, *[PLANTED] * photographs]),
        np.append(wrong, np.zeros(photographs, bool)),
        np.arange(len(labels) + photographs) >= len(labels),
    )


def distances(rankings: Sequence[Ranking]) -> Float64:
    """1 - cosine, averaged over the hits of each ranking; 1 where there are none."""
    return np.array([1 - np.mean([score for _, score in hits] or [0.0]) for hits in rankings])


def photograph_crops(count: int, side: int = 64, seed: int = 0) -> list[Picture]:
    """Square pieces of the two photographs, a temple and a flower, that scikit-learn carries."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    generator, found = np.random.default_rng(seed), []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        x, y = (int(generator.integers(length - 2 * side)) for length in photograph.size)
        piece = photograph.crop((x, y, x + 2 * side, y + 2 * side)).resize((side, side))
        found.append(Picture(f"photograph {number}", piece, piece.size))
    return found


def mislabel(
    labels: Sequence[str], share: float, seed: int = 0
) -> tuple[list[str], NDArray[np.bool_]]:
    """Give a share of the rows the label of some other category, drawn at random.

    Returns:
        The labels after that, and for each row whether its label is wrong.

    Raises:
        ValueError: there are fewer than two different labels, or `share` is not within 0 and 1.
    """
    different = sorted(set(labels))
    if len(different) < 2 or not 0 < share < 1:
        raise ValueError(f"{len(different)} categories and a share of {share}: need 2 and 0 to 1")
    generator = np.random.default_rng(seed)
    count = max(1, round(share * len(labels)))
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[generator.choice(len(labels), count, replace=False)] = True
    changed = [
        str(generator.choice([other for other in different if other != label])) if bad else label
        for label, bad in zip(labels, wrong, strict=True)
    ]
    return changed, wrong


def roc_auc(scores: ArrayLike, wrong: ArrayLike) -> float:
    """How well scores tell the wrong from the rest: the area under the ROC curve, 0 to 1.

    It is the chance that a wrong one, drawn at random, scores higher than a right one: 0.5 is
    guessing, and below that the score points the other way.

    Raises:
        ValueError: all are wrong, or none is.
    """
    from sklearn.metrics import roc_auc_score

    marks = np.asarray(wrong, dtype=bool)
    if marks.all() or not marks.any():
        raise ValueError("an AUC needs both: wrong ones and right ones")
    return float(roc_auc_score(marks, np.asarray(scores)))


def _as_jpeg(picture: Picture, quality: int) -> Picture:
    buffer = io.BytesIO()
    picture.image.save(buffer, "JPEG", quality=quality)
    return read_picture(buffer.getvalue(), picture.name)
