"""Backup and restore: every row, every type, checked by digests, also after a kill.

    python step04_advanced/05_backup_and_restore.py
    python step04_advanced/05_backup_and_restore.py backup --collection docs --out ~/backups
    python step04_advanced/05_backup_and_restore.py list --out ~/backups
    python step04_advanced/05_backup_and_restore.py verify NAME --out ~/backups --live
    python step04_advanced/05_backup_and_restore.py restore NAME --out ~/backups --to docs_again

You copy a collection in the obvious ways and count the rows that each loses, back it up while it
is written to, see damage refused, restore here and into another Milvus, kill a backup and resume
it, and back up increments.

Needs: any Milvus (Milvus Lite by default); room for the backup, in a folder or an S3 bucket
Read:  docs/en/step04_advanced.md#backup-and-restore
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import common.backup_reports as reports
import common.backup_trials as trials
from common.backup import Sizes, back_up, backups, chain_of, check_files
from common.backup_commands import add_commands, run_command
from common.backup_comparison import Comparison, compare
from common.backup_format import Manifest
from common.connection import Milvus, connect
from common.display import expected_error, heading, left_out, quiet_pymilvus, run, say
from common.every_type import INDEXES, every_type_rows, every_type_schema
from common.index_trial import params_for
from common.key_paging import MOST_ROWS, pages_by_key
from common.loading import load_rows
from common.object_storage import Storage, open_storage
from common.refusals import provoke
from common.restore import Restored, obstacles, plan_restore, restore
from common.row_counts import count_now
from common.units import whole_number
from common.workspace import OURS, workspace

from pymilvus import MilvusClient

COLLECTION, COPY, ALIAS = "step04_backup", "step04_backup_copy", "step04_backup_current"
STAGED = f"{COPY}_restoring"  # where rows are while they are restored
LATE = "late"  # a partition
ROWS, LITE_ROWS, QUICK_ROWS = 20_000, 10_000, 2_000
DIMENSION, PAGES, TURN = 64, 8, 10
FRESH = 10**6  # added to a key, for rows that come later
TIMEOUT = 120.0  # seconds; without one, pymilvus repeats a failing call for minutes
SMALL = Sizes(part=500_000, page=250_000)  # bytes: many files, so that there is much to interrupt


def create(milvus: Milvus, rows: int, dimension: int) -> int:
    """Make a collection with every type, two partitions and an alias; the number of rows."""
    heading("1. A collection to lose")
    client, index_params = milvus.client, milvus.client.prepare_index_params()
    schema = every_type_schema(client, milvus.can, dimension)
    kind, metric, params = INDEXES["FLOAT_VECTOR"]
    built = {"metric_type": metric, "params": params_for(milvus, params)}
    index_params.add_index("vector", index_type=kind, **built)
    if any(field.name == "sparse" for field in schema.fields):
        index_params.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    options = {"index_params": index_params, "properties": OURS, "timeout": TIMEOUT}
    client.create_collection(COLLECTION, schema=schema, **options)
    client.create_partition(COLLECTION, LATE, timeout=TIMEOUT)
    client.create_alias(COLLECTION, ALIAS, timeout=TIMEOUT)
    early = rows // 2
    load_rows(client, COLLECTION, every_type_rows(schema, early, dimension))
    more = every_type_rows(schema, rows - early, dimension, start=early)
    load_rows(client, COLLECTION, more, partition=LATE)
    count = count_now(client, COLLECTION)
    say(f"{count:,} rows: {', '.join(field.name for field in schema.fields)}, and dynamic fields.")
    return count


def writer(milvus: Milvus, first: int, dimension: int) -> Callable[[], None]:
    """A function that, each time, deletes the next rows from `first` on and inserts as many."""
    client, starts = milvus.client, itertools.count(first, TURN)
    schema = every_type_schema(client, milvus.can, dimension)

    def write() -> None:
        start = next(starts)
        client.delete(COLLECTION, ids=list(range(start, start + TURN)), timeout=TIMEOUT)
        fresh = every_type_rows(schema, TURN, dimension, start=FRESH + start)
        client.insert(COLLECTION, list(fresh), partition_name=LATE, timeout=TIMEOUT)

    return write


def by_one_query(client: MilvusClient) -> list[dict]:
    """All rows in one query: as many as the server gives."""
    options = {"limit": MOST_ROWS, "timeout": TIMEOUT, "consistency_level": "Strong"}
    return client.query(COLLECTION, filter="", output_fields=["*"], **options)


def by_offset(client: MilvusClient, page: int) -> Iterator[list[dict]]:
    """Pages by offset, up to what offset and limit may be together."""
    options = {"output_fields": ["id"], "timeout": TIMEOUT, "consistency_level": "Strong"}
    for offset in range(0, MOST_ROWS - page, page):
        rows = client.query(COLLECTION, filter="", offset=offset, limit=page, **options)
        if not rows:
            return
        yield rows


def by_iterator(client: MilvusClient, page: int) -> Iterator[list[dict]]:
    """Pages of pymilvus' iterator."""
    options = {"consistency_level": "Strong", "output_fields": ["id"], "timeout": TIMEOUT}
    with quiet_pymilvus():  # which says that an old server tells no time of the session
        pages = client.query_iterator(COLLECTION, batch_size=page, **options)
    while rows := pages.next():
        yield rows
    pages.close()


