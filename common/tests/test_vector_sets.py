"""Vector sets: queries apart from the rows, the exact neighbours, files of the learner's own."""

from pathlib import Path

from common.vector_files import VectorFileError
from common.vector_sets import VectorSet, vector_set

import h5py
import numpy as np
import pytest


def matrix(rows: int, dimension: int = 6, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def rows_of(vectors: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in np.asarray(vectors)}


def nearest(sample: VectorSet) -> np.ndarray:
    """The k nearest by COSINE, computed here the long way."""
    a = sample.vectors / np.linalg.norm(sample.vectors, axis=1, keepdims=True)
    b = sample.queries / np.linalg.norm(sample.queries, axis=1, keepdims=True)
    return np.argsort(-(b @ a.T), axis=1)[:, : sample.k]


def test_clustered_vectors_with_queries_apart() -> None:
    sample = vector_set(None, rows=500, queries=20, dimension=16, k=3)
    assert sample.vectors.shape == (500, 16)
    assert sample.queries.shape == (20, 16)
    assert not rows_of(sample.vectors) & rows_of(sample.queries)
    assert (sample.name, sample.metric) == ("500 clustered vectors of 16 dimensions", "COSINE")
    again = vector_set(None, rows=500, queries=20, dimension=16, k=3)
    assert np.array_equal(sample.vectors, again.vectors)
    other = vector_set(None, rows=500, queries=20, dimension=16, k=3, seed=1)
    assert not np.array_equal(sample.vectors, other.vectors)
    two = vector_set(None, rows=90, queries=10, dimension=16, clusters=2, spread=0)
    assert len(rows_of(np.round(two.vectors, 5)) | rows_of(np.round(two.queries, 5))) == 2


def test_exact_neighbours_and_recall() -> None:
    sample = vector_set(None, rows=300, queries=8, dimension=12, k=4)
    ids, scores = sample.exact
    assert np.array_equal(ids, nearest(sample))
    assert scores.shape == (8, 4)
    assert sample.recall(ids.tolist()).tolist() == [1.0] * 8
    half = [[*row[:2], *far[-2:]] for row, far in zip(ids, nearest_last(sample), strict=True)]
    assert sample.recall(half).tolist() == [0.5] * 8
    assert sample.recall(half[2:5], slice(2, 5)).tolist() == [0.5] * 3


def nearest_last(sample: VectorSet) -> np.ndarray:
    whole = VectorSet("", sample.vectors, sample.queries, sample.metric, len(sample.vectors))
    return nearest(whole)


def test_a_file_without_queries_gives_some_of_its_rows(tmp_path: Path) -> None:
    path, given = tmp_path / "mine.npy", matrix(100)
    np.save(path, given)
    sample = vector_set(path, rows=1000, queries=10, k=5)
    assert (sample.vectors.shape, sample.queries.shape) == ((90, 6), (10, 6))
    assert rows_of(sample.vectors) | rows_of(sample.queries) == rows_of(given)
    assert sample.metric == "COSINE"
    assert sample.name == "90 vectors of 6 dimensions from mine.npy"
    fewer = vector_set(path, rows=30, queries=10)
    assert (len(fewer.vectors), len(fewer.queries)) == (30, 10)


def test_a_benchmark_file_gives_its_own(tmp_path: Path) -> None:
    path = tmp_path / "toy-6-euclidean.hdf5"
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = matrix(50), matrix(20, seed=6)
    sample = vector_set(path, rows=40, queries=5)
    assert np.array_equal(sample.vectors, matrix(50)[:40])
    assert np.array_equal(sample.queries, matrix(20, seed=6)[:5])
    assert sample.metric == "L2"


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.npy"
    np.save(path, matrix(12))
    with pytest.raises(VectorFileError, match=r"few\.npy: it has 12 rows and no queries"):
        vector_set(path, rows=100, queries=12)
    with pytest.raises(VectorFileError, match=r"few\.npy: 4 rows are left to store, fewer than k"):
        vector_set(path, rows=100, queries=8, k=5)
    with pytest.raises(VectorFileError, match="no such file"):
        vector_set(tmp_path / "gone.npy", rows=100, queries=8)
    zeros = matrix(30)
    zeros[17] = 0
    np.save(path, zeros)
    with pytest.raises(VectorFileError, match="row 17 is all zeros"):
        vector_set(path, rows=100, queries=8)


@pytest.mark.parametrize("bad", [{"queries": 0}, {"k": 0}, {"rows": 9}])
def test_numbers_too_small(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        vector_set(None, **{"rows": 100, "queries": 5, **bad})
