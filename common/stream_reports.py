"""What the streaming lesson and its commands show: a live line, tables, the chart of an outage."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

from common.change_messages import Received
from common.display import figure, save_chart, say, screen, table
from common.stream_trials import Outage
from common.streaming import StreamStats
from common.topic_state import Differences

from rich.live import Live
from rich.table import Table
from rich.text import Text

REFRESH = 0.25  # seconds
DIFFERENCES = "expected", "lost", "left over", "stale", "copies"
Watch = Callable[[StreamStats], None]
Letter = tuple[Received, dict[str, bytes]]


def progress_line(stats: StreamStats) -> str:
    """Where a stream stands, in one line for a log."""
    lag = "unknown" if stats.lag is None else f"{stats.lag:,}"
    line = (
        f"{stats.written:,} messages, {stats.per_second:,.0f}/s, lag {lag}; "
        f"{stats.upserts:,} upserts, {stats.deletes:,} deletes, {stats.dead:,} dead letters"
    )
    return f"{line}; {stats.trouble}" if stats.trouble else line


@contextmanager
def live_view(title: str, every: float) -> Iterator[Watch]:
    """A table that is drawn again and again in a terminal; elsewhere a line now and then.

    Args:
        title: stands above the table.
        every: seconds between two lines where there is no terminal.
    """
    console = screen()
    if console.is_interactive:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield _at_most_every(
                REFRESH, lambda stats: live.update(_panel(title, stats), refresh=True)
            )
    else:
        yield _at_most_every(every, lambda stats: say(progress_line(stats)))


def _at_most_every(seconds: float, show: Watch) -> Watch:
    last = time.monotonic()

    def watch(stats: StreamStats) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            show(stats)
            last = time.monotonic()

    return watch


def _panel(title: str, stats: StreamStats) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="left")
    grid.add_column(justify="right")
    state = Text(stats.trouble, style="yellow") if stats.trouble else Text("well", style="green")
    values = {
        title: "",
        "partitions": ", ".join(map(str, stats.partitions)) or "none yet",
        "messages": f"{stats.written:,}",
        "a second": f"{stats.per_second:,.0f}",
        "lag": "unknown" if stats.lag is None else f"{stats.lag:,}",
        "upserts": f"{stats.upserts:,}",
        "deletes": f"{stats.deletes:,}",
        "dead letters": f"{stats.dead:,}",
        "sent again": f"{stats.retries:,}",
    }
    for name, value in values.items():
        grid.add_row(Text(name), Text(value))
    grid.add_row(Text("state"), state)
    return grid


def show_messages(messages: Iterable[tuple[bytes, bytes | None]]) -> None:
    """A table of messages, with the beginning of each value."""
    rows = [(key.decode(), f"{value.decode()[:66]}…") for key, value in messages]
    table("Messages of the topic", ["key", "value"], rows)


def show_differences(title: str, found: Mapping[str, Differences] | Differences) -> None:
    """A table of how collections differ from the final state of their topic."""
    if isinstance(found, Differences):
        found = {"in step": found}
    rows = [(name, d.expected, d.lost, d.left_over, d.stale, d.copies) for name, d in found.items()]
    table(title, ["consumer", *DIFFERENCES], rows)


def say_why() -> None:
    """Why consumers of a few lines lose what they lose."""
    say(
        "Committed first, a batch that fails is never read again. Committed last, it is read for "
        "ever, and nothing behind it. As they come, a delete is sent after the upsert that should "
        "follow it, and some Milvus keep the older of two upserts in one request."
    )


def show_kills(runs: Sequence[tuple[int, int]], total: int) -> None:
    """A table of processes, one after the other: messages committed, and the exit code of each."""
    rows = [(n, f"{done:,}", f"{done / total:.0%}", code) for n, (done, code) in enumerate(runs, 1)]
    table("The consuming process", ["start", "committed", "of all", "exit code"], rows)


def show_letters(letters: Sequence[Letter]) -> None:
    """A table of the reasons in a dead-letter topic, numbers left out, with an example of each."""
    kinds = Counter(_kind(headers["reason"].decode()) for _, headers in letters)
    examples = {_kind(headers["reason"].decode()): headers for _, headers in letters}
    rows = []
    for kind, count in kinds.most_common():
        place = examples[kind]
        came_from = f"{place['partition'].decode()}:{place['offset'].decode()}"
        rows.append((count, place["reason"].decode(), came_from))
    table("Dead letters", ["letters", "reason", "one from (partition:offset)"], rows)


def _kind(reason: str) -> str:
    """A reason without its numbers, so that equal troubles are counted together."""
    return "".join("#" if character.isdigit() else character for character in reason)


def show_group(stats: Sequence[StreamStats]) -> None:
    """A table of the consumers of one group."""
    rows = [
        (n, ", ".join(map(str, each.partitions)), each.written, each.assignments)
        for n, each in enumerate(stats, start=1)
    ]
    columns = "consumer", "partitions", "messages written", "times assigned"
    table("Two consumers, one group", columns, rows)


def show_batches(rates: Mapping[int, StreamStats]) -> None:
    """A table of the throughput by batch size."""
    rows = [
        (size, each.batches, f"{each.per_second:,.0f}", each.superseded)
        for size, each in rates.items()
    ]
    columns = "messages in a batch", "batches", "messages/s", "superseded"
    table("The whole topic once more, by a new group each time", columns, rows)


def show_outage(outage: Outage) -> None:
    """Say what an outage of Milvus did to a stream, and draw the messages not written over time."""
    stats = outage.stats
    say(
        f"Milvus was away for {outage.back - outage.killed:.1f} s. {stats.retries} attempts "
        f"failed; reading paused with {stats.most_buffered:,} messages in memory. Times that the "
        f"group gave out partitions: {stats.assignments}."
    )
    drawing, axes = figure("A stream over an outage of Milvus", "time (s)", "messages not written")
    axes.axvspan(outage.killed, outage.back, color="#D55E00", alpha=0.15, label="Milvus is away")
    steps = [now for now, next in pairwise(outage.behind) if now[1] != next[1]]
    x, y = zip(*steps, outage.behind[-1], strict=True)
    axes.plot(x, y, label="behind the end of the topic", drawstyle="steps-post")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left")
    save_chart(drawing, "step04_04_outage")
