"""What filters cost: the figures on cases worked by hand, the table and the charts."""

from dataclasses import replace
from pathlib import Path

from common import display
from common.connection import Milvus
from common.filter_effects import (
    IndexEffect,
    Selected,
    choose_indexes,
    index_effect,
    measure_selectivity,
    ranks,
    show_index_effects,
    show_selectivity,
)
from common.measuring import PairedRatio
from common.settings import Settings
from common.vector_sets import vector_set

import numpy as np
import pytest

DATA = vector_set(None, rows=200, dimension=8, queries=6)


def exact(queries: np.ndarray, condition: str, limit: int = 10) -> list[list[int]]:
    """The best rows by NumPy; the condition is `rank < n` or nothing."""
    passing = np.arange(200)
    if condition:
        passing = np.flatnonzero(ranks(200) < int(condition.removeprefix("rank < ")))
    scores = queries @ DATA.vectors[passing].T
    return [passing[np.argsort(-row)[:limit]].tolist() for row in scores]


def test_ranks_let_exactly_so_many_rows_through() -> None:
    assert sorted(ranks(50)) == list(range(50))
    assert ranks(50).tolist() == ranks(50).tolist() != list(range(50))


def test_an_exact_search_finds_all_at_every_share() -> None:
    asked = []

    def search(queries: np.ndarray, condition: str, params: dict) -> list[list[int]]:
        asked.append((len(queries), condition, params["ef"]))
        return exact(queries, condition)

    ways = {"low": {"ef": 1}, "high": {"ef": 2}}
    points = measure_selectivity(search, DATA, ways, (0.02, 0.5, 1.0), repeat=3)
    assert [(p.way, p.share, p.rows, p.recall, p.hits, p.asked) for p in points] == [
        ("low", 0.02, 4, 1.0, 4.0, 4),
        ("high", 0.02, 4, 1.0, 4.0, 4),
        ("low", 0.5, 100, 1.0, 10.0, 10),
        ("high", 0.5, 100, 1.0, 10.0, 10),
        ("low", 1.0, 200, 1.0, 10.0, 10),
        ("high", 1.0, 200, 1.0, 10.0, 10),
    ]
    assert all(point.seconds > 0 for point in points)
    for case in ((6, "rank < 4", 1), (6, "", 2), (1, "rank < 100", 2)):
        assert case in asked  # all queries for the recall, one by one for the time


def test_a_search_that_finds_half_has_half_the_recall() -> None:
    def search(queries: np.ndarray, condition: str, params: dict) -> list[list[int]]:
        return exact(queries, condition, limit=5)

    (point,) = measure_selectivity(search, DATA, {"half": {}}, (0.5,), repeat=1)
    assert (point.recall, point.hits, point.asked) == (0.5, 5.0, 10)


def test_a_row_that_does_not_pass_is_an_error() -> None:
    def search(queries: np.ndarray, condition: str, params: dict) -> list[list[int]]:
        return exact(queries, "")

    with pytest.raises(KeyError):
        measure_selectivity(search, DATA, {"all": {}}, (0.05,), repeat=1)


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([(2.0, 1.0), (3.0, 1.0), (1.2, 1.0)], "faster"),
        ([(1.0, 2.0), (1.0, 3.0), (1.0, 1.2)], "slower"),
        ([(2.0, 1.0), (3.0, 1.0), (0.9, 1.0)], "no difference"),  # not all agree
        ([(1.05, 1.0), (1.04, 1.0), (1.06, 1.0)], "no difference"),  # all do, but it is nothing
    ],
)
def test_verdicts(
    pairs: list[tuple[float, float]], verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    effect = IndexEffect("one sku", 7, PairedRatio(tuple(pairs)))
    assert effect.verdict == verdict
    show_index_effects("Title", [effect])
    printed = capsys.readouterr().out
    assert verdict in printed
    assert f"{sorted(a for a, _ in pairs)[1] * 1000:,.0f} ms" in printed


def test_an_index_effect_counts_both_ways() -> None:
    calls = {"without": 0, "with": 0}

    def search(way: str) -> list[int]:
        calls[way] += 1
        return [3, 1]

    effect = index_effect("f", 2, lambda: search("without"), lambda: search("with"), 4)
    assert (effect.filter, effect.rows, len(effect.seconds.pairs)) == ("f", 2, 7)
    assert calls["without"] == calls["with"] >= 7 * 4
    with pytest.raises(RuntimeError, match="the index changes the answer: f"):
        index_effect("f", 2, lambda: [1], lambda: [2], 4)


@pytest.mark.parametrize(
    ("kind", "version", "chosen"),
    [
        ("lite", "3.2.2", {"cents": "INVERTED", "sku": "INVERTED"}),
        ("standalone", "2.3.5-lite", {"cents": "STL_SORT", "sku": "Trie"}),
        ("standalone", "3.0.2", {"cents": "STL_SORT", "sku": "Trie", "category": "BITMAP"}),
    ],
)
def test_the_best_index_that_there_is(
    kind: str, version: str, chosen: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    milvus = Milvus(None, "", kind, version, {})
    wanted = {
        "cents": ("STL_SORT", "INVERTED"),
        "sku": ("Trie", "INVERTED"),
        "category": ("BITMAP",),
    }
    assert choose_indexes(milvus, wanted) == chosen
    printed = capsys.readouterr().out
    assert ("not run: scalar index BITMAP" in printed) is ("category" not in chosen)


def test_table_and_charts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "settings", lambda: Settings(out_dir=tmp_path))
    point = Selected("ef=16", 0.001, 20, 0.25, 2.5, 10, 0.002)
    show_selectivity("Milvus X", [point, replace(point, share=1.0, rows=20_000)], threshold=True)
    printed = capsys.readouterr().out
    for text in ("HNSW with ef=16", "0.1 %", "100 %", "2.5 of 10", "2.00 ms", "20000"):
        assert text in printed
    for name in ("recall", "latency"):
        chart = tmp_path / f"step02_04_selectivity_{name}.png"
        assert chart.read_bytes().startswith(b"\x89PNG")
