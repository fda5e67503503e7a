"""Plumbing of the streaming script's commands: options, files of changes, signals, processes."""

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from common.change_messages import NotStreamable, delete_message
from common.kafka_broker import BrokerError
from common.kafka_topics import Config, client_config
from common.settings import settings
from common.streaming import StreamOptions
from common.units import whole_number

import orjson
from pymilvus import MilvusClient

LEAST_SESSION = 6  # seconds: what a Kafka allows by default
MESSAGES, QUICK_MESSAGES, POISONED, DIMENSION, PARTITIONS, KILLS = 5_000, 1_000, 50, 32, 3, 3
NO_KAFKA = (
    "which Kafka? Give --bootstrap host:port or set KAFKA_BOOTSTRAP. In Docker: docker compose "
    "--profile streaming up -d --wait. Without: noida-db start --only kafka --kafka-port 9092"
)


class ChangesRefused(ValueError):  # noqa: N818 - it reads as a sentence where it is raised
    """A file of changes that cannot be sent; the message names the line."""

    exit_code = 1


def read_options(title: str, arguments: list[str] | None) -> argparse.Namespace:
    """The options of the lesson and of its commands, checked; `title` heads the help."""
    parser = argparse.ArgumentParser(description=title)
    for name, default, least, what in (
        ("messages", MESSAGES, QUICK_MESSAGES, "of the topic"),
        ("poisoned", POISONED, 9, "messages beside them"),
        ("partitions", PARTITIONS, 2, "of the topic"),
        ("dimension", DIMENSION, 2, "of the vectors"),
        ("kills", KILLS, 1, "of the consumer"),
    ):
        _add_number(parser, f"--{name}", default, least, what)
    quick = {"action": "store_true", "help": f"{QUICK_MESSAGES} messages, one kill, no outage"}
    parser.add_argument("--quick", **quick)
    add_commands(parser)
    options = parser.parse_args(arguments)
    if options.quick:
        options.messages, options.kills = QUICK_MESSAGES, 1
    return options


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add `produce` and `consume` with their options."""
    commands = parser.add_subparsers(dest="command", metavar="produce | consume")
    produce = commands.add_parser("produce", help="send a file of changes to a topic")
    _add_kafka(produce)
    add, number = produce.add_argument, partial(whole_number, least=1)
    file = 'lines {"op": "upsert", "row": {...}} and {"op": "delete", "id": ...} (default: stdin)'
    add("--file", type=Path, metavar="FILE", help=file)
    add("--key", default="id", metavar="FIELD", help="the primary key (default: %(default)s)")
    made = "of the topic, if it is made (default: %(default)s)"
    add("--partitions", type=number, default=3, metavar="N", help=made)
    consume = commands.add_parser("consume", help="keep a collection in step with a topic")
    _add_kafka(consume)
    add, default = consume.add_argument, StreamOptions("", "", "")
    add("--collection", required=True, metavar="NAME", help="a collection that is there")
    add("--group", metavar="NAME", help="of consumers (default: milvus-<collection>)")
    letters = "topic for what cannot be stored (default: <topic>-dead-letters)"
    add("--dead-letters", metavar="TOPIC", help=letters)
    add("--member", default="", metavar="NAME", help="stays over restarts (default: none)")
    _add_number(consume, "--batch", default.batch, 1, "messages at once")
    _add_number(consume, "--buffered", default.buffered, 1, "messages in memory at most")
    session = "seconds of silence until others take over (default: %(default)s)"
    least = partial(whole_number, least=LEAST_SESSION)
    add("--session", type=least, default=10, metavar="SECONDS", help=session)
    poll = "seconds that it may take between two looks for messages (default: %(default)s)"
    add("--poll", type=least, default=300, metavar="SECONDS", help=poll)
    timeout = "seconds for a call of Milvus (default: %(default)s)"
    add("--timeout", type=number, default=10, metavar="SECONDS", help=timeout)
    every = "seconds between two lines in a log (default: %(default)s)"
    add("--report-every", type=number, default=10, metavar="SECONDS", help=every)
    add("--until-end", action="store_true", help="stop where the topic ends (default: go on)")


def _add_number(
    parser: argparse.ArgumentParser, name: str, default: int, least: int, what: str
) -> None:
    """Add an option for a whole number that is not too small."""
    number = partial(whole_number, least=least)
    text = f"{what} (default: %(default)s)"
    parser.add_argument(name, type=number, default=default, metavar="N", help=text)


def _add_kafka(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--topic", required=True, metavar="NAME", help="of changes")
    add("--bootstrap", metavar="HOST:PORT", help="the Kafka (default: KAFKA_BOOTSTRAP)")
    properties = "of librdkafka, name=value, for TLS and users (default: none)"
    add("--kafka-config", type=Path, metavar="FILE", help=properties)


def kafka_of(options: argparse.Namespace) -> Config:
    """The configuration for the Kafka that a command names.

    Raises:
        BrokerError: neither an option nor the settings name one.
    """
    bootstrap = options.bootstrap or settings().kafka_bootstrap
    if not bootstrap:
        raise BrokerError(NO_KAFKA)
    return client_config(bootstrap, options.kafka_config)


def description_of(client: MilvusClient, collection: str, timeout: float) -> Mapping:
    """A collection as Milvus describes it.

    Raises:
        NotStreamable: there is none of this name.
    """
    if not client.has_collection(collection, timeout=timeout):
        raise NotStreamable(f"there is no collection {collection!r}: create it first")
    return client.describe_collection(collection, timeout=timeout)


def stream_options(options: argparse.Namespace) -> StreamOptions:
    """What the options of `consume` say of the stream."""
    return StreamOptions(
        topic=options.topic,
        group=options.group or f"milvus-{options.collection}",
        dead_letters=options.dead_letters or f"{options.topic}-dead-letters",
        batch=options.batch,
        buffered=max(options.buffered, options.batch),
        member=options.member,
        session_seconds=options.session,
        poll_seconds=options.poll,
    )


@contextmanager
def lines_of(path: Path | None) -> Iterator[Iterable[bytes]]:
    """The lines of a file, or of stdin.

    Raises:
        ChangesRefused: the file cannot be read.
    """
    if path is None:
        yield sys.stdin.buffer
        return
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ChangesRefused(f"cannot read {path}: {error.strerror}") from error


def messages_of(lines: Iterable[bytes], key_field: str) -> Iterator[tuple[bytes, bytes]]:
    """Lines of JSON as messages with their keys; blank lines are left out.

    Only what names the row is looked at: whether the row fits a collection, its consumer decides.

    Raises:
        ChangesRefused: a line is not JSON, or names no row.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            change = orjson.loads(line)
            id = change["id"] if change["op"] == "delete" else change["row"][key_field]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ChangesRefused(
                f"line {number} is no change: {error!r}. The lines before it are sent. A line is "
                f'{{"op": "upsert", "row": {{"{key_field}": 7}}}} or {{"op": "delete", "id": 7}}'
            ) from error
        key, _ = delete_message(id)
        yield key, line.strip()


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one ends the process as usual."""
    stop = threading.Event()
    before = {}

    def ask_to_stop(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def consumer_process(script: str, uri: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """The script's own `consume` as a process on a Milvus; it is gone at the end."""
    process = subprocess.Popen(
        [sys.executable, script, "consume", *arguments],
        env={**os.environ, "MILVUS_URI": uri},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the script, which then ends it
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
