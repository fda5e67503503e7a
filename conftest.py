"""Fixtures of every test: each Milvus, the script under test, a process that runs it.

pytest --milvus lite          Milvus Lite only
pytest --milvus server        the local server only
pytest --milvus http://...    your own Milvus (what the tests make there, they remove)
pytest --full                 fault and soak tests in full size
pytest -n auto --dist loadfile    on several cores, as `make test` does
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from common import local_cluster
from common.connection import Milvus, connect
from common.local_server import (
    QUICK_TICKS,
    LocalServer,
    missing_reason,
)
from common.workspace import aliases_of

import pytest
from pymilvus import MilvusClient

ROOT = Path(__file__).parent
MOST_WORKERS = 4  # of `pytest -n auto`
WORKERS_PER_CORE = 2  # half of a test's time is waiting for a server
# Python that takes Ctrl-C, also where a test run in the background has told its children to ignore
# it. Not preexec_fn: that runs in a fork of this process, in which gRPC's threads may abort.
TAKES_CTRL_C = (
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
)
SCRIPT_TIMEOUT = 300  # seconds: a guard against hanging, not a measurement


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--milvus",
        default="both",
        metavar="lite|server|URI",
        help="the Milvus that tests run on (default: Milvus Lite and the local server)",
    )
    parser.addoption("--full", action="store_true", help="long tests in their full size")


def pytest_configure() -> None:
    """Undo and add what pytest-xdist's processes need: the width of a pipe, a thread each."""
    os.environ.pop("COLUMNS", None)
    if "PYTEST_XDIST_WORKER" in os.environ:  # several share the cores: torch need not want them all
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist is not there for those who only learn
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes `-n auto` takes: a few, since most of them start a server.

    None besides this one on a Milvus that is given: the tests would see each other's collections.
    """
    if config.getoption("--milvus") not in ("both", "lite", "server"):
        return 0
    return min(MOST_WORKERS, WORKERS_PER_CORE * (os.cpu_count() or 1))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--milvus")
        engines = ["lite", "server"] if chosen == "both" else [chosen]
        names = [name if name in ("lite", "server") else "uri" for name in engines]
        metafunc.parametrize("engine", engines, ids=names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether long tests run in their full size."""
    return request.config.getoption("--full")


def skip_or_fail(reason: str) -> None:
    """Leave a test out for a missing part; with REQUIRE_ALL=1 that is a failure."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def part() -> Callable[[str, str], str]:
    """`part("promtool", "apt-get install prometheus")`: the path of a program, or a skip."""

    def find(program: str, install: str) -> str:
        beside_python = Path(sys.executable).parent / program
        found = str(beside_python) if beside_python.exists() else shutil.which(program)
        if not found:
            skip_or_fail(f"{program} is not installed: {install}")
        return found

    return find


@pytest.fixture(scope="session")
def server_installed() -> None:
    """For tests that start local servers of their own."""
    reason = missing_reason()
    if reason:
        skip_or_fail(reason)


@pytest.fixture(scope="session")
def cluster_installed() -> None:
    """For tests that start local clusters."""
    reason = local_cluster.missing_reason()
    if reason:
        skip_or_fail(reason)


@pytest.fixture(scope="session")
def shared_server(
    server_installed: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    """The one local server of this run. Do not kill it: start a LocalServer for that."""
    folder = tmp_path_factory.mktemp("milvus-server")
    with LocalServer(folder, environment=QUICK_TICKS) as server:
        yield server


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of the Milvus under test: an empty Milvus Lite, the local server, or yours."""
    if request.param == "lite":
        return str(tmp_path_factory.mktemp("milvus-lite") / "milvus.db")
    if request.param == "server":
        return request.getfixturevalue("shared_server").uri
    return request.param


@pytest.fixture(scope="session")
def session_milvus(engine: str) -> Iterator[Milvus]:
    with connect(engine, token=os.environ.get("MILVUS_TOKEN", "")) as milvus:
        yield milvus


@pytest.fixture
def milvus(session_milvus: Milvus) -> Iterator[Milvus]:
    """A connected Milvus; what the test makes there is gone at its end."""
    client = session_milvus.client
    before = set(client.list_collections()), set(client.list_databases())
    yield session_milvus
    remove_since(client, *before)


@pytest.fixture
def client(milvus: Milvus) -> MilvusClient:
    """The client of `milvus`."""
    return milvus.client


def remove_since(client: MilvusClient, collections: set[str], databases: set[str]) -> None:
    """Drop the collections and databases that were not there before a test."""
    remove_collections(client, collections)
    for name in set(client.list_databases()) - databases:
        config = client._config
        inside = MilvusClient(config.uri, token=config.token, db_name=name)
        remove_collections(inside, set())
        inside.close()
        client.drop_database(name)


