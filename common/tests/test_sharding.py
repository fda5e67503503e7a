"""Rows spread over several Milvus: where they go, what is found, what moves."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from common.connection import Milvus, connect
from common.index_trial import ids_of
from common.sharding import Sharded, ShardError, merge_hits, shard_of, split_rows
from common.vectors import clustered_vectors, exact_search
from common.workspace import OURS

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient

ROWS, DIMENSION, NAME = 600, 16, "step04_sharded"
VECTORS = clustered_vectors(ROWS + 20, DIMENSION, clusters=10, seed=3)
QUERIES = VECTORS[ROWS:]
THREE, FOUR = ("a", "b", "c"), ("a", "b", "c", "d")
ROUTES = ["c", "a", "a", "c", "c", "b", "b", "a"]
KEYS = st.integers(-(2**63), 2**63 - 1) | st.text()


# Where a row goes


def test_the_routing_is_the_same_everywhere() -> None:
    # Worked out once; a change would send every stored row to another shard.
    keys = [0, 1, -7, 2**62, "1", "", "벡터", "a:b"]
    assert [shard_of(key, THREE) for key in keys] == ROUTES
    code = "from common.sharding import shard_of; import sys; "
    code += f"print([shard_of(k, {THREE}) for k in {keys!r}] == {ROUTES!r})"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "True\n", done.stderr


@given(key=KEYS, shards=st.permutations(FOUR))
def test_the_order_of_the_shards_does_not_matter(key: int | str, shards: list[str]) -> None:
    assert shard_of(key, shards) == shard_of(key, FOUR)


@given(key=KEYS)
def test_a_key_stays_or_goes_to_the_new_shard(key: int | str) -> None:
    assert shard_of(key, FOUR) in (shard_of(key, THREE), "d")


def test_a_fourth_shard_takes_a_fair_share() -> None:
    keys = range(20_000)
    before = [shard_of(key, THREE) for key in keys]
    after = [shard_of(key, FOUR) for key in keys]
    moved = sum(a != b for a, b in zip(before, after, strict=True))
    assert 0.23 <= moved / len(keys) <= 0.27
    for counts, shards in ((Counter(before), 3), (Counter(after), 4)):
        assert max(counts.values()) <= 1.05 * len(keys) / shards


def test_numbers_and_texts_are_different_keys() -> None:
    routes = [(shard_of(key, FOUR), shard_of(str(key), FOUR)) for key in range(200)]
    assert any(number != text for number, text in routes)


@pytest.mark.parametrize("key", [None, 1.0, True, b"1"])
def test_what_is_no_key(key: object) -> None:
    with pytest.raises(TypeError, match="int or a str"):
        shard_of(key, THREE)


def test_no_shard_and_no_key() -> None:
    with pytest.raises(ValueError, match="name at least one"):
        shard_of(1, ())
    with pytest.raises(KeyError, match="row 1 has no 'id'"):
        split_rows([{"id": 1}, {"no": 2}], THREE)


# What is found

HITS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(-3, 3)), max_size=12, unique_by=lambda hit: hit[0]
)


@given(answers=st.lists(HITS, max_size=4), limit=st.integers(1, 10), larger=st.booleans())
def test_merging_is_sorting_all_hits(answers: list, limit: int, larger: bool) -> None:
    sign = -1 if larger else 1
    hits = [[{"id": i, "distance": d} for i, d in answer] for answer in answers]
    for answer in hits:
        answer.sort(key=lambda hit: sign * hit["distance"])
    merged = merge_hits(hits, limit, "IP" if larger else "L2")
    ranked = sorted((sign * d, i) for answer in answers for i, d in answer)
    expected = list(dict.fromkeys(i for _, i in ranked))[:limit]
    assert [hit["id"] for hit in merged] == expected


@pytest.mark.parametrize(("limit", "metric"), [(0, "L2"), (1, "COSIN")])
def test_a_merge_that_makes_no_sense(limit: int, metric: str) -> None:
    with pytest.raises(ValueError, match="metric must be"):
        merge_hits([], limit, metric)


# On several Milvus


def create(client: MilvusClient) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    options = {"consistency_level": "Strong", "properties": OURS, "timeout": 60}
    client.create_collection(NAME, schema=schema, index_params=index_params, **options)


@pytest.fixture
def places(engine: str, milvus: Milvus, tmp_path: Path) -> Iterator[dict[str, Milvus]]:
    """Four Milvus with the collection: files of Milvus Lite, or databases of the one server."""
    with ExitStack() as stack:
        found = {}
        for name in FOUR:
            if milvus.kind == "lite":
                found[name] = stack.enter_context(connect(str(tmp_path / f"{name}.db")))
            else:
                milvus.client.create_database(f"shard_{name}", timeout=20)
                found[name] = stack.enter_context(connect(engine, db_name=f"shard_{name}"))
        with ThreadPoolExecutor() as pool:  # a server takes seconds to load each
            list(pool.map(create, [each.client for each in found.values()]))
        yield found


def rows() -> list[dict]:
    return [{"id": i, "vector": v, "parity": i % 2} for i, v in enumerate(VECTORS[:ROWS])]


def test_three_shards_answer_as_one_and_a_fourth_changes_nothing(
    places: dict[str, Milvus],
) -> None:
    papers = Sharded({name: places[name] for name in THREE}, NAME)
    written = papers.upsert(rows())
    assert written == papers.counts()
    assert sum(written.values()) == ROWS
    assert min(written.values()) > 0
    exact = exact_search(VECTORS[:ROWS], QUERIES, 10)[0].tolist()
    assert ids_of(papers.search(QUERIES, limit=10)) == exact
    assert ids_of(papers.search(QUERIES, limit=4, offset=6)) == [row[6:] for row in exact]
    odd = papers.search(QUERIES, limit=10, filter="parity == 1", output_fields=["parity"])
    among = np.arange(1, ROWS, 2)
    expected = among[exact_search(VECTORS[among], QUERIES, 10)[0]].tolist()
    assert ids_of(odd) == expected
    assert {hit["entity"]["parity"] for hits in odd for hit in hits} == {1}

    moved = papers.grow({"d": places["d"]}, page_rows=100)
    belongs = [shard_of(i, FOUR) for i in range(ROWS)]
    assert moved.moved == belongs.count("d")
    assert moved.share <= 0.30
    assert (moved.rows, moved.per_shard) == (ROWS, Counter(belongs))
    assert ids_of(papers.search(QUERIES, limit=10)) == exact
    assert {row["id"] for row in papers.get([3, 4, ROWS + 5], ["id", "parity"])} == {3, 4}
    papers.delete([exact[0][0]])
    assert ids_of(papers.search(QUERIES[:1], limit=9)) == [exact[0][1:]]
    again = papers.upsert([{"id": exact[0][0], "vector": VECTORS[exact[0][0]], "parity": 5}])
    assert again == {shard_of(exact[0][0], FOUR): 1}
    with pytest.raises(ValueError, match="of that name already: d"):
        papers.grow({"d": places["d"]})


def test_growing_that_was_broken_off_goes_on(places: dict[str, Milvus]) -> None:
    papers = Sharded({name: places[name] for name in THREE}, NAME)
    papers.upsert(rows())
    # One shard has been emptied, and of another a part was copied and not yet deleted.
    leaving = [row for row in rows() if shard_of(row["id"], FOUR) == "d"]
    places["d"].client.upsert(NAME, leaving, timeout=60)
    left = [row["id"] for row in leaving if shard_of(row["id"], THREE) == "a"]
    places["a"].client.delete(NAME, ids=left, timeout=60)
    moved = papers.grow({"d": places["d"]})
    assert moved.moved == len(leaving) - len(left)
    assert moved.rows == ROWS
    assert moved.per_shard["d"] == len(leaving)


def test_a_missing_shard_is_named_and_nothing_pretends_to_be_whole(
    places: dict[str, Milvus],
) -> None:
    papers = Sharded({name: places[name] for name in THREE}, NAME, timeout=10)
    papers.upsert(rows())
    places["b"].client.drop_collection(NAME, timeout=20)
    with pytest.raises(ShardError, match="1 of 3 shards: b: ") as caught:
        papers.search(QUERIES[:1])
    assert (list(caught.value.errors), sorted(caught.value.answered)) == (["b"], ["a", "c"])
    with pytest.raises(ShardError) as caught:
        papers.upsert(rows()[:50])
    assert list(caught.value.errors) == ["b"]
    here = [i for i in range(50) if shard_of(i, THREE) == "a"]
    assert {row["id"] for row in papers.get(here, ["id"])} == set(here)


@pytest.mark.parametrize("wrong", [{}, {"metric": "JACCARD"}])
def test_a_sharded_collection_of_nothing(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"name at least one|metric must be"):
        Sharded({"a": None} if wrong else {}, NAME, **wrong)
