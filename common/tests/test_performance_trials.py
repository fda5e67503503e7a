"""Rates, gains and callers at once: on cases worked by hand."""

import asyncio
from collections import Counter

from common.batching import BatchCounts
from common.measuring import Spread
from common.performance_trials import (
    Load,
    ask_in_threads,
    callers_in_turns,
    closed_loop,
    gain_of,
    gains_of,
    in_rounds,
    popular_queries,
    show_loads,
    timed,
)

import numpy as np
import pytest

QUERIES = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_rounds_alternate_and_the_first_does_not_count() -> None:
    order = []

    def way(name: str, rates: list[float]):
        left = iter(rates)

        def measure() -> float:
            order.append(name)
            return next(left)

        return measure

    ways = {"a": way("a", [99, 1, 2, 4]), "b": way("b", [1, 3, 2, 20])}
    rates = in_rounds(ways, 3)
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert rates == {"a": Spread((1, 2, 4)), "b": Spread((3, 2, 20))}
    gain = gain_of(rates, "b", "a")
    assert gain.pairs.ratios == (3, 1, 5)
    assert (gain.step, gain.baseline, gain.pairs.ratio) == ("b", "a", 3)
    measured = [{"a": rates["a"]}, {"c": rates["a"]}, rates]
    assert gains_of(measured, [("b", "a"), ("d", "a")]) == [gain]
    with pytest.raises(ValueError, match="rounds"):
        in_rounds(ways, 0)
    with pytest.raises(ValueError, match="'z' must be over 0"):
        in_rounds({"z": lambda: 0.0})


def test_timed() -> None:
    done = []
    measure = timed(done.append, 10, "x")
    assert done == []
    assert measure() > 0
    assert done == ["x"]


def test_callers_ask_at_once_and_share_the_queries() -> None:
    asked, under_way, most = Counter(), 0, 0

    async def ask(query: np.ndarray) -> None:
        nonlocal under_way, most
        asked[int(query[0])] += 1
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1

    load = asyncio.run(closed_loop(ask, QUERIES, callers=5, searches=20))
    assert asked == {0: 5, 3: 5, 6: 5, 9: 5}
    assert most == 5
    assert load.p95 >= 0.01
    assert load.rate <= 5 / 0.01

    async def fail(query: np.ndarray) -> None:
        raise LookupError("no")

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(closed_loop(fail, QUERIES, callers=2, searches=4))
    assert isinstance(caught.value.exceptions[0], LookupError)
    for wrong in ({"callers": 0, "searches": 1}, {"callers": 1, "searches": 0}):
        with pytest.raises(ValueError, match="1 or more"):
            asyncio.run(closed_loop(ask, QUERIES, **wrong))

    with asyncio.Runner() as runner:
        asks = {"a": ask, "b": ask}
        loads = callers_in_turns(runner, asks, QUERIES, 2, callers=2, searches=4)
    assert {way: len(own) for way, own in loads.items()} == {"a": 2, "b": 2}


def test_loads_are_shown(capsys: pytest.CaptureFixture) -> None:
    loads = {"bare": [Load(100, 0.2), Load(200, 0.3), Load(300, 0.1)], "new": [Load(400, 0.02)] * 3}
    rates = show_loads(loads, BatchCounts(searches=90, requests=3))
    assert rates["bare"].median == 200
    printed = capsys.readouterr().out
    assert "200 searches/s" in printed
    assert "20.0 ms" in printed
    assert "2.00 x" in printed  # the median of 4, 2 and 4/3
    assert "30.0 searches in a request" in printed


def test_each_thread_has_a_client_of_its_own() -> None:
    in_use, asked = Counter(), Counter()

    def ask(client: str) -> None:
        in_use[client] += 1
        assert in_use[client] == 1 or client == "shared"
        asked[client] += 1
        in_use[client] -= 1

    assert ask_in_threads(ask, ["a", "b", "c", "d"], threads=4, calls=400) > 0
    assert asked.total() >= 400
    assert ask_in_threads(ask, ["shared"], threads=4, calls=2) > 0
    assert asked["shared"] >= 4


def test_popular_queries_follow_zipf() -> None:
    drawn = popular_queries(50, 20_000)
    assert drawn.min() == 0
    assert drawn.max() < 50
    counts = np.bincount(drawn, minlength=50)
    weights = 1 / np.arange(1, 51)
    expected = 20_000 * weights / weights.sum()
    assert counts == pytest.approx(expected, rel=0.35)
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert np.array_equal(drawn, popular_queries(50, 20_000))
    with pytest.raises(ValueError, match="1 or more"):
        popular_queries(0, 5)
