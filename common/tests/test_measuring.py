"""Latencies, throughput and comparisons, on clocks and answers that are known."""

import itertools
import json
import logging
import threading
import time
from collections import Counter

from common import measuring
from common.measuring import (
    Comparison,
    Latencies,
    NothingMeasured,
    PairedRatio,
    Spread,
    Throughput,
    compare,
    environment,
    measure_latency,
    measure_throughput,
    paired_ratio,
    percentile,
    repeat_with_spread,
    show_comparison,
    time_failure,
    wait_for_answer,
    wait_until,
)

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus import MilvusException


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds < 1, "a learner waits for the answer, not for the pause"
        self.now += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring.time, "perf_counter", clock)
    monkeypatch.setattr(measuring.time, "sleep", clock.sleep)
    return clock


def works(clock: Clock, seconds: list[float], answers: list[int]):
    """A way to work that takes these seconds, one after the other, and gives these answers."""
    left = iter(seconds)

    def work() -> list[int]:
        clock.now += next(left)
        return answers

    return work


def test_medians_of_pairs_and_no_warm_up(clock: Clock) -> None:
    # 4 answers; the first second of each is the warm-up and must not count.
    old = works(clock, [100, 2, 1, 4], [1, 2, 3, 4])
    new = works(clock, [100, 1, 2, 1], [1, 2, 3, 4])
    # Rates: old 2, 4, 1 and new 4, 2, 4; ratios 2, 0.5, 4.
    assert compare(old, new, pairs=3) == Comparison(2, 4, 2, 0.5, 4, True)


def test_they_run_in_turns() -> None:
    order = []
    compare(lambda: order.append("old") or [1], lambda: order.append("new") or [1], pairs=2)
    assert order == ["old", "new"] * 3


def test_one_different_answer_in_one_run_is_seen() -> None:
    answers = iter([[1, 2], [1, 2], [2, 1], [1, 2]])
    assert compare(lambda: [1, 2], lambda: [1, 2], pairs=3).same_answers
    assert not compare(lambda: [1, 2], lambda: next(answers), pairs=3).same_answers


@pytest.mark.parametrize(
    ("ratio", "lowest", "highest", "verdict"),
    [
        (2.0, 1.5, 2.5, "the second is faster"),
        (0.5, 0.4, 0.9, "the first is faster"),
        (1.3, 0.9, 1.8, "these runs tell no difference"),
        (1.0, 1.0, 1.0, "these runs tell no difference"),
    ],
)
def test_what_can_be_said(ratio: float, lowest: float, highest: float, verdict: str) -> None:
    text = str(Comparison(1, 1, ratio, lowest, highest, True))
    assert text.endswith(f": {verdict}.")
    assert f"{ratio:.2f}" in text
    assert f"{lowest:.2f} to {highest:.2f}" in text


def test_rates_are_shown_with_what_can_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_comparison("1 thread", "8 threads", Comparison(1234.4, 2000, 1.6, 1.5, 1.7, True))
    output = capsys.readouterr().out
    assert "1 thread    1,234 q/s" in output
    assert "8 threads   2,000 q/s" in output
    assert "Second to first: 1.60" in output


def test_different_answers_are_not_shown_as_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="a loop and threads gave different answers"):
        show_comparison("a loop", "threads", Comparison(1, 2, 2, 2, 2, same_answers=False))
    assert capsys.readouterr().out == ""


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="there is no answer to count"):
        compare(list, list)
    with pytest.raises(ValueError, match="pairs must be at least 1, not 0"):
        compare(lambda: [1], lambda: [1], pairs=0)


def test_a_failure_is_timed(clock: Clock) -> None:
    error = MilvusException(message="no")

    def call() -> None:
        clock.now += 1.5
        logging.getLogger("pymilvus.decorators").error("not to be seen")
        raise error

    failure = time_failure(call)
    assert (failure.error, failure.seconds) == (error, 1.5)


def test_the_log_of_an_expected_failure_is_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    def call() -> None:
        logging.getLogger("pymilvus").error("not to be seen")
        raise MilvusException(message="no")

    time_failure(call)
    assert caplog.records == []


def test_what_must_fail_and_does_not_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="a call that had to fail did not"):
        time_failure(lambda: None)


def test_another_error_is_not_taken_for_the_expected_one() -> None:
    with pytest.raises(ZeroDivisionError):
        time_failure(lambda: 1 / 0)


