"""Load on a Milvus: many callers at once, in a closed or an open loop, and what came of each call.

    load = asyncio.run(closed_loop(search, in_flight=64, seconds=10, queries=200))
    print(load.per_second, percentile(load.latencies, 95), load.errors)

In a closed loop each caller sends its next request when it has the answer to the last: a server
that slows down is asked less, and its bad moments count as few slow requests (Gil Tene calls that
coordinated omission, "How NOT to Measure Latency", 2015). In an open loop requests arrive at a
fixed rate whatever the server does, and the time of each counts from the moment at which it was to
arrive, so that waiting in line is part of it.

What a search found is kept as well, for the recall under this very load. All that is kept of a
request is a number and a counter, so a run may be as long as you like.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from common.display import error_line, quiet_pymilvus
from common.measuring import FAILURES, NothingMeasured, measure_throughput

Key = int | str
Answer = tuple[int, tuple[Key, ...]]
"""The number of a query, and the primary keys that a search found for it, best first."""

Search = Callable[[int], Awaitable[Sequence[Key]]]
"""Searches with the query of this number and returns the primary keys found."""

Write = Callable[[int], Awaitable[object]]
"""Writes some rows; the number says which."""

PAUSE = 0.05  # seconds after a failure: a caller that is refused at once must not spin
TICK = 0.001  # seconds: arrivals closer than this are handed out together, and counted as meant


@dataclass(frozen=True)
class Load:
    """What a run of load gave.

    Attributes:
        in_flight: requests under way at once; in an open loop at most so many.
        begun, ended: on `time.perf_counter`; from the first request to the end of the last.
        latencies: seconds of each answered search, from sending it to its answer.
        answers: what the searches found, and how often they found just that.
        errors: requests that failed, by the one line of their error, and arrivals dropped.
        responses: in an open loop, seconds of each answered search from its intended arrival.
        writes: seconds of each write that succeeded.
    """

    in_flight: int
    begun: float
    ended: float
    latencies: tuple[float, ...]
    answers: Counter[Answer]
    errors: Counter[str]
    responses: tuple[float, ...] = ()
    writes: tuple[float, ...] = ()

    @property
    def elapsed(self) -> float:
        """Seconds from the start of the first request to the end of the last."""
        return self.ended - self.begun

    @property
    def answered(self) -> int:
        """Searches that were answered."""
        return len(self.latencies)

    @property
    def failed(self) -> int:
        """Requests that failed or were dropped."""
        return self.errors.total()

    @property
    def per_second(self) -> float:
        """Answered searches a second; what failed is no throughput."""
        return self.answered / self.elapsed

    @property
    def writes_per_second(self) -> float:
        """Successful writes a second."""
        return len(self.writes) / self.elapsed

    def as_json(self) -> dict[str, object]:
        """Everything, as what JSON can hold; `from_json` reads it."""
        answers = [[query, list(found), times] for (query, found), times in self.answers.items()]
        return {**vars(self), "answers": answers, "errors": dict(self.errors)}

    @classmethod
    def from_json(cls, values: dict) -> "Load":
        """What `as_json` gave."""
        answers = {(query, tuple(found)): times for query, found, times in values["answers"]}
        lists = {name: tuple(values[name]) for name in ("latencies", "responses", "writes")}
        counted = {"answers": Counter(answers), "errors": Counter(values["errors"])}
        return cls(**{**values, **lists, **counted})


def joined(loads: Sequence[Load]) -> Load:
    """Runs that went on side by side, as one."""
    return Load(
        sum(load.in_flight for load in loads),
        min(load.begun for load in loads),
        max(load.ended for load in loads),
        tuple(value for load in loads for value in load.latencies),
        total(load.answers for load in loads),
        total(load.errors for load in loads),
        tuple(value for load in loads for value in load.responses),
        tuple(value for load in loads for value in load.writes),
    )


def total(counters: Iterable[Counter]) -> Counter:
    """The sum of counters."""
    result: Counter = Counter()
    for counter in counters:
        result.update(counter)
    return result


@dataclass
class _Record:
    """What callers write down while the clock runs."""

    queries: int
    latencies: list[float] = field(default_factory=list)
    responses: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    answers: Counter[Answer] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    async def search(self, search: Search, number: int, arrival: float | None = None) -> bool:
        """Make a search and write down how it went; whether it was answered."""
        query = number % self.queries
        start = time.perf_counter()
        try:
            found = await search(query)
        except FAILURES as error:
            self.errors[error_line(error)] += 1
            return False
        end = time.perf_counter()
        self.latencies.append(end - start)
        if arrival is not None:
            self.responses.append(end - arrival)
        self.answers[query, tuple(found)] += 1
        return True

    async def write(self, write: Write, number: int) -> bool:
        """Make a write and write down how it went; whether it succeeded."""
        start = time.perf_counter()
        try:
            await write(number)
        except FAILURES as error:
            self.errors[error_line(error)] += 1
            return False
        self.writes.append(time.perf_counter() - start)
        return True

    def load(self, in_flight: int, begun: float) -> Load:
        """The finished run."""
        times = map(tuple, (self.responses, self.writes))
        ended = time.perf_counter()
        return Load(
            in_flight, begun, ended, tuple(self.latencies), self.answers, self.errors, *times
        )


async def closed_loop(
    search: Search,
    *,
    in_flight: int,
    seconds: float,
    queries: int,
    write: Write | None = None,
    write_share: float = 0.0,
    begin: Callable[[], Awaitable[object]] | None = None,
) -> Load:
    """Keep so many requests under way: each caller sends its next when the last has ended.

    One search of each caller warms up and does not count. Requests under way at the end are waited
    for and counted.

    Args:
        search: is given numbers of queries, one after the other and again from the start.
        in_flight: callers.
        seconds: for how long requests are sent.
        queries: how many there are.
        write: is given 0, 1, 2 ...
        write_share: of all requests, which are writes; evenly spread.
        begin: is awaited between the warm-up and the start of the clock.

    Raises:
        ValueError: a number out of its range.
    """
    _check(in_flight, seconds, queries)
    if not 0 <= write_share <= 1 or (write_share and write is None):
        raise ValueError(f"write_share is 0 to 1 and needs a write, not {write_share}")
    turn, record = count(), _Record(queries)

    async def caller() -> None:
        while time.perf_counter() < end:
            number = next(turn)
            writes = math.floor(number * write_share)
            if math.floor((number + 1) * write_share) > writes:
                fine = await record.write(write, writes)
            else:
                fine = await record.search(search, number)
            if not fine:
                await asyncio.sleep(PAUSE)

    with quiet_pymilvus():
        warm = _Record(queries)
        await asyncio.gather(*(warm.search(search, number) for number in range(in_flight)))
        if begin is not None:
            await begin()
        begun = time.perf_counter()
        end = begun + seconds
        await asyncio.gather(*(caller() for _ in range(in_flight)))
    return record.load(in_flight, begun)


async def open_loop(
    search: Search,
    *,
    rate: float,
    seconds: float,
    in_flight: int,
    backlog: int,
    queries: int,
) -> Load:
    """Let requests arrive at a fixed rate, whatever becomes of those before.

    Arrival i is due i / rate seconds after the start, and its time counts from then, also where it
    was handed out later. While `in_flight` requests are under way, arrivals wait in line; one that
    finds `backlog` others waiting is dropped, which is an error.

    Args:
        search: as for `closed_loop`.
        rate: arrivals a second.
        seconds: for how long; what has arrived by then is waited for.
        in_flight: requests sent and not answered, at most.
        backlog: arrivals waiting to be sent, at most.
        queries: how many there are.

    Raises:
        ValueError: a number out of its range, or no arrival within `seconds`.
    """
    _check(in_flight, seconds, queries)
    arrivals = round(rate * seconds)
    if rate <= 0 or arrivals < 1 or backlog < 1:
        raise ValueError(
            f"there must be an arrival and room for one that waits; {rate:g} a second for "
            f"{seconds:g} s make {arrivals}, and backlog is {backlog}"
        )
    record, line = _Record(queries), asyncio.Queue()

    async def caller() -> None:
        while (number := await line.get()) is not None:
            await record.search(search, number, begun + number / rate)

    with quiet_pymilvus():
        warm = _Record(queries)
        await asyncio.gather(*(warm.search(search, number) for number in range(in_flight)))
        begun = time.perf_counter()
        callers = [asyncio.create_task(caller()) for _ in range(in_flight)]
        number = 0
        while number < arrivals:
            now = time.perf_counter()
            while number < arrivals and begun + number / rate <= now:
                if line.qsize() < backlog:
                    line.put_nowait(number)
                else:
                    record.errors[f"dropped: {backlog:,} others were waiting"] += 1
                number += 1
            await asyncio.sleep(max(TICK, begun + number / rate - time.perf_counter()))
        for _ in callers:
            line.put_nowait(None)  # nobody comes any more
        await asyncio.gather(*callers)
    return record.load(in_flight, begun)


def closed_loop_threads(
    search: Callable[[int], Sequence[Key]], *, in_flight: int, seconds: float, queries: int
) -> Load:
    """The closed loop with a thread for each caller, by `measuring.measure_throughput`.

    Args:
        search: blocks until it has the answer; several threads call it at once.
        in_flight, seconds, queries: as for `closed_loop`.
    """
    _check(in_flight, seconds, queries)
    # next() on a count and append() on a list are one step each; adding to a counter is not.
    turn, found, errors = count(), [], []

    def call() -> None:
        query = next(turn) % queries
        try:
            found.append((query, tuple(search(query))))
        except FAILURES as error:
            errors.append(error_line(error))
            time.sleep(PAUSE)
            raise

    with quiet_pymilvus():
        _warm_up(search)
        begun = time.perf_counter()
        try:
            run = measure_throughput(call, threads=in_flight, seconds=seconds, warmup=0)
        except NothingMeasured:
            return Load(in_flight, begun, time.perf_counter(), (), Counter(), Counter(errors))
    ended = begun + run.elapsed
    return Load(in_flight, begun, ended, run.latencies.seconds, Counter(found), Counter(errors))


def _warm_up(search: Callable[[int], object]) -> None:
    try:
        search(0)
    except FAILURES:
        return  # the run that follows will count and name it


def _check(in_flight: int, seconds: float, queries: int) -> None:
    if in_flight < 1 or seconds <= 0 or queries < 1:
        raise ValueError(
            "in_flight and queries must be at least 1 and seconds over 0, not "
            f"{in_flight}, {queries} and {seconds:g}"
        )
