"""Restoring a backup into a new collection, of the same Milvus or of another.

    plan = plan_restore(milvus, chain, leave_out=["field:place"])
    restored = restore(milvus, storage, chain, "papers_copy", plan)

What the target cannot hold is refused by name before anything is written. The rows go into a
collection under a name of its own, are read back and compared by their digest, and only then is
it renamed: under the target's name there is a whole collection or none.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.backup import SIZES, Sizes
from common.backup_comparison import digest_of, effective_rows
from common.backup_format import (
    META,
    BackupRefused,
    Manifest,
    arrow_schema,
    part_batches,
    to_rows,
)
from common.capabilities import UnknownFeatureError
from common.collection_description import (
    Description,
    create_like,
    describe_whole,
    is_vector,
    key_field,
)
from common.data_types import DATA_TYPES
from common.display import error_line
from common.loading import load_rows
from common.object_storage import Storage
from common.row_digest import add_digests, as_text, row_digests

import pyarrow as pa

STAGING = "_restoring"  # the end of the name under which the rows are collected
ROWS_AT_ONCE = 4_000  # rows that go to one partition in one load
_IN_EVERY = {row.name for row in DATA_TYPES if row.in_every} | {"ARRAY", "JSON"}


class Obstacle(NamedTuple):
    """Something that the target cannot hold: the option that leaves it out, and why."""

    option: str
    reason: str


class RestoreFailed(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """A restore that did not end well; the message says what is left of it."""

    exit_code = 1


@dataclass(frozen=True)
class Plan:
    """The collection that is made, and what of the backup is not in it."""

    description: Description
    columns: tuple[str, ...]  # of the files, that are restored
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored:
    """What a restore made; `rows` and `digest` were read back from the target."""

    collection: str
    rows: int
    digest: str
    differences: list[str] = field(default_factory=list)  # in what Milvus tells of it


def obstacles(milvus: Any, description: Description) -> list[Obstacle]:
    """Everything in a collection that the target cannot hold."""
    found = []
    for each in description["fields"]:
        found += _field_obstacles(milvus, each, f"field:{each['name']}")
    vectors = [each for each in description["fields"] if is_vector(each)]
    if len(vectors) > 1:
        able = milvus.can("several_vector_fields")
        if not able:
            found += [Obstacle(f"field:{each['name']}", able.reason) for each in vectors[1:]]
    for function in description["functions"]:
        able = milvus.can("BM25")
        if function["type"] == "BM25" and not able:
            found.append(Obstacle(f"function:{function['name']}", able.reason))
    for index in description["indexes"]:
        reason = _reason(milvus, index["type"].upper())
        if reason:
            found.append(Obstacle(f"index:{index['name']}", reason))
    if key_field(description).get("auto_id"):
        reason = "Milvus would make new keys; without auto_id the rows keep those they have"
        found.append(Obstacle("auto_id", reason))
    return list(dict.fromkeys(found))


def plan_restore(milvus: Any, chain: Sequence[Manifest], leave_out: Sequence[str] = ()) -> Plan:
    """What is made on the target; everything that it cannot hold must be left out by name.

    Args:
        milvus: the target, connected.
        chain: of `chain_of()`.
        leave_out: `field:NAME`, `index:NAME`, `function:NAME`, `match:FIELD` or `auto_id`. With a
            field go its indexes, with a function what it makes. In the place of the index of a
            vector there is an AUTOINDEX.

    Raises:
        BackupRefused: something cannot be held or is not there, or without it nothing is left.
    """
    source = chain[-1].description
    description = copy.deepcopy(source)
    for option in leave_out:
        _leave_out(description, option)
    hindrances = obstacles(milvus, description)
    if hindrances:
        lines = [f"  --leave-out {one.option}: {one.reason}" for one in hindrances]
        raise BackupRefused(
            f"{milvus.label} cannot hold all of {chain[-1].name}; nothing was written. Leave out "
            "what it lacks, or restore elsewhere:\n" + "\n".join(lines)
        )
    if not any(is_vector(each) for each in description["fields"]):
        raise BackupRefused("no vector field is left, and a collection needs one")
    kept = {META, *(each["name"] for each in description["fields"])}
    columns = tuple(name for name in arrow_schema(source).names if name in kept)
    return Plan(description, columns, tuple(leave_out))


def restore(
    milvus: Any,
    storage: Storage,
    chain: Sequence[Manifest],
    target: str,
    plan: Plan,
    *,
    aliases: bool = False,
    drop_unfinished: bool = False,
    sizes: Sizes = SIZES,
    progress: Callable[[int], object] | None = None,
) -> Restored:
    """Make a collection of a backup.

    Args:
        milvus: the target, connected.
        storage, chain: the backup; check it with `common.backup.check_files()` before.
        target: the name of the collection; free.
        plan: of `plan_restore()`.
        aliases: give the collection the aliases of the backup too, which must be free.
        drop_unfinished: drop what a restore that was killed has left under the staging name.
        sizes: how much is read at once, and seconds for a call.
        progress: called with the number of rows that are stored.

    Raises:
        BackupRefused: the name or an alias is taken; nothing was written.
        RestoreFailed, BackupDamaged: it failed; the message says that nothing is left, or what.
    """
    client, staging = milvus.client, target + STAGING
    _require_free(milvus, target, plan, aliases, drop_unfinished, sizes.timeout)
    try:
        create_like(milvus, plan.description, staging, timeout=sizes.timeout)
        expected = _fill(milvus, storage, chain, staging, plan, sizes, progress)
        found = digest_of(milvus, staging, plan.columns, sizes)
        if found != expected:
            raise RestoreFailed(
                f"{expected[0]:,} rows of digest {expected[1]} were sent, and {found[0]:,} of "
                f"digest {found[1]} came back"
            )
        client.rename_collection(staging, target, timeout=sizes.timeout)
        _forget_schemas(client, staging, target)
    except BaseException as error:
        left = _clean_up(client, staging, target, sizes.timeout)
        if not isinstance(error, Exception):  # Ctrl-C
            error.add_note(left)
            raise
        why = str(error) if hasattr(error, "exit_code") else error_line(error)
        raise RestoreFailed(
            f"{target!r} was not restored: {why.removesuffix('.')}. {left}."
        ) from error
    client.load_collection(target, timeout=sizes.timeout)  # Milvus Lite releases what is renamed
    for alias in plan.description["aliases"] if aliases else ():
        client.create_alias(target, alias, timeout=sizes.timeout)
    made = describe_whole(client, target, timeout=sizes.timeout)
    return Restored(target, *found, differences(plan.description, made))


def differences(wanted: Description, made: Description) -> list[str]:
    """What a Milvus tells of a collection otherwise than it was asked for, in words."""
    found = []
    for name in ("description", "enable_dynamic_field", "num_shards", "consistency_level"):
        if wanted[name] != made[name]:
            found.append(f"{name}: {wanted[name]!r} became {made[name]!r}")
    for name in ("partitions", "num_partitions"):
        if wanted[name] != made[name]:
            found.append(f"{name}: {wanted[name]} became {made[name]}")
    for name, value in wanted["properties"].items():
        if made["properties"].get(name) != value:
            found.append(f"property {name}: {value!r} became {made['properties'].get(name)!r}")
    there = {each["name"]: each for each in made["fields"]}
    for each in wanted["fields"]:
        if _comparable(each) != _comparable(there.get(each["name"], {})):
            changes = _changes(_comparable(each), _comparable(there.get(each["name"], {})))
            found.append(f"field {each['name']}: {changes}")
    indexes = {index["field"]: index for index in made["indexes"]}
    for index in wanted["indexes"]:
        if index != indexes.get(index["field"]):
            changes = _changes(index, indexes.get(index["field"], {}))
            found.append(f"index {index['name']}: {changes}")
    return found


# Planning


def _reason(milvus: Any, feature: str) -> str:
    """Why the target lacks a feature; empty where it has it, or the table does not know it."""
    try:
        able = milvus.can(feature)
    except UnknownFeatureError:
        return ""
    return "" if able else able.reason


def _field_obstacles(milvus: Any, each: dict[str, Any], option: str) -> list[Obstacle]:
    found = []
    if each["type"] not in _IN_EVERY and (reason := _reason(milvus, each["type"])):
        found.append(Obstacle(option, reason))
    if each.get("nullable") and not milvus.can("nullable"):
        found.append(Obstacle(option, milvus.can("nullable").reason))
    matches = str(each["params"].get("enable_match", "")).lower() == "true"
    if matches and not milvus.can("TEXT_MATCH"):
        found.append(Obstacle(f"match:{each['name']}", milvus.can("TEXT_MATCH").reason))
    return found


def _leave_out(description: Description, option: str) -> None:
    """Take something out of a description, with what cannot be without it."""
    kind, _, name = option.partition(":")
    if option == "auto_id" and key_field(description).pop("auto_id", False):
        return
    known = {"field": "fields", "index": "indexes", "function": "functions", "match": "fields"}
    there = description.get(known.get(kind, ""), [])
    found = next((each for each in there if each["name"] == name), None)
    if found is None:
        raise BackupRefused(
            f"--leave-out {option}: there is no such thing in the backup. It takes field:NAME, "
            "index:NAME, function:NAME, match:FIELD or auto_id"
        )
    if kind == "index":
        _leave_out_index(description, found)
    elif kind == "function":
        description["functions"].remove(found)
        for output in found["outputs"]:
            _leave_out_field(description, output)
    elif kind == "match":
        for param in ("enable_match", "enable_analyzer", "analyzer_params"):
            found["params"].pop(param, None)
    else:
        if found.get("is_primary"):
            raise BackupRefused(f"--leave-out {option}: it is the primary key")
        _leave_out_field(description, name)


def _leave_out_index(description: Description, index: dict[str, Any]) -> None:
    vectors = {each["name"] for each in description["fields"] if is_vector(each)}
    if index["field"] in vectors:  # without any index a server does not load the collection
        index |= {"type": "AUTOINDEX", "params": {}}
    else:
        description["indexes"].remove(index)


def _leave_out_field(description: Description, name: str) -> None:
    description["fields"] = [each for each in description["fields"] if each["name"] != name]
    description["indexes"] = [each for each in description["indexes"] if each["field"] != name]
    for function in list(description["functions"]):
        if name in function["inputs"]:
            description["functions"].remove(function)
            for output in function["outputs"]:
                _leave_out_field(description, output)


def _require_free(
    milvus: Any,
    target: str,
    plan: Plan,
    aliases: bool,
    drop_unfinished: bool,
    timeout: float,
) -> None:
    client, staging = milvus.client, target + STAGING
    if client.has_collection(target, timeout=timeout):
        raise BackupRefused(
            f"{target!r} exists already at {milvus.address}: restore under another name"
        )
    if client.has_collection(staging, timeout=timeout):
        if not drop_unfinished:
            raise BackupRefused(
                f"{staging!r} exists: what a restore that was killed has left, unless it is "
                "yours. --drop-unfinished drops it and begins again"
            )
        client.drop_collection(staging, timeout=timeout)
    for alias in plan.description["aliases"] if aliases else ():
        if client.has_collection(alias, timeout=timeout):
            raise BackupRefused(f"the alias {alias!r} is in use: restore without --aliases")


# Rows


def _fill(
    milvus: Any,
    storage: Storage,
    chain: Sequence[Manifest],
    collection: str,
    plan: Plan,
    sizes: Sizes,
    progress: Callable[[int], object] | None,
) -> tuple[int, str]:
    """Load all rows of a chain; their number and digest, as they were sent."""
    rows, digest = 0, 0
    for partition, batch in _batches_of(storage, chain):
        kept = batch.select(list(plan.columns))
        sent = to_rows(kept, plan.description)
        options = {"partition": partition, "check": False, "timeout": sizes.timeout}
        load_rows(milvus.client, collection, sent, **options)
        digest = add_digests(row_digests(kept), digest)
        rows += kept.num_rows
        if progress is not None:
            progress(rows)
    return rows, as_text(digest)


def _batches_of(storage: Storage, chain: Sequence[Manifest]):
    """The rows that a chain restores: pairs of a partition and a batch."""
    if len(chain) == 1:
        for part in chain[0].parts:
            for batch in part_batches(storage, chain[0], part):
                yield part.partition, batch
        return
    waiting: dict[str, list[pa.RecordBatch]] = {}
    for _, partition, batch, row in effective_rows(storage, chain):
        rows = waiting.setdefault(partition, [])
        rows.append(batch.slice(row, 1))
        if len(rows) == ROWS_AT_ONCE:
            yield partition, _joined(waiting.pop(partition))
    for partition, rows in waiting.items():
        yield partition, _joined(rows)


def _joined(rows: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches(rows)


def _forget_schemas(client: Any, *names: str) -> None:
    """Let pymilvus ask for the schemas anew: it keeps them by name, also after a rename.

    Otherwise rows for the next collection of the staging name would be sent in the form of this.
    """
    for name in names:
        client._get_connection()._invalidate_schema(name, db_name=client._config.db_name or "")


def _clean_up(client: Any, staging: str, target: str, timeout: float) -> str:
    """Drop what a restore that failed has made; what is left, in words."""
    try:
        client.drop_collection(staging, timeout=timeout)
    except Exception as error:  # noqa: BLE001 - the failure of the restore is the one to show
        return (
            f"Nothing is there under {target!r}, but {staging!r} may be left and could not be "
            f"dropped: {error_line(error)}"
        )
    return f"Nothing is left of it: {target!r} does not exist"


def _comparable(each: dict[str, Any]) -> dict[str, Any]:
    """A field without what engines write differently."""
    params = {name: str(value) for name, value in each.get("params", {}).items()}
    return {**each, "params": params}


def _changes(wanted: dict[str, Any], made: dict[str, Any]) -> str:
    """What differs between two dicts, in words."""
    names = [name for name in {**wanted, **made} if wanted.get(name) != made.get(name)]
    return ", ".join(f"{name} {wanted.get(name)!r} became {made.get(name)!r}" for name in names)
