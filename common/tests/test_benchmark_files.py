"""Files of benchmarks: what is written is read again, what is broken is told, two are compared."""

import json
from dataclasses import replace
from pathlib import Path

from common.benchmark_files import (
    BenchmarkFileError,
    changes,
    compare_benchmarks,
    differences,
    read_benchmark,
    write_benchmark,
)
from common.benchmark_report import Figures, Percentiles
from common.process_stats import Usage

import pytest

SETTING = Figures(
    part="closed",
    way="asyncio",
    in_flight=16,
    rates=(900.0, 1_000.0, 1_100.0),
    answered=3_000,
    failed=2,
    errors={"late": 2},
    latency=Percentiles(0.01, 0.05, 0.09),
    recall=0.98,
    client=Usage(0.5, 10, None, None),
)
OPEN = replace(SETTING, part="open", way="80%", offered=800.0, response=Percentiles(0.1, 0.2, None))
ABOUT = {"milvus": "Milvus Lite 3.2.2", "target": "ten vectors", "parameters": {"seed": 0}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "old.json"
    write_benchmark(path, [SETTING, OPEN], **ABOUT)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    read = read_benchmark(path)
    assert read.figures == (SETTING, OPEN)
    assert (read.milvus, read.target, read.parameters) == tuple(ABOUT.values())
    assert read.environment["cores"] >= 1
    assert [each.name for each in path.parent.iterdir()] == ["old.json"]
    content = json.loads(path.read_text())
    assert content["environment"].keys() >= {"processor", "packages", "python", "time", "load"}
    assert [verdict["met"] for verdict in content["targets"]] == [False, True, True, True]


def broken(path: Path, change: str) -> None:
    """Break the file in one of several ways."""
    content = json.loads(path.read_text())
    figures = content["figures"][0]
    if change == "cut short":
        path.write_text(path.read_text()[:200])
        return
    if change == "another format":
        content = {"rows": 3}
    elif change == "a list":
        content = [content]
    elif change == "no figures":
        del content["figures"]
    elif change == "a text as rate":
        figures["rates"] = ["fast"]
    elif change == "a negative rate":
        figures["rates"] = [-1.0]
    elif change == "not a number":
        figures["latency"]["p95"] = float("nan")
    elif change == "no rate":
        figures["rates"] = []
    elif change == "an unknown figure":
        figures["qps"] = 1
    elif change == "a figure missing":
        del figures["recall"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cut short", "it is no JSON, or was cut short"),
        ("another format", "it is no benchmark of 05_benchmark.py"),
        ("a list", "it is no benchmark of 05_benchmark.py"),
        ("no figures", "missing or broken: 'figures'"),
        ("a text as rate", "'fast' is no figure of closed: asyncio, 16 in flight"),
        ("a negative rate", "-1.0 is no figure"),
        ("not a number", "nan is no figure"),
        ("no rate", "no part, rate or client"),
        ("an unknown figure", "no figures of a setting"),
        ("a figure missing", "missing or broken: .*recall"),
    ],
)
def test_broken_files(path: Path, change: str, message: str) -> None:
    broken(path, change)
    with pytest.raises(BenchmarkFileError, match=message) as caught:
        read_benchmark(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_code == 2


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFileError, match="cannot be read \\(No such file"):
        read_benchmark(tmp_path / "none.json")
    with pytest.raises(BenchmarkFileError, match="cannot be read"):
        read_benchmark(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(BenchmarkFileError, match="it is no JSON"):
        read_benchmark(tmp_path / "latin.json")


def test_two_files_are_compared(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faster = replace(SETTING, rates=(1_900.0, 2_000.0, 2_400.0), failed=0, recall=None)
    same, only = replace(OPEN, rates=(1_050.0,)), replace(OPEN, way="150%")
    other = path.with_name("new.json")
    write_benchmark(other, [faster, same, only], **{**ABOUT, "parameters": {"seed": 1}})
    old, new = read_benchmark(path), read_benchmark(other)
    first, second = changes(old, new)
    assert (first.label, first.ratio, first.clear) == ("closed: asyncio, 16 in flight", 2.0, True)
    assert (second.ratio, second.clear) == (1.05, False)
    assert differences(old, new) == [("seed", "0", "1")]
    compare_benchmarks(old, new)
    said = " ".join(capsys.readouterr().out.split())
    assert "closed: asyncio, 16 1,000 → 2,000 2.00 faster 50.0 → 50.0 0.980 → – 2 → 0" in said
    assert "open: 80%, 16 1,000 → 1,050 1.05 ≈ " in said
    assert "1 settings are in one of the files only" in said
    assert "They differ in more than the figures" in said
    compare_benchmarks(old, old)
    assert "They differ" not in capsys.readouterr().out


def test_another_machine_and_another_milvus_are_told(path: Path) -> None:
    old = read_benchmark(path)
    packages = {**old.environment["packages"], "pymilvus": "2.6.17"}
    machine = {**old.environment, "processor": "another", "packages": packages, "load": 9.9}
    new = replace(old, milvus="Milvus 3.0.2", environment=machine)
    told = {name: (before, after) for name, before, after in differences(old, new)}
    assert told.keys() == {"Milvus", "processor", "pymilvus"}
    assert told["Milvus"] == ("Milvus Lite 3.2.2", "Milvus 3.0.2")


def test_nothing_in_common(path: Path) -> None:
    other = path.with_name("new.json")
    write_benchmark(other, [replace(SETTING, way="threads")], **ABOUT)
    with pytest.raises(BenchmarkFileError, match="have no setting in common"):
        compare_benchmarks(read_benchmark(path), read_benchmark(other))
    dead = replace(SETTING, rates=(0.0,), answered=0, latency=None, recall=None)
    write_benchmark(other, [dead], **ABOUT)
    (change,) = changes(read_benchmark(other), read_benchmark(path))
    assert change.ratio is None
