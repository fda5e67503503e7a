"""Measuring: latencies, throughput under real concurrency, two ways to do the same work compared.

    latencies = measure_latency(lambda: client.search(...), repeat=1000)
    throughput = measure_throughput(lambda: client.search(...), threads=16, seconds=10)

Neighbours on a machine can halve any rate from one second to the next. So a rate is measured three
times and shown with its spread, and two ways run in turns: what counts is the median of the ratios
of the pairs. The first call, which finds nothing warm, is shown apart; failures are counted, and
the latencies of what failed are not.
"""

import math
import os
import platform
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Generic, TypeVar

from common.display import error_line, quiet_pymilvus, say, table
from common.environment import machine

import grpc
from pymilvus.exceptions import MilvusException

Answer = TypeVar("Answer")
Clock = Callable[[], float]

FAILURES = (MilvusException, grpc.RpcError)
"""What counts as a failed call and not as a mistake in the script."""

ENOUGH_FOR_P99 = 1_000  # samples: 10 of them lie above the 99th percentile


@dataclass(frozen=True)
class Comparison:
    """Two ways to give the same answers.

    Attributes:
        old, new: answers per second of each way, the medians over all pairs.
        ratio: new against old, the median over all pairs; over 1 the new way is faster.
        lowest, highest: the smallest and the largest ratio of a pair.
        same_answers: whether every run of either way gave the same answers.
    """

    old: float
    new: float
    ratio: float
    lowest: float
    highest: float
    same_answers: bool

    def __str__(self) -> str:
        if self.lowest <= 1 <= self.highest:
            verdict = "these runs tell no difference"
        else:
            verdict = "the second is faster" if self.ratio > 1 else "the first is faster"
        return (
            f"Second to first: {self.ratio:.2f}, the median of runs in turns, which gave "
            f"{self.lowest:.2f} to {self.highest:.2f}: {verdict}."
        )


def compare(
    old: Callable[[], Sequence[Answer]], new: Callable[[], Sequence[Answer]], pairs: int = 5
) -> Comparison:
    """Run both ways once to warm up, then `pairs` times in turns with the clock on.

    Args:
        old, new: do all of the work and return all answers, in the same order.
        pairs: how often both run; an odd number has a middle.

    Raises:
        ValueError: `pairs` is below 1, or there is no answer to count.
    """
    if pairs < 1:
        raise ValueError(f"pairs must be at least 1, not {pairs}")
    expected = old()
    if len(expected) == 0:
        raise ValueError("there is no answer to count: a rate needs at least one")
    same = new() == expected
    rates = []
    for _ in range(pairs):
        pair = []
        for way in (old, new):
            start = time.perf_counter()
            answers = way()
            pair.append(len(answers) / (time.perf_counter() - start))
            same = same and answers == expected
        rates.append(pair)
    ratios = [new_rate / old_rate for old_rate, new_rate in rates]
    old_rates, new_rates = zip(*rates, strict=True)
    return Comparison(
        old=statistics.median(old_rates),
        new=statistics.median(new_rates),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        same_answers=same,
    )


def show_comparison(old: str, new: str, measured: Comparison) -> None:
    """Print the two rates under these names, and what can be said of them.

    Raises:
        RuntimeError: the answers differed, so that the rates mean nothing.
    """
    if not measured.same_answers:
        raise RuntimeError(f"{old} and {new} gave different answers")
    rows = [(old, f"{measured.old:,.0f} q/s"), (new, f"{measured.new:,.0f} q/s")]
    table("The same answers, at this rate", ("way", "rate"), rows)
    say(str(measured))


@dataclass(frozen=True)
class Failure:
    """An error that was provoked, and after how many seconds it came."""

    error: Exception
    seconds: float


def time_failure(call: Callable[[], object]) -> Failure:
    """Call what must fail, and time how long that takes.

    Milvus' own errors and those of gRPC count; any other one goes on to the caller. Without
    pymilvus' log of what is expected here.

    Raises:
        RuntimeError: it did not fail.
    """
    start = time.perf_counter()
    try:
        with quiet_pymilvus():
            call()
    except (MilvusException, grpc.RpcError) as error:
        return Failure(error, time.perf_counter() - start)
    raise RuntimeError("a call that had to fail did not")


