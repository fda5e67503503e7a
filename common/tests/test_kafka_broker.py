"""The package broker: on its own port, gone with whoever started it, not started for nothing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from common import kafka_broker
from common.kafka_broker import INSTALL_LINE, BrokerError, KafkaBroker, broker
from common.kafka_topics import (
    KafkaFailed,
    client_config,
    committed,
    create_topic,
    delete_topics,
    partitions_of,
    read_topic,
    send_all,
)
from common.measuring import wait_until
from common.settings import Settings

import pytest


@pytest.fixture
def installed(part: Callable[[str, str], str]) -> None:
    part("noida-db", INSTALL_LINE)


def listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_topics_are_made_filled_read_and_removed(installed: None, tmp_path: Path) -> None:
    with KafkaBroker(tmp_path / "broker") as started:
        assert "this is not Apache Kafka" in started.notice
        config = client_config(started.bootstrap)
        assert partitions_of(config, "t") == 0
        assert create_topic(config, "t", 3)
        assert not create_topic(config, "t", 5)
        assert partitions_of(config, "t") == 3
        messages = [(f"{n % 7}".encode(), f"{n}".encode()) for n in range(500)]
        assert send_all(config, "t", messages).count == 500
        found = [message for message, headers in read_topic(config, "t") if not headers]
        # One key stays in one partition and in its order.
        for key in {key for key, _ in messages}:
            own = [message for message in found if message.key == key]
            assert [m.value for m in own] == [value for k, value in messages if k == key]
            assert len({m.partition for m in own}) == 1
        assert committed(config, "t", "nobody") == 0
        delete_topics(config, "t")
        with pytest.raises(KafkaFailed, match="there is no topic 't'"):
            list(read_topic(config, "t"))
    assert not listens(started.bootstrap)
    assert (tmp_path / "broker").is_dir()


def test_a_message_that_is_too_large_is_told(installed: None) -> None:
    with KafkaBroker() as started:
        config = client_config(started.bootstrap)
        create_topic(config, "t")
        with pytest.raises(KafkaFailed, match="not taken for 't'"):
            send_all(config, "t", [(b"1", b"x" * 2_000_000)])
    assert not started.folder.exists()


def test_it_dies_with_its_parent(installed: None) -> None:
    code = (
        "import time; from common.kafka_broker import KafkaBroker\n"
        "started = KafkaBroker().start(); print(started.bootstrap, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        address = parent.stdout.readline().strip()
        assert listens(address)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)
        wait_until(lambda: not listens(address), 10, "the broker is gone")


def test_a_given_kafka_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    with broker("kafka.example:9092", lines.append) as address:
        assert address == "kafka.example:9092"
    chosen = Settings(kafka_bootstrap="elsewhere:9092")
    monkeypatch.setattr(kafka_broker, "settings", lambda: chosen)
    with broker(announce=lines.append) as address:
        assert address == "elsewhere:9092"
    assert lines == []


def test_without_the_package_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_broker, "settings", lambda: Settings(kafka_bootstrap=""))
    monkeypatch.setattr(kafka_broker, "_binary", lambda: None)
    with pytest.raises(BrokerError, match="pip install noida-db==") as caught, broker():
        pass
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(BrokerError, match="docker compose --profile streaming"):
        KafkaBroker()


def test_properties_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("# users\nsecurity.protocol=SASL_SSL\n\nsasl.password = a=b \n")
    config = client_config("host:9092", path)
    assert config["security.protocol"] == "SASL_SSL"
    assert config["sasl.password"] == "a=b"
    assert config["bootstrap.servers"] == "host:9092"
    path.write_text("nonsense\n")
    with pytest.raises(KafkaFailed, match="line 1: not name=value"):
        client_config("host:9092", path)
    with pytest.raises(KafkaFailed, match="cannot read"):
        client_config("host:9092", tmp_path / "none")
