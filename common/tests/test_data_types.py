"""The table of types against pymilvus, and what is compared and converted on cases by hand."""

import math
import struct

import common.data_types as data_types
from common.capabilities import Capability, capability, feature, release
from common.data_types import (
    DATA_TYPES,
    EDGES,
    NO_FIELD_TYPES,
    NOTHING,
    TYPE_COLUMNS,
    edge_rows,
    equality,
    missing,
    numbers,
    precision_chart,
    raw_bytes,
    round_trips,
    type_table,
    word_counts,
)
from common.refusals import refusal
from common.vectors import bytes_per_vector, pack_bits, to_bfloat16, to_float16

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.exceptions import DataNotMatchException

VECTORS = np.random.default_rng(3).normal(size=(5, 16)).astype(np.float32)


def can_lite(name: str) -> Capability:
    return capability(name, "lite", "3.2.2")


def test_every_type_of_pymilvus_is_in_the_table_or_named_as_none() -> None:
    names = [row.name for row in DATA_TYPES]
    assert len(set(names)) == len(names)
    assert set(names).isdisjoint(NO_FIELD_TYPES)
    # __members__ has the names that begin with an underscore, too.
    assert set(names) | set(NO_FIELD_TYPES) == set(DataType.__members__)
    assert all(NO_FIELD_TYPES.values())
    assert "MOL" not in DataType.__members__  # the lesson says so


def test_a_row_of_the_table_has_all_columns() -> None:
    rows = {row[0]: row for row in type_table(can_lite)}
    assert {len(row) for row in rows.values()} == {len(TYPE_COLUMNS)}
    assert rows["BOOL"][-3:] == ("2.0", "yes", "yes")
    assert rows["BINARY_VECTOR"][-3:] == ("2.0", "–", "–")
    assert rows["GEOMETRY"][-3:] == ("2.6.4", "yes", "yes")
    on_server = {row[0]: row for row in type_table(lambda n: capability(n, "x", "2.3.5-lite"))}
    assert on_server["BINARY_VECTOR"][-3:] == ("2.0", "–", "yes")


def test_the_release_tells_what_the_local_server_has() -> None:
    """The table has no column for the local server: it has what Milvus 2.3.5 has."""
    for row in DATA_TYPES:
        if not row.in_every:
            known = feature(row.name)
            assert known.local_server == (release(known.since) <= (2, 3, 5)), row.name


def test_the_bytes_of_the_dense_types() -> None:
    told = {row.name: row.size for row in DATA_TYPES if "dim" in row.size}
    assert len(told) == 5
    for name, size in told.items():
        factor = 1 / 8 if size == "dim / 8" else int(size.removesuffix(" × dim"))
        assert factor * 64 == bytes_per_vector(name, 64), name


def test_missing_types_are_grouped_by_their_reason() -> None:
    reasons = missing(can_lite, "vector")
    assert sorted(map(sorted, reasons.values())) == [
        ["BFLOAT16_VECTOR", "FLOAT16_VECTOR"],
        ["BINARY_VECTOR"],
        ["INT8_VECTOR"],
    ]
    assert any("Milvus 2.4 or later does" in reason for reason in reasons)
    scalars = missing(lambda n: capability(n, "x", "2.3.5-lite"), "scalar", "nullable")
    assert "nullable" in [name for names in scalars.values() for name in names]
    newest = missing(lambda n: capability(n, "x", "3.0.2"), "scalar", "nullable")
    assert list(newest.values()) == [["TEXT"]]  # off by default


def raises(error: Exception) -> None:
    raise error


def test_a_refusal_tells_who_and_why() -> None:
    ours = DataNotMatchException(message="no such field")
    assert refusal(raises, ours) == ("pymilvus", "no such field")
    theirs = MilvusException(1100, "too long: invalid parameter[expected=short][actual=long]")
    assert refusal(raises, theirs) == ("Milvus", "too long")
    assert refusal(print, "", end="") is None
    with pytest.raises(ZeroDivisionError):
        refusal(raises, ZeroDivisionError())


@pytest.mark.parametrize(
    ("name", "sent", "received", "how"),
    [
        ("int64", 2**63 - 1, 2**63 - 1, "yes"),
        ("int64", 2**63 - 1, 2**63 - 2, "NO"),
        ("bool", True, 1, "NO"),
        ("float", 0.1, 0.10000000149011612, "as float32"),
        ("float", 2**24 + 1, 2.0**24, "as float32"),
        ("float", 0.1, 0.1001, "NO"),
        ("float", 0.1, None, "NO"),
        ("double", 0.1, 0.10000000149011612, "NO"),
        ("array_float", [0.1, 0.5], [0.10000000149011612, 0.5], "as float32"),
        ("array_float", [0.1, 0.5], [0.5, 0.10000000149011612], "NO"),
        ("array_varchar", ["a"], ["a", ""], "NO"),
        ("timestamptz", "2026-03-01T09:30:00+09:00", "2026-03-01T00:30:00Z", "same time"),
        ("timestamptz", "2026-03-01T09:30:00+09:00", "2026-03-01T09:30:00Z", "NO"),
        ("geometry", "POINT (1 2)", "POINT(1.0 2e0)", "same shape"),
        ("geometry", "POLYGON ((0 0, 4 0, 4 4, 0 0))", "POLYGON((0 0,4 0,4 4,0 0))", "same shape"),
        ("geometry", "POINT (1 23)", "POINT (12 3)", "NO"),
        ("varchar", "안녕 👋", "안녕 👋", "yes"),
        ("varchar", "안녕", "안녕 ", "NO"),
        ("json", {"a": [1]}, {"a": [1]}, "yes"),
        ("json", {"a": [1]}, '{"a": [1]}', "NO"),
        ("nullable", None, None, "yes"),
        ("nullable", None, 0, "NO"),
        ("default", NOTHING, "unknown", "the default"),
        ("default", NOTHING, None, "NO"),
    ],
)
def test_equality(name: str, sent: object, received: object, how: str) -> None:
    assert equality(name, sent, received) == how


