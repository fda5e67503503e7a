"""Changes of a collection as messages of a topic: how they are written, read and checked.

    key    the primary key as text: b"7"
    value  {"op": "upsert", "row": {"id": 7, "title": "Lamp", "vector": [0.1, 0.2]}}
           {"op": "delete", "id": 7}
           no value at all, as in a compacted topic: delete what the key names

Kafka keeps order within a partition only, and a message's key chooses its partition: so the key
is the primary key, and a message whose key is another is refused. What cannot be stored is told
with its reason, and the rest of its batch is not held up by it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.filters import in_list
from common.schema import check_rows

import orjson
from pymilvus import DataType

# What JSON can carry and `check_rows` reads from it. Bytes and half floats have no form in JSON.
JSON_TYPES = {
    *(DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64, DataType.BOOL),
    *(DataType.FLOAT, DataType.DOUBLE, DataType.VARCHAR, DataType.JSON, DataType.ARRAY),
    *(DataType.FLOAT_VECTOR, DataType.SPARSE_FLOAT_VECTOR, DataType.TEXT),
    *(DataType.GEOMETRY, DataType.TIMESTAMPTZ),
}
LONGEST_REASON = 500  # characters


class NotStreamable(ValueError):  # noqa: N818 - it reads as a sentence where it is raised
    """A collection whose rows cannot come from such a topic; the message says why."""

    exit_code = 2


class Received(NamedTuple):
    """A message as it came: where from, when (milliseconds since 1970), and its bytes."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time: int = 0


@dataclass(frozen=True)
class Change:
    """What one message says: store `row`, or delete the row with the key `id` (row None)."""

    message: Received
    id: int | str
    row: dict | None


class Refused(NamedTuple):
    """A message that cannot be stored, and why."""

    message: Received
    reason: str


@dataclass(frozen=True)
class Batch:
    """What is left of some messages: for each primary key its last operation.

    Attributes:
        changes: one for each key.
        superseded: how many changes were left out since a later one has the same key.
        refused: what cannot be stored.
        offsets: for each partition, by its number, the offset after the last of the messages.
    """

    changes: list[Change]
    superseded: int
    refused: list[Refused]
    offsets: dict[int, int]

    @property
    def rows(self) -> list[dict]:
        """The rows to upsert."""
        return [change.row for change in self.changes if change.row is not None]

    @property
    def deleted(self) -> list[int | str]:
        """The primary keys of the rows to delete; none of them is among `rows`."""
        return [change.id for change in self.changes if change.row is None]

    def halves(self) -> tuple["Batch", "Batch"]:
        """Its changes in two halves."""
        middle = len(self.changes) // 2
        parts = self.changes[:middle], self.changes[middle:]
        return tuple(Batch(part, 0, [], {}) for part in parts)


def upsert_message(row: Mapping[str, object], key_field: str = "id") -> tuple[bytes, bytes]:
    """Key and value of the message that stores a row; NumPy vectors become lists of numbers."""
    value = orjson.dumps({"op": "upsert", "row": row}, option=orjson.OPT_SERIALIZE_NUMPY)
    return str(row[key_field]).encode(), value


def delete_message(id: int | str) -> tuple[bytes, bytes]:
    """Key and value of the message that deletes a row."""
    return str(id).encode(), orjson.dumps({"op": "delete", "id": id})


class _Unusable(Exception):  # noqa: N818 - caught in this module
    """Why a message cannot be used."""


