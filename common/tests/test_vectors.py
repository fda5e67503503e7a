import tracemalloc

from common.vectors import (
    METRICS,
    bytes_per_vector,
    clustered_vectors,
    exact_search,
    from_bfloat16,
    normalize,
    pack_bits,
    recall,
    recall_by_query,
    to_bfloat16,
    to_float16,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

floats = st.floats(-1e6, 1e6, width=32)


def matrices(rows: st.SearchStrategy[int], dimension: int, elements=floats):
    return rows.flatmap(lambda n: hnp.arrays(np.float32, (n, dimension), elements=elements))


# Small whole numbers give many equal scores, and float64 computes their L2 and IP exactly.
small_whole = st.integers(-2, 2).map(float)


class TestNormalize:
    def test_a_case_by_hand(self):
        # |(3, 4)| = 5 and |(0, -2)| = 2
        result = normalize([[3, 4], [0, -2]])
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, [[0.6, 0.8], [0, -1]])

    def test_one_vector_stays_one_vector(self):
        np.testing.assert_allclose(normalize([3.0, 4.0]), [0.6, 0.8])

    def test_the_argument_is_left_alone(self):
        given_vectors = np.array([[3.0, 4.0]], dtype=np.float32)
        normalize(given_vectors)
        assert given_vectors.tolist() == [[3, 4]]

    @settings(deadline=None)
    @given(matrices(st.integers(0, 5), 4).map(lambda m: m + (m == 0).all(axis=1)[:, None]))
    def test_rows_have_length_one(self, vectors):
        lengths = np.linalg.norm(normalize(vectors).astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-6)

    @pytest.mark.parametrize("size", [1e-40, 1e-20, 1e20, 3e38])
    def test_extreme_sizes_neither_overflow_nor_vanish(self, size):
        half = np.sqrt(np.float32(0.5))
        np.testing.assert_allclose(normalize(np.full((1, 2), size, np.float32)), [[half, half]])

    def test_zero_rows_are_refused_by_number(self):
        vectors = np.ones((5, 3))
        vectors[[1, 4]] = 0
        with pytest.raises(ValueError, match=r"rows 1, 4 are zero vectors"):
            normalize(vectors)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_nan_and_infinity_are_refused_by_number(self, bad):
        vectors = np.ones((30, 3))
        vectors[7:20, 1] = bad
        with pytest.raises(ValueError, match=r"rows 7, 8, .*, 16 and 3 more hold NaN or infinity"):
            normalize(vectors)

    def test_a_wrong_shape_is_named(self):
        with pytest.raises(ValueError, match=r"not the shape \(1, 2, 3\)"):
            normalize(np.ones((1, 2, 3)))


CORPUS = np.array([[1, 0], [0, 1], [3, 4], [-1, 0]], dtype=np.float32)
QUERY = np.array([[2, 0]], dtype=np.float32)


def naive_search(corpus, queries, k, metric):
    """Compare each pair on its own, sort by (badness, row)."""
    results = []
    for q in queries.astype(np.float64):
        scores = []
        for c in corpus.astype(np.float64):
            if metric == "L2":
                score = ((q - c) ** 2).sum()
            elif metric == "IP":
                score = (q * c).sum()
            else:
                score = (q * c).sum() / np.sqrt((q * q).sum() * (c * c).sum())
            scores.append(np.float32(score))
        sign = 1 if metric == "L2" else -1
        ranked = sorted(range(len(scores)), key=lambda row: (sign * scores[row], row))[:k]
        results.append([(row, scores[row]) for row in ranked])
    return results


