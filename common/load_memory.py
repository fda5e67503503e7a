"""What a loaded collection takes of memory: half with float16; with and without mmap.

Whether data is mapped from files is decided by the server's configuration, and its memory is
seen from its own machine only. So both are measured on local servers that are started for it.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from common.connection import Milvus, connect
from common.display import left_out, table
from common.index_building import build_indexes
from common.loading import load_rows
from common.local_server import LocalServer, missing_reason
from common.vector_sets import VectorSet
from common.vectors import Float32, clustered_vectors, to_float16
from common.workspace import OURS

from pymilvus import DataType

_NAME = "load_memory"
_TIMEOUT = 60.0
_DIMENSION, _QUERIES = 256, 10
_TIMES = 2  # loads and releases: the first one still frees what the insert took


class LoadMemory(NamedTuple):
    """MB of a server that a loaded collection takes, once it was searched.

    Attributes:
        own: memory of the process itself, which cannot be given back while it is loaded.
        mapped: pages of files, which the system takes back where memory is short.
        rows_found: for each query the ids found, to compare.
    """

    own: float
    mapped: float
    rows_found: list[list[int]]


def measure_load_memory(vectors: Float32, queries: Float32) -> dict[str, LoadMemory]:
    """Load the same vectors (FLAT, float32) in a server without mmap and in one with it.

    Args:
        vectors: of shape (rows, dimension).
        queries: of shape (n, dimension), which are searched before the memory is read.

    Raises:
        LocalServerError: a server cannot be started (`local_server.missing_reason`).
    """
    with TemporaryDirectory() as folder:
        ways = {"load": {}, "mmap": {"QUERYNODE_MMAPDIRPATH": str(Path(folder) / "mapped")}}
        with ThreadPoolExecutor(len(ways)) as pool:
            running = {
                way: pool.submit(_measure, vectors, queries, environment)
                for way, environment in ways.items()
            }
            return {way: each.result() for way, each in running.items()}


def store_half(
    milvus: Milvus, name: str, sample: VectorSet, build: tuple[str, Mapping[str, object]]
) -> None:
    """Store vectors as FLOAT16 in a collection of their own, marked as ours, build and load it.

    Args:
        milvus: which can store FLOAT16_VECTOR.
        name: of the collection; row i is stored as id i.
        sample: its vectors.
        build: the index type and the build parameters.
    """
    client = milvus.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT16_VECTOR, dim=sample.dimension)
    client.create_collection(name, schema=schema, properties=OURS, timeout=_TIMEOUT)
    vectors = to_float16(sample.vectors)
    load_rows(client, name, ({"id": n, "vector": vector} for n, vector in enumerate(vectors)))
    build_indexes(milvus, {name: build}, sample.metric)


def show_load_memory(rows: int) -> dict[str, LoadMemory]:
    """Measure and print what so many rows take; nothing where no server can be started, or for 0.

    Raises:
        RuntimeError: with mmap other rows were found.
    """
    what = "memory of load against mmap"
    if not rows or missing_reason():
        left_out(what, missing_reason() or "--quick")
        return {}
    drawn = clustered_vectors(rows + _QUERIES, _DIMENSION)
    vectors, queries = drawn[:rows], drawn[rows:]
    measured = measure_load_memory(vectors, queries)
    if measured["load"].rows_found != measured["mmap"].rows_found:
        raise RuntimeError("the same collection gave other answers with mmap")
    columns = "way", "memory of its own, MB", "mapped from files, MB"
    data = f"{rows:,} rows, {vectors.nbytes / 1e6:.0f} MB of vectors"
    title = f"Loaded on local servers started for it: {data}"
    table(title, columns, [(way, f"{m.own:.0f}", f"{m.mapped:.0f}") for way, m in measured.items()])
    return measured


def _measure(vectors: Float32, queries: Float32, environment: Mapping[str, str]) -> LoadMemory:
    with (
        LocalServer(environment=environment, announce=lambda _: None) as server,
        connect(server.uri) as milvus,
    ):
        _store(milvus, vectors)
        client, loaded = milvus.client, []
        for _ in range(_TIMES):
            client.release_collection(_NAME, timeout=_TIMEOUT)
            before = _resident(server.pid)
            client.load_collection(_NAME, timeout=_TIMEOUT)
            options = {"limit": 10, "output_fields": ["id"], "timeout": _TIMEOUT}
            hits = client.search(_NAME, data=queries, **options)
            after = _resident(server.pid)
            loaded.append([a - b for a, b in zip(after, before, strict=True)])
        own, mapped = loaded[-1]
        return LoadMemory(own, mapped, [[hit["id"] for hit in found] for found in hits])


def _store(milvus: Milvus, vectors: Float32) -> None:
    client = milvus.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    client.create_collection(_NAME, schema=schema, timeout=_TIMEOUT)
    rows = ({"id": number, "vector": vector} for number, vector in enumerate(vectors))
    load_rows(client, _NAME, rows, batch_size=2000, check=False)
    build_indexes(milvus, {_NAME: ("FLAT", {})}, "COSINE")


def _resident(pid: int) -> tuple[float, float]:
    """MB of a process in memory: its own, and pages of files. From /proc, as on Linux."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return tuple(int(values[name].split()[0]) / 1000 for name in ("RssAnon", "RssFile"))
