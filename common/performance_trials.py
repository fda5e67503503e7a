"""Ways to do the same work, measured in turns: rates, gains over a baseline, callers at once.

    rates = in_rounds({"one row": insert_one, "1,000 rows": insert_1000}, rounds=5)
    gain = gain_of(rates, "1,000 rows", "one row")

The calls to Milvus stand in the lesson; what is here only times them, in rounds in which each way
runs once. The gain of a way is the median of its ratios to the baseline of the same round.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple

from common.batching import BatchCounts
from common.client_internals import Channels, channels
from common.connection import Milvus
from common.display import figure, milliseconds, save_chart, say, table
from common.measuring import PairedRatio, Spread, measure_throughput, percentile
from common.vectors import Float32

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

Rates = dict[str, Spread]
"""From a way to its rates, one of each round."""

Search = Callable[[Float32], Awaitable[object]]
"""Searches with one query vector."""

_PROCESS: dict[str, object] = {}  # what a process of SearchProcesses searches with


class Load(NamedTuple):
    """What callers at once got: searches per second, and the 95th percentile in seconds."""

    rate: float
    p95: float


class Gain(NamedTuple):
    """What a step brought: it, what it is compared with, and the pairs of rates."""

    step: str
    baseline: str
    pairs: PairedRatio


def in_rounds(ways: Mapping[str, Callable[[], float]], rounds: int = 5) -> Rates:
    """Measure each way once in a round; in every second round they go in reverse.

    Args:
        ways: each measures and returns a rate, over 0.
        rounds: that count; one before them warms up.

    Raises:
        ValueError: `rounds` is below 1, or a rate is not over 0.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(-1, rounds):
        for way in reversed(ways) if number % 2 else ways:
            rate = ways[way]()
            if not rate > 0:
                raise ValueError(f"the rate of {way!r} must be over 0, not {rate}")
            if number >= 0:
                rates[way].append(rate)
    return {way: Spread(tuple(values)) for way, values in rates.items()}


def gain_of(rates: Rates, step: str, baseline: str) -> Gain:
    """What one way brings against another one of the same rounds."""
    pairs = zip(rates[step].values, rates[baseline].values, strict=True)
    return Gain(step, baseline, PairedRatio(tuple(pairs)))


def gains_of(measured: Iterable[Rates], steps: Iterable[tuple[str, str]]) -> list[Gain]:
    """The gains of those steps, pairs of a way and its baseline, that were measured."""
    every = {way: rates for rates in measured for way in rates}
    return [gain_of(every[step], step, baseline) for step, baseline in steps if step in every]


def show_rates(title: str, unit: str, rates: Rates) -> Rates:
    """Print the rate of each way, and its ratio to that of the first; the rates again."""
    first = next(iter(rates))
    rows = []
    for way, spread in rates.items():
        pairs = gain_of(rates, way, first).pairs
        every = f"{pairs.lowest:.2f} to {pairs.highest:.2f}"
        rows.append((way, f"{spread.median:,.0f} {unit}", f"{pairs.ratio:.2f} x", every))
    table(title, ("way", "median rate", "to the first", "of all rounds"), rows)
    return rates


def show_gains(milvus: Milvus, gains: Sequence[Gain], chart: str) -> None:
    """Print and draw what each step brought against its own baseline."""
    rows = []
    for gain in gains:
        every = f"{gain.pairs.lowest:.2f} to {gain.pairs.highest:.2f}"
        rows.append(
            (gain.step, gain.baseline, f"{gain.pairs.ratio:.2f} x", every, gain.pairs.clear)
        )
    table("Medians of pairs", ("step", "against", "gain", "of all rounds", "clear"), rows)
    draw_gains(milvus, gains, chart)


