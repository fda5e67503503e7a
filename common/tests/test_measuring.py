"""Comparing two rates, on clocks and answers that are known."""

import logging

from common import measuring
from common.measuring import Comparison, compare, show_comparison, time_failure, wait_for_answer

import pytest
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
