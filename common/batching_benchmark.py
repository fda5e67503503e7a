"""How much faster callers at once are with micro-batching than with the bare AsyncMilvusClient.

    python -m common.batching_benchmark
    python -m common.batching_benchmark --uri http://localhost:19530 --rows 100000 --callers 100

Both ways search the same collection with the same queries in the same event loop, in turns. The
figure is the median of the ratios of the pairs. Exit code 1 if it is below BAR, or if the 95th
percentile of what callers wait is not below that of the bare client.
"""

import argparse
import asyncio
import statistics
import sys
import time

from common.batching import SearchBatcher
from common.connection import Milvus, connect
from common.display import heading, milliseconds, run, say, table
from common.index_trial import params_for, wait_until_indexed
from common.loading import load_rows
from common.local_server import LocalServer
from common.measuring import wait_until
from common.performance_trials import Load, closed_loop
from common.vectors import Float32, clustered_vectors
from common.workspace import OURS, workspace

from pymilvus import AsyncMilvusClient, DataType

BAR = 3.0  # searches per second over those of the bare client
COLLECTION = "batching_benchmark"
QUERIES = 1_000
SEARCH = {"limit": 10, "output_fields": ["id"], "search_params": {"params": {"ef": 32}}}

Pair = tuple[Load, Load]
"""The bare client and the batcher, measured one after the other."""


def prepare(milvus: Milvus, name: str, rows: int, dimension: int, timeout: float = 600) -> Float32:
    """Store clustered vectors under an HNSW index; the queries, which are not among them.

    The collection is compacted into one segment where it fits into one, as Milvus does in time.
    """
    client = milvus.client
    vectors = clustered_vectors(rows + QUERIES, dimension)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    client.create_collection(name, schema=schema, properties=OURS, timeout=timeout)
    numbered = ({"id": n, "vector": vector} for n, vector in enumerate(vectors[:rows]))
    load_rows(client, name, numbered, batch_size=2000)
    client.flush(name, timeout=timeout)
    index_params = client.prepare_index_params()
    params = params_for(milvus, {"M": 16, "efConstruction": 200})
    index_params.add_index("vector", index_type="HNSW", metric_type="COSINE", params=params)
    client.create_index(name, index_params, sync=False, timeout=timeout)
    wait_until_indexed(client, name, rows, timeout=timeout)
    client.load_collection(name, timeout=timeout)
    _merge_segments(milvus, name, rows, timeout)
    return vectors[rows:]


def _merge_segments(milvus: Milvus, name: str, rows: int, timeout: float) -> None:
    client = milvus.client
    if milvus.kind == "lite" or len(client.list_loaded_segments(name, timeout=timeout)) == 1:
        return
    job = client.compact(name, timeout=timeout)
    done = f"{name} is compacted"
    wait_until(lambda: client.get_compaction_state(job) == "Completed", timeout, done)

    def is_one() -> bool:
        segments = client.list_loaded_segments(name, timeout=timeout)
        return len(segments) == 1 and segments[0].num_rows == rows

    # The merged segment is searched once its own index is built.
    wait_until(is_one, timeout, f"{name} is one segment", pause=0.5)


def compare_with_bare(
    milvus: Milvus, name: str, queries: Float32, callers: int, searches: int, pairs: int = 5
) -> list[Pair]:
    """Let callers search at once with the bare client and with a batcher, in turns.

    Args:
        milvus: connected; an asynchronous client of its own is made.
        name: of a collection that `prepare` has made.
        queries: of shape (n, dimension).
        callers: searches under way at a time.
        searches: of each run.
        pairs: that count; one before them warms up.
    """
    return asyncio.run(_compare(milvus, name, queries, callers, searches, pairs))


async def _compare(
    milvus: Milvus, name: str, queries: Float32, callers: int, searches: int, pairs: int
) -> list[Pair]:
    options = {**SEARCH, "timeout": 60}
    how = {"callers": callers, "searches": searches}
    async with AsyncMilvusClient(**milvus.options) as client, SearchBatcher(client) as batcher:

        async def bare() -> Load:
            return await closed_loop(
                lambda query: client.search(name, data=[query], **options), queries, **how
            )

        async def batched() -> Load:
            return await closed_loop(
                lambda query: batcher.search(name, query, **options), queries, **how
            )

        measured = []
        for number in range(-1, pairs):
            if number % 2:
                second = await batched()
                first = await bare()
            else:
                first = await bare()
                second = await batched()
            if number >= 0:
                measured.append((first, second))
        return measured


def show(pairs: list[Pair]) -> bool:
    """Print the pairs and their medians; whether the bar is reached."""
    columns = "pair", "bare, q/s", "p95", "batched, q/s", "p95 ", "ratio"
    rows = [
        (
            number,
            f"{bare.rate:,.0f}",
            milliseconds(bare.p95),
            f"{batched.rate:,.0f}",
            milliseconds(batched.p95),
            f"{batched.rate / bare.rate:.2f}",
        )
        for number, (bare, batched) in enumerate(pairs, start=1)
    ]
    table("In turns", columns, rows)
    ratio = statistics.median(batched.rate / bare.rate for bare, batched in pairs)
    bare, batched = (
        statistics.median(load.p95 for load in loads) for loads in zip(*pairs, strict=True)
    )
    say(
        f"median ratio: {ratio:.2f}; the bar is {BAR:g}. Median p95: {milliseconds(bare)} bare, "
        f"{milliseconds(batched)} batched."
    )
    return ratio >= BAR and batched < bare


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark against a Milvus, by default against a local server of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--uri", help="a running Milvus; else a local server is started")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the collection")
    parser.add_argument("--dimension", type=int, default=384, help="dimensions of the vectors")
    parser.add_argument("--callers", type=int, default=100, help="callers at once")
    parser.add_argument("--searches", type=int, default=3_000, help="searches of each run")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs")
    options = parser.parse_args(arguments)
    if options.uri is None:
        with LocalServer() as server:
            return measure(server.uri, options)
    return measure(options.uri, options)


def measure(uri: str, options: argparse.Namespace) -> int:
    """Do what the options ask for; the exit code."""
    with connect(uri) as milvus, workspace(milvus.client, COLLECTION):
        heading(f"{options.callers} callers, {options.rows:,} rows x {options.dimension}")
        started = time.perf_counter()
        queries = prepare(milvus, COLLECTION, options.rows, options.dimension)
        say(f"{milvus.label}: stored and indexed in {time.perf_counter() - started:.0f} s.")
        how = options.callers, options.searches, options.pairs
        return 0 if show(compare_with_bare(milvus, COLLECTION, queries, *how)) else 1


if __name__ == "__main__":
    sys.exit(run(main))