def copy_naively(milvus: Milvus, rows: int, dimension: int) -> list[trials.Copied]:
    """Copy in the obvious ways: what is lost of the rows that were there all the time."""
    heading("2. The obvious copies, and what they lose")
    client, page = milvus.client, max(rows // PAGES, 1)
    if rows > MOST_ROWS:
        title = f"one query for {rows:,} rows"
        provoke(title, client.query, COLLECTION, filter="", limit=rows, timeout=TIMEOUT)
    copied = [row["id"] for row in by_one_query(client)]
    found = [trials.judge_copy("one query", copied, set(range(rows)))]
    schema, start = every_type_schema(client, milvus.can, dimension), 2 * FRESH
    load_rows(client, COLLECTION, every_type_rows(schema, page, dimension, start=start))
    copied = [row["id"] for read in by_iterator(client, page) for row in read]
    there = {*range(rows), *range(start, start + page)}
    found.append(trials.judge_copy("iterator, right after a write", copied, there))
    client.delete(COLLECTION, ids=list(range(start, start + page)), timeout=TIMEOUT)
    by_key = pages_by_key(milvus, COLLECTION, key="id", output_fields=["id"], page_rows=page)
    ways, first = {"by offset": by_offset(client, page), "by key": by_key}, 0
    for way, pages in ways.items():
        write, copied, begin = writer(milvus, first, dimension), [], first
        for read in pages:
            copied += [row["id"] for row in read]
            write()
            first += TURN
        there = set(range(first, rows))
        found.append(trials.judge_copy(f"{way}, while writing", copied, there))
        say(f"{way}: {first - begin} rows deleted and as many inserted meanwhile.")
    reports.show_copies("Copies of a collection", found)
    say(
        "One query gives 16,384 rows at most on a server. An offset counts rows that come and go. "
        "The iterator reads at the collection's own consistency level (Bounded, unless you chose "
        "another), whatever it is given. The key of a row stays where it is."
    )
    return found


def back_up_while_writing(
    milvus: Milvus, storage: Storage, first: int, dimension: int
) -> tuple[Manifest, Comparison]:
    """Back up while rows come and go, from `first` on, and compare with what is there then."""
    heading("3. A backup, while rows come and go")
    write, started = writer(milvus, first, dimension), time.perf_counter()
    options = {"since_field": "version", "sizes": SMALL, "progress": lambda _: write()}
    manifest = back_up(milvus, COLLECTION, storage, **options)
    reports.show_backup(manifest, time.perf_counter() - started)
    result = compare(milvus, storage, [manifest], COLLECTION)
    reports.show_comparison(result, "backup", "collection")
    return manifest, result


def check(storage: Storage, manifest: Manifest, folder: Path) -> dict[str, Exception | None]:
    """Check the files, then copies with a damage each."""
    heading("4. Is it whole?")
    rows = check_files(storage, [manifest])
    say(f"{rows:,} rows in {len(manifest.parts)} files: sizes, checksums and digests agree.")
    refusals = {}
    for what, copy in trials.damaged_copies(storage, manifest, folder / "damaged"):
        refusals[what] = trials.refusal_of(copy, manifest.name)
        if refusals[what] is None:
            raise RuntimeError(f"{what}: nothing was found wrong")
        expected_error(what, refusals[what])
    return refusals


def restore_here(milvus: Milvus, storage: Storage, name: str) -> tuple[Restored, Comparison]:
    """Restore under a new name, and compare row by row with the backup."""
    heading("5. Restore under a new name")
    chain = chain_of(storage, name)
    plan = plan_restore(milvus, chain)
    restored = restore(milvus, storage, chain, COPY, plan)
    reports.show_restored(restored, plan)
    result = compare(milvus, storage, chain, COPY)
    reports.show_comparison(result, "backup", COPY)
    return restored, result


def restore_elsewhere(storage: Storage, name: str, uri: str) -> Restored:
    """Restore into a Milvus Lite file, without what that cannot hold."""
    heading("6. Restore into another Milvus")
    with connect(uri) as other:
        chain = chain_of(storage, name)
        lacking = obstacles(other, chain[-1].description)
        plan = plan_restore(other, chain, [one.option for one in lacking])
        restored = restore(other, storage, chain, COLLECTION, plan)
        say(f"{other.label}, in a file of its own:")
        reports.show_restored(restored, plan)
    return restored


def kill_and_resume(uri: str | None, folder: Path, parts: int) -> tuple[int, Manifest, Comparison]:
    """Kill a backup after some files (SIGKILL), go on with it, compare; also the rows it had."""
    heading("7. Killed and resumed")
    out = folder / "killed"
    command = [__file__, "backup", "--collection", COLLECTION, "--out", str(out)]
    command += ["--part", f"{SMALL.part:.0f}", "--page", f"{SMALL.page:.0f}"]
    command += ["--uri", uri] if uri else []
    rows = trials.kill_midway(command, dict(os.environ), out, parts)
    with connect(uri) as milvus:
        storage = open_storage(out)
        manifest = back_up(milvus, COLLECTION, storage, resume=True, sizes=SMALL)
        say(f"Killed after {rows:,} rows, resumed, and finished with {manifest.rows:,}.")
        result = compare(milvus, storage, [manifest], COLLECTION)
    reports.show_comparison(result, "backup", "collection")
    return rows, manifest, result


def back_up_increment(
    milvus: Milvus, storage: Storage, rows: int, dimension: int
) -> tuple[Manifest, Comparison]:
    """Change rows, back up what changed, and compare the chain with the collection."""
    heading("8. Only what changed")
    client, schema = milvus.client, every_type_schema(milvus.client, milvus.can, dimension)
    changed = every_type_rows(schema, TURN, dimension, start=rows - TURN, version=4 * FRESH)
    client.upsert(COLLECTION, list(changed), partition_name=LATE, timeout=TIMEOUT)
    fresh = every_type_rows(schema, TURN, dimension, start=3 * FRESH, version=4 * FRESH)
    client.insert(COLLECTION, list(fresh), partition_name=LATE, timeout=TIMEOUT)
    gone = list(range(rows - 2 * TURN, rows - TURN))
    client.delete(COLLECTION, ids=gone, timeout=TIMEOUT)
    started = time.perf_counter()
    first = back_up(milvus, COLLECTION, storage, since_field="version")
    reports.show_backup(first, time.perf_counter() - started)
    result = compare(milvus, storage, chain_of(storage, first.name), COLLECTION)
    reports.show_comparison(result, "chain", "collection")
    say(f"The {len(gone)} deleted rows come back: no field of a row tells that it is gone.")
    return first, result


def give_lesson(milvus: Milvus, folder: Path, rows: int, dimension: int) -> None:
    """All sections in order."""
    storage = open_storage(folder / "backups")
    create(milvus, rows, dimension)
    copy_naively(milvus, rows, dimension)
    manifest, _ = back_up_while_writing(milvus, storage, rows // 2, dimension)
    reports.show_backups(backups(storage), "the folder")
    check(storage, manifest, folder)
    restore_here(milvus, storage, manifest.name)
    elsewhere = str(folder / "other.db")
    restore_elsewhere(storage, manifest.name, elsewhere)
    # One process at a time opens a Milvus Lite file: the one to be killed gets the other file.
    several = milvus.can("several_processes")
    if not several:
        left_out(f"killing a backup of {milvus.label} itself, and not of its copy", several.reason)
    kill_and_resume(None if several else elsewhere, folder, 1 if rows < LITE_ROWS else 4)
    back_up_increment(milvus, storage, rows, dimension)


def main(arguments: list[str] | None = None) -> int | None:
    """Give the lesson, or run a command on the user's own collections."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add, least = parser.add_argument, partial(whole_number, least=1_000)
    default = f"{ROWS:,}; {LITE_ROWS:,} on Milvus Lite"
    add("--rows", type=least, metavar="N", help=f"rows of the lesson (default: {default})")
    dimension = "dimensions of the vector, a multiple of 8 (default: %(default)s)"
    add("--dimension", type=partial(whole_number, least=8), default=DIMENSION, help=dimension)
    add("--quick", action="store_true", help=f"{QUICK_ROWS:,} rows")
    add_commands(parser)
    options = parser.parse_args(arguments)
    if options.dimension % 8:
        parser.error("--dimension is a multiple of 8")
    if options.command:
        return run_command(options)
    with connect() as milvus, workspace(milvus.client, COLLECTION, COPY, STAGED):
        usual = LITE_ROWS if milvus.kind == "lite" else ROWS
        rows = options.rows or (QUICK_ROWS if options.quick else usual)
        with trials.scratch() as folder:
            give_lesson(milvus, folder, rows, options.dimension)
    return None


if __name__ == "__main__":
    sys.exit(run(main))
