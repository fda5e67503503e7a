"""What a script shows: headings, paragraphs, tables, progress and charts.

Everything is printed with rich, so it is coloured and as wide as the window in a terminal, and
plain text of a steady width in a pipe or a log. Texts are printed as they are: rich's markup is
off, since "[1, 2]" in a result is a result and no style.

The tour reads what a script has shown from a file of JSON lines, which the variable TOUR_EVENTS
names; without that variable nothing is written.
"""

import io
import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import cache, lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from common.settings import settings

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # matplotlib takes half a second to import, and most scripts draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

EVENTS_VARIABLE = "TOUR_EVENTS"
WIDTH_OF_A_PIPE = 100
CHART_DPI = 150

# Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow
# that is too light for a line on white. https://jfly.uni-koeln.de/color/
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
_DASHES = ("-", "--", "-.", ":")

_CHART_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a8f98",
    "axes.grid": True,
    "axes.labelcolor": "#3b3f46",
    "axes.labelpad": 8,
    "axes.labelsize": 11,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": "#1f2328",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.facecolor": "white",
    "font.size": 11,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.8,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "xtick.color": "#5b6069",
    "xtick.labelsize": 10,
    "ytick.color": "#5b6069",
    "ytick.labelsize": 10,
}

# Three rules, as books set their tables: above and below the names of the columns, and at the end.
TABLE_BOX = box.Box(" ── \n    \n ── \n    \n    \n    \n    \n ── \n")

