"""Filters are read as they are meant on each engine, whatever the values hold."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum

from common.connection import Milvus
from common.display import quiet_pymilvus
from common.filters import (
    Filter,
    FilterError,
    Term,
    any_of,
    field_name,
    in_list,
    json_path,
    like_contains,
    like_prefix,
    literal,
    where,
)

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient, MilvusException

COLLECTION = "test_filters"
MAX_INTEGER = 2**63 - 1
LONG = '긴 글 "\\' * 6_000  # 66,000 bytes as a literal
ODD_KEY = 'odd "key" \\ 열쇠 / ~ \n ] [ $'
ODD_NAME = "odd 'name' 😀 == 1 or id >= 0"

POSING = [  # as the end of the literal, as more of the expression, as another language
    '" or id >= 0 or "" == "',
    "' or id >= 0 or '' == '",
    '" or id >= 0 or text == "',
    '\\" or id >= 0 or "" == \\"',
    '"] or id >= 0 or text in ["',
    '") or (id >= 0',
    'x" and text != "',
    'text != ""',
    "id >= 0",
    "true",
    "{text}",
    "{}",
    "not",
    "1",
    "[]",
    "null",
    "$meta",
    'meta["name"]',
    "'; drop collection test_filters; --",
]
NASTY = [
    *POSING,
    *("", " ", "  ", "\t", "\n", "\r", "\r\n", "a\nb", "a\tb", "a\rb", "line\n", "\x1b[0m", "\x7f"),
    *('"', "'", '""', "''", "\\", "\\\\", '\\"', "\\'", 'a"b', "a'b", "a\\b", "a\\", '"a"', "'a'"),
    *("\\n", "\\t", "\\0", "\\x41", "\\101", "\\u0041", "\\\\u0041", "\\u0022", "\\U00000041", "A"),
    *("\\uD83D\\uDE00", "%", "_", "%%", "50%", "50%x", "50", "50x", "a_b", "axb", "a%b", "a\\%b"),
    *("a\\_b", "%_\\", "a*", "a.*", "a+", "a?", "(a", "a)", "[a-z]", "^a", "a$", "a|b", "#", "//"),
    *("한국어", "한국", "한", "한%", "漢字", '漢"字', "漢\\字", "漢\n字", "日本"),
    *("é", "e\u0301", "ß", "İ", "ı", "😀", "👨‍👩‍👧", "🇰🇷", "\u2028", "\u2029"),
    *("\x85", "\xa0", "\u200b", "\ufeff", "\ufffd", "\ufffe"),
    *("\uffff", "\ud7ff", "\ue000", "\U0010ffff", "a\U0010ffff", "_\U0010ffff", "_\ud7ff", "\x01"),
    *("PREFIX", "prefix", "prefix\nmore", "Prefix", "prefi", "x" * 400, "한" * 200),
    *("&", "`", "]", "50&", "a`", "a]", "_\ue000"),  # what follows "%", "_", "\\", "50%", "a_" ...
]
WITH_ZERO = ["\0", "a\0b", "50\0"]  # stored, but never asked for
INTEGERS = [0, 1, -1, 2, 7, -7, 2**31, -(2**31), 2**53 + 1, -(2**53) - 1, MAX_INTEGER, -MAX_INTEGER]
FLOATS = [0.0, -0.0, 0.1, -0.1, 1.0, -1.5, 1e-7, 1e16, 1e22, 5e-324, -5e-324, 2.0**53, math.pi]
FLOATS += [1.7976931348623157e308, -1.7976931348623157e308, 123456.789, 0.30000000000000004]


def drawn(strategy: st.SearchStrategy, count: int) -> list:
    """Some values of a strategy, the same ones in each run."""
    found = []

    @settings(max_examples=count, derandomize=True, database=None, deadline=None)
    @given(strategy)
    def draw(value: object) -> None:
        found.append(value)

    draw()
    return list(dict.fromkeys(found))


any_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
tricky_text = st.text("\"'\\%_ntu0041{}[]()= \n한漢😀", max_size=8)
any_integer = st.integers(-MAX_INTEGER, MAX_INTEGER)
any_float = st.floats(allow_nan=False, allow_infinity=False)

TEXTS = list(dict.fromkeys([*NASTY, *WITH_ZERO, *drawn(any_text, 50), *drawn(tricky_text, 50)]))


def make_rows() -> list[dict]:
    """A row for each text, with numbers beside it, in every kind of field."""
    integers = [*INTEGERS, *drawn(any_integer, 30), -MAX_INTEGER - 1]
    floats = [*FLOATS, *drawn(any_float, 30)]
    rows = []
    for n, text in enumerate(TEXTS):
        other, integer = TEXTS[n * 7 % len(TEXTS)], integers[n % len(integers)]
        real = floats[n % len(floats)]
        meta = {
            "name": text,
            "deep": {ODD_KEY: text},
            "list": [text, n % 5],
            "integer": integer,
            "real": real,
            "on": n % 3 == 0,
        }
        row = {"id": n, "vector": [0.0, 1.0], "text": text, "integer": integer, "real": real}
        row |= {"on": n % 2 == 0, "meta": meta, "tags": [text, other], "counts": [integer, n]}
        rows.append(row | {"note": text, ODD_NAME: text})
    rows[0] |= {"text": LONG}
    return rows


ROWS = make_rows()


def make_collection(client: MilvusClient) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("text", DataType.VARCHAR, max_length=65_535)
    schema.add_field("integer", DataType.INT64)
    schema.add_field("real", DataType.DOUBLE)
    schema.add_field("on", DataType.BOOL)
    schema.add_field("meta", DataType.JSON)
    array = {"datatype": DataType.ARRAY, "max_capacity": 4}
    schema.add_field("tags", element_type=DataType.VARCHAR, max_length=65_535, **array)
    schema.add_field("counts", element_type=DataType.INT64, **array)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(COLLECTION, schema=schema, index_params=index, timeout=60)
    # Half of the rows in a sealed segment and half in a growing one: each has code of its own.
    half = len(ROWS) // 2
    client.insert(COLLECTION, ROWS[:half], timeout=60)
    client.flush(COLLECTION, timeout=60)
    client.insert(COLLECTION, ROWS[half:], timeout=60)


Ask = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def ask(session_milvus: Milvus) -> Iterator[Ask]:
    """The ids of the rows that a filter gives, in order."""
    client = session_milvus.client
    options = {"output_fields": ["id"], "limit": len(ROWS) + 1, "timeout": 20}

    def ids(expression: str) -> list[int]:
        found = client.query(COLLECTION, filter=expression, consistency_level="Bounded", **options)
        return sorted(row["id"] for row in found)

    try:
        make_collection(client)
        # Read all once: from then on the rows are there also for the fast, bounded reads.
        client.query(COLLECTION, filter="id >= 0", consistency_level="Strong", **options)
        yield ids
    finally:
        client.drop_collection(COLLECTION)


def expected(matches: Callable[[dict], bool]) -> list[int]:
    return [row["id"] for row in ROWS if matches(row)]


# Filters with the Python function that says the same


@dataclass(frozen=True)
class Case:
    form: str
    filter: str
    matches: Callable[[dict], bool]


Column = tuple[str, Callable[[dict], object]]


def _deep(row: dict) -> object:
    return row["meta"]["deep"][ODD_KEY]


TEXT_COLUMNS: dict[str, Column] = {
    "VARCHAR": (field_name("text"), lambda row: row["text"]),
    "dynamic field": (field_name("note"), lambda row: row["note"]),
    "odd dynamic field": (json_path("$meta", ODD_NAME), lambda row: row[ODD_NAME]),
    "JSON path": (json_path("meta", "name"), lambda row: row["meta"]["name"]),
    "deep JSON path": (
        json_path("meta", "deep", ODD_KEY),
        lambda row: row["meta"]["deep"][ODD_KEY],
    ),
    "JSON list": (json_path("meta", "list", 0), lambda row: row["meta"]["list"][0]),
}
NUMBER_COLUMNS: dict[str, tuple[Column, st.SearchStrategy]] = {
    "INT64": (
        (field_name("integer"), lambda row: row["integer"]),
        st.sampled_from(INTEGERS) | any_integer,
    ),
    "DOUBLE": (
        (field_name("real"), lambda row: row["real"]),
        st.sampled_from(FLOATS) | any_float | st.integers(1, 5),
    ),
    "JSON integer": (
        (json_path("meta", "integer"), lambda row: row["meta"]["integer"]),
        st.sampled_from(INTEGERS) | any_integer,
    ),
    "JSON real": (
        (json_path("meta", "real"), lambda row: row["meta"]["real"]),
        st.sampled_from(FLOATS) | any_float | st.integers(1, 5),
    ),
}
COMPARISONS: dict[str, Callable[[object, object], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
asked_text = st.one_of(
    st.sampled_from([text for text in TEXTS if "\0" not in text]),
    st.sampled_from(POSING),
    any_text,
    tricky_text,
)


@st.composite
def comparison_of_texts(draw: st.DrawFn) -> Case:
    name, (column, get) = draw(st.sampled_from(sorted(TEXT_COLUMNS.items())))
    sign = draw(st.sampled_from(sorted(COMPARISONS)))
    text, holds = draw(asked_text), COMPARISONS[sign]
    return Case(
        f"{name} {sign}",
        where(f"{{column}} {sign} {{text}}", column=column, text=text),
        lambda row: holds(get(row), text),
    )


@st.composite
def comparison_of_numbers(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(sorted(NUMBER_COLUMNS)))
    (column, get), numbers = NUMBER_COLUMNS[name]
    sign = draw(st.sampled_from(sorted(COMPARISONS)))
    number, holds = draw(numbers), COMPARISONS[sign]
    return Case(
        f"{name} {sign}",
        where(f"{{column}} {sign} {{number}}", column=column, number=number),
        lambda row: holds(get(row), number),
    )


@st.composite
def one_of_texts(draw: st.DrawFn) -> Case:
    name, (column, get) = draw(st.sampled_from(sorted(TEXT_COLUMNS.items())))
    texts = draw(st.lists(asked_text, max_size=4))
    if "[" in column or draw(st.booleans()):
        expression, form = in_list(column, texts), "in_list"
    else:
        expression, form = where("{column} in {texts}", column=column, texts=texts), "in"
    return Case(f"{name} {form}", expression, lambda row: get(row) in texts)


@st.composite
def none_of_texts(draw: st.DrawFn) -> Case:
    name, (column, get) = draw(
        st.sampled_from(sorted(item for item in TEXT_COLUMNS.items() if "[" not in item[1][0]))
    )
    texts = draw(st.lists(asked_text, max_size=4))
    expression = where("{column} not in {texts}", column=column, texts=texts)
    return Case(f"{name} not in", expression, lambda row: get(row) not in texts)


@st.composite
def one_of_numbers(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(sorted(NUMBER_COLUMNS)))
    (column, get), numbers = NUMBER_COLUMNS[name]
    chosen = draw(st.lists(numbers, max_size=4))
    return Case(f"{name} in_list", in_list(column, chosen), lambda row: get(row) in chosen)


@st.composite
def beginning(draw: st.DrawFn) -> Case:
    name, (column, get) = draw(st.sampled_from(sorted(TEXT_COLUMNS.items())))
    text = draw(asked_text)
    text = text[: draw(st.integers(0, 3))] if draw(st.booleans()) else text
    form = "as a range" if set(text) & set("%_\\") else "LIKE"
    return Case(
        f"{name} like_prefix {form}",
        like_prefix(column, text),
        lambda row: get(row).startswith(text),
    )


@st.composite
def containing(draw: st.DrawFn) -> Case:
    name, (column, get) = draw(st.sampled_from(sorted(TEXT_COLUMNS.items())))
    text = draw(asked_text)
    start = draw(st.integers(0, 3))
    text = text[start : start + draw(st.integers(0, 3))]
    text = "".join(c for c in text if c not in "%_\\")
    return Case(f"{name} like_contains", like_contains(column, text), lambda row: text in get(row))


@st.composite
def in_an_array(draw: st.DrawFn) -> Case:
    texts = draw(st.lists(asked_text, min_size=1, max_size=3))
    number = draw(st.sampled_from(INTEGERS) | any_integer)
    one, some = texts[0], set(texts)
    return draw(
        st.sampled_from(
            [
                Case(
                    "array_contains",
                    where("array_contains(tags, {one})", one=one),
                    lambda row: one in row["tags"],
                ),
                Case(
                    "array_contains_any",
                    where("array_contains_any(tags, {texts})", texts=texts),
                    lambda row: bool(some & set(row["tags"])),
                ),
                Case(
                    "array_contains_all",
                    where("array_contains_all(tags, {texts})", texts=texts),
                    lambda row: some <= set(row["tags"]),
                ),
                Case(
                    "array_contains number",
                    where("array_contains(counts, {number})", number=number),
                    lambda row: number in row["counts"],
                ),
                Case(
                    "json_contains",
                    where('json_contains(meta["list"], {one})', one=one),
                    lambda row: one in row["meta"]["list"],
                ),
            ]
        )
    )


@st.composite
def truth(draw: st.DrawFn) -> Case:
    value = draw(st.booleans())
    return draw(
        st.sampled_from(
            [
                Case("BOOL", where("on == {v}", v=value), lambda row: row["on"] is value),
                Case("BOOL in", in_list("on", [value]), lambda row: row["on"] is value),
                Case(
                    "JSON bool",
                    where("{on} != {v}", on=json_path("meta", "on"), v=value),
                    lambda row: row["meta"]["on"] is not value,
                ),
            ]
        )
    )


def both(a: Case, b: Case) -> Case:
    combined = where("{a} and {b}", a=a.filter, b=b.filter)
    return Case("and", combined, lambda row: a.matches(row) and b.matches(row))


def either(a: Case, b: Case) -> Case:
    combined = where("{a} or {b}", a=a.filter, b=b.filter)
    return Case("or", combined, lambda row: a.matches(row) or b.matches(row))


def one_of_several(cases: list[Case]) -> Case:
    combined = any_of([case.filter for case in cases])
    return Case("any_of", combined, lambda row: any(case.matches(row) for case in cases))


def negated(a: Case) -> Case:
    return Case("not", where("not {a}", a=a.filter), lambda row: not a.matches(row))


def combinations(leaf: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def extend(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
        two = (inner, inner)
        return st.one_of(st.builds(both, *two), st.builds(either, *two), st.builds(negated, inner))

    return extend(st.recursive(leaf, extend, max_leaves=4))


alternative = st.one_of(comparison_of_texts(), one_of_texts(), beginning(), in_an_array())

# Each form with the number of its filters that Milvus Lite is asked.
FORMS: dict[str, tuple[int, st.SearchStrategy[Case]]] = {
    "comparison of texts": (350, comparison_of_texts()),
    "comparison of numbers": (300, comparison_of_numbers()),
    "in, texts": (250, one_of_texts()),
    "not in, texts": (80, none_of_texts()),
    "in, numbers": (150, one_of_numbers()),
    "like_prefix": (300, beginning()),
    "like_contains": (200, containing()),
    "arrays": (250, in_an_array()),
    "any_of": (80, st.lists(alternative, min_size=1, max_size=6).map(one_of_several)),
}
NEEDS = {"like_contains": "LIKE_INFIX"}
COMBINATIONS = 450


def check_cases(ask: Ask, cases: st.SearchStrategy[Case], examples: int) -> Counter:
    """Ask for that many filters; count those by form that let some rows through, but not all."""
    asked, telling = Counter(), Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def check(case: Case) -> None:
        rows = [row["id"] for row in ROWS if case.matches(row)]
        assert ask(case.filter) == rows, case.filter
        asked[case.form] += 1
        telling[case.form] += 0 < len(rows) < len(ROWS)

    check()
    assert asked.total() >= examples
    return telling


class TestOnEachEngine:
    """What comes back for drawn filters equals a filter in Python over the same rows."""

    @pytest.fixture
    def share(self, session_milvus: Milvus, full: bool) -> float:
        """How much of the examples to ask: all of them on Milvus Lite."""
        return 1.0 if session_milvus.kind == "lite" or full else 0.2

    @pytest.mark.parametrize("form", FORMS)
    def test_each_form(self, session_milvus, ask, share, form):
        examples, cases = FORMS[form]
        if form in NEEDS and not session_milvus.can(NEEDS[form]):
            with (
                quiet_pymilvus(),
                pytest.raises(MilvusException, match="only prefix pattern match"),
            ):
                ask(like_contains("text", "a"))
            return
        telling = check_cases(ask, cases, round(examples * share))
        # Guards the test itself: many of the filters let some rows through and others not.
        assert telling.total() > examples * share / 4, telling

    def test_combinations(self, session_milvus, ask, share):
        usable = [
            cases
            for form, (_, cases) in FORMS.items()
            if form not in NEEDS or session_milvus.can(NEEDS[form])
        ]
        leaf = st.one_of(*usable, truth())
        telling = check_cases(ask, combinations(leaf), round(COMBINATIONS * share))
        assert min(telling[word] for word in ("and", "or", "not")) > COMBINATIONS * share / 50
        assert telling.total() > COMBINATIONS * share / 4, telling

    def test_milvus_lite_is_asked_more_than_2000_filters(self):
        assert sum(examples for examples, _ in FORMS.values()) + COMBINATIONS > 2_000

    @pytest.mark.parametrize("value", [True, False])
    def test_truth(self, ask, value):
        rows = expected(lambda row: row["on"] is value)
        assert ask(where("on == {v}", v=value)) == rows
        assert ask(in_list("on", [value])) == rows
        rows = expected(lambda row: row["meta"]["on"] is value)
        assert ask(where("{on} == {v}", on=json_path("meta", "on"), v=value)) == rows

    @pytest.mark.parametrize("name", TEXT_COLUMNS)
    def test_each_nasty_text_finds_its_rows_and_no_others(self, ask, name):
        column, get = TEXT_COLUMNS[name]
        for text in NASTY:
            rows = expected(lambda row, text=text: get(row) == text)
            assert ask(where("{c} == {t}", c=column, t=text)) == rows, text

    def test_each_nasty_text_as_an_element(self, ask):
        for text in NASTY:
            rows = expected(lambda row, text=text: text in row["tags"])
            assert ask(where("array_contains(tags, {t})", t=text)) == rows, text

    @pytest.mark.parametrize("text", [*POSING, "%", "_", "50%", "a\\", "_\U0010ffff", "_\ud7ff"])
    def test_like_prefix_takes_wildcards_for_characters(self, ask, text):
        for column, get in TEXT_COLUMNS.values():
            rows = expected(lambda row, get=get: get(row).startswith(text))
            assert ask(like_prefix(column, text)) == rows, column

    def test_a_very_long_text(self, ask):
        assert ask(where("text == {t}", t=LONG)) == [0]
        assert ask(where("text == {t}", t=LONG + "x")) == []
        assert ask(where("text in {t}", t=[LONG, LONG + "x"])) == [0]
        assert ask(where("text == {t}", t=LONG * 2)) == []

    def test_a_list_of_many_values(self, ask):
        numbers = list(range(-5_000, 5_000))
        assert ask(in_list("id", numbers)) == [row["id"] for row in ROWS]
        rows = expected(lambda row: row["meta"]["integer"] in numbers[4_900:5_100])
        assert ask(in_list(json_path("meta", "integer"), numbers[4_900:5_100])) == rows

    def test_a_search_takes_many_alternatives(self, session_milvus, ask):
        # As a chain of `or` the local server refuses 50 of them, in a search only.
        numbers = list(range(-500, 500))
        hits = session_milvus.client.search(
            COLLECTION,
            data=[[0.0, 1.0]],
            filter=in_list(json_path("meta", "integer"), numbers),
            limit=len(ROWS),
            output_fields=["id"],
            timeout=20,
        )
        rows = expected(lambda row: row["meta"]["integer"] in numbers)
        assert sorted(hit["id"] for hit in hits[0]) == rows
        assert 0 < len(rows) < len(ROWS)

    @pytest.mark.parametrize(
        "field",
        ["text", "integer", "real", "on", "note", "unknown"],
    )
    def test_an_empty_list_holds_nothing(self, ask, field):
        assert ask(in_list(field, [])) == []
        assert ask(where("not {f}", f=in_list(field, []))) == expected(lambda row: True)

    @pytest.mark.parametrize(
        "path",
        [
            json_path("meta", "name"),
            json_path("meta", "list", 0),
            json_path("meta", "unknown"),
            json_path("$meta", ODD_NAME),
            json_path("$meta", "unknown"),
        ],
    )
    def test_an_empty_list_for_a_path_holds_nothing(self, ask, path):
        assert ask(in_list(path, [])) == []
        assert ask(where("not {f}", f=in_list(path, []))) == expected(lambda row: True)
        assert ask(where("{f} or id == 3", f=in_list(path, []))) == [3]

    def test_zero_has_no_sign(self, ask):
        rows = expected(lambda row: row["real"] == 0)
        assert {math.copysign(1, ROWS[n]["real"]) for n in rows} == {1.0, -1.0}
        for zero in (0.0, -0.0):
            assert ask(in_list("real", [zero])) == rows
            assert ask(where("real == {zero}", zero=zero)) == rows

    def test_a_chain_of_alternatives_stays_one_filter(self, ask):
        alternatives = in_list(json_path("meta", "name"), ["한국어", "A"])
        rows = expected(lambda row: row["text"] in ("한국어", "A") and row["on"])
        assert ask(f"{alternatives} and on == true") == rows
        assert ask(where("{f} and on == true", f=alternatives)) == rows

    def test_a_name_from_outside_cannot_ask_for_more(self, ask):
        # What field_name() refuses finds a dynamic field of that name, and nothing else.
        assert ask(where("{c} == {t}", c=json_path("$meta", ODD_NAME), t="A")) == expected(
            lambda row: row[ODD_NAME] == "A"
        )
        with pytest.raises(FilterError, match="no name of a field"):
            field_name(ODD_NAME)


class Colour(str, Enum):  # noqa: UP042 - what str() gives of one is not its value
    RED = 'r"ed'


class Level(IntEnum):
    LOW = -1


class TestLiteral:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("a", '"a"'),
            ("", '""'),
            ('say "hi"', r'"say \"hi\""'),
            ("it's", '"it\'s"'),
            ("a\\b\n\r\tc", r'"a\\b\n\r\tc"'),
            ("한국어 😀 \u2028", '"한국어 😀 \u2028"'),
            (True, "true"),
            (False, "false"),
            (0, "0"),
            (-1, "(-1)"),
            (MAX_INTEGER, "9223372036854775807"),
            (-MAX_INTEGER, "(-9223372036854775807)"),
            (0.1, "0.1"),
            (-0.1, "(-0.1)"),
            (-0.0, "0.0"),
            (1e22, "1e+22"),
            (5e-324, "5e-324"),
            ([], "[]"),
            (["a", 'b"'], r'["a", "b\""]'),
            ((1, -2, 3.5), "[1, -2, 3.5]"),
            ([True, False], "[true, false]"),
            ([1.0, -0.0], "[1.0, 0.0, -0.0]"),
            (np.float64(0.1), "0.1"),
            (np.float32(0.1), "0.10000000149011612"),
            (np.int8(-3), "(-3)"),
            (np.bool_(True), "true"),
            (np.str_("a"), '"a"'),
            (np.array([1, 2]), "[1, 2]"),
            ([np.float64(0.5), 1], "[0.5, 1]"),
            (Colour.RED, r'"r\"ed"'),
            (Level.LOW, "(-1)"),
        ],
    )
    def test_is_written_so(self, value, text):
        assert literal(value) == text

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("ab\0", r"U\+0000 at position 2 of 'ab\\x00'"),
            (["a", "\0"], r"U\+0000 at position 0"),
            ("a\ud800", r"U\+D800 at position 1 of .* half of a surrogate pair"),
            (math.nan, "nan is no number"),
            (-math.inf, "-inf is no number"),
            ([1.0, math.inf], "inf is no number"),
            (2**63, r"an int of 64 bits: INT64 ends at 9223372036854775807"),
            (-(2**63), r"-9223372036854775808 is the one INT64 .* use `< -9223372036854775807`"),
            pytest.param(10**5_000, "an int of 16610 bits", id="huge"),
            (None, "None is no value to compare with: write `field is null`"),
            (b"a", r"not b'a' \(bytes\)"),
            ({"a": 1}, r"not \{'a': 1\} \(dict\)"),
            ({1, 2}, r"\(set\)"),
            (1j, r"\(complex\)"),
            ([1, "a"], "more than one kind of values: number, str"),
            ([True, 1], "more than one kind of values: bool, number"),
            ([[1]], r"not \[1\] \(list\)"),
            (np.array([[1]]), r"not \[1\] \(list\)"),
            (np.datetime64("2026-01-01"), r"\(date\)"),
            (where("a == {x}", x=1), "'a == 1' is an expression already"),
            ([literal("a")], "is an expression already"),
        ],
    )
    def test_is_refused_by_name(self, value, message):
        with pytest.raises(FilterError, match=message):
            literal(value)

    def test_an_error_is_a_value_error_for_people(self):
        assert issubclass(FilterError, ValueError)
        assert FilterError.exit_code == 1


class TestNames:
    @pytest.mark.parametrize("name", ["a", "_a", "A1_b", "notes", "island", "x" * 255])
    def test_of_fields(self, name):
        assert field_name(name) == name
        assert isinstance(field_name(name), Term)

    @pytest.mark.parametrize(
        "name",
        [
            *(
                "",
                " ",
                "a b",
                "1a",
                "a-b",
                "a.b",
                "$meta",
                "a\n",
                "\na",
                "a\0",
                "한국",
                "é",
                "a;",
                "a'",
            ),
            *(
                "a;",
                "a'",
                'a"',
                'meta["a"]',
                "a == 1 or b",
                "a) or (b",
                "id >= 0 --",
                "a,b",
                "*",
                "\ud800",
            ),
        ],
    )
    def test_hostile_ones_are_refused(self, name):
        with pytest.raises(FilterError, match="is no name of a field: ASCII letters") as refused:
            field_name(name)
        assert repr(name) in str(refused.value)

    @pytest.mark.parametrize("name", ["and", "OR", "Not", "in", "LIKE", "null", "True", "exists"])
    def test_words_of_the_language_are_refused(self, name):
        with pytest.raises(FilterError, match=rf"^{name} is a word of the filter language"):
            field_name(name)

    @pytest.mark.parametrize("name", [None, 1, b"a", where("a == {x}", x=1)])
    def test_only_a_text_is_a_name(self, name):
        with pytest.raises(FilterError, match=r"is no name of a field$"):
            field_name(name)

    def test_paths(self):
        assert json_path("meta", "author", "name") == 'meta["author"]["name"]'
        assert json_path("meta", "list", 0, 'a"b') == r'meta["list"][0]["a\"b"]'
        assert json_path("$meta", "my key") == '$meta["my key"]'
        assert json_path(json_path("meta", "a"), "b") == 'meta["a"]["b"]'

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ((), "a path into meta needs a key"),
            (("",), "an empty key"),
            (("a][b",), r"'\]\[' in the key 'a\]\[b': .* goes down"),
            (('"]["',), r"goes down"),
            (("\x01",), r"'\\x01' in the key .* an escape"),
            (("a\0",), r"in the key 'a\\x00'"),
            (("\\u0041",), "releases after 2.3 take it for the character"),
            (("\udc00",), "half of a surrogate pair"),
            ((-1,), "-1 is no index: a list is counted from 0"),
            ((True,), r"not True \(bool\)"),
            ((1.0,), r"not 1.0 \(float\)"),
            ((2**63,), "an int of 64 bits"),
            ((None,), r"not None \(NoneType\)"),
        ],
    )
    def test_paths_that_are_refused(self, keys, message):
        with pytest.raises(FilterError, match=message):
            json_path("meta", *keys)

    def test_the_field_of_a_path_is_checked(self):
        with pytest.raises(FilterError, match="no name of a field"):
            json_path('meta["a"] == 1 or meta', "a")


class TestWhere:
    def test_fills_placeholders(self):
        assert (
            where("category == {c} and year >= {y} and tags in {t}", c='a"', y=2020, t=["x", "y"])
            == r'category == "a\"" and year >= 2020 and tags in ["x", "y"]'
        )
        assert where("a == {x} or b == {x}", x=1) == "a == 1 or b == 1"
        assert where('a == "constant" and b == {b}', b=1) == 'a == "constant" and b == 1'
        assert where("id >= 0") == "id >= 0"
        assert where("year in [{a}, {b}]", a=1, b=2) == "year in [1, 2]"
        assert where("a == {template}", template=1) == "a == 1"

    def test_puts_filters_in_parentheses_and_fields_as_they_are(self):
        either = where("a == {x} or b == {x}", x=1)
        combined = where("{f} > {x} and not {e}", f=json_path("meta", "f"), x=2, e=either)
        assert combined == 'meta["f"] > 2 and not (a == 1 or b == 1)'
        assert isinstance(combined, Filter)

    def test_a_plain_text_is_never_an_expression(self):
        # Not even one that was an expression before it went through str() or a file.
        assert where("a == {x}", x=str(where("b == {y}", y=1)) + "") == 'a == "b == 1"'

    @pytest.mark.parametrize(
        ("template", "values", "message"),
        [
            ("a == {x}", {}, r"^no value for \{x\}$"),
            ("a == 1", {"x": 1, "w": 2}, "^no placeholder for w, x in 'a == 1'$"),
            ('a == "{x}"', {"x": "v"}, "a brace within quotes"),
            ("a == '{x}'", {"x": "v"}, "a brace within quotes"),
            ('a == "it is {x}"', {"x": "v"}, "they come with the value"),
            ('a == "\\"{x}"', {"x": "v"}, "a brace within quotes"),
            ("a == {}", {"x": 1}, "a single { in the template"),
            ("a == {x!r}", {"x": 1}, "a single { in the template"),
            ("a == x}", {"x": 1}, "a single } in the template"),
            ('a == "b and c == {x}', {"x": 1}, 'a " in the template without its second one'),
            ("a == b' and c == {x}", {"x": 1}, "a ' in the template without its second one"),
            ("a == u{x}", {"x": "v"}, r"\{x\} needs a space around it"),
            ("a == {x}{y}", {"x": 1, "y": 2}, r"\{y\} needs a space around it"),
            ("a == {x}e5", {"x": 1}, r"\{x\} needs a space around it"),
            ("meta[{x}] == 1", {"x": "k"}, r"\{x\} stands for a key .* json_path\(\)"),
            ('meta["a"][ {x} ] == 1', {"x": "k"}, "stands for a key within brackets"),
            ("a in[{x}]", {"x": 1}, "stands for a key within brackets"),
            ('meta["k"] in {x}', {"x": ["a"]}, r"Milvus Lite does not take: use in_list\(\)"),
            ('meta["k"] not in {x}', {"x": ["a"]}, "list for a JSON path"),
            ("{p} in {x}", {"p": json_path("m", "k"), "x": [1]}, r"\{x\} is a list for a JSON"),
            (
                "array_contains_any(t, {x})",
                {"x": []},
                r"\{x\} is an empty list, .* only after `in`",
            ),
            ("a == {x}", {"x": "\0"}, r"^\{x\}: U\+0000"),
        ],
    )
    def test_refuses(self, template, values, message):
        with pytest.raises(FilterError, match=message):
            where(template, **values)

    def test_the_time_does_not_grow_with_the_square_of_a_text(self):
        # 100 times this length would take hours if it did; the test would never end.
        text = "x" * 1_000_000
        assert len(where("a == {x} and b == {y} or c in {z}", x=text, y=text, z=[text])) > 3e6


class TestLike:
    def test_prefix(self):
        assert like_prefix("title", "Mil") == 'title like "Mil%"'
        assert like_prefix("title", "") == 'title like "%"'
        assert like_prefix(json_path("m", "k"), 'a"') == r'm["k"] like "a\"%"'

    def test_a_prefix_with_wildcards_is_a_range(self):
        assert like_prefix("title", "50%") == '(title >= "50%" and title < "50&")'
        assert like_prefix("title", "a\\") == r'(title >= "a\\" and title < "a]")'
        assert like_prefix("title", "_\ud7ff") == '(title >= "_\ud7ff" and title < "_\ue000")'
        assert like_prefix("t", "_\U0010ffff") == '(t >= "_\U0010ffff" and t < "`")'

    def test_contains(self):
        assert like_contains("title", 'vec"tor') == r'title like "%vec\"tor%"'

    @pytest.mark.parametrize("character", ["%", "_", "\\"])
    def test_contains_refuses_wildcards_by_name(self, character):
        message = f"^{character!r} at position 1 of".replace("\\", "\\\\")
        with pytest.raises(FilterError, match=message):
            like_contains("title", f"a{character}b")

    @pytest.mark.parametrize("like", [like_prefix, like_contains])
    def test_both_refuse_what_no_literal_holds(self, like):
        with pytest.raises(FilterError, match=r"U\+0000"):
            like("title", "a\0")
        with pytest.raises(FilterError, match=r"5 \(int\) is no text"):
            like("title", 5)
        with pytest.raises(FilterError, match="no name of a field"):
            like("ti tle", "a")


class TestInList:
    def test_is_written_so(self):
        assert in_list("a", ["x", "y"]) == 'a in ["x", "y"]'
        assert in_list("a", []) == "a in []"
        assert in_list("a", np.array([1, 2])) == "a in [1, 2]"
        assert in_list(json_path("m", "k"), [1, -2]) == '(m["k"] == 1 or m["k"] == (-2))'
        assert in_list(json_path("m", "k"), []) == '((exists m["k"]) and not (exists m["k"]))'

    @pytest.mark.parametrize("values", ["abc", 5, None, {"a": 1}, {1, 2}, iter([1])])
    def test_takes_lists_only(self, values):
        with pytest.raises(FilterError, match="is no list, tuple or NumPy array of values"):
            in_list("a", values)

    @pytest.mark.parametrize("values", [[None], [object()], ["a", 1], ["\0"], [math.nan]])
    def test_refuses_what_literal_refuses(self, values):
        for field in ("a", json_path("m", "k")):
            with pytest.raises(FilterError):
                in_list(field, values)


class TestAnyOf:
    def test_is_halved(self):
        a, b, c, d = (where(f"{name} == {{x}}", x=1) for name in "abcd")
        assert any_of([a]) == "((a == 1))"
        assert any_of([a, b]) == "((a == 1) or (b == 1))"
        assert any_of([a, b, c]) == "(((a == 1) or (b == 1)) or (c == 1))"
        assert any_of([a, b, c, d]) == "(((a == 1) or (b == 1)) or ((c == 1) or (d == 1)))"
        assert isinstance(any_of([a, b]), Term)

    def test_takes_what_the_others_return(self):
        assert any_of([like_prefix("t", "50%"), like_prefix("t", "a")]) == (
            '((t >= "50%" and t < "50&") or (t like "a%"))'
        )
        nested = any_of([any_of([where("a == {x}", x=1)]), in_list(json_path("m", "k"), [2])])
        assert nested == '(((a == 1)) or (m["k"] == 2))'

    @pytest.mark.parametrize("count", [1, 2, 3, 50, 1_000, 1_025])
    def test_a_thousand_are_ten_levels_deep(self, count):
        text = any_of([where("a == {x}", x=n) for n in range(count)])
        depth = np.cumsum([(c == "(") - (c == ")") for c in text])
        assert depth[-1] == 0
        assert depth.max() <= 2 + math.ceil(math.log2(count))
        assert [int(part.strip("() ").removeprefix("a == ")) for part in text.split(" or ")] == [
            *range(count)
        ]

    def test_refuses(self):
        with pytest.raises(FilterError, match="any of no filters"):
            any_of([])
        with pytest.raises(FilterError, match="'a == 1' is no filter: make one by where"):
            any_of(["a == 1"])