def remove_collections(client: MilvusClient, kept: set[str]) -> None:
    """Drop the other collections of the client's database, with their aliases."""
    for name in set(client.list_collections()) - kept:
        for alias in aliases_of(client, name):
            client.drop_alias(alias)
        client.drop_collection(name)


@pytest.fixture
def throwaway_server(server_installed: None, tmp_path: Path) -> Iterator[LocalServer]:
    """A local server of this test alone, which it may kill and restart."""
    with LocalServer(tmp_path / "server", environment=QUICK_TICKS) as server:
        yield server


def script_of(test_file: Path) -> Path:
    """stepNN_x/tests/test_01_topic.py tests stepNN_x/01_topic.py."""
    name = re.fullmatch(r"test_(\d\d_\w+)", test_file.stem)
    if name is None:
        raise LookupError(f"{test_file.name} is not named after a script: test_NN_topic.py")
    return test_file.parent.parent / f"{name[1]}.py"


@pytest.fixture(scope="module")
def lesson(request: pytest.FixtureRequest) -> ModuleType:
    """The script of the same name as the test file, as a module."""
    path = script_of(request.path)
    # Registered under a name of its own: dataclasses and pickling look their module up.
    name = f"lesson_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script_environment(tmp_path: Path) -> dict[str, str]:
    """An environment for scripts: charts into `tmp_path / "out"`, no `.env` of the developer."""
    return {
        **os.environ,
        "OUT_DIR": str(tmp_path / "out"),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def run_script(
    request: pytest.FixtureRequest, script_environment: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess]:
    """Run the script under test as a learner would: `run_script("--quick")`, a process.

    `run_script(..., uri=...)` names the Milvus; without it the test's `engine` is taken, where
    Milvus Lite gets a database of its own, since another process has the engine's open.
    """
    path = script_of(request.path)

    def run(*arguments: str, uri: str | None = None, **variables: str):
        if uri is None:
            uri = request.getfixturevalue("engine")
            uri = str(tmp_path / "script.db") if uri.endswith(".db") else uri
        return subprocess.run(
            [sys.executable, path, *arguments],
            cwd=tmp_path,
            env={**script_environment, "MILVUS_URI": uri, **variables},
            capture_output=True,
            text=True,
            timeout=SCRIPT_TIMEOUT,
        )

    return run


@pytest.fixture
def passes_as_a_process(
    run_script: Callable[..., subprocess.CompletedProcess], engine: str, tmp_path: Path, full: bool
) -> Callable[..., str]:
    """Run the script and check what holds for every script; gives its output.

    Exit code 0, no traceback, and nothing left behind in the Milvus. On Milvus Lite, and with
    --full on each, it runs twice: a second run finds the database of the first.
    """

    def check(*arguments: str) -> str:
        lite = engine.endswith(".db")
        uri = str(tmp_path / "script.db") if lite else engine
        with connect(uri) as milvus:
            before = what_is_there(milvus.client)
        outputs = []
        for _ in range(2 if lite or full else 1):
            done = run_script(*arguments, uri=uri)
            assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            assert "Traceback" not in done.stdout + done.stderr
            outputs.append(done.stdout)
        with connect(uri) as milvus:
            assert what_is_there(milvus.client) == before
        return outputs[0]

    return check


@pytest.fixture
def press_ctrl_c(
    request: pytest.FixtureRequest, script_environment: dict[str, str], tmp_path: Path
) -> Callable[[str, str], None]:
    """`press_ctrl_c(uri, "9.")`: when the script prints a line that begins so.

    It must say that it stopped and exit with 130.
    """

    def press(uri: str, line_start: str) -> None:
        with subprocess.Popen(
            [*TAKES_CTRL_C, script_of(request.path), "--quick"],
            cwd=tmp_path,
            env={**script_environment, "MILVUS_URI": uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            for line in process.stdout:
                if line.startswith(line_start):
                    process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
        assert process.returncode == 130, errors
        assert errors == "stopped\n"

    return press


@pytest.fixture
def check_ctrl_c(
    press_ctrl_c: Callable[[str, str], None], engine: str, tmp_path: Path
) -> Callable[[str], None]:
    """`check_ctrl_c("9.")`: the same on each engine, and nothing is left behind there."""
    uri = str(tmp_path / "script.db") if engine.endswith(".db") else engine

    def check(line_start: str) -> None:
        with connect(uri) as milvus:
            before = what_is_there(milvus.client)
        press_ctrl_c(uri, line_start)
        with connect(uri) as milvus:
            assert what_is_there(milvus.client) == before

    return check


def what_is_there(client: MilvusClient) -> dict[str, object]:
    """All collections with their aliases, by name, and the databases of a Milvus."""
    return {
        "collections": {
            name: sorted(aliases_of(client, name)) for name in sorted(client.list_collections())
        },
        "databases": sorted(client.list_databases()),
    }
