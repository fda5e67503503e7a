"""The vector indexes of Milvus as data: their parameters, with ranges and defaults, and checks.

    check_build_params("HNSW", {"M": 16, "efConstruction": 200}, dimension=384)
    check_search_params("HNSW", {"ef": 64}, limit=10)

Ranges and defaults are those of the page "Index Explained" and of the page of each index in
Milvus' documentation (milvus.io/docs), checked against Knowhere, the library in Milvus that builds
them. A check here comes before anything is sent, since Milvus itself lets much pass: it ignores a
name that it does not know, some releases take a value that they can then never build, and a number
of clusters that does not fit the rows is lowered without a word.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from types import MappingProxyType
from typing import Literal

import numpy as np

INT_MAX = 2**31 - 1
MOST_RESULTS = 16_384  # of one search
MOST_RESULTS_GPU = 1_024

# Knowhere trains each cluster on at least this many rows, and lowers nlist until it can.
ROWS_PER_CLUSTER = 39

FLOATS = ("FLOAT_VECTOR", "FLOAT16_VECTOR", "BFLOAT16_VECTOR", "INT8_VECTOR")
FLOAT_METRICS = ("COSINE", "L2", "IP")
GPU_METRICS = ("L2", "IP")
BINARY_METRICS = ("HAMMING", "JACCARD")

Kind = Literal["whole number", "number", "true or false", "name"]
Family = Literal["exact", "clusters", "graph", "disk", "gpu", "sparse"]


class ParameterError(ValueError):
    """A parameter that cannot work; the message names it, its value, its range and what to do."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of an index.

    Attributes:
        name: as Milvus spells it, capitals included.
        kind: what values it takes.
        meaning: what it does, in one line.
        low, high: the range of a number, both included unless `open_low` or `open_high`.
        default: what newer releases take where it is not given; None where there is no default.
            Milvus 2.3 has none for nlist, M and efConstruction: use `with_defaults`.
        default_text: the default where it is computed.
        required: whether it must be given.
        choices: the names it takes.
    """

    name: str
    kind: Kind
    meaning: str
    low: float | None = None
    high: float | None = None
    default: object = None
    default_text: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    open_low: bool = False
    open_high: bool = False

    @property
    def range(self) -> str:
        """The values that it takes, in words: "a whole number from 1 to 65,536"."""
        if self.kind == "name":
            return f"one of {', '.join(self.choices)}"
        if self.kind == "true or false":
            return "true or false"
        low = f"{'over' if self.open_low else 'from'} {self.low:,}"
        if self.high is None:
            return f"a {self.kind} {low} up"
        return f"a {self.kind} {low} {'to under' if self.open_high else 'to'} {self.high:,}"

    def allows(self, value: object) -> bool:
        """Whether `value` is of the right kind and in the range."""
        if self.kind == "name":
            return isinstance(value, str) and value.upper() in self.choices
        if self.kind == "true or false":
            return isinstance(value, bool | np.bool_) or value in ("true", "false")
        number = Integral if self.kind == "whole number" else Real
        if not isinstance(value, number) or isinstance(value, bool) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        high = math.inf if self.high is None else self.high
        return above and (value < high if self.open_high else value <= high)


@dataclass(frozen=True)
class Index:
    """A vector index.

    Attributes:
        name: its `index_type`.
        family: how it is built, which decides what it costs.
        meaning: how it works, in one line.
        build: the parameters that `add_index(params=...)` takes.
        search: the parameters that `search(search_params={"params": ...})` takes.
        metrics: the metric types that it knows, the default first.
        vector_types: the types of vector fields that it can index.
        configuration: what only milvus.yaml can set, for the whole server.
        page: the page of Milvus' documentation, at milvus.io/docs/<page>.
    """

    name: str
    family: Family
    meaning: str
    build: tuple[Parameter, ...] = ()
    search: tuple[Parameter, ...] = ()
    metrics: tuple[str, ...] = FLOAT_METRICS
    vector_types: tuple[str, ...] = FLOATS
    configuration: tuple[Parameter, ...] = ()
    page: str = "index-explained.md"


def _whole(
    name: str, low: int, high: int | None, default: int | None, meaning: str, **more: object
) -> Parameter:
    return Parameter(name, "whole number", meaning, low, high, default, **more)


def _number(
    name: str, low: float, high: float | None, default: float, meaning: str, **more: object
) -> Parameter:
    return Parameter(name, "number", meaning, low, high, default, **more)


def _flag(name: str, default: bool, meaning: str) -> Parameter:
    return Parameter(name, "true or false", meaning, default=default)


def _name(name: str, choices: Iterable[str], default: str | None, meaning: str) -> Parameter:
    return Parameter(name, "name", meaning, choices=tuple(choices), default=default)


_AT_LEAST_16 = {"default_text": "the limit, at least 16"}
BITS = {"SQ4U": 4, "SQ6": 6, "SQ8": 8, "BF16": 16, "FP16": 16, "FP32": 32, "FLAT": 32}

_NLIST = _whole("nlist", 1, 65_536, 128, "clusters that the rows are sorted into")
_NPROBE = _whole("nprobe", 1, 65_536, 8, "clusters that a search looks into, at most nlist")
_M_LINKS = _whole(
    "M", 2, 2_048, 30, "links of a row on each level of the graph, twice that on the lowest"
)
_EF_CONSTRUCTION = _whole(
    "efConstruction", 1, INT_MAX, 360, "candidates kept while a row is linked into the graph"
)
_EF = _whole(
    "ef", 1, INT_MAX, None, "candidates kept while searching, at least the limit", **_AT_LEAST_16
)
_NBITS = _whole("nbits", 1, 24, 8, "bits of each part's code: 2 to that power entries in its book")
_M_PARTS = _whole(
    "m", 1, 65_536, None, "parts that a vector is cut into; divides the dimension", required=True
)
_REFINE = _flag("refine", False, "also keep the rows in refine_type, to re-rank candidates")
_REFINE_TYPE = _name(
    "refine_type", ("SQ6", "SQ8", "FP16", "BF16", "FP32"), None, "how those rows are kept"
)
_REFINE_TYPE_GRAPH = _name("refine_type", BITS, None, "how those rows are kept")
_REFINE_K = _number("refine_k", 1, None, 1.0, "candidates to re-rank, as a multiple of the limit")
_CACHE_ON_DEVICE = _flag("cache_dataset_on_device", False, "keep the rows on the GPU, to re-rank")
_DEGREE = _whole("max_degree", 1, 512, 56, "links of a row in the graph")
_LIST_SIZE = _whole("search_list_size", 1, INT_MAX, 100, "candidates kept while linking a row")
_GRAPH = (_M_LINKS, _EF_CONSTRUCTION)
_GRAPH_REFINED = (_REFINE, _REFINE_TYPE_GRAPH)
_IVF = {"family": "clusters", "search": (_NPROBE,)}

_ALL = (
    Index(
        "FLAT",
        "exact",
        "compares the query with every row: exact, no index is built",
        page="flat.md",
    ),
    Index(
        "IVF_FLAT",
        meaning="sorts the rows into clusters, compares those of the nearest ones",
        build=(_NLIST,),
        page="ivf-flat.md",
        **_IVF,
    ),
    Index(
        "IVF_SQ8",
        meaning="as IVF_FLAT, with each component rounded to one byte",
        build=(_NLIST,),
        page="ivf-sq8.md",
        **_IVF,
    ),
    Index(
        "IVF_PQ",
        meaning="as IVF_FLAT, with each part of a vector replaced by a short code",
        build=(_NLIST, _M_PARTS, _NBITS),
        page="ivf-pq.md",
        **_IVF,
    ),
    Index(
        "IVF_RABITQ",
        "clusters",
        "as IVF_FLAT, with one bit for each component",
        build=(_NLIST, _REFINE, _REFINE_TYPE),
        search=(
            _NPROBE,
            _whole("rbq_query_bits", 0, 8, 0, "bits of a query's components; 0 keeps them whole"),
            _REFINE_K,
        ),
        page="ivf-rabitq.md",
    ),
    Index(
        "SCANN",
        "clusters",
        "clusters with 4-bit codes read by SIMD, then whole rows to re-rank",
        build=(
            _NLIST,
            # Milvus 2.3 cannot read Python's True here and retries the build for ever: "true".
            _flag("with_raw_data", True, 'keep the whole rows to re-rank; write it as "true"'),
        ),
        search=(
            _NPROBE,
            _whole(
                "reorder_k",
                1,
                INT_MAX,
                None,
                "candidates to re-rank, at least the limit",
                default_text="the limit",
            ),
        ),
        page="scann.md",
    ),
    Index(
        "HNSW",
        "graph",
        "walks a graph of neighbours, level by level, towards the query",
        build=_GRAPH,
        search=(_EF,),
        page="hnsw.md",
    ),
    Index(
        "HNSW_SQ",
        "graph",
        "as HNSW, with components rounded to 4 to 16 bits",
        build=(
            *_GRAPH,
            _name("sq_type", ("SQ4U", "SQ6", "SQ8", "BF16", "FP16"), "SQ8", "how they are rounded"),
            *_GRAPH_REFINED,
        ),
        search=(_EF, _REFINE_K),
        page="hnsw-sq.md",
    ),
    Index(
        "HNSW_PQ",
        "graph",
        "as HNSW, with each part of a vector replaced by a short code",
        build=(
            *_GRAPH,
            _whole("m", 1, 65_536, 32, "parts that a vector is cut into; divides the dimension"),
            _NBITS,
            *_GRAPH_REFINED,
        ),
        search=(_EF, _REFINE_K),
        page="hnsw-pq.md",
    ),
    Index(
        "HNSW_PRQ",
        "graph",
        "as HNSW_PQ, with further codes for what the first one misses",
        build=(
            *_GRAPH,
            _whole("m", 1, 65_536, 2, "parts that a vector is cut into; divides the dimension"),
            _whole("nrq", 1, 16, 2, "codes of each part, each for what the ones before it miss"),
            _NBITS,
            *_GRAPH_REFINED,
        ),
        search=(_EF, _REFINE_K),
        page="hnsw-prq.md",
    ),
    Index(
        "DISKANN",
        "disk",
        "a graph on an SSD with whole rows, walked with short codes in memory",
        search=(
            _whole(
                "search_list",
                1,
                INT_MAX,
                None,
                "candidates kept while searching, at least the limit",
                **_AT_LEAST_16,
            ),
        ),
        configuration=(
            _whole("MaxDegree", 1, 512, 56, "links of a row in the graph"),
            _whole("SearchListSize", 1, INT_MAX, 100, "candidates kept while linking a row"),
            _number(
                "PQCodeBudgetGBRatio",
                0,
                0.25,
                0.125,
                "codes in memory, as a share of the rows",
                open_low=True,
            ),
            _number(
                "SearchCacheBudgetGBRatio",
                0,
                0.3,
                0.1,
                "cached part of the graph, as a share of the rows",
                open_high=True,
            ),
            _number("BeamWidthRatio", 1, None, 4.0, "reads under way at once, for each core"),
        ),
        page="diskann.md",
    ),
    Index(
        "AISAQ",
        "disk",
        "as DISKANN, with the codes on the SSD too: hardly any memory",
        build=(
            _DEGREE,
            _LIST_SIZE,
            _whole(
                "inline_pq",
                -1,
                2_048,
                -1,
                "codes kept beside each row; -1: what its page has room for",
            ),
            _flag("rearrange", True, "order the codes on the SSD by nearness"),
            _whole("num_entry_points", 0, None, 100, "rows from which a search may start"),
            _number(
                "pq_code_budget_gb_ratio",
                0,
                0.25,
                0.125,
                "codes, as a share of the rows",
                open_low=True,
            ),
            _number(
                "disk_pq_code_budget_gb_ratio",
                0,
                0.25,
                0.25,
                "finer codes to re-rank with, as a share of the rows; 0: whole rows",
            ),
            _whole("pq_cache_size", 0, None, 0, "bytes of memory that cache codes"),
        ),
        search=(
            _whole(
                "search_list", 1, INT_MAX, 16, "candidates kept while searching, at least the limit"
            ),
            _whole("beamwidth", 1, 16, 8, "reads under way at once"),
            _whole("vectors_beamwidth", 1, 4, 1, "rows fetched at once"),
        ),
        page="aisaq.md",
    ),
    Index(
        "GPU_CAGRA",
        "gpu",
        "a graph of neighbours, built and walked by a GPU",
        build=(
            _whole("intermediate_graph_degree", 1, None, 128, "links of a row before pruning"),
            _whole("graph_degree", 1, None, 64, "links of a row after pruning"),
            _name("build_algo", ("IVF_PQ", "NN_DESCENT"), "IVF_PQ", "how the first graph is made"),
            _CACHE_ON_DEVICE,
            _flag("adapt_for_cpu", False, "build on the GPU and search on the CPU"),
        ),
        search=(
            _whole(
                "itopk_size",
                1,
                None,
                None,
                "candidates kept, at least the limit",
                default_text="the limit, at least 64, in steps of 32",
            ),
            _whole(
                "search_width",
                1,
                None,
                None,
                "rows expanded in each step",
                default_text="a 32nd of the limit, rounded up",
            ),
            _whole("min_iterations", 0, None, 0, "fewest steps; 0 lets Milvus choose"),
            _whole("max_iterations", 0, None, 0, "most steps; 0 lets Milvus choose"),
            _whole("team_size", 0, 32, 0, "threads for one distance; 0 lets Milvus choose"),
            _whole("num_random_samplings", 1, None, 1, "draws of rows to start from"),
            _whole("ef", 1, INT_MAX, None, "as in HNSW, with adapt_for_cpu", **_AT_LEAST_16),
        ),
        metrics=GPU_METRICS,
        page="gpu-cagra.md",
    ),
    Index(
        "GPU_IVF_FLAT",
        "gpu",
        "IVF_FLAT on a GPU",
        build=(_NLIST, _CACHE_ON_DEVICE),
        search=(_NPROBE,),
        metrics=GPU_METRICS,
        page="gpu-ivf-flat.md",
    ),
    Index(
        "GPU_IVF_PQ",
        "gpu",
        "IVF_PQ on a GPU",
        build=(_NLIST, _M_PARTS, _NBITS, _CACHE_ON_DEVICE),
        search=(_NPROBE,),
        metrics=GPU_METRICS,
        page="gpu-ivf-pq.md",
    ),
    Index(
        "GPU_BRUTE_FORCE",
        "gpu",
        "FLAT on a GPU: exact",
        metrics=GPU_METRICS,
        page="gpu-brute-force.md",
    ),
    Index(
        "BIN_FLAT",
        "exact",
        "FLAT for vectors of bits: exact",
        metrics=BINARY_METRICS,
        vector_types=("BINARY_VECTOR",),
        page="bin-flat.md",
    ),
    Index(
        "BIN_IVF_FLAT",
        meaning="IVF_FLAT for vectors of bits",
        build=(_NLIST,),
        metrics=BINARY_METRICS,
        vector_types=("BINARY_VECTOR",),
        page="bin-ivf-flat.md",
        **_IVF,
    ),
    Index(
        "SPARSE_INVERTED_INDEX",
        "sparse",
        "for each dimension, the rows in which it is not zero",
        build=(
            _name(
                "inverted_index_algo",
                (
                    "DAAT_MAXSCORE",
                    "DAAT_WAND",
                    "TAAT_NAIVE",
                    "BLOCK_MAX_MAXSCORE",
                    "BLOCK_MAX_WAND",
                    "SINDI",
                ),
                "DAAT_MAXSCORE",
                "how a search runs through those lists",
            ),
            _number("bm25_k1", 1.2, 2.0, 1.2, "BM25: how much repeated words count"),
            _number("bm25_b", 0, 1, 0.75, "BM25: how much long texts are held back"),
        ),
        search=(
            _number(
                "drop_ratio_search",
                0,
                1,
                0.0,
                "share of a query's smallest values to drop",
                open_high=True,
            ),
        ),
        metrics=("IP", "BM25"),
        vector_types=("SPARSE_FLOAT_VECTOR",),
        page="sparse-inverted-index.md",
    ),
)

INDEXES: Mapping[str, Index] = MappingProxyType({index.name: index for index in _ALL})

# What every index takes beside its own parameters.
_GENERAL = {
    "build": ("mmap.enabled",),
    "search": ("radius", "range_filter", "hints", "page_retain_order", "round_decimal"),
}
_ANNOY = ("search_k", "n_trees")


def index_named(name: str) -> Index:
    """The index of the catalogue called `name`.

    Raises:
        ParameterError: there is none; the message names the nearest.
    """
    if name not in INDEXES:
        hint = _did_you_mean(name, INDEXES)
        raise ParameterError(f"no index {name!r}{hint}. There are: {', '.join(INDEXES)}.")
    return INDEXES[name]


def with_defaults(index: str, params: Mapping[str, object]) -> dict[str, object]:
    """`params` with the defaults of the other build parameters, as they can be sent.

    Milvus 2.3 has no defaults for nlist, M and efConstruction: without them it refuses the index.

    Raises:
        ParameterError: as `check_build_params`.
    """
    check_build_params(index, params)
    defaults = {p.name: p.default for p in index_named(index).build if p.default is not None}
    return {**defaults, **params}


def check_build_params(
    index: str,
    params: Mapping[str, object],
    *,
    dimension: int | None = None,
    rows: int | None = None,
    metric: str | None = None,
    data_type: str | None = None,
) -> None:
    """Check what is to go into `add_index(index_type=index, params=params)`.

    Args:
        index: the index type.
        params: what goes into `params`.
        dimension: of the vectors, None where it is not known yet.
        rows: how many there will be, None where it is not known. Milvus builds an index for each
            segment: with several, it is the rows of the smallest that count.
        metric: the metric type, None to leave it unchecked.
        data_type: the type of the vector field, None to leave it unchecked.

    Raises:
        ParameterError: the first problem, with the parameter, its value, its range and a remedy.
    """
    chosen = index_named(index)
    _check_names(chosen, params, "build")
    check_values(chosen, chosen.build, params)
    _check_field(chosen, metric, data_type, dimension)
    values = parameter_values(chosen.build, params)
    _check_refine(chosen, params, values)
    if dimension is not None:
        _check_parts(chosen, values, dimension)
    if rows is not None:
        _check_rows(chosen, values, rows)
    if values.get("graph_degree", 0) > values.get("intermediate_graph_degree", math.inf):
        raise ParameterError(
            f"{index}: graph_degree={values['graph_degree']} is more than "
            f"intermediate_graph_degree={values['intermediate_graph_degree']}, from which it is "
            "pruned. Lower it, or raise the other."
        )


def check_search_params(
    index: str,
    params: Mapping[str, object],
    *,
    limit: int | None = None,
    build: Mapping[str, object] | None = None,
) -> None:
    """Check what is to go into `search(search_params={"params": params})`.

    Args:
        index: the type of the index that is searched.
        params: what goes into "params".
        limit: the `limit` of the search, None to leave what depends on it unchecked.
        build: the parameters with which the index was built, or what `describe_index` says of
            it; None where they are not known.

    Raises:
        ParameterError: the first problem, with the parameter, its value, its range and a remedy.
    """
    chosen = index_named(index)
    _check_names(chosen, params, "search")
    check_values(chosen, chosen.search, params)
    if limit is not None:
        _check_limit(chosen, params, limit)
    if build is None:
        return
    built = parameter_values(chosen.build, build)
    clusters = int(built.get("nlist", 0))
    if "nprobe" in params and params["nprobe"] > clusters:
        raise ParameterError(
            f"{index}: nprobe={params['nprobe']} is more than the nlist={clusters} clusters that "
            f"there are. Use a whole number from 1 to {clusters:,}; the last compares all rows."
        )
    refined = built.get("refine") in (True, "true")
    if "refine_k" in params and not refined:
        raise ParameterError(
            f"{index}: refine_k={params['refine_k']} does nothing here, since the index was built "
            "without refine. Build it with refine=true and a refine_type, or leave refine_k out."
        )


def _check_names(
    index: Index, params: Mapping[str, object], stage: Literal["build", "search"]
) -> None:
    """Refuse a name that does not belong here, with the one that was probably meant."""
    own = {p.name for p in (index.build if stage == "build" else index.search)}
    own.update(_GENERAL[stage])
    for name, value in params.items():
        if name not in own:
            raise ParameterError(f"{index.name}: {name}={value!r} {_why_not(index, name, stage)}")


def _why_not(index: Index, name: str, stage: str) -> str:
    mine = [p.name for p in (index.build if stage == "build" else index.search)]
    takes = f"{index.name} takes {', '.join(mine) if mine else 'no parameter'} here"
    if name in _ANNOY:
        return (
            "is a parameter of ANNOY, an index that Milvus no longer has. Milvus accepts it "
            f"silently and ignores it. Leave it out: {takes}."
        )
    if name in ("params", "metric_type", "index_type"):
        return f"stands beside the parameters and is none: give only what is inside. {takes}."
    if name in {p.name for p in index.configuration}:
        return (
            "cannot be set for one index: it is set for the whole server, in milvus.yaml under "
            "common.DiskIndex. Leave it out here."
        )
    if stage == "build" and name in {p.name for p in index.search}:
        return f"belongs to the search and not to the build: give it to search(). {takes}."
    if stage == "search" and name in {p.name for p in index.build}:
        return f"belongs to the build and not to the search: give it to add_index(). {takes}."
    near = _did_you_mean(name, [*mine, *_GENERAL[stage]])
    owners = [i.name for i in _ALL if name in {p.name for p in (*i.build, *i.search)}]
    if owners:
        return f"is a parameter of {', '.join(owners[:3])}, not of {index.name}{near}. {takes}."
    return f"is unknown{near}. Milvus would ignore it silently. {takes}."


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(str(name).lower(), by_lower, n=1)
    return f" (did you mean {by_lower[near[0]]}?)" if near else ""


def check_values(index: Index, known: tuple[Parameter, ...], params: Mapping[str, object]) -> None:
    """Check each value of `params` that is one of `known`, and that none of those is missing.

    Raises:
        ParameterError: a value of the wrong kind or outside the range, or a required one missing.
    """
    for parameter in known:
        if parameter.name not in params:
            if parameter.required:
                raise ParameterError(
                    f"{index.name}: {parameter.name} is missing and has no default: "
                    f"{parameter.meaning}. Give {parameter.range}."
                )
            continue
        value = params[parameter.name]
        if not parameter.allows(value):
            default = parameter.default_text or parameter.default
            remedy = "" if default is None else f" The default is {default}."
            raise ParameterError(
                f"{index.name}: {parameter.name}={value!r} must be {parameter.range} "
                f"({parameter.meaning}).{remedy}"
            )


def _check_field(
    index: Index, metric: str | None, data_type: str | None, dimension: int | None
) -> None:
    if metric is not None and metric not in index.metrics:
        hint = ""
        if index.family == "gpu" and metric == "COSINE":
            hint = " Scale the vectors to length 1 and use IP: it gives the same order."
        raise ParameterError(
            f"{index.name}: metric_type={metric!r} must be one of {', '.join(index.metrics)}.{hint}"
        )
    if data_type is not None and data_type not in index.vector_types:
        fitting = [i.name for i in _ALL if data_type in i.vector_types]
        hint = f" For {data_type}: {', '.join(fitting)}." if fitting else ""
        raise ParameterError(
            f"{index.name}: the field's type {data_type} must be one of "
            f"{', '.join(index.vector_types)}.{hint}"
        )
    if dimension is not None and dimension < 1:
        raise ParameterError(f"{index.name}: dimension={dimension} must be at least 1")


def _check_refine(index: Index, params: Mapping[str, object], values: dict[str, object]) -> None:
    if "refine_type" not in params:
        return
    if values["refine"] not in (True, "true"):
        raise ParameterError(
            f"{index.name}: refine_type={params['refine_type']!r} does nothing without "
            "refine=true. Add that, or leave refine_type out."
        )
    finer, coarser = params["refine_type"].upper(), str(values.get("sq_type", "")).upper()
    if coarser and BITS[finer] <= BITS[coarser]:
        raise ParameterError(
            f"{index.name}: refine_type={finer} is no finer than sq_type={coarser}, so re-ranking "
            f"gains nothing. Use one of {', '.join(n for n in BITS if BITS[n] > BITS[coarser])}."
        )


def _check_parts(index: Index, values: dict[str, object], dimension: int) -> None:
    parts = values.get("m")
    if parts is not None and dimension % parts:
        fitting = divisors(dimension)
        near = [d for d in fitting if d < parts][-1:] + [d for d in fitting if d > parts][:1]
        raise ParameterError(
            f"{index.name}: m={parts} must divide the dimension {dimension}, since it is the "
            f"number of equal parts. The nearest that do: {' and '.join(map(str, near))}."
        )
    if index.name == "SCANN" and dimension % 2:
        raise ParameterError(
            f"SCANN: the dimension {dimension} must be even, since it codes components in pairs. "
            "Add a component that is always 0, or use IVF_SQ8."
        )


def _check_rows(index: Index, values: dict[str, object], rows: int) -> None:
    if rows < 1:
        raise ParameterError(f"{index.name}: rows={rows} must be at least 1")
    clusters = values.get("nlist", 0)
    if clusters > rows:
        raise ParameterError(
            f"{index.name}: nlist={clusters} is more than the {rows:,} rows. Milvus would build "
            f"with fewer clusters and not say so. Use at most {built_clusters(clusters, rows):,}, "
            f"which leaves {ROWS_PER_CLUSTER} rows to each."
        )
    bits = values.get("nbits", 0)
    if bits and 2**bits > rows:
        raise ParameterError(
            f"{index.name}: nbits={bits} makes books of {2**bits:,} entries, more than the "
            f"{rows:,} rows they are learnt from. Milvus would lower it and not say so. Use at "
            f"most {int(math.log2(rows))}, or an index without codes."
        )


def _check_limit(index: Index, params: Mapping[str, object], limit: int) -> None:
    most = MOST_RESULTS_GPU if index.family == "gpu" else MOST_RESULTS
    if not isinstance(limit, Integral) or not 1 <= limit <= most:
        raise ParameterError(
            f"{index.name}: limit={limit!r} must be a whole number from 1 to {most:,}. For more "
            "results use a search iterator."
        )
    for name in ("ef", "search_list", "reorder_k", "itopk_size"):
        if name in params and params[name] < limit:
            raise ParameterError(
                f"{index.name}: {name}={params[name]} must be at least the limit {limit}: a "
                f"search keeps that many candidates. Use {limit:,} or more, or a smaller limit."
            )


def parameter_values(
    known: tuple[Parameter, ...], params: Mapping[str, object]
) -> dict[str, object]:
    """All values that are known: those given and, for the others, the defaults."""
    defaults = {p.name: p.default for p in known if p.default is not None}
    return {**defaults, **params}


def divisors(number: int) -> list[int]:
    """The whole numbers that divide `number`, ascending."""
    return [d for d in range(1, number + 1) if number % d == 0]


def built_clusters(nlist: int, rows: int) -> int:
    """The clusters that Knowhere really makes: fewer than `nlist` where the rows are too few."""
    return max(1, min(nlist, rows // ROWS_PER_CLUSTER))
