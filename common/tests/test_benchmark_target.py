"""What a benchmark searches: true neighbours by hand, collections of others left as they are."""

from collections import Counter
from collections.abc import Callable

from common.benchmark_target import NoTarget, Target, existing_target, target_of
from common.connection import Milvus
from common.index_trial import params_for
from common.vector_files import VectorFile, VectorFileError
from common.vector_sets import VectorSet
from common.vectors import clustered_vectors
from common.workspace import OURS

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

NAME = "benchmark_target_test"
HOW = {"params": {}, "k": 3, "queries": 20, "timeout": 60.0}


def line() -> Target:
    """Rows at 0, 1, 2, 3 and 3 on a line; queries at 0 and at 3."""
    rows = np.array([[0.0], [1.0], [2.0], [3.0], [3.0]], np.float32)
    sample = VectorSet("a line", rows, np.array([[0.1], [2.9]], np.float32), "L2", 2)
    return target_of(sample, "line", {"ef": 8}, 2.0)


def test_recall_of_answers_by_hand() -> None:
    target = line()
    assert target.recall(Counter({(0, (0, 1)): 1})) == 1.0
    assert target.recall(Counter({(0, (0, 4)): 1})) == 0.5
    # Three right answers and one half right: (3 + 0.5) / 4.
    assert target.recall(Counter({(0, (0, 1)): 3, (0, (0, 2)): 1})) == 0.875
    # An answer that lacks a row, one twice the same row, and one with nothing.
    assert target.recall(Counter({(0, (0,)): 1, (1, (3, 3)): 1, (1, ()): 2})) == 0.25
    assert target.recall(Counter()) is None


def test_keys_that_are_no_row_numbers() -> None:
    plain = line()
    target = Target("", plain.request, plain.sample, keys=["a", "b", "c", "d", "e"])
    assert target.recall(Counter({(1, ("d", "e")): 1})) == 1.0
    # "new" was written by somebody else since: it is no true neighbour.
    assert target.recall(Counter({(0, ("a", "new")): 1})) == 0.5
    assert (
        Target("", plain.request, plain.sample, complete=False).recall(Counter({(0, (0,)): 1}))
        is None
    )


def test_the_request_is_what_json_can_hold() -> None:
    target = line()
    assert target.request == {
        "collection_name": "line",
        "anns_field": "vector",
        "limit": 2,
        "search_params": {"params": {"ef": 8}},
        "output_fields": ["id"],
        "timeout": 2.0,
    }
    assert target.collection == "line"
    assert [row["id"] for row in target.rows] == [0, 1, 2, 3, 4]


VECTORS = clustered_vectors(300, 8, clusters=10, seed=3)


@pytest.fixture
def make(milvus: Milvus) -> Callable[..., MilvusClient]:
    """Make a collection as a stranger would: keys of texts, other names, another field."""

    def make_collection(metric: str = "L2", index: bool = True, **options: object) -> MilvusClient:
        client = milvus.client
        schema = client.create_schema()
        schema.add_field("code", DataType.VARCHAR, max_length=16, is_primary=True)
        schema.add_field("price", DataType.INT64)
        schema.add_field("picture", DataType.FLOAT_VECTOR, dim=8)
        client.create_collection(NAME, schema=schema, timeout=60, **options)
        if index:
            ask = client.prepare_index_params()
            params = params_for(milvus, {"M": 8, "efConstruction": 64})
            ask.add_index("picture", "HNSW", "a_name", metric_type=metric, params=params)
            client.create_index(NAME, ask, timeout=60)
            client.load_collection(NAME, timeout=60)
        rows = [
            {"code": f"row {n}", "price": n, "picture": vector} for n, vector in enumerate(VECTORS)
        ]
        client.insert(NAME, rows, timeout=60)
        return client

    return make_collection


def all_rows(client: MilvusClient) -> dict[str, list[float]]:
    options = {"output_fields": ["code", "picture"], "limit": 1_000, "timeout": 60}
    found = client.query(NAME, filter="price >= 0", consistency_level="Strong", **options)
    return {row["code"]: list(row["picture"]) for row in found}


def test_a_collection_of_somebody_else(make: Callable[..., MilvusClient], milvus: Milvus) -> None:
    client = make()
    before = all_rows(client), client.describe_collection(NAME)
    target = existing_target(milvus, NAME, **HOW)
    assert target.complete
    assert target.sample.metric == "L2"
    assert target.request["anns_field"] == "picture"
    assert target.request["output_fields"] == ["code"]
    assert len(target.keys) == len(set(target.keys)) == 300
    for key, vector in zip(target.keys, target.sample.vectors, strict=True):
        assert vector == pytest.approx(VECTORS[int(key.removeprefix("row "))])
    assert target.queries.shape == (20, 8)
    distances = np.linalg.norm(target.queries[:, None] - VECTORS[None], axis=2)
    assert distances.min() > 0.01  # none of the queries is a stored row
    nearest = np.argsort(distances, axis=1)[:, :3]
    right = {(n, tuple(f"row {row}" for row in rows)): 1 for n, rows in enumerate(nearest)}
    assert target.recall(Counter(right)) == 1.0
    (hits,) = client.search(data=[target.queries[0]], **target.request)
    assert set(hits.ids) == {f"row {row}" for row in nearest[0]}
    assert (all_rows(client), client.describe_collection(NAME)) == before

    with pytest.raises(NoTarget, match="was not made by a script of this project"):
        existing_target(milvus, NAME, **HOW, writes=True)
    with pytest.raises(NoTarget, match="no field 'price' of FLOAT_VECTOR: --field is one of pict"):
        existing_target(milvus, NAME, **HOW, field="price")
    few = existing_target(milvus, NAME, **HOW, most=100)
    assert not few.complete
    assert len(few.keys) == 100
    asked = VectorFile(VECTORS[:5])
    assert existing_target(milvus, NAME, **HOW, asked=asked).queries == pytest.approx(VECTORS[:5])
    with pytest.raises(VectorFileError, match="4 dimensions and those of the collection 8"):
        existing_target(milvus, NAME, **HOW, asked=VectorFile(VECTORS[:5, :4]))
    with pytest.raises(NoTarget, match="has too few rows: 300"):
        existing_target(milvus, NAME, **{**HOW, "k": 301})
    client.release_collection(NAME, timeout=60)
    with pytest.raises(NoTarget, match="is not loaded, and a benchmark changes nothing"):
        existing_target(milvus, NAME, **HOW)
    assert client.get_load_state(NAME, timeout=60)["state"].name == "NotLoad"


def test_rows_to_write_again_are_whole(make: Callable[..., MilvusClient], milvus: Milvus) -> None:
    client = make("COSINE", properties=OURS)
    target = existing_target(milvus, NAME, **HOW, writes=True)
    assert len(target.rows) == 300
    assert {row["code"]: row["price"] for row in target.rows} == {f"row {n}": n for n in range(300)}
    client.upsert(NAME, list(target.rows[:20]), timeout=60)
    assert all_rows(client) == {
        f"row {n}": pytest.approx(vector.tolist()) for n, vector in enumerate(VECTORS)
    }


def test_what_cannot_be_measured(make: Callable[..., MilvusClient], milvus: Milvus) -> None:
    make(index=False)
    with pytest.raises(NoTarget, match="there is no collection 'nowhere'"):
        existing_target(milvus, "nowhere", **HOW)
    with pytest.raises(NoTarget, match="the field 'picture' of the collection"):
        existing_target(milvus, NAME, **HOW)
