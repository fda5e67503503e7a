"""Measuring: two ways to do the same work compared by their rates, the time until an answer.

Neighbours on a machine can halve any rate from one second to the next. So two ways run in turns,
and what counts is the median of the ratios of the pairs.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from common.display import error_line, quiet_pymilvus, say, table

import grpc
from pymilvus.exceptions import MilvusException

Answer = TypeVar("Answer")


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
