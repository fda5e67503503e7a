"""Run the scripts in order and write a report about all of them.

    python -m common.tour                     every script
    python -m common.tour --step 1            the scripts of one step
    python -m common.tour --only 03_collections

Each script runs as a process of its own, as if you had typed its command. The report, the charts
and the output of each script are left in the output folder (out/). The exit code is 0 when every
script passed, 1 when one failed, 2 when there is nothing to run and 130 after Ctrl-C.
"""

import argparse
import ast
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.display import EVENTS_VARIABLE, TABLE_BOX, run, screen, short_path, show, show_line
from common.report import (
    FAILED,
    NOT_RUN,
    PASSED,
    STOPPED,
    Outcome,
    Script,
    duration,
    read_events,
    write_report,
)
from common.settings import PROJECT_ROOT, settings

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

TIMEOUT = 600.0  # seconds that a script may take
GRACE = 10.0  # seconds that a script has to clean up after it was asked to stop
TAIL_LINES = 25
LEFT_OUT_LINES = 8
MARGIN = "  │ "  # stands before each line of a tail
INTERRUPTED = "interrupted"
_STYLE = {PASSED: "green", FAILED: "bold red", STOPPED: "bold red", NOT_RUN: "yellow"}


class NothingToRunError(ValueError):
    """No script fits the options; the message lists the scripts that there are."""

    exit_code = 2


@dataclass(frozen=True)
class Options:
    """How to run the scripts. `root` is the folder that holds the steps, `timeout` in seconds."""

    root: Path = PROJECT_ROOT
    out: Path = PROJECT_ROOT / "out"
    quick: bool = False
    keep_going: bool = False
    quiet: bool = False
    timeout: float = TIMEOUT
    grace: float = GRACE


# Which scripts there are


def find_scripts(root: Path) -> list[Script]:
    """The scripts below `root` in the order in which they are read, with their docstrings."""
    return [read_script(path) for path in sorted(root.glob("step[0-9][0-9]_*/[0-9][0-9]_*.py"))]


def read_script(path: Path) -> Script:
    """What the docstring of a script says: its first line and its first paragraph of prose."""
    try:
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except SyntaxError:  # running it will show the error where the learner looks for it
        docstring = ""
    first, *paragraphs = re.split(r"\n\s*\n", docstring.strip())
    prose = (p for p in paragraphs if not p.startswith((" ", "\t")))
    return Script(path, title=" ".join(first.split()), summary=" ".join(next(prose, "").split()))


def choose_scripts(
    scripts: Sequence[Script], steps: Sequence[int] = (), only: Sequence[str] = ()
) -> list[Script]:
    """The scripts of these steps and with these names; all of them where nothing is named.

    A name is "03_collections", with or without its folder before it and .py after it.

    Raises:
        NothingToRunError: there is no such step or script.
    """
    names = [name.removesuffix(".py").removeprefix("./") for name in only]
    for step in steps:
        if not any(_step(script) == step for script in scripts):
            raise NothingToRunError(f"there is no step {step}. {_listing(scripts)}")
    for name in names:
        if not any(_is_named(script, name) for script in scripts):
            raise NothingToRunError(f"there is no script {name!r}. {_listing(scripts)}")
    chosen = [
        script
        for script in scripts
        if (not steps or _step(script) in steps)
        and (not names or any(_is_named(script, name) for name in names))
    ]
    if not chosen:
        raise NothingToRunError(f"nothing fits these options together. {_listing(scripts)}")
    return chosen


def _step(script: Script) -> int:
    return int(script.path.parent.name[4:6])


def _is_named(script: Script, name: str) -> bool:
    return name in (script.name, script.path.stem)


def _listing(scripts: Sequence[Script]) -> str:
    if not scripts:
        return "There are no scripts here at all."
    return "\n".join(["The scripts are:", *(f"  {script.name}" for script in scripts)])


# Running one script


class Interrupts:
    """Counts Ctrl-C, and requests to end, instead of raising them in the midst of anything.

    A tour that is told to end (SIGTERM, as by a CI job that is cancelled) ends its script first.
    """

    def __init__(self) -> None:
        self.count = 0
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        self.count += 1


