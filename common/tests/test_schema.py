import math
from types import SimpleNamespace

from common.field_values import MAX_JSON_BYTES, column_is_fine, value_trouble
from common.schema import (
    SCHEMA_COLUMNS,
    RowProblem,
    RowsRefused,
    _field,
    check_rows,
    describe_fields,
    require_rows,
)

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus import DataType, Function, FunctionType, MilvusClient, MilvusException

NAN, INFINITY = math.nan, math.inf
VECTOR = [0.1, 0.2, 0.3, 0.4]


def make_schema(*fields: dict, dynamic: bool = False, auto_id: bool = False):
    """A schema with a key "id", a vector "vector" of 4 dimensions, and `fields`."""
    schema = MilvusClient.create_schema(enable_dynamic_field=dynamic, auto_id=auto_id)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    for field in fields:
        schema.add_field(**field)
    return schema


def field(name: str, datatype: DataType, **params) -> dict:
    return {"field_name": name, "datatype": datatype, **params}


def rows_with(name: str, *values: object) -> list[dict]:
    """Good rows but for the field `name`."""
    return [{"id": n, "vector": VECTOR, name: value} for n, value in enumerate(values)]


def texts(problems: list[RowProblem]) -> list[str]:
    return [str(problem) for problem in problems]


# One value of each kind that is wrong: (its field, the value, what is said of it, the advice)
BAD_VALUES = [
    # whole numbers
    (field("x", DataType.INT8), 128, "128 is out of range", "INT8 holds -128 to 127"),
    (field("x", DataType.INT16), -32_769, "-32769 is out of range", "INT16 holds -32768 to 32767"),
    (field("x", DataType.INT32), 2**31, "2147483648 is out of range", "INT32 holds"),
    (field("x", DataType.INT64), 2**63, "9223372036854775808 is out of range", "INT64 holds"),
    (field("x", DataType.INT64), True, "True (bool) instead of a whole number", "give an int"),
    (field("x", DataType.INT64), 1.0, "1.0 (float) instead of a whole number", "give an int"),
    (field("x", DataType.INT64), np.timedelta64(1), "(timedelta64) instead of", "give an int"),
    (field("x", DataType.INT32), "7", "'7' (str) instead of a whole number", "give an int"),
    (field("x", DataType.INT8), None, "None", "not nullable and has no default"),
    # numbers and truth
    (field("x", DataType.FLOAT), NAN, "NaN", "leave the row out"),
    (field("x", DataType.FLOAT), -INFINITY, "infinity", "go up to 3.4e+38"),
    (field("x", DataType.FLOAT), 1e39, "1e+39 is too large", "go up to 3.4e+38"),
    (field("x", DataType.DOUBLE), INFINITY, "infinity", "go up to 1.8e+308"),
    (field("x", DataType.DOUBLE), 10**400, "infinity", "go up to 1.8e+308"),
    (field("x", DataType.FLOAT), True, "True (bool) instead of a number", "give a float"),
    (field("x", DataType.DOUBLE), "1.5", "'1.5' (str) instead of a number", "give a float"),
    (field("x", DataType.BOOL), 1, "1 (int) instead of True or False", "give a bool"),
    # texts
    (
        field("x", DataType.VARCHAR, max_length=10),
        "a" * 11,
        "11 bytes of UTF-8 (11 characters), max_length is 10",
        "it counts bytes",
    ),
    (
        field("x", DataType.VARCHAR, max_length=10),
        "가나다라",
        "12 bytes of UTF-8 (4 characters), max_length is 10",
        "it counts bytes",
    ),
    (field("x", DataType.VARCHAR, max_length=10), 7, "7 (int) instead of a text", "give a str"),
    (field("x", DataType.VARCHAR, max_length=10), b"x", "b'x' (bytes) instead", "give a str"),
    (
        field("x", DataType.VARCHAR, max_length=10),
        "ab\ud800",
        "'ab\\ud800' holds half a surrogate pair at position 2",
        "right encoding",
    ),
    # JSON
    (field("x", DataType.JSON), {"a": [1, NAN]}, "a[1]: nan does not exist in JSON", "write None"),
    (field("x", DataType.JSON), {"a": {1}}, "a: {1} (set) cannot be written as JSON", "JSON has"),
    (field("x", DataType.JSON), {"a": {1: 2}}, "the key 1 (int) is no text", "keys in JSON"),
    (field("x", DataType.JSON), {"a": 2**64}, "a: 18446744073709551616 is no 64-bit", "a text"),
    (field("x", DataType.JSON), {"a": "\udc00"}, "a: '\\udc00' holds half a surrogate", "encoding"),
    (field("x", DataType.JSON), {"a": (NAN,)}, "a[0]: nan does not exist in JSON", "write None"),
    (field("x", DataType.JSON), {"a": np.array([NAN])}, "a[0]: nan does not", "write None"),
    (field("x", DataType.JSON), [1, 2], "[1, 2] (list) instead of a JSON object", "into an object"),
    (field("x", DataType.JSON), "hello", "'hello' (str) is no JSON, and a str", "give a dict"),
    (field("x", DataType.JSON), "[1]", "[1] (list) instead of a JSON object", "into an object"),
    (field("x", DataType.JSON), {"a": "b" * 65_536}, "65,544 bytes of JSON", "VARCHAR field"),
    # ARRAY
    (
        field("x", DataType.ARRAY, element_type=DataType.INT8, max_capacity=2),
        [1, 2, 3],
        "3 elements, max_capacity is 2",
        "larger max_capacity",
    ),
    (
        field("x", DataType.ARRAY, element_type=DataType.INT8, max_capacity=2),
        [1, 300],
        "element 1: 300 is out of range",
        "INT8 holds",
    ),
    (
        field("x", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=2, max_length=5),
        ["a", 7],
        "element 1: 7 (int) instead of a text",
        "give a str",
    ),
    (
        field("x", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=2, max_length=5),
        ["가나"],
        "element 0: 6 bytes of UTF-8 (2 characters), max_length is 5",
        "it counts bytes",
    ),
    (
        field("x", DataType.ARRAY, element_type=DataType.INT64, max_capacity=2),
        [None],
        "element 0: None",
        "an ARRAY has no empty places",
    ),
    (
        field("x", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=9, max_length=5),
        "text",
        "'text' (str) instead of a list",
        "give a list",
    ),
    # dense vectors
    (field("x", DataType.FLOAT_VECTOR, dim=4), [0.1] * 3, "3 dimensions instead of 4", "the model"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), np.ones(5, "f4"), "5 dimensions instead", "model"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), [1, NAN, 1, 1], "NaN at position 1", "leave the"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), [1, 1, 1, INFINITY], "infinity at position 3", "up"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), [1, 1, 1e39, 1], "1e+39 is too large at", "3.4e+38"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), np.full(4, 1e300), "too large at position 0", "up"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), [1, 1, "1", 1], "'1' (str) is no number at", "give"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), [1, 1, None, 1], "None (NoneType) is no", "give"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), [[1.0] * 4], "1 dimension instead of 4", "model"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), "abcd", "'abcd' (str) instead of a vector", "NumPy"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), {0: 1.0}, "{0: 1.0} (dict) instead of", "NumPy"),
    (field("x", DataType.FLOAT_VECTOR, dim=4), None, "None", "not nullable"),
    (
        field("x", DataType.FLOAT_VECTOR, dim=4),
        np.ones((1, 4), "f4"),
        "an array of shape (1, 4) instead of (4,)",
        "vectors[0]",
    ),
    (
        field("x", DataType.FLOAT_VECTOR, dim=4),
        np.ones(4, int),
        "an array of int64",
        "vector.astype('float32')",
    ),
    (
        field("x", DataType.BINARY_VECTOR, dim=16),
        b"abc",
        "3 bytes instead of 2 for 16 dimensions",
        "numpy.packbits(bits, bitorder='little')",
    ),
    (field("x", DataType.BINARY_VECTOR, dim=16), [1] * 16, "16 bytes instead of 2", "packbits"),
    (field("x", DataType.BINARY_VECTOR, dim=16), [300, 0], "[300, 0] (list) instead", "packbits"),
    (field("x", DataType.BINARY_VECTOR, dim=16), np.ones(2), "an array of float64", "packbits"),
    (field("x", DataType.INT8_VECTOR, dim=4), [1, 2, 3, 4], "[1, 2, 3, 4] (list) instead", "int8"),
    (field("x", DataType.INT8_VECTOR, dim=4), np.ones(3, "i1"), "3 dimensions instead of", "model"),
    (field("x", DataType.INT8_VECTOR, dim=4), b"12345", "5 bytes instead of 4 for 4", "one byte"),
    (field("x", DataType.FLOAT16_VECTOR, dim=4), np.ones(3, "f2"), "3 dimensions instead", "model"),
    (
        field("x", DataType.FLOAT16_VECTOR, dim=4),
        np.array([1, INFINITY, 1, 1], "f2"),
        "NaN or infinity at position 1",
        "converted",
    ),
    (
        field("x", DataType.FLOAT16_VECTOR, dim=4),
        np.array([1, 1, NAN, 1], "f2").tobytes(),
        "NaN or infinity at position 2",
        "converted",
    ),
    (
        field("x", DataType.FLOAT16_VECTOR, dim=4),
        [1, 1, 1, 7e4],
        "70000.0 is too large",
        "6.55e+04",
    ),
    (field("x", DataType.FLOAT16_VECTOR, dim=4), b"1234", "4 bytes instead of 8 for 4", "two"),
    (field("x", DataType.FLOAT16_VECTOR, dim=4), np.ones(4, int), "an array of int64", "float16"),
    (
        field("x", DataType.BFLOAT16_VECTOR, dim=2),
        np.array([0x3F80, 0x7FC0], "u2").tobytes(),
        "NaN or infinity at position 1",
        "converted",
    ),
    (
        field("x", DataType.BFLOAT16_VECTOR, dim=2),
        np.array([INFINITY, 1], ml_dtypes.bfloat16),
        "NaN or infinity at position 0",
        "converted",
    ),
    # sparse vectors
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {}, "no weight above 0", "leave the row out"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {3: 1e-60}, "no weight above 0", "leave the row"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {3: 1}, "the weight 1 (int) at index 3", "1.0 and"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {3: NAN}, "NaN at index 3", "leave the row out"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {3: 1e39}, "1e+39 is too large at index 3", "3.4e"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {3: -0.5}, "the weight -0.5 at index 3 is", "inner"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {-1: 0.5}, "the index -1", "0 to 4294967294"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {2**32 - 1: 0.5}, "the index 4294967295", "0 to"),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), {"3": 0.5}, "the index '3' (str) is no", "an int"),
    (
        field("x", DataType.SPARSE_FLOAT_VECTOR),
        [(3, 0.5), (3, 0.1)],
        "index 3 stands twice",
        "once",
    ),
    (field("x", DataType.SPARSE_FLOAT_VECTOR), [0.5], "[0.5] (list) instead of a sparse", "dict"),
]


