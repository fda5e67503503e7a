"""What the schema of a collection says, and whether rows fit it: checked before anything is sent.

Milvus refuses a bad batch with the first thing that it finds, often without naming the row, and
some bad values it stores: NaN in a FLOAT field, say, or two rows with one primary key. Here all
problems of a batch are found at once, each with its row, its field and what to do about it.

The checks hold for every Milvus that the lessons run on. Where they differ, the stricter rule is
taken (max_length counts bytes as in Milvus, although Milvus Lite counts characters), so that what
passes here is accepted everywhere. What the checks leave to Milvus: the syntax of GEOMETRY and
TIMESTAMPTZ texts, and what is inside the elements of a STRUCT array.
"""

import difflib
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import orjson
from pymilvus import CollectionSchema, DataType

SCHEMA_COLUMNS = ("field", "type", "limits", "notes")

MAX_PROBLEMS_SHOWN = 10
MAX_JSON_BYTES = 65_536  # common.JSONMaxLength; the dynamic fields of a row count together
MAX_FLOAT32 = float(np.finfo(np.float32).max)
MAX_FLOAT64 = float(np.finfo(np.float64).max)
MAX_SPARSE_INDEX = 2**32 - 2  # 2^32 - 1 is reserved

_INTEGER_BITS = {
    DataType.INT8: 8,
    DataType.INT16: 16,
    DataType.INT32: 32,
    DataType.INT64: 64,
}
_TEXTS = {DataType.VARCHAR, DataType.TEXT, DataType.GEOMETRY, DataType.TIMESTAMPTZ}
_UNSIGNED = (np.uint8, np.uint16, np.uint32, np.uint64)
_INTEGERS = (int, np.int8, np.int16, np.int32, np.int64, *_UNSIGNED)
_NUMBERS = (*_INTEGERS, float, np.float16, np.float32, np.float64)
_FLOAT_DTYPES = {np.dtype(np.float32), np.dtype(np.float64)}
# name of the NumPy type, bits of its exponent, largest number
_HALF = {
    DataType.FLOAT16_VECTOR: ("float16", 0x7C00, 65_504.0),
    DataType.BFLOAT16_VECTOR: ("bfloat16", 0x7F80, MAX_FLOAT32),
}
_META = "$meta"  # where Milvus keeps the dynamic fields
_MAX_JSON_DEPTH = 250  # orjson, with which pymilvus writes JSON, stops a little later
_ABSENT = object()


@dataclass(frozen=True)
class RowProblem:
    """One thing that is wrong with one row; `field` is empty where the row as a whole is meant."""

    row: int
    field: str
    problem: str
    hint: str

    def __str__(self) -> str:
        where = f'row {self.row}, field "{self.field}"' if self.field else f"row {self.row}"
        return f"{where}: {self.problem}; {self.hint}"


