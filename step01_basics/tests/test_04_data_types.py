import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import common.data_types as data_types
from common.connection import Milvus
from common.data_types import DATA_TYPES, EDGES, NO_FIELD_TYPES, NOTHING
from common.refusals import refusal
from common.vectors import bytes_per_vector, clustered_vectors, exact_search, recall

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import DataTypeNotSupportException

ALWAYS = {"bool", "int8", "int16", "int32", "int64", "float", "double", "varchar", "json"}
ALWAYS |= {"array_varchar", "array_float", "default", "dynamic"}
NEEDS = {
    "nullable": "nullable",
    "GEOMETRY": "geometry",
    "TIMESTAMPTZ": "timestamptz",
    "STRUCT": "array_struct",
    "TEXT": "text",
}
# What passes through both engines here, and what each of them takes in silence.
ALWAYS_TAKEN = {"NaN in a FLOAT", "one key twice", "no rows"}
TAKEN_BY_LITE = ALWAYS_TAKEN | {"NaN in a vector", "infinity in a vector", "text too long"}

Matrix = NDArray[np.float32]


def is_local_server(milvus: Milvus) -> bool:
    return milvus.label.endswith("(local server)")


@pytest.fixture(scope="module")
def vectors() -> tuple[Matrix, Matrix]:
    """300 documents and 40 queries of 64 dimensions."""
    drawn = clustered_vectors(340, 64, clusters=30, seed=4)
    return drawn[:300], drawn[300:]


# As a learner runs it


def test_it_passes_as_a_process(
    passes_as_a_process: Callable[..., str], milvus: Milvus, tmp_path: Path
) -> None:
    output = passes_as_a_process("--quick")
    headings = re.findall(r"^(\d)\. .* ─+$", output, re.MULTILINE)
    assert headings == ["1", "2", "3", "4", "5"]
    for row in DATA_TYPES:
        assert re.search(rf"^  {row.name} ", output, re.MULTILINE), row.name
        told = re.search(rf"^not run: .*\b{row.name}\b.*: ", output, re.MULTILINE)
        assert bool(told) == (not row.in_every and not milvus.can(row.name)), row.name
    assert (tmp_path / "out" / "step01_04_precision.png").stat().st_size > 10_000
    # The real papers: what half the bytes cost, what a quarter, and what one bit for a number.
    measured = dict(re.findall(r"^  (\w+)_VECTOR +\d+ +[\d.]+ GiB +([\d.]+)", output, re.MULTILINE))
    recalls = {name: float(value) for name, value in measured.items()}
    assert recalls["FLOAT"] == 1.0
    assert min(recalls["FLOAT16"], recalls["BFLOAT16"]) >= 0.99
    assert recalls["FLOAT16"] >= recalls["INT8"] >= 0.97
    assert 0.4 <= recalls["BINARY"] <= 0.8


def test_ctrl_c_leaves_nothing_behind(check_ctrl_c: Callable[[str], None]) -> None:
    check_ctrl_c("What check_rows() says")  # its collections are there by then


# 1. The types and their limits


def test_limits(lesson: ModuleType, milvus: Milvus) -> None:
    answers = lesson.limits(milvus)
    refused = {tried for tried, answer in answers.items() if answer}
    if milvus.kind == "lite":
        assert refused == {"7 letters, max_length=6", "128 in an INT8"}
    elif is_local_server(milvus):
        assert set(answers) - refused == {"dim=1"}  # 2.3.5 took it; 3.0 does not
    else:
        assert refused == set(answers)
    assert {answer[0] for answer in answers.values() if answer} == {"Milvus"}
    assert "7" in answers["7 letters, max_length=6"][1]
    if milvus.kind != "lite":
        assert "32769" in answers["dim=32_769"][1]
        assert "65535" in answers["max_length=65_536"][1]
        assert "4096" in answers["max_capacity=4_097"][1]
        assert "(9)" in answers["3 Korean letters, max_length=6"][1]  # bytes, not characters
        assert "65537" in answers["65,537 bytes of JSON"][1]
    assert lesson.COLLECTION not in milvus.client.list_collections()


