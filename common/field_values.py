"""Whether a value fits its field: each type of Milvus with its ranges, sizes and traps.

`common.schema` applies this to the rows of a batch: to whole columns first, and value by value
where a column is not surely fine.
"""

import math
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import orjson
from pymilvus import DataType

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
INTEGERS = (int, np.int8, np.int16, np.int32, np.int64, *_UNSIGNED)
_NUMBERS = (*INTEGERS, float, np.float16, np.float32, np.float64)
_FLOAT_DTYPES = {np.dtype(np.float32), np.dtype(np.float64)}
# name of the NumPy type, bits of its exponent, largest number
_HALF = {
    DataType.FLOAT16_VECTOR: ("float16", 0x7C00, 65_504.0),
    DataType.BFLOAT16_VECTOR: ("bfloat16", 0x7F80, MAX_FLOAT32),
}
_MAX_JSON_DEPTH = 250  # orjson, with which pymilvus writes JSON, stops a little later


class Trouble(NamedTuple):
    """What is wrong with a value and what to do about it."""

    problem: str
    hint: str


@dataclass(frozen=True)
class Field:
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


# Columns: quick checks of the usual case. False only means that the values must be looked at.


def column_is_fine(field: Field, column: list) -> bool:
    """Whether all values of a column are surely fine."""
    kinds = set(map(type, column))
    try:
        if field.dtype in _INTEGER_BITS:
            low, high = _integer_range(field.dtype)
            return kinds.issubset(INTEGERS) and low <= min(column) and max(column) <= high
        if field.dtype == DataType.BOOL:
            return kinds == {bool}
        if field.dtype in (DataType.FLOAT, DataType.DOUBLE):
            return kinds.issubset(_NUMBERS) and math.hypot(*column) <= MAX_FLOAT32
        if field.dtype in _TEXTS:
            return kinds == {str} and _texts_are_fine(field, column)
        if field.dtype == DataType.JSON:
            return kinds == {dict} and all(map(json_is_fine, column))
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


def _texts_are_fine(field: Field, column: list[str]) -> bool:
    size = max(map(len, column))
    if not all(map(str.isascii, column)):
        size = max(len(text.encode()) for text in column)
    return field.max_length is None or size <= field.max_length


def _integer_range(dtype: DataType) -> tuple[int, int]:
    bits = _INTEGER_BITS[dtype]
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


# Single values


def value_trouble(field: Field, value: object) -> Trouble | None:
    """What is wrong with one value; None if nothing is."""
    if value is None:
        hint = "give a value: the field is not nullable and has no default"
        return None if field.optional else Trouble("None", hint)
    if field.dtype in _INTEGER_BITS:
        return _integer_trouble(field, value)
    if field.dtype in _TEXTS:
        return _text_trouble(field, value)
    check = _CHECKS.get(field.dtype)
    return check(field, value) if check else None


def _integer_trouble(field: Field, value: object) -> Trouble | None:
    if not isinstance(value, INTEGERS) or isinstance(value, bool):
        return Trouble(f"{shown(value)} instead of a whole number", "give an int")
    low, high = _integer_range(field.dtype)
    if not low <= value <= high:
        hint = f"{field.dtype.name} holds {low} to {high}"
        return Trouble(f"{short(value)} is out of range", hint)
    return None


def _float_trouble(field: Field, value: object) -> Trouble | None:
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        return Trouble(f"{shown(value)} instead of a number", "give a float")
    return _number_trouble(value, MAX_FLOAT32 if field.dtype == DataType.FLOAT else math.inf)


def _number_trouble(value: object, limit: float) -> Trouble | None:
    """What is wrong with a number for a field that holds finite numbers up to `limit`."""
    try:
        size = math.hypot(value)
    except TypeError:
        return Trouble(f"{shown(value)} is no number", "give a float")
    except OverflowError:
        size = math.inf
    if math.isnan(size):
        return Trouble("NaN", "leave the row out, or find out where the number got lost")
    if size > limit or math.isinf(size):
        problem = "infinity" if math.isinf(size) else f"{short(value)} is too large"
        return Trouble(problem, f"numbers here go up to {min(limit, MAX_FLOAT64):.3g}")
    return None


def _bool_trouble(_: Field, value: object) -> Trouble | None:
    if isinstance(value, (bool, np.bool_)):
        return None
    return Trouble(f"{shown(value)} instead of True or False", "give a bool")


def _text_trouble(field: Field, value: object) -> Trouble | None:
    if not isinstance(value, str):
        return Trouble(f"{shown(value)} instead of a text", "give a str")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        return _surrogate(value, error)
    if field.max_length is not None and size > field.max_length:
        return Trouble(
            f"{size:,} bytes of UTF-8 ({counted(len(value), 'character')}), "
            f"max_length is {field.max_length:,}",
            "shorten the text or make the collection with a larger max_length: it counts bytes",
        )
    return None


