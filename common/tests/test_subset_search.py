"""Ways to search are judged against exact search among the rows that they are about."""

from pathlib import Path

from common.subset_search import Outcome, Way, ask_in_turns, draw_outcomes, show_outcomes

import numpy as np
import pytest

# Row i points at i degrees: the nearest of a query are those of the nearest angles.
ANGLES = np.deg2rad(np.arange(90.0))
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
QUERIES = VECTORS[[10, 40]] + np.float32(1e-4)
EVEN = np.arange(90) % 2 == 0


def nearest(query: np.ndarray, wanted: np.ndarray, k: int = 4) -> list[int]:
    rows = np.flatnonzero(wanted)
    return rows[np.argsort(-(VECTORS[rows] @ query[0]))[:k]].tolist()


def test_right_answers_in_a_part_are_exact() -> None:
    ways = [
        Way("all", np.full(90, True), lambda query: nearest(query, np.full(90, True))),
        Way("even", EVEN, lambda query: nearest(query, EVEN)),
    ]
    everything, even = ask_in_turns(ways, VECTORS, QUERIES, k=4)
    assert (everything.rows, even.rows) == (90, 45)
    assert everything.exact
    assert even.exact
    assert (even.recall, even.strays, len(even.seconds)) == (1, 0, 2)
    assert all(seconds > 0 for seconds in even.seconds)


def test_wrong_answers_are_counted() -> None:
    answers = {
        "half": lambda query: nearest(query, EVEN)[:2],
        "not restricted": lambda query: nearest(query, np.full(90, True)),
        "no rows at all": lambda query: [*nearest(query, EVEN)[:3], 5_000],
        "below zero": lambda query: [*nearest(query, EVEN)[:3], -2],
        "one twice": lambda query: [nearest(query, EVEN)[0]] * 4,
        "the farthest": lambda query: np.flatnonzero(EVEN)[-4:].tolist(),
        "nothing": lambda query: [],
    }
    ways = [Way(name, EVEN, ask) for name, ask in answers.items()]
    outcomes = {one.name: one for one in ask_in_turns(ways, VECTORS, QUERIES, k=4)}
    judged = {name: (one.recall, one.strays) for name, one in outcomes.items()}
    # Of the four nearest of all, two have an even angle, and these are among the four wanted.
    assert judged == {
        "half": (0.5, 0),
        "not restricted": (0.5, 4),
        "no rows at all": (0.75, 2),
        "below zero": (0.75, 2),
        "one twice": (0.25, 0),
        "the farthest": (0, 0),
        "nothing": (0, 0),
    }
    assert not any(one.exact for one in outcomes.values())


def test_fewer_rows_than_neighbours() -> None:
    three = np.isin(np.arange(90), [3, 50, 60])
    (found,) = ask_in_turns([Way("few", three, lambda _: [3, 50, 60])], VECTORS, QUERIES, k=4)
    assert found.exact


def test_the_ways_take_turns() -> None:
    asked: list[tuple[str, int]] = []

    def way(name: str) -> Way:
        def ask(query: np.ndarray) -> list[int]:
            asked.append((name, int(np.argmax(np.all(query == QUERIES, axis=1)))))
            return []

        return Way(name, EVEN, ask)

    outcomes = ask_in_turns([way("a"), way("b"), way("c")], VECTORS, QUERIES, k=4)
    warm_up, rounds = asked[:3], asked[3:]
    assert warm_up == [("a", 0), ("b", 0), ("c", 0)]
    assert rounds == [("a", 0), ("b", 0), ("c", 0), ("b", 1), ("c", 1), ("a", 1)]
    assert [one.name for one in outcomes] == ["a", "b", "c"]


def test_another_metric() -> None:
    scaled = VECTORS * np.linspace(1, 3, 90, dtype=np.float32)[:, None]

    def by_distance(query: np.ndarray) -> list[int]:
        return np.argsort(((scaled - query) ** 2).sum(1))[:4].tolist()

    way = Way("all", np.full(90, True), by_distance)
    assert ask_in_turns([way], scaled, QUERIES, k=4, metric="L2")[0].exact
    assert not ask_in_turns([way], scaled, QUERIES, k=4)[0].exact


def test_what_cannot_be_asked() -> None:
    way = Way("none", np.full(90, False), lambda _: [])
    with pytest.raises(ValueError, match="none is about no row at all"):
        ask_in_turns([way], VECTORS, QUERIES)
    with pytest.raises(ValueError, match="no query"):
        ask_in_turns([Way("even", EVEN, lambda _: [])], VECTORS, QUERIES[:0])


def test_times_as_fast_pairs_the_queries() -> None:
    slow = Outcome("all", 90, (4.0, 8.0, 100.0), 1.0, 0)
    fast = Outcome("even", 45, (2.0, 2.0, 25.0), 0.5, 3)
    assert fast.times_as_fast(slow) == 4  # of 2, 4 and 4
    assert (slow.median, fast.median) == (8, 2)


def test_what_is_shown_and_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from common.settings import settings

    monkeypatch.setenv("OUT_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        outcomes = [
            Outcome("unrestricted", 90, (0.004, 0.004), 1.0, 0),
            Outcome("filter", 45, (0.002, 0.002), 0.5, 3),
            Outcome("filter", 90, (0.004, 0.004), 1.0, 0),
        ]
        show_outcomes("The nearest", outcomes)
        draw_outcomes("A part", "a_part", outcomes)
    finally:
        settings.cache_clear()
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["filter", "45", "2.00", "ms", "2.00", "0.500", "3"] in printed
    assert (tmp_path / "a_part.png").read_bytes().startswith(b"\x89PNG")
