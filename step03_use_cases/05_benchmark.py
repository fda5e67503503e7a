"""Benchmark: how many searches a second, how fast, how right, and at what cost.

    python step03_use_cases/05_benchmark.py
    python step03_use_cases/05_benchmark.py --collection films --concurrency 1 16 --seconds 10
    python step03_use_cases/05_benchmark.py --dataset sift-128-euclidean.hdf5 --rows 100000
    python step03_use_cases/05_benchmark.py --compare before.json after.json

You put load on a collection by asyncio, threads and processes, let requests arrive at a fixed rate
to see the waiting that a closed loop hides, write while you search, and hold the figures, with
recall and errors beside each, against service targets. A collection of your own is only read.

Needs: any Milvus (Milvus Lite by default, which is no server: its rates say nothing of one)
Read:  docs/en/step03_use_cases.md#benchmark
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product

from common import benchmark_report as report
from common.benchmark_files import compare_benchmarks, read_benchmark, write_benchmark
from common.benchmark_options import read_options
from common.benchmark_report import Figures, RequestsFailed, figures_of
from common.benchmark_target import Target, existing_target, target_of
from common.connection import Milvus, connect
from common.display import (
    heading,
    left_out,
    milliseconds,
    progress,
    quiet_pymilvus,
    run,
    say,
    short_path,
)
from common.index_trial import params_for, params_text, wait_until_indexed
from common.load_generation import (
    Load,
    Search,
    closed_loop,
    closed_loop_threads,
    open_loop,
)
from common.load_processes import Workers
from common.loading import load_rows
from common.measuring import Latencies, measure_latency
from common.process_stats import listening_process, watch
from common.settings import settings
from common.vector_sets import VectorSet
from common.workspace import OURS, workspace

import psutil
from pymilvus import AsyncMilvusClient, DataType

COLLECTION, CHARTS = "step03_benchmark", "step03_05"
TIMEOUT = 600.0  # seconds for what prepares: it may wait for an index of many rows
FEW = 20  # searches one by one, after the first
Options = argparse.Namespace


def store(milvus: Milvus, sample: VectorSet, options: Options) -> Target:
    """Make a collection of the sample, build its index, wait until that covers all rows, load."""
    client = milvus.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=sample.dimension)
    client.create_collection(COLLECTION, schema=schema, properties=OURS, timeout=TIMEOUT)
    rows = ({"id": number, "vector": vector} for number, vector in enumerate(sample.vectors))
    load_rows(client, COLLECTION, rows, batch_size=2_000)
    client.flush(COLLECTION, timeout=TIMEOUT)  # an open segment has no index
    ask = client.prepare_index_params()
    params = params_for(milvus, options.build)
    ask.add_index("vector", index_type=options.index, metric_type=sample.metric, params=params)
    client.create_index(COLLECTION, ask, sync=False, timeout=TIMEOUT)
    wait_until_indexed(client, COLLECTION, len(sample.vectors), timeout=TIMEOUT)
    client.load_collection(COLLECTION, timeout=TIMEOUT)
    return target_of(sample, COLLECTION, options.params, options.timeout)


def prepare(milvus: Milvus, options: Options) -> tuple[Target, Latencies]:
    """Have something to search: what it is, and the first searches, one by one."""
    heading("1. What is searched")
    report.tell_busy()
    client = milvus.client
    if options.collection is None:
        target = store(milvus, options.sample, options)
        build = f"{options.index}, {params_text(options.build) or 'its own parameters'}"
        say(f"{target.title}; {build}; {params_text(options.params)}. Milvus: {milvus.label}.")
    else:
        if milvus.kind == "lite" and client.has_collection(options.collection, timeout=TIMEOUT):
            client.load_collection(options.collection, timeout=TIMEOUT)  # for this process alone
        how = {"params": options.params, "k": options.limit, "queries": options.queries}
        how |= {"timeout": options.timeout, "field": options.field, "asked": options.asked}
        how |= {"writes": options.write_share > 0, "seed": options.seed}
        how |= {"most": options.rows} if options.rows else {}
        target = existing_target(milvus, options.collection, **how)
        say(f"{target.title}, {target.sample.metric}. Milvus: {milvus.label}.")
        if not target.complete:
            reason = "it has more rows than are fetched for the true neighbours; raise --rows"
            left_out("recall", reason)
    query = [target.queries[0]]
    first = measure_latency(
        lambda: client.search(data=query, **target.request), repeat=FEW, warmup=1
    )
    say(
        f"{len(target.queries)} queries. The first search took {milliseconds(first.first)}, the "
        f"median of the {FEW} after it {milliseconds(first.median)}."
    )
    return target, first


def search_with(client: AsyncMilvusClient, target: Target) -> Search:
    """The search that is measured: the keys found for the query of a number."""
    queries = [[query] for query in target.queries]

    async def search(number: int) -> list:
        (hits,) = await client.search(data=queries[number], **target.request)
        return hits.ids

    return search


def by_asyncio(milvus: Milvus, work: Callable[[AsyncMilvusClient], Awaitable[Load]]) -> Load:
    """Do some work with a client of asyncio, which belongs to one event loop."""

    async def with_client() -> Load:
        client = AsyncMilvusClient(**milvus.options)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(with_client())


def use_asyncio(milvus: Milvus, target: Target, **how: float) -> Load:
    """A closed loop of coroutines: one thread, one client, one connection."""
    return by_asyncio(milvus, lambda client: closed_loop(search_with(client, target), **how))


def use_threads(milvus: Milvus, target: Target, **how: float) -> Load:
    """A closed loop of threads, which share a client and its connection."""
    queries = [[query] for query in target.queries]

    def search(number: int) -> list:
        (hits,) = milvus.client.search(data=queries[number], **target.request)
        return hits.ids

    return closed_loop_threads(search, **how)


@contextmanager
def ways(milvus: Milvus, target: Target, options: Options) -> Iterator[tuple[dict, list]]:
    """The ways to make load, by name, and the processes that are the client."""
    how = {"queries": len(target.queries)}
    known = {
        "asyncio": partial(use_asyncio, milvus, target, **how),
        "threads": partial(use_threads, milvus, target, **how),
    }
    here = psutil.Process()
    able = milvus.can("several_processes")
    if not able:
        left_out("processes", able.reason)
        yield known, [here]
        return
    with Workers(options.processes, milvus.options, target.request, target.queries) as workers:
        known[f"{options.processes} processes"] = workers.closed_loop
        yield known, [here, *map(psutil.Process, workers.pids)]


def server_of(milvus: Milvus) -> list[psutil.Process] | None:
    """The server's process where it is on this machine and may be looked at."""
    found = listening_process(milvus.uri)
    return [found] if found else None


