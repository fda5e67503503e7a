"""Search over a parameter, and the lower bound by which it chooses."""

from collections.abc import Callable

from common.tuning import (
    TargetNotReached,
    halves,
    mean_lower_bound,
    provable_recall,
    smallest_reaching,
    tuning_sample,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

shares = st.lists(st.integers(0, 10).map(lambda tenths: tenths / 10), min_size=1, max_size=80)


def curve(queries: int, needed: int) -> Callable[[int], np.ndarray]:
    """Recalls as an index gives them: rising, and 1 for each query from `needed` on."""
    limits = np.random.default_rng(3).integers(1, needed + 1, queries)
    return lambda value: np.minimum(1.0, value / limits)


def t_bound(values: np.ndarray) -> float:
    """What textbooks would take: the one-sided 99 % bound by the t distribution."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - stats.t.ppf(0.99, len(values) - 1) * error


@pytest.mark.parametrize(
    ("perfect", "queries"), [(0.99, 100), (0.98, 200), (0.995, 1_000), (0.5, 50)]
)
def test_the_bound_holds_also_where_recalls_are_skewed(perfect: float, queries: int) -> None:
    # Each query finds all or nothing, so that the true mean is known and as skewed as can be.
    drawn = np.random.default_rng(0).binomial(1, perfect, (500, queries)).astype(float)
    too_high = sum(mean_lower_bound(values) > perfect for values in drawn)
    assert too_high <= 11  # of 500; were it 1 in a hundred, 11 or fewer would come in 99 % of cases
    if perfect > 0.98:  # the reason why it is no t bound: that is too high far too often
        assert sum(t_bound(values) > perfect for values in drawn) > 15


def test_the_bound_is_of_use() -> None:
    # Recalls as an index gives them: the bound lies 2.3 to 3.6 standard errors below the mean.
    values = np.random.default_rng(1).choice([0.7, 0.8, 0.9, 1.0], 1_000, p=[0.05, 0.1, 0.2, 0.65])
    below = values.mean() - mean_lower_bound(values)
    assert 2.3 < below / (values.std() / np.sqrt(1_000)) < 3.6
    assert mean_lower_bound(np.tile(values, 4)) > mean_lower_bound(values)  # more queries


@settings(deadline=None, max_examples=100)
@given(shares)
def test_the_bound_lies_between_0_and_the_mean(values: list[float]) -> None:
    bound = mean_lower_bound(values)
    assert 0 <= bound <= np.mean(values) + 1e-9
    assert mean_lower_bound(values, 0.9) >= bound
    assert mean_lower_bound([min(1.0, value + 0.1) for value in values]) >= bound - 1e-9


def test_the_bound_by_hand() -> None:
    # One value of 1 and three quarters of the money on it: against m it grows 1 + 0.75 (1 - m) / m
    # times. The goal is 1 / (1 - 0.2) = 1.25 times, which is met at m = 0.75.
    assert mean_lower_bound([1.0], 0.2) == pytest.approx(0.75)
    assert mean_lower_bound(np.zeros(10)) == 0


def test_what_so_many_queries_can_show() -> None:
    # If all of n queries find all, nothing above 0.01^(1/n) is shown for the share of such.
    for queries in (100, 300, 1_000):
        assert provable_recall(queries) < 0.01 ** (1 / queries)
    assert provable_recall(1_000) > 0.99
    assert provable_recall(100) < provable_recall(300) < provable_recall(1_000) < 1


@pytest.mark.parametrize("bad", [[], [[1.0]], [0.5, 1.1], [float("nan")], [-0.1]])
def test_values_that_are_no_recalls(bad: list) -> None:
    with pytest.raises(ValueError, match=r"needs a list|must lie between 0 and 1"):
        mean_lower_bound(bad)


@pytest.mark.parametrize("confidence", [0, 1, -1, float("nan")])
def test_no_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must lie"):
        mean_lower_bound([1.0], confidence)


@pytest.mark.parametrize("low", [1, 7, 10])
@pytest.mark.parametrize("needed", [10, 11, 100, 333])
def test_the_search_finds_what_trying_all_would_find(needed: int, low: int) -> None:
    recalls, asked = curve(1_000, needed), []

    def measure(value: int) -> np.ndarray:
        asked.append(value)
        return recalls(value)

    tuned = smallest_reaching(measure, 0.95, low, 400)
    passing = [v for v in range(low, 401) if mean_lower_bound(recalls(v)) >= 0.95]
    assert tuned.chosen.value == passing[0]
    assert tuned.chosen.mean == recalls(passing[0]).mean()
    assert tuned.chosen.bound == mean_lower_bound(recalls(passing[0]))
    assert len(asked) == len(set(asked)) <= np.log2(400 / low) + np.log2(400) + 2
    assert [trial.value for trial in tuned.trials] == sorted(asked)
    assert (tuned.target, tuned.queries, tuned.confidence) == (0.95, 1_000, 0.99)


def test_a_lucky_mean_is_not_enough() -> None:
    # The mean of 3 reaches the target, its lower bound does not.
    means = {1: 0.90, 2: 0.92, 3: 0.952, 4: 0.97}
    noise = np.tile([0.03, -0.03], 500)
    chance = smallest_reaching(lambda v: means[v] + noise * 0, 0.95, 1, 4, confidence=0.01)
    assert chance.chosen.value == 3
    assert smallest_reaching(lambda v: means[v] + noise, 0.95, 1, 4).chosen.value == 4


def test_a_target_out_of_reach_says_what_to_do() -> None:
    def rounded(value: int) -> np.ndarray:
        """An index that lost what no search parameter brings back."""
        return np.minimum(curve(1_000, 50)(value), 0.8)

    with pytest.raises(
        TargetNotReached, match=r"no value up to 64 reaches a recall of 0\.9: the "
    ) as e:
        smallest_reaching(rounded, 0.9, 1, 64)
    assert "IVF_PQ" in str(e.value)
    assert e.value.best.value == 64
    assert e.value.best.mean == rounded(64).mean()
    assert e.value.exit_code == 1
    with pytest.raises(TargetNotReached, match=r"prove 0\.99\d* at the most.*more queries"):
        smallest_reaching(lambda _: np.ones(1_000), 0.999, 1, 4)
    with pytest.raises(TargetNotReached, match="No sample proves a recall of 1: use FLAT"):
        smallest_reaching(lambda _: np.ones(1_000), 1.0, 1, 4)


@pytest.mark.parametrize(
    ("target", "low", "high"), [(0, 1, 2), (1.1, 1, 2), (0.9, 0, 2), (0.9, 3, 2)]
)
def test_arguments_out_of_range(target: float, low: int, high: int) -> None:
    with pytest.raises(ValueError, match=r"target must|does not hold"):
        smallest_reaching(lambda _: np.ones(10), target, low, high)


def test_samples_have_two_halves_of_queries(tmp_path: object) -> None:
    sample = tuning_sample(None, rows=200, queries=30, dimension=8)
    tuning, held_out = halves(sample)
    assert (sample.vectors.shape, sample.queries.shape) == ((200, 8), (60, 8))
    assert len(sample.queries[tuning]) == len(sample.queries[held_out]) == 30
    assert not {q.tobytes() for q in sample.queries[tuning]} & {
        q.tobytes() for q in sample.queries[held_out]
    }
    path = tmp_path / "mine.npy"
    np.save(path, np.random.default_rng(0).standard_normal((100, 4)))
    mine = tuning_sample(path, rows=60, queries=20)
    assert (mine.vectors.shape, mine.queries.shape) == ((60, 4), (40, 4))
