import math

from common.evaluation import (
    MeanWithInterval,
    cross_fitted,
    hit_rate_at,
    mean_with_interval,
    ndcg_at,
    paired_difference,
    recall_at,
    reciprocal_rank,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LOG3 = math.log2(3)  # the discount of rank 2; rank 1 has log2(2) = 1 and rank 3 log2(4) = 2


class TestNdcg:
    @pytest.mark.parametrize(
        ("ranked", "relevant", "k", "expected"),
        [
            # All relevant ones in front.
            ([1, 2, 3], {1, 2}, 3, 1.0),
            # Found at rank 3 only: 1/2; best: 1/1.
            ([7, 8, 1], {1}, 3, 0.5),
            # Ranks 1 and 3: 1 + 1/2; best, ranks 1 and 2: 1 + 1/log2(3).
            ([1, 8, 2], {1, 2}, 3, 1.5 / (1 + 1 / LOG3)),
            # Rank 2 of 2: 1/log2(3); 5 are relevant, but the best list of 2 has 1 + 1/log2(3).
            ([9, 1], {1, 2, 3, 4, 5}, 2, (1 / LOG3) / (1 + 1 / LOG3)),
            # What stands behind k does not count.
            ([7, 8, 1], {1}, 2, 0.0),
            # Fewer results than k: 1 of the best 1 + 1/log2(3).
            ([1], {1, 2}, 10, 1 / (1 + 1 / LOG3)),
            ([], {1}, 10, 0.0),
        ],
    )
    def test_cases_by_hand(self, ranked, relevant, k, expected):
        assert ndcg_at(ranked, relevant, k) == pytest.approx(expected)

    @settings(deadline=None)
    @given(
        st.permutations(range(12)),
        st.frozensets(st.integers(0, 11), min_size=1),
        st.integers(1, 15),
    )
    def test_lies_between_0_and_1_which_is_for_the_best_order(self, ranked, relevant, k):
        assert 0 <= ndcg_at(ranked, relevant, k) <= 1 + 1e-12
        best = sorted(ranked, key=lambda found: found not in relevant)
        assert ndcg_at(best, relevant, k) == pytest.approx(1)

    def test_takes_what_numpy_and_strings_give(self):
        assert ndcg_at(np.array([3, 1]), frozenset({3})) == 1
        assert ndcg_at(["b", "a"], {"b"}) == 1


class TestHitRateAndReciprocalRank:
    def test_hit_rate(self):
        assert hit_rate_at([5, 6, 1], {1, 2}, 3) == 1.0
        assert hit_rate_at([5, 6, 1], {1, 2}, 2) == 0.0

    def test_reciprocal_rank(self):
        assert reciprocal_rank([5, 6, 1, 2], {1, 2}) == 1 / 3
        assert reciprocal_rank([5, 6, 1, 2], {1, 2}, k=2) == 0
        assert reciprocal_rank([5, 6], {1}) == 0

    def test_recall(self):
        assert recall_at([5, 1, 6, 2], {1, 2, 3}, 4) == pytest.approx(2 / 3)
        assert recall_at([5, 1, 6, 2], {1, 2, 3}, 2) == pytest.approx(1 / 3)
        assert recall_at([1, 2], {1, 2, 3, 4}, 2) == 0.5  # not 1: two more are relevant
        assert recall_at([], {1}) == 0


@pytest.mark.parametrize("measure", [ndcg_at, hit_rate_at, reciprocal_rank, recall_at])
class TestWrongInput:
    def test_a_document_twice_is_refused_also_behind_k(self, measure):
        with pytest.raises(ValueError, match="id 4 stands twice in the ranking, again at rank 3"):
            measure([4, 1, 4], {1}, 1)

    def test_nothing_relevant_is_refused(self, measure):
        with pytest.raises(ValueError, match="without relevant documents cannot be judged"):
            measure([1], set(), 1)

    def test_k_is_at_least_one(self, measure):
        with pytest.raises(ValueError, match="k must be at least 1, not 0"):
            measure([1], {1}, 0)


class TestMeanWithInterval:
    def test_the_interval_is_that_of_the_normal_approximation(self):
        # 400 values, half 0 and half 1: mean 0.5, standard error 0.5 / sqrt(400) = 0.025,
        # so 95 % lie within 0.5 +- 1.96 * 0.025 = 0.5 +- 0.049.
        mean, low, high = mean_with_interval([0, 1] * 200)
        assert mean == 0.5
        assert low == pytest.approx(0.451, abs=0.004)
        assert high == pytest.approx(0.549, abs=0.004)

    def test_more_confidence_is_wider(self):
        values = np.random.default_rng(0).random(50)
        narrow, wide = (mean_with_interval(values, confidence=c) for c in (0.5, 0.99))
        assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high

    def test_the_seed_decides(self):
        values = np.random.default_rng(0).random(50)
        assert mean_with_interval(values, seed=1) == mean_with_interval(values, seed=1)
        assert mean_with_interval(values, seed=1) != mean_with_interval(values, seed=2)

    def test_equal_values_leave_no_doubt(self):
        assert mean_with_interval([0.25] * 5) == (0.25, 0.25, 0.25)

    def test_it_holds_the_truth_as_often_as_it_says(self):
        # 200 samples of 100 from a population of mean 0.3: about 95 % of the intervals hold it.
        generator = np.random.default_rng(1)
        held = 0
        for seed in range(200):
            sample = generator.random(100) < 0.3
            _, low, high = mean_with_interval(sample, seed=seed, resamples=500)
            held += low <= 0.3 <= high
        assert 176 <= held <= 199

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="at least 2 values"):
            mean_with_interval([1.0])
        with pytest.raises(ValueError, match="value 1 is NaN or infinity"):
            mean_with_interval([1.0, math.nan, 2.0])
        with pytest.raises(ValueError, match="between 0 and 1, not at 95"):
            mean_with_interval([1.0, 2.0], confidence=95)

    def test_what_it_holds(self):
        interval = MeanWithInterval(0.5, 0.25, 0.75)
        assert [interval.holds(value) for value in (0.2, 0.25, 0.5, 0.75, 0.8)] == [
            False,
            True,
            True,
            True,
            False,
        ]


