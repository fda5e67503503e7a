"""Each row of the capability table is tried on each engine: the table must not lie.

A probe gives True only where the engine does what was asked. Some engines accept a call and do
something else; so a probe looks at what came back and not at the absence of an error.
"""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable

from common.capabilities import FEATURES, UnknownFeatureError, capability, feature, release
from common.connection import Milvus, connect
from common.display import quiet_pymilvus
from common.local_server import QUICK_TICKS, LocalServer

import grpc
import ml_dtypes
import numpy as np
import pytest
import requests
from pymilvus import (
    AnnSearchRequest,
    DataType,
    Function,
    FunctionType,
    MilvusClient,
    MilvusException,
    RRFRanker,
)

ROWS = 1100  # a server builds no index for a segment of less than 1,024 rows
DIMENSION = 16
TIMEOUT = 60  # seconds: a guard against hanging on a busy machine
HANGS = ("DISKANN", "GPU_IVF_FLAT", "GPU_IVF_PQ")  # the local server tries for ever
# The local server tries for ever to index the one, and pymilvus to insert the other there.
HALF_PRECISION = (DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)
PATIENCE = 8  # seconds for those, and for rows to expire
VECTORS = np.random.default_rng(7).normal(size=(ROWS, DIMENSION)).astype(np.float32)
STRONG = {"consistency_level": "Strong"}

Probe = Callable[[Milvus], bool]
PROBES: dict[str, Probe] = {}


def probes(*names: str) -> Callable[[Probe], Probe]:
    """Register a probe for the rows `names`."""

    def register(probe: Probe) -> Probe:
        PROBES.update(dict.fromkeys(names, probe))
        return probe

    return register


def simple_schema(client: MilvusClient, vector: DataType = DataType.FLOAT_VECTOR, **field):
    """A primary key, a vector and, if `field` describes one, a field `x`."""
    schema = client.create_schema(enable_dynamic_field=field.pop("dynamic", False))
    schema.add_field("id", DataType.INT64, is_primary=True)
    if vector == DataType.SPARSE_FLOAT_VECTOR:
        schema.add_field("vector", vector)
    else:
        schema.add_field("vector", vector, dim=DIMENSION)
    if field:
        schema.add_field("x", **field)
    return schema


def create(
    client: MilvusClient, schema, index: str = "FLAT", metric: str = "COSINE", **more
) -> str:
    """A loaded collection of a name of its own."""
    name = f"probe_{time.monotonic_ns()}"
    params = client.prepare_index_params()
    params.add_index("vector", index_type=index, metric_type=metric)
    client.create_collection(name, schema=schema, index_params=params, timeout=TIMEOUT, **more)
    return name


def filled(client: MilvusClient, rows: int = 30, **more) -> str:
    """A loaded collection of `rows` entities with x = id modulo 5 and a text."""
    schema = simple_schema(client, datatype=DataType.INT64)
    schema.add_field("text", DataType.VARCHAR, max_length=100)
    name = create(client, schema, **more)
    client.insert(
        name,
        [
            {"id": i, "vector": VECTORS[i], "x": i % 5, "text": f"word{i} alpha"}
            for i in range(rows)
        ],
        timeout=TIMEOUT,
    )
    return name


def count(client: MilvusClient, name: str, **options) -> int:
    return client.query(name, output_fields=["count(*)"], **{**STRONG, **options})[0]["count(*)"]


def builds_index(milvus: Milvus, index: str, vectors, data_type: DataType, metric: str, **p):
    """Whether the engine builds this index over flushed rows."""
    client = milvus.client
    schema = simple_schema(client, data_type)
    name = f"probe_{time.monotonic_ns()}"
    client.create_collection(name, schema=schema, timeout=TIMEOUT)
    rows = [{"id": i, "vector": vectors[i]} for i in range(ROWS)]
    patience = PATIENCE if index in HANGS or data_type in HALF_PRECISION else TIMEOUT
    client.insert(name, rows, timeout=patience)
    client.flush(name, timeout=TIMEOUT)
    params = client.prepare_index_params()
    params.add_index("vector", index_type=index, metric_type=metric, params=p)
    client.create_index(name, params, timeout=patience)
    if milvus.kind != "lite":  # create_index() has waited until it was built
        told = client.describe_index(name, "vector")
        return (told["index_type"], told["indexed_rows"]) == (index, ROWS)
    client.load_collection(name, timeout=TIMEOUT)  # here Milvus Lite builds
    hits = client.search(name, data=[vectors[3]], anns_field="vector", limit=3, timeout=TIMEOUT)
    return 3 in [hit["id"] for hit in hits[0]]