def draw_gains(milvus: Milvus, gains: Sequence[Gain], chart: str) -> None:
    """Draw the gains as bars, with the smallest and the largest ratio of a round as whiskers."""
    title = f"What each step gains: {milvus.label}"
    height = 1.6 + 0.5 * len(gains)
    xlabel = "rate against the baseline (times, logarithmic)"
    drawing, axes = figure(title, xlabel, "step", size=(10, height))
    places = range(len(gains))[::-1]  # the first one on top
    ratios = [gain.pairs.ratio for gain in gains]
    below = [gain.pairs.ratio - gain.pairs.lowest for gain in gains]
    above = [gain.pairs.highest - gain.pairs.ratio for gain in gains]
    axes.barh(places, [ratio - 1 for ratio in ratios], left=1, height=0.55, label="median ratio")
    # The ends of all rounds, beside which the value stands.
    axes.errorbar(ratios, places, xerr=(below, above), fmt="none", color="#333333", capsize=3,
                  linewidth=1.2, label="all rounds")  # fmt: skip
    for place, gain in zip(places, gains, strict=True):
        end = max(gain.pairs.highest, 1)
        text = f"{gain.pairs.ratio:.2f}" if gain.pairs.ratio < 10 else f"{gain.pairs.ratio:.0f}"
        axes.annotate(text, (end, place), (6, 0), textcoords="offset points", va="center")
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xscale("log")
    left = min(0.8, 0.9 * min(gain.pairs.lowest for gain in gains))
    right = 2.5 * max(gain.pairs.highest for gain in gains)
    ticks = [
        tick for power in (0.01, 0.1, 1, 10, 100, 1000) for tick in (power, 2 * power, 5 * power)
    ]
    axes.set_xlim(left, right)
    axes.set_xticks([tick for tick in ticks if left <= tick <= right])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(places, [f"{gain.step}\n(against {gain.baseline})" for gain in gains])
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right")
    save_chart(drawing, chart)


def timed(work: Callable[..., object], amount: int, *arguments: object) -> Callable[[], float]:
    """A way for `in_rounds`: does some work once, and gives its amount per second."""

    def measure() -> float:
        started = time.perf_counter()
        work(*arguments)
        return amount / (time.perf_counter() - started)

    return measure


async def closed_loop(ask: Search, queries: Float32, *, callers: int, searches: int) -> Load:
    """Let callers ask at once in one event loop, each again as soon as it was answered.

    Args:
        ask: searches with one query.
        queries: of shape (n, dimension); they are asked in turn.
        callers: how many have a search under way at a time.
        searches: of all callers together.

    Raises:
        ValueError: a number below 1. Errors of `ask` go to the caller.
    """
    if callers < 1 or searches < 1:
        raise ValueError(f"callers and searches must be 1 or more, not {callers} and {searches}")
    turn, seconds = iter(range(searches)), []

    async def call() -> None:
        for number in turn:
            begun = time.perf_counter()
            await ask(queries[number % len(queries)])
            seconds.append(time.perf_counter() - begun)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call())
    return Load(searches / (time.perf_counter() - started), percentile(seconds, 95))


def callers_in_turns(
    runner: asyncio.Runner,
    asks: Mapping[str, Search],
    queries: Float32,
    rounds: int,
    *,
    callers: int,
    searches: int,
) -> dict[str, list[Load]]:
    """Run `closed_loop` with each way to ask in every round (`in_rounds`).

    Args:
        runner: of the event loop to which the clients belong.
        asks: from a way to what searches with one query.
        queries, callers, searches: as for `closed_loop`.
        rounds: that count.

    Returns:
        From each way to its loads, one of each round.
    """
    loads: dict[str, list[Load]] = {way: [] for way in asks}

    def measure(way: str) -> float:
        how = {"callers": callers, "searches": searches}
        loads[way].append(runner.run(closed_loop(asks[way], queries, **how)))
        return loads[way][-1].rate

    in_rounds({way: partial(measure, way) for way in asks}, rounds)
    return {way: own[-rounds:] for way, own in loads.items()}  # the first one warmed up