def test_edge_rows_have_the_fields_of_the_schema_and_a_dynamic_one() -> None:
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("int8", DataType.INT8)
    schema.add_field("default", DataType.VARCHAR, max_length=10, default_value="unknown")
    assert edge_rows(schema) == [
        {"id": 0, "int8": -128, "dynamic": "red"},
        {"id": 1, "int8": 127, "default": "given", "dynamic": {"rgb": [255, 0, 0]}},
    ]


def test_round_trips_compare_by_primary_key() -> None:
    sent = [{"id": 0, "int8": -128}, {"id": 1, "int8": 127, "default": "given"}]
    back = [{"id": 1, "int8": 127, "default": "given"}, {"id": 0, "int8": -1, "default": "unknown"}]
    trips = round_trips(sent, back)
    assert [(trip.field, trip.equal) for trip in trips] == [
        ("int8", "NO"),
        ("int8", "yes"),
        ("default", "the default"),
        ("default", "yes"),
    ]
    assert trips[2].cells() == ("default", "(left out)", "'unknown'", "the default")
    assert round_trips(sent, [])[0].equal == "NO"


def test_the_edges_are_edges() -> None:
    for bits in (8, 16, 32, 64):
        assert EDGES[f"int{bits}"] == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for value in EDGES["float"]:
        assert float(np.float32(value)) != value
    assert len(EDGES["text"][0].encode()) > 65_535


def test_the_json_of_the_limits_is_one_byte_too_long() -> None:
    value = data_types._BEYOND["65,537 bytes of JSON"][2]
    assert len(f'{{"a":"{value["a"]}"}}') == 65_537


def test_raw_bytes_of_what_pymilvus_takes_and_gives() -> None:
    floats = struct.pack("<3f", 1.0, 0.5, -2.0)
    assert raw_bytes(np.array([1.0, 0.5, -2.0], np.float32)) == floats
    assert raw_bytes([1.0, 0.5, -2.0]) == floats
    assert raw_bytes(b"\x01\x02") == b"\x01\x02"
    assert raw_bytes([b"\x01\x02"]) == b"\x01\x02"
    assert raw_bytes({7: 0.5, 2: 1.0}) == struct.pack("<IfIf", 2, 1.0, 7, 0.5)


def test_numbers_undo_each_format() -> None:
    assert np.array_equal(numbers("FLOAT_VECTOR", list(VECTORS)), VECTORS)
    half = numbers("FLOAT16_VECTOR", list(to_float16(VECTORS)))
    assert np.array_equal(half, VECTORS.astype(np.float16).astype(np.float32))
    brain = numbers("BFLOAT16_VECTOR", [row.tobytes() for row in to_bfloat16(VECTORS)])
    assert np.abs(brain / VECTORS - 1).max() < 2**-8
    small = np.array([[-128, 0, 127]], np.int8)
    assert numbers("INT8_VECTOR", list(small)).tolist() == [[-128.0, 0.0, 127.0]]
    bits = [row.tobytes() for row in pack_bits(VECTORS > 0)]
    assert np.array_equal(numbers("BINARY_VECTOR", bits), np.sign(VECTORS))
    sparse = numbers("SPARSE_FLOAT_VECTOR", [{0: 1.0, 3: 0.5}, {1: 2.0}])
    assert sparse.tolist() == [[1, 0, 0, 0.5], [0, 2, 0, 0]]
    assert {numbers("FLOAT_VECTOR", [v]).dtype for v in VECTORS} == {np.dtype(np.float32)}


def test_word_counts() -> None:
    first, second = word_counts(["Red red blue", "green"])
    assert first == {0: 1 / math.sqrt(5), 2: 2 / math.sqrt(5)}  # blue, green, red
    assert second == {1: 1.0}


def test_the_chart_has_two_bars_for_each_type() -> None:
    measured = {"FLOAT_VECTOR": (1536, 1.0, None), "BINARY_VECTOR": (48, 0.6, None)}
    (axes,) = precision_chart(measured, "recall@10").axes
    bytes_bars, recall_bars = axes.containers
    assert [bar.get_height() for bar in bytes_bars] == [1.0, 48 / 1536]
    assert [bar.get_height() for bar in recall_bars] == [1.0, 0.6]
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["FLOAT\n1,536 bytes", "BINARY\n48 bytes"]
    assert axes.get_legend_handles_labels()[1] == ["bytes", "recall@10"]
