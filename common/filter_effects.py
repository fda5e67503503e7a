"""What filters cost and lose: figures for scalar indexes and for selectivity, tables and charts.

The lesson makes the calls; here are the figures that it fills in and how they are shown.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import median
from typing import Protocol

from common.connection import Milvus
from common.display import figure, left_out, lines, milliseconds, save_chart, table
from common.filters import where
from common.measuring import PairedRatio, measure_latency, paired_ratio
from common.vector_sets import VectorSet
from common.vectors import Float32, exact_search, recall

import numpy as np
from numpy.typing import NDArray

# From here on a server's HNSW compares all that pass: kHnswSearchKnnBFFilterThreshold of knowhere,
# src/index/hnsw/, is 0.93, the share that a filter takes away. Milvus Lite has no such threshold.
BRUTE_FORCE_BELOW = 0.07
PAIRS = 7  # of measurements in turns: that all agree by chance happens once in 64 times
CLEARLY = 1.1  # times as fast, below which nobody would notice


class Search(Protocol):
    """A search with a filter, as the lesson makes it."""

    def __call__(
        self, queries: Float32, condition: str, params: dict[str, object]
    ) -> Sequence[Sequence[int]]:
        """The ids found for each query, best first.

        `queries` has the shape (n, dimension), `condition` is "" for no filter, and `params` are
        the `search_params=`.
        """


def choose_indexes(milvus: Milvus, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The scalar index for each field that this Milvus has one for; says what it has not.

    Args:
        milvus: decides by `can()`.
        wanted: from each field to the index types that suit it, the best first.
    """
    able = {kind: milvus.can(kind.upper()) for kinds in wanted.values() for kind in kinds}
    for kind, answer in able.items():
        if not answer:
            left_out(f"scalar index {kind}", answer.reason)
    best = {field: next(filter(able.get, kinds), None) for field, kinds in wanted.items()}
    return {field: kind for field, kind in best.items() if kind}


@dataclass(frozen=True)
class IndexEffect:
    """The same filtered search on twin collections, with and without scalar indexes.

    Attributes:
        filter: what to call it.
        rows: how many rows pass.
        seconds: medians of some searches, each pair without and then with the index.
    """

    filter: str
    rows: int
    seconds: PairedRatio

    @property
    def verdict(self) -> str:
        """What the index did: "no difference" unless all pairs agree and it is over a tenth."""
        ratio = self.seconds.ratio
        if not self.seconds.clear or 1 / CLEARLY < ratio < CLEARLY:
            return "no difference"
        return "faster" if ratio > 1 else "slower"


def index_effect(
    name: str,
    rows: int,
    without: Callable[[], list[int]],
    with_index: Callable[[], list[int]],
    calls: int,
) -> IndexEffect:
    """Make the same search without and with an index in turns.

    Args:
        name: of the filter.
        rows: how many rows pass it.
        without, with_index: make the search once and give the ids found.
        calls: searches in each turn, at least 1.

    Raises:
        RuntimeError: the answers differ, so that the times mean nothing.
    """
    if without() != with_index():
        raise RuntimeError(f"the index changes the answer: {name}")

    def seconds(search: Callable[[], list[int]]) -> float:
        return measure_latency(search, repeat=calls, warmup=1).median

    twins = (partial(seconds, search) for search in (without, with_index))
    return IndexEffect(name, rows, paired_ratio(*twins, pairs=PAIRS))


def show_index_effects(title: str, effects: Sequence[IndexEffect]) -> None:
    """Print what the indexes did to each filter."""
    rows = []
    for effect in effects:
        taken = effect.seconds
        without, with_index = (
            milliseconds(median(seconds)) for seconds in zip(*taken.pairs, strict=True)
        )
        times = f"{taken.ratio:.2f} ({taken.lowest:.2f} to {taken.highest:.2f})"
        rows.append((effect.filter, effect.rows, without, with_index, times, effect.verdict))
    columns = "filter", "rows pass", "without", "with index", "times as fast", "verdict"
    table(title, columns, rows)


@dataclass(frozen=True)
class Selected:
    """Searches with a filter that lets a share of the rows through.

    Attributes:
        way: the name of the search parameters.
        share: of the rows that pass, over 0 and up to 1.
        rows: how many these are.
        recall: recall@10 against exact search over the rows that pass.
        hits: how many hits a search gave on average.
        asked: how many it should have given: 10, or all rows that pass where these are fewer.
        seconds: of a search, the median.
    """

    way: str
    share: float
    rows: int
    recall: float
    hits: float
    asked: int
    seconds: float


