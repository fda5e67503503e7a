"""All that Milvus tells about a collection, as plain data, and a collection made after it.

    description = describe_whole(client, "papers")
    create_like(milvus, description, "papers_copy")

The description can be written as JSON. It holds the fields with every parameter, functions,
indexes, partitions, aliases and properties; not the rows.
"""

from collections.abc import Mapping
from typing import Any

from common.index_trial import params_for, params_told
from common.workspace import aliases_of

import orjson
from pymilvus import CollectionSchema, DataType, Function, FunctionType, MilvusClient

Description = dict[str, Any]

DEFAULT_PARTITION = "_default"
LONGEST_TEXT = 65_535  # bytes: max_length of what does not tell its own
_FLAGS = ("is_primary", "auto_id", "nullable", "is_partition_key", "is_clustering_key")
_NEEDED = {"HNSW": {"M": 16, "efConstruction": 200}, "IVF_FLAT": {"nlist": 128}}
_NEEDED |= {"IVF_SQ8": {"nlist": 128}, "HNSW_SQ": {"M": 16, "efConstruction": 200}}


def describe_whole(client: MilvusClient, collection: str, *, timeout: float) -> Description:
    """Everything about a collection, as plain data with sorted partitions and aliases.

    Raises:
        MilvusException: there is no such collection.
    """
    told = client.describe_collection(collection, timeout=timeout)
    name = told["collection_name"]  # where `collection` is an alias
    fields = [_field(raw) for raw in told["fields"]]
    has_key = any(field.get("is_partition_key") for field in fields)
    names = client.list_partitions(name, timeout=timeout)
    indexes = [
        _index(client.describe_index(name, index, timeout=timeout))
        for index in sorted(client.list_indexes(name, timeout=timeout))
    ]
    return {
        "collection": name,
        "description": told.get("description", ""),
        "enable_dynamic_field": bool(told.get("enable_dynamic_field")),
        "num_shards": told.get("num_shards", 1),
        "consistency_level": told.get("consistency_level_name", "Bounded"),
        "properties": dict(told.get("properties") or {}),
        "fields": fields,
        "structs": [raw["name"] for raw in told.get("struct_array_fields") or ()],
        "functions": [_function(raw) for raw in told.get("functions") or ()],
        "indexes": indexes,
        # Under a partition key Milvus makes the partitions, and tells their number alone.
        "partitions": [] if has_key else sorted(names),
        "num_partitions": len(set(names) - {DEFAULT_PARTITION}) if has_key else 0,
        "aliases": sorted(aliases_of(client, name)),
    }


def key_field(description: Description) -> dict[str, Any]:
    """The field that is the primary key."""
    return next(field for field in description["fields"] if field.get("is_primary"))


def is_vector(field: Mapping[str, Any]) -> bool:
    """Whether a field of a description holds vectors."""
    return field["type"].endswith("_VECTOR")


def same_schema(one: Description, other: Description) -> bool:
    """Whether two descriptions have the same fields, by name and type."""
    first, second = (
        {field["name"]: (field["type"], field["params"].get("dim")) for field in each["fields"]}
        for each in (one, other)
    )
    return first == second and one["enable_dynamic_field"] == other["enable_dynamic_field"]


def create_like(milvus: Any, description: Description, name: str, *, timeout: float) -> None:
    """Make an empty collection after a description: fields, functions, indexes, partitions.

    It is loaded where each of its vectors has an index. Aliases are left to the caller: they
    may be in use.

    Args:
        milvus: a connected `common.connection.Milvus`.
        description: of `describe_whole()`.
        name: of the new collection.
        timeout: seconds for each call.
    """
    client = milvus.client
    options = {"num_shards": description["num_shards"]} if milvus.kind != "lite" else {}
    if description["num_partitions"]:
        options["num_partitions"] = description["num_partitions"]
    client.create_collection(
        name,
        schema=schema_of(client, description),
        index_params=_index_params(milvus, description["indexes"]),
        consistency_level=description["consistency_level"],
        properties=description["properties"] or None,
        timeout=timeout,
        **options,
    )
    for partition in description["partitions"]:
        if partition != DEFAULT_PARTITION:
            client.create_partition(name, partition, timeout=timeout)


def schema_of(client: MilvusClient, description: Description) -> CollectionSchema:
    """The schema of a description, as `create_collection()` takes it."""
    schema = client.create_schema(
        enable_dynamic_field=description["enable_dynamic_field"],
        description=description["description"],
    )
    for field in description["fields"]:
        options = {flag: True for flag in _FLAGS if field.get(flag)}
        options |= {name: _read(name, value) for name, value in field["params"].items()}
        if "element_type" in field:
            options["element_type"] = DataType[field["element_type"]]
            if field["element_type"] == "VARCHAR":  # Milvus Lite does not tell it
                options.setdefault("max_length", LONGEST_TEXT)
        if "default_value" in field:
            options["default_value"] = field["default_value"]
        about = field.get("description", "")
        schema.add_field(field["name"], DataType[field["type"]], description=about, **options)
    for function in description["functions"]:
        names = (function["inputs"], function["outputs"])
        kind = FunctionType[function["type"]]
        schema.add_function(Function(function["name"], kind, *names, params=function["params"]))
    return schema


def _field(raw: Mapping[str, Any]) -> dict[str, Any]:
    params = {n: v for n, v in raw.get("params", {}).items() if isinstance(v, (str, int, float))}
    field = {"name": raw["name"], "type": DataType(raw["type"]).name, "params": params}
    field |= {flag: True for flag in (*_FLAGS, "is_function_output") if raw.get(flag)}
    if raw.get("description"):
        field["description"] = raw["description"]
    if raw["type"] == DataType.ARRAY:
        field["element_type"] = DataType(raw["element_type"]).name
    default = raw.get("default_value")
    kind = default.WhichOneof("data") if hasattr(default, "WhichOneof") else None
    if kind:
        field["default_value"] = getattr(default, kind)
    return field


def _function(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": raw["name"],
        "type": FunctionType(raw["type"]).name,
        "inputs": list(raw["input_field_names"]),
        "outputs": list(raw["output_field_names"]),
        "params": dict(raw.get("params") or {}),
    }


def _index(told: Mapping[str, Any]) -> dict[str, Any]:
    metric = told.get("metric_type", "")
    return {
        "name": told["index_name"],
        "field": told["field_name"],
        "type": told["index_type"],
        "metric": "" if metric == "NONE" else metric,
        "params": params_told(told),
    }


def _index_params(milvus: Any, indexes: list[dict[str, Any]]) -> Any:
    made = milvus.client.prepare_index_params()
    for index in indexes:
        # Milvus Lite builds with values of its own where none were given; a server needs them.
        params = {**_NEEDED.get(index["type"], {}), **index["params"]}
        options = {"metric_type": index["metric"]} if index["metric"] else {}
        made.add_index(
            index["field"],
            index_type=index["type"],
            index_name=index["name"],
            params=params_for(milvus, params),
            **options,
        )
    return made if indexes else None


def _read(name: str, value: object) -> object:
    """A parameter of a field, as `add_field()` takes what `describe_collection()` tells."""
    if isinstance(value, str) and name.startswith("enable_"):
        return value.lower() == "true"
    if isinstance(value, str) and name.endswith("_params"):
        return orjson.loads(value)
    return value
