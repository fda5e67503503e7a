"""How a backup lies in its folder: Parquet files of rows, and a manifest that describes them all.

A backup is a folder with `manifest.json` and files `part-00000.parquet` and so on. While it is
being made there is `progress.json` in the place of the manifest, which is written last: a folder
without a manifest is no backup. Each file holds rows of one partition in the order of their keys.

Every type has a column that keeps its values exactly:

    BOOL, INT8 .. INT64, FLOAT, DOUBLE      the Arrow type of the same width
    VARCHAR, TEXT, GEOMETRY, TIMESTAMPTZ    string
    JSON, and the dynamic fields ($meta)    string: the JSON, with sorted keys
    ARRAY                                   list of its element's type
    FLOAT_VECTOR                            fixed-size list of float32
    FLOAT16, BFLOAT16, INT8, BINARY vector  fixed-size binary: the bytes
    SPARSE_FLOAT_VECTOR                     map from uint32 to float32, in order of the index
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from common.collection_description import Description
from common.data_types import raw_bytes
from common.object_storage import Storage

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = 1
MANIFEST = "manifest.json"
PROGRESS = "progress.json"
META = "$meta"  # where Milvus keeps the dynamic fields
ROWS_READ = 2_000  # of a file at once

_SCALARS = {
    "BOOL": pa.bool_(),
    "INT8": pa.int8(),
    "INT16": pa.int16(),
    "INT32": pa.int32(),
    "INT64": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "TEXT": pa.string(),
    "GEOMETRY": pa.string(),
    "TIMESTAMPTZ": pa.string(),
    "JSON": pa.string(),
}
_BYTES_OF_DIMENSION = {
    "FLOAT16_VECTOR": 2,
    "BFLOAT16_VECTOR": 2,
    "INT8_VECTOR": 1,
    "BINARY_VECTOR": 1 / 8,
}
_SPARSE = pa.map_(pa.uint32(), pa.float32())


class BackupRefused(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """What was asked cannot be done, and nothing was changed; the message says why."""

    exit_code = 2


class BackupDamaged(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """A backup is not what its manifest says; the message names the file."""

    exit_code = 1


@dataclass(frozen=True)
class Part:
    """One file of rows: of one partition, in the order of their keys."""

    name: str
    partition: str
    rows: int
    bytes: int
    sha256: str
    first_key: int | str
    last_key: int | str
    digest: str  # the sum of `row_digests()`, in hexadecimal digits


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        name: of its folder.
        milvus: where the rows came from, as in "Milvus Lite 3.2.2".
        begun, finished: in ISO 8601 and UTC; each row is as of a moment between the two.
        description: of `describe_whole()`, as of the begin.
        since_field, since: what this increment asked for: rows in which the field is `since` or
            more; both None in a whole backup without such a field.
        mark: the largest value of `since_field` before the first row was read.
        base: the backup on which this increment builds; empty for a whole one.
        base_digest: what the base's manifest gives as its `digest`.
        counted: what count(*) said at the begin and at the end.
        digest: the sum of the digests of all rows.
    """

    name: str
    milvus: str
    begun: str
    description: Description
    finished: str = ""
    parts: list[Part] = field(default_factory=list)
    since_field: str | None = None
    since: int | float | str | None = None
    mark: int | float | str | None = None
    base: str = ""
    base_digest: str = ""
    counted: list[int] = field(default_factory=list)
    digest: str = ""

    @property
    def rows(self) -> int:
        """How many rows the files hold together."""
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """How many bytes the files of rows have together."""
        return sum(part.bytes for part in self.parts)


def write_manifest(storage: Storage, manifest: Manifest, file: str = MANIFEST) -> None:
    """Write the manifest (or the progress) of a backup, with a checksum of its own."""
    content = {"format": FORMAT, **asdict(manifest)}
    content["sha256"] = _checksum(content)
    text = orjson.dumps(content, option=orjson.OPT_INDENT_2)
    storage.write(f"{manifest.name}/{file}", text)


def read_manifest(storage: Storage, name: str, file: str = MANIFEST) -> Manifest:
    """The manifest (or the progress) of a backup.

    Raises:
        BackupDamaged: it is missing, no JSON, of a newer format, or not as it was written.
    """
    where = f"{storage.location}/{name}/{file}"
    try:
        content = orjson.loads(storage.read(f"{name}/{file}"))
    except FileNotFoundError as error:
        known = ", ".join(storage.folders()) or "nothing"
        unfinished = storage.size(f"{name}/{PROGRESS}") is not None
        hint = (
            "the backup is not finished: go on with backup --resume"
            if unfinished
            else f"there is: {known}"
        )
        raise BackupDamaged(f"{where} is missing; {hint}") from error
    except ValueError as error:
        raise BackupDamaged(f"{where} is damaged: no JSON ({error})") from error
    version = content.pop("format", None) if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise BackupDamaged(f"{where} is damaged: it does not say its format")
    if version > FORMAT:
        raise BackupDamaged(
            f"{where} is of format {version}, which is newer than this program: it reads up to "
            f"format {FORMAT}. Use the program that wrote it, or a later one."
        )
    if content.pop("sha256", None) != _checksum({"format": version, **content}):
        raise BackupDamaged(f"{where} is damaged: its content does not match its checksum")
    parts = [Part(**part) for part in content.pop("parts")]
    return Manifest(parts=parts, **content)


