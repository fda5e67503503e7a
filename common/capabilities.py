"""What runs on which Milvus: one table, which scripts ask, tests try and the README shows.

Three Milvus are told apart: Milvus Lite, the local server (the PyPI package `milvus` 2.3.5), and
any other server, for which the release counts in which a feature came. An engine that accepts a
call and does something else than asked does not have the feature: such a row says so.
"""

import re
from dataclasses import dataclass
from typing import Literal

from common.settings import PROJECT_ROOT

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
        setting: what must be switched on in the server's configuration; off by default, and a
            client cannot ask for it.
    """

    name: str
    group: Group
    lite: bool
    local_server: bool
    since: str
    lite_note: str = ""
    local_server_note: str = ""
    gpu: bool = False
    setting: str = ""


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
_STORED = "stores it, and retries the build of its index for ever"
_IGNORED = "accepts it and ignores it"
_TWO_TOKENIZERS = "tokenizers: `standard` and `jieba` only"
_COUNTS_ALL = "counts all partitions, whichever are named"
_SIXTEEN = "always 16 partitions, and a search reads all"
_ONE_RING = "points and polygons of one ring"
_LOON = "common.storage.useLoonFFI: true"
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
        _STORED,
    ),
    Feature("BFLOAT16_VECTOR", "vector type", False, False, "2.4"),
    Feature("INT8_VECTOR", "vector type", False, False, "2.6"),
    Feature("SPARSE_FLOAT_VECTOR", "vector type", True, False, "2.4"),
    Feature("JSON", "field", True, True, "2.2.9"),
    Feature("ARRAY", "field", True, True, "2.3"),
    Feature("TEXT", "field", False, False, "3.0", "", _CRASHES, setting=_LOON),
    Feature("GEOMETRY", "field", True, False, "2.6.4", _ONE_RING, _CRASHES),
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
    Feature("lindera", "search", False, False, "2.6", _TWO_TOKENIZERS),
    Feature("filter_templates", "search", False, False, "2.5"),
    Feature("iterative_filter", "search", False, False, "2.5.2", _IGNORED, _IGNORED),
    Feature("LIKE_INFIX", "search", True, False, "2.4", "", 'knows "prefix%" only'),
    Feature(
        "consistency_levels", "search", False, True, "2.0", "takes them all and is always strong"
    ),
    Feature("upsert", "operation", True, True, "2.3"),
    Feature("partial_update", "operation", True, False, "2.6.2"),
    Feature("partitions", "operation", True, True, "2.0"),
    Feature("load_partitions", "operation", False, True, "2.2"),
    Feature("count_in_partition", "operation", False, True, "2.3", _COUNTS_ALL),
    Feature("partition_key", "operation", True, True, "2.2.9", _SIXTEEN),
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
    Feature("bulk_import", "operation", False, False, "2.4"),
    Feature("snapshots", "operation", False, False, "3.0", setting=_LOON),
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
    elif row.setting and release(version) >= release(row.since):
        return Capability(False, f"Milvus {version} has it only when started with {row.setting}")
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
    if row.setting:
        return f"Milvus {row.since} or later with {row.setting} does"
    if kind == "lite" and row.local_server:
        return f"the {LOCAL_SERVER} (make server) and Milvus {row.since} or later do"
    if kind != "lite" and row.lite:
        return f"Milvus Lite and Milvus {row.since} or later do"
    return f"Milvus {row.since} or later does"


_KOREAN = {
    "vector index": "벡터 인덱스",
    "scalar index": "스칼라 인덱스",
    "vector type": "벡터 타입",
    "field": "필드",
    "search": "검색",
    "operation": "운영",
    "security": "보안",
    "feature": "기능",
    "yes": "지원",
    "since": "{}부터",
    LOCAL_SERVER: "로컬 서버 2.3.5",
    _BUILT_NOT: "빈 컬렉션에서는 이름을 받아들이지만 실제로 빌드할 때 실패",
    _HANGS: "빌드를 끝없이 재시도",
    _CRASHES: "서버가 죽고 재시작해도 다시 죽음: 이 타입을 절대 보내지 말 것",
    _IGNORED: "받아들이지만 무시",
    _ONE_RING: "점과 고리가 하나인 다각형만",
    _STORED: "저장은 되지만 인덱스 빌드를 끝없이 재시도",
    "drops the field": "필드를 버림",
    "ignores it: one group several times": "무시됨: 같은 그룹이 여러 번 나옴",
    "accepts the function and never runs it": "함수를 받아들이지만 실행하지 않음",
    'knows "prefix%" only': '"prefix%"만 가능',
    "takes them all and is always strong": "모두 받아들이지만 항상 Strong",
    _TWO_TOKENIZERS: "토크나이저는 `standard`와 `jieba`뿐",
    _COUNTS_ALL: "어떤 파티션을 지정해도 전체를 셈",
    _SIXTEEN: "파티션은 항상 16개, 검색은 전부 읽음",
    "one process at a time": "한 번에 한 프로세스만",
}


def markdown_table(language: Literal["en", "ko"] = "en") -> str:
    """The table as Markdown; a dash and a note stand where an engine lacks the feature."""

    def word(english: str) -> str:
        return _KOREAN.get(english, english) if language == "ko" else english

    def cell(able: bool, note: str) -> str:
        if able:
            return f"{word('yes')}, {word(note)}" if note else word("yes")
        return f"– {word(note)}".strip()

    lines = [
        f"| | {word('feature')} | {LITE} | {word(LOCAL_SERVER)} | {STACK} |",
        "|---|---|---|---|---|",
    ]
    group = ""
    for row in FEATURES:
        since = _KOREAN["since"].format(row.since) if language == "ko" else f"since {row.since}"
        cells = [
            f"**{word(row.group)}**" if row.group != group else "",
            f"`{row.name}`",
            cell(row.lite, row.lite_note),
            cell(row.local_server, row.local_server_note),
            f"{word('yes')} ({since}{_condition(row, language)})",
        ]
        group = row.group
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _condition(row: Feature, language: str) -> str:
    """What a server needs besides its release, after a comma."""
    if not row.gpu and not row.setting:
        return ""
    needed = "`-gpu` image" if row.gpu else f"`{row.setting}`"
    if language == "en":
        return f", with the {needed}" if row.gpu else f", with {needed}"
    return f", {'`-gpu` 이미지에서' if row.gpu else f'{needed} 설정 시'}"


TABLE_BEGIN = "<!-- capabilities: written by python -m common.capabilities -->"
TABLE_END = "<!-- end of capabilities -->"


def with_current_table(text: str, language: Literal["en", "ko"]) -> str:
    """`text` of a README with the table between its two markers replaced by the current one.

    Raises:
        ValueError: the markers are not there.
    """
    before, begin, rest = text.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise ValueError(f"no table between {TABLE_BEGIN!r} and {TABLE_END!r}")
    return f"{before}{begin}\n\n{markdown_table(language)}\n{end}{after}"


def main() -> None:
    """Write the table into both READMEs."""
    for name, language in (("README.md", "en"), ("README.ko.md", "ko")):
        path = PROJECT_ROOT / name
        path.write_text(with_current_table(path.read_text("utf-8"), language), "utf-8")
        print(f"{name}: the table of capabilities is current")


if __name__ == "__main__":
    main()
