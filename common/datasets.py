"""The data sets that come with the project, in common/data/ (SOURCES.md there tells their origin).

Each is read and checked once in a process.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

DATA_FOLDER = Path(__file__).resolve().parent / "data"


class DatasetError(Exception):
    """A data file is missing or broken; the message names the file, the line and the remedy."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper from arXiv. `tags` are what the queries were made of: never search in them."""

    id: int
    arxiv: str
    title: str
    abstract: str
    published: date
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is embedded: the title and the abstract, without the tags."""
        return f"{self.title}. {self.abstract}"


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query and the ids of the papers or articles that are relevant to it."""

    id: int
    query: str
    relevant: frozenset[int]


@dataclass(frozen=True, slots=True)
class Article:
    """An article of the Constitution of the Republic of Korea; `article` is its name, 제1조."""

    id: int
    article: str
    text: str


class _HasId(Protocol):
    id: int


_Row = TypeVar("_Row", bound=_HasId)


def papers() -> list[Paper]:
    """Return the 314 papers in the order of their ids.

    Raises:
        DatasetError: the file is missing or broken.
    """
    return list(_papers(DATA_FOLDER))


def paper_queries() -> list[JudgedQuery]:
    """Return the 179 judged queries over `papers()`, with 652 relevance judgements.

    Raises:
        DatasetError: the file is missing or broken.
    """
    return list(_paper_queries(DATA_FOLDER))


def constitution() -> list[Article]:
    """Return the 130 articles of the Constitution of the Republic of Korea, in Korean.

    Raises:
        DatasetError: the file is missing or broken.
    """
    return list(_constitution(DATA_FOLDER))


def constitution_questions() -> list[JudgedQuery]:
    """Return 60 questions of citizens in Korean over `constitution()`, with 66 relevant articles.

    Raises:
        DatasetError: the file is missing or broken.
    """
    return list(_constitution_questions(DATA_FOLDER))


@cache
def _papers(folder: Path) -> tuple[Paper, ...]:
    def paper(values: dict) -> Paper:
        return Paper(
            id=_get(values, "id", int),
            arxiv=_get(values, "arxiv", str),
            title=_get(values, "title", str),
            abstract=_get(values, "abstract", str),
            published=date.fromisoformat(_get(values, "published", str)),
            tags=tuple(_get_list(values, "tags", str)),
        )

    return _read(folder / "papers.jsonl", paper)


@cache
def _paper_queries(folder: Path) -> tuple[JudgedQuery, ...]:
    known = {paper.id for paper in _papers(folder)}
    return _read(folder / "paper_queries.jsonl", lambda row: _judged_query(row, known, "papers"))


@cache
def _constitution(folder: Path) -> tuple[Article, ...]:
    def article(values: dict) -> Article:
        return Article(
            _get(values, "id", int), _get(values, "article", str), _get(values, "text", str)
        )

    return _read(folder / "constitution_ko.jsonl", article)


@cache
def _constitution_questions(folder: Path) -> tuple[JudgedQuery, ...]:
    known = {article.id for article in _constitution(folder)}
    path = folder / "constitution_questions_ko.jsonl"
    return _read(path, lambda row: _judged_query(row, known, "articles"))


def _judged_query(values: dict, known: set[int], what: str) -> JudgedQuery:
    relevant = frozenset(_get_list(values, "relevant", int))
    if not relevant:
        raise ValueError(f"the query has no relevant {what}")
    if not relevant <= known:
        raise ValueError(f"there are no {what} with the ids {sorted(relevant - known)}")
    return JudgedQuery(_get(values, "id", int), _get(values, "query", str), relevant)


def _read(path: Path, make: Callable[[dict], _Row]) -> tuple[_Row, ...]:
    """Make one row of each line of a JSON Lines file; ids must differ."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(f"{path} cannot be read: {error}") from error
    rows: dict[int, _Row] = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("the line is no JSON object")
            row = make(values)
            if row.id in rows:
                raise ValueError(f"the id {row.id} stands in an earlier line too")
        except ValueError as error:
            raise _broken(f"{path}, line {number}: {error}") from error
        rows[row.id] = row
    if not rows:
        raise _broken(f"{path} is empty")
    return tuple(rows.values())


def _get(values: dict, field: str, kind: type) -> object:
    if field not in values:
        raise ValueError(f"the field {field!r} is missing")
    value = values[field]
    if type(value) is not kind or value == "":
        raise ValueError(f"the field {field!r} must be a filled {kind.__name__}, not {value!r}")
    return value


def _get_list(values: dict, field: str, kind: type) -> list:
    items = _get(values, field, list)
    if any(type(item) is not kind for item in items):
        raise ValueError(f"the field {field!r} must be a list of {kind.__name__}, not {items!r}")
    return items


def _broken(problem: str) -> DatasetError:
    return DatasetError(
        f"{problem}\nThe file is part of the project. To get it back: git checkout -- common/data"
    )
