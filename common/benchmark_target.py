"""What a benchmark searches: a collection, the request, the queries, and the exact neighbours.

    target = target_of(sample, "step03_benchmark", {"ef": 64}, timeout=10)
    target = existing_target(milvus, "films", params={}, k=10, queries=200, timeout=10)
    print(target.recall(load.answers))

An existing collection is only read. Its vectors are fetched, so that the true neighbours are
computed here and not asked of the index that is on trial.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from common.connection import Milvus
from common.display import progress
from common.key_paging import pages_by_key
from common.load_generation import Answer, Key
from common.row_counts import count_now
from common.vector_files import VectorFile, VectorFileError
from common.vector_sets import VectorSet
from common.vectors import Float32, exact_search, recall_by_query
from common.workspace import is_ours

import numpy as np
from pymilvus import DataType, MilvusClient

MOST_ROWS = 100_000  # of an existing collection that are fetched for the true neighbours
FETCH = 1_000  # rows at once
BETWEEN = 10  # a query lies half-way between a row and its neighbour of this rank
WRITTEN = 1_000  # rows that a mixed load writes again


class NoTarget(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """A collection cannot be measured; the message says why and what to do."""

    exit_code = 2


@dataclass(frozen=True)
class Target:
    """What is searched, and what must be found.

    Attributes:
        title: what it is, in words.
        request: the arguments of `search` besides `data`; what JSON can hold.
        sample: the queries and, if `complete`, all rows.
        complete: whether the rows of `sample` are all there are, so that recall can be told.
        keys: the primary key of each row of `sample`; None where row i has the key i.
        rows: whole rows as stored, which a mixed load writes again as they are.
    """

    title: str
    request: dict[str, object]
    sample: VectorSet
    complete: bool = True
    keys: Sequence[Key] | None = None
    rows: Sequence[dict] = ()

    @property
    def collection(self) -> str:
        """Its name."""
        return self.request["collection_name"]

    @property
    def queries(self) -> Float32:
        """Of shape (n, dimension)."""
        return self.sample.queries

    def recall(self, answers: Counter[Answer]) -> float | None:
        """The mean recall of the answers of a load, None where it cannot be told.

        Args:
            answers: what was found for which query, and how often; equal ones are judged once.
        """
        if not answers or not self.complete:
            return None
        row_of = None if self.keys is None else {key: row for row, key in enumerate(self.keys)}
        found, times = [], []
        for (_, keys), often in answers.items():
            # A key that is unknown was written by others since: it is no true neighbour.
            known = keys if row_of is None else [row_of[key] for key in keys if key in row_of]
            found.append(known)
            times.append(often)
        numbers = [query for query, _ in answers]
        sample, scores = self.sample, self.sample.exact[1][numbers]
        judged = recall_by_query(
            found, scores, sample.vectors, sample.queries[numbers], sample.metric
        )
        return float(np.average(judged, weights=times))


def request_of(
    collection: str, field: str, params: Mapping[str, object], k: int, timeout: float, key: str
) -> dict[str, object]:
    """The arguments of `client.search` besides `data`, for a search that returns keys alone."""
    return {
        "collection_name": collection,
        "anns_field": field,
        "limit": k,
        "search_params": {"params": dict(params)},
        "output_fields": [key],  # without it, Milvus Lite returns whole rows
        "timeout": timeout,
    }


def target_of(
    sample: VectorSet, collection: str, params: Mapping[str, object], timeout: float
) -> Target:
    """A collection that holds row i of a sample under `id` i, in the field `vector`."""
    request = request_of(collection, "vector", params, sample.k, timeout, "id")
    few = enumerate(sample.vectors[:WRITTEN])
    rows = [{"id": number, "vector": vector} for number, vector in few]
    return Target(sample.name, request, sample, rows=rows)


def existing_target(
    milvus: Milvus,
    collection: str,
    *,
    params: Mapping[str, object],
    k: int,
    queries: int,
    timeout: float,
    field: str | None = None,
    asked: VectorFile | None = None,
    most: int = MOST_ROWS,
    writes: bool = False,
    seed: int = 0,
) -> Target:
    """Look a collection of the learner's own over; nothing in it is changed.

    Its rows are fetched up to `most`. Queries are those of a file, or else points half-way between
    two rows that are near each other: an index finds a row that it holds too easily.

    Args:
        milvus: the Milvus that has it.
        collection: its name or alias.
        params: of the search.
        k: hits of a search.
        queries: how many, at most.
        timeout: seconds for each call.
        field: the vector field, None where there is one only.
        asked: a file of queries.
        most: rows to fetch; a larger collection is measured without recall.
        writes: whether a mixed load will write rows again.
        seed: the same one draws the same queries from the same rows.

    Raises:
        NoTarget: no such collection or field, no index, not loaded, another type of vector, too
            few rows; or writes asked for in a collection that no script of this project made.
    """
    client = milvus.client
    about, name, metric = _looked_over(client, collection, field, timeout)
    if writes:
        _refuse_writes(client, collection, about)
    key = next(f["name"] for f in about["fields"] if f.get("is_primary"))
    count = count_now(client, collection, timeout=timeout)
    rows = _rows_of(milvus, collection, key, name, whole=writes, timeout=timeout)
    keys, vectors, whole = _fetch(rows, key, name, min(count, most), writes)
    if metric == "COSINE":  # a row of zeros has no direction, and is never found
        kept = np.any(vectors, axis=1)
        keys, vectors = [k for k, keep in zip(keys, kept, strict=True) if keep], vectors[kept]
    if len(keys) < max(k, BETWEEN + 1):
        raise NoTarget(f"the collection {collection!r} has too few rows: {len(keys)}")
    if asked is None:
        chosen = _between(vectors, queries, metric, seed)
    else:
        chosen = _queries_of(asked, queries, vectors.shape[1])
    title = f"{count:,} rows of {vectors.shape[1]} dimensions in the collection {collection}"
    sample = VectorSet(title, vectors, chosen, metric, k)
    request = request_of(collection, name, params, k, timeout, key)
    return Target(title, request, sample, count <= most, keys, whole)


def _looked_over(
    client: MilvusClient, collection: str, field: str | None, timeout: float
) -> tuple[Mapping, str, str]:
    """What `describe_collection` says, the vector field and its metric, or NoTarget."""
    if not client.has_collection(collection, timeout=timeout):
        raise NoTarget(f"there is no collection {collection!r}")
    about = client.describe_collection(collection, timeout=timeout)
    name = _vector_field(about, collection, field)
    metric = _metric(client, collection, name, timeout)
    state = client.get_load_state(collection, timeout=timeout)["state"]
    if state.name != "Loaded":
        raise NoTarget(
            f"the collection {collection!r} is not loaded, and a benchmark changes nothing. Load "
            f"it: client.load_collection({collection!r})"
        )
    return about, name, metric


def _refuse_writes(client: MilvusClient, collection: str, about: Mapping) -> None:
    if not is_ours(client, collection):
        raise NoTarget(
            f"the collection {collection!r} was not made by a script of this project, so nothing "
            "is written to it. Leave --write-share out"
        )
    if about.get("auto_id"):
        raise NoTarget(
            f"Milvus makes the keys of the collection {collection!r} itself, so writing its rows "
            "again would add to them. Leave --write-share out"
        )


def _vector_field(about: Mapping, collection: str, wanted: str | None) -> str:
    """The name of the field of dense float vectors to search in."""
    kinds = {field["name"]: DataType(field["type"]) for field in about["fields"]}
    dense = [name for name, kind in kinds.items() if kind == DataType.FLOAT_VECTOR]
    if wanted is None and len(dense) == 1:
        return dense[0]
    if wanted in dense:
        return wanted
    said = f"--field is one of {', '.join(dense)}" if dense else "it has no such field"
    what = f"no field {wanted!r} of" if wanted is not None else "not one field of"
    raise NoTarget(f"the collection {collection!r} has {what} FLOAT_VECTOR: {said}")


def _metric(client: MilvusClient, collection: str, field: str, timeout: float) -> str:
    for name in client.list_indexes(collection, timeout=timeout):
        told = client.describe_index(collection, name, timeout=timeout)
        if told["field_name"] == field:
            return told["metric_type"]
    raise NoTarget(f"the field {field!r} of the collection {collection!r} has no index")


def _rows_of(
    milvus: Milvus, collection: str, key: str, field: str, *, whole: bool, timeout: float
) -> Iterator[list[dict]]:
    """All rows, in pages. Not by query_iterator(), which is not Strong on an old server."""
    fields = ["*"] if whole else [key, field]
    options = {"key": key, "output_fields": fields, "page_rows": FETCH, "timeout": timeout}
    return pages_by_key(milvus, collection, **options)


def _fetch(
    pages: Iterable[list[dict]], key: str, field: str, count: int, whole: bool
) -> tuple[list[Key], Float32, list[dict]]:
    """The keys and vectors of the first rows, and some rows as they are if `whole`."""
    if count == 0:
        return [], np.empty((0, 1), np.float32), []
    keys, vectors, rows = [], [], []
    for page in progress(pages, "fetching rows", total=-(-count // FETCH)):
        page = page[: count - len(keys)]
        keys += [row[key] for row in page]
        vectors.append(np.array([row[field] for row in page], dtype=np.float32))
        rows += page[: WRITTEN - len(rows)] if whole else []
        if len(keys) == count:
            break
    return keys, np.vstack(vectors), rows


def _between(vectors: Float32, count: int, metric: str, seed: int) -> Float32:
    """Points half-way between a row and one of its near neighbours."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(vectors), min(count, len(vectors)), replace=False)
    near, _ = exact_search(vectors, vectors[chosen], BETWEEN + 1, metric)
    return (vectors[chosen] + vectors[near[:, BETWEEN]]) / 2


def _queries_of(asked: VectorFile, count: int, dimension: int) -> Float32:
    queries = np.asarray(asked.train if asked.test is None else asked.test)[:count]
    if queries.shape[1] != dimension:
        raise VectorFileError(
            f"the file's vectors have {queries.shape[1]} dimensions and those of the collection "
            f"{dimension}: they cannot be its queries"
        )
    return queries
