"""The indexes to compare on some vectors, each with settings of its search from quick to thorough.

for choice in index_choices(rows=10_000, dimension=64, metric="COSINE"):
    print(choice.index, choice.build, choice.searches)
"""

from collections.abc import Iterable
from dataclasses import dataclass

from common.index_catalogue import (
    built_clusters,
    check_build_params,
    check_search_params,
    divisors,
)

_PROBES, _KEPT = (1, 4, 16), (1, 3, 12)  # clusters; candidates as multiples of k
_REFINE = {"refine": "true", "refine_type": "FP16"}


@dataclass(frozen=True)
class Choice:
    """An index with its build parameters, and settings of its search."""

    index: str
    build: dict[str, object]
    searches: tuple[dict[str, object], ...] = ({},)


def index_choices(
    rows: int,
    dimension: int,
    metric: str,
    *,
    k: int = 10,
    nlist: int | None = None,
    links: int = 16,
) -> list[Choice]:
    """The float indexes of Milvus that are built on the processor, with parameters that fit.

    Args:
        rows: how many vectors there are.
        dimension: of the vectors. SCANN is left out where it is odd.
        metric: the metric type.
        k: neighbours that a search is to find.
        nlist: clusters of the IVF indexes, None for 128 or as many as the rows can fill.
        links: M of the graphs.

    Raises:
        ParameterError: a parameter that cannot work; the message names its range.
    """
    lists = {"nlist": built_clusters(128, rows) if nlist is None else nlist}
    graph = {"M": links, "efConstruction": 200}
    # Four components to a code of one byte, where the dimension can be divided so.
    codes = {"m": max(d for d in divisors(dimension) if d <= max(1, dimension // 4)), "nbits": 8}
    probes = [{"nprobe": n} for n in _PROBES if n <= max(1, lists["nlist"])]
    efs = [{"ef": times * k} for times in _KEPT]
    found = [
        Choice("FLAT", {}),
        Choice("IVF_FLAT", lists, (*probes,)),
        Choice("IVF_SQ8", lists, (*probes,)),
        Choice("IVF_PQ", {**lists, **codes}, (*probes,)),
        Choice("IVF_RABITQ", {**lists, **_REFINE}, _each(probes, refine_k=4)),
        Choice("SCANN", lists, _each(probes, reorder_k=10 * k)),
        Choice("HNSW", graph, (*efs,)),
        Choice("HNSW_SQ", {**graph, "sq_type": "SQ8"}, (*efs,)),
        Choice("HNSW_PQ", {**graph, **codes, **_REFINE}, _each(efs, refine_k=4)),
        Choice("DISKANN", {}, tuple({"search_list": times * k} for times in _KEPT)),
    ]
    fitting = [choice for choice in found if choice.index != "SCANN" or dimension % 2 == 0]
    for choice in fitting:
        about = {"dimension": dimension, "rows": rows, "metric": metric}
        check_build_params(choice.index, choice.build, **about)
        for params in choice.searches:
            check_search_params(choice.index, params, limit=k, build=choice.build)
    return fitting


def _each(searches: Iterable[dict[str, object]], **more: object) -> tuple[dict[str, object], ...]:
    return tuple({**params, **more} for params in searches)