def vector_index(index: str, metric: str = "COSINE", **params) -> None:
    @probes(index)
    def probe(milvus: Milvus) -> bool:
        return builds_index(milvus, index, VECTORS, DataType.FLOAT_VECTOR, metric, **params)


for name_, params_ in {
    "FLAT": {},
    "IVF_FLAT": {"nlist": 8},
    "IVF_SQ8": {"nlist": 8},
    "IVF_PQ": {"nlist": 8, "m": 8, "nbits": 8},
    "IVF_RABITQ": {"nlist": 8},
    "HNSW": {"M": 8, "efConstruction": 64},
    "HNSW_SQ": {"M": 8, "efConstruction": 64, "sq_type": "SQ8"},
    "HNSW_PQ": {"M": 8, "efConstruction": 64, "m": 8},
    "HNSW_PRQ": {"M": 8, "efConstruction": 64, "m": 8},
    "SCANN": {"nlist": 8},
    "DISKANN": {},
    "AISAQ": {},
    "AUTOINDEX": {},
}.items():
    vector_index(name_, **params_)
for name_ in ("GPU_CAGRA", "GPU_BRUTE_FORCE"):
    vector_index(name_, "IP")
for name_ in ("GPU_IVF_FLAT", "GPU_IVF_PQ"):
    vector_index(name_, "IP", nlist=8, **({"m": 8} if name_ == "GPU_IVF_PQ" else {}))


@probes("BIN_FLAT", "BINARY_VECTOR")
def bin_flat(milvus: Milvus) -> bool:
    return binary_index(milvus, "BIN_FLAT")


@probes("BIN_IVF_FLAT")
def bin_ivf_flat(milvus: Milvus) -> bool:
    return binary_index(milvus, "BIN_IVF_FLAT", nlist=8)


def binary_index(milvus: Milvus, index: str, **params) -> bool:
    vectors = [((i * 59) % 65536).to_bytes(2, "big") for i in range(ROWS)]
    data_type = DataType.BINARY_VECTOR
    return builds_index(milvus, index, vectors, data_type, "HAMMING", **params)


@probes("SPARSE_INVERTED_INDEX", "SPARSE_FLOAT_VECTOR")
def sparse(milvus: Milvus) -> bool:
    vectors = [{i: 1.0, i + 1: 0.5} for i in range(ROWS)]
    data_type = DataType.SPARSE_FLOAT_VECTOR
    return builds_index(milvus, "SPARSE_INVERTED_INDEX", vectors, data_type, "IP")


@probes("FLOAT_VECTOR", "FLOAT16_VECTOR", "BFLOAT16_VECTOR", "INT8_VECTOR")
def dense_vector_type(milvus: Milvus, name: str) -> bool:
    convert = {
        "FLOAT_VECTOR": lambda v: v,
        "FLOAT16_VECTOR": lambda v: v.astype(np.float16),
        "BFLOAT16_VECTOR": lambda v: v.astype(ml_dtypes.bfloat16),
        "INT8_VECTOR": lambda v: (v * 20).astype(np.int8),
    }[name]
    params = {"M": 8, "efConstruction": 64}
    data_type = getattr(DataType, name)
    return builds_index(milvus, "HNSW", convert(VECTORS), data_type, "L2", **params)


@probes("INVERTED", "STL_SORT", "TRIE", "BITMAP", "NGRAM")
def scalar_index(milvus: Milvus, name: str) -> bool:
    client = milvus.client
    text = name in ("TRIE", "NGRAM")
    kind = (
        {"datatype": DataType.VARCHAR, "max_length": 20} if text else {"datatype": DataType.INT64}
    )
    collection = f"probe_{time.monotonic_ns()}"
    client.create_collection(collection, schema=simple_schema(client, **kind), timeout=TIMEOUT)
    rows = [{"id": i, "vector": VECTORS[i], "x": str(i) if text else i % 50} for i in range(ROWS)]
    client.insert(collection, rows, timeout=TIMEOUT)
    params = client.prepare_index_params()
    ngram = {"min_gram": 1, "max_gram": 2} if name == "NGRAM" else {}
    params.add_index("x", index_type="Trie" if name == "TRIE" else name, params=ngram)
    client.flush(collection, timeout=TIMEOUT)
    client.create_index(collection, params, timeout=TIMEOUT)
    return client.describe_index(collection, "x")["index_type"].upper() == name


