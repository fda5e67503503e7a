"""04_kafka_streaming: what a collection holds afterwards is what the topic says, on every engine.

The topic is replayed here by a few lines of their own, and rows are compared with all their fields.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from uuid import uuid4

from common import kafka_topics as kafka
from common.connection import Milvus, connect
from common.kafka_broker import INSTALL_LINE, KafkaBroker
from common.local_server import LocalServer
from common.measuring import wait_until
from common.row_counts import count_now
from common.sample_changes import KeyAndValue, poisoned_messages, sample_changes
from common.stream_trials import SampleTopic

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient
from pymilvus import MilvusClient, MilvusException

DIMENSION, PATIENCE = 32, 120


@pytest.fixture(scope="module")
def bootstrap(part: Callable[[str, str], str]) -> Iterator[str]:
    part("noida-db", INSTALL_LINE)
    with KafkaBroker() as broker:
        yield broker.bootstrap


@pytest.fixture
def config(bootstrap: str) -> Iterator[dict[str, object]]:
    config = kafka.client_config(bootstrap)
    yield config
    kafka.delete_topics(config, "test-")


@pytest.fixture
def prefix() -> str:
    """For names of topics: a group keeps its offsets when its topic is gone."""
    return f"test-{uuid4().hex[:8]}"


@pytest.fixture
def process(
    lesson: ModuleType, script_environment: dict[str, str], bootstrap: str, tmp_path: Path
) -> Callable[..., "contextmanager[subprocess.Popen]"]:
    """`with process(uri, "consume", ...) as running`: the script with a command, as a process."""

    @contextmanager
    def start(uri: str, *arguments: str) -> Iterator[subprocess.Popen]:
        with subprocess.Popen(
            [sys.executable, lesson.__file__, *arguments, "--bootstrap", bootstrap],
            cwd=tmp_path,
            env={**script_environment, "MILVUS_URI": uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            try:
                yield running
            finally:
                running.kill()

    return start


def expected_rows(messages: list[KeyAndValue]) -> dict[int, dict]:
    """From each id to its row after clean messages, in the order in which they were produced."""
    rows: dict[int, dict] = {}
    for key, value in messages:
        change = json.loads(value)
        rows.pop(int(key), None)
        if change["op"] == "upsert":
            rows[int(key)] = change["row"]
    return rows


def rows_of(client: MilvusClient, name: str) -> dict[int, dict]:
    """All rows of a collection by id; each id once."""
    rows = []
    for first in range(0, 30_000, 5_000):
        rows += client.query(
            name,
            filter=f"id >= {first} and id < {first + 5_000}",
            output_fields=["id", "title", "version", "vector"],
            limit=16_384,
            consistency_level="Strong",
            timeout=60,
        )
    ids = [row["id"] for row in rows]
    assert len(ids) == len(set(ids)) == count_now(client, name)
    return {row["id"]: row for row in rows}


def assert_in_step(client: MilvusClient, name: str, messages: list[KeyAndValue]) -> None:
    expected, held = expected_rows(messages), rows_of(client, name)
    lost, left_over = expected.keys() - held.keys(), held.keys() - expected.keys()
    stale = [id for id in held.keys() & expected.keys()
             if held[id]["version"] != expected[id]["version"]]  # fmt: skip
    assert (len(lost), len(left_over), len(stale)) == (0, 0, 0)
    assert [held[id]["title"] for id in expected] == [row["title"] for row in expected.values()]
    vectors = np.array([held[id]["vector"] for id in expected], np.float32)
    np.testing.assert_array_equal(
        vectors, np.array([row["vector"] for row in expected.values()], np.float32)
    )


def assert_buried(config: dict, topic: str, letters: str, poison: list[KeyAndValue]) -> None:
    """Each poisoned message is in the dead-letter topic: its bytes, why, and from where."""
    sources = {
        (message.partition, message.offset): message
        for message, _ in kafka.read_topic(config, topic)
    }
    found = {}
    for letter, headers in kafka.read_topic(config, letters):
        assert headers["reason"].decode().strip()
        assert headers["topic"].decode() == topic
        place = int(headers["partition"]), int(headers["offset"])
        source = sources[place]
        assert (letter.key, letter.value) == (source.key, source.value)
        assert int(headers["time"]) == source.time
        found[place] = source.key, source.value
    assert Counter(found.values()) == Counter(poison)


# As a learner runs it


def test_passes_as_a_process(passes_as_a_process: Callable[..., str]) -> None:
    printed = passes_as_a_process("--quick")
    titles = [line.split(".")[0] for line in printed.splitlines() if line.endswith("───")]
    assert [title for title in titles if title.isdigit()] == ["1", "2", "3", "4", "6"]
    assert "this is not Apache Kafka" in printed.splitlines()[0]
    assert "not run: 5. Milvus away, and back" in printed
    kept = [line.split() for line in printed.splitlines() if line.split()[:2] == ["in", "step"]]
    assert len(kept) == 3
    assert all(line[3:] == ["0", "0", "0", "0"] for line in kept)


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("1.")  # its collections are there by then


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--messages", "999"], "'999' is not a whole number of 1,000 or more"),
        (["--partitions", "1"], "of 2 or more"),
        (["--kills", "0"], "of 1 or more"),
        (["--poisoned", "8"], "of 9 or more"),
        (["--dimension", "1"], "of 2 or more"),
        (["consume", "--topic", "x"], "required: --collection"),
        (["consume", "--topic", "x", "--collection", "y", "--batch", "0"], "of 1 or more"),
        (["consume", "--topic", "x", "--collection", "y", "--session", "5"], "of 6 or more"),
        (["produce"], "required: --topic"),
    ],
)
def test_silly_options_are_refused(
    lesson: ModuleType, options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        lesson.main(options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


# The sections


@pytest.fixture
def made(lesson: ModuleType, milvus: Milvus) -> Callable[..., MilvusClient]:
    def make(*names: str) -> MilvusClient:
        for name in names:
            lesson.create(milvus.client, name, DIMENSION)
        return milvus.client

    return make


def test_consumers_of_a_few_lines_lose_rows(
    lesson: ModuleType, made: Callable[..., MilvusClient], milvus: Milvus, config: dict, prefix: str
) -> None:
    client = made(lesson.COMMIT_FIRST, lesson.COMMIT_LAST, lesson.AS_THEY_COME)
    clean = sample_changes(600, DIMENSION)
    (poison,) = poisoned_messages(2, DIMENSION, 600)[1:]
    topics = [SampleTopic(config, f"{prefix}-{name}", 1, range(600, 602)).create() for name in "ab"]
    topics[0].fill(clean)
    topics[1].fill([*clean[:250], poison, *clean[250:]])
    found = lesson.fail(client, *topics)
    first, last, naive = found.values()
    rows = {name: rows_held(client, name) for name in (lesson.COMMIT_FIRST, lesson.COMMIT_LAST)}
    wanted = expected_rows(clean)
    # Of the second batch of 200, which holds the poison, nothing is ever stored.
    of_the_batch = {int(key) for key, _ in clean[200:399]}
    elsewhere = {int(key) for key, _ in clean[:200] + clean[399:]}
    assert of_the_batch - elsewhere
    assert not rows[lesson.COMMIT_FIRST] & (of_the_batch - elsewhere)
    assert first.lost == len(wanted.keys() - rows[lesson.COMMIT_FIRST]) > 0
    assert rows[lesson.COMMIT_LAST] <= {int(key) for key, _ in clean[:200]}
    assert last.lost == len(wanted.keys() - rows[lesson.COMMIT_LAST]) > first.lost
    assert naive.expected == len(wanted)
    assert naive.lost > 0  # deleted after the upsert that came later
    if milvus.kind != "lite":  # which keeps the last row of a key, and once
        assert naive.copies > 0
        assert naive.stale > 0


def rows_held(client: MilvusClient, name: str) -> set[int]:
    options = {"limit": 16_384, "consistency_level": "Strong", "timeout": 60}
    rows = client.query(name, filter="id >= 0", output_fields=["id"], **options)
    return {row["id"] for row in rows}


def test_follows_a_topic_and_replays_change_nothing(
    lesson: ModuleType, made: Callable[..., MilvusClient], config: dict, prefix: str
) -> None:
    client = made(lesson.KEPT)
    clean, poison = sample_changes(700, DIMENSION), poisoned_messages(18, DIMENSION, 700)
    topic = SampleTopic(config, f"{prefix}-kept", 3, range(700, 718)).create()
    topic.fill(clean[:300] + poison + clean[300:])
    stats, found = lesson.follow(topic, client)
    assert found.none
    assert found.expected == len(expected_rows(clean))
    assert_in_step(client, lesson.KEPT, clean)
    assert stats.read == stats.written == 718
    assert stats.dead == 18
    assert stats.upserts + stats.deletes + stats.superseded == 700
    assert stats.superseded > 0
    assert stats.lag == 0
    assert_buried(config, topic.name, topic.options("kept").dead_letters, poison)
    assert kafka.committed(config, topic.name, topic.options("kept").group) == 718


def test_two_consumers_share_the_partitions(
    lesson: ModuleType, made: Callable[..., MilvusClient], config: dict, prefix: str
) -> None:
    client = made(lesson.SHARED)
    clean = sample_changes(900, DIMENSION)
    topic = SampleTopic(config, f"{prefix}-shared", 4, range(0)).create()
    stats, found = lesson.share(topic, client, clean)
    assert found.none
    assert sorted(stats[0].partitions + stats[1].partitions) == [0, 1, 2, 3]
    assert all(each.written > 0 for each in stats)
    assert sum(each.written for each in stats) == 900
    assert_in_step(client, lesson.SHARED, clean)


def test_outlives_milvus(
    lesson: ModuleType,
    config: dict,
    prefix: str,
    server_installed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = sample_changes(1_500, DIMENSION)
    topic = SampleTopic(config, f"{prefix}-away", 2, range(0)).create()
    topic.fill(clean)
    monkeypatch.setattr(lesson, "SMALL_BATCH", 20)
    outage, found = lesson.outlive_milvus(topic, DIMENSION, 1_500)
    assert found.none
    assert found.expected == len(expected_rows(clean))
    stats = outage.stats
    assert stats.retries > 0
    assert stats.assignments == 1  # although Milvus was away for longer than two polls may take
    assert stats.abandoned == 0
    assert stats.read == stats.written == 1_500
    assert outage.back > outage.killed


# The commands, as processes


def lag_of(config: dict, topic: str, group: str) -> int:
    held = sum(1 for _ in kafka.read_topic(config, topic))
    return held - kafka.committed(config, topic, group)


def test_survives_the_death_of_everybody(
    lesson: ModuleType,
    config: dict,
    prefix: str,
    throwaway_server: LocalServer,
    process,
    full: bool,
) -> None:
    """20,000 messages (by --full): three SIGKILLs of the consumer and one of Milvus."""
    count = 20_000 if full else 4_000
    clean, poison = sample_changes(count, DIMENSION), poisoned_messages(50, DIMENSION, count)
    topic, name, group = prefix, lesson.KEPT, f"{prefix}-group"
    kafka.create_topic(config, topic, 3)
    kafka.send_all(config, topic, clean[: count // 2] + poison + clean[count // 2 :])
    operations = Counter(json.loads(value)["op"] for _, value in clean)
    keys = [key for key, value in clean if json.loads(value)["op"] == "upsert"]
    assert 0.04 < operations["delete"] / count < 0.06
    assert 0.09 < (len(keys) - len(set(keys))) / count < 0.14  # updates, and rows that come again
    uri, total = throwaway_server.uri, count + 50
    with connect(uri) as milvus:
        lesson.create(milvus.client, name, DIMENSION)
    arguments = ["consume", "--topic", topic, "--collection", name, "--group", group]
    arguments += ["--member", "one", "--batch", "100", "--until-end", "--session", "6"]
    started = time.monotonic()
    for kill in (1, 2, 3):
        with process(uri, *arguments) as consumer:
            kafka.wait_for_commits(config, topic, group, total * kill // 5, PATIENCE)
            assert consumer.poll() is None
            os.kill(consumer.pid, signal.SIGKILL)
            assert consumer.wait(PATIENCE) == -signal.SIGKILL
        assert kafka.committed(config, topic, group) < total
    with process(uri, *arguments) as consumer:
        kafka.wait_for_commits(config, topic, group, total * 4 // 5, PATIENCE)
        throwaway_server.kill()
        before = kafka.committed(config, topic, group)
        assert before < total
        time.sleep(1)
        assert kafka.committed(config, topic, group) - before <= 100  # what was on its way
        throwaway_server.start()
        printed, errors = consumer.communicate(timeout=PATIENCE)
        assert consumer.returncode == 0, errors
    seconds = time.monotonic() - started
    print(f"\n{total:,} messages, 3 kills of the consumer and one of Milvus: {seconds:.1f} s")
    print(printed.splitlines()[-1])
    assert kafka.committed(config, topic, group) == total
    assert "lag 0" in printed
    with connect(uri) as milvus:
        wait_until(lambda: is_served(milvus.client, name), PATIENCE, "the collection is served")
        assert_in_step(milvus.client, name, clean)
    assert_buried(config, topic, f"{topic}-dead-letters", poison)


def is_served(client: MilvusClient, name: str) -> bool:
    try:
        return count_now(client, name, timeout=5) > 0
    except MilvusException:
        return False


def test_a_group_of_two_processes_stops_when_told(
    lesson: ModuleType, config: dict, prefix: str, shared_server: LocalServer, process
) -> None:
    clean = sample_changes(2_000, DIMENSION)
    topic, name, group = prefix, lesson.SHARED, f"{prefix}-group"
    kafka.create_topic(config, topic, 4)
    uri = shared_server.uri
    arguments = ["consume", "--topic", topic, "--collection", name, "--group", group]
    arguments += ["--report-every", "1", "--session", "6", "--poll", "6"]
    with connect(uri) as milvus:
        lesson.create(milvus.client, name, DIMENSION)
        try:
            with process(uri, *arguments) as one, ExitStack() as stack:
                wait_until(lambda: shares(config, group) == [4], PATIENCE, "one has all")
                two = stack.enter_context(process(uri, *arguments))
                wait_until(lambda: shares(config, group) == [2, 2], PATIENCE, "both have two")
                kafka.send_all(config, topic, clean)
                kafka.wait_for_commits(config, topic, group, 2_000, PATIENCE)
                assert_in_step(milvus.client, name, clean)
                one.send_signal(signal.SIGTERM)
                two.send_signal(signal.SIGINT)
                for consumer in (one, two):
                    printed, errors = consumer.communicate(timeout=PATIENCE)
                    assert consumer.returncode == 0, errors
                    assert errors == ""
                    assert int(printed.splitlines()[-1].split()[0].replace(",", "")) > 0
        finally:
            milvus.client.drop_collection(name)
    # They have left: a third one gets everything at once, and finds nothing to do.
    assert lag_of(config, topic, group) == 0


def shares(config: dict, group: str) -> list[int]:
    """How many partitions each member of a group has."""
    admin = AdminClient(config)
    members = admin.describe_consumer_groups([group])[group].result(10).members
    return sorted(len(member.assignment.topic_partitions) for member in members)


def test_produce_and_consume_a_file(
    lesson: ModuleType,
    config: dict,
    prefix: str,
    bootstrap: str,
    engine: str,
    run_script,
    tmp_path: Path,
) -> None:
    lite = engine.endswith(".db")
    uri = str(tmp_path / "file.db") if lite else engine
    with connect(uri) as milvus:
        lesson.create(milvus.client, lesson.KEPT, DIMENSION)
    clean = sample_changes(300, DIMENSION)
    file = tmp_path / "changes.jsonl"
    file.write_bytes(b"\n".join(value for _, value in clean) + b"\n\n")
    kafka_at = {"KAFKA_BOOTSTRAP": bootstrap}
    sent = run_script("produce", "--topic", prefix, "--file", str(file), uri=uri, **kafka_at)
    assert sent.returncode == 0, sent.stderr
    assert f"300 messages sent to {prefix}" in sent.stdout
    assert kafka.partitions_of(config, prefix) == 3
    consume = ["consume", "--topic", prefix, "--collection", lesson.KEPT, "--until-end"]
    consume += ["--group", prefix]
    done = run_script(*consume, uri=uri, **kafka_at)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("300 messages, ")
    with connect(uri) as milvus:
        milvus.client.load_collection(lesson.KEPT, timeout=60)
        assert_in_step(milvus.client, lesson.KEPT, clean)
        milvus.client.drop_collection(lesson.KEPT)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["produce", "--topic", "test-x"], 2, "which Kafka? Give --bootstrap"),
        (["produce", "--topic", "test-x", "--bootstrap", "localhost:1"], 2, "no Kafka answers at"),
        (
            ["consume", "--topic", "test-x", "--collection", "none", "--bootstrap", "HERE"],
            2,
            "there is no collection 'none'",
        ),
        (
            ["produce", "--topic", "test-x", "--bootstrap", "HERE", "--file", "changes.jsonl"],
            1,
            "line 2 is no change",
        ),
        (
            ["produce", "--topic", "test-x", "--bootstrap", "HERE", "--file", "nowhere"],
            1,
            "cannot read nowhere",
        ),
        (
            ["produce", "--topic", "test-x", "--bootstrap", "HERE", "--kafka-config", "bad.conf"],
            2,
            "bad.conf, line 1: not name=value",
        ),
    ],
)
def test_what_is_wrong_is_told(
    config: dict,
    bootstrap: str,
    run_script: Callable[..., subprocess.CompletedProcess],
    tmp_path: Path,
    command: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "changes.jsonl").write_text('{"op": "delete", "id": 7}\n{"op": "upsert"}\n')
    (tmp_path / "bad.conf").write_text("security.protocol SSL\n")
    command = [bootstrap if word == "HERE" else word for word in command]
    done = run_script(*command, uri=str(tmp_path / "wrong.db"), KAFKA_BOOTSTRAP="")
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