class TestExactSearch:
    @pytest.mark.parametrize(
        ("metric", "ids", "scores"),
        [
            # squared distances to (2, 0): 1, 4 + 1, 1 + 16, 9
            ("L2", [0, 1, 3, 2], [1, 5, 9, 17]),
            # 2, 0, 6, -2
            ("IP", [2, 0, 1, 3], [6, 2, 0, -2]),
            # 2 / 2, 0, 6 / (5 * 2), -2 / 2
            ("COSINE", [0, 2, 1, 3], [1, 0.6, 0, -1]),
        ],
    )
    def test_cases_by_hand(self, metric, ids, scores):
        found, reported = exact_search(CORPUS, QUERY, 4, metric)
        assert found.dtype == np.int64
        assert reported.dtype == np.float32
        assert found.tolist() == [ids]
        np.testing.assert_allclose(reported, [scores], rtol=1e-6)

    @settings(max_examples=60, deadline=None)
    @given(
        corpus=matrices(st.integers(1, 12), 3, small_whole),
        queries=matrices(st.integers(1, 4), 3, small_whole),
        k=st.integers(1, 14),
        metric=st.sampled_from(["L2", "IP"]),
        batch=st.integers(1, 13),
    )
    def test_equals_a_naive_loop_ties_included(self, corpus, queries, k, metric, batch):
        ids, scores = exact_search(corpus, queries, k, metric, batch=batch)
        expected = naive_search(corpus, queries, k, metric)
        assert [list(zip(*pair, strict=True)) for pair in zip(ids, scores, strict=True)] == expected

    @pytest.mark.parametrize("metric", METRICS)
    def test_equals_a_naive_loop_on_random_vectors(self, metric):
        vectors = clustered_vectors(160, 24, clusters=5, seed=3)
        corpus, queries = vectors[:150] * 7, vectors[150:]
        ids, scores = exact_search(corpus, queries, 20, metric, batch=37)
        for row, found in enumerate(naive_search(corpus, queries, 20, metric)):
            assert ids[row].tolist() == [number for number, _ in found]
            np.testing.assert_allclose(scores[row], [score for _, score in found], rtol=1e-6)

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("batch", [1, 3, 64, 4096])
    def test_equal_rows_come_in_the_order_of_their_numbers(self, metric, batch):
        rows = clustered_vectors(3, 50, seed=1)
        corpus = np.vstack([rows] * 40)  # row i equals rows i + 3, i + 6, ...
        ids, scores = exact_search(corpus, rows, 120, metric, batch=batch)
        for query in range(3):
            assert ids[query, :40].tolist() == list(range(query, 120, 3))
            assert len(set(scores[query, :40].tolist())) == 1

    def test_the_l2_distance_of_a_row_to_itself_is_zero(self):
        vectors = clustered_vectors(50, 300, seed=2) * 1000
        ids, scores = exact_search(vectors, vectors, 1, "L2")
        assert ids[:, 0].tolist() == list(range(50))
        assert not scores.any()

    def test_more_queries_than_are_compared_at_once(self):
        vectors = clustered_vectors(1500, 8, seed=4)
        ids, _ = exact_search(vectors, vectors, 1)
        assert ids[:, 0].tolist() == list(range(1500))

    def test_a_small_corpus_gives_fewer_results(self):
        ids, scores = exact_search(CORPUS, QUERY, 10)
        assert ids.shape == scores.shape == (1, 4)

    def test_no_queries_and_no_rows_give_empty_results(self):
        assert exact_search(CORPUS, np.empty((0, 2)), 3)[0].shape == (0, 3)
        assert exact_search(np.empty((0, 2)), QUERY, 3)[0].shape == (1, 0)

    def test_a_memory_map_is_searched(self, tmp_path):
        mapped = np.memmap(tmp_path / "rows.f32", np.float32, "w+", shape=(300, 8))
        mapped[:] = clustered_vectors(300, 8, seed=6)
        ids, _ = exact_search(mapped, mapped[:5], 1, batch=100)
        assert ids[:, 0].tolist() == [0, 1, 2, 3, 4]

    def test_memory_does_not_grow_with_the_corpus(self):
        vectors = clustered_vectors(40_000, 32)
        peaks = []
        for rows in (10_000, 40_000):
            tracemalloc.start()
            exact_search(vectors[:rows], vectors[:100], 10)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < peaks[0] * 1.1

    def test_shapes_that_do_not_fit_are_both_named(self):
        with pytest.raises(ValueError, match=r"\(4, 2\) and \(1, 3\)"):
            exact_search(CORPUS, np.ones((1, 3)), 1)
        with pytest.raises(ValueError, match=r"\(4, 2\) and \(2,\)"):
            exact_search(CORPUS, np.ones(2), 1)

    def test_bad_numbers_are_refused_by_row(self):
        corpus = np.ones((9000, 2))
        corpus[8999, 0] = np.nan
        with pytest.raises(ValueError, match="corpus: rows 8999 hold NaN or infinity"):
            exact_search(corpus, QUERY, 1)
        with pytest.raises(ValueError, match="queries: rows 0 hold NaN or infinity"):
            exact_search(CORPUS, [[np.inf, 0]], 1)
        with pytest.raises(ValueError, match="corpus: rows 1 are zero vectors"):
            exact_search([[1, 0], [0, 0]], QUERY, 1, "COSINE")

    def test_other_bad_arguments(self):
        with pytest.raises(ValueError, match="one of L2, IP, COSINE, not 'HAMMING'"):
            exact_search(CORPUS, QUERY, 1, "HAMMING")
        with pytest.raises(ValueError, match="at least 1, not 0 and 4096"):
            exact_search(CORPUS, QUERY, 0)