def test_waiting_for_an_answer_counts_the_errors_before_it(clock: Clock) -> None:
    outcomes = iter(["no", "no", "not yet", 42])

    def call() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, str):
            raise MilvusException(code=1, message=outcome)
        return outcome

    waited = wait_for_answer(call, patience=60)
    assert (waited.answer, waited.seconds) == (42, 3)
    assert waited.errors == {
        "MilvusException (code 1): no": 2,
        "MilvusException (code 1): not yet": 1,
    }


def test_patience_ends_with_the_error(clock: Clock) -> None:
    calls = []

    def call() -> None:
        calls.append(clock.now)
        raise MilvusException(message="never")

    with pytest.raises(MilvusException, match="never"):
        wait_for_answer(call, patience=2)
    assert calls == [0, 1, 2, 3]


class TestPercentile:
    @pytest.mark.parametrize(
        ("values", "percent", "result"),
        [
            ([1, 2, 3, 4], 50, 2),  # rank 2
            ([1, 2, 3, 4], 51, 3),  # rank 2.04, rounded up
            ([1, 2, 3, 4], 75, 3),
            ([1, 2, 3, 4], 100, 4),
            ([1, 2, 3, 4], 0.1, 1),
            ([7], 95, 7),
            ([3, 1, 2], 95, 3),  # sorted first
            (range(1, 21), 95, 19),  # rank 19, and not 20 by a rounding error
            (range(1, 101), 99, 99),
            (range(1, 1_001), 99.9, 999),
            (range(1, 1_001), 16.1, 161),  # 16.1 * 1,000 / 100 is a hair over 161
        ],
    )
    def test_by_hand(self, values, percent, result):
        assert percentile(values, percent) == result

    @given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 100))
    def test_it_is_what_numpy_calls_inverted_cdf(self, values, percent):
        rank = percent * len(values) / 100
        if abs(rank - round(rank)) > 1e-6:  # apart from ranks that floating point blurs
            expected = np.percentile(values, percent, method="inverted_cdf")
            assert percentile(values, percent) == expected

    def test_what_makes_no_sense(self):
        with pytest.raises(ValueError, match="there is no percentile of nothing"):
            percentile([], 50)
        for percent in (0, -1, 100.1):
            with pytest.raises(ValueError, match="percent must be over 0 and at most 100"):
                percentile([1], percent)