@pytest.mark.parametrize(
    ("definition", "value", "problem", "hint"),
    BAD_VALUES,
    ids=[f"{d['datatype'].name}-{p[:30]}" for d, _, p, _ in BAD_VALUES],
)
class TestBadValues:
    """Each kind once, in the middle of a good batch, so that no other row is named."""

    def test_it_is_found_and_named(self, definition, value, problem, hint):
        good = GOOD_VALUES[definition["datatype"]](definition)
        rows = rows_with("x", good, value, good)
        (found,) = check_rows(make_schema(definition), rows, first_row=100)
        assert (found.row, found.field) == (101, "x")
        assert problem in found.problem
        assert hint in found.hint

    def test_the_quick_check_does_not_pass_it(self, definition, value, problem, hint):
        assert not column_is_fine(rule_of(definition), [value])


GOOD_VALUES = {
    DataType.INT8: lambda _: -128,
    DataType.INT16: lambda _: 32_767,
    DataType.INT32: lambda _: 2**31 - 1,
    DataType.INT64: lambda _: -(2**63),
    DataType.FLOAT: lambda _: 3.4e38,
    DataType.DOUBLE: lambda _: 1.7e308,
    DataType.BOOL: lambda _: True,
    DataType.VARCHAR: lambda d: "a" * d["max_length"],
    DataType.JSON: lambda _: {"a": [1, 2.5, True, None, {"b": "가"}]},
    DataType.ARRAY: lambda _: [],
    DataType.FLOAT_VECTOR: lambda d: [3.4e38] * d["dim"],
    DataType.BINARY_VECTOR: lambda d: b"\xff" * (d["dim"] // 8),
    DataType.INT8_VECTOR: lambda d: np.full(d["dim"], -128, np.int8),
    DataType.FLOAT16_VECTOR: lambda d: np.full(d["dim"], 65_504, np.float16),
    DataType.BFLOAT16_VECTOR: lambda d: np.full(d["dim"], 0x7F7F, np.uint16).tobytes(),
    DataType.SPARSE_FLOAT_VECTOR: lambda _: {0: 0.5, 2**32 - 2: 1e-3},
}


@pytest.mark.parametrize(
    ("definition", "values"),
    [
        (field("x", DataType.INT64), [np.int64(5), np.uint8(5), 0]),
        (field("x", DataType.FLOAT), [np.float32(0.5), np.float64(0.5), 1, np.int32(3)]),
        (field("x", DataType.BOOL), [True, np.bool_(False)]),
        (field("x", DataType.VARCHAR, max_length=3), ["", "abc", "가", np.str_("é")]),
        (field("x", DataType.JSON), [{}, '{"a": 1}', {"a": np.float32(1)}, {"a": np.arange(3)}]),
        (
            field("x", DataType.ARRAY, element_type=DataType.FLOAT, max_capacity=2),
            [[], [1.5, 2], (0.5,), np.array([1.5])],
        ),
        (
            field("x", DataType.FLOAT_VECTOR, dim=2),
            [[1, 2.5], (0, 0), np.zeros(2), np.zeros(2, "f4"), [np.float32(1), 0.5]],
        ),
        (
            field("x", DataType.BINARY_VECTOR, dim=16),
            [b"ab", bytearray(b"ab"), [0, 255], np.packbits(np.ones(16, bool))],
        ),
        (field("x", DataType.INT8_VECTOR, dim=2), [b"ab", np.zeros(2, np.int8)]),
        (
            field("x", DataType.FLOAT16_VECTOR, dim=2),
            [b"abab", np.zeros(2, np.float16), [0.5, 1], np.zeros(2, np.float32)],
        ),
        (
            field("x", DataType.BFLOAT16_VECTOR, dim=2),
            [b"abab", np.ones(2, ml_dtypes.bfloat16), [0.5, 3e38]],
        ),
        (
            field("x", DataType.SPARSE_FLOAT_VECTOR),
            [
                {1: 0.5},
                [(1, 0.5), (7, 0.25)],
                {np.int64(1): np.float32(0.5)},
                scipy.sparse.csr_array(np.array([[0, 0.5]])),
            ],
        ),
    ],
    ids=lambda value: value["datatype"].name if isinstance(value, dict) else "",
)
def test_every_form_that_pymilvus_takes_is_fine(definition, values):
    assert check_rows(make_schema(definition), rows_with("x", *values)) == []


@pytest.mark.parametrize(
    ("definition", "column"),
    [
        (field("x", DataType.INT64), [1, 2, 3]),
        (field("x", DataType.INT64), list(np.arange(3))),
        (field("x", DataType.FLOAT), [0.5, 1, np.float32(2)]),
        (field("x", DataType.DOUBLE), list(np.ones(3))),
        (field("x", DataType.BOOL), [True, False]),
        (field("x", DataType.VARCHAR, max_length=6), ["abcdef", "가나"]),
        (field("x", DataType.JSON), [{"a": [1, "b"]}, {}]),
        (field("x", DataType.FLOAT_VECTOR, dim=4), [[0.5] * 4, (1, 2, 3, 4)]),
        (field("x", DataType.FLOAT_VECTOR, dim=4), list(np.ones((3, 4), np.float32))),
        (field("x", DataType.FLOAT_VECTOR, dim=4), list(np.ones((3, 4)))),
    ],
    ids=lambda value: value["datatype"].name if isinstance(value, dict) else "",
)
def test_the_usual_forms_pass_the_quick_check(definition, column):
    """So that a load is not slowed down by looking at each value."""
    assert column_is_fine(rule_of(definition), column)


def test_vectors_of_a_file_that_is_mapped_into_memory_are_quick_too(tmp_path):
    np.save(tmp_path / "vectors.npy", np.ones((3, 4), np.float32))
    matrix = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert column_is_fine(rule_of(field("x", DataType.FLOAT_VECTOR, dim=4)), list(matrix))


def rule_of(definition: dict):
    """What the checks make of the definition of a field."""
    return _field(make_schema(definition).to_dict()["fields"][-1], False, False)


class TestRowsAsAWhole:
    def test_a_field_that_is_missing(self):
        rows = [{"id": 1, "vector": VECTOR}, {"id": 2}, {"vector": VECTOR}]
        assert texts(check_rows(make_schema(), rows)) == [
            'row 1, field "vector": no value; give one in every row: the field is not nullable '
            "and has no default",
            'row 2, field "id": no value; give one in every row: the field is not nullable '
            "and has no default",
        ]

    def test_a_field_that_is_unknown(self):
        rows = [{"id": 1, "vector": VECTOR, "title": "x"}, {"id": 2, "vektor": VECTOR}]
        unknown, misspelt, missing = check_rows(make_schema(), rows)
        assert (unknown.row, unknown.field) == (0, "title")
        assert unknown.problem == "the collection has no such field"
        assert unknown.hint.startswith("leave it out, or make the collection with this field")
        assert (misspelt.row, misspelt.field) == (1, "vektor")
        assert misspelt.hint == 'did you mean "vector"?'
        assert (missing.row, missing.field, missing.problem) == (1, "vector", "no value")

    def test_nullable_fields_and_defaults_may_be_missing_or_none(self):
        schema = make_schema(
            field("a", DataType.INT32, nullable=True),
            field("b", DataType.VARCHAR, max_length=5, default_value=""),
            field("c", DataType.JSON, nullable=True),
        )
        rows = [
            {"id": 1, "vector": VECTOR},
            {"id": 2, "vector": VECTOR, "a": None, "b": None, "c": None},
            {"id": 3, "vector": VECTOR, "a": 1, "b": "x", "c": {}},
        ]
        assert check_rows(schema, rows) == []
        (found,) = check_rows(schema, [*rows, {"id": 4, "vector": VECTOR, "a": "x"}])
        assert (found.row, found.field) == (3, "a")

    def test_dynamic_fields(self):
        schema = make_schema(dynamic=True)
        good = {"id": 1, "vector": VECTOR, "title": "가", "tags": ["a", 1, None], "n": np.int8(1)}
        assert check_rows(schema, [good]) == []
        rows = [
            {"id": 1, "vector": VECTOR, "score": NAN},
            {"id": 2, "vector": VECTOR, "when": object},
            {"id": 3, "vector": VECTOR, "$meta": {}},
            {"id": 4, "vector": VECTOR, 7: "x"},
            {"id": 5, "vector": VECTOR, "a": "x" * 40_000, "b": "x" * 40_000},
        ]
        found = check_rows(schema, rows)
        assert [(p.row, p.field) for p in found] == [
            (0, "score"),
            (1, "when"),
            (2, "$meta"),
            (3, "7"),
            (4, "$meta"),
        ]
        assert found[0].problem == "score: nan does not exist in JSON"
        assert found[1].problem == "when: <class 'object'> (type) cannot be written as JSON"
        assert found[2].problem == "the name is reserved"
        assert found[3].problem == "7 (int) is no name"
        assert found[4].problem == "80,015 bytes of JSON, Milvus takes 65,536"

    def test_the_same_primary_key_twice(self):
        keys = [7, 8, 7, 9, np.int64(8), 7]
        rows = [{"id": key, "vector": VECTOR} for key in keys]
        hint = "give each key once: some Milvus keep both rows, some only one of them"
        assert texts(check_rows(make_schema(), rows, first_row=5000)) == [
            f'row 5002, field "id": the same primary key as row 5000: 7; {hint}',
            f'row 5004, field "id": the same primary key as row 5001: np.int64(8); {hint}',
            f'row 5005, field "id": the same primary key as row 5000: 7; {hint}',
        ]

    def test_the_same_text_as_primary_key(self):
        schema = MilvusClient.create_schema()
        schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=5)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
        rows = [{"key": key, "vector": VECTOR} for key in ("a", "b", "a")]
        (found,) = check_rows(schema, rows)
        assert found.problem == "the same primary key as row 0: 'a'"
        assert (found.row, found.field) == (2, "key")

    def test_a_key_that_milvus_makes(self):
        schema = make_schema(auto_id=True)
        assert check_rows(schema, [{"vector": VECTOR}, {"vector": VECTOR}]) == []
        (found,) = check_rows(schema, [{"vector": VECTOR}, {"id": 7, "vector": VECTOR}])
        assert str(found) == (
            'row 1, field "id": given, but Milvus (auto_id) makes it; leave it out'
        )

    def test_an_upsert_names_its_keys_also_with_auto_id(self):
        schema = make_schema(auto_id=True)
        assert check_rows(schema, [{"id": 7, "vector": VECTOR}], upsert=True) == []
        (found,) = check_rows(schema, [{"vector": VECTOR}], upsert=True)
        assert (found.field, found.problem) == ("id", "no value")

    def test_a_property_lets_keys_through_in_spite_of_auto_id(self):
        described = {**make_schema(auto_id=True).to_dict()}
        described["properties"] = {"allow_insert_auto_id": "true"}
        rows = [{"id": 7, "vector": VECTOR}, {"id": 8, "vector": VECTOR}]
        assert check_rows(described, rows) == []
        assert check_rows(described, [{"vector": VECTOR}]) == []
        (found,) = check_rows(described, [rows[0], rows[0]])
        assert found.problem == "the same primary key as row 0: 7"

    def test_a_field_that_a_function_makes(self):
        schema = make_schema(
            field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True),
            field("sparse", DataType.SPARSE_FLOAT_VECTOR),
        )
        schema.add_function(
            Function(
                name="bm25",
                function_type=FunctionType.BM25,
                input_field_names=["text"],
                output_field_names=["sparse"],
            )
        )
        row = {"id": 1, "vector": VECTOR, "text": "hello"}
        assert check_rows(schema, [row]) == []
        (found,) = check_rows(schema, [{**row, "sparse": {1: 0.5}}])
        assert found.problem == "given, but a function of the collection makes it"

    def test_an_array_of_structs(self):
        schema = MilvusClient.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        inner = MilvusClient.create_struct_field_schema()
        inner.add_field("page", DataType.INT32)
        schema.add_field(
            "parts",
            DataType.ARRAY,
            element_type=DataType.STRUCT,
            struct_schema=inner,
            max_capacity=2,
        )
        values = [[{"page": 1}], [], [{"page": 1}] * 3, ["page"]]
        found = check_rows(schema, [{"id": n, "parts": v} for n, v in enumerate(values)])
        assert [(p.row, p.problem) for p in found] == [
            (2, "3 elements, max_capacity is 2"),
            (3, "element 0: 'page' (str) instead of a struct"),
        ]

    def test_a_row_that_is_no_dict(self):
        rows = [{"id": 1, "vector": VECTOR}, [2, VECTOR], "id", {"id": 1, "vector": [1]}]
        first, second, *rest = texts(check_rows(make_schema(), rows, first_row=10))
        assert first.startswith("row 11: [2, [0.1, 0.2, 0.3, 0.4]] (list) instead of a dict;")
        assert second.startswith("row 12: 'id' (str) instead of a dict;")
        assert [text.split(":")[0] for text in rest] == [
            'row 13, field "vector"',
            'row 13, field "id"',
        ]

    def test_no_rows_at_all(self):
        (found,) = check_rows(make_schema(), [], first_row=3)
        assert str(found).startswith("row 3: there are no rows; give at least one row")

    def test_something_else_than_a_schema(self):
        with pytest.raises(TypeError, match=r"what client.describe_collection\(\) returns, not 7"):
            check_rows(7, [{"id": 1}])