def round_trip(milvus: Milvus, value: object, **field) -> bool:
    client = milvus.client
    name = create(client, simple_schema(client, **field))
    client.insert(name, [{"id": 1, "vector": VECTORS[0], "x": value}], timeout=TIMEOUT)
    (row,) = client.query(name, filter="id == 1", output_fields=["x"], timeout=TIMEOUT, **STRONG)
    return row["x"] == value


@probes("JSON")
def json_field(milvus: Milvus) -> bool:
    return round_trip(milvus, {"a": [1, {"b": None}]}, datatype=DataType.JSON)


@probes("ARRAY")
def array_field(milvus: Milvus) -> bool:
    array = {"element_type": DataType.INT64, "max_capacity": 4}
    return round_trip(milvus, [1, 2], datatype=DataType.ARRAY, **array)


@probes("TEXT")
def text_field(milvus: Milvus) -> bool:
    return round_trip(milvus, "a long text", datatype=DataType.TEXT)


@probes("GEOMETRY")
def geometry_field(milvus: Milvus) -> bool:
    return round_trip(milvus, "POINT (1 2)", datatype=DataType.GEOMETRY)


@probes("TIMESTAMPTZ")
def timestamp_field(milvus: Milvus) -> bool:
    return round_trip(milvus, "2026-01-01T00:00:00Z", datatype=DataType.TIMESTAMPTZ)


@probes("STRUCT")
def struct_field(milvus: Milvus) -> bool:
    struct = milvus.client.create_struct_field_schema()
    struct.add_field("a", DataType.INT64)
    field = {"element_type": DataType.STRUCT, "struct_schema": struct, "max_capacity": 4}
    return round_trip(milvus, [{"a": 1}], datatype=DataType.ARRAY, **field)


@probes("nullable")
def nullable_field(milvus: Milvus) -> bool:
    return round_trip(milvus, None, datatype=DataType.INT64, nullable=True)


@probes("default_value")
def default_value(milvus: Milvus) -> bool:
    client = milvus.client
    name = create(client, simple_schema(client, datatype=DataType.INT64, default_value=7))
    client.insert(name, [{"id": 1, "vector": VECTORS[0]}], timeout=TIMEOUT)
    return client.query(name, filter="id == 1", output_fields=["x"], **STRONG)[0]["x"] == 7


@probes("dynamic_field")
def dynamic_field(milvus: Milvus) -> bool:
    client = milvus.client
    name = create(client, simple_schema(client, dynamic=True))
    client.insert(name, [{"id": 1, "vector": VECTORS[0], "colour": "red"}], timeout=TIMEOUT)
    rows = client.query(name, filter='colour == "red"', output_fields=["colour"], **STRONG)
    return [row["colour"] for row in rows] == ["red"]


@probes("range_search")
def range_search(milvus: Milvus) -> bool:
    name = filled(milvus.client)
    search = {"params": {"radius": 0.1}}
    hits = milvus.client.search(name, data=[VECTORS[0]], limit=30, search_params=search, **STRONG)[
        0
    ]
    exact = VECTORS[:30] @ VECTORS[0]
    exact /= np.linalg.norm(VECTORS[:30], axis=1) * np.linalg.norm(VECTORS[0])
    return {hit["id"] for hit in hits} == set(np.flatnonzero(exact > 0.1).tolist())


@probes("search_iterator", "query_iterator")
def iterator(milvus: Milvus, name: str) -> bool:
    client = milvus.client
    collection = filled(client)
    count(client, collection)  # a strongly consistent read: the iterator then sees all rows
    if name == "query_iterator":
        pages = client.query_iterator(collection, batch_size=7, **STRONG)
    else:
        pages = client.search_iterator(
            collection, data=[VECTORS[0]], batch_size=7, search_params={}, **STRONG
        )
    seen = []
    while page := pages.next():
        seen += [row["id"] for row in page]
    pages.close()
    return sorted(seen) == list(range(30))


