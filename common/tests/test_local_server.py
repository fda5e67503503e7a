"""The local server: start, stop, crash, come back, and clean up after a run that was killed."""

import json
import lzma
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from common import local_server
from common.connection import ConnectionFailed, connect
from common.display import quiet_pymilvus
from common.local_server import (
    INNER_PORTS,
    INSTALL_LINE,
    QUICK_TICKS,
    LocalServer,
    LocalServerError,
    main,
    missing_reason,
)
from common.settings import PROJECT_ROOT

import grpc
import psutil
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

WAIT = 60.0  # seconds: a guard against waiting for ever


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of this test alone, in which it can forge records."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setattr(local_server, "_registry", lambda: folder)
    return folder


@pytest.fixture
def start(server_installed: None, registry: Path) -> Iterator[Callable[..., LocalServer]]:
    """`start(folder)`: a server that is stopped at the end of the test."""
    started = []

    def make(*arguments: object, **options: object) -> LocalServer:
        options.setdefault("environment", QUICK_TICKS)
        server = LocalServer(*arguments, announce=lambda _: None, **options)
        started.append(server)
        return server.start()

    yield make
    for server in started:
        server.kill()
        server.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def add_collection(client: MilvusClient, name: str, **options: object) -> None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema, **options)


def collections(server: LocalServer) -> list[str]:
    with connect(server.uri) as milvus:
        return milvus.client.list_collections()


# Start and stop


def test_two_at_once_share_nothing(start: Callable[..., LocalServer]) -> None:
    first, second = start(), start()
    assert not set(first._ports.values()) & set(second._ports.values())
    assert first.folder != second.folder
    with connect(first.uri) as milvus:
        add_collection(milvus.client, "of_the_first")
    assert collections(first) == ["of_the_first"]
    assert collections(second) == []


def test_it_leaves_nothing_behind(server_installed: None, registry: Path) -> None:
    with LocalServer(announce=lambda _: None) as server:
        pid, folder = server.pid, server.folder
        assert psutil.pid_exists(pid)
        assert len(list(registry.iterdir())) == 1
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    assert list(registry.iterdir()) == []
    assert (server.running, server.pid) == (False, None)


def test_an_error_stops_it_too(server_installed: None, registry: Path) -> None:
    def use() -> None:
        with LocalServer(announce=lambda _: None) as server:
            seen.append(server)
            raise LookupError

    seen: list[LocalServer] = []
    with pytest.raises(LookupError):
        use()
    assert not seen[0].running
    assert not seen[0].folder.exists()


def test_a_restart_keeps_data_address_and_certificate(start: Callable[..., LocalServer]) -> None:
    server = start(tls="server")
    uri, pid = server.uri, server.pid
    certificate = (server.folder / "tls" / "server.pem").read_bytes()
    with connect(uri, **server.certificates) as milvus:
        add_collection(milvus.client, "kept")
    server.stop()
    assert not server.running
    server.start()
    assert server.uri == uri
    assert server.pid != pid
    assert (server.folder / "tls" / "server.pem").read_bytes() == certificate
    with connect(uri, **server.certificates) as milvus:
        assert milvus.client.list_collections() == ["kept"]


def test_a_folder_that_was_named_is_kept(start: Callable[..., LocalServer], tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    server.close()
    assert (tmp_path / "data" / "data" / "etcd").is_dir()
    assert not (tmp_path / "data" / "server.json").exists()


def test_no_row_is_lost_when_it_is_killed(
    start: Callable[..., LocalServer], tmp_path: Path
) -> None:
    """Killed with data in memory; another LocalServer then takes the folder with stale files."""
    server = start(tmp_path / "data")
    with connect(server.uri) as milvus:
        client = milvus.client
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        add_collection(client, "rows", index_params=index)
        rows = [{"id": i, "vector": [i, 0, 0, 0]} for i in range(500)]
        assert client.insert("rows", rows)["insert_count"] == 500
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.running)
    assert (tmp_path / "data" / "server.json").is_file(), "the stale file is the point"
    assert rows_of(start(tmp_path / "data"), "rows") == 500