def test_all_kinds_in_one_batch():
    """Each bad row is named, with all of its problems, and none of the good ones between."""
    schema = make_schema(field("n", DataType.INT8), field("t", DataType.VARCHAR, max_length=3))
    good = [{"id": n, "vector": np.ones(4, "f4"), "n": 1, "t": "x"} for n in range(10)]
    rows = [
        {**good[0], "vector": np.ones(3, "f4")},
        good[1],
        {**good[2], "vector": [1, NAN, 1, 1], "n": 999},
        {**good[3], "vector": np.array([1, 1, 1, INFINITY], "f4")},
        good[4],
        {**good[5], "t": "too long"},
        {"id": 6, "vector": VECTOR, "n": 1},
        {**good[7], "other": 1, "n": "1"},
        {**good[8], "id": 4},
        7,
    ]
    found = [(p.row, p.field) for p in check_rows(schema, rows, first_row=20)]
    assert found == [
        (20, "vector"),
        (22, "vector"),
        (22, "n"),
        (23, "vector"),
        (25, "t"),
        (26, "t"),
        (27, "other"),
        (27, "n"),
        (28, "id"),
        (29, ""),
    ]


class TestRowsRefused:
    def test_the_first_ten_problems_are_listed_and_the_others_counted(self):
        rows = [{"id": "x", "vector": VECTOR} for _ in range(12)]
        with pytest.raises(RowsRefused) as caught:
            require_rows(make_schema(), rows, first_row=1000)
        lines = str(caught.value).splitlines()
        assert lines[0] == "12 problems in 12 rows; nothing of this batch was sent"
        assert lines[1].startswith("""  row 1000, field "id": 'x' (str) instead of""")
        assert [line.split(",")[0] for line in lines[1:11]] == [
            f"  row {number}" for number in range(1000, 1010)
        ]
        assert lines[11:] == ["  and 2 more"]
        assert [problem.row for problem in caught.value.problems] == list(range(1000, 1012))
        assert caught.value.rows_stored == 0

    def test_it_says_how_to_go_on_after_the_rows_that_are_stored(self):
        error = RowsRefused([RowProblem(1003, "n", "None", "give a value")], rows_stored=1000)
        assert str(error).splitlines() == [
            "1 problem in 1 row; nothing of this batch was sent",
            '  row 1003, field "n": None; give a value',
            "The 1,000 rows before are stored: repair the rows above and go on with start_at=1000.",
        ]

    def test_good_rows_pass(self):
        rows = [{"id": 1, "vector": VECTOR}]
        require_rows(make_schema(), rows)
        assert rows == [{"id": 1, "vector": VECTOR}]  # and they stay as they were


