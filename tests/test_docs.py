"""The documentation against the project: links, code, commands, and both languages alike.

Every page is read here: the READMEs and docs/. A ```python block runs as it stands; where
`<!-- output -->` stands before the ```text block after it, that is what it prints. A line that
begins with "$ " in a ```console block is a command.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from common.settings import PROJECT_ROOT

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

ENGLISH = ["README.md", *sorted(f"docs/en/{p.name}" for p in PROJECT_ROOT.glob("docs/en/*.md"))]
KOREAN = ["README.ko.md", *sorted(f"docs/ko/{p.name}" for p in PROJECT_ROOT.glob("docs/ko/*.md"))]
SCRIPTS = sorted(
    path.relative_to(PROJECT_ROOT).as_posix()
    for path in PROJECT_ROOT.glob("step[0-9][0-9]_*/[0-9][0-9]_*.py")
)
# A block of another kind would escape the tests below: "py" is not run, "bash" is not checked.
LANGUAGES = {"console", "dotenv", "json", "python", "sql", "text", "yaml"}
OUTPUT = "<!-- output -->"
# Folders of one machine; a page speaks of no machine.
MACHINE_PATH = re.compile(r"(?<![\w.~…-])/(?:home|root|Users|work|opt)/\S*")
A_COMMAND = re.compile(r"\.venv/bin/|(make|python3?|pip|docker compose|export|[A-Z_]+=\S+) ")
MODULE_TIMEOUT = 120  # seconds: a guard against hanging, not a measurement
BLOCKS_TIMEOUT = 300

pages = pytest.mark.parametrize("name", [*ENGLISH, *KOREAN])
english_pages = pytest.mark.parametrize("name", ENGLISH)


@dataclass(frozen=True)
class Fence:
    """A code block; `is_output` if it shows what the block before it prints."""

    language: str
    content: str
    line: int
    is_output: bool


@dataclass
class Page:
    """What the tests look at in a Markdown page, each with its line."""

    headings: list[tuple[int, str]] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)
    links: list[tuple[int, str]] = field(default_factory=list)
    code: list[tuple[int, str]] = field(default_factory=list)
    words: list[tuple[int, str]] = field(default_factory=list)
    indented: list[int] = field(default_factory=list)


def parse(text: str) -> Page:
    """Read a page as GitHub does."""
    page = Page()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            shown = before is not None and before.content.strip() == OUTPUT
            page.fences.append(Fence(token.info.strip(), token.content, line, shown))
        elif token.type == "code_block":
            page.indented.append(line)
        elif token.type == "html_block":
            page.links += [(line, target) for target in _html_links(token.content)]
        elif token.type == "inline":
            if before.type == "heading_open":
                _add_heading(page, int(before.tag[1]), token)
            _add_inline(page, line, token)
    return page


def _add_heading(page: Page, level: int, inline: Token) -> None:
    text = "".join(t.content for t in inline.children if t.type in ("text", "code_inline"))
    anchor = anchor_of(text)
    count = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", a) is not None for a in page.anchors)
    page.headings.append((level, text))
    page.anchors.append(f"{anchor}-{count}" if count else anchor)


def _add_inline(page: Page, line: int, inline: Token) -> None:
    for token in inline.children:
        if token.type in ("softbreak", "hardbreak"):
            line += 1
        elif token.type == "link_open":
            page.links.append((line, str(token.attrs["href"])))
        elif token.type == "image":
            page.links.append((line, str(token.attrs["src"])))
        elif token.type == "html_inline":
            page.links += [(line, target) for target in _html_links(token.content)]
        elif token.type == "code_inline":
            page.code.append((line, token.content))
        elif token.type == "text":
            page.words.append((line, token.content))


def _html_links(html: str) -> list[str]:
    return re.findall(r"""\b(?:href|src)=["']([^"']+)""", html)


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives a heading: letters, marks, digits, "_" and "-" stay."""
    kept = [
        character
        for character in heading.strip().lower()
        if character in " -"
        or unicodedata.category(character)[0] in "LM"
        # of numbers only digits; of punctuation only what connects, as "_" does
        or unicodedata.category(character) in ("Nd", "Pc")
    ]
    return "".join(kept).replace(" ", "-")


@cache
def read(name: str) -> Page:
    return parse((PROJECT_ROOT / name).read_text(encoding="utf-8"))


def korean(name: str) -> str:
    """The Korean page that goes with an English one."""
    return "README.ko.md" if name == "README.md" else name.replace("docs/en/", "docs/ko/")


# Both languages alike


def test_both_languages_have_the_same_pages() -> None:
    assert [korean(name) for name in ENGLISH] == KOREAN
    assert "docs/en/getting_started.md" in ENGLISH


@english_pages
def test_both_languages_have_the_same_headings(name: str) -> None:
    one, other = read(name).headings, read(korean(name)).headings
    assert [level for level, _ in one] == [level for level, _ in other], (one, other)
    assert [level for level, _ in one].count(1) == 1
    # Translated: only a name may stand alike in both. The title of a README is such a name.
    alike = {text for _, text in one[1:]} & {text for _, text in other[1:]}
    assert not [text for text in alike if " " in text]


@english_pages
def test_both_languages_have_the_same_code(name: str) -> None:
    one, other = read(name).fences, read(korean(name)).fences
    assert [(f.language, f.content, f.is_output) for f in one] == [
        (f.language, f.content, f.is_output) for f in other
    ]


@english_pages
def test_both_languages_have_the_same_tables(name: str) -> None:
    def rows(page: str) -> list[int]:
        lines = (PROJECT_ROOT / page).read_text(encoding="utf-8").splitlines()
        return [len(re.split(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]

    assert rows(name) == rows(korean(name))


# Links


@pages
def test_every_link_leads_somewhere(name: str) -> None:
    assert list(broken_links(name, read(name))) == []


def broken_links(name: str, page: Page) -> Iterator[str]:
    """What is wrong with the links of the page `name` to pages and files of the project."""
    for line, link in page.links:
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue  # elsewhere
        path, _, anchor = unquote(link).partition("#")
        target = Path(os.path.normpath((PROJECT_ROOT / name).parent / path))
        if not path:
            target = PROJECT_ROOT / name
        if path.startswith("/") or not target.is_relative_to(PROJECT_ROOT):
            yield f"{name}:{line}: {link} leads out of the project"
        elif not target.exists():
            yield f"{name}:{line}: {link}: there is no such file"
        elif anchor and target.suffix == ".md":
            anchors = page.anchors if not path else read(str(target)).anchors
            if anchor not in anchors:
                yield f"{name}:{line}: {link}: no such heading; there are: {', '.join(anchors)}"


@pages
def test_links_stay_in_their_language(name: str) -> None:
    others = ENGLISH if name in KOREAN else KOREAN
    strangers = []
    for line, link in read(name).links:
        target = os.path.normpath(Path(name).parent / link.partition("#")[0])
        if target in others:
            strangers.append((line, target))
    # Each README begins with a link to the other.
    switch = {"README.md": [(3, "README.ko.md")], "README.ko.md": [(3, "README.md")]}
    assert strangers == switch.get(name, [])


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_names_the_place_that_explains_it(script: str) -> None:
    source = (PROJECT_ROOT / script).read_text(encoding="utf-8")
    places = re.findall(r"^Read: +(\S+)$", source, re.MULTILINE)
    assert len(places) == 1, "the docstring has one line: Read:  docs/en/<page>#<heading>"
    page, _, anchor = places[0].partition("#")
    assert page in ENGLISH
    assert anchor in read(page).anchors


# Text


@pages
def test_no_path_of_a_machine(name: str) -> None:
    text = (PROJECT_ROOT / name).read_text(encoding="utf-8")
    assert MACHINE_PATH.findall(text) == []


@pages
def test_every_block_is_of_a_known_kind(name: str) -> None:
    page = read(name)
    assert [(f.line, f.language) for f in page.fences if f.language not in LANGUAGES] == []
    assert page.indented == []


@pages
def test_emphasis_is_closed(name: str) -> None:
    # Where a particle follows `(recall)**` at once, Markdown does not see the end of the bold.
    assert [(line, text) for line, text in read(name).words if "**" in text] == []


@pages
def test_versions_are_those_that_are_pinned(name: str) -> None:
    text = (PROJECT_ROOT / name).read_text(encoding="utf-8")
    assert list(wrong_versions(text)) == []


def wrong_versions(text: str) -> Iterator[str]:
    """Where `text` names a version of something pinned and it is not the pinned one."""
    pins = requirement_pins()
    kinds = {
        r"Milvus Lite": pins["milvus-lite"],
        r"(?i:local (?:Milvus )?server|local cluster)|로컬 서버|로컬 클러스터": pins["milvus"],
        r"standalone|Docker의 Milvus": image_tag("standalone"),
        r"pymilvus": pins["pymilvus"],
    }
    for kind, pinned in kinds.items():
        for match in re.finditer(rf"(?:{kind})`? (\d+\.\d+\.\d+)\b", text):
            if match[1] != pinned:
                yield f"{match[0]!r}, but {pinned} is pinned"
    for package, version in re.findall(r"([A-Za-z][\w.-]*)==(\d[\w.]*\w)", text):
        pinned = pins.get(package.lower().replace("_", "-"))
        if pinned not in (None, version):
            yield f"{package}=={version}, but {pinned} is pinned"


@cache
def requirement_pins() -> dict[str, str]:
    """The version of each package of requirements*.txt, by its normalised name."""
    text = "".join(path.read_text() for path in sorted(PROJECT_ROOT.glob("requirements*.txt")))
    pins = re.findall(r"^([A-Za-z][\w.-]*)==([^\s;]+)", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pins}


def image_tag(service: str) -> str:
    """The version of the image of a service of docker-compose.yml."""
    return compose_services()[service]["image"].rpartition(":v")[2]


@cache
def compose_services() -> dict[str, dict]:
    return yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]


# Code

RUN_BLOCKS = """\
import json, sys
names = {"__name__": "__main__"}
for source, page, line in json.loads(sys.argv[1]):
    print("\\x1e", end="", flush=True)
    # The empty lines make a traceback name the line of the page.
    exec(compile("\\n" * line + source, page, "exec"), names)
    sys.stdout.flush()
"""


@english_pages
def test_python_blocks_run_and_print_what_the_page_says(name: str, tmp_path: Path) -> None:
    fences = read(name).fences
    blocks = [fence for fence in fences if fence.language == "python"]
    printed = run_blocks(name, blocks, tmp_path) if blocks else []
    for before, fence in zip([None, *fences], fences, strict=False):
        if fence.is_output:
            assert fence.language == "text", f"{name}:{fence.line}: output is ```text"
            assert before in blocks, f"{name}:{fence.line}: no ```python block right before it"
            shown = printed[blocks.index(before)]
            assert same_output(shown, fence.content), f"{name}:{fence.line}: it printed\n{shown}"


def run_blocks(name: str, blocks: list[Fence], folder: Path) -> list[str]:
    """Run the blocks of a page one after another in one process; what each of them printed."""
    told = [(block.content, name, block.line) for block in blocks]
    done = subprocess.run(
        [sys.executable, "-c", RUN_BLOCKS, json.dumps(told)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=BLOCKS_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout.split("\x1e")[1:]


def environment(folder: Path) -> dict[str, str]:
    """The environment of a newcomer who works in `folder`, where Milvus Lite keeps its data."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MILVUS_")}
    return {
        **own,
        "MILVUS_URI": str(folder / "milvus.db"),
        "OUT_DIR": str(folder / "out"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }


def same_output(printed: str, shown: str) -> bool:
    """Whether two texts differ in spaces and in the last digit of their numbers at most."""
    number = re.compile(r"-?\d+(?:\.\d*)?")
    one, other = (
        (" ".join(number.sub("0", text).split()), [float(n) for n in number.findall(text)])
        for text in (printed, shown)
    )
    return one == other or (
        one[0] == other[0]
        and all(abs(a - b) <= 0.015 for a, b in zip(one[1], other[1], strict=True))
    )


# Commands


@pages
def test_every_command_exists(name: str) -> None:
    page = read(name)
    found = [
        f"{name}:{line}: {command}: {problem}"
        for line, command in commands(page)
        for problem in problems_of(command)
    ]
    assert found == []


@pages
def test_every_setting_exists(name: str) -> None:
    settings = known_settings()
    lines = [x for f in read(name).fences if f.language == "dotenv" for x in f.content.splitlines()]
    names = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    names |= {
        match[1]
        for _, code in read(name).code
        if (match := re.fullmatch(r"(MILVUS_[A-Z_]+)(=.*)?", code))
    }
    assert names - settings == set()


def commands(page: Page) -> Iterator[tuple[int, str]]:
    """The commands of the console blocks, and those in the text that begin as one does."""
    for fence in page.fences:
        if fence.language == "console":
            for number, line in enumerate(fence.content.splitlines(), start=1):
                if line.startswith("$ "):
                    yield fence.line + number, line[2:]
    yield from ((line, code) for line, code in page.code if A_COMMAND.match(code))


def simple_commands(command: str) -> list[list[str]]:
    """The words of each command of a line; a `;` within quotes belongs to a word."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&|"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def test_a_line_is_cut_into_commands() -> None:
    line = "A=1 make x && python a.py --likes 'Up; Her|It' | cat; pip list  # a comment"
    assert simple_commands(line) == [
        ["A=1", "make", "x"],
        ["python", "a.py", "--likes", "Up; Her|It"],
        ["cat"],
        ["pip", "list"],
    ]


def problems_of(command: str) -> Iterator[str]:
    """What a command names that this project does not have."""
    for words in simple_commands(command):
        if words[:1] == ["export"]:
            words = words[1:]
        while words and re.match(r"[A-Z_]+=", words[0]):
            variable = words.pop(0).partition("=")[0]
            if variable not in known_settings():
                yield f"there is no setting {variable}"
        program, *arguments = words or [""]
        checks = {"make": _make, "python": _python, "pip": _pip, "pytest": _pytest}
        if words[:2] == ["docker", "compose"]:
            yield from _compose(words[2:])
        elif check := checks.get(Path(program).name.removesuffix("3")):
            yield from check(arguments)
        elif program.startswith(".venv/bin/"):
            yield f"{program} is not checked by this test"


@cache
def known_settings() -> set[str]:
    example = (PROJECT_ROOT / ".env.example").read_text()
    return {*re.findall(r"^#([A-Z][A-Z0-9_]*)=", example, re.MULTILINE), "REQUIRE_ALL"}


def _make(arguments: list[str]) -> Iterator[str]:
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE)
    variables = re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE)
    for word in arguments:
        name, is_variable, value = word.partition("=")
        if name not in (variables if is_variable else targets):
            yield f"the Makefile has no {name}"
        elif name == "PYTEST_ARGS":
            yield from _pytest(shlex.split(value))
        elif name == "TOUR_ARGS":
            yield from _python(["-m", "common.tour", *shlex.split(value)])


def _python(arguments: list[str]) -> Iterator[str]:
    if arguments[:2] == ["-m", "pytest"]:
        yield from _pytest(arguments[2:])
    elif arguments[:1] == ["-m"] and arguments[1].startswith("common"):
        path = PROJECT_ROOT / f"{arguments[1].replace('.', '/')}.py"
        yield from _program(path, ("-m", arguments[1]), tuple(arguments[2:]))
    elif arguments and arguments[0].endswith(".py") and "/" in arguments[0]:
        path = PROJECT_ROOT / arguments[0]
        yield from _program(path, (str(path),), tuple(arguments[1:]))


@cache
def _program(path: Path, call: tuple[str, ...], arguments: tuple[str, ...]) -> list[str]:
    """What is wrong with the arguments of a script or module, as its own --help tells."""
    if not path.is_file():
        return [f"there is no {path.relative_to(PROJECT_ROOT)}"]
    if not re.search(
        r"argparse|\boptions = .*(parse|read_options)\(", path.read_text(encoding="utf-8")
    ):
        return [f"{path.name} has no options, not even --help"]
    if path == PROJECT_ROOT / "common" / "tour.py":
        arguments = (*arguments, "--list")  # it refuses a step or script that does not exist
    else:
        arguments = (*arguments, "--help")  # wrong values before it are refused
    done = _call(*call, *arguments)
    listed = _call(*call, "--help").stdout
    problems = [f"exit code {done.returncode}: {done.stderr}"] if done.returncode else []
    return problems + _unknown_options(arguments, listed)


def _unknown_options(arguments: tuple[str, ...], listed: str) -> list[str]:
    options = re.findall(r"(?<![\w-])--?[a-z][\w-]*", listed)
    given = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    return [f"there is no option {option}" for option in given if option not in options]


@cache
def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=MODULE_TIMEOUT,
        check=False,
    )


def _pytest(arguments: list[str]) -> Iterator[str]:
    conftest = (PROJECT_ROOT / "conftest.py").read_text()
    ours = re.findall(r"addoption\(\s*\"(--[\w-]+)\"", conftest)
    for word in arguments:
        if word.startswith("--") and word not in ours:
            yield f"conftest.py has no option {word}"
        elif ("/" in word and "://" not in word) or re.match(r"(step\d|common|tests)", word):
            path = word.partition("::")[0]
            if not (PROJECT_ROOT / path).exists():
                yield f"there is no {path}"


def _pip(arguments: list[str]) -> Iterator[str]:
    for before, word in zip(["", *arguments], arguments, strict=False):
        if before == "-r" and not (PROJECT_ROOT / word).is_file():
            yield f"there is no {word}"


def _compose(arguments: list[str]) -> Iterator[str]:
    services = compose_services()
    profiles = {profile for s in services.values() for profile in s.get("profiles", ())}
    commands_with_services = {"logs", "restart", "start", "stop", "up"}
    command, before = "", ""
    for word in arguments:
        if before == "--profile":
            if word != "*" and word not in profiles:
                yield f"docker-compose.yml has no profile {word}"
        elif not word.startswith("-"):
            if command in commands_with_services and word not in services:
                yield f"docker-compose.yml has no service {word}"
            command = command or word
        before = word


# The checks above find what they look for


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("The first search", "the-first-search"),
        ("What's new, 3.0?", "whats-new-30"),
        ("C++ & Python", "c--python"),
        ("01_environment_check", "01_environment_check"),
        ("PyTorch의 크기", "pytorch의-크기"),
        ("재현율(recall): 무엇을 재나", "재현율recall-무엇을-재나"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert anchor_of(heading) == anchor


def test_headings_of_the_same_text_get_numbers() -> None:
    page = parse("# A\n\n## B\n\n```text\n# no heading\n```\n\n## `B`\n\n## B\n")
    assert page.anchors == ["a", "b", "b-1", "b-2"]
    assert [level for level, _ in page.headings] == [1, 2, 2, 2]


def test_broken_links_are_found() -> None:
    page = parse(
        "# Here\n\n[a](no.md) [b](#here) [c](#gone) ![d](no.png)\n[e](/etc/hosts) [f](../up)\n"
        '[g](https://example.com/x) [h](LICENSE) [i](README.md#no) <img src="no.svg">\n'
    )
    found = [problem.split(": ")[:2] for problem in broken_links("README.md", page)]
    assert found == [
        ["README.md:3", "no.md"],
        ["README.md:3", "#gone"],
        ["README.md:3", "no.png"],
        ["README.md:4", "/etc/hosts leads out of the project"],
        ["README.md:4", "../up leads out of the project"],
        ["README.md:5", "README.md#no"],
        ["README.md:5", "no.svg"],
    ]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("make lern", "the Makefile has no lern"),
        ("make learn TORCH=x", "the Makefile has no TORCH"),
        ('make test PYTEST_ARGS="--milvu lite"', "conftest.py has no option --milvu"),
        ('make learn TOUR_ARGS="--step 99"', "exit code 2: there is no step 99"),
        (".venv/bin/python step01_basics/99_nothing.py", "there is no step01_basics/99_nothing.py"),
        (".venv/bin/python -m common.nothing", "there is no common/nothing.py"),
        (".venv/bin/python -m common.settings", "settings.py has no options, not even --help"),
        (".venv/bin/python -m common.local_server stop --hard", "there is no option --hard"),
        (".venv/bin/python -m common.local_server halt", "exit code 2"),
        (".venv/bin/python -m common.tour --only 99_no", "exit code 2: there is no script '99_no'"),
        (".venv/bin/python -m pytest step99_no", "there is no step99_no"),
        (".venv/bin/pip install -r requirements-no.txt", "there is no requirements-no.txt"),
        (".venv/bin/nothing", ".venv/bin/nothing is not checked by this test"),
        ("MILVUS_URL=x .venv/bin/python", "there is no setting MILVUS_URL"),
        ("export MILVUS_TOKN=x", "there is no setting MILVUS_TOKN"),
        ('docker compose --profile "*" --profile no up', "docker-compose.yml has no profile no"),
        ("cd x && docker compose logs milvus", "docker-compose.yml has no service milvus"),
    ],
)
def test_wrong_commands_are_found(command: str, problem: str) -> None:
    problems = list(problems_of(command))
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_wrong_versions_are_found() -> None:
    pins = requirement_pins()
    text = "Milvus Lite 1.0.0, 로컬 서버 0.9.9, standalone 2.0.0, torch==1.0.0, other==1.0.0"
    assert len(list(wrong_versions(text))) == 4
    right = f"Milvus Lite {pins['milvus-lite']}, torch=={pins['torch']}; fixed in Milvus 2.6.10"
    assert list(wrong_versions(right)) == []


def test_other_output_is_found() -> None:
    shown = "(3, 384)\n0.44  The bank\n"
    assert same_output("(3,  384)\n0.45 The bank", shown)
    assert not same_output("(3, 384)\n0.47  The bank\n", shown)
    assert not same_output("(3, 384)\n0.44  The tank\n", shown)
    assert not same_output("(3, 384)\n0.44  The bank\n1\n", shown)
    assert not same_output("", shown)


def test_a_failing_block_fails_with_its_line(tmp_path: Path) -> None:
    page = parse("# A\n\n```python\nx = 1\n```\n\n```python\nprint(x)\nraise KeyError(x)\n```\n")
    with pytest.raises(AssertionError, match=r'File "page\.md", line 9'):
        run_blocks("page.md", page.fences, tmp_path)
    assert run_blocks("page.md", page.fences[:1], tmp_path) == [""]
