"""Load generation: who calls how often, what is counted, and from when a time counts."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable

from common.load_generation import (
    Load,
    closed_loop,
    closed_loop_threads,
    joined,
    open_loop,
    total,
)

import pytest
from pymilvus import MilvusException


def load(**values: object) -> Load:
    plain = {"in_flight": 1, "begun": 0.0, "ended": 1.0, "latencies": ()}
    return Load(**{**plain, "answers": Counter(), "errors": Counter(), **values})


def test_figures_of_a_run_by_hand() -> None:
    errors = Counter({"no": 2, "late": 1})
    run = load(begun=10.0, ended=12.5, latencies=(0.1,) * 5, errors=errors, writes=(0.2,) * 10)
    assert (run.elapsed, run.answered, run.failed) == (2.5, 5, 3)
    assert (run.per_second, run.writes_per_second) == (2.0, 4.0)


def test_runs_side_by_side_are_one() -> None:
    one = load(in_flight=2, begun=5.0, ended=7.0, latencies=(0.1, 0.2), errors=Counter(a=1))
    other = load(in_flight=3, begun=5.5, ended=9.0, latencies=(0.3,), errors=Counter(a=1, b=1))
    both = joined([one, other])
    assert (both.in_flight, both.begun, both.ended) == (5, 5.0, 9.0)
    assert both.latencies == (0.1, 0.2, 0.3)
    assert both.errors == {"a": 2, "b": 1}
    assert both.per_second == 3 / 4
    assert total([Counter(a=1), Counter(a=2, b=1)]) == {"a": 3, "b": 1}


def test_json_keeps_all() -> None:
    answers = Counter({(0, (7, 8)): 3, (1, ("a", "b")): 1})
    run = load(answers=answers, errors=Counter(no=2), latencies=(0.25, 0.5), responses=(1.0,))
    assert Load.from_json(json.loads(json.dumps(run.as_json()))) == run


class Asked:
    """A search that writes down what it was asked, and how many were asked at once."""

    def __init__(self, pause: float = 0.002, refuse: Callable[[int], bool] = lambda _: False):
        self.pause, self.refuse = pause, refuse
        self.queries: list[int] = []
        self.now = self.most = 0

    async def __call__(self, query: int) -> list[int]:
        self.queries.append(query)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.pause)
        self.now -= 1
        if self.refuse(query):
            raise MilvusException(code=1, message=f"refused {query}")
        return [query, query + 100]


def test_closed_loop_keeps_so_many_under_way() -> None:
    search = Asked()
    run = asyncio.run(closed_loop(search, in_flight=7, seconds=0.2, queries=5))
    assert search.most == 7
    assert run.answered + 7 == len(search.queries)  # 7 warmed up
    assert run.in_flight == 7
    assert run.elapsed >= 0.2
    assert run.answers.keys() == {(query, (query, query + 100)) for query in range(5)}
    assert run.answers.total() == run.answered == len(run.latencies)
    assert max(run.answers.values()) - min(run.answers.values()) <= 1  # in turn
    assert min(run.latencies) >= 0.002
    assert run.failed == 0


def test_failures_are_counted_by_kind_and_are_no_answers() -> None:
    search = Asked(refuse=lambda query: query == 2)
    run = asyncio.run(closed_loop(search, in_flight=3, seconds=0.3, queries=4))
    assert list(run.errors) == ["MilvusException (code 1): refused 2"]
    assert run.failed + run.answered + 3 == len(search.queries)
    assert {query for query, _ in run.answers} == {0, 1, 3}
    nothing = Asked(refuse=lambda _: True)
    run = asyncio.run(closed_loop(nothing, in_flight=2, seconds=0.2, queries=1))
    assert (run.answered, run.per_second) == (0, 0.0)
    assert run.failed >= 2
    # A refusal takes 2 ms and a pause follows: a caller that spins would have made 100.
    assert run.failed < 20


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_writes_are_spread_among_the_searches(share: float) -> None:
    search, written = Asked(), []

    async def write(number: int) -> None:
        written.append(number)
        await asyncio.sleep(0.002)

    how = {"in_flight": 4, "seconds": 0.3, "queries": 3}
    run = asyncio.run(closed_loop(search, write=write, write_share=share, **how))
    assert written == list(range(len(written)))
    assert len(run.writes) == len(written)
    requests = run.answered + len(run.writes)
    assert abs(len(written) - share * requests) <= 4  # one for each caller at the end


def test_a_write_that_fails_is_an_error() -> None:
    async def write(number: int) -> None:
        raise MilvusException(code=5, message="read only")

    how = {"in_flight": 2, "seconds": 0.2, "queries": 3, "write_share": 0.5}
    run = asyncio.run(closed_loop(Asked(), write=write, **how))
    assert list(run.errors) == ["MilvusException (code 5): read only"]
    assert run.writes == ()


def test_a_mistake_in_the_script_is_no_failed_request() -> None:
    async def search(query: int) -> list[int]:
        return [1 // query]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(closed_loop(search, in_flight=1, seconds=0.1, queries=2))
    with pytest.raises(ZeroDivisionError):
        closed_loop_threads(lambda query: [1 // query], in_flight=1, seconds=0.1, queries=2)


def test_begin_is_awaited_once_all_are_warm() -> None:
    search, seen = Asked(), []

    async def begin() -> None:
        seen.append(len(search.queries))

    asyncio.run(closed_loop(search, in_flight=3, seconds=0.05, queries=2, begin=begin))
    assert seen == [3]


def test_open_loop_counts_from_the_intended_arrival() -> None:
    """One caller and one stall: the closed view has one slow request, users have many."""
    ends: list[float] = []

    async def search(query: int) -> list[int]:
        await asyncio.sleep(0.3 if len(ends) == 11 else 0)  # the first one warms up
        ends.append(time.perf_counter())
        return [query]

    how = {"rate": 200, "seconds": 0.5, "in_flight": 1, "backlog": 1_000, "queries": 10}
    run = asyncio.run(open_loop(search, **how))
    assert run.answered == 100
    due = [run.begun + number / 200 for number in range(100)]
    expected = [end - arrival for end, arrival in zip(ends[1:], due, strict=True)]
    assert list(run.responses) == pytest.approx(expected, abs=0.005)
    late, slow = (sum(t > 0.1 for t in times) for times in (run.responses, run.latencies))
    assert slow <= 3
    assert late >= 30  # those that arrived in the first 0.2 s of the stall
    assert min(run.responses) >= 0  # nothing is sent before it is due
    assert run.answers.total() == 100


def test_arrivals_beyond_the_backlog_are_dropped_and_are_errors() -> None:
    async def measure() -> Load:
        opened, calls = asyncio.Event(), []

        async def search(query: int) -> list[int]:
            calls.append(query)
            if len(calls) > 2:  # the first two warm up
                await opened.wait()
            return [query]

        async def release() -> None:
            await asyncio.sleep(0.4)
            opened.set()

        how = {"rate": 100, "seconds": 0.2, "in_flight": 2, "backlog": 3, "queries": 50}
        run, _ = await asyncio.gather(open_loop(search, **how), release())
        return run

    run = asyncio.run(measure())
    assert run.errors == {"dropped: 3 others were waiting": 15}
    assert run.answered == 5  # two under way, three in the queue


def test_failures_in_an_open_loop() -> None:
    search = Asked(refuse=lambda query: query % 2 == 1)
    how = {"rate": 200, "seconds": 0.1, "in_flight": 4, "backlog": 10, "queries": 10}
    run = asyncio.run(open_loop(search, **how))
    assert (run.answered, run.failed) == (10, 10)
    assert len(run.responses) == 10


def test_threads_share_the_queries() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def search(query: int) -> list[int]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1
        if query == 1:
            raise MilvusException(code=1, message="refused")
        return [query]

    run = closed_loop_threads(search, in_flight=6, seconds=0.3, queries=3)
    assert most == 6
    assert run.answers.keys() == {(0, (0,)), (2, (2,))}
    assert run.answers.total() == run.answered
    assert list(run.errors) == ["MilvusException (code 1): refused"]
    assert run.failed > 0


def test_threads_that_are_all_refused() -> None:
    def search(query: int) -> list[int]:
        raise MilvusException(code=1, message="refused")

    run = closed_loop_threads(search, in_flight=2, seconds=0.2, queries=3)
    assert (run.answered, run.per_second) == (0, 0.0)
    assert 2 <= run.failed < 20
    assert run.elapsed >= 0.2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"in_flight": 0}, "in_flight and queries must be at least 1"),
        ({"seconds": 0}, "seconds over 0, not 1, 1 and 0"),
        ({"queries": 0}, "must be at least 1"),
        ({"write_share": 0.5}, "needs a write"),
        ({"write_share": 1.5, "write": Asked()}, "write_share is 0 to 1"),
    ],
)
def test_impossible_closed_loops(values: dict, message: str) -> None:
    how = {"in_flight": 1, "seconds": 1, "queries": 1, **values}
    with pytest.raises(ValueError, match=message):
        asyncio.run(closed_loop(Asked(), **how))


@pytest.mark.parametrize("values", [{"rate": 0}, {"rate": 0.1}, {"backlog": 0}])
def test_impossible_open_loops(values: dict) -> None:
    how = {"rate": 10, "seconds": 1, "in_flight": 1, "backlog": 1, "queries": 1, **values}
    with pytest.raises(ValueError, match="there must be an arrival and room"):
        asyncio.run(open_loop(Asked(), **how))
