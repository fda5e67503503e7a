"""Data types: what a field can hold, what comes back, and what never gets in.

    python step01_basics/04_data_types.py

You see every type of Milvus 3.0 with its limits, send values from the edge of each and compare
what comes back, store the same papers in each vector type and measure what fewer bytes cost in
recall, and have bad rows refused before anything is sent.

Needs: any Milvus (Milvus Lite by default)
Read:  docs/en/step01_basics.md#data-types
"""

import argparse
import sys
from dataclasses import dataclass

from common import data_types
from common.connection import Milvus, connect
from common.data_types import DEFAULT, NOTHING, RoundTrip, raw_bytes
from common.datasets import paper_queries, papers
from common.display import heading, left_out, run, save_chart, say, table
from common.embedding import cached, text_encoder
from common.refusals import refusal
from common.schema import check_rows
from common.vectors import exact_search, recall
from common.workspace import OURS, workspace

import numpy as np
from numpy.typing import NDArray
from pymilvus import CollectionSchema, DataType, MilvusClient

COLLECTION = "step01_types"
TIMEOUT = 60.0  # seconds; without one, pymilvus repeats a failing call for minutes
K = 10  # neighbours that a search looks for
QUICK = 100  # papers, of 314
METRICS = {"BINARY_VECTOR": "HAMMING", "SPARSE_FLOAT_VECTOR": "IP"}  # of the others: COSINE

Matrix = NDArray[np.float32]


def create(client: MilvusClient, schema: CollectionSchema, metric: str) -> None:
    """Make a collection that is loaded and lets each read see every write before it."""
    index_params = client.prepare_index_params()
    index = "SPARSE_INVERTED_INDEX" if metric == "IP" else "AUTOINDEX"
    index_params.add_index("vector", index_type=index, metric_type=metric)
    options = {"consistency_level": "Strong", "properties": OURS, "timeout": TIMEOUT}
    client.create_collection(COLLECTION, schema=schema, index_params=index_params, **options)


def limits(milvus: Milvus) -> dict[str, tuple[str, str] | None]:
    """Every type in one table; then one step beyond each limit: who notices?"""
    table("The types of Milvus 3.0", data_types.TYPE_COLUMNS, data_types.type_table(milvus.can))
    say(
        "since: the release of Milvus that brought it; the local server is of 2.3.5. TEXT is off "
        "in a Milvus as installed: Storage V3 (common.storage.useLoonFFI) brings it. Milvus 3.0.2 "
        "has MOL as well, for molecules, which pymilvus 3.0.2 does not know yet."
    )
    answers = data_types.one_step_too_far(milvus.client, COLLECTION, timeout=TIMEOUT)
    rows = [(tried, *(answer or ("nobody", ""))) for tried, answer in answers.items()]
    table(f"One step too far with {milvus.label}", ("tried", "refused by", "why"), rows)
    noticed = sum(answer is not None for answer in answers.values())
    say(f"{milvus.label} notices {noticed} of {len(answers)}. Another Milvus may notice others.")
    return answers


def scalar_schema(milvus: Milvus) -> CollectionSchema:
    """A field of each scalar type that this Milvus has."""
    client, array = milvus.client, {"datatype": DataType.ARRAY, "max_capacity": 4}
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    for name in ("bool", "int8", "int16", "int32", "int64", "float", "double", "json"):
        schema.add_field(name, DataType[name.upper()])
    schema.add_field("varchar", DataType.VARCHAR, max_length=100)
    schema.add_field("array_varchar", **array, element_type=DataType.VARCHAR, max_length=20)
    schema.add_field("array_float", **array, element_type=DataType.FLOAT)
    schema.add_field("default", DataType.VARCHAR, max_length=10, default_value=DEFAULT)
    if milvus.can("nullable"):
        schema.add_field("nullable", DataType.INT64, nullable=True)
    for name in ("geometry", "timestamptz"):
        if milvus.can(name.upper()):
            schema.add_field(name, DataType[name.upper()])
    if milvus.can("STRUCT"):
        page = client.create_struct_field_schema()
        page.add_field("page", DataType.INT64)
        options = {"element_type": DataType.STRUCT, "struct_schema": page}
        schema.add_field("array_struct", **array, **options)
    if milvus.can("TEXT"):
        schema.add_field("text", DataType.TEXT)
    return schema


