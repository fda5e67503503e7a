"""When to say "I don't know": a threshold chosen on one half of the questions, judged on the other.

A threshold that is judged by the questions that chose it looks better than it is. So the questions
are cut in two, each half gets the threshold that the other one chose, and the figures are pooled.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bools = NDArray[np.bool_]


class Share(NamedTuple):
    """`count` of `total`, with the interval that holds the true share at 95 %."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.count / self.total

    def __str__(self) -> str:
        """Such as "0.900 (0.85 to 0.93)"."""
        return f"{self.value:.3f} ({self.low:.2f} to {self.high:.2f})"


def share(hits: ArrayLike) -> Share:
    """The share of True among truth values, with its Wilson score interval at 95 %.

    Unlike the plain normal interval it stays within 0 and 1, and it is not empty where all or none
    are True (Wilson, 1927); computed by SciPy.

    Raises:
        ValueError: there is no value.
    """
    from scipy.stats import binomtest  # takes half a second, which --help need not wait for

    values = np.asarray(hits, dtype=bool)
    if not values.size:
        raise ValueError("of no questions there is no share")
    count, total = int(values.sum()), int(values.size)
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return Share(count, total, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Calibration:
    """Two thresholds, each chosen on one half, and what they do on the other.

    Attributes:
        thresholds: chosen on the first half, chosen on the second half.
        first_half: which questions are in the first half.
        answered: which questions get an answer, by the threshold of the half they are not in.
    """

    thresholds: tuple[float, float]
    first_half: Bools
    answered: Bools

    @property
    def middle(self) -> float:
        """The mean of the two thresholds, for questions that are in neither half."""
        return sum(self.thresholds) / 2


def choose_threshold(scores: ArrayLike, has_answer: ArrayLike, most_false: float) -> float:
    """The lowest threshold that few enough questions without an answer get past.

    A question is answered if its score is above the threshold.

    Args:
        scores: of the best answer to each question, shape (n,).
        has_answer: whether the question has an answer at all, shape (n,).
        most_false: which share of those without one may be answered, 0 to below 1.

    Raises:
        ValueError: no question lacks an answer, `most_false` is out of range, or the shapes differ.
    """
    values, known = _same_length(scores, has_answer)
    without = np.sort(values[~known])[::-1]
    if not len(without):
        raise ValueError("without a question that has no answer no threshold can be chosen")
    if not 0 <= most_false < 1:
        raise ValueError(f"the share of false answers must lie within 0 and 1, not at {most_false}")
    return float(without[int(most_false * len(without))])


def calibrate(
    scores: ArrayLike, has_answer: ArrayLike, first_half: ArrayLike, most_false: float
) -> Calibration:
    """Choose a threshold on each half and apply it to the other.

    Args:
        scores, has_answer, most_false: as for `choose_threshold`.
        first_half: which questions are in the first half; see `halves`.

    Raises:
        ValueError: as for `choose_threshold`, for one of the halves.
    """
    values, known = _same_length(scores, has_answer)
    _, first = _same_length(scores, first_half)
    by_first = choose_threshold(values[first], known[first], most_false)
    by_second = choose_threshold(values[~first], known[~first], most_false)
    answered = values > np.where(first, by_second, by_first)
    return Calibration((by_first, by_second), first, answered)


def halves(groups: Sequence[Hashable], strata: Sequence[Hashable], seed: int = 0) -> Bools:
    """Cut questions in two at random: True for those of the first half.

    Args:
        groups: for each question its group, which stays together: two wordings of one question in
            different halves would be nearly the same question in both.
        strata: for each question its kind; each kind is cut in two by itself.
        seed: the same seed gives the same halves.

    Raises:
        ValueError: there are not as many strata as groups.
    """
    if len(groups) != len(strata):
        raise ValueError(f"{len(groups)} questions with {len(strata)} kinds")
    generator = np.random.default_rng(seed)
    first: set[tuple[Hashable, Hashable]] = set()
    pairs = list(zip(strata, groups, strict=True))
    for stratum in dict.fromkeys(strata):
        members = list(dict.fromkeys(pair for pair in pairs if pair[0] == stratum))
        order = generator.permutation(len(members))
        first.update(members[place] for place in order[: (len(members) + 1) // 2])
    return np.array([pair in first for pair in pairs], dtype=bool)


def _same_length(scores: ArrayLike, truths: ArrayLike) -> tuple[NDArray[np.float64], Bools]:
    values, known = np.asarray(scores, dtype=np.float64), np.asarray(truths, dtype=bool)
    if values.ndim != 1 or values.shape != known.shape:
        raise ValueError(f"one score and one truth for each: {values.shape}, {known.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"score {int(np.argmin(np.isfinite(values)))} is NaN or infinity")
    return values, known
