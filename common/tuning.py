"""The smallest search parameter that reaches a target recall: found by search, with a proof.

    def recalls(ef):
        hits = client.search(name, tuning_queries, search_params={"params": {"ef": ef}}, ...)
        return sample.recall([[hit["id"] for hit in each] for each in hits])

    tuned = smallest_reaching(recalls, target=0.95, low=10, high=2048)

The recall of a sample of queries is off by the luck of the draw. Whoever tries values one after the
other and stops at the first whose mean reaches the target often stops at one that was merely lucky:
the mean of what was chosen for being high is too high, and on new queries about one such choice in
three falls short (of ef, for 0.95 with 1,000 queries, measured). So a value counts here only when a
lower bound of the mean, which chance exceeds once in a hundred times, reaches the target. Confirm
the choice on queries that had no part in it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.display import table
from common.vector_sets import VectorSet, vector_set
from common.vectors import clustered_vectors

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

CONFIDENCE = 0.99

# The largest share of the wealth that may be staked on one value; the paper suggests 1/2 or 3/4.
_MOST_STAKED = 0.75


@dataclass(frozen=True)
class Trial:
    """What a value of the parameter gave: the mean recall of the queries, and its lower bound."""

    value: int
    mean: float
    bound: float


@dataclass(frozen=True)
class Tuned:
    """The outcome of a search over a parameter.

    Attributes:
        chosen: the smallest value whose bound reaches the target.
        trials: all values that were tried, in the order of the values.
        target: the mean recall that was asked for.
        queries: how many queries each value was tried with.
        confidence: of the bounds.
    """

    chosen: Trial
    trials: tuple[Trial, ...]
    target: float
    queries: int
    confidence: float


class TargetNotReached(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """No value in the range reaches the target; the message has the best and what to do.

    Attributes:
        best: the trial with the highest bound.
        trials: all of them, in the order of the values.
    """

    exit_code = 1  # the message is made for people: no traceback around it

    def __init__(self, message: str, trials: tuple[Trial, ...]) -> None:
        super().__init__(message)
        self.trials = trials
        self.best = max(trials, key=lambda trial: (trial.bound, trial.mean))


def tuning_sample(
    path: str | Path | None,
    *,
    rows: int,
    queries: int,
    dimension: int = 64,
    k: int = 10,
    column: str | None = None,
    seed: int = 0,
) -> VectorSet:
    """Rows and twice `queries` held-out queries: half to tune with, half to confirm (`halves`).

    Without a file the rows lie in 50 clusters so wide that they run into each other. In clusters
    that keep apart, all neighbours of a query lie in one: whatever ef and nprobe are, an index
    finds them, and there would be nothing to tune.

    Args:
        path, rows, dimension, k, column, seed: as for `vector_set`.
        queries: of each half; of a file's own queries, at most as many as it has.

    Raises:
        VectorFileError, ValueError: as `vector_set`.
    """
    if path is not None:
        options = {"rows": rows, "queries": 2 * queries, "k": k, "column": column, "seed": seed}
        return vector_set(path, **options)
    drawn = clustered_vectors(rows + 2 * queries, dimension, clusters=50, spread=1.5, seed=seed)
    name = f"{rows:,} clustered vectors of {dimension} dimensions"
    return VectorSet(name, drawn[:rows], drawn[rows:], "COSINE", k)


def halves(sample: VectorSet) -> tuple[slice, slice]:
    """The queries to tune with, and those that only confirm what was chosen."""
    middle = len(sample.queries) // 2
    return slice(0, middle), slice(middle, 2 * middle)


def mean_lower_bound(values: ArrayLike, confidence: float = CONFIDENCE) -> float:
    """Return a number that the true mean of bounded values exceeds at the confidence (one-sided).

    Recalls lie between 0 and 1, are multiples of 1/k, and pile up at 1 with a few far below. A
    bound by the t distribution or a bootstrap takes the scatter that it saw for all there is: of
    100 queries of which one in a hundred fails, more than a third show no failure at all, and
    these bounds then promise a recall of 1. So this one is by betting, which holds for values
    between 0 and 1 of any distribution and for any number of them: somebody bets that the mean is
    higher than m, staking each time what the values before make advisable. Were the mean m or
    less, the bets would multiply his money by 1 / (1 - confidence) at most with the probability
    1 - confidence. The bound is the largest m at which they did. It lies about 3 standard errors
    below the mean where a t bound lies 2.3.

    Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
    Journal of the Royal Statistical Society B 86 (2024): the capital process, one-sided, with
    stakes for a fixed number of values.

    Args:
        values: independent draws between 0 and 1, shape (n,), in an order that does not depend on
            them: for recalls, that of the queries.
        confidence: over 0 and under 1.

    Raises:
        ValueError: no values, one outside 0 to 1 or NaN, or a confidence out of its range.
    """
    sample = _checked(values, confidence)
    goal = -math.log1p(-confidence)
    numbers = np.arange(1, len(sample) + 1)
    means = (0.5 + np.cumsum(sample)) / (numbers + 1)
    variances = (0.25 + np.cumsum((sample - means) ** 2)) / (numbers + 1)
    known = np.concatenate([[0.25], variances[:-1]])  # a stake may not know the value it is put on
    stakes = np.sqrt(2 * goal / (len(sample) * known))

    def over_goal(m: float) -> float:
        return float(np.log1p(np.minimum(stakes, _MOST_STAKED / m) * (sample - m)).sum()) - goal

    least = 1e-9
    return float(brentq(over_goal, least, 1.0, xtol=1e-9)) if over_goal(least) > 0 else 0.0


def provable_recall(queries: int, confidence: float = CONFIDENCE) -> float:
    """Return the highest bound that so many queries can give: that of a recall of 1 for each.

    A higher target cannot be shown with them, however good the index is.
    """
    return mean_lower_bound(np.ones(queries), confidence)


def smallest_reaching(
    recalls: Callable[[int], ArrayLike],
    target: float,
    low: int,
    high: int,
    *,
    confidence: float = CONFIDENCE,
) -> Tuned:
    """Find the smallest value of a parameter whose mean recall reaches a target.

    Recall rises with ef, nprobe and reorder_k. So the value is doubled, from `low` on, until it is
    enough, and then the gap to the last that was not is halved until nothing lies between. For a
    choice of 500 from 10 on that makes 15 trials. What is chosen passes, and the value
    below it fails. "Passes" means that the lower bound of the mean (`mean_lower_bound`), and not
    the mean, reaches the target: picking the smallest value whose sample mean does is biased, for
    it takes what was lucky. All values meet the same queries, so a value that falls short passes
    with a probability of about 1 - confidence, although several are tried.

    Args:
        recalls: searches with a value and returns the recall of each query, shape (n,), the same
            queries in the same order each time.
        target: the mean recall to reach, over 0 and at most 1.
        low, high: the smallest and the largest value to try, at least 1.
        confidence: of the lower bound.

    Raises:
        TargetNotReached: not even `high` passes.
        ValueError: an argument, or a recall, out of its range.
    """
    if not 0 < target <= 1:
        raise ValueError(f"target must be over 0 and at most 1, not {target}")
    if not 1 <= low <= high:
        raise ValueError(f"1 <= low <= high does not hold for {low} and {high}")
    trials: dict[int, Trial] = {}
    queries = 0

    def passes(value: int) -> bool:
        nonlocal queries
        found = np.asarray(recalls(value), dtype=np.float64)
        queries = len(found)
        bound = mean_lower_bound(found, confidence)
        trials[value] = Trial(value, float(found.mean()), bound)
        return bound >= target

    failed, value = low - 1, low
    while not passes(value):
        if value == high:
            tried = tuple(trials[each] for each in sorted(trials))
            raise TargetNotReached(_why_not(tried, target, queries, confidence), tried)
        failed, value = value, min(2 * value, high)
    while value - failed > 1:
        middle = (failed + value) // 2
        if passes(middle):
            value = middle
        else:
            failed = middle
    tried = tuple(trials[each] for each in sorted(trials))
    return Tuned(trials[value], tried, target, queries, confidence)


def show_trials(tuned: Tuned, index: str, parameter: str) -> None:
    """Print what was tried: for each value the mean, the bound and whether that is enough."""
    rows = [
        (each.value, f"{each.mean:.4f}", f"{each.bound:.4f}", each.bound >= tuned.target)
        for each in tuned.trials
    ]
    columns = (
        parameter,
        "mean recall",
        f"{100 * tuned.confidence:g} % lower bound",
        f"surely {tuned.target:g}",
    )
    table(f"Tried on {tuned.queries:,} queries: {index}", columns, rows)


def _checked(values: ArrayLike, confidence: float) -> np.ndarray:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) == 0:
        raise ValueError(f"a bound needs a list of values, not the shape {sample.shape}")
    wrong = ~((sample >= 0) & (sample <= 1))  # true for NaN, too
    if wrong.any():
        position = int(np.argmax(wrong))
        raise ValueError(f"value {position} is {sample[position]}; it must lie between 0 and 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not at {confidence}")
    return sample


def _why_not(trials: tuple[Trial, ...], target: float, queries: int, confidence: float) -> str:
    best = max(trials, key=lambda trial: (trial.bound, trial.mean))
    most = provable_recall(queries, confidence)
    said = (
        f"no value up to {trials[-1].value:,} reaches a recall of {target:g}: the best is "
        f"{best.value:,} with {best.mean:.4f} on {queries:,} queries, of which {best.bound:.4f} "
        f"is sure at {100 * confidence:g} %."
    )
    if target == 1:
        return f"{said} No sample proves a recall of 1: use FLAT, which compares every row."
    if target > most:
        return (
            f"{said} So few queries prove {most:.4f} at the most, even if each finds all: take "
            "more queries, or a lower target."
        )
    return (
        f"{said} Allow higher values, build the index anew with finer parameters (a larger M and "
        "efConstruction, fewer clusters), choose one that keeps whole vectors (HNSW and IVF_FLAT "
        "do, IVF_PQ and IVF_SQ8 do not), or lower the target."
    )