_NO_VALUE = {"", "-", "–", "—", "n/a"}
_NUMBER = re.compile(
    r"[+-]?(\d[\d,]*(\.\d+)?|\.\d+)(e[+-]?\d+)?"  # 1,234.5 and 1e-3
    r"\s?(%|x|×|s|ms|µs|min|B|[kKMGT]i?B|q/s|rows/s|bytes|rows|(± ?\d[\d.,]*( ?(%|ms|s))?))?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STACK_TRACE = re.compile(r"[\s,:;(]*stack trace:.*", re.IGNORECASE | re.DOTALL)
_LONGEST_ERROR = 300


# What a script prints


def heading(text: str) -> None:
    """Print the header of a section; the caller numbers it: "1. Create a collection"."""
    text = _clean(text)
    styled = Text(text, style="bold cyan")
    cut_by_a_rule = cell_len(text) + 6 > screen().width
    show("", styled if cut_by_a_rule else Rule(styled, align="left", style="cyan"))
    tell_tour("heading", text=text)


def say(text: str) -> None:
    """Print a paragraph, wrapped at the width of the window."""
    text = _clean(text)
    show(Text(text))
    tell_tour("text", text=text)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns of numbers, with or without a unit, are aligned to the right.

    A float is shown with as many decimals as its column needs, None as a dash, True and False
    as yes and no. Format a value yourself where that is not what you want.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """
    title, columns = _clean(title), [_clean(name) for name in columns]
    cells = _cells(columns, rows)
    shown = Table(box=TABLE_BOX, pad_edge=False, border_style="dim")
    for index, name in enumerate(columns):
        numeric = is_numeric([row[index] for row in cells])
        shown.add_column(
            Text(name, style="bold"),
            justify="right" if numeric else "left",
            no_wrap=numeric,
            overflow="fold",
        )
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    if not cells:
        shown.add_row(Text("(no rows)", style="dim"))
    show("", Text(title, style="bold"), Padding(shown, (0, 0, 0, 1)))
    tell_tour("table", title=title, columns=columns, rows=cells)


def left_out(what: str, reason: str) -> None:
    """Print in one line that `what` was not run, and why."""
    what, reason = _clean(what), _clean(reason)
    show_line(Text.assemble(("not run: ", "yellow"), f"{what}: {reason}"))
    tell_tour("left_out", what=what, reason=reason)


def expected_error(title: str, error: BaseException) -> None:
    """Print an error that the lesson provokes on purpose: `title` says what was tried."""
    title, line = _clean(title), error_line(error)
    show_line(Text.assemble(("expected error: ", "magenta"), title))
    show_line(Text(line, style="dim"), indent=2)
    tell_tour("expected_error", title=title, error=line)


def error_line(error: BaseException) -> str:
    """One line that says which error it is, without the noise of pymilvus and gRPC around it.

    For example "MilvusException (code 6): vector field 'vector' expected dim 4, got 3".
    """
    name, message = type(error).__name__, str(error)
    details, code = getattr(error, "details", None), getattr(error, "code", None)
    if callable(details) and callable(code):  # a gRPC error: its str() is a page
        name, message = f"gRPC {getattr(code(), 'name', code())}", str(details() or "")
    elif isinstance(getattr(error, "message", None), str) and isinstance(code, int):
        name, message = f"{name} (code {int(code)})", error.message
    message = _STACK_TRACE.sub("", message)
    first = next((line.strip() for line in message.splitlines() if line.strip()), "")
    if len(first) > _LONGEST_ERROR:
        first = first[: _LONGEST_ERROR - 1].rstrip() + "…"
    return _clean(f"{name}: {first}" if first else name)


def milliseconds(seconds: float) -> str:
    """A duration as a text in milliseconds with three digits or more: "0.31 ms", "1,250 ms"."""
    value = seconds * 1000
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f} ms"


def short_path(path: Path) -> str:
    """`path` as one would type it here: relative where it is below the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def progress(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Pass `iterable` on, with a bar in a terminal that goes away at the end.

    `total` is needed only where `iterable` has no len(). Nothing is printed in a pipe.
    """
    console = screen()
    if not console.is_interactive:
        yield from iterable
        return
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        yield from bar.track(iterable, total=total, description=_clean(description))


# Charts


def figure(
    title: str, xlabel: str, ylabel: str, *, size: tuple[float, float] = (8, 4.5)
) -> tuple["Figure", "Axes"]:
    """An empty chart in the style of the project; draw on the axes, then `save_chart()`.

    `size` is the width and height in inches.
    """
    _set_chart_style()
    from matplotlib.figure import Figure

    # Figure, and not pyplot.figure: pyplot keeps every figure in memory until it is closed.
    drawing = Figure(figsize=size, layout="constrained")
    axes = drawing.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return drawing, axes


def bars(
    axes: "Axes", groups: Sequence[str], series: Mapping[str, Sequence[float]], form: str
) -> None:
    """Draw bars side by side, for each group one of each series, with their values above.

    `form` is how a value is written, such as "%.1f"; `series` is from the name of a series to its
    values, one for each group.
    """
    width = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        places = [place + shift for place in range(len(groups))]
        drawn = axes.bar(places, values, width * 0.92, label=label)
        axes.bar_label(drawn, fmt=form, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.2)
    axes.legend(loc="upper right", ncols=len(series))


def lines(
    axes: "Axes",
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    points: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Draw a line with marked points for each series, told apart by mark and dash, not only colour.

    Args:
        axes: of `figure()`.
        series: from its name to its x and y values, in the order in which they are joined.
        points: from the name of a series to a short text beside each of its points.
    """
    for number, (label, (x, y)) in enumerate(series.items()):
        mark, dash = _MARKS[number % len(_MARKS)], _DASHES[number % len(_DASHES)]
        axes.plot(x, y, label=label, marker=mark, linestyle=dash)
        for place, text in zip(zip(x, y, strict=True), (points or {}).get(label, ()), strict=False):
            axes.annotate(text, place, (5, 5), textcoords="offset points", fontsize=8)
    axes.legend()


def save_chart(figure: "Figure", name: str) -> Path:
    """Save a figure as `name`.png in the output folder and print where it is.

    Raises:
        ValueError: `name` is not a plain file name.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"the name of a chart is a plain file name without a folder: {name!r}")
    path = settings().out_dir / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=CHART_DPI)
    show_line(Text.assemble(("chart: ", "green"), short_path(path)))
    title, description = _describe_chart(figure, name)
    tell_tour("chart", path=str(path), title=title, description=description)
    return path


@cache
def _set_chart_style() -> None:
    import matplotlib as mpl
    from matplotlib.rcsetup import cycler

    mpl.use("Agg")  # draws into files; a window is never opened
    mpl.rcParams.update(_CHART_STYLE)
    mpl.rcParams["axes.prop_cycle"] = cycler(color=PALETTE)


def _describe_chart(figure: "Figure", name: str) -> tuple[str, str]:
    """The title of a chart, and a description for those who cannot see it."""
    titles, axis_labels, series = [], [], []
    for axes in figure.axes:
        titles.append(axes.get_title() or axes.get_title(loc="left") or axes.get_title(loc="right"))
        axis_labels.append(" against ".join(filter(None, [axes.get_ylabel(), axes.get_xlabel()])))
        series.extend(axes.get_legend_handles_labels()[1])
    title = "; ".join(filter(None, titles)) or name
    description = f"Chart: {title}."
    if any(axis_labels):
        description += f" Axes: {'; '.join(filter(None, axis_labels))}."
    if series:
        description += f" Series: {', '.join(dict.fromkeys(series))}."
    return _clean(title), _clean(description)


# Errors and the end of a script


@contextmanager
def quiet_pymilvus() -> Iterator[None]:
    """Keep pymilvus from logging the traceback of an error that a lesson provokes on purpose.

    Milvus Lite, which runs in the same process, logs the same error from its own side. Several
    threads may ask for quiet at once: the last to leave puts the levels back.
    """
    with _quiet_lock:
        if not _quiet:
            _quiet.update(_silence())
        _askers.append(None)
    try:
        yield
    finally:
        with _quiet_lock:
            _askers.pop()
            if not _askers:
                for logger, level in _quiet.items():
                    logger.setLevel(level)
                _quiet.clear()


_quiet_lock, _askers = threading.Lock(), []
_quiet: dict[logging.Logger, int] = {}  # the levels to put back


def _silence() -> dict[logging.Logger, int]:
    """Silence the loggers of pymilvus and Milvus Lite; the levels that they had."""
    roots = ("pymilvus", "milvus_lite")
    # pymilvus gives several of its loggers a level of their own, so its root alone will not do.
    below = [n for n in logging.root.manager.loggerDict if n.startswith("pymilvus.")]
    levels = {logger: logger.level for logger in map(logging.getLogger, (*roots, *below))}
    for logger, level in levels.items():
        if level != logging.NOTSET or logger.name in roots:
            logger.setLevel(logging.CRITICAL)
    return levels


def run(main: Callable[[], int | None]) -> int:
    """Run the main function of a script and give its exit code to `sys.exit()`.

    0 where main returns nothing, else what it returns; 130 after Ctrl-C. An exception with an
    attribute `exit_code` is made for people: its message goes to stderr without a traceback, and
    that is the exit code. Any other exception goes on to the interpreter: traceback, exit code 1.
    """
    try:
        return int(main() or 0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        print(error, file=sys.stderr)
        return code


def tell_tour(event: str, **values: object) -> None:
    """Append one event, a JSON object in one line, to the file that the tour reads, if any."""
    path = os.environ.get(EVENTS_VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")


# How it is printed


def screen() -> Console:
    """The console on what stdout is now; one for each stream, so that a bar and prints agree."""
    # While a bar is shown, rich puts a proxy in the place of stdout.
    return _console_on(getattr(sys.stdout, "rich_proxied_file", sys.stdout))


@lru_cache(maxsize=1)
def _console_on(stream: IO[str]) -> Console:
    if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows a "?"
        stream.reconfigure(errors="replace")
    terminal = stream.isatty()
    steady = not terminal and not os.environ.get("COLUMNS", "").isdigit()
    console = Console(
        file=stream,
        width=WIDTH_OF_A_PIPE if steady else None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    # FORCE_COLOR asks for colours in a pipe, but a bar that repaints itself has no place there.
    console.is_interactive = terminal and not console.is_dumb_terminal
    return console


def show(*renderables: RenderableType) -> None:
    """Print each of `renderables`; outside a terminal without the spaces at the ends of lines."""
    console = screen()
    if console.is_terminal:
        console.print(*renderables, sep="\n")
        return
    with console.capture() as captured:
        console.print(*renderables, sep="\n")
    console.out("\n".join(line.rstrip() for line in captured.get().split("\n")), end="")


def show_line(text: Text, indent: int = 0) -> None:
    """Print one line: wrapped by words in a terminal, whole in a log, where it can be found."""
    console = screen()
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.out(" " * indent + text.plain)


def _clean(text: str) -> str:
    """`text` without what would steer the terminal or cannot be encoded."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text).expandtabs(4))
    return text.encode("utf-8", "replace").decode("utf-8")


def _cells(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[list[str]]:
    """The texts of a table's cells, row by row."""
    values = [[_plain_value(value) for value in row] for row in rows]
    for number, row in enumerate(values, start=1):
        if len(row) != len(columns):
            raise ValueError(f"row {number} has {len(row)} cells for {len(columns)} columns: {row}")
    by_column = [_column_texts([row[index] for row in values]) for index in range(len(columns))]
    return [list(row) for row in zip(*by_column, strict=True)]


def _plain_value(value: object) -> object:
    """A NumPy scalar as the Python value that it holds; anything else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _column_texts(values: list[object]) -> list[str]:
    """The values of one column as texts; its floats share their number of decimals."""
    floats = [
        abs(value)
        for value in values
        if isinstance(value, Real) and not isinstance(value, Integral) and math.isfinite(value)
    ]
    smallest = min((value for value in floats if value > 0), default=1.0)
    # Three digits for the smallest value, but never more than four decimals.
    decimals = min(4, max(0, 2 - math.floor(math.log10(smallest))))
    return [_text(value, decimals) for value in values]


def _text(value: object, decimals: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Real) and not isinstance(value, Integral):
        tiny = 0 < abs(value) < 0.5 * 10**-decimals
        return f"{value:.2e}" if tiny else f"{value:.{decimals}f}"
    return _clean(str(value))


def is_numeric(cells: list[str]) -> bool:
    """Whether a column holds numbers, with or without a unit, and nothing else."""
    filled = [cell for cell in cells if cell.strip() not in _NO_VALUE]
    return bool(filled) and all(_NUMBER.fullmatch(cell.strip()) for cell in filled)
