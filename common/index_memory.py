"""The memory that a vector index takes, computed from its layout.

print(memory_bytes("HNSW", rows=1_000_000, dimension=384, params={"M": 16}))
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.index_catalogue import (
    BITS,
    built_clusters,
    check_build_params,
    check_values,
    index_named,
    parameter_values,
)
from common.vectors import bytes_per_vector


@dataclass(frozen=True)
class MemoryEstimate:
    """What an index takes, computed from its layout and not measured.

    Attributes:
        bytes: in memory, of the GPU where `where` says so.
        formula: the sum in words, one term for each part.
        parts: the bytes of each part.
        disk: bytes on the SSD of a query node, for DISKANN and AISAQ.
        where: "memory" or "GPU memory".
    """

    bytes: int
    formula: str
    parts: Mapping[str, int]
    disk: int = 0
    where: str = "memory"

    def __str__(self) -> str:
        disk = f" and {size_text(self.disk)} on disk" if self.disk else ""
        return f"{size_text(self.bytes)} of {self.where}{disk}"


@dataclass(frozen=True)
class _Shape:
    """What the layout of an index depends on; `raw` is the bytes of a vector as it was sent."""

    rows: int
    dimension: int
    raw: int
    values: Mapping[str, object]
    metric: str

    @property
    def clusters(self) -> int:
        return built_clusters(self.values["nlist"], self.rows)


_Part = tuple[str, str, float]  # name, formula, bytes


def memory_bytes(
    index: str,
    rows: int,
    dimension: int,
    params: Mapping[str, object] | None = None,
    data_type: str = "FLOAT_VECTOR",
    *,
    metric: str = "COSINE",
) -> MemoryEstimate:
    """Estimate what a built and loaded index takes.

    The formulas are those of the page "Index Explained", section "Memory usage estimation"
    (milvus.io/docs/index-explained.md), and for DISKANN of the page "DISKANN"; for GPU indexes,
    of the page "GPU Index Overview". Where the pages round (2 bytes to say in which cluster a row
    lies; 32 links for each row whatever M is), what faiss and Knowhere keep is counted instead: a
    row number of 8 bytes in IVF, 2 M links of 4 bytes on the lowest level of HNSW and M on the
    others. Against faiss this is right within a few per cent. Not counted is what Milvus needs
    beside the index: the other fields, rows that are not indexed yet, and the process itself.

    Args:
        index: the index type.
        rows: how many vectors.
        dimension: of the vectors; for SPARSE_FLOAT_VECTOR the mean number of components that are
            not zero.
        params: the build parameters, None for the defaults; for DISKANN also what milvus.yaml
            sets (MaxDegree, PQCodeBudgetGBRatio, SearchCacheBudgetGBRatio).
        data_type: the type of the vector field. IVF and SCANN keep float32 whatever it is.
        metric: the metric type. IVF_PQ keeps a table more for L2.

    Raises:
        ParameterError: a parameter, a type or a metric that the index does not take.
        ValueError: rows below 0.
    """
    chosen = index_named(index)
    given = dict(params or {})
    configured = {p.name: given.pop(p.name) for p in chosen.configuration if p.name in given}
    check_values(chosen, chosen.configuration, configured)
    check_build_params(index, given, dimension=dimension, data_type=data_type)
    if rows < 0:
        raise ValueError(f"rows must be at least 0, not {rows}")
    data_type = data_type if chosen.family != "sparse" else "FLOAT_VECTOR"
    known = (*chosen.build, *chosen.configuration)
    shape = _Shape(
        rows,
        dimension,
        bytes_per_vector(data_type, dimension),
        parameter_values(known, {**given, **configured}),
        metric,
    )
    parts = _LAYOUTS[index](shape)
    return MemoryEstimate(
        bytes=sum(math.ceil(size) for _, _, size in parts),
        formula=" + ".join(f"{text} ({name})" for name, text, _ in parts),
        parts={name: math.ceil(size) for name, _, size in parts},
        disk=_disk_bytes(index, shape) if chosen.family == "disk" else 0,
        where="GPU memory" if chosen.family == "gpu" else "memory",
    )


def _vectors(s: _Shape) -> list[_Part]:
    return [("vectors", f"{s.rows:,} rows x {s.raw:,} bytes", s.rows * s.raw)]


def _lists(s: _Shape, vector: int) -> list[_Part]:
    """What every IVF index keeps beside the rows; `vector` is the bytes of a centroid."""
    return [
        ("centroids", f"{s.clusters:,} clusters x {vector:,} bytes", s.clusters * vector),
        ("row numbers", f"{s.rows:,} rows x 8 bytes", s.rows * 8),
    ]


def _whole_rows(s: _Shape) -> _Part:
    size = s.rows * s.dimension * 4
    return "vectors", f"{s.rows:,} rows x {s.dimension:,} x 4 bytes", size


def _directory(s: _Shape) -> _Part:
    # Knowhere can give the vector of a row back, so it keeps in which list each row lies.
    return "where each row lies", f"{s.rows:,} rows x 8 bytes", s.rows * 8


def _codes(s: _Shape, bits: int, extra: int = 0) -> _Part:
    """Codes of `bits` bits a row, rounded up to bytes, and `extra` bytes beside them."""
    size = -(-bits // 8) + extra
    return "codes", f"{s.rows:,} rows x {size:,} bytes", s.rows * size


def _refined(s: _Shape) -> list[_Part]:
    """The finer rows that `refine` keeps to re-rank with."""
    if s.values.get("refine") not in (True, "true"):
        return []
    size = s.dimension * BITS[str(s.values.get("refine_type", "FP32")).upper()] // 8
    return [("rows to re-rank", f"{s.rows:,} rows x {size:,} bytes", s.rows * size)]


def _book(s: _Shape, codes: int = 1) -> _Part:
    entries = 2 ** s.values["nbits"] * codes
    return (
        "code books",
        f"{entries:,} entries x {s.dimension:,} x 4 bytes",
        (entries * s.dimension * 4),
    )


def _ranges(s: _Shape) -> _Part:
    return "ranges", f"{s.dimension:,} x 2 x 4 bytes", s.dimension * 8


def _ivf_flat(s: _Shape) -> list[_Part]:
    return [_whole_rows(s), *_lists(s, s.dimension * 4), _directory(s)]


def _ivf_sq8(s: _Shape) -> list[_Part]:
    return [_codes(s, s.dimension * 8), _ranges(s), *_lists(s, s.dimension * 4)]


def _ivf_pq(s: _Shape) -> list[_Part]:
    parts, bits = s.values["m"], s.values["nbits"]
    tables = s.clusters * parts * 2**bits * 4
    held = [_codes(s, parts * bits), _book(s), *_lists(s, s.dimension * 4)]
    if s.metric == "L2" and tables <= 2**31:  # faiss computes larger ones for each query
        text = f"{s.clusters:,} clusters x {parts:,} x {2**bits:,} x 4 bytes"
        held.append(("tables for L2", text, tables))
    return held


def _ivf_rabitq(s: _Shape) -> list[_Part]:
    d = s.dimension
    rotation = ("rotation", f"{d:,} x {d:,} x 4 bytes", d * d * 4)
    # Beside the bits of a row, two numbers that correct its distances.
    codes = _codes(s, d, extra=8)
    return [codes, *_refined(s), *_lists(s, d * 4), _directory(s), rotation]


def _scann(s: _Shape) -> list[_Part]:
    held = [_codes(s, s.dimension // 2 * 4)]
    if s.values["with_raw_data"] in (True, "true"):
        held.insert(0, _whole_rows(s))
    book = ("code books", f"16 entries x {s.dimension:,} x 4 bytes", 16 * s.dimension * 4)
    return [*held, book, *_lists(s, s.dimension * 4)]


def _links(s: _Shape) -> list[_Part]:
    """The graph of HNSW: a share of 1/M of the rows of each level stands on the next one, too."""
    m = s.values["M"]
    return [
        ("links, lowest level", f"{s.rows:,} rows x 2 x {m} x 4 bytes", s.rows * 2 * m * 4),
        (
            "links, upper levels",
            f"{s.rows:,} rows / {m - 1} x {m} x 4 bytes",
            s.rows / (m - 1) * m * 4,
        ),
        ("levels", f"{s.rows:,} rows x 12 bytes", s.rows * 12),
    ]


def _hnsw(s: _Shape) -> list[_Part]:
    return [*_vectors(s), *_links(s)]


def _hnsw_sq(s: _Shape) -> list[_Part]:
    bits = BITS[str(s.values["sq_type"]).upper()]
    return [_codes(s, s.dimension * bits), *_refined(s), _ranges(s), *_links(s)]


def _hnsw_pq(s: _Shape) -> list[_Part]:
    codes = _codes(s, s.values["m"] * s.values["nbits"])
    return [codes, *_refined(s), _book(s), *_links(s)]


def _hnsw_prq(s: _Shape) -> list[_Part]:
    codes = s.values["nrq"]
    bits = s.values["m"] * codes * s.values["nbits"]
    return [_codes(s, bits), *_refined(s), _book(s, codes), *_links(s)]


def _share(s: _Shape, name: str, share: float) -> _Part:
    return name, f"{share:g} x {s.rows:,} rows x {s.raw:,} bytes", share * s.rows * s.raw


def _diskann(s: _Shape) -> list[_Part]:
    return [
        _share(s, "codes", s.values["PQCodeBudgetGBRatio"]),
        _share(s, "cached part of the graph", s.values["SearchCacheBudgetGBRatio"]),
    ]


def _aisaq(s: _Shape) -> list[_Part]:
    starts, cache = s.values["num_entry_points"], s.values["pq_cache_size"]
    return [
        ("rows to start from", f"{starts:,} x {s.raw:,} bytes", starts * s.raw),
        ("cache", f"{cache:,} bytes", cache),
    ]


def _gpu_cagra(s: _Shape) -> list[_Part]:
    return [_share(s, "rows and graph", 1.8)]


def _gpu_ivf_flat(s: _Shape) -> list[_Part]:
    return [*_vectors(s), *_lists(s, s.dimension * 4)]


def _gpu_ivf_pq(s: _Shape) -> list[_Part]:
    codes = _codes(s, s.values["m"] * s.values["nbits"])
    return [codes, _book(s), *_lists(s, s.dimension * 4)]


def _bin_ivf_flat(s: _Shape) -> list[_Part]:
    return [*_vectors(s), *_lists(s, s.raw), _directory(s)]


def _sparse(s: _Shape) -> list[_Part]:
    # Each component that is not zero stands twice: in its row and in the list of its dimension.
    text = f"{s.rows:,} rows x {s.dimension:,} components x 8 bytes"
    return [("rows", text, s.rows * s.dimension * 8), ("lists", text, s.rows * s.dimension * 8)]


_LAYOUTS: Mapping[str, Callable[[_Shape], list[_Part]]] = {
    "FLAT": _vectors,
    "IVF_FLAT": _ivf_flat,
    "IVF_SQ8": _ivf_sq8,
    "IVF_PQ": _ivf_pq,
    "IVF_RABITQ": _ivf_rabitq,
    "SCANN": _scann,
    "HNSW": _hnsw,
    "HNSW_SQ": _hnsw_sq,
    "HNSW_PQ": _hnsw_pq,
    "HNSW_PRQ": _hnsw_prq,
    "DISKANN": _diskann,
    "AISAQ": _aisaq,
    "GPU_CAGRA": _gpu_cagra,
    "GPU_IVF_FLAT": _gpu_ivf_flat,
    "GPU_IVF_PQ": _gpu_ivf_pq,
    "GPU_BRUTE_FORCE": _vectors,
    "BIN_FLAT": _vectors,
    "BIN_IVF_FLAT": _bin_ivf_flat,
    "SPARSE_INVERTED_INDEX": _sparse,
}


def _disk_bytes(index: str, s: _Shape) -> int:
    """The file of the graph, and for AISAQ that of the codes.

    A row stands beside its links; as many as fit lie in each sector of 4,096 bytes. AISAQ keeps
    finer codes in place of the row, and copies of its neighbours' codes beside it.
    """
    if index == "DISKANN":
        return _sectors(s.rows, s.raw + 4 + s.values["MaxDegree"] * 4)
    links, beside = s.values["max_degree"], s.values["inline_pq"]
    code = math.ceil(s.raw * s.values["pq_code_budget_gb_ratio"])
    row = math.ceil(s.raw * (s.values["disk_pq_code_budget_gb_ratio"] or 1)) + 4 + links * 4
    return _sectors(s.rows, row + max(0, min(beside, links)) * code) + s.rows * code


def _sectors(rows: int, row: int) -> int:
    if row > 4096:
        return rows * -(-row // 4096) * 4096
    return -(-rows // (4096 // row)) * 4096


def size_text(size: float) -> str:
    """Bytes as people read them, in powers of 1,000: 1_536_000 gives "1.5 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