def round_trip(milvus: Milvus) -> list[RoundTrip]:
    """Send two rows of values from the edges, read them back, and compare."""
    client, schema = milvus.client, scalar_schema(milvus)
    create(client, schema, "COSINE")
    rows = [{**row, "vector": [0.0, 1.0]} for row in data_types.edge_rows(schema)]
    for row in rows:  # 2.3.5 fills a default in where the whole batch lacks the field, or fails
        client.insert(COLLECTION, [row], timeout=TIMEOUT)
    back = client.query(COLLECTION, filter="id >= 0", output_fields=["*"], timeout=TIMEOUT)
    lowest = f"int64 == {-(2**63)}"
    unreachable = refusal(client.query, COLLECTION, filter=lowest, timeout=TIMEOUT)
    client.drop_collection(COLLECTION)
    trips = data_types.round_trips(rows, back)
    shown = [trip.cells() for trip in trips]
    table("There and back", ("field", "sent", "received", "equal"), shown)
    if unreachable:
        say(f"A value can come back and be out of reach: {lowest} fails, {unreachable[1]}.")
    for reason, names in data_types.missing(milvus.can, "scalar", "nullable").items():
        left_out(", ".join(names), reason)
    changed = [trip.field for trip in trips if trip.equal == "NO"]
    if changed:
        raise RuntimeError(f"{milvus.label} changed the values of {', '.join(changed)}")
    return trips


@dataclass(frozen=True)
class Stored:
    """Vectors of one type in this Milvus."""

    bytes_each: int
    alike: int  # how many came back as they were sent
    itself: int  # how many find themselves first
    found: list[list[int]]  # the ids that each query finds


def store(client: MilvusClient, data_type: str, vectors: list, queries: list) -> Stored:
    """Insert vectors of one type, read them all back, and search."""
    sparse = data_type == "SPARSE_FLOAT_VECTOR"
    dim = {} if sparse else {"dim": data_types.numbers(data_type, vectors[:1]).shape[1]}
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType[data_type], **dim)
    create(client, schema, METRICS.get(data_type, "COSINE"))
    rows = [{"id": n, "vector": vector} for n, vector in enumerate(vectors)]
    client.insert(COLLECTION, rows, timeout=TIMEOUT)
    back = client.query(COLLECTION, filter="id >= 0", output_fields=["vector"], timeout=TIMEOUT)
    search = {"anns_field": "vector", "timeout": TIMEOUT}
    nearest = client.search(COLLECTION, vectors, limit=1, **search)
    found = client.search(COLLECTION, queries, limit=K, **search)
    client.drop_collection(COLLECTION)
    return Stored(
        bytes_each=round(np.mean([len(raw_bytes(vector)) for vector in vectors])),
        alike=sum(raw_bytes(row["vector"]) == raw_bytes(vectors[row["id"]]) for row in back),
        itself=sum(hits[0]["id"] == n for n, hits in enumerate(nearest)),
        found=[[hit["id"] for hit in hits] for hits in found],
    )


def vector_types(
    milvus: Milvus, texts: list[str], documents: Matrix, queries: Matrix
) -> dict[str, Stored]:
    """Store the papers in each vector type that this Milvus has."""
    words = data_types.word_counts(texts)
    sent = data_types.packed(documents) | {"SPARSE_FLOAT_VECTOR": words}
    asked = data_types.packed(queries) | {"SPARSE_FLOAT_VECTOR": words[:1]}
    stored = {
        name: store(milvus.client, name, sent[name], asked[name])
        for name in sent
        if milvus.can(name)
    }
    rows = [
        (name, METRICS.get(name, "COSINE"), one.bytes_each, one.alike, one.itself)
        for name, one in stored.items()
    ]
    columns = ("type", "metric", "bytes each", "came back alike", "find themselves")
    table(f"{len(texts)} papers in each vector type", columns, rows)
    for reason, names in data_types.missing(milvus.can, "vector").items():
        left_out(", ".join(names), reason)
    return stored


def precision(
    milvus: Milvus, documents: Matrix, queries: Matrix, stored: dict[str, Stored]
) -> dict[str, tuple[int, float, float | None]]:
    """For each dense type: bytes of a vector, recall against float32 in NumPy and in Milvus."""
    scores = exact_search(documents, queries, K)[1]
    sent, asked, measured = data_types.packed(documents), data_types.packed(queries), {}
    for name, vectors in sent.items():
        corpus, wanted = (data_types.numbers(name, part) for part in (vectors, asked[name]))
        found = exact_search(corpus, wanted, K)[0]
        measured[name] = (
            len(raw_bytes(vectors[0])),
            recall(found, scores, documents, queries),
            recall(stored[name].found, scores, documents, queries) if name in stored else None,
        )
    rows = [
        (name, size, f"{size * 1e6 / 2**30:.2f} GiB", f"{numpy:.3f}", here and f"{here:.3f}")
        for name, (size, numpy, here) in measured.items()
    ]
    columns = ("type", "bytes each", "a million", "in NumPy", f"in {milvus.label}")
    table(f"recall@{K} against float32", columns, rows)
    say(
        "This is what the number format costs: NumPy compares every vector, and so does Milvus "
        "while a collection is this small. An index adds its own loss to it."
    )
    return measured


def entity(key: int, **changes: object) -> dict[str, object]:
    """A good row but for `changes`."""
    good = {"id": key, "title": "벡터", "year": 2026, "price": 1.5, "vector": GOOD_VECTOR}
    return {name: value for name, value in (good | changes).items() if value is not NOTHING}