class TestPairedDifference:
    def test_it_is_the_interval_of_the_differences(self):
        generator = np.random.default_rng(0)
        a, b = generator.random(60), generator.random(60)
        assert paired_difference(a, b, 0.9, seed=3) == mean_with_interval(a - b, 0.9, seed=3)

    def test_pairing_sees_what_separate_intervals_do_not(self):
        # Queries differ by far more than the systems do: 0.05, on every query.
        hard = np.random.default_rng(0).random(100)
        one, other = mean_with_interval(hard + 0.05), mean_with_interval(hard)
        assert one.low < other.high  # the separate ones overlap
        difference = paired_difference(hard + 0.05, hard)
        assert difference == pytest.approx((0.05, 0.05, 0.05))
        assert not difference.holds(0)

    def test_equal_systems_hold_0(self):
        generator = np.random.default_rng(1)
        a = generator.random(100)
        assert paired_difference(a, a + generator.normal(0, 0.1, 100)).holds(0)

    def test_the_queries_must_be_the_same(self):
        with pytest.raises(ValueError, match=r"one value for each query: \(2,\), \(3,\)"):
            paired_difference([1, 2], [1, 2, 3])


class TestCrossFitted:
    def test_each_half_is_judged_by_the_choice_of_the_other(self):
        generator = np.random.default_rng(0)
        values = {name: generator.random(41) for name in "abc"}
        chosen = cross_fitted(values, seed=5)
        order = np.random.default_rng(5).permutation(41)
        for judged, fitted in ((order[:20], order[20:]), (order[20:], order[:20])):
            best = max("abc", key=lambda name: values[name][fitted].mean())
            assert {chosen[query] for query in judged} == {best}

    def test_a_query_does_not_help_its_own_choice(self):
        # "lucky" is right once, by far; its half must not be judged by it.
        values = {"steady": np.full(10, 0.5), "lucky": np.zeros(10)}
        values["lucky"][3] = 1000
        chosen = cross_fitted(values)
        assert chosen[3] == "steady"
        assert "lucky" in chosen  # the other half, which did not pay for it

    def test_of_equal_ones_the_first(self):
        assert set(cross_fitted({0.2: [1, 1, 1], 0.8: [1, 1, 1]})) == {0.2}

    def test_wrong_input(self):
        with pytest.raises(ValueError, match="at least 2"):
            cross_fitted({"a": [1]})
        with pytest.raises(ValueError, match=r"not \[2, 3\]"):
            cross_fitted({"a": [1, 2], "b": [1, 2, 3]})
        with pytest.raises(ValueError, match="at least 2"):
            cross_fitted({})