def show_loads(loads: Mapping[str, Sequence[Load]], counts: BatchCounts) -> Rates:
    """Print rates and waits of callers at once, and how large the batches were; the rates."""
    rates = {way: Spread(tuple(load.rate for load in own)) for way, own in loads.items()}
    first = next(iter(rates))
    rows = []
    for way, own in loads.items():
        pairs = gain_of(rates, way, first).pairs
        wait = milliseconds(median(load.p95 for load in own))
        rows.append((way, f"{rates[way].median:,.0f} searches/s", wait, f"{pairs.ratio:.2f} x"))
    table("Callers at once", ("way", "median rate", "median p95", "to the first"), rows)
    say(f"{counts.mean_batch:.1f} searches in a request, the mean.")
    return rates


def show_channels(client: MilvusClient) -> Channels:
    """Print which gRPC channels are open to the Milvus of a client."""
    there = channels(client)
    say(
        f"Channels: {there.dedicated} dedicated ones, and {there.shared} that {there.clients} "
        "clients share. There is no pool: one channel carries many requests at a time."
    )
    return there


def ask_in_threads(
    ask: Callable[[MilvusClient], object], clients: list[MilvusClient], threads: int, calls: int
) -> float:
    """Let threads search, each with a client that no other has then; the calls per second.

    Args:
        ask: searches once with a client.
        clients: as many as threads, or one for all of them.
        threads: how many.
        calls: of all of them.
    """
    free = clients * (threads // len(clients))  # pop() and append() are safe in threads

    def call() -> None:
        client = free.pop()
        ask(client)
        free.append(client)

    return measure_throughput(call, threads=threads, calls=max(calls, threads)).per_second


def popular_queries(
    distinct: int, length: int, *, exponent: float = 1.0, seed: int = 0
) -> NDArray[np.int64]:
    """Numbers of queries as people ask them: a few often, most rarely (Zipf's law).

    Returns:
        int64 of shape (length,), each from 0 to `distinct` - 1; number r is drawn in proportion
        to 1 / (r + 1) ** exponent.

    Raises:
        ValueError: a number below 1.
    """
    if distinct < 1 or length < 1:
        raise ValueError(f"distinct and length must be 1 or more, not {distinct} and {length}")
    weights = 1 / np.arange(1, distinct + 1) ** exponent
    generator = np.random.default_rng(seed)
    return generator.choice(distinct, size=length, p=weights / weights.sum())


class SearchProcesses:
    """Processes with a client each, which search when told to; a call gives the searches done."""

    def __init__(self, pool: ProcessPoolExecutor, processes: int) -> None:
        self._pool, self._processes = pool, processes

    def search(self, searches: int, threads: int) -> int:
        """Let each process do its share of the searches, in so many threads."""
        share = -(-searches // self._processes)
        done = [
            self._pool.submit(_search_in_process, number, share, threads)
            for number in range(self._processes)
        ]
        return sum(each.result() for each in done)


@contextmanager
def search_processes(
    options: Mapping[str, object],
    collection: str,
    queries: Float32,
    processes: int,
    **search: object,
) -> Iterator[SearchProcesses]:
    """Start processes that are connected when this is entered, and end them afterwards.

    They are started anew and not forked: gRPC does not survive a fork.

    Args:
        options: of `MilvusClient`.
        collection: its name.
        queries: of shape (n, dimension).
        processes: how many.
        search: arguments of `MilvusClient.search`.
    """
    start = (dict(options), collection, queries, search)
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start_process, start) as pool:
        ready = SearchProcesses(pool, processes)
        ready.search(processes, 1)
        yield ready


def _start_process(
    options: dict[str, object], collection: str, queries: Float32, search: dict[str, object]
) -> None:
    _PROCESS.update(client=MilvusClient(**options), queries=queries, search=search)
    _PROCESS["collection"] = collection


def _search_in_process(number: int, searches: int, threads: int) -> int:
    """Search so often, from so many threads that share the client."""
    client, queries = _PROCESS["client"], _PROCESS["queries"]

    def one(turn: int) -> int:
        query = queries[(number * searches + turn) % len(queries)]
        return len(client.search(_PROCESS["collection"], data=[query], **_PROCESS["search"]))

    if threads == 1:
        return sum(map(one, range(searches)))
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, range(searches)))
