"""Thresholds and shares, against cases worked by hand."""

import math

from common.calibration import calibrate, choose_threshold, halves, share

import numpy as np
import pytest


def wilson(hits: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's formula as it stands in his paper."""
    p, n = hits / total, total
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half


@pytest.mark.parametrize(("hits", "total"), [(0, 20), (3, 60), (182, 200), (20, 20), (1, 1)])
def test_a_share_with_its_wilson_interval(hits: int, total: int) -> None:
    found = share([True] * hits + [False] * (total - hits))
    assert (found.count, found.total, found.value) == (hits, total, hits / total)
    assert (found.low, found.high) == pytest.approx(wilson(hits, total), abs=1e-9)
    assert 0 <= found.low < found.high <= 1


def test_a_share_as_text() -> None:
    assert str(share([True] * 9 + [False])) == "0.900 (0.60 to 0.98)"
    with pytest.raises(ValueError, match="no questions"):
        share([])


def test_the_lowest_threshold_that_lets_few_enough_through() -> None:
    scores = [0.9, 0.2, 0.8, 0.7, 0.6, 0.5]
    known = [True, True, False, False, False, False]
    assert choose_threshold(scores, known, 0.0) == 0.8  # none of the four is above it
    assert choose_threshold(scores, known, 0.25) == 0.7  # one of four
    assert choose_threshold(scores, known, 0.49) == 0.7
    assert choose_threshold(scores, known, 0.5) == 0.6


def test_what_chooses_no_threshold() -> None:
    with pytest.raises(ValueError, match="without a question that has no answer"):
        choose_threshold([0.5], [True], 0.1)
    with pytest.raises(ValueError, match="within 0 and 1"):
        choose_threshold([0.5], [False], 1.0)
    with pytest.raises(ValueError, match="one score and one truth"):
        choose_threshold([0.5, 0.6], [False], 0.1)
    with pytest.raises(ValueError, match="score 1 is NaN"):
        choose_threshold([0.5, math.nan], [False, True], 0.1)


def test_each_half_is_judged_by_the_threshold_of_the_other() -> None:
    scores = np.array([0.9, 0.5, 0.4, 0.8, 0.7, 0.6])
    known = np.array([True, True, False, True, True, False])
    first = np.array([True, True, True, False, False, False])
    found = calibrate(scores, known, first, 0.0)
    assert found.thresholds == (0.4, 0.6)
    # The first half by 0.6: only 0.9. The second half by 0.4: all, also the one without an answer.
    assert found.answered.tolist() == [True, False, False, True, True, True]
    assert found.middle == pytest.approx(0.5)


def test_halves_keep_groups_together_and_cut_each_kind() -> None:
    groups = [n // 2 for n in range(40)] + list(range(10)) + list(range(6))
    strata = ["paraphrase"] * 40 + ["near"] * 10 + ["far"] * 6
    first = halves(groups, strata)
    assert first[:40:2].tolist() == first[1:40:2].tolist()
    assert [int(first[part].sum()) for part in (slice(40), slice(40, 50), slice(50, 56))] == [
        20, 5, 3,
    ]  # fmt: skip
    assert halves(groups, strata).tolist() == first.tolist()
    assert halves(groups, strata, seed=1).tolist() != first.tolist()
    with pytest.raises(ValueError, match="3 questions with 2 kinds"):
        halves([1, 2, 3], ["a", "b"])
