"""Reports of benchmarks: percentiles, figures, targets and texts on cases worked by hand."""

import re
from collections import Counter
from pathlib import Path

from common import benchmark_report as report
from common import display
from common.benchmark_report import Figures, Percentiles, best_of, check_targets, figures_of
from common.benchmark_target import target_of
from common.load_generation import Load
from common.process_stats import Usage
from common.settings import Settings
from common.vector_sets import VectorSet

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

IDLE = Usage(0.5, 100 * 2**20, 0, 2**20)
BUSY = Usage(1.5, 300 * 2**20, 10, 3 * 2**20)


def figures(rate: float = 1_200.0, p95: float | None = 0.05, **values: object) -> Figures:
    """A setting with these figures and others that are plain."""
    latency = None if p95 is None else Percentiles(p95 / 2, p95, None)
    plain = {"part": "closed", "way": "asyncio", "in_flight": 8, "rates": (rate,), "failed": 0}
    plain |= {"answered": 1_000, "errors": {}, "latency": latency, "recall": 0.99}
    return Figures(**{**plain, "client": IDLE, "server": BUSY, **values})


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60))
def test_percentiles_are_those_of_numpy(values: list[float]) -> None:
    found = Percentiles.of(values)
    assert found.p50 == pytest.approx(np.percentile(values, 50))
    assert found.p95 == np.percentile(values, 95, method="inverted_cdf")
    assert found.p99 is None


@given(st.integers(1_000, 3_000), st.integers(0, 2**32 - 1))
def test_p99_from_a_thousand_samples_on(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=count)
    assert Percentiles.of(values.tolist()).p99 == np.percentile(values, 99, method="inverted_cdf")
    assert Percentiles.of(values[:999].tolist()).p99 is None


def test_percentiles_by_hand() -> None:
    hundred = [n / 1000 for n in range(1, 101)]
    assert Percentiles.of(hundred) == Percentiles(pytest.approx(0.0505), 0.095, None)
    assert Percentiles.of(hundred * 10).p99 == 0.099
    assert Percentiles.of([]) is None


def test_figures_over_several_runs_by_hand() -> None:
    vectors = np.eye(4, dtype=np.float32)
    sample = VectorSet("four", vectors, vectors[:2], "IP", 1)
    target = target_of(sample, "four", {}, 1.0)
    # Query 0 is answered right twice and wrong once, query 1 right once: 3 of 4.
    first = Counter({(0, (0,)): 2, (0, (3,)): 1})
    one = Load(8, 0.0, 1.0, (0.1, 0.2, 0.3), first, Counter(no=1), writes=(1.0,))
    two = Load(8, 5.0, 7.0, (0.4,), Counter({(1, (1,)): 1}), Counter(no=2, late=1))
    found = figures_of("closed", "asyncio", target, [(one, IDLE, BUSY), (two, BUSY, BUSY)])
    assert (found.rates, found.rate) == ((3.0, 0.5), 1.75)
    assert (found.answered, found.failed) == (4, 4)
    assert found.errors == {"no": 3, "late": 1}
    assert found.recall == 0.75
    assert found.latency.p50 == pytest.approx(0.25)
    assert found.client == Usage(1.0, 300 * 2**20, 10, 4 * 2**20)
    assert found.server == Usage(1.5, 300 * 2**20, 20, 6 * 2**20)
    assert (found.writes, found.writes_per_second, found.write.p95) == (1, 0.5, 1.0)
    assert found.label == "closed: asyncio, 8 in flight"
    unseen = figures_of("closed", "asyncio", target, [(one, IDLE, None)])
    assert unseen.server is None


def test_the_best_is_the_fastest_of_those_in_time() -> None:
    slow, late = figures(rate=800, p95=0.05), figures(rate=2_000, p95=0.2)
    fast, dead = figures(rate=900, p95=0.099), figures(rate=0, p95=None)
    assert best_of([slow, late, fast, dead]) is fast
    assert best_of([late, dead]) is late
    assert best_of([dead]) is dead


def verdicts(*measured: Figures) -> list[bool | None]:
    return [verdict.met for verdict in check_targets(measured)]