class TestRecall:
    # Distances to (0, 0): 0, 1, 1, 1, 4. With k = 2 the rows 1, 2 and 3 tie for the last place.
    corpus = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [2, 0]], dtype=np.float32)
    query = np.zeros((1, 2), dtype=np.float32)
    exact = np.array([[0, 1]], dtype=np.float32)

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            ([0, 1], 1.0),
            ([0, 3], 1.0),  # row 3 is as near as row 1
            ([2, 3], 1.0),  # row 0 lacks, but both found rows reach the second-best distance
            ([0, 4], 0.5),  # row 4 is farther
            ([0, 0], 0.5),  # the same row twice is one row
            ([0], 0.5),  # too short
            ([], 0.0),
            ([4, 4], 0.0),
            ([4, 0, 1], 0.5),  # the third does not count for recall at 2
        ],
    )
    def test_cases_by_hand(self, found, expected):
        result = recall([found], self.exact, self.corpus, self.query, "L2")
        assert result == expected

    def test_each_query_has_its_own(self):
        queries = np.vstack([self.query, self.query])
        shares = recall_by_query(
            [[0, 1], [4]], np.vstack([self.exact] * 2), self.corpus, queries, "L2"
        )
        assert shares.tolist() == [1.0, 0.0]
        assert recall([[0, 1], [4]], [[0, 1], [0, 1]], self.corpus, queries, "L2") == 0.5

    @settings(max_examples=60, deadline=None)
    @given(
        corpus=matrices(st.integers(1, 12), 3, small_whole.map(lambda x: x + 0.25)),
        queries=matrices(st.integers(1, 4), 3, small_whole.map(lambda x: x + 0.25)),
        k=st.integers(1, 12),
        metric=st.sampled_from(METRICS),
    )
    def test_of_the_exact_result_is_one(self, corpus, queries, k, metric):
        ids, scores = exact_search(corpus, queries, k, metric)
        assert recall(ids, scores, corpus, queries, metric) == 1

    @pytest.mark.parametrize("metric", METRICS)
    def test_of_random_rows_is_what_counting_gives(self, metric):
        vectors = clustered_vectors(1010, 16, clusters=10, seed=5)
        corpus, queries = vectors[:1000] * 3, vectors[1000:]
        ids, scores = exact_search(corpus, queries, 10, metric)
        others = np.random.default_rng(0).permuted(np.tile(np.arange(1000), (10, 1)), axis=1)
        found = np.hstack([ids[:, :6], others[:, :4]])
        counted = [
            len(set(row.tolist()) & set(true.tolist())) / 10
            for row, true in zip(found, ids, strict=True)
        ]
        assert recall_by_query(found, scores, corpus, queries, metric).tolist() == counted

    @pytest.mark.parametrize("metric", METRICS)
    def test_the_tolerance_forgives_float32_and_no_more(self, metric):
        query = np.array([[1, 0]], dtype=np.float32)
        # Row 0 is the exact neighbour; row 1 is off by rounding, row 2 by a thousandth.
        corpus = np.array([[0.6, 0.8], [0.6 - 1e-7, 0.8 + 1e-7], [0.599, 0.8007]], np.float32)
        _, scores = exact_search(corpus, query, 1, metric)
        assert recall([[1]], scores, corpus, query, metric) == 1
        assert recall([[2]], scores, corpus, query, metric) == 0
        assert recall([[1]], scores, corpus, query, metric, tolerance=0) == 0

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match=r"found for query 0 names row 5, .* has 5 rows"):
            recall([[0, 5]], self.exact, self.corpus, self.query, "L2")
        with pytest.raises(ValueError, match="names row -1"):
            recall([[-1]], self.exact, self.corpus, self.query, "L2")
        with pytest.raises(ValueError, match="found has 2 lists for 1 queries"):
            recall([[0], [1]], self.exact, self.corpus, self.query, "L2")
        with pytest.raises(ValueError, match=r"shape \(1, k\).*it has \(2,\)"):
            recall([[0]], [0, 1], self.corpus, self.query, "L2")
        with pytest.raises(ValueError, match="must be a list of row numbers"):
            recall([["a"]], self.exact, self.corpus, self.query, "L2")
        with pytest.raises(ValueError, match="at least 1, for 0 queries"):
            recall([], np.empty((0, 2)), self.corpus, np.empty((0, 2)), "L2")


