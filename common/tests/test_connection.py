"""connect(): what it opens, and one clear message for each way in which it can fail."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

from common import connection
from common.connection import HOW_TO_START, ConnectionFailed, Milvus, connect, lite_path
from common.display import run
from common.local_server import QUICK_TICKS, LocalServer
from common.settings import Settings

import grpc
import pytest
from pymilvus import DataType, MilvusClient

SECONDS = 3.0  # a limit for what must fail by itself, or must be ended by this limit


@pytest.fixture(scope="module")
def guarded(server_installed: None) -> Iterator[LocalServer]:
    """A server that asks for a token and speaks TLS."""
    with LocalServer(authorization=True, tls="server", environment=QUICK_TICKS) as server:
        yield server


@pytest.fixture
def with_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`with_settings(milvus_uri=...)`: what connect() finds in the settings."""

    def use(**values: object) -> None:
        chosen = Settings(**values)
        monkeypatch.setattr(connection, "settings", lambda: chosen)

    return use


def failure(*arguments: object, **options: object) -> str:
    """The message of the connection that must fail."""
    with (
        pytest.raises(ConnectionFailed) as caught,
        connect(*arguments, **{"timeout": SECONDS, **options}),
    ):
        pass
    return str(caught.value)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as finder:
        return finder.getsockname()[1]


