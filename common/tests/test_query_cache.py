"""A cache answers as Milvus does, forgets at a write, and lets Milvus answer where it fails."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common.local_server import free_ports
from common.query_cache import MemoryStore, QueryCache, RedisStore, Store, StoreFailed

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

NAME = "query_cache"
OPTIONS = {"limit": 3, "output_fields": ["id", "colour"], "timeout": 20}
VECTORS = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def redis_url(
    part: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Redis of this file alone."""
    program = part("redis-server", "apt-get install redis-server")
    folder, port = tmp_path_factory.mktemp("redis"), free_ports(1)[0]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        url = f"redis://127.0.0.1:{port}/0"
        for _ in range(100):
            try:
                RedisStore(url, "ready").close()
                break
            except StoreFailed:
                time.sleep(0.05)
        yield url
        process.terminate()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(100)
        return
    redis = RedisStore(request.getfixturevalue("redis_url"), "test")
    yield redis
    redis.clear()
    redis.close()


@pytest.fixture
def stored(client: MilvusClient) -> MilvusClient:
    """The client of a Milvus that has a collection of 50 rows."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("colour", DataType.VARCHAR, max_length=16)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="L2")
    options = {"consistency_level": "Strong", "timeout": 60}
    client.create_collection(NAME, schema=schema, index_params=index_params, **options)
    client.insert(NAME, [row(number, vector) for number, vector in enumerate(VECTORS)], timeout=60)
    return client


def row(number: int, vector: np.ndarray, colour: str = "빨강") -> dict:
    return {"id": number, "colour": colour, "vector": vector}


def test_answers_equal_those_of_milvus_until_a_write(stored: MilvusClient, store: Store) -> None:
    cache, asked = QueryCache(store), 0
    strong = {**OPTIONS, "consistency_level": "Strong"}

    def answer(query: np.ndarray) -> list[dict]:
        def search() -> list:
            nonlocal asked
            asked += 1
            return stored.search(NAME, data=[query], **strong)

        return cache.answer(search, NAME, query, strong)

    for query in VECTORS[:5]:
        (bare,) = stored.search(NAME, data=[query], **strong)
        for _ in range(3):
            hits = answer(query)
            assert hits == [dict(hit) for hit in bare]
            hits[0]["entity"]["colour"] = "changed"  # nobody else sees that
            hits.pop()
    assert (asked, cache.counts.hits, cache.counts.misses) == (5, 10, 5)
    assert cache.counts.hit_rate == pytest.approx(2 / 3)

    with cache.writing(NAME):
        stored.upsert(NAME, [row(900, VECTORS[0], "blue")], timeout=60)
    assert {hit["id"] for hit in answer(VECTORS[0])[:2]} == {0, 900}
    with cache.writing(NAME):
        stored.delete(NAME, ids=[900], timeout=60)
    assert 900 not in {hit["id"] for hit in answer(VECTORS[0])}
    assert asked == 7
    assert len(answer(VECTORS[0])) == 3
    assert asked == 7  # a Strong answer is kept at once


def counted(answers: list) -> tuple[Callable[[], list], list]:
    """A search that gives these hits, and a list that grows with each."""
    calls = []

    def search() -> list:
        calls.append(1)
        return [answers]

    return search, calls


def test_what_is_asked_makes_the_key(store: Store) -> None:
    cache = QueryCache(store, settling=0)
    ones = [1.0] * 4
    asked = [
        ("a", ones, {"limit": 3}),
        ("b", ones, {"limit": 3}),
        ("a", [1.0] * 5, {"limit": 3}),
        ("a", ones, {"limit": 4}),
        ("a", ones, {"limit": 3, "filter": "x > 1"}),
        ("a", "words", {"limit": 3}),
        ("a", "word", {"limit": 3}),
    ]
    for number, each in enumerate(asked):
        search, calls = counted([{"id": number}])
        assert cache.answer(search, *each) == [{"id": number}]
        assert calls == [1]
    for number, (collection, query, options) in enumerate(asked):
        search, calls = counted([{"id": 99}])
        again = query if isinstance(query, str) else np.array(query, np.float32)
        backwards = dict(reversed([*options.items(), ("timeout", number)]))
        assert cache.answer(search, collection, again, backwards) == [{"id": number}]
        assert calls == []
    with cache.writing("a"):
        pass
    search, calls = counted([])
    cache.answer(search, *asked[1])  # the other collection's answers stay
    assert calls == []
    cache.answer(search, *asked[0])
    assert calls == [1]


def test_answers_from_around_a_write_are_not_kept(store: Store) -> None:
    cache, query = QueryCache(store, settling=0.3), [1.0, 2.0]
    with cache.writing("a"):
        pass
    search, calls = counted([{"id": 1}])
    for _ in range(2):
        cache.answer(search, "a", query, {})  # Bounded: the write may not be seen yet
    assert len(calls) == 2
    time.sleep(0.35)
    for _ in range(2):
        cache.answer(search, "a", query, {})
    assert len(calls) == 3

    def search_while_somebody_writes() -> list:
        with cache.writing("a"):
            return [[{"id": 2}]]  # from before the write

    other = [3.0, 4.0]
    cache.answer(search_while_somebody_writes, "a", other, {"consistency_level": "Strong"})
    search, calls = counted([{"id": 3}])
    assert cache.answer(search, "a", other, {"consistency_level": "Strong"}) == [{"id": 3}]


def test_a_failed_write_forgets_as_well(store: Store) -> None:
    cache = QueryCache(store, settling=0)
    search, calls = counted([])
    cache.answer(search, "a", [1.0], {})

    def write() -> None:
        with cache.writing("a"):
            cache.answer(search, "a", [1.0], {})
            raise RuntimeError("the answer was lost")

    with pytest.raises(RuntimeError, match="lost"):
        write()
    cache.answer(search, "a", [1.0], {})
    assert len(calls) == 3


def test_answers_end(store: Store) -> None:
    cache = QueryCache(store, seconds=0.2)
    search, calls = counted([])
    for _ in range(2):
        cache.answer(search, "a", [1.0], {})
    time.sleep(0.25)
    cache.answer(search, "a", [1.0], {})
    assert len(calls) == 2
    store.clear()
    cache.answer(search, "a", [1.0], {})
    assert len(calls) == 3


def test_what_json_cannot_hold_is_not_kept(store: Store) -> None:
    cache = QueryCache(store)
    search, calls = counted([{"id": 1, "entity": {"bits": b"\x01"}}])
    for _ in range(2):
        assert cache.answer(search, "a", [1.0], {})[0]["entity"]["bits"] == b"\x01"
    assert len(calls) == 2
    with pytest.raises(TypeError):
        cache.answer(search, "a", [1.0], {"ranker": object()})
    assert len(calls) == 2


def test_memory_keeps_the_latest() -> None:
    store = MemoryStore(entries=2)
    store.put("mark", b"m", None)
    for key in ("a", "b"):
        store.put(key, key.encode(), 60)
    assert store.get("a") == [b"a"]
    store.put("c", b"c", 60)  # b was used longest ago
    assert store.get("a", "b", "c", "mark") == [b"a", None, b"c", b"m"]
    with pytest.raises(ValueError, match="entries"):
        MemoryStore(0)
    for wrong in ({"seconds": 0}, {"settling": -1}):
        with pytest.raises(ValueError, match="seconds"):
            QueryCache(store, **wrong)


def test_two_processes_share_redis_and_names_are_apart(redis_url: str) -> None:
    one, two, other = (RedisStore(redis_url, name) for name in ("pro*", "pro*", "project"))
    first, second, third = (QueryCache(each, settling=0) for each in (one, two, other))
    search, calls = counted([{"id": 1}])
    first.answer(search, "a", [1.0], {})
    third.answer(search, "a", [1.0], {})
    second.answer(search, "a", [1.0], {})
    assert (len(calls), second.counts.hits) == (2, 1)
    with second.writing("a"):
        pass
    first.answer(search, "a", [1.0], {})
    assert len(calls) == 3
    one.clear()  # the * is no pattern
    third.answer(search, "a", [1.0], {})
    assert third.counts.hits == 1
    for store in (one, two, other):
        store.clear()
        store.close()


def test_without_redis_milvus_answers_and_writes_are_refused(
    part: Callable[[str, str], str], tmp_path: Path
) -> None:
    program, port = part("redis-server", "apt-get install redis-server"), free_ports(1)[0]
    url = f"redis://:secret@127.0.0.1:{port}/0"
    with pytest.raises(StoreFailed, match=rf"no Redis at 127.0.0.1:{port}") as caught:
        RedisStore(url, "test")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreFailed, match="no URL"):
        RedisStore("http://localhost", "test")

    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]
    command += ["--requirepass", "secret"]
    search, calls = counted([{"id": 1}])
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        store = None
        while store is None:
            try:
                store = RedisStore(url, "test")
            except StoreFailed:
                time.sleep(0.05)
        cache = QueryCache(store, settling=0)
        cache.answer(search, "a", [1.0], {})
        process.terminate()
    assert cache.answer(search, "a", [1.0], {}) == [{"id": 1}]
    assert len(calls) == 2
    assert cache.counts.store_failures == 1
    written = []
    with pytest.raises(StoreFailed), cache.writing("a"):
        written.append(1)
    assert written == []
    store.close()