class _Child:
    """A script that is running: its lines, its events so far, and how it is stopped."""

    def __init__(self, script: Script, options: Options, events: Path, console: Console) -> None:
        self.section = ""
        self.stopped = ""  # the reason why it was asked to stop
        self.started = time.monotonic()
        self._options = options
        self._stop_at = self.started + options.timeout
        self._events_path = events
        self._events_read = 0
        self._look_at = self.started
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=1000)
        # In a session of its own: Ctrl-C in the terminal reaches the tour alone, which passes it
        # on once. A second one would interrupt the script while it cleans up after the first.
        self.process = subprocess.Popen(
            [sys.executable, str(script.path), *(["--quick"] if options.quick else [])],
            cwd=options.root,
            env=_environment(options, events, console),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        """End a script that is still running because the tour itself has failed."""
        if self.process.poll() is None:
            self._stop("the tour has failed")
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self._options.grace)
        if self.process.poll() is None:
            self._stop("the tour has failed")
            self.process.wait()

    def _read(self) -> None:
        with self.process.stdout as output:
            for line in output:
                self._lines.put(line)
        self._lines.put(None)

    def watch(self, on_line: Callable[[str], None], interrupts: Interrupts) -> None:
        """Pass on each line that the script prints until it has ended, or was made to end."""
        passed_on, ended_at = interrupts.count, None
        while True:
            if interrupts.count > passed_on:
                passed_on = interrupts.count
                self._stop(INTERRUPTED)
            self._look_after()
            try:
                line = self._lines.get(timeout=0.1)
            except queue.Empty:
                # Something that the script started may hold its output open for ever.
                if self.process.poll() is not None:
                    ended_at = ended_at or time.monotonic()
                    if time.monotonic() - ended_at > 1:
                        return
                continue
            if line is not None:
                on_line(line.decode("utf-8", "replace"))
            elif self.process.poll() is not None:
                return
            else:  # it has closed its output, but it is still busy
                time.sleep(0.02)
                self._lines.put(None)

    def _look_after(self) -> None:
        """Stop the script when its time is up, and note which section it is in."""
        now = time.monotonic()
        if now > self._stop_at:
            self._stop(f"it ran longer than {self._options.timeout:g} s (--timeout)")
        if now > self._look_at:
            self._look_at = now + 0.2
            for event in self._new_events():
                if event["event"] == "heading":
                    self.section = str(event.get("text", ""))

    def _stop(self, reason: str) -> None:
        """Ask the script to stop; the second time, or after the time of grace, kill it."""
        asked, self.stopped = bool(self.stopped), self.stopped or reason
        if self.process.poll() is not None:
            self._stop_at = float("inf")
        elif not asked:
            self._stop_at = time.monotonic() + self._options.grace
            self.process.send_signal(signal.SIGINT)
        else:
            self._stop_at = float("inf")
            # Not waited for yet, so the group is still the script's, with all that it started.
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _new_events(self) -> list[dict]:
        if not self._events_path.exists():
            return []
        with self._events_path.open("rb") as file:
            file.seek(self._events_read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # the last line may still be being written
        self._events_read += len(whole)
        return read_events(whole.decode("utf-8", "replace").split("\n"))


def _environment(options: Options, events: Path, console: Console) -> dict[str, str]:
    """The environment of a script whose output goes through a pipe to `console`."""
    environment = {
        "OMP_NUM_THREADS": "1",  # the scripts measure; threads of torch would be in the way
        **os.environ,
        "OUT_DIR": str(options.out),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": str(console.width - len(MARGIN)),
        EVENTS_VARIABLE: str(events),
    }
    if console.is_terminal and not console.no_color and not options.quiet:
        environment["FORCE_COLOR"] = "1"
    return environment


def run_script(script: Script, options: Options, view: "View", interrupts: Interrupts) -> Outcome:
    """Run one script to its end, keep its output in a file, and say how it went."""
    log = options.out / "logs" / f"{script.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with (
        tempfile.TemporaryDirectory(prefix="tour-") as folder,
        log.open("w", encoding="utf-8", errors="replace") as log_file,
    ):

        def keep(line: str) -> None:
            # Of a line that is repainted after each "\r", from_ansi keeps the last state.
            shown = Text.from_ansi(line.rstrip("\r\n"))
            tail.append(shown.plain)
            log_file.write(shown.plain + "\n")
            view.line(shown)

        events = Path(folder) / "events.jsonl"
        with _Child(script, options, events, view.console) as child:
            view.watch(child)
            child.watch(keep, interrupts)
        seconds = time.monotonic() - child.started
        text = events.read_text("utf-8", "replace") if events.exists() else ""
    status, reason = _verdict(child)
    return Outcome(script, status, reason, seconds, read_events(text.split("\n")), [*tail], log)


def _verdict(child: _Child) -> tuple[str, str]:
    """The status of a script that has ended, and the reason where it is not "passed"."""
    if child.stopped == INTERRUPTED:
        return STOPPED, INTERRUPTED
    if child.stopped:
        return FAILED, f"stopped: {child.stopped}"
    code = child.process.returncode
    if code < 0:
        return FAILED, f"killed by {signal.Signals(-code).name}"
    return (FAILED, f"exit code {code}") if code else (PASSED, "")


