"""requirements*.txt, constraints.txt and pyproject.toml against each other and the imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from common.settings import PROJECT_ROOT

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LEARNER, TESTS = PROJECT_ROOT / "requirements.txt", PROJECT_ROOT / "requirements-dev.txt"
DEMO = PROJECT_ROOT / "requirements-demo.txt"
CONSTRAINTS = PROJECT_ROOT / "constraints.txt"
FILES = sorted(PROJECT_ROOT.glob("requirements*.txt"))
DEMO_FOLDER = PROJECT_ROOT / "step03_use_cases" / "demo"
# What is ours, and what a test makes up.
OURS = {"common", "conftest", *(path.stem for path in DEMO_FOLDER.glob("demo_*.py"))}

files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def lines_of(path: Path) -> list[str]:
    """The lines that name a package: no options, no comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


@cache
def pins(path: Path) -> dict[str, str]:
    """The specifier of each package of a file, by its canonical name."""
    found = [Requirement(line.partition(" #")[0]) for line in lines_of(path)]
    names = [canonicalize_name(requirement.name) for requirement in found]
    assert len(set(names)) == len(names), f"{path.name} names a package twice"
    return {name: str(r.specifier) for name, r in zip(names, found, strict=True)}


def test_the_files_are_the_three_that_are_known() -> None:
    assert sorted([LEARNER, DEMO, TESTS]) == FILES


@files
def test_every_line_is_pinned_and_says_what_it_is_for(path: Path) -> None:
    for line in lines_of(path):
        requirement, _, purpose = line.partition("  # ")
        assert re.fullmatch(r"==[\w.]+", str(Requirement(requirement).specifier)), line
        assert len(purpose) > 5, f"nothing says what this is for: {line}"


def test_the_options_are_these_and_the_project_comes_last() -> None:
    def options(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if line.startswith("-")]

    assert options(LEARNER) == ["--constraint constraints.txt", "-e ."]
    assert options(DEMO) == ["-r requirements.txt"]
    assert options(TESTS) == ["-r requirements.txt", "-r requirements-demo.txt"]
    assert LEARNER.read_text().splitlines()[-1] == "-e ."


def test_constraints_pin_each_package_once_and_as_the_requirements_do() -> None:
    constraints = pins(CONSTRAINTS)
    assert [line for line in lines_of(CONSTRAINTS) if not re.fullmatch(r"\S+==[\w.]+", line)] == []
    wanted = pins(LEARNER) | pins(DEMO) | pins(TESTS)
    both = wanted.keys() & constraints.keys()
    assert {name: wanted[name] for name in both} == {name: constraints[name] for name in both}
    assert {"pymilvus", "numpy"} <= both


def test_no_package_is_named_in_two_files() -> None:
    names = [name for path in FILES for name in pins(path)]
    assert sorted(set(names)) == sorted(names)


def test_the_package_has_no_requirements_of_its_own() -> None:
    # They would be a second list, and could differ from requirements.txt.
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    assert "dependencies" not in project
    assert "optional-dependencies" not in project


def test_python_is_the_one_that_is_asked_for_everywhere() -> None:
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    assert "sys.version_info < (3, 11)" in makefile
    assert "Python 3.11 or newer" in makefile
    running = ".".join(map(str, sys.version_info[:2]))
    assert running in SpecifierSet(project["project"]["requires-python"])


# What is imported is named


def sources() -> list[Path]:
    found = [PROJECT_ROOT / "conftest.py"]
    for folder in ("common", "step[0-9][0-9]_*", "tests"):
        found += [p for top in PROJECT_ROOT.glob(folder) for p in top.rglob("*.py")]
    return sorted(found)


def is_test(path: Path) -> bool:
    return "tests" in path.relative_to(PROJECT_ROOT).parts or path.name == "conftest.py"


def imported(source: str) -> set[str]:
    """The top-level modules that a source imports, within functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def unnamed(modules: set[str], packages: set[str]) -> dict[str, list[str]]:
    """The third-party modules that none of `packages` brings, each with who does."""
    installed = installed_packages()
    third_party = modules - set(sys.stdlib_module_names) - OURS
    brings = {m: sorted({canonicalize_name(d) for d in installed.get(m, [])}) for m in third_party}
    return {module: who for module, who in brings.items() if not set(who) & packages}


@cache
def installed_packages() -> Mapping[str, list[str]]:
    return packages_distributions()


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_every_import_is_of_a_package_that_is_named(path: Path) -> None:
    packages = set(pins(LEARNER)) | (set(pins(TESTS)) if is_test(path) else set())
    packages |= set(pins(DEMO)) if path.is_relative_to(DEMO_FOLDER) else set()
    assert unnamed(imported(path.read_text(encoding="utf-8")), packages) == {}


def test_imports_that_are_not_named_are_found() -> None:
    modules = imported("import os, yaml.nodes\ndef f():\n    from numpy.linalg import norm\n")
    assert modules == {"os", "yaml", "numpy"}
    assert unnamed(modules, {"numpy"}) == {"yaml": ["pyyaml"]}
    assert unnamed({"not_installed"}, {"numpy"}) == {"not_installed": []}
    assert unnamed({"common", "numpy"}, {"numpy"}) == {}
