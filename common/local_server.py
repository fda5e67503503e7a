"""A real Milvus server without Docker: start, wait until ready, stop.

    python -m common.local_server start | stop | status

The PyPI package `milvus` carries the server itself (Go, knowhere, embedded etcd, RocksMQ). It is
of the 2.3 line, older than the images of docker-compose.yml, and for learning and tests on a
trusted machine only: it listens on all addresses, and its management port answers without
credentials (CVE-2026-26190). Never put real data into it.

The binary is started directly and not through the package's own wrapper, which unpacks 246 MB
into each data folder, leaves the embedded etcd on its default ports, so that a second server
cannot start, and waits for ever on a child that died.
"""

import argparse
import contextlib
import fcntl
import importlib.util
import json
import lzma
import os
import platform
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from common.settings import PROJECT_ROOT, settings

import psutil

INSTALL_LINE = "pip install milvus==2.3.5"
DEFAULT_FOLDER = PROJECT_ROOT / ".milvus" / "server"
DEFAULT_PORT = 19530

# What the server opens beside the proxy's port, which clients use. The names are those of the
# package's configuration template; etcd_port is where Milvus looks for its embedded etcd.
INNER_PORTS = (
    "proxy_internal_port",
    "root_coord_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
    "etcd_port",
    "etcd_peer_port",
    "metrics_port",
)

# After a crash the collections can be queried again once the dead server's session has expired:
# 8 to 12 s with 5 s instead of half a minute with the default. The graceful stop would otherwise
# wait up to half an hour for loaded collections.
ENVIRONMENT = {
    "COMMON_SESSION_TTL": "5",
    "COMMON_GRACEFULSTOPTIMEOUT": "1",
    "LOG_LEVEL": "warn",
    "LOG_STDOUT": "false",
}

# For tests: shorter ticks, so that flush and strongly consistent reads take a fraction of their
# usual time. Not for lessons, whose figures would then be those of no usual server.
QUICK_TICKS = {
    "DATACOORD_SEGMENT_ASSIGNMENTEXPIRATION": "200",
    "PROXY_TIMETICKINTERVAL": "50",
    "QUERYCOORD_CHECKINTERVAL": "100",
    "QUERYCOORD_DISTPULLINTERVAL": "100",
}

Tls = Literal["server", "mutual"]


class LocalServerError(RuntimeError):
    """The local server cannot be started or stopped; the message says why and what to do."""

    exit_code = 2


@dataclass
class _Record:
    """What is written down of a running server, so that a later process can find it."""

    pid: int
    created: float
    owner_pid: int | None  # None: started to outlive the process that started it
    owner_created: float | None
    folder: str
    uri: str
    ports: dict[str, int] = field(default_factory=dict)
    authorization: bool = False
    tls: Tls | None = None
    temporary: bool = False

    @property
    def process(self) -> psutil.Process | None:
        return _process(self.pid, self.created)

    @property
    def orphaned(self) -> bool:
        """Whether the process that was to stop this server is gone."""
        return self.owner_pid is not None and not _process(self.owner_pid, self.owner_created)


def _process(pid: int, created: float) -> psutil.Process | None:
    """The process `pid` if it is alive and the one that was meant: ids are used again."""
    try:
        process = psutil.Process(pid)
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return process if alive and abs(process.create_time() - created) < 1 else None
    except psutil.NoSuchProcess:
        return None


def server_is_installed() -> bool:
    """Whether the package `milvus` with the server's binary is there, for this platform."""
    return not missing_reason()


