"""The data types of Milvus 3.0: what each holds, its limits, values to try, bytes on the way.

The limits are those that the documentation of Milvus 3.0 gives; which engine has a type stands in
`common.capabilities`. Engines check limits differently: Milvus Lite takes almost anything.
"""

import re
import reprlib
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from common.capabilities import Capability, feature
from common.display import bars, figure
from common.refusals import refusal
from common.vectors import from_bfloat16, pack_bits, to_bfloat16, to_float16
from common.workspace import OURS

import numpy as np
from numpy.typing import NDArray
from pymilvus import CollectionSchema, DataType, MilvusClient

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.figure import Figure

TYPE_COLUMNS = ("type", "holds", "bytes", "limits", "since", "Lite", "here")


@dataclass(frozen=True)
class TypeRow:
    """One data type.

    Attributes:
        name: as in `pymilvus.DataType`.
        group: scalars and vectors.
        holds: the values.
        size: the bytes of one value, without any index.
        limits: what a schema or a value must keep to.
        in_every: the release that brought a type that every Milvus here has; empty where the
            capability table has a row of this name, which then tells.
    """

    name: str
    group: Literal["scalar", "vector"]
    holds: str
    size: str
    limits: str = ""
    in_every: str = ""


_DIM = "dim 2 to 32,768"

DATA_TYPES = (
    TypeRow("BOOL", "scalar", "True, False", "1", in_every="2.0"),
    TypeRow("INT8", "scalar", "-128 to 127", "1", in_every="2.0"),
    TypeRow("INT16", "scalar", "-32,768 to 32,767", "2", in_every="2.0"),
    TypeRow("INT32", "scalar", "-2³¹ to 2³¹-1", "4", in_every="2.0"),
    TypeRow("INT64", "scalar", "-2⁶³ to 2⁶³-1", "8", "may be primary key", "2.0"),
    TypeRow("FLOAT", "scalar", "float32, 7 digits", "4", in_every="2.0"),
    TypeRow("DOUBLE", "scalar", "float64, 15 digits", "8", in_every="2.0"),
    TypeRow(
        "VARCHAR", "scalar", "text", "UTF-8", "max_length to 65,535; may be primary key", "2.1"
    ),
    TypeRow("TEXT", "scalar", "long text", "UTF-8", "needs Storage V3"),
    TypeRow("JSON", "scalar", "objects", "its text", "65,536 bytes"),
    TypeRow("ARRAY", "scalar", "scalars of a type", "the sum", "max_capacity to 4,096"),
    TypeRow("STRUCT", "scalar", "dicts of a schema", "the sum", "only inside an ARRAY"),
    TypeRow("GEOMETRY", "scalar", "shapes as WKT", "WKB", "Lite: POINT, POLYGON"),
    TypeRow("TIMESTAMPTZ", "scalar", "ISO 8601 times", "8", "microseconds, in UTC"),
    TypeRow("FLOAT_VECTOR", "vector", "float32, 7 digits", "4 × dim", _DIM),
    TypeRow("FLOAT16_VECTOR", "vector", "float16, 3 digits", "2 × dim", f"{_DIM}; to ±65,504"),
    TypeRow("BFLOAT16_VECTOR", "vector", "bfloat16, 2 digits", "2 × dim", _DIM),
    TypeRow("INT8_VECTOR", "vector", "-128 to 127", "1 × dim", _DIM),
    TypeRow("BINARY_VECTOR", "vector", "bits", "dim / 8", "dim 8 to 262,144 by 8"),
    TypeRow("SPARSE_FLOAT_VECTOR", "vector", "index → float32", "8 × set", "index 0 to 2³²-2"),
)

# What else pymilvus.DataType names, and why no field has it.
NO_FIELD_TYPES = {
    "NONE": "stands for no type",
    "UNKNOWN": "stands for a type that this pymilvus does not know",
    "STRING": "reserved, and refused by every Milvus: use VARCHAR",
    "_ARRAY_OF_VECTOR": "how the vectors in an ARRAY of STRUCT travel; you never write it",
    "_ARRAY_OF_STRUCT": "how an ARRAY of STRUCT travels; you never write it",
}


