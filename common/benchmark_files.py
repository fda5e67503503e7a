"""Benchmarks as JSON files, and two of them compared.

write_benchmark(path, figures, milvus=milvus.label, target=target.title, parameters={...})
compare_benchmarks(read_benchmark("old.json"), read_benchmark("new.json"))
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.benchmark_report import PARTS, Figures, Percentiles, check_targets
from common.display import say, table
from common.measuring import Spread, environment
from common.process_stats import Usage

FORMAT = "milvus-test benchmark 1"
MACHINE = ("system", "processor", "cores", "memory", "python", "packages")
_NESTED = {
    "latency": Percentiles,
    "response": Percentiles,
    "write": Percentiles,
    "client": Usage,
    "server": Usage,
}
_NAMES = {field.name for field in fields(Figures)}


class BenchmarkFileError(Exception):
    """A file is no benchmark that can be read; the message names it and says what is wrong."""

    exit_code = 2


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as its file has it.

    Attributes:
        path: of the file.
        milvus: which Milvus.
        target: what was searched.
        parameters: the options, with the seed.
        environment: as `measuring.environment` told it.
        figures: of each setting.
    """

    path: Path
    milvus: str
    target: str
    parameters: Mapping[str, object]
    environment: Mapping[str, object]
    figures: tuple[Figures, ...]


def write_benchmark(
    path: Path,
    figures: Sequence[Figures],
    *,
    milvus: str,
    target: str,
    parameters: Mapping[str, object],
) -> None:
    """Write a benchmark, with versions, processor and load of the machine; whole or not at all."""
    content = {
        "format": FORMAT,
        "milvus": milvus,
        "target": target,
        "parameters": dict(parameters),
        "environment": environment(),
        "figures": [asdict(each) for each in figures],
        "targets": [asdict(each) for each in check_targets(figures)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def read_benchmark(path: str | Path) -> Benchmark:
    """Read what `write_benchmark` wrote.

    Raises:
        BenchmarkFileError: no such file, no JSON, another kind of JSON, a figure that is missing
            or no number.
    """
    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkFileError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BenchmarkFileError(
            f"{path}: it is no JSON, or was cut short ({str(error).splitlines()[0]})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BenchmarkFileError(
            f'{path}: it is no benchmark of 05_benchmark.py, which begins with "format": "{FORMAT}"'
        )
    try:
        figures = tuple(_figures(values) for values in content["figures"])
        texts = {name: str(content[name]) for name in ("milvus", "target")}
        maps = {name: dict(content[name]) for name in ("parameters", "environment")}
    except (KeyError, TypeError, ValueError) as error:
        raise BenchmarkFileError(
            f"{path}: it is a benchmark, but a part of it is missing or broken: {error}"
        ) from error
    return Benchmark(path, **texts, **maps, figures=figures)


def _figures(values: Mapping[str, object]) -> Figures:
    """The figures of one setting, checked as far as they are shown."""
    if not isinstance(values, dict) or not values.keys() <= _NAMES:
        raise ValueError(f"no figures of a setting: {str(values)[:80]}")
    made = {
        name: kind(**values[name]) if values.get(name) is not None else None
        for name, kind in _NESTED.items()
    }
    found = Figures(**{**values, **made, "rates": tuple(values["rates"])})
    shown = [
        *found.rates,
        found.in_flight,
        found.failed,
        *([found.recall] * (found.recall is not None)),
    ]
    shown += [found.latency.p50, found.latency.p95] if found.latency else []
    if found.part not in PARTS or not found.rates or found.client is None:
        raise ValueError(f"no part, rate or client: {str(values)[:80]}")
    for number in shown:
        if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
            raise ValueError(f"{number!r} is no figure of {found.label}")
        if not math.isfinite(number):
            raise ValueError(f"{number!r} is no figure of {found.label}")
    return found


@dataclass(frozen=True)
class Change:
    """A setting that both files have.

    Attributes:
        label: of the setting.
        old, new: its figures.
        clear: whether no run of one file reached into the range of the other's.
    """

    label: str
    old: Figures
    new: Figures

    @property
    def ratio(self) -> float | None:
        """New searches a second over old ones; None where there were none."""
        return self.new.rate / self.old.rate if self.old.rate else None

    @property
    def clear(self) -> bool:
        """Whether no run of one file reached into the range of the other's."""
        old, new = Spread(self.old.rates), Spread(self.new.rates)
        return old.highest < new.lowest or new.highest < old.lowest


def changes(old: Benchmark, new: Benchmark) -> list[Change]:
    """The settings that both have, in the order of the new one."""
    before = {each.label: each for each in old.figures}
    return [
        Change(each.label, before[each.label], each) for each in new.figures if each.label in before
    ]


def differences(old: Benchmark, new: Benchmark) -> list[tuple[str, str, str]]:
    """What differs besides the figures: Milvus, what was searched, parameters, the machine."""
    both = []
    for benchmark in (old, new):
        machine = {name: benchmark.environment.get(name) for name in MACHINE}
        packages = machine.pop("packages") or {}
        told = {"Milvus": benchmark.milvus, "searched": benchmark.target, **benchmark.parameters}
        both.append({**told, **machine, **packages})
    names = dict.fromkeys([*both[0], *both[1]])
    return [
        (name, str(both[0].get(name, "–")), str(both[1].get(name, "–")))
        for name in names
        if both[0].get(name) != both[1].get(name)
    ]


def compare_benchmarks(old: Benchmark, new: Benchmark) -> list[Change]:
    """Print what changed from one file to the other, and what else differs between them.

    Raises:
        BenchmarkFileError: they have no setting in common.
    """
    found = changes(old, new)
    if not found:
        raise BenchmarkFileError(f"{old.path} and {new.path} have no setting in common")
    columns = ("load, in flight", "searches/s", "ratio", "", "p95, ms", "recall", "failed")
    table(f"{old.path} → {new.path}", columns, [_cells(each) for each in found])
    only = len(old.figures) + len(new.figures) - 2 * len(found)
    if only:
        say(f"{only} settings are in one of the files only, and left out.")
    other = differences(old, new)
    if other:
        table("They differ in more than the figures", ("", "old", "new"), other)
        say("So a ratio above may come from any of these, and not from what you changed.")
    say(
        '"≈": the runs of one reach into those of the other, so that the two tell no difference. '
        "They were not measured in turns: what else the machine did in either hour is in them."
    )
    return found


def _cells(change: Change) -> tuple[str | None, ...]:
    both = (change.old, change.new)
    ratio = None if change.ratio is None else f"{change.ratio:.2f}"
    verdict = "faster" if change.new.rate > change.old.rate else "slower"
    return (
        change.label.removesuffix(" in flight"),
        _arrow(f"{each.rate:,.0f}" for each in both),
        ratio,
        verdict if change.clear else "≈",
        _arrow(f"{each.latency.p95 * 1000:,.1f}" if each.latency else "–" for each in both),
        _arrow("–" if each.recall is None else f"{each.recall:.3f}" for each in both),
        _arrow(f"{each.failed:,}" for each in both),
    )


def _arrow(texts: Iterable[str]) -> str:
    return " → ".join(texts)