def missing_reason() -> str:
    """Why no local server can be started here, with the line that installs it; '' if one can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the server package exists for Linux x86-64 only; use `docker compose up -d --wait`"
    if package_data() is None:
        return f"the package milvus is not installed: {INSTALL_LINE}"
    return ""


def package_data() -> Path | None:
    """The folder of the package `milvus` with its binaries and templates; None without it."""
    spec = importlib.util.find_spec("milvus")
    for place in (spec and spec.submodule_search_locations) or ():
        data = Path(place) / "data"
        if (data / "bin" / "milvus.lzma").is_file():
            return data
    return None


def unpacked_binaries() -> Path:
    """The folder with the server's binary and libraries, unpacked once and shared by all servers.

    The folder gets its name only when it is complete, so a run that was cut short leaves nothing
    that a later one would take for whole.
    """
    source = package_data() / "bin"
    target = settings().cache_dir / f"milvus-server-{metadata.version('milvus')}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        for packed in sorted(source.glob("*.lzma")):
            unpacked = unfinished / packed.stem
            with lzma.open(packed) as reader, unpacked.open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
            unpacked.chmod(0o755)
        # Another process may have finished first: then its folder is as good as ours.
        with contextlib.suppress(FileExistsError, OSError):
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if not target.is_dir():
        raise LocalServerError(f"cannot unpack the Milvus server into {target}")
    return target


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> range:
    """A block of ports nobody listens on, below the range the kernel takes outgoing ones from.

    In that range a client that knocks at the port of a stopped server can be given this very
    port for its own end, connect to itself, and keep the server from coming back.
    """
    blocks = range(20000, 32000, count)
    for start in random.SystemRandom().sample(blocks, len(blocks)):
        block = range(start, start + count)
        if all(_is_free(port) for port in block):
            return block
    raise LocalServerError(f"no {count} free ports in a row between 20000 and 32000")


class LocalServer:
    """One Milvus server process and its data folder. A context manager: stopped at the end.

    Args:
        folder: where data, configuration and logs live; None takes a temporary folder that is
            removed at the end. A folder that has data is started again with that data.
        port: the port for clients; None takes a free one.
        authorization: whether clients need a token. A new server has the user `root` with the
            password `Milvus`.
        tls: None for plain text, "server" for a server certificate, "mutual" for a client
            certificate as well. Certificates are made in `folder/tls`.
        environment: configuration keys of Milvus, upper case with underscores
            (`{"QUOTAANDLIMITS_DML_ENABLED": "true"}`).
        announce: called with one line that says which ports are open to whom.
        detached: whether the server outlives this process.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        port: int | None = None,
        authorization: bool = False,
        tls: Tls | None = None,
        environment: Mapping[str, str] | None = None,
        announce: Callable[[str], None] | None = None,
        detached: bool = False,
    ) -> None:
        reason = missing_reason()
        if reason:
            raise LocalServerError(f"no local Milvus server: {reason}")
        if tls not in (None, "server", "mutual"):
            raise ValueError(f"tls is {tls!r}; it takes None, 'server' or 'mutual'")
        _stop_orphans()
        self.temporary = folder is None
        self.folder = Path(folder or tempfile.mkdtemp(prefix="milvus-server-")).resolve()
        self.authorization = authorization
        self.tls = tls
        self._wanted_port = port
        self._environment = dict(environment or {})
        self._announce = announce or (lambda line: print(line, file=sys.stderr))
        self._detached = detached
        self._ports: dict[str, int] = {}
        self._popen: subprocess.Popen | None = None
        self._record_file = _registry() / f"{uuid.uuid4().hex}.json"

    def __enter__(self) -> "LocalServer":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def uri(self) -> str:
        """The URI for clients; with TLS it begins with https."""
        return f"{'https' if self.tls else 'http'}://localhost:{self._ports['proxy_port']}"

    @property
    def metrics_url(self) -> str:
        """Base address of health (`/healthz`) and metrics (`/metrics`)."""
        return f"http://localhost:{self._ports['metrics_port']}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._popen.pid if self.running else None

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def certificates(self) -> dict[str, str]:
        """Keyword arguments of `MilvusClient` that trust this server (and identify the client)."""
        tls = self.folder / "tls"
        if self.tls is None:
            return {}
        if self.tls == "server":
            return {"server_pem_path": str(tls / "server.pem"), "server_name": "localhost"}
        return {
            "ca_pem_path": str(tls / "ca.pem"),
            "client_pem_path": str(tls / "client.pem"),
            "client_key_path": str(tls / "client.key"),
            "server_name": "localhost",
        }

    @property
    def notice(self) -> str:
        """One line on who can reach what."""
        inner = [p for name, p in self._ports.items() if name in INNER_PORTS]
        return (
            f"local Milvus server {metadata.version('milvus')} at {self.uri}: listens on ALL "
            f"addresses of this machine, ports {self._ports['proxy_port']} and {min(inner)} to "
            f"{max(inner)}; port {self._ports['metrics_port']} answers without credentials. "
            "For learning on a trusted machine, never for real data."
        )

    def start(self, timeout: float = 60.0) -> "LocalServer":
        """Start the server and wait until it is healthy. After `kill()` the ports stay the same.

        Raises:
            LocalServerError: it exited or was not healthy within `timeout` seconds; the message
                ends with the last lines of its log.
        """
        if self.running:
            raise LocalServerError(f"the server in {self.folder} is running already")
        with _locked(self.folder):
            self._check_folder()
            first = not self._ports
            # Somebody may take a port between our look and the server's: then look again.
            for attempt in (1, 2, 3):
                if first:
                    self._choose_ports()
                self._launch()
                try:
                    self._wait_until_healthy(timeout)
                    break
                except LocalServerError:
                    self.kill()
                    if attempt == 3 or not first or self._wanted_port:
                        raise
        self._announce(self.notice)
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """Stop the server: SIGTERM, then after `timeout` seconds SIGKILL. Its data is kept.

        A loaded collection can keep the server from ending at all; what clients were told is
        stored is in the write-ahead log and survives a kill.
        """
        if self.running:
            self._popen.terminate()
            # It ends with SIGABRT (-6) after a clean shutdown: a fault of this release.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill the server at once (SIGKILL), as a crash would. Its data is kept."""
        if self._popen is not None:
            if self._popen.poll() is None:
                self._popen.kill()
            self._popen.wait()
            self._popen = None
        self._record_file.unlink(missing_ok=True)
        (self.folder / "server.json").unlink(missing_ok=True)

    def close(self) -> None:
        """Stop the server and remove a temporary folder."""
        self.stop()
        if self.temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _check_folder(self) -> None:
        """Make sure that no server uses this folder; a server of a crashed run is stopped."""
        record = _read_record(self.folder / "server.json")
        if record is None or record.process is None:
            return
        if record.orphaned:
            _stop_process(record.process)
            return
        raise LocalServerError(
            f"a Milvus server (process {record.pid}) already uses {self.folder}: {record.uri}. "
            "Use that one, stop it, or take another folder."
        )

    def _choose_ports(self) -> None:
        proxy, *inner = free_ports(1 + len(INNER_PORTS))
        if self._wanted_port is not None and not _is_free(self._wanted_port):
            raise LocalServerError(
                f"port {self._wanted_port} is taken: stop what listens there or choose another"
            )
        names = ("proxy_port", *INNER_PORTS)
        self._ports = dict(zip(names, (self._wanted_port or proxy, *inner), strict=True))

    def _launch(self) -> None:
        binaries = unpacked_binaries()
        self._write_configuration()
        environment = {
            # The server takes any variable for a configuration key, so it gets few of ours.
            **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")},
            **ENVIRONMENT,
            **self._environment,
            "LD_LIBRARY_PATH": str(binaries),
            "MILVUSCONF": str(self.folder / "configs"),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
            "ETCD_CONFIG_PATH": str(self.folder / "configs" / "etcd.yaml"),
            "METRICS_PORT": str(self._ports["metrics_port"]),
            "DEPLOY_MODE": "STANDALONE",
        }
        with (self.folder / "logs" / "console.log").open("wb") as console:
            self._popen = subprocess.Popen(
                [binaries / "milvus", "run", "standalone"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the script, which then stops its server in order.
                start_new_session=True,
            )
        self._write_record()

    def _write_record(self) -> None:
        owner = None if self._detached else psutil.Process()
        try:
            created = psutil.Process(self._popen.pid).create_time()
        except psutil.NoSuchProcess:
            return  # it exited at once: _wait_until_healthy says so
        record = _Record(
            pid=self._popen.pid,
            created=created,
            owner_pid=owner and owner.pid,
            owner_created=owner and owner.create_time(),
            folder=str(self.folder),
            uri=self.uri,
            ports=self._ports,
            authorization=self.authorization,
            tls=self.tls,
            temporary=self.temporary,
        )
        text = json.dumps(asdict(record), indent=2)
        for path in (self.folder / "server.json", self._record_file):
            # Whole or not at all: another process may be reading.
            unfinished = path.with_suffix(".tmp")
            unfinished.write_text(text)
            unfinished.replace(path)

    def _write_configuration(self) -> None:
        data = package_data()
        for name in ("configs", "data", "logs", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        configs = self.folder / "configs"
        # Without this file beside milvus.yaml the server exits with 1 and says nothing.
        shutil.copy(data / "glog.conf", configs / "glog.conf")
        values = {
            "etcd_log_level": "warn",
            "etcd_log_path": str(self.folder / "logs" / "etcd.log"),
            "etcd_data_dir": str(self.folder / "data" / "etcd"),
            "local_storage_dir": str(self.folder / "data"),
            "rocksmq_data_dir": str(self.folder / "data" / "rocksmq"),
            "system_log_path": str(self.folder / "logs"),
            "server_pem_path": str(self.folder / "tls" / "server.pem"),
            "server_key_path": str(self.folder / "tls" / "server.key"),
            "ca_pem_path": str(self.folder / "tls" / "ca.pem"),
            "authorization_enabled": str(self.authorization).lower(),
            "tls_mode": str({None: 0, "server": 1, "mutual": 2}[self.tls]),
            **{name: str(port) for name, port in self._ports.items()},
        }
        if self.tls:
            from common.certificates import make_certificates

            make_certificates(self.folder / "tls")
        template = (data / "config.yaml.template").read_text()
        (configs / "milvus.yaml").write_text(fill_template(template, values))
        (configs / "etcd.yaml").write_text(self._etcd_configuration())

    def _etcd_configuration(self) -> str:
        client = f"http://127.0.0.1:{self._ports['etcd_port']}"
        peer = f"http://127.0.0.1:{self._ports['etcd_peer_port']}"
        lines = {
            "name": "default",
            "data-dir": self.folder / "data" / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "warn",
            "logger": "zap",
        }
        return "".join(f"{key}: {value}\n" for key, value in lines.items())

    def _wait_until_healthy(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.running:
                raise LocalServerError(
                    f"the Milvus server ended with exit code {self._popen.returncode} "
                    f"before it was ready.\n{self._log_tail()}"
                )
            if self._answers():
                return
            time.sleep(0.05)
        raise LocalServerError(
            f"the Milvus server was not ready within {timeout:g} s.\n{self._log_tail()}"
        )

    def _answers(self) -> bool:
        """Whether clients can connect and all parts of the server say that they are well."""
        try:
            # The port first: before any part has come up, the health page has nothing to complain
            # of and says OK.
            address = ("localhost", self._ports["proxy_port"])
            socket.create_connection(address, timeout=2).close()
            with urllib.request.urlopen(f"{self.metrics_url}/healthz", timeout=2) as answer:
                return answer.status == 200 and answer.read().strip() == b"OK"
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False  # not listening yet, or not healthy yet

    def _log_tail(self, lines: int = 15) -> str:
        logs = sorted((self.folder / "logs").glob("*"), key=lambda path: path.stat().st_mtime)
        text = "".join(p.read_text(errors="replace")[-20000:] for p in logs if p.is_file())
        tail = "\n".join(text.splitlines()[-lines:])
        return f"The last lines of its logs in {self.folder / 'logs'}:\n{tail or '(empty)'}"


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Fill `{{ name(type): default }}` in the package's configuration template.

    Each role also registers under 127.0.0.1 and not under the address of a network card.
    """
    lines = []
    for line in template.splitlines():
        head, opening, rest = line.partition("{{")
        if opening:
            inside, _, tail = rest.partition("}}")
            name, _, default = inside.partition(":")
            line = f"{head}{values.get(name.split('(')[0].strip(), default.strip())}{tail}"
        elif line.startswith("  ip:"):
            line = "  ip: 127.0.0.1"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _registry() -> Path:
    folder = settings().cache_dir / "local-servers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read_record(path: Path) -> _Record | None:
    try:
        return _Record(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # none there, or cut short by a crash


def _stop_orphans() -> None:
    """Stop servers whose owner died without stopping them, and remove their temporary folders."""
    for path in _registry().glob("*.json"):
        record = _read_record(path)
        if record is not None:
            process = record.process
            # An owner that lives may start its server again, also one that is dead now.
            owned = record.owner_pid is not None and not record.orphaned
            if owned or (process is not None and not record.orphaned):
                continue
            if process is not None:
                _stop_process(process)
            if record.temporary:
                shutil.rmtree(record.folder, ignore_errors=True)
        path.unlink(missing_ok=True)


def _stop_process(process: psutil.Process, timeout: float = 5.0) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two starts at once do not both take it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _running(folder: Path) -> _Record | None:
    record = _read_record(folder / "server.json")
    return record if record is not None and record.process is not None else None


def _command_start(options: argparse.Namespace) -> int:
    record = _running(options.folder)
    if record is not None:
        print(f"already running: {record.uri} (process {record.pid})")
        return 0
    port = options.port or (DEFAULT_PORT if _is_free(DEFAULT_PORT) else None)
    server = LocalServer(
        options.folder,
        port=port,
        authorization=options.authorization,
        tls=options.tls,
        detached=True,
    ).start()
    print(f"Milvus server ready: {server.uri}")
    print(f"  use it:   export MILVUS_URI={server.uri}")
    if server.authorization:
        print("            export MILVUS_TOKEN=root:Milvus")
    if server.tls:
        print(f"  trust it: {server.folder / 'tls' / 'server.pem'} (server_pem_path)")
    print(f"  health:   {server.metrics_url}/healthz")
    print(f"  data:     {server.folder}")
    stop = f"{_python()} -m common.local_server stop{_folder_option(options.folder)}"
    print(f"  stop it:  {stop}")
    return 0


def _command_stop(options: argparse.Namespace) -> int:
    with _locked(options.folder):
        record = _running(options.folder)
        if record is None:
            print(f"not running: no server in {options.folder}")
            return 0
        _stop_process(record.process)
        (options.folder / "server.json").unlink(missing_ok=True)
    print(f"stopped: {record.uri} (process {record.pid}); its data stays in {record.folder}")
    return 0


def _command_status(options: argparse.Namespace) -> int:
    record = _running(options.folder)
    if record is None:
        print(f"not running: no server in {options.folder}")
        return 3  # as service managers do
    memory = record.process.memory_info().rss / 2**20
    minutes = (time.time() - record.created) / 60
    print(
        f"running: {record.uri} (process {record.pid}, {memory:.0f} MiB, since {minutes:.0f} min)"
    )
    print(f"  health:   http://localhost:{record.ports['metrics_port']}/healthz")
    print(f"  data:     {record.folder}")
    return 0


def _python() -> str:
    """How to call this Python here: without its folder where the environment is activated."""
    beside = shutil.which("python")
    if beside and Path(beside).parent == Path(sys.executable).parent:
        return "python"
    return os.path.relpath(sys.executable)


def _folder_option(folder: Path) -> str:
    return "" if folder == DEFAULT_FOLDER else f" --folder {shlex.quote(str(folder))}"


def main(arguments: list[str] | None = None) -> int:
    """Command line: start a server that outlives the command, stop it, or tell its state."""
    parser = argparse.ArgumentParser(
        prog="python -m common.local_server", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("command", choices=("start", "stop", "status"))
    parser.add_argument(
        "--folder",
        type=lambda text: Path(text).expanduser().resolve(),
        default=DEFAULT_FOLDER,
        help="data, configuration and logs (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, help=f"port for clients (default: {DEFAULT_PORT}, if free)"
    )
    parser.add_argument(
        "--authorization", action="store_true", help="ask clients for a user and a password"
    )
    parser.add_argument("--tls", choices=("server", "mutual"), help="encrypt (default: no)")
    options = parser.parse_args(arguments)
    command = {"start": _command_start, "stop": _command_stop, "status": _command_status}
    try:
        return command[options.command](options)
    except LocalServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
