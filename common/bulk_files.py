"""Files for a bulk import: what is needed to write them, to compare them and to bring them over.

`LocalBulkWriter` of pymilvus writes the files; Milvus imports them out of its own bucket.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from common.connection import Milvus
from common.display import quiet_pymilvus, say
from common.measuring import wait_until

import numpy as np
import pyarrow.parquet as pq
from pymilvus import CollectionSchema

_IMPORT_TIMEOUT = 600.0  # seconds
INSTALL_LINE = 'pip install "pymilvus[bulk-writer]"'


class BucketError(ValueError):
    """The address of a bucket cannot be read."""

    exit_code = 2


def bulk_writer_missing() -> str:
    """Why `pymilvus.bulk_writer` cannot be imported here; '' if it can."""
    # find_spec() of azure.storage.blob would import azure, which may be there without it.
    missing = [name for name in ("minio", "azure") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed: {INSTALL_LINE}" if missing else ""


def rows_in(files: Iterable[Path]) -> int:
    """The rows of Parquet files, as their footers say."""
    return sum(pq.read_metadata(file).num_rows for file in files)


def different_rows(files: Iterable[Path], rows: Sequence[Mapping], key: str = "id") -> list[int]:
    """Compare what Parquet files hold with the rows that were written.

    Args:
        files: in any order.
        rows: each with the same fields; vectors are float32 arrays, which must be equal bit by bit.
        key: the field that tells rows apart.

    Returns:
        The keys of rows that are missing, changed, twice there, or were never written.
    """
    left = {row[key]: row for row in rows}
    different = []
    for file in files:
        for found in pq.read_table(file).to_pylist():
            row = left.pop(found[key], None)
            if row is None or not _equal(found, row):
                different.append(found[key])
    return [*different, *left]


def _equal(found: Mapping, row: Mapping) -> bool:
    return found.keys() == row.keys() and all(
        np.array_equal(np.asarray(found[name], value.dtype), value)
        if isinstance(value, np.ndarray)
        else found[name] == value
        for name, value in row.items()
    )


def write_files(
    schema: CollectionSchema, rows: Sequence[Mapping], folder: Path, files: int = 3
) -> list[Path]:
    """Write rows with pymilvus' `LocalBulkWriter`, as Parquet, into about so many files.

    Args:
        schema: of the collection that will hold them.
        rows: each with a value for every field of the schema.
        folder: exists; the writer makes a folder of its own in it.
        files: about how many.

    Raises:
        ModuleNotFoundError: the extra of pymilvus is not installed (`bulk_writer_missing`).
    """
    writing = _bulk_writer()
    size = sum(getattr(value, "nbytes", 8) for value in rows[0].values()) * len(rows)
    options = {"chunk_size": size // files, "file_type": writing.BulkFileType.PARQUET}
    with quiet_pymilvus(), writing.LocalBulkWriter(schema, str(folder), **options) as writer:
        for row in rows:
            writer.append_row(dict(row))
        writer.commit()
        return [Path(name) for batch in writer.batch_files for name in batch]


def _bulk_writer() -> ModuleType:
    """pymilvus.bulk_writer, whose import makes the root logger print everything: undone here."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    from pymilvus import bulk_writer

    root.handlers[:] = handlers
    root.setLevel(level)
    return bulk_writer


def import_files(milvus: Milvus, collection: str, files: list[list[str]]) -> int:
    """Have Milvus read files of its bucket into a collection, and wait until it has; the rows.

    Args:
        milvus: 2.4 or later.
        collection: exists.
        files: as `upload` gives them.

    Raises:
        RuntimeError: the import failed; the message has Milvus' reason.
        TimeoutError: it took more than ten minutes.
    """
    rest = _bulk_writer()
    where = {"url": milvus.uri, "api_key": milvus.options.get("token", "")}
    where["db_name"] = milvus.options.get("db_name", "")
    answer = rest.bulk_import(collection_name=collection, files=files, **where).json()
    job = answer["data"]["jobId"]

    def ended() -> dict | None:
        told = rest.get_import_progress(job_id=job, **where).json()["data"]
        return told if told["state"] in ("Completed", "Failed") else None

    told = wait_until(ended, _IMPORT_TIMEOUT, f"the import into {collection} has ended", pause=1)
    if told["state"] == "Failed":
        raise RuntimeError(f"the import into {collection} failed: {told.get('reason')}")
    rows = int(told["importedRows"])
    say(f"Milvus has imported {rows:,} rows from its bucket.")
    return rows


def upload(files: Sequence[Path], bucket: str, folder: str) -> list[list[str]]:
    """Copy files into the bucket of a Milvus; their names there, as `bulk_import` takes them.

    Args:
        files: local ones.
        bucket: "http://user:password@localhost:9000/a-bucket".
        folder: in the bucket.

    Raises:
        BucketError: the address of the bucket is none.
    """
    from minio import Minio  # comes with the extra of pymilvus

    parts = urlsplit(bucket)
    name = parts.path.strip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or not name:
        raise BucketError("a bucket looks like http://user:password@localhost:9000/a-bucket")
    where = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    client = Minio(where, parts.username, parts.password, secure=parts.scheme == "https")
    names = [f"{folder}/{file.parent.name}-{file.name}" for file in files]
    for file, there in zip(files, names, strict=True):
        client.fput_object(name, there, str(file))
    return [[there] for there in names]
