"""The command line of the benchmark: its options, checked, and the vectors that they ask for."""

import argparse
import json
from functools import partial
from pathlib import Path

from common.benchmark_target import MOST_ROWS
from common.connection import lite_path
from common.indexes import ParameterError, check_build_params, check_search_params
from common.settings import settings
from common.units import whole_number
from common.vector_files import VectorFile, VectorFileError, read_vector_file
from common.vector_sets import VectorSet, vector_set

import numpy as np

LITE_SIZE, SERVER_SIZE, QUICK_SIZE = (10_000, 64), (20_000, 128), (3_000, 64)
LEVELS, QUICK_LEVELS = [1, 4, 16, 64], [1, 8]
SECONDS, QUICK_SECONDS = 0.5, 0.3
RUNS, QUICK_RUNS = 3, 2
OPEN_SHARES, QUICK_SHARES = (0.5, 0.8, 1.1, 1.5), (0.5, 1.5)
HNSW = {"M": 16, "efConstruction": 200}
EF = {"ef": 64}
WRITE_SHARE = 0.1
MOST_IN_FLIGHT = 10_000


def read_options(arguments: list[str] | None, description: str) -> argparse.Namespace:
    """Read the options.

    Beside them, the result has `sample`, the vectors to store; None with --collection, when
    `asked` has the file of queries, if any; and `shares`, the rates of the open loop as shares of
    the closed one. Silly ones end the script here, with exit code 2 and a line that says why.
    """
    parser = argparse.ArgumentParser(description=description)
    _add_what(parser.add_argument)
    _add_load(parser.add_argument)
    options = parser.parse_args(arguments)
    quick = options.quick
    options.concurrency = sorted(set(options.concurrency or (QUICK_LEVELS if quick else LEVELS)))
    options.seconds = options.seconds or (QUICK_SECONDS if quick else SECONDS)
    options.runs = options.runs or (QUICK_RUNS if quick else RUNS)
    options.shares = QUICK_SHARES if quick else OPEN_SHARES
    options.sample = options.asked = None
    if not options.compare:
        try:
            _fill_in(options, parser)
        except (VectorFileError, ParameterError) as error:
            parser.error(str(error))
    return options


def _add_what(add) -> None:
    count = partial(whole_number, least=1)
    add("--collection", metavar="NAME", help="measure this one, only reading (default: make one)")
    add("--field", metavar="NAME", help="vector field of --collection (default: the only one)")
    files = ".npy, Parquet or HDF5: rows to store, or queries for --collection"
    add("--dataset", metavar="FILE", help=f"{files} (default: clustered vectors)")
    add("--column", help="of vectors in a Parquet file (default: the only one)")
    rows = f"{SERVER_SIZE[0]:,}, on Milvus Lite {LITE_SIZE[0]:,}; to fetch: {MOST_ROWS:,}"
    add("--rows", type=count, metavar="N", help=f"to store, or of --collection (default: {rows})")
    dimension = f"of clustered vectors (default: {SERVER_SIZE[1]}, on Milvus Lite {LITE_SIZE[1]})"
    add("--dimension", type=partial(whole_number, least=2), metavar="N", help=dimension)
    for name, value, meaning in (("queries", 200, "held out"), ("limit", 10, "hits of a search")):
        text = f"{meaning} (default: {value})"
        add(f"--{name}", type=count, default=value, metavar="N", help=text)
    add("--seed", type=partial(whole_number, least=0), default=0, help="(default: %(default)s)")
    add("--index", default="HNSW", help="type of the index to build (default: %(default)s)")
    build = f"build parameters (default for HNSW: '{json.dumps(HNSW)}')"
    add("--build", type=_object, metavar="JSON", help=build)
    params = f"search parameters (default for the HNSW made here: '{json.dumps(EF)}')"
    add("--params", type=_object, metavar="JSON", help=params)


