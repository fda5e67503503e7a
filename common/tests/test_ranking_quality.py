import re

from common import ranking_quality
from common.datasets import JudgedQuery
from common.evaluation import MeanWithInterval
from common.ranking_quality import (
    draw_quality,
    rate,
    report_quality,
    show_by_group,
    show_differences,
    show_extremes,
    verdict,
    with_interval,
)
from common.settings import settings

import pytest

QUERIES = [JudgedQuery(n, f"query {n}", frozenset({n})) for n in range(40)]
GOOD = [[(n, 1.0), (99, 0.5)] for n in range(40)]
HALF = [[(99, 1.0), (n, 0.5)] for n in range(40)]  # the right one comes second
MIXED = [GOOD[n] if n % 2 else HALF[n] for n in range(40)]
OTHER = [HALF[n] if n % 2 else GOOD[n] for n in range(40)]
SECOND = 0.6309  # 1 / log2(3)


@pytest.fixture
def rated():
    rankings = {"good": GOOD, "half": HALF, "mixed": MIXED, "other": OTHER}
    return rate(rankings, QUERIES, ("nDCG@10", "hit@1"))


def test_rate(rated):
    assert rated["good"]["nDCG@10"] == [1.0] * 40
    assert rated["half"]["nDCG@10"] == pytest.approx([SECOND] * 40, abs=1e-4)
    assert rated["mixed"]["hit@1"] == [0.0, 1.0] * 20
    assert list(rated["good"]) == ["nDCG@10", "hit@1"]


def test_rate_wants_an_answer_to_each_query():
    with pytest.raises(ValueError, match="longer"):
        rate({"good": GOOD[:-1]}, QUERIES, ("nDCG@10",))


def test_differences_and_what_they_show(rated, capsys):
    found = show_differences(rated, "mixed", "hit@1")
    assert list(found) == ["good", "half", "other"]
    assert found["good"].mean == 0.5
    assert found["half"].mean == -0.5
    assert found["other"].mean == 0
    printed = capsys.readouterr().out
    assert re.search(r"good +\+0\.500 .* better", printed)
    assert re.search(r"half +-0\.500 .* worse", printed)
    assert "The interval includes 0 for other: 40 queries do not show" in printed


def test_no_word_of_0_where_no_interval_includes_it(rated, capsys):
    show_differences({name: rated[name] for name in ("good", "half")}, "half", "hit@1")
    assert "includes 0" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.3, "better"),
        (-0.3, -0.1, "worse"),
        (-0.1, 0.3, "not clear: includes 0"),
        (0, 0.3, "not clear: includes 0"),
    ],
)
def test_verdict(low, high, expected):
    assert verdict(MeanWithInterval((low + high) / 2, low, high)) == expected


def test_with_interval():
    result = MeanWithInterval(0.5, 0.4444, 0.6)
    assert with_interval(result) == "0.500 (0.444 to 0.600)"
    assert with_interval(result, signed=True) == "+0.500 (+0.444 to +0.600)"


def test_groups(rated, capsys):
    groups = ["b", *["a"] * 20, *["c"] * 19]
    found = show_by_group("Groups", rated, "hit@1", groups, "good", "half")
    assert found == {"a": (1, 1, 1), "c": (1, 1, 1)}  # one query says nothing
    assert re.search(r"a +20 +1\.000 +0\.000 +0\.500", capsys.readouterr().out)


def test_extremes(capsys):
    rankings = {"good": [*GOOD[:1], *HALF[1:]], "base": [*HALF[:1], *GOOD[1:2], *HALF[2:]]}
    rated = rate(rankings, QUERIES, ("hit@1",))
    show_extremes("Extremes", rated, "hit@1", QUERIES, "good", "base", number=1)
    printed = capsys.readouterr().out
    assert re.search(r"query 0 +1\.00 +0\.00 +\+1\.00", printed)
    assert re.search(r"query 1 +0\.00 +1\.00 +-1\.00", printed)
    assert "query 2" not in printed


def test_report_prints_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUT_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        rankings = {"good": GOOD, "half": HALF}
        report_quality("Both", rankings, QUERIES, ("MRR@10", "hit@1"), "half", "chart")
    finally:
        settings.cache_clear()
    printed = capsys.readouterr().out
    assert re.search(r"half +0\.500 \(0\.500 to 0\.500\) +0\.000", printed)
    assert "MRR@10, difference from half" in printed
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_the_chart_shows_means_and_intervals(rated, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        ranking_quality, "save_chart", lambda figure, name: drawn.update({name: figure})
    )
    draw_quality("Title", rated, "hit@1", "half", "chart")
    (axes,) = drawn["chart"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "other",
        "mixed",
        "half",
        "good",
    ]
    (points,) = axes.containers
    assert points[0].get_xdata().tolist() == [0.5, 0.5, 0.0, 1.0]
    assert "nDCG" not in axes.get_xlabel()
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {
        "mean with 95 % interval",
        "mean of half",
    }