def rows_of(server: LocalServer, collection: str) -> int:
    """How many rows there are, asked until the restarted server has loaded the collection."""
    count = {"output_fields": ["count(*)"], "consistency_level": "Strong", "timeout": 5}
    deadline = time.monotonic() + WAIT
    with connect(server.uri) as milvus, quiet_pymilvus():
        while True:
            try:
                return milvus.client.query(collection, **count)[0]["count(*)"]
            except (MilvusException, grpc.RpcError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def test_it_can_be_started_once_at_a_time(start: Callable[..., LocalServer]) -> None:
    server = start()
    with pytest.raises(LocalServerError, match=f"the server in {server.folder} is running already"):
        server.start()
    assert server.running


def test_a_folder_in_use_is_told(start: Callable[..., LocalServer], tmp_path: Path) -> None:
    server = start(tmp_path / "data")
    message = f"a Milvus server (process {server.pid}) already uses {tmp_path / 'data'}"
    with pytest.raises(LocalServerError, match=re.escape(message)):
        start(tmp_path / "data")
    assert collections(server) == []


def test_a_taken_port_is_told(start: Callable[..., LocalServer]) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalServerError, match=f"port {port} is taken: stop what listens"):
            start(port=port)


def test_ctrl_c_in_the_terminal_is_not_for_the_server(start: Callable[..., LocalServer]) -> None:
    assert os.getpgid(start().pid) != os.getpgid(0)


