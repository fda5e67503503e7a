"""01_environment_check tells what is here, what is missing, and what to do."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from common.capabilities import FEATURES
from common.connection import Milvus, connect
from common.environment import check_packages
from common.settings import PROJECT_ROOT
from conftest import TAKES_CTRL_C, script_of, what_is_there

import pytest
from pymilvus import MilvusClient

SCRIPT = script_of(Path(__file__))

RunScript = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def closed_uri() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as finder:
        return f"http://localhost:{finder.getsockname()[1]}"


@pytest.fixture
def some_db(tmp_path: Path) -> str:
    return str(tmp_path / "some.db")


def test_it_passes_as_a_process(passes_as_a_process: Callable[..., str], milvus: Milvus) -> None:
    output = passes_as_a_process("--quick")
    assert f"\n{milvus.label} at" in output  # the path may stand in the next line
    assert "(50 calls of get_server_version)" in output
    assert "✓ Everything that the scripts require is here." in output
    for number in range(1, 8):
        assert f"\n{number}. " in output
    assert max(map(len, output.splitlines())) <= 100


def test_json_is_one_document_and_nothing_else(run_script: RunScript, milvus: Milvus) -> None:
    done = run_script("--quick", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["exit_code"] == 0
    assert report["problems"] == []
    assert report["python"]["executable"] == sys.executable
    assert {p["name"]: p["wanted"] for p in report["packages"]}["pymilvus"] == "3.0.2"
    assert report["machine"]["cores"] >= 1
    assert set(report["docker"]) == {"client", "engine", "compose", "problem"}
    assert [model["language"] for model in report["text_models"]] == ["en", "ko"]
    assert report["milvus"]["label"] == milvus.label
    assert report["milvus"]["kind"] == milvus.kind
    assert report["milvus"]["version"] == milvus.version
    assert report["milvus"]["round_trip"]["calls"] == 50


def test_a_missing_package_gives_1_and_the_pip_line(
    run_script: RunScript, tmp_path: Path, some_db: str
) -> None:
    wanted = tmp_path / "wanted list.txt"
    wanted.write_text("rich==0.0.1\nno-such-package==1.0\n")
    done = run_script("--quick", "--requirements", wanted, uri=some_db)
    assert done.returncode == 1
    assert "✗ missing: no-such-package. Run: " in done.stdout
    assert "-m pip install -r " in done.stdout
    assert "Of another version than the tests passed with: rich." in done.stdout
    assert "Milvus Lite 3.2.2 at" in done.stdout, "the other checks must be shown too"
    assert "Everything that the scripts require" not in done.stdout

    done = run_script("--quick", "--json", "--requirements", wanted, uri=some_db)
    report = json.loads(done.stdout)
    assert (done.returncode, report["exit_code"]) == (1, 1)
    assert [package["state"] for package in report["packages"]] == ["different", "missing"]


def test_another_version_is_told_and_no_failure(
    run_script: RunScript, tmp_path: Path, some_db: str
) -> None:
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("rich==0.0.1\n")
    done = run_script("--quick", "--requirements", wanted, uri=some_db)
    assert done.returncode == 0
    assert "Of another version than the tests passed with: rich." in done.stdout


def test_a_list_that_cannot_be_read(run_script: RunScript, tmp_path: Path, some_db: str) -> None:
    done = run_script("--requirements", tmp_path / "none.txt", uri=some_db)
    assert done.returncode == 1
    assert done.stderr == f"cannot read {tmp_path / 'none.txt'}: No such file or directory\n"


def test_no_milvus_gives_2_and_all_other_checks(run_script: RunScript, closed_uri: str) -> None:
    done = run_script("--quick", uri=closed_uri)
    assert done.returncode == 2
    assert f"cannot connect to Milvus at {closed_uri}: nothing listens at" in done.stdout
    assert "make server" in done.stdout
    assert "✗ no Milvus answers" in done.stdout
    assert "not run: 6. What this Milvus can: none answers" in done.stdout
    for section in ("1. Python", "2. This machine", "3. Ways", "4. Text models", "7. Result"):
        assert f"\n{section}" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_no_milvus_in_json(run_script: RunScript, closed_uri: str) -> None:
    done = run_script("--quick", "--json", uri=closed_uri)
    report = json.loads(done.stdout)
    assert (done.returncode, report["exit_code"]) == (2, 2)
    assert report["milvus"]["error"].startswith("cannot connect to Milvus at")


def test_a_missing_package_comes_before_a_missing_milvus(
    run_script: RunScript, closed_uri: str, tmp_path: Path
) -> None:
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("no-such-package==1.0\n")
    done = run_script("--quick", "--requirements", wanted, uri=closed_uri)
    assert done.returncode == 1
    assert "✗ missing: no-such-package" in done.stdout
    assert "✗ no Milvus answers" in done.stdout


def test_a_model_that_is_not_there_gives_1(run_script: RunScript, some_db: str) -> None:
    done = run_script("--quick", uri=some_db, TEXT_MODEL="/none/at/all")
    assert done.returncode == 1
    assert "folder /none/at/all: there is none" in done.stdout


def test_a_model_of_the_hub_is_not_fetched(
    run_script: RunScript, some_db: str, tmp_path: Path
) -> None:
    done = run_script("--quick", uri=some_db, TEXT_MODEL="some/model", HF_HOME=str(tmp_path))
    assert done.returncode == 0
    assert "The model for 'en' is not on this machine" in done.stdout


def test_a_bad_setting_gives_2(run_script: RunScript, some_db: str) -> None:
    done = run_script("--quick", uri=some_db, MILVUS_TIMEOUT="soon")
    assert done.returncode == 2
    assert "MILVUS_TIMEOUT='soon' is not a positive number of seconds" in done.stderr


@pytest.mark.parametrize("module", ["pymilvus", "rich", "packaging", "common"])
def test_before_anything_is_installed_it_says_what_to_do(module: str, tmp_path: Path) -> None:
    # None in sys.modules makes its import fail as that of a package that is not there.
    code = (
        "import runpy, sys\n"
        f"sys.modules[{module!r}] = None\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    environment = {**os.environ, "MILVUS_URI": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"missing: {module}")
    assert f"{sys.executable} -m pip install -r requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_needs_no_torch(some_db: str) -> None:
    code = (
        "import runpy, sys\n"
        f"main = runpy.run_path({str(SCRIPT)!r})['main']\n"
        "assert main(['--quick', '--json']) == 0\n"
        "print('torch' in sys.modules, file=sys.stderr)\n"
    )
    environment = {**os.environ, "MILVUS_URI": some_db}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stderr == "False\n"


def test_round_trips_are_counted_and_ordered(lesson: ModuleType, client: MilvusClient) -> None:
    measured = lesson.round_trip(client, 30)
    assert measured["calls"] == 30
    assert 0 < measured["median_seconds"] <= measured["p95_seconds"]


def test_a_slow_milvus_gets_fewer_round_trips(
    lesson: ModuleType, client: MilvusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson, "LONGEST", 0.0)
    assert lesson.round_trip(client, 30)["calls"] == 1


def test_no_round_trip_is_no_measurement(run_script: RunScript, some_db: str) -> None:
    done = run_script("--round-trips", "0", uri=some_db)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--round-trips must be at least 1" in done.stderr


def test_the_capabilities_are_those_that_scripts_ask_for(
    lesson: ModuleType, milvus: Milvus
) -> None:
    rows = lesson.capabilities(milvus)
    assert [row["feature"] for row in rows] == [feature.name for feature in FEATURES]
    for row in rows:
        told = milvus.can(row["feature"])
        assert (row["here"], row["reason"]) == (bool(told), told.reason)


def test_every_feature_is_shown_once_and_each_caveat(
    lesson: ModuleType, milvus: Milvus, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lesson.capabilities(milvus)
    lesson.show_capabilities(rows)
    has, _, rest = capsys.readouterr().out.partition("It lacks")
    lacks, _, beware = rest.partition("Of these, what it does instead")
    for row in rows:
        part, other = (has, lacks) if row["here"] else (lacks, has)
        words = part.replace(",", " ").split()
        assert words.count(row["feature"]) == 1
        assert row["feature"] not in other.replace(",", " ").split()
        if "(" in row["reason"].partition(";")[0]:
            assert row["feature"] in beware


def test_a_milvus_that_has_it_all_lacks_nothing(
    lesson: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    milvus = Milvus(None, "http://x", "cluster", "3.0.2-gpu", {})
    rows = lesson.capabilities(milvus)
    lesson.show_capabilities([{**row, "here": True} for row in rows])
    output = capsys.readouterr().out
    assert "It has" in output
    assert "It lacks" not in output


def test_who_has_a_feature_is_told_with_what_that_needs(lesson: ModuleType) -> None:
    milvus = Milvus(None, "http://x", "standalone", "3.0.2", {})
    who = {row["feature"]: row["who_has_it"] for row in lesson.capabilities(milvus)}
    assert who["HNSW"] == ["Milvus Lite 3.2.2", "local server 2.3.5", "Milvus 2.0+"]
    assert who["GPU_CAGRA"] == ["Milvus 2.4+ with the -gpu image"]
    assert who["snapshots"] == ["Milvus 3.0+ with common.storage.useLoonFFI: true"]


def test_ctrl_c_leaves_nothing_behind(
    script_environment: dict[str, str], engine: str, tmp_path: Path
) -> None:
    uri = str(tmp_path / "script.db") if engine.endswith(".db") else engine
    with connect(uri) as milvus:
        before = what_is_there(milvus.client)
    command = [*TAKES_CTRL_C, SCRIPT, "--round-trips", "1000000"]
    environment = {**script_environment, "MILVUS_URI": uri}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("4. "):
                process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130, errors
    assert errors == "stopped\n"
    with connect(uri) as milvus:
        assert what_is_there(milvus.client) == before


def test_the_list_is_that_of_the_project(lesson: ModuleType) -> None:
    shown = [package["name"] for package in lesson.environment.describe()["packages"]]
    assert shown == [package.name for package in check_packages(PROJECT_ROOT / "requirements.txt")]