class TestClusteredVectors:
    def test_shape_type_and_length(self):
        vectors = clustered_vectors(10_000, 12, clusters=7)
        assert vectors.shape == (10_000, 12)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_the_seed_decides(self):
        assert (clustered_vectors(100, 8, seed=1) == clustered_vectors(100, 8, seed=1)).all()
        assert (clustered_vectors(100, 8, seed=1) != clustered_vectors(100, 8, seed=2)).any()

    def test_rows_gather_around_as_many_centres_as_asked_for(self):
        vectors = clustered_vectors(500, 64, clusters=5, spread=0.1, seed=0)
        # In one cluster cosines are near 1 / (1 + 0.1 ** 2) = 0.99, between random centres near 0.
        together = vectors @ vectors.T > 0.9
        assert len({row.tobytes() for row in together}) == 5

    def test_spread_moves_rows_apart(self):
        near, far = (clustered_vectors(200, 32, clusters=1, spread=s) for s in (0.1, 1.0))
        # |centre|^2 / (|centre|^2 + |noise|^2): 1 / 1.01 and 1 / 2
        assert (near @ near.T).mean() == pytest.approx(1 / 1.01, abs=0.02)
        assert (far @ far.T).mean() == pytest.approx(1 / 2, abs=0.06)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match=r"at least 1; they are 5, 0\.5, 0 and 100"):
            clustered_vectors(5, 0)


class TestBytesPerVector:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("FLOAT_VECTOR", 384 * 4),
            ("FLOAT16_VECTOR", 384 * 2),
            ("BFLOAT16_VECTOR", 384 * 2),
            ("INT8_VECTOR", 384),
            ("BINARY_VECTOR", 48),
        ],
    )
    def test_by_name_and_by_data_type(self, name, expected):
        from pymilvus import DataType

        assert bytes_per_vector(name, 384) == expected
        assert bytes_per_vector(DataType[name], 384) == expected

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="SPARSE_FLOAT_VECTOR is no dense vector type"):
            bytes_per_vector("SPARSE_FLOAT_VECTOR", 384)
        with pytest.raises(ValueError, match="BINARY_VECTOR must be a multiple of 8, not 12"):
            bytes_per_vector("BINARY_VECTOR", 12)
        with pytest.raises(ValueError, match="FLOAT_VECTOR must be at least 1, not 0"):
            bytes_per_vector("FLOAT_VECTOR", 0)


