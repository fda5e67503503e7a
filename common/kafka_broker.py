"""A Kafka broker without Docker, for lessons and tests: the PyPI package noida-db.

    with broker() as kafka:
        Producer({"bootstrap.servers": kafka})

It speaks Kafka's protocol over TCP, and it is not Apache Kafka: one process that holds all
messages in memory and writes them to a file. Killed, it loses up to a second of what it has
acknowledged. Commits within a rebalance are refused. A rebalance hangs where a member leaves in the
midst of it, and where one died that has no name of its own (`group.instance.id`). With
KAFKA_BOOTSTRAP set, that Kafka is taken.
"""

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from common.child_process import start_child
from common.settings import settings

PACKAGE = "noida-db"
INSTALL_LINE = "pip install noida-db==0.2.3"
START_TIMEOUT = 10.0  # seconds


class BrokerError(RuntimeError):
    """There is no Kafka, and none can be started; the message says why and what to do."""

    exit_code = 2


def missing_reason() -> str:
    """Why no broker can be started here, with what to do about it; '' if one can."""
    if sys.platform != "linux":
        return "noida-db is used on Linux only; `docker compose --profile streaming up -d --wait`"
    if _binary() is None:
        return f"the package {PACKAGE} is not installed: {INSTALL_LINE}"
    return ""


def _binary() -> Path | None:
    spec = importlib.util.find_spec("noida_db")
    for place in (spec and spec.submodule_search_locations) or ():
        # Started directly: the package's own command would leave it running when it is stopped.
        binary = Path(place) / "noida-db"
        if binary.is_file():
            return binary
    return None


class KafkaBroker:
    """One broker process on a free port of this machine. A context manager: stopped at the end.

    Args:
        folder: where its data and its log live; None takes a temporary one that is removed.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        reason = missing_reason()
        if reason:
            raise BrokerError(f"no Kafka broker: {reason}")
        self._temporary = folder is None
        self.folder = Path(folder or tempfile.mkdtemp(prefix="kafka-broker-")).resolve()
        self._port = 0
        self._popen: subprocess.Popen | None = None

    def __enter__(self) -> "KafkaBroker":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """Its address, as `bootstrap.servers` takes it."""
        return f"127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def notice(self) -> str:
        """One line on what this is."""
        version = metadata.version(PACKAGE)
        return (
            f"Kafka protocol by {PACKAGE} {version} at {self.bootstrap}: this is not Apache Kafka."
        )

    def start(self) -> "KafkaBroker":
        """Start it and wait until it takes connections.

        Raises:
            BrokerError: it did not; the message ends with its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in (1, 2, 3):
            # Somebody may take the port between our look and the broker's: then look again.
            self._port = _free_port()
            self._launch()
            if self._wait_until_listening():
                return self
            self.stop()
            if attempt == 3:
                log = (self.folder / "broker.log").read_text(errors="replace")[-1000:]
                raise BrokerError(f"the Kafka broker did not start. Its log:\n{log}")
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """Stop it in order, so that its data is saved; after `timeout` seconds kill it."""
        if self._popen is None:
            return
        self._popen.terminate()
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen = None

    def close(self) -> None:
        """Stop it and remove a temporary folder."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self) -> None:
        command = ["start", "--data-dir", self.folder, "--only", "kafka", "--host", "127.0.0.1"]
        command += ["--kafka-port", str(self._port)]
        self._popen = start_child([_binary(), *command], self.folder / "broker.log", mode="wb")

    def _wait_until_listening(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while self.running and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return True
            time.sleep(0.02)
        return False


@contextlib.contextmanager
def broker(bootstrap: str = "", announce: Callable[[str], None] = print) -> Iterator[str]:
    """The address of a Kafka: the given one, that of KAFKA_BOOTSTRAP, or a broker of our own.

    Args:
        bootstrap: "host:port", several with commas between them; empty asks the settings.
        announce: called with one line that says what was started, if something was.

    Raises:
        BrokerError: none is given and none can be started.
    """
    chosen = bootstrap or settings().kafka_bootstrap
    if chosen:
        yield chosen
        return
    reason = missing_reason()
    if reason:
        raise BrokerError(f"KAFKA_BOOTSTRAP names no Kafka, and none can be started: {reason}")
    with KafkaBroker() as started:
        announce(started.notice)
        yield started.bootstrap


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
