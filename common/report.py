"""What a tour has run, as data and as one HTML page that opens without a network."""

import base64
import json
import os
import platform
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

from common.display import is_numeric

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PASSED, FAILED, STOPPED, NOT_RUN = "passed", "failed", "stopped", "not run"


@dataclass(frozen=True)
class Script:
    """One script of the tour and what its docstring says about it."""

    path: Path
    title: str = ""
    summary: str = ""

    @property
    def name(self) -> str:
        """Its folder and name, "step01_basics/03_collections"."""
        return f"{self.path.parent.name}/{self.path.stem}"


@dataclass(frozen=True)
class Outcome:
    """How one script ended. `events` are what it showed, `tail` the last lines of its output."""

    script: Script
    status: str
    reason: str = ""
    seconds: float = 0.0
    events: list[dict] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)
    log: Path | None = None

    @property
    def engine(self) -> str:
        """The Milvus, or several, that it was connected to: "Milvus Lite 3.2.2"."""
        labels = [str(event.get("label", "")) for event in self.events_of("milvus")]
        return ", ".join(dict.fromkeys(filter(None, labels)))

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """What it did not run, each with the reason."""
        return [
            (str(event.get("what", "")), str(event.get("reason", "")))
            for event in self.events_of("left_out")
        ]

    def events_of(self, kind: str) -> list[dict]:
        """Its events of one kind, in the order in which they happened."""
        return [event for event in self.events if event.get("event") == kind]


def read_events(lines: list[str]) -> list[dict]:
    """The events in lines of JSON; a line that is no event is left out.

    A script that was killed while it wrote leaves half a line, and that is no reason to lose the
    report of the rest.
    """
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
    return events


def write_report(
    path: Path, outcomes: list[Outcome], *, started: datetime, seconds: float, quick: bool = False
) -> Path:
    """Write the HTML page about a tour to `path`; its charts are inside the page.

    `started` is when the tour began, with its time zone, and `seconds` how long it took.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = {status: sum(o.status == status for o in outcomes) for status in _STATUSES}
    html = environment.get_template("report.html.j2").render(
        scripts=[_shown(outcome, path.parent) for outcome in outcomes],
        counts=counts,
        good=counts[PASSED] == len(outcomes),
        facts=_facts(outcomes, started, quick),
        duration=duration(seconds),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", errors="replace")
    return path


def duration(seconds: float) -> str:
    """A duration for people: "4.2 s", "48 s", "2 min 05 s"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


_STATUSES = (PASSED, FAILED, STOPPED, NOT_RUN)


def _facts(outcomes: list[Outcome], started: datetime, quick: bool) -> dict[str, str]:
    """When, with which versions and on which machine; the names are those the page shows."""
    engines = dict.fromkeys(
        str(event.get("label", "")) for outcome in outcomes for event in outcome.events_of("milvus")
    )
    return {
        "Date": started.strftime("%Y-%m-%d %H:%M %Z"),
        "Milvus": ", ".join(filter(None, engines)) or "none was reached",
        "pymilvus": _version("pymilvus"),
        "Python": platform.python_version(),
        "Platform": platform.platform(),
        "Processor": f"{_processor()}, {_cores()} cores",
        "Memory": _memory(),
        "Sizes": "small (--quick)" if quick else "the default of each script",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """How many cores this process may use, which in a container can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    gibibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{gibibytes:.0f} GiB"


def _shown(outcome: Outcome, folder: Path) -> dict[str, object]:
    """One script as the template wants it; links count from `folder`, where the page will be."""
    log = ""
    if outcome.log is not None and outcome.log.is_relative_to(folder):
        log = quote(outcome.log.relative_to(folder).as_posix())
    return {
        "anchor": outcome.script.name.replace("/", "-"),
        "step": outcome.script.path.parent.name,
        "stem": outcome.script.path.stem,
        "name": outcome.script.name,
        "title": outcome.script.title or outcome.script.name,
        "summary": outcome.script.summary,
        "engine": outcome.engine,
        "status": outcome.status,
        "reason": outcome.reason,
        "duration": "" if outcome.status == NOT_RUN else duration(outcome.seconds),
        "left_out": len(outcome.left_out),
        "items": [item for event in outcome.events if (item := _item(event))],
        "tail": [] if outcome.status == PASSED else outcome.tail,
        "log": log,
    }


def _item(event: dict) -> dict[str, object] | None:
    """What the template needs of one event, or None where the page shows nothing for it."""
    kind = event["event"]
    if kind in ("heading", "text"):
        return {"kind": kind, "text": str(event.get("text", ""))}
    if kind == "left_out":
        return {"kind": kind, "title": event.get("what", ""), "text": event.get("reason", "")}
    if kind == "expected_error":
        return {"kind": kind, "title": event.get("title", ""), "text": event.get("error", "")}
    if kind == "table":
        return _table_item(event)
    if kind == "chart":
        return _chart_item(event)
    return None


def _table_item(event: dict) -> dict[str, object]:
    columns = [str(name) for name in event.get("columns", [])]
    rows = [[str(cell) for cell in row] for row in event.get("rows", [])]
    numeric = [is_numeric([row[i] for row in rows if i < len(row)]) for i in range(len(columns))]
    return {
        "kind": "table",
        "title": event.get("title", ""),
        "columns": list(zip(columns, numeric, strict=True)),
        "rows": [list(zip(row, numeric, strict=False)) for row in rows],
    }


def _chart_item(event: dict) -> dict[str, object]:
    path = Path(str(event.get("path", "")))
    picture = b""
    if path.suffix == ".png" and path.is_file():
        picture = path.read_bytes()
    return {
        "kind": "chart",
        "title": event.get("title") or path.stem,
        "description": event.get("description") or path.stem,
        "data": base64.b64encode(picture).decode("ascii"),
        "width": int.from_bytes(picture[16:20]) if picture else 0,
        "height": int.from_bytes(picture[20:24]) if picture else 0,
        "file": path.name,
    }