class TestHalfPrecision:
    def test_float16_keeps_eleven_bits(self):
        # Between 1 and 2 float16 has steps of 2**-10.
        assert to_float16([1 + 2**-10, 1 + 2**-12]).tolist() == [1 + 2**-10, 1.0]

    def test_float16_refuses_what_overflows(self):
        with pytest.raises(ValueError, match=r"rows 1 hold .* too large for float16"):
            to_float16([[1, 2], [3, 70_000]])

    @pytest.mark.parametrize(
        ("value", "rounded"),
        [
            # Between 1 and 2 bfloat16 has steps of 2**-7 = 0.0078125.
            (1.0, 1.0),
            (1 + 2**-7, 1 + 2**-7),
            (1 + 2**-9, 1.0),  # a quarter of a step: down
            (1 + 2**-8 + 2**-12, 1 + 2**-7),  # above the half: up
            (1 + 2**-8, 1.0),  # the half between 1 (even) and 1 + 2**-7 (odd): to the even one
            (1 + 3 * 2**-8, 1 + 2 * 2**-7),  # the half above an odd one: up, to the even one
            (-1 - 3 * 2**-8, -1 - 2 * 2**-7),
            (0.0, 0.0),
            (-0.0, -0.0),
        ],
    )
    def test_bfloat16_rounds_to_nearest_and_halves_to_even(self, value, rounded):
        result = from_bfloat16(to_bfloat16([value]))
        assert result.tolist() == [rounded]
        assert np.signbit(result[0]) == np.signbit(rounded)

    @settings(deadline=None)
    @given(hnp.arrays(np.float32, 50, elements=st.floats(-(2.0**127), 2.0**127, width=32)))
    def test_bfloat16_equals_torch(self, values):
        import torch

        expected = torch.from_numpy(values).to(torch.bfloat16)
        assert (to_bfloat16(values) == expected.view(torch.uint16).numpy()).all()
        np.testing.assert_array_equal(
            from_bfloat16(to_bfloat16(values)), expected.to(torch.float32).numpy()
        )

    def test_bfloat16_as_bytes_and_back(self):
        bits = to_bfloat16([[1.0, -2.0]])
        assert bits.shape == (1, 2)
        assert bits[0].tobytes() == bytes([0x80, 0x3F, 0x00, 0xC0])  # little endian
        assert from_bfloat16(bits[0].tobytes()).tolist() == [1.0, -2.0]

    def test_bfloat16_refuses_what_overflows_and_what_is_no_number(self):
        # The largest float32 lies above the largest bfloat16 by more than half a step.
        with pytest.raises(ValueError, match=r"rows 1 hold .* too large for bfloat16"):
            to_bfloat16([[1.0], [np.finfo(np.float32).max]])
        with pytest.raises(ValueError, match="rows 0 hold NaN, infinity or numbers beyond float32"):
            to_bfloat16([[np.nan]])
        with pytest.raises(ValueError, match="bfloat16 bits are uint16, not float32"):
            from_bfloat16(np.ones(3, np.float32))


class TestPackBits:
    def test_a_case_by_hand(self):
        # Bit 0 is the lowest: 1 + 2**1 + 2**7 = 131, and 2**3 = 8.
        bits = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
        assert pack_bits(bits).tolist() == [131, 8]
        assert pack_bits([bits, bits]).tolist() == [[131, 8], [131, 8]]
        assert pack_bits(np.array(bits) > 0).tobytes() == bytes([131, 8])

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match=r"multiple of 8, not \(1, 12\)"):
            pack_bits(np.zeros((1, 12)))
        with pytest.raises(ValueError, match="rows 1 hold other values than 0 and 1"):
            pack_bits([[0] * 8, [0.5] * 8])