def test_describe_fields():
    schema = make_schema(
        field("title", DataType.VARCHAR, max_length=200, nullable=True),
        field("tags", DataType.ARRAY, element_type=DataType.INT32, max_capacity=8),
        field("group", DataType.INT64, is_partition_key=True, default_value=0),
        dynamic=True,
        auto_id=True,
    )
    assert SCHEMA_COLUMNS == ("field", "type", "limits", "notes")
    assert describe_fields(schema) == [
        ("id", "INT64", "", "primary key, auto_id"),
        ("vector", "FLOAT_VECTOR", "dim 4", ""),
        ("title", "VARCHAR", "up to 200 bytes", "nullable"),
        ("tags", "ARRAY of INT32", "up to 8 elements", ""),
        ("group", "INT64", "", "partition key, has a default"),
        ("$meta", "JSON", "", "dynamic fields: whatever else a row has"),
    ]


class TestAgainstMilvus:
    """What Milvus describes is read like the schema that it was made from."""

    def test_the_description_of_a_collection_is_as_good_as_its_schema(self, milvus):
        client, name = milvus.client, "schema_described"
        schema = make_schema(
            field("n", DataType.INT8),
            field("title", DataType.VARCHAR, max_length=10),
            field("doc", DataType.JSON),
            field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=2),
            dynamic=True,
        )
        client.create_collection(name, schema=schema, timeout=30)
        described = client.describe_collection(name)
        assert describe_fields(described) == describe_fields(schema)
        good = {"id": 0, "vector": VECTOR, "n": 1, "title": "x", "doc": {}, "tags": [1], "free": 1}
        rows = [
            good,
            {**good, "id": 1, "n": 200, "vector": [1.0]},
            {**good, "id": 2, "title": "가나다라", "doc": [1], "tags": [1, 2, 3]},
            {**good, "id": 0, "free": NAN},
            {"id": 4},
        ]
        problems = check_rows(schema, rows)
        assert [(p.row, p.field) for p in problems[:5]] == [
            (1, "vector"),
            (1, "n"),
            (2, "title"),
            (2, "doc"),
            (2, "tags"),
        ]
        assert check_rows(described, rows) == problems
        assert check_rows(described, [good]) == []

    def test_keys_made_by_milvus_are_seen_in_the_description(self, milvus):
        milvus.client.create_collection(
            "schema_auto_id", schema=make_schema(auto_id=True), timeout=30
        )
        described = milvus.client.describe_collection("schema_auto_id")
        assert describe_fields(described)[0] == ("id", "INT64", "", "primary key, auto_id")
        assert check_rows(described, [{"vector": VECTOR}]) == []
        (found,) = check_rows(described, [{"id": 1, "vector": VECTOR}])
        assert found.problem == "given, but Milvus (auto_id) makes it"

    def test_max_length_counts_bytes(self, milvus):
        """In Milvus. Milvus Lite counts characters; the check goes by the stricter rule."""
        client, name = milvus.client, "schema_bytes"
        schema = make_schema(field("title", DataType.VARCHAR, max_length=10))
        client.create_collection(name, schema=schema, timeout=30)
        fits, does_not = {"id": 1, "vector": VECTOR, "title": "가나다"}, "가나다라"
        assert check_rows(schema, [fits]) == []
        assert client.insert(name, [fits], timeout=30)["insert_count"] == 1
        row = {"id": 2, "vector": VECTOR, "title": does_not}
        (found,) = check_rows(schema, [row])
        assert found.problem.startswith("12 bytes of UTF-8 (4 characters)")
        if milvus.kind == "lite":
            assert client.insert(name, [row], timeout=30)["insert_count"] == 1
        else:
            with pytest.raises(MilvusException, match=r"exceeds max length"):
                client.insert(name, [row], timeout=30)

    def test_json_of_the_largest_size(self, milvus):
        client, name = milvus.client, "schema_json"
        schema = make_schema(field("doc", DataType.JSON))
        client.create_collection(name, schema=schema, timeout=30)
        largest = {"a": "x" * (MAX_JSON_BYTES - len('{"a":""}'))}
        row = {"id": 1, "vector": VECTOR, "doc": largest}
        assert check_rows(schema, [row]) == []
        assert client.insert(name, [row], timeout=30)["insert_count"] == 1
        (found,) = check_rows(schema, [{**row, "doc": {"a": largest["a"] + "x"}}])
        assert found.problem == "65,537 bytes of JSON, Milvus takes 65,536"


