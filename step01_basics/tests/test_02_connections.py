"""What 02_connections claims about clients, channels, timeouts and crashes is so."""

import re
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common.connection import Milvus, connect
from common.local_server import LocalServer
from common.measuring import Comparison
from common.vectors import clustered_vectors, exact_search

import grpc
import psutil
import pytest
from pymilvus import MilvusException

RunScript = Callable[..., subprocess.CompletedProcess]
SECTIONS = tuple("1234567")


@pytest.fixture
def own_folder(script_environment: dict[str, str], tmp_path: Path) -> Path:
    """Where a script makes the folders of its throwaway servers, and nobody else does."""
    folder = tmp_path / "throwaway"
    folder.mkdir()
    script_environment["TMPDIR"] = str(folder)
    return folder


def remains(folder: Path) -> list[str]:
    """The files in `folder`, and the processes that work there."""
    files = [path.name for path in folder.iterdir()]
    here = [p for p in psutil.process_iter(["cwd"]) if str(p.info["cwd"]).startswith(str(folder))]
    return files + [f"process {process.pid}" for process in here]


def sections(output: str) -> tuple[str, ...]:
    return tuple(re.findall(r"^(\d)\. ", output, re.MULTILINE))


def test_it_passes_as_a_process_and_leaves_no_server(
    passes_as_a_process: Callable[..., str], shared_server: LocalServer, own_folder: Path
) -> None:
    before = shared_server.pid
    output = passes_as_a_process("--quick")
    assert sections(output) == SECTIONS
    assert "not run" not in output
    assert remains(own_folder) == []
    # The learner's server is neither another process now nor one that stands still.
    assert shared_server.pid == before
    assert psutil.Process(before).status() != psutil.STATUS_STOPPED


# Each section


def test_a_uri_decides_what_opens(lesson: ModuleType) -> None:
    rows = {row[0]: row[1:] for row in lesson.read_uris()}
    assert rows["data/demo.db"] == ("Milvus Lite", "data/demo.db", False, None, None)
    assert rows["file:///srv/demo.db"] == ("Milvus Lite", "/srv/demo.db", False, None, None)
    assert rows["http://host.example"] == (
        "a server",
        "host.example:19530",
        False,
        None,
        None,
    )
    assert rows["https://host.example"][1:3] == ("host.example:443", True)
    assert rows["https://ana:key@host.example/shop"][3:] == ("ana:key", "shop")


def test_a_database_is_seen_only_by_who_names_it(lesson: ModuleType, milvus: Milvus) -> None:
    seen = lesson.use_database(milvus)
    assert seen == {"without db_name=": False, f'db_name="{lesson.DATABASE}"': True}


def test_a_closed_port_fails(lesson: ModuleType) -> None:
    failure, told = lesson.knock(5.0, listening=False)
    assert isinstance(failure.error, MilvusException)
    assert "nothing listens at 127.0.0.1:" in told


def test_a_silent_port_is_bounded_by_the_timeout(lesson: ModuleType) -> None:
    failure, told = lesson.knock(0.5, listening=True)
    assert isinstance(failure.error, MilvusException)
    assert failure.error.__cause__.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "did not answer within 0.5 s" in told


def test_the_retries_are_those_of_pymilvus(lesson: ModuleType) -> None:
    times, seconds = lesson.retries()
    assert times == 75
    # 0.01 s, three times as long each time, and never more than 3 s.
    assert seconds == pytest.approx(0.01 + 0.03 + 0.09 + 0.27 + 0.81 + 2.43 + 69 * 3)


def test_one_client_serves_threads_coroutines_and_channels(
    lesson: ModuleType, milvus: Milvus
) -> None:
    vectors = clustered_vectors(120, lesson.DIMENSION, seed=3)
    corpus, queries = vectors[:100], vectors[100:]
    lesson.fill(milvus.client, corpus)
    ids, _ = exact_search(corpus, queries, 5)
    assert lesson.one_by_one(milvus.client, queries) == ids.tolist()
    assert lesson.in_threads([milvus.client], queries) == ids.tolist()
    for section in (lesson.share_one_client, lesson.share_one_channel, lesson.use_asyncio):
        measured = section(milvus, queries, 1)
        assert measured.same_answers
        assert measured.lowest == measured.ratio == measured.highest > 0
    _, _, not_shared = lesson.channels(milvus.client)
    assert not_shared == (0 if milvus.kind == "lite" else 1), "a dedicated channel was left open"


def test_what_is_compared_are_one_channel_and_many(
    lesson: ModuleType, milvus: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object) -> Comparison:
        seen.append(lesson.channels(milvus.client))
        return Comparison(1, 1, 1, 1, 1, same_answers=True)

    seen = []
    monkeypatch.setattr(lesson, "compare", look)
    _, clients, alone = lesson.channels(milvus.client)
    lesson.share_one_channel(milvus, [], 1)
    assert seen == [(1, clients + lesson.THREADS, alone + lesson.THREADS)]


