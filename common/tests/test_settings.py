"""Settings: what the environment and `.env` say, each with its default."""

import os
from pathlib import Path

from common import settings as module
from common.settings import PROJECT_ROOT, Settings, SettingsError, settings

import pytest


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def read(env_file: Path, **environment: str) -> Settings:
    return Settings.read(environment, env_file)


def test_the_defaults(env_file: Path) -> None:
    chosen = read(env_file)
    assert chosen.milvus_uri == str(PROJECT_ROOT / ".milvus" / "milvus.db")
    assert (chosen.milvus_token, chosen.milvus_db_name) == ("", "")
    assert chosen.milvus_timeout == 10.0
    assert chosen.out_dir == PROJECT_ROOT / "out"
    assert chosen.cache_dir == PROJECT_ROOT / ".cache"


def test_every_variable_reaches_its_setting(env_file: Path) -> None:
    given = {name: f"/value of {name}" for name in Settings.variables()}
    given |= {"MILVUS_TIMEOUT": "2.5", "LLM_TIMEOUT": "7.5"}
    chosen = read(env_file, **given)
    for name, value in given.items():
        assert str(getattr(chosen, name.lower())) == value


def test_the_environment_wins_over_the_file(env_file: Path) -> None:
    env_file.write_text("MILVUS_URI=http://file:1\nMILVUS_TOKEN=of the file\n")
    chosen = read(env_file, MILVUS_URI="http://environment:1")
    assert chosen.milvus_uri == "http://environment:1"
    assert chosen.milvus_token == "of the file"


@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_variable_counts_as_unset(env_file: Path, empty: str) -> None:
    chosen = read(env_file, MILVUS_URI=empty, MILVUS_TIMEOUT=empty, OUT_DIR=empty)
    assert chosen == read(env_file)


def test_blanks_around_a_value_are_taken_away(env_file: Path) -> None:
    env_file.write_text('MILVUS_TIMEOUT=" 3 "\n')
    chosen = read(env_file, MILVUS_URI=" http://host:1 ")
    assert (chosen.milvus_uri, chosen.milvus_timeout) == ("http://host:1", 3.0)


def test_a_relative_folder_counts_from_the_project(
    env_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = read(env_file, OUT_DIR="charts", CACHE_DIR="/var/cache/own")
    assert chosen.out_dir == PROJECT_ROOT / "charts"
    assert chosen.cache_dir == Path("/var/cache/own")


def test_a_folder_of_the_home(
    env_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(env_file, OUT_DIR="~/charts").out_dir == tmp_path / "charts"


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "1,5", "1s"])
def test_a_timeout_must_be_a_positive_number(env_file: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(env_file, MILVUS_TIMEOUT=text)
    assert str(caught.value) == f"MILVUS_TIMEOUT={text!r} is not a positive number of seconds"
    assert caught.value.exit_code == 2


def test_what_is_no_setting_is_passed_over(env_file: Path) -> None:
    env_file.write_text("SOMETHING=else\nMINIO_PORT=9000\nNOT A LINE\n")
    assert read(env_file, MILVUS_PORT="1") == read(env_file)


def test_a_value_can_hold_anything(env_file: Path) -> None:
    env_file.write_text("MILVUS_TOKEN='root:a#b $c=d 비밀'\n", encoding="utf-8")
    assert read(env_file).milvus_token == "root:a#b $c=d 비밀"


def test_one_variable_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MILVUS_URI=http://file:1\n")
    monkeypatch.setattr(module, "PROJECT_ROOT", tmp_path)
    monkeypatch.delenv("MILVUS_URI", raising=False)
    assert Settings.chosen("MILVUS_URI") == "http://file:1"
    monkeypatch.setenv("MILVUS_URI", "http://environment:1")
    assert Settings.chosen("MILVUS_URI") == "http://environment:1"
    assert Settings.chosen("NO_SUCH_VARIABLE") == ""


def test_they_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings()
    monkeypatch.setenv("OUT_DIR", "/changed/afterwards")
    assert settings() is before
    assert os.environ["OUT_DIR"] == "/changed/afterwards"


def test_nobody_changes_them(env_file: Path) -> None:
    with pytest.raises(AttributeError):
        read(env_file).milvus_uri = "http://other"