def within_the_limits(milvus: Milvus) -> list[tuple[DataType, dict, object]]:
    array = {"element_type": DataType.INT64, "max_capacity": 4_096}
    fields = [
        (DataType.FLOAT_VECTOR, {"dim": 2}, [0.0, 1.0]),
        (DataType.FLOAT_VECTOR, {"dim": 32_768}, np.zeros(32_768, np.float32)),
        (DataType.VARCHAR, {"max_length": 65_535}, "x" * 65_535),
        (DataType.VARCHAR, {"max_length": 6}, "가나"),
        (DataType.ARRAY, array, [1] * 4_096),
        (DataType.JSON, {}, {"a": "x" * 65_528}),
    ]
    if milvus.kind != "lite":
        fields.append((DataType.BINARY_VECTOR, {"dim": 32_768}, bytes(4_096)))
    return fields


def test_what_keeps_to_the_limits_is_taken(milvus: Milvus) -> None:
    for data_type, options, value in within_the_limits(milvus):
        name, client = "step01_types_limits", milvus.client
        schema = client.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("x", data_type, **options)
        if not data_type.name.endswith("_VECTOR"):
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        client.create_collection(name, schema=schema, timeout=20)
        row = {"id": 1, "x": value} | ({"vector": [0, 1]} if len(schema.fields) == 3 else {})
        assert client.insert(name, [row], timeout=20)["insert_count"] == 1
        client.drop_collection(name)


def test_binary_dimensions_are_multiples_of_8(milvus: Milvus) -> None:
    if not milvus.can("BINARY_VECTOR"):
        pytest.skip(milvus.can("BINARY_VECTOR").reason)
    options = {"dim": 12}
    answer = data_types._try_field(
        milvus.client, "step01_types_12", DataType.BINARY_VECTOR, options, NOTHING, timeout=20
    )
    assert answer is not None
    assert "multiple of 8" in answer[1]


@pytest.mark.parametrize("name", ["NONE", "STRING"])
def test_what_is_no_type_for_a_field_is_refused(milvus: Milvus, name: str) -> None:
    assert name in NO_FIELD_TYPES
    field = (DataType[name], {}, NOTHING)
    answer = data_types._try_field(milvus.client, "step01_types_none", *field, timeout=20)
    assert answer is not None
    assert answer[0] == "Milvus"


def test_an_unknown_type_is_refused_by_pymilvus() -> None:
    with pytest.raises(DataTypeNotSupportException, match="must be of DataType"):
        MilvusClient.create_schema().add_field("x", DataType.UNKNOWN)


# 2. Scalars, there and back


def test_round_trip(lesson: ModuleType, milvus: Milvus) -> None:
    trips = lesson.round_trip(milvus)
    expected = ALWAYS | {field for feature, field in NEEDS.items() if milvus.can(feature)}
    if milvus.kind != "lite" and "text" not in {trip.field for trip in trips}:
        expected -= {"text"}  # off unless the Milvus was told otherwise
    assert {trip.field for trip in trips} == expected
    equal = {name: [trip.equal for trip in trips if trip.field == name] for name in expected}
    assert {name for name, how in equal.items() if how != ["yes", "yes"]} - {"geometry"} == {
        name for name in ("float", "array_float", "timestamptz", "default") if name in expected
    }
    assert equal["float"] == ["as float32", "as float32"]
    assert equal["array_float"] == ["as float32", "yes"]
    assert equal["default"] == ["the default", "yes"]
    for trip in trips:
        if trip.equal == "yes":
            assert trip.received == trip.sent
    received = [trip.received for trip in trips if trip.field == "float"]
    assert received == [0.10000000149011612, 16_777_216.0]
    assert lesson.COLLECTION not in milvus.client.list_collections()


def test_times_come_back_in_utc(lesson: ModuleType, milvus: Milvus) -> None:
    if not milvus.can("TIMESTAMPTZ"):
        pytest.skip(milvus.can("TIMESTAMPTZ").reason)
    trips = [trip for trip in lesson.round_trip(milvus) if trip.field == "timestamptz"]
    assert [trip.received for trip in trips] == [
        "2026-03-01T00:30:00Z",
        "1969-07-20T20:17:40.123456Z",
    ]


