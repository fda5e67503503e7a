"""Rules that hold for every file of the project, and who may import whom."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from common.settings import PROJECT_ROOT

import pytest

# Folders of one machine, which no other has. A container has folders of its own.
MACHINE_PATH = re.compile(r"(?<![\w.~…-])/(?:home|root|Users|work|opt)/[\w.-]+")
CONTAINER_PATHS = {"docker-compose.yml": {"/opt/kafka"}}
# The ORM-style interface of pymilvus, which goes away in 3.1.
OLD_API = re.compile(r"pymilvus\.(connections|Collection|Partition|Index|Role|utility|db|orm)\b")
# What would load a script by its path; a script is read by its reader and run by the tour.
LOADERS = {"importlib.util", "importlib.machinery", "runpy", "imp"}

SCRIPTS = sorted(PROJECT_ROOT.glob("step[0-9][0-9]_*/[0-9][0-9]_*.py"))
COMMON = sorted(PROJECT_ROOT.glob("common/*.py"))


def ignored() -> set[str]:
    """The names of files and folders that .gitignore keeps out."""
    lines = (PROJECT_ROOT / ".gitignore").read_text().splitlines()
    return {line.rstrip("/") for line in lines if line and not line.startswith("#")}


def files(folder: Path = PROJECT_ROOT) -> Iterator[Path]:
    """Every file of the project: no .git, nothing that a run makes."""
    skipped = {".git", *ignored()}
    for path in sorted(folder.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in skipped):
            continue
        if path.is_dir():
            yield from files(path)
        else:
            yield path


FILES = list(files())
SOURCES = [path for path in FILES if path.suffix == ".py"]


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT_ROOT).as_posix()


each_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)
each_script = pytest.mark.parametrize("path", SCRIPTS, ids=name_of)


def test_the_files_are_found() -> None:
    names = {name_of(path) for path in FILES}
    assert {"Makefile", ".ci/run", "common/settings.py", "tests/test_project.py"} <= names
    assert not [name for name in names if name.startswith((".git/", ".venv/", ".milvus/"))]


# Text


def test_no_file_names_a_folder_of_one_machine() -> None:
    others = [path for path in FILES if path != Path(__file__)]  # which must name them
    assert [problem for path in others for problem in machine_paths(path)] == []


def machine_paths(path: Path) -> Iterator[str]:
    allowed = CONTAINER_PATHS.get(path.name, set())
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        named = set(MACHINE_PATH.findall(line)) - allowed
        if str(Path.home()) in line and len(Path.home().parts) > 2:
            named.add("the home of whoever wrote it")
        yield from (f"{path}:{number}: {what}" for what in sorted(named))


def test_folders_of_one_machine_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text("see /home/me/x, `/opt/y/z`, ~/work/x, network/work/x and …/opt/x\n")
    assert [line.partition(": ")[2] for line in machine_paths(path)] == ["/home/me", "/opt/y"]


# Code


@each_source
def test_no_bare_except_and_no_orm(path: Path) -> None:
    assert list(forbidden(path.read_text(encoding="utf-8"))) == []


def forbidden(source: str) -> Iterator[str]:
    """Each bare `except:` and each use of pymilvus' old interface."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: a bare except"
        yield from (f"line {node.lineno}: {name}" for name in names if OLD_API.match(name))


def test_what_is_forbidden_is_found() -> None:
    source = (
        "import pymilvus.orm.collection\n"
        "from pymilvus import MilvusClient, connections, utility\n"
        "try:\n    pymilvus.Collection('x')\nexcept:\n    pass\n"
        "try:\n    pass\nexcept ValueError:\n    pass\n"
    )
    assert sorted(forbidden(source)) == [
        "line 1: pymilvus.orm.collection",
        "line 2: pymilvus.connections",
        "line 2: pymilvus.utility",
        "line 4: pymilvus.Collection",
        "line 5: a bare except",
    ]


# Scripts and their tests


def test_each_script_has_its_test_and_each_test_its_script() -> None:
    folders = {script.parent for script in SCRIPTS}
    wanted = [s.parent / "tests" / f"test_{s.stem}.py" for s in SCRIPTS]
    there = [path for folder in folders for path in (folder / "tests").glob("*.py")]
    assert sorted(map(name_of, there)) == sorted(map(name_of, wanted))


def test_the_scripts_of_a_step_are_numbered() -> None:
    for folder in {script.parent for script in SCRIPTS}:
        names = sorted(path.stem for path in folder.glob("*.py"))
        numbers = [int(re.fullmatch(r"(\d\d)_\w+", name)[1]) for name in names]
        assert numbers[0] == 1, names
        assert len(set(numbers)) == len(numbers), names


@each_script
def test_a_script_imports_no_script(path: Path) -> None:
    assert script_imports(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", COMMON, ids=name_of)
def test_common_imports_no_script(path: Path) -> None:
    found = script_imports(path.read_text(encoding="utf-8"))
    # local_server and environment look for packages with importlib.util, without importing them.
    assert [module for module in found if module != "importlib.util"] == []


def script_imports(source: str) -> list[str]:
    """What a source imports of scripts, or imports to load one."""
    modules = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            modules += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                modules.append(name)
    wrong = ("step", ".", "import_module", "__import__")
    return sorted({m for m in modules if m.startswith(wrong) or m in LOADERS})


def test_imports_of_scripts_are_found() -> None:
    source = (
        "import runpy\nfrom step01_basics import x\nfrom . import y\nfrom importlib import util\n"
        "import_module('step01_basics.03_collections')\nfrom importlib import metadata\n"
    )
    assert script_imports(source) == [
        ".",
        "..y",
        "import_module",
        "importlib.util",
        "runpy",
        "step01_basics",
        "step01_basics.x",
    ]


@each_script
def test_importing_a_script_does_nothing(path: Path) -> None:
    *body, last = ast.parse(path.read_text(encoding="utf-8")).body
    assert ast.unparse(last).startswith("if __name__ == '__main__':"), "it runs main() at its end"
    assert [ast.unparse(node) for node in body if does_something(node)] == []


def does_something(node: ast.stmt) -> bool:
    """Whether a statement at the top of a script is more than a definition or an import."""
    if isinstance(node, ast.Expr):
        return not ast.unparse(node).startswith(("'", '"'))  # a docstring
    if isinstance(node, ast.Try):
        return any(does_something(inner) for inner in node.body)
    definitions = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return not isinstance(node, (*definitions, ast.Assign, ast.AnnAssign))


def test_what_an_import_does_is_found() -> None:
    body = ast.parse('"""Doc."""\nimport os\nX: int = 1\nprint(X)\nfor i in []:\n    pass\n').body
    assert [does_something(node) for node in body] == [False, False, False, True, True]
