"""What runs on which Milvus: one table, which scripts ask, tests try and the README shows.

Three Milvus are told apart: Milvus Lite, the local server (the PyPI package `milvus` 2.3.5), and
any other server, for which the release counts in which a feature came. An engine that accepts a
call and does something else than asked does not have the feature: such a row says so.
"""

import re
from dataclasses import dataclass
from typing import Literal

LITE = "Milvus Lite 3.2.2"
LOCAL_SERVER = "local server 2.3.5"
STACK = "Milvus 3.0.2"

Group = Literal[
    "vector index", "scalar index", "vector type", "field", "search", "operation", "security"
]


class UnknownFeatureError(KeyError):
    """A feature was asked for that the table does not have: a misspelt name."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Feature:
    """One row of the table.

    Attributes:
        name: what a script asks for.
        group: under which heading it stands.
        lite: whether Milvus Lite 3.2.2 has it.
        local_server: whether the local server 2.3.5 has it.
        since: the release that brought it, for any other server.
        lite_note, local_server_note: what happens there instead; starts in lower case.
        gpu: whether it takes an image with GPU support.
    """

    name: str
    group: Group
    lite: bool
    local_server: bool
    since: str
    lite_note: str = ""
    local_server_note: str = ""
    gpu: bool = False


@dataclass(frozen=True)
class Capability:
    """The answer of `can()`: true or false, and if false, why in one sentence."""

    able: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.able


_BUILT_NOT = "accepts the name for an empty collection and fails once it has to build"
_HANGS = "retries the build for ever"
_CRASHES = "crashes, and again at each start: never send it this type"
_IGNORED = "accepts it and ignores it"
_INDEX = "vector index"
_SCALAR_INDEX = "scalar index"

FEATURES = (
    Feature("FLAT", _INDEX, True, True, "2.0"),
    Feature("IVF_FLAT", _INDEX, True, True, "2.0"),
    Feature("IVF_SQ8", _INDEX, True, True, "2.0"),
    Feature("IVF_PQ", _INDEX, False, True, "2.0", _BUILT_NOT),
    Feature("IVF_RABITQ", _INDEX, False, False, "2.6", _BUILT_NOT),
    Feature("HNSW", _INDEX, True, True, "2.0"),
    Feature("HNSW_SQ", _INDEX, True, False, "2.5"),
    Feature("HNSW_PQ", _INDEX, False, False, "2.5", _BUILT_NOT),
    Feature("HNSW_PRQ", _INDEX, False, False, "2.5", _BUILT_NOT),
    Feature("SCANN", _INDEX, False, True, "2.3", _BUILT_NOT),
    Feature("DISKANN", _INDEX, False, False, "2.2", _BUILT_NOT, _HANGS),
    Feature("AISAQ", _INDEX, False, False, "2.6.4", _BUILT_NOT),
    Feature("AUTOINDEX", _INDEX, True, True, "2.2"),
    Feature("BIN_FLAT", _INDEX, False, True, "2.0"),
    Feature("BIN_IVF_FLAT", _INDEX, False, True, "2.0"),
    Feature("SPARSE_INVERTED_INDEX", _INDEX, True, False, "2.4"),
    Feature("GPU_CAGRA", _INDEX, False, False, "2.4", _BUILT_NOT, gpu=True),
    Feature("GPU_IVF_FLAT", _INDEX, False, False, "2.3", _BUILT_NOT, _HANGS, gpu=True),
    Feature("GPU_IVF_PQ", _INDEX, False, False, "2.3", _BUILT_NOT, _HANGS, gpu=True),
    Feature("GPU_BRUTE_FORCE", _INDEX, False, False, "2.4", _BUILT_NOT, gpu=True),
    Feature("INVERTED", _SCALAR_INDEX, True, False, "2.4"),
    Feature("STL_SORT", _SCALAR_INDEX, False, True, "2.0"),
    Feature("TRIE", _SCALAR_INDEX, False, True, "2.0"),
    Feature("BITMAP", _SCALAR_INDEX, False, False, "2.5"),
    Feature("NGRAM", _SCALAR_INDEX, False, False, "2.6"),
    Feature("FLOAT_VECTOR", "vector type", True, True, "2.0"),
    Feature("BINARY_VECTOR", "vector type", False, True, "2.0"),
    Feature(
        "FLOAT16_VECTOR",
        "vector type",
        False,
        False,
        "2.4",
        "",
        "stores it, and retries the build of its index for ever",
    ),
    Feature("BFLOAT16_VECTOR", "vector type", False, False, "2.4"),
    Feature("INT8_VECTOR", "vector type", False, False, "2.6"),
    Feature("SPARSE_FLOAT_VECTOR", "vector type", True, False, "2.4"),
    Feature("JSON", "field", True, True, "2.2.9"),
    Feature("ARRAY", "field", True, True, "2.3"),
    Feature("TEXT", "field", False, False, "3.0", "", _CRASHES),
    Feature("GEOMETRY", "field", True, False, "2.6.4", "", _CRASHES),
    Feature("TIMESTAMPTZ", "field", True, False, "2.6.6", "", _CRASHES),
    Feature("STRUCT", "field", False, False, "2.6.4", "drops the field", "drops the field"),
    Feature("dynamic_field", "field", True, True, "2.2.9"),
    Feature("nullable", "field", True, False, "2.5"),
    Feature("default_value", "field", True, True, "2.3"),
    Feature("range_search", "search", True, True, "2.3"),
    Feature("search_iterator", "search", True, True, "2.3"),
    Feature("query_iterator", "search", True, True, "2.3"),
    Feature("group_by", "search", True, False, "2.4", "", "ignores it: one group several times"),
    Feature("hybrid_search", "search", True, False, "2.4"),
    Feature("several_vector_fields", "search", True, False, "2.4"),
    Feature("BM25", "search", True, False, "2.5", "", "accepts the function and never runs it"),
    Feature("TEXT_MATCH", "search", True, False, "2.5"),
    Feature("PHRASE_MATCH", "search", False, False, "2.6"),
    Feature("run_analyzer", "search", False, False, "2.6"),
    Feature("filter_templates", "search", False, False, "2.5"),
    Feature("LIKE_INFIX", "search", True, False, "2.4", "", 'knows "prefix%" only'),
    Feature(
        "consistency_levels", "search", False, True, "2.0", "takes them all and is always strong"
    ),
    Feature("upsert", "operation", True, True, "2.3"),
    Feature("partial_update", "operation", True, False, "2.6.2"),
    Feature("partitions", "operation", True, True, "2.0"),
    Feature("load_partitions", "operation", False, True, "2.2"),
    Feature("partition_key", "operation", True, True, "2.2.9"),
    Feature("aliases", "operation", True, True, "2.0"),
    Feature("rename_collection", "operation", True, True, "2.2.9"),
    Feature("databases", "operation", True, True, "2.2.9"),
    Feature("use_database", "operation", True, False, "2.4"),
    Feature("load_state", "operation", True, True, "2.2.9"),
    Feature("collection_properties", "operation", True, True, "2.2"),
    Feature("ttl", "operation", False, False, "2.2", _IGNORED, _IGNORED),
    Feature("add_collection_field", "operation", False, False, "2.6"),
    Feature("truncate_collection", "operation", True, False, "2.6.8"),
    Feature("compaction", "operation", True, True, "2.0"),
    Feature("snapshots", "operation", False, False, "3.0"),
    Feature("resource_groups", "operation", False, True, "2.2"),
    Feature("describe_replica", "operation", False, True, "2.0"),
    Feature("several_processes", "operation", False, True, "2.0", "one process at a time"),
    Feature("users", "security", False, True, "2.2"),
    Feature("privilege_groups", "security", False, False, "2.5"),
    Feature("tls", "security", False, True, "2.0"),
)

_BY_NAME = {feature.name: feature for feature in FEATURES}


def feature(name: str) -> Feature:
    """The row called `name`.

    Raises:
        UnknownFeatureError: there is no such row.
    """
    if name not in _BY_NAME:
        raise UnknownFeatureError(f"no feature {name!r}; the table has: {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def capability(name: str, kind: str, version: str) -> Capability:
    """Whether the Milvus of this kind and version has the feature `name`.

    Args:
        name: a row of the table.
        kind: "lite", "standalone" or "cluster".
        version: as the server tells it, for example "2.3.5-lite" or "3.0.2-gpu".

    Raises:
        UnknownFeatureError: there is no such row.
    """
    row = feature(name)
    if kind == "lite":
        able, here, note = row.lite, LITE, row.lite_note
    elif is_local_server(version):
        able, here, note = row.local_server, LOCAL_SERVER, row.local_server_note
    elif row.gpu and "gpu" not in version:
        able, here, note = False, f"Milvus {version}", "not an image with GPU support"
    else:
        able = release(version) >= release(row.since)
        here, note = f"Milvus {version}", ""
    if able:
        return Capability(True)
    said = f" ({note})" if note else ""
    return Capability(False, f"{here} does not have it{said}; {_who_has(row, kind)}")


def is_local_server(version: str) -> bool:
    """Whether `version` is that of the PyPI package `milvus`, whose builds end in "-lite"."""
    return version.endswith("-lite")


def release(version: str) -> tuple[int, int, int]:
    """The three numbers of a version: "v2.6.4-gpu" gives (2, 6, 4).

    Raises:
        ValueError: the text does not begin with a version.
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        raise ValueError(f"{version!r} is no version of Milvus")
    return tuple(int(number or 0) for number in match.groups())


def _who_has(row: Feature, kind: str) -> str:
    if row.gpu:
        return f"Milvus {row.since} or later with the -gpu image and an NVIDIA GPU does"
    if kind == "lite" and row.local_server:
        return f"the {LOCAL_SERVER} (make server) and Milvus {row.since} or later do"
    if kind != "lite" and row.lite:
        return f"Milvus Lite and Milvus {row.since} or later do"
    return f"Milvus {row.since} or later does"


def markdown_table() -> str:
    """The table as Markdown, for README.md; "–" and a note where an engine lacks the feature."""
    lines = [
        f"| | feature | {LITE} | {LOCAL_SERVER} | {STACK} |",
        "|---|---|---|---|---|",
    ]
    group = ""
    for row in FEATURES:
        cells = [
            f"**{row.group}**" if row.group != group else "",
            f"`{row.name}`",
            _cell(row.lite, row.lite_note),
            _cell(row.local_server, row.local_server_note),
            "with the `-gpu` image" if row.gpu else f"yes (since {row.since})",
        ]
        group = row.group
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(able: bool, note: str) -> str:
    if able:
        return "yes"
    return f"– {note}" if note else "–"
