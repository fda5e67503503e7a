"""Which vector index to choose, with reasons.

    recommend_index(1_000_000, 384, memory=2e9, recall=0.95, can=milvus.can)

The parameters of the indexes, with checks, are in `index_catalogue`, the memory that they take in
`index_memory`; both can be had from here, too. Nothing here talks to Milvus.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from common.index_catalogue import (
    INDEXES,
    ROWS_PER_CLUSTER,
    Index,
    Parameter,
    ParameterError,
    built_clusters,
    check_build_params,
    check_search_params,
    divisors,
    index_named,
    with_defaults,
)
from common.index_memory import MemoryEstimate, memory_bytes, size_text

__all__ = [
    "INDEXES",
    "Index",
    "MemoryEstimate",
    "NoIndexFitsError",
    "Parameter",
    "ParameterError",
    "Recommendation",
    "check_build_params",
    "check_search_params",
    "index_named",
    "memory_bytes",
    "recommend_index",
    "size_text",
    "with_defaults",
]

# With what to start for a recall of at least ... at 10 results, measured with faiss on 2,399
# sentences (all-MiniLM-L6-v2, 384 dimensions, 179 queries apart from them). HNSW with M=16 found
# 0.963 with ef=32, 0.985 with 64, 0.996 with 128 and 0.9994 with 256; larger collections want
# somewhat more. IVF found 0.85 in 15 % of 54 clusters, 0.93 in 30 % and 0.986 in 59 %. Larger
# collections want a smaller share; it is taken to fall with the cube root of the rows, which is
# an assumption. All this is where a tuner starts, and no promise.
LEVELS = (0.9, 0.95, 0.99, 0.999)
_CANDIDATES_KEPT = dict(zip(LEVELS, (32, 64, 200, 500), strict=True))
_SHARE_PROBED = dict(zip(LEVELS, (0.3, 0.45, 0.7, 0.9), strict=True))
_ROWS_MEASURED = 2_399

# What rounding leaves of the recall when everything is compared, on the same sentences, rounded
# down: 0.9994 with 16 bits a component, 0.997 with 8, 0.956 with codes of one byte for two
# components and 0.889 for four, 0.743 with one bit. Vectors that lie closer together lose more:
# of 20,000 of `clustered_vectors` 0.96 were left with 8 bits, and 0.74, 0.40 and 0.33 with codes.
CEILINGS = {"FP16": 0.998, "byte": 0.985, "code of 2": 0.92, "code of 4": 0.83, "bit": 0.72}

# Seconds on one core of a server of 2026, measured with faiss at 384 dimensions: to compare one
# component of a row that lies beside the last one, or anywhere, and one part of a code; a request
# to a Milvus server on the same machine (its median with an index). And a read from an NVMe SSD.
SCAN_SECONDS = 0.3e-9
WALK_SECONDS = 0.8e-9
CODE_SECONDS = 0.4e-9
REQUEST_SECONDS = 2e-3
READ_SECONDS = 1e-4
_READS_AT_ONCE = 4

_ROWS_FOR_CODES = 256 * ROWS_PER_CLUSTER  # a code book of 256 entries is learnt from that many


class NoIndexFitsError(ValueError):
    """No index meets the request; the message says what would make it possible."""


@dataclass(frozen=True)
class Recommendation:
    """An index that should do, and why.

    Attributes:
        index: the index type.
        build_params, search_params: where to start; tune the latter on your own queries.
        memory: what it takes, computed.
        recall: what these settings should find, estimated.
        best_recall: what it can be tuned up to by its search parameters, estimated.
        seconds: of one query on one core, the request included, estimated.
        why: the reasons, one or two sentences each.
        rejected: all other candidates, in the order in which they were looked at, each with the
            reason. A candidate is an index with what sets it apart: "HNSW_SQ FP16".
    """

    index: str
    build_params: dict[str, object]
    search_params: dict[str, object]
    memory: MemoryEstimate
    recall: float
    best_recall: float
    seconds: float
    why: list[str]
    rejected: list[tuple[str, str]]


@dataclass(frozen=True)
class _Candidate:
    """An index with build parameters. `ceiling` is the recall that its codes leave possible."""

    index: str
    ceiling: float
    keeps: str
    build: Mapping[str, object] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.index} {self.label}".rstrip()


@dataclass(frozen=True)
class _Request:
    rows: int
    dimension: int
    memory: float | None
    recall: float
    latency: float | None
    can: Callable[[str], object]


@dataclass(frozen=True)
class _Verdict:
    """A candidate held against a request; `failed` holds each limit that it misses, in words."""

    candidate: _Candidate
    memory: MemoryEstimate
    level: float | None
    seconds: float
    compared: int
    failed: Mapping[str, str]


def recommend_index(
    rows: int,
    dimension: int,
    memory: float | None = None,
    recall: float = 0.95,
    latency: float | None = None,
    *,
    can: Callable[[str], object] | None = None,
) -> Recommendation:
    """Choose an index for FLOAT_VECTOR rows, with reasons.

    A candidate must exist on the Milvus that is asked, fit into the memory, keep enough of each
    vector for the recall, and answer in time. Of those that are left, the one whose recall can be
    tuned highest wins, and among equals the fastest. FLAT wins before all where comparing every
    row costs less than the request around it: there an index would save nothing.

    Memory is computed by `memory_bytes`; recall and latency are estimates (see the constants of
    this module), good enough to choose and no substitute for a measurement. Indexes for GPUs are
    never recommended: they pay off with large batches of queries, which are not asked for here.

    Args:
        rows: how many vectors there will be.
        dimension: of the vectors.
        memory: bytes that the index may take, None for as much as it needs.
        recall: the share of the true 10 nearest rows to find, over 0 and at most 1; over 0.999
            only exact search will do.
        latency: seconds in which one query must be answered, None for any.
        can: whether the Milvus at hand has an index; pass `milvus.can`. None allows all.

    Raises:
        NoIndexFitsError: nothing meets the request; the message says what would.
        ValueError: a number outside its range.
    """
    _check_request(rows, dimension, memory, recall, latency)
    request = _Request(rows, dimension, memory, recall, latency, can or (lambda _: True))
    verdicts = [_judge(candidate, request) for candidate in _candidates(request)]
    best = next((verdict for verdict in verdicts if not verdict.failed), None)
    if best is None:
        raise NoIndexFitsError(_what_would_do(request, verdicts))
    others = [verdict for verdict in verdicts if verdict is not best]
    return Recommendation(
        index=best.candidate.index,
        build_params=dict(best.candidate.build),
        search_params=_search_params(best.candidate, request, best.level),
        memory=best.memory,
        recall=round(best.level * best.candidate.ceiling, 4),
        best_recall=best.candidate.ceiling,
        seconds=best.seconds,
        why=_why(best, request),
        rejected=[(verdict.candidate.name, _reason(verdict, best)) for verdict in others],
    )


def _check_request(
    rows: int, dimension: int, memory: float | None, recall: float, latency: float | None
) -> None:
    if rows < 1 or dimension < 1:
        raise ValueError(f"rows and dimension must be at least 1, not {rows} and {dimension}")
    if memory is not None and memory <= 0:
        raise ValueError(f"memory must be over 0 bytes, not {memory}")
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be over 0 and at most 1, not {recall}")
    if latency is not None and latency <= 0:
        raise ValueError(f"latency must be over 0 seconds, not {latency}")


def _candidates(request: _Request) -> list[_Candidate]:
    """What to look at: what can find more comes first, and of equals what is faster."""
    flat = _Candidate("FLAT", 1.0, "It compares with every row and misses nothing")
    exhaustive = request.rows * request.dimension * SCAN_SECONDS
    first, last = ([flat], []) if exhaustive <= REQUEST_SECONDS else ([], [flat])
    graph, lists = _graph(request), _lists(request)
    whole = "It keeps every vector whole, so its recall can be tuned as high as you like"
    on_disk = "It keeps whole vectors on an SSD (it wants NVMe) and re-ranks with them"
    return [
        *first,
        _Candidate("HNSW", 1.0, whole, graph),
        _Candidate("SCANN", 1.0, whole, {**lists, "with_raw_data": "true"}),
        _Candidate("IVF_FLAT", 1.0, whole, lists),
        _Candidate("DISKANN", 1.0, on_disk),
        *last,
        *_rounding_candidates(request, graph, lists),
    ]


def _rounding_candidates(
    request: _Request, graph: dict[str, object], lists: dict[str, object]
) -> list[_Candidate]:
    byte, best = "It rounds components to one byte", CEILINGS["byte"]
    found = [
        _Candidate(
            "HNSW_SQ",
            CEILINGS["FP16"],
            "It rounds components to 16 bits, which hardly costs recall",
            {**graph, "sq_type": "FP16"},
            "FP16",
        ),
        _Candidate("HNSW_SQ", best, byte, {**graph, "sq_type": "SQ8"}, "SQ8"),
        _Candidate("IVF_SQ8", best, byte, lists),
        _Candidate("AISAQ", best, "It keeps a byte for each component on an SSD (it wants NVMe)"),
    ]
    for m, ceiling in _codings(request.dimension):
        keeps = f"It keeps a code of {m} bytes for each vector"
        build = {**lists, "m": m, "nbits": 8}
        found.append(_Candidate("IVF_PQ", ceiling, keeps, build, f"m={m}"))
    keeps = "It keeps one bit of each component"
    return [*found, _Candidate("IVF_RABITQ", CEILINGS["bit"], keeps, lists)]


def _graph(request: _Request) -> dict[str, object]:
    """More links for a high recall: they cost memory and time to build."""
    if request.recall > 0.99:
        return {"M": 30, "efConstruction": 360}
    return {"M": 16, "efConstruction": 200}


def _lists(request: _Request) -> dict[str, object]:
    """Four times the root of the rows, so that a search has few centroids and few rows to read."""
    wanted = min(65_536, 4 * math.isqrt(request.rows))
    return {"nlist": built_clusters(wanted, request.rows)}


def _codings(dimension: int) -> list[tuple[int, float]]:
    """Numbers of parts for IVF_PQ, near two and four components a part, with their ceilings."""
    found = []
    for components, ceiling in ((2, CEILINGS["code of 2"]), (4, CEILINGS["code of 4"])):
        fitting = [d for d in divisors(dimension) if dimension / 2 < d * components <= dimension]
        # Of coarser parts than meant the ceiling would not hold, so they must come out even.
        if fitting and fitting[-1] * components == dimension:
            found.append((fitting[-1], ceiling))
    return found


def _judge(candidate: _Candidate, request: _Request) -> _Verdict:
    """Hold a candidate against the request; every limit that it misses is written down."""
    memory = _memory(candidate, request)
    level = _level(candidate, request.recall)
    seconds, compared = _cost(candidate, request, level or LEVELS[-1])
    failed = {}
    able = request.can(candidate.index)
    if not able:
        failed["can"] = getattr(able, "reason", "") or "this Milvus does not have it"
    elif problem := _does_not_suit(candidate, request):
        failed["shape"] = problem
    if request.memory is not None and memory.bytes > request.memory:
        failed["memory"] = f"takes {memory}, more than the {size_text(request.memory)} there are"
    if level is None:
        if candidate.ceiling == 1:
            failed["recall"] = f"promises up to {LEVELS[-1]:g}; more only an exact search can"
        else:
            finds = math.floor(LEVELS[-1] * candidate.ceiling * 1000) / 1000
            failed["recall"] = f"finds about {finds:g} of the neighbours, not {request.recall:g}"
    if request.latency is not None and seconds > request.latency:
        failed["latency"] = (
            f"takes about {_time_text(seconds)} a query, more than {_time_text(request.latency)}"
        )
    return _Verdict(candidate, memory, level, seconds, compared, failed)


def _memory(candidate: _Candidate, request: _Request) -> MemoryEstimate:
    # SCANN exists for even dimensions only; `_does_not_suit` refuses it for the others.
    odd = request.dimension % 2 if candidate.index == "SCANN" else 0
    return memory_bytes(candidate.index, request.rows, request.dimension + odd, candidate.build)


def _does_not_suit(candidate: _Candidate, request: _Request) -> str:
    if candidate.index == "SCANN" and request.dimension % 2:
        return f"needs an even dimension, not {request.dimension}"
    if candidate.index == "IVF_PQ" and request.rows < _ROWS_FOR_CODES:
        return f"learns its codes from {_ROWS_FOR_CODES:,} rows or more, not {request.rows:,}"
    return ""


def _level(candidate: _Candidate, recall: float) -> float | None:
    """The lowest level that reaches the recall, together with what rounding leaves of it."""
    if candidate.index == "FLAT":
        return 1.0
    return next((level for level in LEVELS if level * candidate.ceiling >= recall), None)


def _search_params(candidate: _Candidate, request: _Request, level: float) -> dict[str, object]:
    """What to search with for a level, as `search_params={"params": ...}` takes it."""
    kept = _CANDIDATES_KEPT.get(level)
    if candidate.index == "FLAT":
        return {}
    if "M" in candidate.build:
        return {"ef": kept}
    if "nlist" not in candidate.build:
        return {"search_list": kept}
    share = _SHARE_PROBED[level] * min(1.0, (_ROWS_MEASURED / request.rows) ** (1 / 3))
    probed = {"nprobe": math.ceil(candidate.build["nlist"] * share)}
    return {**probed, "reorder_k": kept} if candidate.index == "SCANN" else probed


def _cost(candidate: _Candidate, request: _Request, level: float) -> tuple[float, int]:
    """The seconds of a query, the request included, and how many vectors or codes it compares."""
    rows, dimension = request.rows, request.dimension
    params = _search_params(candidate, request, level)
    if candidate.index == "FLAT":
        return REQUEST_SECONDS + rows * dimension * SCAN_SECONDS, rows
    if "ef" in params:
        # Fits what faiss counts with M of 16 and 30 and ef of 10 to 512 within a third.
        steps = 0.6 * params["ef"] + math.log2(rows) / 2
        compared = min(rows, int(candidate.build["M"] * steps))
        return REQUEST_SECONDS + compared * dimension * WALK_SECONDS, compared
    if "search_list" in params:
        reads = params["search_list"] * (2 if candidate.index == "AISAQ" else 1)
        return REQUEST_SECONDS + reads / _READS_AT_ONCE * READ_SECONDS, reads
    nlist = candidate.build["nlist"]
    read = math.ceil(rows * params["nprobe"] / nlist)
    each = {
        "SCANN": dimension / 8 * CODE_SECONDS,  # 16 codes of two components in one instruction
        "IVF_PQ": candidate.build.get("m", 0) * CODE_SECONDS,
        "IVF_RABITQ": dimension / 4 * CODE_SECONDS,
    }.get(candidate.index, dimension * SCAN_SECONDS)
    return REQUEST_SECONDS + nlist * dimension * SCAN_SECONDS + read * each, nlist + read


def _why(best: _Verdict, request: _Request) -> list[str]:
    candidate, memory = best.candidate, best.memory
    exhaustive = request.rows * request.dimension * SCAN_SECONDS
    have = "" if request.memory is None else f" of the {size_text(request.memory)} that you have"
    disk = f", and {size_text(memory.disk)} on disk" if memory.disk else ""
    reasons = [f"Memory: about {size_text(memory.bytes)}{have}{disk}: {memory.formula}."]
    if candidate.index == "FLAT":
        saves = " An index would save nothing." if exhaustive <= REQUEST_SECONDS else ""
        return [
            *reasons,
            f"Recall: 1. {candidate.keeps}.",
            f"Latency: a query compares all {request.rows:,} vectors, about "
            f"{_time_text(exhaustive)} of one core; the request around it takes about "
            f"{_time_text(REQUEST_SECONDS)}.{saves}",
        ]
    params = _search_params(candidate, request, best.level)
    start = ", ".join(f"{name}={value}" for name, value in params.items())
    limit = "" if candidate.ceiling == 1 else f"; it can hardly exceed {candidate.ceiling:g}"
    work = "reads" if memory.disk else "compares"
    return [
        *reasons,
        f"Recall: {candidate.keeps}. Start with {start} for about "
        f"{best.level * candidate.ceiling:.3g} of the neighbours{limit}.",
        f"Latency: a query {work} about {best.compared:,} of {request.rows:,} vectors, about "
        f"{_time_text(best.seconds)} with the request; FLAT would take "
        f"{_time_text(REQUEST_SECONDS + exhaustive)}.",
        "These are estimates: measure recall and latency on your own queries.",
    ]


def _reason(verdict: _Verdict, best: _Verdict) -> str:
    if verdict.failed:
        return next(iter(verdict.failed.values()))
    if verdict.candidate.ceiling < best.candidate.ceiling:
        return (
            f"would do, with {verdict.memory}, but it rounds the vectors: at best about "
            f"{verdict.candidate.ceiling:g} of the neighbours"
        )
    return f"would do, in about {_time_text(verdict.seconds)} a query and with {verdict.memory}"


def _what_would_do(request: _Request, verdicts: list[_Verdict]) -> str:
    """Why nothing fits, and how far each limit, changed alone, would have to go."""
    asked = [f"{request.rows:,} rows of dimension {request.dimension:,}"]
    if request.memory is not None:
        asked.append(f"{size_text(request.memory)} of memory")
    asked.append(f"a recall of {request.recall:g}")
    if request.latency is not None:
        asked.append(f"{_time_text(request.latency)} a query")
    missing = [v.candidate.index for v in verdicts if set(v.failed) == {"can"}]
    ways = [
        *_with_more("memory", verdicts),
        *_with_less_recall(request, verdicts),
        *_with_more("latency", verdicts),
        *([f"on a Milvus that has {' or '.join(dict.fromkeys(missing))}"] if missing else []),
    ]
    if not ways:
        least = min(verdicts, key=lambda v: v.memory.bytes)
        ways.append(
            "only with two limits changed; what takes least memory is "
            f"{least.candidate.name} with {least.memory}"
        )
    return f"no index fits {', '.join(asked)}. It would be possible {'; or '.join(ways)}."


def _with_more(limit: Literal["memory", "latency"], verdicts: list[_Verdict]) -> list[str]:
    """What the candidates need that miss nothing but this limit."""
    alone = [verdict for verdict in verdicts if set(verdict.failed) == {limit}]
    if not alone:
        return []
    if limit == "memory":
        least = min(alone, key=lambda v: v.memory.bytes)
        return [f"with {size_text(least.memory.bytes)} of memory ({least.candidate.name})"]
    fastest = min(alone, key=lambda v: v.seconds)
    return [f"with {_time_text(fastest.seconds)} a query ({fastest.candidate.name})"]


def _with_less_recall(request: _Request, verdicts: list[_Verdict]) -> list[str]:
    """The highest recall within the other limits, also where only a lower level is in time."""
    found = []
    for verdict in verdicts:
        if not set(verdict.failed) <= {"recall", "latency"} or verdict.candidate.index == "FLAT":
            continue
        for level in LEVELS:
            seconds, _ = _cost(verdict.candidate, request, level)
            if request.latency is None or seconds <= request.latency:
                found.append((level * verdict.candidate.ceiling, verdict.candidate.name))
    if not found:
        return []
    recall, name = max(found)
    return [f"with a recall of {math.floor(recall * 1000) / 1000:g} ({name})"]


def _time_text(seconds: float) -> str:
    """Seconds as people read them: "2.3 ms", "1.5 s"."""
    return f"{seconds * 1000:.2g} ms" if seconds < 0.0995 else f"{seconds:.2g} s"
