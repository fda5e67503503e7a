"""One digest for each row and one for all rows, whatever their order.

The digest of a row is BLAKE2b of its values, in 16 bytes; that of a set of rows is the sum of
theirs modulo 2^128. So it can be computed page by page, in any order, and added up; rows that are
missing, there twice or changed by a bit change it. A sum protects against accidents, not against
somebody who makes up rows on purpose (Bellare and Micciancio, 1997, show how such sums are broken).
"""

import struct
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import pyarrow as pa

SIZE = 16  # bytes of a digest
_MODULUS = 1 << (8 * SIZE)
_NULL = b"\xff" * 8  # no value has this length


def row_digests(batch: pa.RecordBatch) -> list[bytes]:
    """The digest of each row: of the names, types and values of its columns, in order of names.

    Two batches agree where they hold the same values, however they came to be: from Milvus or
    from a file.
    """
    hashes = [blake2b(digest_size=SIZE) for _ in range(batch.num_rows)]
    for name in sorted(batch.schema.names):
        column = batch.column(name)
        head = f"{name}\0{_kind(column.type)}\0".encode()
        for state, value in zip(hashes, _bytes_of(column), strict=True):
            size = _NULL if value is None else struct.pack("<Q", len(value))
            state.update(head + size)
            if value is not None:
                state.update(value)
    return [state.digest() for state in hashes]


def add_digests(digests: Iterable[bytes], start: int = 0) -> int:
    """The sum of digests, below 2^128, to go on with."""
    return (start + sum(int.from_bytes(digest, "big") for digest in digests)) % _MODULUS


def as_text(total: int) -> str:
    """A sum of digests in 32 hexadecimal digits."""
    return f"{total:0{2 * SIZE}x}"


def _kind(type_: pa.DataType) -> str:
    # How the parts of a list are called differs between what Parquet gives and what it was given.
    if pa.types.is_map(type_):
        return f"map<{type_.key_type}, {type_.item_type}>"
    if pa.types.is_fixed_size_list(type_):
        return f"{type_.list_size} x {type_.value_type}"
    if pa.types.is_list(type_):
        return f"list<{type_.value_type}>"
    return str(type_)


def _bytes_of(column: pa.Array) -> list[bytes | None]:
    """The bytes of each value; None for null."""
    type_ = column.type
    if pa.types.is_fixed_size_list(type_) and not column.null_count:
        numbers = column.flatten().to_numpy(zero_copy_only=False)
        return [row.tobytes() for row in numbers.reshape(len(column), type_.list_size)]
    if (pa.types.is_integer(type_) or pa.types.is_floating(type_)) and not column.null_count:
        return [number.tobytes() for number in column.to_numpy(zero_copy_only=False)]
    return [None if value is None else _encode(value, type_) for value in column.to_pylist()]


def _encode(value: object, type_: pa.DataType) -> bytes:
    """The bytes of one Python value of a column of this type."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if pa.types.is_map(type_):
        keys = np.array([key for key, _ in value], np.uint32)
        return keys.tobytes() + np.array([number for _, number in value], np.float32).tobytes()
    if pa.types.is_fixed_size_list(type_):
        return np.array(value, type_.value_type.to_pandas_dtype()).tobytes()
    if isinstance(value, list):
        parts = [_encode(part, type_.value_type) for part in value]
        return b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    return np.array(value, type_.to_pandas_dtype()).tobytes()
