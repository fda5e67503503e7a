"""What the backup commands show."""

from collections.abc import Sequence

from common.backup_comparison import Comparison
from common.backup_format import Manifest
from common.backup_trials import Copied
from common.display import say, table
from common.restore import Plan, Restored

_MEGA = 1_000_000


def show_copies(title: str, copies: Sequence[Copied]) -> None:
    """Ways to copy a collection, and what each lost."""
    rows = [(c.way, f"{c.there:,}", f"{c.lost:,}", f"{c.twice:,}") for c in copies]
    table(title, ("way", "rows there all the time", "lost", "twice"), rows)


def show_backup(manifest: Manifest, seconds: float) -> None:
    """One finished backup."""
    told = manifest.description
    kind = f"increment on {manifest.base}" if manifest.base else "whole"
    rows = [
        ("from", f"{told['collection']} of {manifest.milvus}"),
        ("kind", kind),
        ("rows", f"{manifest.rows:,}"),
        ("files", f"{len(manifest.parts)}, {manifest.bytes / _MEGA:,.1f} MB"),
        ("fields", ", ".join(each["name"] for each in told["fields"])),
        ("indexes", ", ".join(f"{i['field']}: {i['type']}" for i in told["indexes"]) or None),
        ("partitions", ", ".join(told["partitions"]) or f"{told['num_partitions']} by key"),
        ("aliases", ", ".join(told["aliases"]) or None),
        ("digest", manifest.digest),
        ("took", f"{seconds:.1f} s, {manifest.rows / max(seconds, 1e-9):,.0f} rows/s"),
    ]
    if manifest.since_field:
        rows.insert(2, ("up to", f"{manifest.since_field} = {manifest.mark}"))
    table("Backup", ("name", manifest.name), rows)
    first, last = manifest.counted[0], manifest.counted[-1]
    if manifest.base:
        return
    if first != last:
        say(f"The collection was written to: {first:,} rows at the begin, {last:,} at the end.")
    if manifest.rows < min(first, last):
        say(
            f"count(*) says {first:,} at the begin and {last:,} at the end, and {manifest.rows:,} "
            "keys were read. A key that was inserted twice is counted twice and kept once. If you "
            "insert no key twice, rows are missing: compare with verify --live."
        )


def show_backups(found: Sequence[tuple[str, Manifest | str, bool]], location: str) -> None:
    """All backups of a storage."""
    rows = []
    for name, manifest, finished in found:
        if isinstance(manifest, str):
            rows.append((name, manifest, "", "", ""))
            continue
        kind = f"on {manifest.base}" if manifest.base else "whole"
        state = kind if finished else f"unfinished, {kind}"
        size = f"{manifest.bytes / _MEGA:,.1f} MB"
        rows.append((name, manifest.milvus, f"{manifest.rows:,}", size, state))
    table(f"Backups in {location}", ("name", "from", "rows", "size", "kind"), rows)


def show_comparison(result: Comparison, one: str, other: str) -> None:
    """What two sets of rows have in common."""
    rows = [
        ("equal", f"{result.equal:,}", ""),
        ("changed", f"{result.changed:,}", _examples(result, "changed")),
        (f"only in {one}", f"{result.missing:,}", _examples(result, "missing")),
        (f"only in {other}", f"{result.extra:,}", _examples(result, "extra")),
    ]
    table(f"{one} against {other}, row by row", ("", "rows", "for example"), rows)


def _examples(result: Comparison, kind: str) -> str:
    return ", ".join(map(repr, result.examples.get(kind, ())))


def show_restored(restored: Restored, plan: Plan) -> None:
    """One collection that was restored."""
    say(
        f"{restored.collection}: {restored.rows:,} rows were read back from it, and their digest "
        f"{restored.digest} is that of the rows in the files."
    )
    for option in plan.left_out:
        say(f"Left out as asked: {option}.")
    for difference in restored.differences:
        say(f"Other than in the original: {difference}.")