def test_clients_share_a_channel_unless_dedicated(lesson: ModuleType, milvus: Milvus) -> None:
    seen = lesson.open_channels(milvus)
    _, clients, alone = seen["before"]
    assert seen["a first new client"] == (1, clients + 1, alone)
    assert seen["a second"] == (1, clients + 2, alone)
    assert seen["a third, pool_size=10"] == (1, clients + 3, alone)
    assert seen["a fourth, dedicated=True"] == (1, clients + 3, alone + 1)
    assert seen["all four closed"] == (1, clients, alone)


def test_a_client_outlives_its_server(
    lesson: ModuleType, server_installed: None, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(own_folder))
    (frozen, other_still_waited, its_rows), (before, killed, waited) = lesson.survive(200, 1.0)
    assert frozen.error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert other_still_waited
    assert its_rows == 200
    assert isinstance(killed.error, MilvusException)
    assert "server unavailable" in killed.error.message
    assert (before, waited.answer) == (200, 200)
    assert remains(own_folder) == []


def test_tls_and_tokens_are_asked_for(lesson: ModuleType, server_installed: None) -> None:
    told = lesson.refuse()
    assert told["all it asks for"] == "root"
    assert "it refused the user or the password" in told["a wrong password"]
    assert "root:wrong" not in told["a wrong password"]
    assert "it asks for a user" in told["no token"]
    assert "TLS failed (CERTIFICATE_VERIFY_FAILED" in told["no certificate to trust"]
    assert "A Milvus with TLS wants https://" in told["http:// instead of https://"]


def test_without_a_local_server_two_sections_are_left_out(
    lesson: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def open_lite(*uri: str, **options: object):
        return connect(*(uri or (tmp_path / "own.db",)), **options)

    monkeypatch.setattr(lesson, "connect", open_lite)
    monkeypatch.setattr(lesson, "missing_reason", lambda: "there is none for this machine")
    lesson.main(["--quick"])
    output = capsys.readouterr().out
    assert sections(output) == SECTIONS[:5]
    for section in ("6. The client outlives its server", "7. TLS and tokens"):
        assert f"not run: {section}: there is none for this machine" in output


# What can go wrong


def test_no_milvus_there(run_script: RunScript) -> None:
    with socket.create_server(("127.0.0.1", 0)) as finder:
        port = finder.getsockname()[1]
    done = run_script("--quick", uri=f"http://localhost:{port}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"nothing listens at localhost:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def guarded(server_installed: None) -> Iterator[LocalServer]:
    with LocalServer(authorization=True) as server:
        yield server


def test_a_wrong_password(run_script: RunScript, guarded: LocalServer) -> None:
    done = run_script("--quick", uri=guarded.uri, MILVUS_TOKEN="root:hunter2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "it refused the user or the password" in done.stderr
    assert "hunter2" not in done.stderr


def test_no_database_of_milvus_lite(run_script: RunScript, tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("mine")
    done = run_script("--quick", uri=str(tmp_path / "notes.db"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is a file and no database of Milvus Lite 3" in done.stderr
    assert (tmp_path / "notes.db").read_text() == "mine"


def test_a_collection_of_somebody_else_is_left_alone(run_script: RunScript, tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with connect(path) as milvus:
        milvus.client.create_collection("step01_connections", dimension=4)
        milvus.client.insert("step01_connections", [{"id": 1, "vector": [1, 2, 3, 4]}])
    done = run_script("--quick", uri=str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "'step01_connections' exists and was not made by this script" in done.stderr
    with connect(path) as milvus:
        milvus.client.load_collection("step01_connections")
        assert milvus.client.get("step01_connections", [1])[0]["id"] == 1


@pytest.mark.parametrize("option", ["--rows", "--searches", "--pairs"])
def test_sizes_begin_at_one(run_script: RunScript, tmp_path: Path, option: str) -> None:
    done = run_script(option, "0", uri=str(tmp_path / "own.db"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be at least 1" in done.stderr


@pytest.mark.parametrize("line_start", ["A collection made", "4."])
def test_ctrl_c_leaves_nothing_in_your_milvus(
    check_ctrl_c: Callable[[str], None], line_start: str
) -> None:
    check_ctrl_c(line_start)


@pytest.mark.parametrize("line_start", ["local Milvus server", "expected error: a killed server"])
def test_ctrl_c_leaves_no_server(
    press_ctrl_c: Callable[[str, str], None],
    server_installed: None,
    own_folder: Path,
    tmp_path: Path,
    line_start: str,
) -> None:
    press_ctrl_c(str(tmp_path / "script.db"), line_start)
    assert remains(own_folder) == []
