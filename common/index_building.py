"""Collections of plain vectors for measurements: stored, indexed with the clock on, loaded.

    store_vectors(client, "mine", vectors)
    seconds = build_indexes(milvus, {"mine": ("HNSW", {"M": 16, "efConstruction": 200})}, "COSINE")

On a server, rows that are not flushed lie in a growing segment, which has no index: a search
compares with each of them, and finds everything whatever ef is. So rows are flushed first, and a
collection is loaded when its index is there.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from common.connection import Milvus
from common.index_catalogue import check_build_params
from common.index_trial import params_for, wait_until_indexed
from common.loading import load_rows
from common.vectors import Float32
from common.workspace import OURS

from pymilvus import DataType, MilvusClient

TEXT = "A vector finds what is alike; a text comes along. " * 8
"""What the field `text` of each row holds: 400 characters."""

_AT_ONCE = 16


def store_vectors(
    client: MilvusClient, name: str, vectors: Float32, *, timeout: float = 60.0
) -> None:
    """Make a collection of vectors, marked as ours, without an index; row i is stored as id i.

    The fields are `id`, `number` (the same again, to filter by), `text` (`TEXT`) and `vector`.

    Args:
        client: any.
        name: of the collection, which does not exist yet.
        vectors: shape (rows, dimension).
        timeout: seconds, for each call.
    """
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("number", DataType.INT64)
    schema.add_field("text", DataType.VARCHAR, max_length=len(TEXT))
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    client.create_collection(name, schema=schema, properties=OURS, timeout=timeout)
    rows = ({"id": i, "number": i, "text": TEXT, "vector": v} for i, v in enumerate(vectors))
    load_rows(client, name, rows, batch_size=2_000, check=False, timeout=timeout)


def build_indexes(
    milvus: Milvus,
    builds: Mapping[str, tuple[str, Mapping[str, object]]],
    metric: str,
    *,
    field: str = "vector",
    timeout: float = 120.0,
) -> dict[str, float]:
    """Flush collections, build the index of each, and load them; the seconds of each build.

    A server takes seconds for each flush and each load, mostly waiting for its own rounds: these
    are done for all collections at once. The builds run one by one, so that none slows another.

    Args:
        milvus: where they are.
        builds: from the name of a collection, which has rows, no index and is not loaded, to the
            index type and the build parameters.
        metric: the metric type of all.
        field: the vector field.
        timeout: seconds, for each call.

    Raises:
        ParameterError: build parameters out of their range; nothing was sent.
        IndexFailed, TimeoutError: an index was not built, or not in time.
    """
    for index, params in builds.values():
        check_build_params(index, params, metric=metric)
    client = milvus.client
    _at_once(lambda name: client.flush(name, timeout=timeout), builds)
    seconds = {}
    for name, (index, params) in builds.items():
        rows = int(client.get_collection_stats(name, timeout=timeout)["row_count"])
        index_params = client.prepare_index_params()
        as_read = params_for(milvus, params)
        index_params.add_index(field, index_type=index, metric_type=metric, params=as_read)
        started = time.perf_counter()
        client.create_index(name, index_params, timeout=timeout, sync=False)
        wait_until_indexed(client, name, rows, field=field, timeout=timeout)
        seconds[name] = time.perf_counter() - started
    _at_once(lambda name: client.load_collection(name, timeout=timeout), builds)
    return seconds


def _at_once(call: Callable[[str], object], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for each in [pool.submit(call, name) for name in names]:
            each.result()
