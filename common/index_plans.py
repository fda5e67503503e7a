"""Plans for an index, given on a command line, and the advice for them in tables."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from common.display import milliseconds, say, table
from common.index_trial import params_text
from common.indexes import NoIndexFitsError, Recommendation, size_text
from common.units import parse_bytes, parse_seconds, whole_number

Advice = Recommendation | NoIndexFitsError


class Plan(NamedTuple):
    """What `recommend_index(*plan)` is asked: bytes and seconds, None for any."""

    rows: int
    dimension: int
    memory: float | None = None
    recall: float = 0.95
    latency: float | None = None

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.dimension:,}"


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Options for what an index is to hold and to give; `plan_of` reads them."""
    add = parser.add_argument
    rows = "rows to recommend an index for (default: those stored)"
    add("--plan-rows", type=partial(whole_number, least=1), metavar="N", help=rows)
    memory = 'memory that it may take, as in "2GB" (default: any)'
    add("--memory", type=parse_bytes, metavar="SIZE", help=memory)
    recall = "recall that it must reach (default: %(default)s)"
    add("--recall", type=_share, default=0.95, metavar="SHARE", help=recall)
    latency = 'time that a query may take, as in "5ms" (default: any)'
    add("--latency", type=parse_seconds, metavar="TIME", help=latency)


def plan_of(options: argparse.Namespace, rows: int, dimension: int) -> Plan:
    """The plan in parsed options, for so many rows unless they name another number."""
    wishes = options.memory, options.recall, options.latency
    return Plan(options.plan_rows or rows, dimension, *wishes)


def show_advice(plans: Sequence[Plan], advice: Sequence[Advice]) -> None:
    """Show what is recommended for each plan, and for the first one why."""
    columns = "rows x dimension", "memory", "recall", "latency", "index", "start with", "takes"
    rows = [_row(plan, given) for plan, given in zip(plans, advice, strict=True)]
    table("Recommended, by estimates", columns, rows)
    for plan, given in zip(plans, advice, strict=True):
        if isinstance(given, NoIndexFitsError):
            say(f"{plan}: {given}")
    if isinstance(advice[0], Recommendation):
        say(f"Why {advice[0].index} for {plans[0]}?")
        for reason in advice[0].why:
            say(f"- {reason}")
        table("And not", ("candidate", "because it"), advice[0].rejected)


def _row(plan: Plan, given: Advice) -> tuple[str, ...]:
    wishes = (
        str(plan),
        size_text(plan.memory) if plan.memory else "any",
        f"{plan.recall:g}",
        milliseconds(plan.latency) if plan.latency else "any",
    )
    if isinstance(given, NoIndexFitsError):
        return *wishes, "none", "see below", "–"
    params = params_text({**given.build_params, **given.search_params})
    return *wishes, given.index, params, size_text(given.memory.bytes)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over 0 and at most 1")
    return share