class RowsRefused(ValueError):  # noqa: N818 - it reads as a sentence where it is raised
    """Rows that do not fit the schema. Nothing of the batch that holds them was sent.

    `problems` are all problems of that batch. `rows_stored` says how many rows, counted from the
    first of the whole load, were stored before that batch.
    """

    exit_code = 1  # the message is made for people: no traceback around it

    def __init__(self, problems: Sequence[RowProblem], rows_stored: int = 0) -> None:
        self.problems = list(problems)
        self.rows_stored = rows_stored
        count = len({problem.row for problem in problems})
        lines = [
            f"{_counted(len(self.problems), 'problem')} in {_counted(count, 'row')}; "
            "nothing of this batch was sent",
            *(f"  {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN]),
        ]
        if len(self.problems) > MAX_PROBLEMS_SHOWN:
            lines.append(f"  and {len(self.problems) - MAX_PROBLEMS_SHOWN:,} more")
        if rows_stored:
            lines.append(
                f"The {_counted(rows_stored, 'row')} before are stored: repair the rows above "
                f"and go on with start_at={rows_stored}."
            )
        super().__init__("\n".join(lines))


class _Trouble(NamedTuple):
    """What is wrong with a value and what to do about it."""

    problem: str
    hint: str


@dataclass(frozen=True)
class _Field:
    """What the checks need to know of a field."""

    name: str
    dtype: DataType
    dim: int = 0
    max_length: int | None = None  # bytes
    max_capacity: int | None = None
    element_type: DataType | None = None
    optional: bool = False  # None and no value at all are fine: nullable, or with a default
    made_by: str = ""  # who makes the value, if not the row: then rows must not have it
    is_primary: bool = False
    limits: str = ""
    notes: str = ""


@dataclass(frozen=True)
class _Plan:
    """A schema, read for the checks."""

    fields: dict[str, _Field]
    dynamic: bool

    @property
    def key(self) -> _Field | None:
        """The primary key, if rows carry it."""
        return next((f for f in self.fields.values() if f.is_primary and not f.made_by), None)


class _Batch:
    """Rows with their numbers, and what they have in each field that they may have."""

    def __init__(self, plan: _Plan, rows: Sequence[dict], numbers: Sequence[int]) -> None:
        self.plan, self.rows, self.numbers = plan, rows, numbers
        self.columns: dict[str, list] = {}
        self.is_complete = True  # whether all rows have all fields
        for field in plan.fields.values():
            if field.made_by:
                continue
            try:
                self.columns[field.name] = [row[field.name] for row in rows]
            except KeyError:
                self.columns[field.name] = [row.get(field.name, _ABSENT) for row in rows]
                self.is_complete = False

    @property
    def numbered(self) -> Iterable[tuple[int, dict]]:
        return zip(self.numbers, self.rows, strict=True)


def describe_fields(schema: CollectionSchema | Mapping) -> list[tuple[str, str, str, str]]:
    """The fields of a schema as rows of a table, in the order of SCHEMA_COLUMNS.

    `schema` is a CollectionSchema or what `client.describe_collection()` returns.
    """
    plan = _read(schema)
    rows = [(f.name, _type_name(f), f.limits, f.notes) for f in plan.fields.values()]
    if plan.dynamic:
        rows.append((_META, "JSON", "", "dynamic fields: whatever else a row has"))
    return rows


def check_rows(
    schema: CollectionSchema | Mapping,
    rows: Sequence[dict],
    *,
    first_row: int = 0,
    upsert: bool = False,
) -> list[RowProblem]:
    """All problems of a batch of rows, in the order of the rows; an empty list if there are none.

    Columns are checked as a whole, dense vectors with NumPy. Only a column in which that finds
    something is looked at value by value.

    Args:
        schema: a CollectionSchema, or what `client.describe_collection()` returns.
        rows: dicts from field name to value, as `client.insert()` takes them.
        first_row: the number of the first row; the problems are numbered from it.
        upsert: the rows are for an upsert. Its rows carry their primary keys also where the
            collection makes the keys of inserted rows itself (auto_id).
    """
    plan = _read(schema, upsert)
    if not rows:
        hint = "give at least one row; is the source empty, or was it read to its end before?"
        return [RowProblem(first_row, "", "there are no rows", hint)]
    numbers: Sequence[int] = range(first_row, first_row + len(rows))
    problems = _shape_problems(rows, numbers)
    if problems:
        dicts = [(n, row) for n, row in zip(numbers, rows, strict=True) if isinstance(row, dict)]
        numbers, rows = [n for n, _ in dicts], [row for _, row in dicts]
    batch = _Batch(plan, rows, numbers)
    for check in (_name_problems, _value_problems, _key_problems, _dynamic_problems):
        problems += check(batch)
    return sorted(problems, key=attrgetter("row"))


def require_rows(
    schema: CollectionSchema | Mapping,
    rows: Sequence[dict],
    first_row: int = 0,
    *,
    upsert: bool = False,
) -> None:
    """Raise RowsRefused where `check_rows()` finds a problem."""
    problems = check_rows(schema, rows, first_row=first_row, upsert=upsert)
    if problems:
        raise RowsRefused(problems)


# Reading a schema


def _read(schema: CollectionSchema | Mapping, upsert: bool = False) -> _Plan:
    """Read a CollectionSchema or the answer of describe_collection."""
    if isinstance(schema, CollectionSchema):
        schema = schema.to_dict()
    if not isinstance(schema, Mapping) or "fields" not in schema:
        raise TypeError(
            "schema is a CollectionSchema or what client.describe_collection() returns, "
            f"not {_shown(schema)}"
        )
    # Milvus 2.6 and later take keys in spite of auto_id where a property of the collection says so.
    takes_keys = str(schema.get("properties", {}).get("allow_insert_auto_id")).lower() == "true"
    fields = [_field(raw, upsert, takes_keys) for raw in schema["fields"]]
    structs = schema.get("struct_array_fields") or schema.get("struct_fields") or ()
    fields += [_struct_field(raw) for raw in structs]
    return _Plan({f.name: f for f in fields}, bool(schema.get("enable_dynamic_field")))


_LIMITS = {
    "dim": "dim {:,}",
    "max_length": "up to {:,} bytes",
    "max_capacity": "up to {:,} elements",
}


def _field(raw: Mapping, upsert: bool, takes_keys: bool) -> _Field:
    params = raw.get("params", {})
    numbers = {name: int(params[name]) for name in _LIMITS if params.get(name) not in (None, "")}
    auto_id, nullable = bool(raw.get("auto_id")), bool(raw.get("nullable"))
    has_default = raw.get("default_value") is not None
    made_by = "a function of the collection" if raw.get("is_function_output") else ""
    if auto_id and not upsert and not takes_keys:
        made_by = "Milvus (auto_id)"
    notes = {
        "primary key": raw.get("is_primary"),
        "auto_id": auto_id,
        "partition key": raw.get("is_partition_key"),
        "nullable": nullable,
        "has a default": has_default,
        "made by a function": raw.get("is_function_output"),
    }
    element_type = raw.get("element_type")
    return _Field(
        name=raw["name"],
        dtype=DataType(raw["type"]),
        element_type=DataType(element_type) if element_type else None,
        optional=nullable or has_default or (auto_id and not upsert),
        made_by=made_by,
        is_primary=bool(raw.get("is_primary")),
        limits=", ".join(_LIMITS[name].format(number) for name, number in numbers.items()),
        notes=", ".join(note for note, holds in notes.items() if holds),
        **numbers,
    )


def _struct_field(raw: Mapping) -> _Field:
    """An array of structs: a list of dicts. What is inside them is left to Milvus."""
    capacity = raw.get("max_capacity") or raw.get("params", {}).get("max_capacity")
    return _Field(
        name=raw["name"],
        dtype=DataType.ARRAY,
        element_type=DataType.STRUCT,
        max_capacity=int(capacity) if capacity else None,
        optional=bool(raw.get("nullable")),
        limits=_LIMITS["max_capacity"].format(int(capacity)) if capacity else "",
        notes=f"with {', '.join(part['name'] for part in raw.get('fields', ()))}",
    )


def _type_name(field: _Field) -> str:
    if field.dtype == DataType.ARRAY and field.element_type is not None:
        return f"ARRAY of {field.element_type.name}"
    return field.dtype.name


# Rows as a whole


def _shape_problems(rows: Sequence, numbers: Sequence[int]) -> list[RowProblem]:
    """Rows that are no dicts."""
    if set(map(type, rows)) == {dict}:
        return []
    hint = "a row is a dict from field name to value"
    return [
        RowProblem(number, "", f"{_shown(row)} instead of a dict", hint)
        for number, row in zip(numbers, rows, strict=True)
        if not isinstance(row, dict)
    ]


def _name_problems(batch: _Batch) -> list[RowProblem]:
    """Fields that rows lack, and fields that they must not have."""
    if batch.is_complete and set(map(len, batch.rows)) <= {len(batch.columns)}:
        return []  # all that they may have and nothing else
    plan, problems = batch.plan, []
    given = set(chain.from_iterable(batch.rows))
    unwanted = {name for name in given - batch.columns.keys() if not _is_dynamic(plan, name)}
    if unwanted:
        why = {name: _unwanted(plan, name) for name in unwanted}
        problems += [
            RowProblem(number, str(name), *why[name])
            for number, row in batch.numbered
            for name in row
            if name in unwanted
        ]
    hint = "give one in every row: the field is not nullable and has no default"
    for name, column in batch.columns.items():
        if not plan.fields[name].optional:
            problems += [
                RowProblem(number, name, "no value", hint)
                for number, value in zip(batch.numbers, column, strict=True)
                if value is _ABSENT
            ]
    return problems


def _is_dynamic(plan: _Plan, name: object) -> bool:
    """Whether a row may have `name` as a dynamic field."""
    taken = name in plan.fields or name == _META
    return plan.dynamic and isinstance(name, str) and not taken


def _unwanted(plan: _Plan, name: object) -> _Trouble:
    """Why a row must not have the field `name`."""
    if name in plan.fields:
        return _Trouble(f"given, but {plan.fields[name].made_by} makes it", "leave it out")
    if not isinstance(name, str):
        return _Trouble(f"{_shown(name)} is no name", "names of fields are texts")
    if name == _META:
        return _Trouble("the name is reserved", "put dynamic fields into the row itself")
    near = difflib.get_close_matches(name, plan.fields, n=1)
    hint = "leave it out, or make the collection with this field or with dynamic fields"
    return _Trouble(
        "the collection has no such field", f'did you mean "{near[0]}"?' if near else hint
    )


def _value_problems(batch: _Batch) -> list[RowProblem]:
    """Values that do not fit their field: the column at once, and one by one where need be."""
    problems = []
    for name, column in batch.columns.items():
        field = batch.plan.fields[name]
        if not _column_is_fine(field, column):
            problems += [
                RowProblem(number, name, *trouble)
                for number, value in zip(batch.numbers, column, strict=True)
                if value is not _ABSENT and (trouble := _value_trouble(field, value))
            ]
    return problems


def _key_problems(batch: _Batch) -> list[RowProblem]:
    """Primary keys that stand in the batch more than once."""
    key = batch.plan.key
    if key is None:
        return []
    column = batch.columns[key.name]
    if set(map(type, column)).issubset((str, *_INTEGERS)) and len(set(column)) == len(column):
        return []
    kind = str if key.dtype == DataType.VARCHAR else _INTEGERS
    hint = "give each key once: Milvus would keep both rows, or only the older one"
    problems, first = [], {}
    for number, value in zip(batch.numbers, column, strict=True):
        # What is no key, or missing, is told by the other checks.
        if isinstance(value, kind) and first.setdefault(value, number) != number:
            problem = f"the same primary key as row {first[value]}: {_short(value)}"
            problems.append(RowProblem(number, key.name, problem, hint))
    return problems


def _dynamic_problems(batch: _Batch) -> list[RowProblem]:
    """Dynamic fields that cannot be written as JSON, or that are too large together."""
    plan, problems = batch.plan, []
    if not plan.dynamic or set(chain.from_iterable(batch.rows)) <= plan.fields.keys():
        return []
    for number, row in batch.numbered:
        extras = {name: value for name, value in row.items() if _is_dynamic(plan, name)}
        if _json_is_fine(extras):
            continue
        troubles = {name: _json_trouble(value, name) for name, value in extras.items()}
        found = [RowProblem(number, name, *why) for name, why in troubles.items() if why]
        if not found and (size := _json_size(extras)) > MAX_JSON_BYTES:
            found = [RowProblem(number, _META, *_json_too_large(size))]
        problems += found
    return problems


# Columns: quick checks of the usual case. False only means that the values must be looked at.


def _column_is_fine(field: _Field, column: list) -> bool:
    """Whether all values of a column are surely fine."""
    kinds = set(map(type, column))
    try:
        if field.dtype in _INTEGER_BITS:
            low, high = _integer_range(field.dtype)
            return kinds.issubset(_INTEGERS) and low <= min(column) and max(column) <= high
        if field.dtype == DataType.BOOL:
            return kinds == {bool}
        if field.dtype in (DataType.FLOAT, DataType.DOUBLE):
            return kinds.issubset(_NUMBERS) and math.hypot(*column) <= MAX_FLOAT32
        if field.dtype in _TEXTS:
            return kinds == {str} and _texts_are_fine(field, column)
        if field.dtype == DataType.JSON:
            return kinds == {dict} and all(map(_json_is_fine, column))
        if field.dtype == DataType.FLOAT_VECTOR:
            return _float_vectors_are_fine(field.dim, kinds, column)
    except (TypeError, ValueError, OverflowError):
        return False  # a value is of no use: which one, the slow way finds out
    return False


def _float_vectors_are_fine(dim: int, kinds: set[type], column: list) -> bool:
    if kinds <= {np.ndarray, np.memmap}:
        if set(map(attrgetter("shape"), column)) != {(dim,)}:
            return False
        if not set(map(attrgetter("dtype"), column)) <= _FLOAT_DTYPES:
            return False
        block = np.concatenate(column)
        # NaN makes both comparisons false.
        return bool(block.min() >= -MAX_FLOAT32 and block.max() <= MAX_FLOAT32)
    if kinds <= {list, tuple}:
        # The length of a vector is not finite where one of its values is not, takes numbers only,
        # and is computed three times as fast as an array is made from a list.
        return set(map(len, column)) == {dim} and all(
            math.hypot(*vector) <= MAX_FLOAT32 for vector in column
        )
    return False


def _texts_are_fine(field: _Field, column: list[str]) -> bool:
    size = max(map(len, column))
    if not all(map(str.isascii, column)):
        size = max(len(text.encode()) for text in column)
    return field.max_length is None or size <= field.max_length


def _integer_range(dtype: DataType) -> tuple[int, int]:
    bits = _INTEGER_BITS[dtype]
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


# Single values


def _value_trouble(field: _Field, value: object) -> _Trouble | None:
    """What is wrong with one value; None if nothing is."""
    if value is None:
        hint = "give a value: the field is not nullable and has no default"
        return None if field.optional else _Trouble("None", hint)
    if field.dtype in _INTEGER_BITS:
        return _integer_trouble(field, value)
    if field.dtype in _TEXTS:
        return _text_trouble(field, value)
    check = _CHECKS.get(field.dtype)
    return check(field, value) if check else None


def _integer_trouble(field: _Field, value: object) -> _Trouble | None:
    if not isinstance(value, _INTEGERS) or isinstance(value, bool):
        return _Trouble(f"{_shown(value)} instead of a whole number", "give an int")
    low, high = _integer_range(field.dtype)
    if not low <= value <= high:
        hint = f"{field.dtype.name} holds {low} to {high}"
        return _Trouble(f"{_short(value)} is out of range", hint)
    return None


def _float_trouble(field: _Field, value: object) -> _Trouble | None:
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        return _Trouble(f"{_shown(value)} instead of a number", "give a float")
    return _number_trouble(value, MAX_FLOAT32 if field.dtype == DataType.FLOAT else math.inf)


def _number_trouble(value: object, limit: float) -> _Trouble | None:
    """What is wrong with a number for a field that holds finite numbers up to `limit`."""
    try:
        size = math.hypot(value)
    except TypeError:
        return _Trouble(f"{_shown(value)} is no number", "give a float")
    except OverflowError:
        size = math.inf
    if math.isnan(size):
        return _Trouble("NaN", "leave the row out, or find out where the number got lost")
    if size > limit or math.isinf(size):
        problem = "infinity" if math.isinf(size) else f"{_short(value)} is too large"
        return _Trouble(problem, f"numbers here go up to {min(limit, MAX_FLOAT64):.3g}")
    return None


def _bool_trouble(_: _Field, value: object) -> _Trouble | None:
    if isinstance(value, (bool, np.bool_)):
        return None
    return _Trouble(f"{_shown(value)} instead of True or False", "give a bool")


def _text_trouble(field: _Field, value: object) -> _Trouble | None:
    if not isinstance(value, str):
        return _Trouble(f"{_shown(value)} instead of a text", "give a str")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        return _surrogate(value, error)
    if field.max_length is not None and size > field.max_length:
        return _Trouble(
            f"{size:,} bytes of UTF-8 ({_counted(len(value), 'character')}), "
            f"max_length is {field.max_length:,}",
            "shorten the text or make the collection with a larger max_length: it counts bytes",
        )
    return None


def _surrogate(text: str, error: UnicodeEncodeError) -> _Trouble:
    return _Trouble(
        f"{_short(text)} holds half a surrogate pair at position {error.start}",
        "decode the source with the right encoding: this is no Unicode text",
    )


def _array_trouble(field: _Field, value: object) -> _Trouble | None:
    if not isinstance(value, (list, tuple)) and not (_is_array(value) and value.ndim == 1):
        return _Trouble(f"{_shown(value)} instead of a list", "give a list")
    if field.max_capacity is not None and len(value) > field.max_capacity:
        hint = "shorten the list or make the collection with a larger max_capacity"
        return _Trouble(f"{len(value):,} elements, max_capacity is {field.max_capacity:,}", hint)
    element = _Field(field.name, field.element_type, max_length=field.max_length)
    for position, item in enumerate(value.tolist() if _is_array(value) else value):
        trouble = _value_trouble(element, item)
        if trouble:
            hint = "an ARRAY has no empty places" if item is None else trouble.hint
            return _Trouble(f"element {position}: {trouble.problem}", hint)
    return None


def _struct_trouble(_: _Field, value: object) -> _Trouble | None:
    if isinstance(value, dict):
        return None
    return _Trouble(f"{_shown(value)} instead of a struct", "give a dict")


# Vectors


def _float_vector_trouble(field: _Field, value: object) -> _Trouble | None:
    if _is_array(value) and value.dtype not in _FLOAT_DTYPES:
        return _Trouble(f"an array of {value.dtype}", "convert it: vector.astype('float32')")
    trouble = _shape_trouble(field, value)
    if trouble or _column_is_fine(field, [value]):
        return trouble
    return _numbers_trouble(value, MAX_FLOAT32)


def _shape_trouble(field: _Field, value: object) -> _Trouble | None:
    """What is wrong with the kind or length of a vector that is an array or a list."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        hint = "give a NumPy array or a list of numbers"
        return _Trouble(f"{_shown(value)} instead of a vector", hint)
    if _is_array(value) and value.ndim != 1:
        hint = "give one vector a row, for example vectors[0]"
        return _Trouble(f"an array of shape {value.shape} instead of ({field.dim},)", hint)
    return _length_trouble(field, len(value))


def _length_trouble(field: _Field, length: int) -> _Trouble | None:
    if length == field.dim:
        return None
    hint = "does the vector come from the model that the collection was made for?"
    return _Trouble(f"{_counted(length, 'dimension')} instead of {field.dim:,}", hint)


def _numbers_trouble(values: Iterable, limit: float) -> _Trouble | None:
    for position, number in enumerate(values):
        trouble = _number_trouble(number, limit)
        if trouble:
            return _Trouble(f"{trouble.problem} at position {position}", trouble.hint)
    return None


def _bytes_trouble(size: int, expected: int, dim: int, hint: str) -> _Trouble | None:
    if size == expected:
        return None
    return _Trouble(f"{size:,} bytes instead of {expected:,} for {dim:,} dimensions", hint)


def _binary_vector_trouble(field: _Field, value: object) -> _Trouble | None:
    hint = "eight dimensions are one byte: numpy.packbits(bits, bitorder='little') packs them"
    bytes_of_array = _is_array(value) and value.dtype == np.uint8 and value.ndim == 1
    bytes_of_list = isinstance(value, (list, tuple)) and all(
        isinstance(item, _INTEGERS) and 0 <= item <= 255 for item in value
    )
    if not isinstance(value, (bytes, bytearray)) and not bytes_of_array and not bytes_of_list:
        return _Trouble(f"{_shown(value)} instead of bytes", hint)
    return _bytes_trouble(len(value), field.dim // 8, field.dim, hint)


def _int8_vector_trouble(field: _Field, value: object) -> _Trouble | None:
    if isinstance(value, bytes):
        hint = "one dimension is one byte"
        return _bytes_trouble(len(value), field.dim, field.dim, hint)
    if not _is_array(value) or value.dtype != np.int8:
        return _Trouble(f"{_shown(value)} instead of int8", "give numpy.array(vector, 'int8')")
    return _shape_trouble(field, value)


def _half_vector_trouble(field: _Field, value: object) -> _Trouble | None:
    """A FLOAT16 or BFLOAT16 vector: an array of that type, its bytes, or plain numbers."""
    name, exponent, limit = _HALF[field.dtype]
    if isinstance(value, bytes):
        hint = "one dimension is two bytes"
        trouble = _bytes_trouble(len(value), 2 * field.dim, field.dim, hint)
        bits = np.frombuffer(value, np.uint16) if trouble is None else None
    elif _is_array(value) and value.dtype.name == name:
        trouble = _shape_trouble(field, value)
        bits = np.ascontiguousarray(value).view(np.uint16) if trouble is None else None
    elif _is_array(value) and value.dtype not in _FLOAT_DTYPES:
        return _Trouble(f"an array of {value.dtype}", f"convert it: vector.astype('{name}')")
    else:
        return _shape_trouble(field, value) or _numbers_trouble(value, limit)
    if trouble:
        return trouble
    # All bits of the exponent are set in NaN and infinity, and in nothing else.
    (broken,) = np.nonzero((bits & exponent) == exponent)
    if broken.size:
        return _Trouble(f"NaN or infinity at position {broken[0]}", "look at how it was converted")
    return None


def _sparse_vector_trouble(_: _Field, value: object) -> _Trouble | None:
    pairs = _sparse_pairs(value)
    if pairs is None:
        hint = "give a dict from index to weight, such as {7: 0.5}"
        return _Trouble(f"{_shown(value)} instead of a sparse vector", hint)
    seen = set()
    for index, weight in pairs:
        if not isinstance(index, _INTEGERS) or isinstance(index, bool):
            return _Trouble(f"the index {_shown(index)} is no whole number", "give an int")
        if not 0 <= index <= MAX_SPARSE_INDEX or index in seen:
            problem = f"the index {index} stands twice" if index in seen else f"the index {index}"
            return _Trouble(problem, f"an index is one of 0 to {MAX_SPARSE_INDEX}, once")
        seen.add(index)
        if not isinstance(weight, (float, np.floating)):
            hint = "write weights as floats: pymilvus takes 1.0 and not 1"
            return _Trouble(f"the weight {_shown(weight)} at index {index} is no float", hint)
        trouble = _number_trouble(weight, MAX_FLOAT32)
        if trouble:
            return _Trouble(f"{trouble.problem} at index {index}", trouble.hint)
        if weight < 0:
            hint = "sparse vectors are compared by inner product of weights from 0 up"
            return _Trouble(f"the weight {weight} at index {index} is negative", hint)
    if not any(np.float32(weight) for _, weight in pairs):
        hint = "leave the row out: a vector without a weight finds nothing"
        return _Trouble("no weight above 0", hint)
    return None


def _sparse_pairs(value: object) -> list[tuple] | None:
    """Pairs of index and weight of a dict, a list of pairs or a row of a SciPy matrix."""
    if isinstance(value, dict):
        return list(value.items())
    if hasattr(value, "tocsr") and value.shape[0] == 1:
        row = value.tocsr()
        return list(zip(row.indices, row.data, strict=True))
    if isinstance(value, list) and all(isinstance(p, (tuple, list)) and len(p) == 2 for p in value):
        return [tuple(pair) for pair in value]
    return None


# JSON, as pymilvus writes it


def _json_field_trouble(_: _Field, value: object) -> _Trouble | None:
    """A JSON field takes an object: some Milvus take other values too, none takes less."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except ValueError:
            problem = f"{_shown(value)} is no JSON, and a str here is taken for the text of a JSON"
            return _Trouble(problem, "give a dict")
    if not isinstance(value, dict):
        hint = 'put it into an object, such as {"value": ...}'
        return _Trouble(f"{_shown(value)} instead of a JSON object", hint)
    trouble = _json_trouble(value)
    if trouble is None and (size := _json_size(value)) > MAX_JSON_BYTES:
        trouble = _json_too_large(size)
    return trouble


def _json_is_fine(value: dict) -> bool:
    """Whether an object can surely be stored, and comes back as it was."""
    try:
        text = orjson.dumps(value)
    except (TypeError, RecursionError):
        return False
    # NaN and infinity would silently become null.
    return len(text) <= MAX_JSON_BYTES and b"null" not in text


def _json_trouble(value: object, path: str = "") -> _Trouble | None:
    """The first thing in `value` that cannot be written as JSON, or would change by it."""
    waiting = [(path, value, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        if depth > _MAX_JSON_DEPTH:
            return _Trouble(f"more than {_MAX_JSON_DEPTH} levels deep", "make it flatter")
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, (list, tuple)):
            parts = [(f"{path}[{i}]", item, depth + 1) for i, item in enumerate(value)]
            waiting += reversed(parts)
        elif isinstance(value, dict):
            for name, item in value.items():
                where = f"{path}.{name}" if path else str(name)
                if not isinstance(name, str):
                    return _Trouble(f"the key {_shown(name)} is no text", "keys in JSON are texts")
                waiting += [(where, name, depth), (where, item, depth + 1)]
        # pymilvus does not look for NumPy values inside a tuple.
        if not isinstance(value, (dict, list)) and (why := _json_leaf_trouble(value)):
            return _Trouble(f"{path}: {why.problem}" if path else why.problem, why.hint)
    return None


def _json_leaf_trouble(value: object) -> _Trouble | None:
    if isinstance(value, (float, np.floating)):
        hint = "write None for a number that is not known"
        return None if math.isfinite(value) else _Trouble(f"{value} does not exist in JSON", hint)
    if isinstance(value, (int, np.integer, np.bool_)):
        fits = -(2**63) <= value < 2**64
        return None if fits else _Trouble(f"{_short(value)} is no 64-bit number", "write a text")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return _surrogate(value, error)
    try:
        orjson.dumps(value)
    except (TypeError, RecursionError):
        hint = "JSON has texts, numbers, true, false, null, lists and objects"
        return _Trouble(f"{_shown(value)} cannot be written as JSON", hint)
    return None


def _json_size(value: dict) -> int:
    """The bytes of an object in which `_json_trouble()` found nothing."""
    return len(orjson.dumps(value, default=lambda item: item.tolist()))  # NumPy arrays and scalars


def _json_too_large(size: int) -> _Trouble:
    problem = f"{size:,} bytes of JSON, Milvus takes {MAX_JSON_BYTES:,}"
    return _Trouble(problem, "keep large texts in a VARCHAR field or outside of Milvus")


_CHECKS: dict[DataType, Callable[[_Field, object], _Trouble | None]] = {
    DataType.BOOL: _bool_trouble,
    DataType.FLOAT: _float_trouble,
    DataType.DOUBLE: _float_trouble,
    DataType.JSON: _json_field_trouble,
    DataType.ARRAY: _array_trouble,
    DataType.STRUCT: _struct_trouble,
    DataType.FLOAT_VECTOR: _float_vector_trouble,
    DataType.BINARY_VECTOR: _binary_vector_trouble,
    DataType.INT8_VECTOR: _int8_vector_trouble,
    DataType.FLOAT16_VECTOR: _half_vector_trouble,
    DataType.BFLOAT16_VECTOR: _half_vector_trouble,
    DataType.SPARSE_FLOAT_VECTOR: _sparse_vector_trouble,
}


# How things are shown


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray)


def _shown(value: object) -> str:
    """A value with its type, in a few words."""
    if _is_array(value):
        return f"an array of {value.dtype} of shape {value.shape}"
    return f"{_short(value)} ({type(value).__name__})"


def _short(value: object) -> str:
    return " ".join(reprlib.repr(value).split())


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
