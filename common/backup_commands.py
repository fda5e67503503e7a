"""backup, list, verify and restore as commands for any collection of any Milvus."""

import resource
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import common.backup_reports as reports
from common.backup import PAGE_BYTES, PART_BYTES, Sizes, back_up, backups, chain_of, check_files
from common.backup_comparison import compare
from common.connection import Milvus, connect
from common.display import say, screen
from common.object_storage import Storage, open_storage
from common.restore import plan_restore, restore
from common.units import parse_bytes

import psutil
from rich.progress import Progress, TextColumn, TimeElapsedColumn

_OUT = "a folder, or s3://bucket/prefix with ?endpoint_override=host:port for any other S3"
_URI = "the Milvus: http://host:19530 or a file that ends in .db (default: MILVUS_URI)"
_TOKEN = "user:password of that Milvus (default: MILVUS_TOKEN, where --uri is not given)"


def add_commands(parser: ArgumentParser) -> None:
    """Add the four commands to the parser of a script; without one there is its lesson."""
    commands = parser.add_subparsers(dest="command", title="commands for your own collections")
    _add_backup(commands.add_parser("backup", help="back up a collection into a new folder"))
    _add_list(commands.add_parser("list", help="what backups there are"))
    _add_verify(commands.add_parser("verify", help="check the files, and compare with Milvus"))
    _add_restore(commands.add_parser("restore", help="make a collection of a backup"))


def run_command(options: Namespace) -> int:
    """Run the command that was chosen; its exit code."""
    return options.run(options, open_storage(options.out))


def _add_common(parser: ArgumentParser, *, milvus: bool = True) -> None:
    parser.add_argument("--out", required=True, metavar="PLACE", help=f"{_OUT} (no default)")
    if milvus:
        parser.add_argument("--uri", help=_URI)
        parser.add_argument("--token", help=_TOKEN)
        parser.add_argument(
            "--page",
            type=parse_bytes,
            default=PAGE_BYTES,
            metavar="SIZE",
            help="rows that one query brings, such as 2MB (default: %(default)s bytes)",
        )


def _add_backup(parser: ArgumentParser) -> None:
    _add_common(parser)
    add = parser.add_argument
    add("--collection", required=True, metavar="NAME", help="its name or alias (no default)")
    part = "rows in a file, before they are compressed (default: %(default)s bytes)"
    add("--part", type=parse_bytes, default=PART_BYTES, metavar="SIZE", help=part)
    since = "a time or version that never gets smaller: later backups take what is new (default: "
    add("--since-field", metavar="FIELD", help=f"{since}all rows each time)")
    add("--whole", action="store_true", help="with --since-field: all rows nevertheless")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true", help="go on with one that was broken off")
    either.add_argument("--anew", action="store_true", help="begin anew in spite of such a one")
    parser.set_defaults(run=_backup)


def _add_list(parser: ArgumentParser) -> None:
    _add_common(parser, milvus=False)
    parser.set_defaults(run=_list)


def _add_verify(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the backup, as list shows it")
    _add_common(parser)
    live = "compare with the collection row by row (default: check the files alone)"
    parser.add_argument("--live", action="store_true", help=live)
    collection = "compare with this one (default: the one that was backed up)"
    parser.add_argument("--collection", metavar="NAME", help=collection)
    parser.set_defaults(run=_verify)


def _add_restore(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the backup, as list shows it")
    _add_common(parser)
    add = parser.add_argument
    add("--to", required=True, metavar="COLLECTION", help="a name that is free (no default)")
    without = "restore without it, as a refusal names it; may be given several times"
    add("--leave-out", action="append", default=[], metavar="WHAT", help=f"{without} (default: -)")
    add("--aliases", action="store_true", help="its aliases too, which must be free")
    add("--drop-unfinished", action="store_true", help="drop what a killed restore has left")
    parser.set_defaults(run=_restore)


def _connect(options: Namespace) -> AbstractContextManager[Milvus]:
    return connect(options.uri, token=options.token)


@contextmanager
def _rows_shown(what: str) -> Iterator[Callable[[int], object]]:
    """A function that shows a number of rows in a terminal, until this ends."""
    console = screen()
    if not console.is_interactive:
        yield lambda rows: None
        return
    columns = (TextColumn("{task.completed:,} rows " + what), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda rows: bar.update(task, completed=rows)


def _backup(options: Namespace, storage: Storage) -> int:
    started = time.perf_counter()
    with _connect(options) as milvus, _rows_shown("backed up") as tell:
        before = psutil.Process().memory_info().rss
        manifest = back_up(
            milvus,
            options.collection,
            storage,
            since_field=options.since_field,
            whole=options.whole,
            resume=options.resume,
            anew=options.anew,
            sizes=Sizes(part=options.part, page=options.page),
            progress=tell,
        )
        engine = ", the engine of Milvus Lite included" if milvus.kind == "lite" else ""
    reports.show_backup(manifest, time.perf_counter() - started)
    grown = max(0, _peak_memory() - before)
    say(f"Memory grew by {grown / 1e6:,.0f} MB at most{engine}.")
    return 0


def _peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: Linux begins that with the peak of the process that started this one.
        (line,) = (s for s in status.read_text().splitlines() if s.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _list(_: Namespace, storage: Storage) -> int:
    reports.show_backups(backups(storage), storage.location)
    return 0


def _verify(options: Namespace, storage: Storage) -> int:
    chain = chain_of(storage, options.name)
    rows = check_files(storage, chain)
    files = sum(len(manifest.parts) for manifest in chain)
    say(f"{rows:,} rows in {files:,} files: sizes, checksums and digests agree with the manifest.")
    if not options.live and not options.collection:
        return 0
    collection = options.collection or chain[-1].description["collection"]
    with _connect(options) as milvus:
        result = compare(milvus, storage, chain, collection, Sizes(page=options.page))
    reports.show_comparison(result, "backup", collection)
    return 0 if result.same else 1


def _restore(options: Namespace, storage: Storage) -> int:
    chain = chain_of(storage, options.name)
    check_files(storage, chain)
    with _connect(options) as milvus, _rows_shown("restored") as tell:
        plan = plan_restore(milvus, chain, options.leave_out)
        restored = restore(
            milvus,
            storage,
            chain,
            options.to,
            plan,
            aliases=options.aliases,
            drop_unfinished=options.drop_unfinished,
            sizes=Sizes(page=options.page),
            progress=tell,
        )
    reports.show_restored(restored, plan)
    aliases = ", ".join(plan.description["aliases"])
    if aliases and not options.aliases:
        say(f"Not given to it, since --aliases was not asked for: {aliases}.")
    return 0
