"""An index on trial: waiting until it is built, what it takes, how it searches.

    told = wait_until_indexed(client, "papers", rows=10_000, timeout=120)
    figures = measure_search(search, sample, calls=200, threads=8)
    table("HNSW", SearchFigures.columns, [figures.cells])

The calls to Milvus that a lesson teaches stay in its script. What is here is what has to be right
before and while the clock runs: the index covers all rows, the queries are ones that were held out,
and beside each rate stands the recall of the same setting.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import ClassVar

from common.connection import Milvus
from common.display import milliseconds
from common.measuring import (
    Latencies,
    Spread,
    measure_latency,
    measure_throughput,
    wait_until,
)
from common.vector_sets import VectorSet
from common.vectors import Float32, Float64

import numpy as np
from pymilvus import MilvusClient

Search = Callable[[Float32], Sequence[Sequence[Mapping]]]
"""A search with query vectors of shape (n, dimension), which returns n lists of hits."""


class IndexFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """Milvus gave up building an index; the message has its reason."""


@dataclass(frozen=True)
class SearchFigures:
    """How well and how fast a collection answers with one setting of its search.

    Attributes:
        recall_by_query: for each query the share of its true k nearest rows that was found.
        latencies: of requests with one query, one after the other; the very first one is apart.
        rates: queries answered in a second by several threads at once, one rate for each run.
        failed: requests that failed in those runs.
    """

    recall_by_query: Float64
    latencies: Latencies
    rates: Spread
    failed: int

    columns: ClassVar = ("recall", "first", "median", "p95", "queries/s", "of all runs")

    @property
    def cells(self) -> tuple[str, ...]:
        """The figures as texts, for a table with these columns."""
        times, rates = self.latencies, self.rates
        return (
            f"{self.recall:.3f}",
            *map(milliseconds, (times.first, times.median, times.p95)),
            f"{rates.median:,.0f}",
            f"{rates.lowest:,.0f} to {rates.highest:,.0f}",
        )

    @property
    def recall(self) -> float:
        """The mean over the queries, between 0 and 1."""
        return float(self.recall_by_query.mean())


def params_for(milvus: Milvus, params: Mapping[str, object]) -> dict[str, object]:
    """Build parameters in the form in which the Milvus at hand reads them.

    `add_index(params={"nlist": 64})` is the usual form, which every server reads. pymilvus 3.0
    sends its entries one by one, and Milvus Lite 3.2.2 looks for them in a single entry called
    "params": of the usual form it sees nothing, and silently builds with values of its own.
    """
    return {"params": dict(params)} if milvus.kind == "lite" and params else dict(params)


def params_told(description: Mapping[str, object]) -> dict[str, object]:
    """The build parameters in what `describe_index` returned, in either form.

    A server tells them as texts. Numbers come back as numbers, anything else as it is.
    """
    about = {"index_type", "metric_type", "field_name", "index_name", "params", "search_params"}
    about |= {"total_rows", "indexed_rows", "pending_index_rows", "state"}
    nested = description.get("params") or {}
    found = {**nested, **{name: v for name, v in description.items() if name not in about}}
    return {
        name: int(value) if isinstance(value, str) and value.isdigit() else value
        for name, value in found.items()
    }


def params_text(params: Mapping[str, object]) -> str:
    """Parameters in one line, as in "M=16, efConstruction=200"."""
    return ", ".join(f"{name}={value}" for name, value in params.items())


def wait_until_indexed(
    client: MilvusClient,
    collection: str,
    rows: int,
    *,
    field: str = "vector",
    timeout: float,
    pause: float = 0.02,
) -> dict[str, object]:
    """Wait until the index of a field covers all rows; what `describe_index` then says.

    Flush first: rows in a segment that is still open have no index, and a search compares with
    all of them. `create_index()` waits by itself, but looks only twice a second; for the time that
    a build took, order with `create_index(sync=False)` and wait here.

    Args:
        client: of the Milvus that builds.
        collection: its name.
        rows: how many rows it must cover.
        field: the vector field; the index bears its name unless you gave it another one.
        timeout: seconds for the whole wait.
        pause: seconds between two questions.

    Raises:
        IndexFailed: Milvus gave up.
        TimeoutError: it was not built in time.
    """

    def built() -> dict[str, object] | None:
        told = client.describe_index(collection, field, timeout=timeout)
        if told["state"] == "Failed":
            reason = told.get("index_state_fail_reason") or "no reason given"
            raise IndexFailed(f"the index of {collection} cannot be built: {reason}")
        finished = told["state"] == "Finished" and told["pending_index_rows"] == 0
        return told if finished and told["indexed_rows"] >= rows else None

    return wait_until(
        built, timeout, f"the index of {collection} covers {rows:,} rows", pause=pause
    )


def told_bytes(milvus: Milvus, collection: str) -> int | None:
    """The bytes of a collection's indexes as the engine itself has them; None if it does not tell.

    Milvus Lite writes each index into a file, which holds what it keeps in memory. A server tells
    no client: the `mem_size` of `list_loaded_segments` is 0, on purpose since it was not right
    (github.com/milvus-io/milvus/issues/43876). There is `memory_bytes` to compute it.
    """
    if milvus.kind != "lite":
        return None
    files = Path(milvus.uri, "collections", collection).rglob("*.idx")
    return sum(file.stat().st_size for file in files) or None


def ids_of(hits: Sequence[Sequence[Mapping]]) -> list[list[int]]:
    """The primary keys of the hits of each query, best first."""
    return [[hit["id"] for hit in found] for found in hits]


def measure_search(
    search: Search, sample: VectorSet, *, calls: int, threads: int, **how: int
) -> SearchFigures:
    """Measure one search, with the arguments of `measure_searches`."""
    return measure_searches([search], sample, calls=calls, threads=threads, **how)[0]


def measure_searches(
    searches: Sequence[Search],
    sample: VectorSet,
    *,
    calls: int,
    threads: int,
    requests: int | None = None,
    batch: int = 1,
    runs: int = 5,
    warmup: int = 10,
) -> list[SearchFigures]:
    """Measure the recall, the latency and the rate of searches on the held-out queries.

    First comes the latency of each, so that its first request is really the first one. Then the
    searches take turns in each run for the rate: what else the machine does in a bad second hits
    one run of each and not all runs of one. Load the collections before, and let
    `wait_until_indexed` return.

    Args:
        searches: each is given query vectors and returns the hits; several threads call it at
            once.
        sample: the queries and their exact neighbours; its row i must be stored under the id i.
        calls: requests that count for the latency, each with one query.
        threads: how many ask at once for the rate.
        requests: in each run for the rate, None for as many as `calls`; at least `threads`.
        batch: queries in each of those. With one, a small index answers faster than the request
            around it travels, and the rate tells of that; with more, it tells of the index.
        runs: how often the rate is measured.
        warmup: requests before those that count for the latency.

    Raises:
        NothingMeasured: every request failed.
        ValueError: a number that is too small.
    """
    if batch < 1 or runs < 1:
        raise ValueError(f"batch and runs must be at least 1, not {batch} and {runs}")
    turn = count()  # next() on it is one step, also for several threads

    def ask(search: Search, size: int) -> None:
        first = next(turn) * size
        search(sample.queries[np.arange(first, first + size) % len(sample.queries)])

    latencies = [
        measure_latency(partial(ask, search, 1), repeat=calls, warmup=warmup) for search in searches
    ]
    how = {"threads": threads, "calls": requests or calls, "warmup": 1}
    measured = [
        [measure_throughput(partial(ask, search, batch), **how) for search in searches]
        for _ in range(runs)
    ]
    figures = []
    for search, times, own in zip(searches, latencies, zip(*measured, strict=True), strict=True):
        found = sample.recall(ids_of(search(sample.queries)))
        rates = Spread(tuple(run.per_second * batch for run in own))
        figures.append(SearchFigures(found, times, rates, sum(run.failed for run in own)))
    return figures
