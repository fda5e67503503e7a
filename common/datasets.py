"""The data sets that come with the project, in common/data/ (SOURCES.md there tells their origin).

Each is read and checked once in a process.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Protocol, TypeVar

DATA_FOLDER = Path(__file__).resolve().parent / "data"

KINDS = ("paraphrase", "oblique", "near", "far")
"""Of questions to test with: the first two have an answer, the others have none."""

FEWEST_ASKED = 10  # test questions with an answer, and without one, in a file of your own

_LONGEST_ANSWER = 65_535  # bytes of a VARCHAR
_ID_LIMIT = 2**63

_FROM_GIT = "The file is part of the project. To get it back: git checkout -- common/data"
_FAQ_LINE = 'A line is a JSON object: {"question": "...", "answer": "...", "keywords": ["..."]}'
_ASKED_LINE = (
    'A line is a JSON object: {"question": "...", "answered_by": 3}, or null for no answer'
)


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


@dataclass(frozen=True, slots=True)
class StoredQuestion:
    """A question with its answer; `keywords` are other words under which it is to be found."""

    id: int
    question: str
    answer: str
    keywords: tuple[str, ...] = ()
    topic: str = ""

    def wordings(self) -> list[tuple[str, str]]:
        """All texts to find it by, each with what it is: "question", "answer" or "keywords"."""
        keywords = [("keywords", text) for text in self.keywords]
        return [("question", self.question), ("answer", self.answer), *keywords]


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question to test with: the id of the stored one that answers it, or None; see `KINDS`."""

    id: int
    question: str
    kind: str
    answered_by: int | None


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


def milvus_questions(language: str) -> list[StoredQuestion]:
    """Return 120 questions about Milvus with their answers.

    Args:
        language: "en" or "ko"; a question has the same id in both.

    Raises:
        DatasetError: the file is missing or broken.
    """
    return list(_milvus_questions(DATA_FOLDER, language))


def milvus_test_questions(language: str) -> list[AskedQuestion]:
    """Return 460 questions to test an answerer of `milvus_questions()` with.

    200 paraphrases, which share at most half of their content words with the stored question and
    each of its keywords; 200 oblique ones, which name the subject as little as they can; and 60
    that have no answer there: 40 near misses about Milvus or databases and 20 from afar.

    Raises:
        DatasetError: the file is missing or broken.
    """
    return list(_milvus_test_questions(DATA_FOLDER, language))


def faq_file(path: Path) -> list[StoredQuestion]:
    """Read questions and answers of your own, one JSON object a line.

    `question` and `answer` are needed; without `id` a line has its number as id.

    Raises:
        DatasetError: the file cannot be read or a line is wrong; the message tells which and why.
    """
    return list(_read(path, _stored_question, _FAQ_LINE, numbered=True, distinct="question"))


def asked_file(path: Path, stored: Sequence[StoredQuestion]) -> list[AskedQuestion]:
    """Read questions of your own to test with, one JSON object a line.

    `question` and `answered_by` are needed: the id of one of `stored`, or null.

    Raises:
        DatasetError: as for `faq_file`; or there are too few to choose a threshold with.
    """
    known = {item.id for item in stored}
    make = partial(_asked_question, known=known)
    asked = list(_read(path, make, _ASKED_LINE, numbered=True, distinct="question"))
    without = sum(item.answered_by is None for item in asked)
    if min(without, len(asked) - without) < FEWEST_ASKED:
        raise _broken(
            f"{path} has {len(asked) - without} questions with an answer and {without} without: "
            f"to choose a threshold it takes {FEWEST_ASKED} of each",
            _ASKED_LINE,
        )
    return asked


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


@cache
def _milvus_questions(folder: Path, language: str) -> tuple[StoredQuestion, ...]:
    path = folder / f"milvus_questions_{language}.jsonl"
    return _read(path, _stored_question, distinct="question")


@cache
def _milvus_test_questions(folder: Path, language: str) -> tuple[AskedQuestion, ...]:
    known = {item.id for item in _milvus_questions(folder, language)}
    path = folder / f"milvus_test_questions_{language}.jsonl"
    return _read(path, partial(_asked_question, known=known), distinct="question")


def _stored_question(values: dict) -> StoredQuestion:
    keywords = _get_list(values, "keywords", str) if "keywords" in values else []
    texts = [_get(values, "question", str), _get(values, "answer", str), *keywords]
    if not all(text.strip() for text in texts):
        raise ValueError("a question, answer or keyword is blank")
    size = len(texts[1].encode())
    if size > _LONGEST_ANSWER:
        raise ValueError(f"the answer has {size:,} bytes, and at most {_LONGEST_ANSWER:,} fit")
    topic = values.get("topic", "")
    if not -_ID_LIMIT <= _get(values, "id", int) < _ID_LIMIT:
        raise ValueError(f"the id {values['id']} does not fit into an INT64")
    return StoredQuestion(values["id"], texts[0], texts[1], tuple(keywords), topic)


def _asked_question(values: dict, known: set[int]) -> AskedQuestion:
    if "answered_by" not in values:
        raise ValueError("the field 'answered_by' is missing")
    answer = values["answered_by"]
    if answer is not None and (type(answer) is not int or answer not in known):
        raise ValueError(f"there is no stored question with the id {answer!r}")
    kind = values.get("kind", "near" if answer is None else "paraphrase")
    kinds = KINDS[2:] if answer is None else KINDS[:2]
    if kind not in kinds:
        raise ValueError(f"the kind must be one of {', '.join(kinds)}, not {kind!r}")
    question = _get(values, "question", str)
    if not question.strip():
        raise ValueError("the question is blank")
    return AskedQuestion(_get(values, "id", int), question, kind, answer)


def _read(
    path: Path,
    make: Callable[[dict], _Row],
    remedy: str = _FROM_GIT,
    *,
    numbered: bool = False,
    distinct: str = "",
) -> tuple[_Row, ...]:
    """Make one row of each line of a JSON Lines file; ids must differ.

    `numbered` gives a line without an id its number; `distinct` names a text that must differ.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(f"{path} cannot be read: {error}", remedy) from error
    rows: dict[int, _Row] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("the line is no JSON object")
            row = make({"id": number, **values} if numbered else values)
            if row.id in rows:
                raise ValueError(f"the id {row.id} stands in an earlier line too")
            text = getattr(row, distinct).strip().casefold() if distinct else str(number)
            if text in seen:
                raise ValueError(f"the same {distinct} stands in line {seen[text]}")
        except ValueError as error:
            raise _broken(f"{path}, line {number}: {error}", remedy) from error
        rows[row.id], seen[text] = row, number
    if not rows:
        raise _broken(f"{path} is empty", remedy)
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


def _broken(problem: str, remedy: str) -> DatasetError:
    return DatasetError(f"{problem}\n{remedy}")