def _surrogate(text: str, error: UnicodeEncodeError) -> Trouble:
    return Trouble(
        f"{short(text)} holds half a surrogate pair at position {error.start}",
        "decode the source with the right encoding: this is no Unicode text",
    )


def _array_trouble(field: Field, value: object) -> Trouble | None:
    if not isinstance(value, (list, tuple)) and not (_is_array(value) and value.ndim == 1):
        return Trouble(f"{shown(value)} instead of a list", "give a list")
    if field.max_capacity is not None and len(value) > field.max_capacity:
        hint = "shorten the list or make the collection with a larger max_capacity"
        return Trouble(f"{len(value):,} elements, max_capacity is {field.max_capacity:,}", hint)
    element = Field(field.name, field.element_type, max_length=field.max_length)
    for position, item in enumerate(value.tolist() if _is_array(value) else value):
        trouble = value_trouble(element, item)
        if trouble:
            hint = "an ARRAY has no empty places" if item is None else trouble.hint
            return Trouble(f"element {position}: {trouble.problem}", hint)
    return None


def _struct_trouble(_: Field, value: object) -> Trouble | None:
    if isinstance(value, dict):
        return None
    return Trouble(f"{shown(value)} instead of a struct", "give a dict")


# Vectors


def _float_vector_trouble(field: Field, value: object) -> Trouble | None:
    if _is_array(value) and value.dtype not in _FLOAT_DTYPES:
        return Trouble(f"an array of {value.dtype}", "convert it: vector.astype('float32')")
    trouble = _shape_trouble(field, value)
    if trouble or column_is_fine(field, [value]):
        return trouble
    return _numbers_trouble(value, MAX_FLOAT32)


def _shape_trouble(field: Field, value: object) -> Trouble | None:
    """What is wrong with the kind or length of a vector that is an array or a list."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        hint = "give a NumPy array or a list of numbers"
        return Trouble(f"{shown(value)} instead of a vector", hint)
    if _is_array(value) and value.ndim != 1:
        hint = "give one vector a row, for example vectors[0]"
        return Trouble(f"an array of shape {value.shape} instead of ({field.dim},)", hint)
    return _length_trouble(field, len(value))


def _length_trouble(field: Field, length: int) -> Trouble | None:
    if length == field.dim:
        return None
    hint = "does the vector come from the model that the collection was made for?"
    return Trouble(f"{counted(length, 'dimension')} instead of {field.dim:,}", hint)


def _numbers_trouble(values: Iterable, limit: float) -> Trouble | None:
    for position, number in enumerate(values):
        trouble = _number_trouble(number, limit)
        if trouble:
            return Trouble(f"{trouble.problem} at position {position}", trouble.hint)
    return None


def _bytes_trouble(size: int, expected: int, dim: int, hint: str) -> Trouble | None:
    if size == expected:
        return None
    return Trouble(f"{size:,} bytes instead of {expected:,} for {dim:,} dimensions", hint)


def _binary_vector_trouble(field: Field, value: object) -> Trouble | None:
    hint = "eight dimensions are one byte: numpy.packbits(bits, bitorder='little') packs them"
    bytes_of_array = _is_array(value) and value.dtype == np.uint8 and value.ndim == 1
    bytes_of_list = isinstance(value, (list, tuple)) and all(
        isinstance(item, INTEGERS) and 0 <= item <= 255 for item in value
    )
    if not isinstance(value, (bytes, bytearray)) and not bytes_of_array and not bytes_of_list:
        return Trouble(f"{shown(value)} instead of bytes", hint)
    return _bytes_trouble(len(value), field.dim // 8, field.dim, hint)


def _int8_vector_trouble(field: Field, value: object) -> Trouble | None:
    if isinstance(value, bytes):
        hint = "one dimension is one byte"
        return _bytes_trouble(len(value), field.dim, field.dim, hint)
    if not _is_array(value) or value.dtype != np.int8:
        return Trouble(f"{shown(value)} instead of int8", "give numpy.array(vector, 'int8')")
    return _shape_trouble(field, value)


def _half_vector_trouble(field: Field, value: object) -> Trouble | None:
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
        return Trouble(f"an array of {value.dtype}", f"convert it: vector.astype('{name}')")
    else:
        return _shape_trouble(field, value) or _numbers_trouble(value, limit)
    if trouble:
        return trouble
    # All bits of the exponent are set in NaN and infinity, and in nothing else.
    (broken,) = np.nonzero((bits & exponent) == exponent)
    if broken.size:
        return Trouble(f"NaN or infinity at position {broken[0]}", "look at how it was converted")
    return None


def _sparse_vector_trouble(_: Field, value: object) -> Trouble | None:
    pairs = _sparse_pairs(value)
    if pairs is None:
        hint = "give a dict from index to weight, such as {7: 0.5}"
        return Trouble(f"{shown(value)} instead of a sparse vector", hint)
    seen = set()
    for index, weight in pairs:
        if not isinstance(index, INTEGERS) or isinstance(index, bool):
            return Trouble(f"the index {shown(index)} is no whole number", "give an int")
        if not 0 <= index <= MAX_SPARSE_INDEX or index in seen:
            problem = f"the index {index} stands twice" if index in seen else f"the index {index}"
            return Trouble(problem, f"an index is one of 0 to {MAX_SPARSE_INDEX}, once")
        seen.add(index)
        if not isinstance(weight, (float, np.floating)):
            hint = "write weights as floats: pymilvus takes 1.0 and not 1"
            return Trouble(f"the weight {shown(weight)} at index {index} is no float", hint)
        trouble = _number_trouble(weight, MAX_FLOAT32)
        if trouble:
            return Trouble(f"{trouble.problem} at index {index}", trouble.hint)
        if weight < 0:
            hint = "sparse vectors are compared by inner product of weights from 0 up"
            return Trouble(f"the weight {weight} at index {index} is negative", hint)
    if not any(np.float32(weight) for _, weight in pairs):
        hint = "leave the row out: a vector without a weight finds nothing"
        return Trouble("no weight above 0", hint)
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


def _json_field_trouble(_: Field, value: object) -> Trouble | None:
    """A JSON field takes an object: some Milvus take other values too, none takes less."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except ValueError:
            problem = f"{shown(value)} is no JSON, and a str here is taken for the text of a JSON"
            return Trouble(problem, "give a dict")
    if not isinstance(value, dict):
        hint = 'put it into an object, such as {"value": ...}'
        return Trouble(f"{shown(value)} instead of a JSON object", hint)
    trouble = json_trouble(value)
    if trouble is None and (size := json_size(value)) > MAX_JSON_BYTES:
        trouble = json_too_large(size)
    return trouble