def measure_closed(milvus: Milvus, target: Target, options: Options) -> list[Figures]:
    """The closed loop in each way at each number in flight. They take turns in each run."""
    heading("2. Closed loop: asyncio, threads, processes")
    with ways(milvus, target, options) as (known, client):
        watched = partial(watch, client=client, server=server_of(milvus))
        runs = {setting: [] for setting in product(known, options.concurrency)}
        turns = [setting for _ in range(options.runs) for setting in runs]
        for way, in_flight in progress(turns, "closed loop"):
            how = {"in_flight": in_flight, "seconds": options.seconds}
            runs[way, in_flight].append(watched(partial(known[way], **how)))
    figures = [figures_of("closed", way, target, own) for (way, _), own in runs.items()]
    report.show_closed(figures, target.title)
    report.compare_ways(figures)
    report.explain_ways(figures, milvus.kind == "lite")
    report.draw_closed(figures, target.title, f"{CHARTS}_closed_loop")
    return figures


def measure_open(milvus: Milvus, target: Target, options: Options) -> list[Figures]:
    """Arrivals at fixed rates, below and above what a closed loop answers just before."""
    heading("3. Open loop: arrivals do not wait for answers")
    how = {"in_flight": options.concurrency[-1], "queries": len(target.queries)}
    how["seconds"] = 3 * options.seconds
    watched = partial(watch, client=[psutil.Process()], server=server_of(milvus))
    closed_run = watched(partial(use_asyncio, milvus, target, **how))
    closed = figures_of("open", "closed loop", target, [closed_run])
    rates = {f"{share:.0%}": share * closed.rate for share in options.shares}
    if options.rate:
        rates = {f"{rate:g}/s": rate for rate in options.rate}
    figures = [closed]
    for way, rate in progress(rates.items(), "open loop", total=len(rates)):
        if rate * how["seconds"] < 1:
            left_out(way, "not one request would arrive")
            continue

        def work(client: AsyncMilvusClient, rate: float = rate) -> Awaitable[Load]:
            search = search_with(client, target)
            return open_loop(search, rate=rate, backlog=options.backlog, **how)

        load = watched(partial(by_asyncio, milvus, work))
        figures.append(figures_of("open", way, target, [load], offered=rate))
    report.show_open(figures)
    report.draw_open(figures, f"{CHARTS}_open_loop")
    return figures