@probes("group_by")
def group_by(milvus: Milvus) -> bool:
    """The five nearest are all of group 0, so an engine that ignores the grouping shows it."""
    client = milvus.client
    name = create(client, simple_schema(client, datatype=DataType.INT64))
    cosine = VECTORS[:30] @ VECTORS[0] / np.linalg.norm(VECTORS[:30], axis=1)
    group = np.argsort(np.argsort(-cosine)) // 6
    rows = [{"id": i, "vector": VECTORS[i], "x": int(group[i])} for i in range(30)]
    client.insert(name, rows, timeout=TIMEOUT)
    search = {"group_by_field": "x", "output_fields": ["x"], **STRONG}
    hits = client.search(name, data=[VECTORS[0]], limit=5, **search)[0]
    return [hit["entity"]["x"] for hit in hits] == [0, 1, 2, 3, 4]


@probes("hybrid_search", "several_vector_fields")
def hybrid_search(milvus: Milvus) -> bool:
    client = milvus.client
    schema = simple_schema(client)
    schema.add_field("second", DataType.FLOAT_VECTOR, dim=4)
    params = client.prepare_index_params()
    params.add_index("second", index_type="FLAT", metric_type="COSINE")
    params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    name = f"probe_{time.monotonic_ns()}"
    client.create_collection(name, schema=schema, index_params=params, timeout=TIMEOUT)
    rows = [{"id": i, "vector": v, "second": v[:4]} for i, v in enumerate(VECTORS[:20])]
    client.insert(name, rows, timeout=TIMEOUT)
    requests = [
        AnnSearchRequest([VECTORS[3]], "vector", {}, limit=5),
        AnnSearchRequest([VECTORS[3][:4]], "second", {}, limit=5),
    ]
    hits = client.hybrid_search(name, requests, RRFRanker(), limit=5, **STRONG)[0]
    return hits[0]["id"] == 3


ENGLISH_TEXTS = ("vector database search", "search the database", "cooking pasta")


def full_text(
    milvus: Milvus,
    query_filter: str,
    analyzer: dict | None = None,
    texts: tuple[str, ...] = ENGLISH_TEXTS,
    query: str = "database",
) -> list[int]:
    client = milvus.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    analyzed = {"enable_analyzer": True, "enable_match": True}
    analyzed |= {"analyzer_params": analyzer} if analyzer else {}
    schema.add_field("text", DataType.VARCHAR, max_length=200, **analyzed)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function("bm25", FunctionType.BM25, ["text"], ["sparse"]))
    params = client.prepare_index_params()
    params.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    name = f"probe_{time.monotonic_ns()}"
    client.create_collection(name, schema=schema, index_params=params, timeout=TIMEOUT)
    client.insert(name, [{"id": i, "text": text} for i, text in enumerate(texts)], timeout=TIMEOUT)
    hits = client.search(
        name, data=[query], anns_field="sparse", filter=query_filter, limit=3, **STRONG
    )[0]
    return sorted(hit["id"] for hit in hits)


@probes("BM25")
def bm25(milvus: Milvus) -> bool:
    return full_text(milvus, "") == [0, 1]


@probes("TEXT_MATCH")
def text_match(milvus: Milvus) -> bool:
    return full_text(milvus, "TEXT_MATCH(text, 'vector')") == [0]


@probes("PHRASE_MATCH")
def phrase_match(milvus: Milvus) -> bool:
    return full_text(milvus, "PHRASE_MATCH(text, 'vector database')") == [0]


@probes("run_analyzer")
def run_analyzer(milvus: Milvus) -> bool:
    tokens = milvus.client.run_analyzer("Hello world", analyzer_params={"type": "standard"})
    return "world" in str(tokens)


@probes("lindera")
def lindera(milvus: Milvus) -> bool:
    """Korean nouns are found whatever particle they carry."""
    analyzer = {"tokenizer": {"type": "lindera", "dict_kind": "ko-dic"}}
    texts = ("국회는 법률을 만든다", "국회의 의장", "대통령의 임기")
    return full_text(milvus, "", analyzer, texts, "국회") == [0, 1]


