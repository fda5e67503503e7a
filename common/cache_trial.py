"""Caches on trial: the same searches without one and with one, and what a write does."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from common.connection import Milvus
from common.display import table
from common.performance_trials import Rates, in_rounds, show_rates, timed
from common.query_cache import BOUNDED, QueryCache, Store
from common.vectors import Float32

import numpy as np


class CacheReport(NamedTuple):
    """What a cache did with a stream of searches.

    Attributes:
        hit_rate: the share that was answered from the cache, which was empty at the beginning.
        before, after: the id of the best hit for a query before and after its own row was written.
        hit_rate_after: of the second half of the stream, right after that write.
    """

    hit_rate: float
    before: int
    after: int
    hit_rate_after: float


def measure_caches(
    milvus: Milvus,
    stores: Mapping[str, Store | None],
    queries: Float32,
    find: Callable[[np.ndarray], object],
    ask: Callable[[QueryCache, np.ndarray], object],
    write: Callable[[QueryCache], tuple[int, int]],
    rounds: int,
) -> tuple[Rates, dict[str, CacheReport]]:
    """Ask a stream of queries without a cache and through each cache, and show what came of it.

    Args:
        milvus: which is asked.
        stores: from a way to the store of its cache; None for the way without one.
        queries: in the order in which they are asked, some of them again and again.
        find: asks Milvus.
        ask: asks through a cache.
        write: writes through a cache; the best hit of a query before and after it.
        rounds: that count (`in_rounds`); the cache is empty at the beginning of each.
    """
    settling = BOUNDED if milvus.can("consistency_levels") else 0.0

    def stream(cache: QueryCache, part: Float32) -> float:
        before = cache.counts.hits
        for query in part:
            ask(cache, query)
        return (cache.counts.hits - before) / len(part)

    def start_cold(store: Store | None) -> float:
        if store is None:
            for query in queries:
                find(query)
            return 0.0
        store.clear()
        return stream(QueryCache(store, settling=settling), queries)

    ways = {way: timed(start_cold, len(queries), store) for way, store in stores.items()}
    rates = show_rates("The same searches", "searches/s", in_rounds(ways, rounds))
    reports, rest = {}, queries[len(queries) // 2 :]
    for way, store in stores.items():
        if store is not None:
            hit_rate, cache = start_cold(store), QueryCache(store, settling=settling)
            reports[way] = CacheReport(hit_rate, *write(cache), stream(cache, rest))
            store.clear()
    distinct = len(np.unique(queries, axis=0))
    columns = "cache", "hit rate", "best id", "after a write", "hit rate after it"
    title = f"{len(queries)} searches for {distinct} queries"
    table(title, columns, [(way, *report) for way, report in reports.items()])
    return rates, reports