class MessageReader:
    """Reads messages for one collection.

    Args:
        description: what `client.describe_collection()` returns.

    Attributes:
        key_field: the name of the primary key.
        moves_rows: whether a field decides in which partition a row lies.

    Raises:
        NotStreamable: Milvus makes the primary keys itself, or JSON cannot carry a field.
    """

    def __init__(self, description: Mapping) -> None:
        self._schema = description
        fields = [field for field in description["fields"] if not field.get("is_function_output")]
        (key,) = (field for field in fields if field.get("is_primary"))
        name = description.get("collection_name", "")
        if key.get("auto_id"):
            raise NotStreamable(
                f"the collection {name!r} makes its primary keys itself (auto_id): a message "
                "could not say which row it changes. Make it with keys of your own."
            )
        for field in fields:
            if DataType(field["type"]) not in JSON_TYPES:
                kind = DataType(field["type"]).name
                raise NotStreamable(f"the field {field['name']!r} is a {kind}: no type of JSON")
        self.key_field: str = key["name"]
        # Some Milvus leave the old copy where it is when an upsert moves a row elsewhere.
        self.moves_rows = any(field.get("is_partition_key") for field in fields)
        self._key_is_number = key["type"] == DataType.INT64
        self._only_key = {"fields": [key]}
        self._sparse = [
            field["name"] for field in fields if field["type"] == DataType.SPARSE_FLOAT_VECTOR
        ]

    def read(self, messages: Sequence[Received]) -> Batch:
        """Sort messages out: what to store and delete, and what to refuse."""
        changes: list[Change] = []
        refused: list[Refused] = []
        for message in messages:
            try:
                changes.append(self._change(message))
            except _Unusable as error:
                refused.append(Refused(message, str(error)[:LONGEST_REASON]))
        troubles = self._troubles(changes)
        refused += [
            Refused(changes[place].message, reason[:LONGEST_REASON])
            for place, reason in sorted(troubles.items())
        ]
        good = [change for place, change in enumerate(changes) if place not in troubles]
        last = {change.id: change for change in good}  # a later one takes the place of an earlier
        offsets = {message.partition: message.offset + 1 for message in messages}
        return Batch(list(last.values()), len(good) - len(last), refused, offsets)

    def _change(self, message: Received) -> Change:
        key = self._text_of_key(message)
        if message.value is None:
            return Change(message, self._id_of(key), None)
        content = _parsed(message.value)
        operation = content.get("op")
        if operation == "upsert":
            row = content.get("row")
            if not isinstance(row, dict):
                raise _Unusable("no row: an upsert has its fields under 'row'")
            if self.key_field not in row:
                raise _Unusable(f"the row has no primary key {self.key_field!r}")
            id, row = row[self.key_field], self._with_sparse_indices(row)
        elif operation == "delete":
            if "id" not in content:
                raise _Unusable("no primary key: a delete names it under 'id'")
            id, row = content["id"], None
        else:
            raise _Unusable(f"unknown operation {operation!r}: it is 'upsert' or 'delete'")
        if str(id) != key:
            raise _Unusable(
                f"the message's key is {key!r}, the primary key {id!r}: order would not be kept"
            )
        return Change(message, id, row)

    def _text_of_key(self, message: Received) -> str:
        if not message.key:
            raise _Unusable("the message has no key: order would not be kept")
        try:
            return message.key.decode()
        except UnicodeDecodeError as error:
            raise _Unusable(f"the message's key is no UTF-8: {error.reason}") from error

    def _id_of(self, key: str) -> int | str:
        if not self._key_is_number:
            return key
        try:
            return int(key)
        except ValueError as error:
            raise _Unusable(f"the message's key {key!r} is no whole number") from error

    def _with_sparse_indices(self, row: dict) -> dict:
        """The row, with the names of sparse vectors in JSON, which are texts, as numbers."""
        for name in self._sparse:
            if isinstance(row.get(name), dict):
                try:
                    row[name] = {int(index): weight for index, weight in row[name].items()}
                except ValueError as error:
                    raise _Unusable(f"field {name!r}: an index is no whole number") from error
        return row

    def _troubles(self, changes: Sequence[Change]) -> dict[int, str]:
        """Why changes do not fit the schema, by their place among `changes`."""
        found: dict[int, str] = {}
        numbered = list(enumerate(changes))
        rows = [(place, change.id, change.row) for place, change in numbered if change.row]
        gone = [(place, change.id, {self.key_field: change.id}) for place, change in numbered
                if change.row is None]  # fmt: skip
        for schema, group in ((self._schema, rows), (self._only_key, gone)):
            # The checks take a key that comes twice for a fault: here it is none.
            for some in _without_repeats(group):
                places = [place for place, _, _ in some]
                for problem in check_rows(schema, [row for _, _, row in some], upsert=True):
                    place = places[problem.row]
                    told = f"field {problem.field!r}: {problem.problem}"
                    found[place] = f"{found[place]}; {told}" if place in found else told
        for place, id, _ in gone:
            if place not in found and (why := _cannot_be_named(self.key_field, id)):
                found[place] = why
        return found


def _parsed(value: bytes) -> dict:
    """The object of JSON that a message holds."""
    try:
        content = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if _has_nan(value):
            raise _Unusable("NaN or infinity, which JSON does not have") from error
        raise _Unusable(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _Unusable(f"not an object of JSON, but {type(content).__name__}")
    return content


def _has_nan(value: bytes) -> bool:
    """Whether the text would be JSON if JSON had NaN and infinity, as Python's own writer does."""
    names: list[str] = []
    try:
        json.loads(value, parse_constant=names.append)
    except (ValueError, RecursionError):
        return False
    return bool(names)


def _without_repeats(
    items: Iterable[tuple[int, int | str, dict]],
) -> list[list[tuple[int, int | str, dict]]]:
    """The items in rounds, none of which has a key twice: most of them are in the first."""
    rounds: list[list[tuple[int, int | str, dict]]] = []
    seen: Counter[str] = Counter()
    for item in items:
        key = repr(item[1])  # a list, which is no key, cannot be counted itself
        if seen[key] == len(rounds):
            rounds.append([])
        rounds[seen[key]].append(item)
        seen[key] += 1
    return rounds


def _cannot_be_named(field: str, id: int | str) -> str:
    """Why no filter, and so no delete, can name a key; '' if one can."""
    try:
        in_list(field, [id])
    except ValueError as error:
        return f"no filter can name this key: {error}"
    return ""
