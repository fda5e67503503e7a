"""What a batcher answers is what the bare client answers, and callers do not touch each other."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from common.batching import BatchCounts, BatcherClosed, SearchBatcher, TooManyWaiting
from common.batching_benchmark import COLLECTION, compare_with_bare, prepare, show
from common.connection import Milvus, connect
from common.display import quiet_pymilvus
from common.local_server import LocalServer
from common.vectors import clustered_vectors
from common.workspace import workspace

import numpy as np
import pytest
from pymilvus import AsyncMilvusClient, DataType, MilvusException

NAME, DIMENSION, ROWS = "batching", 16, 400
VECTORS = clustered_vectors(ROWS + 64, DIMENSION, clusters=8)
QUERIES = VECTORS[ROWS:]
PLAIN = {"limit": 5, "output_fields": ["colour"], "timeout": 20}


class Gated:
    """A client whose searches wait at a gate, and are written down."""

    def __init__(self, client: AsyncMilvusClient) -> None:
        self.client, self.gate, self.sent, self.broken_off = client, asyncio.Event(), [], 0

    async def search(self, collection: str, **options: object) -> Sequence:
        self.sent.append(len(options["data"]))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        return await self.client.search(collection, **options)


class Bench(NamedTuple):
    """What a test works with."""

    client: AsyncMilvusClient
    gated: Gated
    batcher: SearchBatcher


@pytest.fixture(scope="module")
def milvus(session_milvus: Milvus) -> Iterator[Milvus]:
    """Milvus with a collection for all tests of this file."""
    client = session_milvus.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("colour", DataType.VARCHAR, max_length=16)
    schema.add_field("year", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    options = {"consistency_level": "Strong", "timeout": 60}
    client.create_collection(NAME, schema=schema, index_params=index_params, **options)
    client.create_partition(NAME, "late", timeout=60)
    rows = [
        {"id": n, "colour": "red" if n % 3 else "blue", "year": 2000 + n % 10, "vector": vector}
        for n, vector in enumerate(VECTORS[:ROWS])
    ]
    client.insert(NAME, rows[:300], timeout=60)
    client.insert(NAME, rows[300:], partition_name="late", timeout=60)
    yield session_milvus
    client.drop_collection(NAME, timeout=60)


@pytest.fixture
def play(milvus: Milvus) -> Callable[..., object]:
    """`play(coroutine function, most=2)`: run it with a bench, whose batcher has these options."""

    @asynccontextmanager
    async def bench(**options: object) -> AsyncIterator[Bench]:
        async with AsyncMilvusClient(**milvus.options) as client:
            gated = Gated(client)
            async with SearchBatcher(gated, **options) as batcher:
                yield Bench(client, gated, batcher)
                gated.gate.set()

    def run(scene: Callable[[Bench], Awaitable[object]], **options: object) -> object:
        async def whole() -> object:
            async with asyncio.timeout(120), bench(**options) as ready:
                return await scene(ready)

        with quiet_pymilvus():
            return asyncio.run(whole())

    return run


def plain(hits: Sequence) -> list[dict]:
    return [dict(hit) for hit in hits]


async def outcomes(*searches: Awaitable[object]) -> list[object]:
    return await asyncio.gather(*searches, return_exceptions=True)


def test_the_answers_are_those_of_the_bare_client(play: Callable) -> None:
    kinds = [
        {"limit": 5, "output_fields": ["id"]},
        {"limit": 3, "output_fields": ["id"]},
        {"limit": 5, "output_fields": ["colour", "year"]},
        {"limit": 5, "output_fields": ["id"], "filter": 'colour == "blue"'},
        {"limit": 5, "output_fields": ["id"], "filter": "year in [2003, 2004]"},
        {"limit": 5, "output_fields": ["id"], "filter": "year > 3000"},  # nothing
        {"limit": 5, "output_fields": ["id"], "partition_names": ["late"]},
        {"limit": 5, "output_fields": ["id"], "consistency_level": "Strong"},
        {"limit": 5, "output_fields": ["id"], "offset": 2},
        {"limit": 5, "output_fields": ["id"], "anns_field": "vector"},
        {"limit": 99, "output_fields": ["id"], "search_params": {"params": {"radius": 0.7}}},
    ]

    async def scene(bench: Bench) -> None:
        bench.gated.gate.set()
        asked = [(query, kinds[n % len(kinds)]) for n, query in enumerate([*QUERIES, *QUERIES])]
        asked = [(q if n % 2 else q.tolist(), kind) for n, (q, kind) in enumerate(asked)]
        together = await asyncio.gather(
            *(bench.batcher.search(NAME, query, timeout=20, **kind) for query, kind in asked)
        )
        for (query, kind), hits in zip(asked, together, strict=True):
            (alone,) = await bench.client.search(NAME, data=[query], timeout=20, **kind)
            assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone], kind
            assert [hit["entity"] for hit in hits] == [hit["entity"] for hit in alone], kind
            # A server multiplies several queries at once, which rounds in another order.
            scores = [[hit["distance"] for hit in each] for each in (hits, alone)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        assert bench.batcher.counts == BatchCounts(len(asked), len(kinds))
        assert sorted(bench.gated.sent) == sorted(
            sum(kind is other for _, kind in asked) for other in kinds
        )
        counts = {
            kind.get("filter"): len(hits) for (_, kind), hits in zip(asked, together, strict=True)
        }
        assert counts["year > 3000"] == 0
        assert counts['colour == "blue"'] == 5

    play(scene)


def test_equal_is_equal_in_type_and_order_of_names_does_not_matter(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        bench.gated.gate.set()
        params = [{"metric_type": "COSINE", "params": {}}, {"params": {}, "metric_type": "COSINE"}]
        search = bench.batcher.search
        await asyncio.gather(*(search(NAME, QUERIES[0], search_params=p, **PLAIN) for p in params))
        assert bench.gated.sent == [2]
        # round_decimal=1 and 1.0 are equal in Python, and pymilvus refuses the second.
        numbers = [search(NAME, QUERIES[0], round_decimal=n, **PLAIN) for n in (1, 1.0)]
        good, bad = await outcomes(*numbers)
        assert len(good) == 5
        assert isinstance(bad, MilvusException)

    play(scene)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ([1.0, float("nan")] * 8, "not finite"),
        ([1e300] * 16, "not finite"),
        ([float("-inf")] * 16, "not finite"),
        ([[1.0] * 16], "shape"),
        ([], "shape"),
        (3.0, "shape"),
        (["a"] * 16, "a vector of numbers"),
        ([1j] * 16, "a vector of numbers"),
        ([[1.0], [1.0, 2.0]], "a vector of numbers"),
        ({"1": 2.0}, "a vector of numbers"),
        (None, "a vector of numbers"),
    ],
)
def test_what_is_no_vector_is_refused_before_it_is_sent(
    play: Callable, query: object, message: str
) -> None:
    async def scene(bench: Bench) -> None:
        bench.gated.gate.set()
        good, bad = await outcomes(
            bench.batcher.search(NAME, QUERIES[0], **PLAIN),
            bench.batcher.search(NAME, query, **PLAIN),
        )
        assert len(good) == 5
        assert isinstance(bad, ValueError)
        assert message in str(bad)
        assert bench.gated.sent == [1]

    play(scene)


def test_a_query_is_copied(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        bench.gated.gate.set()
        buffer = QUERIES[3].copy()
        task = asyncio.create_task(bench.batcher.search(NAME, buffer, **PLAIN))
        await asyncio.sleep(0)
        buffer[:] = QUERIES[4]
        (alone,) = await bench.client.search(NAME, data=[QUERIES[3]], **PLAIN)
        assert [hit["id"] for hit in await task] == [hit["id"] for hit in alone]

    play(scene, wait=0.05)


def test_bad_searches_fail_alone_with_their_own_errors(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        bench.gated.gate.set()
        search = bench.batcher.search
        bad = {
            "dimension": search(NAME, [1.0] * 8, **PLAIN),
            "filter": search(NAME, QUERIES[0], filter="nowhere >", **PLAIN),
            "limit": search(NAME, QUERIES[0], **{**PLAIN, "limit": -1}),
            "collection": search("nowhere", QUERIES[0], **PLAIN),
        }
        good = [search(NAME, query, **PLAIN) for query in QUERIES[:20]]
        answers = await outcomes(*bad.values(), *good)
        expected = await outcomes(*bare_failures(bench.client))
        for what, error, alone in zip(bad, answers[: len(bad)], expected, strict=True):
            assert isinstance(error, Exception), what
            assert type(error) is type(alone), what
            assert str(error).split("[")[0] == str(alone).split("[")[0], what
        for query, hits in zip(QUERIES[:20], answers[len(bad) :], strict=True):
            (alone,) = await bench.client.search(NAME, data=[query], **PLAIN)
            assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone]
        assert bench.batcher.counts.repeated == 0  # they never shared a request with a good one

    play(scene)


def bare_failures(client: AsyncMilvusClient) -> list[Awaitable]:
    query = [QUERIES[0]]
    return [
        client.search(NAME, data=[[1.0] * 8], **PLAIN),
        client.search(NAME, data=query, filter="nowhere >", **PLAIN),
        client.search(NAME, data=query, **{**PLAIN, "limit": -1}),
        client.search("nowhere", data=query, **PLAIN),
    ]


class Refuses(Gated):
    """Refuses a request that has a certain query in it, as a server might."""

    bad = QUERIES[7]

    async def search(self, collection: str, **options: object) -> Sequence:
        self.sent.append(len(options["data"]))
        if any(np.array_equal(self.bad, query) for query in options["data"]):
            raise MilvusException(message=f"refused among {len(options['data'])}")
        return await self.client.search(collection, **options)


def test_a_request_that_fails_is_repeated_one_by_one(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        batcher = SearchBatcher(Refuses(bench.client))
        answers = await outcomes(*(batcher.search(NAME, q, **PLAIN) for q in QUERIES[:20]))
        assert isinstance(answers[7], MilvusException)
        assert answers[7].message == "refused among 1"  # its own error, not that of the batch
        for number, (query, hits) in enumerate(zip(QUERIES[:20], answers, strict=True)):
            if number != 7:
                (alone,) = await bench.client.search(NAME, data=[query], **PLAIN)
                assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone]
        assert batcher.counts == BatchCounts(searches=20, requests=1, repeated=20)
        await batcher.close()

    play(scene)


def test_a_timeout_harms_no_other(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        search = bench.batcher.search
        hasty = asyncio.create_task(search(NAME, QUERIES[0], **{**PLAIN, "timeout": 0.05}))
        patient = [asyncio.create_task(search(NAME, q, **PLAIN)) for q in QUERIES[1:5]]
        with pytest.raises(TimeoutError):
            await hasty
        assert not any(task.done() for task in patient)
        bench.gated.gate.set()
        for query, hits in zip(QUERIES[1:5], await asyncio.gather(*patient), strict=True):
            (alone,) = await bench.client.search(NAME, data=[query], **PLAIN)
            assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone]
        assert bench.gated.sent == [5]
        with pytest.raises(TimeoutError):
            await search(NAME, QUERIES[0], **{**PLAIN, "timeout": 0})

    play(scene)


def test_a_cancellation_harms_no_other(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        search = bench.batcher.search
        tasks = [asyncio.create_task(search(NAME, q, **PLAIN)) for q in QUERIES[:6]]
        await asyncio.sleep(0)  # all wait for others now
        tasks[0].cancel()
        await asyncio.sleep(0.05)
        assert bench.gated.sent == [5]  # who has gone before is not sent
        tasks[1].cancel()
        await asyncio.sleep(0)
        bench.gated.gate.set()
        answers = await outcomes(*tasks)
        assert all(isinstance(each, asyncio.CancelledError) for each in answers[:2])
        assert all(len(hits) == 5 for hits in answers[2:])
        assert bench.gated.broken_off == 0

    play(scene)


def test_a_request_that_nobody_waits_for_is_broken_off(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        tasks = [asyncio.create_task(bench.batcher.search(NAME, q, **PLAIN)) for q in QUERIES[:3]]
        await asyncio.sleep(0.05)
        for task in tasks:
            assert bench.gated.broken_off == 0
            task.cancel()
        await outcomes(*tasks)
        await asyncio.sleep(0)
        assert bench.gated.broken_off == 1

    play(scene)


def test_batches_are_bounded_and_grow_while_all_requests_are_under_way(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        search = bench.batcher.search
        tasks = [asyncio.create_task(search(NAME, QUERIES[n % 64], **PLAIN)) for n in range(11)]
        other = asyncio.create_task(search(NAME, QUERIES[0], filter="year > 2000", **PLAIN))
        await asyncio.sleep(0.05)
        assert bench.gated.sent == [4, 4]  # two requests, and nothing beyond them
        bench.gated.gate.set()
        assert all(len(hits) == 5 for hits in await asyncio.gather(*tasks, other))
        assert sorted(bench.gated.sent) == [1, 3, 4, 4]

    play(scene, most=4, most_requests=2)


def test_too_many_are_refused_and_it_goes_on(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        search = bench.batcher.search
        tasks = [asyncio.create_task(search(NAME, q, **PLAIN)) for q in QUERIES[:5]]
        await asyncio.sleep(0.05)
        with pytest.raises(TooManyWaiting, match="5 searches wait already"):
            await search(NAME, QUERIES[5], **PLAIN)
        tasks[0].cancel()
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(search(NAME, QUERIES[5], **PLAIN)))
        await asyncio.sleep(0)
        bench.gated.gate.set()
        assert all(len(hits) == 5 for hits in (await outcomes(*tasks))[1:])

    play(scene, most_waiting=5)


def test_closing_answers_all_and_takes_no_more(play: Callable) -> None:
    async def scene(bench: Bench) -> None:
        search = bench.batcher.search
        tasks = [asyncio.create_task(search(NAME, q, **PLAIN)) for q in QUERIES[:30]]
        await asyncio.sleep(0)
        closing = asyncio.create_task(bench.batcher.close())
        await asyncio.sleep(0.05)
        assert bench.gated.sent == [4, 4]  # at once, although `wait` is a minute
        assert not closing.done()
        with pytest.raises(BatcherClosed):
            await search(NAME, QUERIES[0], **PLAIN)
        bench.gated.gate.set()
        await closing
        assert bench.batcher.counts.searches == 30
        assert all(len(hits) == 5 for hits in await asyncio.gather(*tasks))
        await bench.batcher.close()  # once more does nothing

    play(scene, most=4, most_requests=2, wait=60)


@pytest.mark.parametrize(
    "option", ["most", "most_requests", "most_waiting", "timeout", "wait"]
)  # fmt: skip
def test_numbers_that_are_too_small_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        SearchBatcher(None, **{option: -1 if option == "wait" else 0})


def test_it_is_faster_than_the_bare_client(shared_server: LocalServer, full: bool) -> None:
    """100 callers at once, in turns with the bare client; --full is the size that is promised."""
    rows, searches, factor = (100_000, 3_000, 3.0) if full else (5_000, 1_000, 1.5)
    with connect(shared_server.uri) as milvus, workspace(milvus.client, COLLECTION):
        queries = prepare(milvus, COLLECTION, rows, 384)
        pairs = compare_with_bare(milvus, COLLECTION, queries, 100, searches)
    show(pairs)
    ratio = statistics.median(batched.rate / bare.rate for bare, batched in pairs)
    p95 = [statistics.median(run.p95 for run in runs) for runs in zip(*pairs, strict=True)]
    assert ratio >= factor, pairs
    assert p95[1] < p95[0], pairs
