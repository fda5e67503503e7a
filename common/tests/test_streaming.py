"""A follower on a real broker, with a `write` that fails as each test wants it to."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from common.change_messages import Batch, MessageReader, delete_message, upsert_message
from common.kafka_broker import INSTALL_LINE, KafkaBroker
from common.kafka_topics import (
    KafkaFailed,
    client_config,
    committed,
    create_topic,
    read_topic,
    send_all,
)
from common.loading import outlook
from common.measuring import wait_until
from common.stream_reports import progress_line
from common.streaming import Follower, StreamFailed, StreamOptions, StreamStats

import grpc
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.exceptions import ParamError


@pytest.fixture(scope="module")
def config(part: Callable[[str, str], str]) -> Iterator[dict[str, object]]:
    part("noida-db", INSTALL_LINE)
    with KafkaBroker() as broker:
        yield client_config(broker.bootstrap)


@pytest.fixture
def topic(config: dict) -> str:
    name = f"t-{uuid4().hex[:8]}"
    create_topic(config, name, 3)
    return name


@pytest.fixture(scope="module")
def reader() -> MessageReader:
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    return MessageReader(schema.to_dict())


def upserts(count: int, first: int = 0) -> list[tuple[bytes, bytes]]:
    return [upsert_message({"id": n, "vector": [n, 1.0]}) for n in range(first, first + count)]


class Store:
    """What was written, in its order; fails with the next of `errors` as long as there are some."""

    def __init__(self, *errors: Exception) -> None:
        self.rows: dict[int, list[float]] = {}
        self.batches: list[Batch] = []
        self.errors = list(errors)

    def write(self, batch: Batch) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(batch)
        self.rows.update({row["id"]: row["vector"] for row in batch.rows})
        for id in batch.deleted:
            self.rows.pop(id, None)


class AnswerOfGrpc(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


AWAY = AnswerOfGrpc(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")


def options(topic: str, **others: object) -> StreamOptions:
    return StreamOptions(topic, f"{topic}-group", f"{topic}-dead", **others)


def to_the_end(follower: Follower) -> StreamStats:
    return follower.run(threading.Event(), until_end=True)


def test_every_message_is_written_and_committed(
    config: dict, topic: str, reader: MessageReader
) -> None:
    messages = [*upserts(4_000), *(delete_message(n) for n in range(0, 4_000, 2))]
    send_all(config, topic, messages)
    store = Store()
    stats = to_the_end(Follower(config, options(topic, batch=70), reader, store.write))
    assert store.rows == {n: [n, 1.0] for n in range(1, 4_000, 2)}
    assert stats.read == stats.written == 6_000
    assert (stats.lag, stats.dead, stats.retries, stats.abandoned) == (0, 0, 0, 0)
    assert committed(config, topic, f"{topic}-group") == 6_000
    assert all(len(batch.changes) <= 70 for batch in store.batches)
    # Another run finds nothing; a new group reads all of it again, to the same end.
    assert to_the_end(Follower(config, options(topic), reader, store.write)).read == 0
    again = StreamOptions(topic, f"{topic}-again", f"{topic}-dead")
    assert to_the_end(Follower(config, again, reader, store.write)).written == 6_000
    assert store.rows == {n: [n, 1.0] for n in range(1, 4_000, 2)}


def test_nothing_is_committed_before_it_is_written(
    config: dict, topic: str, reader: MessageReader
) -> None:
    send_all(config, topic, upserts(300))
    seen = []

    def write(batch: Batch) -> None:
        seen.append((committed(config, topic, f"{topic}-group"), done[0]))
        done[0] += len(batch.changes)

    done = [0]
    to_the_end(Follower(config, options(topic, batch=100), reader, write))
    assert [before for before, _ in seen] == [written for _, written in seen] == [0, 100, 200]


def test_milvus_away_is_waited_for(
    config: dict, topic: str, reader: MessageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.streaming.FIRST_WAIT", 0.01)
    send_all(config, topic, upserts(50))
    store = Store(*[AWAY] * 4)
    troubles = set()
    follower = Follower(config, options(topic), reader, store.write)
    stats = follower.run(
        threading.Event(), until_end=True, watch=lambda stats: troubles.add(stats.trouble)
    )
    assert stats.retries == 4
    assert stats.assignments == 1
    assert len(store.rows) == 50
    assert any("failed to connect" in trouble for trouble in troubles)
    assert stats.trouble == ""


def test_a_stop_while_milvus_is_away_commits_nothing(
    config: dict, topic: str, reader: MessageReader
) -> None:
    send_all(config, topic, upserts(50))
    stop, store = threading.Event(), Store(*[AWAY] * 1_000)
    follower = Follower(config, options(topic), reader, store.write)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(follower.run, stop)
        wait_until(lambda: follower.stats.retries, 30, "an attempt failed")
        stop.set()
        stats = running.result(30)
    assert stats.written == 0
    assert stats.abandoned == 50
    assert committed(config, topic, f"{topic}-group") == 0
    store.errors.clear()
    assert to_the_end(Follower(config, options(topic), reader, store.write)).written == 50
    assert len(store.rows) == 50


def test_messages_in_memory_are_bounded(config: dict, topic: str, reader: MessageReader) -> None:
    send_all(config, topic, upserts(3_000))
    go_on, store = threading.Event(), Store()

    def write(batch: Batch) -> None:
        assert go_on.wait(30)
        store.write(batch)

    follower = Follower(config, options(topic, batch=100, buffered=250), reader, write)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(follower.run, threading.Event(), until_end=True)
        wait_until(lambda: follower.stats.pauses, 30, "reading pauses")
        held = follower.stats.read
        time.sleep(0.5)
        assert follower.stats.read == held <= 250 + 2 * 100  # two batches are no longer buffered
        go_on.set()
        stats = running.result(30)
    assert stats.most_buffered <= 250
    assert stats.written == len(store.rows) == 3_000


def test_what_milvus_itself_refuses_is_found_and_buried(
    config: dict, topic: str, reader: MessageReader
) -> None:
    bad = {17, 18, 63}

    def write(batch: Batch) -> None:
        if bad & {row["id"] for row in batch.rows}:
            raise MilvusException(1100, "this row is refused")
        store.write(batch)

    store = Store()
    send_all(config, topic, [*upserts(100), (b"5", b"nonsense")])
    stats = to_the_end(Follower(config, options(topic), reader, write))
    assert store.rows.keys() == set(range(100)) - bad
    assert stats.dead == 4
    letters = {
        letter.key: (letter.value, headers)
        for letter, headers in read_topic(config, f"{topic}-dead")
    }
    assert letters.keys() == {b"17", b"18", b"63", b"5"}
    assert letters[b"5"][0] == b"nonsense"
    assert letters[b"5"][1]["reason"].startswith(b"not JSON")
    assert b"this row is refused" in letters[b"17"][1]["reason"]
    assert all(headers["topic"] == topic.encode() for _, headers in letters.values())
    assert committed(config, topic, f"{topic}-group") == 101


def test_where_nothing_can_be_written_it_stops(
    config: dict, topic: str, reader: MessageReader
) -> None:
    send_all(config, topic, upserts(10))
    gone = Store(MilvusException(100, "can't find collection"))
    with pytest.raises(StreamFailed, match="Milvus takes no rows") as caught:
        to_the_end(Follower(config, options(topic), reader, gone.write))
    assert caught.value.exit_code == 1
    assert committed(config, topic, f"{topic}-group") == 0


def test_a_mistake_of_the_program_is_not_repeated(
    config: dict, topic: str, reader: MessageReader
) -> None:
    send_all(config, topic, upserts(10))
    with pytest.raises(ZeroDivisionError):
        to_the_end(Follower(config, options(topic), reader, Store(ZeroDivisionError()).write))


def test_a_topic_must_be_there(config: dict, reader: MessageReader) -> None:
    with pytest.raises(KafkaFailed, match="there is no topic 'none'"):
        to_the_end(Follower(config, options("none"), reader, Store().write))


def test_a_batch_that_is_taken_away_is_not_sent_again(
    config: dict, topic: str, reader: MessageReader
) -> None:
    """An old row must not arrive after the next owner of its partition has written a newer one."""
    send_all(config, topic, upserts(60))
    old, new = Store(*[AWAY] * 100_000), Store()
    stops = threading.Event(), threading.Event()
    short = options(topic, session_seconds=6.0, poll_seconds=6.0)
    first = Follower(config, short, reader, old.write)
    second = Follower(config, short, reader, new.write)
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(first.run, stops[0])]
        try:
            wait_until(lambda: first.stats.retries, 30, "the first one tries")
            running.append(threads.submit(second.run, stops[1]))
            # Both of them: the package broker hangs where a member leaves in mid-rebalance.
            wait_until(
                lambda: second.stats.partitions and first.stats.assignments == 2, 30, "both share"
            )
            assert first.stats.abandoned >= 60
            stops[0].set()
            running[0].result(30)
            # Some of it twice, perhaps: the package broker refuses commits within a rebalance.
            wait_until(
                lambda: len(new.rows) == 60, 60, f"the second one has written all: {second.stats}"
            )
        finally:
            for stop in stops:
                stop.set()
        running[1].result(30)
    assert old.rows == {}
    assert len(new.rows) == 60


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AWAY, "passing"),
        (AnswerOfGrpc(grpc.StatusCode.DEADLINE_EXCEEDED), "passing"),
        (AnswerOfGrpc(grpc.StatusCode.RESOURCE_EXHAUSTED), "passing"),
        (AnswerOfGrpc(grpc.StatusCode.INVALID_ARGUMENT), "refused"),
        (AnswerOfGrpc(grpc.StatusCode.PERMISSION_DENIED), "hopeless"),
        (AnswerOfGrpc(grpc.StatusCode.UNAUTHENTICATED), "hopeless"),
        (MilvusException(8, "rate limit exceeded"), "passing"),
        (MilvusException(9, "quota exceeded: force deny"), "passing"),
        (MilvusException(2, "service not ready"), "passing"),
        (MilvusException(100, "can't find collection"), "hopeless"),
        (MilvusException(1100, "invalid parameter"), "refused"),
        (MilvusException(6, "field data has wrong dim"), "refused"),
        (MilvusException(65535, "no space left on device"), "passing"),
        (ParamError(message="wrong type"), "refused"),
        (ValueError("no error of a write"), "hopeless"),
    ],
)
def test_what_to_expect_of_sending_again(error: Exception, expected: str) -> None:
    assert outlook(error) == expected


def test_a_line_for_a_log() -> None:
    stats = StreamStats(written=1_234, upserts=1_000, deletes=30, dead=4, lag=5_678, last=2.0)
    assert progress_line(stats) == (
        "1,234 messages, 617/s, lag 5,678; 1,000 upserts, 30 deletes, 4 dead letters"
    )
    stats.kafka_trouble = "Kafka: _TRANSPORT"
    assert progress_line(stats).endswith("4 dead letters; Kafka: _TRANSPORT")
