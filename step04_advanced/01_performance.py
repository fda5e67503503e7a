"""Performance: what makes Milvus fast from Python, each step against its baseline.

    python step04_advanced/01_performance.py
    python step04_advanced/01_performance.py --rows 100000 --dimension 384
    python step04_advanced/01_performance.py --redis redis://localhost:6379/0

You insert by rows, batches and writers; search with one client and many, in threads, processes and
asyncio; batch queries, cache answers, gather searches, write files; and see what each step gains.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step04_advanced.md#performance
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from common import bulk_files
from common import performance_options as sizing
from common import performance_trials as trials
from common.batching import SearchBatcher
from common.cache_trial import CacheReport, measure_caches
from common.connection import Milvus, connect
from common.display import heading, left_out, run, say
from common.index_building import build_indexes, store_vectors
from common.index_trial import ids_of
from common.load_memory import show_load_memory, store_half
from common.loading import load_rows
from common.performance_options import Sizes
from common.performance_trials import Rates, closed_loop, in_rounds, timed
from common.query_cache import MemoryStore, QueryCache, RedisStore
from common.vector_sets import VectorSet, vector_set
from common.vectors import to_float16
from common.workspace import OURS, workspace

import numpy as np
from pymilvus import AsyncMilvusClient, DataType, MilvusClient

MAIN, INGEST, HALF, BULK = (f"step04_performance{s}" for s in ("", "_ingest", "_half", "_bulk"))
HNSW, EF = ("HNSW", {"M": 16, "efConstruction": 200}), {"params": {"ef": 32}}
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes
SEARCH = {"limit": 10, "output_fields": ["id"], "search_params": EF, "timeout": TIMEOUT}
QUERIES, THREADS, WRITERS, BATCH, FEW = sizing.QUERIES, 8, 3, 1_000, 50


def ways_to_insert(client: MilvusClient, sample: VectorSet, rows: int) -> dict[str, tuple]:
    """Each way to insert: what to call, and how many rows that stores."""
    arrays = [{"vector": vector} for vector in sample.vectors[:rows]]
    lists = [{"vector": row["vector"].tolist()} for row in arrays]

    def loop(some: list[dict], size: int) -> None:
        for start in range(0, len(some), size):
            client.insert(INGEST, some[start : start + size], timeout=TIMEOUT)

    def write_at_once() -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            parts = [arrays[start : start + BATCH] for start in range(0, len(arrays), BATCH)]
            list(pool.map(partial(client.insert, INGEST, timeout=TIMEOUT), parts))

    every = len(arrays)
    return {
        "1 row a request": (partial(loop, lists[:FEW], 1), FEW),
        "lists, 100 a request": (partial(loop, lists, 100), every),
        "lists, 1,000 a request": (partial(loop, lists, BATCH), every),
        "NumPy rows, 1,000 a request": (partial(loop, arrays, BATCH), every),
        "NumPy rows, 5,000 a request": (partial(loop, arrays, 5_000), every),
        "load_rows(), NumPy rows": (partial(load_rows, client, INGEST, arrays), every),
        f"{WRITERS} writers, NumPy rows": (write_at_once, every),
    }


def insert(client: MilvusClient, sample: VectorSet, sizes: Sizes) -> Rates:
    """Measure the ways to insert, all into one collection, which has no index and is not loaded."""
    heading("1. Insert")
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True, auto_id=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=sample.dimension)
    client.create_collection(INGEST, schema=schema, properties=OURS, timeout=TIMEOUT)
    ways = ways_to_insert(client, sample, sizes.ingest)
    rates = in_rounds({way: timed(*work) for way, work in ways.items()}, sizes.rounds)
    client.drop_collection(INGEST, timeout=TIMEOUT)
    return trials.show_rates("Insert", "rows/s", rates)


async def search(client: AsyncMilvusClient, query: np.ndarray) -> object:
    """One search, in an event loop."""
    return await client.search(MAIN, data=[query], **SEARCH)


def ask_at_once(milvus: Milvus, sample: VectorSet, sizes: Sizes) -> Rates:
    """Measure clients and callers: connections, threads, processes, asyncio."""
    heading("2. Clients and callers")
    turn, few, searches = count(), max(5, sizes.searches // 20), sizes.searches

    def ask(client: MilvusClient) -> None:
        client.search(MAIN, data=[sample.queries[next(turn) % QUERIES]], **SEARCH)

    def connect_each_time() -> None:
        for _ in range(few):
            client = MilvusClient(dedicated=True, **milvus.options)
            ask(client)
            client.close()

    with ExitStack() as stack:
        own = [MilvusClient(dedicated=True, **milvus.options) for _ in range(THREADS)]
        same = [MilvusClient(**milvus.options) for _ in range(THREADS)]
        stack.callback(lambda: [client.close() for client in own + same])
        trials.show_channels(milvus.client)
        runner = stack.enter_context(asyncio.Runner())
        other = AsyncMilvusClient(**milvus.options)
        stack.callback(lambda: runner.run(other.close()))
        how = {"callers": THREADS, "searches": searches}
        asking = partial(closed_loop, partial(search, other), sample.queries, **how)
        threads = partial(trials.ask_in_threads, ask, threads=THREADS, calls=searches)
        ways = {
            "a connection each": timed(connect_each_time, few),
            "one client": timed(lambda: [ask(milvus.client) for _ in range(searches)], searches),
            f"{THREADS} threads, one client": partial(threads, same[:1]),
            f"{THREADS} threads, dedicated": partial(threads, own),
            f"asyncio, {THREADS} at once": lambda: runner.run(asking()).rate,
        }
        if milvus.can("several_processes"):
            how = milvus.options, MAIN, sample.queries, 2
            pool = stack.enter_context(trials.search_processes(*how, **SEARCH))
            ways["2 processes, 4 threads"] = timed(pool.search, searches, searches, THREADS // 2)
        else:
            left_out("searches from two processes", milvus.can("several_processes").reason)
        rates = in_rounds(ways, sizes.rounds)
    return trials.show_rates("One query a request", "searches/s", rates)


def ask_in_batches(client: MilvusClient, sample: VectorSet, sizes: Sizes) -> tuple[Rates, bool]:
    """Measure queries in a request; also whether they find the same."""
    heading("3. Many queries in a request")

    def ask(size: int) -> list[list[int]]:
        parts = [sample.queries[start : start + size] for start in range(0, 100, size)]
        answers = [client.search(MAIN, data=part, **SEARCH) for part in parts]
        return [ids for found in answers for ids in ids_of(found)]

    ways = {f"requests of {size}": timed(ask, 100, size) for size in (1, 10, 100)}
    rates = trials.show_rates("One caller", "queries/s", in_rounds(ways, sizes.rounds))
    alone, together = ask(1), ask(100)
    recall = sample.recall(together, slice(100)).mean()
    same = "the same" if alone == together else "not the same"
    say(f"Alone and together the queries find {same} rows; recall@10 {recall:.3f}.")
    return rates, alone == together


def read_fields(client: MilvusClient, sample: VectorSet, sizes: Sizes) -> Rates:
    """Measure what comes back with each hit."""
    heading("4. Output fields")

    def ask(fields: list[str]) -> None:
        options = {"limit": 100, "output_fields": fields, "search_params": {"params": {"ef": 100}}}
        for query in sample.queries[:20]:
            client.search(MAIN, data=[query], **SEARCH | options)

    fields = {"all fields": ["*"], "the text": ["text"], "the id only": ["id"]}
    ways = {way: timed(ask, 20, names) for way, names in fields.items()}
    return trials.show_rates("100 hits", "searches/s", in_rounds(ways, sizes.rounds))


def compare_levels(milvus: Milvus, sample: VectorSet, sizes: Sizes) -> Rates:
    """Measure what a consistency level costs; nothing where all are the same."""
    heading("5. Consistency level")
    if not milvus.can("consistency_levels"):
        left_out("Strong against Bounded", milvus.can("consistency_levels").reason)
        return {}

    def ask(level: str, times: int) -> None:
        for query in sample.queries[:times]:
            milvus.client.search(MAIN, data=[query], consistency_level=level, **SEARCH)

    times = {"Strong": 3, "Bounded": 40, "Eventually": 40}
    ways = {level: timed(ask, number, level, number) for level, number in times.items()}
    return trials.show_rates("One caller", "searches/s", in_rounds(ways, sizes.rounds))


def use_cache(
    milvus: Milvus, sample: VectorSet, sizes: Sizes, redis: RedisStore | None
) -> tuple[Rates, dict[str, CacheReport]]:
    """Measure answers from a cache, how often they are found, and what a write changes."""
    heading("6. Query cache")
    client = milvus.client
    asked = trials.popular_queries(min(100, sizes.searches // 2), sizes.searches)

    def find(query: np.ndarray, **options: object) -> list:
        return client.search(MAIN, data=[query], **SEARCH, **options)

    def ask(cache: QueryCache, query: np.ndarray) -> None:
        cache.answer(partial(find, query), MAIN, query, SEARCH)

    def write(cache: QueryCache) -> tuple[int, int]:
        query, strong = sample.queries[0], {"consistency_level": "Strong"}
        row = {"id": len(sample.vectors), "number": 0, "text": "written", "vector": query}
        best = partial(cache.answer, partial(find, query, **strong), MAIN, query, SEARCH | strong)
        before = best()[0]["id"]
        with cache.writing(MAIN):
            client.upsert(MAIN, [row], timeout=TIMEOUT)
        after = best()[0]["id"]
        with cache.writing(MAIN):
            client.delete(MAIN, ids=[row["id"]], timeout=TIMEOUT)
        return before, after

    stores = {"no cache": None, "cache in memory": MemoryStore()}
    stores |= {"cache in Redis": redis} if redis else {}
    if redis is None:
        left_out("the cache in Redis", "no --redis URL, as in --redis redis://localhost:6379/0")
    return measure_caches(milvus, stores, sample.queries[asked], find, ask, write, sizes.rounds)


def gather_searches(milvus: Milvus, sample: VectorSet, sizes: Sizes, callers: int) -> Rates:
    """Measure callers at once, with each search for itself and with micro-batching."""
    heading("7. Micro-batching")
    with asyncio.Runner() as runner:
        client = AsyncMilvusClient(**milvus.options)
        batcher = SearchBatcher(client)
        asks = {
            "AsyncMilvusClient": partial(search, client),
            "SearchBatcher": lambda query: batcher.search(MAIN, query, **SEARCH),
        }
        how = {"callers": callers, "searches": max(2 * sizes.searches, callers)}
        loads = trials.callers_in_turns(runner, asks, sample.queries, sizes.rounds, **how)
        runner.run(batcher.close())
        runner.run(client.close())
    return trials.show_loads(loads, batcher.counts)


def halve_vectors(milvus: Milvus, sample: VectorSet, sizes: Sizes) -> Rates:
    """Measure FLOAT16 vectors against FLOAT; nothing where they cannot be stored."""
    heading("8. Memory: float16 and mmap")
    if not milvus.can("FLOAT16_VECTOR"):
        left_out("float16 vectors", milvus.can("FLOAT16_VECTOR").reason)
        return {}
    store_half(milvus, HALF, sample, HNSW)

    def ask(name: str, queries: np.ndarray) -> float:
        hits = [milvus.client.search(name, data=[query], **SEARCH)[0] for query in queries]
        return sample.recall(ids_of(hits)).mean()

    asks = {"float32": (MAIN, sample.queries), "float16": (HALF, to_float16(sample.queries))}
    say("; ".join(f"recall@10 {ask(*each):.3f} with {way}" for way, each in asks.items()))
    ways = {way: timed(ask, QUERIES, *each) for way, each in asks.items()}
    return trials.show_rates("One caller", "searches/s", in_rounds(ways, sizes.rounds))


def write_bulk_files(milvus: Milvus, sample: VectorSet, sizes: Sizes, bucket: str) -> list[int]:
    """Write files for a bulk import, and import them where that goes; the ids that differ."""
    heading("9. Files for a bulk import")
    if missing := bulk_files.bulk_writer_missing():
        left_out("files for a bulk import", missing)
        return []
    schema = milvus.client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=sample.dimension)
    rows = [{"id": n, "vector": vector} for n, vector in enumerate(sample.vectors[: sizes.ingest])]
    with TemporaryDirectory() as folder:
        files = bulk_files.write_files(schema, rows, Path(folder))
        wrong = bulk_files.different_rows(files, rows)
        say(f"{len(rows):,} rows in {len(files)} Parquet files; read back, {len(wrong)} differ.")
        if milvus.can("bulk_import") and bucket:
            milvus.client.create_collection(BULK, schema=schema, properties=OURS, timeout=TIMEOUT)
            bulk_files.import_files(milvus, BULK, bulk_files.upload(files, bucket, BULK))
        else:
            reason = milvus.can("bulk_import").reason or "no --bucket to put them in"
            left_out("the import of these files", reason)
    return wrong


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson."""
    options = sizing.parse(__doc__.split("\n\n")[0], arguments)
    redis = RedisStore(options.redis, MAIN) if options.redis else None
    with connect() as milvus, workspace(milvus.client, MAIN, INGEST, HALF, BULK):
        client, sizes = milvus.client, sizing.sizes_for(milvus, options)
        sample = vector_set(None, rows=sizes.rows, dimension=options.dimension, queries=QUERIES)
        measured = [insert(client, sample, sizes)]
        store_vectors(client, MAIN, sample.vectors, timeout=TIMEOUT)
        build_indexes(milvus, {MAIN: HNSW}, sample.metric)
        measured.append(ask_at_once(milvus, sample, sizes))
        measured.append(ask_in_batches(client, sample, sizes)[0])
        measured.append(read_fields(client, sample, sizes))
        measured.append(compare_levels(milvus, sample, sizes))
        measured.append(use_cache(milvus, sample, sizes, redis)[0])
        measured.append(gather_searches(milvus, sample, sizes, options.callers))
        measured.append(halve_vectors(milvus, sample, sizes))
        show_load_memory(sizes.mapped)
        write_bulk_files(milvus, sample, sizes, options.bucket)
        heading("10. Each step's gain")
        trials.show_gains(milvus, trials.gains_of(measured, sizing.STEPS), "step04_01_gains")


if __name__ == "__main__":
    sys.exit(run(main))