@dataclass(frozen=True)
class Waited(Generic[Answer]):
    """The first answer to a call that was repeated, after how many seconds, and what came before.

    `errors` counts the errors by their one line.
    """

    answer: Answer
    seconds: float
    errors: Counter[str]


def wait_for_answer(
    call: Callable[[], Answer], patience: float, pause: float = 0.2
) -> Waited[Answer]:
    """Repeat a call to Milvus until it answers.

    Args:
        call: bounded by a timeout of its own.
        patience: seconds after which its next error is raised.
        pause: seconds between two tries.
    """
    start = time.perf_counter()
    errors: Counter[str] = Counter()
    while True:
        try:
            with quiet_pymilvus():
                answer = call()
            return Waited(answer, time.perf_counter() - start, errors)
        except (MilvusException, grpc.RpcError) as error:
            if time.perf_counter() - start > patience:
                raise
            errors[error_line(error)] += 1
            time.sleep(pause)


class NothingMeasured(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """Every call failed, so that there is nothing to report; the message has the errors."""


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that `percent` % of all values do not exceed.

    It is always one of the values, and never between two: rank ceil(percent / 100 * count) of the
    sorted values, counted from 1. Of 1, 2, 3, 4 the 50th percentile is 2 and the 51st is 3.

    Args:
        values: at least one number.
        percent: over 0 and at most 100.

    Raises:
        ValueError: no values, or a percentage outside its range.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be over 0 and at most 100, not {percent}")
    # Before rounding up, what floating point adds is taken off: 0.95 * 20 must be rank 19.
    rank = math.ceil(round(percent * len(ordered) / 100, 9))
    return ordered[rank - 1]


@dataclass(frozen=True)
class Latencies:
    """How long calls took.

    Attributes:
        seconds: of each call that counts and did not fail, in the order in which they ended.
        first: of the very first call, before anything was warm; it is in no other figure.
        failed: the calls that failed among those that count.
        errors: the failed calls by the one line of their error.
    """

    seconds: tuple[float, ...]
    first: float | None = None
    failed: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def median(self) -> float:
        """The middle one, or the mean of the two in the middle."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """The 95th percentile (`percentile`)."""
        return percentile(self.seconds, 95)

    @property
    def p99(self) -> float | None:
        """The 99th percentile, None below 1,000 samples: it would rest on a handful of them."""
        return percentile(self.seconds, 99) if len(self.seconds) >= ENOUGH_FOR_P99 else None

    def as_json(self) -> dict[str, object]:
        """The figures, in seconds, for a file of results."""
        return {
            "calls": len(self.seconds),
            "first_s": self.first,
            "median_s": self.median,
            "p95_s": self.p95,
            "p99_s": self.p99,
            "failed": self.failed,
            "errors": dict(self.errors),
        }


@dataclass(frozen=True)
class Throughput:
    """How many calls were answered while so many threads called at once.

    Attributes:
        threads: that many callers, each with one call under way.
        elapsed: seconds from the start of the first call to the end of the last.
        latencies: of the calls, as the callers saw them.
    """

    threads: int
    elapsed: float
    latencies: Latencies

    @property
    def completed(self) -> int:
        """Calls that were answered."""
        return len(self.latencies.seconds)

    @property
    def failed(self) -> int:
        """Calls that failed."""
        return self.latencies.failed

    @property
    def per_second(self) -> float:
        """Answered calls a second; those that failed do not count."""
        return self.completed / self.elapsed

    def as_json(self) -> dict[str, object]:
        """The figures for a file of results."""
        return {
            "threads": self.threads,
            "elapsed_s": self.elapsed,
            "per_second": self.per_second,
            **self.latencies.as_json(),
        }


def measure_latency(
    call: Callable[[], object],
    *,
    repeat: int,
    warmup: int = 10,
    failures: tuple[type[Exception], ...] = FAILURES,
    clock: Clock = time.perf_counter,
) -> Latencies:
    """Time single calls, one after the other.

    Args:
        call: what is timed.
        repeat: how many calls count.
        warmup: calls before those, at least one: the first of them is timed apart. An error in
            one of them goes to the caller.
        failures: the errors that are counted; any other one goes to the caller.
        clock: seconds.

    Raises:
        NothingMeasured: every call that counts failed.
        ValueError: `repeat` or `warmup` below 1.
    """
    if repeat < 1 or warmup < 1:
        raise ValueError(f"repeat and warmup must be at least 1, not {repeat} and {warmup}")
    tally = _Tally(call, failures, clock)
    with quiet_pymilvus():
        start = clock()
        call()
        first = clock() - start
        for _ in range(warmup - 1):
            call()
        for _ in range(repeat):
            tally.one()
    return _latencies([tally], first)


def measure_throughput(
    call: Callable[[], object],
    *,
    threads: int,
    seconds: float | None = None,
    calls: int | None = None,
    warmup: int = 3,
    failures: tuple[type[Exception], ...] = FAILURES,
    clock: Clock = time.perf_counter,
) -> Throughput:
    """Call from several threads at once, each with its next call as soon as the last has ended.

    Either for some time, when calls under way at its end are still waited for and counted, or for
    a number of calls that the threads share.

    Args:
        call: what is called; it must bear being called by several threads at once.
        threads: how many call at once.
        seconds: for how long; give this or `calls`.
        calls: how many calls in all, at least one for each thread.
        warmup: calls of each thread before the clock starts; an error there goes to the caller.
        failures: the errors that are counted; any other one stops all threads and goes to the
            caller.
        clock: seconds.

    Raises:
        NothingMeasured: every call failed.
        ValueError: a number that is too small, or both or neither of `seconds` and `calls`.
    """
    _check_throughput(threads, seconds, calls, warmup)
    tallies = [_Tally(call, failures, clock) for _ in range(threads)]
    start = threading.Barrier(threads)
    stop = threading.Event()
    left = iter(range(calls)) if calls is not None else None  # next() on a range is one step

    def work(tally: _Tally) -> tuple[float, float]:
        try:
            for _ in range(warmup):
                call()
            start.wait()
            begun = clock()
            while not stop.is_set():
                over = clock() - begun >= seconds if left is None else next(left, None) is None
                if over:
                    break
                tally.one()
        except BaseException:
            stop.set()
            start.abort()
            raise
        return begun, clock()

    times = _in_threads(work, tallies, stop)
    elapsed = max(end for _, end in times) - min(begin for begin, _ in times)
    return Throughput(threads, elapsed, _latencies(tallies, None))


def _in_threads(
    work: Callable[["_Tally"], tuple[float, float]],
    tallies: Sequence["_Tally"],
    stop: threading.Event,
) -> list[tuple[float, float]]:
    """Do `work` for each tally in a thread of its own; what each returned."""
    with quiet_pymilvus(), ThreadPoolExecutor(len(tallies)) as pool:
        running = [pool.submit(work, tally) for tally in tallies]
        try:
            errors = [error for each in running if (error := each.exception()) is not None]
        finally:
            stop.set()  # also after Ctrl-C, when the pool waits for its threads
    if errors:
        # Threads that were kept from starting tell only that; the others have the cause.
        broken = threading.BrokenBarrierError
        raise next((e for e in errors if not isinstance(e, broken)), errors[0])
    return [each.result() for each in running]


def _check_throughput(threads: int, seconds: float | None, calls: int | None, warmup: int) -> None:
    if threads < 1 or warmup < 0:
        raise ValueError(f"threads must be at least 1 and warmup 0, not {threads} and {warmup}")
    if (seconds is None) == (calls is None):
        raise ValueError("give either seconds or calls")
    if seconds is not None and seconds <= 0:
        raise ValueError(f"seconds must be over 0, not {seconds}")
    if calls is not None and calls < threads:
        raise ValueError(f"calls must be at least one for each of {threads} threads, not {calls}")


class _Tally:
    """The calls of one thread: how long each took, and which failed."""

    def __init__(
        self, call: Callable[[], object], failures: tuple[type[Exception], ...], clock: Clock
    ) -> None:
        self._call, self._failures, self._clock = call, failures, clock
        self.seconds: list[float] = []
        self.errors: Counter[str] = Counter()

    def one(self) -> None:
        """Make a call and write down how it went."""
        start = self._clock()
        try:
            self._call()
        except self._failures as error:
            self.errors[error_line(error)] += 1
        else:
            self.seconds.append(self._clock() - start)


def _latencies(tallies: Sequence[_Tally], first: float | None) -> Latencies:
    seconds = tuple(value for tally in tallies for value in tally.seconds)
    errors = sum((tally.errors for tally in tallies), Counter())
    if not seconds:
        said = "; ".join(f"{line} ({count:,} times)" for line, count in errors.most_common(3))
        raise NothingMeasured(f"all {errors.total():,} calls failed: {said or 'none was made'}")
    return Latencies(seconds, first, errors.total(), errors)


@dataclass(frozen=True)
class Spread:
    """The same figure measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The one to report."""
        return statistics.median(self.values)

    @property
    def lowest(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """The largest value."""
        return max(self.values)

    def __str__(self) -> str:
        return f"{self.median:,.4g} ({self.lowest:,.4g} to {self.highest:,.4g})"


def repeat_with_spread(measure: Callable[[], float], times: int = 3) -> Spread:
    """Measure something several times; report the median together with the spread.

    Raises:
        ValueError: `times` is below 1.
    """
    if times < 1:
        raise ValueError(f"times must be at least 1, not {times}")
    return Spread(tuple(measure() for _ in range(times)))


@dataclass(frozen=True)
class PairedRatio:
    """Two figures measured in turns, as (a, b) in each pair."""

    pairs: tuple[tuple[float, float], ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """a over b, of each pair."""
        return tuple(a / b for a, b in self.pairs)

    @property
    def ratio(self) -> float:
        """a over b: the median of the pairs."""
        return statistics.median(self.ratios)

    @property
    def lowest(self) -> float:
        """The smallest ratio of a pair."""
        return min(self.ratios)

    @property
    def highest(self) -> float:
        """The largest ratio of a pair."""
        return max(self.ratios)

    @property
    def clear(self) -> bool:
        """Whether all pairs agree on which of the two is larger."""
        return self.lowest > 1 or self.highest < 1


def paired_ratio(a: Callable[[], float], b: Callable[[], float], *, pairs: int = 5) -> PairedRatio:
    """Measure two rates in turns and compare them within each pair.

    What else the machine does changes from second to second, and hits both of a pair. Which of
    the two comes first changes with each pair: a, b, b, a, a, b ...

    Args:
        a, b: measure and return a rate, over 0.
        pairs: how often both are measured; an odd number has a middle.

    Raises:
        ValueError: `pairs` is below 1, or a rate is not over 0.
    """
    if pairs < 1:
        raise ValueError(f"pairs must be at least 1, not {pairs}")
    measured = []
    for number in range(pairs):
        if number % 2:
            second = b()
            first = a()
        else:
            first = a()
            second = b()
        if not (first > 0 and second > 0):
            raise ValueError(f"a rate must be over 0; these are {first} and {second}")
        measured.append((first, second))
    return PairedRatio(tuple(measured))


def wait_until(
    condition: Callable[[], Answer],
    timeout: float,
    what: str,
    *,
    pause: float = 0.1,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Ask until the answer is true, and return it. Errors of the condition go to the caller.

    Args:
        condition: is asked at once, and then after each pause; also once more at the very end.
        timeout: seconds after which to give up.
        what: what is waited for, for the message: "the index of step02_index is built".
        pause: seconds between two questions.
        clock, sleep: seconds.

    Raises:
        TimeoutError: it did not become true; the message has `what` and the last answer.
    """
    deadline = clock() + timeout
    while True:
        late = clock() >= deadline
        answer = condition()
        if answer:
            return answer
        if late:
            raise TimeoutError(f"{what}: not within {timeout:g} s; the last answer was {answer!r}")
        sleep(min(pause, max(0.0, deadline - clock())))


_PACKAGES = ("pymilvus", "milvus-lite", "milvus", "numpy", "faiss-cpu")


def environment() -> dict[str, object]:
    """What a result depends on beside the code, to write beside it as JSON.

    Versions (None for what is not installed), the processor, the cores that this process may use,
    memory in bytes, and the load of the machine over the last minute: over the number of cores,
    others were at work. The version of the server is not in it: take `milvus.label`.
    """
    here = machine()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "system": here.system,
        "processor": here.processor,
        "cores": here.cores,
        "memory": here.memory,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