def ranks(rows: int) -> NDArray[np.int64]:
    """Every number from 0 to rows - 1 once, in random order: `rank < n` lets n rows through."""
    return np.random.default_rng(0).permutation(rows)


def measure_selectivity(
    search: Search,
    data: VectorSet,
    ways: Mapping[str, dict[str, object]],
    shares: Sequence[float],
    repeat: int,
) -> list[Selected]:
    """Search with filters that let more and more rows through; the times are taken in turns.

    Args:
        search: in a collection that holds `data` with `ranks()` in the field `rank`.
        data: whose row i has the id i.
        ways: search parameters by what to call them.
        shares: of the rows that are to pass, each over 0 and up to 1; 1 searches without a filter.
        repeat: how many searches to time for each share and way.

    Raises:
        KeyError: a search found a row that does not pass its filter.
    """
    order, cases, answers = ranks(len(data.vectors)), [], []
    for share, way in product(shares, ways):
        rows = max(1, round(share * len(order)))
        condition = where("rank < {rows}", rows=rows) if share < 1 else ""
        ask = partial(search, condition=condition, params=ways[way])
        recalled, hits = _judge(ask(data.queries), data, np.flatnonzero(order < rows))
        answers.append(Selected(way, share, rows, recalled, hits, min(10, rows), 0.0))
        cases.append(ask)

    seconds: list[list[float]] = [[] for _ in cases]
    for number in range(repeat + 1):  # the first round warms up
        row = number % len(data.queries)
        for ask, taken in zip(cases, seconds, strict=True):
            start = time.perf_counter()
            ask(data.queries[row : row + 1])
            taken.append(time.perf_counter() - start)
    return [replace(a, seconds=median(b[1:])) for a, b in zip(answers, seconds, strict=True)]


def _judge(
    answers: Sequence[Sequence[int]], data: VectorSet, passing: NDArray[np.int64]
) -> tuple[float, float]:
    """Recall@10 against exact search over the rows that pass, and the mean number of hits."""
    among = data.vectors[passing]
    _, exact = exact_search(among, data.queries, 10, data.metric)
    place = {int(row): number for number, row in enumerate(passing)}
    found = [[place[number] for number in each] for each in answers]
    hits = sum(map(len, found)) / len(found)
    return recall(found, exact, among, data.queries, data.metric), hits


def show_selectivity(label: str, points: Sequence[Selected], *, threshold: bool) -> None:
    """Print and draw recall and latency against the share of rows that pass.

    Args:
        label: of the Milvus, for the titles.
        points: in the order of their shares.
        threshold: whether to mark BRUTE_FORCE_BELOW.
    """
    ways = list(dict.fromkeys(point.way for point in points))
    for way in ways:
        rows = [
            (
                f"{100 * p.share:.3g} %",
                p.rows,
                p.recall,
                f"{p.hits:.1f} of {p.asked}",
                milliseconds(p.seconds),
            )
            for p in points
            if p.way == way
        ]
        columns = "rows that pass", "number", "recall@10", "hits", "median latency"
        table(f"HNSW with {way}", columns, rows)
    charts = {
        "recall": ("recall@10 among the rows that pass", lambda point: point.recall),
        "latency": ("median latency of a search (ms)", lambda point: 1000 * point.seconds),
    }
    for name, (ylabel, value) in charts.items():
        title = f"Selective filters and {name}: {label}"
        drawing, axes = figure(title, "rows that pass the filter (%, logarithmic)", ylabel)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        if threshold:
            edge = 100 * BRUTE_FORCE_BELOW
            note = f"{edge:g} %: to the left, all rows that pass are compared"
            axes.axvline(edge, color="#333333", linestyle=":", linewidth=1.5, label=note)
        series = {
            way: (
                [100 * point.share for point in points if point.way == way],
                [value(point) for point in points if point.way == way],
            )
            for way in ways
        }
        lines(axes, series)
        axes.set_ylim(0, 1.05 if name == "recall" else None)
        save_chart(drawing, f"step02_04_selectivity_{name}")
