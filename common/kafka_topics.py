"""Topics of a Kafka: make, fill, read and remove them, and see how far a group has come.

Everything takes a configuration of librdkafka, with `bootstrap.servers` and whatever else the
broker asks for (TLS, users): `client_config()` reads it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.change_messages import Received
from common.measuring import wait_until

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT = 10.0  # seconds for one answer of the broker
DELIVERY = 60.0  # seconds within which a message must be stored
Config = dict[str, object]


class KafkaFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """Kafka cannot do what was asked; the message says what, and what to do."""

    exit_code = 2


@dataclass(frozen=True)
class Sent:
    """Messages that the broker has acknowledged."""

    count: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Messages in a second."""
        return self.count / self.seconds if self.seconds else 0.0


def client_config(bootstrap: str, path: Path | None = None) -> Config:
    """The configuration of a client: the address, and the properties of a file.

    Args:
        bootstrap: "host:port", several with commas between them.
        path: lines `name=value` as librdkafka names them, such as `security.protocol=SASL_SSL`;
            empty lines and those that begin with # are left out.

    Raises:
        KafkaFailed: the file cannot be read, or a line is none of these.
    """
    # Errors come as exceptions and as trouble on the display; librdkafka's own log is for tracing.
    config: Config = {"bootstrap.servers": bootstrap, "log_level": 0}
    try:
        lines = path.read_text("utf-8").splitlines() if path else []
    except (OSError, UnicodeDecodeError) as error:
        raise KafkaFailed(f"cannot read the properties of Kafka in {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not equals:
            raise KafkaFailed(f"{path}, line {number}: not name=value: {line.strip()[:80]!r}")
        config[name.strip()] = value.strip()
    return config


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of Kafka as ours, with what was tried."""
    try:
        yield
    except KafkaException as error:
        raise KafkaFailed(f"{what}: {told(error)}") from error


def told(error: KafkaException | KafkaError) -> str:
    """An error of Kafka in one line."""
    kafka_error = error.args[0] if isinstance(error, KafkaException) else error
    return f"{kafka_error.name()}: {kafka_error.str()}"


def partitions_of(config: Mapping, topic: str) -> int:
    """How many partitions a topic has; 0 if there is no such topic.

    Raises:
        KafkaFailed: no broker answers.
    """
    with _told(f"no Kafka answers at {config['bootstrap.servers']}"):
        found = AdminClient(dict(config)).list_topics(timeout=TIMEOUT).topics.get(topic)
    return len(found.partitions) if found is not None and found.error is None else 0


def create_topic(config: Mapping, topic: str, partitions: int = 1) -> bool:
    """Make a topic, if there is none of this name; whether it was made.

    Raises:
        KafkaFailed: no broker answers, or it refuses.
    """
    if partitions_of(config, topic):
        return False
    admin = AdminClient(dict(config))
    # As many copies as the broker thinks fit: one on one machine, three on a cluster.
    new = NewTopic(topic, num_partitions=partitions, replication_factor=-1)
    try:
        admin.create_topics([new], operation_timeout=TIMEOUT)[topic].result(TIMEOUT)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False  # somebody else was quicker
        raise KafkaFailed(f"the topic {topic!r} cannot be made: {told(error)}") from error
    deadline = time.monotonic() + TIMEOUT
    while not partitions_of(config, topic) and time.monotonic() < deadline:
        time.sleep(0.05)  # until all brokers know it
    return True


def delete_topics(config: Mapping, prefix: str) -> None:
    """Remove all topics whose names begin with `prefix`, with their messages."""
    admin = AdminClient(dict(config))  # kept: with it goes the answer
    with _told(f"topics {prefix}... cannot be removed"):
        names = [
            name for name in admin.list_topics(timeout=TIMEOUT).topics if name.startswith(prefix)
        ]
        for future in admin.delete_topics(names).values() if names else ():
            future.result(TIMEOUT)


def producer(config: Mapping) -> Producer:
    """A producer that repeats what failed and stores nothing twice or out of its order."""
    return Producer(
        {
            **config,
            "enable.idempotence": True,  # with acks=all: stored on every copy, once
            "delivery.timeout.ms": int(DELIVERY * 1000),
            "linger.ms": 20,
            # As Java's producers choose: else two producers put one key into two partitions.
            "partitioner": "murmur2_random",
        }
    )


def send_all(config: Mapping, topic: str, messages: Iterable[tuple[bytes, bytes | None]]) -> Sent:
    """Send keys and values to a topic, and wait until all of them are stored.

    Raises:
        KafkaFailed: a message was not stored; what came before it may be.
    """
    sender, failures = producer(config), []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(told(error))

    started, count = time.perf_counter(), 0
    for key, value in messages:
        send(sender, topic, key, value, delivered)
        count += 1
        if failures:
            break
    left = sender.flush(DELIVERY + TIMEOUT)
    if failures or left:
        why = failures[0] if failures else "no answer in time"
        raise KafkaFailed(f"{left + len(failures)} of {count} messages were not stored: {why}")
    return Sent(count, time.perf_counter() - started)


def send(sender: Producer, topic: str, key: object, value: object, delivered, headers=()) -> None:
    """Queue one message; where the producer's own queue is full, wait until there is room."""
    options = {"key": key, "value": value, "on_delivery": delivered, "headers": list(headers)}
    while True:
        try:
            sender.produce(topic, **options)
            sender.poll(0)
            return
        except BufferError:
            sender.poll(0.1)
        except KafkaException as error:  # too large for a message, say
            raise KafkaFailed(f"a message was not taken for {topic!r}: {told(error)}") from error


def received(message: Message) -> Received:
    """A message of confluent-kafka as ours."""
    _, time_of = message.timestamp()
    place = message.topic(), message.partition(), message.offset()
    return Received(*place, message.key(), message.value(), time_of)


def read_topic(config: Mapping, topic: str) -> Iterator[tuple[Received, dict[str, bytes]]]:
    """All messages that a topic holds now, partition by partition, each with its headers.

    Raises:
        KafkaFailed: there is no such topic, or no broker answers.
    """
    count = partitions_of(config, topic)
    if not count:
        raise KafkaFailed(f"there is no topic {topic!r} at {config['bootstrap.servers']}")
    group = {"group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**config, **group})
    try:
        for number in range(count):
            consumer.assign([TopicPartition(topic, number, 0)])
            yield from _to_the_end(consumer, f"{topic}[{number}]")
    finally:
        consumer.close()


def _to_the_end(consumer: Consumer, what: str) -> Iterator[tuple[Received, dict[str, bytes]]]:
    while True:
        message = consumer.poll(TIMEOUT)
        if message is None:
            raise KafkaFailed(f"{what}: nothing came within {TIMEOUT:g} s")
        error = message.error()
        if error is None:
            yield received(message), dict(message.headers() or ())
        elif error.code() == KafkaError._PARTITION_EOF:
            return
        else:
            raise KafkaFailed(f"{what}: {told(error)}")


def committed(config: Mapping, topic: str, group: str) -> int:
    """How many messages of a topic lie before the offsets that a group has committed."""
    return _committed(AdminClient(dict(config)), topic, group)


def wait_for_commits(
    config: Mapping,
    topic: str,
    group: str,
    count: int,
    timeout: float,
    unless: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until a group has committed `count` messages of a topic, or `unless` says true.

    Raises:
        TimeoutError: neither within `timeout` seconds.
    """
    admin = AdminClient(dict(config))
    what = f"{count} messages are committed by {group}"
    wait_until(
        lambda: unless() or _committed(admin, topic, group) >= count, timeout, what, pause=0.01
    )


def _committed(admin: AdminClient, topic: str, group: str) -> int:
    request = ConsumerGroupTopicPartitions(group)
    with _told(f"the offsets of the group {group!r}"):
        answer = admin.list_consumer_group_offsets([request])[group]
        places = answer.result(TIMEOUT).topic_partitions
    return sum(max(0, place.offset) for place in places if place.topic == topic)
