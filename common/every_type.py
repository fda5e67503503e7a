"""A collection with a field of each type that a Milvus has, and rows that fill it.

What is copied, sent on or converted is tried on it: whoever forgets a type shows here.
"""

from collections.abc import Callable, Iterator

from common.vectors import clustered_vectors

import numpy as np
from numpy.typing import NDArray
from pymilvus import CollectionSchema, DataType, MilvusClient

PLAIN = ("bool", "int8", "int16", "int32", "double", "json")
INDEXES = {
    "BINARY_VECTOR": ("BIN_FLAT", "HAMMING", {}),
    "FLOAT_VECTOR": ("HNSW", "COSINE", {"M": 8, "efConstruction": 64}),
}
_BLOCK = 10_000  # rows whose vectors are drawn at once
_TEXTS = ("안녕하세요 👋", 'a "quoted" \\ path', "", "plain words")
_SHAPES = ("POINT (126.978 37.5665)", "POLYGON ((0 0, 4 0, 4 4, 0 0))")


def every_type_schema(
    client: MilvusClient,
    can: Callable[[str], object],
    dimension: int,
    *,
    text_key: bool = False,
    vector: str = "FLOAT_VECTOR",
) -> CollectionSchema:
    """A schema with every type for which `can(name)` is true, a version, and dynamic fields.

    Args:
        client: any.
        can: such as `milvus.can`, or a function that asks two Milvus.
        dimension: of the vector; a multiple of 8.
        text_key: a VARCHAR as primary key instead of an INT64.
        vector: the type of the vector.
    """
    schema = client.create_schema(enable_dynamic_field=True)
    kind = (
        {"datatype": DataType.VARCHAR, "max_length": 64}
        if text_key
        else {"datatype": DataType.INT64}
    )
    schema.add_field("id", is_primary=True, **kind)
    schema.add_field("vector", DataType[vector], dim=dimension)
    schema.add_field("version", DataType.INT64)
    for name in PLAIN:
        schema.add_field(name, DataType[name.upper()])
    schema.add_field("float", DataType.FLOAT, default_value=0.5)
    schema.add_field("text", DataType.VARCHAR, max_length=200, default_value="unknown")
    array = {"datatype": DataType.ARRAY, "max_capacity": 4}
    schema.add_field("words", **array, element_type=DataType.VARCHAR, max_length=40)
    schema.add_field("numbers", **array, element_type=DataType.FLOAT)
    if can("nullable"):
        schema.add_field("maybe", DataType.INT64, nullable=True)
    for name in ("geometry", "timestamptz"):
        if can(name.upper()):
            schema.add_field(name, DataType[name.upper()])
    if can("SPARSE_FLOAT_VECTOR") and can("several_vector_fields"):
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    return schema


def every_type_row(
    schema: CollectionSchema, number: int, vector: NDArray[np.float32], version: int
) -> dict[str, object]:
    """A row for such a schema; the same number gives the same row, but for vector and version."""
    names = {field.name: field.dtype for field in schema.fields}
    low = number % 251 - 125
    row = {
        # In no order of insertion, and with what has to be quoted in a filter.
        "id": f"{number * 7919 % 100_003:06}-\"\\'키"
        if names["id"] == DataType.VARCHAR
        else number,
        "vector": vector,
        "version": version,
        "bool": number % 3 == 0,
        "int8": low,
        "int16": low * 257,
        "int32": low * 16_777_259,
        "double": number / 7,
        "float": number / 3,
        "json": {"a": [number, {"b": None}], "글": "x" * (number % 5), "big": 2**53 + number},
        "text": f"{_TEXTS[number % len(_TEXTS)]}{number % 11}",
        "words": [f"w{n}" for n in range(number % 4)],
        "numbers": [number / 9, -0.1][: number % 3],
        "maybe": None if number % 2 else number,
        "geometry": _SHAPES[number % 2],
        "timestamptz": f"20{number % 80 + 10}-03-01T09:30:00.{number % 1_000_000:06}+09:00",
        "sparse": {number % 9: 0.25, 100 + number: 1.5},
    }
    row = {name: value for name, value in row.items() if name in names}
    if names["vector"] == DataType.BINARY_VECTOR:
        row["vector"] = np.packbits(vector > 0, bitorder="little").tobytes()
    if number % 4:  # a dynamic field of rows that are not all alike
        row[f"extra_{number % 3}"] = {"n": number} if number % 2 else number
    return row


def every_type_rows(
    schema: CollectionSchema,
    count: int,
    dimension: int,
    *,
    start: int = 0,
    version: int | None = None,
) -> Iterator[dict[str, object]]:
    """`count` rows from the number `start` on; their version is `version`, or else their number.

    The vectors come in blocks, so that memory stays flat.
    """
    for first in range(start, start + count, _BLOCK):
        rows = min(_BLOCK, start + count - first)
        vectors = clustered_vectors(rows, dimension, seed=first + (version or 0))
        for number, vector in enumerate(vectors, start=first):
            yield every_type_row(schema, number, vector, number if version is None else version)
