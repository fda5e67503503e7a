"""Backing up a collection while it is in use: streamed, resumable, and in increments.

    manifest = back_up(milvus, "papers", storage)
    check_files(storage, chain_of(storage, manifest.name))

What a backup holds while others write: each row that was there all the time, once, as of some
moment between begin and end; a row that was inserted, deleted or changed meanwhile as it was
before or after. There is no single moment to which all rows belong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from common.backup_format import (
    MANIFEST,
    PROGRESS,
    BackupDamaged,
    BackupRefused,
    Manifest,
    Part,
    arrow_schema,
    encode_part,
    part_batches,
    read_manifest,
    read_part,
    to_batch,
    write_manifest,
)
from common.collection_description import describe_whole, key_field, same_schema
from common.filters import where
from common.key_paging import MOST_ROWS, pages_by_key
from common.object_storage import Storage
from common.row_counts import count_now
from common.row_digest import add_digests, as_text, row_digests

import pyarrow as pa

PART_BYTES = 8_000_000  # of rows in memory, before they are compressed into a file
PAGE_BYTES = 2_000_000  # of rows that one query brings
_SINCE_TYPES = {"INT8", "INT16", "INT32", "INT64", "FLOAT", "DOUBLE", "VARCHAR"}

Key = int | str


@dataclass(frozen=True)
class Sizes:
    """How much is read and written at once; `part` and `page` in bytes, seconds for a call."""

    part: float = PART_BYTES
    page: float = PAGE_BYTES
    timeout: float = 120.0


SIZES = Sizes()


def back_up(
    milvus: Any,
    collection: str,
    storage: Storage,
    *,
    since_field: str | None = None,
    whole: bool = False,
    resume: bool = False,
    anew: bool = False,
    sizes: Sizes = SIZES,
    progress: Callable[[int], object] | None = None,
) -> Manifest:
    """Back up a collection into a new folder of a storage.

    Args:
        milvus: a connected `common.connection.Milvus`.
        collection: its name or alias; it is loaded.
        storage: where the folder is made; its name is that of the collection and the time.
        since_field: a field that never gets smaller, from one write to the next (a time or a
            version). The first backup is whole; each later one takes the rows in which the field
            is not below the largest value that the backup before had seen.
        whole: take all rows also where an earlier backup with this `since_field` is there.
        resume: go on with a backup of this collection that was broken off.
        anew: begin a new one although such a backup is there.
        sizes: how much is read and written at once.
        progress: called with the number of rows after each page.

    Raises:
        BackupRefused: the collection, its state or `since_field` does not allow it.
        BackupDamaged: what was to be resumed is not as it was written.
    """
    description = require_loaded(milvus, collection, sizes.timeout)
    schema = arrow_schema(description)
    manifest = _unfinished(storage, description, resume, anew)
    if manifest is None:
        manifest = _begin(milvus, storage, description, since_field, whole, sizes)
        write_manifest(storage, manifest, PROGRESS)
    parts, counted = list(manifest.parts), manifest.counted
    for part in parts:
        read_part(storage, manifest, part)  # what is there already must be whole
    rows = manifest.rows
    for partition, after in _left(manifest):
        pages = live_batches(milvus, manifest, schema, partition, after, sizes)
        for batches in _gather(pages, sizes.part, progress, rows):
            parts.append(_write_part(storage, manifest, partition, len(parts), batches))
            rows += parts[-1].rows
            manifest = replace(manifest, parts=list(parts))
            write_manifest(storage, manifest, PROGRESS)
    last = count_now(milvus.client, description["collection"], timeout=sizes.timeout)
    manifest = replace(manifest, counted=[*counted, last], finished=_now(), digest=_total(parts))
    write_manifest(storage, manifest)
    storage.remove(f"{manifest.name}/{PROGRESS}")
    return manifest


def backups(storage: Storage) -> list[tuple[str, Manifest | str, bool]]:
    """The backups of a storage: name, manifest (or what is wrong with it), whether finished."""
    found = []
    for name in storage.folders():
        finished = storage.size(f"{name}/{MANIFEST}") is not None
        if finished or storage.size(f"{name}/{PROGRESS}") is not None:
            try:
                what: Manifest | str = read_manifest(
                    storage, name, MANIFEST if finished else PROGRESS
                )
            except BackupDamaged as error:
                what = str(error)
            found.append((name, what, finished))
    return found


def chain_of(storage: Storage, name: str) -> list[Manifest]:
    """A backup with all that it builds on, the whole one first.

    Raises:
        BackupDamaged: one of them is missing or damaged, or is not what the next one builds on.
    """
    chain = [read_manifest(storage, name)]
    while chain[0].base:
        above = chain[0]
        try:
            base = read_manifest(storage, above.base)
        except BackupDamaged as error:
            raise BackupDamaged(f"{above.name} builds on {above.base}: {error}") from error
        if base.digest != above.base_digest:
            raise BackupDamaged(f"{above.base} is not the backup on which {above.name} was made")
        chain.insert(0, base)
    return chain


def check_files(storage: Storage, chain: Sequence[Manifest]) -> int:
    """Check each file of rows: size, checksum, and the digest of its rows; how many rows.

    Raises:
        BackupDamaged: a file is missing, cut off or changed; the message names it.
    """
    for manifest in chain:
        for part in manifest.parts:
            total = 0
            for batch in part_batches(storage, manifest, part):
                total = add_digests(row_digests(batch), total)
            if as_text(total) != part.digest:
                raise BackupDamaged(f"{manifest.name}/{part.name}: its rows changed their digest")
    return sum(manifest.rows for manifest in chain)


def require_loaded(milvus: Any, collection: str, timeout: float) -> dict[str, Any]:
    """The description of a collection that can be read.

    Raises:
        BackupRefused: there is none of this name, or it is not loaded.
    """
    if not milvus.client.has_collection(collection, timeout=timeout):
        raise BackupRefused(f"there is no collection {collection!r} at {milvus.address}")
    description = describe_whole(milvus.client, collection, timeout=timeout)
    if milvus.kind == "lite":  # where nothing is loaded after a start, for this process alone
        milvus.client.load_collection(description["collection"], timeout=timeout)
    state = milvus.client.get_load_state(description["collection"], timeout=timeout)["state"]
    if getattr(state, "name", str(state)) != "Loaded":
        raise BackupRefused(
            f"the collection {collection!r} is not loaded ({state}), and a query reads loaded rows "
            f"only: client.load_collection({collection!r})"
        )
    return description


# Beginning


def _begin(
    milvus: Any,
    storage: Storage,
    description: Mapping[str, Any],
    since_field: str | None,
    whole: bool,
    sizes: Sizes,
) -> Manifest:
    name, begun = description["collection"], _now()
    counted = count_now(milvus.client, name, timeout=sizes.timeout)
    manifest = Manifest(
        name=_free_name(storage, name, begun),
        milvus=milvus.label,
        begun=begun,
        description=dict(description),
        counted=[counted],
    )
    if since_field is None:
        return manifest
    _require_since(description, since_field)
    base = None if whole else _latest(storage, description, since_field)
    since = base.mark if base else None
    # Before the first row is read: whatever is written later is not below this value.
    mark = _greatest(milvus, description, since_field, since, sizes.timeout)
    return replace(
        manifest,
        since_field=since_field,
        since=since,
        mark=since if mark is None else mark,
        base=base.name if base else "",
        base_digest=base.digest if base else "",
    )


def _require_since(description: Mapping[str, Any], name: str) -> None:
    fields = {each["name"]: each for each in description["fields"]}
    each = fields.get(name)
    if each is None:
        raise BackupRefused(f"there is no field {name!r}; there is: {', '.join(fields)}")
    if each["type"] not in _SINCE_TYPES or each.get("nullable"):
        kinds = ", ".join(sorted(_SINCE_TYPES))
        raise BackupRefused(f"--since-field takes a field of {kinds} that is never null: {name!r}")


def _latest(storage: Storage, description: Mapping[str, Any], field_name: str) -> Manifest | None:
    """The newest finished backup on which an increment can build."""
    found = [
        manifest
        for _, manifest, finished in backups(storage)
        if finished
        and isinstance(manifest, Manifest)
        and manifest.description["collection"] == description["collection"]
        and manifest.since_field == field_name
    ]
    newest = max(found, key=lambda manifest: manifest.begun, default=None)
    if newest and not same_schema(newest.description, description):
        raise BackupRefused(
            f"the fields changed since {newest.name}: an increment cannot build on it; take a "
            "whole backup (--whole)"
        )
    return newest


def _greatest(
    milvus: Any, description: Mapping[str, Any], name: str, since: object, timeout: float
) -> Any:
    """The largest value of a field, of the rows from `since` on; None where there are none."""
    key, greatest = key_field(description), None
    pages = pages_by_key(
        milvus,
        description["collection"],
        key=key["name"],
        condition=_condition(name, since),
        output_fields=[key["name"], name],
        page_rows=MOST_ROWS,
        timeout=timeout,
    )
    for rows in pages:
        values = [row[name] for row in rows] + ([] if greatest is None else [greatest])
        greatest = max(values)
    return greatest


def _condition(name: str | None, since: object) -> str:
    return "" if name is None or since is None else str(where(f"{name} >= {{since}}", since=since))


def _unfinished(
    storage: Storage, description: Mapping[str, Any], resume: bool, anew: bool
) -> Manifest | None:
    """The progress of a backup that was broken off, if it is to be gone on with."""
    name = description["collection"]
    found = [
        manifest
        for _, manifest, finished in backups(storage)
        if not finished
        and isinstance(manifest, Manifest)
        and manifest.description["collection"] == name
    ]
    if resume and not found:
        raise BackupRefused(f"{storage.location} has no unfinished backup of {name!r}")
    if not found or anew:
        return None
    newest = max(found, key=lambda manifest: manifest.begun)
    if not resume:
        raise BackupRefused(
            f"{newest.name} was broken off after {newest.rows:,} rows: go on with --resume, or "
            "begin a new one with --anew"
        )
    if not same_schema(newest.description, description):
        raise BackupRefused(f"the fields changed since {newest.name} began: begin with --anew")
    return newest


def _free_name(storage: Storage, collection: str, begun: str) -> str:
    stem = f"{collection}-{begun[:19].replace('-', '').replace(':', '')}Z"
    taken, number, name = set(storage.folders()), 1, stem
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# Reading and writing


def _left(manifest: Manifest) -> list[tuple[str, Key | None]]:
    """The partitions that are still to be read, and the key after which each goes on."""
    # Under a partition key the partitions are Milvus' own affair, and all is read at once.
    partitions = manifest.description["partitions"] or [""]
    if not manifest.parts:
        return [(partition, None) for partition in partitions]
    last = manifest.parts[-1]
    left = partitions[partitions.index(last.partition) :]
    return [(left[0], last.last_key), *((partition, None) for partition in left[1:])]


def live_batches(
    milvus: Any,
    manifest: Manifest,
    schema: pa.Schema,
    partition: str,
    after: Key | None,
    sizes: Sizes,
) -> Iterator[pa.RecordBatch]:
    """The rows of a partition that belong into a backup, read from Milvus in the order of keys.

    Each batch is about `sizes.page` bytes; `after` is the last key that is there already, and an
    empty `partition` stands for all of them.
    """
    description = manifest.description
    pages = pages_by_key(
        milvus,
        description["collection"],
        key=key_field(description)["name"],
        after=after,
        condition=_condition(manifest.since_field, manifest.since),
        partition=partition,
        output_fields=_output_fields(description, schema),
        page_rows=_first_page(description, sizes),
        timeout=sizes.timeout,
    )
    # To Milvus Lite each page costs as much as a scan of the collection: few large ones.
    wanted = sizes.page * (4 if milvus.kind == "lite" else 1)
    rows = next(pages, None)
    while rows:
        batch = to_batch(rows, description, schema)
        del rows
        each = max(1.0, batch.nbytes / batch.num_rows)
        yield batch
        try:
            rows = pages.send(max(1, min(MOST_ROWS, int(wanted / each))))
        except StopIteration:
            return


def _first_page(description: Mapping[str, Any], sizes: Sizes) -> int:
    """How many rows to ask for before the size of any is known: their vectors and as much again."""
    dimensions = sum(int(each["params"].get("dim", 0)) for each in description["fields"])
    return max(1, min(1_000, int(sizes.page / (8 * dimensions + 256))))


def _output_fields(description: Mapping[str, Any], schema: pa.Schema) -> list[str]:
    """The fields to ask for: by name where a function makes one, which no query gives."""
    if any(each.get("is_function_output") for each in description["fields"]):
        return list(schema.names)
    return ["*"]


def _gather(
    pages: Iterator[pa.RecordBatch],
    size: float,
    progress: Callable[[int], object] | None,
    rows: int,
) -> Iterator[list[pa.RecordBatch]]:
    """Pages until they are large enough for a file."""
    gathered: list[pa.RecordBatch] = []
    held = 0
    for batch in pages:
        gathered.append(batch)
        held, rows = held + batch.nbytes, rows + batch.num_rows
        if progress is not None:
            progress(rows)
        if held >= size:
            yield gathered
            gathered, held = [], 0
    if gathered:
        yield gathered


def _write_part(
    storage: Storage,
    manifest: Manifest,
    partition: str,
    number: int,
    batches: Sequence[pa.RecordBatch],
) -> Part:
    data = encode_part(batches)
    name, key = f"part-{number:05}.parquet", key_field(manifest.description)["name"]
    storage.write(f"{manifest.name}/{name}", memoryview(data))
    digest = 0
    for batch in batches:
        digest = add_digests(row_digests(batch), digest)
    return Part(
        name=name,
        partition=partition,
        rows=sum(batch.num_rows for batch in batches),
        bytes=data.size,
        sha256=sha256(memoryview(data)).hexdigest(),
        first_key=batches[0].column(key)[0].as_py(),
        last_key=batches[-1].column(key)[-1].as_py(),
        digest=as_text(digest),
    )


def _total(parts: Sequence[Part]) -> str:
    return as_text(sum(int(part.digest, 16) for part in parts) % (1 << 128))