def test_targets() -> None:
    assert verdicts(figures()) == [True, True, True, True]
    assert verdicts(figures(rate=1_000)) == [False, True, True, True]
    assert verdicts(figures(p95=0.1)) == [True, False, True, True]
    assert verdicts(figures(recall=0.9499)) == [True, True, False, True]
    assert verdicts(figures(recall=0.95)) == [True, True, True, True]
    assert verdicts(figures(recall=None)) == [True, True, None, True]
    # Of 1,000 requests one failed: 0.1 % is not under 0.1 %. Of 1,001 it is.
    assert verdicts(figures(answered=999, failed=1)) == [True, True, True, False]
    assert verdicts(figures(answered=1_000, failed=1)) == [True, True, True, True]
    # Failures of all parts count, and so do writes; rates are those of the closed loops alone.
    other = figures(part="mixed", rate=9_000, answered=0, writes=1_000, failed=3)
    assert verdicts(figures(), other) == [True, True, True, False]
    assert verdicts(figures(rate=10), other) == [False, True, True, False]
    dead = figures(rate=0, p95=None, recall=None, answered=0, failed=50)
    assert verdicts(dead) == [False, False, None, False]


def test_nothing_is_shown_as_fast_where_all_failed(capsys: pytest.CaptureFixture[str]) -> None:
    dead = figures(rate=0, p95=None, recall=None, answered=0, failed=50, errors={"gone": 50})
    report.show_closed([dead], "four")
    report.compare_ways([dead, figures(way="threads")])
    report.explain_ways([dead], lite=False)
    report.show_open([dead, figures(part="open", offered=10.0, p95=None, answered=0)])
    report.show_targets([dead])
    assert report.show_errors([dead, figures()]) == 50
    said = capsys.readouterr().out
    assert re.search(r"asyncio +8 +0 +0–0 +– +– +– +– +50\n", said)
    assert "no answer" in said
    assert re.search(r"50 +gone", said)
    assert "against asyncio" not in said
    assert "cores" not in said
    assert report.show_errors([figures()]) == 0


def test_ways_are_compared_run_by_run(capsys: pytest.CaptureFixture[str]) -> None:
    few = figures(in_flight=1, rates=(1, 1, 1))
    asyncio_, threads = figures(rates=(100, 200, 400)), figures(way="threads", rates=(50, 120, 160))
    processes = figures(way="2 processes", rates=(120, 180, 480))
    found = report.compare_ways([few, asyncio_, threads, processes])
    assert {way: paired.ratio for way, paired in found.items()} == {
        "threads": 0.5,
        "2 processes": 1.2,
    }
    said = " ".join(capsys.readouterr().out.split())
    assert "With 8 in flight, searches/s against asyncio: threads 0.50 (0.40 to 0.60); " in said
    assert "2 processes 1.20 (0.90 to 1.20, no difference)." in said


@pytest.mark.parametrize(("cores", "said"), [(0.2, "was not the limit"), (0.98, "was busy all")])
def test_what_limits(cores: float, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    report.explain_ways([figures(client=Usage(cores, 0, None, None))], lite=False)
    assert said in " ".join(capsys.readouterr().out.split())


def test_charts_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "settings", lambda: Settings(out_dir=tmp_path))
    closed = figures(part="open", way="closed loop")
    waited = Percentiles(0.3, 0.6, None)
    opened = figures(part="open", way="150%", offered=1_800.0, response=waited)
    report.show_open([closed, opened])
    report.show_usage([figures(), opened, figures(part="mixed", way="10% write")], lite=False)
    report.draw_closed([figures(), figures(in_flight=16)], "four", "closed")
    report.draw_open([closed, opened], "open")
    said = " ".join(capsys.readouterr().out.split())
    assert "1,800 (150%) 1,200 25.0 ms 50.0 ms 300 ms 600 ms 0.9900 0" in said
    assert "within 50.0 ms of the sending and within 600 ms of the arrival" in said
    assert "10% write, 8 in flight 0.50 100 1.0 MiB 1.50 300 3.0 MiB" in said
    assert "150%, 8 in flight" not in said
    for name in ("closed", "open"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
