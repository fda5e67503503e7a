"""Settings measured side by side: timed in turns, shown in a table, drawn in a chart."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from common.connection import Milvus
from common.display import figure, lines, milliseconds, save_chart, table
from common.measuring import PairedRatio

Clock = Callable[[], float]


class Measured(NamedTuple):
    """An index or a search with its parameters.

    Attributes:
        what: the index, or the line of the chart to which a search belongs.
        params: of the build, or of the search.
        recall: the mean over queries.
        seconds: of the build, or of a query among many in one request.
        alone: seconds of a query in a request of its own.
    """

    what: str
    params: Mapping[str, int]
    recall: float
    seconds: float
    alone: float | None = None


def in_turns(
    calls: Sequence[Callable[[int], object]], rounds: int, *, clock: Clock = time.perf_counter
) -> list[list[float]]:
    """Time several calls, one of each in a round; for each the seconds of every round.

    A neighbour that takes the processor for a second slows a part of the rounds, and within them
    every call alike. Measured one after the other it would hit one of them alone. Report the
    median as what a caller meets; the smallest for what the work itself takes, as neighbours can
    only add to it.

    Args:
        calls: what is timed; each gets the number of its round, to ask for another query in each.
        rounds: that count, at least 1; one before them warms up.
        clock: seconds.

    Raises:
        ValueError: `rounds` is below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    for call in calls:
        call(rounds)
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            started = clock()
            call(number)
            taken.append(clock() - started)
    return seconds


def seconds_of(
    call: Callable[[], object], times: int, *, clock: Clock = time.perf_counter
) -> float:
    """Make a call several times; the mean seconds of one, as `paired_ratio` compares them."""
    started = clock()
    for _ in range(times):
        call()
    return (clock() - started) / times


def show_ratios(
    title: str,
    columns: tuple[str, str, str],
    ratios: Mapping[str, PairedRatio],
    form: Callable[[float], str] = milliseconds,
) -> None:
    """Print pairs of durations: the medians of both, their ratio and whether all pairs agree.

    Args:
        title: of the table.
        columns: what the rows are, and what the first and the second of a pair are.
        ratios: from what was measured to its pairs, in seconds.
        form: how a duration is written.
    """
    rows = []
    for what, ratio in ratios.items():
        first, second = (form(statistics.median(taken)) for taken in zip(*ratio.pairs, strict=True))
        spread = f"{ratio.lowest:.2f} to {ratio.highest:.2f}"
        rows.append((what, first, second, f"{ratio.ratio:.2f}", spread, ratio.clear))
    table(title, (*columns, "times", "of all pairs", "clear"), rows)


def draw_sweep(milvus: Milvus, measured: Sequence[Measured], target: float, chart: str) -> None:
    """Draw recall against latency, a line for each `what`; a point bears its last parameter."""
    title = f"Recall against latency: {milvus.label}"
    xlabel = "time of a query, many in a request (ms)"
    drawing, axes = figure(title, xlabel, "recall@10 (0 to 1)", size=(9, 6))
    series, labels = {}, {}
    for line in dict.fromkeys(each.what for each in measured):
        own = [each for each in measured if each.what == line]
        series[line] = [1000 * each.seconds for each in own], [each.recall for each in own]
        labels[line] = [str(list(each.params.values())[-1]) for each in own]
    lines(axes, series, points=labels)
    axes.set_xlim(left=0)  # else noise of a few microseconds fills the chart
    axes.axhline(target, color="#333333", linewidth=1, label=f"target {target:g}")
    axes.legend(loc="lower right")
    save_chart(drawing, chart)