def measure_mixed(milvus: Milvus, target: Target, options: Options) -> list[Figures]:
    """Searches alone, with writes among them, and alone again."""
    heading("4. Reads and writes")
    if not options.write_share:
        left_out("writes", "nothing is written unless --write-share says so")
        return []
    in_flight = options.concurrency[len(options.concurrency) // 2]
    rows, size = target.rows, min(options.write_rows, len(target.rows))

    def work(client: AsyncMilvusClient, share: float) -> Awaitable[Load]:
        async def write(number: int) -> None:
            # The same rows as are there: the true neighbours of each query stay what they are.
            first = number * size % (len(rows) - size + 1)
            batch = list(rows[first : first + size])
            await client.upsert(target.collection, batch, timeout=options.timeout)

        how = {"in_flight": in_flight, "seconds": 3 * options.seconds, "write_share": share}
        search, queries = search_with(client, target), len(target.queries)
        return closed_loop(search, queries=queries, write=write, **how)

    among = f"{options.write_share:.0%} writes"
    shares = {"searches before": 0.0, among: options.write_share, "searches after": 0.0}
    watched, figures = partial(watch, client=[psutil.Process()], server=server_of(milvus)), []
    for way, share in progress(shares.items(), "reads and writes", total=len(shares)):
        load = watched(partial(by_asyncio, milvus, partial(work, share=share)))
        figures.append(figures_of("mixed", way, target, [load]))
    report.show_mixed(figures, size)
    return figures


def benchmark(milvus: Milvus, options: Options) -> list[Figures]:
    """All sections, one after the other.

    Raises:
        RequestsFailed: some did; the figures were shown and written nevertheless.
    """
    target, _ = prepare(milvus, options)
    figures = measure_closed(milvus, target, options)
    for section in (measure_open, measure_mixed):
        if figures[-1].answered:
            figures += section(milvus, target, options)
        else:
            left_out(section.__name__.replace("_", " "), "Milvus answers no more")
    heading("5. What it took, and the targets")
    report.show_usage(figures, milvus.kind == "lite")
    report.show_targets(figures)
    path = options.json or settings().out_dir / f"{CHARTS}_benchmark.json"
    left = ("sample", "asked", "compare", "json")
    parameters = {name: value for name, value in vars(options).items() if name not in left}
    about = {"milvus": milvus.label, "target": target.title, "parameters": parameters}
    write_benchmark(path, figures, **about)
    say(f"Results: {short_path(path)}. Compare two such files with --compare.")
    failed = report.show_errors(figures)
    if failed:
        raise RequestsFailed(f"{failed:,} requests failed: see the table of errors above")
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Measure, or compare two files of results."""
    options = read_options(arguments, __doc__.split("\n\n")[0])
    if options.compare:
        compare_benchmarks(*map(read_benchmark, options.compare))
        return
    made: Sequence[str] = () if options.collection else (COLLECTION,)
    # Every failed request is counted and named: pymilvus need not log each of them as well.
    with quiet_pymilvus(), connect() as milvus, workspace(milvus.client, *made):
        benchmark(milvus, options)


if __name__ == "__main__":
    sys.exit(run(main))
