"""The options of the lesson on hybrid search."""

import argparse

from common.connection import Milvus

ROWS, SERVER_ROWS, MANY_ROWS, REPEAT = 10_000, 20_000, 17_000, 24
QUICK = {"rows": 3_000, "repeat": 4}
MOST_HITS = 16_384  # that a server returns of one search
M, EFS = 8, (16, 128)  # of HNSW


def read_options(title: str, arguments: list[str] | None) -> argparse.Namespace:
    """The options of the command line, checked; `title` heads the help."""
    parser = argparse.ArgumentParser(description=title)
    add, default = parser.add_argument, "(default: %(default)s)"
    add("--rows", type=int, help=f"to measure with (default: {ROWS}; on a server {SERVER_ROWS})")
    add("--many", type=int, default=MANY_ROWS, help=f"rows to iterate over {default}")
    add("--ef", type=int, nargs="+", default=EFS, help=f"of HNSW, to compare {default}")
    add("--m", type=int, default=M, help=f"links of a row in HNSW {default}")
    add("--repeat", type=int, default=REPEAT, help=f"searches to time {default}")
    add("--quick", action="store_true", help=", ".join(f"{n} {what}" for what, n in QUICK.items()))
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(QUICK)
    if options.rows is not None and not 2_000 <= options.rows <= 1_000_000:
        parser.error("--rows is 2000 to 1000000: a server builds no graph for fewer than 1,024")
    if options.many <= MOST_HITS or options.repeat < 1:
        parser.error(f"--many is over {MOST_HITS}, --repeat 1 or more")
    if not 2 <= options.m <= 2_048 or min(options.ef) < 10:
        parser.error("--m is 2 to 2048, each --ef 10 or more")
    return options


def rows_for(milvus: Milvus, options: argparse.Namespace) -> int:
    """How many rows to measure with: fewer where Milvus Lite searches in Python."""
    return options.rows or (ROWS if milvus.kind == "lite" else SERVER_ROWS)