GOOD_VECTOR = [0.1, 0.2, 0.3, 0.4]
BAD_ROWS = {
    "wrong dimension": [entity(10, vector=[0.1, 0.2, 0.3])],
    "NaN in a vector": [entity(11, vector=[0.1, float("nan"), 0.3, 0.4])],
    "infinity in a vector": [entity(12, vector=[0.1, float("inf"), 0.3, 0.4])],
    "NaN in a FLOAT": [entity(13, price=float("nan"))],
    "text too long": [entity(14, title="벡터 데이터베이스")],
    "missing field": [entity(15, title=NOTHING)],
    "unknown field": [entity(16, titel="벡터")],
    "wrong type": [entity(17, year="2026")],
    "out of range": [entity(18, year=40_000)],
    "one key twice": [entity(19), entity(19, title="둘째")],
    "no rows": [],
}


def count(client: MilvusClient) -> int:
    """How many entities the collection has now."""
    return client.query(COLLECTION, output_fields=["count(*)"], timeout=TIMEOUT)[0]["count(*)"]


def check_bad_rows(client: MilvusClient) -> list[tuple[str, ...]]:
    """Check all bad rows as one batch: every problem is found, and nothing is sent."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("title", DataType.VARCHAR, max_length=12)
    schema.add_field("year", DataType.INT16)
    schema.add_field("price", DataType.FLOAT)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    create(client, schema, "L2")
    client.insert(COLLECTION, [entity(1)], timeout=TIMEOUT)
    kinds = [kind for kind, rows in BAD_ROWS.items() for _ in rows]
    problems = check_rows(schema, [one for rows in BAD_ROWS.values() for one in rows])
    rows = [(str(p.row), kinds[p.row], p.field, p.problem, p.hint) for p in problems]
    rows += [("", "no rows", "", p.problem, p.hint) for p in check_rows(schema, [])]
    columns = ("row", "kind", "field", "problem", "what to do")
    table("What check_rows() says before anything is sent", columns, rows)
    say(f"The collection has {count(client)} entity, the good one: nothing was sent.")
    return rows


def send_unchecked(milvus: Milvus) -> dict[str, tuple[str, str]]:
    """Send the same rows without a check: who refuses them, or what becomes of them."""
    client, answers = milvus.client, {}
    for kind, rows in BAD_ROWS.items():
        before = count(client)
        answer = refusal(client.insert, COLLECTION, rows, timeout=TIMEOUT)
        stored = count(client) - before
        answers[kind] = answer or ("nobody", fate(client, rows, stored) if rows else "stored 0")
        if stored:
            client.delete(COLLECTION, ids=[rows[0]["id"]], timeout=TIMEOUT)
    shown = [(kind, *answer) for kind, answer in answers.items()]
    title = f"The same rows sent to {milvus.label} unchecked"
    table(title, ("kind", "refused by", "answer"), shown)
    taken = ", ".join(kind for kind, (who, _) in answers.items() if who == "nobody")
    say(f"Taken without a word: {taken}. Check rows before you send them.")
    return answers


def fate(client: MilvusClient, rows: list[dict], stored: int) -> str:
    """What became of rows with one key that were taken: what a query and a search say."""
    of_key = {"filter": f"id == {rows[0]['id']}", "timeout": TIMEOUT}
    back = client.query(COLLECTION, output_fields=["title", "price"], **of_key)[0]
    hit = client.search(COLLECTION, [GOOD_VECTOR], limit=1, **of_key)[0][0]
    found = f"title {back['title']!r}, price {back['price']}, L2 distance {hit['distance']}"
    return f"stored {stored} of {len(rows)}; found by its key: {found}"


def main() -> None:
    """Run the sections in order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} papers (default: all 314)")
    quick = parser.parse_args().quick
    with connect() as milvus, workspace(milvus.client, COLLECTION):
        heading("1. The types and their limits")
        limits(milvus)
        heading("2. Scalars, there and back")
        round_trip(milvus)
        heading("3. Vectors, there and back")
        encoder = cached(text_encoder())
        texts = [paper.text for paper in papers()][: QUICK if quick else None]
        say(f"{len(texts)} papers as {encoder.name} sees them: {encoder.dimension} dimensions.")
        documents = encoder.encode_documents(texts)
        queries = encoder.encode_queries([query.query for query in paper_queries()])
        stored = vector_types(milvus, texts, documents, queries)
        heading("4. What fewer bytes cost in recall")
        measured = precision(milvus, documents, queries, stored)
        save_chart(data_types.precision_chart(measured, f"recall@{K}"), "step01_04_precision")
        heading("5. Bad rows")
        check_bad_rows(milvus.client)
        send_unchecked(milvus)


if __name__ == "__main__":
    sys.exit(run(main))