class TestLatency:
    def test_by_hand(self):
        clock = Clock()
        # The first call takes 50 s and two more are to get warm; 5 count.
        call = works(clock, [50, 9, 9, 1, 2, 3, 4, 10], [])
        measured = measure_latency(call, repeat=5, warmup=3, clock=clock)
        assert measured.first == 50
        assert measured.seconds == (1, 2, 3, 4, 10)
        assert (measured.median, measured.p95, measured.failed) == (3, 10, 0)

    def test_the_median_of_an_even_number(self):
        assert Latencies((1, 2, 3, 10)).median == 2.5

    def test_a_99th_percentile_takes_a_thousand_samples(self):
        assert Latencies(tuple(range(1, 1_000))).p99 is None
        assert Latencies(tuple(range(1, 1_001))).p99 == 990

    def test_failures_are_counted_and_not_timed(self):
        clock = Clock()
        outcomes = itertools.cycle([0, 1, "busy", 2, "gone"])

        def call() -> None:
            outcome = next(outcomes)
            clock.now += 100 if isinstance(outcome, str) else 1
            if isinstance(outcome, str):
                logging.getLogger("pymilvus.decorators").error("not to be seen")
                raise MilvusException(code=5, message=outcome)

        measured = measure_latency(call, repeat=9, warmup=1, clock=clock)
        assert measured.seconds == (1,) * 5
        assert measured.failed == 4
        assert measured.errors == {
            "MilvusException (code 5): busy": 2,
            "MilvusException (code 5): gone": 2,
        }

    def test_errors_of_grpc_count_too(self):
        calls = itertools.count()

        def call() -> None:
            if next(calls) == 1:
                raise grpc.RpcError("away")

        assert measure_latency(call, repeat=2, warmup=1).failed == 1

    def test_a_mistake_in_the_script_is_no_failed_call(self):
        calls = itertools.count()
        with pytest.raises(ZeroDivisionError):
            measure_latency(lambda: 1 // (2 - next(calls)), repeat=9, warmup=1)
        assert next(calls) == 3

    def test_an_error_while_warming_up_goes_to_the_caller(self):
        def call() -> None:
            raise MilvusException(message="no such collection")

        with pytest.raises(MilvusException, match="no such collection"):
            measure_latency(call, repeat=9)

    def test_nothing_but_failures_is_an_error(self):
        calls = itertools.count()

        def call() -> None:
            if next(calls):
                raise MilvusException(message="gone")

        with pytest.raises(NothingMeasured, match=r"all 3 calls failed: .*: gone \(3 times\)"):
            measure_latency(call, repeat=3, warmup=1)

    @pytest.mark.parametrize("numbers", [{"repeat": 0}, {"repeat": 1, "warmup": 0}])
    def test_numbers_that_are_too_small(self, numbers):
        with pytest.raises(ValueError, match="repeat and warmup must be at least 1"):
            measure_latency(lambda: None, **numbers)

    def test_as_json(self):
        text = json.dumps(measure_latency(lambda: None, repeat=3).as_json())
        figures = json.loads(text)
        assert figures["calls"] == 3
        assert figures["p99_s"] is None
        assert figures["median_s"] <= figures["p95_s"]


class TestThroughput:
    def test_all_threads_call_at_once(self):
        # Nobody passes this barrier unless five calls are under way at the same time.
        together = threading.Barrier(5, timeout=30)
        measured = measure_throughput(together.wait, threads=5, calls=20, warmup=1)
        assert measured.completed == 20
        assert measured.threads == 5

    def test_nothing_counts_before_all_are_warm(self):
        warmed, early = Counter(), []

        def call() -> None:
            name = threading.current_thread().name
            warmed[name] += 1
            if name.endswith("_0") and warmed[name] <= 2:
                time.sleep(0.02)
            if warmed[name] > 2 and any(count < 2 for count in list(warmed.values())):
                early.append(name)

        measure_throughput(call, threads=3, calls=30, warmup=2)
        assert early == []

    def test_the_number_of_calls_is_exact(self):
        made = itertools.count()
        measured = measure_throughput(lambda: next(made), threads=3, calls=100, warmup=2)
        assert measured.completed == 100
        assert next(made) == 100 + 3 * 2
        assert measured.failed == 0
        assert measured.latencies.first is None

    def test_until_the_time_is_over(self):
        clock = Clock()

        def call() -> None:
            clock.now += 1

        # One thread, calls of one second: after three of them three seconds are over.
        measured = measure_throughput(call, threads=1, seconds=3, warmup=4, clock=clock)
        assert measured.latencies.seconds == (1, 1, 1)
        assert measured.elapsed == 3
        assert measured.per_second == 1

    def test_a_call_under_way_at_the_end_counts_with_its_time(self):
        clock = Clock()
        measured = measure_throughput(
            works(clock, [2, 2], []), threads=1, seconds=3, warmup=0, clock=clock
        )
        assert (measured.completed, measured.elapsed) == (2, 4)
        assert measured.per_second == 0.5

    def test_failures_lower_the_rate(self):
        calls = itertools.count()

        def call() -> None:
            if next(calls) % 4 == 0:
                raise MilvusException(message="busy")

        measured = measure_throughput(call, threads=4, calls=80, warmup=0)
        assert (measured.completed, measured.failed) == (60, 20)
        assert measured.latencies.errors.total() == 20
        assert measured.per_second == pytest.approx(60 / measured.elapsed)

    @pytest.mark.parametrize("warmup", [0, 1])
    def test_a_mistake_stops_all_threads(self, warmup):
        def call() -> None:
            if threading.current_thread().name.endswith("_1"):
                raise ZeroDivisionError("a mistake")
            time.sleep(0.001)

        started = threading.active_count()
        with pytest.raises(ZeroDivisionError, match="a mistake"):
            measure_throughput(call, threads=4, seconds=600, warmup=warmup)
        assert threading.active_count() == started

    def test_nothing_but_failures_is_an_error(self):
        def call() -> None:
            raise MilvusException(message="gone")

        with pytest.raises(NothingMeasured, match="all 6 calls failed"):
            measure_throughput(call, threads=2, calls=6, warmup=0)

    @pytest.mark.parametrize(
        ("numbers", "message"),
        [
            ({"threads": 0, "calls": 1}, "threads must be at least 1 and warmup 0, not 0 and 3"),
            ({"threads": 1, "calls": 1, "warmup": -1}, "not 1 and -1"),
            ({"threads": 1}, "give either seconds or calls"),
            ({"threads": 1, "calls": 1, "seconds": 1}, "give either seconds or calls"),
            ({"threads": 1, "seconds": 0}, "seconds must be over 0, not 0"),
            ({"threads": 3, "calls": 2}, "at least one for each of 3 threads, not 2"),
        ],
    )
    def test_numbers_that_make_no_sense(self, numbers, message):
        with pytest.raises(ValueError, match=message):
            measure_throughput(lambda: None, **numbers)

    def test_as_json(self):
        figures = Throughput(2, 4.0, Latencies((1.0, 1.0), failed=1)).as_json()
        assert json.loads(json.dumps(figures))["per_second"] == 0.5
        assert (figures["threads"], figures["failed"]) == (2, 1)


class TestSpread:
    def test_by_hand(self):
        values = iter([3.0, 9.0, 4.0])
        spread = repeat_with_spread(lambda: next(values))
        assert (spread.median, spread.lowest, spread.highest) == (4, 3, 9)
        assert str(spread) == "4 (3 to 9)"
        assert str(Spread((1234.56, 1300.0))) == "1,267 (1,235 to 1,300)"

    def test_no_times(self):
        with pytest.raises(ValueError, match="times must be at least 1, not 0"):
            repeat_with_spread(lambda: 1, times=0)


class TestPairedRatio:
    def test_by_hand(self):
        a, b = iter([2.0, 6.0, 9.0]), iter([1.0, 2.0, 1.0])
        measured = paired_ratio(lambda: next(a), lambda: next(b), pairs=3)
        assert measured == PairedRatio(((2, 1), (6, 2), (9, 1)))
        assert (measured.ratio, measured.lowest, measured.highest) == (3, 2, 9)
        assert measured.clear

    def test_who_goes_first_changes(self):
        order = []
        paired_ratio(lambda: order.append("a") or 1, lambda: order.append("b") or 1, pairs=3)
        assert "".join(order) == "abbaab"

    def test_a_machine_that_slows_down_does_not_decide(self):
        # Everything gets slower by a fifth with each measurement; a is truly twice as fast.
        speed = (0.8**n for n in itertools.count())
        measured = paired_ratio(lambda: 2 * next(speed), lambda: next(speed), pairs=4)
        assert measured.ratio == pytest.approx((2 / 0.8 + 2 * 0.8) / 2)

    @pytest.mark.parametrize(
        ("pairs", "clear"),
        [(((2, 1), (1, 2)), False), (((1, 2), (1, 3)), True), (((2, 1), (1, 1)), False)],
    )
    def test_whether_the_pairs_agree(self, pairs, clear):
        assert PairedRatio(pairs).clear is clear

    def test_what_makes_no_sense(self):
        with pytest.raises(ValueError, match="pairs must be at least 1, not 0"):
            paired_ratio(lambda: 1, lambda: 1, pairs=0)
        for wrong in (0, float("nan")):
            with pytest.raises(ValueError, match="a rate must be over 0; these are 1 and"):
                paired_ratio(lambda: 1, lambda wrong=wrong: wrong)


class TestWaitUntil:
    def test_the_answer_is_returned(self):
        clock = Clock()
        answers = iter([0, None, "built"])
        waited = wait_until(lambda: next(answers), 10, "it", clock=clock, sleep=clock.sleep)
        assert waited == "built"
        assert clock.now == 2

    def test_the_message_says_what_and_the_last_answer(self):
        clock = Clock()
        with pytest.raises(TimeoutError) as caught:
            wait_until(lambda: [], 3, "the index is built", clock=clock, sleep=clock.sleep)
        assert str(caught.value) == ("the index is built: not within 3 s; the last answer was []")

    def test_it_is_asked_at_the_very_end(self):
        clock = Clock()
        asked = []

        def condition() -> bool:
            asked.append(clock.now)
            return clock.now >= 1

        assert wait_until(condition, 1, "it", clock=clock, sleep=clock.sleep)
        assert asked == [0, 1]

    def test_without_patience_it_is_asked_once(self):
        asked = []
        with pytest.raises(TimeoutError, match="it: not within 0 s"):
            wait_until(lambda: asked.append(1), 0, "it")
        assert asked == [1]

    def test_pauses_end_at_the_deadline(self):
        pauses = []
        clock = Clock()

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            clock.now += seconds

        with pytest.raises(TimeoutError):
            wait_until(lambda: False, 1, "it", pause=0.75, clock=clock, sleep=sleep)
        assert pauses == [0.75, 0.25]

    def test_an_error_of_the_condition_goes_to_the_caller(self):
        with pytest.raises(ZeroDivisionError):
            wait_until(lambda: 1 / 0, 10, "it")


def test_what_a_result_depends_on_can_be_written_down() -> None:
    found = json.loads(json.dumps(environment()))
    assert found["packages"]["numpy"] == np.__version__
    assert found["cores"] >= 1
    assert found["memory"] > 1e8
    assert found["processor"]
    assert found["time"].endswith("+00:00")
    assert {"pymilvus", "milvus-lite", "milvus"} <= found["packages"].keys()