def type_table(can: Callable[[str], Capability]) -> list[tuple[str, ...]]:
    """The types as rows of a table with the columns TYPE_COLUMNS.

    `can` is that method of a connected `Milvus`; the last column is its answer.
    """
    rows = []
    for row in DATA_TYPES:
        where = (row.in_every, "yes", "yes")
        if not row.in_every:
            known = feature(row.name)
            where = (known.since, _yes(known.lite), _yes(bool(can(row.name))))
        rows.append((row.name, row.holds, row.size, row.limits, *where))
    return rows


def missing(
    can: Callable[[str], Capability], group: Literal["scalar", "vector"], *features: str
) -> dict[str, list[str]]:
    """The types of a group, and of `features`, that the connected Milvus lacks, by reason."""
    names = [row.name for row in DATA_TYPES if row.group == group and not row.in_every]
    by_reason: dict[str, list[str]] = {}
    for name in (*names, *features):
        able = can(name)
        if not able:
            by_reason.setdefault(able.reason, []).append(name)
    return by_reason


def _yes(able: bool) -> str:
    return "yes" if able else "–"


# Limits: one step too far

NOTHING = object()
"""Stands for a field that a row does not have at all."""

# What is tried: a field with its parameters and, where the schema is fine, a value for it.
_BEYOND: dict[str, tuple[DataType, dict[str, object], object]] = {
    "dim=1": (DataType.FLOAT_VECTOR, {"dim": 1}, NOTHING),
    "dim=32_769": (DataType.FLOAT_VECTOR, {"dim": 32_769}, NOTHING),
    "max_length=65_536": (DataType.VARCHAR, {"max_length": 65_536}, NOTHING),
    "max_capacity=4_097": (
        DataType.ARRAY,
        {"element_type": DataType.INT64, "max_capacity": 4_097},
        NOTHING,
    ),
    "7 letters, max_length=6": (DataType.VARCHAR, {"max_length": 6}, "letters"),
    "3 Korean letters, max_length=6": (DataType.VARCHAR, {"max_length": 6}, "가나다"),
    "128 in an INT8": (DataType.INT8, {}, 128),
    "65,537 bytes of JSON": (DataType.JSON, {}, {"a": "x" * 65_529}),
}


def one_step_too_far(
    client: MilvusClient, collection: str, *, timeout: float
) -> dict[str, tuple[str, str] | None]:
    """Break each limit with a schema or a row: what was tried, and the refusal or None.

    `collection` is a free name; a collection of that name is made, and dropped each time.
    """
    return {
        tried: _try_field(client, collection, *field, timeout=timeout)
        for tried, field in _BEYOND.items()
    }


def _try_field(
    client: MilvusClient,
    collection: str,
    data_type: DataType,
    options: dict[str, object],
    value: object,
    *,
    timeout: float,
) -> tuple[str, str] | None:
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("x", data_type, **options)
    if data_type != DataType.FLOAT_VECTOR:  # each collection needs a vector, and some take one
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    limits = {"timeout": timeout}
    answer = refusal(client.create_collection, collection, schema=schema, properties=OURS, **limits)
    if answer is None:
        if value is not NOTHING:
            row = {"id": 1, "x": value, "vector": [0.0, 1.0]}
            answer = refusal(client.insert, collection, [row], **limits)
        client.drop_collection(collection, timeout=timeout)
    return answer


# Values from the edge of each type, and whether they came back

DEFAULT = "unknown"
"""The default value of the field `default` of EDGES."""