def test_a_value_that_changed_fails_the_lesson(
    lesson: ModuleType, milvus: Milvus, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = data_types.equality
    monkeypatch.setattr(
        data_types, "equality", lambda name, *rest: "NO" if name == "json" else honest(name, *rest)
    )
    with pytest.raises(RuntimeError, match="changed the values of json"):
        lesson.round_trip(milvus)


def test_the_smallest_int64_is_out_of_reach_of_the_local_server(
    lesson: ModuleType, milvus: Milvus, capsys: pytest.CaptureFixture
) -> None:
    lesson.round_trip(milvus)
    told = "A value can come back and be out of reach" in capsys.readouterr().out
    if milvus.kind == "lite" or is_local_server(milvus):
        assert told == is_local_server(milvus)


def test_the_local_server_wants_a_default_in_all_rows_of_a_batch_or_in_none(
    lesson: ModuleType, milvus: Milvus
) -> None:
    """Why the lesson sends its rows one by one."""
    client = milvus.client
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("x", DataType.VARCHAR, max_length=9, default_value="d")
    client.create_collection(lesson.COLLECTION, schema=schema)
    rows = [{"id": 1, "vector": [0, 1]}, {"id": 2, "vector": [0, 1], "x": "y"}]
    answer = refusal(client.insert, lesson.COLLECTION, rows, timeout=20)
    if is_local_server(milvus):
        assert answer is not None
        assert "num_rows (1) of field (x)" in answer[1]
    else:
        assert answer is None


# 3. Vectors


def test_every_vector_type_that_the_engine_has_works(
    lesson: ModuleType, milvus: Milvus, vectors: tuple[Matrix, Matrix]
) -> None:
    documents, queries = vectors
    texts = [f"paper number{n} about topic{n % 7}" for n in range(len(documents))]
    # Digits are no letters to word_counts(): make the words differ.
    texts = [text.translate(str.maketrans("0123456789", "abcdefghij")) for text in texts]
    stored = lesson.vector_types(milvus, texts, documents, queries)
    have = {row.name for row in DATA_TYPES if row.group == "vector" and milvus.can(row.name)}
    assert set(stored) == have
    scores = exact_search(documents, queries, lesson.K)[1]
    for name, one in stored.items():
        assert (one.alike, one.itself) == (300, 300), name
        if name == "SPARSE_FLOAT_VECTOR":
            assert one.bytes_each == 4 * 8  # four words
            continue
        assert one.bytes_each == bytes_per_vector(name, 64)
        assert [len(ids) for ids in one.found] == [lesson.K] * len(queries)
        floor = {"BINARY_VECTOR": 0.3, "INT8_VECTOR": 0.9}.get(name, 0.99)
        assert recall(one.found, scores, documents, queries) >= floor
    assert lesson.COLLECTION not in milvus.client.list_collections()


def test_packed_vectors_stand_for_the_same_numbers(
    lesson: ModuleType, vectors: tuple[Matrix, Matrix]
) -> None:
    documents = vectors[0]
    packed = data_types.packed(documents)
    assert set(packed) == {
        row.name for row in DATA_TYPES if row.group == "vector" and "dim" in row.size
    }
    error = {
        name: np.abs(data_types.numbers(name, packed[name]) - documents).max()
        for name in ("FLOAT_VECTOR", "FLOAT16_VECTOR", "BFLOAT16_VECTOR")
    }
    assert error["FLOAT_VECTOR"] == 0
    assert error["FLOAT16_VECTOR"] < error["BFLOAT16_VECTOR"] < 2**-8
    whole = data_types.numbers("INT8_VECTOR", packed["INT8_VECTOR"])
    assert np.abs(whole).max() == 127
    scale = 127 / np.abs(documents).max()
    assert np.abs(whole - documents * scale).max() <= 0.5001
    signs = data_types.numbers("BINARY_VECTOR", packed["BINARY_VECTOR"])
    assert np.array_equal(signs > 0, documents > 0)


# 4. Precision


def test_precision(lesson: ModuleType, milvus: Milvus, vectors: tuple[Matrix, Matrix]) -> None:
    documents, queries = vectors
    stored = lesson.vector_types(milvus, ["a"] * len(documents), documents, queries)
    measured = lesson.precision(milvus, documents, queries, stored)
    assert {name: row[0] for name, row in measured.items()} == {
        name: bytes_per_vector(name, 64) for name in measured
    }
    in_numpy = {name: row[1] for name, row in measured.items()}
    assert in_numpy["FLOAT_VECTOR"] == 1.0
    assert in_numpy["FLOAT16_VECTOR"] >= in_numpy["BFLOAT16_VECTOR"] >= in_numpy["INT8_VECTOR"]
    assert in_numpy["INT8_VECTOR"] > in_numpy["BINARY_VECTOR"] > 0.3
    for name, (_, numpy, here) in measured.items():
        if milvus.can(name):
            assert here == pytest.approx(numpy, abs=0.03), name
        else:
            assert here is None


# 5. Bad rows


@pytest.fixture
def checked(lesson: ModuleType, client: MilvusClient) -> Iterator[list[tuple[str, ...]]]:
    """What the check says; the collection with its one good row is there."""
    return lesson.check_bad_rows(client)


MESSAGES = {
    "wrong dimension": ("vector", "3 dimensions instead of 4"),
    "NaN in a vector": ("vector", "NaN at position 1"),
    "infinity in a vector": ("vector", "infinity at position 1"),
    "NaN in a FLOAT": ("price", "NaN"),
    "text too long": ("title", "25 bytes of UTF-8 (9 characters), max_length is 12"),
    "missing field": ("title", "no value"),
    "unknown field": ("titel", "the collection has no such field"),
    "wrong type": ("year", "'2026' (str) instead of a whole number"),
    "out of range": ("year", "40000 is out of range"),
    "one key twice": ("id", "the same primary key as row 9: 19"),
    "no rows": ("", "there are no rows"),
}


def test_each_bad_row_has_its_message_and_nothing_is_written(
    lesson: ModuleType, client: MilvusClient, checked: list[tuple[str, ...]]
) -> None:
    assert {kind: (field, problem) for _, kind, field, problem, _ in checked} == MESSAGES
    assert len(checked) == len(MESSAGES) == len(lesson.BAD_ROWS) >= 8
    assert all(hint for *_, hint in checked)
    assert [row for row, *_ in checked] == [*map(str, range(9)), "10", ""]
    back = client.query(lesson.COLLECTION, filter="id >= 0", output_fields=["title"])
    assert [(row["id"], row["title"]) for row in back] == [(1, "벡터")]


def test_what_the_engine_does_with_unchecked_rows(
    lesson: ModuleType, milvus: Milvus, checked: list[tuple[str, ...]]
) -> None:
    answers = lesson.send_unchecked(milvus)
    assert set(answers) == set(MESSAGES)
    who = {kind: answer[0] for kind, answer in answers.items()}
    assert {kind for kind, name in who.items() if name == "pymilvus"} == {
        "missing field",
        "unknown field",
        "wrong type",
    }
    taken = {kind for kind, name in who.items() if name == "nobody"}
    if milvus.kind == "lite":
        assert taken == TAKEN_BY_LITE
        assert "L2 distance nan" in answers["NaN in a vector"][1]
        assert answers["one key twice"][1].startswith("stored 1 of 2; found by its key: title '둘")
    elif is_local_server(milvus):
        assert taken == ALWAYS_TAKEN
        assert answers["one key twice"][1].startswith("stored 2 of 2; found by its key: title '벡")
    if "NaN in a FLOAT" in taken:
        assert "price nan" in answers["NaN in a FLOAT"][1]
    assert answers["no rows"] == ("nobody", "stored 0")
    # What was taken is removed again: only the good row is left.
    assert lesson.count(milvus.client) == 1


def test_the_edges_and_the_table_cover_each_other() -> None:
    """Each scalar type has a field in the round trip, and each field a type."""
    fields = {name.removeprefix("array_").upper() for name in EDGES}
    scalars = {row.name for row in DATA_TYPES if row.group == "scalar"} - {"ARRAY"}
    assert scalars <= fields
    assert fields - scalars == {"NULLABLE", "DEFAULT", "DYNAMIC"}
    assert any(name.startswith("array_") for name in EDGES)


def test_importing_the_script_does_nothing(lesson: ModuleType, client: MilvusClient) -> None:
    code = f"import runpy; runpy.run_path({lesson.__file__!r}, run_name='imported')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "MILVUS_URI": "http://localhost:1"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
