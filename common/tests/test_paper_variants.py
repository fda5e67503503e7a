"""Variants of the papers' vectors: the table and the chart; the lesson's test rates real ones."""

from pathlib import Path
from types import SimpleNamespace

from common.evaluation import MeanWithInterval
from common.paper_variants import Rated, draw_variants, show_variants

import pytest

RATED = {
    "384 dimensions": Rated(
        384, 1.0, MeanWithInterval(0.48, 0.4, 0.5), MeanWithInterval(0, 0, 0), 0.003
    ),
    "128 dimensions": Rated(
        128, 0.9, MeanWithInterval(0.47, 0.4, 0.5), MeanWithInterval(-0.01, -0.02, 0.004), 0.002
    ),
}


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_variants(RATED, "Papers")
    printed = capsys.readouterr().out
    assert "Papers; memory computed for 1,000,000 rows" in printed
    first, second = (
        line for line in printed.splitlines() if line.strip().startswith(("384", "12"))
    )
    assert first.split()[2:] == ["1.000", "0.480", "–", "1.5", "GB", "3.00", "ms"]
    interval = ["-0.020", "to", "+0.004"]
    assert second.split()[2:] == ["0.900", "0.470", *interval, "512.0", "MB", "2.00", "ms"]


def test_the_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.display.settings", lambda: SimpleNamespace(out_dir=tmp_path))
    draw_variants(RATED, "Papers", "dimensions")
    assert (tmp_path / "dimensions.png").read_bytes().startswith(b"\x89PNG")