# Running all of them, and showing it


class View:
    """What the learner sees while the tour runs: banners, the lessons, one line of status.

    In a terminal the status stands at the bottom and is repainted; elsewhere there is none.
    """

    def __init__(self, total: int, quiet: bool) -> None:
        self.console = screen()
        self._total = total
        self._quiet = quiet
        self._started = time.monotonic()
        self._outcomes: list[Outcome] = []
        self._script: Script | None = None
        self._child: _Child | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._status, console=self.console, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> "View":
        if self.console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, script: Script) -> None:
        """Announce the next script."""
        self._script, self._child = script, None
        position = f"{len(self._outcomes) + 1}/{self._total} {script.name}"
        if not self._quiet:
            show("", _banner(position), Text(script.title, style="dim"))
        elif not self.console.is_interactive:
            self.console.out(f"{position}: {script.title}")

    def watch(self, child: "_Child") -> None:
        """From here on the status tells what this process is doing."""
        self._child = child

    def line(self, text: Text) -> None:
        """Show a line that the script printed."""
        if not self._quiet:
            self.console.print(text, soft_wrap=True)

    def end(self, outcome: Outcome) -> None:
        """Say how the script went."""
        self._outcomes.append(outcome)
        self._script = self._child = None
        sign = "✓" if outcome.status == PASSED else "✗"
        line = Text.assemble(
            (f"{sign} {outcome.status}", _STYLE[outcome.status]),
            f" {outcome.script.name} in {duration(outcome.seconds)}",
            f": {outcome.reason}" if outcome.reason else "",
        )
        if not self._quiet:
            self.console.print()
        self.console.print(line, soft_wrap=True)
        if self._quiet and outcome.status != PASSED:
            show_failure(outcome, tail=True)

    def _status(self) -> Group:
        """The status line; rich calls this from a thread of its own."""
        counts = [
            f"{sum(outcome.status == status for outcome in self._outcomes)} {status}"
            for status in (PASSED, FAILED)
        ]
        now = time.monotonic()
        script, child = self._script, self._child
        name = script.path.stem if script else ""
        parts = [f"{len(self._outcomes) + 1}/{self._total} {name}"]
        parts += [duration(now - child.started)] if child else []
        parts.append(f"{', '.join(counts)}, {duration(now - self._started)} in all")
        if child:
            parts.append("stopping it" if child.stopped else child.section)
        text = Text(" · ".join(filter(None, parts)), "cyan", no_wrap=True, overflow="ellipsis")
        line = Table.grid(padding=(0, 1))
        line.add_row(self._spinner, text)
        return Group(Rule(style="dim"), line)


def run_tour(scripts: Sequence[Script], options: Options) -> list[Outcome]:
    """Run the scripts one after another; those that come after a failure are "not run".

    Nothing is raised for a script that fails, hangs or is interrupted: its outcome says so. A
    Ctrl-C between two scripts leaves the outcomes of the others "not run".
    """
    outcomes: list[Outcome] = []
    obstacle = ""
    with View(len(scripts), options.quiet) as view, Interrupts() as interrupts:
        for script in scripts:
            if interrupts.count and not obstacle:
                obstacle = "the tour was interrupted"
            if obstacle:
                outcomes.append(Outcome(script, NOT_RUN, obstacle))
                continue
            view.begin(script)
            outcome = run_script(script, options, view, interrupts)
            view.end(outcome)
            outcomes.append(outcome)
            if outcome.status == FAILED and not options.keep_going:
                obstacle = f"{script.name} failed before it (--keep-going runs the others)"
    return outcomes


def show_failure(outcome: Outcome, *, tail: bool) -> None:
    """Print where the output of a script is that failed, and its last lines where `tail`."""
    console = screen()
    for line in outcome.tail if tail else []:
        console.print(Text(f"{MARGIN}{line}"), soft_wrap=True, style="dim")
    if outcome.log is not None:
        console.print(Text(f"  the whole output: {short_path(outcome.log)}"), soft_wrap=True)


