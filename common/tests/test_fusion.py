import math

from common.fusion import reciprocal_rank_fusion, squeezed, weighted_fusion

import pytest

DENSE = [(1, 0.8), (2, 0.6), (3, 0.2)]
BM25 = [(3, 9.0), (4, 1.0)]


class TestReciprocalRankFusion:
    def test_by_hand(self):
        fused = reciprocal_rank_fusion([DENSE, BM25], limit=10)
        assert fused == [
            (3, pytest.approx(1 / 63 + 1 / 61)),
            (1, pytest.approx(1 / 61)),
            (2, pytest.approx(1 / 62)),  # second there, and 4 is second here: the smaller id
            (4, pytest.approx(1 / 62)),
        ]

    def test_scores_do_not_count(self):
        other = [(found, 1000 * score + 5) for found, score in DENSE]
        assert reciprocal_rank_fusion([other, BM25], 10) == reciprocal_rank_fusion(
            [DENSE, BM25], 10
        )

    def test_a_small_k_lets_a_first_place_win(self):
        one, two = [(1, 0.0), (2, 0.0)], [(3, 0.0), (2, 0.0)]
        assert reciprocal_rank_fusion([one, two], 1, k=60)[0][0] == 2  # 2/62 against 1/61
        two = [(3, 0.0), (4, 0.0), (5, 0.0), (2, 0.0)]
        assert reciprocal_rank_fusion([one, two], 1, k=1)[0][0] == 2  # 1/3 + 1/5 against 1/2
        two = [(3, 0.0), *((n, 0.0) for n in range(10, 16)), (2, 0.0)]
        assert reciprocal_rank_fusion([one, two], 1, k=1)[0][0] == 1  # 1/3 + 1/9 against 1/2

    def test_limit_and_empty_rankings(self):
        assert len(reciprocal_rank_fusion([DENSE, BM25], 2)) == 2
        assert reciprocal_rank_fusion([[], []], 5) == []
        assert [i for i, _ in reciprocal_rank_fusion([DENSE, []], 5)] == [1, 2, 3]

    def test_k_is_1_or_more(self):
        with pytest.raises(ValueError, match="k is 1 or more, not 0"):
            reciprocal_rank_fusion([DENSE], 5, k=0)


class TestWeightedFusion:
    def test_by_hand(self):
        fused = weighted_fusion([DENSE, BM25], (0.7, 0.3), ("COSINE", "BM25"), 10)
        bm25 = {score: 2 / math.pi * math.atan(score) for score in (9.0, 1.0)}
        assert bm25[1.0] == pytest.approx(0.5)
        assert fused == [
            (3, pytest.approx(0.7 * 0.6 + 0.3 * bm25[9.0])),
            (1, pytest.approx(0.7 * 0.9)),
            (2, pytest.approx(0.7 * 0.8)),
            (4, pytest.approx(0.3 * 0.5)),
        ]

    def test_weight_1_and_0_is_one_ranking_alone(self):
        fused = weighted_fusion([DENSE, BM25], (1, 0), ("COSINE", "BM25"), 3)
        assert [found for found, _ in fused] == [1, 2, 3]

    def test_wrong_input(self):
        with pytest.raises(ValueError, match="2 rankings need as many weights and metrics"):
            weighted_fusion([DENSE, BM25], (1,), ("COSINE", "BM25"), 3)
        with pytest.raises(ValueError, match=r"weights lie within 0 and 1, not \[2, 0\]"):
            weighted_fusion([DENSE, BM25], (2, 0), ("COSINE", "BM25"), 3)
        with pytest.raises(ValueError, match="not 'HAMMING'"):
            weighted_fusion([DENSE, BM25], (1, 0), ("COSINE", "HAMMING"), 3)


@pytest.mark.parametrize(
    ("metric", "score", "expected"),
    [
        ("COSINE", 1.0, 1.0),
        ("COSINE", -1.0, 0.0),
        ("IP", 0.0, 0.5),
        ("IP", 1.0, 0.75),
        ("BM25", 0.0, 0.0),
        ("BM25", 1.0, 0.5),
        ("L2", 0.0, 1.0),  # the nearest
        ("L2", 1.0, 0.5),
    ],
)
def test_squeezed(metric, score, expected):
    assert squeezed(score, metric) == pytest.approx(expected)