def _add_load(add) -> None:
    count, number = partial(whole_number, least=1), partial(_over, 0)
    levels = f"requests in flight (default: {' '.join(map(str, LEVELS))})"
    add("--concurrency", type=count, nargs="+", metavar="N", help=levels)
    add("--seconds", type=number, metavar="S", help=f"of each run (default: {SECONDS})")
    add("--runs", type=count, metavar="N", help=f"of each setting (default: {RUNS})")
    add("--processes", type=count, default=2, metavar="N", help="workers (default: %(default)s)")
    shares = ", ".join(f"{share:.0%}" for share in OPEN_SHARES)
    rates = f"arrivals a second (default: {shares} of a closed loop's rate)"
    add("--rate", type=number, nargs="+", metavar="R", help=rates.replace("%", "%%"))
    backlog = "arrivals waiting at most, in an open loop (default: %(default)s)"
    add("--backlog", type=count, default=10_000, metavar="N", help=backlog)
    share = f"of requests that write (default: {WRITE_SHARE}, 0 with --collection)"
    add("--write-share", type=partial(_over, -1), metavar="X", help=share)
    rows = "rows that one request writes (default: %(default)s)"
    add("--write-rows", type=count, default=10, metavar="N", help=rows)
    timeout = "seconds for one request (default: %(default)s)"
    add("--timeout", type=number, default=10.0, metavar="S", help=timeout)
    where = "results (default: step03_05_benchmark.json among the charts)"
    add("--json", type=Path, metavar="FILE", help=where)
    compare = "compare two files of results, and stop"
    add("--compare", nargs=2, metavar=("OLD.json", "NEW.json"), help=compare)
    smaller = f"{QUICK_SIZE[0]:,} rows, {' and '.join(map(str, QUICK_LEVELS))} in flight"
    add("--quick", action="store_true", help=f"{smaller}, {QUICK_RUNS} runs")


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"""{text!r} is no JSON object such as '{{"ef": 64}}'""")
    return value


def _over(least: float, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over {least}")
    return number


def _fill_in(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Check what belongs together, and read or draw the vectors."""
    share = options.write_share
    options.write_share = share if share is not None else 0 if options.collection else WRITE_SHARE
    if not 0 <= options.write_share <= 0.9:
        parser.error("--write-share is 0 to 0.9: the searches are what is measured")
    if options.concurrency[-1] > MOST_IN_FLIGHT:
        parser.error(f"--concurrency is at most {MOST_IN_FLIGHT:,}")
    if options.write_rows > 1_000:
        parser.error("--write-rows is at most 1,000")
    if options.collection:
        options.asked = _queries(options) if options.dataset else None
        if options.build:
            parser.error("--build is for an index that is made here, not for a --collection")
        options.params = options.params or {}
        return
    if options.field:
        parser.error("--field is a field of a --collection")
    lite = lite_path(settings().milvus_uri) is not None
    size = QUICK_SIZE if options.quick else LITE_SIZE if lite else SERVER_SIZE
    rows = options.rows or size[0]
    if rows < options.limit:
        parser.error(f"--rows is at least --limit, {options.limit}")
    options.sample = vector_set(
        options.dataset,
        rows=rows,
        queries=options.queries,
        dimension=options.dimension or size[1],
        k=options.limit,
        column=options.column,
        seed=options.seed,
    )
    _check_index(options, options.sample)


def _queries(options: argparse.Namespace) -> VectorFile:
    read = read_vector_file(options.dataset, column=options.column, limit=options.queries)
    if read.test is not None:
        return VectorFile(np.asarray(read.test[: options.queries]))
    return read


def _check_index(options: argparse.Namespace, sample: VectorSet) -> None:
    made_here = options.index == "HNSW"
    options.build = {**(HNSW if made_here else {}), **(options.build or {})}
    enough = {"ef": max(EF["ef"], options.limit)}
    options.params = options.params or (enough if made_here else {})
    about = {"dimension": sample.dimension, "rows": len(sample.vectors), "metric": sample.metric}
    check_build_params(options.index, options.build, **about)
    check_search_params(options.index, options.params, limit=options.limit, build=options.build)