def show_summary(outcomes: Sequence[Outcome], options: Options, seconds: float) -> None:
    """Print the table of all scripts, what was left out and why, and what failed."""
    show("", _banner("Summary"), _summary_table(outcomes))
    _show_left_out(outcomes)
    last = next((o for o in reversed(outcomes) if o.status != NOT_RUN), None)
    for outcome in outcomes:
        if outcome.status in (FAILED, STOPPED):
            show_line(
                Text.assemble(
                    (outcome.status, _STYLE[outcome.status]),
                    f": {outcome.script.name}: {outcome.reason}",
                )
            )
            # With --quiet, and for the last script, its output has just been seen.
            show_failure(outcome, tail=not options.quiet and outcome is not last)
    counts = [f"{sum(o.status == PASSED for o in outcomes)} of {len(outcomes)} scripts passed"]
    for status in (FAILED, STOPPED, NOT_RUN):
        count = sum(outcome.status == status for outcome in outcomes)
        counts += [f"{count} {status}"] if count else []
    style = "bold red" if exit_code(outcomes) else "bold green"
    show_line(Text(f"{', '.join(counts)} in {duration(seconds)}", style))


def _banner(text: str) -> Rule:
    return Rule(Text(text, style="bold"), align="left", characters="━", style="bold")


def _summary_table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=TABLE_BOX, pad_edge=False, border_style="dim")
    for name in ("script", "engine", "result"):
        table.add_column(name, overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    step = ""
    for outcome in outcomes:
        folder, stem = outcome.script.path.parent.name, outcome.script.path.stem
        if folder != step:
            step = folder
            table.add_row(Text(folder, style="bold"))
        table.add_row(
            Text(f"  {stem}"),
            Text(outcome.engine or "–"),
            Text(outcome.status, style=_STYLE[outcome.status]),
            Text("–" if outcome.status == NOT_RUN else duration(outcome.seconds)),
        )
    return table


def _show_left_out(outcomes: Sequence[Outcome]) -> None:
    """One line for each reason, with all that was left out for it; the report has them all."""
    by_reason: dict[str, list[str]] = {}
    for outcome in outcomes:
        for what, reason in outcome.left_out:
            by_reason.setdefault(reason, []).append(what)
    for reason, whats in list(by_reason.items())[:LEFT_OUT_LINES]:
        named = ", ".join(dict.fromkeys(whats))
        show_line(Text.assemble(("not run: ", "yellow"), f"{named}: {reason}"))
    more = len(by_reason) - LEFT_OUT_LINES
    if more > 0:
        show_line(Text(f"and what was not run for {more} more reasons: see the report"))


# The command line


def main(arguments: Sequence[str] | None = None, root: Path = PROJECT_ROOT) -> int:
    """Run the tour with the options of the command line and return its exit code."""
    parsed = _parse(arguments)
    scripts = choose_scripts(find_scripts(root), parsed.step, parsed.only)
    if parsed.list:
        for script in scripts:
            screen().print(Text(f"{script.name}  {script.title}"), soft_wrap=True)
        return 0
    options = Options(
        root=root,
        out=(parsed.out or settings().out_dir).resolve(),
        quick=parsed.quick,
        keep_going=parsed.keep_going,
        quiet=parsed.quiet,
        timeout=parsed.timeout,
    )
    started, clock = datetime.now().astimezone(), time.monotonic()
    outcomes = run_tour(scripts, options)
    seconds = time.monotonic() - clock
    show_summary(outcomes, options, seconds)
    report = options.out / "report.html"
    write_report(report, outcomes, started=started, seconds=seconds, quick=options.quick)
    screen().print(Text(f"report: {short_path(report)}"), soft_wrap=True)
    return exit_code(outcomes)


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 where every script passed, 1 where one failed, 130 where the tour was interrupted."""
    statuses = {outcome.status for outcome in outcomes}
    if STOPPED in statuses:
        return 130
    if FAILED in statuses:
        return 1
    return 130 if NOT_RUN in statuses else 0  # interrupted between two scripts


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m common.tour",
        description="Run the scripts in order and write a report about all of them.",
    )
    add = parser.add_argument
    add("--step", type=int, action="append", default=[], help="only this step; can be repeated")
    add("--only", action="append", default=[], metavar="SCRIPT", help="only this script; likewise")
    add("--keep-going", action="store_true", help="go on after a script that failed")
    add("--quick", action="store_true", help="run each script with smaller sizes")
    add("--quiet", action="store_true", help="show the progress and not what the scripts print")
    add("--list", action="store_true", help="list the scripts and run none")
    add("--out", type=Path, metavar="FOLDER", help="where the report and the charts go (out)")
    add(
        "--timeout",
        type=_positive,
        default=TIMEOUT,
        metavar="SECONDS",
        help="stop a script that runs longer; it counts as failed (%(default)g)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    with suppress(ValueError):
        value = float(text)
        if 0 < value < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"not a positive number of seconds: {text!r}")


if __name__ == "__main__":
    sys.exit(run(main))