def read_part(storage: Storage, manifest: Manifest, part: Part) -> pq.ParquetFile:
    """A file of rows, after a check of its size and checksum.

    Raises:
        BackupDamaged: it is missing, cut off, or a byte of it changed.
    """
    where = f"{storage.location}/{manifest.name}/{part.name}"
    try:
        data = storage.read(f"{manifest.name}/{part.name}")
    except FileNotFoundError as error:
        raise BackupDamaged(f"{where} is missing: {part.rows:,} rows are lost") from error
    if len(data) != part.bytes:
        raise BackupDamaged(
            f"{where} has {len(data):,} bytes instead of {part.bytes:,}: it was cut off or "
            "written anew"
        )
    if sha256(data).hexdigest() != part.sha256:
        raise BackupDamaged(f"{where} does not match its checksum: at least a byte of it changed")
    file = pq.ParquetFile(pa.BufferReader(data))
    if file.metadata.num_rows != part.rows:
        rows = file.metadata.num_rows
        raise BackupDamaged(f"{where} has {rows:,} rows instead of {part.rows:,}")
    return file


def part_batches(storage: Storage, manifest: Manifest, part: Part) -> Iterator[pa.RecordBatch]:
    """The rows of a file in batches, in the order of their keys."""
    yield from read_part(storage, manifest, part).iter_batches(ROWS_READ)


def encode_part(batches: Sequence[pa.RecordBatch]) -> pa.Buffer:
    """The bytes of a Parquet file that holds these rows."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, batches[0].schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def _checksum(content: Mapping[str, Any]) -> str:
    return sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


# Rows to columns and back


def arrow_schema(description: Description) -> pa.Schema:
    """The columns in which the rows of a collection are kept; what a function makes is left out.

    Raises:
        BackupRefused: a field of a type that a backup cannot hold.
    """
    if description["structs"]:
        raise BackupRefused(
            f"the field {description['structs'][0]!r} is an ARRAY of STRUCT, which is not backed up"
        )
    columns = [
        pa.field(each["name"], _arrow_type(each))
        for each in description["fields"]
        if not each.get("is_function_output")
    ]
    if description["enable_dynamic_field"]:
        columns.append(pa.field(META, pa.string()))
    return pa.schema(columns)


def _arrow_type(each: Mapping[str, Any]) -> pa.DataType:
    kind = each["type"]
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind == "ARRAY" and each["element_type"] in _SCALARS:
        return pa.list_(_SCALARS[each["element_type"]])
    if kind == "SPARSE_FLOAT_VECTOR":
        return _SPARSE
    dimension = int(each["params"].get("dim", 0))
    if kind == "FLOAT_VECTOR":
        return pa.list_(pa.float32(), dimension)
    if kind in _BYTES_OF_DIMENSION:
        return pa.binary(int(dimension * _BYTES_OF_DIMENSION[kind]))
    raise BackupRefused(f"the field {each['name']!r} is of type {kind}, which is not backed up")


def to_batch(rows: Sequence[dict], description: Description, schema: pa.Schema) -> pa.RecordBatch:
    """Rows as a query gives them, in the columns of `arrow_schema(description)`."""
    kinds = {each["name"]: each["type"] for each in description["fields"]}
    columns = []
    for column in schema:
        if column.name == META:
            values = [_dynamic(row, kinds) for row in rows]
        else:
            values = [row[column.name] for row in rows]
        columns.append(_column(values, kinds.get(column.name, ""), column.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _dynamic(row: Mapping[str, Any], kinds: Mapping[str, str]) -> str:
    return _json({name: value for name, value in row.items() if name not in kinds})


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _column(values: list, kind: str, type_: pa.DataType) -> pa.Array:
    if kind == "FLOAT_VECTOR" and None not in values:
        numbers = np.array(values, np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), type=type_)
    if kind == "JSON":
        values = [None if value is None else _json(value) for value in values]
    elif kind == "SPARSE_FLOAT_VECTOR":
        values = [None if value is None else sorted(value.items()) for value in values]
    elif kind in _BYTES_OF_DIMENSION:
        values = [None if value is None else raw_bytes(value) for value in values]
    elif kind == "ARRAY":
        values = [None if value is None else list(value) for value in values]
    return pa.array(values, type_)


def to_rows(batch: pa.RecordBatch, description: Description) -> list[dict]:
    """Rows as `client.insert()` takes them."""
    kinds = {each["name"]: each["type"] for each in description["fields"]}
    columns = {
        name: _values(batch.column(name), kinds.get(name, META)) for name in batch.schema.names
    }
    extras = columns.pop(META, None)
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    for row, extra in zip(rows, extras or (), strict=False):
        row.update(extra)
    return rows


def _values(column: pa.Array, kind: str) -> list:
    """The values of a column as pymilvus takes them."""
    if kind == "FLOAT_VECTOR" and not column.null_count:
        numbers = column.flatten().to_numpy(zero_copy_only=False)
        return list(numbers.reshape(len(column), column.type.list_size))
    values = column.to_pylist()
    if kind in ("JSON", META):
        return [None if value is None else orjson.loads(value) for value in values]
    if kind == "SPARSE_FLOAT_VECTOR":
        return [None if value is None else dict(value) for value in values]
    dtype = {"FLOAT16_VECTOR": np.float16, "INT8_VECTOR": np.int8}.get(kind)
    if dtype is not None:
        return [None if value is None else np.frombuffer(value, dtype) for value in values]
    return values