EDGES: dict[str, tuple[object, object]] = {
    "bool": (False, True),
    "int8": (-128, 127),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "float": (0.1, 2**24 + 1),  # neither is a float32
    "double": (0.1, 1e308),
    "varchar": ("안녕하세요 👋", ""),
    "text": ("긴 글 " * 20_000, ""),  # more bytes than a VARCHAR takes
    "json": ({"a": [1, {"b": None}], "한국어": "글"}, {}),
    "array_varchar": (["한국어", "😀"], []),
    "array_float": ([0.1, 0.5], []),
    "array_struct": ([{"page": 1}, {"page": 2}], []),
    "geometry": ("POINT (126.978 37.5665)", "POLYGON ((0 0, 4 0, 4 4, 0 0))"),
    "timestamptz": ("2026-03-01T09:30:00+09:00", "1969-07-20T20:17:40.123456Z"),
    "nullable": (None, 7),
    "default": (NOTHING, "given"),
    "dynamic": ("red", {"rgb": [255, 0, 0]}),
}
"""Fields by name, each with the values of two rows; `dynamic` is in no schema."""


@dataclass(frozen=True)
class RoundTrip:
    """A value that went to Milvus and came back; `equal` is an answer of `equality()`."""

    field: str
    sent: object
    received: object
    equal: str

    def cells(self) -> tuple[str, str, str, str]:
        """The four as texts for a table, without the middle of what is long."""
        brief = reprlib.Repr()
        brief.maxstring = 40
        sent = "(left out)" if self.sent is NOTHING else brief.repr(self.sent)
        return self.field, sent, brief.repr(self.received), self.equal


def edge_rows(schema: CollectionSchema) -> list[dict[str, object]]:
    """Two rows, with the ids 0 and 1, of the EDGES of those fields that `schema` has."""
    names = {part.name for part in [*schema.fields, *schema.struct_fields]} | {"dynamic"}
    edges = {name: values for name, values in EDGES.items() if name in names}
    return [
        {"id": n} | {name: values[n] for name, values in edges.items() if values[n] is not NOTHING}
        for n in (0, 1)
    ]


def round_trips(sent: Sequence[dict], received: Sequence[dict]) -> list[RoundTrip]:
    """Compare the rows of `edge_rows()` with what came back, in the order of EDGES."""
    back = {row["id"]: row for row in received}
    trips = []
    for name in EDGES:
        if any(name in row for row in sent):
            for row in sent:
                value, got = row.get(name, NOTHING), back.get(row["id"], {}).get(name)
                trips.append(RoundTrip(name, value, got, equality(name, value, got)))
    return trips


def _wkt_parts(wkt: str) -> list[str | float]:
    """Words, brackets and numbers: the same for all ways to write a shape."""
    parts = re.findall(r"[A-Z]+|[(),]|[^\sA-Z(),][^\s(),]*", wkt.upper())
    return [part if part.isalpha() or part in "()," else float(part) for part in parts]


_CONVERSIONS: dict[str, tuple[str, Callable]] = {
    "float": ("as float32", np.float32),
    "array_float": ("as float32", lambda numbers: np.float32(numbers).tolist()),
    "geometry": ("same shape", _wkt_parts),
    "timestamptz": ("same time", datetime.fromisoformat),
}


def equality(name: str, sent: object, received: object) -> str:
    """In which sense the value of the field `name` of EDGES came back; "NO" where in none.

    "yes" is Python's ==. A FLOAT is equal as the nearest float32, a TIMESTAMPTZ as a point in
    time, a GEOMETRY as a shape, and a field that the row lacked if it has its default.
    """
    if sent is NOTHING:
        return "the default" if received == DEFAULT else "NO"
    if type(received) is type(sent) and received == sent:
        return "yes"
    how, convert = _CONVERSIONS.get(name, ("", lambda value: (type(value), value)))
    if received is None or sent is None:
        return "NO"
    return how if convert(sent) == convert(received) else "NO"


# Vectors as bytes and numbers


def word_counts(texts: Sequence[str]) -> list[dict[int, float]]:
    """Sparse vectors of length 1: from the number of a word to its share of the text.

    The words are numbered in alphabetical order, over all `texts`.
    """
    words = [Counter(re.findall("[a-z]+", text.lower())) for text in texts]
    number = {word: n for n, word in enumerate(sorted(set().union(*words)))}
    lengths = [sum(count**2 for count in counts.values()) ** 0.5 for counts in words]
    return [
        {number[word]: count / length for word, count in counts.items()}
        for counts, length in zip(words, lengths, strict=True)
    ]


