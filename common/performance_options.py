"""The performance lesson: its options, how much it measures on which Milvus, its steps."""

import argparse
from functools import partial
from typing import NamedTuple

from common.connection import Milvus
from common.units import whole_number

MOST_ON_LITE = 10_000  # rows: it searches in Python
QUERIES = 500
CALLERS, DIMENSION = 100, 128
ROUNDS, QUICK_ROUNDS = 5, 1


STEPS = (  # of the summary: a way, and the one that it is compared with
    ("NumPy rows, 1,000 a request", "1 row a request"),
    ("NumPy rows, 1,000 a request", "lists, 1,000 a request"),
    ("load_rows(), NumPy rows", "NumPy rows, 1,000 a request"),
    ("3 writers, NumPy rows", "NumPy rows, 1,000 a request"),
    ("one client", "a connection each"),
    ("8 threads, one client", "one client"),
    ("8 threads, dedicated", "8 threads, one client"),
    ("2 processes, 4 threads", "8 threads, one client"),
    ("asyncio, 8 at once", "8 threads, one client"),
    ("requests of 100", "requests of 1"),
    ("the id only", "all fields"),
    ("Bounded", "Strong"),
    ("cache in memory", "no cache"),
    ("cache in Redis", "no cache"),
    ("SearchBatcher", "AsyncMilvusClient"),
    ("float16", "float32"),
)


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        rows: of the collection that is searched.
        rounds: in each of which every way runs once.
        ingest: rows of one run of an insert.
        searches: of one run.
        mapped: rows of 256 dimensions that are loaded with and without mmap; 0 leaves that out.
    """

    rows: int
    rounds: int
    ingest: int
    searches: int
    mapped: int


LITE = Sizes(4_000, ROUNDS, 2_000, 60, 20_000)
SERVER = Sizes(20_000, ROUNDS, 4_000, 300, 20_000)
QUICK = Sizes(2_000, QUICK_ROUNDS, 1_000, 40, 0)


def parse(description: str, arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; what makes no sense is refused with exit code 2."""
    parser = argparse.ArgumentParser(description=description)
    add, number = parser.add_argument, partial(whole_number, least=1)
    default = f"(default: {SERVER.rows:,}, on Milvus Lite {LITE.rows:,})"
    add("--rows", type=number, metavar="N", help=f"rows to search among, 100 or more {default}")
    dimension = "of the vectors, 2 to 32,768 (default: %(default)s)"
    add("--dimension", type=number, default=DIMENSION, metavar="N", help=dimension)
    rounds = f"in each of which every way runs once (default: {ROUNDS})"
    add("--rounds", type=number, metavar="N", help=rounds)
    default = f"(default: {SERVER.ingest:,}, on Milvus Lite {LITE.ingest:,})"
    add("--ingest", type=number, metavar="N", help=f"rows of one insert run {default}")
    default = f"(default: {SERVER.searches}, on Milvus Lite {LITE.searches})"
    add("--searches", type=number, metavar="N", help=f"of one run, 20 or more {default}")
    callers = "at once, for micro-batching (default: %(default)s)"
    add("--callers", type=number, default=CALLERS, metavar="N", help=callers)
    add("--redis", metavar="URL", help="keep answers there too (default: only in this process)")
    bucket = "of Milvus, for a bulk import: http://user:password@host:9000/a-bucket (default: none)"
    add("--bucket", metavar="URL", help=bucket)
    add("--quick", action="store_true", help=f"{QUICK.rows:,} rows, {QUICK.rounds} round, no mmap")
    options = parser.parse_args(arguments)
    few_rows = options.rows is not None and options.rows < 100
    if few_rows or not 2 <= options.dimension <= 32_768:
        parser.error("--rows is 100 or more" if few_rows else "--dimension is 2 to 32,768")
    if options.searches is not None and options.searches < 20:
        parser.error("--searches is 20 or more")
    return options


def sizes_for(milvus: Milvus, options: argparse.Namespace) -> Sizes:
    """How much is measured on this Milvus with these options.

    Raises:
        TooManyRows: Milvus Lite would take minutes for so many.
    """
    lite = milvus.kind == "lite"
    sizes = QUICK if options.quick else LITE if lite else SERVER
    given = {name: getattr(options, name) for name in ("rows", "rounds", "ingest", "searches")}
    sizes = sizes._replace(**{name: value for name, value in given.items() if value is not None})
    if lite and max(sizes.rows, sizes.ingest) > MOST_ON_LITE:
        raise TooManyRows(
            f"{max(sizes.rows, sizes.ingest):,} rows are too many for Milvus Lite, which searches "
            f"in Python: take {MOST_ON_LITE:,} or fewer, or a server (make server)."
        )
    return sizes


class TooManyRows(ValueError):  # noqa: N818 - it reads as a sentence where it is raised
    """More rows than the engine bears."""

    exit_code = 2
