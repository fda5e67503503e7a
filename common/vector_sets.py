"""Vectors to measure with: what goes into a collection, held-out queries, the exact neighbours.

    sample = vector_set(None, rows=10_000, dimension=128, queries=200)
    sample = vector_set("sift-128-euclidean.hdf5", rows=50_000, queries=1_000)

Clustered vectors are drawn, or a file of the learner's own is read (`vector_files`). Queries are
never among the stored rows: an index finds a row that it holds too easily.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.vector_files import VectorFile, VectorFileError, read_vector_file
from common.vectors import Float32, Float64, clustered_vectors, exact_search, recall_by_query

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VectorSet:
    """Rows to store and queries that are not among them.

    Attributes:
        name: what they are, for a title: "10,000 clustered vectors of 128 dimensions".
        vectors: float32 of shape (rows, dimension); row i is stored under the id i.
        queries: float32 of shape (queries, dimension).
        metric: "L2", "IP" or "COSINE".
        k: how many neighbours `exact` has.
    """

    name: str
    vectors: Float32
    queries: Float32
    metric: str
    k: int = 10

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self.vectors.shape[1]

    @cached_property
    def exact(self) -> tuple[NDArray[np.int64], Float32]:
        """The true k nearest rows of each query and their scores (`exact_search`)."""
        return exact_search(self.vectors, self.queries, self.k, self.metric)

    def recall(self, found: list[list[int]], queries: slice = slice(None)) -> Float64:
        """For each query of a slice, the share of its true k nearest rows among the found ids."""
        scores = self.exact[1][queries]
        return recall_by_query(found, scores, self.vectors, self.queries[queries], self.metric)


def vector_set(
    path: str | Path | None,
    *,
    rows: int,
    queries: int,
    dimension: int = 128,
    k: int = 10,
    column: str | None = None,
    clusters: int = 100,
    spread: float = 0.5,
    seed: int = 0,
) -> VectorSet:
    """Draw clustered vectors, or read those of a file.

    A file with queries of its own (HDF5 as of ann-benchmarks) gives them; from any other file,
    `queries` rows are drawn and taken out of what is stored.

    Args:
        path: a file that `read_vector_file` reads, None for clustered vectors.
        rows: how many to store; of a file at most so many, from its start.
        queries: how many; of a file's own queries at most so many.
        dimension: of the clustered vectors; a file has its own.
        k: neighbours to find for each query.
        column: of the file, as for `read_vector_file`.
        clusters, spread: of the clustered vectors, as for `clustered_vectors`.
        seed: the same arguments give the same vectors.

    Raises:
        VectorFileError: the file cannot be read, or has too few rows for so many queries.
        ValueError: rows, queries, dimension or k too small.
    """
    if min(queries, k) < 1 or rows < k:
        raise ValueError(
            f"queries and k must be at least 1 and rows at least k, not {queries}, {k} and {rows}"
        )
    if path is None:
        drawn = clustered_vectors(
            rows + queries, dimension, clusters=clusters, spread=spread, seed=seed
        )
        name = f"{rows:,} clustered vectors of {dimension} dimensions"
        return VectorSet(name, drawn[:rows], drawn[rows:], "COSINE", k)
    # Without queries of its own, the file must give the rows to store and those to ask for.
    read = read_vector_file(path, column=column, limit=rows + queries)
    stored, asked = _split(read, rows, queries, seed, path)
    name = Path(path).name
    if len(stored) < k:
        raise VectorFileError(f"{path}: {len(stored)} rows are left to store, fewer than k={k}")
    metric = read.metric or "COSINE"
    if metric == "COSINE":
        _refuse_zeros(read.train, path)
    text = f"{len(stored):,} vectors of {stored.shape[1]} dimensions from {name}"
    return VectorSet(text, stored, asked, metric, k)


def _split(
    read: VectorFile, rows: int, queries: int, seed: int, path: str | Path
) -> tuple[Float32, Float32]:
    """The rows to store and the queries; those are taken out of the rows where need be."""
    if read.test is not None:
        return read.train[:rows], np.asarray(read.test[:queries])
    count = len(read.train)
    if count <= queries:
        raise VectorFileError(
            f"{path}: it has {count:,} rows and no queries of its own, so {queries:,} of them "
            "cannot be held out as queries. Ask for fewer queries"
        )
    held_out = np.zeros(count, dtype=bool)
    held_out[np.random.default_rng(seed).choice(count, queries, replace=False)] = True
    return np.asarray(read.train[~held_out]), np.asarray(read.train[held_out])


def _refuse_zeros(vectors: Float32, path: str | Path) -> None:
    zeros = np.flatnonzero(~np.any(vectors, axis=1))
    if len(zeros):
        raise VectorFileError(
            f"{path}: row {zeros[0]} is all zeros, which has no direction for COSINE "
            f"({len(zeros):,} such rows, counted from 0). Remove them"
        )
