"""Every row of a backup against every row of a collection, as two streams in the order of keys.

    result = compare(milvus, storage, chain_of(storage, name), "papers")
    result.same, result.changed, result.missing, result.extra

Both sides become one digest a row (`common.row_digest`), so that memory stays flat however many
rows there are.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from common.backup import SIZES, Key, Sizes, live_batches, require_loaded
from common.backup_format import BackupRefused, Manifest, arrow_schema, part_batches
from common.collection_description import key_field, same_schema
from common.object_storage import Storage
from common.row_digest import add_digests, as_text, row_digests

import pyarrow as pa

_SHOWN = 3  # keys that a comparison names


@dataclass
class Comparison:
    """Rows of a backup against those of a collection, told apart by partition and key."""

    equal: int = 0
    changed: int = 0
    missing: int = 0  # in the backup only
    extra: int = 0  # in the collection only
    examples: dict[str, list[Key]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether the two hold the same rows."""
        return not (self.changed or self.missing or self.extra)

    def add(self, kind: str, key: Key) -> None:
        """Count a row that is `kind`: an attribute of this class."""
        setattr(self, kind, getattr(self, kind) + 1)
        if kind != "equal" and len(self.examples.setdefault(kind, [])) < _SHOWN:
            self.examples[kind].append(key)


def compare(
    milvus: Any,
    storage: Storage,
    chain: Sequence[Manifest],
    collection: str,
    sizes: Sizes = SIZES,
) -> Comparison:
    """Compare every row of a backup with those of a collection, by their digests, as a stream.

    Raises:
        BackupRefused: the collection is not loaded, or has other fields than the backup.
    """
    description = require_loaded(milvus, collection, sizes.timeout)
    if not same_schema(description, chain[-1].description):
        raise BackupRefused(f"{collection!r} has other fields than the backup {chain[-1].name}")
    saved = ((key, place, "backup", d) for key, place, d in _digests_of(storage, chain))
    live = ((key, place, "live", d) for key, place, d in _live_digests(milvus, description, sizes))
    result = Comparison()
    for (key, _), group in groupby(heapq.merge(saved, live), key=itemgetter(0, 1)):
        digests = {side: digest for _, _, side, digest in group}
        if len(digests) == 2:
            result.add("equal" if digests["backup"] == digests["live"] else "changed", key)
        else:
            result.add("missing" if "backup" in digests else "extra", key)
    return result


def effective_rows(
    storage: Storage, chain: Sequence[Manifest]
) -> Iterator[tuple[Key, str, pa.RecordBatch, int]]:
    """The rows that a chain restores, in the order of keys: key, partition, batch, row in it.

    Of a key that several backups of the chain hold, the last one counts.
    """
    streams = [
        _keyed(storage, manifest, partition, number)
        for number, manifest in enumerate(chain)
        for partition in dict.fromkeys(part.partition for part in manifest.parts)
    ]
    ordered = heapq.merge(*streams, key=itemgetter(0, 1))
    for key, group in groupby(ordered, key=itemgetter(0)):
        versions = list(group)
        newest = versions[0][1]
        for _, number, partition, batch, row in versions:
            if number == newest:
                yield key, partition, batch, row


def digest_of(
    milvus: Any, collection: str, columns: Sequence[str], sizes: Sizes
) -> tuple[int, str]:
    """The number of rows of a collection, and the sum of their digests over some columns."""
    description = require_loaded(milvus, collection, sizes.timeout)
    manifest, schema = Manifest("", "", "", description), arrow_schema(description)
    rows, total = 0, 0
    for partition in description["partitions"] or [""]:
        for batch in live_batches(milvus, manifest, schema, partition, None, sizes):
            rows += batch.num_rows
            total = add_digests(row_digests(batch.select(list(columns))), total)
    return rows, as_text(total)


# Rows of a chain, and of a collection, in the order of keys


def _keyed(
    storage: Storage, manifest: Manifest, partition: str, number: int
) -> Iterator[tuple[Key, int, str, pa.RecordBatch, int]]:
    """The rows of one partition of one backup; the later the backup, the earlier it sorts."""
    key = key_field(manifest.description)["name"]
    for part in manifest.parts:
        if part.partition == partition:
            for batch in part_batches(storage, manifest, part):
                for row, value in enumerate(batch.column(key).to_pylist()):
                    yield value, -number, partition, batch, row


def _digests_of(storage: Storage, chain: Sequence[Manifest]) -> Iterator[tuple[Key, str, bytes]]:
    """Key, partition and digest of each row that a chain restores, in that order."""
    if len(chain) == 1:  # no row hides another: whole batches at once
        streams = [
            _batch_digests(storage, chain[0], partition)
            for partition in dict.fromkeys(part.partition for part in chain[0].parts)
        ]
        yield from heapq.merge(*streams)
        return
    for key, partition, batch, row in effective_rows(storage, chain):
        yield key, partition, row_digests(batch.slice(row, 1))[0]


def _batch_digests(
    storage: Storage, manifest: Manifest, partition: str
) -> Iterator[tuple[Key, str, bytes]]:
    key = key_field(manifest.description)["name"]
    for part in manifest.parts:
        if part.partition == partition:
            for batch in part_batches(storage, manifest, part):
                keys = batch.column(key).to_pylist()
                yield from zip(keys, [partition] * len(keys), row_digests(batch), strict=True)


def _live_digests(
    milvus: Any, description: Mapping[str, Any], sizes: Sizes
) -> Iterator[tuple[Key, str, bytes]]:
    """Key, partition and digest of each row of a collection, in that order."""
    manifest = Manifest("", "", "", dict(description))
    schema, key = arrow_schema(description), key_field(description)["name"]

    def stream(partition: str) -> Iterator[tuple[Key, str, bytes]]:
        for batch in live_batches(milvus, manifest, schema, partition, None, sizes):
            keys = batch.column(key).to_pylist()
            yield from zip(keys, [partition] * len(keys), row_digests(batch), strict=True)

    return heapq.merge(*(stream(partition) for partition in description["partitions"] or [""]))
