"""How fast, and with how much memory, `load_rows` loads, against the bare client.

    python -m common.loading_benchmark
    python -m common.loading_benchmark --uri http://localhost:19530 --rows 100000
    python -m common.loading_benchmark --memory

The same rows are loaded by `load_rows` with all its checks and by a loop over `client.insert()`,
each into a collection of its own. Other work on the machine comes and goes, so the two take turns
every ten batches and in who goes first, and the figure is the median of the ratios of the pairs.
Exit code 1 if it is below BAR for NumPy rows, or if streaming took more memory than MEMORY_BAR.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from common.connection import connect
from common.display import heading, run, say, table
from common.loading import load_rows
from common.local_server import LocalServer

import numpy as np
import psutil
from pymilvus import DataType, MilvusClient

BAR = 0.95  # rows per second of load_rows over those of the bare loop
MEMORY_BAR = 100  # MB that the process may grow by while it streams
MEMORY_ROWS, MEMORY_DIMENSION = 500_000, 128
BATCHES_IN_A_TURN = 10
COLLECTION_PREFIX = "loading_benchmark_"


@dataclass(frozen=True)
class Pair:
    """Rows per second of one run each."""

    ours: float
    bare: float

    @property
    def ratio(self) -> float:
        """Above 1 where `load_rows` is faster."""
        return self.ours / self.bare


@dataclass(frozen=True)
class Growth:
    """Resident memory of this process, in MB, before a load and at its highest during it."""

    rows: int
    start: float
    peak: float

    @property
    def growth(self) -> float:
        """By how many MB the process grew."""
        return self.peak - self.start


@contextmanager
def fresh_collection(client: MilvusClient, dimension: int) -> Iterator[str]:
    """A collection of its own, without an index, that is dropped at the end."""
    name = COLLECTION_PREFIX + uuid4().hex[:12]
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    client.create_collection(name, schema=schema, timeout=30)
    try:
        yield name
    finally:
        client.drop_collection(name, timeout=30)


def numpy_rows(count: int, dimension: int, seed: int = 0) -> list[dict]:
    """Rows whose vectors are rows of one float32 matrix."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)
    return [{"id": number, "vector": vector} for number, vector in enumerate(vectors)]


def list_rows(count: int, dimension: int, seed: int = 0) -> list[dict]:
    """The same rows with their vectors as lists of floats."""
    return [{**row, "vector": row["vector"].tolist()} for row in numpy_rows(count, dimension, seed)]


def streamed_rows(count: int, dimension: int, block: int = 1000) -> Iterator[dict]:
    """Rows that are made while they are read."""
    generator = np.random.default_rng(0)
    for start in range(0, count, block):
        vectors = generator.standard_normal((block, dimension), dtype=np.float32)
        for offset, vector in enumerate(vectors[: count - start]):
            yield {"id": start + offset, "vector": vector}


def measure_pairs(
    client: MilvusClient, rows: list[dict], batch_size: int, pairs: int
) -> Iterator[Pair]:
    """Load all rows both ways, `pairs` times, after a warm-up that does not count."""

    def ours(name: str, part: list[dict]) -> None:
        load_rows(client, name, part, batch_size=batch_size)

    def bare(name: str, part: list[dict]) -> None:
        for start in range(0, len(part), batch_size):
            client.insert(name, part[start : start + batch_size], timeout=60)

    def seconds(part: list[dict], name: str, load: Callable[[str, list[dict]], None]) -> float:
        started = time.perf_counter()
        load(name, part)
        return time.perf_counter() - started

    turn = BATCHES_IN_A_TURN * batch_size
    parts = [rows[start : start + turn] for start in range(0, len(rows), turn)]
    for number in range(-1, pairs):
        spent = {ours: 0.0, bare: 0.0}
        dimension = len(rows[0]["vector"])
        with fresh_collection(client, dimension) as a, fresh_collection(client, dimension) as b:
            names = {ours: a, bare: b}
            for place, part in enumerate(parts[:1] if number < 0 else parts):
                order = (ours, bare) if (number + place) % 2 else (bare, ours)
                for load in order:
                    spent[load] += seconds(part, names[load], load)
        if number >= 0:
            yield Pair(len(rows) / spent[ours], len(rows) / spent[bare])


def measure_growth(client: MilvusClient, count: int, dimension: int) -> Growth:
    """Stream rows from a generator and watch the memory of this process."""
    process = psutil.Process()

    def resident() -> float:
        return process.memory_info().rss / 1e6

    with fresh_collection(client, dimension) as name:
        start, sizes = resident(), []
        load_rows(
            client,
            name,
            streamed_rows(count, dimension),
            progress=lambda _: sizes.append(resident()),
        )
    return Growth(count, start, max(sizes))


def show_pairs(title: str, pairs: Iterator[Pair]) -> float:
    """Print the pairs and their median ratio, and give the latter."""
    measured = list(pairs)
    ratio = statistics.median(pair.ratio for pair in measured)
    table(
        title,
        ["pair", "load_rows, rows/s", "bare loop, rows/s", "ratio"],
        [[n, round(p.ours), round(p.bare), p.ratio] for n, p in enumerate(measured, 1)],
    )
    say(f"median ratio: {ratio:.3f}")
    return ratio


def compare(client: MilvusClient, options: argparse.Namespace) -> bool:
    """Whether `load_rows` reaches the bar with NumPy rows."""
    heading(f"{options.rows:,} rows x {options.dimension}, batches of {options.batch:,}")
    rows = numpy_rows(options.rows, options.dimension)
    ratio = show_pairs("NumPy rows", measure_pairs(client, rows, options.batch, options.pairs))
    del rows
    rows = list_rows(options.rows, options.dimension)
    show_pairs("lists of floats", measure_pairs(client, rows, options.batch, options.pairs))
    say(f"the bar for NumPy rows is {BAR}: {'reached' if ratio >= BAR else 'NOT reached'}")
    return ratio >= BAR


def watch_memory(client: MilvusClient, rows: int, dimension: int) -> bool:
    """Whether streaming stays within the bar."""
    heading(f"Memory while {rows:,} rows x {dimension} are streamed from a generator")
    growth = measure_growth(client, rows, dimension)
    say(f"{growth.start:.0f} MB before, {growth.peak:.0f} MB at most: {growth.growth:+.0f} MB")
    within = growth.growth <= MEMORY_BAR
    say(f"the bar is {MEMORY_BAR} MB: {'kept' if within else 'NOT kept'}")
    return within


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark against a Milvus, by default against a local server of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--uri", help="a running Milvus; else a local server is started")
    parser.add_argument("--rows", type=int, default=50_000, help="rows in each run")
    parser.add_argument("--dimension", type=int, default=384, help="dimensions of the vectors")
    parser.add_argument("--batch", type=int, default=1000, help="rows in a batch")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs")
    parser.add_argument(
        "--memory", action="store_true", help=f"stream {MEMORY_ROWS:,} rows and watch the memory"
    )
    options = parser.parse_args(arguments)
    if options.uri is None:
        with LocalServer() as server:
            return measure(server.uri, options)
    return measure(options.uri, options)


def measure(uri: str, options: argparse.Namespace) -> int:
    """Do what the options ask for; the exit code."""
    with connect(uri) as milvus:
        say(f"{milvus.label} at {milvus.uri}")
        if options.memory:
            good = watch_memory(milvus.client, MEMORY_ROWS, MEMORY_DIMENSION)
        else:
            good = compare(milvus.client, options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(run(main))
