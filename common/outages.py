"""What a client sees of a server that freezes or crashes: one of our own, never yours."""

import argparse
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from common.display import expected_error, say, table
from common.local_server import LocalServer
from common.measuring import Failure, Waited, time_failure, wait_for_answer

ROWS = 500
SEARCHES = 80
PAIRS = 5  # how often two ways to search run in turns
TIMEOUT = 2.0  # seconds
PATIENCE = 60.0  # seconds within which a restarted server must answer

Count = Callable[[float | None], int]
"""Asks Milvus for the number of rows, with this timeout."""


def freeze(server: LocalServer, count: Count, timeout: float) -> tuple[Failure, bool, int]:
    """Make a server of our own stand still: a call with a timeout ends, one without does not.

    Returns how the first ended, whether the other was waiting then, and its answer afterwards.
    """
    with ThreadPoolExecutor(1) as pool:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            without = pool.submit(count, None)
            failure = time_failure(lambda: count(timeout))
            waited = not without.done()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        rows = without.result()
    expected_error(f"a frozen server, timeout={timeout:g}: {failure.seconds:.2f} s", failure.error)
    say(
        f"At that moment the same call without timeout= was {'still waiting' if waited else 'over'}"
        f"; when the server went on, it got its answer: {rows:,} rows."
    )
    return failure, waited, rows


def crash(server: LocalServer, count: Count, timeout: float) -> tuple[int, Failure, Waited[int]]:
    """Kill a server of our own and start it again; the client stays the same object.

    Returns the rows before, how a call failed in between, and the rows afterwards.
    """
    before = count(30)
    server.kill()
    killed = time_failure(lambda: count(timeout))
    expected_error(f"a killed server, timeout={timeout:g}: {killed.seconds:.2f} s", killed.error)
    start = time.perf_counter()
    server.start()
    healthy = time.perf_counter() - start
    waited = wait_for_answer(lambda: count(timeout), PATIENCE)
    say(
        f"Started again, it called itself healthy after {healthy:.1f} s, and answered the same "
        f"client {waited.seconds:.1f} s later."
    )
    table("What it said in between", ("error", "times"), waited.errors.items())
    say(f"Rows before it was killed: {before:,}. Rows after: {waited.answer:,}.")
    return before, killed, waited


def read_options(title: str, arguments: list[str] | None) -> argparse.Namespace:
    """The options of the lesson on connections, checked; `title` heads the help."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=title, formatter_class=defaults)
    add = parser.add_argument
    add("--rows", type=int, default=ROWS, help="rows of the collection")
    add("--searches", type=int, default=SEARCHES, help="searches of each run")
    add("--pairs", type=int, default=PAIRS, help="runs of each way to search, in turns")
    add("--quick", action="store_true", help="300 rows, 20 searches, 3 pairs, shorter waits")
    options = parser.parse_args(arguments)
    if min(options.rows, options.searches, options.pairs) < 1:
        parser.error("--rows, --searches and --pairs must be at least 1")
    options.timeout = TIMEOUT
    if options.quick:
        options.rows, options.searches, options.pairs, options.timeout = 300, 20, 3, 1.0
    return options
