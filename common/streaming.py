"""Keep a collection in step with a topic, whatever dies on the way.

    Follower(config, options, reader, write).run(stop)

One thread reads messages into a bounded buffer and keeps its place in the group; another writes
one batch at a time. The offsets of a batch are committed after Milvus has acknowledged it, and
its refused messages are in the dead-letter topic. So nothing is lost. What was written but not
committed when a process died is read and written again, which changes nothing: each message names
its row by the primary key, and the messages of one key come in their order.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from common.change_messages import Batch, MessageReader, Received, Refused
from common.display import error_line, quiet_pymilvus
from common.kafka_topics import (
    DELIVERY,
    KafkaFailed,
    create_topic,
    partitions_of,
    producer,
    received,
    send,
    told,
)
from common.loading import outlook
from common.measuring import FAILURES

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0  # seconds before a batch is sent again; doubled each time
IDLE = 0.05  # seconds to wait for a message, or for a batch
LINGER = 0.2  # seconds that a message waits for others of its batch
LAG_EVERY = 1.0  # seconds between two looks at the ends of the partitions
_log = logging.getLogger(__name__)

Write = Callable[[Batch], None]


class StreamFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """The stream cannot go on; what is not committed will be read again."""

    exit_code = 1


@dataclass(frozen=True)
class StreamOptions:
    """How to follow a topic.

    Attributes:
        topic: its name.
        group: consumers of one group share the partitions and the committed offsets.
        dead_letters: the topic for what cannot be stored.
        batch: messages that are written at once, at most.
        buffered: messages that are held in memory, at most; from there on reading pauses.
        member: a name of this consumer that stays over restarts (`group.instance.id`): a process
            that died takes its partitions up again at once. Empty: none.
        session_seconds: silence after which the group gives a consumer's partitions to others.
        poll_seconds: the same for a consumer that is alive but asks for no messages.
    """

    topic: str
    group: str
    dead_letters: str
    batch: int = 1_000
    buffered: int = 5_000
    member: str = ""
    session_seconds: float = 10.0
    poll_seconds: float = 300.0


@dataclass
class StreamStats:
    """What a follower has done so far; counts are of messages where nothing else is said.

    Attributes:
        read, written: taken from the topic; done with, and committed.
        upserts, deletes: rows sent to Milvus.
        superseded: not sent, since a later message of the batch has the same key.
        dead: put into the dead-letter topic.
        batches, retries: batches written; attempts that failed and were repeated.
        assignments: how often the group gave this consumer its partitions.
        abandoned: dropped unwritten when the group took partitions away, or at the end.
        pauses, most_buffered: how often reading paused; most messages in memory at once.
        uncommitted: commits that the broker refused: their messages may come again.
        lag: behind the ends of the partitions at the last look; None before the first.
        milvus_trouble, kafka_trouble: what stands in the way now, in one line; else empty.
        partitions: those that this consumer has.
        first, last: when the first message came and the last batch was done (`perf_counter`).
    """

    read: int = 0
    written: int = 0
    upserts: int = 0
    deletes: int = 0
    superseded: int = 0
    dead: int = 0
    batches: int = 0
    retries: int = 0
    assignments: int = 0
    abandoned: int = 0
    pauses: int = 0
    most_buffered: int = 0
    uncommitted: int = 0
    lag: int | None = None
    milvus_trouble: str = ""
    kafka_trouble: str = ""
    partitions: list[int] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first message to the end of the last batch."""
        return max(0.0, self.last - self.first)

    @property
    def trouble(self) -> str:
        """What stands in the way now, in one line; empty if nothing does."""
        return self.milvus_trouble or self.kafka_trouble

    @property
    def per_second(self) -> float:
        """Messages that were done with in a second."""
        return self.written / self.seconds if self.seconds else 0.0


class _GivenUp(Exception):  # noqa: N818 - caught in this module
    """A batch is not sent again: its partitions go to another consumer, or it is the end."""


