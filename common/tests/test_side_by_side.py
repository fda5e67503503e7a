"""Measuring in turns, and what is shown of it."""

from pathlib import Path
from types import SimpleNamespace

from common.measuring import PairedRatio
from common.side_by_side import Measured, draw_sweep, in_turns, seconds_of, show_ratios

import pytest


class Clock:
    """Tells what it was set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_calls_take_turns() -> None:
    clock, made = Clock(), []

    def call(name: str, takes: float):
        def one(number: int) -> None:
            made.append((name, number))
            clock.now += takes + number

        return one

    seconds = in_turns([call("a", 1.0), call("b", 2.0)], 3, clock=clock)
    assert seconds == [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]
    warm = [("a", 3), ("b", 3)]
    assert made == warm + [(name, number) for number in range(3) for name in "ab"]
    with pytest.raises(ValueError, match="rounds must be at least 1, not 0"):
        in_turns([], 0)


def test_seconds_of_a_call() -> None:
    clock = Clock()

    def call() -> None:
        clock.now += 3

    assert seconds_of(call, 4, clock=clock) == 3


def test_ratios_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    ratio = PairedRatio(((0.004, 0.002), (0.009, 0.003), (0.010, 0.010)))
    show_ratios("Costs", ("option", "with", "without"), {"filter": ratio})
    printed = capsys.readouterr().out
    assert "9.00 ms   3.00 ms" in printed
    assert "2.00" in printed
    assert "1.00 to 3.00" in printed
    assert printed.split()[-2] == "no"  # not all pairs agree


def test_a_sweep_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.display.settings", lambda: SimpleNamespace(out_dir=tmp_path))
    points = [Measured("HNSW: ef", {"ef": 10 * n}, 0.8 + n / 20, n / 1000) for n in (1, 2)]
    draw_sweep(SimpleNamespace(label="Milvus"), points, 0.9, "sweep")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
