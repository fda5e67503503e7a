"""Several rankings of the same documents made into one, as the rankers of Milvus do it.

Where Milvus has hybrid_search() it does this itself; elsewhere these do the same in process.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

Id = TypeVar("Id", int, str)


def reciprocal_rank_fusion(
    rankings: Iterable[Sequence[tuple[Id, float]]], limit: int, k: int = 60
) -> list[tuple[Id, float]]:
    """Add up 1 / (k + rank) over the rankings in which a document stands; ranks begin at 1.

    Scores do not count, only places, so that rankings of any kind may be mixed. A large k makes
    the first places nearly alike, so that standing in several rankings decides; a small k lets
    the first place of one ranking win (Cormack, Clarke and Büttcher, 2009, who took 60).

    Args:
        rankings: each a list of (id, score), best first.
        limit: how many documents are returned at most.
        k: 1 or more.

    Returns:
        (id, fused score), best first, of equal ones the smaller id.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k is 1 or more, not {k}")
    fused: dict[Id, float] = {}
    for ranking in rankings:
        for rank, (found, _) in enumerate(ranking, start=1):
            fused[found] = fused.get(found, 0.0) + 1 / (k + rank)
    return _best(fused, limit)


def squeezed(score: float, metric: str) -> float:
    """A score of a search squeezed into 0 to 1, as WeightedRanker does with norm_score=True.

    Scores of different kinds cannot be added as they are: a cosine is below 1, a BM25 score may
    be 20. The arctangent knows no maximum, but it flattens: of BM25, 5 becomes 0.87 and 20 0.97.
    (Milvus, internal/util/function/chain/operator_merge.go.)

    Args:
        score: as the search returned it; for BM25 0 or more.
        metric: COSINE, IP, BM25, or L2, where less is better.

    Raises:
        ValueError: another metric.
    """
    match metric:
        case "COSINE":
            return (1 + score) / 2
        case "IP":
            return 0.5 + math.atan(score) / math.pi
        case "BM25":
            return 2 * math.atan(score) / math.pi
        case "L2":
            return 1 - 2 * math.atan(score) / math.pi
    raise ValueError(f"metric is COSINE, IP, BM25 or L2, not {metric!r}")


def weighted_fusion(
    rankings: Sequence[Sequence[tuple[Id, float]]],
    weights: Sequence[float],
    metrics: Sequence[str],
    limit: int,
) -> list[tuple[Id, float]]:
    """Add up weight times squeezed score; what a ranking does not hold gets nothing from it.

    Args:
        rankings: each a list of (id, score).
        weights: one for each ranking, 0 to 1.
        metrics: one for each ranking, see `squeezed`.
        limit: how many documents are returned at most.

    Returns:
        (id, fused score), best first, of equal ones the smaller id.

    Raises:
        ValueError: there are not as many weights and metrics as rankings, a weight lies outside
            0..1, or a metric is unknown.
    """
    if not len(weights) == len(metrics) == len(rankings):
        raise ValueError(
            f"{len(rankings)} rankings need as many weights and metrics, not {len(weights)} and "
            f"{len(metrics)}"
        )
    if not all(0 <= weight <= 1 for weight in weights):
        raise ValueError(f"weights lie within 0 and 1, not {list(weights)}")
    fused: dict[Id, float] = {}
    for ranking, weight, metric in zip(rankings, weights, metrics, strict=True):
        for found, score in ranking:
            fused[found] = fused.get(found, 0.0) + weight * squeezed(score, metric)
    return _best(fused, limit)


def _best(fused: dict[Id, float], limit: int) -> list[tuple[Id, float]]:
    return sorted(fused.items(), key=lambda item: (-item[1], item[0]))[:limit]