# Valid values of each type that both Milvus Lite and a server store

FINITE_32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE_32 | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
VECTORS = st.lists(FINITE_32, min_size=4, max_size=4)
VALUES = {
    "vector": st.one_of(
        VECTORS,
        VECTORS.map(lambda v: np.array(v, "f4")),
        VECTORS.map(lambda v: np.array(v, "f8")),
        VECTORS.map(tuple),
    ),
    "flag": st.booleans(),
    "tiny": st.integers(-128, 127),
    "small": st.integers(-(2**15), 2**15 - 1),
    "medium": st.integers(-(2**31), 2**31 - 1),
    "large": st.integers(-(2**63), 2**63 - 1).map(np.int64) | st.integers(-(2**63), 2**63 - 1),
    "single": FINITE_32 | st.integers(-(2**24), 2**24),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "text": TEXT,
    "doc": st.dictionaries(TEXT, JSON_VALUES, max_size=3),
    "numbers": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    "words": st.lists(TEXT, max_size=3) | st.lists(TEXT, max_size=3).map(tuple),
}


def generated_schema():
    return make_schema(
        field("flag", DataType.BOOL),
        field("tiny", DataType.INT8),
        field("small", DataType.INT16),
        field("medium", DataType.INT32),
        field("large", DataType.INT64),
        field("single", DataType.FLOAT),
        field("double", DataType.DOUBLE),
        field("text", DataType.VARCHAR, max_length=48),
        field("doc", DataType.JSON),
        field("numbers", DataType.ARRAY, element_type=DataType.INT64, max_capacity=3),
        field(
            "words",
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=3,
            max_length=48,
        ),
    )