def test_it_says_which_ports_are_open(start: Callable[..., LocalServer]) -> None:
    said: list[str] = []
    server = LocalServer(announce=said.append, environment=QUICK_TICKS)
    with server:
        open_ports = {
            connection.laddr.port
            for connection in psutil.Process(server.pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
    (notice,) = said
    assert f"local Milvus server 2.3.5 at {server.uri}: listens on ALL addresses" in notice
    assert "answers without credentials" in notice
    assert "never for real data" in notice
    proxy, first, last = map(int, re.search(r"ports (\d+) and (\d+) to (\d+);", notice).groups())
    assert open_ports <= {proxy, *range(first, last + 1)}
    assert proxy in open_ports


# A run that was killed


OWNER = """
import sys, time
from pathlib import Path
from common import local_server
local_server._registry = lambda: Path(sys.argv[1])
server = local_server.LocalServer(*sys.argv[2:], announce=lambda line: None).start()
print(server.pid, server.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def orphan(server_installed: None, registry: Path) -> Iterator[Callable[..., tuple]]:
    """`orphan(folder)`: the process and folder of a server whose owner was killed."""
    left: list[psutil.Process] = []

    def make(*folder: Path) -> tuple[psutil.Process, Path]:
        command = [sys.executable, "-c", OWNER, registry, *folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
            pid, _, place = owner.stdout.readline().strip().partition(" ")
            owner.kill()
        left.append(psutil.Process(int(pid)))
        assert left[-1].is_running()
        return left[-1], Path(place)

    yield make
    for process in left:
        if process.is_running():
            process.kill()


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_next_one_stops_an_orphan_and_removes_its_folder(
    orphan: Callable[..., tuple[psutil.Process, Path]], registry: Path
) -> None:
    process, folder = orphan()
    assert folder.is_dir()
    LocalServer(announce=lambda _: None).close()
    assert ended(process)
    assert not folder.exists()
    assert list(registry.glob("*.json")) == []


def test_an_orphan_in_a_named_folder_is_stopped_and_its_data_kept(
    orphan: Callable[..., tuple[psutil.Process, Path]],
    start: Callable[..., LocalServer],
    tmp_path: Path,
) -> None:
    process, folder = orphan(tmp_path / "data")
    with connect(json.loads((folder / "server.json").read_text())["uri"]) as milvus:
        add_collection(milvus.client, "kept")
    server = start(tmp_path / "data")
    assert ended(process)
    assert collections(server) == ["kept"]


def test_a_server_of_a_living_owner_is_left_alone(start: Callable[..., LocalServer]) -> None:
    server = start()
    LocalServer(announce=lambda _: None).close()
    assert server.running
    # It crashed, and its owner wants to start it again with the data that it has.
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.running)
    LocalServer(announce=lambda _: None).close()
    assert (server.folder / "data" / "etcd").is_dir()


@pytest.fixture
def stranger() -> Iterator[psutil.Popen]:
    """A process that is none of ours."""
    with psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("temporary", [False, True])
def test_a_foreign_process_is_never_killed(
    start: Callable[..., LocalServer],
    registry: Path,
    stranger: psutil.Popen,
    tmp_path: Path,
    temporary: bool,
) -> None:
    """The number of a dead server was given to another process, and its owner's to one too."""
    long_ago = stranger.create_time() - 3600
    record = local_server._Record(
        pid=stranger.pid,
        created=long_ago,
        owner_pid=stranger.pid,
        owner_created=long_ago,
        folder=str(tmp_path / "data"),
        uri="http://localhost:1",
        temporary=temporary,
    )
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "data" / "server.json", registry / "stale.json"):
        path.write_text(json.dumps(asdict(record)))
    server = start(tmp_path / "data")
    server.stop()
    assert stranger.is_running()
    assert not (registry / "stale.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_broken_record_is_removed(
    start: Callable[..., LocalServer], registry: Path, tmp_path: Path, text: str
) -> None:
    (registry / "broken.json").write_text(text)
    (tmp_path / "server.json").write_text(text)
    assert local_server._read_record(tmp_path / "server.json") is None
    LocalServer(tmp_path, announce=lambda _: None).close()
    assert not (registry / "broken.json").exists()


# Who may enter


def test_mutual_tls_and_authorization(start: Callable[..., LocalServer]) -> None:
    server = start(authorization=True, tls="mutual")
    identity = server.certificates
    with connect(server.uri, token="root:Milvus", **identity) as milvus:
        assert milvus.client.list_users() == ["root"]
    with pytest.raises(ConnectionFailed, match="it refused the user or the password"):
        open_once(server.uri, token="root:wrong", **identity)
    with pytest.raises(ConnectionFailed, match="it asks for a user"):
        open_once(server.uri, **identity)
    # It knows the server by the authority, but shows no certificate of its own.
    trust = {"server_pem_path": identity["ca_pem_path"], "server_name": "localhost"}
    with pytest.raises(ConnectionFailed, match="cannot connect to Milvus at https://"):
        open_once(server.uri, token="root:Milvus", **trust)


def open_once(uri: str, **options: str) -> None:
    with connect(uri, timeout=5, **options):
        pass


def test_plain_servers_have_no_certificates(start: Callable[..., LocalServer]) -> None:
    server = start()
    assert server.certificates == {}
    assert server.uri.startswith("http://localhost:")


def test_an_unknown_kind_of_tls(server_installed: None) -> None:
    with pytest.raises(ValueError, match="tls is 'both'; it takes None, 'server' or 'mutual'"):
        LocalServer(tls="both")


# The command line


@pytest.fixture
def command(server_installed: None, tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """`command("start")`: exit code and output of the command line on a folder of the test."""
    folder = tmp_path / "of command"

    def run(name: str, *options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "common.local_server", name, "--folder", folder, *options],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=PROJECT_ROOT,
        )
        return done.returncode, done.stdout + done.stderr

    yield run
    run("stop")


def free_port() -> int:
    return local_server.free_ports(1)[0]


def test_the_command_line(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = command("status")
    assert (code, said) == (3, f"not running: no server in {tmp_path / 'of command'}\n")

    port = free_port()
    uri = f"http://localhost:{port}"
    code, said = command("start", "--port", str(port))
    assert code == 0
    assert f"Milvus server ready: {uri}\n" in said
    assert f"export MILVUS_URI={uri}\n" in said
    assert "listens on ALL addresses" in said
    stop_line = re.search("stop it:  (.*)", said)[1]
    with connect(uri) as milvus:  # it outlives the command
        assert milvus.label == "Milvus 2.3.5 (local server)"

    code, said = command("start")
    assert code == 0
    assert said.startswith(f"already running: {uri} (process ")
    code, said = command("status")
    assert code == 0
    assert said.startswith(f"running: {uri} (process ")

    LocalServer(announce=lambda _: None).close()  # takes it for no orphan
    with connect(uri):
        pass

    # The line that it printed is one that can be typed.
    stopped = subprocess.run(
        stop_line,
        shell=True,
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.startswith(f"stopped: {uri} (process ")
    assert command("status")[0] == 3
    code, said = command("stop")
    assert (code, said) == (0, f"not running: no server in {tmp_path / 'of command'}\n")


def test_the_command_line_with_tls_and_authorization(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    port = free_port()
    code, said = command("start", "--port", str(port), "--authorization", "--tls", "server")
    assert code == 0
    assert f"Milvus server ready: https://localhost:{port}\n" in said
    assert "export MILVUS_TOKEN=root:Milvus" in said
    pem = tmp_path / "of command" / "tls" / "server.pem"
    assert str(pem) in said
    with connect(f"https://localhost:{port}", token="root:Milvus", server_pem_path=str(pem)) as m:
        assert m.client.list_users() == ["root"]


def test_the_command_line_tells_of_a_taken_port(command: Callable[..., tuple[int, str]]) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = command("start", "--port", str(port))
    assert code == 2
    assert said == f"error: port {port} is taken: stop what listens there or choose another\n"
    assert command("status")[0] == 3


# What can go wrong at the start


@pytest.fixture
def binary(
    server_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Path
) -> Callable[[str], None]:
    """Put a script in the place of the server's binary."""
    folder = tmp_path / "binaries"
    folder.mkdir()
    monkeypatch.setattr(local_server, "unpacked_binaries", lambda: folder)

    def write(script: str) -> None:
        (folder / "milvus").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "milvus").chmod(0o755)

    return write


def test_a_server_that_ends_at_once_shows_its_log(binary: Callable[[str], None]) -> None:
    binary("echo 'panic: no luck today'; exit 7")
    server = LocalServer(announce=lambda _: None)
    with pytest.raises(LocalServerError) as caught, server:
        pass
    assert "ended with exit code 7 before it was ready" in str(caught.value)
    assert str(caught.value).endswith("panic: no luck today")
    assert not server.folder.exists()


def test_a_server_that_is_never_ready_is_stopped(
    binary: Callable[[str], None], tmp_path: Path
) -> None:
    binary(f"echo $$ >> {tmp_path}/pids; exec sleep 600")
    server = LocalServer(announce=lambda _: None)
    with pytest.raises(LocalServerError, match=r"was not ready within 0\.3 s"):
        server.start(timeout=0.3)
    server.close()
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3, "other ports are tried"
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize(
    ("system", "processor"), [("darwin", "arm64"), ("linux", "aarch64"), ("win32", "AMD64")]
)
def test_another_platform_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, system: str, processor: str
) -> None:
    monkeypatch.setattr(local_server.sys, "platform", system)
    monkeypatch.setattr(local_server.platform, "machine", lambda: processor)
    assert missing_reason().startswith("the server package exists for Linux x86-64 only")
    assert "docker compose up" in missing_reason()
    with pytest.raises(LocalServerError, match="no local Milvus server: the server package"):
        LocalServer()


def test_a_missing_package_is_told_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(local_server.sys, "platform", "linux")
    monkeypatch.setattr(local_server.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(local_server.importlib.util, "find_spec", lambda _: None)
    assert missing_reason() == f"the package milvus is not installed: {INSTALL_LINE}"
    assert main(["start", "--folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: no local Milvus server: the package milvus is not installed: {INSTALL_LINE}\n"
    )


# Its parts


def test_the_binaries_are_unpacked_once_and_whole(
    server_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "package" / "bin"
    packed.mkdir(parents=True)
    (packed / "milvus.lzma").write_bytes(lzma.compress(b"binary"))
    (packed / "libx.so.lzma").write_bytes(lzma.compress(b"library")[:-4])  # cut short
    chosen = local_server.settings()
    monkeypatch.setattr(local_server, "package_data", lambda: packed.parent)
    monkeypatch.setattr(
        local_server, "settings", lambda: type(chosen)(cache_dir=tmp_path / "cache")
    )
    with pytest.raises((EOFError, lzma.LZMAError)):
        local_server.unpacked_binaries()
    assert list((tmp_path / "cache").iterdir()) == [], "half of it must not be taken for all"

    (packed / "libx.so.lzma").write_bytes(lzma.compress(b"library"))
    folder = local_server.unpacked_binaries()
    assert (folder / "milvus").read_bytes() == b"binary"
    assert os.access(folder / "milvus", os.X_OK)
    assert (folder / "libx.so").read_bytes() == b"library"

    (packed / "milvus.lzma").unlink()
    assert local_server.unpacked_binaries() == folder, "the second time nothing is unpacked"


def test_ports_are_free_and_not_those_of_clients() -> None:
    ports = local_server.free_ports(1 + len(INNER_PORTS))
    for port in ports:
        assert 20000 <= port < 32768
        with socket.create_server(("", port)):
            pass


def test_a_template_is_filled() -> None:
    template = "a:\n  port: {{ proxy_port(int): 19530 }}\n  ip: # nothing\n  x: {{ y: fallback }} z"
    assert local_server.fill_template(template, {"proxy_port": "7"}) == (
        "a:\n  port: 7\n  ip: 127.0.0.1\n  x: fallback z\n"
    )