class Follower:
    """Follows one topic.

    Args:
        config: of librdkafka (`client_config`).
        options: what to follow, and how.
        reader: for the collection.
        write: stores a batch: returns when Milvus has acknowledged all of it, and raises
            MilvusException or grpc.RpcError otherwise. It is called again with the same batch, or
            with halves of it, and from a thread of its own.
    """

    def __init__(
        self, config: Mapping, options: StreamOptions, reader: MessageReader, write: Write
    ) -> None:
        self.options, self.stats = options, StreamStats()
        self._config, self._reader, self._write = dict(config), reader, write
        self._buffer: deque[Received] = deque()
        self._prepared: Batch | None = None
        self._on_its_way: tuple[Batch, Future[list[Refused]]] | None = None
        self._give_up = threading.Event()
        self._assigned: dict[int, TopicPartition] = {}
        self._next: dict[int, int] = {}  # the first offset that is not written, by partition
        self._at_end: set[int] = set()
        self._paused = False
        self._looked_at_lag = 0.0
        self._waiting_since = 0.0

    def run(
        self,
        stop: threading.Event,
        *,
        until_end: bool = False,
        watch: Callable[[StreamStats], object] | None = None,
    ) -> StreamStats:
        """Follow the topic until `stop` is set; with `until_end`, until all is read and written.

        When it stops, the request under way is waited for and committed. `watch` is called again
        and again with the figures so far.

        Raises:
            KafkaFailed: no such topic, no broker, or the dead letters cannot be stored.
            StreamFailed: Milvus will take no rows at all, or this consumer was shut out.
        """
        options = self.options
        if not partitions_of(self._config, options.topic):
            raise KafkaFailed(f"there is no topic {options.topic!r}: produce to it first")
        create_topic(self._config, options.dead_letters)
        self._letters = producer(self._config)
        self._consumer = Consumer(self._consumer_config())
        try:
            with quiet_pymilvus(), ThreadPoolExecutor(1, "stream") as thread:
                try:
                    self._consumer.subscribe(
                        [options.topic],
                        on_assign=self._on_assign,
                        on_revoke=self._on_revoke,
                        on_lost=self._on_lost,
                    )
                    while not stop.is_set() and not (until_end and self._is_done()):
                        self._step(thread)
                        if watch is not None:
                            watch(self.stats)
                    self._look_at_lag(now=True)
                finally:
                    self._settle(commit=True)
        finally:
            self._consumer.close()
        return self.stats

    def _consumer_config(self) -> dict[str, object]:
        options = self.options
        member = {"group.instance.id": options.member} if options.member else {}
        return {
            **self._config,
            **member,
            "group.id": options.group,
            "auto.offset.reset": "earliest",  # a new group begins with the oldest message
            "enable.auto.commit": False,  # by a clock, whatever has become of the messages
            "enable.partition.eof": True,
            "session.timeout.ms": int(options.session_seconds * 1000),
            "max.poll.interval.ms": int(max(options.poll_seconds, options.session_seconds) * 1000),
            # What librdkafka itself reads ahead, beside our buffer: 5 MB at most.
            "queued.max.messages.kbytes": 5_000,
            "error_cb": self._on_error,
        }

    # One step: read, prepare, send, commit

    def _step(self, thread: ThreadPoolExecutor) -> None:
        quiet = self._read()
        if self._on_its_way and self._on_its_way[1].done():
            self._finish()
        # A batch is full while the topic is ahead, and as large as it is where nothing more comes.
        late = time.monotonic() - self._waiting_since > LINGER
        due = len(self._buffer) >= self.options.batch or quiet or late
        if self._buffer and due and self._prepared is None:
            self._prepare()
        if self._prepared is not None and self._on_its_way is None:
            batch, self._prepared = self._prepared, None
            self._on_its_way = batch, thread.submit(self._write_at_last, batch)
        self._look_at_lag()

    def _read(self) -> bool:
        """Take messages into the buffer; whether there were none. Polls at least once."""
        self._hold_or_go_on()
        ready = len(self._buffer) >= self.options.batch
        if ready and self._on_its_way is not None:
            wait([self._on_its_way[1]], timeout=IDLE)  # nothing to gain from reading now
        message = self._consumer.poll(0 if ready else IDLE)
        if message is None:
            return True
        most = min(self.options.buffered, len(self._buffer) + self.options.batch)
        while message is not None:
            self._take(message)
            # Never asked for without being taken: it would count as read.
            message = self._consumer.poll(0) if len(self._buffer) < most else None
        return False

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            if not self._buffer:
                self._waiting_since = time.monotonic()
            self._buffer.append(received(message))
            self.stats.kafka_trouble = ""
            self._at_end.discard(message.partition())
            self.stats.read += 1
            self.stats.first = self.stats.first or time.perf_counter()
            self.stats.most_buffered = max(self.stats.most_buffered, len(self._buffer))
        elif error.code() == KafkaError._PARTITION_EOF:
            self._at_end.add(message.partition())
            self.stats.kafka_trouble = ""
        elif error.fatal():
            raise StreamFailed(f"Kafka shut this consumer out: {told(error)}")
        else:
            self._on_error(error)

    def _hold_or_go_on(self) -> None:
        """Pause reading while the buffer is full: messages wait in Kafka and not in memory."""
        full = len(self._buffer) >= self.options.buffered
        partitions = list(self._assigned.values())
        if full and not self._paused and partitions:
            self._consumer.pause(partitions)
            self._paused = True
            self.stats.pauses += 1
        elif self._paused and len(self._buffer) <= self.options.buffered // 2:
            self._consumer.resume(partitions)
            self._paused = False

    def _prepare(self) -> None:
        count = min(self.options.batch, len(self._buffer))
        self._prepared = self._reader.read([self._buffer.popleft() for _ in range(count)])
        self._waiting_since = time.monotonic()

    def _write_at_last(self, batch: Batch) -> list[Refused]:
        """In the writing thread: store a batch, however long Milvus is away; what it refused."""
        pause = FIRST_WAIT
        while batch.changes:
            try:
                self._write(batch)
                break
            except FAILURES as error:
                kind = outlook(error)
                if kind == "hopeless":
                    raise StreamFailed(f"Milvus takes no rows: {error_line(error)}") from error
                if kind == "refused" and len(batch.changes) == 1:
                    return [Refused(batch.changes[0].message, error_line(error))]
                if kind == "refused":  # which of them it is, the halves will show
                    return [each for half in batch.halves() for each in self._write_at_last(half)]
                self.stats.retries += 1
                self.stats.milvus_trouble = f"Milvus: {error_line(error)}"
                _log.info("%s; the batch is sent again in %.1f s", error_line(error), pause)
            if self._give_up.wait(pause):
                raise _GivenUp
            pause = min(2 * pause, LONGEST_WAIT)
        self.stats.milvus_trouble = ""
        return []

    def _finish(self) -> None:
        """After a batch has been written: dead letters first, then the commit."""
        batch, future = self._on_its_way
        self._on_its_way = None
        refused = [*batch.refused, *future.result()]
        self._bury(refused)
        self._next.update(batch.offsets)
        places = [
            TopicPartition(self.options.topic, partition, offset)
            for partition, offset in batch.offsets.items()
        ]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            # The next commit covers it; until then these messages may come again.
            self.stats.uncommitted += 1
            _log.info("offsets were not committed: %s", told(error))
        stats = self.stats
        stats.batches += 1
        stats.written += len(batch.changes) + batch.superseded + len(batch.refused)
        stats.upserts += len(batch.rows)
        stats.deletes += len(batch.deleted)
        stats.superseded += batch.superseded
        stats.last = time.perf_counter()

    def _bury(self, refused: list[Refused]) -> None:
        """Put messages into the dead-letter topic as they came, with why and from where."""
        failures: list[str] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failures.append(told(error))

        for message, reason in refused:
            place = {"topic": message.topic, "partition": message.partition}
            headers = {"reason": reason, **place, "offset": message.offset, "time": message.time}
            encoded = [(name, str(value).encode()) for name, value in headers.items()]
            to = self.options.dead_letters
            send(self._letters, to, message.key, message.value, delivered, encoded)
        if refused and (self._letters.flush(DELIVERY + 1) or failures):
            why = failures[0] if failures else "no answer in time"
            raise KafkaFailed(f"a dead letter was not stored, so nothing is committed: {why}")
        self.stats.dead += len(refused)

    # The group gives partitions and takes them away

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = {each.partition: each for each in partitions}
        self.stats.partitions = sorted(self._assigned)
        self.stats.assignments += 1

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle(commit=True)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle(commit=False)

    def _settle(self, commit: bool) -> None:
        """Wait for the request under way, and drop what is not sent: the next owner reads it.

        Not sending it again is what keeps order: an old row must not arrive after the next owner
        has written a newer one.
        """
        self._give_up.set()
        if self._on_its_way is not None:
            batch, future = self._on_its_way
            wait([future])
            if commit and future.exception() is None:
                self._finish()
            else:
                self.stats.abandoned += sum(1 for _ in batch.changes) + batch.superseded
                self._on_its_way = None
                self._raise_if_failed(future)
        if self._prepared is not None:
            self.stats.abandoned += len(self._prepared.changes) + self._prepared.superseded
        self.stats.abandoned += len(self._buffer)
        self._prepared = None
        self._buffer.clear()
        self._at_end.clear()
        self._assigned, self._next, self._paused = {}, {}, False
        self._give_up.clear()

    def _raise_if_failed(self, future: Future) -> None:
        error = future.exception()
        if error is not None and not isinstance(error, _GivenUp):
            raise error

    # What it shows

    def _is_done(self) -> bool:
        """Whether everything up to the ends of its partitions is written."""
        waiting = self._buffer or self._prepared or self._on_its_way
        return (
            bool(self.stats.assignments) and not waiting and self._assigned.keys() <= self._at_end
        )

    def _look_at_lag(self, now: bool = False) -> None:
        since = time.monotonic() - self._looked_at_lag
        if not self._assigned or (since < LAG_EVERY and not now):
            return
        try:
            unknown = [p for number, p in self._assigned.items() if number not in self._next]
            for place in self._consumer.committed(unknown, timeout=1.0) if unknown else ():
                self._next[place.partition] = max(0, place.offset)
            lag = 0
            for number, place in self._assigned.items():
                low, high = self._consumer.get_watermark_offsets(place, timeout=1.0)
                lag += high - max(low, self._next[number])
            self.stats.lag = lag
        except KafkaException as error:
            self._on_error(error.args[0])
        self._looked_at_lag = time.monotonic()

    def _on_error(self, error: KafkaError) -> None:
        """An error of the connection: librdkafka connects again by itself."""
        if error.fatal():
            raise StreamFailed(f"Kafka shut this consumer out: {told(error)}")
        self.stats.kafka_trouble = f"Kafka: {told(error)}"
