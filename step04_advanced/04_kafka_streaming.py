"""Kafka streaming: keep a collection in step with a topic, whatever dies on the way.

    python step04_advanced/04_kafka_streaming.py
    python step04_advanced/04_kafka_streaming.py produce --topic products --file changes.jsonl
    python step04_advanced/04_kafka_streaming.py consume --topic products --collection products

You see what consumers of a few lines lose, and follow the same topic with one that does not: not by
SIGKILL, not while Milvus is away, not by messages that nobody can store.

Needs: any Milvus (Milvus Lite by default); a Kafka (KAFKA_BOOTSTRAP), or the package noida-db
Read:  docs/en/step04_advanced.md#kafka-streaming
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryDirectory
from threading import Event

from common import kafka_broker
from common import kafka_topics as kafka
from common import stream_commands as commands
from common import stream_reports as reports
from common import stream_trials as trials
from common.change_messages import Batch, MessageReader
from common.connection import Milvus, connect
from common.display import expected_error, heading, left_out, quiet_pymilvus, run, say
from common.filters import in_list
from common.local_server import LocalServer, missing_reason
from common.sample_changes import MAX_TITLE, poisoned_messages, sample_changes
from common.settings import settings
from common.streaming import Follower, StreamOptions, StreamStats
from common.topic_state import Differences
from common.workspace import OURS, workspace

from confluent_kafka import Consumer, KafkaError, Message
from pymilvus import DataType, MilvusClient, MilvusException

COMMIT_FIRST, COMMIT_LAST, AS_THEY_COME, KEPT, KILLED, SHARED = COLLECTIONS = tuple(
    f"step04_streaming_{name}"
    for name in ("commit_first", "commit_last", "as_they_come", "kept", "killed", "shared")
)
STARTS = 3
NAIVE_BATCH, SMALL_BATCH, BATCHES = 200, 100, (10, 100, 1_000)
AWAY = 2.0  # seconds until Milvus is started again, which takes some seconds more
SILENCE = 6.0  # seconds that consumers of sections 5 and 6 may let pass between two polls
AT_THE_END = KafkaError._PARTITION_EOF
TIMEOUT = 10.0  # seconds for a call of Milvus
Compared, SampleTopic = dict[str, Differences], trials.SampleTopic


def create(client: MilvusClient, name: str, dimension: int) -> None:
    """Make a collection of products whose primary keys come from the topic."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("title", DataType.VARCHAR, max_length=MAX_TITLE)
    schema.add_field("version", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    index_params = client.prepare_index_params()
    index_params.add_index("vector", index_type="FLAT", metric_type="COSINE")
    options = {"schema": schema, "index_params": index_params, "properties": OURS}
    client.create_collection(name, timeout=60, **options)


# What most examples do


def store_as_they_come(client: MilvusClient, name: str, messages: Sequence[Message]) -> None:
    """Send all upserts of a batch and then all of its deletes."""
    changes = [json.loads(message.value()) for message in messages]
    rows = [change["row"] for change in changes if change["op"] == "upsert"]
    gone = [change["id"] for change in changes if change["op"] == "delete"]
    if rows:
        client.upsert(name, rows, timeout=TIMEOUT)
    if gone:
        client.delete(name, ids=gone, timeout=TIMEOUT)


def consume_naively(
    topic: SampleTopic, client: MilvusClient, name: str, commit_first: bool
) -> MilvusException | None:
    """Read a topic of one partition to its end, in batches; the error at which it ended early."""
    options = {"group.id": f"{topic.name}-{name}", "auto.offset.reset": "earliest"}
    options |= {"enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**topic.config, **options})
    consumer.subscribe([topic.name])
    try:
        at_end = False
        while not at_end:
            batch = consumer.consume(NAIVE_BATCH, timeout=0.3)
            messages = [message for message in batch if message.error() is None]
            at_end = any(m.error() and m.error().code() == AT_THE_END for m in batch)
            if commit_first and messages:
                consumer.commit(asynchronous=False)
            with quiet_pymilvus():
                store_as_they_come(client, name, messages)
            if messages and not commit_first:
                consumer.commit(asynchronous=False)
    except MilvusException as error:
        return error
    finally:
        consumer.close()
    return None


def fail(client: MilvusClient, clean: SampleTopic, one_poisoned: SampleTopic) -> Compared:
    """Follow topics by consumers of a few lines, which are started again when they end."""
    heading("2. What a consumer of a few lines loses")
    consumers = {
        "offsets committed first": (COMMIT_FIRST, one_poisoned, True),
        "offsets committed last": (COMMIT_LAST, one_poisoned, False),
        "batches as they come": (AS_THEY_COME, clean, False),
    }
    found = {}
    for trial, (name, topic, commit_first) in consumers.items():
        for start in range(1, STARTS + 1):
            error = consume_naively(topic, client, name, commit_first)
            if error is None:
                break
            expected_error(f"{trial}, start {start} of {STARTS}", error)
        found[trial] = topic.compare(client, name)
    reports.show_differences("Rows against the final state of the topic", found)
    reports.say_why()
    return found


# What survives


def write(client: MilvusClient, name: str, reader: MessageReader, timeout: float, batch: Batch):
    """Store a batch; when this returns, Milvus has acknowledged all of it."""
    rows, gone = batch.rows, batch.deleted
    if rows and reader.moves_rows:  # its old copy may lie in another partition
        gone = gone + [row[reader.key_field] for row in rows]
    if gone:
        client.delete(name, filter=in_list(reader.key_field, gone), timeout=timeout)
    if rows:
        client.upsert(name, rows, timeout=timeout)


def follower(
    config: Mapping, options: StreamOptions, client: MilvusClient, name: str, timeout=TIMEOUT
) -> Follower:
    """A follower of a topic that writes into a collection."""
    reader = MessageReader(commands.description_of(client, name, timeout))
    return Follower(config, options, reader, partial(write, client, name, reader, timeout))


def follow(topic: SampleTopic, client: MilvusClient) -> tuple[StreamStats, Differences]:
    """Follow a topic with poisoned messages to its end; and once more with each batch size."""
    heading("3. A consumer that keeps step")
    options, stop = topic.options("kept"), Event()
    with reports.live_view("follows the topic", every=5) as watch:
        stream = follower(topic.config, options, client, KEPT)
        stats = stream.run(stop, until_end=True, watch=watch)
    say(f"{reports.progress_line(stats)}; {stats.superseded:,} superseded within a batch")
    reports.show_letters(list(kafka.read_topic(topic.config, options.dead_letters)))
    rates = {}
    for size in BATCHES:
        again = topic.options(f"batches-{size}", batch=size)
        rates[size] = follower(topic.config, again, client, KEPT).run(stop, until_end=True)
    reports.show_batches(rates)
    found = topic.compare(client, KEPT)
    reports.show_differences(f"After {1 + len(rates)} times the same topic", found)
    return stats, found


def kill_consumers(
    topic: SampleTopic, milvus: Milvus, dimension: int, kills: int, total: int
) -> tuple[list[tuple[int, int]], Differences]:
    """Kill the consuming process again and again half-way; then let it come to the end."""
    heading("4. SIGKILL")
    with ExitStack() as stack:
        uri, client = milvus.uri, milvus.client
        if not milvus.can("several_processes"):  # then a database of its own for the process
            uri = f"{stack.enter_context(TemporaryDirectory())}/killed.db"
            with connect(uri) as own:
                create(own.client, KILLED, dimension)
        each = topic, KILLED, SMALL_BATCH, kills, total
        runs = list(trials.consume_under_kills(__file__, uri, *each))
        if uri != milvus.uri:
            client = stack.enter_context(connect(uri)).client
            client.load_collection(KILLED, timeout=TIMEOUT)
        found = topic.compare(client, KILLED)
    reports.show_kills(runs, total)
    reports.show_differences("After the kills", found)
    return runs, found


def outlive_milvus(
    topic: SampleTopic, dimension: int, total: int
) -> tuple[trials.Outage, Differences]:
    """Kill a Milvus of our own while a topic is written to it, and start it again."""
    heading("5. Milvus away, and back")
    small = {"batch": SMALL_BATCH, "buffered": 10 * SMALL_BATCH}
    options = topic.options("away", session_seconds=SILENCE, poll_seconds=SILENCE, **small)
    with LocalServer(announce=lambda _: None) as server, connect(server.uri) as milvus:
        create(milvus.client, KEPT, dimension)
        stream = follower(topic.config, options, milvus.client, KEPT)
        outage = trials.follow_over_outage(stream, server, total, AWAY)
        found = topic.compare_restarted(milvus.client, KEPT)
    reports.show_outage(outage)
    reports.show_differences("After the outage", found)
    return outage, found


def share(topic: SampleTopic, client: MilvusClient, messages: list) -> tuple[list, Differences]:
    """Two consumers of one group on an empty topic, which is filled once both have partitions."""
    heading("6. Two consumers in one group")
    options = topic.options("shared", session_seconds=SILENCE, poll_seconds=SILENCE)
    streams = [follower(topic.config, options, client, SHARED) for _ in range(2)]
    stats = trials.follow_together(streams, lambda: topic.fill(messages), len(messages))
    reports.show_group(stats)
    found = topic.compare(client, SHARED)
    reports.show_differences("Both together", found)
    return stats, found


def give_lesson(milvus: Milvus, config: Mapping, options: argparse.Namespace) -> None:
    """All sections, one after the other, on topics of this run alone."""
    client, dimension, count = milvus.client, options.dimension, options.messages
    clean = sample_changes(count, dimension)
    poison = poisoned_messages(options.poisoned, dimension, count)
    mixed = clean[: count // 2] + poison + clean[count // 2 :]
    some = clean[: 5 * NAIVE_BATCH]
    with ThreadPoolExecutor() as pool:  # side by side: a server takes seconds to load one
        list(pool.map(lambda name: create(client, name, dimension), COLLECTIONS))
    partitions = {"mixed": options.partitions, "clean": 1, "one": 1, "group": options.partitions}
    poisoned = range(count, count + options.poisoned)
    with trials.sample_topics(config, partitions, poisoned) as (
        topic,
        clean_one,
        one_poisoned,
        shared,
    ):
        heading("1. A topic of changes")
        reports.show_messages([clean[0], *clean[-2:], poison[4]])
        sent = topic.fill(mixed)
        say(f"{sent.count:,} messages sent and acknowledged: {sent.per_second:,.0f}/s.")
        clean_one.fill(some)
        one_poisoned.fill([*some[:300], poison[1], *some[300:]])  # a dimension is missing
        fail(client, clean_one, one_poisoned)
        follow(topic, client)
        kill_consumers(topic, milvus, dimension, options.kills, len(mixed))
        quick = "it takes half a minute; run without --quick" if options.quick else ""
        if reason := quick or missing_reason():
            left_out("5. Milvus away, and back", reason)
        else:
            outlive_milvus(topic, dimension, len(mixed))
        share(shared, client, mixed)


def produce(options: argparse.Namespace) -> None:
    """Send a file of changes to a topic."""
    config, topic = commands.kafka_of(options), options.topic
    with commands.lines_of(options.file) as lines:
        if kafka.create_topic(config, topic, options.partitions):
            say(f"The topic {topic} was not there: made with {options.partitions} partitions.")
        sent = kafka.send_all(config, topic, commands.messages_of(lines, options.key))
    say(f"{sent.count:,} messages sent to {topic} and acknowledged: {sent.per_second:,.0f}/s.")


def consume(options: argparse.Namespace) -> None:
    """Keep a collection in step with a topic until it is told to stop."""
    config, name = commands.kafka_of(options), options.collection
    with commands.stopped_by_signals() as stop, connect() as milvus:
        settings = commands.stream_options(options)
        stream = follower(config, settings, milvus.client, name, options.timeout)
        with reports.live_view(f"{options.topic} to {name}", options.report_every) as watch:
            stats = stream.run(stop, until_end=options.until_end, watch=watch)
    say(reports.progress_line(stats))


def main(arguments: list[str] | None = None) -> None:
    """Give the lesson, or produce, or consume."""
    options = commands.read_options(__doc__.split("\n\n")[0], arguments)
    if options.command:
        {"produce": produce, "consume": consume}[options.command](options)
        return
    reason = "" if settings().kafka_bootstrap else kafka_broker.missing_reason()
    if reason:
        left_out("all of it: KAFKA_BOOTSTRAP names no Kafka", reason)
        return
    with kafka_broker.broker(announce=say) as kafka_at, connect() as milvus:  # noqa: SIM117
        with workspace(milvus.client, *COLLECTIONS):
            give_lesson(milvus, kafka.client_config(kafka_at), options)


if __name__ == "__main__":
    sys.exit(run(main))
