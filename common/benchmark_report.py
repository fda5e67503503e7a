"""What a benchmark found: figures of each setting, tables, charts, service targets.

figures = figures_of("closed", "asyncio", 64, loads, target, usages)
show_closed([figures], target.title)
show_targets(check_targets([figures]))
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from common.benchmark_target import Target
from common.display import figure, left_out, lines, milliseconds, save_chart, say, table
from common.environment import machine
from common.load_generation import Load, total
from common.measuring import Latencies, PairedRatio, Spread, environment
from common.process_stats import Usage

MIB = 2**20
MOST_LATE = 0.1  # seconds, of the targets below
LEAST_RATE, LEAST_RECALL, MOST_FAILED = 1_000.0, 0.95, 0.001
MOST_KINDS = 10  # of errors that are shown
FULL_CORE = 0.85  # of a core, from which on it counts as busy
PARTS = ("closed", "open", "mixed")


class RequestsFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """Requests failed, so that a benchmark is no clean one, whatever its figures."""

    exit_code = 1


@dataclass(frozen=True)
class Percentiles:
    """Seconds: the median, and below how much 95 and 99 of 100 lie.

    `p99` is None below 1,000 samples, which would leave it to a handful of them.
    """

    p50: float
    p95: float
    p99: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles | None":
        """Those of some times; None where there are none."""
        if not seconds:
            return None
        times = Latencies(tuple(seconds))
        return cls(times.median, times.p95, times.p99)

    @property
    def cells(self) -> tuple[str | None, ...]:
        """The three as texts for a table."""
        values = (self.p50, self.p95, self.p99)
        return tuple(None if value is None else milliseconds(value) for value in values)


@dataclass(frozen=True)
class Figures:
    """What one setting gave, over all of its runs.

    Attributes:
        part: "closed", "open" or "mixed".
        way: how the load was made, or what is special about it.
        in_flight: requests under way at once, at most.
        rates: searches answered in a second, of each run.
        answered: searches, over all runs.
        failed: requests that failed or were dropped.
        errors: those by the one line of their error.
        latency: of searches, from sending to the answer; None where none was answered.
        recall: mean over the answers of these very runs, None where it cannot be told.
        client: what this process and its workers took.
        server: what the server took, None where it is not on this machine.
        response: in an open loop, of searches from the intended arrival.
        offered: in an open loop, arrivals a second.
        writes_per_second, write: of a mixed load.
    """

    part: str
    way: str
    in_flight: int
    rates: tuple[float, ...]
    answered: int
    failed: int
    errors: dict[str, int]
    latency: Percentiles | None
    recall: float | None
    client: Usage
    server: Usage | None = None
    response: Percentiles | None = None
    offered: float | None = None
    writes: int = 0
    writes_per_second: float = 0.0
    write: Percentiles | None = field(default=None)

    @property
    def rate(self) -> float:
        """Searches answered in a second: the median of the runs."""
        return Spread(self.rates).median

    @property
    def label(self) -> str:
        """The setting in a few words; no two settings of one benchmark have the same."""
        return f"{self.part}: {self.way}, {self.in_flight} in flight"


def figures_of(
    part: str,
    way: str,
    target: Target,
    runs: Sequence[tuple[Load, Usage, Usage | None]],
    offered: float | None = None,
) -> Figures:
    """The figures of one setting.

    Args:
        part, way: of `Figures`.
        target: what was searched.
        runs: each with what the client and the server took (`process_stats.watch`).
        offered: arrivals a second, of an open loop.
    """
    loads, *usages = map(list, zip(*runs, strict=True))
    client, server = map(_mean, usages)
    latencies, responses, writes = (
        [value for load in loads for value in getattr(load, name)]
        for name in ("latencies", "responses", "writes")
    )
    errors = total(load.errors for load in loads)
    return Figures(
        part=part,
        way=way,
        in_flight=loads[0].in_flight,
        rates=tuple(load.per_second for load in loads),
        answered=len(latencies),
        failed=errors.total(),
        errors=dict(errors),
        latency=Percentiles.of(latencies),
        recall=target.recall(total(load.answers for load in loads)),
        client=client,
        server=server,
        response=Percentiles.of(responses),
        offered=offered,
        writes=len(writes),
        writes_per_second=Spread(tuple(load.writes_per_second for load in loads)).median,
        write=Percentiles.of(writes),
    )


def _mean(usages: Sequence[Usage | None]) -> Usage | None:
    """Mean cores, the most memory, and all that went to and from the disk."""
    if None in usages:
        return None

    def added(name: str) -> int | None:
        values = [getattr(usage, name) for usage in usages]
        return None if None in values else sum(values)

    cores, memory = fmean(usage.cores for usage in usages), max(usage.memory for usage in usages)
    return Usage(cores, memory, added("read"), added("written"))


# Tables

_TIMES = ("p50", "p95", "p99")
_NONE = (None, None, None)


def _cells(times: Percentiles | None) -> tuple[str | None, ...]:
    return _NONE if times is None else times.cells


def _recall(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def show_closed(figures: Sequence[Figures], title: str) -> None:
    """Print the closed loops as a table."""
    columns = ("callers", "in flight", "searches/s", "runs", *_TIMES, "recall", "failed")
    rows = []
    for each in figures:
        spread = Spread(each.rates)
        runs = f"{spread.lowest:,.0f}–{spread.highest:,.0f}"
        times = _cells(each.latency)
        rows.append((each.way, each.in_flight, f"{each.rate:,.0f}", runs, *times))
        rows[-1] += (_recall(each.recall), f"{each.failed:,}")
    table(f"Closed loop: {title}", columns, rows)


def tell_busy() -> None:
    """Say so if others are at work on this machine, before anything is measured."""
    here = environment()
    if (here["load"] or 0) > here["cores"]:
        say(
            f"Others are at work on this machine: its load was {here['load']:.1f} on "
            f"{here['cores']} cores over the last minute. They take from every rate below."
        )


def compare_ways(figures: Sequence[Figures]) -> dict[str, PairedRatio]:
    """Print how the ways did against the first one where most was in flight, run by run.

    The ways took turns in each run, so that runs of one number belong together.
    """
    most = max(each.in_flight for each in figures)
    first, *others = [each for each in figures if each.in_flight == most]
    ratios = {
        other.way: PairedRatio(tuple(zip(other.rates, first.rates, strict=True)))
        for other in others
        if all(first.rates)
    }
    told = []
    for way, paired in ratios.items():
        spread = f"{paired.lowest:.2f} to {paired.highest:.2f}"
        told.append(
            f"{way} {paired.ratio:.2f} ({spread}{'' if paired.clear else ', no difference'})"
        )
    if told:
        say(f"With {most} in flight, searches/s against {first.way}: {'; '.join(told)}.")
    return ratios


def explain_ways(figures: Sequence[Figures], lite: bool) -> None:
    """Print what the ways took where most was in flight, and what that says of their limits."""
    most = max(each.in_flight for each in figures)
    top = [each for each in figures if each.in_flight == most]
    took = ", ".join(f"{each.client.cores:.2f} for {each.way}" for each in top)
    if not top[0].answered:
        return
    server, cores = top[0].server, machine().cores
    said = f" (the server: {server.cores:.2f})" if server else ""
    say(
        f"The client took so many of this machine's {cores} cores: {took}{said}. asyncio switches "
        "between requests in one thread. Threads take turns in one interpreter as well (the GIL), "
        "and each turn has its price. Processes have an interpreter each."
    )
    if lite:
        say("Milvus Lite searches in this very process, so those are the cores of both.")
        return
    alone = top[0].client.cores
    if alone > FULL_CORE:
        say("One interpreter was busy all the time: there, more processes can help.")
    else:
        say("One interpreter was not the limit here: more of them have little to win.")
    if server and alone + server.cores > FULL_CORE * cores:
        say(
            "Client and server together keep this machine busy and take from each other: for the "
            "rates of a service, put the client on another machine."
        )


def show_usage(figures: Sequence[Figures], lite: bool) -> None:
    """Print what client and server took as a table: where most was in flight, and in the mixes."""
    columns = ["load", "client cores", "MiB", "written"]
    columns += ["server cores", "MiB", "written"] if _with_server(figures) else []
    most, rows = max(each.in_flight for each in figures), []
    for each in figures:
        if each.part == "mixed" or (each.part == "closed" and each.in_flight == most):
            usages = [each.client, *([each.server] if _with_server(figures) else [])]
            cells = [cell for usage in usages for cell in _usage_cells(usage)]
            rows.append((f"{each.way}, {each.in_flight} in flight", *cells))
    table("What it took", columns, rows)
    if lite:
        say("Milvus Lite is part of this process: client and engine are one in these figures.")
    elif not _with_server(figures):
        left_out("figures of the server", "it is not on this machine, or of another user")


def _with_server(figures: Sequence[Figures]) -> bool:
    return any(each.server is not None for each in figures)


def _usage_cells(usage: Usage | None) -> tuple[str | None, ...]:
    if usage is None:
        return (None, None, None)
    written = None if usage.written is None else f"{usage.written / MIB:,.1f} MiB"
    return f"{usage.cores:.2f}", f"{usage.memory / MIB:,.0f}", written


def show_open(figures: Sequence[Figures]) -> None:
    """Print open loops as a table, with the time from the sending and that from the arrival.

    The first of the figures are those of a closed loop with as many in flight.
    """
    closed, *others = figures
    columns = ("arrivals/s", "answered/s", "sent: p50", "p95", "arrived: p50", "p95")
    rows = []
    for each in figures:
        offered = each.way if each.offered is None else f"{each.offered:,.0f} ({each.way})"
        times = *_cells(each.latency)[:2], *_cells(each.response)[:2]
        rows.append(
            (offered, f"{each.rate:,.0f}", *times, _recall(each.recall), f"{each.failed:,}")
        )
    title = f"Open loop, at most {closed.in_flight} in flight"
    table(title, (*columns, "recall", "failed"), rows)
    answered = [each for each in others if each.latency and each.response]
    if not answered or closed.latency is None:
        return
    last = max(answered, key=lambda each: each.offered)
    sent, arrived, told = (
        milliseconds(each.p95) for each in (last.latency, last.response, closed.latency)
    )
    say(
        f"At {last.offered:,.0f} arrivals/s, 95 % of the answers came within {sent} of the sending "
        f"and within {arrived} of the arrival: the difference is the queue before the client's "
        f"{closed.in_flight} places. The callers of the closed loop hold their next request back "
        f"until they have an answer, so they see no queue, and tell {told}."
    )


def show_mixed(figures: Sequence[Figures], rows_written: int) -> None:
    """Print mixed loads as a table; each write sends so many rows."""
    columns = ("requests", "searches/s", "p50", "p95", "recall", "writes/s", "p50", "p95", "failed")
    rows = []
    for each in figures:
        searches = f"{each.rate:,.0f}", *_cells(each.latency)[:2], _recall(each.recall)
        writes = f"{each.writes_per_second:,.1f}", *_cells(each.write)[:2]
        rows.append((each.way, *searches, *writes, f"{each.failed:,}"))
    title = f"Reads, and writes of {rows_written} rows, {figures[0].in_flight} in flight"
    table(title, columns, rows)


def show_errors(figures: Sequence[Figures]) -> int:
    """Print which errors came how often, if any; the number of requests that failed."""
    errors = total(Counter(each.errors) for each in figures)
    if errors:
        rows = [(f"{often:,}", kind) for kind, often in errors.most_common(MOST_KINDS)]
        table("Requests that failed", ("how often", "error"), rows)
        if len(errors) > MOST_KINDS:
            say(f"{len(errors) - MOST_KINDS} other kinds of error came less often.")
    return errors.total()


# Service targets


@dataclass(frozen=True)
class Verdict:
    """A target, what was measured, and whether that meets it; None where it was not measured."""

    target: str
    measured: str
    met: bool | None


def best_of(figures: Sequence[Figures]) -> Figures:
    """The setting to run a service with: the most answers among those in time, else of all."""
    in_time = [each for each in figures if each.latency and each.latency.p95 < MOST_LATE]
    return max(in_time or figures, key=lambda each: each.rate)


def check_targets(figures: Sequence[Figures]) -> list[Verdict]:
    """Hold the best of the closed loops against the service targets; errors count over all."""
    best = best_of([each for each in figures if each.part == "closed"])
    failed = sum(each.failed for each in figures)
    asked = failed + sum(each.answered + each.writes for each in figures)
    late = best.latency and best.latency.p95
    share = failed / asked if asked else 1.0
    recall = best.recall
    return [
        Verdict(f"over {LEAST_RATE:,.0f} searches/s", f"{best.rate:,.0f}", best.rate > LEAST_RATE),
        Verdict(
            f"p95 under {milliseconds(MOST_LATE)}",
            "no answer" if late is None else milliseconds(late),
            late is not None and late < MOST_LATE,
        ),
        Verdict(
            f"recall at least {LEAST_RECALL:.0%}",
            "not measured" if recall is None else f"{recall:.2%}",
            None if recall is None else recall >= LEAST_RECALL,
        ),
        Verdict(f"error rate under {MOST_FAILED:.1%}", f"{share:.3%}", share < MOST_FAILED),
    ]


def show_targets(figures: Sequence[Figures]) -> list[Verdict]:
    """Print the targets as a checklist."""
    verdicts = check_targets(figures)
    best = best_of([each for each in figures if each.part == "closed"])
    words = {True: "met", False: "MISSED", None: "–"}
    rows = [(each.target, each.measured, words[each.met]) for each in verdicts]
    title = f"Service targets: {best.way}, {best.in_flight} in flight"
    table(title, ("target", "measured", ""), rows)
    say("The error rate is that of all requests above. A missed target is no failure.")
    return verdicts


# Charts


def draw_closed(figures: Sequence[Figures], title: str, name: str) -> None:
    """Draw latency against throughput, a line for each way, a point for each number in flight."""
    drawing, axes = figure(
        f"Closed loop: {title}", "searches answered per second (median of the runs)", "p95, ms"
    )
    series, points = {}, {}
    for way in dict.fromkeys(each.way for each in figures):
        own = [each for each in figures if each.way == way and each.latency]
        if own:
            late = [each.latency.p95 * 1000 for each in own]
            series[way] = ([each.rate for each in own], late)
            points[way] = [str(each.in_flight) for each in own]
    if series:
        lines(axes, series, points=points)
        axes.legend(title="callers (figures: requests in flight)")
        _log_of_milliseconds(axes)
        axes.set_xlim(left=0)
        save_chart(drawing, name)


def draw_open(figures: Sequence[Figures], name: str) -> None:
    """Draw the p95 from sending and from the arrival against the rate of arrivals."""
    drawing, axes = figure(
        "Open loop: counting from the sending hides the queue", "arrivals per second", "p95, ms"
    )
    closed, *others = figures
    answered = [each for each in others if each.latency and each.response]
    if not answered:
        return
    rates = [each.offered for each in answered]
    times: dict[str, Callable[[Figures], Percentiles]] = {
        "from the arrival, what a user waits": lambda each: each.response,
        "from the sending, what a closed loop tells": lambda each: each.latency,
    }
    series = {
        label: (rates, [of(each).p95 * 1000 for each in answered]) for label, of in times.items()
    }
    lines(axes, series)
    most = f"the closed loop's rate, {closed.in_flight} in flight"
    axes.axvline(closed.rate, color="#8a8f98", linestyle=":", label=most)
    axes.legend()
    axes.set_xlim(left=0)
    _log_of_milliseconds(axes)
    save_chart(drawing, name)


def _log_of_milliseconds(axes: object) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
