"""The READMEs against the project: the scripts, the capability table, versions, paths.

What holds for every page (links, commands, both languages alike) is in test_docs.py.
"""

import re
import tomllib
from pathlib import Path
from typing import Literal

from common.capabilities import TABLE_BEGIN, TABLE_END, with_current_table
from common.settings import PROJECT_ROOT

import pytest
import yaml
from packaging.specifiers import SpecifierSet

READMES = {"README.md": "en", "README.ko.md": "ko"}
SCRIPTS = sorted(
    path.relative_to(PROJECT_ROOT).as_posix()
    for path in PROJECT_ROOT.glob("step[0-9][0-9]_*/[0-9][0-9]_*.py")
)
# Releases that are named for what they fixed, and pinned nowhere.
FIXED_IN = {"2.5.27", "2.6.10"}

readmes = pytest.mark.parametrize(("name", "language"), READMES.items())


def text_of(name: str) -> str:
    return (PROJECT_ROOT / name).read_text(encoding="utf-8")


def without_capabilities(text: str) -> str:
    """`text` without the generated table, which names the release that brought each feature."""
    before, _, rest = text.partition(TABLE_BEGIN)
    return before + rest.partition(TABLE_END)[2]


def table_rows(text: str, heading_number: int) -> list[str]:
    """The rows of the tables under the `heading_number`-th heading of level 2, from 0 on."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return [line for line in sections[heading_number].splitlines() if line.startswith("| ")]


@readmes
def test_every_script_is_listed_once_and_in_order(name: str, language: str) -> None:
    rows = table_rows(text_of(name), heading_number=1)
    listed = [re.findall(r"\[([^\]]+)\]\((step\d\d_\w+/[^)]+)\)", row) for row in rows]
    assert [target for links in listed for _, target in links] == SCRIPTS
    for links in listed:
        assert [Path(target).stem for _, target in links] == [text for text, _ in links]


@readmes
def test_every_script_says_what_one_learns(name: str, language: str) -> None:
    for row in table_rows(text_of(name), heading_number=1)[1:]:
        step, script, learn = (cell.strip() for cell in row.strip("|").split("|"))
        assert script.startswith("["), row
        assert len(learn) > 10, row
        # The first row of a step names it, with a link to its page.
        number = int(re.search(r"step(\d\d)_", script)[1])
        page = re.search(r"\((step\d\d_\w+)/", script)[1]
        first = script.startswith("[01_")
        assert bool(step) == first, row
        assert not first or f"[{number}. " in step
        assert not first or f"](docs/{language}/{page}.md)" in step


@readmes
def test_the_table_of_capabilities_is_current(name: str, language: Literal["en", "ko"]) -> None:
    text = text_of(name)
    assert with_current_table(text, language) == text, "run: python -m common.capabilities"


@readmes
def test_no_placeholder_is_left(name: str, language: str) -> None:
    assert re.findall(r"@[A-Z_]+@|\b(?:TODO|FIXME|XXX|TBD)\b", text_of(name)) == []


@readmes
def test_every_version_is_one_that_is_pinned(name: str, language: str) -> None:
    pinned = set()
    for path in PROJECT_ROOT.glob("requirements*.txt"):
        pinned |= set(re.findall(r"^[\w.-]+==([^\s;]+)", path.read_text(), re.MULTILINE))
    images = [service["image"] for service in compose_services().values()]
    pinned |= {image.rpartition(":v")[2] for image in images}
    named = set(re.findall(r"(?<![\d.])\d+\.\d+\.\d+\b", without_capabilities(text_of(name))))
    assert named - pinned - FIXED_IN == set()
    assert "3.0.2" in named


def compose_services() -> dict[str, dict]:
    return yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]


@readmes
def test_the_python_versions_are_those_that_are_supported(name: str, language: str) -> None:
    row = next(row for row in table_rows(text_of(name), 0) if row.startswith("| Python |"))
    ranges = re.findall(r"3\.(\d+) – 3\.(\d+)", row)
    assert len(ranges) == 3
    (first, last), *others = ranges
    assert others == [(first, last)] * 2
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    supported = SpecifierSet(project["requires-python"])
    assert f"3.{first}" in supported
    assert f"3.{int(first) - 1}" not in supported
    workflow = yaml.safe_load((PROJECT_ROOT / ".github/workflows/ci.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == [f"3.{minor}" for minor in range(int(first), int(last) + 1)]


@readmes
def test_every_path_of_the_list_of_files_exists(name: str, language: str) -> None:
    lines = file_list(text_of(name))
    paths = [path for paths, _ in lines for path in paths]
    assert [path for path in paths if not (PROJECT_ROOT / path).exists()] == []
    steps = sorted(f"{path.name}/" for path in PROJECT_ROOT.glob("step[0-9][0-9]_*"))
    assert {*steps, "common/", "docs/en", "docs/ko", "docker-compose.yml"} <= set(paths)


def file_list(text: str) -> list[tuple[list[str], str]]:
    """The lines of "What is where": the paths at the beginning of each, and what it says."""
    blocks = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found = []
    for line in blocks[-1].splitlines():
        words = line.split()
        count = next(i for i, word in enumerate(words) if not re.search(r"[./]", word))
        found.append((words[:count], " ".join(words[count:])))
    return found


@readmes
def test_the_profiles_are_those_of_compose(name: str, language: str) -> None:
    text = next(says for paths, says in file_list(text_of(name)) if "docker-compose.yml" in paths)
    listed = re.search(r"profiles ([\w, ]+)", text)[1].split(", ")
    profiles = {p for service in compose_services().values() for p in service.get("profiles", ())}
    assert sorted(listed) == sorted(profiles)


@readmes
def test_every_file_that_is_named_exists(name: str, language: str) -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|txt|toml|ya?ml|md)|\.ci/\w+)`", text_of(name))
    assert [path for path in named if not (PROJECT_ROOT / path).exists()] == []
    assert ".ci/run" in named