def add_collection(client: MilvusClient, name: str) -> None:
    """A collection without an index: made in a moment, on any Milvus."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=schema)


# What it opens


def test_it_tells_which_milvus_it_reached(milvus: Milvus) -> None:
    if milvus.uri.endswith(".db"):
        assert (milvus.kind, milvus.version) == ("lite", "3.2.2")
        assert milvus.label == "Milvus Lite 3.2.2"
    elif "local server" in milvus.label:
        assert (milvus.kind, milvus.version) == ("standalone", "2.3.5-lite")
        assert milvus.label == "Milvus 2.3.5 (local server)"
    else:
        assert milvus.kind in ("standalone", "cluster")
        assert milvus.version in milvus.label


def test_more_clients_can_be_made_with_its_options(milvus: Milvus) -> None:
    add_collection(milvus.client, "connection_options")
    other = MilvusClient(**milvus.options)
    assert "connection_options" in other.list_collections()
    other.close()


def test_can_answers_for_the_milvus_that_is_connected(milvus: Milvus) -> None:
    assert milvus.can("HNSW")
    assert milvus.can("hybrid_search") or "local server" in milvus.can("hybrid_search").reason


@pytest.mark.parametrize("spelled", ["text", "path", "file://", "with .."])
def test_every_spelling_of_a_path_opens_the_same_database(tmp_path: Path, spelled: str) -> None:
    path = tmp_path / "with space" / "one.db"
    path.parent.mkdir()
    other = {
        "text": str(path),
        "path": path,
        "file://": f"file://{str(path).replace(' ', '%20')}",
        "with ..": path.parent / ".." / path.parent.name / path.name,
    }[spelled]
    with connect(path) as first:
        add_collection(first.client, "spelled")
        with connect(other) as second:
            assert second.uri == str(path)
            assert second.client.list_collections() == ["spelled"]


def test_a_link_to_a_database_is_that_database(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with connect(tmp_path / "one.db") as first, connect(tmp_path / "link" / "one.db") as second:
        add_collection(first.client, "linked")
        assert second.client.list_collections() == ["linked"]


def test_the_first_to_close_does_not_end_the_other(tmp_path: Path) -> None:
    first, second = connect(tmp_path / "one.db"), connect(tmp_path / "one.db")
    one, other = first.__enter__(), second.__enter__()
    add_collection(one.client, "shared")
    first.__exit__(None, None, None)
    assert other.client.list_collections(timeout=SECONDS) == ["shared"]
    second.__exit__(None, None, None)


def test_the_last_to_close_lets_another_process_in(tmp_path: Path) -> None:
    with connect(tmp_path / "one.db") as milvus:
        add_collection(milvus.client, "handed_over")
        assert open_in_another_process(tmp_path / "one.db").returncode == 2
    done = open_in_another_process(tmp_path / "one.db")
    assert (done.returncode, done.stdout.strip()) == (0, "['handed_over']")


def open_in_another_process(path: Path) -> subprocess.CompletedProcess:
    code = (
        "import sys\n"
        "from common.connection import connect\n"
        "from common.display import run\n"
        "def main():\n"
        f"    with connect({str(path)!r}) as milvus:\n"
        "        print(milvus.client.list_collections())\n"
        "sys.exit(run(main))\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_the_database_is_closed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError), connect(tmp_path / "one.db"):
        raise LookupError
    assert open_in_another_process(tmp_path / "one.db").returncode == 0


def test_the_settings_decide_where_nothing_is_given(
    with_settings: Callable[..., None], tmp_path: Path
) -> None:
    with_settings(milvus_uri=str(tmp_path / "new folder" / "from_settings.db"))
    with connect() as milvus:
        assert milvus.uri == str(tmp_path / "new folder" / "from_settings.db")


def test_the_token_of_the_settings_stays_with_their_milvus(
    with_settings: Callable[..., None], tmp_path: Path
) -> None:
    with_settings(milvus_uri="http://localhost:1", milvus_token="root:secret")
    with connect(tmp_path / "other.db") as milvus:
        assert milvus.options == {"uri": str(tmp_path / "other.db")}


def test_a_database_is_chosen_by_name(milvus: Milvus) -> None:
    milvus.client.create_database("connection_database")
    with connect(**{**milvus.options, "db_name": "connection_database"}) as inside:
        add_collection(inside.client, "connection_inside")
        assert inside.client.list_collections() == ["connection_inside"]
    assert "connection_inside" not in milvus.client.list_collections()


def test_tls_and_token(guarded: LocalServer) -> None:
    with connect(guarded.uri, token="root:Milvus", **guarded.certificates) as milvus:
        assert milvus.uri.startswith("https://")
        assert milvus.client.list_users() == ["root"]


def test_tls_and_token_from_the_settings(
    guarded: LocalServer, with_settings: Callable[..., None]
) -> None:
    with_settings(
        milvus_uri=guarded.uri,
        milvus_token="root:Milvus",
        milvus_server_pem=guarded.certificates["server_pem_path"],
        milvus_server_name="localhost",
    )
    with connect() as milvus:
        assert milvus.client.list_users() == ["root"]


def test_the_tour_is_told_which_milvus_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUR_EVENTS", str(tmp_path / "events.jsonl"))
    with connect(tmp_path / "one.db"):
        pass
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert event == {
        "event": "milvus",
        "label": "Milvus Lite 3.2.2",
        "uri": str(tmp_path / "one.db"),
    }


# What is no address


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "a path for Milvus Lite ends in .db"),
        ("localhost:19530", "the address of a server begins with http:// or https://"),
        ("data/demo.sqlite", "a path for Milvus Lite ends in .db"),
        ("postgres://localhost/x", "postgres:// is no scheme of Milvus"),
        ("http://localhost:port", "it is no valid URL"),
        ("http://localhost:123456", "it is no valid URL"),
        ("http://[::1", "it is no valid URL"),
        ("file://data/demo.db", "file:// takes a whole path"),
    ],
)
def test_what_is_no_address_is_refused(uri: str, message: str) -> None:
    told = failure(uri)
    assert told.startswith(f"cannot connect to {uri!r}: ")
    assert message in told


def test_lite_path_of_a_server_is_none() -> None:
    for uri in ("http://localhost", "HTTPS://localhost", "tcp://localhost:1", "unix:/tmp/socket"):
        assert lite_path(uri) is None


# What is no database of Milvus Lite


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none" / "one.db"
    assert failure(path) == f"cannot open {path}: there is no folder {path.parent}."
    assert list(tmp_path.iterdir()) == []


def test_a_plain_file_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("mine")
    told = failure(path)
    assert told.startswith(f"cannot open {path}: it is a file and no database of Milvus Lite 3")
    assert path.read_text() == "mine"


def test_a_foreign_folder_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    path.mkdir()
    (path / "cat.jpg").write_text("mine")
    told = failure(path)
    assert told == (
        f"cannot open {path}: the folder holds something else than a database of Milvus Lite."
    )
    assert [p.name for p in path.iterdir()] == ["cat.jpg"]


def test_an_empty_folder_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "empty.db").mkdir()
    with connect(tmp_path / "empty.db") as milvus:
        assert milvus.client.list_collections() == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that root cannot write to")
def test_a_folder_that_cannot_be_written() -> None:
    assert failure("/proc/one.db").startswith("cannot open /proc/one.db: FileNotFoundError")


def test_a_database_that_another_process_has_open(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    code = (
        "import sys\n"
        "from common.connection import connect\n"
        f"with connect({str(path)!r}):\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as holder:
        assert holder.stdout.readline() == "open\n"
        told = failure(path)
        holder.stdin.close()
        holder.wait(timeout=30)
    assert told.startswith(f"cannot open {path}: another process has it open")
    assert "or use a server (make server)" in told
    with connect(path):
        pass


def test_a_database_that_is_not_there_on_any_milvus(milvus: Milvus) -> None:
    told = failure(**{**milvus.options, "db_name": "no_such_database"})
    assert told.startswith(f"there is no database 'no_such_database' at {milvus.address}: ")


# No server, or another one


def test_a_closed_port() -> None:
    port = closed_port()
    assert failure(f"http://localhost:{port}") == (
        f"cannot connect to Milvus at http://localhost:{port}: "
        f"nothing listens at localhost:{port} (Connection refused).\n{HOW_TO_START}"
    )


def test_it_says_two_ways_to_get_a_milvus() -> None:
    assert "make server" in HOW_TO_START
    assert "make stack" in HOW_TO_START


def test_a_name_that_nobody_knows() -> None:
    told = failure("http://x.invalid:19530")
    assert "the name 'x.invalid' cannot be resolved" in told
    assert told.endswith(HOW_TO_START)


def test_a_port_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        told = failure(uri, timeout=1)
    assert "something listens there, but it did not answer within 1 s" in told


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    told = failure(f"unix:{tmp_path}/milvus.sock")
    assert "nothing listens there" in told
    assert told.endswith(HOW_TO_START)


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of a server that speaks HTTP 1.1 and nothing else."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_web_server(web_server: int) -> None:
    told = failure(f"http://127.0.0.1:{web_server}")
    assert "something listens there but does not speak plain gRPC" in told


def test_a_web_server_asked_for_tls(web_server: int) -> None:
    told = failure(f"https://127.0.0.1:{web_server}")
    assert "TLS failed (WRONG_VERSION_NUMBER" in told
    assert "Does the server speak TLS at this port?" in told


def test_another_grpc_service() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    told = failure(f"http://127.0.0.1:{port}")
    server.stop(grace=0)
    assert "what listens there is no Milvus" in told


# The wrong key


def test_a_wrong_password(guarded: LocalServer) -> None:
    told = failure(guarded.uri, token="root:hunter2", **guarded.certificates)
    assert "it refused the user or the password" in told
    assert told.endswith("Check MILVUS_TOKEN.")
    assert "hunter2" not in told


def test_a_wrong_password_in_the_uri(guarded: LocalServer) -> None:
    uri = guarded.uri.replace("://", "://root:hunter2@")
    told = failure(uri, **guarded.certificates)
    assert f"at {guarded.uri.replace('://', '://root:***@')}: it refused the user" in told
    assert "hunter2" not in told


def test_no_password(guarded: LocalServer) -> None:
    told = failure(guarded.uri, **guarded.certificates)
    assert "it asks for a user" in told
    assert told.endswith("Set MILVUS_TOKEN=user:password.")


def test_no_certificate(guarded: LocalServer) -> None:
    told = failure(guarded.uri, token="root:Milvus")
    assert "TLS failed (CERTIFICATE_VERIFY_FAILED" in told
    assert "MILVUS_SERVER_PEM" in told


def test_the_name_in_the_certificate_is_checked(guarded: LocalServer) -> None:
    trust = {**guarded.certificates, "server_name": "milvus.example"}
    assert "TLS failed" in failure(guarded.uri, token="root:Milvus", **trust)


def test_a_certificate_that_is_not_there(guarded: LocalServer, tmp_path: Path) -> None:
    told = failure(guarded.uri, server_pem_path=str(tmp_path / "none.pem"))
    assert f"cannot read {tmp_path / 'none.pem'} (No such file or directory)" in told


def test_plain_text_to_a_server_that_speaks_tls(guarded: LocalServer) -> None:
    told = failure(guarded.uri.replace("https", "http"), token="root:Milvus")
    assert "does not speak plain gRPC" in told
    assert "A Milvus with TLS wants https://" in told


def test_tls_to_a_server_that_speaks_plain_text(shared_server: LocalServer) -> None:
    told = failure(shared_server.uri.replace("http", "https"))
    assert "TLS failed (WRONG_VERSION_NUMBER" in told


def test_a_database_named_in_the_uri(shared_server: LocalServer) -> None:
    told = failure(f"{shared_server.uri}/no_such_database")
    assert told.startswith("there is no database 'no_such_database'")


# Passwords are never printed


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://root:s3cret@host:1", "http://root:***@host:1"),
        ("http://root:s3:c@ret@host:1/db", "http://root:***@host:1/db"),
        ("https://s3cret@host", "https://***@host"),
        ("http://host:1", "http://host:1"),
        ("/data/demo.db", "/data/demo.db"),
    ],
)
def test_an_address_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert Milvus(None, uri, "standalone", "3.0.2", {}).address == shown


@pytest.mark.parametrize("uri", ["http://root:s3cret@localhost:1", "htp://root:s3cret@localhost"])
def test_no_message_holds_the_password(uri: str) -> None:
    told = failure(uri)
    assert "s3cret" not in told
    assert "root:***@localhost" in told


def test_the_tour_is_not_told_the_password(
    guarded: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUR_EVENTS", str(tmp_path / "events.jsonl"))
    with connect(guarded.uri.replace("://", "://root:Milvus@"), **guarded.certificates):
        pass
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert event["uri"] == guarded.uri.replace("://", "://root:***@")


def test_a_script_ends_with_the_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> None:
        with connect(f"http://localhost:{closed_port()}", timeout=SECONDS):
            pass

    assert run(main) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("cannot connect to Milvus at http://localhost:")
    assert "Traceback" not in captured.err