@probes("filter_templates")
def filter_templates(milvus: Milvus) -> bool:
    name = filled(milvus.client)
    template = {"filter": "x in {wanted}", "filter_params": {"wanted": [1, 2]}}
    return len(milvus.client.query(name, **template, **STRONG)) == 12


@probes("iterative_filter")
def iterative_filter(milvus: Milvus) -> bool:
    """An engine that ignores hints takes any: one that knows them refuses what is none."""
    client = milvus.client
    name = filled(client)
    search = {"data": [VECTORS[0]], "filter": "x == 1", "limit": 30, **STRONG}
    hits = client.search(name, search_params={"hints": "iterative_filter"}, **search)[0]
    try:
        client.search(name, search_params={"hints": "no_such_hint"}, **search)
    except MilvusException:
        return sorted(hit["id"] for hit in hits) == [1, 6, 11, 16, 21, 26]
    return False


@probes("LIKE_INFIX")
def like_infix(milvus: Milvus) -> bool:
    name = filled(milvus.client)
    return len(milvus.client.query(name, filter='text like "%alp%"', **STRONG)) == 30


@probes("consistency_levels")
def consistency_levels(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    seen = {"Strong": 0, "Eventually": 0}
    for i in range(100, 106):
        client.insert(name, [{"id": i, "vector": VECTORS[i], "x": 0, "text": ""}])
        for level in ("Eventually", "Strong"):
            found = client.query(name, filter=f"id == {i}", consistency_level=level)
            seen[level] += len(found)
    return seen["Strong"] == 6 and seen["Eventually"] < 6


@probes("upsert")
def upsert(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    client.upsert(name, [{"id": 1, "vector": VECTORS[1], "x": 77, "text": ""}])
    (row,) = client.query(name, filter="id == 1", output_fields=["x"], **STRONG)
    return row["x"] == 77 and count(client, name) == 30


@probes("partial_update")
def partial_update(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    client.upsert(name, [{"id": 1, "x": 77}], partial_update=True)
    (row,) = client.query(name, filter="id == 1", output_fields=["x", "text"], **STRONG)
    return (row["x"], row["text"]) == (77, "word1 alpha")


@probes("partitions")
def partitions(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    client.create_partition(name, "p")
    client.insert(name, [{"id": 500, "vector": VECTORS[0], "x": 1, "text": ""}], partition_name="p")
    hits = client.search(name, data=[VECTORS[0]], limit=9, partition_names=["p"], **STRONG)[0]
    return [hit["id"] for hit in hits] == [500]


@probes("load_partitions")
def load_partitions(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    for partition in ("loaded", "released"):
        client.create_partition(name, partition)
    client.release_collection(name)
    client.load_partitions(name, ["loaded"], timeout=TIMEOUT)
    states = [client.get_load_state(name, p)["state"].name for p in ("loaded", "released")]
    return states == ["Loaded", "NotLoad"]


@probes("count_in_partition")
def count_in_partition(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    client.create_partition(name, "p")
    client.insert(name, [{"id": 500, "vector": VECTORS[0], "x": 1, "text": ""}], partition_name="p")
    options = {"partition_names": ["p"], "output_fields": ["count(*)"], **STRONG}
    return client.query(name, **options)[0]["count(*)"] == 1


@probes("partition_key")
def partition_key(milvus: Milvus) -> bool:
    client = milvus.client
    schema = simple_schema(client, datatype=DataType.INT64, is_partition_key=True)
    name = create(client, schema, num_partitions=8)
    rows = [{"id": i, "vector": VECTORS[i], "x": i % 5} for i in range(30)]
    client.insert(name, rows, timeout=TIMEOUT)
    hits = client.search(name, data=[VECTORS[0]], filter="x == 1", limit=30, **STRONG)[0]
    return len(client.list_partitions(name)) >= 8 and {h["id"] % 5 for h in hits} == {1}


@probes("aliases")
def aliases(milvus: Milvus) -> bool:
    client = milvus.client
    blue, green = filled(client, 10), filled(client, 20)
    client.create_alias(blue, "probe_alias")
    first = count(client, "probe_alias")
    client.alter_alias(green, "probe_alias")
    second = count(client, "probe_alias")
    client.drop_alias("probe_alias")
    return (first, second) == (10, 20)


@probes("rename_collection")
def rename_collection(milvus: Milvus) -> bool:
    name = filled(milvus.client)
    milvus.client.rename_collection(name, f"{name}_new")
    names = milvus.client.list_collections()
    return f"{name}_new" in names and name not in names


@probes("databases")
def databases(milvus: Milvus) -> bool:
    client = milvus.client
    client.create_database("probe_database")
    inside = MilvusClient(**{**milvus.options, "db_name": "probe_database"})
    inside.create_collection("probe_inside", schema=simple_schema(inside))
    separate = "probe_inside" not in client.list_collections()
    inside.drop_collection("probe_inside")
    inside.close()
    client.drop_database("probe_database")
    return separate and "probe_database" not in client.list_databases()


@probes("use_database")
def use_database(milvus: Milvus) -> bool:
    milvus.client.create_database("probe_database")
    other = MilvusClient(**milvus.options, dedicated=True)
    try:
        other.use_database("probe_database")
        return other.list_collections() == []
    finally:
        other.close()
        milvus.client.drop_database("probe_database")


@probes("load_state")
def load_state(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    before = client.get_load_state(name)["state"].name
    client.release_collection(name)
    return (before, client.get_load_state(name)["state"].name) == ("Loaded", "NotLoad")


@probes("collection_properties")
def collection_properties(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    client.alter_collection_properties(name, properties={"collection.ttl.seconds": 86400})
    return client.describe_collection(name)["properties"]["collection.ttl.seconds"] == "86400"


@probes("ttl")
def ttl(milvus: Milvus) -> bool:
    name = filled(milvus.client, properties={"collection.ttl.seconds": 1})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if count(milvus.client, name) == 0:
            return True
        time.sleep(1)
    return False


@probes("add_collection_field")
def add_collection_field(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    client.add_collection_field(name, "added", DataType.INT64, nullable=True)
    (row,) = client.query(name, filter="id == 1", output_fields=["added"], **STRONG)
    return row["added"] is None


@probes("truncate_collection")
def truncate_collection(milvus: Milvus) -> bool:
    name = filled(milvus.client)
    milvus.client.truncate_collection(name, timeout=TIMEOUT)
    return count(milvus.client, name) == 0


@probes("compaction")
def compaction(milvus: Milvus) -> bool:
    client = milvus.client
    name = filled(client)
    client.flush(name, timeout=TIMEOUT)
    job = client.compact(name, timeout=TIMEOUT)
    deadline = time.monotonic() + TIMEOUT  # the server plans compactions when it has time
    while client.get_compaction_state(job) != "Completed" and time.monotonic() < deadline:
        time.sleep(0.1)
    return client.get_compaction_state(job) == "Completed"


@probes("bulk_import")
def bulk_import(milvus: Milvus) -> bool:
    """The REST interface that pymilvus.bulk_writer calls; Milvus Lite has no address for one."""
    url = f"{milvus.uri}/v2/vectordb/jobs/import/list"
    wanted = {"collectionName": filled(milvus.client)}
    try:
        return requests.post(url, json=wanted, timeout=TIMEOUT).json()["code"] == 0
    except requests.RequestException:  # also where what comes back is no JSON
        return False


@probes("snapshots")
def snapshots(milvus: Milvus) -> bool:
    name = filled(milvus.client)
    milvus.client.flush(name, timeout=TIMEOUT)
    milvus.client.create_snapshot(name, "probe_snapshot", timeout=TIMEOUT)
    found = "probe_snapshot" in str(milvus.client.list_snapshots(name))
    milvus.client.drop_snapshot("probe_snapshot", collection_name=name)
    return found


@probes("resource_groups")
def resource_groups(milvus: Milvus) -> bool:
    return "__default_resource_group" in milvus.client.list_resource_groups(timeout=TIMEOUT)


@probes("describe_replica")
def describe_replica(milvus: Milvus) -> bool:
    return len(milvus.client.describe_replica(filled(milvus.client), timeout=TIMEOUT)) == 1


@probes("several_processes")
def several_processes(milvus: Milvus) -> bool:
    code = f"from common.connection import connect\nwith connect({milvus.uri!r}): print('in')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() == "in"


@probes("users")
def users(milvus: Milvus) -> bool:
    return "root" in milvus.client.list_users(timeout=TIMEOUT)


@probes("privilege_groups")
def privilege_groups(milvus: Milvus) -> bool:
    return len(milvus.client.list_privilege_groups(timeout=TIMEOUT)) > 0


@probes("tls")
def tls(milvus: Milvus) -> bool:
    """A server is started with a certificate; Milvus Lite is asked for a TLS handshake."""
    if milvus.kind != "lite":
        with LocalServer(tls="server") as server, connect(server.uri, **server.certificates) as m:
            return m.uri.startswith("https")
    host, port = milvus.client._config.address.split(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as plain:
        try:
            context.wrap_socket(plain).close()
        except (ssl.SSLError, OSError):
            return False
    return True


CRASHES_THE_LOCAL_SERVER = ("TEXT", "GEOMETRY", "TIMESTAMPTZ")


def does(milvus: Milvus, name: str) -> bool:
    """What the engine really does: a refusal is a no."""
    probe = PROBES[name]
    takes_name = probe.__code__.co_argcount == 2
    with quiet_pymilvus():
        try:
            return probe(milvus, name) if takes_name else probe(milvus)
        except (MilvusException, grpc.RpcError):
            return False


@pytest.mark.parametrize("name", [row.name for row in FEATURES])
def test_the_table_tells_what_the_engine_does(milvus: Milvus, name: str) -> None:
    if milvus.label.endswith("(local server)") and name in CRASHES_THE_LOCAL_SERVER:
        pytest.skip("would take the shared server down; see the test of what crashes it")
    of_your_own = milvus.kind != "lite" and "local server" not in milvus.label
    if of_your_own and (name == "tls" or feature(name).setting):
        pytest.skip("whether your Milvus has it is in its configuration")
    told = milvus.can(name)
    assert does(milvus, name) == bool(told), told.reason or f"{milvus.label} should have {name}"


@pytest.mark.parametrize("name", CRASHES_THE_LOCAL_SERVER)
def test_what_crashes_the_local_server_is_told(server_installed: None, name: str) -> None:
    server = LocalServer(environment=QUICK_TICKS)
    try:
        server.start()
        with quiet_pymilvus(), connect(server.uri) as milvus:
            assert not milvus.can(name)
            assert "crashes" in milvus.can(name).reason
            with pytest.raises((MilvusException, grpc.RpcError)):
                PROBES[name](milvus)
        deadline = time.monotonic() + TIMEOUT
        while server.running and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not server.running
    finally:
        server.close()


def test_every_row_has_a_probe() -> None:
    assert set(PROBES) == {row.name for row in FEATURES}
    assert len({row.name for row in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize(
    ("name", "kind", "version", "able"),
    [
        ("IVF_PQ", "lite", "3.2.2", False),
        ("IVF_PQ", "standalone", "2.3.5-lite", True),
        ("group_by", "standalone", "2.3.5-lite", False),
        ("group_by", "standalone", "2.3.5", False),
        ("group_by", "cluster", "2.4.0", True),
        ("AISAQ", "standalone", "2.6.3", False),
        ("AISAQ", "standalone", "2.6.4", True),
        ("TEXT", "standalone", "3.0.2", False),
        ("JSON", "standalone", "3.0.2", True),
        ("GPU_CAGRA", "standalone", "3.0.2", False),
        ("GPU_CAGRA", "standalone", "3.0.2-gpu", True),
    ],
)
def test_release_and_kind_decide(name: str, kind: str, version: str, able: bool) -> None:
    told = capability(name, kind, version)
    assert bool(told) is able
    assert bool(told.reason) is not able


def test_a_reason_names_who_has_it() -> None:
    assert capability("IVF_PQ", "lite", "3.2.2").reason.endswith(
        "the local server 2.3.5 (make server) and Milvus 2.0 or later do"
    )
    reason = capability("group_by", "standalone", "2.3.5-lite").reason
    assert reason == (
        "local server 2.3.5 does not have it (ignores it: one group several times); "
        "Milvus Lite and Milvus 2.4 or later do"
    )


def test_a_misspelt_feature_is_an_error() -> None:
    with pytest.raises(UnknownFeatureError, match="no feature 'HNWS'; the table has: FLAT"):
        feature("HNWS")


def test_release_of_a_version() -> None:
    assert release("v2.6.4-gpu") == (2, 6, 4)
    assert release("3.0") == (3, 0, 0)
    with pytest.raises(ValueError, match="'master' is no version"):
        release("master")