def packed(vectors: NDArray[np.float32]) -> dict[str, list]:
    """The same vectors as pymilvus takes them for each dense type.

    Args:
        vectors: float32 of shape (n, dimension); the dimension is a multiple of 8.
    """
    # One scale for all vectors, so that cosines change by the rounding alone.
    whole = np.rint(vectors * (127 / np.abs(vectors).max())).astype(np.int8)
    signs = pack_bits(vectors > 0)  # eight dimensions to a byte
    return {
        "FLOAT_VECTOR": list(vectors),
        "FLOAT16_VECTOR": list(to_float16(vectors)),
        "BFLOAT16_VECTOR": [row.tobytes() for row in to_bfloat16(vectors)],
        "INT8_VECTOR": list(whole),
        "BINARY_VECTOR": [row.tobytes() for row in signs],
    }


def raw_bytes(vector: object) -> bytes:
    """The bytes of a vector as Milvus keeps them, from what pymilvus takes or gives.

    Takes a NumPy array, bytes, a list of floats, what a query gives for the types that pymilvus
    returns as bytes (a list with one `bytes`), and a sparse vector as a dict: 4 bytes for each
    index and 4 for its float32.
    """
    if isinstance(vector, dict):
        return b"".join(struct.pack("<If", index, vector[index]) for index in sorted(vector))
    if isinstance(vector, np.ndarray):
        return vector.tobytes()
    if isinstance(vector, bytes):
        return vector
    return vector[0] if isinstance(vector[0], bytes) else np.array(vector, "<f4").tobytes()


def numbers(data_type: str, vectors: Sequence[object]) -> NDArray[np.float32]:
    """The numbers that vectors of a type stand for, to compare them in NumPy.

    Bits become -1 and 1, so that their cosine orders them as their Hamming distance does; sparse
    vectors get a column for each index up to the largest.

    Args:
        data_type: such as "FLOAT16_VECTOR".
        vectors: as `raw_bytes()` takes them.

    Returns:
        float32 of shape (number of vectors, dimension).
    """
    if data_type == "SPARSE_FLOAT_VECTOR":
        dense = np.zeros((len(vectors), 1 + max(max(vector) for vector in vectors)), np.float32)
        for row, vector in zip(dense, vectors, strict=True):
            row[list(vector)] = list(vector.values())
        return dense
    rows = np.array([np.frombuffer(raw_bytes(vector), np.uint8) for vector in vectors])
    if data_type == "BINARY_VECTOR":
        return np.unpackbits(rows, axis=1, bitorder="little").astype(np.float32) * 2 - 1
    if data_type == "BFLOAT16_VECTOR":
        return from_bfloat16(rows.view("<u2"))
    dtype = {"FLOAT_VECTOR": "<f4", "FLOAT16_VECTOR": "<f2", "INT8_VECTOR": "i1"}[data_type]
    return rows.view(dtype).astype(np.float32)


def precision_chart(measured: Mapping[str, tuple[int, float, object]], measure: str) -> "Figure":
    """Two bars for each vector type: its share of the bytes, and of the neighbours, of the first.

    `measured` gives for each type the bytes of a vector, a recall named `measure`, and anything.
    """
    sizes = [size for size, *_ in measured.values()]
    recalls = [recall for _, recall, _ in measured.values()]
    names = [name.removesuffix("_VECTOR") for name in measured]
    drawing, axes = figure(
        "What fewer bytes cost in recall", "", f"share of {next(iter(measured))}"
    )
    groups = [f"{name}\n{size:,} bytes" for name, size in zip(names, sizes, strict=True)]
    series = {"bytes": [size / sizes[0] for size in sizes], measure: recalls}
    bars(axes, groups, series, "%.3f")
    axes.set(ylim=(0, 1.2), yticks=np.linspace(0, 1, 6))
    return drawing
