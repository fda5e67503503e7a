"""What the schema of a collection says, and whether rows fit it: checked before anything is sent.

Milvus refuses a bad batch with the first thing that it finds, often without naming the row, and
some bad values it stores: NaN in a FLOAT field, say, or two rows with one primary key. Here all
problems of a batch are found at once, each with its row, its field and what to do about it.

The checks hold for every Milvus that the lessons run on. Where they differ, the stricter rule is
taken (max_length counts bytes as in Milvus, although Milvus Lite counts characters), so that what
passes here is accepted everywhere. What the checks leave to Milvus: the syntax of GEOMETRY and
TIMESTAMPTZ texts, what is inside the elements of a STRUCT array, and a field with a default that
some rows of a batch give and others leave out, which the 2.3 line refuses.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

from common.field_values import (
    INTEGERS,
    MAX_JSON_BYTES,
    Field,
    Trouble,
    column_is_fine,
    counted,
    json_is_fine,
    json_size,
    json_too_large,
    json_trouble,
    short,
    shown,
    value_trouble,
)

from pymilvus import CollectionSchema, DataType

SCHEMA_COLUMNS = ("field", "type", "limits", "notes")

MAX_PROBLEMS_SHOWN = 10
_META = "$meta"  # where Milvus keeps the dynamic fields
_ABSENT = object()


@dataclass(frozen=True)
class RowProblem:
    """One thing that is wrong with one row; `field` is empty where the row as a whole is meant."""

    row: int
    field: str
    problem: str
    hint: str

    def __str__(self) -> str:
        where = f'row {self.row}, field "{self.field}"' if self.field else f"row {self.row}"
        return f"{where}: {self.problem}; {self.hint}"


class RowsRefused(ValueError):  # noqa: N818 - it reads as a sentence where it is raised
    """Rows that do not fit the schema. Nothing of the batch that holds them was sent.

    `problems` are all problems of that batch. `rows_stored` says how many rows, counted from the
    first of the whole load, were stored before that batch.
    """

    exit_code = 1  # the message is made for people: no traceback around it

    def __init__(self, problems: Sequence[RowProblem], rows_stored: int = 0) -> None:
        self.problems = list(problems)
        self.rows_stored = rows_stored
        count = len({problem.row for problem in problems})
        lines = [
            f"{counted(len(self.problems), 'problem')} in {counted(count, 'row')}; "
            "nothing of this batch was sent",
            *(f"  {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN]),
        ]
        if len(self.problems) > MAX_PROBLEMS_SHOWN:
            lines.append(f"  and {len(self.problems) - MAX_PROBLEMS_SHOWN:,} more")
        if rows_stored:
            lines.append(
                f"The {counted(rows_stored, 'row')} before are stored: repair the rows above "
                f"and go on with start_at={rows_stored}."
            )
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class _Plan:
    """A schema, read for the checks."""

    fields: dict[str, Field]
    dynamic: bool

    @property
    def key(self) -> Field | None:
        """The primary key, if rows carry it."""
        return next((f for f in self.fields.values() if f.is_primary and not f.made_by), None)


class _Batch:
    """Rows with their numbers, and what they have in each field that they may have."""

    def __init__(self, plan: _Plan, rows: Sequence[dict], numbers: Sequence[int]) -> None:
        self.plan, self.rows, self.numbers = plan, rows, numbers
        self.columns: dict[str, list] = {}
        self.is_complete = True  # whether all rows have all fields
        for field in plan.fields.values():
            if field.made_by:
                continue
            try:
                self.columns[field.name] = [row[field.name] for row in rows]
            except KeyError:
                self.columns[field.name] = [row.get(field.name, _ABSENT) for row in rows]
                self.is_complete = False

    @property
    def numbered(self) -> Iterable[tuple[int, dict]]:
        return zip(self.numbers, self.rows, strict=True)


def describe_fields(schema: CollectionSchema | Mapping) -> list[tuple[str, str, str, str]]:
    """The fields of a schema as rows of a table, in the order of SCHEMA_COLUMNS.

    `schema` is a CollectionSchema or what `client.describe_collection()` returns.
    """
    plan = _read(schema)
    rows = [(f.name, _type_name(f), f.limits, f.notes) for f in plan.fields.values()]
    if plan.dynamic:
        rows.append((_META, "JSON", "", "dynamic fields: whatever else a row has"))
    return rows


def check_rows(
    schema: CollectionSchema | Mapping,
    rows: Sequence[dict],
    *,
    first_row: int = 0,
    upsert: bool = False,
) -> list[RowProblem]:
    """All problems of a batch of rows, in the order of the rows; an empty list if there are none.

    Columns are checked as a whole, dense vectors with NumPy. Only a column in which that finds
    something is looked at value by value.

    Args:
        schema: a CollectionSchema, or what `client.describe_collection()` returns.
        rows: dicts from field name to value, as `client.insert()` takes them.
        first_row: the number of the first row; the problems are numbered from it.
        upsert: the rows are for an upsert. Its rows carry their primary keys also where the
            collection makes the keys of inserted rows itself (auto_id).
    """
    plan = _read(schema, upsert)
    if not rows:
        hint = "give at least one row; is the source empty, or was it read to its end before?"
        return [RowProblem(first_row, "", "there are no rows", hint)]
    numbers: Sequence[int] = range(first_row, first_row + len(rows))
    problems = _shape_problems(rows, numbers)
    if problems:
        dicts = [(n, row) for n, row in zip(numbers, rows, strict=True) if isinstance(row, dict)]
        numbers, rows = [n for n, _ in dicts], [row for _, row in dicts]
    batch = _Batch(plan, rows, numbers)
    for check in (_name_problems, _value_problems, _key_problems, _dynamic_problems):
        problems += check(batch)
    return sorted(problems, key=attrgetter("row"))


def require_rows(
    schema: CollectionSchema | Mapping,
    rows: Sequence[dict],
    first_row: int = 0,
    *,
    upsert: bool = False,
) -> None:
    """Raise RowsRefused where `check_rows()` finds a problem."""
    problems = check_rows(schema, rows, first_row=first_row, upsert=upsert)
    if problems:
        raise RowsRefused(problems)


# Reading a schema


def _read(schema: CollectionSchema | Mapping, upsert: bool = False) -> _Plan:
    """Read a CollectionSchema or the answer of describe_collection."""
    if isinstance(schema, CollectionSchema):
        schema = schema.to_dict()
    if not isinstance(schema, Mapping) or "fields" not in schema:
        raise TypeError(
            "schema is a CollectionSchema or what client.describe_collection() returns, "
            f"not {shown(schema)}"
        )
    # Milvus 2.6 and later take keys in spite of auto_id where a property of the collection says so.
    takes_keys = str(schema.get("properties", {}).get("allow_insert_auto_id")).lower() == "true"
    fields = [_field(raw, upsert, takes_keys) for raw in schema["fields"]]
    structs = schema.get("struct_array_fields") or schema.get("struct_fields") or ()
    fields += [_struct_field(raw) for raw in structs]
    return _Plan({f.name: f for f in fields}, bool(schema.get("enable_dynamic_field")))


_LIMITS = {
    "dim": "dim {:,}",
    "max_length": "up to {:,} bytes",
    "max_capacity": "up to {:,} elements",
}


def _field(raw: Mapping, upsert: bool, takes_keys: bool) -> Field:
    params = raw.get("params", {})
    numbers = {name: int(params[name]) for name in _LIMITS if params.get(name) not in (None, "")}
    auto_id, nullable = bool(raw.get("auto_id")), bool(raw.get("nullable"))
    has_default = raw.get("default_value") is not None
    made_by = "a function of the collection" if raw.get("is_function_output") else ""
    if auto_id and not upsert and not takes_keys:
        made_by = "Milvus (auto_id)"
    notes = {
        "primary key": raw.get("is_primary"),
        "auto_id": auto_id,
        "partition key": raw.get("is_partition_key"),
        "nullable": nullable,
        "has a default": has_default,
        "made by a function": raw.get("is_function_output"),
    }
    element_type = raw.get("element_type")
    return Field(
        name=raw["name"],
        dtype=DataType(raw["type"]),
        element_type=DataType(element_type) if element_type else None,
        optional=nullable or has_default or (auto_id and not upsert),
        made_by=made_by,
        is_primary=bool(raw.get("is_primary")),
        limits=", ".join(_LIMITS[name].format(number) for name, number in numbers.items()),
        notes=", ".join(note for note, holds in notes.items() if holds),
        **numbers,
    )


def _struct_field(raw: Mapping) -> Field:
    """An array of structs: a list of dicts. What is inside them is left to Milvus."""
    capacity = raw.get("max_capacity") or raw.get("params", {}).get("max_capacity")
    return Field(
        name=raw["name"],
        dtype=DataType.ARRAY,
        element_type=DataType.STRUCT,
        max_capacity=int(capacity) if capacity else None,
        optional=bool(raw.get("nullable")),
        limits=_LIMITS["max_capacity"].format(int(capacity)) if capacity else "",
        notes=f"with {', '.join(part['name'] for part in raw.get('fields', ()))}",
    )


def _type_name(field: Field) -> str:
    if field.dtype == DataType.ARRAY and field.element_type is not None:
        return f"ARRAY of {field.element_type.name}"
    return field.dtype.name


# Rows as a whole


def _shape_problems(rows: Sequence, numbers: Sequence[int]) -> list[RowProblem]:
    """Rows that are no dicts."""
    if set(map(type, rows)) == {dict}:
        return []
    hint = "a row is a dict from field name to value"
    return [
        RowProblem(number, "", f"{shown(row)} instead of a dict", hint)
        for number, row in zip(numbers, rows, strict=True)
        if not isinstance(row, dict)
    ]


def _name_problems(batch: _Batch) -> list[RowProblem]:
    """Fields that rows lack, and fields that they must not have."""
    if batch.is_complete and set(map(len, batch.rows)) <= {len(batch.columns)}:
        return []  # all that they may have and nothing else
    plan, problems = batch.plan, []
    given = set(chain.from_iterable(batch.rows))
    unwanted = {name for name in given - batch.columns.keys() if not _is_dynamic(plan, name)}
    if unwanted:
        why = {name: _unwanted(plan, name) for name in unwanted}
        problems += [
            RowProblem(number, str(name), *why[name])
            for number, row in batch.numbered
            for name in row
            if name in unwanted
        ]
    hint = "give one in every row: the field is not nullable and has no default"
    for name, column in batch.columns.items():
        if not plan.fields[name].optional:
            problems += [
                RowProblem(number, name, "no value", hint)
                for number, value in zip(batch.numbers, column, strict=True)
                if value is _ABSENT
            ]
    return problems


def _is_dynamic(plan: _Plan, name: object) -> bool:
    """Whether a row may have `name` as a dynamic field."""
    taken = name in plan.fields or name == _META
    return plan.dynamic and isinstance(name, str) and not taken


def _unwanted(plan: _Plan, name: object) -> Trouble:
    """Why a row must not have the field `name`."""
    if name in plan.fields:
        return Trouble(f"given, but {plan.fields[name].made_by} makes it", "leave it out")
    if not isinstance(name, str):
        return Trouble(f"{shown(name)} is no name", "names of fields are texts")
    if name == _META:
        return Trouble("the name is reserved", "put dynamic fields into the row itself")
    near = difflib.get_close_matches(name, plan.fields, n=1)
    hint = "leave it out, or make the collection with this field or with dynamic fields"
    return Trouble(
        "the collection has no such field", f'did you mean "{near[0]}"?' if near else hint
    )


def _value_problems(batch: _Batch) -> list[RowProblem]:
    """Values that do not fit their field: the column at once, and one by one where need be."""
    problems = []
    for name, column in batch.columns.items():
        field = batch.plan.fields[name]
        if not column_is_fine(field, column):
            problems += [
                RowProblem(number, name, *trouble)
                for number, value in zip(batch.numbers, column, strict=True)
                if value is not _ABSENT and (trouble := value_trouble(field, value))
            ]
    return problems


def _key_problems(batch: _Batch) -> list[RowProblem]:
    """Primary keys that stand in the batch more than once."""
    key = batch.plan.key
    if key is None:
        return []
    column = batch.columns[key.name]
    if set(map(type, column)).issubset((str, *INTEGERS)) and len(set(column)) == len(column):
        return []
    kind = str if key.dtype == DataType.VARCHAR else INTEGERS
    hint = "give each key once: some Milvus keep both rows, some only one of them"
    problems, first = [], {}
    for number, value in zip(batch.numbers, column, strict=True):
        # What is no key, or missing, is told by the other checks.
        if isinstance(value, kind) and first.setdefault(value, number) != number:
            problem = f"the same primary key as row {first[value]}: {short(value)}"
            problems.append(RowProblem(number, key.name, problem, hint))
    return problems


def _dynamic_problems(batch: _Batch) -> list[RowProblem]:
    """Dynamic fields that cannot be written as JSON, or that are too large together."""
    plan, problems = batch.plan, []
    if not plan.dynamic or set(chain.from_iterable(batch.rows)) <= plan.fields.keys():
        return []
    for number, row in batch.numbered:
        extras = {name: value for name, value in row.items() if _is_dynamic(plan, name)}
        if json_is_fine(extras):
            continue
        troubles = {name: json_trouble(value, name) for name, value in extras.items()}
        found = [RowProblem(number, name, *why) for name, why in troubles.items() if why]
        if not found and (size := json_size(extras)) > MAX_JSON_BYTES:
            found = [RowProblem(number, _META, *json_too_large(size))]
        problems += found
    return problems
