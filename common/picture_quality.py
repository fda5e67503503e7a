"""How good searches for pictures are: neighbours by category, known pictures by their tags.

The searches themselves are given as functions, so that a script shows its own calls of Milvus.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from common.album import Album, Item
from common.display import left_out, table
from common.evaluation import hit_rate_at
from common.filters import where
from common.planted_pictures import PLANTED, Mixture, distances, roc_auc
from common.ranking_quality import Ranking, Rated, draw_quality, show_differences, show_quality
from common.vectors import Float64, exact_search

import numpy as np

Search = Callable[[Sequence[int], int, str], list[Ranking]]
"""Searches with the vectors of these rows, for so many hits that fulfil a condition."""

PRECISION, RECALL = "precision@5", "recall@10"
NOT_CENTRED = "look, mean not taken away"


def without(rankings: Sequence[Ranking], ids: Sequence[int], limit: int) -> list[list]:
    """Rankings without the picture that each of them was searched with, cut to `limit`."""
    return [
        [hit for hit in ranking if hit[0] != own][:limit]
        for ranking, own in zip(rankings, ids, strict=True)
    ]


def same_category(
    album: Album, rankings: Sequence[Ranking], items: Sequence[Item], limit: int
) -> list[float]:
    """For each item the share of the first `limit` hits that is of its category (precision)."""
    return [
        sum(album.item(number).category == item.category for number, _ in ranking[:limit]) / limit
        for ranking, item in zip(rankings, items, strict=True)
    ]


def chance(items: Sequence[Item]) -> list[float]:
    """The share that `same_category` expects of hits drawn blindly from the other items."""
    counts = Counter(item.category for item in items)
    return [(counts[item.category] - 1) / (len(items) - 1) for item in items]


def rate_neighbours(
    album: Album, ways: Mapping[str, Search], base: str, chart: str
) -> dict[str, Rated]:
    """Judge by category what is near to each picture; print, and draw the first part.

    Args:
        album: the pictures.
        ways: the searches, by name.
        base: the one that the others are compared with.
        chart: the name of its file.

    Returns:
        For all pictures ("all") and for those outside of the largest category ("without ..."),
        where pictures of that category are no hits either: for each way the precision, one value
        for each picture. Besides: what blind drawing expects ("chance"), and the vectors as the
        encoder gave them, by exact search, since they are in no collection (NOT_CENTRED).
    """
    sizes = Counter(album.categories)
    if len(sizes) < 2:
        left_out("neighbours of the same category", "all pictures are of one")
        return {}
    largest = sizes.most_common(1)[0][0]
    rest = where("category != {category}", category=largest)
    found = {}
    for part, condition in (("all", ""), (f"without {largest}", rest)):
        items = [item for item in album.items if not condition or item.category != largest]
        if len({item.category for item in items}) < 2:
            continue  # two categories in all
        ids = [item.id for item in items]
        rows = [album.row(number) for number in ids]
        rated = {"chance": {PRECISION: chance(items)}}
        for way, search in ways.items():
            hits = without(search(rows, 6, condition), ids, 5)
            rated[way] = {PRECISION: same_category(album, hits, items, 5)}
            if way == base:  # so that it stands beside the one that is centred
                raw = _not_centred(album, ids)
                rated[NOT_CENTRED] = {PRECISION: same_category(album, raw, items, 5)}
        show_quality(f"Neighbours of the same category, {part}: mean (95 % interval)", rated)
        show_differences(rated, base, PRECISION)
        found[part] = rated
    title = f"Neighbours of the same category, {len(album.items):,} pictures"
    draw_quality(title, found["all"], PRECISION, base, chart)
    return found


def rate_known(
    album: Album, language: str, rankings: Mapping[str, Sequence[Ranking]], base: str
) -> Rated:
    """Judge searches for one known picture each: is it among the first ten? Printed.

    Args:
        album: the pictures; query i means picture i.
        language: of the queries.
        rankings: from the name of a way to its ranking for each query.
        base: the way that the others are compared with.
    """
    count = len(album.items)
    rated = {"chance": {RECALL: [min(1.0, 10 / count)] * count}}
    for way, answers in rankings.items():
        pairs = zip(answers, album.items, strict=True)
        hits = [hit_rate_at([n for n, _ in ranking], {item.id}) for ranking, item in pairs]
        rated[way] = {RECALL: hits}
    title = f"Is a picture found by its tags ({language}) among the first ten? Mean (95 % interval)"
    show_quality(title, rated)
    show_differences(rated, base, RECALL)
    return rated


def rate_strangers(mixed: Mixture, search: Search, neighbours: Sequence[int]) -> dict[str, float]:
    """Tell photographs from drawings by the distance to the nearest: the ROC-AUC of each way.

    Among all pictures the photographs count as neighbours of each other; among those known to be
    good they do not. Nothing is rated where no photographs were added.
    """
    rows, found = range(len(mixed.labels)), {}
    if not mixed.strange.any():
        left_out("strangers", "your pictures may be photographs, as the planted ones are")
        return found
    good = where("category != {planted}", planted=PLANTED)
    for k in neighbours:
        for name, condition in (("all", ""), ("the known good", good)):
            scores = _distances(search, rows, k, condition)
            found[f"{k} nearest of {name}"] = roc_auc(scores, mixed.strange)
    title = f"{mixed.strange.sum()} photographs among {(~mixed.strange).sum()} pictures"
    table(title, ("distance to the", "ROC-AUC"), found.items())
    return found


def rate_labels(mixed: Mixture, search: Search, k: int) -> tuple[dict[str, float], Float64]:
    """Tell wrong labels by the distance to the k nearest: the ROC-AUC of each way.

    Returns:
        The AUCs, and for each picture the distance to the nearest of its label minus that to the
        nearest of the others, shape (pictures,).
    """
    rows = np.flatnonzero(~mixed.strange)
    if not mixed.wrong.any():
        left_out("wrong labels", "all pictures are of one category")
        return {}, np.zeros(len(rows))
    good = where("category != {planted}", planted=PLANTED)
    own, others = np.empty(len(rows)), np.empty(len(rows))
    for label in sorted(set(mixed.labels[rows].tolist())):
        inside = rows[mixed.labels[rows] == label]
        same = where("category == {label}", label=label)
        other = where("category != {label} and {good}", label=label, good=good)
        own[inside] = _distances(search, inside, k, same)
        others[inside] = _distances(search, inside, k, other)
    scores = {
        f"{k} nearest of any label": _distances(search, rows, k, good),
        f"{k} nearest of its label": own,
        f"{k} nearest of its label - of others": own - others,
    }
    wrong = mixed.wrong[rows]
    found = {way: roc_auc(values, wrong) for way, values in scores.items()}
    title = f"{wrong.sum()} wrong labels among {len(rows)} pictures"
    table(title, ("distance to the", "ROC-AUC"), found.items())
    return found, own - others


def _not_centred(album: Album, ids: Sequence[int]) -> list[list]:
    vectors = album.raw[[album.row(number) for number in ids]]
    near, scores = exact_search(vectors, vectors, min(6, len(ids)))
    rankings = [
        [(ids[row], float(score)) for row, score in zip(*each, strict=True)]
        for each in zip(near, scores, strict=True)
    ]
    return without(rankings, ids, 5)


def _distances(search: Search, rows: Sequence[int], k: int, condition: str) -> Float64:
    return distances(without(search(rows, k + 1, condition), rows, k))