BATCHES = st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=3).map(
    lambda rows: [{"id": n, **row} for n, row in enumerate(rows)]
)


@settings(deadline=None, max_examples=200)
@given(rows=BATCHES)
def test_valid_rows_are_never_refused(rows):
    assert texts(check_rows(generated_schema(), rows)) == []


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=BATCHES)
def test_what_passes_is_taken_by_milvus(generated_collection, rows):
    client, name = generated_collection.client, generated_collection.name
    assert check_rows(client.describe_collection(name), rows) == []
    assert client.insert(name, rows, timeout=30)["insert_count"] == len(rows)


@pytest.fixture
def generated_collection(client):
    client.create_collection("schema_generated", schema=generated_schema(), timeout=30)
    return SimpleNamespace(client=client, name="schema_generated")


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.lists(st.floats() | st.integers() | st.none() | st.text(max_size=2), max_size=5),
    st.lists(st.floats(), min_size=4, max_size=4).map(np.array),
    st.lists(st.floats(width=32), min_size=4, max_size=4).map(lambda v: np.array(v, "f4")),
    st.dictionaries(st.text(max_size=3) | st.integers(), st.floats() | st.text(), max_size=3),
    *VALUES.values(),
)


@settings(deadline=None, max_examples=500)
@given(data=st.data())
def test_the_quick_check_passes_only_what_the_thorough_one_passes(data):
    schema = generated_schema().to_dict()["fields"]
    rule = _field(data.draw(st.sampled_from(schema)), False, False)
    own = VALUES.get(rule.name, st.integers())
    column = data.draw(st.lists(ANYTHING | own, min_size=1, max_size=3))
    if column_is_fine(rule, column):
        assert [value_trouble(rule, value) for value in column] == [None] * len(column)
