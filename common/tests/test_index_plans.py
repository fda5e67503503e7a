"""Plans on a command line, and the advice for them."""

import argparse

from common.index_plans import Plan, add_plan_options, plan_of, show_advice
from common.indexes import NoIndexFitsError, recommend_index

import pytest


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_plan_options(parser)
    return parser.parse_args(arguments)


def test_options() -> None:
    assert plan_of(parse(), 500, 8) == Plan(500, 8, None, 0.95, None)
    own = parse("--plan-rows", "2000", "--memory", "2GB", "--recall", "0.9", "--latency", "5ms")
    assert plan_of(own, 500, 8) == Plan(2_000, 8, 2e9, 0.9, 0.005)


@pytest.mark.parametrize("value", ["0", "1.01", "high", "nan", "-1"])
def test_a_recall_that_is_none(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--recall", value)
    assert stopped.value.code == 2
    assert "is not a number over 0 and at most 1" in capsys.readouterr().err


def test_advice_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    plans = [Plan(1_000_000, 384, 2e9, 0.95, 0.005), Plan(50_000_000, 768, 1e9, 0.99, 0.01)]
    best = recommend_index(*plans[0])
    with pytest.raises(NoIndexFitsError) as nothing:
        recommend_index(*plans[1])
    show_advice(plans, [best, nothing.value])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"1,000,000 x 384 2.0 GB 0.95 5.00 ms {best.index}" in shown
    assert "50,000,000 x 768 1.0 GB 0.99 10.0 ms none see below" in shown
    assert f"50,000,000 x 768: {nothing.value}" in shown
    assert all(f"- {reason}" in shown for reason in best.why)
    assert all(name in shown for name, _ in best.rejected)
    show_advice(plans[1:], [nothing.value])
    assert "And not" not in capsys.readouterr().out
