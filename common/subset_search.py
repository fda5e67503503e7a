"""Several ways to search in a part of the rows: what each costs, and whether its answers are right.

    outcomes = ask_in_turns([whole, by_partition, by_filter], vectors, queries)
    show_outcomes("The 10 nearest", outcomes)

The ways take turns query by query, so that what else the machine does hits all of them. Each answer
is compared with exact search among the rows that the way is about, and only those.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from common.display import PALETTE, figure, lines, milliseconds, save_chart, table
from common.vectors import Float32, exact_search, recall

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Way:
    """A way to search in a part of the rows.

    Attributes:
        name: what to call it.
        wanted: whether each row may be found, bool of shape (rows,).
        ask: takes a query of shape (1, dimension), gives the ids found, best first. Row i has the
            id i.
    """

    name: str
    wanted: NDArray[np.bool_]
    ask: Callable[[Float32], list[int]]


@dataclass(frozen=True)
class Outcome:
    """What a way gave.

    Attributes:
        name: of the way.
        rows: how many rows it is about.
        seconds: of each query, without the first one, which warmed up.
        recall: the share of the true k nearest among the wanted rows that was found.
        strays: hits that are none of the wanted rows, over all queries.
    """

    name: str
    rows: int
    seconds: tuple[float, ...]
    recall: float
    strays: int

    @property
    def median(self) -> float:
        """Seconds of a query."""
        return median(self.seconds)

    @property
    def exact(self) -> bool:
        """Whether all answers were those of exact search among the wanted rows."""
        return self.recall == 1 and not self.strays

    def times_as_fast(self, other: "Outcome") -> float:
        """The median over the queries of the other's seconds by its own."""
        return median(a / b for a, b in zip(other.seconds, self.seconds, strict=True))


def ask_in_turns(
    ways: Sequence[Way], vectors: Float32, queries: Float32, *, k: int = 10, metric: str = "COSINE"
) -> list[Outcome]:
    """Ask all queries in all ways; in each round another way begins.

    Args:
        ways: each is about one row or more.
        vectors: all rows, shape (rows, dimension).
        queries: shape (queries, dimension); the first is asked once more before the clock starts.
        k: how many neighbours the ways look for.
        metric: "L2", "IP" or "COSINE".

    Raises:
        ValueError: no queries, or a way that is about no row at all.
    """
    if len(queries) == 0:
        raise ValueError("there is no query to ask")
    for way in ways:
        if not way.wanted.any():
            raise ValueError(f"{way.name} is about no row at all")
        way.ask(queries[:1])
    found, seconds = [[] for _ in ways], [[] for _ in ways]
    for number in range(len(queries)):
        for turn in range(len(ways)):
            place = (number + turn) % len(ways)
            start = time.perf_counter()
            ids = ways[place].ask(queries[number : number + 1])
            seconds[place].append(time.perf_counter() - start)
            found[place].append(ids)
    return [
        Outcome(
            way.name,
            int(way.wanted.sum()),
            tuple(times),
            *_judge(way, ids, vectors, queries, k, metric),
        )
        for way, times, ids in zip(ways, seconds, found, strict=True)
    ]


def _judge(
    way: Way, found: list[list[int]], vectors: Float32, queries: Float32, k: int, metric: str
) -> tuple[float, int]:
    """Recall among the wanted rows, and the number of hits that are none of them."""
    wanted = np.flatnonzero(way.wanted)
    # Recall counts rows within the part; an id that is no row at all is a stray, too.
    good = [[i for i in ids if 0 <= i < len(vectors) and way.wanted[i]] for ids in found]
    strays = sum(map(len, found)) - sum(map(len, good))
    _, scores = exact_search(vectors[wanted], queries, k, metric)
    places = [np.searchsorted(wanted, ids).tolist() for ids in good]
    return recall(places, scores, vectors[wanted], queries, metric), strays


def show_outcomes(title: str, outcomes: Sequence[Outcome]) -> None:
    """Print each way beside the first one: latency, and how right it was."""
    rows = [
        (
            one.name,
            one.rows,
            milliseconds(one.median),
            f"{one.times_as_fast(outcomes[0]):.2f}",
            f"{one.recall:.3f}",
            one.strays,
        )
        for one in outcomes
    ]
    table(title, ("way", "rows", "median", "times as fast", "recall", "other rows"), rows)


def draw_outcomes(title: str, name: str, outcomes: Sequence[Outcome]) -> None:
    """Draw the latency against the rows that a search is about, a line for all of one name.

    A way that is there once only is drawn as a level to compare with. `name` is that of the file,
    as for `save_chart()`.
    """
    drawing, axes = figure(title, "rows that the search is about", "median latency (ms)")
    points: dict[str, tuple[list[int], list[float]]] = {}
    for one in outcomes:
        x, y = points.setdefault(one.name, ([], []))
        x.append(one.rows)
        y.append(1000 * one.median)
    for label in [label for label, (x, _) in points.items() if len(x) == 1]:
        _, (height,) = points.pop(label)
        axes.axhline(height, color=PALETTE[-1], linestyle=":", label=label)
    lines(axes, points)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    save_chart(drawing, name)