def json_is_fine(value: dict) -> bool:
    """Whether an object can surely be stored, and comes back as it was."""
    try:
        text = orjson.dumps(value)
    except (TypeError, RecursionError):
        return False
    # NaN and infinity would silently become null.
    return len(text) <= MAX_JSON_BYTES and b"null" not in text


def json_trouble(value: object, path: str = "") -> Trouble | None:
    """The first thing in `value` that cannot be written as JSON, or would change by it."""
    waiting = [(path, value, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        if depth > _MAX_JSON_DEPTH:
            return Trouble(f"more than {_MAX_JSON_DEPTH} levels deep", "make it flatter")
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, (list, tuple)):
            parts = [(f"{path}[{i}]", item, depth + 1) for i, item in enumerate(value)]
            waiting += reversed(parts)
        elif isinstance(value, dict):
            for name, item in value.items():
                where = f"{path}.{name}" if path else str(name)
                if not isinstance(name, str):
                    return Trouble(f"the key {shown(name)} is no text", "keys in JSON are texts")
                waiting += [(where, name, depth), (where, item, depth + 1)]
        # pymilvus does not look for NumPy values inside a tuple.
        if not isinstance(value, (dict, list)) and (why := _json_leaf_trouble(value)):
            return Trouble(f"{path}: {why.problem}" if path else why.problem, why.hint)
    return None


def _json_leaf_trouble(value: object) -> Trouble | None:
    if isinstance(value, (float, np.floating)):
        hint = "write None for a number that is not known"
        return None if math.isfinite(value) else Trouble(f"{value} does not exist in JSON", hint)
    if isinstance(value, (int, np.integer, np.bool_)):
        fits = -(2**63) <= value < 2**64
        return None if fits else Trouble(f"{short(value)} is no 64-bit number", "write a text")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return _surrogate(value, error)
    try:
        orjson.dumps(value)
    except (TypeError, RecursionError):
        hint = "JSON has texts, numbers, true, false, null, lists and objects"
        return Trouble(f"{shown(value)} cannot be written as JSON", hint)
    return None


def json_size(value: dict) -> int:
    """The bytes of an object in which `json_trouble()` found nothing."""
    return len(orjson.dumps(value, default=lambda item: item.tolist()))  # NumPy arrays and scalars


def json_too_large(size: int) -> Trouble:
    """What is wrong with JSON of so many bytes."""
    problem = f"{size:,} bytes of JSON, Milvus takes {MAX_JSON_BYTES:,}"
    return Trouble(problem, "keep large texts in a VARCHAR field or outside of Milvus")


_CHECKS: dict[DataType, Callable[[Field, object], Trouble | None]] = {
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


def shown(value: object) -> str:
    """A value with its type, in a few words."""
    if _is_array(value):
        return f"an array of {value.dtype} of shape {value.shape}"
    return f"{short(value)} ({type(value).__name__})"


def short(value: object) -> str:
    """A value in a few words."""
    return " ".join(reprlib.repr(value).split())


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
