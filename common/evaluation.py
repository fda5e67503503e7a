"""How good a ranking is, when for each query the relevant documents are known.

Each measure takes one query; average over the queries with `mean_with_interval`, which also tells
how far the mean could be off by the luck of which queries were asked.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

Choice = TypeVar("Choice", bound=Hashable)


class MeanWithInterval(NamedTuple):
    """A mean and the interval that holds it at the chosen confidence."""

    mean: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the interval, its ends included."""
        return self.low <= value <= self.high


def ndcg_at(ranked: Iterable[Hashable], relevant: Set[Hashable], k: int = 10) -> float:
    """Return the normalised discounted cumulative gain of the first k results, 0 to 1.

    Relevance is binary: a relevant document at rank r (from 1) gains 1 / log2(r + 1). The sum is
    divided by that of the best ranking possible, which has min(k, number of relevant documents)
    relevant ones in front (Järvelin and Kekäläinen, 2002, with gains of 0 and 1).

    Args:
        ranked: the ids that were found, best first; may be shorter than k.
        relevant: the ids that should be found.
        k: how many results count.

    Raises:
        ValueError: an id stands twice in `ranked`, `relevant` is empty, or k is below 1.
    """
    hits = _hits(ranked, relevant, k)
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits, start=1) if hit)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return gain / best


def hit_rate_at(ranked: Iterable[Hashable], relevant: Set[Hashable], k: int = 10) -> float:
    """Return 1.0 if a relevant document is among the first k results, else 0.0.

    The mean over queries is the hit rate. Raises what `ndcg_at` raises.
    """
    return float(any(_hits(ranked, relevant, k)))


def recall_at(ranked: Iterable[Hashable], relevant: Set[Hashable], k: int = 10) -> float:
    """Return the share of the relevant documents that is among the first k results, 0 to 1.

    With more than k relevant ones 1 is out of reach. Raises what `ndcg_at` raises.
    """
    return sum(_hits(ranked, relevant, k)) / len(relevant)


def reciprocal_rank(
    ranked: Iterable[Hashable], relevant: Set[Hashable], k: int | None = None
) -> float:
    """Return 1 / the rank of the first relevant result among the first k (all), or 0.0 without one.

    The mean over queries is the MRR. Raises what `ndcg_at` raises.
    """
    for rank, hit in enumerate(_hits(ranked, relevant, k), start=1):
        if hit:
            return 1 / rank
    return 0.0


def mean_with_interval(
    values: ArrayLike, confidence: float = 0.95, *, seed: int = 0, resamples: int = 10_000
) -> MeanWithInterval:
    """Return the mean of `values` with its percentile bootstrap interval.

    The values are drawn anew with replacement, as often as there are values, and averaged; the
    interval is where the middle `confidence` of those means lies (Efron, 1979).

    Args:
        values: one number for each query, shape (n,) with n at least 2.
        confidence: between 0 and 1.
        seed: the same seed gives the same interval.
        resamples: how many means are drawn.

    Raises:
        ValueError: fewer than two values, NaN or infinity among them, or a confidence outside 0..1.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2:
        raise ValueError(f"an interval needs a list of at least 2 values, not {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"value {int(np.argmin(np.isfinite(sample)))} is NaN or infinity")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not at {confidence}")
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    at_once = max(1, 1_000_000 // len(sample))  # keeps the drawn numbers within a few megabytes
    for start in range(0, resamples, at_once):
        part = means[start : start + at_once]
        part[:] = sample[generator.integers(len(sample), size=(len(part), len(sample)))].mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return MeanWithInterval(float(sample.mean()), float(low), float(high))


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    confidence: float = 0.95,
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> MeanWithInterval:
    """Return the mean of `a` - `b` with its percentile bootstrap interval, query by query.

    Both systems answered the same queries, and a hard query is hard for both: the differences vary
    less than the values, so this interval tells more than two separate ones. Where it holds 0, the
    queries do not show which of the two is better.

    Args:
        a: one number for each query, shape (n,) with n at least 2.
        b: the same queries in the same order.
        confidence: between 0 and 1.
        seed: the same seed gives the same interval.
        resamples: how many means are drawn.

    Raises:
        ValueError: `a` and `b` differ in shape, or what `mean_with_interval` raises.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"both need one value for each query: {first.shape}, {second.shape}")
    return mean_with_interval(first - second, confidence, seed=seed, resamples=resamples)


def cross_fitted(values: Mapping[Choice, ArrayLike], seed: int = 0) -> list[Choice]:
    """Choose a setting for each query by the other half of the queries, never by the query itself.

    The queries are split at random into two halves. The setting with the best mean on one half is
    that of the other half, and the other way round; of equally good ones the first is taken. So
    no query is judged by a setting that it helped to choose.

    Args:
        values: from each setting to one number for each query, shape (n,), where more is better.
        seed: the same seed gives the same halves.

    Returns:
        For each query the setting to judge it by.

    Raises:
        ValueError: there is no setting, they have different numbers of values, or under 2.
    """
    choices = list(values)
    lengths = {len(np.asarray(values[choice])) for choice in choices}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(f"each setting needs as many values, at least 2, not {sorted(lengths)}")
    table = np.array([values[choice] for choice in choices], dtype=np.float64)
    order = np.random.default_rng(seed).permutation(table.shape[1])
    chosen = np.empty(len(order), dtype=np.int64)
    middle = len(order) // 2
    for judged, fitted in ((order[:middle], order[middle:]), (order[middle:], order[:middle])):
        chosen[judged] = table[:, fitted].mean(axis=1).argmax()
    return [choices[number] for number in chosen]


def _hits(ranked: Iterable[Hashable], relevant: Set[Hashable], k: int | None) -> Sequence[bool]:
    """Tell for each of the first k results whether it is relevant."""
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not relevant:
        raise ValueError("a query without relevant documents cannot be judged")
    ranked = list(ranked)
    seen: set[Hashable] = set()
    for rank, found in enumerate(ranked, start=1):
        if found in seen:
            raise ValueError(f"id {found!r} stands twice in the ranking, again at rank {rank}")
        seen.add(found)
    return [found in relevant for found in ranked[:k]]
