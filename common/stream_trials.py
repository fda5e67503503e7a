"""Trials of followers: a topic whose end is known, an outage of Milvus, a group of two."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from common.display import quiet_pymilvus
from common.kafka_topics import (
    Sent,
    committed,
    create_topic,
    delete_topics,
    send_all,
    wait_for_commits,
)
from common.local_server import LocalServer
from common.measuring import FAILURES, wait_until
from common.sample_changes import KeyAndValue
from common.stream_commands import consumer_process
from common.streaming import Follower, StreamOptions, StreamStats
from common.topic_state import Differences, differences, final_versions

from pymilvus import MilvusClient

PATIENCE = 120.0  # seconds within which a stream must have come to its end
SERVED_AGAIN = 60.0  # seconds until a restarted server must serve its collections


@dataclass(frozen=True)
class SampleTopic:
    """A topic of `sample_changes`.

    Attributes:
        config: of librdkafka.
        name: of the topic.
        partitions: how many it has.
        poisoned: the keys that poisoned messages name.
    """

    config: Mapping
    name: str
    partitions: int
    poisoned: range

    def create(self) -> "SampleTopic":
        """Make it, empty."""
        create_topic(self.config, self.name, self.partitions)
        return self

    def options(self, group: str, **others: object) -> StreamOptions:
        """To follow it, with a group and dead letters that no other trial has."""
        names = f"{self.name}-{group}", f"{self.name}-{group}-dead"
        return StreamOptions(self.name, *names, **others)

    def fill(self, messages: Sequence[KeyAndValue]) -> Sent:
        """Send messages to it, and wait until they are stored."""
        return send_all(self.config, self.name, messages)

    def compare(self, client: MilvusClient, collection: str) -> Differences:
        """How a collection differs from the state after all of its messages."""
        wanted = final_versions(self.config, self.name, self.poisoned)
        return differences(client, collection, wanted)

    def compare_restarted(self, client: MilvusClient, collection: str) -> Differences:
        """The same, once a server that was killed serves its collections again."""
        wanted = final_versions(self.config, self.name, self.poisoned)

        def look() -> Differences | None:
            try:
                with quiet_pymilvus():
                    return differences(client, collection, wanted, timeout=5)
            except FAILURES:
                return None

        return wait_until(look, SERVED_AGAIN, f"{collection} is served again")


@contextmanager
def sample_topics(
    config: Mapping, partitions: Mapping[str, int], poisoned: range
) -> Iterator[list[SampleTopic]]:
    """Empty topics of this run alone, which are gone at the end.

    Args:
        config: of librdkafka.
        partitions: from the end of a topic's name to how many partitions it gets.
        poisoned: the keys that poisoned messages name.
    """
    prefix = f"step04-streaming-{uuid4().hex[:8]}"
    try:
        yield [
            SampleTopic(config, f"{prefix}-{name}", count, poisoned).create()
            for name, count in partitions.items()
        ]
    finally:
        delete_topics(config, prefix)


def consume_under_kills(
    script: str, uri: str, topic: SampleTopic, collection: str, batch: int, kills: int, total: int
) -> Iterator[tuple[int, int]]:
    """Run `script consume` on a topic of `total` messages and kill it with SIGKILL, in equal parts.

    After each kill the messages that were committed then and the exit code of the process; at
    last those of a process that came to the end by itself.

    Raises:
        TimeoutError, subprocess.TimeoutExpired: a process got nowhere within PATIENCE.
    """
    group, server = f"{topic.name}-killed", str(topic.config["bootstrap.servers"])
    arguments = ["--bootstrap", server, "--topic", topic.name, "--collection", collection]
    # With a name of its own: the group need not find out first that the last process is dead.
    arguments += ["--group", group, "--member", "one", "--batch", str(batch), "--until-end"]
    for kill in range(1, kills + 1):
        with consumer_process(script, uri, *arguments) as process:
            enough = total * kill // (kills + 1)

            def ended(process: subprocess.Popen = process) -> bool:
                return process.poll() is not None

            wait_for_commits(topic.config, topic.name, group, enough, PATIENCE, ended)
            process.kill()
            code = process.wait(PATIENCE)
        yield committed(topic.config, topic.name, group), code
    with consumer_process(script, uri, *arguments) as process:
        code = process.wait(PATIENCE)
    yield committed(topic.config, topic.name, group), code


@dataclass(frozen=True)
class Outage:
    """A stream over an outage of Milvus; times are seconds since the stream began.

    Attributes:
        stats: of the follower, at its end.
        behind: times, and how many messages were not written then.
        killed, back: when Milvus was killed, and when it had started again.
    """

    stats: StreamStats
    behind: list[tuple[float, int]]
    killed: float
    back: float


def follow_over_outage(stream: Follower, server: LocalServer, total: int, away: float) -> Outage:
    """Follow a topic to its end, with the server killed after a third of its `total` messages.

    It is started again `away` seconds later, which takes it some seconds more.
    """
    stop, behind = threading.Event(), []
    start = time.monotonic()

    def watch(stats: StreamStats) -> None:
        behind.append((time.monotonic() - start, total - stats.written))

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(stream.run, stop, until_end=True, watch=watch)

        def a_third_is_written() -> bool:
            return running.done() or stream.stats.written >= total // 3

        try:
            wait_until(a_third_is_written, PATIENCE, "a third is written", pause=0.005)
            server.kill()
            killed = time.monotonic() - start
            time.sleep(away)
            server.start()
            back = time.monotonic() - start
            stats = running.result(PATIENCE)
        finally:
            stop.set()
    return Outage(stats, behind, killed, back)


def follow_together(
    streams: Sequence[Follower], fill: Callable[[], object], total: int
) -> list[StreamStats]:
    """Followers of one group on an empty topic, which is filled once all of them have partitions.

    Their figures at the time when all `total` messages were written.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(len(streams)) as threads:
        running = [threads.submit(stream.run, stop) for stream in streams]

        def failed() -> bool:
            return any(future.done() for future in running)

        def all_have_partitions() -> bool:
            return failed() or all(stream.stats.partitions for stream in streams)

        def all_is_written() -> bool:
            return failed() or sum(stream.stats.written for stream in streams) >= total

        try:
            wait_until(all_have_partitions, PATIENCE, "all have partitions")
            fill()
            wait_until(all_is_written, PATIENCE, "all is written")
            stats = [replace(stream.stats) for stream in streams]
        finally:
            stop.set()
        for future in running:
            future.result()
    return stats
