"""Vectors in NumPy: normalising, exact search as ground truth, recall, the types Milvus stores.

Nothing here talks to Milvus. A row that holds NaN or infinity is refused wherever it appears, and
the message gives the row numbers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

METRICS = ("L2", "IP", "COSINE")

# How many queries are compared with one block of the corpus at a time. With the default block of
# 4,096 rows this bounds the working memory of `exact_search` to about 100 MB at any size.
_QUERIES_AT_ONCE = 512

# Rounding of float64 sums, in relation to the lengths of the vectors. What is smaller is zero:
# otherwise the distances of two equal rows could come out as 0 and 1e-16 and not be tied.
_ROUNDING = 1e-13

_BITS_PER_COMPONENT = {
    "FLOAT_VECTOR": 32,
    "FLOAT16_VECTOR": 16,
    "BFLOAT16_VECTOR": 16,
    "INT8_VECTOR": 8,
    "BINARY_VECTOR": 1,
}


def normalize(vectors: ArrayLike) -> Float32:
    """Scale vectors to length 1 (L2 norm).

    Args:
        vectors: numbers of shape (n, dimension), or (dimension,) for a single vector.

    Returns:
        A new float32 array of the same shape.

    Raises:
        ValueError: a row is all zeros (it has no direction) or holds NaN or infinity; the message
            gives the row numbers. Or the shape is not one of the two above.
    """
    given = np.asarray(vectors)
    if given.ndim not in (1, 2):
        raise ValueError(f"vectors must have 1 or 2 axes, not the shape {given.shape}")
    rows = _checked(np.atleast_2d(given), "vectors")
    return _unit_rows(rows, "vectors").astype(np.float32).reshape(given.shape)


def exact_search(
    corpus: ArrayLike, queries: ArrayLike, k: int, metric: str = "COSINE", *, batch: int = 4096
) -> tuple[NDArray[np.int64], Float32]:
    """Find the exact k nearest rows of `corpus` for each query, by comparing with every row.

    The scores are those that Milvus reports: L2 is the *squared* Euclidean distance (smaller is
    better), IP the inner product and COSINE the cosine (both: larger is better). They are computed
    in float64 and rounded to float32. Equal scores are ordered by the lower row number. Memory
    stays bounded however large the corpus is, which may be a `np.memmap`.

    Args:
        corpus: shape (n, dimension).
        queries: shape (number of queries, dimension).
        k: results for each query; like Milvus, a corpus of fewer rows gives fewer results.
        metric: "L2", "IP" or "COSINE".
        batch: rows of the corpus that are compared at a time.

    Returns:
        Row numbers (int64) and scores (float32), both of shape (number of queries, min(k, n)),
        best first.

    Raises:
        ValueError: an unknown metric, k or batch below 1, shapes that do not fit, NaN, infinity,
            or with COSINE a row of zeros.
    """
    corpus, queries = _pair(corpus, queries, metric)
    if k < 1 or batch < 1:
        raise ValueError(f"k and batch must be at least 1, not {k} and {batch}")
    width = min(k, len(corpus))
    ids = np.empty((len(queries), width), dtype=np.int64)
    scores = np.empty((len(queries), width), dtype=np.float32)
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(first, first + _QUERIES_AT_ONCE)
        some = _prepared(queries[part], metric, "queries", first)
        best = np.empty((len(some), 0), dtype=np.uint64)
        for start in range(0, len(corpus), batch):
            block = _prepared(corpus[start : start + batch], metric, "corpus", start)
            keys = _rank_keys(_all_scores(some, block, metric), start, metric)
            best = _smallest(np.hstack([best, keys]), width)
        ids[part] = (best & np.uint64(0xFFFFFFFF)).astype(np.int64)
        scores[part] = _scores_of_keys(best, metric)
    return ids, scores


def recall_by_query(
    found: Sequence[Sequence[int]],
    exact_scores: ArrayLike,
    corpus: ArrayLike,
    queries: ArrayLike,
    metric: str = "COSINE",
    *,
    tolerance: float = 1e-6,
) -> Float64:
    """Tell for each query which share of its true k nearest rows was found.

    A found row counts when its own exact score is at least as good as the k-th best exact score.
    So among rows that tie for the last place any will do, whichever of them the index returned. A
    row found twice counts once, and a list shorter than k loses what it lacks. Only the first k of
    a longer list are looked at.

    `exact_scores` comes from one call of `exact_search`; a sweep over search parameters reuses it,
    and each call here only scores the rows that were found.

    Args:
        found: for each query the row numbers in `corpus` that a search returned, best first; the
            lists may differ in length.
        exact_scores: shape (number of queries, k), best first, from `exact_search`.
        corpus: shape (n, dimension).
        queries: shape (number of queries, dimension).
        metric: the metric of `exact_scores`.
        tolerance: what a score may be worse by and still count, since an index computes in
            float32: a share of the k-th distance (L2) or of the product of the two lengths
            (IP, COSINE).

    Returns:
        float64 of shape (number of queries,), each between 0 and 1.

    Raises:
        ValueError: shapes that do not fit, a row number outside the corpus, nothing to look for.
    """
    corpus, queries = _pair(corpus, queries, metric)
    exact = np.asarray(exact_scores, dtype=np.float64)
    if exact.ndim != 2 or len(exact) != len(queries) or exact.size == 0:
        raise ValueError(
            f"exact_scores must have the shape ({len(queries)}, k) with k at least 1, for "
            f"{len(queries)} queries; it has {exact.shape}"
        )
    if len(found) != len(queries):
        raise ValueError(f"found has {len(found)} lists for {len(queries)} queries")
    k = exact.shape[1]
    shares = np.empty(len(queries))
    for number, ids in enumerate(found):
        rows = np.unique(_row_numbers(ids, number, len(corpus))[:k])
        good = _good_enough(
            _prepared(queries[number : number + 1], metric, "queries", number),
            _prepared(corpus[rows], metric, "found rows"),
            exact[number, -1],
            metric,
            tolerance,
        )
        shares[number] = np.count_nonzero(good) / k
    return shares


def recall(
    found: Sequence[Sequence[int]],
    exact_scores: ArrayLike,
    corpus: ArrayLike,
    queries: ArrayLike,
    metric: str = "COSINE",
    *,
    tolerance: float = 1e-6,
) -> float:
    """Return the mean of `recall_by_query` over the queries: recall at k, between 0 and 1."""
    shares = recall_by_query(found, exact_scores, corpus, queries, metric, tolerance=tolerance)
    return float(shares.mean())


def clustered_vectors(
    rows: int, dimension: int, *, clusters: int = 100, spread: float = 0.5, seed: int = 0
) -> Float32:
    """Draw unit vectors that lie in clusters, as embeddings do and uniform noise does not.

    Each row is a random centre plus noise, scaled to length 1. To get queries from the same
    clusters, draw corpus and queries in one call and split the result.

    Args:
        rows: how many.
        dimension: components of each.
        clusters: how many centres, all of length 1.
        spread: the length of the noise (root mean square) that is added to a centre.
        seed: the same arguments give the same vectors.

    Returns:
        float32 of shape (rows, dimension).

    Raises:
        ValueError: a number that is too small.
    """
    if rows < 0 or dimension < 1 or clusters < 1 or spread < 0:
        raise ValueError(
            "rows and spread must be at least 0, dimension and clusters at least 1; they are "
            f"{rows}, {spread}, {dimension} and {clusters}"
        )
    generator = np.random.default_rng(seed)
    centres = normalize(generator.standard_normal((clusters, dimension), dtype=np.float32))
    vectors = np.empty((rows, dimension), dtype=np.float32)
    for start in range(0, rows, 8192):  # in blocks, so that the noise takes little extra memory
        part = vectors[start : start + 8192]
        noise = generator.standard_normal(part.shape, dtype=np.float32)
        noise *= spread / np.sqrt(dimension)
        part[:] = normalize(centres[generator.integers(clusters, size=len(part))] + noise)
    return vectors


def bytes_per_vector(data_type: object, dimension: int) -> int:
    """Return the bytes that the components of one vector take, without any index.

    Args:
        data_type: a `pymilvus.DataType` or its name, such as "FLOAT16_VECTOR".
        dimension: components of the vector; for BINARY_VECTOR a multiple of 8.

    Raises:
        ValueError: the type holds no fixed number of components, or the dimension does not fit.
    """
    name = getattr(data_type, "name", data_type)
    if name not in _BITS_PER_COMPONENT:
        raise ValueError(
            f"{name} is no dense vector type; these are: {', '.join(_BITS_PER_COMPONENT)}"
        )
    bits = _BITS_PER_COMPONENT[name] * dimension
    if dimension < 1 or bits % 8:
        needed = "a multiple of 8" if name == "BINARY_VECTOR" else "at least 1"
        raise ValueError(f"the dimension of a {name} must be {needed}, not {dimension}")
    return bits // 8


def to_float16(vectors: ArrayLike) -> NDArray[np.float16]:
    """Round to half precision: 11 significant bits, nothing beyond 65,504.

    Raises:
        ValueError: a row holds NaN, infinity or a number too large for float16.
    """
    given = _checked_any_shape(vectors)
    with np.errstate(over="ignore"):  # what overflows is refused below, with its row
        rounded = given.astype(np.float16)
    _refuse(~np.isfinite(rounded), "hold numbers that are too large for float16 (65,504)")
    return rounded


def to_bfloat16(vectors: ArrayLike) -> NDArray[np.uint16]:
    """Round to bfloat16: the range of float32 with 8 significant bits, halves to even.

    NumPy has no such type, so the result holds the bits, as uint16 of the same shape. A row's
    `.tobytes()` is what pymilvus takes for a BFLOAT16_VECTOR; `from_bfloat16` reads it back.

    Raises:
        ValueError: a row holds NaN, infinity or a number too large for bfloat16.
    """
    bits = _checked_any_shape(vectors).astype("<f4").view("<u4")
    # bfloat16 is the upper half of float32. Adding just under half of its last place, plus the
    # last place itself when it is odd, rounds to nearest and halves to even.
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    _refuse((rounded & 0x7F80) == 0x7F80, "hold numbers that are too large for bfloat16")
    return rounded


def from_bfloat16(bits: ArrayLike | bytes) -> Float32:
    """Turn bfloat16 bits, an uint16 array or the bytes that Milvus returns, into float32."""
    halves = np.frombuffer(bits, dtype="<u2") if isinstance(bits, bytes) else np.asarray(bits)
    if halves.dtype != np.uint16:
        raise ValueError(f"bfloat16 bits are uint16, not {halves.dtype}")
    return (halves.astype("<u4") << 16).view("<f4")


def pack_bits(bits: ArrayLike) -> NDArray[np.uint8]:
    """Pack 0/1 components into the bytes of a BINARY_VECTOR; `.tobytes()` of a row goes to Milvus.

    Component i is bit i % 8, counted from the lowest, of byte i // 8, as in Milvus' documentation.

    Args:
        bits: booleans, or numbers that are all 0 or 1, of shape (n, dimension) or (dimension,);
            the dimension is a multiple of 8.

    Returns:
        uint8 of shape (n, dimension / 8) or (dimension / 8,).

    Raises:
        ValueError: another value than 0 and 1, or a dimension that is no multiple of 8.
    """
    given = np.asarray(bits)
    if given.ndim not in (1, 2) or given.shape[-1] % 8 or given.shape[-1] == 0:
        raise ValueError(
            "bits must have the shape (n, dimension) or (dimension,) with a dimension that is a "
            f"multiple of 8, not {given.shape}"
        )
    _refuse((given != 0) & (given != 1), "hold other values than 0 and 1")
    return np.packbits(given.astype(bool), axis=-1, bitorder="little")


def _pair(
    corpus: ArrayLike, queries: ArrayLike, metric: str
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Check that two matrices can be compared; their values are checked block by block later."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
    corpus, queries = np.asanyarray(corpus), np.asanyarray(queries)
    if corpus.ndim != 2 or queries.ndim != 2 or corpus.shape[1] != queries.shape[1]:
        raise ValueError(
            "corpus and queries must be matrices of the same dimension; their shapes are "
            f"{corpus.shape} and {queries.shape}"
        )
    if len(corpus) >= 2**32:
        raise ValueError(f"exact search numbers its rows in 32 bits; {len(corpus)} are too many")
    return corpus, queries


def _prepared(rows: NDArray[np.generic], metric: str, what: str, first: int = 0) -> Float64:
    """Return checked rows as float64, of length 1 for COSINE; errors number them from `first`."""
    checked = _checked(rows, what, first)
    return _unit_rows(checked, what, first) if metric == "COSINE" else checked


def _checked(rows: NDArray[np.generic], what: str, first: int = 0) -> Float64:
    values = rows.astype(np.float64)
    _refuse(~np.isfinite(values), "hold NaN or infinity", what, first)
    return values


def _checked_any_shape(vectors: ArrayLike) -> Float32:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity: refused here
        given = np.asarray(vectors).astype(np.float32)
    if given.ndim not in (1, 2):
        raise ValueError(f"vectors must have 1 or 2 axes, not the shape {given.shape}")
    _refuse(~np.isfinite(given), "hold NaN, infinity or numbers beyond float32")
    return given


def _unit_rows(rows: Float64, what: str, first: int = 0) -> Float64:
    # Dividing by the largest component first keeps the squares from overflowing or vanishing.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    _refuse(largest == 0, "are zero vectors, which have no direction", what, first)
    scaled = rows / largest
    return scaled / np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, None]


def _refuse(bad: NDArray[np.bool_], problem: str, what: str = "vectors", first: int = 0) -> None:
    """Raise a ValueError that numbers the rows in which `bad` is true."""
    rows = np.flatnonzero(np.atleast_2d(bad).any(axis=1)) + first
    if len(rows):
        shown = ", ".join(str(row) for row in rows[:10])
        more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
        raise ValueError(f"{what}: rows {shown}{more} {problem}")


def _all_scores(queries: Float64, block: Float64, metric: str) -> Float32:
    """Score every query with every row: float32 of shape (queries, rows of the block)."""
    products = queries @ block.T
    q2 = np.einsum("ij,ij->i", queries, queries)[:, None]
    c2 = np.einsum("ij,ij->i", block, block)[None, :]
    if metric == "L2":
        scale = q2 + c2
        products *= -2.0
        products += scale
    else:
        scale = np.sqrt(q2 * c2)
    products[np.abs(products) < _ROUNDING * scale] = 0.0
    return products.astype(np.float32)


def _rank_keys(scores: Float32, first_row: int, metric: str) -> NDArray[np.uint64]:
    """Join score and row number in one integer whose order is: better score, then lower row.

    The bits of a float32 sort like the number once negative ones are inverted and the sign bit of
    the others is set; so the upper half is the score and the lower half the row.
    """
    smaller_is_better = scores if metric == "L2" else -scores
    bits = (smaller_is_better + np.float32(0)).view(np.uint32)  # + 0 turns -0.0 into 0.0
    sortable = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    rows = np.arange(first_row, first_row + scores.shape[1], dtype=np.uint64)
    return (sortable.astype(np.uint64) << np.uint64(32)) | rows


def _smallest(keys: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """Return the `count` smallest keys of each row (all, where there are fewer), sorted."""
    if keys.shape[1] > count:
        keys = np.partition(keys, count - 1, axis=1)[:, :count]
    return np.sort(keys, axis=1)


def _scores_of_keys(keys: NDArray[np.uint64], metric: str) -> Float32:
    sortable = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(sortable >> 31, sortable & np.uint32(0x7FFFFFFF), ~sortable)
    scores = bits.view(np.float32)
    return scores if metric == "L2" else -scores + np.float32(0)


def _row_numbers(ids: Sequence[int], query: int, rows: int) -> NDArray[np.int64]:
    numbers = np.asarray(ids)
    if numbers.size == 0:
        return np.empty(0, dtype=np.int64)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"found for query {query} must be a list of row numbers, not {ids!r}")
    outside = numbers[(numbers < 0) | (numbers >= rows)]
    if len(outside):
        raise ValueError(
            f"found for query {query} names row {outside[0]}, but the corpus has {rows} rows"
        )
    return numbers.astype(np.int64)


def _good_enough(
    query: Float64, rows: Float64, last_score: float, metric: str, tolerance: float
) -> NDArray[np.bool_]:
    """Tell which rows score at least as good as `last_score`, up to the tolerance."""
    scores = _all_scores(query, rows, metric)[0]
    if metric == "L2":
        return scores <= last_score * (1 + tolerance)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return scores >= last_score - tolerance * lengths
